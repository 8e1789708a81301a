"""Fitting a body to its own vertices when nothing else of it is given."""

import dataclasses
import logging

import numpy as np
import pytest

from anthrotap_builder.bodies import Body
from anthrotap_builder.mesh_recovery.kinematics import PoseParameters
from anthrotap_builder.mesh_recovery.track import MeshTrack
from anthrotap_builder.mesh_recovery.vertex_fit import fit_to_vertices
from helpers.clip_contexts import clip_context


@pytest.fixture
def mesh(anny: Body, dance: PoseParameters) -> MeshTrack:
    vertices = anny.pose_vertices(dance.posed(anny))[:6].copy()
    present = np.arange(6) != 2
    vertices[~present] = np.nan
    unknown = np.full(6, np.nan)
    return MeshTrack(0, vertices, present, unknown, unknown)


def test_vertices_give_back_pose_and_shape(anny: Body, dance: PoseParameters, mesh, caplog):
    context = clip_context(np.zeros((6, 48, 64, 3), np.uint8), anny)
    with caplog.at_level(logging.INFO):
        pose = fit_to_vertices(context, mesh)
    found, present = anny.pose_vertices(pose), mesh.present
    distance = 1000 * np.linalg.norm(found[present] - mesh.vertices[present], axis=-1)
    assert np.median(distance) < 3
    assert np.percentile(distance, 95) < 10
    # The frame between, of which nothing is known, is interpolated.
    truth = anny.pose_vertices(dance.posed(anny))[:6]
    assert np.median(np.linalg.norm(found[2] - truth[2], axis=-1)) < 0.05
    assert "mm from the given vertices in the median, 95 % within" in caplog.text


def test_a_surface_that_the_body_cannot_take_is_refused(anny: Body, mesh):
    context = clip_context(np.zeros((6, 48, 64, 3), np.uint8), anny)
    noise = np.random.default_rng(0).normal(0, 0.1, mesh.vertices.shape)
    with pytest.raises(ValueError, match=r"anny does not fit the meshes of person 0: \d+\.\d mm from the given"):
        fit_to_vertices(context, dataclasses.replace(mesh, vertices=mesh.vertices + noise))
