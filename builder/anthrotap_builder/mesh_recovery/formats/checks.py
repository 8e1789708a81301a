"""What cannot be right of a file of meshes for a video, in one line each: units, axes, camera, frames, identities."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from anthrotap_builder.mesh_recovery.formats.base import VideoFacts
from anthrotap_builder.mesh_recovery.mesh_file import MAX_PEOPLE, OURS, MeshFile, MeshFileError, move_points

logger = logging.getLogger(__name__)

# Frames of the video that a file may have fewer or more of.
SPARE_FRAMES = 2
SPARE_FRACTION = 0.01
# Width over height of the camera's frames and of the video may differ by this factor.
MAX_ASPECT_ERROR = 0.02
# Diagonal of the box around a mesh, meters: no person's and no animal's is longer.
MAX_EXTENT = 20.0
UNITS = {1000: "millimeters", 100: "centimeters", 39.37: "inches"}
PERSON = 1.7  # meters
# A person of less than so many pixels shows nothing.
MIN_PIXELS = 3.0
# From one frame to the next one, a person moves by less than this fraction of the person's own size.
MAX_JUMP = 0.6
# Frames, spread over the file, whose meshes are looked at.
SAMPLED = 32


def leave_out_unknown(path: Path, arrays: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of a file without the meshes that hold NaN or infinity, which networks write for lost people.

    Args:
        path: the file.
        arrays: by the names of the table of `mesh_recovery.mesh_file`.

    Raises:
        MeshFileError: no mesh is left.
    """
    count = len(arrays["frame"])
    own = {
        name: value
        for name, value in arrays.items()
        if isinstance(value, np.ndarray) and value.ndim and len(value) == count and name not in ("size", "faces")
    }
    finite = np.ones(count, bool)
    for name, value in own.items():
        # A camera that is none is an error.
        if value.dtype.kind == "f" and (name in ("vertices", "translation", "betas") or value.ndim == 3):
            finite &= np.isfinite(value).reshape(count, -1).all(1)
    if finite.all():
        return arrays
    if not finite.any():
        raise MeshFileError("all of its meshes hold numbers that are not finite", path=path)
    logger.warning("%s: %d of %d meshes hold numbers that are not finite", path, count - finite.sum(), count)
    return arrays | {name: value[finite] for name, value in own.items()}


def check_meshes(file: MeshFile, video: VideoFacts) -> None:
    """Check a file against the video that it is of.

    Raises:
        MeshFileError: its frames are not the video's, or its meshes cannot be what that camera sees, in meters.
    """
    _check_frames(file, video)
    rows = np.unique(np.linspace(0, len(file.frame) - 1, SAMPLED).astype(int))
    points, extent = _points(file, rows)
    if extent is not None and extent > MAX_EXTENT:
        unit = UNITS[min(UNITS, key=lambda factor: abs(np.log(extent / PERSON / factor)))]
        hint = "meters are needed: scale vertices and camera translation"
        raise _error(file, f"a mesh is {extent:.4g} units large, so that it seems to be in {unit}", hint)
    depth = np.median(points[..., 2])
    if depth <= 0:
        hint = "turn axes so that x points right, y down and z forward: by half a turn about x from OpenGL's"
        raise _error(file, "its meshes lie behind the camera", hint)
    focal, middle = (
        (value[rows] if value.ndim == 2 else np.broadcast_to(value, (len(rows), 2)))[:, None]
        for value in (file.focal, file.principal_point)
    )
    pixels = float(PERSON * np.median(focal) / depth)
    if extent is None and pixels < MIN_PIXELS:
        raise _error(file, f"its bodies are {depth:.4g} meters away", "translations must be in meters, not millimeters")
    with np.errstate(divide="ignore", invalid="ignore"):
        xy = points[..., :2] / points[..., 2:] * focal + middle
    # A body without vertices is one point, which may lie outside while a part of the body is seen.
    margin = pixels if extent is None else 0.0
    inside = (xy >= -margin) & (xy < np.array(file.size[::-1]) + margin) & (points[..., 2:] > 0)
    if not inside.all(-1).any():
        hint = "is the camera that of this video, and are the meshes in its coordinates, not the world's?"
        raise _error(file, "none of its meshes lies in the frames", hint)


def _check_frames(file: MeshFile, video: VideoFacts) -> None:
    height, width = file.size
    # Our own files may name frames that were squeezed, with two focal lengths.
    same = np.isclose(width / height, video.width / video.height, rtol=MAX_ASPECT_ERROR)
    if file.format != OURS and not same:
        raise _error(
            file,
            f"its camera is for frames of {width}x{height}, and the video has {video.width}x{video.height}",
            "give the meshes of this very video, neither cropped nor turned",
        )
    count, spare = video.num_frames, max(SPARE_FRAMES, SPARE_FRACTION * video.num_frames)
    last = int(file.frame.max())
    if last >= count + spare:
        times = (last + 1) / max(count, 1)
        rate = f" (as many as at {video.fps * times:.4g} frames a second)" if video.fps else ""
        raise _error(
            file,
            f"it has meshes up to frame {last}{rate}, and the video has {count} frames",
            "give the meshes of this very video, at its own rate",
        )
    if last < count - spare and len(np.unique(file.frame)) == last + 1 and file.frame.min() == 0:
        logger.warning(
            "%s: its meshes end with frame %d, and the video has %d frames: is it of another rate, or was it cut?",
            *(file.path, last, count),
        )


def _points(file: MeshFile, rows: np.ndarray) -> tuple[np.ndarray, float | None]:
    """Return points of the meshes [R, K, 3] in the camera, and the median diagonal of the box around vertices."""
    if file.vertices is not None:
        vertices = np.stack([file.vertices[int(row)] for row in rows]).astype(np.float64)
        if not np.isfinite(vertices).all():
            raise _error(file, "vertices holds numbers that are not finite; leave out meshes without a position")
        extent = float(np.median(np.linalg.norm(np.ptp(vertices, axis=1), axis=-1)))
        points = vertices[:, :: max(1, vertices.shape[1] // 200)]
    elif file.parameters is not None:
        points, extent = file.parameters.translation[rows][:, None], None
    else:
        raise _error(file, "it has neither vertices nor parameters")
    motion = file.world_to_camera
    if motion is not None:
        points = move_points(points, motion[rows] if motion.ndim == 3 else motion[None])
    return points, extent


def split_jumps(file: MeshFile) -> MeshFile:
    """Give a person another number from where the body jumps on, as bodies do not: the file has mixed up people.

    Only bodies by parameters are looked at, whose formats track people.
    """
    if file.parameters is None or file.world_to_camera is not None:
        return file
    place = file.parameters.translation
    focal = np.broadcast_to(file.focal, (len(place), 2))[:, :1]
    depth = np.maximum(place[:, 2:], 1e-3)
    xy, size = place[:, :2] / depth * focal, PERSON * focal[:, 0] / depth[:, 0]
    person, found = file.person.copy(), []
    unused = iter(np.setdiff1d(np.arange(MAX_PEOPLE), person))
    for number in np.unique(file.person):
        rows = np.flatnonzero(file.person == number)
        rows = rows[np.argsort(file.frame[rows])]
        near = np.diff(file.frame[rows]) == 1
        moved = np.linalg.norm(np.diff(xy[rows], axis=0), axis=1) / np.minimum(size[rows[1:]], size[rows[:-1]])
        for at in np.flatnonzero(near & (moved > MAX_JUMP)):
            other = next(unused, None)
            if other is None:
                break
            person[rows[at + 1 :]] = other
            found.append((int(number), int(file.frame[rows[at + 1]]), int(other)))
    if not found:
        return file
    first, frame, other = found[0]
    logger.warning(
        "%s: person %d jumps in frame %d, as if people were mixed up: from there on it is person %d (%d such jumps)",
        *(file.path, first, frame, other, len(found)),
    )
    return replace(file, person=person)


def _error(file: MeshFile, reason: str, hint: str | None = None) -> MeshFileError:
    return MeshFileError(reason, path=file.path, hint=hint)
