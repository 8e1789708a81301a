"""Configuration of CoTracker3 (Karaev et al., 2024, arXiv 2410.11831)."""

from transformers import PreTrainedConfig


class CoTracker3Config(PreTrainedConfig):
    """Sizes and settings of a CoTracker3 model; the defaults are the released offline model.

    Args:
        resolution: (height, width) that the model was trained at; motion is measured in it.
        online: Whether the model works in windows that overlap by half, forward in time. Otherwise the whole clip is
            one window.
        window_size: Frames of a window; offline, frames of the longest training clips. The time embedding has one
            row a frame, which is resized for clips of another length.
        stage_channels: Channels of the backbone's four stages, at strides 2, 4, 8 and 16.
        feature_size: Channels of the features that are correlated, at stride 4.
        num_levels: Levels of the pyramid of features, each half as large as the one before.
        support_radius: Grid cells around the query, and around the guess, that are correlated with each other.
        correlation_hidden_size, correlation_size: Of the perceptron that encodes the correlations of one level.
        hidden_size, num_hidden_layers, num_attention_heads: Of the transformer.
        num_virtual_tracks: Learned tracks by which the points attend to each other.
        num_iterations: Refinement steps.
        support_grid_size: n x n points of the first frame that are tracked along and dropped; 0 for none.
        confidence_counts: Whether the probability of being visible is multiplied by the confidence before it is
            compared with `visible_threshold`, as in the released evaluation. The released offline predictor does not
            and has a threshold of 0.9.
        visible_threshold: A point counts as visible where that is above it.
        attend_to_unseen: Online: let queries of coming frames take part, as in the released code, which so disturbs
            the other points. Without, they wait for the window of their frame.
        query_chunk_size: Queries whose correlations are worked on at once; bounds memory, changes no result.
        frame_chunk_size: Frames that the backbone and the correlations work on at once; likewise.
    """

    model_type = "cotracker3"

    resolution: list[int] | tuple[int, ...] = (384, 512)
    online: bool = False
    window_size: int = 60
    stage_channels: list[int] | tuple[int, ...] = (64, 96, 128, 128)
    feature_size: int = 128
    num_levels: int = 4
    support_radius: int = 3
    correlation_hidden_size: int = 384
    correlation_size: int = 256
    hidden_size: int = 384
    num_hidden_layers: int = 3
    num_attention_heads: int = 8
    num_virtual_tracks: int = 64
    num_iterations: int = 6
    support_grid_size: int = 6
    confidence_counts: bool = True
    visible_threshold: float = 0.6
    attend_to_unseen: bool = False
    query_chunk_size: int = 64
    frame_chunk_size: int = 8

    def __post_init__(self, **kwargs):
        # Saved pipelines name their code; where this class is the installed one, so is the pipeline.
        if not type(self).__module__.startswith("transformers_modules"):
            kwargs.pop("custom_pipelines", None)
            kwargs.pop("auto_map", None)
        super().__post_init__(**kwargs)
        if len(self.stage_channels) != 4:
            raise ValueError("stage_channels needs four entries, one a stage")
        if any(side % 4 or side < 2 ** (self.num_levels + 1) for side in self.resolution):
            raise ValueError(
                f"resolution must be multiples of 4 that leave a cell at each level, got {self.resolution}"
            )
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"num_attention_heads {self.num_attention_heads} must divide hidden_size {self.hidden_size}"
            )
        if self.window_size < 2 or self.window_size % 2:
            raise ValueError(f"window_size must be even and at least 2, got {self.window_size}")
        if self.correlation_size * self.num_levels % 2:
            raise ValueError("correlation_size times num_levels must be even")
        if not 0 < self.visible_threshold < 1:
            raise ValueError(f"visible_threshold must be within 0 to 1, got {self.visible_threshold}")
        if self.support_radius < 1 or self.support_grid_size < 0:
            raise ValueError("support_radius must be at least 1 and support_grid_size at least 0")
        counts = {
            name: getattr(self, name)
            for name in ("num_levels", "num_virtual_tracks", "num_iterations", "query_chunk_size", "frame_chunk_size")
        }
        if min(counts.values()) < 1:
            raise ValueError(f"{', '.join(counts)} must be at least 1, got {list(counts.values())}")


__all__ = ["CoTracker3Config"]
