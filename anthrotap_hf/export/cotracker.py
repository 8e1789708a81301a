"""CoTracker's tensors, as its predictor returns and its Visualizer takes them, in a .pt that holds tensors only."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anthrotap_hf.export.base import Format, frame_rate
from anthrotap_hf.tracks import TrackedClip
from anthrotap_hf.utils.atomic_files import atomic_write


def write_cotracker(clip: TrackedClip, path: Path) -> None:
    """Write a dict of tensors for `torch.load(path, weights_only=True)`; B is 1.

    - `pred_tracks`: [B, T, N, 2] float32, x and y in pixels whose first center is (0, 0): ours less 0.5. CoTracker
      resizes with `align_corners=True`, scales queries by (w - 1) / (W - 1) and samples at whole numbers for the
      centers of pixels: https://github.com/facebookresearch/co-tracker, cotracker/predictor.py and
      models/core/model_utils.py.
      (0, 0) where invalid, which its Visualizer does not draw.
    - `pred_visibility`: [B, T, N] bool, true where visible.
    - `valid`: [B, T, N] bool, as its training data have it. So occluded is valid and not visible.
    - `fps`: a float32.

    The video is not written: give `read_video_from_path` yours. `visualizer.visualize(video, pred_tracks,
    pred_visibility)` draws visible points filled, occluded ones hollow.
    """
    import torch

    tracks = clip.tracks

    def time_first(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array.swapaxes(0, 1)))[None]

    positions = np.where(tracks.valid[..., None], tracks.xy - np.float32(0.5), np.float32(0))
    tensors = {
        "pred_tracks": time_first(positions.astype(np.float32)),
        "pred_visibility": time_first(tracks.visible),
        "valid": time_first(tracks.valid),
        "fps": torch.tensor(frame_rate(clip), dtype=torch.float32),
    }
    with atomic_write(path) as tmp_path, tmp_path.open("wb") as file:
        torch.save(tensors, file)


FORMAT = Format(
    write_cotracker,
    ".pt",
    "torch.load(weights_only=True); CoTracker's Visualizer",
    program="CoTracker",
    use="torch.load(FILE, weights_only=True) gives the tensors that CoTracker's Visualizer draws.",
)
