"""Made-up MOVi-E: two boxes that move before a wall, ray-cast under a panning camera, written as TFRecord."""

from __future__ import annotations

import struct
from pathlib import Path

import cv2
import numpy as np

T, SIZE, FOCAL, SENSOR = 8, 64, 35.0, 32.0
NEAREST, FARTHEST = 1.0, 20.0
WALL = 4.0  # its y
SIDES = np.array([[1.6, 1.2, 1.8], [1.0, 2.0, 1.0]])
CORNERS = np.array([(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])


def rotation(axis: tuple[float, float, float], angle: float) -> tuple[np.ndarray, np.ndarray]:
    """The quaternion [4], w first, and the matrix [3, 3] of a turn."""
    axis_ = np.array(axis) / np.linalg.norm(axis)
    matrix, _ = cv2.Rodrigues(axis_ * angle)
    return np.r_[np.cos(angle / 2), np.sin(angle / 2) * axis_], matrix


class Scene:
    def __init__(self) -> None:
        steps = np.arange(T)
        # looking along +y: the camera's -z, after a quarter turn about x
        turns = [rotation((1, 0, 0), np.pi / 2), *(rotation((0, 0, 1), 0.05 * (t - 3)) for t in steps)]
        quarter = turns[0][0]
        self.camera_quaternions = np.stack([product(turn[0], quarter) for turn in turns[1:]])
        self.camera_rotations = np.stack([turn[1] @ turns[0][1] for turn in turns[1:]])
        self.camera_positions = np.stack([0.1 * steps - 0.3, -6 + 0 * steps, 0.2 * np.sin(steps)], 1)
        self.positions = np.stack(
            [
                np.stack([-1.5 + 0.4 * steps, 0 * steps, 0.1 * steps - 0.2], 1),
                np.stack([0.8 + 0 * steps, 2 + 0 * steps, 0.1 * steps], 1),
            ]
        )
        found = [
            [rotation((0.2, 0.3, 1), 0.2 * t) for t in steps],
            [rotation((1, 0.1, 0.2), 0.1 * t) for t in steps],
        ]
        self.quaternions = np.stack([np.stack([each[0] for each in one]) for one in found])
        self.rotations = np.stack([np.stack([each[1] for each in one]) for one in found])

    def rays(self, t: int, xy: np.ndarray) -> np.ndarray:
        """[K, 3] directions of length 1 through raster pixels [K, 2]."""
        focal = FOCAL / SENSOR * SIZE
        x, y = (xy - SIZE / 2).T / focal
        rays = np.stack([x, -y, -np.ones_like(x)], 1) @ self.camera_rotations[t].T
        return rays / np.linalg.norm(rays, axis=1, keepdims=True)

    def cast(self, t: int, rays: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Distance [K], owner [K], position in the owner's box or world [K, 3], normal [K, 3] of what rays meet."""
        origin = self.camera_positions[t]
        distance = (WALL - origin[1]) / rays[:, 1]
        owner = np.zeros(len(rays), int)
        position = origin + rays * distance[:, None]
        normal = np.tile([0.0, -1, 0], (len(rays), 1))
        for number, sides in enumerate(SIDES):
            turn = self.rotations[number, t]
            start = (origin - self.positions[number, t]) @ turn / sides
            local = rays @ turn / sides
            with np.errstate(divide="ignore"):
                ends = np.stack([(-0.5 - start) / local, (0.5 - start) / local])
            enter, leave = ends.min(0).max(1), ends.max(0).min(1)
            hit = (enter < leave) & (enter > 0) & (enter < distance)
            axis = ends.min(0).argmax(1)
            distance = np.where(hit, enter, distance)
            owner[hit] = number + 1
            position[hit] = (start + local * enter[:, None])[hit]
            outwards = -np.sign(local[np.arange(len(rays)), axis])[:, None] * np.eye(3)[axis]
            normal[hit] = (outwards @ turn.T)[hit]
        return distance, owner, position, normal

    def follow(self, owner: int, position: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where a surface point is in each frame, [T, 2] raster pixels, and whether it is visible, [T]."""
        xy, visible = np.empty((T, 2)), np.empty(T, bool)
        for t in range(T):
            world = position
            if owner:
                world = self.rotations[owner - 1, t] @ (position * SIDES[owner - 1]) + self.positions[owner - 1, t]
            local = self.camera_rotations[t].T @ (world - self.camera_positions[t])
            xy[t] = SIZE / 2 + FOCAL / SENSOR * SIZE * local[:2] / -local[2] * (1, -1)
            way = world - self.camera_positions[t]
            length = np.linalg.norm(way)
            met, _, _, _ = self.cast(t, way[None] / length)
            visible[t] = (met[0] > length - 1e-6) & (xy[t] >= 0).all() & (xy[t] < SIZE).all()
        return xy, visible

    def features(self) -> dict[str, list[bytes] | np.ndarray]:
        pictures: dict[str, list[bytes]] = {
            name: [] for name in ("video", "segmentations", "depth", "normal", "object_coordinates")
        }
        pixels = np.stack(np.meshgrid(np.arange(SIZE), np.arange(SIZE)), -1).reshape(-1, 2) + 0.5
        for t in range(T):
            distance, owner, position, normal = self.cast(t, self.rays(t, pixels))
            depth = (distance - NEAREST) / (FARTHEST - NEAREST) * 65535
            colors = np.where(owner[:, None] == 0, 0.5 + position / 20, 0.5 + position)
            for name, image in {
                "video": np.clip(colors * 255, 0, 255).astype(np.uint8),
                "segmentations": owner.astype(np.uint8)[:, None],
                "depth": np.round(depth).astype(np.uint16)[:, None],
                "normal": np.round((normal + 1) / 2 * 65535).astype(np.uint16),
                "object_coordinates": np.round(np.clip(position + 0.5, 0, 1) * 65535).astype(np.uint16),
            }.items():
                image = image.reshape(SIZE, SIZE, -1)
                pictures[name].append(cv2.imencode(".png", image[..., ::-1])[1].tobytes())
        boxes = np.einsum("ntij,nkj->ntki", self.rotations, CORNERS * SIDES[:, None])
        boxes = boxes + self.positions[:, :, None]
        return {
            **pictures,
            "metadata/video_name": [b"made up"],
            "metadata/num_frames": np.array([T]),
            "metadata/depth_range": np.array([NEAREST, FARTHEST]),
            "camera/focal_length": np.array([FOCAL]),
            "camera/sensor_width": np.array([SENSOR]),
            "camera/positions": self.camera_positions,
            "camera/quaternions": self.camera_quaternions,
            "instances/bboxes_3d": boxes,
            "instances/quaternions": self.quaternions,
            "forward_flow": np.arange(5000),
        }


def product(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    w, x, y, z = one
    return np.array([[w, -x, -y, -z], [x, w, -z, y], [y, z, w, -x], [z, -y, x, w]]) @ other


# TFRecord, bit by bit


def crc32c(data: bytes) -> int:
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (0x82F63B78 if remainder & 1 else 0)
    return remainder ^ 0xFFFFFFFF


def masked(data: bytes) -> bytes:
    checksum = crc32c(data)
    return struct.pack("<I", ((checksum >> 15 | checksum << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def record(data: bytes) -> bytes:
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def varint(value: int) -> bytes:
    value &= (1 << 64) - 1
    digits = []
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def example(features: dict[str, list[bytes] | np.ndarray]) -> bytes:
    entries = b""
    for name, value in features.items():
        if isinstance(value, list):
            feature = field(1, b"".join(field(1, each) for each in value))
        elif value.dtype.kind == "f":
            feature = field(2, field(1, value.astype("<f4").tobytes()))
        else:
            feature = field(3, field(1, b"".join(varint(int(each)) for each in value)))
        entries += field(1, field(1, name.encode()) + field(2, feature))
    return field(1, entries)


def write_movi(path: Path, *scenes: dict[str, list[bytes] | np.ndarray]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(record(example(features)) for features in scenes))
    return path
