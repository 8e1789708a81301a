"""Render the tracking set, and write it as TAP-Vid pickles."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from anthrotap_hf.utils.atomic_files import atomic_write
from anthrotap_hf.video import decode_video, write_video
from benchmarks.synthetic.code_version import RENDERER, code_hash
from benchmarks.synthetic.objects import ObjectScene, render_objects
from benchmarks.synthetic.renderer import RenderedClip, render_scene
from benchmarks.synthetic.tracking_set.clips import FILES, TrackingClip, tracking_set
from benchmarks.synthetic.tracking_set.points import sample_tracks

# Changes of these files change the clips.
SOURCES = (
    *RENDERER,
    "creatures.py",
    "meshes.py",
    "objects.py",
    "paths.py",
    "shapes.py",
    *(f"tracking_set/{name}.py" for name in ("camera", "clips", "files", "objects", "people", "points")),
)


@dataclass(frozen=True)
class RenderedTracks:
    """A rendered clip with the exact tracks of some points.

    Attributes:
        frames: [T, H, W, 3] uint8 RGB.
        xy: [N, T, 2] float64, raster pixels; also where a point is occluded or out of frame.
        visible: [N, T] bool.
        owner: [N] int, the number of the person or object; -1 for the background.
    """

    frames: np.ndarray
    xy: np.ndarray
    visible: np.ndarray
    owner: np.ndarray


def write_tracking_set(
    folder: Path,
    files: Sequence[str] = FILES,
    threads: int = 2,
    on_step: Callable[[TrackingClip, int], object] = lambda clip, frames: None,
) -> list[Path]:
    """Render the set into `folder`, one pickle a file; clips that are in `folder`/clips are not rendered again.

    Args:
        folder: folder of the pickles.
        files: which of `FILES`.
        threads: frames rendered at once.
        on_step: called with each clip that is done, and how many of its frames were rendered now.

    Returns:
        The paths of the pickles.
    """
    paths = []
    for file in files:
        videos = {}
        for clip in tracking_set([file]):
            video, rendered = _load_or_render(clip, folder, threads)
            videos[clip.name] = {
                "video": video.frames,
                "points": (video.xy / [video.frames.shape[2], video.frames.shape[1]]).astype(np.float32),
                "occluded": ~video.visible,
            }
            on_step(clip, rendered)
        paths.append(folder / f"{file}.pkl")
        with atomic_write(paths[-1]) as tmp_path, open(tmp_path, "wb") as stream:
            pickle.dump(videos, stream, protocol=4)
    return paths


def load_clips(
    folder: Path, files: Sequence[str] = FILES, threads: int = 2
) -> Iterator[tuple[TrackingClip, RenderedTracks]]:
    """Load the clips from `folder`, and render those that are not in it."""
    for clip in tracking_set(files):
        yield clip, _load_or_render(clip, folder, threads)[0]


def _load_or_render(clip: TrackingClip, folder: Path, threads: int) -> tuple[RenderedTracks, int]:
    """Return a clip, and how many of its frames were rendered. Files of other versions are neither used nor removed."""
    path = folder / "clips" / f"{clip.name}-{set_version()}.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as archive:
            return RenderedTracks(**archive), 0
    video = render_tracks(clip, threads)
    with atomic_write(path) as tmp_path:
        np.savez(tmp_path, frames=video.frames, xy=video.xy, visible=video.visible, owner=video.owner)
    return video, len(video.frames)


@lru_cache(maxsize=1)
def set_version() -> str:
    """Return a hash of the code, without its comments, that decides what the clips are.

    It is computed once: code that is edited during a run is not what runs.
    """
    return code_hash(SOURCES)


def render_tracks(clip: TrackingClip, threads: int = 2) -> RenderedTracks:
    """Render a clip, and track points of it. The result depends on the clip alone."""
    scene = clip.scene()
    rendered = render_objects(scene, threads) if isinstance(scene, ObjectScene) else render_scene(scene, threads)
    xy, visible, owner = sample_tracks(scene, rendered.truth, np.random.default_rng([clip.seed, 1]))
    return RenderedTracks(_compressed(rendered, clip.settings.crf), xy, visible, owner)


def _compressed(clip: RenderedClip, crf: int | None) -> np.ndarray:
    if crf is None:
        return clip.frames
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_video(path, clip.frames, clip.fps, crf)
        return decode_video(path)
