"""The network files: found in the cache, taken out of the wheel, or an error that says how to get them."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from anthrotap_builder.utils import assets
from anthrotap_builder.utils.assets import AssetError, blazepose_paths

GOOD = {"detector.tflite": b"a network", "landmarks.tflite": b"another network"}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and two small files instead of the real ones."""
    monkeypatch.setenv("ANTHROTAP_CACHE", str(tmp_path / "cache"))
    wanted = tuple(
        assets.Asset(f"mediapipe/modules/{name}", assets.hashlib.sha256(content).hexdigest())
        for name, content in GOOD.items()
    )
    monkeypatch.setattr(assets, "BLAZEPOSE", wanted)
    monkeypatch.setattr(assets, "POSE_DETECTION", wanted[0])
    monkeypatch.setattr(assets, "POSE_LANDMARK", wanted[1])
    return tmp_path / "cache"


@pytest.fixture
def pip(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Stands in for pip: writes a wheel with the good files; returns the commands it was given."""
    calls: list[list[str]] = []

    def run(command: list[str], **_) -> None:
        calls.append(command)
        with zipfile.ZipFile(Path(command[-1]) / "mediapipe-0.whl", "w") as wheel:
            for name, content in GOOD.items():
                wheel.writestr(f"mediapipe/modules/{name}", content)
            wheel.writestr("mediapipe/other.py", "raise SystemExit")

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def test_takes_just_the_two_files_out_of_the_wheel_and_logs_it(cache, pip, caplog):
    paths = blazepose_paths()

    assert [path.read_bytes() for path in paths] == list(GOOD.values())
    assert sorted(path.name for path in cache.iterdir()) == sorted(GOOD)
    assert pip[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert assets.WHEEL in pip[0]
    assert "taking detector.tflite" in caplog.text


def test_cached_files_are_not_fetched_again(cache, pip):
    blazepose_paths()
    blazepose_paths()
    assert len(pip) == 1


def test_a_damaged_file_is_fetched_again_and_the_good_one_stays(cache, pip):
    first, second = blazepose_paths()
    first.write_bytes(b"half a net")
    before = second.stat().st_mtime_ns

    blazepose_paths()

    assert first.read_bytes() == GOOD["detector.tflite"]
    assert second.stat().st_mtime_ns == before


def test_without_network_the_error_names_the_command_and_the_folder(cache, monkeypatch):
    def run(command, **_):
        raise subprocess.CalledProcessError(1, command, stderr="WARNING: retrying\nERROR: no such host\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(AssetError) as error:
        blazepose_paths()
    for part in ("no such host", "pip download --no-deps", assets.WHEEL, "detector.tflite", str(cache)):
        assert part in str(error.value)


def test_a_wheel_with_another_network_is_rejected(cache, pip, monkeypatch):
    monkeypatch.setitem(GOOD, "detector.tflite", b"tampered")
    with pytest.raises(AssetError, match="SHA-256"):
        blazepose_paths()
    assert not (cache / "detector.tflite").exists()


def test_the_error_of_an_unwritable_cache_names_it(cache, pip):
    cache.write_text("a file where the folder should be")
    with pytest.raises(AssetError, match="cannot get"):
        blazepose_paths()
