"""Model files of the SMPL family: where they are found, and how they are read and checked.

The files are licensed: they can be had by registering on the pages of `MODELS`, and may not be passed on. They are
    searched
for in this order:
    1. `file` (the setting `body_file`): a model file, or a folder;
    2. the folder that the environment variable ANTHROTAP_BODY_MODELS names;
    3. `body_models` in the cache folder (~/.cache/anthrotap, or what ANTHROTAP_CACHE names).
In a folder, or in its folder `smpl`, `smplh` or `smplx`, a file may have the name that the smplx package expects
(SMPL_NEUTRAL.pkl, SMPLH_MALE.npz, SMPLX_FEMALE.npz) or the published one. Animals need the path of a file.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anthrotap_builder.utils.assets import AssetError
from anthrotap_hf.utils.downloads import cache_dir
from anthrotap_hf.utils.safe_npz import safe_load_npz
from anthrotap_hf.utils.safe_pickle import array_of, safe_load

# Shape coefficients that are used, the first of a file's; SMPL's and SMPL-X's files have up to 300.
NUM_SHAPES = 10
ENVIRONMENT = "ANTHROTAP_BODY_MODELS"
# Genders, and the letters for them in SMPL's published file names.
GENDERS = {"neutral": "neutral", "male": "m", "female": "f"}
KEYS = ("v_template", "shapedirs", "posedirs", "J_regressor", "weights", "f", "kintree_table")


@dataclass(frozen=True)
class Model:
    """A model of the family.

    Attributes:
        title: as its authors write it.
        page: where to register for it.
        num_joints: 0 for any number, without names.
        num_vertices: of the published mesh, whose landmarks are known.
    """

    title: str
    page: str
    num_joints: int = 0
    num_vertices: int = 0


MODELS = {
    "smpl": Model("SMPL", "https://smpl.is.tue.mpg.de", 24, 6890),
    "smplh": Model("SMPL-H", "https://mano.is.tue.mpg.de", 52, 6890),
    "smplx": Model("SMPL-X", "https://smpl-x.is.tue.mpg.de", 55, 10475),
    "smal": Model("SMAL", "https://smal.is.tue.mpg.de"),
}


def find_model_file(name: str, gender: str, file: Path | None = None) -> Path:
    """Find the model file that `load_smpl` reads.

    Raises:
        ValueError: if there is no such gender.
        AssetError: if there is no such file, with where to get it and where to put it; or if the name of `file` says
            another gender.
    """
    if gender not in GENDERS:
        raise ValueError(f"no gender {gender!r}: choose from {', '.join(GENDERS)}")
    model, file = MODELS[name], file and file.expanduser()
    how = f"register at {model.page} (free for non-commercial research, not to be passed on), download the model"
    if file is not None and file.is_file():
        named = _gender_in(file.name) or gender
        if named != gender and name != "smal":
            raise AssetError(f"it is {named} by its name", path=file, hint=f"set gender to {named}, not {gender}")
        return file
    if file is not None and (name == "smal" or not file.is_dir()):
        raise AssetError("there is no such body model", path=file, hint=f"{how} and put it there")
    root = file or Path(os.environ.get(ENVIRONMENT) or cache_dir() / "body_models").expanduser()
    found = {each: _search(root, name, each) for each in GENDERS}
    path = found[gender]
    if path is None:
        others = " or ".join(each for each in GENDERS if found[each])
        target = root / name / f"{name.upper()}_{gender.upper()}.pkl"
        raise AssetError(
            f"there is no {gender} {model.title} body model{others and f' (only {others})'}",
            hint=f"{how} and put it at {target} (or .npz)",
        )
    return path


def _search(root: Path, name: str, gender: str) -> Path | None:
    """Return the file of a model and a gender in a folder or its folder of that model; case does not count."""
    names = [f"{name}_{gender}.npz", f"{name}_{gender}.pkl"]
    if name == "smpl":
        # The published names: SMPL 1.1, 1.0 and SMPLify's neutral one.
        names += [f"basicmodel_{GENDERS[gender]}_lbs_10_207_0_v1.{minor}.0.pkl" for minor in (1, 0)]
    for folder in (root / name, root):
        files = {path.name.lower(): path for path in sorted(folder.glob("*")) if path.is_file()}
        for each in names:
            if each in files:
                return files[each]
    return None


def _gender_in(file_name: str) -> str | None:
    """Return the gender that a file's name says, if it says one as published names do."""
    name = file_name.lower()
    for gender, letter in GENDERS.items():
        if gender in re.split(r"[^a-z]+", name) or name.startswith(f"basicmodel_{letter}_"):
            return gender
    return None


def read_model_file(path: Path, model: Model) -> dict[str, np.ndarray]:
    """Read the arrays of a model file, `.npz` or `.pkl`, and check them; nothing of the file's own code is run.

    Returns:
        The arrays of `KEYS`: float64, shapedirs cut to NUM_SHAPES; f int32, kintree_table int64.

    Raises:
        AssetError: if the file cannot be read, is another model's, or its arrays do not fit each other.
    """
    try:
        arrays = _read_arrays(path)
        _check_joints(arrays, model)
        _check_arrays(arrays)
    except ValueError as error:
        hint = f"those of {model.title} are at {model.page}"
        raise AssetError(f"no {model.title} body model: {error}", path=path, hint=hint) from error
    except OSError as error:
        raise AssetError(f"it cannot be read: {error.strerror or error}", path=path) from error
    types = {"f": np.int32, "kintree_table": np.int64}
    return {key: arrays[key].astype(types.get(key, np.float64)) for key in KEYS}


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if path.suffix.lower() not in (".npz", ".pkl"):
        raise ValueError("its name ends neither in .npz nor in .pkl")
    is_pickle = path.suffix.lower() == ".pkl"
    content = safe_load(path, body_model=True) if is_pickle else safe_load_npz(path, KEYS)
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, not a dictionary of arrays")
    if missing := [key for key in KEYS if key not in content]:
        raise ValueError(f"it has no {' and no '.join(missing)}")
    arrays = {}
    for key in KEYS:
        try:
            arrays[key] = array_of(content[key])
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from error
        if not arrays[key].ndim:
            raise ValueError(f"{key} is a single number")
    arrays["shapedirs"] = arrays["shapedirs"][..., :NUM_SHAPES]
    return arrays


def _check_joints(arrays: dict[str, np.ndarray], model: Model) -> None:
    """Check the kintree_table [2, J] (parents, own numbers; the root's parent is anything), and that J is the
    model's."""
    table, vertices = arrays["kintree_table"], len(arrays["v_template"])
    if table.ndim != 2 or len(table) != 2 or table.dtype.kind not in "iu" or not table.shape[1]:
        raise ValueError(f"kintree_table is {_size(table.shape)} {table.dtype}, not two rows of joint numbers")
    joints, parents = np.arange(table.shape[1]), table[0, 1:].astype(np.int64)
    if (table[1] != joints).any() or (parents < 0).any() or (parents >= joints[1:]).any():
        raise ValueError("kintree_table is no tree in which parents come before their children")
    count = f"it has {len(joints)} joints"
    for name, other in MODELS.items():
        same = len(joints) == other.num_joints and (model.num_joints or vertices == other.num_vertices)
        if same and other is not model:
            raise ValueError(f"{count}, as {other.title} has, which is the body {name}")
    if model.num_joints and len(joints) != model.num_joints:
        raise ValueError(f"{count}, and {model.title} has {model.num_joints}")


def _check_arrays(arrays: dict[str, np.ndarray]) -> None:
    vertices, joints, faces = len(arrays["v_template"]), arrays["kintree_table"].shape[1], arrays["f"]
    sizes: dict[str, tuple[object, ...]] = {
        "v_template": (vertices, 3), "shapedirs": (vertices, 3, "any"), "posedirs": (vertices, 3, 9 * (joints - 1)),
        "J_regressor": (joints, vertices), "weights": (vertices, joints), "f": ("any", 3),
    }  # fmt: skip
    for key, wanted in sizes.items():
        shape = arrays[key].shape
        if len(shape) != len(wanted) or any(w not in (s, "any") for s, w in zip(shape, wanted, strict=True)):
            raise ValueError(
                f"{key} is {_size(shape)}, not {_size(wanted)}, which {vertices} vertices (of v_template) and "
                f"{joints} joints (of kintree_table) need"
            )
    if faces.dtype.kind not in "iu" or not len(faces):
        raise ValueError("f holds no triangles of vertex numbers")
    if faces.min() < 0 or faces.max() + 1 != vertices:
        raise ValueError(f"its faces name vertices {faces.min()} to {faces.max()}, and v_template has {vertices}")
    for key in KEYS[:5]:
        if not np.isfinite(arrays[key]).all():
            raise ValueError(f"{key} holds NaN or infinity")
    if np.abs(arrays["weights"].sum(1, dtype=np.float64) - 1).max() > 1e-3:
        raise ValueError("the skinning weights of a vertex do not sum to one")


def _size(shape: Sequence[object]) -> str:
    return " x ".join(map(str, shape))
