"""Configuration of LocoTrack (Cho et al., ECCV 2024, arXiv 2407.15420)."""

from transformers import PreTrainedConfig


class LocoTrackConfig(PreTrainedConfig):
    """Sizes and settings of a LocoTrack model; the defaults are the released size *base*.

    Args:
        stage_channels: Channels of the backbone's four stages, at strides 2, 4, 8 and 8. Stages 1, 2 and 4 are
            the fine, middle and coarse features that are tracked on.
        stage_blocks: Residual blocks of each stage.
        hidden_size, num_hidden_layers, num_attention_heads: Of the temporal transformer. Half the heads look
            back in time and half ahead, so their number is even.
        correlation_channels, correlation_kernels, correlation_strides: Convolutions that encode a local 4D
            correlation, one entry a layer; channels are multiples of 16.
        support_radius: Grid cells around the query, and around the guess, that are correlated with each other.
        num_iterations: Refinement steps.
        initial_resolution: (height, width) that coordinates are refined in, and smallest refinement resolution.
        flow_start: Start the refinement from chained optical flow (FlowChain) where flow and the flow back agree, and
            from the peak of the correlation elsewhere. For small models; needs this package, not only the model's code.
        flow_color_change: Flow is followed no further than to the first step in which it fails, or in which the colors
            around the point change by more than this (mean absolute difference of 8-bit CIELAB): from there on it may
            follow what hides the point. None: flow counts again where it agrees again.
        search_support: The first guess compares all positions around the query with those around each cell, on the
            grids of the refinement, instead of one position on those of `initial_resolution`.
        search_spread: Where flow has lost a point, the peak of the correlation counts less the farther it is both from
            where flow last had the point and from where flow leads nevertheless: half of `search_weight` less so many
            cells away for each frame since then. (A cell has 4 pixels of the resolution searched.) None: it counts the
            same in the whole frame.
        search_weight: How much less it counts far away, in units of the correlation.
        softmax_temperature, soft_argmax_radius: Of the peak found in the first, global cost volume.
        visible_threshold: A point counts as visible where the probability that it is neither occluded nor uncertain is
            above it. A small model is often uncertain: the released 0.5 then hides too much.
        query_chunk_size: Queries worked on at once; bounds memory, changes no result.
        frame_chunk_size: Frames that the backbone and the correlations work on at once; likewise.
        window_size: Frames whose features are held at once (7 MB each at 256 x 256); longer videos are gone through
            in windows of that length.
        window_context: Frames of a window before and after those that are kept from it. Attention falls off with
            the distance in time, in the slowest head of the released models by e^-0.042 a frame.
    """

    model_type = "locotrack"

    stage_channels: list[int] | tuple[int, ...] = (64, 128, 256, 256)
    stage_blocks: list[int] | tuple[int, ...] = (2, 2, 2, 2)
    hidden_size: int = 384
    num_hidden_layers: int = 3
    num_attention_heads: int = 6
    correlation_channels: list[int] | tuple[int, ...] = (64, 128, 128)
    correlation_kernels: list[int] | tuple[int, ...] = (3, 3, 2)
    correlation_strides: list[int] | tuple[int, ...] = (2, 2, 2)
    support_radius: int = 3
    num_iterations: int = 4
    initial_resolution: list[int] | tuple[int, ...] = (256, 256)
    flow_start: bool = False
    flow_color_change: float | None = None
    search_support: bool = False
    search_spread: float | None = None
    search_weight: float = 1.0
    softmax_temperature: float = 20.0
    soft_argmax_radius: float = 5.0
    visible_threshold: float = 0.5
    query_chunk_size: int = 64
    frame_chunk_size: int = 8
    window_size: int = 384
    window_context: int = 64

    def __post_init__(self, **kwargs):
        # Saved pipelines name their code; where this class is the installed one, so is the pipeline.
        if not type(self).__module__.startswith("transformers_modules"):
            kwargs.pop("custom_pipelines", None)
            kwargs.pop("auto_map", None)
        super().__post_init__(**kwargs)
        if len(self.stage_channels) != 4 or len(self.stage_blocks) != 4:
            raise ValueError("stage_channels and stage_blocks need four entries, one a stage")
        layers = {
            len(self.correlation_channels),
            len(self.correlation_kernels),
            len(self.correlation_strides),
        }
        if len(layers) != 1 or 0 in layers:
            raise ValueError("correlation_channels, _kernels and _strides need one entry a layer each")
        if any(channels % 16 for channels in self.correlation_channels):
            raise ValueError(f"correlation_channels must be multiples of 16, got {self.correlation_channels}")
        if self.num_attention_heads % 2 or self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads must be even and divide hidden_size, "
                f"got {self.num_attention_heads} heads for size {self.hidden_size}"
            )
        if any(side % 8 or side < 16 for side in self.initial_resolution):
            raise ValueError(f"initial_resolution must be multiples of 8 from 16 up, got {self.initial_resolution}")
        if not (self.soft_argmax_radius > 0 and self.softmax_temperature > 0):
            raise ValueError("soft_argmax_radius and softmax_temperature must be above 0")
        if any(limit is not None and not limit > 0 for limit in (self.flow_color_change, self.search_spread)):
            raise ValueError(
                f"flow_color_change and search_spread must be above 0, or None, "
                f"got {self.flow_color_change} and {self.search_spread}"
            )
        if (self.flow_color_change is not None or self.search_spread is not None) and not self.flow_start:
            raise ValueError("flow_color_change and search_spread need flow_start")
        if not 0 < self.visible_threshold < 1:
            raise ValueError(f"visible_threshold must be within 0 to 1, got {self.visible_threshold}")
        if self.support_radius < 1:
            raise ValueError(f"support_radius must be at least 1, got {self.support_radius}")
        if min(self.num_iterations, self.query_chunk_size, self.frame_chunk_size) < 1:
            raise ValueError("num_iterations, query_chunk_size and frame_chunk_size must be at least 1")
        if not 0 <= 2 * self.window_context < self.window_size:
            raise ValueError(
                f"window_size must be more than twice window_context, got {self.window_size} and {self.window_context}"
            )


__all__ = ["LocoTrackConfig"]
