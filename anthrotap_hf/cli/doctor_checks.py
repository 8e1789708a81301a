"""What may be wrong with an installation, and the way out of each: `anthrotap doctor`.

Nothing is changed, made or fetched; the Hub alone is asked who one is. Three states: `ok`; `note`, what only some work
needs; `problem`, what breaks work that it looks as if one wanted to do.
"""

from __future__ import annotations

import importlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Literal

State = Literal["ok", "note", "problem"]
OK: Final = "ok"
NOTE: Final = "note"
PROBLEM: Final = "problem"
SHOWN = ("torch", "transformers", "datasets", "huggingface_hub", "numpy", "av")
FOR_USERS = ("builder", "app", "training", "evaluation", "detector", "raft", "rerun", "ray", "proving-ground")
# Packages with compiled parts that may be installed and yet not start: distribution and module.
COMPILED = (
    ("torch", "torch"),
    ("opencv-python-headless", "cv2"),
    ("av", "av"),
    ("numba", "numba"),
    ("ai-edge-litert", "ai_edge_litert.interpreter"),
    ("torchvision", "torchvision"),
)
LITTLE_MEMORY, LITTLE_ROOM = 4e9, 3e9  # bytes: a worker of `label` takes up to 1.5 GB
PATIENCE = 5.0  # seconds for the Hub


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        group: of things that belong together.
        name: what was looked at.
        state: ok, note or problem.
        found: what is there.
        fix: what to do about it; empty where nothing is to be done.
    """

    group: str
    name: str
    state: State
    found: str
    fix: str = ""


def examine(online: bool = True) -> Iterator[Finding]:
    """All findings, group by group.

    Args:
        online: whether the Hub may be asked.
    """
    for group, look in GROUPS.items():
        try:
            for name, state, found, fix in look(online):
                yield Finding(group, name, state, found, fix)
        except Exception as error:  # noqa: BLE001 - whatever is broken here is a finding, not the end
            reason = f"could not be looked at: {type(error).__name__}: {_first_line(error)}"
            yield Finding(group, group, PROBLEM, reason, "mend what it names; else tell us")


Found = Iterator[tuple[str, State, str, str]]


def _versions(online: bool) -> Found:
    yield "anthrotap", OK, _version("anthrotap") or "not installed", ""
    yield "Python", OK, f"{platform.python_version()} on {platform.system()} {platform.machine()}", ""
    for package in SHOWN:
        yield package, OK, _version(package) or "missing", ""
    lacking = _lacking(None)
    if lacking:
        wanted = " ".join(f"'{line.split(' is wanted')[0]}'" for line in lacking)
        yield "packages", PROBLEM, ", ".join(lacking), f"pip install {wanted}"
    opencvs = [name for name in _OPENCVS if _version(name)]
    if len(opencvs) > 1:
        yield (
            "OpenCV",
            PROBLEM,
            f"{' and '.join(opencvs)} write over each other's files",
            f"pip uninstall -y {' '.join(opencvs)}; pip install opencv-python-headless",
        )
    for package, module in COMPILED:
        if not _version(package):
            continue
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001 - of whatever kind, it is the finding
            fix = f"pip install --force-reinstall --no-deps {package}=={_version(package)}"
            if package == "torchvision":
                fix = f"install the torchvision that was built for torch {_version('torch')}"
            yield package, PROBLEM, f"does not start: {_first_line(error)}", fix


_OPENCVS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)


def _extras(online: bool) -> Found:
    for extra in FOR_USERS:
        lacking = _lacking(extra)
        fix = f"pip install 'anthrotap[{extra}]'"
        if not lacking:
            yield extra, OK, "installed", ""
        elif any("is there" in line for line in lacking):
            yield extra, PROBLEM, ", ".join(lacking), fix
        else:
            yield extra, NOTE, f"not installed: {_FOR[extra]} (missing: {', '.join(lacking)})", fix


_FOR = {
    "builder": "label videos, build datasets",
    "app": "the page",
    "training": "train trackers",
    "evaluation": "plots of evaluate and stats",
    "detector": "people by an object detector",
    "raft": "RAFT as flow",
    "rerun": "export to Rerun",
    "ray": "build on Ray",
    "proving-ground": "evaluate-labels",
}


def _devices(online: bool) -> Found:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield "processor", OK, f"{cores} cores", ""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        little = memory < LITTLE_MEMORY
        fix = "label with --workers 1, track with --frame-chunk and --query-chunk" if little else ""
        yield "memory", NOTE if little else OK, _size(memory), fix
    try:
        import torch
    except Exception:  # noqa: BLE001 - told under versions
        return
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            yield f"cuda:{number}", OK, f"{torch.cuda.get_device_name(number)}: --device cuda:{number}", ""
    elif torch.version.cuda and shutil.which("nvidia-smi"):
        yield (
            "cuda",
            PROBLEM,
            f"there is an NVIDIA driver, but torch {torch.__version__} sees no GPU",
            f"a driver for CUDA {torch.version.cuda}, or a torch for your driver: https://pytorch.org/get-started",
        )
    elif shutil.which("nvidia-smi"):
        yield (
            "cuda",
            NOTE,
            f"torch {torch.__version__} is built for processors only",
            "https://pytorch.org/get-started",
        )
    else:
        yield "GPU", OK, "none; the open default needs none", ""
    if torch.backends.mps.is_available():
        yield "mps", OK, "--device mps", ""


def _label_files(online: bool) -> Found:
    from anthrotap_builder.utils.assets import BLAZEPOSE, AssetError, cache_dir, find_tokenhmr, is_intact

    for asset in BLAZEPOSE:
        path = cache_dir() / asset.name
        if is_intact(path, asset):
            yield asset.name, OK, str(path), ""
        elif path.is_file():
            yield asset.name, NOTE, f"{path} is damaged", "nothing: `anthrotap label` fetches it anew"
        else:
            yield asset.name, NOTE, "not fetched yet", "nothing: `anthrotap label` fetches it (36 MB, once)"
    try:
        from anthrotap_builder.bodies.anny import compact_path
        from anthrotap_builder.bodies.smpl_files import GENDERS, MODELS, find_model_file

        anny = compact_path()
    except ImportError as error:
        yield "bodies", NOTE, f"{error.name} is missing", "pip install 'anthrotap[builder]'"
        return
    if anny.is_file():
        yield "Anny body", OK, str(anny), ""
    else:
        yield "Anny body", NOTE, "not made yet", "nothing: `anthrotap label` makes it (2 minutes, once)"
    for name, model in MODELS.items():
        if name == "smal":  # has no place of its own
            continue
        there, way = [], ""
        for gender in GENDERS:
            try:
                there.append(str(find_model_file(name, gender)))
            except AssetError as error:
                way = way or error.hint or ""
        if there:
            yield model.title, OK, ", ".join(there), ""
        else:
            yield model.title, NOTE, f"none (only for `body: {name}`)", way
    try:
        yield "TokenHMR", OK, str(find_tokenhmr(None)), ""
    except AssetError as error:
        yield "TokenHMR", NOTE, "none (only for `mesh_source: tokenhmr`)", error.hint or ""


def _folders(online: bool) -> Found:
    from datasets import config
    from huggingface_hub import constants

    from anthrotap_builder.utils.assets import cache_dir

    yield _folder("labeling", cache_dir(), "ANTHROTAP_CACHE")
    yield _folder("Hub", Path(constants.HF_HUB_CACHE), "HF_HOME")
    yield _folder("datasets", Path(config.HF_DATASETS_CACHE), "HF_HOME")
    yield _folder("temporary", Path(tempfile.gettempdir()), "TMPDIR", measured=False)


def _folder(name: str, folder: Path, variable: str, measured: bool = True) -> tuple[str, State, str, str]:
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    elsewhere = f"set {variable} to a folder on a disk with room"
    if not there.is_dir():
        return name, PROBLEM, f"{there} is a file, not a folder", f"move it away, or set {variable}"
    if not os.access(there, os.W_OK | os.X_OK):
        return name, PROBLEM, f"{folder} can't be written to", f"set {variable} to a folder of your own"
    free = shutil.disk_usage(there).free
    size = f", holds {_size(_holds(folder))}" if measured and folder.is_dir() else ""
    found = f"{folder}{size}, {_size(free)} free"
    return (name, NOTE, found, elsewhere) if free < LITTLE_ROOM else (name, OK, found, "")


def _holds(folder: Path) -> int:
    """Bytes of the files below a folder; links, as the Hub's cache has them, count nothing."""
    return sum(
        entry.stat().st_size
        for directory, _, names in os.walk(folder)
        for name in names
        if not (entry := Path(directory, name)).is_symlink() and entry.exists()
    )


def _hub(online: bool) -> Found:
    from huggingface_hub import constants, get_session, get_token
    from huggingface_hub.utils import build_hf_headers, httpx

    from anthrotap_hf.data.loading import REPOSITORY_VARIABLE
    from anthrotap_hf.utils.hub_errors import LOG_IN
    from anthrotap_hf.utils.hub_names import is_repository

    yield "address", OK, _without_password(constants.ENDPOINT), ""
    token = get_token()
    if constants.HF_HUB_OFFLINE:
        yield "account", OK, "not asked: HF_HUB_OFFLINE is set, so only what is in the cache is used", ""
    elif not online:
        yield "account", OK, "not asked", ""
    else:
        try:
            answer = get_session().get(
                f"{constants.ENDPOINT}/api/whoami-v2",
                headers=build_hf_headers(token=token or False),
                timeout=PATIENCE,
            )
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            yield (
                "account",
                NOTE,
                f"the Hub can't be reached ({_first_line(error)})",
                "nothing, unless you load from the Hub or publish: check the network, HF_ENDPOINT and proxies",
            )
        else:
            if token is None:
                yield "account", NOTE, "not logged in", f"to publish or read private repositories: {LOG_IN}"
            elif (name := _account(answer)) is not None:
                yield "account", OK, name, ""
            elif answer.is_success:
                yield (
                    "account",
                    NOTE,
                    "what answers at that address is no Hub",
                    "check HF_ENDPOINT and proxies",
                )
            elif answer.status_code not in (401, 403):
                yield "account", NOTE, f"the Hub answers {answer.status_code}", "try again later"
            else:
                yield (
                    "account",
                    PROBLEM,
                    f"the token is not accepted (the Hub answers {answer.status_code})",
                    f"make one at {_without_password(constants.ENDPOINT)}/settings/tokens, then {LOG_IN}",
                )
    labels = os.environ.get(REPOSITORY_VARIABLE)
    if not labels:
        yield (
            REPOSITORY_VARIABLE,
            NOTE,
            "not set",
            'only for load_dataset("anthrotap") without videos: a folder of labels, or a Hub id',
        )
    elif Path(labels).expanduser().is_dir():
        yield REPOSITORY_VARIABLE, OK, labels, ""
    elif is_repository(labels):
        yield REPOSITORY_VARIABLE, OK, f"{labels}, on the Hub: there is no such folder here", ""
    else:
        yield (
            REPOSITORY_VARIABLE,
            PROBLEM,
            f"{labels} is neither a folder nor a Hub id",
            "a folder of labels, or user/name",
        )


def _without_password(address: str) -> str:
    return re.sub(r"//[^/@]*@", "//", address)


def _account(answer: Any) -> str | None:
    """The name in the Hub's answer; None if there is none, as in the page of a proxy that wants a password."""
    try:
        return str(answer.json()["name"]) if answer.is_success else None
    except (ValueError, KeyError, TypeError):
        return None


GROUPS: dict[str, Callable[[bool], Found]] = {
    "Versions": _versions,
    "Extras": _extras,
    "Devices": _devices,
    "Files for labeling": _label_files,
    "Folders": _folders,
    "Hub": _hub,
}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _lacking(extra: str | None) -> list[str]:
    """What the package asks for, by itself or for an extra, and is not there in a version that fits."""
    from packaging.requirements import Requirement

    lacking: list[str] = []
    try:
        asked = metadata.requires("anthrotap") or ()
    except metadata.PackageNotFoundError:  # run from its folder, without pip
        return ["anthrotap"]
    for line in asked:
        wanted = Requirement(line)
        by_itself = wanted.marker is None or wanted.marker.evaluate({"extra": ""})
        if by_itself != (extra is None):
            continue
        if extra is not None and wanted.marker and not wanted.marker.evaluate({"extra": extra}):
            continue
        if wanted.name == "anthrotap":
            lacking += [line for inner in sorted(wanted.extras) for line in _lacking(inner)]
            continue
        version = _version(wanted.name)
        if version is None:
            lacking.append(wanted.name)
        elif not wanted.specifier.contains(version, prereleases=True):
            lacking.append(f"{wanted.name}{wanted.specifier} is wanted, {version} is there")
    return lacking


def _size(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
