"""A parametric body as arrays: a linear shape space, a tree of joints, linear blend skinning.

Any body of this kind (Anny, SMPL, SMPL-X) is the same few arrays, so mesh recovery knows arrays and no model.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from anthrotap_builder.geometry.surface import SurfacePoints, sample_surface
from anthrotap_hf.utils.atomic_files import atomic_write
from anthrotap_hf.utils.safe_npz import safe_load_npz


@dataclass(frozen=True)
class BodyPoints:
    """Points that move with a body; each is a weighted mean of points that joints carry.

    A point skinned to joints j, and likewise a regressor over many skinned vertices, is linear in the joints'
    transforms:
    X_k = sum_j G_j (moment_kj - mass_kj joint_j) + mass_kj q_j, where G_j is the joint's global rotation and q_j its
    posed position. So landmarks are posed exactly without skinning any vertex.

    Attributes:
        mass: [K, J] float64, the skinning weights; each row sums to one.
        moment: [K, J, 3] float64, mass times the carried point's rest position, meters.
        moment_directions: [S, K, J, 3] float64, change of `moment` with each shape coefficient.
    """

    mass: np.ndarray
    moment: np.ndarray
    moment_directions: np.ndarray

    def __len__(self) -> int:
        return len(self.mass)


@dataclass(frozen=True)
class PosePrior:
    """A Gaussian with soft limits over each joint's rotation, in the joint's own axes: v = axes^T w for axis-angle w.

    Attributes:
        axes: [J, 3, 3] float64, columns are the joint's axes at rest.
        mean, sigma: [J, 3] float64 radians, of v.
        lower, upper: [J, 3] float64 radians, soft limits of v.
    """

    axes: np.ndarray
    mean: np.ndarray
    sigma: np.ndarray
    lower: np.ndarray
    upper: np.ndarray


# Bodies are compared and cached by identity: their arrays are megabytes.
@dataclass(frozen=True, eq=False)
class Body:
    """A parametric body's arrays, in meters and the model's own axes; the root's rotation turns these to the camera's.

    Attributes:
        name: the body model's name, as in a dataset's `body_model`.
        template: [V, 3] float32, mean shape at rest.
        shape_directions: [S, V, 3] float32, displacement by one standard deviation of each shape coefficient.
        joints: [J, 3] float64, joint positions of the mean shape; a parent comes before its children.
        joint_directions: [S, J, 3] float64, change of `joints` with each shape coefficient.
        parents: [J] int64, -1 for the root, which is joint 0.
        weights: [V, J] float32, skinning weights; rows sum to one.
        faces: [F, 3] int32.
        outer: [F] bool, faces that can be seen from outside (not the inside of mouth and eyes).
        keypoints: the landmarks that the fit aims at; none (K = 0) where their positions are unknown, as on animals.
        keypoint_landmarks: [K] int64, which of BlazePose's 33 landmarks each keypoint is; left and right hip are
            keypoints 11 and 12, where the fit expects them.
        keypoint_weights: [K] float64, weight of each in the fit.
        prior: of the joints' rotations.
        pose_directions: [9 (J - 1), V, 3] float32, displacement of the rest shape by each entry of the local
            rotations of
            all joints but the root, less the identity, row by row (SMPL's pose blend shapes); None: there are none.
            `pose_vertices` applies them. `keypoints` and `body_points` do not: the fit moves its points by blend
            skinning alone, some millimeters off where a joint bends far.
        axes: [3, 3] float64, columns are the body's left, back and up in the model's axes.
        source: name and SHA-256 of the file that the body was read from if users bring it, else empty.
    """

    name: str
    template: np.ndarray
    shape_directions: np.ndarray
    joints: np.ndarray
    joint_directions: np.ndarray
    parents: np.ndarray
    weights: np.ndarray
    faces: np.ndarray
    outer: np.ndarray
    keypoints: BodyPoints
    keypoint_landmarks: np.ndarray
    keypoint_weights: np.ndarray
    prior: PosePrior
    pose_directions: np.ndarray | None = None
    axes: np.ndarray = field(default_factory=lambda: np.eye(3))
    source: str = ""

    @property
    def num_joints(self) -> int:
        return len(self.parents)

    @property
    def num_shapes(self) -> int:
        return len(self.shape_directions)

    def pose_vertices(self, pose: BodyPose, frames: slice | np.ndarray | None = None) -> np.ndarray:
        """Pose the mesh: shape and pose blend shapes, then linear blend skinning (Loper et al., SMPL, 2015, eq. 2 to
        10).

        Args:
            pose: over T frames.
            frames: the frames of it to pose; all when left out.

        Returns:
            [T, V, 3] float32, camera coordinates, meters.
        """
        rotations, positions = pose.rotations, pose.positions
        shape = np.broadcast_to(pose.shape, (len(rotations), self.num_shapes))
        if frames is not None:
            rotations, positions, shape = rotations[frames], positions[frames], shape[frames]
        # A joint moves a rest point x to G (x - joint) + position = G x + offset.
        joints = self.joints + np.tensordot(shape, self.joint_directions, 1)
        offsets = positions - np.einsum("tjab,tjb->tja", rotations, joints)
        transforms = np.concatenate([rotations, offsets[..., None]], axis=-1).astype(np.float32)
        pose_offsets = None
        if self.pose_directions is not None:
            local = rotations[:, self.parents[1:]].swapaxes(-1, -2) @ rotations[:, 1:] - np.eye(3)
            features = local.reshape(len(local), 9 * (self.num_joints - 1)).astype(np.float32)
            pose_offsets = np.tensordot(features, self.pose_directions, 1)
        out = np.empty((len(rotations), *self.template.shape), np.float32)
        shaped = self.template
        for t, transform in enumerate(transforms.reshape(len(rotations), self.num_joints, 12)):
            if t == 0 or (shape[t] != shape[t - 1]).any():
                shaped = self.template + np.tensordot(shape[t], self.shape_directions, 1).astype(np.float32)
            # Each vertex moves by the weighted mean of its joints' transforms.
            blended = (self.weights @ transform).reshape(-1, 3, 4)
            rest = shaped if pose_offsets is None else shaped + pose_offsets[t]
            out[t] = np.einsum("vab,vb->va", blended[..., :3], rest) + blended[..., 3]
        return out

    def surface_points(self, count: int, seed: int) -> SurfacePoints:
        """Return `count` points spread evenly over the outside of the mean body; the same for the same seed."""
        return _sample(self, count, seed)

    def body_points(self, surface: SurfacePoints) -> BodyPoints:
        """Return surface points as points that the fit can move."""
        corners = self.faces[surface.face]
        mass = self.weights[corners].astype(np.float64) * surface.barycentric[..., None]
        template = self.template[corners].astype(np.float64)
        directions = self.shape_directions[:, corners].astype(np.float64)
        return BodyPoints(
            mass=mass.sum(1),
            moment=np.einsum("kcj,kcx->kjx", mass, template),
            moment_directions=np.einsum("kcj,skcx->skjx", mass, directions),
        )

    def save(self, path: Path) -> None:
        """Write the arrays to an uncompressed `.npz`, under the names of the attributes ("prior.mean")."""
        arrays = dict(vars(self))
        for group in ("keypoints", "prior"):
            arrays |= {f"{group}.{name}": array for name, array in vars(arrays.pop(group)).items()}
        with atomic_write(path) as tmp_path:
            np.savez(tmp_path, allow_pickle=False, **{k: v for k, v in arrays.items() if v is not None})

    @classmethod
    def load(cls, path: Path) -> Body:
        """Read what `save` wrote. Raise OSError, ValueError, TypeError or KeyError for another or a damaged file."""
        arrays = safe_load_npz(path)
        groups: dict[str, dict[str, Any]] = {"": {}, "keypoints": {}, "prior": {}}
        for key, array in arrays.items():
            group, _, name = key.rpartition(".")
            groups[group][name] = array
        texts = {name: str(arrays.get(name, "")) for name in ("name", "source")}
        keypoints, prior = BodyPoints(**groups["keypoints"]), PosePrior(**groups["prior"])
        return cls(**groups[""] | texts, keypoints=keypoints, prior=prior)


@dataclass(frozen=True)
class BodyPose:
    """The pose of a body over T frames.

    Attributes:
        rotations: [T, J, 3, 3] float64, each joint's global rotation, model axes to camera axes.
        positions: [T, J, 3] float64, each joint's position in camera coordinates, meters.
        shape: [S] float64, in standard deviations; or [T, S], another in each frame.
    """

    rotations: np.ndarray
    positions: np.ndarray
    shape: np.ndarray

    def local_rotations(self, body: Body) -> np.ndarray:
        """Return [T, J, 3, 3]: the root's rotation to the camera, the others' from their parents, as `of_local`
        takes."""
        local = self.rotations.copy()
        local[:, 1:] = np.swapaxes(self.rotations[:, body.parents[1:]], -1, -2) @ self.rotations[:, 1:]
        return local

    @classmethod
    def of_local(cls, body: Body, rotations: np.ndarray, shape: np.ndarray, translation: np.ndarray) -> BodyPose:
        """Make the pose from model parameters as SMPL has them.

        Args:
            body: the body model.
            rotations: [T, J, 3, 3], the root's to the camera, the others' from their parents.
            shape: [S] or [T, S] in standard deviations; missing coefficients are zero.
            translation: [T, 3] meters, added to the posed body.

        Raises:
            ValueError: if the body has another number of joints, or fewer shape coefficients.
        """
        if rotations.shape[1] != body.num_joints:
            raise ValueError(f"{body.name} has {body.num_joints} joints, got {rotations.shape[1]} rotations")
        if shape.shape[-1] > body.num_shapes:
            raise ValueError(f"{body.name} has {body.num_shapes} shape coefficients, got {shape.shape[-1]}")
        shape = np.pad(shape, [(0, 0)] * (shape.ndim - 1) + [(0, body.num_shapes - shape.shape[-1])])
        # Joints at rest, [J, 3] or [T, J, 3], then forward kinematics from the root to the tips.
        rest = body.joints + np.tensordot(shape, body.joint_directions, 1)
        rest = np.broadcast_to(rest, (len(rotations), body.num_joints, 3))
        world, positions = rotations.astype(np.float64), np.empty((len(rotations), body.num_joints, 3))
        positions[:, 0] = rest[:, 0] + translation
        for joint in range(1, body.num_joints):
            parent = body.parents[joint]
            world[:, joint] = world[:, parent] @ rotations[:, joint]
            bone = rest[:, joint] - rest[:, parent]
            positions[:, joint] = positions[:, parent] + np.einsum("tab,tb->ta", world[:, parent], bone)
        return cls(world, positions, shape)


@dataclass(frozen=True, eq=False)
class MeshSurface:
    """A triangle mesh without a body model.

    Attributes:
        name: as in a dataset's `body_model`.
        template: [V, 3] float32, the mesh in one pose.
        faces: [F, 3] int32.
    """

    name: str
    template: np.ndarray
    faces: np.ndarray

    def surface_points(self, count: int, seed: int) -> SurfacePoints:
        """Return `count` points spread evenly over the surface; the same for the same seed."""
        return _sample(self, count, seed)


@lru_cache(maxsize=8)
def _sample(body: Body | MeshSurface, count: int, seed: int) -> SurfacePoints:
    allowed = body.outer if isinstance(body, Body) else None
    return sample_surface(body.template, body.faces, count, seed, allowed)


def outer_faces(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Return [F] bool: faces whose center is visible from at least one of 26 directions."""
    # Imported here because it compiles with numba, which only making a body needs.
    from anthrotap_builder.geometry.visibility import visible_points

    centers = SurfacePoints(
        face=np.arange(len(faces), dtype=np.int32),
        barycentric=np.full((len(faces), 3), 1 / 3),
        vertex=faces[:, 0],
    )
    outer = np.zeros(len(faces), bool)
    steps = (-1.0, 0.0, 1.0)
    for direction in (np.array([x, y, z]) for x in steps for y in steps for z in steps if x or y or z):
        forward = direction / np.linalg.norm(direction)
        side = np.cross(forward, [0.3, 0.5, 0.8])
        side /= np.linalg.norm(side)
        view = np.stack([side, np.cross(forward, side), forward])
        # Seen from 30 m away, so almost in parallel projection.
        outer |= visible_points([vertices @ view.T + [0, 0, 30.0]], [faces], [centers])[0]
    return outer
