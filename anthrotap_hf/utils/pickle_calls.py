"""The few calls that a pickle of the safe reader may make: bytes of old protocols, sets and ordered dicts."""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any

from anthrotap_hf.utils.file_limits import MAX_KEY_PARTS


def encode_latin1(text: Any = "", encoding: Any = None) -> bytes:
    """`_codecs.encode(text, "latin1")`, by which Python 3 writes bytes for old protocols, and nothing but that."""
    if not isinstance(text, str) or encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks to encode by {encoding!r}, not latin1")
    return text.encode("latin1")


def empty_bytes(*args: Any) -> bytes:
    """`bytes()`, by which old protocols write the empty one."""
    if args:
        raise pickle.UnpicklingError("it asks for bytes of its own making")
    return b""


def check_key(key: Any) -> None:
    """Reject a key whose hash would take a deep recursion, in which Python crashes, or for ever."""
    waiting, count = [key], 0
    while waiting:
        each = waiting.pop()
        if isinstance(each, tuple | frozenset):
            count += len(each) + 1
            if count > MAX_KEY_PARTS:
                raise pickle.UnpicklingError(f"it has a key of more than {MAX_KEY_PARTS} parts")
            waiting.extend(each)


def make_set(items: Iterable[Any] = ()) -> set[Any]:
    """`set(items)`."""
    items = list(items)
    for item in items:
        check_key(item)
    return set(items)


def make_frozenset(items: Iterable[Any] = ()) -> frozenset[Any]:
    """`frozenset(items)`."""
    return frozenset(make_set(items))


def make_ordered_dict(pairs: Iterable[Any] = ()) -> OrderedDict[Any, Any]:
    """`collections.OrderedDict(pairs)`."""
    pairs = [(key, value) for key, value in pairs]
    for key, _ in pairs:
        check_key(key)
    return OrderedDict(pairs)
