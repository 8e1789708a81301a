"""WHAM: `wham_output.pkl`, by joblib, or what `WHAM_API` returns, pickled.

Layout (yohanshin/WHAM, demo.py): a dict by person; each person is a dict of `pose` [N, 72] (SMPL's axis-angle
vectors, the root's to the camera), `trans` [N, 3] (SMPL's translation in the camera, meters), `betas` [N, 10],
`verts` [N, 6890, 3] (in the camera), `frame_ids` [N] (numbers of frames from 0), and the same in the world, which is
not used.

Camera: x right, y down, z forward. The file does not say it: WHAM takes the frame's diagonal as focal length, and its
middle as principal point, unless it was given a calibration. Missing frames have no entry in `frame_ids`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from anthrotap_builder.mesh_recovery.formats.base import MeshFormat, MeshInput, entries, not_ours, numbers
from anthrotap_builder.mesh_recovery.formats.opening import load_pickle
from anthrotap_hf.utils.safe_joblib import number_of

TITLE = "WHAM"


def read(source: MeshInput) -> dict[str, Any]:
    """Read the bodies of all people in the camera. Raises MeshFileError."""
    content = load_pickle(source)
    if not isinstance(content, Mapping) or not content:
        raise not_ours(source, "it holds no people", TITLE, set())
    parts = []
    for number, person in content.items():
        pose, place, betas, frames = entries(source, person, TITLE, "pose", "trans", "betas", "frame_ids")
        frames = numbers(source, frames, "frame_ids", (None,)).astype(np.int64)
        count = len(frames)
        parts.append(
            {
                "frame": frames,
                "person": np.full(count, _person(source, number)),
                "pose": numbers(source, pose, "pose", (count, 72)).reshape(count, 24, 3),
                "betas": numbers(source, betas, "betas", (count, 10)),
                "translation": numbers(source, place, "trans", (count, 3)),
            }
        )
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    pose = arrays.pop("pose")
    return {
        **arrays,
        **source.camera(source.diagonal),
        "body": "smpl",
        "global_orient": pose[:, 0],
        "body_pose": pose[:, 1:],
    }


def _person(source: MeshInput, key: Any) -> int:
    """Return the number of a person, which is a key: one of Python or of numpy."""
    if isinstance(key, str | bytes | tuple | None):
        raise not_ours(source, f"it has an entry {key!r}, where people have numbers", TITLE, set())
    return int(number_of(key))


FORMAT = MeshFormat(
    TITLE,
    read,
    ("{name}/wham_output.pkl", "{name}.pkl"),
    frozenset({"frame_ids", "trans_world", "pose_world"}),
    has_camera=False,
)
