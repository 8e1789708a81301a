"""A folder of one file for each frame: `.obj`, `.ply` or `.npz`, of any surface.

Files: FRAME.obj for one person, FRAME_NUMBER.obj for several, or a folder for each person with FRAME.obj in it. What
stands before the last numbers does not count. An `.npz` has `vertices` [V, 3] or [P, V, 3], and may have `faces` [F,
3], `focal` (pixels) and `person` [P]. NUMBER is the order of people in a frame, as 4D-Humans and SAM 3D Body write
it, and no identity: people are told apart by where their meshes lie in the image. A folder for each person is one.

Units are meters. Camera: x right, y down, z forward, or as OpenGL has it, y up and z back, which all of 4D-Humans',
SAM 3D Body's and most renderers' files have: meshes that all lie behind the camera are turned about x. The principal
point is the middle of the frame; the focal length is that of `--meshes-focal`. Frames without a file are missing
ones.

Faces are those of the first file, of `faces.npy`, or of the body that has as many vertices.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from anthrotap_builder.mesh_recovery.formats.base import MeshFormat, MeshInput, numbers
from anthrotap_builder.mesh_recovery.formats.opening import load_npz
from anthrotap_builder.mesh_recovery.formats.per_frame import FramePeople, collect, frame_files, from_zero
from anthrotap_builder.mesh_recovery.formats.surface_files import read_obj, read_ply
from anthrotap_builder.mesh_recovery.formats.topology import FACES_FILE, body_of_faces, body_or_faces

TITLE = "a folder of meshes"
PATTERN = r".*\.(obj|ply|npz)"
# A turn by half a circle about x, from OpenGL's axes to ours.
TO_CAMERA = np.array([1.0, -1.0, -1.0])


def read(source: MeshInput) -> dict[str, Any]:
    """Read the meshes of all people. Raises MeshFileError."""
    folders = sorted(path for path in source.path.glob("*") if path.is_dir() and path.name.isdecimal())
    files: list[tuple[int | None, list[Path]]] = [
        (int(folder.name), frame_files(MeshInput(folder, source.video), PATTERN)) for folder in folders
    ]
    files = files or [(None, frame_files(source, PATTERN))]
    places: dict[int, list[tuple[int | None, Path]]] = {}
    numbered = [(_frames(source, own, person is not None), person, own) for person, own in files]
    # Whether frames count from 0 or 1, those of all people tell together.
    first = from_zero(source, [number for found, _, _ in numbered for number in found])[0] - numbered[0][0][0]
    for found, person, own in numbered:
        for number, path in zip(found, own, strict=True):
            places.setdefault(number + first, []).append((person, path))
    frames = sorted(places)
    first_file = places[frames[0]][0][1]
    focal = _focal_in(source, first_file) if source.focal is None else source.focal
    load = _Files(source, [places[frame] for frame in frames])
    meshes = load(0).vertices
    if meshes.size and np.median(meshes[..., 2]) < 0:
        load = replace(load, turned=True)
    arrays = collect(source, frames, load, focal)
    faces = _read(MeshInput(first_file, source.video))[1]
    if faces is not None and not (source.path / FACES_FILE).is_file():
        return arrays | body_of_faces(arrays["vertices"], faces)
    return arrays | body_or_faces(source, arrays["vertices"])


@dataclass(frozen=True)
class _Files:
    """Loads the people of each frame; `turned`: from OpenGL's axes."""

    source: MeshInput
    places: list[list[tuple[int | None, Path]]]
    turned: bool = False

    def __call__(self, place: int) -> FramePeople:
        found = _merged(self.source, self.places[place])
        return replace(found, vertices=found.vertices * TO_CAMERA) if self.turned else found


def _frames(source: MeshInput, files: Sequence[Path], one_each: bool) -> list[int]:
    """Return the number of each file's frame: the last one in its name, or the one before if that is no frame's."""
    found = [[int(number) for number in re.findall(r"\d+", path.stem)] for path in files]
    if not all(found):
        bare = next(path for path, own in zip(files, found, strict=True) if not own)
        raise source.error(f"the name {bare.name!r} has no number of a frame")
    last = [own[-1] for own in found]
    if len(set(last)) < len(last) or (len(last) == 1 and len(found[0]) > 1 and not one_each):
        if one_each or not all(len(own) > 1 for own in found):
            raise source.error("two of its files have the same number of a frame in their names")
        last = [own[-2] for own in found]
    return last


def _focal_in(source: MeshInput, path: Path) -> float:
    """Return the focal length that the first file says. Raises MeshFileError if it says none."""
    if path.suffix == ".npz" and (found := load_npz(MeshInput(path, source.video), ["focal"])):
        return float(numbers(source, found["focal"], "focal").reshape(-1)[0])
    raise source.error("it has no camera", "say its focal length in pixels of the video: --meshes-focal")


def _merged(source: MeshInput, files: Sequence[tuple[int | None, Path]]) -> FramePeople:
    """Return the people of one frame's files."""
    vertices: list[np.ndarray] = []
    focal: list[np.ndarray] = []
    names: list[int] = []
    for person, path in files:
        own, _, length, named = _read(MeshInput(path, source.video))
        vertices.extend(own)
        if length is not None:
            focal.append(np.full(len(own), length))
        names.extend([person] * len(own) if person is not None else named or [])
    if len({len(each) for each in vertices}) > 1:
        raise source.error(f"the meshes of one frame have different numbers of vertices ({files[0][1].name})")
    if 0 < len(focal) < len(files):
        raise source.error(f"of the files of one frame some have a focal length, others none ({files[0][1].name})")
    return FramePeople(
        np.stack(vertices) if vertices else np.zeros((0, 0, 3)),
        np.concatenate(focal) if focal else None,
        names if len(names) == len(vertices) else None,
    )


def _read(source: MeshInput) -> tuple[np.ndarray, np.ndarray | None, float | None, list[int] | None]:
    """Return vertices [P, V, 3], faces, focal length and numbers of people; None for what a file does not have."""
    if source.path.suffix != ".npz":
        vertices, faces = (read_obj if source.path.suffix == ".obj" else read_ply)(source)
        return vertices[None], faces, None, None
    arrays = load_npz(source)
    if "vertices" not in arrays:
        raise source.error("it has no vertices")
    vertices = numbers(source, arrays["vertices"], "vertices", (None, 3), (None, None, 3))
    vertices = vertices[None] if vertices.ndim == 2 else vertices
    faces, focal, named = (arrays.get(name) for name in ("faces", "focal", "person"))
    return (
        vertices,
        None if faces is None else numbers(source, faces, "faces", (None, 3)).astype(np.int64),
        None if focal is None else float(numbers(source, focal, "focal").reshape(-1)[0]),
        None if named is None else numbers(source, named, "person", (len(vertices),)).astype(int).tolist(),
    )


FORMAT = MeshFormat(TITLE, read, ("{name}",), frozenset(), has_camera=False, has_people=False)
