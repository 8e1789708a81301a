"""Configuration of TokenHMR (Dwivedi et al., CVPR 2024, arXiv 2404.16752)."""

from typing import Any

from transformers import PreTrainedConfig


class TokenHMRConfig(PreTrainedConfig):
    """Sizes of a TokenHMR model; the defaults are the released ones.

    Args:
        image_size: Side of the square crop. The backbone sees three quarters of its width.
        backbone_config: Of the backbone, a `VitPoseBackboneConfig` or its values; ViT-H if left out.
        decoder_hidden_size, decoder_layers, decoder_heads, decoder_head_size, decoder_intermediate_size: Of the
            transformer that reads the backbone's tokens.
        num_tokens, num_classes, token_size: How many tokens make a body's pose, how many kinds of them there are, and
            the length of each kind's code.
        mixer_layers, mixer_size, mixer_token_size, mixer_channel_size: Of the mixer that predicts tokens.
        tokenizer_size: Width of the convolutions that turn tokens into joints.
        num_joints: Joints that tokens tell of: SMPL's without root and hands.
        num_betas: Shape coefficients.
    """

    model_type = "tokenhmr"

    image_size: int = 256
    backbone_config: Any = None
    decoder_hidden_size: int = 1024
    decoder_layers: int = 6
    decoder_heads: int = 8
    decoder_head_size: int = 64
    decoder_intermediate_size: int = 1024
    num_tokens: int = 160
    num_classes: int = 2048
    token_size: int = 256
    mixer_layers: int = 4
    mixer_size: int = 64
    mixer_token_size: int = 64
    mixer_channel_size: int = 256
    tokenizer_size: int = 512
    num_joints: int = 21
    num_betas: int = 10

    def __post_init__(self, **kwargs):
        from transformers import VitPoseBackboneConfig

        given = self.backbone_config
        if given is None:
            given = {"hidden_size": 1280, "num_hidden_layers": 32, "num_attention_heads": 16}
        if isinstance(given, dict):
            given = {name: value for name, value in given.items() if name != "model_type"}
            given = VitPoseBackboneConfig(
                **{"image_size": [self.image_size, self.image_size * 3 // 4], "layer_norm_eps": 1e-6} | given
            )
        self.backbone_config = given
        super().__post_init__(**kwargs)
        if self.image_size % 8 or self.image_size < 32:
            raise ValueError(f"image_size must be a multiple of 8 from 32 up, got {self.image_size}")
        if self.num_tokens <= self.num_joints:
            raise ValueError(f"num_tokens must be more than the {self.num_joints} joints, got {self.num_tokens}")


__all__ = ["TokenHMRConfig"]
