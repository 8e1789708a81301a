"""LocoTrack: local all-pair correspondence for point tracking (Cho et al., ECCV 2024, arXiv 2407.15420).

Top to bottom: outputs, backbone, sampling, first guess from a global cost volume, refinement (local 4D correlation,
then a transformer over time), the model. Points are xy in raster pixels: the frame spans (0, 0) to (W, H) and the
first pixel's center is (0.5, 0.5). Arrays: B clips, T frames, N query points, C channels, h x w a feature grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import ModelOutput

from .configuration_locotrack import LocoTrackConfig

# Octaves of the sine encoding of a point's motion to its neighbor frames.
MOTION_OCTAVES = 10


@dataclass
class LocoTrackOutput(ModelOutput):
    """Output of LocoTrack.

    Args:
        tracks: [B, N, T, 2] xy in pixels of the input video.
        visible_logits: [B, N, T]; a point is visible where positive, that is where
            (1 - sigmoid(occlusion)) (1 - sigmoid(uncertainty)) is above the configuration's visible_threshold.
        occlusion_logits: [B, N, T]; positive where something hides the point.
        uncertainty_logits: [B, N, T]; positive where the position is likely off.
        unrefined_tracks, unrefined_occlusion_logits, unrefined_uncertainty_logits: the same before each refinement
            step (the first guess, then all steps but the last): losses supervise them, too.
    """

    tracks: Tensor | None = None
    visible_logits: Tensor | None = None
    occlusion_logits: Tensor | None = None
    uncertainty_logits: Tensor | None = None
    unrefined_tracks: tuple[Tensor, ...] | None = None
    unrefined_occlusion_logits: tuple[Tensor, ...] | None = None
    unrefined_uncertainty_logits: tuple[Tensor, ...] | None = None


@dataclass(frozen=True)
class LocoTrackFeatures:
    """Features of a clip, computed once for any number of query sets. Grids are [B, T, h, w, C], of unit length.

    Args:
        initial: (coarse, middle) at the first refinement resolution, for the first guess.
        refinement: (middle, coarse, fine) at the last refinement resolution.
        video_size: (height, width) of the clip, whose pixels queries and tracks are in.
        resolution: (height, width) that the clip was refined at.
    """

    initial: tuple[Tensor, Tensor]
    refinement: tuple[Tensor, Tensor, Tensor]
    video_size: tuple[int, int]
    resolution: tuple[int, int]

    @property
    def num_frames(self) -> int:
        return self.refinement[0].shape[1]

    def grids(self) -> list[Tensor]:
        """Return every grid once: with one resolution, the first guess and the refinement have the same."""
        shared = self.initial[0] is self.refinement[1]
        return [*self.refinement] if shared else [*self.refinement, *self.initial]

    @classmethod
    def joined(cls, parts: Sequence[LocoTrackFeatures]) -> LocoTrackFeatures:
        """Return the features of frames that follow each other as those of one clip."""
        middle, coarse, fine, *others = (
            torch.cat(grids, dim=1) for grids in zip(*(part.grids() for part in parts), strict=True)
        )
        first_coarse, first_middle = others or (coarse, middle)
        last = parts[-1]
        return cls((first_coarse, first_middle), (middle, coarse, fine), last.video_size, last.resolution)

    def frames(self, first: int, end: int) -> LocoTrackFeatures:
        """Return the features of some frames, as views."""
        middle, coarse, fine, *others = (grid[:, first:end] for grid in self.grids())
        first_coarse, first_middle = others or (coarse, middle)
        return LocoTrackFeatures((first_coarse, first_middle), (middle, coarse, fine), self.video_size, self.resolution)


@dataclass(frozen=True)
class LocoTrackQueryFeatures:
    """Features of query points, in the frames that they are given in.

    Args:
        coarse, middle: [B, N, C] at the points, for the first guess.
        supports: [B, N, S S, C] around the points, on each grid of `LocoTrackFeatures.refinement`.
    """

    coarse: Tensor
    middle: Tensor
    supports: tuple[Tensor, ...]

    def tensors(self) -> tuple[Tensor, ...]:
        return (self.coarse, self.middle, *self.supports)

    def split(self, size: int) -> list[LocoTrackQueryFeatures]:
        parts = zip(*(tensor.split(size, dim=1) for tensor in self.tensors()), strict=True)
        return [LocoTrackQueryFeatures(coarse, middle, tuple(rest)) for coarse, middle, *rest in parts]


@dataclass(frozen=True)
class LocoTrackWindow:
    """Frames `begin` to `end` (excluded) of a video, tracked at once; the results for `keep` are kept."""

    begin: int
    end: int
    keep: range

    @property
    def kept(self) -> slice:
        """Return `keep`, counted from `begin`."""
        return slice(self.keep.start - self.begin, self.keep.stop - self.begin)


# LocoTrackBackbone


class LocoTrackSamePadConv2d(nn.Conv2d):
    """Convolution whose output has ceil(size / stride) pixels; odd padding goes to the far side (TensorFlow's SAME)."""

    def forward(self, x: Tensor) -> Tensor:
        padding = []
        for size, kernel, stride in zip(x.shape[:-3:-1], self.kernel_size[::-1], self.stride[::-1], strict=True):
            total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            padding += [total // 2, total - total // 2]
        left, right, top, bottom = padding
        if left == right and top == bottom:
            return F.conv2d(x, self.weight, self.bias, self.stride, (top, left))
        return F.conv2d(F.pad(x, padding), self.weight, self.bias, self.stride)


class LocoTrackInstanceNorm(nn.GroupNorm):
    """Instance norm, as a group norm with one group a channel: the same, but much faster in channels-last layout."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, eps=1e-5)


class LocoTrackResidualBlock(GradientCheckpointingLayer):
    """Pre-activation residual block. The first one of a stage projects its shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int, project: bool) -> None:
        super().__init__()
        self.norm1 = LocoTrackInstanceNorm(in_channels)
        self.conv1 = LocoTrackSamePadConv2d(in_channels, channels, 3, stride, bias=False)
        self.norm2 = LocoTrackInstanceNorm(channels)
        self.conv2 = LocoTrackSamePadConv2d(channels, channels, 3, bias=False)
        self.shortcut = LocoTrackSamePadConv2d(in_channels, channels, 1, stride, bias=False) if project else None

    def forward(self, x: Tensor) -> Tensor:
        """Map [M, C, h, w] to [M, C', h', w']."""
        inner = F.relu(self.norm1(x), inplace=True)
        shortcut = x if self.shortcut is None else self.shortcut(inner)
        inner = F.relu(self.norm2(self.conv1(inner)), inplace=True)
        return self.conv2(inner) + shortcut


class LocoTrackBackbone(nn.Module):
    """ResNet whose stages work at strides 2, 4, 8 and 8."""

    def __init__(self, config: LocoTrackConfig) -> None:
        super().__init__()
        widths = config.stage_channels
        self.stem = LocoTrackSamePadConv2d(3, widths[0], 7, stride=2, bias=False)
        self.stages = nn.ModuleList()
        in_channels = widths[0]
        for channels, blocks, stride in zip(widths, config.stage_blocks, (1, 2, 2, 1), strict=True):
            stage = [LocoTrackResidualBlock(in_channels, channels, stride, project=True)]
            stage += [LocoTrackResidualBlock(channels, channels, 1, project=False) for _ in range(blocks - 1)]
            self.stages.append(nn.Sequential(*stage))
            in_channels = channels

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Map frames [M, 3, H, W] to grids: fine [M, H/2, W/2, C], middle [M, H/4, W/4, C], coarse [M, H/8, W/8, C]."""
        x = self.stem(frames.contiguous(memory_format=torch.channels_last))
        stages = []
        for stage in self.stages:
            x = stage(x)
            stages.append(x)
        fine, middle, _, coarse = (_unit_length(stage.permute(0, 2, 3, 1)) for stage in stages)
        return fine, middle, coarse


def _unit_length(features: Tensor) -> Tensor:
    """Scale the last axis to length 1."""
    square = features.float().square().sum(-1, keepdim=True)
    return features * square.clamp_min(1e-12).rsqrt().to(features.dtype)


# Sampling


def sample_support(features: Tensor, query_points: Tensor, video_size: tuple[int, int], radius: int = 3) -> Tensor:
    """Return features at S x S positions (S = 2 radius + 1), one grid cell apart, around each query.

    Beyond the border they are the border's.

    Args:
        features: [B, T, h, w, C].
        query_points: [B, N, 3] (t, x, y), pixels of `video_size`; between two frames, both count.

    Returns:
        [B, N, S S, C], row by row.
    """
    B, T, h, w, C = features.shape
    t, x, y = query_points.float().unbind(-1)  # [B, N]
    offsets = torch.arange(-radius, radius + 1, device=features.device)

    # 1. Bring each axis to grid cells: the two cells around each position, and the second one's weight.
    t0, t1, t_weight = _neighbors(t[..., None], T)
    y0, y1, y_weight = _neighbors((y * (h / video_size[0]) - 0.5)[..., None] + offsets, h)  # [B, N, S]
    x0, x1, x_weight = _neighbors((x * (w / video_size[1]) - 0.5)[..., None] + offsets, w)

    # 2. Sum the eight cells around each position, weighted trilinearly.
    rows = features.reshape(-1, C)
    clip = torch.arange(B, device=features.device)[:, None, None] * T
    total: Tensor | None = None
    for frame, frame_weight in ((t0, 1 - t_weight), (t1, t_weight)):
        for row, row_weight in ((y0, 1 - y_weight), (y1, y_weight)):
            for column, column_weight in ((x0, 1 - x_weight), (x1, x_weight)):
                index = (((clip + frame) * h + row)[..., None] * w + column[..., None, :]).flatten(2)
                weight = (frame_weight * row_weight)[..., None] * column_weight[..., None, :]
                corner = F.embedding(index, rows) * weight.flatten(2)[..., None].to(features.dtype)
                total = corner if total is None else total + corner
    assert total is not None
    return total


def _neighbors(position: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two cells of 0 ... size - 1 around each position, and the second one's weight."""
    position = position.clamp(0, size - 1)
    first = position.floor().long()
    return first, (first + 1).clamp(max=size - 1), position - first


def correlate(features: Tensor, points: Tensor, support: Tensor) -> Tensor:
    """Correlate S x S positions around each point with the query's S x S positions; zero beyond the border.

    All positions have one fractional shift, and correlation is linear: so correlations at (S + 1) x (S + 1) whole cells
    are computed and then shifted, instead of interpolating features S S times.

    Args:
        features: [B, T, h, w, C].
        points: [B, N, T, 2] xy in cells of this grid.
        support: [B, N, S S, C], of `sample_support`.

    Returns:
        [B, N, T, S S, S S].
    """
    B, T, h, w, C = features.shape
    N = points.shape[1]
    side = math.isqrt(support.shape[2])

    # 1. Split the top left position into a whole cell and a fraction.
    corner = points - side / 2
    # Far outside the frame everything is zero: keep the integers small there.
    beyond = -(side + 2)
    corner = torch.stack([corner[..., 0].clamp(beyond, w + 1), corner[..., 1].clamp(beyond, h + 1)], dim=-1)
    whole = corner.floor()
    x_fraction, y_fraction = (corner - whole).to(features.dtype).unbind(-1)  # [B, N, T]

    # 2. Gather the features of the (S + 1) x (S + 1) cells.
    cells = whole.long()[..., None] + torch.arange(side + 1, device=features.device)  # [B, N, T, 2, S + 1]
    column, row = cells.unbind(-2)
    inside = ((row >= 0) & (row < h))[..., None] & ((column >= 0) & (column < w))[..., None, :]
    frame = torch.arange(B * T, device=features.device).view(B, 1, T, 1)
    index = (frame * h + row.clamp(0, h - 1))[..., None] * w + column.clamp(0, w - 1)[..., None, :]
    gathered = F.embedding(index.view(B * N, -1), features.reshape(-1, C))  # [B N, T (S + 1) (S + 1), C]

    # 3. Correlate them with the query's.
    found = torch.bmm(gathered, support.reshape(B * N, -1, C).transpose(1, 2))
    found = found.view(B, N, T, side + 1, side + 1, -1) * inside[..., None].to(found.dtype)

    # 4. Shift by the fraction, down and then right.
    y_fraction, x_fraction = (part[..., None, None, None].to(found.dtype) for part in (y_fraction, x_fraction))
    found = torch.lerp(found[..., :-1, :, :], found[..., 1:, :, :], y_fraction)
    found = torch.lerp(found[..., :-1, :], found[..., 1:, :], x_fraction)
    return found.flatten(3, 4)


# First guess


def correlate_support(features: Tensor, support: Tensor) -> Tensor:
    """Correlate the S x S positions around each cell with those around each query, and average over the S S pairs.

    Beyond the border they are the border's.

    Args:
        features: [B, T, h, w, C].
        support: [B, N, S S, C], of `sample_support`.

    Returns:
        [B, N, T, h, w].
    """
    side = math.isqrt(support.shape[2])
    padding = [side // 2] * 4
    found = []
    for grid, own in zip(features, support, strict=True):
        # The positions around a query are the weights of a convolution.
        weight = own.unflatten(1, (side, side)).permute(0, 3, 1, 2) / side**2
        found.append(F.conv2d(F.pad(grid.permute(0, 3, 1, 2), padding, mode="replicate"), weight).transpose(0, 1))
    return torch.stack(found)


class LocoTrackGlobalMatching(GradientCheckpointingLayer):
    """First guess of every point in every frame: the peak of its correlation with the whole frame."""

    def __init__(self, config: LocoTrackConfig) -> None:
        super().__init__()
        self.temperature = config.softmax_temperature
        self.radius = config.soft_argmax_radius
        self.search_weight = config.search_weight
        self.conv = nn.Conv2d(2, 1, 3, padding=1)
        self.occlusion = nn.Linear(6, 2)

    def forward(
        self,
        coarse: Tensor,
        middle: Tensor,
        coarse_queries: Tensor,
        middle_queries: Tensor,
        near: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Map grids [B, T, h, w, C] and queries [B, N, C] to xy [B, N, T, 2], in cells of `middle`, and logits
        [B, N, T, 2] of occlusion and uncertainty.

        Queries [B, N, S S, C] are the features around the points; then what is around each cell is compared with them.
        With `near`, the peak is looked for near K positions [B, N, T, K, 2], within distances [B, N, T], in cells.
        """
        (B, T, h, w, _), N = middle.shape, middle_queries.shape[1]
        # 1. Correlate each query with every cell of every frame, on both grids.
        costs = []
        for grid, queries in ((coarse, coarse_queries), (middle, middle_queries)):
            if queries.ndim == 4:
                cost = correlate_support(grid, queries)
            else:
                cost = torch.bmm(queries, grid.flatten(1, 3).transpose(1, 2))  # [B, N, T h w]
            cost = cost.reshape(B * N * T, 1, *grid.shape[2:4])
            if cost.shape[-2:] != (h, w):
                cost = F.interpolate(cost, (h, w), mode="bilinear")
            costs.append(cost)
        cost = torch.cat(costs, dim=1)  # [B N T, 2, h, w]

        # 2. Occlusion and uncertainty follow from mean, maximum and minimum of the costs.
        flat = cost.flatten(2)
        summary = torch.cat([flat.mean(-1), flat.amax(-1), flat.amin(-1)], dim=-1)
        logits = self.occlusion(summary).float()

        # 3. The position is the peak of both costs, combined by a convolution.
        scores = self.conv(cost)[:, 0]
        if near is not None:
            positions, reach = near[0].flatten(0, 2), near[1].flatten()[:, None, None]
            x, y = (torch.arange(size, device=cost.device) + 0.5 for size in (w, h))
            square = torch.stack(
                [(x - at[:, None, :1]).square() + (y[:, None] - at[:, 1:, None]).square() for at in positions.unbind(1)]
            ).amin(0)
            # 0 at a position, half of the weight at the reach, all of it far away.
            square = square / reach.square()
            scores = scores - self.search_weight * square / (1 + square)
        points = self.soft_argmax(scores)
        return points.view(B, N, T, 2), logits.view(B, N, T, 2)

    def soft_argmax(self, scores: Tensor) -> Tensor:
        """Return the softmax's mean position [M, 2] xy of scores [M, h, w], within a radius of their peak."""
        h, w = scores.shape[1:]
        flat = scores.flatten(1)
        peak = flat.argmax(-1, keepdim=True)
        # The cells around the peak that lie in the grid and within the radius.
        reach = math.ceil(self.radius) - 1
        steps = torch.arange(-reach, reach + 1, device=scores.device)
        dy, dx = (grid.flatten() for grid in torch.meshgrid(steps, steps, indexing="ij"))
        row, column = peak // w + dy, peak % w + dx
        counts = (row >= 0) & (row < h) & (column >= 0) & (column < w) & (dy**2 + dx**2 < self.radius**2)
        near = flat.gather(1, row.clamp(0, h - 1) * w + column.clamp(0, w - 1)).float()
        weight = ((near * self.temperature).masked_fill(~counts, float("-inf"))).softmax(-1)
        return torch.stack([(weight * (column + 0.5)).sum(-1), (weight * (row + 0.5)).sum(-1)], dim=-1)


# Refinement


class LocoTrackCorrelationEncoder(GradientCheckpointingLayer):
    """Convolves a 4D correlation along the guess's positions and along the query's, with the same weights."""

    def __init__(self, config: LocoTrackConfig) -> None:
        super().__init__()
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        self.side = 2 * config.support_radius + 1
        in_channels = self.side**2
        for channels, kernel, stride in zip(
            config.correlation_channels, config.correlation_kernels, config.correlation_strides, strict=True
        ):
            self.convs.append(LocoTrackSamePadConv2d(in_channels, channels, kernel, stride))
            self.norms.append(nn.GroupNorm(channels // 16, channels))
            in_channels = channels

    def forward(self, features: Tensor, points: Tensor, support: Tensor) -> Tensor:
        """Map the arguments of `correlate` to [B, N, T, 2 C]."""
        B, N, T = points.shape[:3]
        # 1. Both directions go through the convolutions as one batch.
        pairs = correlate(features, points, support).flatten(0, 2)  # [M, guess's positions, query's positions]
        x = torch.cat([pairs, pairs.transpose(1, 2)])
        # Channels are last in memory.
        x = x.view(-1, self.side, self.side, self.side**2).permute(0, 3, 1, 2)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x)), inplace=True)
        # 2. Average over positions.
        along_guess, along_query = x.mean((2, 3)).chunk(2)
        return torch.cat([along_guess, along_query], dim=-1).view(B, N, T, -1)


def eager_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float,
    **_: object,
) -> tuple[Tensor, Tensor]:
    """Return the attended values [M, T, heads, D] of query, key and value [M, heads, T, D], and the weights."""
    scores = query @ key.transpose(-1, -2) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    weights = scores.softmax(-1, dtype=torch.float32).to(query.dtype)
    return (weights @ value).transpose(1, 2), weights


class LocoTrackTemporalLayer(GradientCheckpointingLayer):
    """Pre-norm transformer layer over the frames of each track."""

    def __init__(self, config: LocoTrackConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.config = config
        self.is_causal = False
        self.head_size = size // config.num_attention_heads
        self.norm1 = nn.LayerNorm(size)
        self.qkv = nn.Linear(size, 3 * size)
        self.out = nn.Linear(size, size)
        self.norm2 = nn.LayerNorm(size)
        self.expand = nn.Linear(size, 4 * size)
        self.contract = nn.Linear(4 * size, size)

    def forward(self, x: Tensor, bias: Tensor) -> Tensor:
        """Map [M, T, C], with an additive attention bias [1, heads, T, T], to [M, T, C]."""
        M, T, _ = x.shape
        qkv = self.qkv(self.norm1(x)).view(M, T, 3, -1, self.head_size)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        attended, _ = attend(self, query, key, value, bias.to(query.dtype), dropout=0.0, scaling=self.head_size**-0.5)
        x = x + self.out(attended.reshape(M, T, -1))
        return x + self.contract(F.gelu(self.expand(self.norm2(x))))


class LocoTrackTemporalTransformer(nn.Module):
    """Predicts corrections of position, occlusion and uncertainty from the features of a track in each frame."""

    def __init__(self, config: LocoTrackConfig) -> None:
        super().__init__()
        inputs = 2 + 6 * config.correlation_channels[-1] + 4 * (1 + 2 * MOTION_OCTAVES)
        unused = config.stage_channels[1] + config.stage_channels[3]
        self.num_heads = config.num_attention_heads
        self.project_in = nn.Linear(inputs, config.hidden_size)
        self.layers = nn.ModuleList([LocoTrackTemporalLayer(config) for _ in range(config.num_hidden_layers)])
        self.norm = nn.LayerNorm(config.hidden_size)
        # Released checkpoints carry outputs past the first four that nothing reads: kept, never computed.
        self.project_out = nn.Linear(config.hidden_size, 4 + unused)

    def forward(self, x: Tensor) -> Tensor:
        """Map [M, T, inputs] to [M, T, 4]: corrections of x, y, occlusion and uncertainty."""
        x = self.project_in(x)
        bias = distance_bias(x.shape[1], self.num_heads, x.device)
        for layer in self.layers:
            x = layer(x, bias)
        return F.linear(self.norm(x), self.project_out.weight[:4], self.project_out.bias[:4])


def distance_bias(num_frames: int, num_heads: int, device: torch.device) -> Tensor:
    """Return ALiBi's bias [1, heads, T, T] (Press et al., 2022); half of the heads see the past, half the future."""
    half = num_heads // 2
    slopes = torch.tensor([24 ** (-(head + 1) / half) for head in range(half)], device=device)
    time = torch.arange(num_frames, device=device)
    # Time of the key minus time of the query.
    offset = time[None, :] - time[:, None]
    bias = -slopes[:, None, None] * offset.abs()
    past, future = bias.masked_fill(offset > 0, -torch.inf), bias.masked_fill(offset < 0, -torch.inf)
    return torch.cat([past, future])[None]


def encode_motion(points: Tensor, scale: Tensor) -> Tensor:
    """Encode points [B, N, T, 2] as [B, N, T, 84]: displacements to both neighbor frames, and sines of these."""
    step = (points[..., 1:, :] - points[..., :-1, :]) * scale
    motion = torch.cat([F.pad(-step, (0, 0, 0, 1)), F.pad(step, (0, 0, 1, 0))], dim=-1)
    octaves = 2.0 ** torch.arange(MOTION_OCTAVES, device=points.device)
    phase = (motion[..., None, :] * octaves[:, None]).flatten(-2)
    return torch.cat([motion, phase.sin(), (phase + math.pi / 2).sin()], dim=-1)


# The model


class LocoTrackPreTrainedModel(PreTrainedModel):
    config_class = LocoTrackConfig
    # Each query is followed by itself, whatever the others are.
    queries_are_independent = True
    base_model_prefix = "locotrack"
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
        """Initialize as PyTorch does, which suits all of these layers."""
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm)):
            module.reset_parameters()


class LocoTrackForPointTracking(LocoTrackPreTrainedModel):
    """Tracks any point of a clip through all its frames.

    Example:
        >>> import torch
        >>> from anthrotap_hf.models.locotrack import LocoTrackConfig, LocoTrackForPointTracking
        >>> model = LocoTrackForPointTracking(LocoTrackConfig()).eval()
        >>> video = torch.rand(1, 4, 3, 256, 256) * 2 - 1
        >>> with torch.inference_mode():
        ...     out = model(pixel_values_videos=video, query_points=torch.tensor([[[0.0, 100.5, 80.5]]]))
        >>> out.tracks.shape
        torch.Size([1, 1, 4, 2])
    """

    def __init__(self, config: LocoTrackConfig) -> None:
        super().__init__(config)
        self.backbone = LocoTrackBackbone(config)
        self.matching = LocoTrackGlobalMatching(config)
        self.correlation_encoders = nn.ModuleList([LocoTrackCorrelationEncoder(config) for _ in range(3)])
        self.transformer = LocoTrackTemporalTransformer(config)
        self.post_init()

    def get_video_features(
        self,
        pixel_values_videos: Tensor,
        refinement_resolutions: Sequence[tuple[int, int]] | None = None,
        frame_chunk_size: int | None = None,
    ) -> LocoTrackFeatures:
        """Compute a clip's features once, for any number of calls with other query points.

        Args:
            pixel_values_videos: [B, T, 3, H, W], floats in [-1, 1], or uint8.
            refinement_resolutions: (height, width) pairs, multiples of 8. As in the released code the first one
                serves the first guess and the last one every refinement. By default, they go from the configuration's
                `initial_resolution` to the video's size, both included.
            frame_chunk_size: frames at once; the configuration's by default.

        Raises:
            ValueError: the video has another shape, or the backbone cannot take the resolutions.
        """
        check_video(pixel_values_videos)
        height, width = pixel_values_videos.shape[-2:]
        if refinement_resolutions is None:
            refinement_resolutions = default_resolutions((height, width), self.config.initial_resolution)
        if not refinement_resolutions:
            raise ValueError("refinement_resolutions is empty: name one (height, width), or leave it out")
        for side in (side for resolution in refinement_resolutions for side in resolution):
            if side < 16 or side % 8:
                raise ValueError(f"refinement resolutions must be multiples of 8 from 16 up, got {side}")
        first, last = ((height, width) for height, width in (refinement_resolutions[0], refinement_resolutions[-1]))
        chunk = self.config.frame_chunk_size if frame_chunk_size is None else frame_chunk_size
        fine, middle, coarse = self._feature_grids(pixel_values_videos, last, chunk)
        initial = (coarse, middle)
        if first != last and not self.config.search_support:
            _, first_middle, first_coarse = self._feature_grids(pixel_values_videos, first, chunk)
            initial = (first_coarse, first_middle)
        return LocoTrackFeatures(initial, (middle, coarse, fine), (height, width), last)

    def _feature_grids(self, videos: Tensor, resolution: tuple[int, ...], chunk: int) -> list[Tensor]:
        """Return the fine, middle and coarse grids [B, T, h, w, C] of videos [B, T, 3, H, W] at `resolution`."""
        if chunk < 1:
            raise ValueError(f"frame_chunk_size must be at least 1, got {chunk}")
        B, T = videos.shape[:2]
        step = max(chunk // B, 1)
        parts: list[list[Tensor]] = []
        grids: list[Tensor] = []
        for first in range(0, T, step):
            frames = videos[:, first : first + step].flatten(0, 1)
            if frames.dtype == torch.uint8:
                frames = frames / 127.5 - 1
            if frames.shape[-2:] != resolution:
                frames = F.interpolate(frames, resolution, mode="bilinear")
            levels = self.backbone(frames.to(self.backbone.stem.weight.dtype))
            levels = [level.unflatten(0, (B, -1)) for level in levels]
            if torch.is_grad_enabled():
                parts.append(levels)
                continue
            if not grids:
                # Filled bit by bit: concatenated at the end they would be held twice.
                grids = [level.new_empty(B, T, *level.shape[2:]) for level in levels]
            for grid, level in zip(grids, levels, strict=True):
                grid[:, first : first + step] = level
        return grids or [torch.cat(level, dim=1) for level in zip(*parts, strict=True)]

    def forward(
        self,
        pixel_values_videos: Tensor | None = None,
        query_points: Tensor | None = None,
        video_features: LocoTrackFeatures | None = None,
        refinement_resolutions: Sequence[tuple[int, int]] | None = None,
        query_chunk_size: int | None = None,
        frame_chunk_size: int | None = None,
        window_size: int | None = None,
        progress: Callable[[int], object] | None = None,
        return_dict: bool | None = None,
        flow_start: tuple[Tensor, Tensor] | None = None,
    ) -> LocoTrackOutput | tuple:
        """Track query points.

        A video longer than `window_size` is tracked in windows that overlap by twice `window_context`, so that memory
        does not grow with its length; results then differ a little from those of the video as a whole. Where gradients
        are recorded, there is one window.

        Args:
            pixel_values_videos: [B, T, 3, H, W], floats in [-1, 1], or uint8.
            query_points: [B, N, 3] (t, x, y): t counts frames from 0, xy in pixels of the video. A t between two
                frames means a mix of their features, as in the released code.
            video_features: of `get_video_features`, instead of the video; they are one window.
            refinement_resolutions: see `get_video_features`, which takes them where features are given.
            query_chunk_size, frame_chunk_size, window_size: bounds on memory; the configuration's by default.
            progress: called with 1 after each of `num_steps` steps.
            flow_start: what `follow_flow` returns, where it is known already.

        Raises:
            ValueError: neither or both of video and features are given, or queries lie outside the video.
        """
        if query_points is None:
            raise ValueError("query_points is missing: [B, N, 3] of (t, x, y)")
        if (pixel_values_videos is None) == (video_features is None):
            raise ValueError("give either pixel_values_videos or video_features")
        if video_features is not None and self.config.flow_start:
            raise ValueError("flow_start needs the video itself: give pixel_values_videos")
        if video_features is not None and refinement_resolutions is not None:
            raise ValueError("refinement_resolutions go to get_video_features where features are given")
        queries = self.config.query_chunk_size if query_chunk_size is None else query_chunk_size
        frames = self.config.frame_chunk_size if frame_chunk_size is None else frame_chunk_size
        if min(queries, frames) < 1:
            raise ValueError(f"chunk sizes must be at least 1, got {queries} queries and {frames} frames")
        query_points = query_points.float()

        # 1. Features of the query points, and the windows with the features of their frames.
        start: tuple[Tensor, Tensor] | None = None
        windows: Iterable[tuple[LocoTrackWindow, LocoTrackFeatures]]
        if pixel_values_videos is not None:
            check_video(pixel_values_videos)
            (B, T), size = pixel_values_videos.shape[:2], tuple(pixel_values_videos.shape[-2:])
            check_query_points(query_points, B, T, *size)
            if self.config.flow_start:
                start = flow_start
                if start is None:
                    start = follow_flow(pixel_values_videos, query_points, self.config.flow_color_change)
            plan = self._plan_windows(T, window_size)
            if len(plan) > 1 and not torch.is_grad_enabled():
                resolutions = refinement_resolutions
                query_features = self._query_features_of_video(pixel_values_videos, query_points, resolutions, frames)
                windows = self._window_features(plan, pixel_values_videos, resolutions, frames)
            else:
                video_features = self.get_video_features(pixel_values_videos, refinement_resolutions, frames)
        if video_features is not None:
            (B, T), size = video_features.refinement[0].shape[:2], video_features.video_size
            check_query_points(query_points, B, T, *size)
            query_features = self.get_query_features(video_features, query_points)
            windows = [(LocoTrackWindow(0, T, range(T)), video_features)]

        # 2. Track a chunk of queries after the other in each window.
        parts = []  # of each window: tracks, occlusion, uncertainty, each a list over steps
        for window, features in windows:
            found = []
            chunks = zip(query_points.split(queries, dim=1), query_features.split(queries), strict=True)
            for number, (points, points_features) in enumerate(chunks):
                own = slice(number * queries, number * queries + queries), slice(window.begin, window.end)
                known = None if start is None else (start[0][:, *own], start[1][:, *own])
                steps = self._track(features, points_features, points, window.begin, frames, known)
                found.append([[value[:, :, window.kept] for value in kind] for kind in steps])
                if progress is not None:
                    progress(1)
            parts.append(
                [[torch.cat(step, dim=1) for step in zip(*kind, strict=True)] for kind in zip(*found, strict=True)]
            )

        # 3. Join the windows.
        output = self._output(
            *([torch.cat(step, dim=2) for step in zip(*kind, strict=True)] for kind in zip(*parts, strict=True))
        )
        return output.to_tuple() if return_dict is False else output

    def _output(self, tracks: list[Tensor], occlusion: list[Tensor], uncertainty: list[Tensor]) -> LocoTrackOutput:
        """Return the output of lists with one entry a step: the first guess, then each refinement."""
        return LocoTrackOutput(
            tracks=tracks[-1],
            visible_logits=visible_logits(occlusion[-1], uncertainty[-1])
            - math.log(self.config.visible_threshold / (1 - self.config.visible_threshold)),
            occlusion_logits=occlusion[-1],
            uncertainty_logits=uncertainty[-1],
            unrefined_tracks=tuple(tracks[:-1]),
            unrefined_occlusion_logits=tuple(occlusion[:-1]),
            unrefined_uncertainty_logits=tuple(uncertainty[:-1]),
        )

    def track_window(
        self,
        features: LocoTrackFeatures,
        query_features: LocoTrackQueryFeatures,
        query_points: Tensor,
        first_frame: int,
        start: tuple[Tensor, Tensor] | None = None,
    ) -> LocoTrackOutput:
        """Track points in some frames of a video whose other frames are not at hand.

        Args:
            features: of these frames.
            query_features: of `get_query_features`, in the queries' own frames.
            query_points: [B, N, 3] (t, x, y), t counted in the video.
            first_frame: number in the video of the first of these frames.
            start: of `follow_flow`, in these frames, if the configuration asks for it.

        Returns:
            The output for these frames.
        """
        return self._output(
            *self._track(features, query_features, query_points, first_frame, self.config.frame_chunk_size, start)
        )

    def num_steps(
        self,
        num_frames: int,
        query_points: Tensor,
        query_chunk_size: int | None = None,
        window_size: int | None = None,
    ) -> int:
        """Return how often `forward` calls `progress` for a video: once a chunk of queries in each window."""
        chunk = self.config.query_chunk_size if query_chunk_size is None else query_chunk_size
        return len(self._plan_windows(num_frames, window_size)) * math.ceil(query_points.shape[1] / chunk)

    def _plan_windows(self, num_frames: int, size: int | None) -> list[LocoTrackWindow]:
        """Return windows over a video: each frame is kept from one that also has the frames around it."""
        context = self.config.window_context
        size = self.config.window_size if size is None else size
        if size <= 2 * context:
            raise ValueError(f"window_size must be more than twice the window_context of {context}, got {size}")
        windows, begin = [], 0
        while True:
            end = min(begin + size, num_frames)
            last = end == num_frames
            windows.append(
                LocoTrackWindow(begin, end, range(begin + context if begin else 0, end if last else end - context))
            )
            if last:
                return windows
            begin = end - 2 * context

    def _window_features(
        self,
        windows: list[LocoTrackWindow],
        videos: Tensor,
        resolutions: Sequence[tuple[int, int]] | None,
        chunk: int,
    ) -> Iterator[tuple[LocoTrackWindow, LocoTrackFeatures]]:
        """Yield each window with its features; those of a frame are computed once, and one window's are held."""
        held = self.get_video_features(videos[:, : windows[0].end], resolutions, chunk)
        end = 0
        for window in windows:
            if window.begin:
                # Frames of the window before move to the front.
                overlap = end - window.begin
                for grid in held.grids():
                    grid[:, :overlap] = grid[:, -overlap:].clone()
                # A few frames at a time: they are held beside the window.
                for first in range(end, window.end, chunk):
                    last = min(first + chunk, window.end)
                    more = self.get_video_features(videos[:, first:last], resolutions, chunk)
                    target = held.frames(first - window.begin, last - window.begin)
                    for grid, frames in zip(target.grids(), more.grids(), strict=True):
                        grid.copy_(frames)
            end = window.end
            yield window, held.frames(0, window.end - window.begin)

    def get_query_features(self, features: LocoTrackFeatures, query_points: Tensor) -> LocoTrackQueryFeatures:
        """Sample the features of a clip at query points [B, N, 3] (t, x, y), t counted in it, for `track_window`."""
        at = query_points, features.video_size
        coarse, middle = (sample_support(grid, *at, radius=0)[:, :, 0] for grid in features.initial)
        supports = [sample_support(grid, *at, radius=self.config.support_radius) for grid in features.refinement]
        return LocoTrackQueryFeatures(coarse, middle, tuple(supports))

    def _query_features_of_video(
        self,
        videos: Tensor,
        query_points: Tensor,
        resolutions: Sequence[tuple[int, int]] | None,
        chunk: int,
    ) -> LocoTrackQueryFeatures:
        """Sample the features of a long video at query points anywhere in it; only their own frames are computed."""
        found: list[tuple[Tensor, ...]] = []
        for video, points in zip(videos, query_points, strict=True):
            firsts, number = points[:, 0].floor().long().unique(return_inverse=True)
            order, parts = [], []
            for begin in range(0, len(firsts), chunk):
                own = ((number >= begin) & (number < begin + chunk)).nonzero()[:, 0]
                # A query between two frames needs both.
                frames = torch.cat([points[own, 0].floor(), points[own, 0].ceil()]).long().unique()
                t = points[own, 0]
                local_t = torch.searchsorted(frames, t.floor().long()) + t.frac()
                local = torch.cat([local_t[:, None], points[own, 1:]], dim=1)
                features = self.get_video_features(video[None, frames], resolutions, chunk)
                parts.append(self.get_query_features(features, local[None]).tensors())
                order.append(own)
            back = torch.cat(order).argsort()
            found.append(tuple(torch.cat(kind, dim=1)[:, back] for kind in zip(*parts, strict=True)))
        coarse, middle, *supports = (torch.cat(kind) for kind in zip(*found, strict=True))
        return LocoTrackQueryFeatures(coarse, middle, tuple(supports))

    def _track(
        self,
        features: LocoTrackFeatures,
        query_features: LocoTrackQueryFeatures,
        query_points: Tensor,
        first_frame: int,
        frame_chunk: int,
        start: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Track a chunk of queries in the frames of the features.

        Args:
            first_frame: number of the first of these frames in the video.
            frame_chunk: frames at once.
            start: of `follow_flow`, if the configuration asks for it.

        Returns:
            Lists of tracks [B, N, T, 2], occlusion and uncertainty logits [B, N, T], one entry a step.
        """
        (height, width), (work_height, work_width) = features.video_size, self.config.initial_resolution
        device = query_points.device
        # Points are refined in the pixels of `initial_resolution`, whatever the video's size.
        to_video = torch.tensor([width / work_width, height / work_height], device=device)
        resolution = torch.tensor(features.resolution[::-1], device=device)
        work = torch.tensor([work_width, work_height], device=device)

        # 1. First guess, from global matching; in its own frame, a query is where it is.
        middle = features.initial[1]
        near: list[tuple[Tensor, Tensor] | None] = [None] * math.ceil(middle.shape[1] / frame_chunk)
        if start is not None and self.config.search_spread is not None:
            position, gap = last_seen(*start, query_points, first_frame)
            cells = torch.tensor([middle.shape[3], middle.shape[2]], device=device)
            positions = torch.stack([position, start[0]], dim=3) / to_video / work * cells
            parts = (positions, (1 + gap) * self.config.search_spread)
            near = [*zip(*(part.split(frame_chunk, dim=2) for part in parts), strict=True)]
        searched = query_features.coarse, query_features.middle
        if self.config.search_support:
            searched = query_features.supports[1], query_features.supports[0]
        guesses = [
            self.matching(coarse, chunk, *searched, where)
            for coarse, chunk, where in zip(
                *(grid.split(frame_chunk, dim=1) for grid in features.initial), near, strict=True
            )
        ]
        points = torch.cat([guess for guess, _ in guesses], dim=2)
        points = points * (work / torch.tensor([middle.shape[3], middle.shape[2]], device=device))
        occlusion, uncertainty = torch.cat([logits for _, logits in guesses], dim=2).unbind(-1)
        time = torch.arange(first_frame, first_frame + middle.shape[1], device=device)
        is_query = query_points[:, :, :1].round() == time  # [B, N, T]
        points = torch.where(is_query[..., None], (query_points[:, :, 1:] / to_video)[:, :, None], points)
        steps: tuple[list[Tensor], list[Tensor], list[Tensor]] = (
            [points * to_video],
            [occlusion],
            [uncertainty],
        )

        # 2. Where flow and the flow back agree, start from flow.
        if start is not None:
            followed, visible = start
            agrees = visible > 0
            points = torch.where(agrees[..., None], followed / to_video, points)
            occlusion = torch.where(agrees, -visible, occlusion)
            uncertainty = torch.where(agrees, -visible, uncertainty)

        # 3. Refine. Each step is trained on its own: no gradient flows into the guess that it starts from.
        supports = query_features.supports
        grids = [grid.split(frame_chunk, dim=1) for grid in features.refinement]
        for _ in range(self.config.num_iterations):
            points, occlusion, uncertainty = points.detach(), occlusion.detach(), uncertainty.detach()
            # 3a. Inputs: logits so far, local correlations on the three grids, and motion.
            inputs = [occlusion[..., None], uncertainty[..., None]]
            for encoder, chunks, support in zip(self.correlation_encoders, grids, supports, strict=True):
                cells = points * (torch.tensor([chunks[0].shape[3], chunks[0].shape[2]], device=device) / work)
                encoded = [
                    encoder(chunk, part, support)
                    for chunk, part in zip(chunks, cells.split(frame_chunk, dim=2), strict=True)
                ]
                inputs.append(torch.cat(encoded, dim=2))
            inputs.append(encode_motion(points, resolution / work / work))
            inputs = [part.to(supports[0].dtype) for part in inputs]
            # 3b. The transformer corrects position, occlusion and uncertainty.
            change = self.transformer(torch.cat(inputs, dim=-1).flatten(0, 1)).float()
            change = change.view(*points.shape[:3], 4)
            points = points + change[..., :2] * (work / resolution)
            occlusion, uncertainty = occlusion + change[..., 2], uncertainty + change[..., 3]
            for history, value in zip(steps, (points * to_video, occlusion, uncertainty), strict=True):
                history.append(value)
        return steps


def follow_flow(videos: Tensor, query_points: Tensor, max_color_change: float | None = None) -> tuple[Tensor, Tensor]:
    """Follow chained optical flow from query points [B, N, 3] through videos [B, T, 3, H, W].

    Returns:
        xy [B, N, T, 2] in pixels of the videos, and visible logits [B, N, T], positive where flow and the flow back
        agree; with a limit on the change of colors, only up to the frame where flow first loses the point.
    """
    try:
        from anthrotap_hf.models.flowchain import FlowChainConfig
        from anthrotap_hf.models.flowchain.modeling_flowchain import chain_flow, unbroken_logits
    except ImportError as error:
        raise ImportError("this model starts from optical flow, which needs the package anthrotap") from error
    queries = query_points.cpu().double()
    queries[..., 0] = queries[..., 0].round()
    settings = FlowChainConfig(max_color_change=max_color_change)
    found = []
    for video, points in zip(videos, queries.numpy(), strict=True):
        xy, logits = chain_flow(video, points, settings)
        found.append((xy, logits if max_color_change is None else unbroken_logits(logits, points[:, 0])))
    tracks, visible = (torch.from_numpy(np.stack(part)).to(query_points.device) for part in zip(*found, strict=True))
    return tracks, visible


def last_seen(followed: Tensor, visible: Tensor, query_points: Tensor, first_frame: int) -> tuple[Tensor, Tensor]:
    """Return for each frame where flow last had the point on the way from its query, and how many frames ago.

    Args:
        followed, visible: of `follow_flow`, in the frames from `first_frame` on.
        query_points: [B, N, 3].

    Returns:
        [B, N, T, 2] and [B, N, T].
    """
    T = visible.shape[2]
    time = torch.arange(T, device=visible.device)
    # A query outside of these frames is taken as of the nearest.
    query = (query_points[..., :1].round() - first_frame).clamp(0, T - 1)
    seen = (visible > 0) | (time == query)
    later = running_max(torch.where(seen & (time >= query), time, -1))
    earlier = T - 1 - running_max(torch.where(seen & (time <= query), T - 1 - time, -1).flip(-1)).flip(-1)
    frame = torch.where(time >= query, later, earlier)
    position = followed.gather(2, frame[..., None].expand(-1, -1, -1, 2))
    return position, (time - frame).abs()


def running_max(values: Tensor) -> Tensor:
    """Return the largest of the values up to each, along the last axis: `cummax`, which ONNX does not have."""
    step = 1
    while step < values.shape[-1]:
        # Each value has seen `step` values by now, and the one `step` before it as many before that.
        values = torch.cat([values[..., :step], torch.maximum(values[..., step:], values[..., :-step])], dim=-1)
        step *= 2
    return values


def visible_logits(occlusion_logits: Tensor, uncertainty_logits: Tensor) -> Tensor:
    """Return the log-odds that a point is neither occluded nor uncertain, the two taken as independent.

    With odds of occlusion e^o and of uncertainty e^u, p = 1 / ((1 + e^o) (1 + e^u)), so
    (1 - p) / p = e^o + e^u + e^(o + u): no probability near 0 or 1 is ever formed.
    """
    terms = [occlusion_logits, uncertainty_logits, occlusion_logits + uncertainty_logits]
    return -torch.logsumexp(torch.stack(terms), dim=0)


def default_resolutions(video_size: tuple[int, int], initial_resolution: Sequence[int]) -> list[tuple[int, int]]:
    """Return resolutions from the initial one to the video's, each less than twice the one before, multiples of 8.

    A video that is nowhere larger than the initial resolution is refined at the initial one alone.
    """
    ratios = [size / start for size, start in zip(video_size, initial_resolution, strict=True)]
    levels = math.ceil(math.log2(max(ratios))) + 1
    if levels <= 1:
        return [(initial_resolution[0], initial_resolution[1])]
    return [
        tuple(
            max(round(start * ratio ** (level / (levels - 1)) // 8) * 8, 16)
            for start, ratio in zip(initial_resolution, ratios, strict=True)
        )
        for level in range(levels)
    ]


def check_video(pixel_values_videos: Tensor) -> None:
    """Raise ValueError unless it is a batch of videos."""
    if pixel_values_videos.ndim != 5 or pixel_values_videos.shape[2] != 3:
        raise ValueError(f"pixel_values_videos must be [B, T, 3, H, W], got {list(pixel_values_videos.shape)}")
    dtype = pixel_values_videos.dtype
    if 0 in pixel_values_videos.shape or not (dtype.is_floating_point or dtype == torch.uint8):
        raise ValueError(
            f"pixel_values_videos must be floats in [-1, 1] or uint8, and not empty, "
            f"got {dtype} {list(pixel_values_videos.shape)}"
        )


def check_query_points(query_points: Tensor, B: int, T: int, height: int, width: int) -> None:
    """Raise ValueError, saying which query is wrong and why, unless all lie in the video."""
    if torch.compiler.is_compiling():
        # Values cannot be checked without breaking the graph.
        return
    if query_points.ndim != 3 or query_points.shape[0] != B or query_points.shape[2] != 3:
        raise ValueError(f"query_points must be [{B}, N, 3] of (t, x, y), got {list(query_points.shape)}")
    if query_points.shape[1] == 0:
        raise ValueError("no query point: give at least one (t, x, y)")
    limit = torch.tensor([T - 1, width, height], device=query_points.device)
    # NaN fails both comparisons.
    fine = ((query_points >= 0) & (query_points <= limit)).all(-1)
    if not fine.all():
        clip, query = (~fine).nonzero()[0].tolist()
        t, x, y = query_points[clip, query].tolist()
        raise ValueError(
            f"query {query} of clip {clip} is (t, x, y) = ({t:g}, {x:g}, {y:g}), outside the video: "
            f"t goes from 0 to {T - 1}, x to {width}, y to {height}"
        )


__all__ = ["LocoTrackFeatures", "LocoTrackForPointTracking", "LocoTrackOutput", "LocoTrackPreTrainedModel"]
