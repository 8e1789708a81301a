"""Configuration of TAPIR (Doersch et al., ICCV 2023, arXiv 2306.08637) and BootsTAPIR (arXiv 2402.00847)."""

from transformers import PreTrainedConfig


class TAPIRConfig(PreTrainedConfig):
    """Sizes and settings of a TAPIR model; the defaults are the released TAPIR.

    BootsTAPIR has `pyramid_level=1` and `num_extra_blocks=5`.

    Args:
        causal: Whether the mixer looks back in time only, so that a video can be tracked frame by frame. Causal weights
            have the same shapes as the others: nothing in them says which they are.
        stage_channels: Channels of the backbone's four stages, at strides 2, 4, 8 and 8. Stages 2 and 4 are the fine
            and the coarse features that are tracked on.
        stage_blocks: Residual blocks of each stage.
        num_extra_blocks, extra_channels: Convolutional blocks on the coarse features, and channels inside of them.
        pyramid_level: How often the coarse features are halved for further, coarser correlations.
        patch_radius: Grid cells on either side of the guess that are correlated with the query.
        cost_channels: Hidden sizes of the first guess: of its convolution, of the one for its logits, of their layer.
        hidden_size, num_hidden_layers, expansion: Of the mixer over time.
        num_iterations: Refinement steps at each resolution.
        initial_resolution: (height, width) of the first guess, and of the pixels that points are refined in.
        softmax_temperature, soft_argmax_radius: Of the peak found in the first, global cost volume; the radius is in
            grid cells.
        released_patches: Do as the released PyTorch code does where features are not square: it divides x by the
            grid's height, and so looks beside the guess. The JAX code, and this model by default, do not.
        query_chunk_size: Queries worked on at once; bounds memory, changes no result. Fewer are taken of long videos.
        frame_chunk_size: Frames that the backbone and the correlations work on at once; likewise.
        window_size: Frames whose features are held at once (3 MB each at 256 x 256); longer videos are gone through
            in windows of that length.
        window_context: Frames of a window before and after those that are kept from it. Each refinement step sees 24
            frames to either side (with causal weights 48 before): 96 is exact for four steps at one resolution.
    """

    model_type = "tapir"

    causal: bool = False
    stage_channels: list[int] | tuple[int, ...] = (64, 128, 256, 256)
    stage_blocks: list[int] | tuple[int, ...] = (2, 2, 2, 2)
    num_extra_blocks: int = 0
    extra_channels: int = 1024
    pyramid_level: int = 0
    patch_radius: int = 3
    cost_channels: list[int] | tuple[int, ...] = (16, 32, 16)
    hidden_size: int = 512
    num_hidden_layers: int = 12
    expansion: int = 4
    num_iterations: int = 4
    initial_resolution: list[int] | tuple[int, ...] = (256, 256)
    softmax_temperature: float = 20.0
    soft_argmax_radius: float = 5.0
    released_patches: bool = False
    query_chunk_size: int = 64
    frame_chunk_size: int = 8
    window_size: int = 384
    window_context: int = 96

    def __post_init__(self, **kwargs):
        # Saved pipelines name their code; where this class is the installed one, so is the pipeline.
        if not type(self).__module__.startswith("transformers_modules"):
            kwargs.pop("custom_pipelines", None)
            kwargs.pop("auto_map", None)
        super().__post_init__(**kwargs)
        if len(self.stage_channels) != 4 or len(self.stage_blocks) != 4:
            raise ValueError("stage_channels and stage_blocks need four entries, one a stage")
        if len(self.cost_channels) != 3:
            raise ValueError(f"cost_channels needs three entries, got {self.cost_channels}")
        least = max(16, 8 << max(self.pyramid_level, 0))
        if any(side % 8 or side < least for side in self.initial_resolution):
            raise ValueError(
                f"initial_resolution must be multiples of 8 from {least} up, got {self.initial_resolution}"
            )
        if not (self.soft_argmax_radius > 0 and self.softmax_temperature > 0):
            raise ValueError("soft_argmax_radius and softmax_temperature must be above 0")
        if min(self.num_extra_blocks, self.pyramid_level) < 0:
            raise ValueError("num_extra_blocks and pyramid_level must be at least 0")
        sizes = (self.patch_radius, self.num_hidden_layers, self.expansion, self.num_iterations)
        if min(*sizes, self.query_chunk_size, self.frame_chunk_size) < 1:
            raise ValueError(
                "patch_radius, num_hidden_layers, expansion, num_iterations, query_chunk_size and frame_chunk_size "
                "must be at least 1"
            )
        if not 0 <= 2 * self.window_context < self.window_size:
            raise ValueError(
                f"window_size must be more than twice window_context, got {self.window_size} and {self.window_context}"
            )


__all__ = ["TAPIRConfig"]
