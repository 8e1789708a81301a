"""The checks of `anthrotap doctor`: what may be wrong with an installation, and what to do about it.

Nothing is changed or downloaded; the Hub is only asked for the account.
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
from typing import Any, Literal

from anthrotap_hf.utils.errors import one_line

PACKAGES = ("torch", "transformers", "datasets", "huggingface_hub", "numpy", "av")
EXTRAS = {
    "builder": "label videos, build datasets",
    "app": "the web page",
    "training": "train trackers",
    "evaluation": "plots of evaluate and stats",
    "detector": "person tracking with an object detector",
    "smpl": "bodies of the SMPL family, for research only",
    "raft": "RAFT as optical flow",
    "rerun": "export to Rerun",
    "ray": "build on Ray",
    "benchmarks": "run the benchmarks",
}
# Packages with compiled parts, which may be installed and yet fail to import: distribution and module.
COMPILED = {
    "torch": "torch",
    "opencv-python-headless": "cv2",
    "av": "av",
    "numba": "numba",
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "torchvision": "torchvision",
}
OPENCV = tuple(f"opencv-{name}python{kind}" for name in ("", "contrib-") for kind in ("", "-headless"))
MIN_MEMORY, MIN_FREE_DISK = 4e9, 3e9  # bytes: a worker of `label` takes up to 1.5 GB
HUB_TIMEOUT = 5.0  # seconds

State = Literal["ok", "note", "problem"]


@dataclass(frozen=True)
class Finding:
    """The result of a check.

    Attributes:
        name: What was checked.
        state: "ok"; "note" for what only some work needs; "problem" for what breaks work.
        found: What is there.
        fix: What to do about it; empty if nothing.
        group: The group of checks that it belongs to.
    """

    name: str
    state: State
    found: str
    fix: str = ""
    group: str = ""


def examine(online: bool = True) -> Iterator[Finding]:
    """Yield all findings, group by group. `online` allows to ask the Hub for the account."""
    for group, check in GROUPS.items():
        try:
            for finding in check(online):
                yield Finding(finding.name, finding.state, finding.found, finding.fix, group)
        except Exception as error:  # noqa: BLE001 - whatever is broken here is a finding, not the end
            reason = f"the check failed: {type(error).__name__}: {one_line(error)}"
            yield Finding(group, "problem", reason, "repair what it names, else report a bug", group)


def _versions(online: bool) -> Iterator[Finding]:
    system = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    yield Finding("anthrotap", "ok", _version("anthrotap") or "not installed")
    yield Finding("Python", "ok", system)
    for package in PACKAGES:
        yield Finding(package, "ok", _version(package) or "missing")
    if missing := _unmet_requirements(None):
        command = "pip install " + " ".join(f"'{requirement}'" for requirement in missing)
        yield Finding("packages", "problem", _describe(missing), command)
    opencv = [name for name in OPENCV if _version(name)]
    if len(opencv) > 1:
        fix = f"pip uninstall -y {' '.join(opencv)}; pip install opencv-python-headless"
        yield Finding("OpenCV", "problem", f"{' and '.join(opencv)} overwrite each other's files", fix)
    for package, module in COMPILED.items():
        version = _version(package)
        if not version:
            continue
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001 - of whatever kind, it is the finding
            fix = f"pip install --force-reinstall --no-deps {package}=={version}"
            if package == "torchvision":
                fix = f"install the torchvision that was built for torch {_version('torch')}"
            yield Finding(package, "problem", f"fails to import: {one_line(error)}", fix)


def _extras(online: bool) -> Iterator[Finding]:
    for extra, use in EXTRAS.items():
        missing, fix = _unmet_requirements(extra), f"pip install 'anthrotap[{extra}]'"
        if not missing:
            yield Finding(extra, "ok", "installed")
        elif any(missing.values()):
            yield Finding(extra, "problem", _describe(missing), fix)
        else:
            yield Finding(extra, "note", f"not installed: {use} (missing: {_describe(missing)})", fix)


def _devices(online: bool) -> Iterator[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield Finding("processor", "ok", f"{cores} cores")
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if memory < MIN_MEMORY:
            fix = "label with --workers 1, track with --frame-chunk and --query-chunk"
            yield Finding("memory", "note", _size(memory), fix)
        else:
            yield Finding("memory", "ok", _size(memory))
    try:
        import torch
    except Exception:  # noqa: BLE001 - a finding of the versions
        return
    has_driver = shutil.which("nvidia-smi") is not None
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            name = f"cuda:{number}"
            yield Finding(name, "ok", f"{torch.cuda.get_device_name(number)}: --device {name}")
    elif torch.version.cuda and has_driver:
        found = f"there is an NVIDIA driver, but torch {torch.__version__} finds no GPU"
        fix = f"a driver for CUDA {torch.version.cuda}, or a torch for your driver: https://pytorch.org/get-started"
        yield Finding("cuda", "problem", found, fix)
    elif has_driver:
        found = f"torch {torch.__version__} is built without CUDA"
        yield Finding("cuda", "note", found, "https://pytorch.org/get-started")
    else:
        yield Finding("GPU", "ok", "none; the open default needs none")
    if torch.backends.mps.is_available():
        yield Finding("mps", "ok", "--device mps")


def _label_files(online: bool) -> Iterator[Finding]:
    from anthrotap_builder.utils.assets import BLAZEPOSE, AssetError, cache_dir, find_tokenhmr, is_intact

    for asset in BLAZEPOSE:
        path = cache_dir() / asset.name
        if is_intact(path, asset):
            yield Finding(asset.name, "ok", str(path))
        else:
            found = f"{path} is damaged" if path.is_file() else "not downloaded yet"
            fix = "nothing: `anthrotap label` downloads it (36 MB, once)"
            yield Finding(asset.name, "note", found, fix)
    try:
        from anthrotap_builder.bodies.anny import compact_path
        from anthrotap_builder.bodies.smpl_files import GENDERS, MODELS, find_model_file

        anny = compact_path()
    except ImportError as error:
        yield Finding("bodies", "note", f"{error.name} is missing", "pip install 'anthrotap[builder]'")
        return
    if anny.is_file():
        yield Finding("Anny body", "ok", str(anny))
    else:
        fix = "nothing: `anthrotap label` makes it (2 minutes, once)"
        yield Finding("Anny body", "note", "not made yet", fix)
    for name, model in MODELS.items():
        if name == "smal":  # has no default path
            continue
        files, hint = [], ""
        for gender in GENDERS:
            try:
                files.append(str(find_model_file(name, gender)))
            except AssetError as error:
                hint = hint or error.hint or error.reason
        if files:
            yield Finding(model.title, "ok", ", ".join(files))
        else:
            yield Finding(model.title, "note", f"none (only for `body: {name}`)", hint)
    try:
        yield Finding("TokenHMR", "ok", str(find_tokenhmr(None)))
    except AssetError as error:
        found = "none (only for `mesh_source: tokenhmr`)"
        yield Finding("TokenHMR", "note", found, error.hint or error.reason)


def _folders(online: bool) -> Iterator[Finding]:
    from datasets import config
    from huggingface_hub import constants

    from anthrotap_builder.utils.assets import cache_dir

    yield _folder("labeling", cache_dir(), "ANTHROTAP_CACHE")
    yield _folder("Hub", Path(constants.HF_HUB_CACHE), "HF_HOME")
    yield _folder("datasets", Path(config.HF_DATASETS_CACHE), "HF_HOME")
    yield _folder("temporary", Path(tempfile.gettempdir()), "TMPDIR")


def _folder(name: str, folder: Path, variable: str) -> Finding:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        fix = f"move it away, or set {variable}"
        return Finding(name, "problem", f"{existing} is a file, not a folder", fix)
    if not os.access(existing, os.W_OK | os.X_OK):
        return Finding(name, "problem", f"{folder} can't be written to", f"set {variable} to another folder")
    free = shutil.disk_usage(existing).free
    found = f"{folder}, {_size(free)} free"
    if free < MIN_FREE_DISK:
        return Finding(name, "note", found, f"set {variable} to a folder on a disk with more space")
    return Finding(name, "ok", found)


def _hub(online: bool) -> Iterator[Finding]:
    from huggingface_hub import constants

    from anthrotap_hf.data.loading import REPOSITORY_VARIABLE
    from anthrotap_hf.utils.hub_names import is_repository

    yield Finding("address", "ok", _without_password(constants.ENDPOINT))
    if constants.HF_HUB_OFFLINE:
        found = "not asked: HF_HUB_OFFLINE is set, so only what is in the cache is used"
        yield Finding("account", "ok", found)
    elif not online:
        yield Finding("account", "ok", "not asked")
    else:
        yield _account()
    labels = os.environ.get(REPOSITORY_VARIABLE)
    if not labels:
        fix = 'only for load_dataset("anthrotap") without videos: a folder of labels, or a Hub id'
        yield Finding(REPOSITORY_VARIABLE, "note", "not set", fix)
    elif Path(labels).expanduser().is_dir():
        yield Finding(REPOSITORY_VARIABLE, "ok", labels)
    elif is_repository(labels):
        yield Finding(REPOSITORY_VARIABLE, "ok", f"{labels}, on the Hub: there is no such folder")
    else:
        found = f"{labels} is neither a folder nor a Hub id"
        yield Finding(REPOSITORY_VARIABLE, "problem", found, "a folder of labels, or user/name")


def _account() -> Finding:
    """Ask the Hub for the account of the token in use."""
    from huggingface_hub import constants, get_session, get_token
    from huggingface_hub.utils import build_hf_headers, httpx

    from anthrotap_hf.utils.hub_errors import LOG_IN

    name, token = "account", get_token()
    try:
        answer = get_session().get(
            f"{constants.ENDPOINT}/api/whoami-v2",
            headers=build_hf_headers(token=token or False),
            timeout=HUB_TIMEOUT,
        )
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        fix = "nothing, unless you load from the Hub or publish: check the network, HF_ENDPOINT and proxies"
        return Finding(name, "note", f"the Hub can't be reached ({one_line(error)})", fix)
    if token is None:
        fix = f"to publish or read private repositories: {LOG_IN}"
        return Finding(name, "note", "not logged in", fix)
    if answer.is_success:
        user = _user(answer)
        if user is not None:
            return Finding(name, "ok", user)
        found = "what answers at that address is not a Hub"
        return Finding(name, "note", found, "check HF_ENDPOINT and proxies")
    if answer.status_code not in (401, 403):
        return Finding(name, "note", f"the Hub answers {answer.status_code}", "try again later")
    fix = f"create one at {_without_password(constants.ENDPOINT)}/settings/tokens, then {LOG_IN}"
    return Finding(name, "problem", f"the token is not accepted (the Hub answers {answer.status_code})", fix)


def _user(answer: Any) -> str | None:
    """Return the user name in the Hub's answer; None if it has none, as the page of a proxy."""
    try:
        return str(answer.json()["name"])
    except (ValueError, KeyError, TypeError):
        return None


GROUPS: dict[str, Callable[[bool], Iterator[Finding]]] = {
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


def _unmet_requirements(extra: str | None) -> dict[str, str]:
    """Return what the package, or an extra of it, requires and is missing ("") or has another version (the value)."""
    from packaging.requirements import Requirement

    try:
        requirements = [Requirement(line) for line in metadata.requires("anthrotap") or ()]
    except metadata.PackageNotFoundError:  # run from its folder, without pip
        return {"anthrotap": ""}
    unmet: dict[str, str] = {}
    for requirement in requirements:
        marker, version = requirement.marker, _version(requirement.name)
        always = marker is None or marker.evaluate({"extra": ""})
        if always != (extra is None) or not (always or (marker and marker.evaluate({"extra": extra or ""}))):
            continue
        if requirement.name == "anthrotap":
            for inner in sorted(requirement.extras):
                unmet |= _unmet_requirements(inner)
        elif version is None or not requirement.specifier.contains(version, prereleases=True):
            unmet[f"{requirement.name}{requirement.specifier if version else ''}"] = version or ""
    return unmet


def _describe(unmet: dict[str, str]) -> str:
    return ", ".join(
        f"{name} is required, {version} is installed" if version else name for name, version in unmet.items()
    )


def _size(size: float) -> str:
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.0f} MB"


def _without_password(address: str) -> str:
    return re.sub(r"//[^/@]*@", "//", address)
