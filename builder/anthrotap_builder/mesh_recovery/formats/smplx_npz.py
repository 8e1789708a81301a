"""Parameters of SMPL, SMPL-H or SMPL-X in an `.npz`, as AMASS and BEDLAM have them.

AMASS: one person over T samples: `poses` [T, 165] (SMPL-X), [T, 156] (SMPL-H) or [T, 72] (SMPL), axis-angle vectors
of all joints; or `root_orient` [T, 3], `pose_body` [T, 63] and, if there are, `pose_jaw`, `pose_eye` and `pose_hand`;
`trans` [T, 3] meters; `betas` [S]; `gender`; `mocap_frame_rate` or `mocap_framerate`, samples a second. These are in
a world, z up. A video's camera has to be added: `cam_int` [3, 3], and `cam_ext` [4, 4] or [T, 4, 4], world to camera,
meters. Samples that are more frequent than frames are taken at the frames' times.

BEDLAM (data_processing/df_full_body.py): M bodies of one or more sequences: `imgname` (SEQUENCE/SEQUENCE_FRAME.png),
`pose_cam` [M, 165] or [M, 72], `trans_cam` [M, 3], `shape` [M, S], `cam_int` [M, 3, 3], `cam_ext` [M, 4, 4], `gender`
and `sub` (the person). A body's translation in the camera is `trans_cam` plus that of `cam_ext`. The video's name is
that of the sequence, where there are several.

Camera: x right, y down, z forward. Of `betas` the first ten are used.
"""

from __future__ import annotations

import logging
import re
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from anthrotap_builder.bodies.smpl_files import GENDERS, MODELS, NUM_SHAPES
from anthrotap_builder.mesh_recovery.formats.base import MeshFormat, MeshInput, entries, not_ours, numbers, one_size
from anthrotap_builder.mesh_recovery.formats.opening import load_npz
from anthrotap_builder.mesh_recovery.formats.per_frame import from_zero
from anthrotap_hf.utils.errors import one_line

logger = logging.getLogger(__name__)

TITLE = "SMPL-X's parameters (AMASS, BEDLAM)"
AMASS = (
    *("poses", "root_orient", "pose_body", "pose_jaw", "pose_eye", "pose_hand", "trans", "betas", "gender"),
    *("mocap_frame_rate", "mocap_framerate", "cam_int", "cam_ext"),
)
BEDLAM = ("imgname", "pose_cam", "trans_cam", "shape", "sub")
BODY_OF_JOINTS = {model.num_joints: name for name, model in MODELS.items() if model.num_joints}
# Samples and frames a second may differ from a whole ratio by so much.
MAX_RATE_ERROR = 0.01


def read(source: MeshInput) -> dict[str, Any]:
    """Read the bodies. Raises MeshFileError."""
    # What else is in BEDLAM's files are objects, which are not read.
    arrays = load_npz(source, dict.fromkeys(AMASS + BEDLAM))
    made = _bedlam(source, arrays) if "pose_cam" in arrays else _amass(source, arrays)
    betas = made["betas"]
    if betas.shape[-1] > NUM_SHAPES and betas[..., NUM_SHAPES:].any():
        logger.warning("%s: of its %d betas the first %d are used", source.path, betas.shape[-1], NUM_SHAPES)
        made["betas"] = betas[..., :NUM_SHAPES]
    return made


def _amass(source: MeshInput, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    if "poses" in arrays:
        poses = numbers(source, arrays["poses"], "poses", (None, None))
    else:
        root, pose = entries(source, arrays, TITLE, "root_orient", "pose_body")
        parts = [root, pose, *(arrays[name] for name in ("pose_jaw", "pose_eye", "pose_hand") if name in arrays)]
        poses = np.concatenate([numbers(source, part, "a part of the pose", (None, None)) for part in parts], axis=1)
    place, betas = entries(source, arrays, TITLE, "trans", "betas")
    count = len(poses)
    samples = _samples_at_frames(source, arrays, count)
    betas = numbers(source, betas, "betas", (None,), (1, None), (count, None))
    if "cam_int" in arrays:
        source.refuse_focal()
        camera = camera_of_matrix(source, numbers(source, arrays["cam_int"], "cam_int", (3, 3)))
    elif source.focal is not None:
        camera = source.camera(source.focal)
    else:
        raise source.error(
            "it has no camera", "add cam_int [3, 3] and cam_ext [4, 4], world to camera, or name --meshes-focal"
        )
    motion = numbers(source, arrays.get("cam_ext", np.eye(4)), "cam_ext", (4, 4), (count, 4, 4))
    if "cam_ext" not in arrays:
        logger.warning("%s: it has no cam_ext, so its bodies are taken to be in the camera's coordinates", source.path)
    return {
        "frame": np.arange(len(samples)),
        "person": np.zeros(len(samples), np.int64),
        **camera,
        **_pose(source, poses[samples]),
        "betas": betas if betas.ndim == 1 else betas[0] if len(betas) == 1 else betas[samples],
        "translation": numbers(source, place, "trans", (count, 3))[samples],
        "world_to_camera": motion if motion.ndim == 2 else motion[samples],
        "gender": _gender(source, arrays.get("gender")),
    }


def _samples_at_frames(source: MeshInput, arrays: dict[str, np.ndarray], count: int) -> np.ndarray:
    """Return the sample of each frame of the video, as long as there are any."""
    rate = arrays.get("mocap_frame_rate", arrays.get("mocap_framerate"))
    fps = source.video.fps
    if rate is None or not fps:
        return np.arange(count)
    ratio = float(numbers(source, rate, "mocap_frame_rate").reshape(-1)[0]) / fps
    whole = max(round(ratio), 1)
    if abs(ratio / whole - 1) > MAX_RATE_ERROR:
        raise source.error(
            f"it has {ratio * fps:.4g} samples a second, and the video {fps:.4g} frames, which does not divide it",
            "resample the poses to the video's rate",
        )
    # By time: 29.97 frames a second are not 30.
    samples = np.round(np.arange(source.video.num_frames) * ratio).astype(int)
    return samples[samples < count]


def camera_of_matrix(source: MeshInput, matrix: np.ndarray) -> dict[str, Any]:
    """Return the camera of a matrix [3, 3] for the video's own frames."""
    return {
        "size": np.array([source.video.height, source.video.width]),
        "focal": np.array([matrix[0, 0], matrix[1, 1]]),
        "principal_point": matrix[:2, 2],
    }


def _bedlam(source: MeshInput, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    names = "imgname", "pose_cam", "trans_cam", "shape", "cam_int", "cam_ext"
    images, poses, place, shape, matrices, motion = entries(source, arrays, TITLE, *names)
    source.refuse_focal()
    paths = [PurePosixPath(str(name)) for name in images]
    sequences = [path.stem.rpartition("_")[0] for path in paths]
    count = len(paths)
    rows = np.arange(count)
    if len(set(sequences)) > 1:
        rows = np.array([row for row, name in enumerate(sequences) if name == source.video.name], np.int64)
        if not len(rows):
            raise source.error(
                f"none of its {len(set(sequences))} sequences is called {source.video.name}, as the video is"
            )
    found = [re.findall(r"\d+", paths[row].stem) for row in rows]
    if not all(found):
        raise source.error("a name of imgname has no number of a frame")
    numbers_ = np.array([int(each[-1]) for each in found])
    times, order = np.unique(numbers_, return_inverse=True)
    # A video of only the labeled pictures has one frame for each.
    frames = order if len(times) == source.video.num_frames else np.array(from_zero(source, numbers_.tolist()))
    people = arrays.get("sub")
    people = np.zeros(len(rows), np.int64) if people is None else np.unique(people[rows], return_inverse=True)[1]
    matrices = numbers(source, matrices, "cam_int", (count, 3, 3))[rows]
    motion = numbers(source, motion, "cam_ext", (count, 4, 4))[rows]
    return {
        "frame": frames,
        "person": people,
        "size": one_size(source, 2 * matrices[:, [1, 0], 2]),
        "focal": matrices[:, [0, 1], [0, 1]],
        "principal_point": matrices[:, :2, 2],
        **_pose(source, numbers(source, poses, "pose_cam", (count, None))[rows]),
        "betas": numbers(source, shape, "shape", (count, None))[rows],
        "translation": numbers(source, place, "trans_cam", (count, 3))[rows] + motion[:, :3, 3],
        "gender": _gender(source, None if "gender" not in arrays else arrays["gender"][rows]),
    }


def _pose(source: MeshInput, poses: np.ndarray) -> dict[str, Any]:
    """Return the body and its rotations, of axis-angle vectors [M, 3 J] of all joints."""
    joints, rest = divmod(poses.shape[1], 3)
    if joints == 22:
        # SMPL-H's body without hands.
        poses, joints = np.pad(poses, [(0, 0), (0, 3 * 30)]), 52
    if rest or joints not in BODY_OF_JOINTS:
        known = ", ".join(f"{3 * number} ({body})" for number, body in BODY_OF_JOINTS.items())
        raise not_ours(source, f"its poses have {poses.shape[1]} numbers, and bodies have {known}", TITLE, set())
    poses = poses.reshape(len(poses), joints, 3)
    return {"body": BODY_OF_JOINTS[joints], "global_orient": poses[:, 0], "body_pose": poses[:, 1:]}


def _gender(source: MeshInput, value: np.ndarray | None) -> str | None:
    """Return the one gender that a file says. Raises MeshFileError for several, or none of SMPL's."""
    if value is None:
        return None
    texts = {
        (each.decode("latin1") if isinstance(each, bytes) else str(each)).lower() for each in np.unique(value).tolist()
    }
    if len(texts) != 1:
        raise source.error("its people have several genders", "give those of each gender alone")
    (text,) = texts
    if text not in GENDERS:
        raise source.error(f"its gender is {one_line(text)!r}, not one of {', '.join(GENDERS)}")
    return text


FORMAT = MeshFormat(
    TITLE,
    read,
    ("{name}.npz", "{name}_stageii.npz", "{name}_poses.npz"),
    frozenset({"trans", "betas"}),
    has_camera=False,
)
