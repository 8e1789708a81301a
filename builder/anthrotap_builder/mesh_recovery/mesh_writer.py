"""Writing meshes to a file that `mesh_file.read_meshes` reads."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Self

import numpy as np

from anthrotap_builder.bodies import Body, MeshSurface
from anthrotap_builder.geometry.camera import Camera
from anthrotap_builder.mesh_recovery.track import MeshTrack
from anthrotap_hf.utils.atomic_files import atomic_write


class MeshWriter:
    """Writes the meshes of a video; the file appears when the `with` block ends without an error.

    Vertices wait in a temporary file, so memory does not grow with the video. Without any mesh no file is written.

    Args:
        path: the file.
        body: whose meshes they are.
    """

    def __init__(self, path: Path, body: Body | MeshSurface) -> None:
        self.path, self.body = path, body
        self._frame: list[np.ndarray] = []
        self._person: list[np.ndarray] = []
        self._camera: Camera | None = None
        self._vertices = tempfile.TemporaryFile(dir=path.parent)  # noqa: SIM115

    def add(self, frames: np.ndarray, meshes: Iterable[MeshTrack], camera: Camera) -> None:
        """Add a clip's meshes in the frames where they are present.

        Args:
            frames: [T] int, decoded frames of the video.
            meshes: of all people.
            camera: of the clip, the same for all clips.

        Raises:
            ValueError: if the camera is not that of the clips before.
        """
        if self._camera not in (None, camera):
            raise ValueError(f"{self.path}: one file has one camera: {self._camera} before, now {camera}")
        self._camera = camera
        for mesh in meshes:
            # A slow video that was resampled has frames twice; each is written once.
            times = np.flatnonzero(mesh.present)
            times = times[np.unique(frames[times], return_index=True)[1]]
            self._frame.append(frames[times])
            self._person.append(np.full(len(times), mesh.person))
            self._vertices.write(np.ascontiguousarray(mesh.vertices[times], np.float32).tobytes())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._write()
        self._vertices.close()

    def _write(self) -> None:
        count = sum(map(len, self._frame))
        if not count or self._camera is None:
            return
        arrays: dict[str, np.ndarray] = {
            "frame": np.concatenate(self._frame).astype(np.int64),
            "person": np.concatenate(self._person).astype(np.int64),
            "size": np.array([self._camera.height, self._camera.width]),
            "focal": np.array(self._camera.focal),
        }
        if self.body.name == "mesh":
            arrays["faces"] = self.body.faces
        else:
            arrays["body"] = np.array(self.body.name)
        header = {"descr": "<f4", "fortran_order": False, "shape": (count, len(self.body.template), 3)}
        with atomic_write(self.path) as tmp_path:
            np.savez(tmp_path, allow_pickle=False, **arrays)
            # Vertices are appended to the archive piece by piece: they may be larger than memory.
            with (
                zipfile.ZipFile(tmp_path, "a") as archive,
                archive.open("vertices.npy", "w", force_zip64=True) as out,
            ):
                np.lib.format.write_array_header_2_0(out, header)
                self._vertices.seek(0)
                while block := self._vertices.read(1 << 22):
                    out.write(block)
