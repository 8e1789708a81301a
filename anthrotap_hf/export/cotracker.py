"""CoTracker's tensors, as its predictor returns and its Visualizer takes them, in a .pt that holds tensors only."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from anthrotap_hf.tracks import Tracks
from anthrotap_hf.utils.atomic_files import atomic_write
from anthrotap_hf.video import VideoSource


def write_cotracker(tracks: Tracks, fps: float, path: Path, video: VideoSource | None = None) -> None:
    """A dict of tensors for `torch.load(path, weights_only=True)`; B is 1.

    - `pred_tracks`: [B, T, N, 2] float32, x and y in pixels whose first center is (0, 0): ours less 0.5. CoTracker
      resizes with `align_corners=True`, scales queries by (w - 1) / (W - 1) and samples at whole numbers for the
      centers of pixels: https://github.com/facebookresearch/co-tracker, cotracker/predictor.py and
      models/core/model_utils.py.
      (0, 0) where unknown, which its Visualizer takes for "not there" and does not draw.
    - `pred_visibility`: [B, T, N] bool, true where seen.
    - `valid`: [B, T, N] bool, as its training data have it: false where unknown. So hidden is valid and not visible.
    - `fps`: a float32.

    The video is not written: give `read_video_from_path` yours. `visualizer.visualize(video, pred_tracks,
    pred_visibility)` draws the seen filled, the hidden hollow.
    """
    import torch

    def time_first(array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array.swapaxes(0, 1)))[None]

    places = np.where(tracks.valid[..., None], tracks.xy - np.float32(0.5), np.float32(0))
    tensors = {
        "pred_tracks": time_first(places.astype(np.float32)),
        "pred_visibility": time_first(tracks.visible),
        "valid": time_first(tracks.valid),
        "fps": torch.tensor(fps, dtype=torch.float32),
    }
    with atomic_write(path) as tmp_path, tmp_path.open("wb") as file:
        torch.save(tensors, file)
