"""The next item of a video is made while this one is used: reading beside labeling, labeling beside encoding."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")


def prefetch(
    make: Callable[[list[str]], Iterator[Item]], notes: list[str] | None, threads: int
) -> Generator[Item, None, None]:
    """The items of an iterator, in order; a thread makes the next one while this one is used, and no more than that.

    An error of the iterator is raised after the items before it. Who closes this generator, or lets go of it, waits
    until the item in the making is done.

    Args:
        make: starts the iterator; is given a list that it may append lines to, about what it leaves out.
        notes: gets those lines, each before the item that it was written before, as if nothing were made ahead.
        threads: with one, nothing is.
    """
    if threads == 1:
        yield from make([] if notes is None else notes)
        return
    lines: list[str] = []
    items = ((item, len(lines)) for item in make(lines))
    told = 0
    try:
        with ThreadPoolExecutor(1) as thread:
            coming = thread.submit(next, items, None)
            while made := coming.result():
                item, count = made
                coming = thread.submit(next, items, None)
                if notes is not None:
                    notes += lines[told:count]
                told = count
                yield item
    finally:
        items.close()
        if notes is not None:
            notes += lines[told:]
