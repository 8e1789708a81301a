"""ONNX: a LocoTrack model, LocoTrack-tiny too, as a graph that onnxruntime and others run without PyTorch."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from anthrotap_hf.utils.atomic_files import atomic_write
from anthrotap_hf.utils.errors import AnthroTapError

if TYPE_CHECKING:
    from anthrotap_hf.models.locotrack.modeling_locotrack import LocoTrackForPointTracking

SUFFIX = ".onnx"
OPSET = 18


class _Graph(nn.Module):
    """What `LocoTrackForPointTracking` computes of a clip that is one window, without its checks of values."""

    def __init__(self, model: LocoTrackForPointTracking, num_frames: int, size: tuple[int, int]) -> None:
        from anthrotap_hf.models.locotrack.modeling_locotrack import default_resolutions

        super().__init__()
        self.model = model
        self.num_frames = num_frames
        # Sizes of a traced tensor are tensors too, of which no plan can be made.
        self.resolutions = default_resolutions(size, model.config.initial_resolution)

    def forward(self, video: Tensor, query_points: Tensor, *start: Tensor) -> tuple[Tensor, Tensor]:
        from anthrotap_hf.models.locotrack.modeling_locotrack import visible_logits

        model, frames = self.model, self.num_frames
        features = model.get_video_features(video, self.resolutions, frames)
        supports = model._query_features(features, query_points)
        flow = (start[0], start[1]) if start else None
        tracks, occlusion, uncertainty = model._track(features, supports, query_points, 0, frames, flow)
        threshold = model.config.visible_threshold
        logits = visible_logits(occlusion[-1], uncertainty[-1]) - math.log(threshold / (1 - threshold))
        return tracks[-1], logits


def export_onnx(model: nn.Module, path: Path, *, num_frames: int, height: int, width: int) -> list[str]:
    """Write a LocoTrack model as an ONNX graph for clips of one length and size, and any number of queries.

    Its inputs, all float32, are `video` [1, T, 3, H, W] in [-1, 1] and `query_points` [1, N, 3] (t, x, y) in the
    video's pixels; its outputs `tracks` [1, N, T, 2] xy and `visible_logits` [1, N, T], positive where visible. A model
    that starts from optical flow (LocoTrack-tiny) has two more inputs, since OpenCV computes them and no graph can:
    `start_tracks` [1, N, T, 2] and `start_visible` [1, N, T], as `models.locotrack.modeling_locotrack.follow_flow`
    gives them with the configuration's `flow_color_change`.

    Returns:
        The names of the inputs.

    Raises:
        AnthroTapError: for a tracker of another architecture, a size that is no multiple of 8, or another suffix.
    """
    from anthrotap_hf.models.locotrack.modeling_locotrack import LocoTrackForPointTracking

    if not isinstance(model, LocoTrackForPointTracking):
        kind = type(model).__name__.removesuffix("ForPointTracking")
        raise AnthroTapError(f"only LocoTrack models are exported to ONNX, not {kind}", argument="format")
    if path.suffix != SUFFIX:
        raise AnthroTapError(f"a file of format onnx ends in {SUFFIX}", path=path)
    if height % 8 or width % 8 or min(height, width) < 16 or num_frames < 1:
        reason = f"must be multiples of 8 from 16 up, got {height}x{width}"
        raise AnthroTapError(reason, argument="resolution")
    model.float().eval().cpu()
    # Two queries stand for any number: the graph's size does not depend on it.
    arrays = [torch.zeros(1, num_frames, 3, height, width), torch.tensor([[[0, 8.0, 8], [0, 9, 8]]])]
    names = ["video", "query_points"]
    if model.config.flow_start:
        arrays += [torch.zeros(1, 2, num_frames, 2), torch.zeros(1, 2, num_frames)]
        names += ["start_tracks", "start_visible"]
    outputs = ["tracks", "visible_logits"]
    with atomic_write(path) as tmp_path, warnings.catch_warnings(), torch.no_grad():
        # Tracing warns of what is the same for all clips of this size.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            _Graph(model, num_frames, (height, width)),
            tuple(arrays),
            str(tmp_path),
            dynamo=False,
            opset_version=OPSET,
            input_names=names,
            output_names=outputs,
            dynamic_axes={name: {1: "queries"} for name in [*names[1:], *outputs]},
        )
    return names
