"""SAM 3D Body: what `process_one_image` returns for each picture of a video, as files of a folder or in one pickle.

Layout (facebookresearch/sam-3d-body, sam_3d_body/sam_3d_body_estimator.py): a list of people, each a dict of
`pred_vertices` [V, 3] (of MHR, meters), `pred_cam_t` [3] (added to them), `focal_length` (pixels of the whole
picture) and parameters of MHR, which are not used. The demo writes no numbers, so you do:

- a folder of a `.npz` for each picture, with `pred_vertices` [P, V, 3], `pred_cam_t` [P, 3], `focal_length` [P], and
  `person` [P] if you track people; the order of pictures is that of the numbers in their names;
- a folder of a `.pkl` for each picture, with the list of people;
- one `.pkl` with the list of these lists over all frames.

The faces `estimator.faces` [F, 3] lie as `faces` in each `.npz`, or as `faces.npy` in the folder or beside the
`.pkl`.

Camera: x right, y down, z forward; the principal point is the middle of the frame. The focal length may be another in
each picture. People without numbers are told apart by where their meshes lie in the image. Missing frames have no
file, or nobody in it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
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
from anthrotap_builder.mesh_recovery.formats.opening import load_npz, load_pickle
from anthrotap_builder.mesh_recovery.formats.per_frame import FramePeople, collect, frame_files, frame_numbers
from anthrotap_builder.mesh_recovery.formats.topology import FACES_FILE, SAVE_FACES, body_of_faces, read_faces

TITLE = "SAM 3D Body"
PARTS = ("pred_vertices", "pred_cam_t", "focal_length")


def read(source: MeshInput) -> dict[str, Any]:
    """Read the meshes of all people in all pictures. Raises MeshFileError."""
    folder, faces = source.path, None
    load: _Files | _ListFile
    if source.path.is_dir():
        files = frame_files(source, r".*\.(npz|pkl)")
        frames = frame_numbers(source, [file.stem for file in files])
        load, faces = _Files(files, source.video), _faces_in(MeshInput(files[0], source.video))
    else:
        folder, load = source.path.parent, _ListFile(source)
        frames = list(range(len(load.frames)))
    if faces is None:
        if not (folder / FACES_FILE).is_file():
            raise source.error("it has no faces", f'{SAVE_FACES}("{folder / FACES_FILE}", estimator.faces)')
        faces = read_faces(MeshInput(folder / FACES_FILE, source.video))
    arrays = collect(source, frames, load, source.diagonal)
    return arrays | body_of_faces(arrays["vertices"], faces)


@dataclass(frozen=True)
class _Files:
    """Loads the people of each file."""

    files: list[Path]
    video: VideoFacts

    def __call__(self, place: int) -> FramePeople:
        return _read_frame(MeshInput(self.files[place], self.video))


@dataclass(frozen=True)
class _ListFile:
    """Loads the people of each frame from one pickle, whose arrays stay views of the file."""

    source: MeshInput

    @cached_property
    def frames(self) -> list[Any]:
        content = load_pickle(self.source)
        people = list(content.values()) if isinstance(content, dict) else content
        if not isinstance(people, list | tuple) or not all(isinstance(each, list | tuple) for each in people):
            raise not_ours(self.source, "it holds no list of people for each frame", TITLE, keys_of(content))
        return list(people)

    def __getstate__(self) -> dict[str, Any]:
        # Another process opens the file again.
        return {"source": self.source}

    def __call__(self, place: int) -> FramePeople:
        return _of_list(self.source, self.frames[place])


def _faces_in(source: MeshInput) -> np.ndarray | None:
    if source.path.suffix != ".npz":
        return None
    found = load_npz(source, ["faces"]).get("faces")
    return None if found is None else found.astype(np.int64)


def _read_frame(source: MeshInput) -> FramePeople:
    if source.path.suffix == ".pkl":
        return _of_list(source, load_pickle(source))
    arrays = load_npz(source)
    vertices, place, focal = entries(source, arrays, TITLE, *PARTS)
    vertices = numbers(source, vertices, PARTS[0], (None, None, 3))
    count = len(vertices)
    place = numbers(source, place, PARTS[1], (count, 3))
    focal = numbers(source, focal, PARTS[2], (count,), (count, 1)).reshape(count)
    names = arrays.get("person")
    if names is not None:
        names = numbers(source, names, "person", (count,)).astype(int).tolist()
    return FramePeople(vertices + place[:, None], focal, names)


def _of_list(source: MeshInput, people: Any) -> FramePeople:
    if not isinstance(people, list | tuple):
        raise not_ours(source, f"it holds a {type(people).__name__}, not a list of people", TITLE, keys_of(people))
    vertices, focal = [], []
    for person in people:
        mesh, place, length = entries(source, person, TITLE, *PARTS)
        vertices.append(numbers(source, mesh, PARTS[0], (None, 3)) + numbers(source, place, PARTS[1], (3,)))
        focal.append(numbers(source, length, PARTS[2]).reshape(-1)[0])
    if not people:
        return FramePeople(np.zeros((0, 0, 3)))
    return FramePeople(np.stack(vertices), np.array(focal))


FORMAT = MeshFormat(TITLE, read, ("{name}", "{name}.pkl"), frozenset({"pred_vertices", "pred_cam_t"}), has_people=False)
