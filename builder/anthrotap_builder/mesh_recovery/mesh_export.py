"""Meshes of a file of ours as `.obj`, for Blender and others: a folder for each person, a file for each frame."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from anthrotap_builder.bodies import load_body
from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.mesh_recovery.mesh_file import SUFFIX, MeshFileError, read_meshes
from anthrotap_builder.utils.video_paths import OVERLAY
from anthrotap_builder.video_result import VideoResult
from anthrotap_hf.utils.atomic_files import beside, replace_dir


def export_obj(path: Path, folder: Path, gender: str = "neutral", body_file: Path | None = None) -> int:
    """Write PERSON/FRAME.obj for each mesh of a file; return how many.

    Axes are OpenGL's, which programs expect: x right, y up, z towards the camera, meters, the camera at the origin.
    `--meshes FOLDER --meshes-focal PIXELS` reads them again.

    Args:
        path: a file that `--write-meshes` wrote.
        folder: that takes the place of one of this name, as a whole.
        gender, body_file: of the body, as `load_body` takes them.

    Raises:
        MeshFileError: if the file cannot be read, or has no vertices.
    """
    file = read_meshes(path)
    if file.vertices is None:
        raise MeshFileError("it has parameters of a body and no vertices", path=path)
    faces = file.faces if file.faces is not None else load_body(file.body, gender, body_file).faces
    corners = "\n".join(f"f {a} {b} {c}" for a, b, c in (faces + 1).tolist())
    staged = beside(folder, "incomplete")
    try:
        for row, (frame, person) in enumerate(zip(file.frame.tolist(), file.person.tolist(), strict=True)):
            target = staged / str(person) / f"{frame:06d}.obj"
            target.parent.mkdir(parents=True, exist_ok=True)
            points = "\n".join(f"v {x:.7g} {-y:.7g} {-z:.7g}" for x, y, z in file.vertices[row].tolist())
            target.write_text(f"{points}\n{corners}\n")
        replace_dir(staged, folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return len(file.frame)


def export_meshes(results: Sequence[VideoResult], out: Path, config: LabelingConfig) -> None:
    """Write NAME.obj for each video that has NAME.meshes.npz in a run's folder.

    Args:
        results: of the run.
        out: its folder.
        config: which body the meshes are of.
    """
    for result in results:
        name = (result.overlay or "").removesuffix(OVERLAY)
        if result.rows and (path := out / f"{name}{SUFFIX}").exists():
            export_obj(path, out / f"{name}.obj", config.gender, config.body_file)
