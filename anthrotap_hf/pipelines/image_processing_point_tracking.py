"""The image processor of point trackers: frames at a model's resolution, as a tensor. It needs no torchvision."""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from transformers.image_processing_utils import BaseImageProcessor, BatchFeature


class PointTrackingImageProcessor(BaseImageProcessor):
    """Resizes the frames of a video and rescales them to [-1, 1]. Resizing is pure scaling, so points are scaled
    by (width / old width, height / old height).

    Args:
        size: {"height": h, "width": w}, whatever the video's shape (as benchmarks do); or {"shortest_edge": s}, which
            keeps the shape and never enlarges; or None, which keeps the size.
        size_divisor: height and width must be multiples of this; sizes that follow from the video's are rounded to
            them.
        do_rescale: whether to return floats in [-1, 1], instead of uint8.

    Raises:
        ValueError: `size` is none of these.
    """

    model_input_names = ("pixel_values_videos",)

    def __init__(
        self,
        size: Mapping[str, int] | None = None,
        size_divisor: int = 1,
        do_rescale: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.size = None if size is None else dict(size)
        self.size_divisor = size_divisor
        self.do_rescale = do_rescale
        keys = set() if self.size is None else set(self.size)
        if keys not in (set(), {"height", "width"}, {"shortest_edge"}):
            raise ValueError(f"size must have height and width, or shortest_edge, got {self.size}")
        if self.size is not None:
            _check_size(self.size.values(), size_divisor)

    @classmethod
    def for_model(cls, config: Any) -> PointTrackingImageProcessor:
        """Return the processor for a tracker of this configuration, if none was saved with it."""
        if hasattr(config, "shortest_edge"):
            # FlowChain takes bytes.
            return cls({"shortest_edge": config.shortest_edge}, do_rescale=False)
        if hasattr(config, "resolution"):
            # CoTracker3; and AllTracker, which pads frames itself.
            height, width = config.resolution
            divisor = 1 if config.model_type == "alltracker" else 4
            return cls({"height": height, "width": width}, size_divisor=divisor)
        if hasattr(config, "initial_resolution"):
            # LocoTrack and TAPIR.
            height, width = config.initial_resolution
            return cls({"height": height, "width": width}, size_divisor=8)
        if hasattr(config, "image_size"):
            # TAPNext.
            side = getattr(config, "frame_size", None) or config.image_size
            return cls({"height": side, "width": side}, size_divisor=config.patch_size)
        raise ValueError(
            f"which resolution does a {config.model_type} model want? Pass image_processor=, or save one with it"
        )

    def target_size(self, height: int, width: int, resolution: tuple[int, int] | None = None) -> tuple[int, int]:
        """Return the (height, width) that frames of this size are resized to; `resolution` overrides `size`."""
        if resolution is not None:
            try:
                height, width = (operator.index(side) for side in resolution)
            except (TypeError, ValueError) as error:
                raise ValueError(f"resolution must be (height, width), got {resolution}") from error
            _check_size((height, width), self.size_divisor)
            return height, width
        if self.size is not None and "height" in self.size:
            return self.size["height"], self.size["width"]
        scale = 1.0 if self.size is None else min(1.0, self.size["shortest_edge"] / min(height, width))
        divisor = self.size_divisor
        rounded = [max(round(side * scale / divisor), 1) * divisor for side in (height, width)]
        return rounded[0], rounded[1]

    def preprocess(
        self,
        videos: np.ndarray | torch.Tensor | list[np.ndarray],
        resolution: tuple[int, int] | None = None,
        do_rescale: bool | None = None,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """Prepare videos for a tracker.

        Args:
            videos: [T, H, W, 3] uint8 RGB, or a list of such, all of one shape.
            resolution: (height, width), instead of `size`.
            do_rescale: overrides the processor's own; all models of this package take bytes, too.
            return_tensors: "pt".

        Returns:
            pixel_values_videos [B, T, 3, h, w].

        Raises:
            ValueError: `videos` are something else, or the model cannot take the size.
        """
        if return_tensors != "pt":
            raise ValueError(f'return_tensors must be "pt", got {return_tensors!r}')
        batch = videos if isinstance(videos, list) else [videos]
        shapes = {tuple(video.shape) for video in batch}
        if len(shapes) != 1:
            raise ValueError(f"videos must all have one shape, got {sorted(shapes)}")
        rescale = self.do_rescale if do_rescale is None else do_rescale
        prepared = [self._prepare(torch.as_tensor(video), resolution, rescale) for video in batch]
        return BatchFeature({"pixel_values_videos": torch.stack(prepared)})

    def _prepare(self, video: torch.Tensor, resolution: tuple[int, int] | None, rescale: bool) -> torch.Tensor:
        """[T, H, W, 3] -> [T, 3, h, w]."""
        if video.ndim != 4 or video.shape[3] != 3 or 0 in video.shape or video.dtype != torch.uint8:
            raise ValueError(
                f"a video must be [T, H, W, 3] uint8 RGB and not empty, got {video.dtype} {list(video.shape)}"
            )
        size = self.target_size(video.shape[1], video.shape[2], resolution)
        frames = video.permute(0, 3, 1, 2)
        if frames.shape[2:] != size:
            # Bytes are 18 times faster here than floats.
            frames = F.interpolate(frames, size, mode="bilinear", antialias=True)
        return frames / 127.5 - 1 if rescale else frames.contiguous()


def _check_size(sides: Iterable[Any], divisor: int) -> None:
    for side in sides:
        if not isinstance(side, int) or side < 1 or side % divisor:
            raise ValueError(
                f"the model takes frames whose sides are multiples of {divisor} pixels, got {side}: "
                f"take {max(round(side / divisor), 1) * divisor}"
            )


__all__ = ["PointTrackingImageProcessor"]
