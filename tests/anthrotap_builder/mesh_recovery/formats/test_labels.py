"""The open default's own meshes, written in other programs' layouts, give the default's labels again."""

import pickle
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from anthrotap_builder.bodies import load_body
from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.context import ClipContext
from anthrotap_builder.mesh_recovery.formats import read_mesh_file
from anthrotap_builder.mesh_recovery.mesh_file import ClipMeshes
from anthrotap_builder.pipeline import LabeledClip, Stages, label_clip
from anthrotap_hf.video import decode_video, write_video
from helpers.mesh_layouts import write_obj

COUNT, POINTS = 10, 128
ROOT = Path(__file__).parents[4]


def write(layout: str, folder: Path, clip: LabeledClip) -> Path:
    """Write the clip's meshes in a layout; return the file or folder."""
    folder.mkdir()
    height, width = clip.frames.shape[1:3]
    focal, faces = clip.camera.focal, load_body("anny").faces
    for frame in range(COUNT):
        meshes = np.stack([mesh.vertices[frame] for mesh in clip.meshes if mesh.present[frame]])
        if layout == "multi-hmr":
            scale = 672 / max(height, width)
            square = np.array([[focal * scale, 0, 336], [0, focal * scale, 336], [0, 0, 1]], np.float32)
            people = [{"v3d": mesh, "K": square} for mesh in meshes]
            (folder / f"{frame + 1:06d}.pkl").write_bytes(pickle.dumps(people))
        elif layout == "sam-3d-body":
            away = meshes.mean(1)
            lengths = np.full(len(meshes), focal, np.float32)
            parts = {"pred_vertices": meshes - away[:, None], "pred_cam_t": away, "focal_length": lengths}
            np.savez(folder / f"{frame:05d}.npz", faces=faces, **parts)
        else:
            for number, mesh in enumerate(meshes):
                # As renderers save it: in OpenGL's axes.
                write_obj(folder / f"{frame:05d}_{number}.obj", mesh * [1, -1, -1], faces)
    return folder


def unique_rows(clip: LabeledClip) -> dict[int, int]:
    """The row of each person's vertex that stands for one row: two points may be near one vertex."""
    numbers = clip.tracks.person.astype(np.int64) * 100_000 + clip.tracks.vertex
    values, rows, counts = np.unique(numbers, return_index=True, return_counts=True)
    return {int(value): int(row) for value, row, count in zip(values, rows, counts, strict=True) if count == 1}


@pytest.mark.slow
def test_other_layouts_of_the_default_s_meshes_give_its_labels(tmp_path):
    frames = decode_video(ROOT / "examples/dance.mp4")[:COUNT]
    frames = np.stack([cv2.resize(frame, (428, 240), interpolation=cv2.INTER_AREA) for frame in frames])
    video = tmp_path / "dance.mp4"
    write_video(video, frames, 24)
    config = LabelingConfig(points=POINTS)
    people = Stages().detection(ClipContext.of(frames, 24.0, config, threads=1))
    stages = Stages(detection=lambda context: people)
    default = label_clip(frames, 24.0, config, threads=1, stages=stages)
    assert len(default.tracks) > POINTS / 4
    for layout in ("sam-3d-body", "folder", "multi-hmr"):
        path = write(layout, tmp_path / layout, default)
        focal = default.camera.focal if layout == "folder" else None
        file = read_mesh_file(path, video, layout, focal)
        given = config.model_copy(update={"mesh_source": file.mesh_source})
        clip = label_clip(
            *(frames, 24.0, given),
            threads=1,
            stages=replace(stages),
            meshes=ClipMeshes(file, np.arange(COUNT)),
        )
        assert (clip.info["mesh_source"], clip.info["body_model"]) == (f"file:{layout}", "anny")
        ours, theirs = unique_rows(default), unique_rows(clip)
        pairs = [(ours[vertex], theirs[vertex]) for vertex in ours.keys() & theirs.keys()]
        assert len(pairs) > 0.9 * len(ours)
        a, b = np.array(pairs).T
        # The layout's own precision is that of float32, and of eight digits in .obj.
        both = default.tracks.visible[a] & clip.tracks.visible[b]
        assert both.sum() > 0.9 * default.tracks.visible[a].sum()
        assert np.abs(default.tracks.xy[a] - clip.tracks.xy[b])[both].max() < 0.02
