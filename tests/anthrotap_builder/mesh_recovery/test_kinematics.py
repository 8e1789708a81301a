import numpy as np
import pytest

from anthrotap_builder.bodies import Body
from anthrotap_builder.mesh_recovery.kinematics import PointChains, PoseParameters


def random_pose(body: Body, frames: int, seed: int) -> PoseParameters:
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 0.5, (frames, 3 + 3 * body.num_joints))
    values[:, 2] += 4
    reference, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    reference *= np.linalg.det(reference)
    return PoseParameters(values, rng.normal(0, 1, body.num_shapes), reference)


def test_collapsed_points_are_where_skinning_puts_them(anny: Body):
    pose = random_pose(anny, 3, 0)
    surface = anny.surface_points(100, 0)
    points = pose.points(anny, PointChains.of(anny, anny.body_points(surface)))
    skinned = surface.positions(anny.pose_vertices(pose.posed(anny)), anny.faces)
    np.testing.assert_allclose(points, skinned, atol=2e-6)


def test_skinning_is_linear_blend_skinning(anny: Body):
    """Written out vertex by vertex."""
    pose = random_pose(anny, 2, 1)
    posed = pose.posed(anny)
    rest = anny.template + np.einsum("s,svx->vx", pose.shape, anny.shape_directions)
    joints = anny.joints + np.einsum("s,sjx->jx", pose.shape, anny.joint_directions)
    some = np.arange(0, len(rest), 997)
    got = anny.pose_vertices(posed)
    for t in range(2):
        for v in some:
            expected = sum(
                anny.weights[v, j] * (posed.rotations[t, j] @ (rest[v] - joints[j]) + posed.positions[t, j])
                for j in range(anny.num_joints)
            )
            np.testing.assert_allclose(got[t, v], expected, atol=1e-5)


@pytest.mark.parametrize("which", ["keypoints", "surface"])
def test_the_jacobian_is_the_derivative(anny: Body, which: str):
    points = anny.keypoints if which == "keypoints" else anny.body_points(anny.surface_points(40, 0))
    chains = PointChains.of(anny, points)
    pose = random_pose(anny, 2, 2)
    pose.values[1, 3:9] = 0  # where the exponential map's series is used
    _, jacobian = pose.points_and_jacobian(anny, chains)
    size, step = pose.values.shape[1], 1e-6
    for column in range(size + anny.num_shapes):
        ends = []
        for sign in (1, -1):
            moved = PoseParameters(pose.values.copy(), pose.shape.copy(), pose.reference)
            if column < size:
                moved.values[:, column] += sign * step
            else:
                moved.shape[column - size] += sign * step
            ends.append(moved.points(anny, chains))
        np.testing.assert_allclose((ends[0] - ends[1]) / (2 * step), jacobian[..., column], atol=2e-6)


def test_whole_turns_change_nothing(anny: Body):
    pose = random_pose(anny, 1, 3)
    chains = PointChains.of(anny, anny.keypoints)
    before = pose.points(anny, chains)
    vector = pose.values[0, 3:6]
    pose.values[0, 3:6] = vector * (1 - 2 * np.pi / np.linalg.norm(vector))
    np.testing.assert_allclose(pose.points(anny, chains), before, atol=1e-9)
