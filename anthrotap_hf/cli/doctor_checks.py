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
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Literal

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


Check = Iterator[Finding]


def examine(online: bool = True) -> Check:
    """Yield all findings, group by group. `online` allows to ask the Hub for the account."""
    for group, check in GROUPS.items():
        try:
            yield from (replace(finding, group=group) for finding in check(online))
        except Exception as error:  # noqa: BLE001 - whatever is broken is a finding, not the end
            reason = f"the check failed: {type(error).__name__}: {one_line(error)}"
            yield Finding(group, "problem", reason, "repair what it names, else report a bug", group)


def ok(name: str, found: object) -> Finding:
    return Finding(name, "ok", str(found))


def note(name: str, found: str, fix: str) -> Finding:
    return Finding(name, "note", found, fix)


def problem(name: str, found: str, fix: str) -> Finding:
    return Finding(name, "problem", found, fix)


def _versions(online: bool) -> Check:
    yield ok("anthrotap", _version("anthrotap") or "not installed")
    yield ok("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    for package in PACKAGES:
        yield ok(package, _version(package) or "missing")
    if unmet := _unmet_requirements(None):
        yield problem("packages", _describe(unmet), "pip install " + " ".join(f"'{name}'" for name in unmet))
    opencv = [name for name in OPENCV if _version(name)]
    if len(opencv) > 1:
        fix = f"pip uninstall -y {' '.join(opencv)}; pip install opencv-python-headless"
        yield problem("OpenCV", f"{' and '.join(opencv)} overwrite each other's files", fix)
    for package, module in COMPILED.items():
        if not (version := _version(package)):
            continue
        try:
            importlib.import_module(module)
        except Exception as error:  # noqa: BLE001 - of whatever kind, it is the finding
            fix = f"pip install --force-reinstall --no-deps {package}=={version}"
            if package == "torchvision":
                fix = f"install the torchvision that was built for torch {_version('torch')}"
            yield problem(package, f"fails to import: {one_line(error)}", fix)


def _extras(online: bool) -> Check:
    for extra, use in EXTRAS.items():
        unmet, fix = _unmet_requirements(extra), f"pip install 'anthrotap[{extra}]'"
        if not unmet:
            yield ok(extra, "installed")
        elif any(unmet.values()):
            yield problem(extra, _describe(unmet), fix)
        else:
            yield note(extra, f"not installed: {use} (missing: {_describe(unmet)})", fix)


def _devices(online: bool) -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    yield ok("processor", f"{cores} cores")
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        fix = "label with --workers 1, track with --frame-chunk and --query-chunk"
        found = f"{memory / 1e9:,.1f} GB"
        yield ok("memory", found) if memory >= MIN_MEMORY else note("memory", found, fix)
    try:
        import torch
    except Exception:  # noqa: BLE001 - a finding of the versions
        return
    get_started = "https://pytorch.org/get-started"
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            yield ok(f"cuda:{number}", f"{torch.cuda.get_device_name(number)}: --device cuda:{number}")
    elif shutil.which("nvidia-smi") is None:
        yield ok("GPU", "none; the open default needs none")
    elif torch.version.cuda:
        found = f"there is an NVIDIA driver, but torch {torch.__version__} finds no GPU"
        fix = f"a driver for CUDA {torch.version.cuda}, or a torch for your driver: {get_started}"
        yield problem("cuda", found, fix)
    else:
        yield note("cuda", f"torch {torch.__version__} is built without CUDA", get_started)
    if torch.backends.mps.is_available():
        yield ok("mps", "--device mps")


def _label_files(online: bool) -> Check:
    from anthrotap_builder.utils.assets import BLAZEPOSE, AssetError, find_tokenhmr, is_intact
    from anthrotap_hf.utils.downloads import cache_dir

    for asset in dict.fromkeys(asset for assets in BLAZEPOSE.values() for asset in assets):
        path = cache_dir() / asset.name
        if is_intact(path, asset):
            yield ok(asset.name, path)
            continue
        found = f"{path} is damaged" if path.is_file() else "not downloaded yet"
        fix = f"nothing: `anthrotap label` downloads it ({asset.package.megabytes} MB, once)"
        yield note(asset.name, found, fix)
    try:
        from anthrotap_builder.bodies.anny import compact_path
        from anthrotap_builder.bodies.smpl_files import GENDERS, MODELS, find_model_file

        anny = compact_path()
    except ImportError as error:
        yield note("bodies", f"{error.name} is missing", "pip install 'anthrotap[builder]'")
        return
    fix = "nothing: `anthrotap label` makes it (2 minutes, once)"
    yield ok("Anny body", anny) if anny.is_file() else note("Anny body", "not made yet", fix)
    for name, model in MODELS.items():
        if name == "smal":  # has no default path
            continue
        files, hints = [], []
        for gender in GENDERS:
            try:
                files.append(str(find_model_file(name, gender)))
            except AssetError as error:
                hints.append(error.hint or error.reason)
        found = f"none (only for `body: {name}`)"
        yield ok(model.title, ", ".join(files)) if files else note(model.title, found, hints[0])
    try:
        yield ok("TokenHMR", find_tokenhmr(None))
    except AssetError as error:
        found = "none (only for `mesh_source: tokenhmr`)"
        yield note("TokenHMR", found, error.hint or error.reason)


def _folders(online: bool) -> Check:
    from datasets import config
    from huggingface_hub import constants

    from anthrotap_hf.utils.downloads import cache_dir

    yield _folder("labeling", cache_dir(), "ANTHROTAP_CACHE")
    yield _folder("Hub", Path(constants.HF_HUB_CACHE), "HF_HOME")
    yield _folder("datasets", Path(config.HF_DATASETS_CACHE), "HF_HOME")
    yield _folder("temporary", Path(tempfile.gettempdir()), "TMPDIR")


def _folder(name: str, folder: Path, variable: str) -> Finding:
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        return problem(name, f"{existing} is a file, not a folder", f"move it away, or set {variable}")
    if not os.access(existing, os.W_OK | os.X_OK):
        return problem(name, f"{folder} can't be written to", f"set {variable} to another folder")
    free = shutil.disk_usage(existing).free
    found = f"{folder}, {free / 1e9:,.1f} GB free"
    if free < MIN_FREE_DISK:
        return note(name, found, f"set {variable} to a folder on a disk with more space")
    return ok(name, found)


def _hub(online: bool) -> Check:
    from huggingface_hub import constants

    from anthrotap_hf.utils.hub_names import REPOSITORY_VARIABLE, is_repository

    yield ok("address", _without_password(constants.ENDPOINT))
    if constants.HF_HUB_OFFLINE:
        yield ok("account", "not asked: HF_HUB_OFFLINE is set, so only what is in the cache is used")
    else:
        yield _account() if online else ok("account", "not asked")
    labels = os.environ.get(REPOSITORY_VARIABLE)
    if not labels:
        yield ok(REPOSITORY_VARIABLE, 'not set: load_dataset("anthrotap") loads the sample')
    elif Path(labels).expanduser().is_dir():
        yield ok(REPOSITORY_VARIABLE, labels)
    elif is_repository(labels):
        yield ok(REPOSITORY_VARIABLE, f"{labels}, on the Hub: there is no such folder")
    else:
        found = f"{labels} is neither a folder nor a Hub id"
        yield problem(REPOSITORY_VARIABLE, found, "a folder of labels, or user/name")


def _account() -> Finding:
    """Ask the Hub for the account of the token in use."""
    from huggingface_hub import constants, get_session, get_token
    from huggingface_hub.utils import build_hf_headers, httpx

    from anthrotap_hf.utils.hub_errors import LOG_IN

    token, url = get_token(), f"{constants.ENDPOINT}/api/whoami-v2"
    try:
        headers = build_hf_headers(token=token or False)
        answer = get_session().get(url, headers=headers, timeout=HUB_TIMEOUT)
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        fix = "nothing, unless you load from the Hub or publish: check the network, HF_ENDPOINT and proxies"
        return note("account", f"the Hub can't be reached ({one_line(error)})", fix)
    if token is None:
        return note("account", "not logged in", f"to publish or read private repositories: {LOG_IN}")
    if answer.status_code in (401, 403):
        found = f"the token is not accepted (the Hub answers {answer.status_code})"
        page = f"{_without_password(constants.ENDPOINT)}/settings/tokens"
        return problem("account", found, f"create one at {page}, then {LOG_IN}")
    if not answer.is_success:
        return note("account", f"the Hub answers {answer.status_code}", "try again later")
    try:
        return ok("account", answer.json()["name"])
    except (ValueError, KeyError, TypeError):  # the page of a proxy, for example
        return note("account", "what answers at that address is not a Hub", "check HF_ENDPOINT and proxies")


GROUPS: dict[str, Callable[[bool], Check]] = {
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


def _without_password(address: str) -> str:
    return re.sub(r"//[^/@]*@", "//", address)
