"""From a video to labelled clips: the stages in order, top to bottom."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np

from anthrotap_builder.bodies import Body, load_body
from anthrotap_builder.clips import read_clips
from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.filtering import filter_tracks
from anthrotap_builder.flow import neighbour_flow
from anthrotap_builder.memory import share_one_heap
from anthrotap_builder.meshes import MESH_SOURCES, MeshTrack
from anthrotap_builder.people import PersonTrack, find_people
from anthrotap_builder.projection import Camera
from anthrotap_hf.tracks import Tracks

logger = logging.getLogger(__name__)

StageReport = Callable[[str], None]
"""Is told the name of each stage as it begins."""


@dataclass(frozen=True)
class LabeledClip:
    """One clip, its tracks, and what each stage found.

    Attributes:
        frames: [T, H, W, 3] uint8 RGB, the frames that the tracks refer to.
        fps: frames a second of `frames`.
        tracks: the labels.
        rejected_fraction: share of the (track, frame) labels, seen by the mesh, that the flow check refused.
        clip_id, source_video, start_frame: where the clip comes from; `start_frame` counts decoded frames of the
            source video, before any resampling in time.
        body_model, mesh_source, flow, label_version: what made the labels.
        people: per person of the clip, what the fit says of itself (plain numbers, for reports and manifests).
        seconds: wall seconds spent in each stage; flow runs beside meshes and visibility.
    """

    frames: np.ndarray
    fps: float
    tracks: Tracks
    rejected_fraction: float
    clip_id: str = ""
    source_video: str = ""
    start_frame: int = 0
    body_model: str = ""
    mesh_source: str = ""
    flow: str = ""
    label_version: str = ""
    people: list[dict[str, float]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def left_out(self) -> str | None:
        """Why the clip makes no row of a dataset, in one line; None if it has tracks."""
        if len(self.tracks):
            return None
        reason = "no label of those found could be trusted" if self.people else "nobody was found"
        return f"{self.source_video}: {len(self.frames)} frames from frame {self.start_frame} on: {reason}"


def label_video(
    path: str | Path,
    config: LabelingConfig | None = None,
    threads: int = 2,
    on_stage: StageReport | None = None,
    skipped: list[str] | None = None,
) -> Iterator[LabeledClip]:
    """Labels a video clip by clip; nothing needs the whole video in memory.

    Args:
        path: the video.
        config: everything that changes a label; the open default when left out.
        threads: how many frames are worked on at once; labels do not depend on it.
        on_stage: is told the name of each stage as it begins.
        skipped: gets a line for each piece of the video that is left out, with the reason.

    Raises:
        anthrotap_hf.video.VideoError: if the video cannot be read, or is damaged after the last clip given.
    """
    config = config or LabelingConfig()
    share_one_heap()
    begin = time.perf_counter()
    for clip in read_clips(path, config.clips, skipped):
        reading = time.perf_counter() - begin
        labeled = label_clip(clip.frames, fps=clip.fps, config=config, threads=threads, on_stage=on_stage)
        labeled.seconds["reading"] = reading
        yield replace(
            labeled, clip_id=clip.clip_id, source_video=clip.source_video, start_frame=clip.start_frame
        )
        if on_stage:
            on_stage("reading")
        begin = time.perf_counter()


def label_clip(
    frames: np.ndarray,
    fps: float,
    config: LabelingConfig | None = None,
    threads: int = 2,
    on_stage: StageReport | None = None,
) -> LabeledClip:
    """Labels one clip: people, meshes, projection, visibility, flow, filtering.

    Args:
        frames: [T, H, W, 3] uint8 RGB, one shot without cuts.
        fps: frames a second.
        config: everything that changes a label; the open default when left out (`config.clips` is not used here).
        threads: how many frames are worked on at once; labels do not depend on it.
        on_stage: is told the name of each stage as it begins.

    Returns:
        The clip with tracks in the frames' raster pixels; no track where nobody was found.

    Raises:
        ValueError: if `frames` is not [T, H, W, 3] uint8 with at least one frame, or `fps` is not positive.
    """
    config = config or LabelingConfig()
    if frames.ndim != 4 or frames.shape[3] != 3 or frames.dtype != np.uint8 or not len(frames):
        raise ValueError(f"frames must be [T, H, W, 3] uint8, got {frames.shape} {frames.dtype}")
    if not fps > 0:
        raise ValueError(f"fps must be positive, got {fps}")
    cv2.setNumThreads(1)  # frames are shared out over threads here; OpenCV's own would only get in the way
    clock = _Clock(on_stage)
    height, width = frames.shape[1:3]
    camera = Camera.guess(width, height, config.fit.focal_ratio)

    with clock.stage("people"):
        people = find_people(frames, config.people, threads)
    if not people:
        return _labeled(frames, fps, Tracks.empty(len(frames), height, width), 0.0, [], config, clock)

    with ThreadPoolExecutor(1) as beside:  # the fit leaves the second core free
        rows, columns = _window(people)
        around = frames[:, rows, columns]
        flows = beside.submit(clock.timed, "flow", neighbour_flow, around, config.flow, threads)
        body = load_body(config.body)
        with clock.stage("meshes"):
            meshes = MESH_SOURCES[config.mesh_source](
                people, frames, body, camera, fps, config.fit, config.flow, threads
            )
        with clock.stage("visibility"):
            xy, visible, certain, person, vertex = _project_and_see(body, meshes, camera, config, threads)
        forward, backward = flows.result()
    with clock.stage("filtering"):
        inside = camera.contains(xy)
        # Outside its person's mask a point that the mesh calls visible is off the body or behind something; outside
        # everyone's, a point that it calls hidden is where nobody is.
        own, anyone = _in_masks(xy, person, people)
        believed = inside & np.where(visible, own, anyone)
        unit = min(height, width) / 256
        local = xy - np.array([columns.start, rows.start], np.float32)
        valid = believed & filter_tracks(local, visible & believed, forward, backward, config.filter, unit)
        checked = visible & believed
        rejected_fraction = float((checked & ~valid).sum() / max(checked.sum(), 1))
        valid &= certain
        tracks = Tracks(xy, visible, valid, height, width, person, vertex)
        tracks = tracks.select(tracks.seen.sum(1) >= config.min_seen)
    return _labeled(frames, fps, tracks, rejected_fraction, meshes, config, clock)


def _window(people: list[PersonTrack]) -> tuple[slice, slice]:
    """Rows and columns around everyone's masks, with room for flow to see where they come from and go."""
    everyone = np.any([person.mask.any(0) for person in people], axis=0)
    bounds = []
    for axis in (1, 0):
        taken = np.flatnonzero(everyone.any(axis))
        low, high = (taken[0], taken[-1] + 1) if len(taken) else (0, everyone.shape[1 - axis])
        room = max(32, (high - low) // 8)
        bounds.append(slice(max(0, low - room), min(everyone.shape[1 - axis], max(high + room, low + 64))))
    return bounds[0], bounds[1]


def _project_and_see(
    body: Body, meshes: list[MeshTrack], camera: Camera, config: LabelingConfig, threads: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Sampled surface points of everyone: xy [N, T, 2], visible and certain [N, T], person [N], vertex [N]."""
    from anthrotap_builder.certainty import see_points  # numba: only where it is used

    surface = body.surface_points(config.points, config.seed)
    frames = len(meshes[0].vertices)
    xy = np.full((len(meshes), len(surface), frames, 2), np.nan, np.float32)
    visible = np.zeros((len(meshes), len(surface), frames), bool)
    certain = np.zeros_like(visible)

    def look(t: int) -> None:
        there = [index for index, mesh in enumerate(meshes) if mesh.present[t]]
        vertices = [meshes[index].vertices[t] for index in there]
        seen = see_points(vertices, body.faces, surface, camera, config.visibility)
        for index, mesh_vertices, (mesh_seen, mesh_certain) in zip(there, vertices, seen, strict=True):
            xy[index, :, t] = camera.project(surface.positions(mesh_vertices, body.faces))
            visible[index, :, t], certain[index, :, t] = mesh_seen, mesh_certain

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(look, range(frames)))
    return (
        xy.reshape(-1, frames, 2),
        visible.reshape(-1, frames),
        certain.reshape(-1, frames),
        np.repeat([mesh.person for mesh in meshes], len(surface)).astype(np.int32),
        np.tile(surface.vertex, len(meshes)),
    )


def _in_masks(xy: np.ndarray, person: np.ndarray, people: list[PersonTrack]) -> tuple[np.ndarray, np.ndarray]:
    """[N, T] bool each: whether a point lies in its own person's mask, and in anyone's."""
    height, width = people[0].mask.shape[1:]
    cells = np.clip(np.nan_to_num(xy), 0, [width - 1, height - 1]).astype(np.intp)
    frames = np.arange(xy.shape[1])
    own = np.zeros(xy.shape[:2], bool)
    for index, track in enumerate(people):
        rows = person == index
        own[rows] = track.mask[frames, cells[rows, :, 1], cells[rows, :, 0]]
    everyone = np.any([track.mask for track in people], axis=0)
    return own, everyone[frames, cells[..., 1], cells[..., 0]]


def _labeled(
    frames: np.ndarray,
    fps: float,
    tracks: Tracks,
    rejected_fraction: float,
    meshes: list[MeshTrack],
    config: LabelingConfig,
    clock: _Clock,
) -> LabeledClip:
    people = [
        {
            "person": mesh.person,
            "frames": int(mesh.present.sum()),
            "refused_frames": int((np.isfinite(mesh.reprojection_error) & ~mesh.present).sum()),
            "reprojection_error": _median(mesh.reprojection_error),
            "mask_overlap": _median(mesh.mask_overlap),
            "tracks": int((tracks.person == mesh.person).sum()),
        }
        for mesh in meshes
    ]
    return LabeledClip(
        frames=frames,
        fps=fps,
        tracks=tracks,
        rejected_fraction=rejected_fraction,
        body_model=config.body,
        mesh_source=config.mesh_source,
        flow=config.flow.model,
        label_version=config.version,
        people=people,
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

    def timed(self, name: str, work: Callable, *arguments: object):
        start = time.perf_counter()
        result = work(*arguments)
        self.seconds[name] = time.perf_counter() - start
        return result
