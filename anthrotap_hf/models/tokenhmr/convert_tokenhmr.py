"""From TokenHMR's released files to a folder that `from_pretrained` reads."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import VitPoseBackboneConfig

from anthrotap_hf.models.tokenhmr.configuration_tokenhmr import TokenHMRConfig
from anthrotap_hf.models.tokenhmr.modeling_tokenhmr import TokenHMRForHumanMeshRecovery
from anthrotap_hf.utils.checkpoints import (
    HOLDERS,
    CheckpointError,
    Rename,
    build_model,
    load_tensors,
    size_of,
    warn_unless_released,
)
from anthrotap_hf.utils.errors import one_line
from anthrotap_hf.utils.file_limits import FileLimitError, read_json

# What the checkpoint holds beside the network: the body model, what training needed.
IGNORED = ("smpl.", "discriminator.", "initialized")
RELEASED_HEADS = 16
# What the configurations and PyTorch raise for impossible settings.
_BAD_SETTING = (ValueError, TypeError, LookupError, RuntimeError, ArithmeticError, StrictDataclassError)
SIZES = (
    *("backbone_config.hidden_size", "backbone_config.num_hidden_layers", "backbone_config.mlp_ratio"),
    *("decoder_hidden_size", "decoder_layers", "decoder_intermediate_size", "num_tokens", "num_classes"),
    *("token_size", "mixer_layers", "mixer_size", "mixer_token_size", "mixer_channel_size"),
    *("tokenizer_size", "num_betas"),
)
ANCHORS = ("backbone.pos_embed", "smpl_head.decshape.weight", "smpl_head.deccam.weight")
TOKENIZER_ANCHORS = ("quantizer.codebook", "decoder.decoder.0.weight")

CARD = """---
license: other
license_name: tokenhmr
license_link: https://tokenhmr.is.tue.mpg.de
---

# TokenHMR, converted

Weights of TokenHMR (Dwivedi et al., CVPR 2024) in the layout of `transformers`. **Licensed for non-commercial
scientific research; they may not be passed on in any form: do not upload this folder.** SMPL's mean parameters in it
are under SMPL's license (https://smpl.is.tue.mpg.de), with the same terms.

    anthrotap label VIDEO --out DIR --recipe anthrotap-ld
"""


def _third(part: int) -> Callable[[Tensor], Tensor]:
    return lambda tensor: tensor.chunk(3)[part]


def _both(target: str, source: str) -> list[Rename]:
    return [Rename(f"{target}.{kind}", (f"{source}.{kind}",)) for kind in ("weight", "bias")]


_VIT, _LAYER = "backbone.blocks.{}", "backbone.encoder.layer.{}"
_DEC, _OURS = "smpl_head.transformer.transformer.layers.{}", "decoder.layers.{}"
_MIX, _MIXER = "smpl_head.decpose.mixer_head.{}", "token_head.layers.{}"
_TOK = "tokenizer.decoder.decoder"

TABLE = [
    Rename("backbone.embeddings.position_embeddings", ("backbone.pos_embed",)),
    *_both("backbone.embeddings.patch_embeddings.projection", "backbone.patch_embed.proj"),
    *(
        Rename(f"{_LAYER}.attention.attention.{name}.{kind}", (f"{_VIT}.attn.qkv.{kind}",), _third(part))
        for part, name in enumerate(("query", "key", "value"))
        for kind in ("weight", "bias")
    ),
    *_both(f"{_LAYER}.attention.output.dense", f"{_VIT}.attn.proj"),
    *_both(f"{_LAYER}.layernorm_before", f"{_VIT}.norm1"),
    *_both(f"{_LAYER}.layernorm_after", f"{_VIT}.norm2"),
    *_both(f"{_LAYER}.mlp.fc1", f"{_VIT}.mlp.fc1"),
    *_both(f"{_LAYER}.mlp.fc2", f"{_VIT}.mlp.fc2"),
    *_both("backbone.layernorm", "backbone.last_norm"),
    # The query is the embedding of the number 0, which leaves its bias, plus a position.
    Rename(
        "decoder.query",
        (
            "smpl_head.transformer.to_token_embedding.bias",
            "smpl_head.transformer.pos_embedding",
            "smpl_head.transformer.to_token_embedding.weight",
        ),
        lambda bias, position, weight: bias + position + 0 * weight[:, 0],
    ),
    *_both(f"{_OURS}.self_norm", f"{_DEC}.0.norm"),
    Rename(f"{_OURS}.self_value.weight", (f"{_DEC}.0.fn.to_qkv.weight",), _third(2)),
    *_both(f"{_OURS}.self_out", f"{_DEC}.0.fn.to_out.0"),
    *_both(f"{_OURS}.cross_norm", f"{_DEC}.1.norm"),
    Rename(f"{_OURS}.cross_query.weight", (f"{_DEC}.1.fn.to_q.weight",)),
    Rename(f"{_OURS}.cross_key_value.weight", (f"{_DEC}.1.fn.to_kv.weight",)),
    *_both(f"{_OURS}.cross_out", f"{_DEC}.1.fn.to_out.0"),
    *_both(f"{_OURS}.norm", f"{_DEC}.2.norm"),
    *_both(f"{_OURS}.expand", f"{_DEC}.2.fn.net.0"),
    *_both(f"{_OURS}.contract", f"{_DEC}.2.fn.net.3"),
    *_both("root_head", "smpl_head.decpose_grot"),
    *_both("hands_head", "smpl_head.decpose_hands"),
    *_both("shape_head", "smpl_head.decshape"),
    *_both("camera_head", "smpl_head.deccam"),
    *_both("token_head.project_in", "smpl_head.decpose.mixer_trans.ff.0"),
    *_both("token_head.norm_in", "smpl_head.decpose.mixer_trans.ff.1"),
    *_both(f"{_MIXER}.token_norm", f"{_MIX}.layernorm1"),
    *_both(f"{_MIXER}.token_expand", f"{_MIX}.MLP_token.ff.0"),
    *_both(f"{_MIXER}.token_contract", f"{_MIX}.MLP_token.ff.3"),
    *_both(f"{_MIXER}.channel_norm", f"{_MIX}.layernorm2"),
    *_both(f"{_MIXER}.channel_expand", f"{_MIX}.MLP_channel.ff.0"),
    *_both(f"{_MIXER}.channel_contract", f"{_MIX}.MLP_channel.ff.3"),
    *_both("token_head.project_out", "smpl_head.decpose.mixer_norm_layer.ff.0"),
    *_both("token_head.norm_out", "smpl_head.decpose.mixer_norm_layer.ff.1"),
    *_both("token_head.classify", "smpl_head.decpose.class_pred_layer"),
    Rename("token_decoder.codebook", ("tokenizer.quantizer.codebook",)),
    *_both("token_decoder.conv_in", f"{_TOK}.0"),
    *(line for step in range(4) for line in _both(f"token_decoder.convs.{step}", f"{_TOK}.{3 * step + 3}")),
    *_both("token_decoder.blocks.{}.conv1", _TOK + ".14.0.model.{}.conv1"),
    *_both("token_decoder.blocks.{}.conv2", _TOK + ".14.0.model.{}.conv2"),
    *_both("token_decoder.conv_middle", f"{_TOK}.14.1"),
    *_both("token_decoder.conv_out", f"{_TOK}.15"),
    Rename("mean_pose", ("means.pose",)),
    Rename("mean_shape", ("means.shape",)),
    Rename("mean_camera", ("means.cam",)),
]


def config_of(tensors: Mapping[str, Tensor], changes: Mapping[str, Any] | None = None) -> TokenHMRConfig:
    """Return the configuration that the tensors' shapes tell; the rest of it is as released, or as in `changes`.

    Raises:
        CheckpointError: `tensors` are no TokenHMR, or `changes` are none of its settings.
    """

    def count(pattern: str) -> int:
        return len({match[1] for name in tensors if (match := re.match(pattern, name))})

    size = partial(size_of, tensors, "TokenHMR")

    def width(name: str) -> int:
        """Return the size of a layer's output."""
        return size((f"{name}.weight", 0), (f"{name}.bias", 0))

    try:
        hidden = size(("backbone.pos_embed", 2), ("backbone.last_norm.weight", 0))
        mixer = width("smpl_head.decpose.mixer_norm_layer.ff.0")
        inner = size((f"{_DEC.format(0)}.1.fn.to_q.weight", 0), (f"{_DEC.format(0)}.0.fn.to_out.0.weight", 1))
        sizes: dict[str, Any] = {
            "backbone_config": {
                "hidden_size": hidden,
                "num_hidden_layers": count(r"backbone\.blocks\.(\d+)\."),
                "num_attention_heads": RELEASED_HEADS,
                "mlp_ratio": width(f"{_VIT.format(0)}.mlp.fc1") // hidden,
            },
            "decoder_hidden_size": width(f"{_DEC.format(0)}.2.fn.net.3"),
            "decoder_layers": count(r"smpl_head\.transformer\.transformer\.layers\.(\d+)\."),
            "decoder_intermediate_size": width(f"{_DEC.format(0)}.2.fn.net.0"),
            "num_tokens": width("smpl_head.decpose.mixer_trans.ff.0") // mixer,
            "num_classes": size(("tokenizer.quantizer.codebook", 0), ("smpl_head.decpose.class_pred_layer.bias", 0)),
            "token_size": size_of(
                tensors, "TokenHMR tokenizer", ("tokenizer.quantizer.codebook", 1), (f"{_TOK}.0.weight", 1)
            ),
            "mixer_layers": count(r"smpl_head\.decpose\.mixer_head\.(\d+)\."),
            "mixer_size": mixer,
            "mixer_token_size": width(f"{_MIX.format(0)}.MLP_token.ff.0"),
            "mixer_channel_size": width(f"{_MIX.format(0)}.MLP_channel.ff.0"),
            "tokenizer_size": width(f"{_TOK}.0"),
            "num_betas": width("smpl_head.decshape"),
        }
    except ZeroDivisionError as error:
        raise CheckpointError("the sizes make no TokenHMR: a tensor is empty") from error
    changes = dict(changes or {})
    backbone = changes.pop("backbone_config", {})
    if not isinstance(backbone, Mapping):
        raise CheckpointError(f"backbone_config must be an object of settings, got {backbone!r}")
    # The configurations themselves take any name, and ignore it.
    unknown = [name for name in changes if name not in TokenHMRConfig.__annotations__]
    unknown += [f"backbone_config.{name}" for name in backbone if name not in VitPoseBackboneConfig.__annotations__]
    if unknown:
        raise CheckpointError(f"TokenHMRConfig has no {', '.join(unknown)}")
    for name, value in changes.items():
        if type(value) is not int or value < 1:
            raise CheckpointError(f"{name} must be a whole number from 1 up, got {value!r}")
    sizes |= changes
    sizes["backbone_config"] |= backbone
    heads = sizes.get("decoder_heads", TokenHMRConfig.decoder_heads)
    if inner % heads:
        raise CheckpointError(f"decoder_heads {heads} do not divide the attention's width {inner}")
    sizes.setdefault("decoder_head_size", inner // heads)
    try:
        return TokenHMRConfig(**sizes)
    except _BAD_SETTING as error:
        raise CheckpointError(f"the sizes make no TokenHMR: {one_line(error)}") from error


def convert_tokenhmr(
    checkpoint: Path, tokenizer: Path, mean_parameters: Path, config: Path | None = None
) -> TokenHMRForHumanMeshRecovery:
    """Return the model of the released files, and warn of sizes that are none of the released ones.

    The checkpoint has the mean parameters, too, which the released code takes from SMPL's file; so does this, with a
    warning where they differ.

    Args:
        checkpoint: the network, a Lightning file.
        tokenizer: the tokenizer's own file, whose decoder and codes the network uses.
        mean_parameters: SMPL's mean parameters, a `.npz` of `pose` (144), `shape` and `cam`.
        config: a JSON file of settings of `TokenHMRConfig` that are not as released and that no shape tells.

    Raises:
        CheckpointError: tensors are missing, not expected or misshapen; or a file is unsafe or another one.
    """
    tensors = load_tensors(checkpoint, ANCHORS)
    tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(IGNORED)}
    parts = load_tensors(tokenizer, TOKENIZER_ANCHORS, holders=("net", *HOLDERS))
    used = ("decoder.decoder.", "quantizer.codebook")
    tensors |= {f"tokenizer.{name}": tensor for name, tensor in parts.items() if name.startswith(used)}
    means = load_tensors(mean_parameters)
    missing = [name for name in ("pose", "shape", "cam") if name not in means]
    if missing:
        reason = f"it has no {', '.join(missing)}: it is no file of SMPL's mean parameters"
        raise CheckpointError(reason, path=mean_parameters)
    differing = []
    for name, theirs in (("pose", "init_body_pose"), ("shape", "init_betas"), ("cam", "init_cam")):
        mean = tensors[f"means.{name}"] = means[name].flatten()
        own = tensors.pop(f"smpl_head.{theirs}", mean).flatten().float()
        if own.shape != mean.shape or not torch.allclose(own, mean, atol=1e-4):
            differing.append(name)
    if differing:
        warnings.warn(
            f"{', '.join(differing)} in {mean_parameters} differ from the checkpoint's own: are they SMPL's? They are "
            f"used all the same",
            stacklevel=2,
        )
    settings = config_of(tensors, _settings(config))
    try:
        model = build_model(TokenHMRForHumanMeshRecovery, settings, tensors, TABLE)
    except CheckpointError:
        raise
    except _BAD_SETTING as error:
        raise CheckpointError(f"the sizes make no TokenHMR: {one_line(error)}") from error
    warn_unless_released(settings, (TokenHMRConfig(),), SIZES)
    return model


def _settings(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        values = read_json(path)
    except FileLimitError as error:
        raise CheckpointError(error.reason, path=path) from error
    if not isinstance(values, dict):
        raise CheckpointError('must be an object of settings, as {"decoder_heads": 8}', path=path)
    return values
