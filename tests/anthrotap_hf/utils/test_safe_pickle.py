"""Pickles of others: plain arrays come out, whatever else they ask for is rejected and not run."""

from __future__ import annotations

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest

from anthrotap_hf.utils.safe_pickle import array_of, safe_load, safe_load_npy

CONTENT = {
    "array": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "large": np.arange(5000, dtype=">i2").reshape(50, 100),
    "flags": np.array([[True, False]]),
    "scalar": np.float64(2.5),
    "nested": [(1, "two"), {3.0}, frozenset({4}), b"five", None],
}


def npy_file(path: Path, code: bytes, shape: str = "()", descr: str = "|O") -> Path:
    """The header of an array of objects, then this code."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + code)
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_the_object_of_an_npy_file(tmp_path, protocol):
    code = pickle.dumps(np.array(CONTENT, object), protocol)
    found = safe_load_npy(npy_file(tmp_path / "a.npy", code))
    for key in ("array", "large", "flags", "scalar"):
        np.testing.assert_array_equal(array_of(found[key]), CONTENT[key])
    assert found["nested"] == CONTENT["nested"]
    assert not array_of(found["large"]).flags.writeable  # a view of the file


def test_arrays_saved_by_numpy(tmp_path):
    np.save(tmp_path / "a.npy", CONTENT, allow_pickle=True)
    np.testing.assert_array_equal(array_of(safe_load_npy(tmp_path / "a.npy")["array"]), CONTENT["array"])


def test_a_pickle_in_the_middle_of_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"12345" + pickle.dumps([1, 2]))
    assert safe_load(tmp_path / "a", offset=5) == [1, 2]


class _Evil:
    path = ""

    def __reduce__(self):
        return os.mkdir, (_Evil.path,)


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
def test_code_is_rejected_and_not_run(tmp_path, protocol):
    _Evil.path = str(tmp_path / "ran")
    code = pickle.dumps(np.array({"tracks": _Evil()}, object), protocol)
    with pytest.raises(ValueError, match=r"asks for .*mkdir") as error:
        safe_load_npy(npy_file(tmp_path / "a.npy", code))
    assert "\n" not in str(error.value)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "code",
    [
        b"cnumpy\nload\n(S'x'\ntR.",
        b"cnumpy\nfromfile\n(S'x'\ntR.",
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cos\nsystem\n(S'true'\ntR.",
        b"cbuiltins\ngetattr\n(S'x'\nS'y'\ntR.",
        b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.",
        b"cbuiltins\nbytes\n(I999999999\ntR.",
        b"ccopy_reg\n_reconstructor\n(cbuiltins\nset\ncbuiltins\nobject\nNtR.",
        b"cnumpy.core.multiarray\n_reconstruct\n}(S'x'\nI1\nsb.",  # BUILD on what is called, not made
        b"c_codecs\nencode\n}(S'__code__'\nI1\nsb.",
        b"ccollections\nOrderedDict\n(}}S'x'\nI1\nstb.",
        b"cbuiltins\nset\n(N}S'add'\nI1\nstb.",
        b"Psomewhere\n.",  # a persistent id
        b"I1\nQ.",
        b"\x80\x04\x95" + struct.pack("<Q", 1 << 62) + b".",  # a frame of 4 EiB
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b".",  # bytes of that size
        b"\x80\x05\x96" + struct.pack("<Q", 1 << 62) + b".",
        b"\x8b" + struct.pack("<i", 1 << 30) + b".",  # a long integer of 1 GiB
        b"\x82\x07.",  # an extension code
        b"\x80\x63.",
        b".",
        b"",
        b"garbage",
    ],
)
def test_hostile_and_damaged_code(tmp_path, code):
    with pytest.raises(ValueError, match=r"^it ") as error:
        safe_load_npy(npy_file(tmp_path / "a.npy", code))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("shape", "dtype", "order", "content"),
    [
        ((1 << 40,), "f8", None, b"1234"),
        ((-1, -1), "f8", None, b"12345678"),
        ((2,), "O8", None, b"1234567812345678"),
        ((2,), "V8", None, b"1234567812345678"),
        ((2,), "f8", None, [1, 2]),
        ("x", "f8", None, b"12345678"),
    ],
)
def test_arrays_with_wrong_headers(tmp_path, shape, dtype, order, content):
    class Lie:
        def __reduce__(self):
            state = (1, shape, _Dtype(dtype), False, content)
            return np._core.multiarray._reconstruct, (np.ndarray, (0,), b"b"), state

    class _Dtype:
        def __init__(self, code):
            self.code = code

        def __reduce__(self):
            return np.dtype, (self.code, False, True), (3, "<", None, None, None, -1, -1, 0)

    (tmp_path / "a").write_bytes(pickle.dumps({"a": Lie()}))
    value = safe_load(tmp_path / "a")["a"]
    with pytest.raises(ValueError, match=r".") as error:
        array_of(value)
    assert "\n" not in str(error.value)


def test_lists_that_name_themselves(tmp_path):
    """Ten lists of ten of the one before: ten thousand million numbers in 200 bytes."""
    nested: list = [0] * 10
    for _ in range(9):
        nested = [nested] * 10
    (tmp_path / "a").write_bytes(pickle.dumps(nested))
    with pytest.raises(ValueError, match="more than 1000000 items"):
        array_of(safe_load(tmp_path / "a"))
    own: list = []
    own.append(own)
    (tmp_path / "b").write_bytes(pickle.dumps(own))
    with pytest.raises(ValueError, match="items"):
        array_of(safe_load(tmp_path / "b"))


@pytest.mark.parametrize(
    ("shape", "descr", "reason"),
    [
        ("(3,)", "|O", "not one object"),
        ("()", "<f8", "not one object"),
        ("(1", "|O", "no .npy file, or a damaged one"),
        ("().__class__", "|O", "no .npy file, or a damaged one"),
    ],
)
def test_headers(tmp_path, shape, descr, reason):
    with pytest.raises(ValueError, match=reason) as error:
        safe_load_npy(npy_file(tmp_path / "a.npy", pickle.dumps(np.array({}, object)), shape, descr))
    assert "\n" not in str(error.value)


def test_headers_of_great_length(tmp_path):
    (tmp_path / "a.npy").write_bytes(b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 31) + b"{")
    with pytest.raises(ValueError, match="damaged"):
        safe_load_npy(tmp_path / "a.npy")
    with pytest.raises(ValueError, match="where its header says an array"):
        safe_load_npy(npy_file(tmp_path / "b.npy", pickle.dumps({"a": 1})))
