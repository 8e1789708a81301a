"""PHALP, which 4D-Humans, TokenHMR and LART track people with: `results/demo_NAME.pkl`, by joblib.

Layout (brjathu/PHALP, phalp/trackers/PHALP.py): a dict by frame; each frame is a dict of `time`, the number of the
frame from 0, and lists with an entry for each person: `tid` (number), `tracked_time` (frames since the person was
last detected), `size` (height and width, pixels), `smpl` (rotation matrices `global_orient` [1, 3, 3] and `body_pose`
[23, 3, 3], and `betas` [10] of SMPL), `camera` [3] (SMPL's translation, meters).

Camera: x right, y down, z forward. PHALP pads frames to squares and takes a focal length of 5000 pixels for squares
of 256: `camera` is that of the whole frame. Missing frames: PHALP repeats a person's last body while it looks for the
person again (`tracked_time` above 0); these are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from anthrotap_builder.mesh_recovery.formats.base import MeshFormat, MeshInput, entries, not_ours, numbers, one_size
from anthrotap_builder.mesh_recovery.formats.opening import load_pickle
from anthrotap_hf.utils.safe_joblib import number_of

TITLE = "PHALP (4D-Humans)"
# Focal length, pixels, of a square of so many pixels: EXTRA.FOCAL_LENGTH and render.res of PHALP.
FOCAL, SQUARE = 5000.0, 256
LISTS = ("tid", "tracked_time", "size", "smpl", "camera")


def read(source: MeshInput) -> dict[str, Any]:
    """Read the bodies of all people that were detected. Raises MeshFileError."""
    content = load_pickle(source)
    if not isinstance(content, Mapping):
        raise not_ours(source, f"it holds a {type(content).__name__}", TITLE, set())
    rows: list[tuple[int, int, np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []
    for frame in content.values():
        time, *lists = entries(source, frame, TITLE, "time", *LISTS)
        if not all(isinstance(each, list | tuple) for each in lists):
            raise source.error(f"a frame has something else than lists as {', '.join(LISTS)}")
        if len({len(each) for each in lists}) != 1:
            raise source.error(f"the lists of a frame differ in length: {', '.join(LISTS)}")
        for person, missed, size, smpl, camera in zip(*lists, strict=True):
            if number_of(missed):
                continue
            orient, pose, betas = entries(source, smpl, TITLE, "global_orient", "body_pose", "betas")
            rotations = np.concatenate(
                [
                    numbers(source, orient, "global_orient", (1, 3, 3), (3, 3)).reshape(1, 3, 3),
                    numbers(source, pose, "body_pose", (23, 3, 3)),
                ]
            )
            shape = numbers(source, betas, "betas", (10,))
            place = numbers(source, camera, "camera", (3,))
            rows.append((int(number_of(time)), int(number_of(person)), rotations, shape, place, np.array(size)))
    if not rows:
        raise source.error("there is no person in it")
    frame_numbers, people, all_rotations, betas_, places, sizes = (np.stack(part) for part in zip(*rows, strict=True))
    height, width = size = one_size(source, sizes)
    square = int(max(size))
    return {
        "frame": frame_numbers,
        "person": people,
        "size": size,
        "focal": np.array(FOCAL * square / SQUARE),
        # The frame lies in the middle of its square, by whole pixels.
        "principal_point": square / 2 - np.array([(square - width) // 2, (square - height) // 2]),
        "body": "smpl",
        "global_orient": all_rotations[:, 0],
        "body_pose": all_rotations[:, 1:],
        "betas": betas_,
        "translation": places,
    }


FORMAT = MeshFormat(
    TITLE, read, ("demo_{name}.pkl", "{name}.pkl", "results/demo_{name}.pkl"), frozenset({"tracked_ids", "camera_bbox"})
)
TOKENHMR = MeshFormat("TokenHMR", read, FORMAT.files, FORMAT.marks)
