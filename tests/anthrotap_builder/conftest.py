"""Fixtures of the builder's tests: bodies and people."""

from __future__ import annotations

import numpy as np
import pytest

from anthrotap_builder.bodies import Body, load_body
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.mesh_recovery.kinematics import PoseParameters

FACING = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # an upright body, facing the camera


@pytest.fixture(scope="session")
def anny() -> Body:
    """The Anny body; its first use on a machine takes two minutes."""
    return load_body("anny")


@pytest.fixture(scope="session")
def dance(anny: Body) -> PoseParameters:
    """24 frames of a body that waves its arms, lifts a knee and turns, four meters away."""
    time = np.linspace(0, 1, 24)[:, None]
    values = np.zeros((24, 3 + 3 * anny.num_joints))
    values[:, :3] = np.concatenate([0.3 * time, -0.1 + 0 * time, 4 + 0.2 * time], 1)
    joints = values[:, 3:].reshape(24, -1, 3)
    joints[:, 0, 1] = 0.6 * time[:, 0]  # turns about the camera's y
    joints[:, 7, 1] = 0.3 + 0.8 * np.sin(6 * time[:, 0])  # left upper arm
    joints[:, 11, 1] = -0.3 - 0.6 * np.sin(5 * time[:, 0])  # right upper arm
    joints[:, 14, 0] = -0.9 * time[:, 0]  # left hip
    joints[:, 15, 0] = 0.2 + 0.9 * time[:, 0]  # left knee
    joints[:, 18, 0] = 0.2
    shape = np.zeros(anny.num_shapes)
    shape[:2] = 0.5, -0.8
    return PoseParameters(values, shape, FACING)


@pytest.fixture(scope="session")
def camera() -> Camera:
    return Camera(focal=420.0, width=360, height=300)
