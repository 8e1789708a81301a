"""CoTracker3: tracking points jointly (Karaev et al., 2024, arXiv 2410.11831).

Top to bottom: outputs and state, backbone, local 4D correlation, transformer over time and over points, the model.
Points are xy in raster pixels at the interface: the frame spans (0, 0) to (W, H) and the first pixel's center is
(0.5, 0.5). Inside, they are in grid cells whose centers are whole numbers. Arrays: B clips, T frames, N query points,
V virtual tracks, S frames of a window, C channels, h x w a feature grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import ModelOutput

from .configuration_cotracker3 import CoTracker3Config

# Octaves of the sine encoding of a point's motion to its neighbor frames.
MOTION_OCTAVES = 10
# Pixels a cell of the finest grid.
STRIDE = 4


@dataclass
class CoTracker3Steps:
    """Estimates of some queries of one clip in one window, one entry a refinement step; losses supervise all of them.

    Args:
        queries: [n] long, numbers of the queries.
        frames: [s] long, numbers of the frames.
        tracks: each [n, s, 2] xy in pixels of the input video.
        occlusion_logits, confidence_logits: each [n, s].
        counted: [n, s] bool, what losses count: of an online model, frames from the query's on.
    """

    queries: Tensor
    frames: Tensor
    tracks: list[Tensor]
    occlusion_logits: list[Tensor]
    confidence_logits: list[Tensor]
    counted: Tensor


@dataclass
class CoTracker3Output(ModelOutput):
    """Output of CoTracker3.

    Args:
        tracks: [B, N, T, 2] xy in pixels of the input video.
        visible_logits: [B, N, T]; a point is visible where positive, that is where the probability that it is not
            occluded (times its confidence, if the configuration's confidence_counts) is above visible_threshold.
        occlusion_logits: [B, N, T]; positive where something hides the point.
        confidence_logits: [B, N, T]; positive where the position is likely right.
        steps: of each clip, its windows; None unless gradients are recorded or `output_steps`.
    """

    tracks: Tensor | None = None
    visible_logits: Tensor | None = None
    occlusion_logits: Tensor | None = None
    confidence_logits: Tensor | None = None
    steps: tuple[tuple[CoTracker3Steps, ...], ...] | None = None


# CoTracker3Backbone


class CoTracker3InstanceNorm(nn.GroupNorm):
    """Instance norm without parameters, as a group norm with one group a channel: much faster in channels-last."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, eps=1e-5, affine=False)


class CoTracker3ResidualBlock(GradientCheckpointingLayer):
    """Two convolutions; where the stride is 2, a third one makes the shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.shortcut = None if stride == 1 else nn.Conv2d(in_channels, channels, 1, stride)
        self.norm = CoTracker3InstanceNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [M, C, h, w] to [M, C', h', w']."""
        inner = F.relu(self.norm(self.conv1(x)), inplace=True)
        inner = F.relu(self.norm(self.conv2(inner)), inplace=True)
        shortcut = x if self.shortcut is None else self.norm(self.shortcut(x))
        return F.relu(inner + shortcut, inplace=True)


class CoTracker3Backbone(nn.Module):
    """ResNet whose four stages, at strides 2 to 16, are brought to stride 4 and merged."""

    def __init__(self, config: CoTracker3Config) -> None:
        super().__init__()
        widths = config.stage_channels
        self.stem = nn.Conv2d(3, widths[0], 7, stride=2, padding=3)
        self.stem_norm = CoTracker3InstanceNorm(widths[0])
        self.stages = nn.ModuleList()
        in_channels = widths[0]
        for channels, stride in zip(widths, (1, 2, 2, 2), strict=True):
            self.stages.append(
                nn.Sequential(
                    CoTracker3ResidualBlock(in_channels, channels, stride),
                    CoTracker3ResidualBlock(channels, channels, 1),
                )
            )
            in_channels = channels
        self.merge = nn.Conv2d(sum(widths), 2 * config.feature_size, 3, padding=1)
        self.merge_norm = CoTracker3InstanceNorm(2 * config.feature_size)
        self.project = nn.Conv2d(2 * config.feature_size, config.feature_size, 1)

    def forward(self, frames: Tensor) -> Tensor:
        """Map frames [M, 3, H, W] in [-1, 1] to features of unit length [M, C, H/4, W/4]."""
        size = [side // STRIDE for side in frames.shape[-2:]]
        x = frames.contiguous(memory_format=torch.channels_last)
        x = F.relu(self.stem_norm(self.stem(x)), inplace=True)
        stages = []
        for stage in self.stages:
            x = stage(x)
            # Corners aligned; the second stage has that size already.
            resized = x if [*x.shape[-2:]] == size else F.interpolate(x, size, mode="bilinear", align_corners=True)
            stages.append(resized)
        x = F.relu(self.merge_norm(self.merge(torch.cat(stages, dim=1))), inplace=True)
        x = self.project(x)
        square = x.float().square().sum(1, keepdim=True)
        return x * square.clamp_min(1e-12).rsqrt().to(x.dtype)


# Correlation


def gather_cells(grid: Tensor, frame: Tensor, points: Tensor, radius: int) -> tuple[Tensor, Tensor]:
    """Return the features of the whole cells around each point, of which bilinear samples are mixed.

    Beyond the border they are the border's: clamped cells mixed by the same fractions are clamped samples.

    Args:
        grid: [T, h, w, C].
        frame: [...] long, the frame of each point.
        points: [..., 2] xy in cells of the grid.

    Returns:
        Cells [..., S, S, C], S = 2 radius + 2, of which the x offset is the slow axis as released; and the fraction
        [..., 2] xy of a cell by which samples lie beyond them.
    """
    _, h, w, C = grid.shape
    # Far outside, everything is the border's: keep the integers small there.
    limit = torch.tensor([w, h], device=points.device) + radius
    points = torch.minimum(points, limit).clamp_min(-radius - 1)
    whole = points.floor()
    offsets = torch.arange(-radius, radius + 2, device=points.device)
    column, row = (whole.long()[..., None] + offsets).unbind(-2)  # [..., S]
    column, row = column.clamp(0, w - 1), row.clamp(0, h - 1)
    index = (frame[..., None] * h + row)[..., None, :] * w + column[..., :, None]
    return F.embedding(index, grid.reshape(-1, C)), points - whole


def mix_cells(cells: Tensor, fraction: Tensor) -> Tensor:
    """Mix [..., S, S, C] of `gather_cells` to samples [..., S - 1, S - 1, C], one a cell."""
    x, y = fraction.to(cells.dtype)[..., None, None, None].unbind(-4)
    cells = torch.lerp(cells[..., :-1, :, :], cells[..., 1:, :, :], x)
    return torch.lerp(cells[..., :-1, :], cells[..., 1:, :], y)


class CoTracker3CorrelationEncoder(GradientCheckpointingLayer):
    """Correlates the surroundings of a guess with those of the query, and encodes that by a perceptron."""

    def __init__(self, config: CoTracker3Config) -> None:
        super().__init__()
        self.radius = config.support_radius
        self.expand = nn.Linear((2 * self.radius + 1) ** 4, config.correlation_hidden_size)
        self.contract = nn.Linear(config.correlation_hidden_size, config.correlation_size)

    def forward(self, grid: Tensor, points: Tensor, patches: Tensor) -> Tensor:
        """Map a grid [S, h, w, C], points [N, S, 2] in its cells and patches [N, P, C] to [N, S, C']."""
        (N, S, _), P = points.shape, patches.shape[1]
        frame = torch.arange(S, device=points.device).expand(N, S)
        cells, fraction = gather_cells(grid, frame, points, self.radius)
        side = cells.shape[-2]
        # Correlation is linear, so whole cells are correlated and mixed afterwards.
        found = torch.bmm(cells.view(N, -1, cells.shape[-1]), patches.transpose(1, 2))
        found = mix_cells(found.view(N, S, side, side, P), fraction)  # frame's x, frame's y, query's position
        return self.contract(F.gelu(self.expand(found.flatten(2))))


def encode_motion(points: Tensor, size: Tensor) -> Tensor:
    """Encode points [N, S, 2] as [N, S, 84]: displacements to both neighbor frames, and sines of these.

    Args:
        size: [2], width and height that displacements are measured in.
    """
    step = (points[:, 1:] - points[:, :-1]) / size
    motion = torch.cat([F.pad(-step, (0, 0, 0, 1)), F.pad(step, (0, 0, 1, 0))], dim=-1)
    octaves = 2.0 ** torch.arange(MOTION_OCTAVES, device=points.device)
    phase = (motion[..., None, :] * octaves[:, None]).flatten(-2)
    return torch.cat([motion, phase.sin(), (phase + math.pi / 2).sin()], dim=-1)


def time_embedding(rows: int, channels: int) -> Tensor:
    """Return sines of t 10000^(-2 j / channels), then cosines: [rows, channels] float32, made in float64."""
    half = channels // 2
    frequency = 10_000.0 ** -(torch.arange(half, dtype=torch.float64) / half)
    phase = torch.arange(rows, dtype=torch.float64)[:, None] * frequency
    return torch.cat([phase.sin(), phase.cos()], dim=1).float()


# Transformer


def eager_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    **_: object,
) -> tuple[Tensor, Tensor]:
    """Return the attended values [M, S, heads, D] of query, key and value [M, heads, S, D], and the weights."""
    scores = query @ key.transpose(-1, -2) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    return (weights @ value).transpose(1, 2), weights


class CoTracker3Layer(GradientCheckpointingLayer):
    """Pre-norm transformer layer, of tokens among themselves or (`cross`) on a context of other tokens."""

    def __init__(self, config: CoTracker3Config, cross: bool = False) -> None:
        super().__init__()
        size = config.hidden_size
        self.config = config
        self.is_causal = False
        self.head_size = size // config.num_attention_heads
        self.norm = nn.LayerNorm(size, eps=1e-6, elementwise_affine=False)
        self.context_norm = nn.LayerNorm(size) if cross else None
        self.query = nn.Linear(size, size)
        self.key_value = nn.Linear(size, 2 * size)
        self.out = nn.Linear(size, size)
        self.expand = nn.Linear(size, 4 * size)
        self.contract = nn.Linear(4 * size, size)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        """Map [M, L, C], with a context [M, K, C] if it is a cross layer, to [M, L, C]."""
        M, L, _ = x.shape
        inner = self.norm(x)
        context = inner if self.context_norm is None else self.context_norm(context)
        query = self.query(inner).view(M, L, -1, self.head_size).transpose(1, 2)
        key_value = self.key_value(context).view(M, context.shape[1], 2, -1, self.head_size)
        key, value = key_value.permute(2, 0, 3, 1, 4)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        attended, _ = attend(self, query, key, value, None, dropout=0.0, scaling=self.head_size**-0.5)
        x = x + self.out(attended.reshape(M, L, -1))
        return x + self.contract(F.gelu(self.expand(self.norm(x)), approximate="tanh"))


class CoTracker3Transformer(nn.Module):
    """Attention over time in each track, and over tracks in each frame by way of the virtual tracks."""

    def __init__(self, config: CoTracker3Config) -> None:
        super().__init__()
        motion = 4 * (1 + 2 * MOTION_OCTAVES)
        self.token_size = 2 + config.num_levels * config.correlation_size + motion
        self.project_in = nn.Linear(self.token_size, config.hidden_size)
        self.virtual_tracks = nn.Parameter(torch.empty(config.num_virtual_tracks, config.hidden_size))
        layers = range(config.num_hidden_layers)
        self.time_layers = nn.ModuleList([CoTracker3Layer(config) for _ in layers])
        self.gather_layers = nn.ModuleList([CoTracker3Layer(config, cross=True) for _ in layers])
        self.virtual_layers = nn.ModuleList([CoTracker3Layer(config) for _ in layers])
        self.spread_layers = nn.ModuleList([CoTracker3Layer(config, cross=True) for _ in layers])
        self.position_head = nn.Linear(config.hidden_size, 2)
        self.state_head = nn.Linear(config.hidden_size, 2)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.virtual_tracks)

    def forward(self, x: Tensor, query_chunk: int, frame_chunk: int) -> Tensor:
        """Map projected tokens [N, S, C] to changes [N, S, 4] of x, y (cells), visible and confidence logits."""
        N, S, _ = x.shape
        x = torch.cat([x, self.virtual_tracks[:, None].expand(-1, S, -1).to(x.dtype)])
        layers = zip(self.time_layers, self.gather_layers, self.virtual_layers, self.spread_layers, strict=True)
        for over_time, gather, among_virtual, spread in layers:
            # 1. Every track over time.
            x = torch.cat([over_time(part) for part in x.split(query_chunk)])
            # 2. In every frame: virtual tracks attend to points, then to each other; points attend to them.
            parts = []
            for frames in x.split(frame_chunk, dim=1):
                points, virtual = frames.transpose(0, 1).split([N, len(frames) - N], dim=1)
                virtual = among_virtual(gather(virtual, points))
                parts.append(torch.cat([spread(points, virtual), virtual], dim=1))
            x = torch.cat(parts).transpose(0, 1)
        x = x[:N]
        return torch.cat([self.position_head(x), self.state_head(x)], dim=-1).float()


# The model


@dataclass(frozen=True)
class _Frame:
    """Converts between raster pixels of the video and cells of the finest grid of frames of `size`, corners aligned."""

    video_size: tuple[int, int]
    size: tuple[int, int]

    def to_cells(self, xy: Tensor) -> Tensor:
        return (xy - 0.5) * self._scale(xy)

    def to_video(self, cells: Tensor) -> Tensor:
        return cells / self._scale(cells) + 0.5

    def _scale(self, like: Tensor) -> Tensor:
        sides = zip(self.size[::-1], self.video_size[::-1], strict=True)
        scale = [1.0 if new == old else (new - 1) / max(old - 1, 1) for new, old in sides]
        return torch.tensor(scale, device=like.device) / STRIDE


@dataclass(frozen=True)
class _Options:
    """What one call asks for: refinement steps, bounds on memory, the size of frames, and what to report."""

    iterations: int
    query_chunk: int
    frame_chunk: int
    resolution: tuple[int, int] | None = None
    keep: bool = False
    progress: Callable[[int], object] | None = None

    def frame(self, videos: Tensor) -> _Frame:
        height, width = videos.shape[-2:]
        return _Frame((height, width), self.resolution or (height, width))


# Tracks [B, N, T, 2] in pixels, logits [B, N, T, 2], and the steps of each clip.
_Found = tuple[Tensor, Tensor, list[list[CoTracker3Steps]]]


@dataclass
class CoTracker3State:
    """All that an online model needs of earlier frames. Its size does not grow with their number.

    Args:
        query_points: [B, N, 3] (t, x, y) of all queries, those of coming frames included.
        begin: number of the first frame of the window that was worked on last; None before the first.
        end: number of frames that were seen.
        video_size: (height, width) of the frames; None before the first.
        levels: features of the window's frames, one grid [B, S, h, w, C] a level.
        patches: features around the queries, one [B, N, P, C] a level; zero where their frame has not come.
        points: [B, N, S, 2] positions in the window, in cells of the finest grid.
        logits: [B, N, S, 2] of being visible, and confidence.
    """

    query_points: Tensor
    begin: int | None = None
    end: int = 0
    video_size: tuple[int, int] | None = None
    levels: list[Tensor] | None = None
    patches: list[Tensor] | None = None
    points: Tensor | None = None
    logits: Tensor | None = None


class CoTracker3PreTrainedModel(PreTrainedModel):
    config_class = CoTracker3Config
    base_model_prefix = "cotracker3"
    main_input_name = "pixel_values_videos"
    input_modalities = ("video",)
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path,
        *args,
        output_loading_info=False,
        ignore_mismatched_sizes=False,
        **kwargs,
    ):
        """Load a model as transformers does, but raise ValueError where the weights are not those of the network.

        transformers draws random numbers for the ones that are missing, and only warns. With
        `ignore_mismatched_sizes`, those of another size are drawn, as usual.
        """
        model, found = super().from_pretrained(
            pretrained_model_name_or_path, *args, output_loading_info=True, ignore_mismatched_sizes=True, **kwargs
        )
        sizes = {f"{name} {[*size]}, not {[*wanted]}" for name, size, wanted in found["mismatched_keys"]}
        for difference, names in (
            ("lack", found["missing_keys"]),
            ("have besides", found["unexpected_keys"]),
            ("have in another size", set() if ignore_mismatched_sizes else sizes),
        ):
            if names:
                others = f", and {len(names) - 1} more" if len(names) > 1 else ""
                raise ValueError(
                    f"{pretrained_model_name_or_path}: its weights are not those of the {cls.config_class.model_type} "
                    f"of its config.json: they {difference} {min(names)}{others}"
                )
        return (model, found) if output_loading_info else model

    def _init_weights(self, module: nn.Module) -> None:
        """Initialize as PyTorch does; a step's first corrections are small."""
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.LayerNorm, CoTracker3Transformer)):
            module.reset_parameters()
        if isinstance(module, CoTracker3Transformer):
            for head in (module.position_head, module.state_head):
                nn.init.trunc_normal_(head.weight, std=0.001)
                nn.init.zeros_(head.bias)


class CoTracker3ForPointTracking(CoTracker3PreTrainedModel):
    """Tracks points of a clip jointly: what is found for a query depends on which others are asked with it.

    Example:
        >>> import torch
        >>> from anthrotap_hf.models.cotracker3 import CoTracker3Config, CoTracker3ForPointTracking
        >>> model = CoTracker3ForPointTracking(CoTracker3Config(num_iterations=1)).eval()
        >>> video = torch.rand(1, 2, 3, 96, 128) * 2 - 1
        >>> with torch.inference_mode():
        ...     out = model(pixel_values_videos=video, query_points=torch.tensor([[[0.0, 100.5, 80.5]]]))
        >>> out.tracks.shape
        torch.Size([1, 1, 2, 2])
    """

    def __init__(self, config: CoTracker3Config) -> None:
        super().__init__(config)
        self.backbone = CoTracker3Backbone(config)
        self.correlation_encoder = CoTracker3CorrelationEncoder(config)
        self.transformer = CoTracker3Transformer(config)
        self.post_init()

    def forward(
        self,
        pixel_values_videos: Tensor | None = None,
        query_points: Tensor | None = None,
        num_iterations: int | None = None,
        resolution: Sequence[int] | None = None,
        bidirectional: bool | None = None,
        query_chunk_size: int | None = None,
        frame_chunk_size: int | None = None,
        output_steps: bool | None = None,
        progress: Callable[[int], object] | None = None,
        return_dict: bool | None = None,
    ) -> CoTracker3Output | tuple:
        """Track query points.

        Args:
            pixel_values_videos: [B, T, 3, H, W], floats in [-1, 1], or uint8; H and W multiples of 4.
            query_points: [B, N, 3] (t, x, y): t a whole frame number from 0, xy in pixels of the video.
            num_iterations: refinement steps; the configuration's by default.
            resolution: (height, width) that the video is resized to, corners aligned as released; by default it is
                tracked as it is.
            bidirectional: whether frames before a query come from the reversed clip. By default they do in an online
                model, which works forward in time; an offline one tracks all frames at once.
            query_chunk_size, frame_chunk_size: bounds on memory; the configuration's by default.
            output_steps: whether to return the estimates of every step; by default where gradients are recorded.
            progress: called with 1 after each of `num_steps` steps.

        Raises:
            ValueError: video or queries have another shape, or queries lie outside the video.
        """
        check_video(pixel_values_videos, resolution, self.config.num_levels)
        assert pixel_values_videos is not None
        B, T, _, height, width = pixel_values_videos.shape
        if query_points is None:
            raise ValueError("query_points is missing: [B, N, 3] of (t, x, y)")
        check_query_points(query_points, B, T - 1, height, width)
        keep = torch.is_grad_enabled() if output_steps is None else output_steps
        options = self._options(num_iterations, query_chunk_size, frame_chunk_size)
        size = None if resolution is None else (resolution[0], resolution[1])
        options = replace(options, resolution=size, keep=keep, progress=progress)
        track = self._track_windows if self.config.online else self._track_whole

        points, logits, steps = track(pixel_values_videos, query_points.float(), options)
        if self._runs_back(query_points) if bidirectional is None else bidirectional:
            # What comes before a query is tracked in the reversed video.
            times, xy = query_points.float().split([1, 2], dim=-1)
            flipped = torch.cat([T - 1 - times, xy], dim=-1)
            back = track(pixel_values_videos.flip(1), flipped, replace(options, keep=False))
            after_query = (torch.arange(T, device=times.device) >= times)[..., None]  # [B, N, T, 1]
            points = torch.where(after_query, points, back[0].flip(2))
            logits = torch.where(after_query, logits, back[1].flip(2))
        output = self._output(points, logits, steps if keep else None)
        return output.to_tuple() if return_dict is False else output

    def num_steps(self, num_frames: int, query_points: Tensor, query_chunk_size: int | None = None) -> int:
        """Return how often `forward` calls `progress` for a video: once an iteration in each window of each clip."""
        windows = len(self._window_begins(num_frames)) if self.config.online else 1
        directions = 1 + self._runs_back(query_points)
        return query_points.shape[0] * windows * directions * self.config.num_iterations

    def start(self, query_points: Tensor) -> CoTracker3State:
        """Return the state before the first frame; queries [B, N, 3] (t, x, y) may lie in any later frame."""
        return CoTracker3State(query_points)

    def step(
        self, pixel_values_videos: Tensor, state: CoTracker3State, num_iterations: int | None = None
    ) -> tuple[CoTracker3Output, CoTracker3State]:
        """Track on through the frames that follow, with an online model.

        Args:
            pixel_values_videos: [B, t, 3, H, W] as in `forward`: the first `window_size` frames, then
                `window_size / 2` frames a call; fewer end the video.
            state: of `start` or of the call before.

        Returns:
            The output for the frames of the window, `[state.begin, state.end)` of the new state, and that state. The
            window's first half is what was found for these frames before, refined. Where a query's frame has not come,
            tracks mean nothing.

        Raises:
            ValueError: the model is not online, or there are too many frames, or of another size.
        """
        if not self.config.online:
            raise ValueError("this CoTracker3 is an offline model: it tracks whole clips")
        check_video(pixel_values_videos, None, self.config.num_levels)
        (B, t), size = pixel_values_videos.shape[:2], tuple(pixel_values_videos.shape[-2:])
        overlap = 0 if state.begin is None else self.config.window_size // 2
        if state.begin is not None and state.end - state.begin < self.config.window_size:
            raise ValueError("the video has ended: the last call had fewer frames than a window takes")
        if t > self.config.window_size - overlap:
            raise ValueError(f"a call takes {self.config.window_size - overlap} frames at most here, got {t}")
        if state.video_size not in (None, size):
            raise ValueError(f"frames were {state.video_size} (height, width), now {size}")
        if state.begin is None:
            check_query_points(state.query_points, B, None, *size)
        options = self._options(num_iterations, None, None)
        levels = self._feature_levels(pixel_values_videos, options)
        state, _ = self._advance(state, levels, options.frame(pixel_values_videos), options)
        assert state.points is not None
        assert state.logits is not None
        N, own = state.query_points.shape[1], slice(None, overlap + t)
        tracks = options.frame(pixel_values_videos).to_video(state.points[:, :N, own])
        return self._output(tracks, state.logits[:, :N, own], None), state

    def _options(self, iterations: int | None, queries: int | None, frames: int | None) -> _Options:
        config = self.config
        options = _Options(
            config.num_iterations if iterations is None else iterations,
            config.query_chunk_size if queries is None else queries,
            config.frame_chunk_size if frames is None else frames,
        )
        if min(options.iterations, options.query_chunk, options.frame_chunk) < 1:
            raise ValueError(
                f"num_iterations, query_chunk_size and frame_chunk_size must be at least 1, got {options.iterations}, "
                f"{options.query_chunk} and {options.frame_chunk}"
            )
        return options

    def _runs_back(self, query_points: Tensor) -> bool:
        return self.config.online and bool((query_points[..., 0] > 0).any())

    def _window_begins(self, num_frames: int) -> range:
        half = self.config.window_size // 2
        return range(0, max(num_frames - half, 1), half)

    def _output(self, tracks: Tensor, logits: Tensor, steps: list[list[CoTracker3Steps]] | None) -> CoTracker3Output:
        """Return the output of tracks [B, N, T, 2] in pixels and logits [B, N, T, 2] (visible, confidence)."""
        visible, confidence = logits.unbind(-1)
        counted = visible_and_confident(visible, confidence) if self.config.confidence_counts else visible
        threshold = self.config.visible_threshold
        return CoTracker3Output(
            tracks=tracks,
            visible_logits=counted - math.log(threshold / (1 - threshold)),
            occlusion_logits=-visible,
            confidence_logits=confidence,
            steps=None if steps is None else tuple(map(tuple, steps)),
        )

    def _feature_levels(self, videos: Tensor, options: _Options) -> list[Tensor]:
        """Return the pyramid of features of videos [B, T, 3, H, W], one grid [B, T, h, w, C] a level."""
        B, T = videos.shape[:2]
        size = options.frame(videos).size
        step = max(options.frame_chunk // B, 1)
        parts: list[list[Tensor]] = []
        grids: list[Tensor] = []
        for first in range(0, T, step):
            frames = videos[:, first : first + step].flatten(0, 1)
            if frames.dtype == torch.uint8:
                frames = frames / 127.5 - 1
            if frames.shape[-2:] != size:
                frames = F.interpolate(frames, size, mode="bilinear", align_corners=True)
            level = self.backbone(frames.to(self.backbone.stem.weight.dtype))
            levels = [level]
            for _ in range(self.config.num_levels - 1):
                level = F.avg_pool2d(level, 2)
                levels.append(level)
            levels = [each.permute(0, 2, 3, 1).unflatten(0, (B, -1)) for each in levels]
            if torch.is_grad_enabled():
                parts.append(levels)
                continue
            if not grids:
                # Filled bit by bit: concatenated at the end they would be held twice.
                grids = [each.new_empty(B, T, *each.shape[2:]) for each in levels]
            for grid, each in zip(grids, levels, strict=True):
                grid[:, first : first + step] = each
        return grids or [torch.cat(each, dim=1) for each in zip(*parts, strict=True)]

    def _with_support(self, query_points: Tensor, frame: _Frame) -> Tensor:
        """Return queries [B, N + n n, 3] (t, x, y) in cells: those given, then the support grid of the first frame.

        The grid goes row by row, a 64th of the frame's width from all borders.
        """
        n, (height, width), device = self.config.support_grid_size, frame.size, query_points.device
        queries = torch.cat([query_points[..., :1], frame.to_cells(query_points[..., 1:])], dim=-1).float()
        if n == 0:
            return queries
        # One point lies in the middle.
        at = torch.linspace(0, 1, n, device=device) if n > 1 else torch.full((1,), 0.5, device=device)
        margin = width / 64
        y, x = torch.meshgrid(margin + at * (height - 2 * margin), margin + at * (width - 2 * margin), indexing="ij")
        support = torch.stack([torch.zeros_like(x), x / STRIDE, y / STRIDE], dim=-1).flatten(0, 1)
        return torch.cat([queries, support.expand(len(queries), -1, -1)], dim=1)

    def _track_whole(self, videos: Tensor, query_points: Tensor, options: _Options) -> _Found:
        """Track through whole clips at once: the offline model."""
        T, N, frame = videos.shape[1], query_points.shape[1], options.frame(videos)
        levels = self._feature_levels(videos, options)
        tracks, logits, kept = [], [], []
        for clip, queries in enumerate(self._with_support(query_points, frame)):
            grids = [level[clip] for level in levels]
            points = queries[:, None, 1:].expand(-1, T, -1)
            steps = self._refine(
                grids, self._query_patches(grids, queries), (points, torch.zeros_like(points)), options
            )
            tracks.append(frame.to_video(steps[-1][0][:N]))
            logits.append(steps[-1][1][:N])
            frames = torch.arange(T, device=queries.device)
            every = torch.arange(N, device=queries.device)
            kept.append([_steps(every, frames, steps, frame, torch.zeros_like(queries[:N, 0]))])
        return torch.stack(tracks), torch.stack(logits), kept

    def _track_windows(self, videos: Tensor, query_points: Tensor, options: _Options) -> _Found:
        """Track in windows that overlap by half, forward in time: the online model. The later window counts."""
        (B, T), N, frame = videos.shape[:2], query_points.shape[1], options.frame(videos)
        state = self.start(query_points)
        tracks, logits = query_points.new_zeros(B, N, T, 2), query_points.new_zeros(B, N, T, 2)
        kept: list[list[CoTracker3Steps]] = [[] for _ in range(B)]
        for begin in self._window_begins(T):
            end = min(begin + self.config.window_size, T)
            levels = self._feature_levels(videos[:, state.end : end], options)
            state, steps = self._advance(state, levels, frame, options)
            assert state.points is not None
            assert state.logits is not None
            tracks[:, :, begin:end] = frame.to_video(state.points[:, :N, : end - begin])
            logits[:, :, begin:end] = state.logits[:, :N, : end - begin]
            for clip, found in zip(kept, steps, strict=True):
                clip += found
        return tracks, logits, kept

    def _advance(
        self, state: CoTracker3State, levels: list[Tensor], frame: _Frame, options: _Options
    ) -> tuple[CoTracker3State, list[list[CoTracker3Steps]]]:
        """Track through the window that ends with new frames, of which the features [B, t, h, w, C] are given.

        Returns:
            The new state, and of each clip the steps in this window, if options ask to keep them.
        """
        S, half, N = self.config.window_size, self.config.window_size // 2, state.query_points.shape[1]
        begin = 0 if state.begin is None else state.begin + half
        new = state.end
        end = new + levels[0].shape[1]

        # 1. Features of the window: those known, the new ones, and at the end of a video copies of its last.
        if state.levels is not None:
            levels = [torch.cat([old[:, half:], level], dim=1) for old, level in zip(state.levels, levels, strict=True)]
        levels = [torch.cat([level, *[level[:, -1:]] * (begin + S - end)], dim=1) for level in levels]

        # 2. Queries whose frame is new; then each query's start: what the window before found, or its own position.
        queries = self._with_support(state.query_points, frame)
        times = queries[..., 0]
        points = queries[:, :, None, 1:].expand(-1, -1, S, -1)
        logits = torch.zeros_like(points)
        if state.points is not None and state.logits is not None:
            known = (times < begin + half)[..., None, None]
            carried = [
                torch.cat([x[:, :, half:], x[:, :, -1:].expand(-1, -1, half, -1)], dim=2).detach()
                for x in (state.points, state.logits)
            ]
            points, logits = torch.where(known, carried[0], points), torch.where(known, carried[1], logits)
        fresh = ((times >= new) & (times < end))[..., None, None]
        inside = (times - begin).clamp(0, S - 1)
        local = torch.cat([inside[..., None], queries[..., 1:]], dim=-1)
        of_clips = [self._query_patches([level[n] for level in levels], own) for n, own in enumerate(local)]
        sampled = [torch.stack(patches) for patches in zip(*of_clips, strict=True)]
        known_patches = state.patches or [torch.zeros_like(each) for each in sampled]
        patches = [torch.where(fresh, *pair) for pair in zip(sampled, known_patches, strict=True)]

        # 3. Refine those whose frame has come; the others stay where they are, not visible.
        seen = times < end
        found_points, found_logits, kept = [], [], []
        for clip in range(len(queries)):
            takes_part = torch.ones_like(seen[clip]) if self.config.attend_to_unseen else seen[clip]
            start = points[clip, takes_part], logits[clip, takes_part]
            grids, parts = [level[clip] for level in levels], [each[clip, takes_part] for each in patches]
            steps = []
            for position, logit in self._refine(grids, parts, start, options) if takes_part.any() else [start]:
                whole = points[clip].clone(), logits[clip].clone()
                whole[0][takes_part], whole[1][takes_part] = position, logit
                steps.append(whole)
            found_points.append(steps[-1][0])
            found_logits.append(steps[-1][1])
            frames = torch.arange(begin, end, device=times.device)
            own = takes_part[:N].nonzero()[:, 0]
            kept.append([_steps(own, frames, steps, frame, times[clip, :N])] if options.keep else [])
        state = CoTracker3State(
            state.query_points,
            begin,
            end,
            frame.video_size,
            levels,
            patches,
            torch.stack(found_points),
            torch.stack(found_logits),
        )
        return state, kept

    def _query_patches(self, grids: Sequence[Tensor], queries: Tensor) -> list[Tensor]:
        """Return the features around queries [N, 3] (t, x, y in cells) of one clip, [N, P, C] a level."""
        patches = []
        for number, grid in enumerate(grids):
            cells = gather_cells(grid, queries[:, 0].long(), queries[:, 1:] / 2**number, self.config.support_radius)
            patches.append(mix_cells(*cells).flatten(1, 2))
        return patches

    def _refine(
        self, grids: Sequence[Tensor], patches: Sequence[Tensor], start: tuple[Tensor, Tensor], options: _Options
    ) -> list[tuple[Tensor, Tensor]]:
        """Return the positions [N, S, 2] in cells and logits [N, S, 2] of one clip after each step.

        Each step is trained on its own: no gradient flows into the positions that it starts from.
        """
        points, logits = start
        S, transformer = points.shape[1], self.transformer
        height, width = self.config.resolution
        motion_size = torch.tensor([width / STRIDE, height / STRIDE], device=points.device)
        table = time_embedding(self.config.window_size, transformer.token_size).to(points.device)
        if len(table) != S:
            table = F.interpolate(table.T[None], S, mode="linear")[0].T
        steps = []
        for _ in range(options.iterations):
            points = points.detach()
            # 1. Tokens: logits so far, local correlations, motion, and time; projected, a chunk of queries at a time.
            motion = encode_motion(points, motion_size)
            tokens = []
            for first in range(0, len(points), options.query_chunk):
                own = slice(first, first + options.query_chunk)
                correlations = [
                    self._correlations(grid, points[own] / 2**number, patch[own], options.frame_chunk)
                    for number, (grid, patch) in enumerate(zip(grids, patches, strict=True))
                ]
                parts = [logits[own], *correlations, motion[own]]
                token = torch.cat([part.float() for part in parts], dim=-1) + table
                tokens.append(transformer.project_in(token.to(transformer.project_in.weight.dtype)))
            # 2. The transformer corrects positions and logits.
            change = transformer(torch.cat(tokens), options.query_chunk, options.frame_chunk)
            points, logits = points + change[..., :2], logits + change[..., 2:]
            steps.append((points, logits))
            if options.progress is not None:
                options.progress(1)
        return steps

    def _correlations(self, grid: Tensor, points: Tensor, patches: Tensor, chunk: int) -> Tensor:
        """Return the encoded correlations [N, S, C] on one level, a chunk of frames at a time."""
        parts = zip(grid.split(chunk), points.split(chunk, dim=1), strict=True)
        return torch.cat([self.correlation_encoder(*part, patches) for part in parts], dim=1)


def _steps(
    queries: Tensor, frames: Tensor, steps: Sequence[tuple[Tensor, Tensor]], frame: _Frame, first: Tensor
) -> CoTracker3Steps:
    """Return positions in cells and logits of all steps as losses take them; frames count from `first` [N] on."""
    own = [(points[queries, : len(frames)], logits[queries, : len(frames)]) for points, logits in steps]
    return CoTracker3Steps(
        queries,
        frames,
        [frame.to_video(points) for points, _ in own],
        [-logits[..., 0] for _, logits in own],
        [logits[..., 1] for _, logits in own],
        frames >= first[queries, None],
    )


def visible_and_confident(visible_logits: Tensor, confidence_logits: Tensor) -> Tensor:
    """Return the log-odds of the product of two probabilities.

    With odds of the opposites e^-v and e^-c, p = 1 / ((1 + e^-v) (1 + e^-c)), so
    (1 - p) / p = e^-v + e^-c + e^-(v + c): no probability near 0 or 1 is ever formed.
    """
    terms = [-visible_logits, -confidence_logits, -visible_logits - confidence_logits]
    return -torch.logsumexp(torch.stack(terms), dim=0)


def check_video(pixel_values_videos: Tensor | None, resolution: Sequence[int] | None, num_levels: int) -> None:
    """Raise ValueError unless it is a batch of videos that a model of so many levels takes at `resolution`."""
    if pixel_values_videos is None or pixel_values_videos.ndim != 5 or pixel_values_videos.shape[2] != 3:
        got = None if pixel_values_videos is None else list(pixel_values_videos.shape)
        raise ValueError(f"pixel_values_videos must be [B, T, 3, H, W], got {got}")
    dtype = pixel_values_videos.dtype
    if 0 in pixel_values_videos.shape or not (dtype.is_floating_point or dtype == torch.uint8):
        raise ValueError(
            f"pixel_values_videos must be floats in [-1, 1] or uint8, and not empty, "
            f"got {dtype} {list(pixel_values_videos.shape)}"
        )
    size = [*pixel_values_videos.shape[-2:]] if resolution is None else [*resolution]
    # The coarsest level has a cell, and the backbone's last stage more than one.
    least = max(STRIDE * 2 ** (num_levels - 1), 32)
    if len(size) != 2 or any(side < least or side % STRIDE for side in size):
        raise ValueError(
            f"frames must be multiples of {STRIDE} pixels from {least} up, got {size} (height, width); "
            "resolution= resizes them"
        )


def check_query_points(query_points: Tensor, B: int, last: int | None, height: int, width: int) -> None:
    """Raise ValueError, saying which query is wrong, unless all lie in the video (no `last`: no end known)."""
    if query_points.ndim != 3 or query_points.shape[0] != B or query_points.shape[2] != 3:
        raise ValueError(f"query_points must be [{B}, N, 3] of (t, x, y), got {list(query_points.shape)}")
    if query_points.shape[1] == 0:
        raise ValueError("no query point: give at least one (t, x, y)")
    limit = torch.tensor([torch.inf if last is None else last, width, height], device=query_points.device)
    fine = (query_points >= 0) & (query_points <= limit) & query_points.isfinite()
    fine[..., 0] &= query_points[..., 0] == query_points[..., 0].round()
    if not fine.all():
        clip, query = (~fine.all(-1)).nonzero()[0].tolist()
        t, x, y = query_points[clip, query].tolist()
        raise ValueError(
            f"query {query} of clip {clip} is (t, x, y) = ({t:g}, {x:g}, {y:g}); "
            f"t must be a whole number from 0{'' if last is None else f' to {last}'}, x within 0 to {width}, "
            f"y within 0 to {height}"
        )


__all__ = [
    "CoTracker3ForPointTracking",
    "CoTracker3Output",
    "CoTracker3PreTrainedModel",
    "CoTracker3State",
    "CoTracker3Steps",
]
