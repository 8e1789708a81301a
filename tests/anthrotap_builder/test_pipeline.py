"""The stages together, on a rendered person whom a perfect landmark network has found."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from PIL import Image

from anthrotap_builder import pipeline
from anthrotap_builder.bodies import Body
from anthrotap_builder.clips import read_clips
from anthrotap_builder.config import ClipSettings, LabelingConfig
from anthrotap_builder.detection import PersonTrack
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.geometry.visibility import visible_points
from anthrotap_builder.mesh_recovery.given_masks import read_masks
from anthrotap_builder.mesh_recovery.kinematics import PoseParameters
from anthrotap_builder.mesh_recovery.mesh_file import ClipMeshes, MeshFileError, read_meshes
from anthrotap_builder.mesh_recovery.mesh_writer import MeshWriter
from anthrotap_builder.pipeline import LabeledClip, Stages, label_clip, label_video
from anthrotap_builder.video_people import VideoPeople
from anthrotap_hf.video import VideoError
from helpers.posed_people import as_person, textured_frames

CONFIG = LabelingConfig(points=300)
CONFIG_OF_SHORT_CLIPS = LabelingConfig(clips={"clip_frames": 24})


@pytest.fixture(scope="module")
def frames(anny: Body, dance: PoseParameters, camera: Camera) -> np.ndarray:
    return textured_frames(anny, dance, camera)


@pytest.fixture
def true_stages(anny: Body, dance: PoseParameters, camera: Camera) -> Stages:
    person = as_person(anny, dance, camera, noise=2.0)
    return Stages(detection=lambda *_: [person])


@pytest.fixture
def labeled(true_stages: Stages, frames: np.ndarray) -> LabeledClip:
    return label_clip(frames, fps=24.0, config=CONFIG, stages=true_stages)


def test_visible_labels_stick_to_the_point_they_start_on(
    labeled: LabeledClip, anny: Body, dance: PoseParameters, camera: Camera
):
    tracks = labeled.tracks
    assert len(tracks) > 80
    assert tracks.visible.mean() > 0.4
    surface = anny.surface_points(CONFIG.points, CONFIG.seed)
    vertices = anny.pose_vertices(dance.posed(anny))
    truth = camera.project(surface.positions(vertices, anny.faces))  # [T, K, 2]
    index = {vertex: k for k, vertex in enumerate(surface.vertex.tolist())}
    offset = tracks.xy - truth[:, [index[v] for v in tracks.vertex.tolist()]].transpose(1, 0, 2)
    slides = np.linalg.norm(offset[:, 12:] - offset[:, :-12], axis=-1)[tracks.visible[:, 12:] & tracks.visible[:, :-12]]
    assert (slides < 4).mean() > 0.9

    visible = np.stack([visible_points([v], [anny.faces], [surface])[0] for v in vertices], 1)
    truly_visible = visible[[index[v] for v in tracks.vertex.tolist()]]
    assert truly_visible[tracks.visible].mean() > 0.95
    assert truly_visible[tracks.occluded].mean() < 0.6


def test_the_clip_holds_what_each_stage_found(labeled: LabeledClip):
    assert {"detection", "mesh_recovery", "visibility", "flow", "filtering"} <= labeled.seconds.keys()
    (person,) = labeled.people
    assert person["reprojection_error"] < 5
    assert person["mask_overlap"] > 0.8
    assert person["tracks"] == len(labeled.tracks)
    assert 0 <= labeled.rejected_fraction < 0.6
    info = labeled.info
    assert (info["body_model"], info["mesh_source"], info["flow"]) == ("anny", "fit", "dis")
    assert info["label_version"] == CONFIG.version()
    assert labeled.skipped is None


def test_labels_do_not_depend_on_threads(true_stages: Stages, labeled: LabeledClip, frames: np.ndarray):
    again = label_clip(frames, fps=24.0, config=CONFIG, threads=3, stages=true_stages)
    np.testing.assert_array_equal(again.tracks.xy, labeled.tracks.xy)
    np.testing.assert_array_equal(again.tracks.valid, labeled.tracks.valid)


def test_valid_labels_lie_in_the_frame(labeled: LabeledClip):
    tracks = labeled.tracks
    positions = tracks.xy[tracks.valid]
    assert np.isfinite(positions).all()
    assert ((positions >= 0) & (positions < [tracks.width, tracks.height])).all()
    assert (tracks.visible.sum(1) >= CONFIG.min_visible).all()


def test_confidence_is_of_valid_labels_and_separates_good_from_better(labeled: LabeledClip):
    tracks = labeled.tracks
    assert tracks.confidence.shape == tracks.visible.shape
    assert ((tracks.confidence > 0) == tracks.valid).all()
    assert 0.55 < tracks.confidence[tracks.visible].min() < tracks.confidence[tracks.visible].max() < 1


def test_no_people_give_no_track_and_a_reason():
    no_people = Stages(detection=lambda *_: [])
    labeled = label_clip(np.zeros((5, 64, 64, 3), np.uint8), fps=10, stages=no_people)
    assert len(labeled.tracks) == 0
    assert labeled.tracks.xy.shape == (0, 5, 2)
    assert "no person was found (people must be in plain view" in str(labeled.skipped)
    assert "crop the video" in str(labeled.skipped)


def test_people_who_are_left_out_are_counted_with_the_reason(
    true_stages: Stages, labeled: LabeledClip, frames: np.ndarray
):
    """They change no label, and have numbers of their own through the video."""
    boxes = np.full((len(frames), 4), 5, np.float32)
    crowd = Stages(detection=lambda *_: [*true_stages.detection(), PersonTrack(boxes, left_out="one too many")])
    found = label_clip(frames, fps=24.0, config=CONFIG, stages=crowd)
    np.testing.assert_array_equal(found.tracks.xy, labeled.tracks.xy)
    assert [(person["person"], person["tracks"], person["no_track"]) for person in found.people] == [
        (0, len(labeled.tracks), None),
        (1, 0, "one too many"),
    ]
    assert found.seconds["labeled_motion"] > 0
    numbering = VideoPeople(np.unique(found.tracks.vertex))
    first = replace(found, source_frames=np.arange(len(frames)))
    later = replace(found, source_frames=np.arange(len(frames)) + 1000)
    assert [person["person"] for clip in (first, later) for person in numbering.number(clip).people] == [0, 1, 0, 2]


def test_one_frame_gives_no_valid_label(frames: np.ndarray, anny: Body, dance: PoseParameters, camera: Camera):
    pose = PoseParameters(dance.values[:1], dance.shape, dance.reference)
    still = Stages(detection=lambda *_: [as_person(anny, pose, camera)])
    labeled = label_clip(frames[:1], fps=24.0, config=CONFIG, stages=still)
    assert len(labeled.tracks) == 0
    assert "no label of the person found is valid" in str(labeled.skipped)


@pytest.mark.parametrize(
    ("frames", "fps"),
    [
        (np.zeros((5, 64, 64), np.uint8), 24.0),
        (np.zeros((5, 64, 64, 3), np.float32), 24.0),
        (np.zeros((0, 64, 64, 3), np.uint8), 24.0),
        (np.zeros((5, 64, 64, 3), np.uint8), 0.0),
    ],
)
def test_invalid_clips_are_rejected(frames: np.ndarray, fps: float):
    with pytest.raises(ValueError, match="must be"):
        label_clip(frames, fps=fps)


def test_the_public_functions_are_on_the_package():
    import anthrotap_builder

    assert anthrotap_builder.label_clip is label_clip
    assert anthrotap_builder.LabelingConfig is LabelingConfig
    with pytest.raises(AttributeError, match="nonsense"):
        _ = anthrotap_builder.nonsense


def test_meshes_that_were_written_give_the_same_labels(
    labeled: LabeledClip, true_stages: Stages, frames: np.ndarray, anny: Body, tmp_path
):
    with MeshWriter(tmp_path / "clip.meshes.npz", anny) as writer:
        writer.add(np.arange(100, 100 + len(frames)), labeled.meshes, labeled.camera)
    file = read_meshes(tmp_path / "clip.meshes.npz")
    config = CONFIG.model_copy(update={"mesh_source": "file"})
    times = np.arange(100, 100 + len(frames))
    again = label_clip(frames, 24.0, config, stages=true_stages, meshes=ClipMeshes(file, times))
    for name in ("xy", "visible", "valid", "person", "vertex", "confidence"):
        np.testing.assert_array_equal(getattr(again.tracks, name), getattr(labeled.tracks, name))
    assert again.rejected_fraction == labeled.rejected_fraction
    assert again.info["label_version"] != labeled.info["label_version"]

    elsewhere = label_clip(frames, 24.0, config, stages=true_stages, meshes=ClipMeshes(file, times - 100))
    assert len(elsewhere.tracks) == 0
    assert "the file has no mesh in these frames" in str(elsewhere.skipped)
    assert elsewhere.info["label_version"].startswith(config.version())


def test_refined_meshes_lie_nearer_to_the_truth(
    true_stages: Stages, frames: np.ndarray, anny: Body, dance: PoseParameters, camera: Camera, tmp_path
):
    """A mesh source with errors of seven degrees at each joint and of some centimeters."""
    rng = np.random.default_rng(0)
    values = dance.values + rng.normal(size=dance.values.shape) * 0.12 * np.linspace(0.5, 1, 24)[:, None]
    values[:, :3] = dance.values[:, :3] + rng.normal(size=(24, 3)) * [0.02, 0.02, 0.1]
    values[:, 2] *= 1.2 * 360 / camera.focal  # as far as the clip's own camera has it
    pose = PoseParameters(values, dance.shape, dance.reference).posed(anny)
    local = pose.local_rotations(anny)
    root = anny.joints[0] + np.tensordot(dance.shape, anny.joint_directions[:, 0], 1)
    np.savez(
        tmp_path / "noisy.npz",
        frame=np.arange(24),
        person=np.zeros(24, int),
        size=np.array([300, 360]),
        focal=np.array(1.2 * 360),
        body=np.array("anny"),
        global_orient=local[:, 0],
        body_pose=local[:, 1:],
        betas=dance.shape,
        translation=pose.positions[:, 0] - root,
    )
    meshes = ClipMeshes(read_meshes(tmp_path / "noisy.npz"), np.arange(24))
    surface = anny.surface_points(300, 0)
    truth = camera.project(surface.positions(anny.pose_vertices(dance.posed(anny)), anny.faces))
    slide = {}
    for refine in (False, True):
        config = LabelingConfig(points=300, mesh_source="file", refine=refine)
        clip = label_clip(frames, 24.0, config, stages=true_stages, meshes=meshes)
        (mesh,) = clip.meshes
        offset = clip.camera.project(surface.positions(mesh.vertices, anny.faces)) - truth
        slide[refine] = np.nanmedian(np.linalg.norm(offset[8:] - offset[:-8], axis=-1))
    assert slide[True] < 0.5 * slide[False]


def test_stored_frames_have_the_labels_of_all_frames(
    true_stages: Stages, frames: np.ndarray, anny: Body, make_video, monkeypatch, tmp_path
):
    """Labels are made at 24 frames a second, also where 8 are stored; and again by the meshes that were written."""
    monkeypatch.setattr(pipeline, "label_clip", partial(label_clip, stages=true_stages))
    path = make_video(frames=frames, fps=24)
    (full,) = label_video(path, CONFIG, 1)
    slow = CONFIG.model_copy(update={"clips": ClipSettings(fps=8)})
    (clip,) = label_video(path, slow, 1)
    assert (clip.fps, clip.source_frames.tolist()) == (8, list(range(0, 24, 3)))
    np.testing.assert_array_equal(clip.frames, full.frames[::3])
    expected = full.tracks.at_frames(np.arange(0, 24, 3))
    expected = expected.select(expected.visible.sum(1) >= CONFIG.min_visible)
    assert len(expected) > 60
    for name in ("xy", "visible", "valid", "person", "vertex", "confidence"):
        np.testing.assert_array_equal(getattr(clip.tracks, name), getattr(expected, name))
    (person,) = clip.people
    assert (person["frames"], person["tracks"], person["no_track"]) == (8, len(clip.tracks), None)

    # The meshes are of all frames, and give the same labels again.
    assert clip.mesh_frames.tolist() == list(range(24))
    with MeshWriter(tmp_path / "all.meshes.npz", anny) as writer:
        writer.add(clip.mesh_frames, clip.meshes, clip.camera)
    given = slow.model_copy(update={"mesh_source": "file"})
    (again,) = label_video(path, given, 1, meshes=read_meshes(tmp_path / "all.meshes.npz"))
    np.testing.assert_array_equal(again.tracks.xy, clip.tracks.xy)
    np.testing.assert_array_equal(again.tracks.visible, clip.tracks.visible)


def test_meshes_of_the_stored_frames_alone_are_enough(
    frames: np.ndarray, anny: Body, dance: PoseParameters, camera: Camera, make_video, monkeypatch, tmp_path
):
    times = np.arange(0, 24, 3)
    vertices = anny.pose_vertices(dance.posed(anny))[times]
    np.savez(
        tmp_path / "slow.npz",
        frame=times,
        person=np.zeros(8, int),
        size=np.array(frames.shape[1:3]),
        focal=np.array(camera.focal),
        body=np.array("anny"),
        vertices=vertices,
    )
    seen = []

    def label(frames: np.ndarray, **options) -> LabeledClip:
        seen.append((len(frames), options["fps"]))
        return label_clip(frames, **options)

    monkeypatch.setattr(pipeline, "label_clip", label)
    unmasked = {"points": 300, "mesh_source": "file", "filter": {"masks": False}, "clips": {"fps": 8}}
    path, meshes = make_video(frames=frames, fps=24), read_meshes(tmp_path / "slow.npz")
    (clip,) = label_video(path, LabelingConfig(**unmasked), 1, meshes=meshes)
    assert seen == [(8, 8)]
    assert len(clip.tracks) > 60
    assert clip.mesh_frames.tolist() == times.tolist()


def test_a_person_whose_tracks_are_too_short_at_the_stored_frames_has_a_reason(
    true_stages: Stages, frames: np.ndarray, make_video, monkeypatch
):
    """There are tracks that are visible in nine frames, but only eight frames are stored."""
    monkeypatch.setattr(pipeline, "label_clip", partial(label_clip, stages=true_stages))
    config = CONFIG.model_copy(update={"clips": ClipSettings(fps=8), "min_visible": 9})
    (clip,) = label_video(make_video(frames=frames, fps=24), config, 1)
    assert len(clip.tracks) == 0
    assert clip.people[0]["no_track"] == "no track is visible in 9 stored frames (min_visible)"
    assert (clip.skipped.start_frame, clip.skipped.num_frames) == (0, 8)


def test_meshes_where_no_person_is_detected_are_rejected_unless_masks_are_not_used(
    labeled: LabeledClip, frames: np.ndarray, anny: Body, tmp_path
):
    with MeshWriter(tmp_path / "clip.meshes.npz", anny) as writer:
        writer.add(np.arange(len(frames)), labeled.meshes, labeled.camera)
    meshes = ClipMeshes(read_meshes(tmp_path / "clip.meshes.npz"), np.arange(len(frames)))
    config = LabelingConfig(points=300, mesh_source="file")
    no_people = Stages(detection=lambda *_: [])
    rejected = label_clip(frames, 24.0, config, stages=no_people, meshes=meshes)
    assert len(rejected.tracks) == 0
    assert "no label of the person found is valid" in str(rejected.skipped)

    def never(*_: object) -> list:
        raise AssertionError("no person is to be detected")

    alone = LabelingConfig(points=300, mesh_source="file", filter={"masks": False})
    unmasked = label_clip(frames, 24.0, alone, stages=Stages(detection=never), meshes=meshes)
    assert len(unmasked.tracks) > 80


def test_masks_of_the_user_take_the_place_of_detected_people(
    labeled: LabeledClip, frames: np.ndarray, anny: Body, dance: PoseParameters, camera: Camera, tmp_path
):
    """Labels lie in the user's masks, whoever is detected: here, in all of the person but the lowest part."""
    with MeshWriter(tmp_path / "clip.meshes.npz", anny) as writer:
        writer.add(np.arange(len(frames)), labeled.meshes, labeled.camera)
    meshes = read_meshes(tmp_path / "clip.meshes.npz")
    whole = as_person(anny, dance, camera, noise=2.0).mask
    assert whole is not None
    border = int(np.quantile(labeled.tracks.xy[labeled.tracks.visible][:, 1], 0.85))
    whole[:, border:] = False
    (tmp_path / "masks").mkdir()
    for t in range(len(frames)):
        Image.fromarray(whole[t]).save(tmp_path / f"masks/{t}.png")

    def never(*_: object) -> list:
        raise AssertionError("no person is to be detected")

    given = replace(meshes, masks=read_masks(tmp_path / "masks"))
    config = LabelingConfig(points=300, mesh_source="file")
    clip = label_clip(
        frames, 24.0, config, stages=Stages(detection=never), meshes=ClipMeshes(given, np.arange(len(frames)))
    )
    assert len(clip.tracks) > 60
    y = clip.tracks.xy[clip.tracks.visible][:, 1]
    assert (y < border + 8).mean() > 0.99
    # Other masks, other labels: the version says so.
    assert clip.info["label_version"] != f"{config.version()}-{meshes.digest}"
    assert given.digest != replace(meshes, masks=None).digest


def test_masks_that_do_not_fit_are_one_line(labeled: LabeledClip, frames: np.ndarray, anny: Body, tmp_path):
    with MeshWriter(tmp_path / "clip.meshes.npz", anny) as writer:
        writer.add(np.arange(len(frames)), labeled.meshes, labeled.camera)
    meshes = read_meshes(tmp_path / "clip.meshes.npz")
    (tmp_path / "masks/0").mkdir(parents=True)
    with pytest.raises(MeshFileError, match="no such folder of masks"):
        read_masks(tmp_path / "none")
    with pytest.raises(MeshFileError, match="no picture is in it; name a folder of pictures"):
        read_masks(tmp_path / "masks")
    Image.new("L", frames.shape[2:0:-1], 255).save(tmp_path / "masks/0/0.png")
    given = replace(meshes, masks=read_masks(tmp_path / "masks"))
    config = LabelingConfig(points=300, mesh_source="file")
    with pytest.raises(MeshFileError, match="it has 1 masks, and the video a frame 23"):
        label_clip(frames, 24.0, config, meshes=ClipMeshes(given, np.arange(24)))


def test_meshes_and_the_mesh_source_file_go_together(frames: np.ndarray, true_stages: Stages):
    with pytest.raises(ValueError, match='meshes belong to mesh_source "file"'):
        label_clip(frames, 24.0, CONFIG.model_copy(update={"mesh_source": "file"}), stages=true_stages)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_damaged_video_gives_its_clips_before_the_error(make_video, threads: int):
    path = make_video(shots=[20, 5, 96], size=(64, 96), gop=24)
    data = bytearray(path.read_bytes())
    at = data.index(b"mdat") + 4 * (len(data) - data.index(b"mdat")) // 5
    data[at : at + 400] = np.random.default_rng(0).bytes(400)
    path.write_bytes(data)
    expected, pieces, got, lines = [], [], [], []
    with pytest.raises(VideoError, match="damaged"):
        expected.extend(clip.start_frame for clip in read_clips(path, CONFIG_OF_SHORT_CLIPS.clips, pieces.append))
    clips = label_video(path, CONFIG_OF_SHORT_CLIPS, threads, on_skipped=lines.append)
    with pytest.raises(VideoError, match="damaged"):
        got.extend(clip.start_frame for clip in clips)
    assert got == expected
    assert len(got) > 2
    assert lines == pieces
    assert lines
