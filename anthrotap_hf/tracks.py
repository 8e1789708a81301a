"""`Tracks` and `TrackedClip`: the only classes that carry point tracks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Self

import numpy as np

FrameLoader = Callable[[Sequence[int]], Iterator[np.ndarray]]
"""Decodes the frames with the given (ascending) numbers, one at a time, each [H, W, 3] uint8 RGB."""


@dataclass(frozen=True)
class Tracks:
    """Point tracks of one clip.

    Each (track, frame) label is *visible* (valid and in view), *occluded* (valid and hidden by something) or
    *invalid* (not to be trusted: ignore it in every loss). Positions are finite everywhere, so `loss * valid` is safe.

    Attributes:
        xy: [N, T, 2] float32, raster pixels: the image spans (0, 0) to (width, height) and the center of the
            first pixel is (0.5, 0.5). An invalid label holds the nearest valid position of its track in time. It may
            be float64: TAP-Vid's ground truth stays so, for metrics as published.
        visible: [N, T] bool, whether the point is in view. It is False wherever `valid` is.
        valid: [N, T] bool, whether the label may be trusted.
        height, width: size of the frames that `xy` refers to, pixels.
        person: [N] int32, the person that the track lies on.
        vertex: [N] int32, the body-model vertex nearest to the surface point that the track follows.
        confidence: [N, T] float32 in [0, 1], or None where it is not known. For a visible label it is the probability
            that the label lies within 2 pixels (in a frame scaled to 256x256) of the point that its track follows,
            given that this point is in view. For an occluded one it is the probability that the point is occluded
            there. For invalid labels it is 0.

    Raises:
        ValueError: if shapes disagree, `visible` or `valid` is not bool, a position is not finite, or a label is
            visible but not valid. Use `Tracks.from_labels` for arrays that do not keep these rules yet.
    """

    xy: np.ndarray
    visible: np.ndarray
    valid: np.ndarray
    height: int
    width: int
    person: np.ndarray
    vertex: np.ndarray
    confidence: np.ndarray | None = None

    def __post_init__(self) -> None:
        _check_shapes(self.xy, self.visible, self.valid)
        shape = self.visible.shape
        if self.person.shape != shape[:1] or self.vertex.shape != shape[:1]:
            raise ValueError(f"person and vertex need one value for each of the {shape[0]} tracks")
        if self.confidence is not None and self.confidence.shape != shape:
            raise ValueError(f"confidence must be [N, T] = {shape}, got {self.confidence.shape}")
        if self.visible.dtype != bool or self.valid.dtype != bool:
            raise ValueError(f"visible and valid must be bool, got {self.visible.dtype} and {self.valid.dtype}")
        if (self.visible & ~self.valid).any():
            raise ValueError("a visible label must be valid; Tracks.from_labels clears the others")
        if not np.isfinite(self.xy).all():
            raise ValueError("xy must be finite; Tracks.from_labels fills in positions of invalid labels")

    @classmethod
    def from_labels(
        cls,
        xy: np.ndarray,
        visible: np.ndarray,
        valid: np.ndarray | None = None,
        *,
        height: int,
        width: int,
        person: np.ndarray | None = None,
        vertex: np.ndarray | None = None,
        confidence: np.ndarray | None = None,
    ) -> Self:
        """Tracks from arrays that may hold anything where a label is invalid.

        Arrays are cast to the types of `Tracks`, except `xy`, which keeps its own.

        Args:
            xy: [N, T, 2], raster pixels; may be NaN where not valid.
            visible: [N, T], ignored where not valid.
            valid: [N, T]; when left out, labels with a finite position are valid.
            height, width: size of the frames, pixels.
            person, vertex: [N] int; zeros when left out.
            confidence: [N, T], ignored where not valid, or None.

        Raises:
            ValueError: if shapes disagree, or a valid label has no finite position.
        """
        valid = np.isfinite(xy).all(-1) if valid is None else np.asarray(valid, bool)
        visible = np.asarray(visible, bool)
        _check_shapes(xy, visible, valid)
        if not np.isfinite(xy).all() and not np.isfinite(xy[valid]).all():
            raise ValueError("a valid label has a position that is not finite")
        visible = visible & valid
        if confidence is not None:
            confidence = np.asarray(confidence, np.float32)
            # The constructor reports another shape.
            if confidence.shape == valid.shape and confidence[~valid].any():
                confidence = np.where(valid, confidence, np.float32(0))
        zeros = np.zeros(len(xy), np.int32)
        return cls(
            xy=fill_invalid(xy, valid),
            visible=visible,
            valid=valid,
            height=height,
            width=width,
            person=zeros if person is None else np.asarray(person, np.int32),
            vertex=zeros if vertex is None else np.asarray(vertex, np.int32),
            confidence=confidence,
        )

    def __len__(self) -> int:
        return len(self.xy)

    @property
    def num_frames(self) -> int:
        return int(self.xy.shape[1])

    @property
    def occluded(self) -> np.ndarray:
        """[N, T] bool: valid, and hidden by something."""
        occluded: np.ndarray = self.valid & ~self.visible
        return occluded

    @property
    def invalid(self) -> np.ndarray:
        """[N, T] bool: not to be trusted."""
        return ~self.valid

    def select(self, index: np.ndarray) -> Tracks:
        """The tracks that `index` (a mask or positions, [N] or [M]) picks."""
        return replace(
            self,
            xy=self.xy[index],
            visible=self.visible[index],
            valid=self.valid[index],
            person=self.person[index],
            vertex=self.vertex[index],
            confidence=None if self.confidence is None else self.confidence[index],
        )

    def at_frames(self, frames: np.ndarray) -> Tracks:
        """The labels of some frames, [M] numbers; tracks may be left without a valid label."""
        valid = self.valid[:, frames]
        return replace(
            self,
            xy=fill_invalid(self.xy[:, frames], valid),
            visible=self.visible[:, frames],
            valid=valid,
            confidence=None if self.confidence is None else self.confidence[:, frames],
        )

    def resized(self, height: int, width: int) -> Tracks:
        """The same tracks in frames of another size: pure scaling, by the raster convention."""
        scale = np.array([width / self.width, height / self.height], self.xy.dtype)
        return replace(self, xy=self.xy * scale, height=height, width=width)

    @classmethod
    def empty(cls, num_frames: int, height: int, width: int) -> Tracks:
        """No track at all, over `num_frames` frames."""
        return cls(
            xy=np.zeros((0, num_frames, 2), np.float32),
            visible=np.zeros((0, num_frames), bool),
            valid=np.zeros((0, num_frames), bool),
            height=height,
            width=width,
            person=np.zeros(0, np.int32),
            vertex=np.zeros(0, np.int32),
        )

    @classmethod
    def concatenate(cls, parts: list[Tracks]) -> Tracks:
        """Tracks of the same clip, one after the other. Raises ValueError on an empty list or sizes that differ."""
        if not parts:
            raise ValueError("nothing to concatenate: use Tracks.empty")
        if len({(part.num_frames, part.height, part.width) for part in parts}) > 1:
            raise ValueError("only tracks of one clip can be concatenated: frame counts or sizes differ")

        def joined(name: str) -> np.ndarray:
            return np.concatenate([getattr(part, name) for part in parts])

        return replace(
            parts[0],
            xy=joined("xy"),
            visible=joined("visible"),
            valid=joined("valid"),
            person=joined("person"),
            vertex=joined("vertex"),
            confidence=None if any(part.confidence is None for part in parts) else joined("confidence"),
        )


@dataclass(frozen=True)
class TrackedClip:
    """A clip with its tracks: what every reader gives, and what training, evaluation, export and the app take.

    Frames are decoded when they are asked for.

    Attributes:
        tracks: the labels.
        video: where frames come from: an array [T, H, W, 3] uint8 RGB, a path or the bytes of a video file, a
            `FrameLoader`, or None for a clip without video. Frames of another size than the tracks' are allowed; then
            tracks are to be scaled by `tracks.resized`.
        fps: frames a second; None where it is not known.
        clip_id: the clip's name, unique within its dataset.
        source_video, source_sha256, start_frame: the file that the clip was cut from, the SHA-256 of its bytes, and
            the number of the clip's first frame among its decoded frames; empty and 0 where not known.
        info: what else is known of the clip, by column.
    """

    tracks: Tracks
    video: np.ndarray | bytes | str | Path | FrameLoader | None = None
    fps: float | None = None
    clip_id: str = ""
    source_video: str = ""
    source_sha256: str = ""
    start_frame: int = 0
    info: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def frames(self) -> np.ndarray:
        """All frames, [T, H, W, 3] uint8 RGB.

        Raises:
            VideoError: if the clip has no video, it can't be decoded, or has another number of frames than the tracks.
        """
        from anthrotap_hf.video import VideoError, decode_video

        if self.video is None:
            raise VideoError(f"{self.clip_id}: this clip has labels only, no video")
        if isinstance(self.video, np.ndarray):
            frames = self.video
        elif callable(self.video):
            frames = np.stack(list(self.video(range(self.tracks.num_frames))))
        else:
            frames = decode_video(self.video)
        if len(frames) != self.tracks.num_frames:
            raise VideoError(f"{self.clip_id}: the video has {len(frames)} frames, its tracks {self.tracks.num_frames}")
        return frames

    def iter_frames(self, numbers: Sequence[int]) -> Iterator[np.ndarray]:
        """The frames with these (ascending) numbers, one at a time, each [H, W, 3] uint8 RGB; others are not decoded.

        Raises:
            VideoError: as `frames`.
        """
        from anthrotap_hf.video import VideoError, select_frames

        if self.video is None:
            raise VideoError(f"{self.clip_id}: this clip has labels only, no video")
        if isinstance(self.video, np.ndarray):
            return (self.video[number] for number in numbers)
        if callable(self.video):
            return self.video(numbers)
        return select_frames(self.video, numbers)


def fill_invalid(xy: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Positions with those of invalid labels replaced by the nearest valid one of the same track in time.

    Of two valid labels equally near, the earlier one is taken. A track without any valid label gets (0, 0).

    Args:
        xy: [N, T, 2] float.
        valid: [N, T] bool.

    Returns:
        [N, T, 2], of the same dtype; `xy` itself where nothing has to change.
    """
    if valid.all():
        return xy
    num_frames = valid.shape[1]
    time = np.arange(num_frames, dtype=np.int32)
    # The last valid frame up to each frame, and the first valid one from it on; far outside where there is none.
    before = np.maximum.accumulate(np.where(valid, time, np.int32(-2 * num_frames)), axis=1)
    after = np.minimum.accumulate(np.where(valid, time, np.int32(3 * num_frames))[:, ::-1], axis=1)[:, ::-1]
    track, frame = np.nonzero(~valid)
    before, after = before[track, frame], after[track, frame]
    nearest = np.clip(np.where(frame - before <= after - frame, before, after), 0, num_frames - 1)
    filled = xy.copy()
    filled[track, frame] = xy[track, nearest]
    filled[~valid.any(1)] = 0
    return filled


def _check_shapes(xy: np.ndarray, visible: np.ndarray, valid: np.ndarray) -> None:
    shape = visible.shape
    if len(shape) != 2 or xy.shape != (*shape, 2) or valid.shape != shape:
        raise ValueError(
            f"Tracks need xy [N, T, 2], visible [N, T] and valid [N, T], got {xy.shape}, {shape} and {valid.shape}"
        )
