"""Samples: what a training step sees, cut from a clip; and batches of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import numpy as np

from anthrotap_hf.readers.base import BadClipError
from anthrotap_hf.training.augmentation import (
    Color,
    Range,
    SmoothAffine,
    crop_matrix,
    flip_matrix,
    move_points,
    warp_frame,
)

if TYPE_CHECKING:
    from torch import Tensor

    from anthrotap_hf.tracks import TrackedClip

# Windows and motions that are drawn until enough of the clip's tracks are visible.
MAX_DRAWS = 4


class Sample(TypedDict):
    """What `make_sample` gives. Points are raster pixels of the sample's own frame.

    `video` [T, H, W, 3] uint8 RGB; `query_points` [N, 3] float32 (t, x, y); `tracks` [N, T, 2] float32 xy, zeros where
    invalid; `visible` and `valid` [N, T] bool; `name` of the clip; of prepared clips also where flow leads from the
    queries, `flow_tracks` [N, T, 2] and `flow_logits` [N, T] float32, as LocoTrack's `follow_flow` returns them.
    """

    video: np.ndarray
    query_points: np.ndarray
    tracks: np.ndarray
    visible: np.ndarray
    valid: np.ndarray
    name: str
    flow_tracks: NotRequired[np.ndarray]
    flow_logits: NotRequired[np.ndarray]


@dataclass(frozen=True)
class SampleSettings:
    """How a sample is cut from a clip. The defaults are the paper's for labels on people.

    Attributes:
        num_frames: frames of a sample.
        dilation: a sample takes every `dilation`-th frame of the clip.
        num_queries: query points, drawn among all visible labels (with replacement where there are fewer).
        height, width: of the sample's frames, pixels.
        min_visible: frames in which a track must be visible, in the clip's window and again after augmentation.
        affine: smooth motion to add, or None.
        flip: probability of changing left and right.
        crop: None, or the smallest and largest side of a crop, as a fraction of the frame's (each axis by itself).
        color: change of colors, or None.
        max_query_frames: number of frames that queries are drawn from, the first with a visible label and others at
            random; None: all. AllTracker runs once for each.

    Raises:
        ValueError: if a number is out of its range.
    """

    num_frames: int = 48
    dilation: int = 2
    num_queries: int = 256
    height: int = 256
    width: int = 256
    min_visible: int = 4
    affine: SmoothAffine | None = field(default_factory=SmoothAffine)
    flip: float = 0.5
    crop: Range | None = None
    color: Color | None = None
    max_query_frames: int | None = None

    def __post_init__(self) -> None:
        for name in ("num_frames", "dilation", "num_queries", "height", "width", "min_visible"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.max_query_frames is not None and self.max_query_frames < 1:
            raise ValueError(f"max_query_frames must be at least 1, got {self.max_query_frames}")
        if self.min_visible > self.num_frames:
            raise ValueError(f"min_visible is {self.min_visible}, but a sample has {self.num_frames} frames")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip is a probability, got {self.flip}")
        if self.crop is not None and not 0 < self.crop[0] <= self.crop[1] <= 1:
            raise ValueError(f"crop must be two rising fractions of the frame in (0, 1], got {self.crop}")

    @property
    def span(self) -> int:
        """Frames of a clip that a sample spans."""
        return (self.num_frames - 1) * self.dilation + 1


def make_sample(clip: TrackedClip, settings: SampleSettings, rng: np.random.Generator) -> Sample:
    """Cut a sample: window, motion and queries are drawn first, then only the frames needed are decoded.

    A valid label that leaves the frame by augmentation, or lay outside the clip's own, becomes occluded (valid, not
    visible): it is known not to be in view.

    Args:
        clip: its frames may be of another size than its tracks refer to.
        settings: how to cut it.
        rng: of everything that is drawn.

    Raises:
        BadClipError: if the clip is too short, or nothing is visible in it.
        VideoError: if its frames cannot be decoded.
    """
    labels = clip.tracks
    if labels.num_frames < settings.span:
        raise BadClipError(
            f"{labels.num_frames} frames; {settings.num_frames} with dilation {settings.dilation} need {settings.span}",
            path=clip.clip_id,
            hint="a smaller sample.dilation or sample.num_frames of its source needs fewer",
        )
    for _ in range(MAX_DRAWS):
        start = int(rng.integers(labels.num_frames - settings.span + 1))
        window = slice(start, start + settings.span, settings.dilation)
        kept = np.flatnonzero(labels.visible[:, window].sum(1) >= settings.min_visible)
        xy, visible = labels.xy[kept, window], labels.visible[kept, window]
        # Nothing is painted outside of the clip's own frame: a point there is not visible wherever it moves to.
        visible = visible & _is_inside(xy, labels.height, labels.width)
        matrices = _draw_matrices(settings, rng, labels.height, labels.width)
        xy = move_points(matrices, xy)
        visible &= _is_inside(xy, settings.height, settings.width)
        enough = visible.sum(1, keepdims=True) >= settings.min_visible
        candidates = np.flatnonzero(visible & enough)
        if len(candidates):
            break
    else:
        raise BadClipError(
            f"no track is visible in {settings.min_visible} frames, in {MAX_DRAWS} draws of a window",
            path=clip.clip_id,
        )
    if settings.max_query_frames is not None:
        candidates = _in_few_frames(candidates, settings, rng)
    replace = len(candidates) < settings.num_queries
    track, time = np.divmod(rng.choice(candidates, settings.num_queries, replace=replace), settings.num_frames)
    query_points = np.concatenate([time[:, None], xy[track, time]], 1).astype(np.float32)
    valid = labels.valid[kept, window][track]
    return Sample(
        video=_warp_frames(clip, settings, range(start, start + settings.span, settings.dilation), matrices, rng),
        query_points=query_points,
        tracks=np.where(valid[..., None], xy[track], np.float32(0)),
        visible=visible[track],
        valid=valid,
        name=clip.clip_id,
    )


def _in_few_frames(candidates: np.ndarray, settings: SampleSettings, rng: np.random.Generator) -> np.ndarray:
    """Return the candidates (track times frames plus frame) that lie in at most `max_query_frames` frames."""
    times = candidates % settings.num_frames
    first, *others = np.unique(times)
    number = min(settings.max_query_frames or 1, 1 + len(others)) - 1
    return candidates[np.isin(times, [first, *rng.choice(others, number, replace=False)])]


def _warp_frames(
    clip: TrackedClip,
    settings: SampleSettings,
    numbers: range,
    matrices: np.ndarray,
    rng: np.random.Generator,
) -> np.ndarray:
    """Decode the frames with these numbers and move each by its matrix: [T, H, W, 3] uint8 RGB."""
    video = np.empty((settings.num_frames, settings.height, settings.width, 3), np.uint8)
    count = 0
    for image in clip.iter_frames(numbers):
        # From the decoded frame's pixels to those that the tracks refer to, then to the sample's.
        scale = np.diag([clip.tracks.width / image.shape[1], clip.tracks.height / image.shape[0], 1])
        warp_frame(image, matrices[count] @ scale, video[count])
        count += 1
    if count != settings.num_frames:
        raise BadClipError(f"{count} frames came out of its video, not {settings.num_frames}", path=clip.clip_id)
    return video if settings.color is None else settings.color.apply(rng, video)


def _is_inside(xy: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.all((xy >= 0) & (xy < (width, height)), axis=-1)


def _draw_matrices(settings: SampleSettings, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Draw [T, 3, 3] from the clip's raster pixels to the sample's: motion, then flip, then crop and resize."""
    matrices = np.broadcast_to(np.eye(3), (settings.num_frames, 3, 3))
    if settings.affine is not None:
        matrices = settings.affine.draw(rng, settings.num_frames, height, width)
    if rng.random() < settings.flip:
        matrices = flip_matrix(width) @ matrices
    box = (0.0, 0.0, float(width), float(height))
    if settings.crop is not None:
        side_x, side_y = rng.uniform(*settings.crop, 2) * (width, height)
        left, top = rng.uniform(0, width - side_x), rng.uniform(0, height - side_y)
        box = (left, top, left + side_x, top + side_y)
    return crop_matrix(box, settings.height, settings.width) @ matrices


def collate(samples: Sequence[Sample]) -> dict[str, Any]:
    """Stack samples as the models and the losses take them.

    Returns:
        `pixel_values_videos` [B, T, 3, H, W] uint8 (the models scale it), `query_points` [B, N, 3] float32 (t, x, y),
        `tracks` [B, N, T, 2] float32, `visible` and `valid` [B, N, T] bool, all torch; `names`, a list; and
        `flow_tracks` and `flow_logits` where the samples have them.
    """
    import torch

    def stack(key: str) -> Tensor:
        rows: Sequence[Mapping[str, Any]] = samples
        return torch.from_numpy(np.stack([row[key] for row in rows]))

    flow = [key for key in ("flow_tracks", "flow_logits") if key in samples[0]]
    return {
        "pixel_values_videos": stack("video").permute(0, 1, 4, 2, 3).contiguous(),
        **{key: stack(key) for key in ("query_points", "tracks", "visible", "valid", *flow)},
        "names": [sample["name"] for sample in samples],
    }
