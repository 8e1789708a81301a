"""Configuration of FlowChain, the tracker without weights."""

from transformers import PreTrainedConfig

PRESETS = ("ultrafast", "fast", "medium")


class FlowChainConfig(PreTrainedConfig):
    """Settings of a FlowChain tracker.

    Args:
        shortest_edge: Size that videos are brought to before, pixels (larger ones only): read by the image
            processor. The tolerances below are meant for it.
        preset: How hard DIS works: "ultrafast", "fast" or "medium".
        error_tolerance: A step of flow and its way back may miss the start by this many pixels. (This and the
            memory were chosen on rendered clips, by average Jaccard.)
        relative_tolerance: And by this fraction of the step's length.
        max_color_change: The surroundings of a point may change in a step by this much (mean absolute difference of
            8-bit CIELAB): more, and something has passed in front of it. None: no limit.
        error_memory: Fraction of a point's error that it carries on to the next frame: 0 forgets at once, 1 never
            takes a point back that was lost.
        error_limit: Bound on that error, in tolerances: how long a lost point stays lost at most.
        kept_flows: Pairs of frames whose flow is remembered (8 bytes a pixel), where queries need it in both
            directions of time; bounds memory, changes no result.
    """

    model_type = "flowchain"

    shortest_edge: int = 480
    preset: str = "medium"
    error_tolerance: float = 3.0
    relative_tolerance: float = 0.1
    max_color_change: float | None = None
    error_memory: float = 0.8
    error_limit: float = 4.0
    kept_flows: int = 64

    def __post_init__(self, **kwargs):
        # Saved pipelines name their code; where this class is the installed one, so is the pipeline.
        if not type(self).__module__.startswith("transformers_modules"):
            kwargs.pop("custom_pipelines", None)
            kwargs.pop("auto_map", None)
        super().__post_init__(**kwargs)
        if self.preset not in PRESETS:
            raise ValueError(f"no preset {self.preset!r}: choose from {', '.join(PRESETS)}")
        if not (self.error_tolerance > 0 and self.relative_tolerance >= 0 and self.error_limit > 1):
            raise ValueError("error_tolerance must be above 0, relative_tolerance at least 0 and error_limit above 1")
        if self.max_color_change is not None and not self.max_color_change > 0:
            raise ValueError(f"max_color_change must be above 0, or None for no limit, got {self.max_color_change}")
        if not 0 <= self.error_memory <= 1:
            raise ValueError(f"error_memory must be within 0 to 1, got {self.error_memory}")
        if self.kept_flows < 1 or self.shortest_edge < 16:
            raise ValueError("kept_flows must be at least 1 and shortest_edge at least 16")


__all__ = ["FlowChainConfig"]
