"""Files of meshes that other programs write: one reader for each format, behind `read_mesh_file`."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import numpy as np

from anthrotap_builder.mesh_recovery.formats.base import MeshFormat, MeshInput, VideoFacts
from anthrotap_builder.mesh_recovery.formats.checks import check_meshes, leave_out_unknown, split_jumps
from anthrotap_builder.mesh_recovery.mesh_file import OURS, MeshFile, MeshFileError, make_mesh_file, read_meshes
from anthrotap_builder.registries import MESH_FORMATS
from anthrotap_hf.utils.errors import one_line
from anthrotap_hf.utils.safe_pickle import UnsafeFileError
from anthrotap_hf.video import VideoError

# File names that only one program gives.
NAMES = {"wham_output.pkl": "wham", "hmr4d_results.pt": "gvhmr", "hpe_results.pt": "gem-x"}
WHICH = "say whose it is: --meshes-format NAME, of " + ", ".join(MESH_FORMATS)


def read_mesh_file(path: Path, video: Path, format: str | None = None, focal: float | None = None) -> MeshFile:
    """Read the meshes of a video, and check them against it.

    Args:
        path: the file, or the folder of one file for each frame.
        video: that the meshes are of.
        format: a name in `registries.MESH_FORMATS`; None: guessed by the name of the file and of what is in it.
        focal: focal length in the video's own pixels, where the file does not say it; refused where it does.

    Raises:
        MeshFileError: naming the file, what is wrong with it, and a way out: whatever is wrong, so that one bad file
            of many costs its own video only.
    """
    if not path.exists():
        raise MeshFileError("no such file of meshes", path=path)
    name = format or guess_format(path)
    known: MeshFormat = MESH_FORMATS.load(name)
    if focal is not None and not (np.isfinite(focal) and focal > 0):
        raise MeshFileError(f"the focal length of its camera must be positive, got {focal:g}", path=path)
    if focal is not None and known.has_camera:
        raise MeshFileError(
            f"a file of {known.title} says its camera itself", path=path, hint="leave out --meshes-focal"
        )
    try:
        facts = VideoFacts.of(video)
    except VideoError as error:
        if name != OURS:
            raise MeshFileError(f"the video of these meshes cannot be read ({error})", path=path) from error
        # What is wrong with the video, labeling will say.
        return read_meshes(path)
    try:
        arrays = dict(known.read(MeshInput(path, facts, focal)))
        file = make_mesh_file(path, arrays if name == OURS else leave_out_unknown(path, arrays), name)
        check_meshes(file, facts)
        return split_jumps(file) if name != OURS and known.has_people else file
    except MeshFileError:
        raise
    except UnsafeFileError as error:
        raise MeshFileError(error.reason, path=path) from error
    except OSError as error:
        raise MeshFileError(f"it cannot be read ({error.strerror or one_line(error)})", path=path) from error
    except (TypeError, ValueError, LookupError, AttributeError, ArithmeticError) as error:
        # A part of a damaged file is of another kind than any reader asks about.
        what = f"{type(error).__name__}: {one_line(error)}"
        raise MeshFileError(f"it is damaged, or no output of {known.title} ({what})", path=path) from error


def guess_format(path: Path) -> str:
    """Return the format of a file by its name, and of an `.npz` or a folder by the names in it.

    Raises:
        MeshFileError: the names do not tell.
    """
    if path.name in NAMES:
        return NAMES[path.name]
    if path.is_dir():
        return _guess_folder(path)
    if path.suffix == ".npz" or path.suffix not in (".pkl", ".pt", ".pth"):
        # What is no .npz at all, the reader of ours says best.
        return _guess_npz(path)
    if path.suffix == ".pkl" and path.name.startswith("demo_"):
        # The terms of the bodies differ, and the files do not: the name would put down the wrong license.
        raise MeshFileError(
            "PHALP with 4D-Humans and with TokenHMR write the same files, under different terms",
            path=path,
            hint="say whose it is: --meshes-format phalp or --meshes-format tokenhmr",
        )
    raise MeshFileError("its name does not tell what wrote it", path=path, hint=WHICH)


def _guess_npz(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.removesuffix(".npy") for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return OURS
    if {"frame", "person"} & names:
        return OURS
    if {"pose_cam", "trans_cam"} <= names or ({"trans", "betas"} <= names and {"poses", "pose_body"} & names):
        return "smplx"
    if {"K_fullimg", "vertices"} <= names:
        return "gem-x"
    return OURS


def is_frame_folder(path: Path) -> bool:
    """Return whether a folder holds a file of meshes for each frame, by their names."""
    return _format_of_frames(path) is not None


def _format_of_frames(path: Path) -> str | None:
    names = [entry.name for entry in os.scandir(path)]
    # A folder for each person.
    people = [name for name in names if name.isdecimal() and (path / name).is_dir()]
    names += os.listdir(path / people[0]) if people else []
    if any(name.endswith((".png.npy", ".jpg.npy")) for name in names):
        return "multi-hmr"
    return "folder" if any(name.endswith((".obj", ".ply")) for name in names) else None


def _guess_folder(path: Path) -> str:
    if found := _format_of_frames(path):
        return found
    inside = [name for name in NAMES if (path / name).exists()]
    if inside:
        raise MeshFileError("this is a folder", path=path, hint=f"name the file in it: {path / inside[0]}")
    raise MeshFileError("what is in this folder does not tell what wrote it", path=path, hint=WHICH)


__all__ = ["MeshFormat", "VideoFacts", "guess_format", "is_frame_folder", "read_mesh_file"]
