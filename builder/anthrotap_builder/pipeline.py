"""From a video to labeled clips: the stages in order, top to bottom."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from anthrotap_builder.bodies import Body, MeshSurface, load_body
from anthrotap_builder.clips import read_clips
from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.detection import PersonTrack, detect_people
from anthrotap_builder.filtering import filter_labels
from anthrotap_builder.flow import FLOWS, TrackFlow, track_flow
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.geometry.visibility_margin import SurfaceTracks, project_and_test_visibility
from anthrotap_builder.mesh_recovery import MeshTrack, find_meshes
from anthrotap_builder.mesh_recovery.masks import match_masks
from anthrotap_builder.mesh_recovery.mesh_file import MeshFile
from anthrotap_builder.utils.malloc import limit_malloc_arenas
from anthrotap_builder.utils.prefetch import prefetch
from anthrotap_hf.tracks import TrackedClip, Tracks
from anthrotap_hf.utils import opencv_threads

logger = logging.getLogger(__name__)

StageReport = Callable[[str], None]
"""Is told the name of each stage as it begins."""


@dataclass(frozen=True)
class LabeledClip(TrackedClip):
    """A `TrackedClip` and what each stage found. Its `info` holds `schema.INFO_COLUMNS`.

    Attributes:
        people: for each person of the clip, what the fit says of itself (plain numbers, for reports and manifests).
        source_frames: [T] int, the number of each frame among the decoded frames of the source video.
        meshes: the meshes of all people.
        camera: the camera that the meshes are projected with.
        seconds: wall seconds spent in each stage; for reading, how long the labeling waited for it.
    """

    fps: float = 0.0
    people: list[dict[str, float]] = field(default_factory=list)
    source_frames: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int64))
    meshes: list[MeshTrack] = field(default_factory=list)
    camera: Camera | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def rejected_fraction(self) -> float:
        """Share of the (track, frame) labels, visible by the mesh inside frame and mask, that flow rejected."""
        return float(self.info["rejected_fraction"])

    @property
    def left_out(self) -> str | None:
        """Why the clip makes no row of a dataset, in one line; None if it has tracks."""
        if len(self.tracks):
            return None
        nothing = "the file has no mesh here" if self.info["mesh_source"] == "file" else "nobody was found"
        reason = "no label of those found could be trusted" if self.people else nothing
        return f"{self.source_video}: {len(self.frames)} frames from frame {self.start_frame} on: {reason}"


@dataclass(frozen=True)
class Stages:
    """What does each stage's work. The proving ground puts the truth in the place of one, to see what it costs."""

    people: Callable[..., list[PersonTrack]] = detect_people
    meshes: Callable[..., list[MeshTrack]] = find_meshes
    look: Callable[..., SurfaceTracks] = project_and_test_visibility
    flow: Callable[..., TrackFlow] = track_flow
    trust: Callable[..., tuple[Tracks, float]] = filter_labels


def load_parts(config: LabelingConfig, device: str = "cpu") -> None:
    """Loads what labeling needs, so that what is missing is said before the first frame is looked at.

    Raises:
        AssetError, ImportError: for what is missing, with the way to get it.
    """
    if config.body != "mesh":
        load_body(config.body, config.gender, config.body_file)
    if config.looks_for_people and config.people.detector == "boxes":
        from anthrotap_builder.detection.boxes import load_detector, require_byte_track

        require_byte_track()
        load_detector(config.people.detector_model, config.people.min_weak_detection, device)
    if config.mesh_source == "tokenhmr":
        from anthrotap_builder.mesh_recovery.tokenhmr import load_tokenhmr

        load_tokenhmr(config.tokenhmr, device)
    FLOWS[config.flow.model](config.flow, device)


def label_video(
    path: str | Path,
    config: LabelingConfig | None = None,
    threads: int = 2,
    device: str = "cpu",
    on_stage: StageReport | None = None,
    skipped: list[str] | None = None,
    meshes: MeshFile | None = None,
) -> Iterator[LabeledClip]:
    """Labels a video clip by clip; nothing needs the whole video in memory.

    Unless `threads` is 1, the next clip is read while one is labeled: then frames of up to four clips are in memory,
    and of three most of the time.

    Args:
        path: the video.
        config: everything that changes a label; the open default when left out.
        threads: how many frames are worked on at once; labels do not depend on it.
        device: where networks run, as torch names it ("cuda"); the open default has none that would gain by it.
        on_stage: is told the name of each stage as it begins.
        skipped: gets a line for each piece of the video that is left out, with the reason.
        meshes: of the video, where `config.mesh_source` is "file".

    Raises:
        anthrotap_hf.video.VideoError: if the video cannot be read, or is damaged after the last clip given.
    """
    config = config or LabelingConfig()
    limit_malloc_arenas()
    begin = time.perf_counter()
    for clip in prefetch(partial(read_clips, path, config.clips), skipped, threads):
        reading = time.perf_counter() - begin
        labeled = label_clip(
            clip.frames,
            fps=clip.fps,
            config=config,
            threads=threads,
            device=device,
            on_stage=on_stage,
            meshes=meshes,
            source_frames=clip.source_frames,
        )
        labeled.seconds["reading"] = reading
        yield replace(
            labeled,
            clip_id=clip.clip_id,
            source_video=clip.source_video,
            source_sha256=clip.source_sha256,
            start_frame=clip.start_frame,
            source_frames=clip.source_frames,
        )
        if on_stage:
            on_stage("reading")
        begin = time.perf_counter()


def label_clip(
    frames: np.ndarray,
    fps: float,
    config: LabelingConfig | None = None,
    threads: int = 2,
    device: str = "cpu",
    on_stage: StageReport | None = None,
    stages: Stages | None = None,
    meshes: MeshFile | None = None,
    source_frames: np.ndarray | None = None,
) -> LabeledClip:
    """Labels one clip: people, meshes, projection, visibility, flow, filtering.

    Args:
        frames: [T, H, W, 3] uint8 RGB, one shot without cuts.
        fps: frames a second.
        config: everything that changes a label; the open default when left out (`config.clips` is not used here).
        threads: how many frames are worked on at once; labels do not depend on it.
        device: where networks run, as torch names it ("cuda"); the open default has none that would gain by it.
        on_stage: is told the name of each stage as it begins.
        stages: what does the work of each stage; those of the configuration when left out.
        meshes: of the video, where `config.mesh_source` is "file".
        source_frames: [T] int, each frame's place among the decoded frames of the video, for `meshes`; from 0 on when
            left out.

    Returns:
        The clip with tracks in the frames' raster pixels; no track where nobody was found.

    Raises:
        ValueError: if `frames` is not [T, H, W, 3] uint8 with at least one frame, or `fps` is not positive.
    """
    config = config or LabelingConfig()
    stages = stages or Stages()
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise ValueError(f"frames must be [T, H, W, 3] uint8, got {frames.shape} {frames.dtype}")
    if not fps > 0:
        raise ValueError(f"fps must be positive, got {fps}")
    opencv_threads.one()  # frames are shared out over threads here; OpenCV's own would only get in the way
    clock = _Clock(on_stage)
    height, width = frames.shape[1:3]
    if (meshes is None) == (config.mesh_source == "file"):
        raise ValueError('meshes belong to mesh_source "file", and only there')
    given = None
    body: Body | MeshSurface
    if meshes is None:
        camera = Camera.guess(width, height, config.focal_ratio)
        body = load_body(config.body, config.gender, config.body_file)
    else:
        camera = meshes.camera(width, height)
        body = meshes.surface(config.body, config.gender, config.body_file)
        times = np.arange(len(frames)) if source_frames is None else source_frames
        given = meshes.tracks(times, body, camera)

    version = config.version if meshes is None else f"{config.version}-{meshes.digest}"
    people: list[PersonTrack] = []
    if config.looks_for_people and given != []:
        with clock.stage("people"):
            people = stages.people(frames, config.people, threads, device)
            if given:
                people = match_masks(given, people, camera)
    if not (people if given is None else given):
        nobody = Tracks.empty(len(frames), height, width)
        return _labeled(frames, fps, nobody, 0.0, [], camera, config, version, clock)
    with clock.stage("meshes"):
        found = stages.meshes(people, frames, body, camera, fps, config, threads, device, given)
    with clock.stage("visibility"):
        points = stages.look(body, found, camera, config, threads)
    with clock.stage("flow"):
        flow = stages.flow(frames, points.xy, points.visible, config.flow, threads, device)
    with clock.stage("filtering"):
        tracks, rejected_fraction = stages.trust(points, people, flow, camera, config)
        tracks = tracks.select(tracks.visible.sum(1) >= config.min_visible)
    return _labeled(frames, fps, tracks, rejected_fraction, found, camera, config, version, clock)


def _labeled(
    frames: np.ndarray,
    fps: float,
    tracks: Tracks,
    rejected_fraction: float,
    meshes: list[MeshTrack],
    camera: Camera,
    config: LabelingConfig,
    version: str,
    clock: _Clock,
) -> LabeledClip:
    people = [
        {
            "person": mesh.person,
            "frames": int(mesh.present.sum()),
            "refused_frames": int(mesh.rejected.sum()),
            "reprojection_error": _median(mesh.reprojection_error),
            "mask_overlap": _median(mesh.mask_overlap),
            "tracks": int((tracks.person == mesh.person).sum()),
        }
        for mesh in meshes
    ]
    return LabeledClip(
        tracks=tracks,
        video=frames,
        fps=fps,
        info={
            "body_model": config.body,
            "mesh_source": config.mesh_source,
            "flow": config.flow.model,
            "label_version": version,
            "rejected_fraction": rejected_fraction,
        },
        people=people,
        meshes=meshes,
        camera=camera,
        seconds=clock.seconds,
    )


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
        self.seconds[name] = time.perf_counter() - start
