"""GEM-X: `preprocess/hpe_results.pt`, by torch.save, with the vertices of SOMA added.

Layout (NVlabs/GEM-X, scripts/demo/demo_soma.py): a dict of `body_params_incam` or `pred_body_params_incam`, SOMA's
parameters in the camera over all L frames, and `K_fullimg` [L, 3, 3], the camera's matrix for whole frames. Only
SOMA's own package makes bodies of the parameters, so add to the dict, or to an `.npz`, what its layer gives for them:
`vertices` [L, V, 3] meters, and its `faces` [F, 3]. The 77 joints of SOMA are not needed.

Camera: x right, y down, z forward; the principal point is the middle of the frame. One person, number 0, in every
frame.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from anthrotap_builder.mesh_recovery.formats.base import MeshFormat, MeshInput, entries, numbers
from anthrotap_builder.mesh_recovery.formats.gvhmr import camera_of_matrices
from anthrotap_builder.mesh_recovery.formats.opening import load_npz, load_tensors
from anthrotap_builder.mesh_recovery.formats.topology import body_of_faces

TITLE = "GEM-X"


def read(source: MeshInput) -> dict[str, Any]:
    """Read the mesh of the one person in the camera. Raises MeshFileError."""
    if source.path.suffix == ".npz":
        content: Any = load_npz(source)
    else:
        content = load_tensors(source)
    (matrices,) = entries(source, content, TITLE, "K_fullimg")
    if "vertices" not in content and any(str(name).endswith("body_params_incam") for name in content):
        raise source.error(
            "it has SOMA's parameters and no vertices, which only SOMA's package makes of them",
            'add vertices = soma(**pred["body_params_incam"])["vertices"] and faces = soma.faces to the file',
        )
    vertices, faces = entries(source, content, TITLE, "vertices", "faces")
    vertices = numbers(source, vertices, "vertices", (None, None, 3)).astype(np.float32)
    count = len(vertices)
    return {
        "frame": np.arange(count),
        "person": np.zeros(count, np.int64),
        **camera_of_matrices(source, numbers(source, matrices, "K_fullimg", (count, 3, 3))),
        "vertices": vertices,
        **body_of_faces(vertices, numbers(source, faces, "faces", (None, 3)).astype(np.int64)),
    }


FORMAT = MeshFormat(
    TITLE, read, ("{name}/preprocess/hpe_results.pt", "{name}.pt", "{name}.npz"), frozenset({"pred_body_params_incam"})
)
