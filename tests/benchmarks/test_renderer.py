"""Rendered clips against their ground truth: each pixel shows what the ground truth has there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anthrotap_builder.bodies import load_body
from benchmarks.synthetic import motion
from benchmarks.synthetic.clothing import CLOTH_COLORS, Clothing
from benchmarks.synthetic.demo import demo_scene
from benchmarks.synthetic.ground_truth import GroundTruth
from benchmarks.synthetic.motion import Motion
from benchmarks.synthetic.renderer import (
    Actor,
    CameraPath,
    RenderedClip,
    Scene,
    render_scene,
)
from benchmarks.synthetic.room import build_room, crates

T = 4


def small_scene(**changes: object) -> Scene:
    """Somebody all in one bright color behind a crate, 320x180; the camera pans and zooms."""
    rng = np.random.default_rng(0)
    walker = Motion(motion.walk(1.0, 96.0, rng, heading=1.2), 96.0, (0.0, 0.0), None)
    clothing = Clothing(shirt="plain", shirt_colors=(CLOTH_COLORS[0],) * 3, slip=0.03, looseness=0.02)
    step = np.arange(T)
    camera = CameraPath(
        position=np.stack([0.05 * step, np.full(T, -4.5), np.full(T, 1.2)], axis=1),
        angles=np.stack([0.02 * step, np.full(T, -0.05), np.full(T, 0.02)], axis=1),
        focal=360.0 + 5.0 * step,
    )
    actor = Actor(walker, np.zeros(10), clothing)
    scene = Scene(
        [actor], build_room("studio", 3), camera, [crates((0.0, -0.9), 0.75, 1, 2)], shutter=0.0, noise=0.0,
        height=180, width=320,
    )  # fmt: skip
    return replace(scene, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def clip() -> RenderedClip:
    return render_scene(small_scene(), threads=1)


def test_frames_have_the_size_asked_for(clip: RenderedClip) -> None:
    assert clip.frames.shape == (T, 180, 320, 3)
    assert clip.frames.dtype == np.uint8
    assert clip.truth.num_frames == T


def test_the_same_scene_gives_the_same_clip(clip: RenderedClip) -> None:
    again = render_scene(small_scene(), threads=2)
    np.testing.assert_array_equal(again.frames, clip.frames)
    np.testing.assert_array_equal(again.truth.people[0], clip.truth.people[0])


def test_ground_truth_has_the_person_of_each_pixel(clip: RenderedClip) -> None:
    """Where the ground truth has a body, the frame differs from the same room without it, and only there or in
    shade."""
    scene = small_scene()
    away = replace(scene.actors[0], motion=replace(scene.actors[0].motion, start=(0.0, -30.0)))
    crate_only = render_scene(small_scene(actors=[away]), threads=1).frames
    y, x = np.mgrid[:180, :320]
    centers = np.stack([x.ravel(), y.ravel()], axis=1) + 0.5
    for t in range(T):
        person, _, _ = clip.truth.surface_point_under(t, centers)
        body = (person == 0).reshape(180, 320)
        changed = (np.abs(clip.frames[t].astype(int) - crate_only[t]) > 6).any(-1)
        assert body.sum() > 1500
        assert changed[body].mean() > 0.97
        # the walker's shadow falls on the floor and the crate, not on the wall above
        assert changed[:60][~body[:60]].mean() < 0.02


def test_positions_lead_back_to_the_same_surface_point(clip: RenderedClip) -> None:
    rng = np.random.default_rng(1)
    xy = rng.uniform([100, 0], [220, 180], (3000, 2))
    person, face, barycentric = clip.truth.surface_point_under(1, xy)
    found = person >= 0
    assert found.sum() > 150
    again, visible = clip.truth.locate(1, person, face, barycentric)
    np.testing.assert_allclose(again[found], xy[found], atol=1e-6)
    assert visible[found].all()
    assert np.isnan(again[~found]).all()
    assert not visible[~found].any()


def test_furniture_occludes(clip: RenderedClip) -> None:
    free = replace(clip.truth, occluders=clip.truth.occluders[:, :0], occluder_faces=clip.truth.occluder_faces[:0])
    points = load_body("anny").surface_points(2000, 0)
    person = np.zeros(len(points), np.int64)
    _, visible = clip.truth.locate(2, person, points.face, points.barycentric)
    _, without = free.locate(2, person, points.face, points.barycentric)
    assert (visible <= without).all()
    assert 100 < (without & ~visible).sum() < 900


def test_visibility_agrees_with_brute_force(clip: RenderedClip) -> None:
    truth, t = clip.truth, 3
    points = load_body("anny").surface_points(60, 1)
    positions = truth.points(t, np.zeros(60, np.int64), points.face, points.barycentric)
    meshes = [(truth.people[0][t], truth.faces[0]), (truth.occluders[t], truth.occluder_faces)]
    occluded = np.zeros(60, bool)
    for vertices, faces in meshes:
        a, b, c = np.moveaxis(vertices.astype(np.float64)[faces], 1, 0)
        for i, position in enumerate(positions):
            # Moeller-Trumbore from the origin along the position
            p = np.cross(position, c - a)
            det = np.einsum("fx,fx->f", b - a, p)
            with np.errstate(divide="ignore", invalid="ignore"):
                u = -np.einsum("fx,fx->f", a, p) / det
                q = np.cross(-a, b - a)
                v = q @ position / det
                s = np.einsum("fx,fx->f", c - a, q) / det
            occluded[i] |= ((u > 0) & (v > 0) & (u + v < 1) & (s > 0) & (s < 1 - 1e-6)).any()
    xy, visible = truth.locate(t, np.zeros(60, np.int64), points.face, points.barycentric)
    inside = truth.camera(t).contains(xy)
    np.testing.assert_array_equal(visible[inside], ~occluded[inside])


def test_no_person_is_outside_the_frame_or_at_an_invalid_position(clip: RenderedClip) -> None:
    person, _, barycentric = clip.truth.surface_point_under(0, np.array([[-1.0, 5.0], [np.nan, 3.0], [400.0, 90.0]]))
    assert (person == -1).all()
    assert not barycentric.any()


def test_ground_truth_survives_a_file(clip: RenderedClip, tmp_path: Path) -> None:
    clip.truth.save(tmp_path / "truth.npz")
    again = GroundTruth.load(tmp_path / "truth.npz")
    np.testing.assert_array_equal(again.people[0], clip.truth.people[0])
    np.testing.assert_array_equal(again.occluders, clip.truth.occluders)
    np.testing.assert_array_equal(again.focal, clip.truth.focal)
    assert (again.height, again.width) == (180, 320)


def test_texture_moves_with_the_ground_truth() -> None:
    """A shirt's pattern sticks to the skin that the ground truth follows: colors stay as points move."""
    scene = small_scene()
    still = Clothing(shirt="plaid", slip=0.03, looseness=0.02)
    actor = replace(scene.actors[0], clothing=still)
    clip = render_scene(
        replace(
            scene,
            actors=[actor],
            height=480,
            width=854,
            camera=replace(scene.camera, focal=scene.camera.focal * 2.7),
        ),
        threads=1,
    )
    truth = clip.truth
    points = load_body("anny").surface_points(3000, 2)
    person = np.zeros(len(points), np.int64)
    first, visible_first = truth.locate(0, person, points.face, points.barycentric)
    last, visible_last = truth.locate(3, person, points.face, points.barycentric)
    keep = visible_first & visible_last
    color_then = _sample(clip.frames[0], first[keep])
    color_now = _sample(clip.frames[3], last[keep])
    stuck = np.median(np.abs(color_then - color_now))
    slipped = np.median(np.abs(color_then - _sample(clip.frames[3], first[keep])))
    assert np.linalg.norm(first[keep] - last[keep], axis=1).mean() > 10
    assert stuck < 0.35 * slipped


def test_motion_blur_smears_what_moves(clip: RenderedClip) -> None:
    blurred = render_scene(small_scene(shutter=0.9), threads=1)
    assert (
        np.abs(np.diff(blurred.frames[1].astype(int), axis=1)).mean()
        < 0.9 * np.abs(np.diff(clip.frames[1].astype(int), axis=1)).mean()
    )
    np.testing.assert_array_equal(blurred.truth.people[0], clip.truth.people[0])


def test_standing_feet_do_not_slide_or_sink() -> None:
    body = load_body("anny")
    rng = np.random.default_rng(5)
    walk = Motion(motion.walk(2.0, 192.0, rng), 192.0, (0, 0), None)
    shape = np.zeros(10)
    vertices = body.pose_vertices(walk.parameters(body, shape).posed(body), slice(192, 576, 2))
    foot = np.nonzero(body.weights[:, [16, 19]].max(1) > 0.95)[0]
    sole = vertices[:, foot]
    assert -0.03 < sole[..., 2].min() < 0.01
    low = sole[:-1, :, 2] < 0.008
    speed = np.linalg.norm(np.diff(sole[..., :2], axis=0), axis=-1) * 96
    forward = np.linalg.norm(vertices[-1, :, :2].mean(0) - vertices[0, :, :2].mean(0)) / 2
    assert forward > 0.7  # meters a second
    assert np.median(speed[low]) < 0.25 * forward


def test_joints_keep_to_their_limits() -> None:
    """Knees and elbows of all motions bend the way they can."""
    body = load_body("anny")
    rng = np.random.default_rng(6)
    makers = (
        *(motion.walk, motion.dance, motion.crouch, motion.turn_around, motion.wave_arms, motion.box),
        *(motion.lunge, motion.jumping_jacks, motion.hands_on_body),
    )
    for make in makers:
        controls = make(2.0, 48.0, rng)
        rotations = motion.joint_rotations(body, controls)
        assert np.isfinite(rotations).all()
        for joint in (8, 12, 15, 18):
            angle = rotations[:, joint] @ body.prior.axes[joint]
            low, high = body.prior.lower[joint] - 0.12, body.prior.upper[joint] + 0.12
            assert (angle >= low).all(), (make.__name__, joint)
            assert (angle <= high).all(), (make.__name__, joint)


def test_unknown_room() -> None:
    with pytest.raises(ValueError, match="studio"):
        build_room("cellar", 0)


@pytest.mark.slow
def test_people_are_found_in_the_demo() -> None:
    from anthrotap_builder.context import ClipContext
    from anthrotap_builder.detection import detect_people

    clip = render_scene(demo_scene(24))
    people = detect_people(ClipContext.of(clip.frames, clip.fps))
    assert len(people) == 2
    assert all(person.found.mean() > 0.9 for person in people)


def _sample(image: np.ndarray, xy: np.ndarray) -> np.ndarray:
    column, row = (xy - 0.5).round().astype(int).T
    return image[row.clip(0, image.shape[0] - 1), column.clip(0, image.shape[1] - 1)].astype(float)
