"""A stand-in for labeling: clips are read as ever, and each gets two made-up tracks, of the first of two people."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np

from anthrotap_builder.clips import OnSkipped, read_clips
from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.detection.labeled_motion import LabeledMotion
from anthrotap_builder.pipeline import LabeledClip
from anthrotap_hf.tracks import Tracks


def fake_label_video(
    path: str | Path, config: LabelingConfig, *_: Any, on_skipped: OnSkipped | None = None, **__: Any
) -> Generator[LabeledClip, None, None]:
    """The clips of a video, each with two tracks that stand still.

    A video with "unlabeled" in its name has a second person, without labels, and most of what moves has none.
    """
    unlabeled = "unlabeled" in Path(path).name
    for clip in read_clips(path, config.clips, on_skipped):
        num_frames, height, width = clip.frames.shape[:3]
        tracks = Tracks(
            xy=np.tile(np.array([[[1.5, 2.5]], [[9, 8]]], np.float32), (1, num_frames, 1)),
            visible=np.ones((2, num_frames), bool),
            valid=np.ones((2, num_frames), bool),
            height=height,
            width=width,
            person=np.zeros(2, np.int32),
            vertex=np.array([7, 11], np.int32),
        )
        yield LabeledClip(
            tracks=tracks,
            video=clip.frames,
            fps=clip.fps,
            clip_id=clip.clip_id,
            source_video=clip.source_video,
            source_sha256=clip.source_sha256,
            start_frame=clip.start_frame,
            source_frames=clip.source_frames,
            people=[_person(0, 2), _person(1, 0)] if unlabeled else [_person(0, 2)],
            motion=LabeledMotion(100, 80 if unlabeled else 10),
            info={
                "body_model": config.body,
                "mesh_source": config.mesh_source,
                "flow": config.flow.model,
                "label_version": config.version(),
                "rejected_fraction": 0.0,
            },
        )


def _person(number: int, tracks: int) -> dict[str, Any]:
    quality = {"frames": 9, "rejected_frames": 0, "reprojection_error": 1.5, "mask_overlap": 0.9}
    return {"person": number, **quality, "tracks": tracks, "no_track": None if tracks else "hidden"}
