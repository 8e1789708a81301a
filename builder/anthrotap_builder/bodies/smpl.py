"""Bodies of the SMPL family: SMPL, SMPL-H, SMPL-X, and animals in SMAL's layout.

An adapter of the `smplx` package, which comes with the extra `anthrotap[smpl]`; its license allows non-commercial
research
only. It never opens a file: `smpl_files` does, by the safe reader. The models are Loper et al., SMPL (2015); Romero
et al.,
MANO (2017) for SMPL-H; Pavlakos et al., SMPL-X (2019); Zuffi et al., SMAL (2017). Of SMPL-X the expression stays
neutral. A
hand's rest pose is the flat one of the template (`flat_hand_mean=True` in smplx): the mean hand pose of SMPL-H's and
SMPL-X's files is not added.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from anthrotap_builder.bodies.body import Body, BodyPoints, PosePrior, outer_faces
from anthrotap_builder.bodies.smpl_files import MODELS, find_model_file, read_model_file
from anthrotap_hf.utils.atomic_files import file_sha256

# SMPL's axes are x to the body's left, y up, z forward. Columns: left, back, up.
AXES = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
# SMAL's are x forward, y to its left, z up.
ANIMAL_AXES = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])


# BlazePose landmark and weight in the fit of vertices and joints, by smplx's names. SMPL's own hand joint is the middle
# of the knuckles: better than nothing for the first of them.
LANDMARKS = {
    "nose": (0, 1.0), "leye": (2, 0.7), "reye": (5, 0.7), "lear": (7, 1.0), "rear": (8, 1.0),
    "LHeel": (29, 1.0), "RHeel": (30, 1.0), "LBigToe": (31, 1.0), "RBigToe": (32, 1.0),
    "left_shoulder": (11, 2.0), "right_shoulder": (12, 2.0), "left_elbow": (13, 2.0), "right_elbow": (14, 2.0),
    "left_wrist": (15, 2.0), "right_wrist": (16, 2.0), "left_hip": (23, 2.0), "right_hip": (24, 2.0),
    "left_knee": (25, 2.0), "right_knee": (26, 2.0), "left_ankle": (27, 2.0), "right_ankle": (28, 2.0),
    "left_pinky1": (17, 0.5), "right_pinky1": (18, 0.5), "left_index1": (19, 0.5), "right_index1": (20, 0.5),
    "left_thumb2": (21, 0.3), "right_thumb2": (22, 0.3), "left_hand": (19, 0.3), "right_hand": (20, 0.3),
}  # fmt: skip


def load_smpl(name: str, gender: str = "neutral", file: Path | None = None) -> Body:
    """Load a body of the SMPL family from its file; the same object again for the same file.

    Args:
        name: smpl, smplh, smplx or smal.
        gender: neutral, male or female; animals have only neutral.
        file: the model file, or a folder to search; see `smpl_files`.

    Raises:
        ValueError: if there is no such gender, or smal comes without a file.
        AssetError: if the file is missing or damaged, or is another model's or another gender's.
        ImportError: if smplx is not installed.
    """
    if name == "smal":
        if gender != "neutral":
            raise ValueError(f"smal has no gender to choose, got {gender!r}")
        if file is None:
            raise ValueError("smal needs a file: the path of an animal model in SMAL's layout (.pkl or .npz)")
    return _read_body(name, find_model_file(name, gender, file).absolute())


@lru_cache(maxsize=4)
def _read_body(name: str, path: Path) -> Body:
    """Hand a file's arrays to smplx, and take those of the model that it builds.

    smplx rounds what it is given to float32, as `Body` keeps it anyway. What `Body` has in float64 (joints, keypoints)
    is taken from the file's own numbers.
    """
    model = MODELS[name]
    arrays = read_model_file(path, model)
    # The base class has all that SMPL, SMPL-H, SMPL-X and SMAL share; what the others add stays neutral here. It
    # prints a
    # warning about files with fewer coefficients than it knows of.
    known = {"SHAPE_SPACE_DIM": arrays["shapedirs"].shape[-1]}
    model_class = type("SMPL", (_require_smplx().SMPL,), known)
    parts = ("betas", "global_orient", "body_pose", "transl")
    built = model_class("", data_struct=SimpleNamespace(**arrays), **{f"create_{part}": False for part in parts})
    joint_directions = arrays["J_regressor"] @ arrays["shapedirs"].transpose(2, 0, 1)
    keypoints, landmarks, weights = _keypoints(name, arrays, joint_directions)
    return Body(
        name=name,
        template=built.v_template.numpy(),
        shape_directions=np.ascontiguousarray(built.shapedirs.numpy().transpose(2, 0, 1)),
        joints=arrays["J_regressor"] @ arrays["v_template"],
        joint_directions=joint_directions,
        parents=built.parents.numpy(),
        weights=built.lbs_weights.numpy(),
        faces=built.faces_tensor.numpy().astype(np.int32),
        outer=outer_faces(arrays["v_template"], arrays["f"]),
        keypoints=keypoints,
        keypoint_landmarks=landmarks,
        keypoint_weights=weights,
        prior=_pose_prior(joint_names(name), len(built.parents)),
        pose_directions=built.posedirs.numpy().reshape(-1, *arrays["v_template"].shape),
        axes=AXES if model.num_joints else ANIMAL_AXES,
        source=f"{path.name} sha256:{file_sha256(path)}",
    )


def joint_names(name: str) -> list[str]:
    """Return the names of a model's joints in order; none for smal, whose joints have no names."""
    names = _require_smplx().joint_names
    body = names.SMPLH_JOINT_NAMES[:22]
    return {
        "smpl": [*body, "left_hand", "right_hand"],
        "smplh": names.SMPLH_JOINT_NAMES[:52],
        "smplx": [joint.removesuffix("_smplhf") for joint in names.JOINT_NAMES[:55]],
        "smal": [],
    }[name]


def landmark_vertices(name: str) -> dict[str, int]:
    """Return the vertices of a model's published mesh that are landmarks, by name."""
    vertices = _require_smplx().vertex_ids.vertex_ids["smplx" if name == "smplx" else "smplh"]
    return {part: vertex for part, vertex in vertices.items() if part in LANDMARKS}


def _require_smplx() -> Any:
    try:
        import smplx
        import smplx.joint_names
        import smplx.vertex_ids
    except ImportError as error:
        raise ImportError(
            "bodies of the SMPL family need smplx, whose license allows non-commercial research only: "
            "pip install 'anthrotap[smpl]'",
            name="smplx",
        ) from error
    return smplx


def _keypoints(
    name: str, arrays: dict[str, np.ndarray], joint_directions: np.ndarray
) -> tuple[BodyPoints, np.ndarray, np.ndarray]:
    """Return the body's landmarks, their BlazePose numbers [K], and their weights [K].

    There are none (K = 0) on a mesh whose vertices are not those of the published model.
    """
    template, regressor, shapes = arrays["v_template"], arrays["J_regressor"], arrays["shapedirs"]
    points = []
    if len(template) == MODELS[name].num_vertices:
        # A vertex moves with its skinning weights, a joint with itself.
        for part, vertex in landmark_vertices(name).items():
            points.append((*LANDMARKS[part], arrays["weights"][vertex], template[vertex], shapes[vertex].T))
        for joint, part in enumerate(joint_names(name)):
            if part in LANDMARKS:
                rigid, directions = np.eye(len(regressor))[joint], joint_directions[:, joint]
                points.append((*LANDMARKS[part], rigid, regressor[joint] @ template, directions))
    # Landmarks are in BlazePose's order, but hands (17 to 22) come last: the fit expects the hips as keypoints 11 and
    # 12.
    points.sort(key=lambda point: (17 <= point[0] <= 22, point[0]))

    def column(part: int, *shape: int) -> np.ndarray:
        return np.array([point[part] for point in points], np.float64).reshape(len(points), *shape)

    mass, positions = column(2, len(regressor)), column(3, 3)
    directions = column(4, shapes.shape[-1], 3).swapaxes(0, 1)
    moment = mass[..., None] * positions[:, None]
    moment_directions = mass[..., None] * directions[:, :, None]
    return BodyPoints(mass, moment, moment_directions), column(0).astype(np.int64), column(1)


def _pose_prior(names: Sequence[str], count: int) -> PosePrior:
    """Return spreads and limits, chosen by hand and generous: knees and elbows are hinges, the spine bends little.

    People rest in a T-pose, x to the left, y up, z forward; most of the time their arms hang. Fingers, jaw and eyes
    stay near their rest, because no landmark shows them. Joints without a name (animals) may all turn alike.
    """
    axes = np.tile(np.eye(3), (count, 1, 1))
    mean, sigma = np.zeros((count, 3)), np.full((count, 3), 0.5)
    lower, upper = np.full((count, 3), -9.0), np.full((count, 3), 9.0)
    spreads = {
        "pelvis": 1e3, "spine1": 0.25, "spine2": 0.2, "spine3": 0.2, "neck": 0.3, "head": 0.35, "collar": 0.2,
        "shoulder": 0.9, "wrist": 0.35, "ankle": 0.35,
    }  # fmt: skip
    sigma[0] = 1e3
    for joint, name in enumerate(names):
        part = name.removeprefix("left_").removeprefix("right_")
        side = -1.0 if name.startswith("right_") else 1.0
        sigma[joint] = spreads.get(part, 0.1)
        if part == "shoulder":
            # Arms hang.
            mean[joint, 2] = -1.0 * side
        elif part == "hip":
            # Legs are lifted forward far, backwards little.
            sigma[joint] = 0.9, 0.5, 0.45
            lower[joint, 0], upper[joint, 0] = -2.2, 0.8
        elif part == "knee":
            # A hinge that bends backwards.
            sigma[joint] = 1.0, 0.12, 0.12
            mean[joint, 0] = 0.2
            lower[joint, 0], upper[joint, 0] = -0.1, 2.5
        elif part == "elbow":
            # A hinge that bends forward; its first axis is the twist.
            sigma[joint] = 0.5, 0.9, 0.12
            mean[joint, 1] = -0.3 * side
            lower[joint, 1], upper[joint, 1] = sorted((0.1 * side, -2.6 * side))
    return PosePrior(axes, mean, sigma, lower, upper)
