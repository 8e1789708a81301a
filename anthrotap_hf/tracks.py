"""Tracks: the one currency that every room passes on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Tracks:
    """Point tracks of one clip.

    A (track, frame) label is *seen* (valid, visible), *hidden* (valid, not visible: something occludes the
    point) or *unknown* (not valid: the label may not be trusted).

    Attributes:
        xy: [N, T, 2] float32, raster pixels: the image spans (0, 0) to (width, height) and the center of the
            first pixel is (0.5, 0.5). NaN where nothing is known of the place.
        visible: [N, T] bool, whether the point is seen; means nothing where not valid.
        valid: [N, T] bool, whether the label may be trusted.
        height, width: size of the frames that `xy` refers to, pixels.
        person: [N] int32, which person of the clip the track lies on.
        vertex: [N] int32, the body-model vertex nearest to the surface point that the track follows.
        confidence: [N, T] float32 or None, of seen labels the probability that they lie within 2 pixels (in a frame
            scaled to 256x256) of the point of the scene that their track follows, given that this point does show;
            0 for other labels. None where nothing is known of it.

    Raises:
        ValueError: if shapes disagree.
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
        shape = self.visible.shape
        if len(shape) != 2 or self.xy.shape != (*shape, 2) or self.valid.shape != shape:
            raise ValueError(
                f"Tracks need xy [N, T, 2], visible [N, T] and valid [N, T], "
                f"got {self.xy.shape}, {shape} and {self.valid.shape}"
            )
        if self.person.shape != shape[:1] or self.vertex.shape != shape[:1]:
            raise ValueError(f"person and vertex need one value for each of the {shape[0]} tracks")
        if self.confidence is not None and self.confidence.shape != shape:
            raise ValueError(f"confidence must be [N, T] = {shape}, got {self.confidence.shape}")

    def __len__(self) -> int:
        return self.xy.shape[0]

    @property
    def num_frames(self) -> int:
        return self.xy.shape[1]

    @property
    def seen(self) -> np.ndarray:
        """[N, T] bool: trusted and visible."""
        return self.valid & self.visible

    @property
    def hidden(self) -> np.ndarray:
        """[N, T] bool: trusted and occluded."""
        return self.valid & ~self.visible

    @property
    def unknown(self) -> np.ndarray:
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

    def resized(self, height: int, width: int) -> Tracks:
        """The same tracks in frames of another size: pure scaling, by the raster convention."""
        scale = np.array([width / self.width, height / self.height], np.float32)
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
