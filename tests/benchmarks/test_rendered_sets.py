"""The groups of rendered clips: their structure, bodies that touch, and images of people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from anthrotap_builder.bodies import load_body
from benchmarks.label_accuracy.people import LABELED, SEEN_POSITIONS, VisibleArea, people_figures, people_table
from benchmarks.synthetic import motion
from benchmarks.synthetic.bad_input.staged import SIDE, StagedContext, StagedScene, hung, render_staged
from benchmarks.synthetic.clip_sets import GROUPS, load_clip, rendered_set
from benchmarks.synthetic.clip_spec import HALVES, RATE, ClipSpec, random_person
from benchmarks.synthetic.clothing import Clothing
from benchmarks.synthetic.hard_set import couples, motions
from benchmarks.synthetic.hard_set.touch import SkinPoint
from benchmarks.synthetic.renderer import Actor, CameraPath, Scene, render_scene
from benchmarks.synthetic.room import build_room

SHORT = 0.25  # seconds


def camera(num_frames: int = 2, focal: float = 190.0) -> CameraPath:
    position = np.tile([0.0, -5.0, 1.2], (num_frames, 1))
    return CameraPath(position, np.tile([0.0, -0.05, 0.0], (num_frames, 1)), np.full(num_frames, focal))


def test_names_are_unique_and_halves_and_groups_are_known() -> None:
    names = [spec.name for spec in rendered_set()]
    assert len(set(names)) == len(names)
    assert {spec.half for spec in rendered_set()} == set(HALVES)
    assert {spec.group for spec in rendered_set()} == set(GROUPS)
    assert len(rendered_set("tuning", "standard")) == len(rendered_set("held_out", "standard")) == 10
    assert len(rendered_set("tuning", "hard")) == len(rendered_set("held_out", "hard")) == 10
    assert len(rendered_set(None, "bad_input")) == 8
    with pytest.raises(ValueError, match="tuning"):
        rendered_set("testing")
    with pytest.raises(ValueError, match="bad_input"):
        rendered_set(None, "easy")


def test_no_two_clips_have_a_seed_or_a_theme_s_scene_in_common() -> None:
    """The clips of the hard set and of bad input are made of their seeds, and by makers of their own."""
    specs = [*rendered_set(None, "hard"), *rendered_set(None, "bad_input")]
    seeds = [spec.build.args[0] for spec in specs]
    makers = [spec.build.func for spec in specs]
    assert len(set(seeds)) == len(set(makers)) == len(specs)
    # Those of the standard set.
    assert not set(seeds) & {*range(101, 111), *range(201, 211)}


def test_each_group_has_a_folder_and_a_version_of_its_own(tmp_path: Path) -> None:
    def build() -> Scene:
        return Scene(one_person(), build_room("studio", 1), camera(), [], 10.0, 0.0, 1.0, 0, 48, 64)

    spec = ClipSpec("one", "tuning", build, group="hard", fps=10.0)
    clip = load_clip(spec, tmp_path, 1)
    assert clip.fps == 10.0
    assert clip.frames.shape == (2, 48, 64, 3)
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith("hard-")
    np.testing.assert_array_equal(load_clip(spec, tmp_path, 1).frames, clip.frames)
    with pytest.raises(ValueError, match="10 frames a second, not 24"):
        load_clip(ClipSpec("other", "tuning", build, group="hard"), tmp_path, 1)


def test_a_crowd_is_rendered_with_the_truth_of_each() -> None:
    rng = np.random.default_rng(3)
    people = []
    for i in range(10):
        doing = list(motions.BYSTANDERS)[i % len(motions.BYSTANDERS)]
        place = (-2.0 + 0.45 * i, 0.8 * (i % 2))
        people.append(random_person(rng, motions.stand(SHORT + 1, rng, 0.1, doing), place))
    scene = Scene(people, build_room("yard", 3), camera(), [], 24.0, 0.0, 0.0, 3, 120, 214)
    clip = render_scene(scene, 1)
    x, y = np.meshgrid(np.arange(214) + 0.5, np.arange(120) + 0.5)
    owner, _, _ = clip.truth.surface_point_under(1, np.stack([x.ravel(), y.ravel()], 1))
    assert set(owner) == {-1, *range(10)}
    # From left to right, as they stand.
    middles = [x.ravel()[owner == i].mean() for i in range(10)]
    assert (np.diff(middles) > 0).all()


@pytest.fixture(scope="module")
def held() -> tuple[couples.Couple, couples.Motions]:
    rng = np.random.default_rng(4)
    couple = couples.Couple((np.zeros(10), np.zeros(10)), (0.0, 0.0), 1.0)
    return couple, couples.dance_hold(couple, SHORT, rng)


def test_the_hands_of_a_couple_lie_on_the_partner(held: tuple[couples.Couple, couples.Motions]) -> None:
    couple, pair = held
    body = load_body("anny")
    poses = [own.parameters(body, shape).posed(body) for own, shape in zip(pair, couple.shapes, strict=True)]
    every = slice(None, None, 48)
    leader, partner = (body.pose_vertices(pose, every) for pose in poses)
    hand = body.weights[:, motion.JOINTS.index("wrist.R")] > 0.9
    for own, other in zip(leader, partner, strict=True):
        assert np.linalg.norm(own[hand][:, None] - other[None, ::7], axis=2).min() < 0.03
    # Trunks touch: the hips are as far apart as the bodies are thick.
    apart = np.linalg.norm((pair[0].path - pair[1].path)[:, :2], axis=1)
    assert ((apart > 0.2) & (apart < 0.4)).all()


def test_a_lifted_partner_is_off_the_floor() -> None:
    rng = np.random.default_rng(5)
    couple = couples.Couple((np.zeros(10), np.zeros(10)))
    pair = couples.lift(couple, 3.0, rng, 0.4)
    body = load_body("anny")
    middle = slice(round(2.5 * RATE), round(2.5 * RATE) + 1)
    leader, partner = (
        body.pose_vertices(own.parameters(body, shape).posed(body), middle)[0]
        for own, shape in zip(pair, couple.shapes, strict=True)
    )
    assert abs(leader[:, 2].min()) < 0.03
    assert partner[:, 2].min() > 0.3
    hands = body.weights[:, motion.JOINTS.index("wrist.L")] > 0.9
    assert np.linalg.norm(leader[hands][:, None] - partner[None, ::7], axis=2).min() < 0.04


def test_a_point_of_the_skin_moves_with_its_joint() -> None:
    body = load_body("anny")
    still = np.tile(motion.controls({}), (3, 1))
    still[:, motion.INDEX["heading"]] = [0.0, np.pi / 2, np.pi]
    pose = motion.Motion(still, RATE).parameters(body, np.zeros(10)).posed(body)
    back = SkinPoint((0.0, 0.12, 0.26), "spine03", 0.1).at(body, np.zeros(10), pose) - pose.positions[:, 0]
    # Behind a body that faces -y, +x, +y.
    assert back[0, 1] > 0.1
    assert back[1, 0] < -0.1
    assert back[2, 1] < -0.1


def one_person() -> list[Actor]:
    walk = motion.walk(SHORT, RATE, np.random.default_rng(6), 0.4)
    return [Actor(motion.Motion(walk, RATE, (0.5, 0.0)), np.zeros(10), Clothing())]


def test_a_mirror_shows_everybody_once_more() -> None:
    scene = StagedScene(one_person(), build_room("studio", 2), camera(), [], 24.0, 0.0, 0.0, 2, 120, 214, mirror=1.5)
    truth = StagedContext(scene).truth()
    assert len(truth.people) == 2
    turn, position = scene.camera.rotations()[1], scene.camera.position[1]
    real, image = (people[1] @ turn + position for people in truth.people)
    np.testing.assert_allclose(image, real * [1, -1, 1] + [0, 3.0, 0], atol=1e-4)
    for vertices, faces in zip((real, image), truth.faces, strict=True):
        a, b, c = np.moveaxis(vertices[faces], 1, 0)
        assert np.einsum("fx,fx->", a, np.cross(b, c)) > 0  # outside is outside


def test_a_television_shows_the_picture_of_each_frame_and_nobody() -> None:
    pictures = np.zeros((2, SIDE, SIDE, 3))
    pictures[0, :, : SIDE // 2, 0] = 0.9  # red on the left
    pictures[1, :, SIDE // 2 :, 2] = 0.9  # then blue on the right
    screen = [hung((0.0, 2.0, 1.2), 2.0)]
    clip = render_staged(
        StagedScene([], build_room("loft", 2), camera(), screen, 24.0, 0.0, 0.0, 2, 120, 214, pictures=pictures), 1
    )
    # 2 m at 7 m and 190 pixels: 54 pixels wide; the middle of the frame is the middle of the screen, about.
    left, right = clip.frames[:, 60, 95].astype(int), clip.frames[:, 60, 119].astype(int)
    assert left[0, 0] > 100 > left[1].max()
    assert right[1, 2] > 100 > right[0].max()
    person, _, _ = clip.truth.surface_point_under(0, np.array([[95.0, 60.0]]))
    assert person[0] == -1


def test_people_without_labels_are_counted() -> None:
    """Of three people, one has labels in both frames, one in one, and the third is too small to count."""
    counts = {(0, 0): 100, (0, 1): SEEN_POSITIONS, (1, 0): 60, (1, 1): SEEN_POSITIONS + 5, (0, 2): 3}
    frame, person = (np.concatenate(parts) for parts in zip(
        *((np.full(n, t), np.full(n, p)) for (t, p), n in counts.items()), strict=True))  # fmt: skip
    area = VisibleArea(frame, person, np.zeros_like(frame), np.arange(len(frame)) % 4 == 0)
    labeled = [np.array([0] * LABELED + [1] * (LABELED - 1) + [-1]), np.array([0] * 9 + [1] * LABELED)]
    figures = people_figures(area, labeled, 3)
    assert figures["counts"] == {"main_positions": 160, "appearances": 4, "people": 2, "people_labeled": 2}
    assert figures["unlabeled"] == 25
    assert figures["main_coverage"] == pytest.approx(25, abs=0.7)
    empty = people_figures(VisibleArea(*[np.zeros(0, int)] * 3, np.zeros(0, bool)), [np.zeros(0, int)], 0)
    assert (empty["counts"]["people"], empty["unlabeled"]) == (0, None)
    rows = {"one": {"people": figures, "off_body": 1.5, "lags": {"24": {"wrong_person": 12.34, "wrong_leg": 0.56}}}}
    table = people_table(rows)
    assert [list(column.cells) for column in table.columns] == [
        ["one"],
        ["2 of 2"],
        ["25"],
        ["25.0"],
        ["1.5"],
        ["12.3"],
        ["0.6"],
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "people"),
    [
        ("tiny_crowd", 0),
        ("from_above", 1),
        ("mirror", 2),
        ("poster", 2),
        ("television", 1),
        ("mannequins", 3),
        ("handstand", 1),
        ("never_part", 2),
    ],
)
def test_bad_input_gives_labels_or_one_line(name: str, people: int, tmp_path: Path) -> None:
    """Images of people are labeled like people."""
    from anthrotap_builder.pipeline import label_clip

    (spec,) = (spec for spec in rendered_set(None, "bad_input") if spec.name == name)
    clip = load_clip(spec, tmp_path)
    labeled = label_clip(clip.frames, clip.fps)
    assert len(np.unique(labeled.tracks.person)) == people
    if people:
        assert labeled.skipped is None
    else:
        assert "no person was found (people must be in plain view" in str(labeled.skipped)
