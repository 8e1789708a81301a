"""TFRecord files of `tf.train.Example`s, read without TensorFlow: framing, checksums, and named features.

Facts are from tensorflow/core/lib/io/record_writer.h (a record is its length as uint64, a checksum of that, the data, a
checksum of those; all little-endian) and tensorflow/core/example/{example,feature}.proto.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

import numpy as np

HEADER, FOOTER = 12, 4  # bytes around the data of a record
CASTAGNOLI = 0x82F63B78  # the polynomial of CRC-32C, bits reversed (RFC 3720)

Feature = list[memoryview] | np.ndarray


def record_places(path: Path) -> list[tuple[int, int]]:
    """Where the data of each record begin, and their length, bytes. Only the lengths are read, and checked.

    Raises:
        ValueError: if the file is no TFRecord or ends within a record; one line, without the path.
        OSError: if it can't be read.
    """
    places: list[tuple[int, int]] = []
    with path.open("rb") as file:
        end = file.seek(0, 2)
        place = 0
        while place < end:
            file.seek(place)
            header = file.read(HEADER)
            if header.startswith(b"version http"):
                raise ValueError("it is a pointer of Git LFS, not the data: run `git lfs pull`")
            length = _checked_length(header, len(places))
            if place + HEADER + length + FOOTER > end:
                raise ValueError(f"it ends within record {len(places)}: fetch it again")
            places.append((place + HEADER, length))
            place += HEADER + length + FOOTER
    return places


def read_example(path: Path, place: tuple[int, int], names: Collection[str]) -> dict[str, Feature]:
    """Named features of the Example at a place: byte strings as views of the mapped file, numbers as arrays.

    Args:
        place: as `record_places` gives it.
        names: what is wanted; other features are skipped, wanted ones that are not there are left out.

    Returns:
        Lists of byte strings; float32 [K]; int64 [K].

    Raises:
        ValueError: if the data do not match their checksum, or are no Example; one line, without the path.
        OSError: if the file can't be read.
    """
    start, length = place
    with path.open("rb") as file:
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    record = content[start : start + length]
    footer = content[start + length : start + length + FOOTER]
    if len(record) != length or len(footer) != FOOTER or _masked(crc32c(record)) != _number("<I", footer):
        raise ValueError("a record that does not match its checksum: fetch the file again")
    found: dict[str, Feature] = {}
    for features in _submessages(record, 1):
        for entry in _submessages(features, 1):
            name = b"".join(bytes(text) for text in _submessages(entry, 1)).decode("utf-8", "replace")
            if name in names:
                for feature in _submessages(entry, 2):
                    found[name] = _feature(feature)
    return found


def _feature(message: memoryview) -> Feature:
    for number, kind, value in _fields(message):
        if kind != 2 or not isinstance(value, memoryview):
            break
        if number == 1:
            return list(_submessages(value, 1))
        parts = [_floats(*part) if number == 2 else _integers(*part) for part in _fields(value)]
        return np.concatenate([*parts, np.zeros(0, np.float32 if number == 2 else np.int64)])
    raise ValueError("a feature that is no list of bytes, floats or integers")


def _floats(_: int, kind: int, value: memoryview | int) -> np.ndarray:
    if not isinstance(value, memoryview) or kind == 1 or len(value) % 4:
        raise ValueError("a list of floats of another make")
    return np.frombuffer(value, "<f4")


def _integers(_: int, kind: int, value: memoryview | int) -> np.ndarray:
    if kind == 0:
        return np.array([value], np.uint64).view(np.int64)
    if kind != 2 or not isinstance(value, memoryview):
        raise ValueError("a list of integers of another make")
    data = np.frombuffer(value, np.uint8)
    ends = np.flatnonzero(data < 128)
    if len(data) and (not len(ends) or ends[-1] != len(data) - 1):
        raise ValueError("a list of integers that breaks off")
    starts = np.concatenate([[0], ends[:-1] + 1]) if len(ends) else ends
    place = np.arange(len(data)) - np.repeat(starts, np.diff(ends, prepend=-1))
    if len(place) and place.max() > 9:
        raise ValueError("an integer of more than 64 bits")
    bits = (data & 127).astype(np.uint64) << (7 * place).astype(np.uint64)
    return np.bitwise_or.reduceat(bits, starts).view(np.int64) if len(ends) else bits.view(np.int64)


# Protocol buffers


def _submessages(message: memoryview, wanted: int) -> Iterator[memoryview]:
    for number, kind, value in _fields(message):
        if number == wanted:
            if kind != 2 or not isinstance(value, memoryview):
                raise ValueError("no Example: a number where a message should be")
            yield value


def _fields(message: memoryview) -> Iterator[tuple[int, int, memoryview | int]]:
    """Number, wire type and value of each field: 0 an integer, 1 eight bytes, 2 any bytes, 5 four bytes."""
    place = 0
    while place < len(message):
        tag, place = _varint(message, place)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, place = _varint(message, place)
            yield number, kind, value
            continue
        if kind == 2:
            size, place = _varint(message, place)
        else:
            size = {1: 8, 5: 4}.get(kind, -1)
        if not number or size < 0 or place + size > len(message):
            raise ValueError("no Example: a field of a kind or size that can't be")
        yield number, kind, message[place : place + size]
        place += size


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            break
        byte = message[place]
        place += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, place
    raise ValueError("no Example: an integer that does not end")


# Checksums


def crc32c(data: bytes | memoryview) -> int:
    """CRC-32C of some bytes.

    The remainder is linear in the data, so thousands of pieces are taken through the table side by side, then joined in
    pairs: the left one's remainder is moved on by the length of the right one.
    """
    size = len(data)
    if size < 4:
        return _slow_crc32c(data)
    rows = 1 << max(0, min(13, size.bit_length() - 7))
    length = -(-size // (4 * rows)) * 4  # bytes of a piece, whole words
    padded = np.zeros(rows * length, np.uint8)  # zeros in front change nothing
    padded[len(padded) - size :] = np.frombuffer(data, np.uint8)
    padded[len(padded) - size :][:4] ^= 255  # the register starts as ones
    words = np.ascontiguousarray(padded.view("<u4").reshape(rows, -1).T)
    tables = _tables()
    remainder: np.ndarray = np.zeros(rows, np.uint32)
    for word in words:
        remainder ^= word
        octets = remainder.view(np.uint8).reshape(rows, 4)
        remainder = tables[3][octets[:, 0]] ^ tables[2][octets[:, 1]]
        remainder ^= tables[1][octets[:, 2]] ^ tables[0][octets[:, 3]]
    move = _moved_by(length)
    while len(remainder) > 1:
        remainder = _apply(move, remainder[::2]) ^ remainder[1::2]
        move = _apply(move, move)
    return int(remainder[0]) ^ 0xFFFFFFFF


def _slow_crc32c(data: bytes | memoryview) -> int:
    remainder = 0xFFFFFFFF
    for byte in bytes(data):
        remainder = int(_tables()[0][(remainder ^ byte) & 255]) ^ (remainder >> 8)
    return remainder ^ 0xFFFFFFFF


@cache
def _tables() -> np.ndarray:
    """[4, 256] uint32: what becomes of a byte after 1 to 4 bytes."""
    table: np.ndarray = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> 1) ^ np.where(table & 1, np.uint32(CASTAGNOLI), np.uint32(0))
    tables = [table]
    for _ in range(3):
        tables.append(table[tables[-1] & 255] ^ (tables[-1] >> 8))
    return np.stack(tables)


@cache
def _moved_by(length: int) -> np.ndarray:
    """[32] uint32: what becomes of each bit of a remainder after so many zero bytes."""
    bits = np.uint32(1) << np.arange(32, dtype=np.uint32)
    step = _tables()[0][bits & 255] ^ (bits >> 8)  # one byte
    moved = bits
    while length:
        if length & 1:
            moved = _apply(step, moved)
        step = _apply(step, step)
        length >>= 1
    return moved


def _apply(move: np.ndarray, remainders: np.ndarray) -> np.ndarray:
    chosen = (remainders[:, None] >> np.arange(32, dtype=np.uint32)) & 1
    return np.bitwise_xor.reduce(chosen * move, axis=1)


def _masked(checksum: int) -> int:
    """Checksums are stored turned by 15 bits and with a number added."""
    return (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & 0xFFFFFFFF


def _checked_length(header: bytes, number: int) -> int:
    if len(header) < HEADER or _masked(_slow_crc32c(header[:8])) != _number("<I", header[8:]):
        raise ValueError(f"no TFRecord, or damaged at record {number}: fetch it again")
    return _number("<Q", header[:8])


def _number(code: str, data: bytes | memoryview) -> int:
    return struct.unpack(code, data)[0]
