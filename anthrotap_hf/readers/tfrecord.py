"""TFRecord files of `tf.train.Example`s, read without TensorFlow.

Framing is that of tensorflow/core/lib/io/record_writer.h: a record is its length as uint64, a checksum of that, the
data, a checksum of those, all little-endian. Messages are those of tensorflow/core/example/{example,feature}.proto.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Collection, Iterator
from pathlib import Path

import google_crc32c
import numpy as np

HEADER, FOOTER = 12, 4  # bytes around the data of a record

Feature = list[memoryview] | np.ndarray
"""Byte strings, or float32 [K]."""


def find_records(path: Path) -> list[tuple[int, int]]:
    """Return the first byte and the length of each record's data. Only the lengths are read, and checked.

    Raises:
        ValueError: if the file is no TFRecord or ends within a record.
        OSError: if it cannot be read.
    """
    records: list[tuple[int, int]] = []
    with path.open("rb") as file:
        end = file.seek(0, 2)
        position = 0
        while position < end:
            file.seek(position)
            header = file.read(HEADER)
            if header.startswith(b"version http"):
                raise ValueError("it is a pointer of Git LFS, not the data: run `git lfs pull`")
            if len(header) < HEADER or struct.pack("<I", _masked_crc(header[:8])) != header[8:]:
                raise ValueError(f"no TFRecord, or damaged at record {len(records)}: fetch it again")
            (length,) = struct.unpack("<Q", header[:8])
            if position + HEADER + length + FOOTER > end:
                raise ValueError(f"it ends within record {len(records)}: fetch it again")
            records.append((position + HEADER, length))
            position += HEADER + length + FOOTER
    return records


def read_example(path: Path, record: tuple[int, int], names: Collection[str]) -> dict[str, Feature]:
    """Return named features of the Example in a record: byte strings as views of the mapped file, numbers as arrays.

    Args:
        path: the file.
        record: first byte and length, as `find_records` gives them.
        names: the features to read, of bytes or floats; those that the Example lacks are not in the result.

    Raises:
        ValueError: if the data do not match their checksum, or are no Example.
        OSError: if the file cannot be read.
    """
    start, length = record
    with path.open("rb") as file:
        content = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    data = content[start : start + length]
    footer = content[start + length : start + length + FOOTER]
    if len(data) != length or struct.pack("<I", _masked_crc(data)) != footer:
        raise ValueError("a record that does not match its checksum: fetch the file again")
    found: dict[str, Feature] = {}
    # Example { Features features = 1 }, Features { map<string, Feature> feature = 1 }, an entry { key = 1, value = 2 }
    for features in _messages(data, 1):
        for entry in _messages(features, 1):
            name = b"".join(_messages(entry, 1)).decode("utf-8", "replace")
            if name in names:
                for feature in _messages(entry, 2):
                    found[name] = _read_feature(feature)
    return found


def _read_feature(message: memoryview) -> Feature:
    """Feature { oneof { BytesList = 1, FloatList = 2, Int64List = 3 } }, the first two { repeated value = 1 }."""
    for strings in _messages(message, 1):
        return list(_messages(strings, 1))
    for floats in _messages(message, 2):
        return np.frombuffer(b"".join(_messages(floats, 1)), "<f4")
    raise ValueError("a feature that is no list of bytes or floats")


def _messages(message: memoryview, wanted: int) -> Iterator[memoryview]:
    """Yield the contents of the fields with this number."""
    for number, value in _fields(message):
        if number == wanted:
            if isinstance(value, int):
                raise ValueError("no Example: a number where a message should be")
            yield value


def _fields(message: memoryview) -> Iterator[tuple[int, memoryview | int]]:
    """Yield number and value of each field of a protocol buffer: an integer (wire type 0), or bytes (1, 2, 5)."""
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire_type == 2:
            size, position = _varint(message, position)
        else:
            size = {1: 8, 5: 4}.get(wire_type, -1)
        if not number or size < 0 or position + size > len(message):
            raise ValueError("no Example: a field of a kind or size that can't be")
        yield number, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """Return the integer at a position, seven bits a byte, and the position after it."""
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & 0xFFFFFFFFFFFFFFFF, position
    raise ValueError("no Example: an integer that does not end")


def _masked_crc(data: bytes | memoryview) -> int:
    """Return the CRC-32C of some bytes as TFRecords store it: turned by 15 bits, with a number added."""
    checksum: int = google_crc32c.value(bytes(data))
    return (((checksum >> 15) | (checksum << 17)) + 0xA282EAD8) & 0xFFFFFFFF
