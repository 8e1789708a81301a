"""TokenHMR: body pose by tokens of a learned code (Dwivedi et al., CVPR 2024, arXiv 2404.16752).

Top to bottom: output, decoder, token head, tokenizer's decoder, rotations, the model. Written from a description of
what the network computes; its weights are licensed for non-commercial research and may not be passed on. Arrays: B
people, P image tokens, N pose tokens, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import ModelOutput
from transformers.utils.generic import maybe_autocast

from .configuration_tokenhmr import TokenHMRConfig

# Joints that tokens say nothing of.
HANDS = 2
# Parameters of the weak-perspective camera.
CAMERA = 3


@dataclass
class TokenHMROutput(ModelOutput):
    """Output of TokenHMR: a person in each crop, as SMPL parameters.

    Args:
        global_orient: [B, 1, 3, 3], rotation of the root, model axes to the crop camera's (x right, y down, z forward).
        body_pose: [B, 23, 3, 3], rotations of the other joints from their parents.
        betas: [B, 10], shape.
        pred_cam: [B, 3], scale and the shift (x, y) of a weak-perspective camera in the crop.
        token_logits: [B, N, classes], of the pose tokens.
    """

    global_orient: Tensor | None = None
    body_pose: Tensor | None = None
    betas: Tensor | None = None
    pred_cam: Tensor | None = None
    token_logits: Tensor | None = None


# TokenHMRDecoder


def eager_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: None,
    scaling: float,
    **_: object,
) -> tuple[Tensor, Tensor]:
    """Return the attended values [B, n, heads, D] of query, key and value [B, heads, n, D], and the weights."""
    weights = (query @ key.transpose(-1, -2) * scaling).softmax(-1, dtype=torch.float32).to(query.dtype)
    return (weights @ value).transpose(1, 2), weights


class TokenHMRDecoderLayer(GradientCheckpointingLayer):
    """Pre-norm layer: attention of the query to itself, to the image, and a feed-forward network."""

    def __init__(self, config: TokenHMRConfig) -> None:
        super().__init__()
        size, image = config.decoder_hidden_size, config.backbone_config.hidden_size
        inner = config.decoder_heads * config.decoder_head_size
        self.config = config
        self.is_causal = False
        self.self_norm = nn.LayerNorm(size)
        self.self_value = nn.Linear(size, inner, bias=False)
        self.self_out = nn.Linear(inner, size)
        self.cross_norm = nn.LayerNorm(size)
        self.cross_query = nn.Linear(size, inner, bias=False)
        self.cross_key_value = nn.Linear(image, 2 * inner, bias=False)
        self.cross_out = nn.Linear(inner, size)
        self.norm = nn.LayerNorm(size)
        self.expand = nn.Linear(size, config.decoder_intermediate_size)
        self.contract = nn.Linear(config.decoder_intermediate_size, size)

    def forward(self, x: Tensor, image: Tensor) -> Tensor:
        """Map [B, 1, C] and the image's tokens [B, P, C'] to [B, 1, C]."""
        # 1. Self-attention. There is one query: it attends to itself alone, whatever its own query and key are.
        x = x + self.self_out(self.self_value(self.self_norm(x)))

        def heads(y: Tensor) -> Tensor:
            return y.unflatten(-1, (self.config.decoder_heads, -1)).transpose(1, 2)

        # 2. Cross-attention.
        query = heads(self.cross_query(self.cross_norm(x)))
        key, value = (heads(y) for y in self.cross_key_value(image).chunk(2, dim=-1))
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        scaling = self.config.decoder_head_size**-0.5
        attended, _ = attend(self, query, key, value, None, dropout=0.0, scaling=scaling)
        x = x + self.cross_out(attended.flatten(2))
        # 3. Feed-forward network.
        return x + self.contract(F.gelu(self.expand(self.norm(x))))


class TokenHMRDecoder(nn.Module):
    """Reads the image's tokens with one learned query."""

    def __init__(self, config: TokenHMRConfig) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.zeros(1, 1, config.decoder_hidden_size))
        self.layers = nn.ModuleList([TokenHMRDecoderLayer(config) for _ in range(config.decoder_layers)])

    def forward(self, image: Tensor) -> Tensor:
        """Map [B, P, C'] to [B, C]."""
        x = self.query.to(image.dtype).expand(len(image), -1, -1)
        for layer in self.layers:
            x = layer(x, image)
        return x[:, 0]


# Pose tokens


class TokenHMRMixerLayer(nn.Module):
    """Mixes tokens, then channels."""

    def __init__(self, config: TokenHMRConfig) -> None:
        super().__init__()
        size = config.mixer_size
        self.token_norm = nn.LayerNorm(size)
        self.token_expand = nn.Linear(config.num_tokens, config.mixer_token_size)
        self.token_contract = nn.Linear(config.mixer_token_size, config.num_tokens)
        self.channel_norm = nn.LayerNorm(size)
        self.channel_expand = nn.Linear(size, config.mixer_channel_size)
        self.channel_contract = nn.Linear(config.mixer_channel_size, size)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, N, C] to [B, N, C]."""
        across = self.token_norm(x).transpose(1, 2)
        x = x + self.token_contract(F.gelu(self.token_expand(across))).transpose(1, 2)
        return x + self.channel_contract(F.gelu(self.channel_expand(self.channel_norm(x))))


class TokenHMRTokenHead(nn.Module):
    """Predicts which token stands at each of the N positions."""

    def __init__(self, config: TokenHMRConfig) -> None:
        super().__init__()
        size = config.mixer_size
        self.project_in = nn.Linear(config.decoder_hidden_size, config.num_tokens * size)
        self.norm_in = nn.LayerNorm(config.num_tokens * size)
        self.layers = nn.ModuleList([TokenHMRMixerLayer(config) for _ in range(config.mixer_layers)])
        self.project_out = nn.Linear(size, size)
        self.norm_out = nn.LayerNorm(size)
        self.classify = nn.Linear(size, config.num_classes)
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C] to logits [B, N, classes]."""
        x = F.relu(self.norm_in(self.project_in(x))).unflatten(-1, (-1, self.size))
        for layer in self.layers:
            x = layer(x)
        return self.classify(F.relu(self.norm_out(self.project_out(x))))


class TokenHMRConvBlock(nn.Module):
    """Residual block of convolutions along the joints."""

    def __init__(self, size: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(size, size, 3, padding=dilation, dilation=dilation)
        self.conv2 = nn.Conv1d(size, size, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, n] to [B, C, n]."""
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))


class TokenHMRTokenDecoder(nn.Module):
    """The tokenizer's decoder: from mixtures of the code's entries to joint rotations."""

    def __init__(self, config: TokenHMRConfig) -> None:
        super().__init__()
        size, steps = config.tokenizer_size, 4
        gap = (config.num_tokens - config.num_joints) / steps
        # From the tokens' number, a little fewer each time, to the joints'.
        self.lengths = [int(config.num_joints + gap * step) for step in reversed(range(steps))]
        self.codebook = nn.Parameter(torch.zeros(config.num_classes, config.token_size))
        self.conv_in = nn.Conv1d(config.token_size, size, 3, padding=1)
        self.convs = nn.ModuleList([nn.Conv1d(size, size, 3, padding=1) for _ in range(steps)])
        self.blocks = nn.ModuleList([TokenHMRConvBlock(size, dilation) for dilation in (3, 1)])
        self.conv_middle = nn.Conv1d(size, size, 3, padding=1)
        self.conv_out = nn.Conv1d(size, 6, 3, padding=1)

    def forward(self, probabilities: Tensor) -> Tensor:
        """Map [B, N, classes] to [B, joints, 6]."""
        x = F.relu(self.conv_in((probabilities @ self.codebook).transpose(1, 2)))
        for conv, length in zip(self.convs, self.lengths, strict=True):
            x = F.relu(conv(F.interpolate(x, length, mode="nearest")))
        for block in self.blocks:
            x = block(x)
        return self.conv_out(self.conv_middle(x)).transpose(1, 2)


def rotations_of(rows: Tensor) -> Tensor:
    """Return rotations [..., 3, 3] of [..., 6]: two orthonormalized rows, their cross product (Zhou et al., 2019)."""
    first, second = rows.float().unflatten(-1, (2, 3)).unbind(-2)
    first = F.normalize(first, dim=-1)
    second = F.normalize(second - (first * second).sum(-1, keepdim=True) * first, dim=-1)
    return torch.stack([first, second, torch.linalg.cross(first, second)], dim=-2)


# The model


class TokenHMRPreTrainedModel(PreTrainedModel):
    config_class = TokenHMRConfig
    base_model_prefix = "tokenhmr"
    main_input_name = "pixel_values"
    input_modalities = ("image",)
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
        """Initialize as PyTorch does, and codes as small random numbers."""
        if isinstance(module, (nn.Linear, nn.Conv1d, nn.Conv2d, nn.LayerNorm)):
            module.reset_parameters()
        elif isinstance(module, TokenHMRTokenDecoder):
            nn.init.normal_(module.codebook, std=module.codebook.shape[1] ** -0.5)
        elif isinstance(module, TokenHMRDecoder):
            nn.init.normal_(module.query)


class TokenHMRForHumanMeshRecovery(TokenHMRPreTrainedModel):
    """Predicts pose, shape and camera of the person in each crop.

    Example:
        >>> import torch
        >>> from anthrotap_hf.models.tokenhmr import TokenHMRConfig, TokenHMRForHumanMeshRecovery
        >>> small = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        >>> config = TokenHMRConfig(backbone_config=small, decoder_layers=1, num_classes=8, tokenizer_size=8)
        >>> model = TokenHMRForHumanMeshRecovery(config).eval()
        >>> with torch.inference_mode():
        ...     out = model(pixel_values=torch.zeros(2, 3, 256, 256))
        >>> out.body_pose.shape
        torch.Size([2, 23, 3, 3])
    """

    def __init__(self, config: TokenHMRConfig) -> None:
        # Its file needs ones that may be half imported when this one is.
        from transformers import VitPoseBackbone

        super().__init__(config)
        size, joints = config.decoder_hidden_size, 1 + config.num_joints + HANDS
        self.backbone = VitPoseBackbone(config.backbone_config)
        self.decoder = TokenHMRDecoder(config)
        self.root_head = nn.Linear(size, 6)
        self.hands_head = nn.Linear(size, 6 * HANDS)
        self.shape_head = nn.Linear(size, config.num_betas)
        self.camera_head = nn.Linear(size, CAMERA)
        self.token_head = TokenHMRTokenHead(config)
        self.token_decoder = TokenHMRTokenDecoder(config)
        upright = torch.tensor([1.0, 0, 0, 0, 1, 0]).repeat(joints)
        self.register_buffer("mean_pose", upright)
        self.register_buffer("mean_shape", torch.zeros(config.num_betas))
        self.register_buffer("mean_camera", torch.tensor([0.9, 0, 0]))
        self.post_init()

    def forward(self, pixel_values: Tensor, return_dict: bool | None = None) -> TokenHMROutput | tuple:
        """Find the person in each crop.

        Args:
            pixel_values: [B, 3, 256, 256], RGB normalized by ImageNet's mean and deviation; B may be 0.

        Raises:
            ValueError: the crops have another shape.
        """
        side = self.config.image_size
        if pixel_values.ndim != 4 or pixel_values.shape[1:] != (3, side, side):
            raise ValueError(f"pixel_values must be [B, 3, {side}, {side}], got {list(pixel_values.shape)}")
        if not len(pixel_values):
            # The backbone cannot take an empty batch.
            one = self(pixel_values.new_zeros(1, 3, side, side), return_dict=False)
            none = TokenHMROutput(*(value[:0] for value in one))
            return none.to_tuple() if return_dict is False else none

        # 1. The backbone sees the middle three quarters of the crop's width.
        width = self.config.backbone_config.image_size[1]
        left = (side - width) // 2
        pixels = pixel_values[..., left : left + width].to(self.dtype)
        image = self.backbone(pixels).feature_maps[-1].to(self.dtype)
        # 2. Decoder and heads, which predict differences from means. They are little work, and autocast would lose
        # most there.
        with maybe_autocast(image.device.type, enabled=False):
            x = self.decoder(image)
            logits = self.token_head(x)
            body = self.token_decoder(logits.float().softmax(-1).to(logits.dtype))
            pose = torch.cat([self.root_head(x), body.flatten(1), self.hands_head(x)], dim=1)
            rotations = rotations_of((pose + self.mean_pose).unflatten(1, (-1, 6)))
            output = TokenHMROutput(
                global_orient=rotations[:, :1],
                body_pose=rotations[:, 1:],
                betas=(self.shape_head(x) + self.mean_shape).float(),
                pred_cam=(self.camera_head(x) + self.mean_camera).float(),
                token_logits=logits,
            )
        return output.to_tuple() if return_dict is False else output


__all__ = ["TokenHMRForHumanMeshRecovery", "TokenHMROutput", "TokenHMRPreTrainedModel"]
