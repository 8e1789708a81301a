"""Configuration of TAPNext (Zholus et al., ICCV 2025, arXiv 2504.05579)."""

from transformers import PreTrainedConfig


class TAPNextConfig(PreTrainedConfig):
    """Sizes and settings of a TAPNext model; the defaults are the released size.

    Args:
        image_size: Side of the square frames that the model was trained on, pixels; also the number of bins of
            each coordinate. Frames of other sizes are taken too: positions are scaled.
        patch_size: Side of the patches that frames are cut into, pixels.
        hidden_size, num_hidden_layers, num_attention_heads: Of the blocks; each has a recurrence over time and
            attention within a frame.
        recurrent_size: Channels of the recurrence.
        conv_width: Frames that the causal convolution before the recurrence sees.
        head_hidden_size: Of the two prediction heads.
        softmax_scale, soft_argmax_radius: Factor on coordinate logits, and bins counted on either side of their
            peak.
        frame_size: Side of the square frames that the pipeline gives the model, where it is not `image_size`: 512 for
            TAPNext++ of that resolution. Bins stay `image_size`, so that positions are as coarse as ever; patches are
            more.
        support_points: Points that the pipeline tracks around each query unless told otherwise, and drops: queries
            attend to each other. TAPNext++ gained by 64.
        certainty_radius: Bins around the predicted point whose probability is its certainty.
        frame_chunk_size: Frames worked on at once; bounds memory, changes no result.
    """

    model_type = "tapnext"

    image_size: int = 256
    patch_size: int = 8
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    recurrent_size: int = 768
    conv_width: int = 4
    head_hidden_size: int = 256
    softmax_scale: float = 0.5
    soft_argmax_radius: int = 20
    frame_size: int | None = None
    support_points: int = 0
    certainty_radius: int = 8
    frame_chunk_size: int = 4

    def __post_init__(self, **kwargs):
        # Saved pipelines name their code; where this class is the installed one, so is the pipeline.
        if not type(self).__module__.startswith("transformers_modules"):
            kwargs.pop("custom_pipelines", None)
            kwargs.pop("auto_map", None)
        super().__post_init__(**kwargs)
        if self.image_size % self.patch_size:
            raise ValueError(f"patch_size {self.patch_size} must divide image_size {self.image_size}")
        if self.hidden_size % self.num_attention_heads or self.recurrent_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} must divide hidden_size {self.hidden_size} "
                f"and recurrent_size {self.recurrent_size}"
            )
        if self.frame_size is not None and (self.frame_size < 1 or self.frame_size % self.patch_size):
            raise ValueError(f"patch_size {self.patch_size} must divide frame_size {self.frame_size}")
        if self.support_points < 0 or self.certainty_radius < 1:
            raise ValueError("support_points must be at least 0 and certainty_radius at least 1")
        if self.hidden_size % 4:
            raise ValueError(f"hidden_size must be a multiple of 4, got {self.hidden_size}")
        if self.soft_argmax_radius < 0 or not self.softmax_scale > 0:
            raise ValueError("soft_argmax_radius must be at least 0 and softmax_scale above 0")
        if min(self.num_hidden_layers, self.conv_width - 1, self.frame_chunk_size) < 1:
            raise ValueError("num_hidden_layers and frame_chunk_size must be at least 1, conv_width at least 2")


__all__ = ["TAPNextConfig"]
