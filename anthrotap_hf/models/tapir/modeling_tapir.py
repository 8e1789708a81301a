"""TAPIR: tracking any point with per-frame initialization and temporal refinement (arXiv 2306.08637), and BootsTAPIR.

Every frame is matched with the query on its own; a convolutional mixer over time then refines positions, occlusion and
expected distance of each query alone. With causal weights the mixer looks back only, and a video may be run frame by
frame with a state that does not grow.

Top to bottom: outputs, features and state, backbone, sampling, first guess, mixer, the model. Points are xy in raster
pixels: the frame spans (0, 0) to (W, H) and the first pixel's center is (0.5, 0.5). Arrays: B clips, T frames, N query
points, C channels, h x w a feature grid.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.utils import ModelOutput

from .configuration_tapir import TAPIRConfig

# Occlusion logit of a query that has not been seen yet.
UNSEEN_LOGIT = 20.0
# Frames of all queries that the mixer works on at once, at most; bounds memory for long videos.
MIXER_ROWS = 8192
# Frames that a causal convolution sees before its own.
PAST_FRAMES = 2


@dataclass
class TAPIROutput(ModelOutput):
    """Output of TAPIR.

    Args:
        tracks: [B, N, T, 2] xy in pixels of the input video.
        visible_logits: [B, N, T]; a point is visible where positive, that is where
            (1 - sigmoid(occlusion)) (1 - sigmoid(expected distance)) is above one half.
        occlusion_logits: [B, N, T]; positive where something hides the point.
        expected_distance_logits: [B, N, T]; positive where the position is likely off by more than 6 pixels (of a
            frame of 256 x 256).
        unrefined_tracks, unrefined_occlusion_logits, unrefined_expected_distance_logits: the same before each
            refinement step (the first guess, then all steps but the last): losses supervise them, too.
        state: for the frames that follow, where the call was given one.
    """

    tracks: Tensor | None = None
    visible_logits: Tensor | None = None
    occlusion_logits: Tensor | None = None
    expected_distance_logits: Tensor | None = None
    unrefined_tracks: tuple[Tensor, ...] | None = None
    unrefined_occlusion_logits: tuple[Tensor, ...] | None = None
    unrefined_expected_distance_logits: tuple[Tensor, ...] | None = None
    state: TAPIRState | None = None


@dataclass(frozen=True)
class TAPIRFeatures:
    """Features of a clip, computed once for any number of query sets.

    Args:
        levels: at the initial resolution and then at each refinement resolution, the grids [B, T, h, w, C]: fine,
            coarse, and the coarse one halved `pyramid_level` times. Equal resolutions share theirs.
        resolutions: (height, width) of each.
        video_size: (height, width) of the clip, whose pixels queries and tracks are in.
    """

    levels: tuple[tuple[Tensor, ...], ...]
    resolutions: tuple[tuple[int, int], ...]
    video_size: tuple[int, int]

    @property
    def num_frames(self) -> int:
        return self.levels[0][0].shape[1]

    def grids(self) -> list[Tensor]:
        """Return every grid once."""
        return list({id(grid): grid for level in self.levels for grid in level}.values())

    def frames(self, first: int, end: int) -> TAPIRFeatures:
        """Return the features of frames `first` to `end` (excluded)."""
        cut = {id(grid): grid[:, first:end] for grid in self.grids()}
        levels = tuple(tuple(cut[id(grid)] for grid in level) for level in self.levels)
        return replace(self, levels=levels)


@dataclass(frozen=True)
class TAPIRQueryFeatures:
    """Features at query points, in the frames that they are given in: [B, N, C], fine and coarse, of each level."""

    levels: tuple[tuple[Tensor, Tensor], ...]

    def tensors(self) -> list[Tensor]:
        return [part for level in self.levels for part in level]

    @classmethod
    def of(cls, tensors: Sequence[Tensor]) -> TAPIRQueryFeatures:
        """Return those of which `tensors` gives the parts."""
        return cls(tuple(zip(tensors[::2], tensors[1::2], strict=True)))

    def split(self, size: int) -> list[TAPIRQueryFeatures]:
        return [self.of(part) for part in zip(*(each.split(size, dim=1) for each in self.tensors()), strict=True)]


@dataclass(frozen=True)
class TAPIRWindow:
    """Frames `begin` to `end` (excluded) of a video, tracked at once; the results for `keep` are kept."""

    begin: int
    end: int
    keep: range

    @property
    def kept(self) -> slice:
        """Return `keep`, counted from `begin`."""
        return slice(self.keep.start - self.begin, self.keep.stop - self.begin)


@dataclass
class TAPIRState:
    """All that later frames need of earlier ones. Its size does not grow with their number.

    Args:
        query_points: [B, N, 3] (t, x, y) of all queries, those of coming frames included.
        query_features: of the queries seen so far, zeros for the others; None before the first frame.
        all_seen: whether `query_features` were given for all queries at the start, so that each is tracked in every
            frame; otherwise a query is tracked from its own frame on.
        step: number of frames processed.
        video_size: (height, width) of these frames; None before the first.
        layers: for each resolution, refinement step and mixer block the last two frames of what its two convolutions
            were given: [B, N, 2, hidden_size] and [B, N, 2, expansion hidden_size].
    """

    query_points: Tensor
    query_features: TAPIRQueryFeatures | None = None
    all_seen: bool = False
    step: int = 0
    video_size: tuple[int, int] | None = None
    layers: list[tuple[Tensor, Tensor]] = field(default_factory=list)


@dataclass(frozen=True)
class TAPIRRun:
    """How a chunk of queries is tracked.

    Args:
        first_frame: number of the first frame in the video.
        frame_chunk: frames at once.
        num_iterations: refinement steps at each resolution.
        pinned: whether the first guess in a query's own frame is the query.
        tracked: [B, N, T] bool, where queries have been seen; None where all are.
        layers: as in `TAPIRState`; None for a whole clip.
    """

    first_frame: int
    frame_chunk: int
    num_iterations: int
    pinned: bool = True
    tracked: Tensor | None = None
    layers: list[tuple[Tensor, Tensor]] | None = None


# Backbone


class TAPIRSamePadConv2d(nn.Conv2d):
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


class TAPIRInstanceNorm(nn.GroupNorm):
    """Instance norm, as a group norm with one group a channel: the same, but much faster in channels-last layout."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels, eps=1e-5)


class TAPIRResidualBlock(GradientCheckpointingLayer):
    """Pre-activation residual block. The first one of a stage projects its shortcut."""

    def __init__(self, in_channels: int, channels: int, stride: int, project: bool) -> None:
        super().__init__()
        self.norm1 = TAPIRInstanceNorm(in_channels)
        self.conv1 = TAPIRSamePadConv2d(in_channels, channels, 3, stride, bias=False)
        self.norm2 = TAPIRInstanceNorm(channels)
        self.conv2 = TAPIRSamePadConv2d(channels, channels, 3, bias=False)
        self.shortcut = TAPIRSamePadConv2d(in_channels, channels, 1, stride, bias=False) if project else None

    def forward(self, x: Tensor) -> Tensor:
        """Map [M, C, h, w] to [M, C', h', w']."""
        inner = F.relu(self.norm1(x), inplace=True)
        shortcut = x if self.shortcut is None else self.shortcut(inner)
        inner = F.relu(self.norm2(self.conv1(inner)), inplace=True)
        return self.conv2(inner) + shortcut


class TAPIRExtraBlock(GradientCheckpointingLayer):
    """Two convolutions on the coarse grid, added to their normed input (not to the input itself)."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.expand = TAPIRSamePadConv2d(channels, hidden, 3)
        self.contract = TAPIRSamePadConv2d(hidden, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Map [M, C, h, w] to the same shape."""
        x = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return x + self.contract(F.gelu(self.expand(x), approximate="tanh"))


class TAPIRBackbone(nn.Module):
    """ResNet whose stages work at strides 2, 4, 8 and 8; BootsTAPIR adds blocks on the last one."""

    def __init__(self, config: TAPIRConfig) -> None:
        super().__init__()
        widths = config.stage_channels
        self.pyramid_level = config.pyramid_level
        self.stem = TAPIRSamePadConv2d(3, widths[0], 7, stride=2, bias=False)
        self.stages = nn.ModuleList()
        in_channels = widths[0]
        for channels, blocks, stride in zip(widths, config.stage_blocks, (1, 2, 2, 1), strict=True):
            stage = [TAPIRResidualBlock(in_channels, channels, stride, project=True)]
            stage += [TAPIRResidualBlock(channels, channels, 1, project=False) for _ in range(blocks - 1)]
            self.stages.append(nn.Sequential(*stage))
            in_channels = channels
        self.extra = nn.Sequential(
            *(TAPIRExtraBlock(in_channels, config.extra_channels) for _ in range(config.num_extra_blocks))
        )

    def forward(self, frames: Tensor) -> list[Tensor]:
        """Map frames [M, 3, H, W] to grids: fine [M, H/4, W/4, C], coarse [M, H/8, W/8, C], and that one halved."""
        x = self.stem(frames.contiguous(memory_format=torch.channels_last))
        stages = []
        for stage in self.stages:
            x = stage(x)
            stages.append(x)
        fine, coarse = (_unit_length(stage.permute(0, 2, 3, 1)) for stage in (stages[1], self.extra(stages[3])))
        grids = [fine, coarse]
        for _ in range(self.pyramid_level):
            grids.append(F.avg_pool2d(grids[-1].permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1))
        return grids


def _unit_length(features: Tensor) -> Tensor:
    """Scale the last axis to length 1."""
    square = features.float().square().sum(-1, keepdim=True)
    return features * square.clamp_min(1e-12).rsqrt().to(features.dtype)


# Sampling


def sample_at_queries(features: Tensor, query_points: Tensor, video_size: tuple[int, int]) -> Tensor:
    """Return features at query points, trilinear; beyond the border they are the border's.

    Args:
        features: [B, T, h, w, C].
        query_points: [B, N, 3] (t, x, y), pixels of `video_size`; between two frames, both count.

    Returns:
        [B, N, C].
    """
    B, T, h, w, C = features.shape
    t, x, y = query_points.float().unbind(-1)  # [B, N]
    # 1. Bring each axis to grid cells: the two cells around each position, and the second one's weight.
    t0, t1, t_weight = _neighbors(t, T)
    y0, y1, y_weight = _neighbors(y * (h / video_size[0]) - 0.5, h)
    x0, x1, x_weight = _neighbors(x * (w / video_size[1]) - 0.5, w)
    # 2. Sum the eight cells around each position, weighted.
    rows = features.reshape(-1, C)
    clip = torch.arange(B, device=features.device)[:, None] * T
    total = features.new_zeros(*t.shape, C)
    for frame, frame_weight in ((t0, 1 - t_weight), (t1, t_weight)):
        for row, row_weight in ((y0, 1 - y_weight), (y1, y_weight)):
            for column, column_weight in ((x0, 1 - x_weight), (x1, x_weight)):
                corner = F.embedding(((clip + frame) * h + row) * w + column, rows)
                weight = frame_weight * row_weight * column_weight
                total = total + corner * weight[..., None].to(features.dtype)
    return total


def _neighbors(position: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two cells of 0 ... size - 1 around each position, and the second one's weight."""
    position = position.clamp(0, size - 1)
    first = position.floor().long()
    return first, (first + 1).clamp(max=size - 1), position - first


def correlate(features: Tensor, points: Tensor, vectors: Tensor, radius: int, released: bool = False) -> Tensor:
    """Return dot products of vectors with the features at S x S positions around each point, zero out of the grid.

    All positions (S = 2 radius + 1, one cell apart) have one fractional shift, and a dot product is linear: so those at
    (S + 1) x (S + 1) whole cells are computed and then shifted, instead of interpolating features S S times.

    Args:
        features: [B, T, h, w, C].
        points: [B, N, T, 2] xy in cells of this grid.
        vectors: [B, N, T, C].
        released: stretch x by w / h, as the released PyTorch code does by mistake.

    Returns:
        [B, N, T, S S], row by row.
    """
    B, T, h, w, C = features.shape
    N, side = points.shape[1], 2 * radius + 1
    # Far outside the grid everything is zero: keep the integers small there.
    x = points[..., 0].clamp(-side - 2, w + side + 2)
    y = points[..., 1].clamp(-side - 2, h + side + 2)

    # 1. Whole rows and columns around each point, and the fractions between them.
    steps = torch.arange(side + 1, device=features.device)
    top = y - side / 2
    row, y_fraction = top.floor().long()[..., None] + steps, top - top.floor()
    if released and w != h:
        # Positions are w / h cells apart: each has two columns of its own.
        left = (x[..., None] + steps[:-1] - radius) * (w / h) - 0.5
        column, x_fraction = left.floor().long(), left - left.floor()
        column = torch.stack([column, column + 1], dim=-1).flatten(-2)
    else:
        left = x - side / 2
        column, x_fraction = left.floor().long()[..., None] + steps, (left - left.floor())[..., None]
    inside = ((row >= 0) & (row < h))[..., None] & ((column >= 0) & (column < w))[..., None, :]

    # 2. Gather the features of these cells, and multiply.
    frame = torch.arange(B * T, device=features.device).view(B, 1, T, 1)
    index = (frame * h + row.clamp(0, h - 1))[..., None] * w + column.clamp(0, w - 1)[..., None, :]
    gathered = F.embedding(index.view(B * N * T, -1), features.reshape(-1, C))
    found = torch.bmm(gathered, vectors.reshape(-1, C, 1)).view(inside.shape) * inside.to(features.dtype)

    # 3. Shift by the fractions, down and then right.
    y_fraction, x_fraction = y_fraction[..., None, None].to(found.dtype), x_fraction[..., None, :].to(found.dtype)
    found = torch.lerp(found[..., :-1, :], found[..., 1:, :], y_fraction)
    first, second = (found[..., ::2], found[..., 1::2]) if released and w != h else (found[..., :-1], found[..., 1:])
    return torch.lerp(first, second, x_fraction).flatten(-2)


# First guess


class TAPIRGlobalMatching(GradientCheckpointingLayer):
    """First guess of every point in every frame: the peak of its correlation with the whole frame."""

    def __init__(self, config: TAPIRConfig) -> None:
        super().__init__()
        shared, pooled, hidden = config.cost_channels
        self.temperature = config.softmax_temperature
        self.radius = config.soft_argmax_radius
        self.shared = nn.Conv2d(1, shared, 3, padding=1)
        self.position = nn.Conv2d(shared, 1, 3, padding=1)
        self.pooled = TAPIRSamePadConv2d(shared, pooled, 3, stride=2)
        self.hidden = nn.Linear(pooled, hidden)
        self.logits = nn.Linear(hidden, 2)

    def forward(self, coarse: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
        """Map a grid [B, T, h, w, C] and queries [B, N, C] to xy [B, N, T, 2] in its cells, and to logits [B, N, T, 2]
        of occlusion and expected distance."""
        (B, T, h, w, _), N = coarse.shape, queries.shape[1]
        # 1. Correlate each query with every cell of every frame.
        cost = torch.bmm(queries, coarse.flatten(1, 3).transpose(1, 2)).view(B * N * T, 1, h, w)
        cost = F.relu(self.shared(cost), inplace=True)
        # 2. The position is the peak.
        points = self.soft_argmax(self.position(cost)[:, 0])
        # 3. Logits follow from the mean over the frame.
        pooled = F.relu(self.pooled(cost), inplace=True).mean((2, 3))
        logits = self.logits(F.relu(self.hidden(pooled), inplace=True)).float()
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


# Mixer over time


class TAPIRMixerBlock(GradientCheckpointingLayer):
    """Depthwise convolutions over time, then a perceptron over channels.

    Channels are widened to `expansion` copies of themselves, one copy after the other.
    """

    def __init__(self, config: TAPIRConfig) -> None:
        super().__init__()
        size, copies = config.hidden_size, config.expansion
        self.causal = config.causal
        self.norm1 = nn.LayerNorm(size, bias=False)
        self.widen_weight = nn.Parameter(torch.empty(3, copies, size))
        self.widen_bias = nn.Parameter(torch.empty(copies, size))
        self.narrow_weight = nn.Parameter(torch.empty(3, copies, size))
        self.narrow_bias = nn.Parameter(torch.empty(copies, size))
        self.norm2 = nn.LayerNorm(size, bias=False)
        self.expand = nn.Linear(size, copies * size)
        self.contract = nn.Linear(copies * size, size)

    def reset_parameters(self) -> None:
        """Initialize as PyTorch does depthwise convolutions of three frames."""
        bound = 3**-0.5
        for parameter in (self.widen_weight, self.widen_bias, self.narrow_weight, self.narrow_bias):
            nn.init.uniform_(parameter, -bound, bound)

    def forward(
        self, x: Tensor, past: tuple[Tensor, Tensor] | None, tracked: Tensor | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Map [M, T, C] to the same shape.

        Args:
            past: [M, 2, C] and [M, 2, expansion C] from the call on the frames before.
            tracked: [M, T, 1], 0 in frames before a query's own, which must not count.

        Returns:
            The result, and the new `past`.
        """
        T = x.shape[1]
        # 1. Over time: widen, then narrow by summing the copies.
        inputs = self.norm1(x)
        inputs = inputs if tracked is None else inputs * tracked
        inputs = self._padded(inputs, None if past is None else past[0])
        hidden = self.widen_bias.to(x.dtype)
        for delay, weight in enumerate(self.widen_weight):
            hidden = torch.addcmul(hidden, inputs[:, delay : delay + T, None], weight)
        hidden = F.gelu(hidden, approximate="tanh").flatten(-2)
        hidden = hidden if tracked is None else hidden * tracked
        hidden = self._padded(hidden, None if past is None else past[1])
        copies = self.narrow_bias.to(x.dtype)
        wide = hidden.unflatten(-1, copies.shape)
        for delay, weight in enumerate(self.narrow_weight):
            copies = torch.addcmul(copies, wide[:, delay : delay + T], weight)
        x = x + copies.sum(-2)
        # 2. Over channels.
        x = x + self.contract(F.gelu(self.expand(self.norm2(x)), approximate="tanh"))
        return x, (inputs[:, -PAST_FRAMES:], hidden[:, -PAST_FRAMES:])

    def _padded(self, x: Tensor, past: Tensor | None) -> Tensor:
        """Put two frames around [M, T, C], or before it: those of `past`, or zeros."""
        if past is not None:
            return torch.cat([past.to(x.dtype), x], dim=1)
        return F.pad(x, (0, 0, PAST_FRAMES, 0) if self.causal else (0, 0, 1, 1))


class TAPIRMixer(nn.Module):
    """Predicts corrections of position, logits and features from those of a track in each frame."""

    def __init__(self, config: TAPIRConfig) -> None:
        super().__init__()
        state = 4 + config.stage_channels[1] + config.stage_channels[3]
        patches = (2 + config.pyramid_level) * (2 * config.patch_radius + 1) ** 2
        self.project_in = nn.Linear(state + patches, config.hidden_size)
        self.blocks = nn.ModuleList([TAPIRMixerBlock(config) for _ in range(config.num_hidden_layers)])
        self.norm = nn.LayerNorm(config.hidden_size, bias=False)
        self.project_out = nn.Linear(config.hidden_size, state)

    def forward(
        self, x: Tensor, past: Sequence[tuple[Tensor, Tensor]] | None, tracked: Tensor | None
    ) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """Map [M, T, inputs] to [M, T, 4 + C], and return what the next call needs as `past`.

        Args:
            past: one a block, see there; [] at the start of a video, None for a whole clip, of which none is kept.
            tracked: see `TAPIRMixerBlock`.
        """
        x = self.project_in(x)
        ends = []
        for number, block in enumerate(self.blocks):
            x, (inputs, hidden) = block(x, past[number] if past else None, tracked)
            if past is not None:
                ends.append((inputs.clone(), hidden.clone()))
        return self.project_out(self.norm(x)), ends


# The model


class TAPIRPreTrainedModel(PreTrainedModel):
    config_class = TAPIRConfig
    # Each query is followed by itself, whatever the others are.
    queries_are_independent = True
    base_model_prefix = "tapir"
    main_input_name = "pixel_values_videos"
    input_modalities = ("video",)
    supports_gradient_checkpointing = True

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
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.GroupNorm, nn.LayerNorm, TAPIRMixerBlock)):
            module.reset_parameters()


class TAPIRForPointTracking(TAPIRPreTrainedModel):
    """Tracks any point of a clip through all its frames; queries do not influence each other.

    Example:
        >>> import torch
        >>> from anthrotap_hf.models.tapir import TAPIRConfig, TAPIRForPointTracking
        >>> model = TAPIRForPointTracking(TAPIRConfig()).eval()
        >>> video = torch.rand(1, 4, 3, 256, 256) * 2 - 1
        >>> with torch.inference_mode():
        ...     out = model(pixel_values_videos=video, query_points=torch.tensor([[[0.0, 100.5, 80.5]]]))
        >>> out.tracks.shape
        torch.Size([1, 1, 4, 2])

    Frame by frame, with causal weights:
        >>> model = TAPIRForPointTracking(TAPIRConfig(causal=True)).eval()
        >>> state = model.start(torch.tensor([[[0.0, 100.5, 80.5]]]))
        >>> for frame in video.split(1, dim=1):
        ...     with torch.inference_mode():
        ...         out = model(pixel_values_videos=frame, state=state)
        ...     state = out.state
    """

    def __init__(self, config: TAPIRConfig) -> None:
        super().__init__(config)
        self.backbone = TAPIRBackbone(config)
        self.matching = TAPIRGlobalMatching(config)
        self.mixer = TAPIRMixer(config)
        self.post_init()

    @property
    def carries_state(self) -> bool:
        """Whether a video can be tracked frame by frame."""
        return self.config.causal

    def get_video_features(
        self,
        pixel_values_videos: Tensor,
        refinement_resolutions: Sequence[tuple[int, int]] | None = None,
        frame_chunk_size: int | None = None,
    ) -> TAPIRFeatures:
        """Compute a clip's features once, for any number of calls with other query points.

        Args:
            pixel_values_videos: [B, T, 3, H, W], floats in [-1, 1], or uint8.
            refinement_resolutions: (height, width) pairs, multiples of 8, that the tracks are refined at, one after
                the other. By default, they go from the configuration's `initial_resolution` to the video's size, both
                included. (The released code leaves a video of 256 x 256 at its size, whatever is asked for; here it
                is enlarged.)
            frame_chunk_size: frames at once; the configuration's by default.

        Raises:
            ValueError: the video has another shape, or the backbone cannot take the resolutions.
        """
        check_video(pixel_values_videos)
        height, width = pixel_values_videos.shape[-2:]
        initial = (self.config.initial_resolution[0], self.config.initial_resolution[1])
        # The coarsest grid has at least one cell.
        least = max(16, 8 << self.config.pyramid_level)
        if refinement_resolutions is None:
            refinement_resolutions = default_resolutions((height, width), initial, least)
        if not refinement_resolutions:
            raise ValueError("refinement_resolutions is empty: name one (height, width), or leave it out")
        for side in (side for resolution in refinement_resolutions for side in resolution):
            if side < least or side % 8:
                raise ValueError(f"refinement resolutions must be multiples of 8 from {least} up, got {side}")
        chunk = self.config.frame_chunk_size if frame_chunk_size is None else frame_chunk_size
        resolutions = (initial, *((height, width) for height, width in refinement_resolutions))
        grids = {each: self._feature_grids(pixel_values_videos, each, chunk) for each in dict.fromkeys(resolutions)}
        return TAPIRFeatures(tuple(grids[each] for each in resolutions), resolutions, (height, width))

    def _feature_grids(self, videos: Tensor, resolution: tuple[int, int], chunk: int) -> tuple[Tensor, ...]:
        """Return the grids [B, T, h, w, C] of videos [B, T, 3, H, W] at `resolution`."""
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
        return tuple(grids) or tuple(torch.cat(level, dim=1) for level in zip(*parts, strict=True))

    def get_query_features(self, features: TAPIRFeatures, query_points: Tensor) -> TAPIRQueryFeatures:
        """Sample the features of a clip at query points [B, N, 3] (t, x, y), pixels of the clip.

        Raises:
            ValueError: queries lie outside the clip.
        """
        grid = features.levels[0][0]
        check_query_points(query_points, grid.shape[0], grid.shape[1], *features.video_size)
        return self._query_features(features, query_points)

    def _query_features(self, features: TAPIRFeatures, query_points: Tensor) -> TAPIRQueryFeatures:
        found: dict[int, Tensor] = {}
        for fine, coarse, *_ in features.levels:
            for grid in (fine, coarse):
                if id(grid) not in found:
                    found[id(grid)] = sample_at_queries(grid, query_points, features.video_size)
        return TAPIRQueryFeatures(tuple((found[id(fine)], found[id(coarse)]) for fine, coarse, *_ in features.levels))

    def start(self, query_points: Tensor, query_features: TAPIRQueryFeatures | None = None) -> TAPIRState:
        """Return the state before the first frame.

        Args:
            query_points: [B, N, 3] (t, x, y); t may be any later frame. A query is tracked from that frame on.
            query_features: of `get_query_features`, instead of those that the frames to come will give. Queries are
                then tracked in every frame, as in the released code; they may stem from another video.

        Raises:
            ValueError: the model is not causal.
        """
        if not self.config.causal:
            raise ValueError("these weights look ahead in time: give the whole clip, or convert causal weights")
        return TAPIRState(query_points, query_features, all_seen=query_features is not None)

    def forward(
        self,
        pixel_values_videos: Tensor | None = None,
        query_points: Tensor | None = None,
        state: TAPIRState | None = None,
        video_features: TAPIRFeatures | None = None,
        num_iterations: int | None = None,
        refinement_resolutions: Sequence[tuple[int, int]] | None = None,
        query_chunk_size: int | None = None,
        frame_chunk_size: int | None = None,
        window_size: int | None = None,
        progress: Callable[[int], object] | None = None,
        return_dict: bool | None = None,
    ) -> TAPIROutput | tuple:
        """Track query points.

        A video longer than `window_size` is tracked in windows that overlap by twice `window_context`, so that memory
        does not grow with its length. Where gradients are recorded, there is one window.

        Args:
            pixel_values_videos: [B, T, 3, H, W], floats in [-1, 1], or uint8.
            query_points: [B, N, 3] (t, x, y): t counts frames from 0, xy in pixels of the video. A t between two
                frames means a mix of their features, as in the released code.
            state: of `start` or of the call on the frames before, instead of query points: frames one by one or some
                at once, with causal weights. The first guess in a query's own frame is then not the query itself, as in
                the released code. Before its own frame a query stands still and is occluded.
            video_features: of `get_video_features`, instead of the video.
            num_iterations: refinement steps at each resolution; the configuration's by default.
            refinement_resolutions: see `get_video_features`, which takes them where features are given. The result is
                the mean of those at each resolution.
            query_chunk_size, frame_chunk_size, window_size: bounds on memory; the configuration's by default.
            progress: called with 1 after each of `num_steps` steps.

        Raises:
            ValueError: arguments exclude each other, or queries lie outside the video.
        """
        if (query_points is None) == (state is None):
            raise ValueError("give either query_points, [B, N, 3] of (t, x, y), or state")
        if (pixel_values_videos is None) == (video_features is None):
            raise ValueError("give either pixel_values_videos or video_features")
        if video_features is not None and refinement_resolutions is not None:
            raise ValueError("refinement_resolutions go to get_video_features where features are given")
        frames = self.config.frame_chunk_size if frame_chunk_size is None else frame_chunk_size
        iterations = self.config.num_iterations if num_iterations is None else num_iterations
        queries = self.config.query_chunk_size if query_chunk_size is None else query_chunk_size
        if min(queries, frames, iterations) < 1:
            raise ValueError(
                f"chunk sizes and num_iterations must be at least 1, got {queries} queries, {frames} frames and "
                f"{iterations} iterations"
            )
        run = TAPIRRun(0, frames, iterations)
        if state is not None:
            if video_features is None:
                assert pixel_values_videos is not None
                video_features = self.get_video_features(pixel_values_videos, refinement_resolutions, frames)
            output = self._continue(video_features, state, run, queries, progress)
            return output.to_tuple() if return_dict is False else output
        assert query_points is not None
        query_points = query_points.float()

        # 1. Features of the query points, and the windows with the features of their frames.
        windows: Iterable[tuple[TAPIRWindow, TAPIRFeatures]]
        if pixel_values_videos is not None:
            check_video(pixel_values_videos)
            (B, T), size = pixel_values_videos.shape[:2], tuple(pixel_values_videos.shape[-2:])
            check_query_points(query_points, B, T, *size)
            plan = self._plan_windows(T, window_size)
            if len(plan) > 1 and not torch.is_grad_enabled():
                resolutions = refinement_resolutions
                query_features = self._query_features_of_video(pixel_values_videos, query_points, resolutions, frames)
                windows = self._window_features(plan, pixel_values_videos, resolutions, frames)
            else:
                video_features = self.get_video_features(pixel_values_videos, refinement_resolutions, frames)
        if video_features is not None:
            query_features = self.get_query_features(video_features, query_points)
            T = video_features.num_frames
            windows = [(TAPIRWindow(0, T, range(T)), video_features)]

        # 2. Track a chunk of queries after the other in each window.
        parts = []  # of each window: tracks, occlusion, expected distance, each a list over steps
        for window, features in windows:
            chunk = self._queries_at_once(features.num_frames, len(query_points), queries)
            found = []
            for points, own in zip(query_points.split(chunk, dim=1), query_features.split(chunk), strict=True):
                steps, _ = self._track(features, own, points, replace(run, first_frame=window.begin))
                found.append([[value[:, :, window.kept] for value in kind] for kind in steps])
                if progress is not None:
                    progress(1)
            parts.append(
                [[torch.cat(step, dim=1) for step in zip(*kind, strict=True)] for kind in zip(*found, strict=True)]
            )

        # 3. Join the windows. One entry a step: the first guess, each refinement, and the mean over resolutions.
        output = _output(
            *([torch.cat(step, dim=2) for step in zip(*kind, strict=True)] for kind in zip(*parts, strict=True))
        )
        return output.to_tuple() if return_dict is False else output

    def num_steps(
        self,
        num_frames: int,
        query_points: Tensor,
        query_chunk_size: int | None = None,
        window_size: int | None = None,
    ) -> int:
        """Return how often `forward` calls `progress` for a video: once a chunk of queries in each window."""
        chunk = self.config.query_chunk_size if query_chunk_size is None else query_chunk_size
        B, N = query_points.shape[:2]
        plan = self._plan_windows(num_frames, window_size)
        if len(plan) > 1 and torch.is_grad_enabled():
            plan = [TAPIRWindow(0, num_frames, range(num_frames))]
        return sum(math.ceil(N / self._queries_at_once(window.end - window.begin, B, chunk)) for window in plan)

    @staticmethod
    def _queries_at_once(num_frames: int, num_clips: int, chunk: int) -> int:
        """Return how many queries are tracked at once: `chunk`, or fewer of a long video."""
        return max(min(chunk, MIXER_ROWS // (num_frames * num_clips)), 1)

    def _plan_windows(self, num_frames: int, size: int | None) -> list[TAPIRWindow]:
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
                TAPIRWindow(begin, end, range(begin + context if begin else 0, end if last else end - context))
            )
            if last:
                return windows
            begin = end - 2 * context

    def _window_features(
        self,
        windows: list[TAPIRWindow],
        videos: Tensor,
        resolutions: Sequence[tuple[int, int]] | None,
        chunk: int,
    ) -> Iterator[tuple[TAPIRWindow, TAPIRFeatures]]:
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

    def _query_features_of_video(
        self,
        videos: Tensor,
        query_points: Tensor,
        resolutions: Sequence[tuple[int, int]] | None,
        chunk: int,
    ) -> TAPIRQueryFeatures:
        """Sample the features of a long video at query points anywhere in it; only their own frames are computed."""
        found: list[list[Tensor]] = []
        for video, points in zip(videos, query_points, strict=True):
            firsts, number = points[:, 0].floor().long().unique(return_inverse=True)
            order, parts = [], []
            for begin in range(0, len(firsts), chunk):
                own = ((number >= begin) & (number < begin + chunk)).nonzero()[:, 0]
                t = points[own, 0]
                # A query between two frames needs both.
                frames = torch.cat([t.floor(), t.ceil()]).long().unique()
                local_t = torch.searchsorted(frames, t.floor().long()) + t.frac()
                local = torch.cat([local_t[:, None], points[own, 1:]], dim=1)
                features = self.get_video_features(video[None, frames], resolutions, chunk)
                parts.append(self._query_features(features, local[None]).tensors())
                order.append(own)
            back = torch.cat(order).argsort()
            found.append([torch.cat(kind, dim=1)[:, back] for kind in zip(*parts, strict=True)])
        return TAPIRQueryFeatures.of([torch.cat(kind) for kind in zip(*found, strict=True)])

    def _continue(
        self,
        features: TAPIRFeatures,
        state: TAPIRState,
        run: TAPIRRun,
        query_chunk: int,
        progress: Callable[[int], object] | None,
    ) -> TAPIROutput:
        """Track the frames that follow those of a state."""
        if not self.config.causal:
            raise ValueError("these weights look ahead in time: they carry no state from frame to frame")
        points = state.query_points.float()
        (B, T), step, size = features.levels[0][0].shape[:2], state.step, features.video_size
        if len(points) != B:
            raise ValueError(f"the state is of {len(points)} clips, the frames of {B}")
        if state.video_size not in (None, size):
            raise ValueError(f"frames were {state.video_size} (height, width), now {size}")
        if step == 0:
            check_query_points(points, B, None, *size)
        num_layers = (len(features.levels) - 1) * run.num_iterations * len(self.mixer.blocks)
        if state.layers and len(state.layers) != num_layers:
            raise ValueError("num_iterations and the number of resolutions must not change from frame to frame")

        # 1. Take up the features of the queries that lie in these frames.
        query_features, tracked = state.query_features, None
        if not state.all_seen:
            time = torch.arange(step, step + T, device=points.device)
            tracked = time >= points[..., :1]  # [B, N, T]
            new = (points[..., :1] >= step) & (points[..., :1] < step + T)  # [B, N, 1]
            local = torch.cat([(points[..., :1] - step).clamp(0, T - 1), points[..., 1:]], dim=-1)
            found = self._query_features(features, local).tensors()
            before = [torch.zeros_like(each) for each in found] if query_features is None else query_features.tensors()
            merged = [torch.where(new, one, other) for one, other in zip(found, before, strict=True)]
            query_features = TAPIRQueryFeatures.of(merged)
        assert query_features is not None

        # 2. Track a chunk of queries after the other.
        chunk = self._queries_at_once(T, B, query_chunk)
        found_steps, ends = [], []
        for number, own in enumerate(query_features.split(chunk)):
            part = slice(number * chunk, number * chunk + chunk)
            layers = [(inputs[:, part], hidden[:, part]) for inputs, hidden in state.layers]
            mask = None if tracked is None else tracked[:, part]
            own_run = replace(run, first_frame=step, pinned=False, tracked=mask, layers=layers)
            steps, end = self._track(features, own, points[:, part], own_run)
            found_steps.append(steps)
            ends.append(end)
            if progress is not None:
                progress(1)
        tracks, occlusion, distance = (
            [torch.cat(each, dim=1) for each in zip(*kind, strict=True)] for kind in zip(*found_steps, strict=True)
        )
        layers = ends[0]
        if len(ends) > 1:
            layers = [
                (torch.cat([inputs for inputs, _ in layer], dim=1), torch.cat([hidden for _, hidden in layer], dim=1))
                for layer in zip(*ends, strict=True)
            ]

        # 3. Where a query has not been seen, nothing is known but where it will be.
        if tracked is not None:
            tracks = [torch.where(tracked[..., None], each, points[:, :, None, 1:]) for each in tracks]
            occlusion = [each.masked_fill(~tracked, UNSEEN_LOGIT) for each in occlusion]
        output = _output(tracks, occlusion, distance)
        output.state = TAPIRState(state.query_points, query_features, state.all_seen, step + T, size, layers)
        return output

    def _track(
        self, features: TAPIRFeatures, query_features: TAPIRQueryFeatures, query_points: Tensor, run: TAPIRRun
    ) -> tuple[tuple[list[Tensor], list[Tensor], list[Tensor]], list[tuple[Tensor, Tensor]]]:
        """Track a chunk of queries in the frames of the features.

        Returns:
            Lists of tracks [B, N, T, 2], occlusion and expected-distance logits [B, N, T]: the first guess, each
            refinement step, and the mean over the resolutions' last steps; and the layers of `TAPIRState`.
        """
        (height, width), (work_height, work_width) = features.video_size, self.config.initial_resolution
        device, dtype = query_points.device, query_features.levels[0][0].dtype
        B, N = query_points.shape[:2]
        # Points are refined in the pixels of `initial_resolution`, whatever the video's size.
        work = torch.tensor([work_width, work_height], device=device)
        to_video = torch.tensor([width, height], device=device) / work

        # 1. First guess, from global matching; in its own frame, a query is where it is.
        coarse = features.levels[0][1]
        guesses = [self.matching(some, query_features.levels[0][1]) for some in coarse.split(run.frame_chunk, dim=1)]
        points = torch.cat([guess for guess, _ in guesses], dim=2)
        points = points * (work / torch.tensor([coarse.shape[3], coarse.shape[2]], device=device))
        first_logits = torch.cat([logits for _, logits in guesses], dim=2)  # [B, N, T, 2]
        if run.pinned:
            time = torch.arange(run.first_frame, run.first_frame + features.num_frames, device=device)
            is_query = query_points[:, :, :1].round() == time  # [B, N, T]
            points = torch.where(is_query[..., None], (query_points[:, :, 1:] / to_video)[:, :, None], points)
        history = [(points * to_video, first_logits)]

        # 2. Refine, at one resolution after the other.
        tracked = None if run.tracked is None else run.tracked.flatten(0, 1)[..., None].to(dtype)
        ends: list[tuple[Tensor, Tensor]] = []
        last = []  # history's entries of each resolution's last step
        for (h, w), grids, own in zip(
            features.resolutions[1:], features.levels[1:], query_features.levels[1:], strict=True
        ):
            resolution = torch.tensor([w, h], device=device)
            logits = first_logits
            state = torch.cat(own, dim=-1)[:, :, None].expand(-1, -1, features.num_frames, -1)
            for _ in range(run.num_iterations):
                # No gradient flows into the guess that a step starts from.
                points, logits = points.detach(), logits.detach()
                # 2a. Inputs: two unused ones, logits and features so far, and local correlations on each grid.
                nothing = state.new_zeros(*points.shape)
                patches = self._patches(grids, points / work, state, run.frame_chunk)
                inputs = torch.cat([nothing, logits.to(dtype), state, *patches], dim=-1).flatten(0, 1)
                # 2b. The mixer corrects position, logits and features.
                past = self._past(run.layers, len(ends))
                change, new = self.mixer(inputs, past, tracked)
                ends += [(one.unflatten(0, (B, N)), two.unflatten(0, (B, N))) for one, two in new]
                change = change.unflatten(0, (B, N))
                points = points + change[..., :2].float() * (work / resolution)
                logits = logits + change[..., 2:4].float()
                state = state + change[..., 4:]
                history.append((points * to_video, logits))
            last.append(history[-1])

        # 3. The result is the mean over resolutions.
        mean = [torch.stack(kind).mean(0) if len(kind) > 1 else kind[0] for kind in zip(*last, strict=True)]
        tracks = [xy for xy, _ in history[:-1]] + [mean[0]]
        all_logits = [each for _, each in history[:-1]] + [mean[1]]
        return (tracks, [each[..., 0] for each in all_logits], [each[..., 1] for each in all_logits]), ends

    def _past(self, layers: list[tuple[Tensor, Tensor]] | None, first: int) -> list[tuple[Tensor, Tensor]] | None:
        """Return what the blocks of a refinement step were given before, from number `first` of `TAPIRState.layers`."""
        if layers is None:
            return None
        own = layers[first : first + len(self.mixer.blocks)]
        return [(inputs.flatten(0, 1), hidden.flatten(0, 1)) for inputs, hidden in own]

    def _patches(self, grids: Sequence[Tensor], points: Tensor, state: Tensor, chunk: int) -> list[Tensor]:
        """Return [B, N, T, S S] for each grid: correlations around points [B, N, T, 2], in shares of the frame."""
        patches = []
        fine, coarse = state.split([grids[0].shape[-1], grids[1].shape[-1]], dim=-1)
        for number, grid in enumerate(grids):
            cells = points * torch.tensor([grid.shape[3], grid.shape[2]], device=points.device)
            vectors = coarse if number else fine
            some = zip(grid.split(chunk, dim=1), cells.split(chunk, dim=2), vectors.split(chunk, dim=2), strict=True)
            options = self.config.patch_radius, self.config.released_patches
            patches.append(torch.cat([correlate(*part, *options) for part in some], dim=2))
        return patches


def _output(tracks: list[Tensor], occlusion: list[Tensor], distance: list[Tensor]) -> TAPIROutput:
    """Return the last step as the result, and the others as unrefined."""
    return TAPIROutput(
        tracks=tracks[-1],
        visible_logits=visible_logits(occlusion[-1], distance[-1]),
        occlusion_logits=occlusion[-1],
        expected_distance_logits=distance[-1],
        unrefined_tracks=tuple(tracks[:-1]),
        unrefined_occlusion_logits=tuple(occlusion[:-1]),
        unrefined_expected_distance_logits=tuple(distance[:-1]),
    )


def visible_logits(occlusion_logits: Tensor, expected_distance_logits: Tensor) -> Tensor:
    """Return the log-odds that a point is neither occluded nor off, the two taken as independent.

    With odds of occlusion e^o and of being off e^u, p = 1 / ((1 + e^o) (1 + e^u)), so (1 - p) / p = e^o + e^u +
    e^(o + u): no probability near 0 or 1 is ever formed.
    """
    terms = [occlusion_logits, expected_distance_logits, occlusion_logits + expected_distance_logits]
    return -torch.logsumexp(torch.stack(terms), dim=0)


def default_resolutions(
    video_size: tuple[int, int], initial_resolution: Sequence[int], least: int = 16
) -> list[tuple[int, int]]:
    """Return resolutions from the initial one to the video's, each at most twice the one before, multiples of 8.

    A video that is nowhere larger than the initial resolution is refined at the initial one alone.
    """
    ratios = [size / start for size, start in zip(video_size, initial_resolution, strict=True)]
    levels = math.ceil(math.log2(max(ratios))) + 1
    if levels <= 1:
        return [(initial_resolution[0], initial_resolution[1])]
    return [
        tuple(
            max(math.floor(start * ratio ** (level / (levels - 1)) / 8 + 1e-9) * 8, least)
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


def check_query_points(query_points: Tensor, B: int, T: int | None, height: int, width: int) -> None:
    """Raise ValueError, saying which query is wrong and why, unless all lie in the video.

    Without `T`, frame by frame, no end is known, and t must be whole.
    """
    if torch.compiler.is_compiling():
        # Values cannot be checked without breaking the graph.
        return
    if query_points.ndim != 3 or query_points.shape[0] != B or query_points.shape[2] != 3:
        raise ValueError(f"query_points must be [{B}, N, 3] of (t, x, y), got {list(query_points.shape)}")
    if query_points.shape[1] == 0:
        raise ValueError("no query point: give at least one (t, x, y)")
    limit = torch.tensor([torch.inf if T is None else T - 1, width, height], device=query_points.device)
    # NaN fails both comparisons.
    fine = ((query_points >= 0) & (query_points <= limit) & query_points.isfinite()).all(-1)
    if T is None:
        fine &= query_points[..., 0] == query_points[..., 0].round()
    if not fine.all():
        clip, query = (~fine).nonzero()[0].tolist()
        t, x, y = query_points[clip, query].tolist()
        span = "is a whole number from 0" if T is None else f"goes from 0 to {T - 1}"
        raise ValueError(
            f"query {query} of clip {clip} is (t, x, y) = ({t:g}, {x:g}, {y:g}), outside the video: "
            f"t {span}, x to {width}, y to {height}"
        )


__all__ = ["TAPIRFeatures", "TAPIRForPointTracking", "TAPIROutput", "TAPIRPreTrainedModel", "TAPIRState"]
