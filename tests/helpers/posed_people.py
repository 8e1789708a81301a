"""Outputs of perfect networks and of a simple renderer for a posed body."""

from __future__ import annotations

import cv2
import numpy as np

from anthrotap_builder.bodies import Body
from anthrotap_builder.detection import PersonTrack
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.mesh_recovery.kinematics import PointChains, PoseParameters


def as_person(body: Body, pose: PoseParameters, camera: Camera, noise: float = 0.0, seed: int = 0) -> PersonTrack:
    """Return a perfect landmark network's output for a posed body: landmarks (with noise, pixels) and mask."""
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
    for t in range(frames):
        drawn = np.zeros(mask.shape[1:], np.uint8)
        for triangle in np.round(vertices[t][body.faces] - 0.5).astype(np.int32):
            cv2.fillConvexPoly(drawn, triangle, 1)
        mask[t] = drawn > 0
    boxes = np.concatenate([vertices.min(1), vertices.max(1)], axis=1).astype(np.float32)
    return PersonTrack(boxes, landmarks, world, mask)


def textured_frames(body: Body, pose: PoseParameters, camera: Camera) -> np.ndarray:
    """[T, H, W, 3] uint8: the body with a random gray for each triangle, far ones first, before noise."""
    rng = np.random.default_rng(5)
    shades = cv2.GaussianBlur(rng.uniform(40, 250, (len(body.faces), 1)).astype(np.float32), (1, 9), 0)
    ground = cv2.GaussianBlur(rng.integers(0, 255, (camera.height, camera.width, 3)).astype(np.uint8), (0, 0), 2)
    vertices = body.pose_vertices(pose.posed(body))
    frames = []
    for mesh in vertices:
        image = ground.copy()
        corners = np.round(camera.project(mesh)[body.faces] * 16 - 8).astype(np.int32)
        for face in np.argsort(-mesh[body.faces, 2].mean(1)):
            cv2.fillConvexPoly(image, corners[face], [float(shades[face, 0])] * 3, cv2.LINE_AA, 4)
        frames.append(image)
    return np.stack(frames)
