"""Body model files of the SMPL family's layout, made up: a plain person of the right size, random shapes.

The real files are licensed and cannot be had in a test. These have their keys, shapes, joint tree and axes (x to the
left, y up, z forward, meters, T-pose), a closed mesh of one piece that looks like a person from afar, joints in it, and
smooth random shape and pose blend shapes. With the real numbers of vertices, those that serve as landmarks (nose, ears,
heels, ...) lie where they should.
"""

from __future__ import annotations

import pickle
from functools import lru_cache
from pathlib import Path

import numpy as np
import scipy.sparse

from anthrotap_builder.bodies.smpl import LANDMARKS, joint_names, landmark_vertices
from anthrotap_builder.bodies.smpl_files import MODELS

# Number of joints and of vertices of the published models; an animal of our own; and as few vertices as make a person.
JOINTS = {"smpl": 24, "smplh": 52, "smplx": 55, "smal": 33}
REAL = {"smpl": 6890, "smplh": 6890, "smplx": 10475}
SMALL = 900

# Joints of the left half and the middle; those of the right half mirror them.
POSITIONS = {
    "pelvis": (0, 0.95, 0), "hip": (0.07, 0.87, 0), "spine1": (0, 1.06, 0), "knee": (0.1, 0.49, 0.01),
    "spine2": (0, 1.19, 0), "ankle": (0.11, 0.09, -0.02), "spine3": (0, 1.26, 0), "foot": (0.12, 0.04, 0.1),
    "neck": (0, 1.46, 0), "collar": (0.08, 1.37, 0), "head": (0, 1.54, 0.01), "shoulder": (0.18, 1.4, 0),
    "elbow": (0.44, 1.39, -0.01), "wrist": (0.7, 1.39, 0), "hand": (0.78, 1.39, 0), "jaw": (0, 1.57, 0.03),
    "eye": (0.03, 1.63, 0.07),
}  # fmt: skip
# How far to the front the fingers are.
FINGERS = {"index": 0.03, "middle": 0.01, "ring": -0.01, "pinky": -0.03, "thumb": 0.05}
PARENTS = (-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19)
# Capsules that the skin is drawn around: ends and radius; the right half mirrors them.
CAPSULES = (
    ((0, 0.95, 0), (0, 1.3, 0), 0.13), ((0, 1.3, 0), (0, 1.5, 0), 0.07), ((0, 1.56, 0.02), (0, 1.63, 0.02), 0.09),
    ((0, 1.59, 0.1), (0, 1.58, 0.125), 0.02), ((0.05, 1.33, 0), (0.18, 1.4, 0), 0.07),
    ((0.18, 1.4, 0), (0.44, 1.39, 0), 0.05), ((0.44, 1.39, 0), (0.7, 1.39, 0), 0.04),
    ((0.7, 1.39, 0), (0.86, 1.39, 0), 0.04), ((0.08, 0.87, 0), (0.1, 0.49, 0.01), 0.075),
    ((0.1, 0.49, 0.01), (0.11, 0.08, -0.02), 0.055), ((0.11, 0.04, -0.04), (0.13, 0.03, 0.15), 0.04),
)  # fmt: skip
# Where the vertices that serve as landmarks lie, by BlazePose's number.
LANDMARK_POSITIONS = {
    0: (0, 1.58, 0.15), 2: (0.035, 1.62, 0.1), 5: (-0.035, 1.62, 0.1), 7: (0.1, 1.6, 0.02), 8: (-0.1, 1.6, 0.02),
    29: (0.11, 0.03, -0.09), 30: (-0.11, 0.03, -0.09), 31: (0.12, 0.03, 0.19), 32: (-0.12, 0.03, 0.19),
}  # fmt: skip


def write_smpl(path: Path, vertices: int = 1500, joints: int = 24, seed: int = 0, shapes: int = 10) -> Path:
    """Writes a model file and returns its path.

    Args:
        path: ends in .npz, or in .pkl for a pickle with a sparse joint regressor, as they are published.
        vertices: at least 900; 6890 (SMPL, SMPL-H) and 10475 (SMPL-X) have landmarks; there are 2 V - 4 triangles.
        joints: 24 (SMPL), 52 (SMPL-H), 55 (SMPL-X); any other number from 25 on grows a tail, for animals.
        seed: of the blend shapes.
        shapes: shape coefficients.
    """
    arrays = smpl_arrays(vertices, joints, seed, shapes)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npz":
        np.savez(path, allow_pickle=False, **arrays)
    else:
        content = {
            **arrays,
            "J_regressor": scipy.sparse.csc_matrix(arrays["J_regressor"]),
            "bs_type": "lrotmin",
        }
        path.write_bytes(pickle.dumps(content, protocol=2))
    return path


def smpl_arrays(vertices: int = 1500, joints: int = 24, seed: int = 0, shapes: int = 10) -> dict[str, np.ndarray]:
    """The arrays of a model file by key; see `write_smpl`."""
    rng = np.random.default_rng(seed)
    parents = smpl_parents(joints)
    positions = joint_positions(joints)
    template, faces = person_mesh(vertices)
    weights = _skinning_weights(template, positions, parents)
    regressor = np.stack([_regressor(template, position) for position in positions])
    growth = template - [0, 0.95, 0]  # the first shape coefficient: taller; the second: stouter
    stout = (template - weights @ positions) * [1, 0.3, 1]
    waves = rng.normal(0, 4, (shapes, 3, 3)), rng.uniform(0, 6, (shapes, 3))
    shapedirs = 0.006 * np.sin(np.einsum("vx,sxc->vcs", template, waves[0]) + waves[1].T)
    shapedirs[..., 0] = 0.03 * growth
    shapedirs[..., 1:2] = 0.1 * stout[..., None]
    bends = rng.normal(0, 0.004, (joints - 1, 9, 3))
    posedirs = np.einsum("vj,jpc->vcjp", weights[:, 1:], bends).reshape(vertices, 3, -1)
    kintree = np.stack([parents, np.arange(joints)]).astype(np.uint32)  # the root's parent: 2^32 - 1
    return {
        "v_template": template,
        "shapedirs": shapedirs,
        "posedirs": posedirs,
        "J_regressor": regressor,
        "weights": weights,
        "f": faces.astype(np.uint32),
        "kintree_table": kintree,
    }


def smpl_parents(joints: int) -> np.ndarray:
    """[J] int64: the parents of SMPL's, SMPL-H's or SMPL-X's joints; of any other number, with a tail."""
    body = list(PARENTS)
    if joints == 24:
        body += [20, 21]
    elif joints in (52, 55):
        body += [15, 15, 15] if joints == 55 else []
        for wrist in (20, 21):
            for _ in range(5):
                first = len(body)
                body += [wrist, first, first + 1]
    else:
        body += [20, 21, 0, *range(24, joints - 1)]
    return np.array(body[:joints])


def joint_positions(joints: int) -> np.ndarray:
    """[J, 3] float64, meters."""
    name = next((name for name, model in MODELS.items() if model.num_joints == joints), None)
    if name is None:
        tail = [(0, 0.95, -0.1 - 0.03 * step) for step in range(joints - 24)]
        return np.concatenate([joint_positions(24), np.reshape(tail, (-1, 3))])
    positions = []
    for joint in joint_names(name):
        side, _, part = joint.rpartition("_")
        if part[:-1] in FINGERS:
            position = (0.76 + 0.03 * (int(part[-1]) - 1), 1.39, FINGERS[part[:-1]])
        else:
            position = POSITIONS[part]
        positions.append(np.multiply(position, (-1 if side == "right" else 1, 1, 1)))
    return np.array(positions, np.float64)


@lru_cache(maxsize=8)
def person_mesh(vertices: int) -> tuple[np.ndarray, np.ndarray]:
    """A closed mesh around the capsules, wound outwards: [V, 3] float64 and [2 V - 4, 3] int64."""
    from skimage.measure import marching_cubes

    low, high = np.array([-0.95, -0.05, -0.2]), np.array([0.95, 1.8, 0.28])
    step = np.sqrt(2.6 / vertices)
    while True:
        grid = np.stack(
            np.meshgrid(*(np.arange(a, b, step) for a, b in zip(low, high, strict=True)), indexing="ij"), -1
        )
        points, faces, _, _ = marching_cubes(_distance(grid), 0, spacing=(step,) * 3, gradient_direction="descent")
        if len(points) <= vertices:
            break
        step *= 1.03
    points, faces = points.astype(np.float64) + low, faces.astype(np.int64)
    while len(points) < vertices:  # a vertex more in each of the largest triangles
        a, b, c = points[faces].swapaxes(0, 1)
        area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
        split = np.argsort(-area, kind="stable")[: vertices - len(points)]
        new = len(points) + np.arange(len(split))
        points = np.concatenate([points, points[faces[split]].mean(1)])
        corners = faces[split]
        faces[split] = np.stack([corners[:, 0], corners[:, 1], new], 1)
        faces = np.concatenate(
            [
                faces,
                np.stack([corners[:, 1], corners[:, 2], new], 1),
                np.stack([corners[:, 2], corners[:, 0], new], 1),
            ]
        )
    assert len(faces) == 2 * vertices - 4, "the person fell apart: too few vertices"
    for name, model in MODELS.items():
        if model.num_vertices == vertices:
            _put_landmarks(points, faces, landmark_vertices(name))
            break
    return points, faces


def _distance(points: np.ndarray) -> np.ndarray:
    """Signed distance, meters, of points [..., 3] to the skin; negative inside."""
    out = np.full(points.shape[:-1], np.inf)
    for start, end, radius in CAPSULES:
        for side in (1, -1):
            a, b = np.multiply(start, (side, 1, 1)), np.multiply(end, (side, 1, 1))
            along = np.clip((points - a) @ (b - a) / max((b - a) @ (b - a), 1e-12), 0, 1)
            out = np.minimum(out, np.linalg.norm(points - a - along[..., None] * (b - a), axis=-1) - radius)
    return out + 1e-6  # never exactly on a grid point


def _put_landmarks(points: np.ndarray, faces: np.ndarray, landmarks: dict[str, int]) -> None:
    """Renumber vertices, in position, so that each landmark's number is that of the vertex nearest to its position."""
    number = np.arange(len(points))
    for name, vertex in landmarks.items():
        position = LANDMARK_POSITIONS[LANDMARKS[name][0]]
        nearest = int(np.linalg.norm(points - position, axis=1).argmin())
        points[[vertex, nearest]] = points[[nearest, vertex]]
        swapped = number.copy()
        swapped[number == vertex], swapped[number == nearest] = nearest, vertex
        number = swapped
    faces[:] = number[faces]


def _skinning_weights(template: np.ndarray, positions: np.ndarray, parents: np.ndarray) -> np.ndarray:
    """[V, J]: each joint carries what is near the bones from it to its children, blended within centimeters."""
    distance = np.linalg.norm(template[:, None] - positions, axis=-1) + 0.03
    for child, parent in enumerate(parents):
        if parent >= 0:
            a, b = positions[parent], positions[child]
            along = np.clip((template - a) @ (b - a) / max((b - a) @ (b - a), 1e-12), 0, 1)
            near = np.linalg.norm(template - a - along[:, None] * (b - a), axis=1)
            distance[:, parent] = np.minimum(distance[:, parent], near)
    weights = np.exp(-(distance - distance.min(1, keepdims=True)) / 0.015)
    weights[weights < 0.01] = 0
    return weights / weights.sum(1, keepdims=True)


def _regressor(template: np.ndarray, position: np.ndarray) -> np.ndarray:
    """[V]: weights of the vertices around a joint, which sum to one and whose mean is the joint."""
    near = np.argsort(np.linalg.norm(template - position, axis=1))[:40]
    row = np.zeros(len(template))
    basis = np.concatenate([template[near].T, np.ones((1, len(near)))])
    row[near] = np.linalg.lstsq(basis, np.append(position, 1), rcond=None)[0]
    return row
