"""The tracking set: its shapes are closed, its ground truth is exact, its files are TAP-Vid's."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from anthrotap_hf.evaluation import read_tapvid
from benchmarks import tracking_set as script
from benchmarks.synthetic import clip_sets, creatures, objects, paths, shapes, tracking_set
from benchmarks.synthetic.baselines import LucasKanade, Static
from benchmarks.synthetic.objects import ObjectScene, render_objects
from benchmarks.synthetic.renderer import CameraPath, RenderedClip
from benchmarks.synthetic.room import build_room, pillar
from benchmarks.synthetic.tracking_set import (
    RenderedTracks,
    TrackingClip,
    files,
    people,
    points,
    render_tracks,
    write_tracking_set,
)
from benchmarks.synthetic.tracking_set import objects as object_themes
from benchmarks.synthetic.tracking_set.camera import CameraSettings
from benchmarks.synthetic.tracking_set.points import room_points_under, sample_tracks

T, SIDE = 8, 128


def small_scene() -> ObjectScene:
    """A knot and a jelly that tumble behind a post; the camera turns and travels."""
    rng = np.random.default_rng(3)
    objects = [
        object_themes._object(rng, shapes.knot(0.33, 0.1), paths.floating(rng, (-0.3, 0, 1), (0.1,) * 3, 3.0)),
        object_themes._object(
            rng, shapes.blob(rng, 0.35, jelly=0.8), paths.floating(rng, (0.3, 0, 1), (0.1,) * 3, 1.0)
        ),
    ]
    step = np.arange(T)
    camera = CameraPath(
        position=np.stack([0.06 * step, np.full(T, -3.0), np.full(T, 1.1)], axis=1),
        angles=np.stack([0.01 * step, np.full(T, -0.1), np.full(T, 0.02)], axis=1),
        focal=np.full(T, 190.0),
    )
    post = pillar((0.1, -0.8), 0.15, 2.5, 3)
    return ObjectScene(
        [], build_room("studio", 3), camera, [post], shutter=0.0, noise=0.0, height=SIDE, width=SIDE, objects=objects
    )  # fmt: skip


@pytest.fixture(scope="module")
def clip() -> RenderedClip:
    return render_objects(small_scene(), threads=1)


@pytest.fixture(scope="module")
def tracks(clip: RenderedClip) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return sample_tracks(small_scene(), clip.truth, np.random.default_rng(0), 40, 10)


def _shapes() -> dict[str, shapes.Shape]:
    rng = np.random.default_rng(5)
    return {
        "blob": shapes.blob(rng, 0.4),
        "rough blob": shapes.blob(rng, 0.4, degree=12),
        "jelly": shapes.blob(rng, 0.4, jelly=1.0),
        "superellipsoid": shapes.superellipsoid((0.3, 0.2, 0.4), 5.0),
        "box": shapes.box(rng, (0.3, 0.4, 0.5), 1.0),
        "torus": shapes.torus(0.3, 0.1),
        "knot": shapes.knot(0.3, 0.08),
        "cloth": shapes.cloth(rng, 1.0, 1.2),
        "snake": shapes.snake(rng, 1.2, 0.08),
        "chain": creatures.chain(rng, 4, 0.2, 0.06),
        **{kind: creatures.creature(rng, kind, 0.9) for kind in creatures.CREATURES},
    }


@pytest.mark.parametrize("name", _shapes())
def test_shapes_are_closed_and_look_outwards(name: str) -> None:
    """Each edge has a triangle on either side, and the volume is positive, at rest and in motion."""
    shape = _shapes()[name]
    positions = np.round(shape.rest, 9)
    _, same = np.unique(positions, axis=0, return_inverse=True)
    corners = same.reshape(-1)[shape.faces]
    corners = corners[(corners != np.roll(corners, 1, axis=1)).all(1)]  # a tube's tips are points
    edges = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
    assert {tuple(edge) for edge in edges.tolist()} == {tuple(edge) for edge in edges[:, ::-1].tolist()}
    for seconds in (0.0, 0.4, 1.3):
        vertices = shape.at(seconds)
        assert vertices.shape == shape.rest.shape
        a, b, c = np.moveaxis(vertices[shape.faces], 1, 0)
        assert np.einsum("fx,fx->", a, np.cross(b, c)) / 6 > 1e-4
        area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
        assert np.isfinite(area).all()
        assert 0.05 < area.sum() < 8
    assert len(shape.part) == len(shape.faces)


def test_soft_and_jointed_shapes_move() -> None:
    moving = {name for name, shape in _shapes().items() if np.ptp(shape.at(0.1) - shape.at(0.6), axis=0).max() > 0.02}
    assert moving == {"jelly", "box", "cloth", "snake", "chain", *creatures.CREATURES}


def test_rolling_objects_do_not_slip() -> None:
    path = paths.rolling(np.random.default_rng(0), (0, 0), (1.0, 0.5), 0.3)
    rotation, position = path(0.7)
    touching = rotation.T @ np.array([0, 0, -0.3])
    later_rotation, later_position = path(0.7001)
    moved = later_rotation @ touching + later_position - (rotation @ touching + position)
    assert np.linalg.norm(moved) < 1e-3 * np.linalg.norm(later_position - position)


def test_unknown_creature() -> None:
    with pytest.raises(ValueError, match="spider"):
        creatures.creature(np.random.default_rng(0), "horse", 1.0)


def test_a_scene_of_objects_needs_some() -> None:
    with pytest.raises(ValueError, match="needs objects"):
        render_objects(replace(small_scene(), objects=[]))


def test_points_project_where_the_mesh_says(clip: RenderedClip) -> None:
    """An object's vertex, taken through the world and the camera by hand, is where the ground truth has it."""
    scene = small_scene()
    rotations = scene.camera.rotations()
    for t in (0, T - 1):
        for index, item in enumerate(scene.objects):
            in_camera = (item.at(t / scene.fps) - scene.camera.position[t]) @ rotations[t].T
            xy = in_camera[:, :2] / in_camera[:, 2:] * scene.camera.focal[t] + SIDE / 2
            first = item.shape.faces[:50]
            found, _ = clip.truth.locate(t, np.full(50, index), np.arange(50), np.repeat([[1.0, 0, 0]], 50, axis=0))
            np.testing.assert_allclose(found, xy[first[:, 0]], atol=1e-3)


def test_visibility_agrees_with_brute_force(clip: RenderedClip) -> None:
    """A point is visible where it is in the frame and no triangle is nearer on its ray (Moeller and Trumbore)."""
    scene, surfaces = small_scene(), points._with_furniture(clip.truth)
    rng = np.random.default_rng(4)
    chosen = points._sample_surface(scene, surfaces, 2, rng)
    chosen = chosen.of(rng.permutation(len(chosen.owner))[:60])
    xy, visible = points.track_points(scene, surfaces, chosen)
    inside = ((xy >= 0) & (xy < SIDE)).all(2)
    assert {-1, 0, 1, 2} == set(chosen.owner)
    for t in (0, 3, 7):
        positions = surfaces.points(t, chosen.owner, chosen.face, chosen.barycentric)
        room = (chosen.world - scene.camera.position[t]) @ scene.camera.rotations()[t].T
        positions = np.where(chosen.owner[:, None] < 0, room, positions)
        free = np.ones(len(positions), bool)
        for vertices, faces in zip(surfaces.people, surfaces.faces, strict=True):
            a, b, c = np.moveaxis(vertices[t].astype(float)[faces], 1, 0)
            for i, position in enumerate(positions):
                p = np.cross(position, c - a)
                with np.errstate(divide="ignore", invalid="ignore"):
                    scale = 1 / np.einsum("fx,fx->f", b - a, p)
                    q = np.cross(-a, b - a)
                    u, v = -np.einsum("fx,fx->f", a, p) * scale, q @ position * scale
                    way = np.einsum("fx,fx->f", c - a, q) * scale
                free[i] &= not ((u > 0) & (v > 0) & (u + v < 1) & (way > 0) & (way < 1 - 1e-6)).any()
        np.testing.assert_array_equal(visible[:, t], inside[:, t] & free)
    assert 0.1 < (~visible & inside).mean() < 0.7


def test_background_points_lie_on_the_room(clip: RenderedClip) -> None:
    """Points on the room project back to where they were visible, and are on one of its six sides."""
    scene = small_scene()
    xy = np.random.default_rng(2).uniform(0, SIDE, (30, 2))
    world = room_points_under(scene, 2, xy)
    in_camera = (world - scene.camera.position[2]) @ scene.camera.rotations()[2].T
    np.testing.assert_allclose(in_camera[:, :2] / in_camera[:, 2:] * scene.camera.focal[2] + SIDE / 2, xy, atol=1e-9)
    on_a_side = np.isclose(world, scene.room.low) | np.isclose(world, scene.room.high)
    assert on_a_side.any(1).all()
    assert ((world > scene.room.low - 1e-9) & (world < scene.room.high + 1e-9)).all()


def test_colors_stay_with_their_points(clip: RenderedClip, tracks: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """The color at a moving point changes less than the color at the position that it left."""
    xy, visible, _ = tracks
    first, last = clip.frames[0].astype(float), clip.frames[2].astype(float)
    both = visible[:, 0] & visible[:, 2]

    def color(frame: np.ndarray, t: int) -> np.ndarray:
        x, y = xy[both, t].astype(int).T
        return frame[y.clip(0, SIDE - 1), x.clip(0, SIDE - 1)]

    assert both.sum() > 15
    stuck = np.abs(color(last, 2) - color(first, 0)).mean()
    assert stuck < 0.6 * np.abs(color(last, 0) - color(first, 0)).mean()


def test_tracks_are_as_asked_for(tracks: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    xy, visible, owner = tracks
    assert xy.shape == (40, T, 2)
    assert (visible.sum(1) >= points.MIN_VISIBLE).all()
    np.testing.assert_array_equal(owner[30:], -1)
    assert set(owner[:30]) == {0, 1}
    assert np.isfinite(xy).all()


def test_too_few_points_and_too_near_objects_are_rejected(clip: RenderedClip) -> None:
    with pytest.raises(ValueError, match="visible enough"):
        sample_tracks(small_scene(), clip.truth, np.random.default_rng(0), 5000, 10)
    near = replace(clip.truth, people=[vertices - [0, 0, 2.5] for vertices in clip.truth.people])
    with pytest.raises(ValueError, match="nearer to the camera"):
        sample_tracks(small_scene(), near, np.random.default_rng(0), 40, 10)


@pytest.mark.parametrize("crf", [None, 23])
def test_a_clip_follows_from_its_seed_alone(crf: int | None) -> None:
    settings = CameraSettings(num_frames=7, crf=crf)
    spec = TrackingClip("x", "objects", object_themes.jelly, 11, settings)
    first, again = render_tracks(spec, 1), render_tracks(spec, 2)
    np.testing.assert_array_equal(first.frames, again.frames)
    np.testing.assert_array_equal(first.xy, again.xy)
    np.testing.assert_array_equal(first.visible, again.visible)
    other = render_tracks(replace(spec, seed=12), 1)
    assert (other.frames != first.frames).mean() > 0.3


def test_people_are_tracked_too() -> None:
    video = render_tracks(TrackingClip("x", "humans", people.crossing, 3, CameraSettings(num_frames=6)), 1)
    assert video.frames.shape == (6, 256, 256, 3)
    assert set(video.owner) <= {-1, 0, 1}
    assert (video.owner == -1).sum() == points.ON_BACKGROUND


def test_evaluation_and_validation_clips_are_disjoint() -> None:
    clips = tracking_set.tracking_set()
    assert len({clip.seed for clip in clips}) == len({clip.name for clip in clips}) == len(clips)
    counts = {file: len(tracking_set.tracking_set([file])) for file in tracking_set.FILES}
    assert counts == {"humans": 15, "objects": 14, "validation": 8}
    assert not {clip.name for clip in clips} & {spec.name for spec in clip_sets.rendered_set()}
    with pytest.raises(ValueError, match="validation"):
        tracking_set.tracking_set(["training"])


def test_no_person_is_in_the_photos() -> None:
    assert "astronaut" not in objects.PHOTOS


def _still_video(clip: TrackingClip, threads: int = 1) -> RenderedTracks:
    rng = np.random.default_rng(clip.seed)
    frames = np.repeat(rng.integers(0, 256, (1, 64, 96, 3), np.uint8), 8, axis=0)
    xy = np.repeat(rng.uniform(12, 50, (5, 1, 2)), 8, axis=1)
    visible = np.ones((5, 8), bool)
    visible[0, 4:] = False
    return RenderedTracks(frames, xy, visible, np.zeros(5, int))


def test_files_are_tapvids_and_clips_are_drawn_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "render_tracks", _still_video)
    steps: list[int] = []
    (path,) = write_tracking_set(tmp_path, ["validation"], 1, lambda clip, frames: steps.append(frames))
    assert steps == [8] * 8
    (path,) = write_tracking_set(tmp_path, ["validation"], 1, lambda clip, frames: steps.append(frames))
    assert steps[8:] == [0] * 8
    raw = pickle.loads(path.read_bytes())  # noqa: S301
    assert {tuple(video) for video in raw.values()} == {("video", "points", "occluded")}
    for clip, video in zip(tracking_set.tracking_set(["validation"]), read_tapvid(path), strict=True):
        expected = _still_video(clip)
        assert video.clip_id == clip.name
        np.testing.assert_array_equal(video.frames, expected.frames)
        np.testing.assert_allclose(video.tracks.xy, expected.xy, atol=1e-4)
        np.testing.assert_array_equal(video.tracks.visible, expected.visible)


@pytest.mark.slow
def test_the_script_evaluates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "render_tracks", _still_video)
    arguments = [str(tmp_path), "--threads", "1", "--evaluate", "--files", "validation"]
    script.main(arguments)
    out = capsys.readouterr().out
    for word in (
        "static",
        "LK 11",
        "LK 21",
        "FlowChain",
        "validation (8 clips)",
        "100.0 / ",
        " / 0.0",
    ):
        assert word in out
    assert (tmp_path / "evaluated" / "validation-first.json").exists()
    script.main([*arguments[:-3], "--files", "validation", "--sheets"])
    assert len(list((tmp_path / "sheets").glob("*.png"))) == 8


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--model", "x"], "--evaluate"),
        (["--threads", "0"], "at least 1"),
        (["--files", "cats"], "humans"),
        (["--evaluate", "--files", "validation", "--model", "/nowhere/at-all"], "/nowhere/at-all"),
    ],
)
def test_wrong_arguments_are_an_error_in_one_line(
    arguments: list[str],
    reason: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(files, "render_tracks", _still_video)
    with pytest.raises(SystemExit) as stopped:
        script.main([str(tmp_path), *arguments])
    assert reason in str(stopped.value) + capsys.readouterr().err


def test_the_script_does_not_write_over_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match="not a folder"):
        script.main([str(tmp_path / "file")])


def test_lucas_kanade_tracks_both_ways_and_never_recovers_lost_points() -> None:
    rng = np.random.default_rng(0)
    wide = rng.integers(0, 256, (40, 60, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    frames = np.stack([wide[:128, 2 * t : 128 + 2 * t] for t in range(10)])
    frames[7] = rng.integers(0, 256, frames[7].shape)
    found = LucasKanade(21)(frames, np.array([[3.0, 60.5, 64.5], [0, 1.0, 60.0]]))
    expected = 60.5 - 2 * (np.arange(10) - 3)
    np.testing.assert_allclose(found["tracks"][0, :7, 0], expected[:7], atol=0.3)
    assert found["visible"][0, :7].all()
    assert not found["visible"][0, 7:].any()
    assert not found["visible"][1, 1:].any()  # out of the frame


def test_static_points() -> None:
    found = Static()(np.zeros((3, 8, 8, 3), np.uint8), np.array([[1, 2.0, 3.0]]))
    np.testing.assert_array_equal(found["tracks"], [[[2, 3]] * 3])
    assert found["visible"].all()
