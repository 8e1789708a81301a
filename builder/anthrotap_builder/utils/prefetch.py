"""The next item of an iterator is made while this one is used: reading beside labeling, labeling beside encoding."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")

_END = object()


def prefetch(items: Generator[Item, None, None], threads: int) -> Iterator[Item]:
    """Yield the items of a generator in order; a thread makes the next one while this one is used, and no more.

    An error of the generator is raised after the items before it. Closing this generator waits for the item in the
    making, then closes `items`.

    Args:
        items: the generator.
        threads: how many threads may work; with one, nothing is made in advance.
    """
    if threads == 1:
        yield from items
        return
    try:
        with ThreadPoolExecutor(1) as thread:
            coming = thread.submit(next, items, _END)
            while (item := coming.result()) is not _END:
                coming = thread.submit(next, items, _END)
                # Only the caller holds the item while it is used: items are large.
                given = [item]
                del item
                yield given.pop()  # type: ignore[misc]
    finally:
        items.close()
