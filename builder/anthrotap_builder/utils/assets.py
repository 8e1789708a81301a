"""Network files that the builder needs but does not carry: in a cache, or taken once out of a public package."""

from __future__ import annotations

import hashlib
import logging
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from anthrotap_hf.utils.atomic_files import atomic_write
from anthrotap_hf.utils.downloads import DownloadError, cache_dir, download
from anthrotap_hf.utils.errors import AnthroTapError

logger = logging.getLogger(__name__)


class AssetError(AnthroTapError):
    """A file that labeling needs is missing and cannot be fetched, or is not what it should be."""


@dataclass(frozen=True)
class Package:
    """A public package that carries network files. Its registry's own client downloads it, so that the client's
    configuration (index, proxy, certificates) applies.

    Attributes:
        client: pip or npm.
        title: what the package is called in messages.
        megabytes: size of the download.
        command: that downloads its archive; the folder to download to follows.
        address: of the archive, if it has a lasting one, for where the client is missing or fails.
    """

    client: str
    title: str
    megabytes: int
    command: tuple[str, ...]
    address: str = ""


# Licensed Apache-2.0; newer wheels carry no network files.
MEDIAPIPE_WHEEL = Package(
    "pip",
    "the wheel mediapipe==0.10.21",
    36,
    (
        *("python", "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--disable-pip-version-check"),
        *("--platform", "manylinux_2_28_x86_64", "--python-version", "3.11", "mediapipe==0.10.21", "-d"),
    ),
)
# Licensed Apache-2.0. No wheel carries its network.
MEDIAPIPE_POSE = Package(
    "npm",
    "the npm package @mediapipe/pose@0.5.1675469404",
    41,
    ("npm", "pack", "@mediapipe/pose@0.5.1675469404", "--pack-destination"),
    "https://registry.npmjs.org/@mediapipe/pose/-/pose-0.5.1675469404.tgz",
)
# What a client says of a failure: pip's and npm's first line that tells more than a code.
CLIENT_ERROR = re.compile(r"^(?:ERROR: |npm (?:error|ERR!) )(?!code |errno |syscall |A complete log)(.+)", re.MULTILINE)


@dataclass(frozen=True)
class Asset:
    """One file inside a package: its path there, and the SHA-256 of its content."""

    package: Package
    member: str
    sha256: str

    @property
    def name(self) -> str:
        return self.member.rpartition("/")[2]


POSE_DETECTION = Asset(
    MEDIAPIPE_WHEEL,
    "mediapipe/modules/pose_detection/pose_detection.tflite",
    "9ba9dd3d42efaaba86b4ff0122b06f29c4122e756b329d89dca1e297fd8f866c",
)
POSE_LANDMARK_FULL = Asset(
    MEDIAPIPE_WHEEL,
    "mediapipe/modules/pose_landmark/pose_landmark_full.tflite",
    "e9a5c5cb17f736fafd4c2ec1da3b3d331d6edbe8a0d32395855aeb2cdfd64b9f",
)
POSE_LANDMARK_HEAVY = Asset(
    MEDIAPIPE_POSE,
    "package/pose_landmark_heavy.tflite",
    "59e42d71bcd44cbdbabc419f0ff76686595fd265419566bd4009ef703ea8e1fe",
)
# The pose detection and the pose landmark network of each quality, and the one that says where it is worth looking.
BLAZEPOSE = {
    "fast": (POSE_DETECTION, POSE_LANDMARK_FULL, POSE_LANDMARK_FULL),
    "best": (POSE_DETECTION, POSE_LANDMARK_HEAVY, POSE_LANDMARK_FULL),
}
SELFIE_SEGMENTATION = Asset(
    MEDIAPIPE_WHEEL,
    "mediapipe/modules/selfie_segmentation/selfie_segmentation.tflite",
    "9ee168ec7c8f2a16c56fe8e1cfbc514974cbbb7e434051b455635f1bd1462f5c",
)


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


def blazepose_paths(quality: str) -> list[Path]:
    """Return the paths of the networks of a quality, as `BLAZEPOSE` has them, fetched on first use.

    Raises:
        AssetError: as `network_paths` does.
    """
    return network_paths(BLAZEPOSE[quality])


def network_paths(assets: Sequence[Asset]) -> list[Path]:
    """Return the paths of network files, fetched on first use.

    A file in the cache is used only if its SHA-256 is right; a damaged file is fetched again.

    Raises:
        AssetError: if a file is missing or damaged and cannot be fetched or written; the hint says by which command
            to get it on another machine and where to put it.
    """
    folder = cache_dir()
    missing = [asset for asset in dict.fromkeys(assets) if not is_intact(folder / asset.name, asset)]
    for package in dict.fromkeys(asset.package for asset in missing):
        _fetch([asset for asset in missing if asset.package == package], folder)
    return [folder / asset.name for asset in assets]


def is_intact(path: Path, asset: Asset) -> bool:
    """Return whether a file exists and has the asset's SHA-256."""
    return path.is_file() and hashlib.sha256(path.read_bytes()).hexdigest() == asset.sha256


def manual_hint(assets: Sequence[Asset]) -> str:
    """Say how to get files of one package by hand."""
    package = assets[0].package
    members = " and ".join(asset.member for asset in assets)
    or_address = f" (or fetch {package.address})" if package.address else ""
    return (
        f"on a machine with network and {package.client} run `{' '.join(package.command)} .`{or_address}, unpack "
        f"{members} out of the archive and put what you unpacked, without its folders, into "
        f"{cache_dir()} (or into the folder that ANTHROTAP_CACHE names)"
    )


def _fetch(assets: Sequence[Asset], folder: Path) -> None:
    """Take files out of the package that has them all. Raises AssetError if they can't be fetched or written."""
    try:
        _extract(assets, folder)
    except (
        OSError,
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        KeyError,
        ValueError,
    ) as error:
        raise AssetError(f"cannot get {_names(assets)} ({error})", hint=manual_hint(assets)) from error


def _extract(assets: Sequence[Asset], folder: Path) -> None:
    package = assets[0].package
    logger.warning("taking %s from %s (%d MB, once) into %s", _names(assets), package.title, package.megabytes, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="anthrotap-") as download:
        archive = _download_package(package, Path(download))
        for asset in assets:
            content = _read_member(archive, asset.member)
            found = hashlib.sha256(content).hexdigest()
            if found != asset.sha256:
                raise ValueError(f"{asset.name} in {package.title} has SHA-256 {found}, expected {asset.sha256}")
            with atomic_write(folder / asset.name) as tmp_path:
                tmp_path.write_bytes(content)


def _download_package(package: Package, folder: Path) -> Path:
    """Fetch a package's archive into an empty folder, by its client, or else from its address; return its path.

    Raises OSError with the reasons of both if neither has it.
    """
    try:
        return _run_client(package, folder)
    except OSError as error:
        if not package.address:
            raise
        logger.warning("%s; fetching %s", error, package.address)
        # A name of its own: a client that failed may have left part of the archive.
        archive = folder / "fetched-archive"
        try:
            download(package.address, archive)
        except DownloadError as second:
            raise OSError(f"{error}; {second.path}: {second.reason}") from second
        return archive


def _run_client(package: Package, folder: Path) -> Path:
    """Let a package's client download its archive into an empty folder. Raises OSError if it can't."""
    program = sys.executable if package.command[0] == "python" else shutil.which(package.command[0])
    if program is None:
        raise FileNotFoundError(f"{package.client} is not on this machine")
    try:
        subprocess.run([program, *package.command[1:], str(folder)], check=True, capture_output=True, text=True)
    except subprocess.CalledProcessError as error:
        found = CLIENT_ERROR.search(error.stderr or "")
        raise OSError(f"{package.client}: {found[1] if found else 'failed without a reason'}") from error
    archives = list(folder.iterdir())
    if len(archives) != 1:
        raise FileNotFoundError(f"{package.client} left no archive")
    return archives[0]


def _read_member(archive: Path, member: str) -> bytes:
    """Return a file of a wheel or of an npm archive. Raises KeyError if it has none of that path."""
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as wheel:
            return wheel.read(member)
    with tarfile.open(archive) as package:
        file = package.extractfile(member)
        if file is None:
            raise KeyError(f"{member} is no file in {archive.name}")
        return file.read()


def _names(assets: Sequence[Asset]) -> str:
    return " and ".join(asset.name for asset in assets)
