"""Hostile files end with one line, before memory is taken for what they announce."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anthrotap_hf.readers.tapvid import TapVidClips
from anthrotap_hf.utils.checkpoints import CheckpointError, load_tensors
from anthrotap_hf.utils.errors import AnthroTapError
from anthrotap_hf.utils.file_limits import FileLimitError, read_json
from anthrotap_hf.utils.safe_npz import safe_load_npz
from anthrotap_hf.utils.safe_pickle import UnsafeFileError, safe_load
from anthrotap_hf.utils.settings import Settings, SettingsError, read_recipe
from anthrotap_hf.video.images import decode_image
from helpers.memory import traced_memory

# Deep enough to crash Python when it makes the hash.
DEEP = b")" + b"\x85" * 100_000


def npz_file(path: Path, header: str, content: bytes = bytes(64), head_size: int | None = None) -> Path:
    """An archive of one array `frame`, with this header."""
    text = header.encode()
    start = b"\x93NUMPY\x02\x00" + struct.pack("<I", len(text) if head_size is None else head_size)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("frame.npy", start + text + content)
    return path


def test_a_member_whose_name_breaks_lines(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("fra\nme.npy", b"no array")
    with pytest.raises(UnsafeFileError, match=r"\(fra me: ") as error:
        safe_load_npz(tmp_path / "a.npz")
    assert "\n" not in str(error.value)


def header(shape: str, descr: str = "<f4") -> str:
    return f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}}}\n"


@pytest.mark.parametrize(
    ("text", "content", "head_size", "reason"),
    [
        (header("(27_000_000_000,)"), bytes(64), None, "108000000000 bytes by its header, but 64 are there"),
        (header("(0, 1_000_000_000_000)"), bytes(64), None, "0 bytes by its header, but 64 are there"),
        (header("()", "<U500000000"), bytes(64), None, "2000000000 bytes by its header"),
        (header("(" * 3000 + ")" * 3000), bytes(64), None, "Cannot parse header"),
        (header("(16,)"), bytes(64), 0xFFFFFFF0, "a header of 4294967280 bytes"),
        (header("(4,)", "|O"), bytes(32), None, "not of plain numbers"),
        (header("(150_000_000,)"), bytes(600_000_000), None, "572 MB that are 569 kB in the file"),
    ],
)
def test_arrays_that_are_not_what_they_say(tmp_path, text, content, head_size, reason):
    path = npz_file(tmp_path / "a.npz", text, content, head_size)
    del content
    with traced_memory() as memory, pytest.raises(UnsafeFileError, match=f"frame: .*{reason}") as error:
        safe_load_npz(path)
    assert memory.peak < 4 << 20
    assert "\n" not in str(error.value)


def test_damaged_and_encrypted_archives(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, frame=np.random.default_rng(0).normal(size=4000), size=np.array([4, 5]))
    whole = path.read_bytes()
    found = safe_load_npz(path)
    np.testing.assert_array_equal(found["size"], [4, 5])
    assert found["frame"].flags.writeable
    path.write_bytes(whole[:9000] + bytes(byte ^ 90 for byte in whole[9000:9400]) + whole[9400:])
    with pytest.raises(UnsafeFileError, match="frame: "):
        safe_load_npz(path)
    encrypted = bytearray(whole)
    for mark, offset in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        encrypted[encrypted.find(mark) + offset] |= 1
    path.write_bytes(encrypted)
    with pytest.raises(UnsafeFileError, match="is encrypted"):
        safe_load_npz(path)


@pytest.mark.parametrize(
    "code",
    [
        b"\x80\x02}" + DEEP + b"K\x01s.",  # a key of a dict
        b"\x80\x02}(" + DEEP + b"K\x01u.",
        b"\x80\x02(" + DEEP + b"K\x01d.",
        b"\x80\x04\x8f(" + DEEP + b"\x90.",  # of a set
        b"\x80\x04(" + DEEP + b"\x91.",
        b"\x80\x02c__builtin__\nset\n](" + DEEP + b"e\x85R.",
        b"\x80\x02ccollections\nOrderedDict\n]" + DEEP + b"K\x01\x86a\x85R.",
        b"\x80\x02})q\x00" + b"h\x00h\x00\x86q\x00" * 40 + b"K\x01s.",  # whose hash takes two to the 40 steps
    ],
)
def test_keys_that_would_crash_python(tmp_path, code):
    path = tmp_path / "a.pkl"
    path.write_bytes(code)
    with pytest.raises(UnsafeFileError, match="a key of more than 1000 parts"):
        safe_load(path)
    with pytest.raises(CheckpointError, match=r"a\.pkl: it is refused: it has a key of more than 1000 parts"):
        load_tensors(path)


def test_keys_that_are_tuples_are_read(tmp_path):
    content = {("a", 1, frozenset({2})): {("b", ()), 3}}
    for protocol in range(5):
        (tmp_path / "a.pkl").write_bytes(pickle.dumps(content, protocol))
        assert safe_load(tmp_path / "a.pkl") == content


def tapvid_pickle(path: Path, references: int, size: tuple[int, int]) -> Path:
    """A video whose frames are all one image."""
    file = io.BytesIO()
    Image.new("L", size).save(file, "PNG")
    points = np.full((1, references, 2), 0.5, np.float32)
    video = {"video": [file.getvalue()] * references, "points": points, "occluded": np.zeros((1, references), bool)}
    path.write_bytes(pickle.dumps({"a": video}, 2))
    return path


@pytest.mark.parametrize(
    ("references", "size", "reason"),
    [
        (200_000, (8, 8), "it has 200000 frames, and 5000 are the limit for one clip"),
        (20, (12_000, 12_000), "frame 0: .*its frames are 12000x12000, more than .* 64 million"),
        (500, (8000, 8000), "500 frames of 8000 x 8000 pixels are too many for one clip"),
    ],
)
def test_many_references_to_one_frame(tmp_path, references, size, reason):
    clips = TapVidClips(tapvid_pickle(tmp_path / "a.pkl", references, size))
    with pytest.raises(AnthroTapError, match=f"video a: .*{reason}"):
        clips[0]


def test_damaged_images_give_one_reason(tmp_path):
    with pytest.raises(ValueError, match="can't be decoded"):
        decode_image(io.BytesIO(b"\x89PNG\r\n\x1a\n" + bytes(100)))


class Recipe(Settings):
    fps: int = 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("fps: " + "[" * 5000 + "]" * 5000, "nested too deeply"),
        ("#" * 300_000, "a recipe has at most 256 kB"),
    ],
)
def test_recipes_have_limits(tmp_path, text, reason):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(SettingsError, match=rf"a\.yaml: .*{reason}"):
        read_recipe(Recipe, tmp_path, tmp_path / "a.yaml")


def test_chains_of_recipes_end(tmp_path):
    for number in range(1500):
        (tmp_path / f"{number}.yaml").write_text(f"extends: {number + 1}.yaml\n")
    (tmp_path / "1500.yaml").write_text("fps: 3")
    with pytest.raises(SettingsError, match="a chain of more than 20 recipes"):
        read_recipe(Recipe, tmp_path, tmp_path / "0.yaml")
    assert read_recipe(Recipe, tmp_path, tmp_path / "1490.yaml").fps == 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000 + "]" * 100_000, "nested too deeply"),
        ("{", "not JSON"),
        ("[" + " " * (34 << 20), "it has 35 MB, and 32 MB is the limit"),
    ],
)
def test_json_has_limits(tmp_path, text, reason):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(FileLimitError, match=reason):
        read_json(tmp_path / "a.json")
