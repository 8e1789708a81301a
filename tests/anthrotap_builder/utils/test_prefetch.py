"""One item ahead: the same items, lines and errors in the same places, and no more than that in memory."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from anthrotap_builder.utils.prefetch import prefetch


@pytest.mark.parametrize("threads", [1, 2])
def test_order_lines_and_errors_are_as_if_nothing_were_made_ahead(threads: int):
    def make(lines: list[str]) -> Iterator[int]:
        for number in range(4):
            lines.append(f"before {number}")
            yield number
        lines.append("at the end")
        raise ValueError("damaged")

    notes: list[str] = ["first"]
    seen = []
    with pytest.raises(ValueError, match="damaged"):
        seen.extend((number, notes[-1]) for number in prefetch(make, notes, threads))
    assert seen == [(number, f"before {number}") for number in range(4)]
    assert notes == ["first", *[f"before {number}" for number in range(4)], "at the end"]


@pytest.mark.parametrize(("threads", "most"), [(1, 0), (2, 1)])
def test_no_more_than_one_item_is_made_ahead(threads: int, most: int):
    made, made_next = [0], threading.Event()

    def make(_: list[str]) -> Iterator[int]:
        for number in range(5):
            made[0] += 1
            if number == most:
                made_next.set()
            yield number

    items = prefetch(make, None, threads)
    assert next(items) == 0
    assert made_next.wait(5)
    assert made[0] == 1 + most
    assert list(items) == [1, 2, 3, 4]


@pytest.mark.parametrize("threads", [1, 2])
def test_closing_early_ends_the_iterator_and_the_thread(threads: int):
    before, closed = threading.active_count(), []

    def make(_: list[str]) -> Iterator[int]:
        try:
            yield from range(5)
        finally:
            closed.append(True)

    items = prefetch(make, None, threads)
    next(items)
    items.close()
    assert closed == [True]
    assert threading.active_count() == before


def test_an_item_that_counts_as_false_is_an_item():
    assert list(prefetch(lambda _: iter([0, None, ""]), None, 2)) == [0, None, ""]
