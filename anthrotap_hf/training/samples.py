"""Samples: what a training step sees, cut from a labeled clip; and batches of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from anthrotap_hf.training.augmentation import (
    Color,
    Range,
    SmoothAffine,
    crop_matrix,
    flip_matrix,
    move_points,
    warp_frame,
)
from anthrotap_hf.video import VideoError

if TYPE_CHECKING:
    from torch import Tensor

DRAWS = 4  # of window and motion, until enough of the clip's tracks are in sight


class BadSampleError(ValueError):
    """A clip that no sample can be made of. The message is one line: which clip, and why."""


@dataclass(frozen=True)
class LabeledClip:
    """A clip of a source, before anything of it is decoded.

    Attributes:
        name: says which clip it is.
        tracks: [N, T, 2] float, xy in raster pixels of a frame of height x width; may be NaN where not valid.
        visible: [N, T] bool, whether the point is seen; means nothing where not valid.
        valid: [N, T] bool, whether the label may be trusted.
        height, width: of the frames that tracks refer to.
        frames: decodes the frames of the given numbers (rising), one at a time, each [H, W, 3] uint8 RGB; of any size:
            tracks are scaled to it.
    """

    name: str
    tracks: np.ndarray
    visible: np.ndarray
    valid: np.ndarray
    height: int
    width: int
    frames: Callable[[Sequence[int]], Iterator[np.ndarray]]

    def __post_init__(self) -> None:
        shape = self.visible.shape
        if len(shape) != 2 or self.tracks.shape != (*shape, 2) or self.valid.shape != shape:
            raise BadSampleError(
                f"{self.name}: tracks, visible and valid must be [N, T, 2], [N, T] and [N, T], "
                f"got {list(self.tracks.shape)}, {list(shape)} and {list(self.valid.shape)}"
            )
        if self.height <= 0 or self.width <= 0:
            raise BadSampleError(f"{self.name}: a frame of {self.width} x {self.height} pixels")


class Sample(TypedDict):
    """What `make_sample` gives. Points are raster pixels of the sample's own frame.

    `video` [T, H, W, 3] uint8 RGB; `query_points` [N, 3] float32 (t, x, y); `tracks` [N, T, 2] float32 xy, zeros where
    it is not valid; `visible` and `valid` [N, T] bool; `name` of the clip.
    """

    video: np.ndarray
    query_points: np.ndarray
    tracks: np.ndarray
    visible: np.ndarray
    valid: np.ndarray
    name: str


@dataclass(frozen=True)
class SampleSettings:
    """How a sample is cut from a clip. The defaults are the paper's for labels on people.

    Attributes:
        num_frames: frames of a sample.
        dilation: every how manyth frame of the clip is taken.
        num_queries: query points, drawn among all seen labels (with replacement where there are fewer).
        height, width: of the sample's frames, pixels.
        min_visible: frames in which a track must be seen, in the clip's window and again after augmentation.
        affine: smooth motion added, or None.
        flip: probability of changing left and right.
        crop: None, or the smallest and largest side of a crop, as a share of the frame's (each axis by itself).
        color: change of colors, or None.

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

    def __post_init__(self) -> None:
        for name in ("num_frames", "dilation", "num_queries", "height", "width", "min_visible"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.min_visible > self.num_frames:
            raise ValueError(f"min_visible is {self.min_visible}, but a sample has {self.num_frames} frames")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip is a probability, got {self.flip}")
        if self.crop is not None and not 0 < self.crop[0] <= self.crop[1] <= 1:
            raise ValueError(f"crop must be two rising shares of the frame in (0, 1], got {self.crop}")

    @property
    def reach(self) -> int:
        """Frames of a clip that a sample spans."""
        return (self.num_frames - 1) * self.dilation + 1


def make_sample(clip: LabeledClip, settings: SampleSettings, rng: np.random.Generator) -> Sample:
    """A sample of a clip: window, motion and queries are chosen first, then only the frames needed are decoded.

    A label that leaves the frame by augmentation, or lay outside the clip's own, and whose place is trusted, becomes
    hidden (valid, not visible): of it is known that it is not in sight.

    Raises:
        BadSampleError: if the clip is too short, has NaN among its trusted labels, or nothing to be seen.
        VideoError: if its frames can't be decoded.
    """
    total = clip.visible.shape[1]
    if total < settings.reach:
        raise BadSampleError(
            f"{clip.name}: {total} frames; {settings.num_frames} with dilation {settings.dilation} "
            f"need {settings.reach}"
        )
    for _ in range(DRAWS):
        start = int(rng.integers(total - settings.reach + 1))
        chosen = slice(start, start + settings.reach, settings.dilation)
        valid = clip.valid[:, chosen]
        kept = np.flatnonzero((valid & clip.visible[:, chosen]).sum(1) >= settings.min_visible)
        valid, tracks = valid[kept], clip.tracks[kept, chosen]
        tracks = np.where(valid[..., None], tracks, 0)
        if not np.isfinite(tracks).all():
            raise BadSampleError(f"{clip.name}: NaN among labels that are said to be valid")
        inside = _inside(tracks, clip.height, clip.width)
        matrices = _draw_matrices(settings, rng, clip.height, clip.width)
        tracks = move_points(matrices, tracks)
        inside &= _inside(tracks, settings.height, settings.width)
        visible = clip.visible[kept, chosen] & inside
        seen = valid & visible
        seen &= seen.sum(1, keepdims=True) >= settings.min_visible
        places = np.flatnonzero(seen)
        if len(places):
            break
    else:
        raise BadSampleError(
            f"{clip.name}: no track is seen in {settings.min_visible} frames, in {DRAWS} draws of a window"
        )
    asked = rng.choice(places, settings.num_queries, replace=len(places) < settings.num_queries)
    track, time = np.divmod(asked, settings.num_frames)
    query_points = np.concatenate([time[:, None], tracks[track, time]], 1).astype(np.float32)

    video = np.empty((settings.num_frames, settings.height, settings.width, 3), np.uint8)
    count = 0
    for image in clip.frames(range(start, start + settings.reach, settings.dilation)):
        to_clip = np.diag([clip.width / image.shape[1], clip.height / image.shape[0], 1])
        warp_frame(image, matrices[count] @ to_clip, video[count])
        count += 1
    if count != settings.num_frames:
        raise BadSampleError(f"{clip.name}: {count} frames came out of its video, not {settings.num_frames}")
    if settings.color is not None:
        video = settings.color.apply(rng, video)
    tracks, valid = tracks[track], valid[track]  # one query, one track: some may be there twice
    return Sample(
        video=video,
        query_points=query_points,
        tracks=np.where(valid[..., None], tracks, np.float32(0)),
        visible=visible[track],
        valid=valid,
        name=clip.name,
    )


def _inside(xy: np.ndarray, height: int, width: int) -> np.ndarray:
    return np.all((xy >= 0) & (xy < (width, height)), axis=-1)


def _draw_matrices(settings: SampleSettings, rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """[T, 3, 3] from the clip's raster pixels to the sample's: motion, then flip, then crop and resize."""
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


BAD = (BadSampleError, VideoError, OSError)  # what may be wrong with one clip; anything else is our fault


def collate(samples: Sequence[Sample]) -> dict[str, Any]:
    """A batch, as the models and the losses take it.

    Returns:
        `pixel_values_videos` [B, T, 3, H, W] uint8 (the models scale it), `query_points` [B, N, 3] float32 (t, x, y),
        `tracks` [B, N, T, 2] float32, `visible` and `valid` [B, N, T] bool, all torch; and `names`, a list.
    """
    import torch

    def stacked(key: str) -> Tensor:
        return torch.from_numpy(np.stack([_field(sample, key) for sample in samples]))

    return {
        "pixel_values_videos": stacked("video").permute(0, 1, 4, 2, 3).contiguous(),
        **{key: stacked(key) for key in ("query_points", "tracks", "visible", "valid")},
        "names": [sample["name"] for sample in samples],
    }


def _field(sample: Mapping[str, Any], key: str) -> np.ndarray:
    return sample[key]
