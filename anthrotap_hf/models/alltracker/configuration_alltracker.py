"""Configuration of AllTracker (Harley et al., ICCV 2025, arXiv 2506.07310)."""

from typing import Literal

from transformers import PreTrainedConfig


class AllTrackerConfig(PreTrainedConfig):
    """Sizes and settings of an AllTracker model; the defaults are the released full size.

    Args:
        resolution: (height, width) that videos are brought to by default, as in the released evaluation. Frames of any
            size are taken, and larger ones are tracked more exactly.
        encoder: "convnext" (full) or "residual" (tiny). The former's features are split: one half starts the hidden
            state, the other is context; the latter's are both.
        encoder_channels: Of the encoder's stages: three of the one, four of the other.
        encoder_blocks: Blocks of each stage.
        feature_size: Channels of the features that are correlated, at stride 8.
        window_size: Frames that are refined at once; windows overlap by half.
        num_levels: Levels of the pyramid of features, each half as large as the one before.
        support_radius: Cells around the guess that are looked up.
        hidden_size, num_attention_heads: Of the refinement.
        num_layers: Pairs of a layer over time and one over space.
        num_iterations: Refinement steps.
        visible_threshold: A point counts as visible where the probability of that times the confidence is above it.
        first_window_counts: Of a frame in two windows, keep what the first one gave, as the released demo and long
            evaluations do, instead of the second.
        released_readout: Read the flow at the nearest pixel of a query instead of between pixels, and where only two
            frames are left show the answer for the second one in both, as the released evaluation does.
        frame_chunk_size: Frames that encoder and convolutions work on at once; bounds memory, changes no result.
        feature_cache_size: Frames whose features are held; those of longer videos are computed again for each query
            frame.
        correlation_megabytes: Memory for the correlations of a window. Where they need more, as in large frames, they
            are computed again in each step.
    """

    model_type = "alltracker"

    resolution: list[int] | tuple[int, ...] = (384, 512)
    encoder: Literal["convnext", "residual"] = "convnext"
    encoder_channels: list[int] | tuple[int, ...] = (96, 192, 384)
    encoder_blocks: list[int] | tuple[int, ...] = (3, 3, 9)
    feature_size: int = 256
    window_size: int = 16
    num_levels: int = 5
    support_radius: int = 4
    hidden_size: int = 128
    num_layers: int = 3
    num_attention_heads: int = 8
    num_iterations: int = 4
    visible_threshold: float = 0.6
    first_window_counts: bool = False
    released_readout: bool = False
    frame_chunk_size: int = 8
    feature_cache_size: int = 256
    correlation_megabytes: int = 1024

    def __post_init__(self, **kwargs):
        # Saved pipelines name their code; where this class is the installed one, so is the pipeline.
        if not type(self).__module__.startswith("transformers_modules"):
            kwargs.pop("custom_pipelines", None)
            kwargs.pop("auto_map", None)
        super().__post_init__(**kwargs)
        stages = {"convnext": 3, "residual": 4}.get(self.encoder)
        if stages is None:
            raise ValueError(f"encoder must be convnext or residual, got {self.encoder!r}")
        if len(self.encoder_channels) != stages or len(self.encoder_blocks) != stages:
            raise ValueError(f"encoder_channels and encoder_blocks need {stages} entries, one a stage")
        if self.feature_size != self.hidden_size * (2 if self.encoder == "convnext" else 1):
            raise ValueError(
                f"feature_size must be hidden_size, or twice that with the convnext encoder, got {self.feature_size}"
            )
        if self.hidden_size % self.num_attention_heads or self.hidden_size % 2:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} must divide hidden_size {self.hidden_size}, "
                "which must be even"
            )
        if self.window_size < 2 or self.window_size % 2:
            raise ValueError(f"window_size must be even and at least 2, got {self.window_size}")
        if self.feature_cache_size < self.window_size:
            raise ValueError("feature_cache_size must be at least window_size")
        if not 0 < self.visible_threshold < 1:
            raise ValueError(f"visible_threshold must be within 0 to 1, got {self.visible_threshold}")
        names = ("num_levels", "support_radius", "num_layers", "num_iterations", "frame_chunk_size")
        if min(getattr(self, name) for name in names) < 1:
            raise ValueError(f"{', '.join(names)} must be at least 1")
        if self.num_levels > 5:
            raise ValueError(f"num_levels must be at most 5, down to one cell, got {self.num_levels}")


__all__ = ["AllTrackerConfig"]
