"""TAPNext: tracking any point as next token prediction (Zholus et al., ICCV 2025, arXiv 2504.05579).

Every frame is a set of tokens: its patches, and one token a query point. Each block runs a gated linear recurrence
over time (RG-LRU, De et al., arXiv 2402.19427) in every token, then attention among the tokens of each frame. So a
clip may be run whole or frame by frame with a state that does not grow.

Top to bottom: outputs and state, recurrence over time, attention within frames, embeddings, heads, the model. Points
are xy in raster pixels: the frame spans (0, 0) to (W, H) and the first pixel's center is (0.5, 0.5). Arrays: B clips,
T frames, N query points, S tokens of a frame (patches, then queries), C channels.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import ModelOutput

from .configuration_tapnext import TAPNextConfig

# c of RG-LRU: decay = exp(-c softplus(decay parameter) gate).
DECAY_SHARPNESS = 8.0
# Bound on the slope of the square root that scales the recurrence's input.
MAX_SQRT_GRADIENT = 1000.0


@dataclass
class TAPNextState:
    """All that later frames need of earlier ones. Its size does not grow with their number.

    Args:
        query_points: [B, N, 3] (t, x, y) of all queries, those of coming frames included.
        step: number of frames processed.
        video_size: (height, width) of these frames; None before the first.
        layers: for each block its recurrence [B, S, E] and its last inputs [B, conv_width - 1, S, E].
    """

    query_points: Tensor
    step: int = 0
    video_size: tuple[int, int] | None = None
    layers: list[tuple[Tensor, Tensor] | None] = field(default_factory=list)


@dataclass
class TAPNextOutput(ModelOutput):
    """Output of TAPNext.

    Args:
        tracks: [B, N, T, 2] xy in pixels of the input video; meaningless before a query's own frame.
        visible_logits: [B, N, T]; a point is visible where positive.
        coordinate_logits: [B, N, T, 2, image_size], of x then y, one bin a pixel of a frame of `image_size`; None
            unless `output_coordinate_logits`.
        certainty: [B, N, T], the probability that the point is within `certainty_radius` bins of where it is said to
            be; None unless `output_certainty`. TAPNext++ offers sigmoid(visible logit) certainty > 0.5 as a stricter
            rule than visible logit > 0.
        state: for the frames that follow; None where the clip was run in both directions.
    """

    tracks: Tensor | None = None
    visible_logits: Tensor | None = None
    coordinate_logits: Tensor | None = None
    state: TAPNextState | None = None
    certainty: Tensor | None = None


# Recurrence over time


class TAPNextRMSNorm(nn.Module):
    """Root-mean-square norm whose gain is 1 + scale."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.scale.shape, (1 + self.scale).to(x.dtype), eps=1e-6)


def bounded_sqrt(x: Tensor) -> Tensor:
    """Return the square root, with a gradient of at most `MAX_SQRT_GRADIENT`; at 0 it would be infinite."""
    if not x.requires_grad:
        return x.sqrt()
    steep = (2 * MAX_SQRT_GRADIENT) ** -2
    bounded = x.detach().sqrt() + MAX_SQRT_GRADIENT * (x - x.detach())
    return torch.where(x > steep, x.clamp_min(steep).sqrt(), bounded)


class TAPNextGatedRecurrence(nn.Module):
    """Causal convolution over time, then RG-LRU: h[t] = a[t] h[t-1] + sqrt(1 - a[t]^2) gate[t] x[t]."""

    def __init__(self, config: TAPNextConfig) -> None:
        super().__init__()
        size, heads = config.recurrent_size, config.num_attention_heads
        self.project_in = nn.Linear(config.hidden_size, 2 * size)  # output gate, input
        self.conv_weight = nn.Parameter(torch.empty(config.conv_width, size))
        self.conv_bias = nn.Parameter(torch.empty(size))
        self.gate_weight = nn.Parameter(torch.empty(heads, size // heads, 2 * size // heads))  # input, decay
        self.gate_bias = nn.Parameter(torch.empty(heads, 2 * size // heads))
        self.decay = nn.Parameter(torch.empty(size))
        self.project_out = nn.Linear(size, config.hidden_size)

    def reset_parameters(self) -> None:
        """Initialize as RG-LRU: decays a from 0.9 to 0.999, gates of variance 1 / fan-in, a small convolution."""
        nn.init.normal_(self.conv_weight, std=(0.01 / len(self.conv_weight)) ** 0.5)
        nn.init.zeros_(self.conv_bias)
        nn.init.normal_(self.gate_weight, std=self.gate_weight.shape[1] ** -0.5)
        nn.init.zeros_(self.gate_bias)
        # The softplus of these makes a between 0.9 and 0.999 where gates are open.
        nn.init.uniform_(self.decay, -9.0, -4.3)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor] | None) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Map [B, T, S, C] to [B, T, S, C], and return the state after the last frame."""
        T = x.shape[1]
        out_gate, x = self.project_in(x).chunk(2, dim=-1)

        # 1. Causal convolution over time, from the last inputs of the call before.
        past = x.new_zeros(x.shape[0], len(self.conv_weight) - 1, *x.shape[2:]) if state is None else state[1]
        inputs = torch.cat([past, x], dim=1)
        x = self.conv_bias.to(x.dtype)
        for delay, weight in enumerate(self.conv_weight.to(inputs.dtype)):
            x = torch.addcmul(x, inputs[:, delay : delay + T], weight)

        # 2. Gates of input and decay, head by head.
        heads = x.unflatten(-1, (len(self.gate_weight), -1))  # [B, T, S, heads, E / heads]
        gates = torch.bmm(heads.flatten(0, 2).transpose(0, 1), self.gate_weight) + self.gate_bias[:, None]
        gates = gates.float().sigmoid_().transpose(0, 1).reshape(*heads.shape[:-1], -1)
        in_gate, decay_gate = (gate.flatten(-2) for gate in gates.chunk(2, dim=-1))

        # 3. Decay a and input of the recurrence. Nothing came before the first frame: its input counts in full.
        log_decay = decay_gate * (-DECAY_SHARPNESS * F.softplus(self.decay.float()))
        decay = log_decay.exp()
        strength = bounded_sqrt(1 - (2 * log_decay).exp())
        if state is None:
            strength = torch.cat([torch.ones_like(strength[:, :1]), strength[:, 1:]], dim=1)
        driven = x * in_gate * strength

        # 4. Recurrence over time.
        hidden = driven[:, 0] if state is None else torch.addcmul(driven[:, 0], decay[:, 0], state[0])
        history = [hidden]
        for t in range(1, T):
            hidden = torch.addcmul(driven[:, t], decay[:, t], hidden)
            history.append(hidden)

        # 5. Output gate.
        x = torch.stack(history, dim=1).to(out_gate.dtype) * F.gelu(out_gate, approximate="tanh")
        return self.project_out(x), (hidden, inputs[:, T:].clone())


class TAPNextGatedMLP(nn.Module):
    """Feed-forward layer with a GELU gate."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.expand = nn.Linear(size, 8 * size)  # gate, value
        self.contract = nn.Linear(4 * size, size)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.expand(x).chunk(2, dim=-1)
        return self.contract(F.gelu(gate, approximate="tanh") * value)


# TAPNextAttention within frames


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


class TAPNextAttention(nn.Module):
    """Multi-head self-attention; only the last `wanted` tokens have queries."""

    def __init__(self, config: TAPNextConfig) -> None:
        super().__init__()
        self.config = config
        self.is_causal = False
        self.head_size = config.hidden_size // config.num_attention_heads
        self.qkv = nn.Linear(config.hidden_size, 3 * config.hidden_size)
        self.out = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor, wanted: int) -> Tensor:
        """Map [M, S, C] to [M, wanted, C]."""
        M, S, C = x.shape
        if wanted == S:
            query, key, value = self.qkv(x).view(M, S, 3, -1, self.head_size).permute(2, 0, 3, 1, 4)
        else:
            weight, bias = self.qkv.weight, self.qkv.bias
            query = F.linear(x[:, -wanted:], weight[:C], bias[:C])
            query = query.view(M, wanted, -1, self.head_size).transpose(1, 2)
            key, value = F.linear(x, weight[C:], bias[C:]).view(M, S, 2, -1, self.head_size).permute(2, 0, 3, 1, 4)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        attended, _ = attend(self, query, key, value, None, dropout=0.0, scaling=self.head_size**-0.5)
        return self.out(attended.reshape(M, wanted, C))


class TAPNextBlock(GradientCheckpointingLayer):
    """Recurrence over time in each token, then attention among the tokens of each frame."""

    def __init__(self, config: TAPNextConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.recurrence_norm = TAPNextRMSNorm(size)
        self.recurrence = TAPNextGatedRecurrence(config)
        self.gated_mlp_norm = TAPNextRMSNorm(size)
        self.gated_mlp = TAPNextGatedMLP(size)
        self.attention_norm = nn.LayerNorm(size, eps=1e-6)
        self.attention = TAPNextAttention(config)
        self.mlp_norm = nn.LayerNorm(size, eps=1e-6)
        self.expand = nn.Linear(size, 4 * size)
        self.contract = nn.Linear(4 * size, size)

    def forward(
        self, x: Tensor, state: tuple[Tensor, Tensor] | None, wanted: int
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Map [B, T, S, C] to its last tokens [B, T, wanted, C], and return the state after the last frame."""
        # 1. Recurrence over time, in each token.
        change, state = self.recurrence(self.recurrence_norm(x), state)
        x = x + change
        x = x + self.gated_mlp(self.gated_mlp_norm(x))
        # 2. Attention within frames.
        shape = x.shape[:2]
        x = x.flatten(0, 1)
        x = x[:, -wanted:] + self.attention(self.attention_norm(x), wanted)
        x = x + self.contract(F.gelu(self.expand(self.mlp_norm(x))))
        return x.unflatten(0, shape), state


# TAPNextEmbeddings


def embed_position(xy: Tensor, size: int, channels: int) -> Tensor:
    """Return sines and cosines of x, then of y, at the pixels around each point, bilinear; zero out of frame.

    Args:
        xy: [..., 2] raster pixels of a square frame of side `size`.

    Returns:
        [..., channels].
    """
    quarter = channels // 4
    frequency = 10_000.0 ** -(torch.arange(quarter, device=xy.device) / max(quarter - 1, 1))
    first = (xy - 0.5).floor()
    fraction = xy - 0.5 - first
    waves, inside = torch.zeros((*xy.shape, 2 * quarter), device=xy.device), torch.zeros_like(xy)
    for pixel, weight in ((first, 1 - fraction), (first + 1, fraction)):
        weight = weight * ((pixel >= 0) & (pixel < size))
        phase = pixel[..., None] * frequency
        waves = waves + weight[..., None] * torch.cat([phase.sin(), phase.cos()], dim=-1)
        inside = inside + weight
    return (waves * inside.flip(-1)[..., None]).flatten(-2)


class TAPNextEmbeddings(nn.Module):
    """Makes the tokens of each frame: its patches, then one a query, other ones before, at and after its frame."""

    def __init__(self, config: TAPNextConfig) -> None:
        super().__init__()
        self.image_size = config.image_size
        size, side = config.hidden_size, config.image_size // config.patch_size
        self.patches = nn.Conv2d(3, size, config.patch_size, stride=config.patch_size)
        self.patch_positions = nn.Parameter(torch.empty(1, side * side, size))
        self.before_query = nn.Parameter(torch.empty(size))
        self.at_query = nn.Parameter(torch.empty(size))
        self.after_query = nn.Parameter(torch.empty(size))

    def reset_parameters(self) -> None:
        for parameter in (self.patch_positions, self.before_query, self.at_query, self.after_query):
            nn.init.normal_(parameter, std=0.02)

    def forward(self, frames: Tensor, query_points: Tensor, step: int) -> Tensor:
        """Map frames [B, T, 3, H, W], the first being number `step`, and queries [B, N, 3] to [B, T, S, C]."""
        B, T, _, height, width = frames.shape
        # 1. Patches and their positions.
        patches = self.patches(frames.flatten(0, 1).to(self.patches.weight.dtype))  # [B T, C, h, w]
        positions = self._positions(*patches.shape[-2:])
        patches = patches.flatten(2).transpose(1, 2) + positions
        # 2. Queries: in their own frame they carry their position, in others one of two learned tokens.
        scale = self.image_size / torch.tensor([width, height], device=frames.device)
        position = embed_position(query_points[..., 1:] * scale, self.image_size, patches.shape[-1])
        at_query = self.at_query + position.to(patches.dtype)
        frame = torch.arange(step, step + T, device=frames.device)[None, :, None, None]
        query_frame = query_points[:, None, :, :1]  # [B, 1, N, 1]
        queries = torch.where(frame < query_frame, self.before_query, self.after_query)
        queries = torch.where(frame == query_frame, at_query[:, None], queries)
        return torch.cat([patches.unflatten(0, (B, T)), queries], dim=2)

    def _positions(self, rows: int, columns: int) -> Tensor:
        """Return the learned grid [1, rows columns, C], resized bicubically if frames are not of the trained size."""
        side = round(self.patch_positions.shape[1] ** 0.5)
        if (rows, columns) == (side, side):
            return self.patch_positions
        grid = self.patch_positions.transpose(1, 2).unflatten(-1, (side, side)).float()
        grid = F.interpolate(grid, (rows, columns), mode="bicubic")
        return grid.flatten(2).transpose(1, 2).to(self.patch_positions.dtype)


# Heads


class TAPNextHead(nn.Sequential):
    """Three-layer perceptron on each query token."""

    def __init__(self, config: TAPNextConfig, outputs: int) -> None:
        hidden = config.head_hidden_size
        super().__init__(
            nn.Linear(config.hidden_size, hidden), nn.LayerNorm(hidden), nn.GELU(),
            nn.Linear(hidden, hidden), nn.LayerNorm(hidden), nn.GELU(),
            nn.Linear(hidden, outputs),
        )  # fmt: skip


def soft_argmax(logits: Tensor, scale: float, radius: int) -> Tensor:
    """Return the softmax's mean position [...] of logits [..., bins], within `radius` bins of their peak.

    The center of bin i is at i + 0.5.
    """
    index = torch.arange(logits.shape[-1], device=logits.device)
    far = (index - logits.argmax(-1, keepdim=True)).abs() > radius
    return ((logits * scale).masked_fill(far, -torch.inf).softmax(-1) * (index + 0.5)).sum(-1)


def position_certainty(logits: Tensor, points: Tensor, radius: int) -> Tensor:
    """Return the probability [...] that bins within `radius` of points have.

    As released (tracker_certainty of TAPNext++), the disc of bins lies in its window by the other axis's fraction of a
    bin: its center is up to one bin beside the point.

    Args:
        logits: [..., 2, bins], of x then y, whose softmax are taken as independent.
        points: [..., 2] xy in bins; the center of bin i is at i + 0.5.
    """
    bins, side = logits.shape[-1], 2 * radius + 1
    # 1. The window of bins around each point, moved into the frame.
    first = (points - side / 2).floor().clamp(0, max(bins - side, 0)).long()
    index = (first[..., None] + torch.arange(side, device=logits.device)).clamp(max=bins - 1)  # [..., 2, side]
    along_x, along_y = logits.softmax(-1).gather(-1, index).unbind(-2)
    # 2. Bins of the window that are near enough count; x and y of the point in its window change places.
    center = (points - first).flip(-1)
    dx, dy = (torch.arange(side, device=logits.device) + 0.5 - center[..., None]).square().unbind(-2)
    near = dx[..., None, :] + dy[..., :, None] <= radius**2
    return (along_x[..., None, :] * along_y[..., :, None] * near).sum((-2, -1))


# The model


class TAPNextPreTrainedModel(PreTrainedModel):
    config_class = TAPNextConfig
    base_model_prefix = "tapnext"
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
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.LayerNorm, TAPNextGatedRecurrence, TAPNextEmbeddings)):
            module.reset_parameters()
        elif isinstance(module, TAPNextRMSNorm):
            nn.init.zeros_(module.scale)


class TAPNextForPointTracking(TAPNextPreTrainedModel):
    """Tracks any point of a clip from its query frame on; with `bidirectional`, before it, too.

    Queries attend to each other, so splitting them over calls changes the results.

    Example, frame by frame:
        >>> import torch
        >>> from anthrotap_hf.models.tapnext import TAPNextConfig, TAPNextForPointTracking
        >>> config = TAPNextConfig(image_size=32, hidden_size=32, recurrent_size=32, num_attention_heads=2)
        >>> model = TAPNextForPointTracking(config).eval()
        >>> state = model.start(torch.tensor([[[0.0, 9.5, 8.5], [2.0, 20.0, 8.0]]]))
        >>> for frame in torch.rand(3, 1, 1, 3, 32, 32) * 2 - 1:
        ...     with torch.inference_mode():
        ...         out = model(pixel_values_videos=frame, state=state)
        ...     state = out.state
        >>> out.tracks.shape
        torch.Size([1, 2, 1, 2])
    """

    def __init__(self, config: TAPNextConfig) -> None:
        super().__init__(config)
        self.embeddings = TAPNextEmbeddings(config)
        self.blocks = nn.ModuleList([TAPNextBlock(config) for _ in range(config.num_hidden_layers)])
        self.norm = nn.LayerNorm(config.hidden_size)
        self.visible_head = TAPNextHead(config, 1)
        # Of y, then of x.
        self.coordinate_head = TAPNextHead(config, 2 * config.image_size)
        self.post_init()

    def start(self, query_points: Tensor) -> TAPNextState:
        """Return the state before the first frame; queries [B, N, 3] (t, x, y) may lie in any later frame."""
        return TAPNextState(query_points)

    def forward(
        self,
        pixel_values_videos: Tensor | None = None,
        query_points: Tensor | None = None,
        state: TAPNextState | None = None,
        bidirectional: bool = False,
        output_coordinate_logits: bool = False,
        output_certainty: bool = False,
        frame_chunk_size: int | None = None,
        return_dict: bool | None = None,
    ) -> TAPNextOutput | tuple:
        """Track query points.

        Args:
            pixel_values_videos: [B, T, 3, H, W], floats in [-1, 1], or uint8; H and W multiples of the patch size.
            query_points: [B, N, 3] (t, x, y): t a whole frame number from 0, xy in pixels of the video.
            state: of `start` or of the call on the frames before, instead of query points. (A first call on one frame
                with query points starts a video, too: they may lie in later frames.) Call under `inference_mode`:
                where gradients are recorded, the state keeps all frames before in memory.
            bidirectional: whether to run backward in time, too, for the frames before each query (TAP-Vid's strided
                mode).
            output_coordinate_logits: whether to return the logits that tracks are read from.
            output_certainty: whether to return how certain the positions are.
            frame_chunk_size: bound on memory; the configuration's by default.

        Raises:
            ValueError: frames are no multiples of the patch size, queries lie outside the video, or arguments exclude
                each other.
        """
        patch = self.config.patch_size
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
        if height % patch or width % patch:
            raise ValueError(f"frames must be multiples of {patch} pixels, got {height} x {width}: resize them")
        if bidirectional and state is not None:
            raise ValueError("bidirectional needs the whole clip at once: give query_points, no state")
        if state is None and query_points is not None:
            state = TAPNextState(query_points)
            last = None if T == 1 and not bidirectional else T - 1
        elif state is not None and query_points is None:
            last = None
        else:
            raise ValueError("give either query_points or state")
        chunk = self.config.frame_chunk_size if frame_chunk_size is None else frame_chunk_size
        if chunk < 1:
            raise ValueError(f"frame_chunk_size must be at least 1, got {chunk}")
        if len(state.query_points) != B:
            raise ValueError(f"the state is of {len(state.query_points)} clips, the frames of {B}")
        if state.video_size not in (None, (height, width)):
            raise ValueError(f"frames were {state.video_size} (height, width), now {(height, width)}")
        if state.step == 0 and not torch.compiler.is_compiling():
            # Values cannot be checked in a compiled graph without breaking it.
            check_query_points(state.query_points, B, last, height, width)

        keep = output_coordinate_logits or output_certainty
        tracks, logits, coordinates, end = self._run(pixel_values_videos, state, chunk, keep)
        if bidirectional:
            # What comes before a query is tracked in the reversed video.
            times, xy = state.query_points.split([1, 2], dim=-1)
            flipped = TAPNextState(torch.cat([T - 1 - times, xy], dim=-1))
            back = self._run(pixel_values_videos.flip(1), flipped, chunk, keep)
            after_query = torch.arange(T, device=tracks.device) >= times  # [B, N, T]
            tracks = torch.where(after_query[..., None], tracks, back[0].flip(2))
            logits = torch.where(after_query, logits, back[1].flip(2))
            if coordinates is not None and back[2] is not None:
                coordinates = torch.where(after_query[..., None, None], coordinates, back[2].flip(2))
        output = TAPNextOutput(tracks, logits, state=None if bidirectional else end)
        if output_coordinate_logits:
            output.coordinate_logits = coordinates
        if output_certainty and coordinates is not None:
            to_bins = self.config.image_size / torch.tensor([width, height], device=tracks.device)
            output.certainty = position_certainty(coordinates, tracks * to_bins, self.config.certainty_radius)
        return output.to_tuple() if return_dict is False else output

    def _run(
        self, videos: Tensor, state: TAPNextState, chunk: int, keep_coordinates: bool
    ) -> tuple[Tensor, Tensor, Tensor | None, TAPNextState]:
        """Run forward in time, `chunk` frames at once.

        Returns:
            Tracks [B, N, T, 2], visible logits [B, N, T], coordinate logits if kept, and the new state.
        """
        height, width = videos.shape[-2:]
        queries = state.query_points.float()
        N, bins, step = queries.shape[1], self.config.image_size, state.step
        layers = [*state.layers] or [None] * len(self.blocks)
        to_video = torch.tensor([width / bins, height / bins], device=videos.device)
        tracks, logits, coordinates = [], [], []
        for frames in videos.split(chunk, dim=1):
            if frames.dtype == torch.uint8:
                frames = frames / 127.5 - 1
            # 1. Tokens, then blocks.
            x = self.embeddings(frames, queries, step)
            for depth, block in enumerate(self.blocks):
                # Only query tokens are read after the last block.
                wanted = N if depth == len(self.blocks) - 1 else x.shape[2]
                x, layers[depth] = block(x, layers[depth], wanted)
            # 2. Heads on query tokens; the coordinate head has y first.
            x = self.norm(x).transpose(1, 2)  # [B, N, t, C]
            bin_logits = self.coordinate_head(x).float().unflatten(-1, (2, bins)).flip(-2)
            tracks.append(soft_argmax(bin_logits, self.config.softmax_scale, self.config.soft_argmax_radius) * to_video)
            logits.append(self.visible_head(x)[..., 0].float())
            if keep_coordinates:
                coordinates.append(bin_logits)
            step += frames.shape[1]
        end = TAPNextState(state.query_points, step, (height, width), layers)
        return (
            torch.cat(tracks, dim=2),
            torch.cat(logits, dim=2),
            torch.cat(coordinates, dim=2) if keep_coordinates else None,
            end,
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


__all__ = ["TAPNextForPointTracking", "TAPNextOutput", "TAPNextPreTrainedModel", "TAPNextState"]
