"""AllTracker: dense tracking of all pixels of a frame (Harley et al., ICCV 2025, arXiv 2506.07310).

From one frame of a clip, the anchor, the network estimates a flow to every other frame, on a grid of stride 8 that is
upsampled at the end. Query points are read from the flows of their own frame, forward and backward in time.

Top to bottom: outputs, encoders, correlation, refinement, the model. Points are xy in raster pixels at the interface:
the frame spans (0, 0) to (W, H) and the first pixel's center is (0.5, 0.5). Arrays: B clips, T frames, N query points,
S frames of a window, C channels, h x w the grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import ModelOutput

from .configuration_alltracker import AllTrackerConfig

STRIDE = 8
# Frames are padded to multiples of it, and to two of it at least: the coarsest of five levels then has a cell.
PADDED = 64
# Cells that attention over time works on at once.
CELLS_AT_ONCE = 4096
# Logits of what is known without the network.
CERTAIN = 10.0
IMAGE_MEAN, IMAGE_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass
class AllTrackerSteps:
    """Estimates of some queries of one clip in one window, one entry a refinement step; losses supervise all of them.

    Args:
        queries: [n] long, numbers of the queries.
        frames: [s] long, numbers of the frames.
        tracks: each [n, s, 2] xy in pixels of the input video.
        occlusion_logits, confidence_logits: each [n, s].
        counted: [n, s] bool, what losses count: all of them.
    """

    queries: Tensor
    frames: Tensor
    tracks: list[Tensor]
    occlusion_logits: list[Tensor]
    confidence_logits: list[Tensor]
    counted: Tensor


@dataclass
class AllTrackerOutput(ModelOutput):
    """Output of AllTracker.

    Args:
        tracks: [B, N, T, 2] xy in pixels of the input video.
        visible_logits: [B, N, T]; a point is visible where positive, that is where the probability that it is not
            occluded, times its confidence, is above the configuration's visible_threshold.
        occlusion_logits: [B, N, T]; positive where something hides the point.
        confidence_logits: [B, N, T]; positive where the position is likely right.
        steps: of each clip, its windows; None unless gradients are recorded or `output_steps`.
    """

    tracks: Tensor | None = None
    visible_logits: Tensor | None = None
    occlusion_logits: Tensor | None = None
    confidence_logits: Tensor | None = None
    steps: tuple[tuple[AllTrackerSteps, ...], ...] | None = None


@dataclass
class AllTrackerDenseOutput(ModelOutput):
    """Where every pixel of the first frame goes.

    Args:
        flow: [B, T, 2, H, W], dx and dy in pixels.
        occlusion_logits, confidence_logits: [B, T, H, W].
    """

    flow: Tensor | None = None
    occlusion_logits: Tensor | None = None
    confidence_logits: Tensor | None = None


# AllTrackerEncoder


class AllTrackerConvNextBlock(GradientCheckpointingLayer):
    """Depthwise convolution and a perceptron on each cell (ConvNeXt, Liu et al., 2022)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.norm = nn.LayerNorm(channels, eps=1e-6)
        self.expand = nn.Linear(channels, 4 * channels)
        self.contract = nn.Linear(4 * channels, channels)
        self.scale = nn.Parameter(torch.empty(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map [M, h, w, C] to the same shape."""
        inner = self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + self.scale * self.contract(F.gelu(self.expand(self.norm(inner))))


class AllTrackerConvNext(nn.Module):
    """The first three stages of a ConvNeXt, the last one dilated, so that it stays at stride 8."""

    def __init__(self, config: AllTrackerConfig) -> None:
        super().__init__()
        first, second, third = config.encoder_channels
        self.convs = nn.ModuleList(
            [
                nn.Conv2d(3, first, 4, stride=4),
                nn.Conv2d(first, second, 2, stride=2),
                nn.Conv2d(second, third, 3, padding=2, dilation=2),
            ]
        )
        # The first one comes after its convolution, the others before theirs.
        self.norms = nn.ModuleList([nn.LayerNorm(size, eps=1e-6) for size in (first, first, second)])
        self.stages = nn.ModuleList(
            [
                nn.Sequential(*[AllTrackerConvNextBlock(size) for _ in range(blocks)])
                for size, blocks in zip(config.encoder_channels, config.encoder_blocks, strict=True)
            ]
        )
        self.project = nn.Conv2d(third, config.feature_size, 1)

    def forward(self, frames: Tensor) -> Tensor:
        """Map normalized frames [M, 3, H, W] to features [M, H/8, W/8, C]."""
        x = frames.contiguous(memory_format=torch.channels_last)
        for number, (conv, norm, stage) in enumerate(zip(self.convs, self.norms, self.stages, strict=True)):
            if number == 0:
                x = norm(conv(x).permute(0, 2, 3, 1))
            else:
                x = conv(norm(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
            x = stage(x)
        return self.project(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class AllTrackerInstanceNorm(nn.GroupNorm):
    """Instance norm without parameters, as a group norm with one group a channel: much faster in channels-last."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, eps=1e-5, affine=False)


class AllTrackerResidualBlock(GradientCheckpointingLayer):
    """Two convolutions; where the stride is 2, a third one makes the shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, channels, 3, stride, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.shortcut = None if stride == 1 else nn.Conv2d(in_channels, channels, 1, stride)
        self.norm = AllTrackerInstanceNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [M, C, h, w] to [M, C', h', w']."""
        inner = F.relu(self.norm(self.conv1(x)), inplace=True)
        inner = F.relu(self.norm(self.conv2(inner)), inplace=True)
        shortcut = x if self.shortcut is None else self.norm(self.shortcut(x))
        return F.relu(inner + shortcut, inplace=True)


class AllTrackerResNet(nn.Module):
    """ResNet whose four stages, at strides 2 to 16, are brought to stride 8 and merged."""

    def __init__(self, config: AllTrackerConfig) -> None:
        super().__init__()
        widths = config.encoder_channels
        self.stem = nn.Conv2d(3, widths[0], 7, stride=2, padding=3)
        self.stem_norm = AllTrackerInstanceNorm(widths[0])
        self.stages = nn.ModuleList()
        in_channels = widths[0]
        for channels, blocks, stride in zip(widths, config.encoder_blocks, (1, 2, 2, 2), strict=True):
            stage = [AllTrackerResidualBlock(in_channels, channels, stride)]
            stage += [AllTrackerResidualBlock(channels, channels, 1) for _ in range(blocks - 1)]
            self.stages.append(nn.Sequential(*stage))
            in_channels = channels
        inner = 2 * config.feature_size
        self.merge = nn.Conv2d(sum(widths), inner, 3, padding=1)
        self.merge_norm = AllTrackerInstanceNorm(inner)
        self.project = nn.Conv2d(inner, config.feature_size, 1)

    def forward(self, frames: Tensor) -> Tensor:
        """Map normalized frames [M, 3, H, W] to features [M, H/8, W/8, C]."""
        size = [side // STRIDE for side in frames.shape[-2:]]
        x = frames.contiguous(memory_format=torch.channels_last)
        x = F.relu(self.stem_norm(self.stem(x)), inplace=True)
        stages = []
        for stage in self.stages:
            x = stage(x)
            # Corners aligned; the third stage has that size already.
            resized = x if [*x.shape[-2:]] == size else F.interpolate(x, size, mode="bilinear", align_corners=True)
            stages.append(resized)
        x = F.relu(self.merge_norm(self.merge(torch.cat(stages, dim=1))), inplace=True)
        return self.project(x).permute(0, 2, 3, 1)


# Correlation


class AllTrackerCorrelation:
    """Correlations of every cell of the anchor with the surroundings of where it is in the frames of a window."""

    def __init__(self, anchor: Tensor, frames: Tensor, config: AllTrackerConfig) -> None:
        """Take features of the anchor [h, w, C] and of the frames [S, h, w, C].

        Correlations with all cells are held where `correlation_megabytes` allow it.
        """
        self.radius = config.support_radius
        self.anchor = anchor.flatten(0, 1) / math.sqrt(anchor.shape[-1])
        # 1. The frames' pyramid. Sides that are odd are averaged over cells that overlap and cover all of the map.
        level = frames.permute(0, 3, 1, 2)
        self.sizes, self.levels = [], []
        for number in range(config.num_levels):
            if number:
                level = F.adaptive_avg_pool2d(level, (level.shape[-2] // 2, level.shape[-1] // 2))
            self.sizes.append((level.shape[-2], level.shape[-1]))
            self.levels.append(level.flatten(2))  # [S, C, h w]
        # 2. All correlations [S, anchor's cells, frame's cells], if they are few enough.
        cells = sum(height * width for height, width in self.sizes)
        self.row_bytes = cells * anchor.element_size()
        total = len(frames) * len(self.anchor) * self.row_bytes
        self.volumes = None
        if total <= config.correlation_megabytes * 1e6:
            self.volumes = [self.anchor @ level for level in self.levels]
        # Anchor's cells at once, where correlations are not held.
        self.rows = max(int(config.correlation_megabytes * 1e6 / 16 / self.row_bytes), 1)

    def __call__(self, points: Tensor, frames: slice) -> Tensor:
        """Look up around points [s, h w, 2] xy, in cells, of some frames: [s, h w, levels * S * S].

        Of the S x S offsets, x is the slow axis, as released.
        """
        if self.volumes is not None:
            found = [
                self._look_up(volume[frames], points / 2**number, self.sizes[number])
                for number, volume in enumerate(self.volumes)
            ]
            return torch.cat(found, dim=-1)
        parts = []
        for first in range(0, len(self.anchor), self.rows):
            own = slice(first, first + self.rows)
            one = []
            for number, level in enumerate(self.levels):
                # A frame at a time.
                found = [
                    self._look_up((self.anchor[own] @ cells)[None], at[None, own] / 2**number, self.sizes[number])
                    for cells, at in zip(level[frames], points, strict=True)
                ]
                one.append(torch.cat(found))
            parts.append(torch.cat(one, dim=-1))
        return torch.cat(parts, dim=1)

    def _look_up(self, volume: Tensor, points: Tensor, size: tuple[int, int]) -> Tensor:
        """Return bilinear samples [s, m, S S] of maps [s, m, h w] around points [s, m, 2]; the border's beyond it."""
        height, width = size
        # Far outside, everything is the border's: keep the integers small there.
        limit = torch.tensor([width, height], device=points.device) + self.radius
        points = torch.minimum(points, limit).clamp_min(-self.radius - 1)
        whole = points.floor()
        offsets = torch.arange(-self.radius, self.radius + 2, device=points.device)
        column, row = (whole.long()[..., None] + offsets).unbind(-2)
        # Clamped cells mixed by the same fractions are clamped samples.
        index = row.clamp(0, height - 1)[..., None, :] * width + column.clamp(0, width - 1)[..., :, None]
        cells = volume.gather(-1, index.flatten(-2)).unflatten(-1, index.shape[-2:])
        x, y = (points - whole).to(cells.dtype)[..., None, None].unbind(-3)
        cells = torch.lerp(cells[..., :-1, :], cells[..., 1:, :], x)
        return torch.lerp(cells[..., :-1], cells[..., 1:], y).flatten(-2)


# Refinement


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


class AllTrackerTimeLayer(GradientCheckpointingLayer):
    """Pre-norm transformer layer over the frames of each cell, scaled and added to its input once more."""

    def __init__(self, config: AllTrackerConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.config = config
        self.is_causal = False
        self.head_size = size // config.num_attention_heads
        self.norm = nn.LayerNorm(size, eps=1e-6, elementwise_affine=False)
        self.query = nn.Linear(size, size)
        self.key_value = nn.Linear(size, 2 * size)
        self.out = nn.Linear(size, size)
        self.expand = nn.Linear(size, 4 * size)
        self.contract = nn.Linear(4 * size, size)
        self.scale = nn.Parameter(torch.empty(size))

    def forward(self, x: Tensor) -> Tensor:
        """Map [S, M, C] to the same shape."""
        S, M, _ = x.shape
        tokens = x.transpose(0, 1)  # [M, S, C]
        inner = self.norm(tokens)
        query = self.query(inner).view(M, S, -1, self.head_size).transpose(1, 2)
        key, value = self.key_value(inner).view(M, S, 2, -1, self.head_size).permute(2, 0, 3, 1, 4)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        attended, _ = attend(self, query, key, value, None, dropout=0.0, scaling=self.head_size**-0.5)
        inner = tokens + self.out(attended.reshape(M, S, -1))
        inner = inner + self.contract(F.gelu(self.expand(self.norm(inner)), approximate="tanh"))
        # As released, what is scaled holds the input already.
        return x + (self.scale * inner).transpose(0, 1)


class AllTrackerMotionEncoder(GradientCheckpointingLayer):
    """Encodes correlations and flow."""

    def __init__(self, config: AllTrackerConfig) -> None:
        super().__init__()
        correlations, size = config.num_levels * (2 * config.support_radius + 1) ** 2, config.hidden_size
        self.correlation1 = nn.Conv2d(correlations, 4 * size, 1)
        self.correlation2 = nn.Conv2d(4 * size, 3 * size // 2, 3, padding=1)
        self.flow1 = nn.Conv2d(2, 2 * size, 5, padding=2)
        self.flow2 = nn.Conv2d(2 * size, size // 2, 3, padding=1)
        self.merge = nn.Conv2d(2 * size, size - 2, 3, padding=1)

    def forward(self, correlations: Tensor, flow: Tensor) -> Tensor:
        """Map correlations [s, K, h, w] and flow [s, 2, h, w] in cells to [s, C, h, w]."""
        found = F.relu(self.correlation1(correlations), inplace=True)
        found = F.relu(self.correlation2(found), inplace=True)
        motion = F.relu(self.flow1(flow), inplace=True)
        motion = F.relu(self.flow2(motion), inplace=True)
        merged = F.relu(self.merge(torch.cat([found, motion], dim=1)), inplace=True)
        return torch.cat([merged, flow], dim=1)


class AllTrackerHead(nn.Sequential):
    """Two convolutions."""

    def __init__(self, config: AllTrackerConfig, outputs: int, kernel: int) -> None:
        size = config.hidden_size
        super().__init__(
            nn.Conv2d(size, 2 * size, 3, padding=1), nn.ReLU(inplace=True),
            nn.Conv2d(2 * size, outputs, kernel, padding=kernel // 2),
        )  # fmt: skip


def time_embedding(rows: int, channels: int) -> Tensor:
    """Return sines of t 10000^(-2 j / channels), then cosines: [rows, channels] float32, made in float64."""
    half = channels // 2
    frequency = 10_000.0 ** -(torch.arange(half, dtype=torch.float64) / half)
    phase = torch.arange(rows, dtype=torch.float64)[:, None] * frequency
    return torch.cat([phase.sin(), phase.cos()], dim=1).float()


# The model


class AllTrackerPreTrainedModel(PreTrainedModel):
    config_class = AllTrackerConfig
    base_model_prefix = "alltracker"
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
        """Initialize as PyTorch does, with residual branches that start near zero."""
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.LayerNorm)):
            module.reset_parameters()
        elif isinstance(module, (AllTrackerConvNextBlock, AllTrackerTimeLayer)):
            nn.init.constant_(module.scale, 1e-6 if isinstance(module, AllTrackerConvNextBlock) else 1e-2)


@dataclass(frozen=True)
class _Window:
    """Frames that are refined at once, and how many of them the window before had; copies of the last one fill it."""

    frames: list[int]
    known: int


@dataclass(frozen=True)
class _Estimate:
    """After a refinement step: flow [S, 2, h, w] in cells, logits [S, 2, h, w], hidden state [S, h, w, C]."""

    flow: Tensor
    logits: Tensor
    hidden: Tensor


class _Clip:
    """One clip: its frames' features, computed when they are needed, a bounded number of which is held."""

    def __init__(self, model: AllTrackerForPointTracking, video: Tensor, chunk: int) -> None:
        self.model, self.video, self.chunk = model, video, chunk
        self.held: dict[int, Tensor] = {}
        height, width = video.shape[-2:]
        self.size = (height, width)
        # Half of the padding comes before, the odd pixel after.
        pads = []
        for side in (width, height):
            padding = max(math.ceil(side / PADDED), 2) * PADDED - side
            pads += [padding // 2, padding - padding // 2]
        self.pads = pads

    def features(self, frames: Sequence[int]) -> Tensor:
        """Return the features [s, h, w, C] of frames."""
        wanted = [frame for frame in dict.fromkeys(frames) if frame not in self.held]
        for first in range(0, len(wanted), self.chunk):
            own = wanted[first : first + self.chunk]
            self.held.update(zip(own, self.model.encode(self._prepare(self.video[own])), strict=True))
        found = torch.stack([self.held[frame] for frame in frames])
        while len(self.held) > self.model.config.feature_cache_size:
            del self.held[next(iter(self.held))]
        return found

    def _prepare(self, frames: Tensor) -> Tensor:
        """Map frames [s, 3, H, W] to normalized and padded ones."""
        pixels = frames / 255 if frames.dtype == torch.uint8 else (frames.float() + 1) / 2
        mean, std = (torch.tensor(value, device=pixels.device)[:, None, None] for value in (IMAGE_MEAN, IMAGE_STD))
        return F.pad((pixels - mean) / std, self.pads, mode="replicate")

    def crop(self, maps: Tensor) -> Tensor:
        """Cut the padding off maps [..., H', W']."""
        left, _, top, _ = self.pads
        return maps[..., top : top + self.size[0], left : left + self.size[1]]


class AllTrackerForPointTracking(AllTrackerPreTrainedModel):
    """Tracks any point of a clip through all its frames; `track_densely` all pixels of its first frame.

    The time that it takes depends on the number of frames that queries lie in, not on the number of queries.

    Example:
        >>> import torch
        >>> from anthrotap_hf.models.alltracker import AllTrackerConfig, AllTrackerForPointTracking
        >>> model = AllTrackerForPointTracking(AllTrackerConfig(num_iterations=1)).eval()
        >>> video = torch.rand(1, 2, 3, 128, 128) * 2 - 1
        >>> with torch.inference_mode():
        ...     out = model(pixel_values_videos=video, query_points=torch.tensor([[[0.0, 100.5, 80.5]]]))
        >>> out.tracks.shape
        torch.Size([1, 1, 2, 2])
    """

    def __init__(self, config: AllTrackerConfig) -> None:
        super().__init__(config)
        size = config.hidden_size
        self.encoder = (AllTrackerConvNext if config.encoder == "convnext" else AllTrackerResNet)(config)
        self.motion_encoder = AllTrackerMotionEncoder(config)
        # Hidden state, context, motion, logits.
        self.compress = nn.Conv2d(3 * size + 2, size, 1)
        self.time_layers = nn.ModuleList([AllTrackerTimeLayer(config) for _ in range(config.num_layers)])
        self.space_layers = nn.ModuleList([AllTrackerConvNextBlock(size) for _ in range(config.num_layers)])
        self.project = nn.Conv2d(size, size, 1)
        self.flow_head = AllTrackerHead(config, 2, 3)
        self.state_head = AllTrackerHead(config, 2, 3)
        self.upsample_head = AllTrackerHead(config, 9 * STRIDE**2, 1)
        self.post_init()

    def forward(
        self,
        pixel_values_videos: Tensor | None = None,
        query_points: Tensor | None = None,
        num_iterations: int | None = None,
        bidirectional: bool = True,
        frame_chunk_size: int | None = None,
        output_steps: bool | None = None,
        progress: Callable[[int], object] | None = None,
        return_dict: bool | None = None,
    ) -> AllTrackerOutput | tuple:
        """Track query points.

        Args:
            pixel_values_videos: [B, T, 3, H, W], floats in [-1, 1], or uint8. Frames of any size are taken.
            query_points: [B, N, 3] (t, x, y): t a whole frame number from 0, xy in pixels of the video.
            num_iterations: refinement steps; the configuration's by default.
            bidirectional: whether frames before a query are tracked, too; else points stay there, not visible.
            frame_chunk_size: bound on memory; the configuration's by default.
            output_steps: whether to return the estimates of every step; by default where gradients are recorded.
            progress: called with 1 after each of `num_steps` steps.

        Raises:
            ValueError: video or queries have another shape, or queries lie outside the video.
        """
        check_video(pixel_values_videos)
        assert pixel_values_videos is not None
        B, T, _, height, width = pixel_values_videos.shape
        if query_points is None:
            raise ValueError("query_points is missing: [B, N, 3] of (t, x, y)")
        check_query_points(query_points, B, T - 1, height, width)
        iterations, chunk = self._options(num_iterations, frame_chunk_size)
        keep = torch.is_grad_enabled() if output_steps is None else output_steps
        found = [
            self._track_clip(_Clip(self, video, chunk), queries, iterations, bidirectional, keep, progress)
            for video, queries in zip(pixel_values_videos, query_points.float(), strict=True)
        ]
        visible, confidence = torch.stack([logits for _, logits, _ in found]).unbind(-1)
        threshold = self.config.visible_threshold
        output = AllTrackerOutput(
            tracks=torch.stack([tracks for tracks, _, _ in found]),
            visible_logits=visible_and_confident(visible, confidence) - math.log(threshold / (1 - threshold)),
            occlusion_logits=-visible,
            confidence_logits=confidence,
            steps=tuple(tuple(steps) for _, _, steps in found) if keep else None,
        )
        return output.to_tuple() if return_dict is False else output

    def num_steps(self, num_frames: int, query_points: Tensor) -> int:
        """Return how often `forward` calls `progress` for a video: once an iteration in each window."""
        windows = 0
        for queries in query_points:
            for time in queries[:, 0].unique().long().tolist():
                windows += len(self._plan(num_frames - time)) + len(self._plan(time + 1))
        return windows * self.config.num_iterations

    def track_densely(
        self, pixel_values_videos: Tensor, num_iterations: int | None = None, frame_chunk_size: int | None = None
    ) -> AllTrackerDenseOutput:
        """Track all pixels of the first frame. The answer takes 16 bytes a pixel of the whole video.

        Args:
            pixel_values_videos: [B, T, 3, H, W] as in `forward`, of two frames or more.
            num_iterations, frame_chunk_size: see `forward`.

        Raises:
            ValueError: the video has another shape, or one frame only.
        """
        check_video(pixel_values_videos)
        B, T, _, height, width = pixel_values_videos.shape
        if T < 2:
            raise ValueError("a video of one frame has nothing to track")
        iterations, chunk = self._options(num_iterations, frame_chunk_size)
        maps = pixel_values_videos.new_zeros(B, T, 4, height, width, dtype=torch.float32)
        for video, out in zip(pixel_values_videos, maps, strict=True):
            clip = _Clip(self, video, chunk)
            for window, kept, steps in self._windows(clip, range(T), iterations, None):
                for place in kept:
                    flow, logits = self.upsample(steps[-1], slice(place, place + 1))
                    out[window.frames[place]] = clip.crop(torch.cat([flow, logits], dim=1))[0]
            if T == 2:
                # A pair has no estimate for its anchor: that stays where it is, visible.
                out[0, :2], out[0, 2:] = 0, CERTAIN
        return AllTrackerDenseOutput(maps[:, :, :2], -maps[:, :, 2], maps[:, :, 3])

    def _options(self, iterations: int | None, chunk: int | None) -> tuple[int, int]:
        iterations = self.config.num_iterations if iterations is None else iterations
        chunk = self.config.frame_chunk_size if chunk is None else chunk
        if min(iterations, chunk) < 1:
            raise ValueError(f"num_iterations and frame_chunk_size must be at least 1, got {iterations} and {chunk}")
        return iterations, chunk

    def encode(self, frames: Tensor) -> Tensor:
        """Return the features [s, h, w, C] of normalized and padded frames [s, 3, H, W]."""
        return self.encoder(frames.to(self.compress.weight.dtype))

    def _plan(self, num_frames: int) -> range:
        """Return the first frames of the windows over so many frames; no window over one."""
        half = self.config.window_size // 2
        return range(0, max(num_frames - half, 1), half) if num_frames > 1 else range(0)

    def _windows(
        self, clip: _Clip, frames: range, iterations: int, progress: Callable[[int], object] | None
    ) -> Iterator[tuple[_Window, range, list[_Estimate]]]:
        """Track through frames of a clip, of which the first is the anchor.

        Yields:
            Each window, the places in it that count, and the estimates of all steps.
        """
        S, half = self.config.window_size, self.config.window_size // 2
        anchor = clip.features([frames[0]])[0]
        if len(frames) == 2:
            # A pair is a window of one frame.
            window = _Window([frames[1]], 0)
            yield (
                window,
                range(1),
                self._refine(anchor, clip.features(window.frames), None, iterations, clip.chunk, progress),
            )
            return
        last: _Estimate | None = None
        for begin in self._plan(len(frames)):
            own = [*frames[begin : begin + S]]
            window = _Window(own, half if begin else 0)
            features = clip.features(own)
            features = torch.cat([features, features[-1:].expand(S - len(own), -1, -1, -1)])
            steps = self._refine(anchor, features, last, iterations, clip.chunk, progress)
            # The shared frames are kept from one of their two windows.
            is_last = begin + S >= len(frames)
            if self.config.first_window_counts:
                kept = range(window.known, len(own))
            else:
                kept = range(len(own) if is_last else half)
            last = steps[-1]
            yield window, kept, steps

    def _refine(
        self,
        anchor: Tensor,
        features: Tensor,
        last: _Estimate | None,
        iterations: int,
        chunk: int,
        progress: Callable[[int], object] | None,
    ) -> list[_Estimate]:
        """Return the estimates of all steps in a window.

        Each step is trained on its own: no gradient flows into the flow that it starts from.

        Args:
            anchor: features [h, w, C].
            features: of the window's frames, [S, h, w, C].
            last: of the window before, whose second half is this one's first.
        """
        (S, h, w, _), config = features.shape, self.config
        # 1. Hidden state and context, which are the anchor's; the context tells the place in the window.
        table = time_embedding(config.window_size, config.hidden_size).to(anchor)
        hidden, context = anchor.chunk(2, dim=-1) if config.encoder == "convnext" else (anchor, anchor)
        hidden = hidden.expand(S, -1, -1, -1)
        context = context + (table if len(table) == S else table[1:2])[:, None, None]
        # 2. Flow and logits: those known, and for new frames those of the last known one.
        if last is None:
            flow = logits = torch.zeros(S, 2, h, w, device=features.device)
        else:
            half = S // 2
            flow, logits = (
                torch.cat([each[half:], each[-1:].expand(half, -1, -1, -1)]).detach()
                for each in (last.flow, last.logits)
            )
        correlate = AllTrackerCorrelation(anchor, features, config)
        y, x = torch.meshgrid(*(torch.arange(side, device=anchor.device) for side in (h, w)), indexing="ij")
        grid = torch.stack([x, y]).float()
        dtype, steps = anchor.dtype, []
        for _ in range(iterations):
            flow = flow.detach()
            # 3. Inputs: correlations where the cells are now, motion, and what is known so far.
            parts = []
            for first in range(0, S, chunk):
                own = slice(first, min(first + chunk, S))
                points = (grid + flow[own]).flatten(2).transpose(1, 2)  # [s, h w, 2]
                found = correlate(points, own).unflatten(1, (h, w)).permute(0, 3, 1, 2)
                motion = self.motion_encoder(found, flow[own].to(dtype))
                maps = [
                    hidden[own].permute(0, 3, 1, 2),
                    context[own].permute(0, 3, 1, 2),
                    motion,
                    logits[own].to(dtype),
                ]
                parts.append(self.compress(torch.cat(maps, dim=1)).permute(0, 2, 3, 1))
            x = torch.cat(parts)
            # 4. Layers over time and over space.
            for over_time, over_space in zip(self.time_layers, self.space_layers, strict=True):
                cells = x.flatten(1, 2).split(CELLS_AT_ONCE, dim=1)
                x = torch.cat([over_time(part) for part in cells], dim=1).unflatten(1, (h, w))
                x = torch.cat([over_space(part) for part in x.split(chunk)])
            # 5. The new hidden state corrects flow and logits.
            states, flows, changes = [], [], []
            for part in x.split(chunk):
                state = self.project(part.permute(0, 3, 1, 2))
                flows.append(self.flow_head(state).float())
                changes.append(self.state_head(state).float())
                states.append(state.permute(0, 2, 3, 1))
            hidden = torch.cat(states)
            flow, logits = flow + torch.cat(flows), logits + torch.cat(changes)
            steps.append(_Estimate(flow, logits, hidden))
            if progress is not None:
                progress(1)
        return steps

    def upsample(self, estimate: _Estimate, frames: slice) -> tuple[Tensor, Tensor]:
        """Return flow [s, 2, H, W] in pixels and logits [s, 2, H, W] of frames, padding included.

        Each pixel mixes the 3 x 3 cells around its own, by learned weights, of values times 8: of the logits, too, as
        released. Beyond the border they are 0.
        """
        hidden = estimate.hidden[frames].permute(0, 3, 1, 2)
        weights = (0.25 * self.upsample_head(hidden).float()).unflatten(1, (9, STRIDE**2)).softmax(1)
        values = torch.cat([estimate.flow[frames], estimate.logits[frames]], dim=1) * STRIDE
        around = F.unfold(values, 3, padding=1).view(len(values), 4, 9, 1, *values.shape[2:])
        total = sum(weights[:, None, place] * around[:, :, place] for place in range(9))
        assert isinstance(total, Tensor)
        flow, logits = F.pixel_shuffle(total.flatten(1, 2), STRIDE).chunk(2, dim=1)
        return flow, logits

    def _track_clip(
        self,
        clip: _Clip,
        queries: Tensor,
        iterations: int,
        bidirectional: bool,
        keep: bool,
        progress: Callable[[int], object] | None,
    ) -> tuple[Tensor, Tensor, list[AllTrackerSteps]]:
        """Return tracks [N, T, 2] in pixels, logits [N, T, 2] and the steps of queries [N, 3] in one clip."""
        T, N = len(clip.video), len(queries)
        released, times = self.config.released_readout, queries[:, 0].long()
        points = queries[:, 1:] - 0.5
        if released:
            # Halves to even; a point on the far border belongs to the last pixel.
            limit = torch.tensor([clip.size[1] - 1, clip.size[0] - 1], device=points.device)
            points = torch.minimum(points.round(), limit).clamp_min(0)
        # 1. Where nothing is known a point stays, not visible; in its own frame it is visible.
        tracks = points[:, None].repeat(1, T, 1)
        logits = torch.full((N, T, 2), -CERTAIN, device=points.device)
        if not released:
            logits[torch.arange(N, device=points.device), times] = CERTAIN
        kept_steps = []
        for time in times.unique().tolist():
            own = (times == time).nonzero()[:, 0]
            runs = [range(time, T)] + ([range(time, -1, -1)] if bidirectional else [])
            for frames in runs:
                if len(frames) < 2:
                    continue
                for window, kept, steps in self._windows(clip, frames, iterations, progress):
                    # 2. Read the last step. The anchor's own frame counts in the first run.
                    places = [
                        place for place in kept if frames.step > 0 or T - time < 2 or window.frames[place] != time
                    ]
                    for first in range(0, len(places), clip.chunk):
                        part = places[first : first + clip.chunk]
                        numbers = torch.tensor([window.frames[place] for place in part], device=own.device)
                        found = self._read(clip, steps[-1], slice(part[0], part[-1] + 1), points[own])
                        tracks[own[:, None], numbers], logits[own[:, None], numbers] = found
                        if released and len(frames) == 2 and frames.step > 0:
                            tracks[own, time], logits[own, time] = found[0][:, 0], found[1][:, 0]
                    if keep:
                        kept_steps.append(self._kept(clip, window, steps, own, points))
        return tracks + 0.5, logits, kept_steps

    def _kept(
        self, clip: _Clip, window: _Window, steps: Sequence[_Estimate], own: Tensor, points: Tensor
    ) -> AllTrackerSteps:
        """Read all steps of a window, for losses."""
        read = [self._read(clip, step, slice(0, len(window.frames)), points[own]) for step in steps]
        return AllTrackerSteps(
            own,
            torch.tensor(window.frames, device=own.device),
            [tracks + 0.5 for tracks, _ in read],
            [-logits[..., 0] for _, logits in read],
            [logits[..., 1] for _, logits in read],
            torch.ones(len(own), len(window.frames), dtype=torch.bool, device=own.device),
        )

    def _read(self, clip: _Clip, estimate: _Estimate, frames: slice, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return where points [n, 2] go, [n, s, 2], and logits [n, s, 2]. The first pixel's center is (0, 0) here."""
        maps = clip.crop(torch.cat(self.upsample(estimate, frames), dim=1))  # [s, 4, H, W]
        height, width = clip.size
        at = torch.minimum(points.clamp_min(0), torch.tensor([width - 1, height - 1], device=points.device))
        first = at.floor()
        fraction = at - first
        (x0, y0), last = first.long().unbind(-1), (width - 1, height - 1)
        x1, y1 = (x0 + 1).clamp(max=last[0]), (y0 + 1).clamp(max=last[1])
        top = torch.lerp(maps[:, :, y0, x0], maps[:, :, y0, x1], fraction[:, 0])
        bottom = torch.lerp(maps[:, :, y1, x0], maps[:, :, y1, x1], fraction[:, 0])
        flow, logits = torch.lerp(top, bottom, fraction[:, 1]).permute(2, 0, 1).chunk(2, dim=-1)
        return points[:, None] + flow, logits


def visible_and_confident(visible_logits: Tensor, confidence_logits: Tensor) -> Tensor:
    """Return the log-odds of the product of two probabilities.

    With odds of the opposites e^-v and e^-c, p = 1 / ((1 + e^-v) (1 + e^-c)), so
    (1 - p) / p = e^-v + e^-c + e^-(v + c): no probability near 0 or 1 is ever formed.
    """
    terms = [-visible_logits, -confidence_logits, -visible_logits - confidence_logits]
    return -torch.logsumexp(torch.stack(terms), dim=0)


def check_video(pixel_values_videos: Tensor | None) -> None:
    """Raise ValueError unless it is a batch of videos."""
    if pixel_values_videos is None or pixel_values_videos.ndim != 5 or pixel_values_videos.shape[2] != 3:
        got = None if pixel_values_videos is None else list(pixel_values_videos.shape)
        raise ValueError(f"pixel_values_videos must be [B, T, 3, H, W], got {got}")
    dtype = pixel_values_videos.dtype
    if 0 in pixel_values_videos.shape or not (dtype.is_floating_point or dtype == torch.uint8):
        raise ValueError(
            f"pixel_values_videos must be floats in [-1, 1] or uint8, and not empty, "
            f"got {dtype} {list(pixel_values_videos.shape)}"
        )


def check_query_points(query_points: Tensor, B: int, last: int, height: int, width: int) -> None:
    """Raise ValueError, saying which query is wrong, unless all lie in the video."""
    if query_points.ndim != 3 or query_points.shape[0] != B or query_points.shape[2] != 3:
        raise ValueError(f"query_points must be [{B}, N, 3] of (t, x, y), got {list(query_points.shape)}")
    if query_points.shape[1] == 0:
        raise ValueError("no query point: give at least one (t, x, y)")
    limit = torch.tensor([last, width, height], device=query_points.device)
    fine = (query_points >= 0) & (query_points <= limit)
    fine[..., 0] &= query_points[..., 0] == query_points[..., 0].round()
    if not fine.all():
        clip, query = (~fine.all(-1)).nonzero()[0].tolist()
        t, x, y = query_points[clip, query].tolist()
        raise ValueError(
            f"query {query} of clip {clip} is (t, x, y) = ({t:g}, {x:g}, {y:g}); "
            f"t must be a whole number from 0 to {last}, x within 0 to {width}, y within 0 to {height}"
        )


__all__ = [
    "AllTrackerDenseOutput",
    "AllTrackerForPointTracking",
    "AllTrackerOutput",
    "AllTrackerPreTrainedModel",
    "AllTrackerSteps",
]
