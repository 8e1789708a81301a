"""Meshes from a file: the output of any human mesh recovery or motion capture, in one documented `.npz`.

M meshes, in any order, each of one person in one frame:

| key | shape | |
|---|---|---|
| `frame` | [M] int | decoded frame of the video, from 0 |
| `person` | [M] int | number of the person, the same in all frames, 0 to 9999 |
| `size` | [2] | height and width, pixels, of the frames that the camera is given in |
| `focal` | number, [2] or [M, 2] | focal length (along x and y; of each mesh), pixels |
| `principal_point` | [2] or [M, 2], optional | x, y in raster pixels; the middle of the frame if left out |
| `world_to_camera` | [4, 4] or [M, 4, 4], optional | of meshes in a world: the rigid motion to the camera, meters |
| `body` | string, optional | a body model's name, as in `anthrotap_builder.registries.BODIES` |

and either vertices, in camera coordinates (x right, y down, z forward), meters:

| `vertices` | [M, V, 3] float | |
| `faces` | [F, 3] int | wound one way or the other; left out where `body` is given |

or the parameters of `body`, joints in its own order:

| `global_orient` | [M, 3] or [M, 3, 3] | axis-angle or rotation matrix of the root, model axes to camera axes |
| `body_pose` | [M, J - 1, 3], [M, 3 (J - 1)] or [M, J - 1, 3, 3] | of the other joints, from their parents |
| `betas` | [S] or [M, S] | shape coefficients, in standard deviations; missing ones are zero |
| `translation` | [M, 3] | added to the posed body, meters (smplx's `transl`) |

Arrays only: a file that holds pickled objects is rejected. Files of other programs are brought into this form by
`anthrotap_builder.mesh_recovery.formats`.
"""

from __future__ import annotations

import hashlib
import logging
import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from scipy.spatial.transform import Rotation

from anthrotap_builder.bodies import Body, MeshSurface, load_body
from anthrotap_builder.bodies.body import BodyPose
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.mesh_recovery.track import MeshTrack
from anthrotap_builder.registries import BODIES
from anthrotap_hf.utils.atomic_files import file_sha256
from anthrotap_hf.utils.errors import AnthroTapError
from anthrotap_hf.utils.safe_npz import safe_load_npz
from anthrotap_hf.utils.safe_pickle import UnsafeFileError

if TYPE_CHECKING:
    from anthrotap_builder.mesh_recovery.given_masks import GivenMasks

logger = logging.getLogger(__name__)

SUFFIX = ".meshes.npz"
MAX_PEOPLE = 10_000
# Sizes are rounded to whole pixels, so the camera may differ from ours by a little. A body that is sheared by more than
# this no longer has the shape of its model, and is not refined.
MAX_STRETCH = 0.003
MAX_SHIFT_PIXELS = 2.0


OURS = "anthrotap"
"""The name of the format of this module in `anthrotap_builder.registries.MESH_FORMATS`."""


class MeshFileError(AnthroTapError):
    """A file of meshes that cannot be used."""


class Vertices(Protocol):
    """The vertices of M meshes: an array, or what reads them when they are asked for.

    Attributes:
        shape: M, V and 3.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...
    def __getitem__(self, rows: Any, /) -> np.ndarray:
        """Return [V, 3] of one mesh, or [R, V, 3] of an array of R of them."""
        ...


@dataclass(frozen=True)
class BodyParameters:
    """Parameters of a body model for M meshes.

    Attributes:
        rotations: [M, J, 3, 3] float64, the root's to the camera, the others' from their parents.
        shape: [M, S] float64.
        translation: [M, 3] float64 meters.
    """

    rotations: np.ndarray
    shape: np.ndarray
    translation: np.ndarray


@dataclass(frozen=True)
class MeshFile:
    """Meshes of a video; see the table of the module.

    Attributes:
        path: the file.
        frame, person: [M] int64.
        size: height and width that the camera refers to, pixels.
        focal, principal_point: [2] or [M, 2] float64 pixels, along x and y; of all meshes or of each.
        body: name of the body model; "mesh" for none.
        vertices: [M, V, 3] float32, or None where there are parameters.
        faces: [F, 3] int32, or None where the body has them.
        parameters: of the body, or None where there are vertices.
        world_to_camera: [4, 4] or [M, 4, 4] float64, rigid; None where meshes are in the camera's coordinates.
        format: the file's, a name in `registries.MESH_FORMATS`.
        gender: of the body, if the file says one.
        masks: of whom the meshes are, if a user brings them; None: detected people are looked for.
    """

    path: Path
    frame: np.ndarray
    person: np.ndarray
    size: tuple[int, int]
    focal: np.ndarray
    principal_point: np.ndarray
    body: str
    vertices: Vertices | None
    faces: np.ndarray | None
    parameters: BodyParameters | None
    world_to_camera: np.ndarray | None = None
    format: str = OURS
    gender: str | None = None
    masks: GivenMasks | None = None

    @property
    def mesh_source(self) -> str:
        """The mesh source of labels that are made from it: "file", or "file:gvhmr" for another format than ours."""
        return "file" if self.format == OURS else f"file:{self.format}"

    def surface(self, body: str, gender: str = "neutral", file: Path | None = None) -> Body | MeshSurface:
        """Return the body model; of a file without one its first mesh, as if that were at rest.

        Args:
            body: name of the body that labels are asked for.
            gender, file: of the body, as `load_body` takes them.

        Raises:
            MeshFileError: if the file's meshes are not of that body.
        """
        if body != self.body:
            raise self._error(f"its meshes are of the body {self.body!r}, not {body!r}")
        if self.faces is not None and self.vertices is not None:
            first = self.vertices[np.lexsort((self.person, self.frame))[0]]
            # Faces that are wound inwards give a negative signed volume; they are turned around.
            corners = first[self.faces].astype(np.float64) - first.mean(0)
            inwards = np.linalg.det(corners).sum() < 0
            return MeshSurface("mesh", first, self.faces[:, ::-1] if inwards else self.faces)
        model = load_body(body, gender, file)
        pairs = []
        if self.vertices is not None:
            pairs = [("vertices", self.vertices.shape[1], len(model.template))]
        elif self.parameters is not None:
            pairs = [("joints", self.parameters.rotations.shape[1], model.num_joints)]
            if self.parameters.shape.shape[1] > model.num_shapes:
                pairs.append(("betas", self.parameters.shape.shape[1], model.num_shapes))
        for part, count, expected in pairs:
            if count != expected:
                raise self._error(f"its meshes have {count} {part}, but {body} has {expected}")
        return model

    @cached_property
    def digest(self) -> str:
        """The first 12 digits of the file's SHA-256, or of one of it and of the masks."""
        if self.masks is None:
            return file_sha256(self.path)[:12]
        return hashlib.sha256(f"{file_sha256(self.path)} {self.masks.digest}".encode()).hexdigest()[:12]

    def camera(self, width: int, height: int) -> Camera:
        """Return the camera that the meshes are seen by in frames of another size; of several, one in their midst."""
        focal = float(np.median(self.focal[..., 0]))
        return Camera(focal * width / self.size[1], width, height)

    def tracks(self, frames: np.ndarray, body: Body | MeshSurface, camera: Camera) -> list[MeshTrack]:
        """Return the meshes of all people in some frames of the video.

        `camera` has square pixels and its principal point in the middle. Where the file's camera has not, the meshes
        are sheared instead, so that each point stays on its pixel and at its depth.

        Args:
            frames: [T] int, decoded frames of the video.
            body: the surface, or the body model of the parameters.
            camera: of `camera`.
        """
        people = np.unique(self.person[np.isin(self.frame, frames)]).tolist()
        return [self._track(person, frames, body, camera) for person in people]

    def _track(self, person: int, frames: np.ndarray, body: Body | MeshSurface, camera: Camera) -> MeshTrack:
        own = np.flatnonzero((self.person == person) & np.isin(self.frame, frames))
        own = own[np.argsort(self.frame[own])]
        # The row of each frame; any row in frames that have none, which are not present.
        rows = own[np.searchsorted(self.frame[own], frames).clip(max=len(own) - 1)]
        present = self.frame[rows] == frames
        vertices, pose = self._posed(rows, body)
        vertices[~present] = np.nan
        # x and y of a point at depth z become stretch * xy + shift * z.
        scale = np.array([camera.width / self.size[1], camera.height / self.size[0]])
        focal, principal_point = (
            value[rows][:, None] if value.ndim == 2 else value for value in (self.focal, self.principal_point)
        )
        stretch = focal * scale / camera.focal
        shift = (principal_point * scale - camera.center) / camera.focal
        if not (np.allclose(stretch, 1, atol=1e-6) and np.allclose(shift, 0, atol=1e-6)):
            vertices[..., :2] = vertices[..., :2] * stretch + vertices[..., 2:] * shift
        if abs(stretch - 1).max() > MAX_STRETCH or abs(shift).max() * camera.focal > MAX_SHIFT_PIXELS:
            pose = None
        gaps = np.diff(np.flatnonzero(present))
        if len(gaps) and np.median(gaps) > 1:
            logger.warning(
                "%s: meshes of person %d are %d frames apart, but labels need neighboring frames: label at the rate of "
                "the meshes (clips.fps)",
                *(self.path, person, int(np.median(gaps))),
            )
        unknown = np.full(len(frames), np.nan)
        return MeshTrack(person, vertices, present, unknown, unknown.copy(), pose)

    def _posed(self, rows: np.ndarray, body: Body | MeshSurface) -> tuple[np.ndarray, BodyPose | None]:
        motion = self.world_to_camera
        if motion is not None:
            motion = motion[rows] if motion.ndim == 3 else motion[None]
        if self.vertices is not None:
            vertices = self.vertices[rows].astype(np.float32)
            if not np.isfinite(vertices).all():
                raise self._error("vertices holds numbers that are not finite; leave out meshes without a position")
            return (vertices if motion is None else move_points(vertices, motion).astype(np.float32)), None
        given = self.parameters
        if given is None or not isinstance(body, Body):
            raise self._error("parameters need a body model")
        pose = BodyPose.of_local(body, given.rotations[rows], given.shape[rows], given.translation[rows])
        if motion is not None:
            pose = BodyPose(motion[:, None, :3, :3] @ pose.rotations, move_points(pose.positions, motion), pose.shape)
        return body.pose_vertices(pose), pose

    def _error(self, reason: str) -> MeshFileError:
        return MeshFileError(reason, path=self.path)


def move_points(points: np.ndarray, motion: np.ndarray) -> np.ndarray:
    """Return points [R, K, 3] moved by rigid motions [R or 1, 4, 4]."""
    return (
        np.einsum("rab,rkb->rka", np.broadcast_to(motion[:, :3, :3], (len(points), 3, 3)), points)
        + motion[:, None, :3, 3]
    )


@dataclass(frozen=True)
class ClipMeshes:
    """The meshes of a clip.

    Attributes:
        file: the meshes of the video.
        frames: [T] int, the number of each frame of the clip among the decoded frames of the video.
    """

    file: MeshFile
    frames: np.ndarray


def read_meshes(path: str | os.PathLike[str]) -> MeshFile:
    """Read and check a file of meshes.

    Raises:
        MeshFileError: naming the file and what is wrong with it.
        OSError: if it cannot be read.
    """
    path = Path(path)
    try:
        return make_mesh_file(path, safe_load_npz(path))
    except FileNotFoundError as error:
        raise MeshFileError("no such file of meshes", path=path) from error
    except UnsafeFileError as error:
        raise MeshFileError(error.reason, path=path) from error


def make_mesh_file(path: Path, arrays: dict[str, Any], format: str = OURS) -> MeshFile:
    """Check the arrays of the module's table, which came out of a file of any format.

    Args:
        path: the file.
        arrays: by the names of the table; `vertices` may be anything that is like `Vertices`, and `gender` a text.
        format: the file's, a name in `registries.MESH_FORMATS`.

    Raises:
        MeshFileError: naming the file and what is wrong with it.
    """
    hint = "the format: python -m pydoc anthrotap_builder.mesh_recovery.mesh_file" if format == OURS else None
    return _Reader(path, arrays, format, hint).read()


Shape = tuple[int | None, ...]


@dataclass(frozen=True)
class _Reader:
    """Checks arrays on their way out of a file."""

    path: Path
    arrays: dict[str, Any]
    format: str
    hint: str | None

    def read(self) -> MeshFile:
        frame = self._array("frame", (None,), kinds="iu").astype(np.int64)
        count = len(frame)
        person = self._array("person", (count,), kinds="iu").astype(np.int64)
        if not count:
            raise self._error("there is no mesh in it")
        if frame.min() < 0 or person.min() < 0 or person.max() >= MAX_PEOPLE:
            raise self._error(f"frame must be from 0 up and person from 0 to {MAX_PEOPLE - 1}")
        if len(np.unique(frame * MAX_PEOPLE + person)) != count:
            raise self._error("one person has two meshes in one frame")
        height, width = (int(side) for side in self._array("size", (2,), kinds="iu"))
        focal = self._array("focal", (), (2,), (count, 2)).astype(np.float64)
        focal = np.broadcast_to(focal, 2) if focal.ndim == 0 else focal
        if min(height, width) < 1 or not (focal > 0).all():
            raise self._error("size and focal must be positive")
        principal_point = np.array([width / 2, height / 2])
        if "principal_point" in self.arrays:
            principal_point = self._array("principal_point", (2,), (count, 2)).astype(np.float64)
        body = str(self.arrays.get("body", "mesh"))
        if "body" in self.arrays and body not in BODIES:
            raise self._error(f"there is no body model {body!r}; there are {', '.join(BODIES)}")
        vertices = faces = parameters = None
        if "vertices" in self.arrays:
            vertices = self.arrays["vertices"]
            if isinstance(vertices, np.ndarray):
                vertices = self._array("vertices", (count, None, 3))
            if body == "mesh":
                faces = self._array("faces", (None, 3), kinds="iu").astype(np.int32)
                if not len(faces) or faces.min() < 0 or faces.max() >= vertices.shape[1]:
                    raise self._error(f"faces must name vertices from 0 to {vertices.shape[1] - 1}")
        elif body == "mesh":
            raise self._error("it has neither vertices nor the name of a body and its parameters")
        else:
            parameters = self._parameters(count)
        camera = (height, width), focal, principal_point
        motion = None
        if "world_to_camera" in self.arrays:
            motion = self._array("world_to_camera", (4, 4), (count, 4, 4)).astype(np.float64)
            turns = motion[..., :3, :3]
            if (
                not np.allclose(turns @ turns.swapaxes(-1, -2), np.eye(3), atol=1e-3)
                or (np.linalg.det(turns) < 0).any()
            ):
                raise self._error("world_to_camera does not only turn and move: a scale, or an axis of the other sign")
        gender = self.arrays.get("gender") if self.format != OURS else None
        return MeshFile(
            self.path,
            frame,
            person,
            *camera,
            body,
            vertices,
            faces,
            parameters,
            world_to_camera=motion,
            format=self.format,
            gender=gender,
        )

    def _parameters(self, count: int) -> BodyParameters:
        flat = self.arrays.get("body_pose")
        if flat is not None and flat.ndim == 2 and flat.shape[1] % 3 == 0:
            self.arrays["body_pose"] = flat.reshape(len(flat), -1, 3)
        root = self._rotations("global_orient", (count, 3))
        others = self._rotations("body_pose", (count, None, 3))
        shape = self._array("betas", (None,), (count, None)).astype(np.float64)
        # Zeros at the end do not count: files have up to 300 coefficients, and the body fewer.
        used = np.flatnonzero(shape.reshape(-1, shape.shape[-1]).any(0))
        shape = shape[..., : used[-1] + 1 if len(used) else 1]
        return BodyParameters(
            np.concatenate([root[:, None], others], axis=1),
            np.broadcast_to(shape, (count, shape.shape[-1])),
            self._array("translation", (count, 3)).astype(np.float64),
        )

    def _rotations(self, name: str, vectors: Shape) -> np.ndarray:
        """Return rotation matrices of axis-angle vectors of that shape, or of matrices."""
        value = self._array(name, vectors, (*vectors, 3)).astype(np.float64)
        if value.ndim == len(vectors):
            return Rotation.from_rotvec(value.reshape(-1, 3)).as_matrix().reshape(*value.shape, 3)
        if not np.allclose(value @ value.swapaxes(-1, -2), np.eye(3), atol=1e-3):
            raise self._error(f"{name} holds matrices that are no rotations")
        if (np.linalg.det(value) < 0).any():
            raise self._error(f"{name} holds rotations that mirror: turn axes by rotating, not by changing one's sign")
        return value

    def _array(self, name: str, *shapes: Shape, kinds: str = "iuf") -> np.ndarray:
        """Return a finite array of one of the shapes (None: any length) and of one of numpy's kinds of dtype."""
        if name not in self.arrays:
            raise self._error(f"{name} is missing")
        value = self.arrays[name]
        if not any(
            len(shape) == value.ndim and all(side in (None, got) for side, got in zip(shape, value.shape, strict=True))
            for shape in shapes
        ):
            expected = " or ".join(str([side or "any" for side in shape]) for shape in shapes)
            raise self._error(f"{name} must be {expected}, got {list(value.shape)}")
        if value.dtype.kind not in kinds:
            raise self._error(f"{name} must be {'' if 'f' in kinds else 'whole '}numbers, got {value.dtype}")
        if not np.isfinite(value).all():
            raise self._error(f"{name} holds numbers that are not finite; leave out meshes without a position")
        return value

    def _error(self, reason: str) -> MeshFileError:
        return MeshFileError(reason, path=self.path, hint=self.hint)
