"""Bodies of the SMPL family (SMPL, SMPL-H, SMPL-X, and animals in SMAL's layout) from files that users bring.

The files are licensed: they can be had by registering on their pages, and may not be passed on. What is computed is
Loper et al., SMPL (2015), eq. 2 to 10; Romero et al., MANO (2017) for SMPL-H; Pavlakos et al., SMPL-X (2019); Zuffi et
al., SMAL (2017). Of SMPL-X the expression stays neutral. A hand's rest pose is the flat one of the template: the mean
hand pose that SMPL-H and SMPL-X files carry is not added (`flat_hand_mean=True` in the smplx package).

Where files are looked for, in this order:
    1. `file` (the setting `body_file`): a model file, or a folder;
    2. the folder that the environment variable ANTHROTAP_BODY_MODELS names;
    3. `body_models` in the cache folder (~/.cache/anthrotap, or what ANTHROTAP_CACHE names).
In a folder, or in its folder `smpl`, `smplh` or `smplx`, a file may be called as users of the smplx package call it
(SMPL_NEUTRAL.pkl, SMPLH_MALE.npz, SMPLX_FEMALE.npz) or as it was published. Animals are asked for by a file's path.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from anthrotap_builder.bodies.body import Body, BodyPoints, PosePrior, outer_faces
from anthrotap_builder.utils.assets import AssetError, cache_dir
from anthrotap_hf.utils.atomic_files import file_sha256
from anthrotap_hf.utils.safe_pickle import array_of, safe_load, safe_load_npz

NUM_SHAPES = 10  # shape coefficients, the first of a file's; SMPL's and SMPL-X's files have up to 300
ENVIRONMENT = "ANTHROTAP_BODY_MODELS"
GENDERS = {"neutral": "neutral", "male": "m", "female": "f"}  # and how SMPL's published file names say it
KEYS = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "f", "kintree_table")
# SMPL's axes are x to the body's left, y up, z forward. Columns: left, back, up.
AXES = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
# SMAL's are x forward, y to its left, z up.
ANIMAL_AXES = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])

_BODY_JOINTS = (
    *("pelvis", "left_hip", "right_hip", "spine1", "left_knee", "right_knee", "spine2", "left_ankle"),
    *("right_ankle", "spine3", "left_foot", "right_foot", "neck", "left_collar", "right_collar", "head"),
    *("left_shoulder", "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist"),
)
_HAND_JOINTS = tuple(
    f"{side}_{finger}{phalanx}"
    for side in ("left", "right")
    for finger in ("index", "middle", "pinky", "ring", "thumb")
    for phalanx in (1, 2, 3)
)
_FACE_JOINTS = ("jaw", "left_eye", "right_eye")


@dataclass(frozen=True)
class Model:
    """What is known of a model of the family.

    Attributes:
        title: as its authors write it.
        page: where to register for it.
        joints: the names of its joints in order; none: any number, of unknown names.
        num_vertices: of the mesh that `landmarks` speaks of.
        landmarks: BlazePose landmark and weight in the fit of some of its vertices, by index.
    """

    title: str
    page: str
    joints: tuple[str, ...] = ()
    num_vertices: int = 0
    landmarks: tuple[tuple[int, int, float], ...] = ()


# Vertex, landmark, weight: nose, left and right eye, left and right ear; left and right heel, left and right big toe.
_SMPL_LANDMARKS = (
    *((332, 0, 1.0), (2800, 2, 0.7), (6260, 5, 0.7), (583, 7, 1.0), (4071, 8, 1.0)),
    *((3387, 29, 1.0), (6787, 30, 1.0), (3216, 31, 1.0), (6617, 32, 1.0)),
)
_SMPLX_LANDMARKS = (
    *((9120, 0, 1.0), (9448, 2, 0.7), (9929, 5, 0.7), (6, 7, 1.0), (616, 8, 1.0)),
    *((8846, 29, 1.0), (8635, 30, 1.0), (5770, 31, 1.0), (8463, 32, 1.0)),
)
MODELS = {
    "smpl": Model(
        title="SMPL",
        page="https://smpl.is.tue.mpg.de",
        joints=(*_BODY_JOINTS, "left_hand", "right_hand"),
        num_vertices=6890,
        landmarks=_SMPL_LANDMARKS,
    ),
    "smplh": Model(
        title="SMPL-H",
        page="https://mano.is.tue.mpg.de",
        joints=(*_BODY_JOINTS, *_HAND_JOINTS),
        num_vertices=6890,
        landmarks=_SMPL_LANDMARKS,
    ),
    "smplx": Model(
        title="SMPL-X",
        page="https://smpl-x.is.tue.mpg.de",
        joints=(*_BODY_JOINTS, *_FACE_JOINTS, *_HAND_JOINTS),
        num_vertices=10475,
        landmarks=_SMPLX_LANDMARKS,
    ),
    "smal": Model(title="SMAL", page="https://smal.is.tue.mpg.de"),
}

# Landmark and weight of joints. SMPL's own hand joint is the middle of the knuckles: better than nothing for the
# first of them.
_JOINT_LANDMARKS = {
    "left_shoulder": (11, 2.0), "right_shoulder": (12, 2.0), "left_elbow": (13, 2.0), "right_elbow": (14, 2.0),
    "left_wrist": (15, 2.0), "right_wrist": (16, 2.0), "left_hip": (23, 2.0), "right_hip": (24, 2.0),
    "left_knee": (25, 2.0), "right_knee": (26, 2.0), "left_ankle": (27, 2.0), "right_ankle": (28, 2.0),
    "left_pinky1": (17, 0.5), "right_pinky1": (18, 0.5), "left_index1": (19, 0.5), "right_index1": (20, 0.5),
    "left_thumb2": (21, 0.3), "right_thumb2": (22, 0.3), "left_hand": (19, 0.3), "right_hand": (20, 0.3),
}  # fmt: skip


@dataclass(frozen=True)
class ModelArrays:
    """The arrays of a model file, checked against each other: V vertices, J joints, S shape coefficients.

    Attributes:
        template: [V, 3] float64, meters.
        shape_directions: [V, 3, S] float64, meters for each standard deviation; the first NUM_SHAPES of the file's.
        pose_directions: [V, 3, 9 (J - 1)] float64, meters.
        regressor: [J, V] float64, joints from vertices.
        weights: [V, J] float64, skinning weights.
        faces: [F, 3] int32.
        parents: [J] int64, -1 for the root.
    """

    template: np.ndarray
    shape_directions: np.ndarray
    pose_directions: np.ndarray
    regressor: np.ndarray
    weights: np.ndarray
    faces: np.ndarray
    parents: np.ndarray


def load_smpl(name: str, gender: str = "neutral", file: Path | None = None) -> Body:
    """A body of the SMPL family from its file; read once.

    Args:
        name: smpl, smplh, smplx or smal.
        gender: neutral, male or female; animals have only neutral.
        file: the model file, or a folder to look for it in; see this module's docstring.

    Raises:
        ValueError: if there is no such gender, or `file` is missing where there is no other place to look.
        AssetError: if the file is missing or damaged, or is another model's or another gender's.
    """
    if name == "smal":
        if gender != "neutral":
            raise ValueError(f"smal has no gender to choose, got {gender!r}")
        if file is None:
            raise ValueError("smal needs a file: the path of an animal model in SMAL's layout (.pkl or .npz)")
    return _read_body(name, find_model_file(name, gender, file).absolute())


def find_model_file(name: str, gender: str, file: Path | None = None) -> Path:
    """The model file that `load_smpl` reads.

    Raises:
        ValueError: if there is no such gender.
        AssetError: if there is no such file, saying where to get it and where to put it; or if `file` is called
            after another gender.
    """
    if gender not in GENDERS:
        raise ValueError(f"no gender {gender!r}: choose from {', '.join(GENDERS)}")
    model, file = MODELS[name], file and file.expanduser()
    how = f"register at {model.page} (free for non-commercial research, not to be passed on), download the model"
    if file is not None and file.is_file():
        named = _gender_in(file.name) or gender
        if named != gender and name != "smal":
            raise AssetError(f"{file} is {named} by its name: set gender to {named}, not {gender}")
        return file
    if file is not None and (name == "smal" or not file.is_dir()):
        raise AssetError(f"there is no body model {file}: {how} and put it there")
    root = file or Path(os.environ.get(ENVIRONMENT) or cache_dir() / "body_models").expanduser()
    found = {each: _look_in(root, name, each) for each in GENDERS}
    path = found[gender]
    if path is None:
        others = " or ".join(each for each in GENDERS if found[each])
        raise AssetError(
            f"there is no {gender} {model.title} body model{others and f' (only {others})'}: {how} and put it at "
            f"{root / name / f'{name.upper()}_{gender.upper()}.pkl'} (or .npz)"
        )
    return path


def _look_in(root: Path, name: str, gender: str) -> Path | None:
    """The file of a model and a gender in a folder or its folder of that model; upper and lower case are one."""
    names = [f"{name}_{gender}.npz", f"{name}_{gender}.pkl"]
    if name == "smpl":  # as published: SMPL 1.1, 1.0 and SMPLify's neutral one
        names += [f"basicmodel_{GENDERS[gender]}_lbs_10_207_0_v1.{minor}.0.pkl" for minor in (1, 0)]
    for folder in (root / name, root):
        there = {path.name.lower(): path for path in sorted(folder.glob("*")) if path.is_file()}
        for each in names:
            if each in there:
                return there[each]
    return None


def _gender_in(file_name: str) -> str | None:
    """The gender that a file's name says, if it says one as published names do."""
    name = file_name.lower()
    for gender, letter in GENDERS.items():
        if gender in re.split(r"[^a-z]+", name) or name.startswith(f"basicmodel_{letter}_"):
            return gender
    return None


@lru_cache(maxsize=4)
def _read_body(name: str, path: Path) -> Body:
    model = MODELS[name]
    arrays = read_model_file(path, model)
    joints = arrays.regressor @ arrays.template
    shapes = np.ascontiguousarray(arrays.shape_directions.transpose(2, 0, 1))
    joint_directions = arrays.regressor @ shapes
    keypoints, landmarks, landmark_weights = _keypoints(model, arrays, shapes, joints, joint_directions)
    digest = file_sha256(path)
    return Body(
        name=name,
        template=arrays.template.astype(np.float32),
        shape_directions=shapes.astype(np.float32),
        joints=joints,
        joint_directions=joint_directions,
        parents=arrays.parents,
        weights=arrays.weights.astype(np.float32),
        faces=arrays.faces,
        outer=outer_faces(arrays.template, arrays.faces),
        keypoints=keypoints,
        keypoint_landmarks=landmarks,
        keypoint_weights=landmark_weights,
        prior=_pose_prior(model.joints, len(joints)),
        pose_directions=np.ascontiguousarray(arrays.pose_directions.transpose(2, 0, 1), dtype=np.float32),
        axes=AXES if model.joints else ANIMAL_AXES,
        source=f"{path.name} sha256:{digest}",
    )


def read_model_file(path: Path, model: Model) -> ModelArrays:
    """The arrays of a model file, `.npz` or `.pkl`; nothing of the file's own code is run.

    Raises:
        AssetError: if it cannot be read, is another model's, or its arrays do not fit each other; one line that
            names the file.
    """
    try:
        raw = _read_arrays(path)
        parents = _parents(raw["kintree_table"])
        _check_kind(model, len(parents), len(raw["v_template"]))
        _check_sizes(raw, len(parents))
        raw["shapedirs"] = raw["shapedirs"][..., :NUM_SHAPES]
        numbers = {key: raw[key].astype(np.float64) for key in KEYS[:5]}
        _check_values(numbers, raw["f"])
    except ValueError as error:
        reason = f"{path} is no {model.title} body model: {error}"
        raise AssetError(f"{reason}; those of {model.title} are at {model.page}") from error
    except OSError as error:
        raise AssetError(f"{path} cannot be read: {error.strerror or error}") from error
    return ModelArrays(
        template=numbers["v_template"],
        shape_directions=numbers["shapedirs"],
        pose_directions=numbers["posedirs"],
        regressor=numbers["J_regressor"],
        weights=numbers["weights"],
        faces=raw["f"].astype(np.int32),
        parents=parents,
    )


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if path.suffix.lower() == ".npz":
        return _needed(safe_load_npz(path, KEYS))
    if path.suffix.lower() != ".pkl":
        raise ValueError("its name ends neither in .npz nor in .pkl")
    content = safe_load(path, body_model=True)
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not a dictionary of arrays")
    return _needed(content)


def _needed(content: Mapping[str, Any]) -> dict[str, np.ndarray]:
    missing = [key for key in KEYS if key not in content]
    if missing:
        raise ValueError(f"it has no {' and no '.join(missing)}")
    arrays = {}
    for key in KEYS:
        try:
            arrays[key] = array_of(content[key])
        except ValueError as error:
            raise ValueError(f"{key}: {' '.join(str(error).split())}") from error
        if not arrays[key].ndim:
            raise ValueError(f"{key} is a single number")
    return arrays


def _parents(table: np.ndarray) -> np.ndarray:
    """[J] int64: the parent of each joint from a kintree_table [2, J] of parents' and own numbers; root: -1."""
    if table.ndim != 2 or len(table) != 2 or table.dtype.kind not in "iu" or not table.shape[1]:
        raise ValueError(
            f"kintree_table is {_size(table.shape)} {table.dtype}, not two rows of joint numbers"
        )
    column = {int(joint): index for index, joint in enumerate(table[1])}
    parents = np.array([-1] + [column.get(int(joint), -1) for joint in table[0, 1:]])
    if len(column) != len(parents) or (parents[1:] < 0).any() or (parents >= np.arange(len(parents))).any():
        raise ValueError("kintree_table is no tree in which parents come before their children")
    return parents


def _check_kind(model: Model, joints: int, vertices: int) -> None:
    for name, other in MODELS.items():
        same = joints == len(other.joints) and (model.joints or vertices == other.num_vertices)
        if same and other is not model:
            raise ValueError(f"it has {joints} joints, as {other.title} has, which is the body {name}")
    if model.joints and joints != len(model.joints):
        raise ValueError(f"it has {joints} joints, and {model.title} has {len(model.joints)}")


def _check_sizes(raw: dict[str, np.ndarray], joints: int) -> None:
    vertices = len(raw["v_template"])
    for key, wanted in (
        ("v_template", (vertices, 3)),
        ("shapedirs", (vertices, 3, "any")),
        ("posedirs", (vertices, 3, 9 * (joints - 1))),
        ("J_regressor", (joints, vertices)),
        ("weights", (vertices, joints)),
        ("f", ("any", 3)),
    ):
        shape = raw[key].shape
        if len(shape) != len(wanted) or any(w not in (s, "any") for s, w in zip(shape, wanted, strict=True)):
            raise ValueError(
                f"{key} is {_size(shape)}, not {_size(wanted)}, which {vertices} vertices (of v_template) and "
                f"{joints} joints (of kintree_table) need"
            )


def _check_values(numbers: dict[str, np.ndarray], faces: np.ndarray) -> None:
    vertices = len(numbers["v_template"])
    if faces.dtype.kind not in "iu" or not len(faces):
        raise ValueError("f holds no triangles of vertex numbers")
    if faces.min() < 0 or faces.max() + 1 != vertices:
        raise ValueError(
            f"its faces speak of vertices {faces.min()} to {faces.max()}, and v_template has {vertices}"
        )
    for key, array in numbers.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{key} holds NaN or infinity")
    if np.abs(numbers["weights"].sum(1) - 1).max() > 1e-3:
        raise ValueError("the skinning weights of a vertex do not sum to one")


def _size(shape: Sequence[object]) -> str:
    return " x ".join(map(str, shape))


def _keypoints(
    model: Model,
    arrays: ModelArrays,
    shapes: np.ndarray,
    joints: np.ndarray,
    joint_directions: np.ndarray,
) -> tuple[BodyPoints, np.ndarray, np.ndarray]:
    """The body's landmarks, which of BlazePose's each is [K], and its weight [K].

    There are none (K = 0) on a mesh whose vertices are not those of the published model.
    """
    known = bool(model.joints) and len(arrays.template) == model.num_vertices
    points = []
    for vertex, landmark, weight in model.landmarks if known else ():
        place, directions = arrays.template[vertex], shapes[:, vertex]
        points.append((landmark, weight, arrays.weights[vertex], place, directions))
    for joint, name in enumerate(model.joints if known else ()):
        if name in _JOINT_LANDMARKS:
            landmark, weight = _JOINT_LANDMARKS[name]
            rigid = np.eye(len(joints))[joint]
            points.append((landmark, weight, rigid, joints[joint], joint_directions[:, joint]))
    # As landmarks are numbered, but the hands last: so the hips are keypoints 11 and 12, as the fit expects.
    points.sort(key=lambda point: (17 <= point[0] <= 22, point[0]))

    def column(part: int, *shape: int) -> np.ndarray:
        return np.array([point[part] for point in points], np.float64).reshape(len(points), *shape)

    mass, places = column(2, len(joints)), column(3, 3)
    directions = column(4, len(shapes), 3).swapaxes(0, 1)
    body_points = BodyPoints(
        mass=mass,
        moment=mass[..., None] * places[:, None],
        moment_directions=mass[..., None] * directions[:, :, None],
    )
    return body_points, column(0).astype(np.int64), column(1)


def _pose_prior(names: Sequence[str], count: int) -> PosePrior:
    """Spreads and limits, chosen by hand and generous: knees and elbows are hinges, the spine bends little.

    People rest in a T-pose, x to the left, y up, z forward; most of the time their arms hang. Fingers, jaw and eyes
    stay near their rest, for no landmark tells of them. Joints without a name (animals) may all turn alike.
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
        if part == "shoulder":  # hanging
            mean[joint, 2] = -1.0 * side
        elif part == "hip":  # lifted forward far, backwards little
            sigma[joint] = 0.9, 0.5, 0.45
            lower[joint, 0], upper[joint, 0] = -2.2, 0.8
        elif part == "knee":  # a hinge that bends backwards
            sigma[joint] = 1.0, 0.12, 0.12
            mean[joint, 0] = 0.2
            lower[joint, 0], upper[joint, 0] = -0.1, 2.5
        elif part == "elbow":  # a hinge that bends forward; first axis: twist
            sigma[joint] = 0.5, 0.9, 0.12
            mean[joint, 1] = -0.3 * side
            lower[joint, 1], upper[joint, 1] = sorted((0.1 * side, -2.6 * side))
    return PosePrior(axes, mean, sigma, lower, upper)
