"""Meshes that lie in a file for each frame, without numbers of people: reading them when asked for, and who is who."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import linear_sum_assignment

from anthrotap_builder.mesh_recovery.formats.base import MeshInput
from anthrotap_hf.video.images import natural_key

logger = logging.getLogger(__name__)

# Vertices of a mesh that stand for it where meshes are compared.
SAMPLED = 64
# Two meshes in different frames may be one person if their vertices are this near in the image, as a fraction of the
# person's size (the diagonal of the box around them), and this many frames apart at most.
MAX_DISTANCE = 0.5
MAX_GAP = 15


@dataclass(frozen=True)
class FramePeople:
    """The people of one frame.

    Attributes:
        vertices: [P, V, 3] float, camera coordinates, meters.
        focal: of each, pixels [P]; None where the file does not say it.
        names: of each, if the file tells people apart.
    """

    vertices: np.ndarray
    focal: np.ndarray | None = None
    names: Sequence[int] | None = None


Loader = Callable[[int], FramePeople]
"""Reads the people of a place. It can be pickled, as videos are labeled in processes of their own."""


class FrameVertices:
    """Vertices of M meshes that are read when they are asked for; those of the last few frames are kept.

    Attributes:
        shape: M, V and 3.
    """

    KEPT = 8

    def __init__(self, load: Loader, where: Sequence[tuple[int, int]], num_vertices: int) -> None:
        """`where`: place and index of each mesh, as `load` numbers them."""
        self._load, self._where = load, where
        self.shape = (len(where), num_vertices, 3)
        self._kept: dict[int, np.ndarray] = {}

    def __getitem__(self, rows: Any) -> np.ndarray:
        if np.ndim(rows):
            return np.stack([self[row] for row in np.asarray(rows)])
        place, index = self._where[int(rows)]
        kept = self._kept.get(place)
        if kept is None:
            kept = np.asarray(self._load(place).vertices, np.float32)
            # A new dict: other threads may be reading the old one.
            self._kept = dict([*self._kept.items(), (place, kept)][-self.KEPT :])
        return kept[index]


@dataclass(frozen=True)
class MeshSample:
    """One mesh: where it is, and what stands for it in comparisons.

    Attributes:
        frame: number of its frame, from 0.
        place, index: of its file, and of the mesh in the file.
        name: number of its person, if the file says one.
        focal: of its camera, pixels.
        sample: [SAMPLED, 3] float64, some of its vertices.
    """

    frame: int
    place: int
    index: int
    name: int | None
    focal: float
    sample: np.ndarray


def frame_files(source: MeshInput, pattern: str) -> list[Path]:
    """Return the files of a folder, in the order of frames. Raises MeshFileError if there is none.

    Args:
        source: the folder.
        pattern: regular expression of the whole file name.
    """
    if not source.path.is_dir():
        raise source.error("this is no folder of files, one for each frame")
    found = sorted(
        (path for path in source.path.iterdir() if re.fullmatch(pattern, path.name) and not path.name.startswith(".")),
        key=natural_key,
    )
    if not found:
        raise source.error("there is no file of a frame in this folder")
    return found


def frame_numbers(source: MeshInput, names: Sequence[str]) -> list[int]:
    """Return the frame of each file, from 0, by the last number in its name; by the order where names have none.

    Raises:
        MeshFileError: two names have the same number, or some have one and others none.
    """
    numbers = [re.findall(r"\d+", name) for name in names]
    if not any(numbers):
        return list(range(len(names)))
    if without := [name for name, found in zip(names, numbers, strict=True) if not found]:
        raise source.error(f"the name {without[0]!r} has no number of a frame, and others have one")
    values = [int(found[-1]) for found in numbers]
    if len(set(values)) != len(values):
        raise source.error("two of its files have the same number of a frame in their names")
    return from_zero(source, values)


def from_zero(source: MeshInput, values: Sequence[int]) -> list[int]:
    """Return numbers of frames that may be counted from 1, as FFmpeg's pictures are, counted from 0.

    A frame 0, or one whose number is the video's number of frames, tells which it is. Without them, frames are taken
    to count from 0, with a warning: the last ones of frames that count from 1 may be empty.
    """
    first = 1 if max(values) == source.video.num_frames and min(values) > 0 else 0
    if min(values) > 0 and max(values) < source.video.num_frames:
        logger.warning(
            "%s: its frames are %d to %d of %d, which are taken to count from 0: subtract 1 from each if they count "
            "from 1",
            *(source.path, min(values), max(values), source.video.num_frames),
        )
    return [value - first for value in values]


def collect(source: MeshInput, frames: Sequence[int], load: Loader, focal: float) -> dict[str, Any]:
    """Return the entries `frame`, `person`, `size`, `focal` and `vertices`; vertices are read again when asked for.

    Args:
        source: the file or folder.
        frames: number of the frame at each place.
        load: returns the people of a place; is called once for each, and later as they are asked for.
        focal: pixels, where files do not say it.

    Raises:
        MeshFileError: there is no mesh, meshes have different numbers of vertices, a camera is none, or both the
            file and the user say one.
    """
    rows: list[MeshSample] = []
    num_vertices, unknown = None, 0
    for place, frame in enumerate(frames):
        people = load(place)
        if people.focal is not None:
            source.refuse_focal()
        for index, vertices in enumerate(people.vertices):
            if num_vertices not in (None, len(vertices)):
                raise source.error(f"one mesh has {num_vertices} vertices, another {len(vertices)}")
            num_vertices = len(vertices)
            if not np.isfinite(vertices).all():
                unknown += 1
                continue
            name = None if people.names is None else int(people.names[index])
            length = focal if people.focal is None else float(people.focal[index])
            sample = vertices[np.linspace(0, len(vertices) - 1, SAMPLED).astype(int)]
            rows.append(MeshSample(frame, place, index, name, length, np.asarray(sample, np.float64)))
    if not rows or num_vertices is None:
        raise source.error(
            "all of its meshes hold numbers that are not finite" if unknown else "there is no mesh in it"
        )
    if unknown:
        logger.warning("%s: %d meshes hold numbers that are not finite", source.path, unknown)
    order = sorted(rows, key=lambda row: (row.frame, row.index))
    named = [row.name for row in order]
    people_of = link_people(order) if None in named else np.array(named, np.int64)
    lengths = np.array([row.focal for row in order])
    if not (lengths > 0).all():
        raise source.error("it has a focal length that is not positive")
    return {
        "frame": np.array([row.frame for row in order], np.int64),
        "person": people_of,
        "size": np.array([source.video.height, source.video.width]),
        "focal": np.array(lengths[0]) if (lengths == lengths[0]).all() else np.stack([lengths, lengths], axis=1),
        "vertices": FrameVertices(load, [(row.place, row.index) for row in order], num_vertices),
    }


def link_people(rows: Sequence[MeshSample]) -> np.ndarray:
    """Return the number of the person that each mesh is of, [M] int64, from 0 in the order in which they appear.

    Frame by frame, meshes go to the people whose last mesh is nearest in the image, as the assignment of the smallest
    sum of distances (Hungarian method); those that are near nobody are new people.

    Args:
        rows: in the order of frames.
    """
    numbers = np.zeros(len(rows), np.int64)
    last: dict[int, tuple[int, np.ndarray]] = {}
    frames = np.array([row.frame for row in rows])
    for frame in np.unique(frames):
        own = np.flatnonzero(frames == frame)
        images = [_image(rows[int(row)]) for row in own]
        active = [person for person, (seen, _) in last.items() if frame - seen <= MAX_GAP]
        distance = np.array([[_distance(last[person][1], image) for person in active] for image in images])
        owner: dict[int, int] = {}
        if active:
            # What is too far apart costs the same however far it is, so that it does not drive near pairs apart.
            pairs = zip(*linear_sum_assignment(np.minimum(distance, MAX_DISTANCE)), strict=True)
            owner = {int(i): active[j] for i, j in pairs if distance[i, j] < MAX_DISTANCE}
        for index, row in enumerate(own):
            person = owner.get(index, len(last))
            numbers[row] = person
            last[person] = (int(frame), images[index])
    return numbers


def _image(row: MeshSample) -> np.ndarray:
    """Return the sampled vertices in pixels from the middle of the frame, [SAMPLED, 2]."""
    return row.sample[:, :2] / np.maximum(row.sample[:, 2:], 1e-3) * row.focal


def _distance(before: np.ndarray, after: np.ndarray) -> float:
    """Return the mean distance of vertices in the image, as a fraction of the person's size."""
    size = max(float(np.linalg.norm(np.ptp(before, axis=0))), 1e-6)
    return float(np.linalg.norm(after - before, axis=1).mean()) / size
