"""Meshes from a file: the output of any human mesh recovery or motion capture, in one documented `.npz`.

M meshes, in any order, each of one person in one frame:

| key | shape | |
|---|---|---|
| `frame` | [M] int | decoded frame of the video, from 0 |
| `person` | [M] int | who, the same number in all frames, 0 to 9999 |
| `size` | [2] | height and width, pixels, of the frames that the camera is given in |
| `focal` | number or [2] | focal length (along x and y), pixels |
| `principal_point` | [2], optional | x, y in raster pixels; the middle of the frame if left out |
| `body` | string, optional | a body model's name, as in `anthrotap_builder.bodies.BODIES` |

and either vertices, in camera coordinates (x right, y down, z forward), meters:

| `vertices` | [M, V, 3] float | |
| `faces` | [F, 3] int | wound one way or the other; left out where `body` is given |

or the parameters of `body`, joints in its own order:

| `global_orient` | [M, 3] or [M, 3, 3] | axis-angle or rotation matrix of the root, model axes to camera axes |
| `body_pose` | [M, J - 1, 3], [M, 3 (J - 1)] or [M, J - 1, 3, 3] | of the other joints, from their parents |
| `betas` | [S] or [M, S] | shape coefficients, in standard deviations; missing ones are zero |
| `translation` | [M, 3] | added to the posed body, meters (smplx's `transl`) |

Arrays only: a file that holds pickled objects is refused.
"""

from __future__ import annotations

import logging
import os
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.transform import Rotation

from anthrotap_builder.bodies import BODIES, Body, MeshSurface, load_body
from anthrotap_builder.bodies.body import BodyPose
from anthrotap_builder.detection import PersonTrack, anyone, masks_of
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.mesh_recovery.track import MeshTrack, mask_overlap
from anthrotap_hf.utils.atomic_files import atomic_write, file_sha256

logger = logging.getLogger(__name__)

SUFFIX = ".meshes.npz"
MOST_PEOPLE = 10_000
SAME_PERSON = 0.1  # mean overlap of mesh and mask from which they may be one person
SLIGHT_STRETCH = 0.003  # refining looks past this much
SLIGHT_SHIFT = 2.0  # pixels
MATCHED_FRAMES = 12  # so many frames of a clip are looked at to tell which mask is whose


class MeshFileError(ValueError):
    """A file of meshes that can't be used; says which, why, and what to do."""


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
    """Meshes of a video; see the module's table.

    Attributes:
        path: the file.
        frame, person: [M] int64.
        size: height and width that the camera refers to, pixels.
        focal, principal_point: [2] float64 pixels, along x and y.
        body: name of the body model; "mesh" for none.
        vertices: [M, V, 3] float32, or None where there are parameters.
        faces: [F, 3] int32, or None where the body has them.
        parameters: of the body, or None where there are vertices.
    """

    path: Path
    frame: np.ndarray
    person: np.ndarray
    size: tuple[int, int]
    focal: np.ndarray
    principal_point: np.ndarray
    body: str
    vertices: np.ndarray | None
    faces: np.ndarray | None
    parameters: BodyParameters | None

    def require_parameters(self) -> None:
        """Raises MeshFileError unless there are a body's parameters, which alone can be refined."""
        if self.parameters is None:
            raise MeshFileError(
                f"{self.path}: refining needs a body's parameters, and these meshes are vertices alone"
            )

    def surface(self, body: str, gender: str = "neutral", file: Path | None = None) -> Body | MeshSurface:
        """The body model, or of a file without one its first mesh, as if that were at rest.

        Args:
            body: name of the body that labels are asked for.
            gender, file: of the body, as `load_body` takes them.

        Raises:
            MeshFileError: if the file's meshes are not of that body.
        """
        if body != self.body:
            raise MeshFileError(f"{self.path}: its meshes are of the body {self.body!r}, not {body!r}")
        if self.faces is not None and self.vertices is not None:
            first = self.vertices[np.lexsort((self.person, self.frame))[0]]
            corners = first[self.faces].astype(np.float64) - first.mean(0)
            inside_out = np.linalg.det(corners).sum() < 0  # its signed volume
            return MeshSurface("mesh", first, self.faces[:, ::-1] if inside_out else self.faces)
        model = load_body(body, gender, file)
        problem = None
        if self.parameters is None:
            assert self.vertices is not None
            if self.vertices.shape[1] != len(model.template):
                problem = f"{self.vertices.shape[1]} vertices, but {body} has {len(model.template)}"
        elif self.parameters.rotations.shape[1] != model.num_joints:
            problem = f"{self.parameters.rotations.shape[1]} joints, but {body} has {model.num_joints}"
        elif self.parameters.shape.shape[1] > model.num_shapes:
            problem = f"{self.parameters.shape.shape[1]} betas, but {body} has {model.num_shapes} here"
        if problem:
            raise MeshFileError(f"{self.path}: its meshes have {problem}")
        return model

    @cached_property
    def digest(self) -> str:
        """The first digits of the file's SHA-256."""
        return file_sha256(self.path)[:12]

    def camera(self, width: int, height: int) -> Camera:
        """The camera that the meshes are seen by in frames of another size."""
        return Camera(float(self.focal[0]) * width / self.size[1], width, height)

    def tracks(self, frames: np.ndarray, body: Body | MeshSurface, camera: Camera) -> list[MeshTrack]:
        """Everyone's meshes in some frames of the video.

        A camera with other pixels than square ones, or another principal point than the middle, is taken up by the
        meshes: they are sheared so that each point stays on its pixel and at its depth.

        Args:
            frames: [T] int, decoded frames of the video.
            body: the surface, or the body model of the parameters.
            camera: of `camera`.
        """
        tracks = []
        here = np.isin(self.frame, frames)
        for person in np.unique(self.person[here]).tolist():
            own = np.flatnonzero(here & (self.person == person))
            order = own[np.argsort(self.frame[own])]
            at = np.searchsorted(self.frame[order], frames).clip(max=len(order) - 1)
            present = self.frame[order][at] == frames
            vertices, pose = self._posed(order[at], body)
            vertices[~present] = np.nan
            unknown = np.full(len(frames), np.nan)
            stretch, shift = self._shear(camera)
            sheared = vertices
            if not (np.allclose(stretch, 1, atol=1e-6) and np.allclose(shift, 0, atol=1e-6)):
                sheared = vertices.copy()
                sheared[..., :2] = vertices[..., :2] * stretch + vertices[..., 2:] * shift
            # Sizes are rounded to whole pixels; a body that is sheared by more is none of the model's any more.
            slight = (
                abs(stretch - 1).max() <= SLIGHT_STRETCH and abs(shift).max() * camera.focal <= SLIGHT_SHIFT
            )
            tracks.append(
                MeshTrack(person, sheared, present, unknown, unknown.copy(), pose if slight else None)
            )
            here_at = np.diff(np.flatnonzero(present))
            if len(here_at) and np.median(here_at) > 1:
                logger.warning(
                    "%s: meshes of person %d are %d frames apart, but labels need neighboring frames: label at the "
                    "rate of the meshes (--fps)",
                    *(self.path, person, int(np.median(here_at))),
                )
        return tracks

    def _posed(self, rows: np.ndarray, body: Body | MeshSurface) -> tuple[np.ndarray, BodyPose | None]:
        if self.vertices is not None:
            return self.vertices[rows].astype(np.float32), None
        assert self.parameters is not None
        assert isinstance(body, Body)
        given = self.parameters
        pose = BodyPose.of_local(body, given.rotations[rows], given.shape[rows], given.translation[rows])
        return body.pose_vertices(pose), pose

    def _shear(self, camera: Camera) -> tuple[np.ndarray, np.ndarray]:
        """[2] each: x and y are multiplied by the first, and depth, multiplied by the second, is added."""
        scale = np.array([camera.width / self.size[1], camera.height / self.size[0]])
        stretch = self.focal * scale / camera.focal
        return stretch, (self.principal_point * scale - camera.center) / camera.focal


def whose_masks(meshes: list[MeshTrack], people: list[PersonTrack], camera: Camera) -> list[PersonTrack]:
    """The people found in the pictures, in the places that meshes give them: entry p is person p of the meshes, with
    an empty mask if nobody found looks like it; those without a mesh come after."""
    masks = masks_of(people)
    everyone = (
        anyone(people) if people else np.zeros((len(meshes[0].present), camera.height, camera.width), bool)
    )
    frames = np.linspace(0, len(everyone) - 1, min(len(everyone), MATCHED_FRAMES)).astype(int)
    overlap = np.zeros((len(meshes), len(people)))
    for row, mesh in enumerate(meshes):
        xy = camera.project(mesh.vertices[frames])
        for column, mask in enumerate(masks):
            found = mask_overlap(xy, mask[frames], (everyone & ~mask)[frames])
            found = found[mesh.present[frames] & np.isfinite(found)]
            overlap[row, column] = found.mean() if len(found) else 0.0
    rows, columns = linear_sum_assignment(-overlap)
    owner = {
        meshes[row].person: int(column)
        for row, column in zip(rows, columns, strict=True)
        if overlap[row, column] >= SAME_PERSON
    }
    lost = [mesh.person for mesh in meshes if mesh.person not in owner]
    if lost:
        logger.warning(
            "nobody who was found in the pictures looks like the meshes of person %s: their labels are refused "
            "(filter.masks: false believes meshes alone)",
            ", ".join(map(str, lost)),
        )
    last = max(mesh.person for mesh in meshes)
    nobody = PersonTrack(np.full((len(everyone), 4), np.nan, np.float32), mask=np.zeros_like(everyone))
    others = [person for column, person in enumerate(people) if column not in owner.values()]
    return [people[owner[p]] if p in owner else nobody for p in range(last + 1)] + others


def read_meshes(path: str | os.PathLike[str]) -> MeshFile:
    """Reads and checks a file of meshes.

    Raises:
        MeshFileError: naming the file and what is wrong with it.
        OSError: if it can't be read.
    """
    path = Path(path)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError as error:
        raise MeshFileError(f"{path}: no such file of meshes") from error
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise MeshFileError(f"{path}: no .npz of plain arrays ({' '.join(str(error).split())})") from error
    return _Reader(path, arrays).read()


class _Reader:
    """Checks arrays on their way out of a file."""

    def __init__(self, path: Path, arrays: dict[str, np.ndarray]) -> None:
        self.path, self.arrays = path, arrays

    def wrong(self, what: str) -> MeshFileError:
        return MeshFileError(
            f"{self.path}: {what} (the format: python -m pydoc anthrotap_builder.mesh_recovery.mesh_file)"
        )

    def array(self, name: str, shapes: list[tuple[int | None, ...]], whole: bool = False) -> np.ndarray:
        if name not in self.arrays:
            raise self.wrong(f"{name} is missing")
        value = self.arrays[name]
        fits = any(
            len(shape) == value.ndim
            and all(want in (None, side) for want, side in zip(shape, value.shape, strict=True))
            for shape in shapes
        )
        if not fits:
            wanted = " or ".join(str([side or "any" for side in shape]) for shape in shapes)
            raise self.wrong(f"{name} must be {wanted}, got {list(value.shape)}")
        if value.dtype.kind not in ("iu" if whole else "iuf"):
            raise self.wrong(f"{name} must be {'whole ' if whole else ''}numbers, got {value.dtype}")
        if not np.isfinite(value).all():
            raise self.wrong(f"{name} holds numbers that are not finite; leave meshes without a place out")
        return value.astype(np.int64) if whole else value

    def read(self) -> MeshFile:
        frame = self.array("frame", [(None,)], whole=True)
        count = len(frame)
        person = self.array("person", [(count,)], whole=True)
        if not count:
            raise self.wrong("there is no mesh in it")
        if frame.min() < 0 or person.min() < 0 or person.max() >= MOST_PEOPLE:
            raise self.wrong(f"frame must be from 0 up and person from 0 to {MOST_PEOPLE - 1}")
        if len(np.unique(frame * MOST_PEOPLE + person)) != count:
            raise self.wrong("one person has two meshes in one frame")
        height, width = (int(side) for side in self.array("size", [(2,)], whole=True))
        focal = np.broadcast_to(self.array("focal", [(), (2,)]).astype(np.float64), 2)
        if min(height, width) < 1 or not (focal > 0).all():
            raise self.wrong("size and focal must be positive")
        principal = np.array([width / 2, height / 2])
        if "principal_point" in self.arrays:
            principal = self.array("principal_point", [(2,)]).astype(np.float64)
        body = "mesh"
        if "body" in self.arrays:
            body = str(self.arrays["body"])
            if body not in BODIES:
                raise self.wrong(f"there is no body model {body!r}; there are {', '.join(BODIES)}")
        vertices = faces = parameters = None
        if "vertices" in self.arrays:
            vertices = self.array("vertices", [(count, None, 3)])
            if body == "mesh":
                faces = self.array("faces", [(None, 3)], whole=True).astype(np.int32)
                if not len(faces) or faces.min() < 0 or faces.max() >= vertices.shape[1]:
                    raise self.wrong(f"faces must name vertices from 0 to {vertices.shape[1] - 1}")
        elif body == "mesh":
            raise self.wrong("it has neither vertices nor the name of a body and its parameters")
        else:
            parameters = self._parameters(count)
        return MeshFile(
            self.path, frame, person, (height, width), focal, principal, body, vertices, faces, parameters
        )

    def _parameters(self, count: int) -> BodyParameters:
        flat = self.arrays.get("body_pose")
        if flat is not None and flat.ndim == 2 and flat.shape[1] % 3 == 0:
            self.arrays["body_pose"] = flat.reshape(len(flat), -1, 3)
        root = self._rotations("global_orient", [(count, 3), (count, 3, 3)])
        rest = self._rotations("body_pose", [(count, None, 3), (count, None, 3, 3)])
        shape = self.array("betas", [(None,), (count, None)]).astype(np.float64)
        used = np.flatnonzero(shape.reshape(-1, shape.shape[-1]).any(0))
        shape = shape[..., : used[-1] + 1 if len(used) else 1]
        return BodyParameters(
            np.concatenate([root[:, None], rest], axis=1),
            np.broadcast_to(shape, (count, shape.shape[-1])),
            self.array("translation", [(count, 3)]).astype(np.float64),
        )

    def _rotations(self, name: str, shapes: list[tuple[int | None, ...]]) -> np.ndarray:
        value = self.array(name, shapes).astype(np.float64)
        if value.ndim == len(shapes[0]):
            return Rotation.from_rotvec(value.reshape(-1, 3)).as_matrix().reshape(*value.shape, 3)
        if not np.allclose(value @ value.swapaxes(-1, -2), np.eye(3), atol=1e-3):
            raise self.wrong(f"{name} holds matrices that are no rotations")
        if (np.linalg.det(value) < 0).any():
            raise self.wrong(
                f"{name} holds rotations that mirror: turn axes by rotating, not by changing one's sign"
            )
        return value


class MeshWriter:
    """Writes meshes of a video to a file that `read_meshes` reads; it gets its name once it is whole.

    Args:
        path: the file.
        body: whose meshes they are.

    Vertices wait in a file without a name, so memory does not grow with the video.
    """

    def __init__(self, path: Path, body: Body | MeshSurface) -> None:
        self.path, self.body = path, body
        self._frame: list[np.ndarray] = []
        self._person: list[np.ndarray] = []
        self._camera: Camera | None = None
        self._vertices = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115

    def add(self, frames: np.ndarray, meshes: Iterable[MeshTrack], camera: Camera) -> None:
        """Adds a clip's meshes where they are present.

        Args:
            frames: [T] int, decoded frames of the video.
            meshes: of everyone.
            camera: of the clip, the same for all clips.

        Raises:
            ValueError: if the camera is another than the clips' before.
        """
        if self._camera not in (None, camera):
            raise ValueError(f"{self.path}: one file, one camera: {self._camera} before, now {camera}")
        self._camera = camera
        for mesh in meshes:
            # Where a frame stands twice in a clip (a slow video resampled), once is enough.
            times = np.flatnonzero(mesh.present)
            times = times[np.unique(frames[times], return_index=True)[1]]
            self._frame.append(frames[times])
            self._person.append(np.full(len(times), mesh.person))
            self._vertices.write(np.ascontiguousarray(mesh.vertices[times], np.float32).tobytes())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._write()
        self._vertices.close()

    def _write(self) -> None:
        """Without any mesh there is no file."""
        count = sum(map(len, self._frame))
        if not count or self._camera is None:
            return
        arrays: dict[str, Any] = {
            "frame": np.concatenate(self._frame).astype(np.int64),
            "person": np.concatenate(self._person).astype(np.int64),
            "size": np.array([self._camera.height, self._camera.width]),
            "focal": np.array(self._camera.focal),
        }
        arrays |= (
            {"faces": self.body.faces} if self.body.name == "mesh" else {"body": np.array(self.body.name)}
        )
        with atomic_write(self.path) as tmp_path:
            np.savez(tmp_path, **arrays)
            with (
                zipfile.ZipFile(tmp_path, "a") as archive,
                archive.open("vertices.npy", "w", force_zip64=True) as out,
            ):
                shape = (count, len(self.body.template), 3)
                np.lib.format.write_array_header_2_0(
                    out, {"descr": "<f4", "fortran_order": False, "shape": shape}
                )
                self._vertices.seek(0)
                while block := self._vertices.read(1 << 22):
                    out.write(block)
