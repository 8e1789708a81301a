"""Whose mesh it is, by the number of its vertices, and the faces of meshes that no body has."""

from __future__ import annotations

from typing import Any

import numpy as np

from anthrotap_builder.bodies import load_body
from anthrotap_builder.bodies.smpl_files import MODELS
from anthrotap_builder.mesh_recovery.formats.base import MeshInput, numbers
from anthrotap_builder.mesh_recovery.formats.opening import load_array
from anthrotap_builder.mesh_recovery.mesh_file import Vertices

ANNY_VERTICES = 13718
# SMPL-H has the mesh of SMPL.
BODIES_BY_VERTICES = {ANNY_VERTICES: "anny"} | {
    model.num_vertices: name for name, model in MODELS.items() if model.num_vertices and name != "smplh"
}
FACES_FILE = "faces.npy"
SAVE_FACES = "save the network's faces [F, 3] as faces.npy in the folder: np.save"


def body_of_faces(vertices: Vertices, faces: np.ndarray) -> dict[str, Any]:
    """Return the entry `body` for meshes of Anny, whose surface is known; `faces` for any other."""
    if vertices.shape[1] == ANNY_VERTICES and np.array_equal(faces, load_body("anny").faces):
        return {"body": "anny"}
    return {"faces": faces}


def body_or_faces(source: MeshInput, vertices: Vertices) -> dict[str, Any]:
    """Return the entry `faces`, of the file `faces.npy` in the folder, or `body`, which has as many vertices.

    Raises:
        MeshFileError: there is no such file, and no body has that many vertices.
    """
    if (source.path / FACES_FILE).is_file():
        return body_of_faces(vertices, read_faces(MeshInput(source.path / FACES_FILE, source.video)))
    count = vertices.shape[1]
    if count not in BODIES_BY_VERTICES:
        known = ", ".join(f"{number} ({body})" for number, body in BODIES_BY_VERTICES.items())
        raise source.error(f"its meshes have {count} vertices, and known bodies have {known}", SAVE_FACES)
    return {"body": BODIES_BY_VERTICES[count]}


def read_faces(source: MeshInput) -> np.ndarray:
    """Return [F, 3] int64 of an `.npy`. Raises MeshFileError."""
    array = load_array(source)
    return numbers(source, array, "faces", (None, 3)).astype(np.int64)
