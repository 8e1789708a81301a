"""Anny (code Apache-2.0, assets CC0; NAVER 2025) as a `Body`, from a compact copy that the first use makes."""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
import zipfile
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from anthrotap_builder.bodies.body import Body, BodyPoints, PosePrior, outer_faces
from anthrotap_hf.utils.downloads import cache_dir

logger = logging.getLogger(__name__)

COMPACT_VERSION = 1
NUM_SHAPES = 10
PHENOTYPE_SAMPLES = 4000
# Mean, spread and range of each phenotype of the people that the shape prior expects: children of about eight to old
# people, all builds. Anny's age runs from newborn (-1/3) over child (1/3) and young (2/3) to old (1).
PHENOTYPES = {"age": (0.62, 0.17, 0.3, 0.95), "gender": (0.5, 0.3, 0.0, 1.0)}
OTHER_PHENOTYPE = (0.5, 0.18, 0.05, 0.95)

# The bones of Anny that the fit moves; all others follow their nearest ancestor among these.
JOINTS = (
    *("root", "spine05", "spine03", "spine01", "neck01", "head"),
    *("clavicle.L", "upperarm01.L", "lowerarm01.L", "wrist.L"),
    *("clavicle.R", "upperarm01.R", "lowerarm01.R", "wrist.R"),
    *("upperleg01.L", "lowerleg01.L", "foot.L"),
    *("upperleg01.R", "lowerleg01.R", "foot.R"),
)

# Keypoints by Anny's COCO regressor: BlazePose landmark and weight in the fit.
REGRESSED = {
    "nose": (0, 1.0), "left_eye": (2, 0.7), "right_eye": (5, 0.7), "left_ear": (7, 1.0), "right_ear": (8, 1.0),
    "left_shoulder": (11, 2.0), "right_shoulder": (12, 2.0), "left_elbow": (13, 2.0), "right_elbow": (14, 2.0),
    "left_wrist": (15, 2.0), "right_wrist": (16, 2.0), "left_hip": (23, 2.0), "right_hip": (24, 2.0),
    "left_knee": (25, 2.0), "right_knee": (26, 2.0), "left_ankle": (27, 2.0), "right_ankle": (28, 2.0),
    "left_heel": (29, 1.0), "right_heel": (30, 1.0), "left_big_toe": (31, 1.0), "right_big_toe": (32, 1.0),
}  # fmt: skip
# Keypoints at the head of a bone.
AT_BONE = {
    "finger2-1.L": (19, 0.5), "finger2-1.R": (20, 0.5), "finger5-1.L": (17, 0.5), "finger5-1.R": (18, 0.5),
    "finger1-2.L": (21, 0.3), "finger1-2.R": (22, 0.3),
}  # fmt: skip


@lru_cache(maxsize=1)
def load_anny(name: str = "anny", gender: str = "neutral", file: Path | None = None) -> Body:
    """Return Anny's body, read from the compact copy in the cache, which the first use makes (about two minutes).

    Raises:
        ValueError: for another gender than neutral, or a file.
    """
    if gender != "neutral" or file is not None:
        raise ValueError("the anny body has no gender and no file to choose: its shape covers both")
    path = compact_path()
    try:
        return Body.load(path)
    except FileNotFoundError:
        reason = "first use"
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        reason = f"the copy was damaged: {error}"
    logger.warning("making the compact copy of the Anny body in %s (%s): about 2 minutes, once", path, reason)
    _build().save(path)
    return Body.load(path)


def compact_path() -> Path:
    """Return where the compact copy is, or will be after the first use."""
    try:
        return cache_dir() / f"anny-{version('anny')}-v{COMPACT_VERSION}.npz"
    except PackageNotFoundError as error:
        raise ModuleNotFoundError("the Anny body needs: pip install 'anthrotap[builder]'") from error


def _build() -> Body:
    """Reduce Anny to the joints that the fit moves and to a linear shape space."""
    model, keypoints = _load_full_model()
    names = list(model.bone_labels)
    bones = [names.index(joint) for joint in JOINTS]
    parents = list(model.bone_parents)

    def carrier(bone: int) -> int:
        """Return the joint that carries a bone: itself or the nearest ancestor among JOINTS."""
        while bone not in bones:
            bone = parents[bone]
        return bones.index(bone)

    carriers = np.array([carrier(bone) for bone in range(len(names))])
    heads = model.template_bone_heads.numpy()
    # The skinning weight of a joint is the sum over the bones that it carries.
    weights = np.zeros((len(model.template_vertices), len(JOINTS)))
    for bone, weight in zip(model.vertex_bone_indices.numpy().T, model.vertex_bone_weights.numpy().T, strict=True):
        np.add.at(weights, (np.arange(len(weights)), carriers[bone]), weight)
    weights /= weights.sum(1, keepdims=True)

    mean, directions = _linear_shapes(model)
    template = model.template_vertices.numpy() + np.tensordot(mean, model.blendshapes.numpy(), 1)
    shape_directions = np.tensordot(directions, model.blendshapes.numpy(), 1)
    mean_heads = heads + np.tensordot(mean, model.bone_heads_blendshapes.numpy(), 1)
    head_directions = np.tensordot(directions, model.bone_heads_blendshapes.numpy(), 1)
    faces = model.faces.numpy().astype(np.int32)

    regressor = np.stack([keypoints[name] for name in REGRESSED])
    regressor /= regressor.sum(1, keepdims=True)
    used = np.nonzero(regressor.any(0))[0]
    # A keypoint is a weighted mean of skinned vertices, or the head of a bone, which its joint carries.
    mass = regressor[:, used, None] * weights[None, used]
    fixed = [names.index(bone) for bone in AT_BONE]
    attached = np.eye(len(JOINTS))[carriers[fixed]]
    points = BodyPoints(
        mass=np.concatenate([mass.sum(1), attached]),
        moment=np.concatenate(
            [np.einsum("kvj,vx->kjx", mass, template[used]), attached[..., None] * mean_heads[fixed][:, None]]
        ),
        moment_directions=np.concatenate(
            [
                np.einsum("kvj,svx->skjx", mass, shape_directions[:, used]),
                attached[None, ..., None] * head_directions[:, fixed][:, :, None],
            ],
            axis=1,
        ),
    )
    targets = [*REGRESSED.values(), *AT_BONE.values()]
    return Body(
        name="anny",
        template=template.astype(np.float32),
        shape_directions=shape_directions.astype(np.float32),
        joints=mean_heads[bones],
        joint_directions=head_directions[:, bones],
        parents=np.array([-1] + [carriers[parents[bone]] for bone in bones[1:]]),
        weights=weights.astype(np.float32),
        faces=faces,
        outer=outer_faces(template, faces),
        keypoints=points,
        keypoint_landmarks=np.array([landmark for landmark, _ in targets]),
        keypoint_weights=np.array([weight for _, weight in targets]),
        prior=_pose_prior(dict(zip(names, mean_heads, strict=True))),
    )


def _load_full_model():
    """Load Anny and its keypoint regressors; its 788 MB cache is removed afterwards if there was none before."""
    os.environ.setdefault("WARP_LOG_LEVEL", "ERROR")
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(prefix="anthrotap-anny-") as tmp_path:
        warnings.simplefilter("ignore")
        import anny
        import anny.paths
        import torch

        own_cache = Path(anny.paths.get_anny_cache_path())
        if not own_cache.exists():
            anny.paths.set_anny_cache_path(tmp_path)
        try:
            model = anny.Anny().to(torch.float64)
        finally:
            anny.paths.set_anny_cache_path(own_cache)
        coco = torch.load(
            Path(anny.__file__).parent / "data" / "keypoints" / "coco.pth",
            map_location="cpu",
            weights_only=True,
        )
        index = model.base_mesh_vertex_indices.long()
        return model, {name: weight.double()[index].numpy() for name, weight in coco.items()}


def _linear_shapes(model) -> tuple[np.ndarray, np.ndarray]:
    """Return mean [C] and NUM_SHAPES principal directions [S, C] of Anny's blendshape coefficients over plausible
    people.

    Anny's shape is piecewise multilinear in its phenotypes. Principal components of the bodies it makes turn it into
    what SMPL has, linear directions of unit variance, and lose under a millimeter.
    """
    import torch

    rng = np.random.default_rng(0)
    phenotypes = np.stack(
        [
            np.clip(rng.normal(mean, spread, PHENOTYPE_SAMPLES), low, high)
            for mean, spread, low, high in (PHENOTYPES.get(p, OTHER_PHENOTYPE) for p in model.phenotype_labels)
        ],
        axis=1,
    )
    coefficients = model.get_phenotype_blendshape_coefficients(
        **{label: torch.as_tensor(p) for label, p in zip(model.phenotype_labels, phenotypes.T, strict=True)}
    ).numpy()
    mean = coefficients.mean(0)
    basis = model.blendshapes.numpy().reshape(len(mean), -1)
    # Principal components in vertex space, found in the small space: with basis basis^T = L L^T, rows c L have the
    # vertices' inner products.
    values, vectors = np.linalg.eigh(basis @ basis.T)
    root = vectors * np.sqrt(np.maximum(values, 0))
    centered = coefficients - mean
    _, _, components = np.linalg.svd(centered @ root, full_matrices=False)
    scores = centered @ root @ components[:NUM_SHAPES].T
    # A direction is the regression of the coefficients on a score of unit variance.
    return mean, (scores / scores.std(0)).T @ centered / PHENOTYPE_SAMPLES


def _pose_prior(heads: dict[str, np.ndarray]) -> PosePrior:
    """Return spreads and limits, chosen by hand: knees and elbows are hinges, the spine bends little, arms move freely.

    Anny rests upright in an A-pose, x to its left, y backwards, z up, meters.
    """
    count = len(JOINTS)
    axes = np.tile(np.eye(3), (count, 1, 1))
    mean, sigma = np.zeros((count, 3)), np.ones((count, 3))
    lower, upper = np.full((count, 3), -9.0), np.full((count, 3), 9.0)
    spreads = {
        "root": 1e3, "spine05": 0.25, "spine03": 0.2, "spine01": 0.2, "neck01": 0.3, "head": 0.35, "clavicle": 0.2,
        "upperarm01": 0.9, "wrist": 0.35, "foot": 0.35,
    }  # fmt: skip
    for joint, name in enumerate(JOINTS):
        part, _, side = name.partition(".")
        if part in spreads:
            sigma[joint] = spreads[part]
        if part == "upperarm01":
            # Arms hang or are lifted forward rather than back.
            mean[joint, 1] = 0.3 if side == "L" else -0.3
        elif part == "upperleg01":
            # Legs are lifted forward far, backwards little.
            sigma[joint] = 0.9, 0.45, 0.5
            lower[joint, 0], upper[joint, 0] = -2.2, 0.8
        elif part == "lowerleg01":
            # A hinge that bends backwards.
            sigma[joint] = 1.0, 0.12, 0.12
            mean[joint, 0] = 0.2
            lower[joint, 0], upper[joint, 0] = -0.1, 2.5
        elif part == "lowerarm01":
            # A hinge across upper and lower arm, which are bent a little at rest; the second axis is the twist.
            above = _unit(heads[name] - heads[f"upperarm01.{side}"])
            below = _unit(heads[f"wrist.{side}"] - heads[name])
            hinge = _unit(np.cross(above, below))
            axes[joint] = np.stack([hinge, below, np.cross(hinge, below)], axis=1)
            at_rest = np.arccos(above @ below)
            sigma[joint] = 0.9, 0.5, 0.12
            lower[joint, 0], upper[joint, 0] = -at_rest - 0.05, 2.5 - at_rest
    return PosePrior(axes, mean, sigma, lower, upper)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
