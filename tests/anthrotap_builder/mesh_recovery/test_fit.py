"""Fits to the landmarks that a perfect or noisy network would detect on a known body."""

import numpy as np
import pytest

from anthrotap_builder.bodies import Body
from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.context import ClipContext
from anthrotap_builder.detection import PersonTrack
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.mesh_recovery.fit import Fit, fit_body, recover_meshes
from anthrotap_builder.mesh_recovery.kinematics import PoseParameters
from anthrotap_builder.mesh_recovery.masks import mask_overlap
from helpers.posed_people import as_person

WITHOUT_FLOW = LabelingConfig(fit_flow=False)


def context(
    body: Body,
    camera: Camera,
    frames: np.ndarray | int,
    config: LabelingConfig = WITHOUT_FLOW,
    threads: int = 2,
) -> ClipContext:
    """A clip of these frames, or of so many black ones."""
    if isinstance(frames, int):
        frames = np.zeros((frames, camera.height, camera.width, 3), np.uint8)
    return ClipContext(frames, 24.0, camera, body, config, threads)


def fit(body: Body, person: PersonTrack, camera: Camera) -> Fit:
    return fit_body(context(body, camera, len(person.boxes)), person, person.mask)


def surface_error(body: Body, camera: Camera, got: PoseParameters, truth: PoseParameters) -> np.ndarray:
    """[T] median distance of surface points in the picture, pixels."""
    surface = body.surface_points(300, 0)
    positions = [
        camera.project(surface.positions(body.pose_vertices(pose.posed(body)), body.faces)) for pose in (got, truth)
    ]
    return np.median(np.linalg.norm(positions[0] - positions[1], axis=-1), axis=1)


def test_a_clean_track_is_recovered(anny: Body, dance: PoseParameters, camera: Camera):
    result = fit(anny, as_person(anny, dance, camera), camera)
    assert np.nanmax(result.reprojection_error) < 2.0
    assert surface_error(anny, camera, result.parameters, dance).max() < 4.0


def test_noise_is_averaged_over_time(anny: Body, dance: PoseParameters, camera: Camera):
    person = as_person(anny, dance, camera, noise=3.0)
    result = fit(anny, person, camera)
    assert np.median(surface_error(anny, camera, result.parameters, dance)) < 3.5


def test_a_gap_is_bridged_and_a_wild_landmark_does_not_pull(anny: Body, dance: PoseParameters, camera: Camera):
    person = as_person(anny, dance, camera)
    person.boxes[8:12] = person.landmarks[8:12] = np.nan
    person.world_landmarks[8:12] = np.nan
    person.mask[8:12] = False
    person.landmarks[16, 15, :2] += 150  # a wrist far off in one frame
    result = fit(anny, person, camera)
    error = surface_error(anny, camera, result.parameters, dance)
    assert error.max() < 6.0
    assert np.isnan(result.reprojection_error[8:12]).all()


@pytest.mark.parametrize("frames", [1, 2, 3])
def test_short_tracks_can_be_fitted(anny: Body, dance: PoseParameters, camera: Camera, frames: int):
    pose = PoseParameters(dance.values[:frames], dance.shape, dance.reference)
    result = fit(anny, as_person(anny, pose, camera), camera)
    assert np.nanmax(result.reprojection_error) < 3.0


def test_a_person_never_found_is_rejected(anny: Body, dance: PoseParameters, camera: Camera):
    person = as_person(anny, dance, camera)
    person.boxes[:] = person.landmarks[:] = np.nan
    with pytest.raises(ValueError, match="in no frame"):
        fit(anny, person, camera)


def test_frames_where_the_fit_is_bad_have_no_mesh(anny: Body, dance: PoseParameters, camera: Camera):
    person = as_person(anny, dance, camera)
    person.mask[5] = np.roll(person.mask[5], 120, axis=1)  # the mask is elsewhere
    person.boxes[10] = person.landmarks[10] = np.nan
    person.mask[10] = False  # without flow, nothing says where the person is
    (mesh,) = recover_meshes(context(anny, camera, len(person.boxes)), [person])
    assert sorted(np.flatnonzero(~mesh.present)) == [5, 10]
    assert np.isnan(mesh.vertices[[5, 10]]).all()
    assert np.isfinite(mesh.vertices[mesh.present]).all()
    assert np.nanmedian(mesh.mask_overlap) > 0.8  # 0.847 to 0.853, by processor


def test_no_people_have_no_mesh(anny: Body, camera: Camera):
    assert recover_meshes(context(anny, camera, 3), []) == []


def test_people_do_not_depend_on_threads(anny: Body, dance: PoseParameters, camera: Camera):
    people = [as_person(anny, dance, camera, noise=1.0, seed=seed) for seed in range(2)]
    frames = np.random.default_rng(0).integers(0, 255, (*people[0].mask.shape, 3)).astype(np.uint8)
    one, two = (recover_meshes(context(anny, camera, frames, LabelingConfig(), threads), people) for threads in (1, 4))
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.vertices, b.vertices)


def test_flow_in_the_fit_follows_motion_that_landmarks_miss(anny: Body, dance: PoseParameters, camera: Camera):
    """Landmarks jitter, the picture does not: with flow the surface moves as the picture does."""
    from helpers.posed_people import textured_frames

    person = as_person(anny, dance, camera, noise=4.0)
    frames = textured_frames(anny, dance, camera)
    surface = anny.surface_points(300, 0)
    truth = camera.project(surface.positions(anny.pose_vertices(dance.posed(anny)), anny.faces))
    slide = {}
    for name, config in (("without", WITHOUT_FLOW), ("with", LabelingConfig())):
        result = fit_body(context(anny, camera, frames, config), person, person.mask)
        xy = camera.project(surface.positions(anny.pose_vertices(result.parameters.posed(anny)), anny.faces))
        offset = xy - truth
        slide[name] = np.median(np.linalg.norm(offset[8:] - offset[:-8], axis=-1))
    assert slide["with"] < 0.7 * slide["without"]


def test_overlap_ignores_other_people():
    mask = np.zeros((1, 64, 64), bool)
    mask[0, 10:50, 10:30] = True
    grid = np.stack(np.meshgrid(np.arange(10.5, 50), np.arange(10.5, 50)), -1).reshape(1, -1, 2)
    others = np.zeros_like(mask)
    assert 0.4 < mask_overlap(grid, mask, others)[0] < 0.6
    others[0, :, 30:] = True  # the right half of the mesh is behind somebody
    assert mask_overlap(grid, mask, others)[0] > 0.9
    assert np.isnan(mask_overlap(grid, np.zeros_like(mask), others)[0])
