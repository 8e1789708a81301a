"""FlowChain: a point follows the optical flow from frame to frame, both ways in time from its query.

Flow is Dense Inverse Search (Kroeger et al., ECCV 2016) as OpenCV has it. A point counts as visible while flow and
the flow back agree on it. Nothing is learned: this is the tracker that needs no download, and the baseline. It drifts,
and a point that becomes occluded may move with what occludes it.

Points are xy in raster pixels: the frame spans (0, 0) to (W, H) and the first pixel's center is (0.5, 0.5). Arrays: B
clips, T frames, N query points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.utils import ModelOutput, logging

from .configuration_flowchain import FlowChainConfig

# Flow is kept as whole 64ths of a pixel: a chain of 1,000 steps errs by a tenth of a pixel.
FLOW_STEP = 1 / 64
FLOW_LIMIT = np.iinfo(np.int16).max
# Log-odds of a point whose flow and flow back agree exactly; 0 is at the tolerance.
SURE_LOGIT = 4.0


@dataclass
class FlowChainOutput(ModelOutput):
    """Output of FlowChain.

    Args:
        tracks: [B, N, T, 2] xy in pixels of the input video; points may leave the frame.
        visible_logits: [B, N, T]; a point is visible where positive.
    """

    tracks: Tensor | None = None
    visible_logits: Tensor | None = None


class FlowChainForPointTracking(PreTrainedModel):
    """Tracks any point of a clip through all its frames, by chained flow.

    Example:
        >>> import torch
        >>> from anthrotap_hf.models.flowchain import FlowChainConfig, FlowChainForPointTracking
        >>> model = FlowChainForPointTracking(FlowChainConfig())
        >>> video = torch.rand(1, 4, 3, 64, 96) * 2 - 1
        >>> out = model(pixel_values_videos=video, query_points=torch.tensor([[[0.0, 50.5, 30.5]]]))
        >>> out.tracks.shape
        torch.Size([1, 1, 4, 2])
    """

    config_class = FlowChainConfig
    base_model_prefix = "flowchain"
    main_input_name = "pixel_values_videos"
    input_modalities = ("video",)

    def __init__(self, config: FlowChainConfig) -> None:
        super().__init__(config)
        # Without weights, this tells on which device the model is.
        self.register_buffer("empty", torch.zeros(0), persistent=False)
        self.post_init()

    @property
    def device(self) -> torch.device:
        return self.empty.device

    @property
    def dtype(self) -> torch.dtype:
        return self.empty.dtype

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, *args, config=None, **kwargs):
        """Load a tracker as transformers does, but from a configuration alone: a folder needs no file of weights."""
        if config is None:
            options = ("cache_dir", "force_download", "local_files_only", "token", "revision", "subfolder")
            found = {name: kwargs.pop(name) for name in options if name in kwargs}
            config, kwargs = cls.config_class.from_pretrained(
                pretrained_model_name_or_path, return_unused_kwargs=True, **found, **kwargs
            )
        # There are no weights whose loading a bar should show.
        bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()
        try:
            return super().from_pretrained(None, *args, config=config, state_dict={}, **kwargs)
        finally:
            if bars:
                logging.enable_progress_bar()

    def forward(
        self,
        pixel_values_videos: Tensor | None = None,
        query_points: Tensor | None = None,
        progress: Callable[[int], object] | None = None,
        return_dict: bool | None = None,
    ) -> FlowChainOutput | tuple:
        """Track query points.

        Args:
            pixel_values_videos: [B, T, 3, H, W], uint8, or floats in [-1, 1]; at least 16 pixels a side.
            query_points: [B, N, 3] (t, x, y): t a whole frame number from 0, xy in pixels of the video.
            progress: called with 1 after each of `num_steps` steps.

        Raises:
            ValueError: the video has another shape, or queries lie outside it.
        """
        if pixel_values_videos is None or pixel_values_videos.ndim != 5 or pixel_values_videos.shape[2] != 3:
            got = None if pixel_values_videos is None else list(pixel_values_videos.shape)
            raise ValueError(f"pixel_values_videos must be [B, T, 3, H, W], got {got}")
        dtype = pixel_values_videos.dtype
        if 0 in pixel_values_videos.shape or not (dtype.is_floating_point or dtype == torch.uint8):
            raise ValueError(
                f"pixel_values_videos must be floats in [-1, 1] or uint8, and not empty, "
                f"got {dtype} {list(pixel_values_videos.shape)}"
            )
        B, T, _, height, width = pixel_values_videos.shape
        if min(height, width) < 16:
            raise ValueError(f"flow needs frames of at least 16 pixels a side, got {height} x {width}")
        if query_points is None:
            raise ValueError("query_points is missing: [B, N, 3] of (t, x, y)")
        check_query_points(query_points, B, T, height, width)
        found = [
            chain_flow(video, queries, self.config, progress)
            for video, queries in zip(pixel_values_videos, query_points.cpu().double().numpy(), strict=True)
        ]
        tracks, logits = (torch.from_numpy(np.stack(part)) for part in zip(*found, strict=True))
        output = FlowChainOutput(tracks.to(query_points.device), logits.to(query_points.device))
        return output.to_tuple() if return_dict is False else output

    def num_steps(self, num_frames: int, query_points: Tensor) -> int:
        """Return how often `forward` calls `progress`: for each clip, once a step from the first query on and once a
        step back from the last."""
        times = query_points[..., 0]
        return len(times) * (num_frames - 1) + int((times.amax(1) - times.amin(1)).sum())


def chain_flow(
    video: Tensor,
    queries: np.ndarray,
    config: FlowChainConfig,
    progress: Callable[[int], object] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Follow flow through a video [T, 3, H, W] from queries [N, 3] (t, x, y).

    Returns:
        Tracks [N, T, 2] and visible logits [N, T], float32.
    """
    T, _, height, width = video.shape
    times = queries[:, 0].astype(int)
    xy = np.zeros((len(queries), T, 2))
    # Forward-backward errors, in tolerances.
    errors = np.zeros((len(queries), T))
    xy[np.arange(len(queries)), times] = queries[:, 1:]
    flows = FlowChainNeighborFlows(video, config.preset, range(times.min(), times.max()), config.kept_flows)
    # Steps are taken by all points at once. Only pairs between the first and the last query are needed twice.
    for t, step in [(t, 1) for t in range(times.min(), T - 1)] + [(t, -1) for t in range(times.max(), 0, -1)]:
        moving = np.flatnonzero((times <= t) if step > 0 else (times >= t))
        # 1. Move by the flow at each point.
        forward, backward = flows.between(t, t + step)
        start = xy[moving, t]
        move = sample_flow(forward, start)
        xy[moving, t + step] = start + move
        # 2. The flow back should lead to the start.
        fb_error = np.linalg.norm(move + sample_flow(backward, start + move), axis=-1)
        tolerance = config.error_tolerance + config.relative_tolerance * np.linalg.norm(move, axis=-1)
        # 3. A part of the error so far is carried along.
        carried = config.error_memory * errors[moving, t] + fb_error / tolerance
        errors[moving, t + step] = np.minimum(carried, config.error_limit)
        if progress is not None:
            progress(1)
    inside = ((xy >= 0) & (xy <= [width, height])).all(-1)
    logits = SURE_LOGIT * (1 - np.where(inside, errors, config.error_limit))
    return xy.astype(np.float32), logits.astype(np.float32)


class FlowChainNeighborFlows:
    """Flow between neighboring frames of a video, for a pass forward in time and one back.

    Args:
        video: [T, 3, H, W], uint8 or floats in [-1, 1].
        preset: DIS's.
        twice: the earlier frames of those pairs that both passes need: their flow is kept.
        kept: how many of them are kept at most, the last ones.
    """

    def __init__(self, video: Tensor, preset: str, twice: range, kept: int) -> None:
        self._video, self._twice = video, twice[-kept:]
        self._preset = getattr(cv2, f"DISOPTICAL_FLOW_PRESET_{preset.upper()}")
        # Forward and backward flow, by the earlier frame.
        self._flows: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._gray: dict[int, np.ndarray] = {}

    def between(self, first: int, second: int) -> tuple[np.ndarray, np.ndarray]:
        """Return flow from frame `first` to its neighbor `second`, and back: [H, W, 2] int16, in units of FLOW_STEP."""
        earlier = min(first, second)
        known = self._flows.pop(earlier, None)
        if known is None:
            one, other = self._frame(earlier), self._frame(earlier + 1)
            self._gray = {earlier: one, earlier + 1: other}
            known = self._flow(one, other), self._flow(other, one)
            if first < second and earlier in self._twice:
                self._flows[earlier] = known
        return known if first < second else known[::-1]

    def _frame(self, t: int) -> np.ndarray:
        """Return frame t in gray, [H, W] uint8."""
        if t in self._gray:
            return self._gray[t]
        image = self._video[t].permute(1, 2, 0).cpu()
        if image.is_floating_point():
            image = ((image.float() + 1) * 127.5).round().clamp(0, 255).byte()
        return cv2.cvtColor(image.contiguous().numpy(), cv2.COLOR_RGB2GRAY)

    def _flow(self, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        # A new estimator each time: it remembers a little of the pair before.
        flow = cv2.DISOpticalFlow.create(self._preset).calc(first, second, None)
        return np.clip(np.rint(flow / FLOW_STEP), -FLOW_LIMIT, FLOW_LIMIT).astype(np.int16)


def sample_flow(flow: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Return the displacements [N, 2] in pixels at raster positions [N, 2], bilinear; beyond the edge, the edge's.

    Args:
        flow: [H, W, 2] int16 in units of FLOW_STEP.
    """
    height, width = flow.shape[:2]
    # flow[0, 0] is at the first pixel's center.
    cells = np.clip(xy - 0.5, 0, [width - 1, height - 1])
    low = np.minimum(cells.astype(int), [max(width - 2, 0), max(height - 2, 0)])
    (x, y), (right, down) = low.T, (cells - low).T[..., None]
    top = flow[y, x] * (1 - right) + flow[y, x + 1] * right
    bottom = flow[y + 1, x] * (1 - right) + flow[y + 1, x + 1] * right
    return (top * (1 - down) + bottom * down) * FLOW_STEP


def check_query_points(query_points: Tensor, B: int, T: int, height: int, width: int) -> None:
    """Raise ValueError, saying which query is wrong, unless all lie in the video."""
    if query_points.ndim != 3 or query_points.shape[0] != B or query_points.shape[2] != 3:
        raise ValueError(f"query_points must be [{B}, N, 3] of (t, x, y), got {list(query_points.shape)}")
    if query_points.shape[1] == 0:
        raise ValueError("no query point: give at least one (t, x, y)")
    limit = torch.tensor([T - 1, width, height], device=query_points.device)
    # NaN fails both comparisons.
    fine = (query_points >= 0) & (query_points <= limit)
    fine[..., 0] &= query_points[..., 0] == query_points[..., 0].round()
    if not fine.all():
        clip, query = (~fine.all(-1)).nonzero()[0].tolist()
        t, x, y = query_points[clip, query].tolist()
        raise ValueError(
            f"query {query} of clip {clip} is (t, x, y) = ({t:g}, {x:g}, {y:g}); t must be a whole number "
            f"from 0 to {T - 1}, x within 0 to {width}, y within 0 to {height}"
        )


__all__ = ["FlowChainForPointTracking", "FlowChainOutput", "chain_flow"]
