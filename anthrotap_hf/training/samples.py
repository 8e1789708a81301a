"""Samples: what a training step sees, cut from a clip; and batches of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NotRequired, TypedDict, TypeGuard, get_args

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
        distinct_tracks: whether no two queries are on one track, while there are tracks left; else a track may have
            several.

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
    distinct_tracks: bool = False

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
    track, time = np.divmod(_draw_queries(candidates, settings, rng), settings.num_frames)
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


def _draw_queries(candidates: np.ndarray, settings: SampleSettings, rng: np.random.Generator) -> np.ndarray:
    """Draw `num_queries` of the candidates (track times frames plus frame)."""
    if settings.distinct_tracks:
        # In random order, the first candidate of each track, and then the others.
        candidates = rng.permutation(candidates)
        _, first = np.unique(candidates // settings.num_frames, return_index=True)
        others = np.setdiff1d(np.arange(len(candidates)), first)
        candidates = candidates[np.concatenate([rng.permutation(first), others])]
        if len(candidates) >= settings.num_queries:
            return candidates[: settings.num_queries]
    return rng.choice(candidates, settings.num_queries, replace=len(candidates) < settings.num_queries)


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


def to_training_sample(
    row: Mapping[str, Any] | TrackedClip,
    num_frames: int = 24,
    size: int | tuple[int, int] = 256,
    num_points: int = 256,
    *,
    dilation: int = 1,
    augment: bool = False,
    rng: np.random.Generator | None = None,
) -> Sample:
    """Cut a sample of fixed size out of a labeled clip: a window of its frames, resized, and points that are tracked.

    Each point has a query, drawn among the visible labels of its track. No two are on one track while there are tracks
    left.

    Args:
        row: a row of the dataset, in whatever format ("numpy" is fastest), or a clip of `stream_clips`.
        num_frames: T, the frames of the sample; where the clip has more, the window is drawn.
        size: (height, width) of the sample's frames in pixels, or one number for both. The aspect ratio is not kept.
        num_points: N, the points of the sample.
        dilation: the sample takes every `dilation`-th frame of the clip.
        augment: whether to move the clip smoothly, scale and flip it at random, as the paper does.
        rng: of everything that is drawn; None: seeded by torch's generator, which differs in each worker
            of a DataLoader.

    Returns:
        The `Sample`. `collate` makes batches of them.

    Raises:
        BadClipError: if the clip has too few frames, or no visible label.
        VideoError: if its video is missing or cannot be decoded.
        ValueError: if an argument is out of its range, or columns of the row are missing.
    """
    from anthrotap_hf.schema import decode_clip

    if rng is None:
        import torch

        rng = np.random.default_rng(int(torch.randint(1 << 62, ())))
    height, width = (size, size) if isinstance(size, int) else size
    settings = SampleSettings(
        num_frames=num_frames,
        dilation=dilation,
        num_queries=num_points,
        height=height,
        width=width,
        min_visible=min(SampleSettings.min_visible, num_frames),
        affine=SmoothAffine() if augment else None,
        flip=0.5 if augment else 0.0,
        distinct_tracks=True,
    )
    return make_sample(decode_clip(row) if isinstance(row, Mapping) else row, settings, rng)


Layout = Literal["cotracker", "tapir", "locotrack", "anthrotap"]


def collate(
    items: Sequence[Sample | Mapping[str, Any] | TrackedClip], layout: Layout = "cotracker", **options: Any
) -> dict[str, Any]:
    """Make a batch of samples as the training code of a tracker takes it: a `collate_fn` for DataLoaders.

    Args:
        items: what `to_training_sample` gave; or rows and clips, for which it is called.
        layout: whose arrays and coordinates.

            "cotracker" (facebookresearch/co-tracker, cotracker/datasets/utils.py): `video` [B, T, 3, H, W] float32 from
            0 to 255; `trajectories` [B, T, N, 2] float32 xy, the center of the first pixel at (0, 0); `visibility` and
            `valid` [B, T, N] bool; `query_points` [B, N, 3] float32 (t, x, y), likewise.

            "tapir" (google-deepmind/tapnet) and "locotrack" (cvlab-kaist/locotrack): `video` [B, T, H, W, 3] float32
            from -1 to 1; `target_points` [B, N, T, 2] float32 xy, raster pixels; `occluded` [B, N, T] bool, True
            wherever the point is not visible; `valid` [B, N, T] bool, the `mask` of their losses; `query_points` [B,
            N, 3] float32 (t, y, x).

            "anthrotap", the models and losses of this package: `pixel_values_videos` [B, T, 3, H, W] uint8,
            `query_points` [B, N, 3] float32 (t, x, y), `tracks` [B, N, T, 2] float32 xy, raster pixels; `visible` and
            `valid` [B, N, T] bool; and `flow_tracks` and `flow_logits` where the samples have them.
        options: of `to_training_sample`, for rows and clips.

    Returns:
        The tensors, and the `names` of the clips, a list. Labels that are not valid have finite positions and are not
        visible; leave them out of every loss.

    Raises:
        ValueError: if there is no such layout; and as `to_training_sample`.
    """
    import torch

    if layout not in get_args(Layout):
        raise ValueError(f"layout must be one of {', '.join(get_args(Layout))}, got {layout!r}")
    samples: list[Mapping[str, Any]] = [
        item if _is_sample(item) else {**to_training_sample(item, **options)} for item in items
    ]

    def stack(key: str) -> Tensor:
        return torch.from_numpy(np.stack([sample[key] for sample in samples]))

    names = {"names": [sample["name"] for sample in samples]}
    video, queries = stack("video"), stack("query_points")
    if layout == "anthrotap":
        flow = [key for key in ("flow_tracks", "flow_logits") if key in samples[0]]
        tensors = {key: stack(key) for key in ("tracks", "visible", "valid", *flow)}
        frames = video.permute(0, 1, 4, 2, 3).contiguous()
        return {"pixel_values_videos": frames, "query_points": queries, **tensors, **names}
    if layout == "cotracker":
        # Its first pixel's center is (0, 0), as OpenCV's.
        return {
            "video": video.permute(0, 1, 4, 2, 3).float().contiguous(),
            "trajectories": stack("tracks").transpose(1, 2).contiguous() - 0.5,
            "visibility": stack("visible").transpose(1, 2).contiguous(),
            "valid": stack("valid").transpose(1, 2).contiguous(),
            "query_points": queries - torch.tensor([0, 0.5, 0.5]),
            **names,
        }
    return {
        "video": video.float() * (2 / 255) - 1,
        "target_points": stack("tracks"),
        "occluded": ~stack("visible"),
        "valid": stack("valid"),
        "query_points": queries[..., [0, 2, 1]],
        **names,
    }


def _is_sample(item: Sample | Mapping[str, Any] | TrackedClip) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(item, Mapping) and "query_points" in item
