"""From a video to labeled clips: the stages in order, top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from anthrotap_builder.bodies import load_body
from anthrotap_builder.clips import OnSkipped, SkippedFrames, StoredFrames, VideoClip, read_clips
from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.context import ClipContext
from anthrotap_builder.detection import PersonTrack, detect_people
from anthrotap_builder.detection.labeled_motion import LabeledMotion, measure_labeled_motion
from anthrotap_builder.filtering import filter_labels, why_no_track
from anthrotap_builder.flow.track_flow import TrackFlow, track_flow
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.mesh_recovery import MeshTrack, recover_meshes
from anthrotap_builder.mesh_recovery.masks import fill_masks, match_masks
from anthrotap_builder.mesh_recovery.mesh_file import ClipMeshes, MeshFile
from anthrotap_builder.registries import FLOWS
from anthrotap_builder.surface_tracks import SurfaceTracks, project_and_test_visibility
from anthrotap_builder.utils.malloc import limit_malloc_arenas, release_free_memory
from anthrotap_builder.video_people import VideoPeople
from anthrotap_hf.tracks import TrackedClip, Tracks
from anthrotap_hf.utils import opencv_threads
from anthrotap_hf.video import check_video

# The detector sees the whole frame and squares of its shorter side, at 224 pixels. Of a juggler whose picture was made
# smaller it found one of a quarter of that side, and none of a fifth.
NOBODY = (
    "no person was found (people must be in plain view for 8 frames, head or trunk at least, and at least a quarter as "
    "tall as the frame's shorter side is long: crop the video around smaller ones)"
)
StageReport = Callable[[str], object]
"""Is called with the name of each stage as it begins."""


@dataclass(frozen=True)
class LabeledClip(TrackedClip):
    """A `TrackedClip` and what each stage found. Its `info` holds `schema.INFO_COLUMNS`.

    Attributes:
        people: quality of the meshes of each person found in the clip, number of tracks, and why if there is none
            (plain values, for reports and manifests); also of people who are left out.
        motion: what moves in the clip, and how much of it has labels.
        source_frames: [T] int, the number of each frame among the decoded frames of the source video.
        meshes: the meshes of all people, over the frames that labels were made on: the T frames of the clip and, where
            `clips.fps` leaves some out, those between them.
        mesh_frames: [M] int, the number of each of these frames, likewise.
        camera: the camera that the meshes are projected with.
        seconds: wall seconds spent in each stage.
    """

    fps: float = 0.0
    people: list[dict[str, Any]] = field(default_factory=list)
    motion: LabeledMotion = field(default_factory=LabeledMotion)
    source_frames: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    meshes: list[MeshTrack] = field(default_factory=list)
    mesh_frames: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    camera: Camera | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def rejected_fraction(self) -> float:
        """Fraction of the (track, frame) labels, visible by the mesh inside frame and mask, that flow rejected; of all
        frames that labels were made on."""
        return float(self.info["rejected_fraction"])

    @property
    def skipped(self) -> SkippedFrames | None:
        """Why the clip makes no row of a dataset; None if it has tracks."""
        if len(self.tracks):
            return None
        of_file = self.info["mesh_source"].startswith("file")
        reason = "the file has no mesh in these frames" if of_file else NOBODY
        if self.people:
            who = "the person" if len(self.people) == 1 else f"the {len(self.people)} people"
            reason = f"no label of {who} found is valid"
        return SkippedFrames(self.start_frame, len(self.frames), reason)


@dataclass(frozen=True)
class Stages:
    """The function of each stage, which a benchmark may replace by the ground truth, to measure what the stage costs.

    Attributes:
        detection: context -> people.
        mesh_recovery: context, people, meshes of a file or None -> meshes.
        visibility: context, meshes -> surface tracks.
        flow: context, xy, visible -> flow at the tracks, by lag; between neighboring frames first.
        filtering: context, surface tracks, people, flow -> labels, and the fraction that flow rejected.
    """

    detection: Callable[[ClipContext], list[PersonTrack]] = detect_people
    mesh_recovery: Callable[[ClipContext, list[PersonTrack], list[MeshTrack] | None], list[MeshTrack]] = recover_meshes
    visibility: Callable[[ClipContext, list[MeshTrack]], SurfaceTracks] = project_and_test_visibility
    flow: Callable[[ClipContext, np.ndarray, np.ndarray], list[TrackFlow]] = track_flow
    filtering: Callable[[ClipContext, SurfaceTracks, list[PersonTrack], list[TrackFlow]], tuple[Tracks, float]] = (
        filter_labels
    )


def load_parts(config: LabelingConfig, device: str = "cpu") -> None:
    """Load what labeling needs, so that what is missing is an error before the first frame is read.

    Raises:
        AssetError, ImportError: for what is missing, with the way to get it.
    """
    if config.body != "mesh":
        load_body(config.body, config.gender, config.body_file)
    if config.needs_detection and config.detection.detector == "boxes":
        from anthrotap_builder.detection.boxes import load_detector, require_byte_track

        require_byte_track()
        load_detector(config.detection.detector_model, device)
    if config.mesh_source == "tokenhmr":
        from anthrotap_builder.mesh_recovery.tokenhmr import load_tokenhmr

        load_tokenhmr(config.tokenhmr, device)
    FLOWS.load(config.flow.model)(config.flow, device)


def label_video(
    path: str | Path,
    config: LabelingConfig | None = None,
    threads: int = 2,
    device: str = "cpu",
    on_stage: StageReport | None = None,
    on_skipped: OnSkipped | None = None,
    meshes: MeshFile | None = None,
) -> Generator[LabeledClip, None, None]:
    """Label a video clip by clip; nothing needs the whole video in memory.

    Labels are made on all frames, or on about 30 a second of a video much faster than that (see `clips.read_clips`);
    what is yielded has only the frames that are stored, `config.clips.fps` a second. While one clip is labeled, up to a
    clip's frames after it are in memory, those between stored frames included.

    Args:
        path: the video.
        config: everything that changes a label; the open default if None.
        threads: how many frames are worked on at once; labels do not depend on it.
        device: where networks run, as torch names it ("cuda"); the open default has none that would gain by it.
        on_stage: is called with the name of each stage as it begins.
        on_skipped: is called with each piece of the video that is too short for a clip.
        meshes: of the video, where `config.mesh_source` is "file".

    Raises:
        anthrotap_hf.video.VideoError: if the video cannot be read, or is damaged after the last clip given.
    """
    config = config or LabelingConfig()
    limit_malloc_arenas()
    # Before the body, whose first use takes minutes.
    check_video(path)
    people: VideoPeople | None = None
    if meshes is None:
        body = load_body(config.body, config.gender, config.body_file)
        people = VideoPeople(body.surface_points(config.points, config.seed).vertex)
    begin = time.perf_counter()
    for clip in read_clips(path, config.clips, on_skipped, between=True):
        # Its frames were read one by one, and copied.
        release_free_memory()
        reading = time.perf_counter() - begin
        if meshes is not None:
            clip = _with_meshes(clip, meshes)
        labeled = label_clip(
            clip.frames,
            fps=clip.fps,
            config=config,
            threads=threads,
            device=device,
            on_stage=on_stage,
            meshes=None if meshes is None else ClipMeshes(meshes, clip.source_frames),
        )
        labeled.seconds["reading"] = reading
        labeled = replace(
            labeled,
            clip_id=clip.clip_id,
            source_video=clip.source_video,
            source_sha256=clip.source_sha256,
            start_frame=clip.start_frame,
            source_frames=clip.source_frames,
            mesh_frames=clip.source_frames,
        )
        # A file of meshes numbers its people itself.
        if people is not None:
            labeled = people.number(labeled)
        if clip.stored is not None:
            labeled = _stored_only(labeled, clip.stored, config.min_visible)
        # While the caller uses the clip, frames that are not stored are no longer needed.
        del clip
        yield labeled
        if on_stage:
            on_stage("reading")
        begin = time.perf_counter()


def _with_meshes(clip: VideoClip, meshes: MeshFile) -> VideoClip:
    """Return the clip without the frames between stored ones, if the file has meshes for none of them."""
    if clip.stored is None:
        return clip
    between = np.delete(clip.source_frames, clip.stored.index)
    return clip if np.isin(between, meshes.frame).any() else clip.stored_only()


def _stored_only(clip: LabeledClip, stored: StoredFrames, min_visible: int) -> LabeledClip:
    """Return a labeled clip with the labels of its stored frames; only `meshes` keep all.

    Args:
        clip: the labels of all frames.
        stored: which of them are stored.
        min_visible: tracks that are visible in fewer of these are dropped.
    """
    tracks = clip.tracks.at_frames(stored.index)
    tracks = tracks.select(tracks.visible.sum(1) >= min_visible)
    meshes = {mesh.person: mesh for mesh in clip.meshes}
    people = []
    for quality in clip.people:
        # Who was left out has no mesh.
        if mesh := meshes.get(quality["person"]):
            no_track = quality["no_track"]
            quality = _quality(mesh, tracks, stored.index)
            if not quality["tracks"]:
                quality["no_track"] = no_track or f"no track is visible in {min_visible} stored frames (min_visible)"
        people.append(quality)
    return replace(
        clip,
        tracks=tracks,
        video=clip.frames[stored.index],
        fps=stored.fps,
        people=people,
        source_frames=clip.source_frames[stored.index],
    )


def label_clip(
    frames: np.ndarray,
    fps: float,
    config: LabelingConfig | None = None,
    threads: int = 2,
    device: str = "cpu",
    on_stage: StageReport | None = None,
    stages: Stages | None = None,
    meshes: ClipMeshes | None = None,
) -> LabeledClip:
    """Label one clip: detection, mesh recovery, visibility, flow, filtering.

    Args:
        frames: [T, H, W, 3] uint8 RGB, one shot without cuts.
        fps: frames a second.
        config: everything that changes a label; the open default if None (`config.clips` is not used here).
        threads: how many frames are worked on at once; labels do not depend on it.
        device: where networks run, as torch names it ("cuda"); the open default has none that would gain by it.
        on_stage: is called with the name of each stage as it begins.
        stages: the function of each stage; those of the configuration if None.
        meshes: of the clip, where `config.mesh_source` is "file".

    Returns:
        The clip with tracks in the frames' raster pixels; without tracks if no person was found.

    Raises:
        ValueError: if `frames` is not [T, H, W, 3] uint8 with at least one frame, or `fps` is not positive.
    """
    config, stages = config or LabelingConfig(), stages or Stages()
    # Threads work on several frames: OpenCV's own threads would only get in the way.
    opencv_threads.use_one()
    clock = _Clock(on_stage)
    if (meshes is None) == config.meshes_from_file:
        raise ValueError('meshes belong to mesh_source "file", and only there')
    context = ClipContext.of(frames, fps, config, threads, device, meshes.file if meshes else None)
    given = meshes.file.tracks(meshes.frames, context.body, context.camera) if meshes else None
    people: list[PersonTrack] = []
    left_out: list[PersonTrack] = []
    masks = meshes.file.masks if meshes else None
    if masks is not None and given:
        assert meshes is not None
        height, width = frames.shape[1:3]
        people = masks.people(meshes.frames, height, width, 1 + max(mesh.person for mesh in given))
    elif config.needs_detection and given != []:
        with clock.stage("detection"):
            found = stages.detection(context)
            people = [person for person in found if not person.left_out]
            if given:
                people = match_masks(given, people, context.camera)
            else:
                left_out = [person for person in found if person.left_out]
    tracks, rejected_fraction = Tracks.empty(len(frames), *frames.shape[1:3]), 0.0
    qualities: list[dict[str, Any]] = []
    recovered: list[MeshTrack] = []
    if people if given is None else given:
        with clock.stage("mesh_recovery"):
            recovered = stages.mesh_recovery(context, people, given)
        with clock.stage("visibility"):
            points = stages.visibility(context, recovered)
        with clock.stage("flow"):
            flow = stages.flow(context, points.xy, points.visible)
        with clock.stage("filtering"):
            seen = fill_masks(people, recovered, context.camera)
            labels, rejected_fraction = stages.filtering(context, points, seen, flow)
            tracks = labels.select(labels.visible.sum(1) >= config.min_visible)
            for mesh in recovered:
                qualities.append(_quality(mesh, tracks))
                if not qualities[-1]["tracks"]:
                    qualities[-1]["no_track"] = why_no_track(context, mesh, points, seen, labels)
    qualities += [_quality_without_mesh(number, person) for number, person in enumerate(left_out, len(people))]
    with clock.stage("labeled_motion"):
        motion = measure_labeled_motion(context, tracks)
    info = {
        "body_model": config.body,
        "mesh_source": config.mesh_source,
        "flow": config.flow.model,
        "label_version": config.version() + (f"-{meshes.file.digest}" if meshes else ""),
        "rejected_fraction": rejected_fraction,
    }
    return LabeledClip(
        tracks=tracks,
        video=frames,
        fps=fps,
        info=info,
        people=qualities,
        motion=motion,
        meshes=recovered,
        camera=context.camera,
        seconds=clock.seconds,
    )


def _quality(mesh: MeshTrack, tracks: Tracks, frames: np.ndarray | slice = slice(None)) -> dict[str, Any]:
    """Return the quality of one person's meshes in some frames, and how many tracks they gave."""
    return {
        "person": mesh.person,
        "frames": int(mesh.present[frames].sum()),
        "rejected_frames": int(mesh.rejected[frames].sum()),
        "reprojection_error": _median(mesh.reprojection_error[frames]),
        "mask_overlap": _median(mesh.mask_overlap[frames]),
        "tracks": int((tracks.person == mesh.person).sum()),
        "no_track": None,
    }


def _quality_without_mesh(number: int, person: PersonTrack) -> dict[str, Any]:
    """Return the same of a person who is not labeled."""
    nan = float("nan")
    return {
        "person": number,
        "frames": 0,
        "rejected_frames": 0,
        "reprojection_error": nan,
        "mask_overlap": nan,
        "tracks": 0,
        "no_track": person.left_out,
    }


def _median(values: np.ndarray) -> float:
    return float(np.nanmedian(values)) if np.isfinite(values).any() else float("nan")


class _Clock:
    """Wall seconds by stage."""

    def __init__(self, on_stage: StageReport | None) -> None:
        self.seconds: dict[str, float] = {}
        self._on_stage = on_stage

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        if self._on_stage:
            self._on_stage(name)
        start = time.perf_counter()
        yield
        # What a stage needed on the way would stay with the process, beside what the next one needs.
        release_free_memory()
        self.seconds[name] = time.perf_counter() - start
