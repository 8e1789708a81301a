"""Items made in advance: the order and the errors are as if nothing were, and nothing is left behind."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Generator

import pytest

from anthrotap_builder.utils.prefetch import prefetch


@pytest.mark.parametrize("threads", [1, 2])
def test_order_and_errors_are_as_if_nothing_were_made_in_advance(threads: int):
    def make() -> Generator[int, None, None]:
        yield from range(4)
        raise ValueError("damaged")

    items = prefetch(make(), threads)
    assert [next(items) for _ in range(4)] == list(range(4))
    with pytest.raises(ValueError, match="damaged"):
        next(items)


@pytest.mark.parametrize(("threads", "most"), [(1, 0), (2, 1)])
def test_no_more_than_one_item_is_made_in_advance(threads: int, most: int):
    made, made_next = [0], threading.Event()

    def make() -> Generator[int, None, None]:
        for number in range(5):
            made[0] += 1
            if number == most:
                made_next.set()
            yield number

    items = prefetch(make(), threads)
    assert next(items) == 0
    assert made_next.wait(5)
    assert made[0] == 1 + most
    assert list(items) == [1, 2, 3, 4]


@pytest.mark.parametrize("threads", [1, 2])
def test_closing_early_ends_the_generator_and_the_thread(threads: int):
    before, closed = threading.active_count(), []

    def make() -> Generator[int, None, None]:
        try:
            yield from range(5)
        finally:
            closed.append(True)

    items = prefetch(make(), threads)
    next(items)
    items.close()
    assert closed == [True]
    assert threading.active_count() == before


@pytest.mark.parametrize("threads", [1, 2])
def test_an_item_is_freed_as_soon_as_its_user_drops_it(threads: int):
    class Large:
        pass

    items = prefetch((Large() for _ in range(3)), threads)
    used = next(items)
    held = weakref.ref(used)
    del used
    assert held() is None
    items.close()


def test_an_item_that_counts_as_false_is_an_item():
    def make() -> Generator[object, None, None]:
        yield from (0, None, "")

    assert list(prefetch(make(), 2)) == [0, None, ""]
