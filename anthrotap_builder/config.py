"""Everything that changes a label, in one documented place; its hash is the label version."""

from __future__ import annotations

import hashlib
import json

from pydantic import BaseModel, ConfigDict, Field

LABEL_CODE_VERSION = 1  # raise it when the code changes labels under the same configuration


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ClipSettings(_Settings):
    """How a video is cut into clips."""

    short_side: int = Field(480, ge=64, le=4320, description="labelling size, also of the stored clip: pixels")
    fps: float | None = Field(None, gt=0, description="resample to this rate (the paper: 10); None keeps all frames")
    clip_frames: int = Field(48, ge=2, description="longest clip, frames")
    min_frames: int = Field(8, ge=2, description="shorter pieces between two shot changes are left out, frames")
    shot_threshold: float = Field(27.0, gt=0, description="scenedetect ContentDetector threshold")
