"""Multi-HMR: the folder of its demo with `--save_mesh 1`, a file `IMAGE_MODEL.png.npy` for each picture of a video.

Layout (naver/multi-hmr, demo.py): an array [P, V, 3] of the vertices of all people in the picture, the nearest first,
in camera coordinates, meters; of no shape in a picture of nobody. Or what the network returns for a picture, pickled
as `IMAGE.pkl`: a list of dicts with `verts_smplx` (SMPL-X) or `v3d` (Anny), [V, 3], and `K` [3, 3].

Camera: x right, y down, z forward; the principal point is the middle of the frame. `.npy` files do not say the focal
length: the demo takes a field of view of 60 degrees along the longer side unless `--fov` says another. `K` is that of
the square that the picture is scaled into. People have no numbers: they are told apart by where their meshes lie in
the image. Pictures of a video are in the order of the numbers in their names.

Faces are those of the body: SMPL-X's (10,475 vertices) from your body file, Anny's (13,718) from Anny; or those of
`faces.npy` in the folder, for any other mesh.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anthrotap_builder.mesh_recovery.formats.base import (
    MeshFormat,
    MeshInput,
    VideoFacts,
    entries,
    keys_of,
    not_ours,
    numbers,
)
from anthrotap_builder.mesh_recovery.formats.opening import load_array, load_pickle
from anthrotap_builder.mesh_recovery.formats.per_frame import FramePeople, collect, frame_files, frame_numbers
from anthrotap_builder.mesh_recovery.formats.topology import body_or_faces

TITLE = "Multi-HMR"
FIELD_OF_VIEW = np.radians(60)


def read(source: MeshInput) -> dict[str, Any]:
    """Read the meshes of all people in all pictures. Raises MeshFileError."""
    files = [file for file in frame_files(source, r".*\.(npy|pkl)") if file.stem != "faces"]
    # The model's name has a number too: what stands before the picture's own suffix counts.
    names = _without_model([file.name.partition(".")[0] for file in files])
    longer = max(source.video.width, source.video.height)
    focal = longer / (2 * np.tan(FIELD_OF_VIEW / 2)) if source.focal is None else source.focal
    arrays = collect(source, frame_numbers(source, names), _Files(files, source.video), focal)
    return arrays | body_or_faces(source, arrays["vertices"])


def _without_model(names: list[str]) -> list[str]:
    """Return names PICTURE_MODEL without the model: Multi-HMR's own ones, or the words that all names end in."""
    words = [re.sub(r"_multi-?hmr.*", "", name, flags=re.IGNORECASE).split("_") for name in names]
    # A single name shares nothing with others.
    while len(words) > 1 and min(map(len, words)) > 1 and len({each[-1] for each in words}) == 1:
        words = [each[:-1] for each in words]
    return ["_".join(each) for each in words]


@dataclass(frozen=True)
class _Files:
    """Loads the people of each file."""

    files: list[Path]
    video: VideoFacts

    def __call__(self, place: int) -> FramePeople:
        return _read_frame(MeshInput(self.files[place], self.video))


def _read_frame(source: MeshInput) -> FramePeople:
    if source.path.suffix == ".npy":
        array = load_array(source)
        if array.size == 0:
            return FramePeople(np.zeros((0, 0, 3)))
        return FramePeople(numbers(source, array, "the array", (None, None, 3)))
    people = load_pickle(source)
    if not isinstance(people, list):
        raise not_ours(source, f"it holds a {type(people).__name__}, not a list of people", TITLE, keys_of(people))
    vertices, focal = [], []
    for person in people:
        name = "v3d" if isinstance(person, dict) and "v3d" in person else "verts_smplx"
        mesh, matrix = entries(source, person, TITLE, name, "K")
        vertices.append(numbers(source, mesh, name, (None, 3)))
        matrix = numbers(source, matrix, "K", (3, 3), (1, 3, 3)).reshape(3, 3)
        # The square's side is twice its principal point; it is as long as the picture's longer side.
        longer = max(source.video.width, source.video.height)
        focal.append(matrix[0, 0] * longer / (2 * matrix[0, 2]))
    if not people:
        return FramePeople(np.zeros((0, 0, 3)))
    return FramePeople(np.stack(vertices), np.array(focal))


FORMAT = MeshFormat(
    TITLE, read, ("{name}",), frozenset({"verts_smplx", "transl_pelvis"}), has_camera=False, has_people=False
)
