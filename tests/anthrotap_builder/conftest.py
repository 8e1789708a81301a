"""Bodies and people that the builder's tests share."""

from __future__ import annotations

import numpy as np
import pytest

from anthrotap_builder.bodies import Body, load_body
from anthrotap_builder.meshes.kinematics import PointChains, PoseParameters
from anthrotap_builder.people import PersonTrack
from anthrotap_builder.projection import Camera

FACING = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])  # an upright body, facing the camera


@pytest.fixture(scope="session")
def anny() -> Body:
    """The Anny body; its first use on a machine takes two minutes."""
    return load_body("anny")


@pytest.fixture(scope="session")
def dance(anny: Body) -> PoseParameters:
    """24 frames of a body that waves its arms, lifts a knee and turns, four metres away."""
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


def as_person(body: Body, pose: PoseParameters, camera: Camera, noise: float = 0.0, seed: int = 0) -> PersonTrack:
    """What a perfect landmark network would say of a posed body: landmarks (with noise, pixels) and mask."""
    rng = np.random.default_rng(seed)
    points = pose.points(body, PointChains.of(body, body.keypoints))
    frames = len(points)
    landmarks = np.zeros((frames, 33, 3), np.float32)
    world = np.zeros((frames, 33, 3), np.float32)
    chosen = body.keypoint_landmarks
    landmarks[:, chosen, :2] = camera.project(points) + rng.normal(0, noise, (frames, len(chosen), 2))
    landmarks[:, chosen, 2] = 0.95
    world[:, chosen] = points - points[:, 11:13].mean(1, keepdims=True)
    mask = np.zeros((frames, camera.height, camera.width), bool)
    vertices = camera.project(body.pose_vertices(pose.posed(body)))
    import cv2

    for t in range(frames):
        drawn = np.zeros(mask.shape[1:], np.uint8)
        for triangle in np.round(vertices[t][body.faces] - 0.5).astype(np.int32):
            cv2.fillConvexPoly(drawn, triangle, 1)
        mask[t] = drawn > 0
    return PersonTrack(landmarks, world, mask)
