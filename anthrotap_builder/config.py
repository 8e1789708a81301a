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


class FitSettings(_Settings):
    """How a body is fitted to a person's track. Angles in radians; rates are those of 30 frames a second."""

    focal_ratio: float = Field(1.2, gt=0, description="focal length as a multiple of the frame's longer side")
    sigma_2d: float = Field(0.012, gt=0, description="2D landmark error as a share of the person's size")
    sigma_3d: float = Field(0.06, gt=0, description="3D landmark error, metres")
    sigma_silhouette: float = Field(0.008, gt=0, description="mask error as a share of the person's size")
    silhouette_points: int = Field(160, ge=1, description="surface points that must stay inside the mask")
    silhouette_weight: float = Field(60.0, ge=0, description="how many landmarks the silhouette counts for")
    sigma_limit: float = Field(0.1, gt=0, description="softness of joint limits")
    shape_weight: float = Field(1 / 16, gt=0, description="weight of the shape prior for each frame")
    sigma_acceleration: float = Field(0.10, gt=0, description="of joint rotations, radians a frame^2")
    sigma_velocity: float = Field(1.0, gt=0, description="of joint rotations, radians a frame")
    sigma_place_acceleration: float = Field(0.03, gt=0, description="of the root's place, metres a frame^2")
    landmark_iterations: int = Field(14, ge=1)
    silhouette_iterations: int = Field(4, ge=0)
    tolerance: float = Field(3e-3, gt=0, description="relative gain at which iterations end")
