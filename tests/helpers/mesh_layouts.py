"""Files of meshes in the layouts of other programs, written from their published code: see each format's module."""

from __future__ import annotations

import io
import pickle
import zlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.spatial.transform import Rotation


class NumpyArrayWrapper:
    """Stands for joblib's class of that name, which the pickle names."""

    __module__ = "joblib.numpy_pickle"

    def __init__(self, array: np.ndarray, order: str) -> None:
        self.subclass, self.shape, self.order, self.dtype = np.ndarray, array.shape, order, array.dtype
        self.allow_mmap, self.numpy_array_alignment_bytes = False, 16


class _JoblibPickler(pickle._Pickler):
    """Writes joblib's layout: a wrapper in the place of each array, padding and the numbers behind it."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=4)
        self.file = file

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if type(obj) is not np.ndarray:
            return super().save(obj, save_persistent_id)
        order = "F" if obj.flags.f_contiguous and not obj.flags.c_contiguous else "C"
        super().save(NumpyArrayWrapper(obj, order))
        self.framer.commit_frame(force=True)
        padding = 16 - (self.file.tell() + 1) % 16
        self.file.write(bytes([padding]) + b"\xff" * padding + obj.tobytes(order))
        return None

    def save_global(self, obj: Any, name: str | None = None) -> None:
        if obj is NumpyArrayWrapper:
            # As pickle's protocol 4 names a class of another module.
            for text in ("joblib.numpy_pickle", "NumpyArrayWrapper"):
                super().save(text)
            self.write(pickle.STACK_GLOBAL)
            self.memoize(obj)
        else:
            super().save_global(obj, name)

    dispatch = {**pickle._Pickler.dispatch, type: save_global}  # noqa: RUF012


def write_joblib(path: Path, content: Any, compress: bool = False) -> Path:
    """Writes as `joblib.dump(content, path, compress=3)` or `compress=0` does."""
    file = io.BytesIO()
    _JoblibPickler(file).dump(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(zlib.compress(file.getvalue(), 3) if compress else file.getvalue())
    return path


@dataclass(frozen=True)
class Person:
    """A body over frames: SMPL's parameters, the root's rotation to the camera, meters.

    Attributes:
        frames: [N] int.
        turns: [N, J, 3] axis-angle vectors.
        betas: [10].
        translation: [N, 3].
    """

    frames: np.ndarray
    turns: np.ndarray
    betas: np.ndarray
    translation: np.ndarray

    @property
    def matrices(self) -> np.ndarray:
        return Rotation.from_rotvec(self.turns.reshape(-1, 3)).as_matrix().reshape(*self.turns.shape, 3)


def make_person(joints: int, frames: np.ndarray, x: float, depth: float = 4.0, seed: int = 0) -> Person:
    """A person of SMPL's axes who stands upright before the camera, sways, and walks to the right."""
    rng = np.random.default_rng(seed)
    time = frames[:, None] / 10
    turns = 0.15 * rng.normal(size=(1, joints, 3)) * np.sin(time[..., None] + rng.uniform(0, 6, (1, joints, 1)))
    # y of SMPL's axes points up, the camera's down: half a turn about x, and a little about the body's own axis.
    root = Rotation.from_euler("x", np.pi) * Rotation.from_rotvec(0.3 * time * [0, 1, 0])
    turns[:, 0] = root.as_rotvec()
    place = np.concatenate([x + 0.02 * time, 0.9 + 0 * time, depth + 0.05 * time], axis=1)
    return Person(frames, turns, rng.normal(0, 0.5, 10), place)


def write_phalp(path: Path, people: dict[int, Person], size: tuple[int, int], num_frames: int) -> Path:
    """`size`: height and width. Each person is repeated once, as a prediction, in the frame after the last one."""
    content: dict[str, Any] = {}
    for frame in range(num_frames):
        lists: dict[str, list[Any]] = {name: [] for name in ("tid", "tracked_time", "size", "smpl", "camera")}
        lists |= {"tracked_ids": [], "camera_bbox": [], "conf": [], "mask": []}
        for number, person in people.items():
            seen = np.flatnonzero(person.frames <= frame)
            if not len(seen) or frame > person.frames[-1] + 1:
                continue
            row, missed = seen[-1], int(frame - person.frames[seen[-1]])
            matrices = person.matrices[row].astype(np.float32)
            lists["tid"].append(number)
            lists["tracked_time"].append(missed)
            lists["size"].append(list(size))
            betas = person.betas.astype(np.float32)
            lists["smpl"].append({"global_orient": matrices[:1], "body_pose": matrices[1:], "betas": betas})
            lists["camera"].append(person.translation[row].astype(np.float32))
            lists["camera_bbox"].append(np.ones(3, np.float32))
            lists["conf"].append(np.float32(0.9))
            lists["mask"].append([{"size": list(size), "counts": "abc"}])
            if not missed:
                lists["tracked_ids"].append(number)
        name = f"outputs/_DEMO/dance/img/{frame + 1:06d}.jpg"
        content[name] = {"time": frame, "shot": 0, "frame_path": name, **lists}
    return write_joblib(path, content, compress=True)


def write_wham(path: Path, people: dict[int, Person]) -> Path:
    content: Any = defaultdict(dict)
    for number, person in people.items():
        count = len(person.frames)
        content[np.int64(number)] |= {
            "pose": person.turns.reshape(count, 72).astype(np.float32),
            "trans": person.translation.astype(np.float32),
            "pose_world": np.zeros((count, 72), np.float32),
            "trans_world": np.zeros((count, 3), np.float32),
            "betas": np.tile(person.betas, (count, 1)).astype(np.float32),
            "verts": np.zeros((count, 10, 3), np.float32),
            "frame_ids": person.frames,
        }
    return write_joblib(path, content)


def write_gvhmr(path: Path, person: Person, size: tuple[int, int]) -> Path:
    count, focal = len(person.frames), float(np.hypot(*size))
    matrix = torch.tensor([[focal, 0, size[1] / 2], [0, focal, size[0] / 2], [0, 0, 1]])
    parameters = {
        "body_pose": torch.from_numpy(person.turns[:, 1:22].reshape(count, 63)).float(),
        "betas": torch.from_numpy(np.tile(person.betas, (count, 1))).float(),
        "global_orient": torch.from_numpy(person.turns[:, 0]).float(),
        "transl": torch.from_numpy(person.translation).float(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = {"smpl_params_incam": parameters, "smpl_params_global": parameters, "K_fullimg": matrix.repeat(count, 1, 1)}
    torch.save(whole | {"net_outputs": {"static_conf_logits": torch.zeros(1, count, 6)}}, path)
    return path


def write_amass(path: Path, person: Person, matrix: np.ndarray, motion: np.ndarray, rate: float, every: int) -> Path:
    """A world of which `motion` [4, 4] leads to the camera. Each sample is written `every` times."""
    inverse = np.linalg.inv(motion)
    turns = person.turns.copy()
    turns[:, 0] = (Rotation.from_matrix(inverse[:3, :3]) * Rotation.from_rotvec(turns[:, 0])).as_rotvec()
    # About where the made-up bodies' root is at rest.
    root = np.array([0, 0.95, 0])
    place = (person.translation + root - motion[:3, 3]) @ motion[:3, :3] - root
    count = len(turns) * every
    np.savez(
        path,
        poses=np.repeat(turns.reshape(len(turns), -1), every, axis=0),
        trans=np.repeat(place, every, axis=0),
        betas=np.concatenate([person.betas, np.zeros(6)]),
        gender=np.array("neutral"),
        mocap_frame_rate=np.array(rate),
        cam_int=matrix,
        cam_ext=np.tile(motion, (count, 1, 1)),
    )
    return path


def write_bedlam(path: Path, people: dict[str, Person], matrix: np.ndarray, sequence: str) -> Path:
    """Bodies of a sequence, and of another one that is not wanted."""
    rows = [(name, person, row) for name, person in people.items() for row in range(len(person.frames))]
    shift = np.array([0.1, -0.2, 1.0])
    motion = np.eye(4)
    motion[:3, 3] = shift
    arrays = {
        "imgname": [f"{sequence}/{sequence}_{person.frames[row]:04d}.png" for _, person, row in rows],
        "pose_cam": [person.turns[row].reshape(-1) for _, person, row in rows],
        "trans_cam": [person.translation[row] - shift for _, person, row in rows],
        "shape": [person.betas for _, person, _ in rows],
        "cam_int": [matrix] * len(rows),
        "cam_ext": [motion] * len(rows),
        "gender": ["neutral"] * len(rows),
        "sub": [name for name, *_ in rows],
    }
    other = {name: [values[0]] for name, values in arrays.items()} | {"imgname": ["seq_9/seq_9_0000.png"]}
    objects = np.array([{"a": 1}] * (len(rows) + 1), dtype=object)
    np.savez(path, motion_info=objects, **{name: np.array(values + other[name]) for name, values in arrays.items()})
    return path


def write_obj(path: Path, vertices: np.ndarray, faces: np.ndarray) -> Path:
    """As trimesh writes it: eight digits, vertices from 1."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ["# https://github.com/mikedh/trimesh"]
    lines += [f"v {x:.8f} {y:.8f} {z:.8f}" for x, y, z in vertices]
    lines += [f"f {a}//{a} {b}//{b} {c}//{c}" for a, b, c in faces + 1]
    path.write_text("\n".join(lines))
    return path


def write_ply(path: Path, vertices: np.ndarray, faces: np.ndarray) -> Path:
    """As trimesh writes it: binary, with colors."""
    path.parent.mkdir(parents=True, exist_ok=True)
    header = (
        f"ply\nformat binary_little_endian 1.0\ncomment trimesh\nelement vertex {len(vertices)}"
        "\nproperty float x\nproperty float y\nproperty float z\nproperty uchar red\nproperty uchar green\n"
        f"property uchar blue\nproperty uchar alpha\nelement face {len(faces)}\n"
        "property list uchar int vertex_indices\nend_header\n"
    )
    rows = np.zeros(len(vertices), np.dtype([("xyz", "<f4", 3), ("rgba", "u1", 4)]))
    rows["xyz"] = vertices
    corners = np.zeros(len(faces), np.dtype([("count", "u1"), ("corners", "<i4", 3)]))
    corners["count"], corners["corners"] = 3, faces
    path.write_bytes(header.encode() + rows.tobytes() + corners.tobytes())
    return path
