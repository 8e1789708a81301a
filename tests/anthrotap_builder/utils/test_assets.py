"""The network files: found in the cache, taken out of their packages, or an error that says how to get them."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from anthrotap_builder.utils import assets
from anthrotap_builder.utils.assets import AssetError, blazepose_paths
from anthrotap_hf.utils.downloads import DownloadError

IN_WHEEL = {"detector.tflite": b"a network", "landmarks.tflite": b"another network"}
IN_NPM = {"heavy.tflite": b"a larger network"}
ADDRESS = "https://registry.npmjs.org/@mediapipe/pose/-/pose-0.5.1675469404.tgz"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and three small files instead of the real ones."""
    monkeypatch.setenv("ANTHROTAP_CACHE", str(tmp_path / "cache"))
    detector, full, heavy = (
        assets.Asset(package, f"{folder}/{name}", hashlib.sha256(content).hexdigest())
        for package, folder, files in (
            (assets.MEDIAPIPE_WHEEL, "mediapipe/modules", IN_WHEEL),
            (assets.MEDIAPIPE_POSE, "package", IN_NPM),
        )
        for name, content in files.items()
    )
    monkeypatch.setattr(assets, "BLAZEPOSE", {"fast": (detector, full, full), "best": (detector, heavy, full)})
    return tmp_path / "cache"


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Stands in for pip and npm: writes their archives with the good files; returns the commands they were given."""
    calls: list[list[str]] = []

    def run(command: list[str], **_) -> None:
        calls.append(command)
        folder = Path(command[-1])
        if command[0] == "/bin/npm":
            (folder / "mediapipe-pose-0.tgz").write_bytes(npm_archive())
        else:
            with zipfile.ZipFile(folder / "mediapipe-0.whl", "w") as wheel:
                for name, content in IN_WHEEL.items():
                    wheel.writestr(f"mediapipe/modules/{name}", content)
                wheel.writestr("mediapipe/other.py", "raise SystemExit")

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr("shutil.which", "/bin/{}".format)
    return calls


def test_takes_just_the_two_files_out_of_the_wheel_and_logs_it(cache, clients, caplog):
    paths = blazepose_paths("fast")

    assert [path.read_bytes() for path in paths[:2]] == list(IN_WHEEL.values())
    assert paths[2] == paths[1]
    assert sorted(path.name for path in cache.iterdir()) == sorted(IN_WHEEL)
    (pip,) = clients
    assert pip[:4] == [sys.executable, "-m", "pip", "download"]
    assert "mediapipe==0.10.21" in pip
    assert "taking detector.tflite and landmarks.tflite from the wheel mediapipe==0.10.21 (36 MB" in caplog.text


def test_the_heavy_network_comes_out_of_the_npm_package(cache, clients, caplog):
    detector, heavy, full = blazepose_paths("best")

    assert detector.read_bytes() == IN_WHEEL["detector.tflite"]
    assert full.read_bytes() == IN_WHEEL["landmarks.tflite"]
    assert heavy == cache / "heavy.tflite"
    assert heavy.read_bytes() == IN_NPM["heavy.tflite"]
    pip, npm = clients
    assert pip[0] == sys.executable
    assert npm[:-1] == ["/bin/npm", "pack", "@mediapipe/pose@0.5.1675469404", "--pack-destination"]
    assert "taking heavy.tflite from the npm package @mediapipe/pose@0.5.1675469404 (41 MB" in caplog.text


@pytest.mark.parametrize("quality", ["fast", "best"])
def test_cached_files_are_not_fetched_again(cache, clients, quality):
    blazepose_paths(quality)
    before = len(clients)
    blazepose_paths(quality)
    assert len(clients) == before


def test_a_damaged_file_is_fetched_again_and_the_good_one_stays(cache, clients):
    first, second, _ = blazepose_paths("fast")
    first.write_bytes(b"half a net")
    before = second.stat().st_mtime_ns

    blazepose_paths("fast")

    assert first.read_bytes() == IN_WHEEL["detector.tflite"]
    assert second.stat().st_mtime_ns == before


def test_without_network_the_error_names_the_command_and_the_folder(cache, monkeypatch):
    def run(command, **_):
        raise subprocess.CalledProcessError(1, command, stderr="WARNING: retrying\nERROR: no such host\n")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(AssetError) as error:
        blazepose_paths("fast")
    for part in ("no such host", "pip download --no-deps", "mediapipe==0.10.21", "detector.tflite", str(cache)):
        assert part in str(error.value)


@pytest.mark.parametrize("prefix", ["npm error", "npm ERR!"])
def test_where_npm_fails_the_archive_is_downloaded_from_its_address(cache, clients, monkeypatch, caplog, prefix):
    blazepose_paths("fast")
    monkeypatch.setattr(subprocess, "run", failing_npm(prefix))
    monkeypatch.setattr(assets, "download", lambda address, path: path.write_bytes(npm_archive()))
    assert blazepose_paths("best")[1].read_bytes() == IN_NPM["heavy.tflite"]
    assert f"npm: FetchError: connection refused; fetching {ADDRESS}" in caplog.text


def test_where_npm_and_the_address_fail_the_error_has_both_reasons_and_how_to_place_the_file(
    cache, clients, monkeypatch
):
    detector, *_ = blazepose_paths("fast")
    monkeypatch.setattr(subprocess, "run", failing_npm("npm error"))
    monkeypatch.setattr(assets, "download", unreachable)
    with pytest.raises(AssetError) as error:
        blazepose_paths("best")
    reasons = f"cannot get heavy.tflite (npm: FetchError: connection refused; {ADDRESS}: no route to host)"
    for part in (reasons, "npm pack @mediapipe/pose@0.5.1675469404", "package/heavy.tflite", str(cache)):
        assert part in str(error.value)
    assert "\n" not in str(error.value)
    assert detector.exists()
    (cache / "heavy.tflite").write_bytes(IN_NPM["heavy.tflite"])
    assert blazepose_paths("best")[1] == cache / "heavy.tflite"


def failing_npm(prefix: str):
    """A stand-in for npm without a connection: leaves half an archive."""
    lines = ["code ECONNREFUSED", "errno ECONNREFUSED", "FetchError: connection refused", "A complete log of this run"]

    def run(command: list[str], **_) -> None:
        (Path(command[-1]) / "half.tgz").write_bytes(npm_archive()[:20])
        raise subprocess.CalledProcessError(1, command, stderr="".join(f"{prefix} {line}\n" for line in lines))

    return run


def unreachable(address: str, path: Path) -> None:
    raise DownloadError("no route to host", path=address)


def npm_archive() -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as package:
        for name, content in IN_NPM.items():
            entry = tarfile.TarInfo(f"package/{name}")
            entry.size = len(content)
            package.addfile(entry, io.BytesIO(content))
    return archive.getvalue()


def test_without_npm_the_archive_is_downloaded_from_its_address(cache, clients, monkeypatch):
    asked: list[str] = []
    monkeypatch.setattr("shutil.which", lambda program: None)
    monkeypatch.setattr(
        assets, "download", lambda address, path: asked.append(address) or path.write_bytes(npm_archive())
    )
    assert blazepose_paths("best")[1].read_bytes() == IN_NPM["heavy.tflite"]
    assert asked == [ADDRESS]


def test_without_npm_and_network_the_error_says_so(cache, clients, monkeypatch):
    blazepose_paths("fast")
    monkeypatch.setattr("shutil.which", lambda program: None)
    monkeypatch.setattr(assets, "download", unreachable)
    with pytest.raises(AssetError, match=r"npm is not on this machine; https.*tgz: no route to host.*npm pack"):
        blazepose_paths("best")


@pytest.mark.parametrize(
    ("quality", "files", "name"), [("fast", IN_WHEEL, "detector.tflite"), ("best", IN_NPM, "heavy.tflite")]
)
def test_a_package_with_another_network_is_rejected(cache, clients, monkeypatch, quality, files, name):
    monkeypatch.setitem(files, name, b"tampered")
    with pytest.raises(AssetError, match="SHA-256"):
        blazepose_paths(quality)
    assert not (cache / name).exists()


def test_a_package_without_the_network_is_rejected(cache, clients, monkeypatch):
    monkeypatch.delitem(IN_NPM, "heavy.tflite")
    with pytest.raises(AssetError, match=r"cannot get heavy\.tflite .*package/heavy\.tflite"):
        blazepose_paths("best")


def test_the_error_of_an_unwritable_cache_names_it(cache, clients):
    cache.write_text("a file where the folder should be")
    with pytest.raises(AssetError, match="cannot get"):
        blazepose_paths("fast")
