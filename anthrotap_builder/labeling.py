"""From a video to labelled clips: the stages in order, top to bottom."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from anthrotap_hf.tracks import Tracks


@dataclass(frozen=True)
class LabeledClip:
    """One clip, its tracks, and what each stage found.

    Attributes:
        frames: [T, H, W, 3] uint8 RGB, the frames that the tracks refer to.
        fps: frames a second of `frames`.
        tracks: the labels.
        rejected_fraction: share of the (track, frame) labels that the flow check refused.
        clip_id, source_video, start_frame: where the clip comes from; `start_frame` counts decoded frames of the
            source video, before any resampling in time.
        body_model, mesh_source, flow, label_version: what made the labels.
        people: per person of the clip, what the fit says of itself (plain numbers, for reports and manifests).
        seconds: wall seconds spent in each stage.
    """

    frames: np.ndarray
    fps: float
    tracks: Tracks
    rejected_fraction: float
    clip_id: str = ""
    source_video: str = ""
    start_frame: int = 0
    body_model: str = ""
    mesh_source: str = ""
    flow: str = ""
    label_version: str = ""
    people: list[dict[str, float]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
