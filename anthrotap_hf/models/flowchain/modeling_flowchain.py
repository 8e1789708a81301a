"""FlowChain: a point follows the optical flow from frame to frame, both ways in time from its query.

Flow is Dense Inverse Search (Kroeger et al., ECCV 2016) as OpenCV has it. A point counts as visible while flow and
the flow back agree on it. Nothing is learned: this is the tracker that needs no download, and the baseline. It drifts,
and a point that becomes occluded may move with what occludes it.

Points are xy in raster pixels: the frame spans (0, 0) to (W, H) and the first pixel's center is (0.5, 0.5). Arrays: B
clips, T frames, N query points.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
# Side of the square of samples, one a pixel, whose colors are compared, and how much the picture is blurred before.
COLOR_SIDE = 5
COLOR_BLUR = 0.8
# OpenCV's maps have no more rows than this.
MAX_MAP_ROWS = 32_000
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
    # Each query is followed by itself, whatever the others are.
    queries_are_independent = True
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
    steps = chain_steps(video, queries, config, progress)
    return steps.xy.astype(np.float32), steps.visible_logits(queries[:, 0], video.shape[-2:], config)


def unbroken_logits(visible_logits: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the smallest of visible logits [N, T] on the way from the query, at frames `times` [N], to each frame.

    They are positive up to the frame where flow first loses the point: what it follows from there on may be what has
    hidden the point.
    """
    from_query = np.arange(visible_logits.shape[1]) - times[:, None]
    onward = np.minimum.accumulate(np.where(from_query < 0, np.inf, visible_logits), axis=1)
    back = np.minimum.accumulate(np.where(from_query > 0, np.inf, visible_logits)[:, ::-1], axis=1)[:, ::-1]
    return np.where(from_query < 0, back, onward)


@dataclass(frozen=True)
class FlowChainSteps:
    """What was met on the way of each of N points, step by step from its query, forward in time and back.

    Attributes:
        xy: [N, T, 2] float64, raster pixels.
        errors: [N, T] float64, how far flow and the flow back disagree in the step that leads to a frame, in
            tolerances; 0 at the query.
        changes: [N, T] float32, how much the colors around the point change in that step: mean absolute difference of
            8-bit CIELAB; 0 at the query, and everywhere if it was not asked for.
    """

    xy: np.ndarray
    errors: np.ndarray
    changes: np.ndarray

    def visible_logits(self, times: np.ndarray, size: Sequence[int], config: FlowChainConfig) -> np.ndarray:
        """Return visible logits [N, T] float32: 0 where the error so far is at the tolerance.

        Args:
            times: [N] frames of the queries.
            size: (height, width) of the video.
            config: of memory and limits.
        """
        step_errors = self.step_errors(config)
        errors = np.zeros_like(step_errors)
        T = errors.shape[1]
        for t, step in [(t, 1) for t in range(T - 1)] + [(t, -1) for t in range(T - 1, 0, -1)]:
            moving = (times <= t) if step > 0 else (times >= t)
            errors[moving, t + step] = carry_error(errors[moving, t], step_errors[moving, t + step], config)
        return as_logits(errors_inside(errors, self.xy, size, config))

    def step_errors(self, config: FlowChainConfig) -> np.ndarray:
        """Return the errors of the steps [N, T]: the limit where colors change by more than is allowed."""
        if config.max_color_change is None:
            return self.errors
        # Where the colors change, something else is there now.
        changed: np.ndarray = np.where(self.changes > config.max_color_change, config.error_limit, self.errors)
        return changed


def carry_error(before: np.ndarray, step_error: np.ndarray, config: FlowChainConfig) -> np.ndarray:
    """Return the error after a step: a part of that before is carried along, up to the limit. Any shape, tolerances."""
    carried: np.ndarray = np.minimum(config.error_memory * before + step_error, config.error_limit)
    return carried


def errors_inside(errors: np.ndarray, xy: np.ndarray, size: Sequence[int], config: FlowChainConfig) -> np.ndarray:
    """Return errors [...], the limit where xy [..., 2] lies outside a frame of size (height, width)."""
    inside = ((xy >= 0) & (xy <= [size[1], size[0]])).all(-1)
    found: np.ndarray = np.where(inside, errors, config.error_limit)
    return found


def as_logits(errors: np.ndarray) -> np.ndarray:
    """Return visible logits float32 of errors in tolerances, any shape: positive below 1."""
    logits: np.ndarray = SURE_LOGIT * (1 - errors)
    return logits.astype(np.float32)


def chain_steps(
    video: Tensor,
    queries: np.ndarray,
    config: FlowChainConfig,
    progress: Callable[[int], object] | None = None,
) -> FlowChainSteps:
    """Follow flow through a video [T, 3, H, W] from queries [N, 3] (t, x, y)."""
    T = len(video)
    times = queries[:, 0].astype(int)
    xy = np.zeros((len(queries), T, 2))
    errors = np.zeros((len(queries), T))
    changes = np.zeros((len(queries), T), np.float32)
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
        errors[moving, t + step] = fb_error / tolerance
        # 3. The surroundings should keep their colors.
        if config.max_color_change is not None:
            there = sample_colors(flows.colors(t + step), start + move)
            changes[moving, t + step] = np.abs(there - sample_colors(flows.colors(t), start)).mean(-1)
        if progress is not None:
            progress(1)
    return FlowChainSteps(xy, errors, changes)


class FlowChainFollower:
    """Follows points frame by frame, forward in time, as `chain_flow` does.

    Args:
        config: of flow, memory and limits.
        xy: [N, 2] in the first frame.

    Attributes:
        xy: [N, 2] float64, in the last frame.
    """

    def __init__(self, config: FlowChainConfig, xy: np.ndarray) -> None:
        self._config = config
        self.xy = np.array(xy, np.float64)
        self._errors, self._worst = np.zeros(len(xy)), np.zeros(len(xy))
        self._last: np.ndarray | None = None

    @classmethod
    def of_colors(cls, max_color_change: float | None, xy: np.ndarray) -> FlowChainFollower:
        """Return the one that `follow_flow` of LocoTrack goes by."""
        return cls(FlowChainConfig(max_color_change=max_color_change), xy)

    def step(self, image: np.ndarray) -> None:
        """Go on to the next frame, [H, W, 3] uint8 RGB; the first one is that of the points."""
        if self._last is not None:
            pair = torch.from_numpy(np.stack([self._last, image])).permute(0, 3, 1, 2)
            queries = np.concatenate([np.zeros((len(self.xy), 1)), self.xy], axis=1)
            found = chain_steps(pair, queries, self._config)
            self.xy = found.xy[:, 1]
            self._errors = carry_error(self._errors, found.step_errors(self._config)[:, 1], self._config)
        self._now = errors_inside(self._errors, self.xy, image.shape[:2], self._config)
        self._worst = np.maximum(self._worst, self._now)
        self._last = image

    def visible_logits(self) -> np.ndarray:
        """Return [N] float32, positive where flow and the flow back agree."""
        return as_logits(self._now)

    def unbroken_logits(self) -> np.ndarray:
        """Return [N] float32, the smallest so far where colors are looked at, see `unbroken_logits`."""
        if self._config.max_color_change is None:
            return self.visible_logits()
        return as_logits(self._worst)


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
        self._colors: dict[int, np.ndarray] = {}

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

    def colors(self, t: int) -> np.ndarray:
        """Return frame t in CIELAB, blurred a little, [H, W, 3] uint8."""
        known = self._colors.get(t)
        if known is None:
            lab = cv2.cvtColor(self._rgb(t), cv2.COLOR_RGB2LAB)
            known = cv2.GaussianBlur(lab, (0, 0), COLOR_BLUR)
            # Steps are from frame to neighboring frame: two are needed at once.
            self._colors = {**{other: image for other, image in self._colors.items() if abs(other - t) == 1}, t: known}
        return known

    def _rgb(self, t: int) -> np.ndarray:
        """Return frame t, [H, W, 3] uint8."""
        image = self._video[t].permute(1, 2, 0).cpu()
        if image.is_floating_point():
            image = ((image.float() + 1) * 127.5).round().clamp(0, 255).byte()
        rgb: np.ndarray = image.contiguous().numpy()
        return rgb

    def _frame(self, t: int) -> np.ndarray:
        """Return frame t in gray, [H, W] uint8."""
        known = self._gray.get(t)
        return cv2.cvtColor(self._rgb(t), cv2.COLOR_RGB2GRAY) if known is None else known

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


def sample_colors(image: np.ndarray, xy: np.ndarray) -> np.ndarray:
    """Return the colors around raster positions [N, 2], bilinear; beyond the edge, the edge's.

    Args:
        image: [H, W, 3] uint8.

    Returns:
        [N, COLOR_SIDE^2 * 3] float32.
    """
    offsets = np.arange(COLOR_SIDE, dtype=np.float32) - COLOR_SIDE // 2
    # image[0, 0] is the color at the first pixel's center.
    x = (xy[:, :1] - 0.5 + np.tile(offsets, COLOR_SIDE)).astype(np.float32)
    y = (xy[:, 1:] - 0.5 + np.repeat(offsets, COLOR_SIDE)).astype(np.float32)
    found = np.zeros((len(xy), COLOR_SIDE**2, 3), np.float32)
    for begin in range(0, len(xy), MAX_MAP_ROWS):
        rows = slice(begin, begin + MAX_MAP_ROWS)
        found[rows] = cv2.remap(image, x[rows], y[rows], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return found.reshape(len(xy), -1)


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


__all__ = [
    "FlowChainFollower",
    "FlowChainForPointTracking",
    "FlowChainOutput",
    "chain_flow",
    "chain_steps",
    "unbroken_logits",
]
