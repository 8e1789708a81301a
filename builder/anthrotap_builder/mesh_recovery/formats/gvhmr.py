"""GVHMR: `hmr4d_results.pt`, by torch.save.

Layout (zju3dv/GVHMR, tools/demo/demo.py): a dict of `smpl_params_incam`, SMPL-X's parameters in the camera over all L
frames (`global_orient` [L, 3] and `body_pose` [L, 63] as axis-angle vectors, `betas` [L, 10], `transl` [L, 3]
meters), the same in the world, which is not used, and `K_fullimg` [L, 3, 3], the camera's matrix for whole frames.

Camera: x right, y down, z forward; the principal point of `K_fullimg` is the middle of the frame. One person, number
0, in every frame. GVHMR estimates no hands: they stay flat, as in the template of SMPL-X.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from anthrotap_builder.mesh_recovery.formats.base import MeshFormat, MeshInput, entries, numbers, one_size
from anthrotap_builder.mesh_recovery.formats.opening import load_tensors

TITLE = "GVHMR"
SMPLX_JOINTS, BODY_JOINTS = 55, 21


def read(source: MeshInput) -> dict[str, Any]:
    """Read the body of the one person in the camera. Raises MeshFileError."""
    parameters, matrices = entries(source, load_tensors(source), TITLE, "smpl_params_incam", "K_fullimg")
    names = "global_orient", "body_pose", "betas", "transl"
    orient, pose, betas, place = entries(source, parameters, TITLE, *names)
    orient = numbers(source, orient, "global_orient", (None, 3))
    count = len(orient)
    full = np.zeros((count, SMPLX_JOINTS - 1, 3))
    full[:, :BODY_JOINTS] = numbers(source, pose, "body_pose", (count, 3 * BODY_JOINTS)).reshape(count, -1, 3)
    return {
        "frame": np.arange(count),
        "person": np.zeros(count, np.int64),
        **camera_of_matrices(source, numbers(source, matrices, "K_fullimg", (count, 3, 3))),
        "body": "smplx",
        "global_orient": orient,
        "body_pose": full,
        "betas": numbers(source, betas, "betas", (count, 10)),
        "translation": numbers(source, place, "transl", (count, 3)),
    }


def camera_of_matrices(source: MeshInput, matrices: np.ndarray) -> dict[str, Any]:
    """Return the camera of matrices [M, 3, 3] whose principal point is the middle of the frame.

    Raises:
        MeshFileError: the frames are of several sizes.
    """
    middles = matrices[:, :2, 2]
    return {
        "size": one_size(source, 2 * middles[:, ::-1]),
        "focal": matrices[:, [0, 1], [0, 1]],
        "principal_point": middles,
    }


FORMAT = MeshFormat(
    TITLE, read, ("{name}/hmr4d_results.pt", "{name}.pt"), frozenset({"smpl_params_incam", "smpl_params_global"})
)
