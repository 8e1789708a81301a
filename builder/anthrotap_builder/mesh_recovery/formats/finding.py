"""Which file of meshes belongs to which video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from anthrotap_builder.mesh_recovery.formats import is_frame_folder, read_mesh_file
from anthrotap_builder.mesh_recovery.formats.base import MeshFormat
from anthrotap_builder.mesh_recovery.given_masks import read_masks
from anthrotap_builder.mesh_recovery.mesh_file import OURS, MeshFile, MeshFileError
from anthrotap_builder.registries import MESH_FORMATS


def find_meshes(
    path: Path, videos: Sequence[Path], format: str | None = None, focal: float | None = None
) -> dict[Path, MeshFile | MeshFileError]:
    """Read the meshes of each video: from one file for one video, or from a folder with those of each.

    A file that is missing or can't be used costs only its video: the error stands in the place of its meshes. So does
    one with meshes of another body or format than the first.

    Args:
        path: the file or folder of one video, or a folder of what the format calls the file of the video NAME:
            NAME.meshes.npz of ours.
        videos: that the meshes are of.
        format: a name in `registries.MESH_FORMATS`; None: guessed for one video, ours for several.
        focal: focal length in the videos' own pixels, for formats that do not say it.

    Raises:
        MeshFileError: if no video has meshes that can be used, or one file is given for several videos.
        AnthroTapError: there is no such format.
    """
    if len(videos) > 1 and not path.is_dir():
        name = _format(format).files[0].format(name="NAME")
        hint = f"name a folder with a {name} for each NAME.mp4"
        raise MeshFileError(f"one file for {len(videos)} videos", path=path, hint=hint)
    if len(videos) > 1 and format is None:
        format = OURS
    meshes: dict[Path, MeshFile | MeshFileError] = {}
    first: MeshFile | None = None
    for video in videos:
        file = _file_of(path, video, len(videos) == 1, format)
        try:
            found = read_mesh_file(file, video, format, focal)
            if first is not None:
                _check_alike(found, first)
            first, meshes[video] = first or found, found
        except MeshFileError as error:
            meshes[video] = error
    if first is None:
        for each in meshes.values():
            if isinstance(each, MeshFileError):
                raise each
    return meshes


def with_masks(meshes: Mapping[Path, MeshFile | MeshFileError], path: Path) -> dict[Path, MeshFile | MeshFileError]:
    """Return meshes with the masks of whom they are.

    Args:
        meshes: of each video.
        path: the folder of masks of one video, or of several a folder with a folder NAME for each NAME.mp4.

    Raises:
        MeshFileError: if there is only one video, and no masks; of several, one without masks costs itself alone.
    """
    found = dict(meshes)
    for video, file in meshes.items():
        if isinstance(file, MeshFileError):
            continue
        try:
            found[video] = replace(file, masks=read_masks(path if len(meshes) == 1 else path / video.stem))
        except MeshFileError as error:
            if len(meshes) == 1:
                raise
            found[video] = error
    return found


def _format(name: str | None) -> MeshFormat:
    found: MeshFormat = MESH_FORMATS.load(name or OURS)
    return found


def _file_of(path: Path, video: Path, alone: bool, format: str | None) -> Path:
    """Return where the meshes of a video are; `alone`: whether there is no other video."""
    if not path.is_dir():
        return path
    known = _format(format)
    places = [path / place.format(name=video.stem) for place in known.files]
    found = next((place for place in places if place.exists()), None)
    if found is None and alone and ("{name}" in known.files or (format is None and is_frame_folder(path))):
        return path
    return found or places[0]


def _check_alike(file: MeshFile, first: MeshFile) -> None:
    """Raise MeshFileError if a file is of another body, gender or format than the first."""
    for what in ("body", "gender", "format"):
        ours, theirs = getattr(file, what), getattr(first, what)
        if ours != theirs:
            reason = f"meshes of the {what} {ours!r}, those of {first.path} of {theirs!r}"
            raise MeshFileError(reason, path=file.path, hint="label them in two runs")
