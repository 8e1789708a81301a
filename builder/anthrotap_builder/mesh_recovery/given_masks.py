"""Masks that a user brings, of whom the meshes of a file are: of animals, or of people whom the detection misses."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from anthrotap_builder.detection import PersonTrack, mask_box
from anthrotap_builder.mesh_recovery.mesh_file import MeshFileError
from anthrotap_hf.video import VideoError
from anthrotap_hf.video.images import ImageFolder, image_folder


@dataclass(frozen=True)
class GivenMasks:
    """Masks of a video: pictures, one for each of its frames, that are not black where somebody is.

    Attributes:
        path: the folder.
        folders: the pictures, in natural order of their names, by the number of the person in the file of meshes.
    """

    path: Path
    folders: dict[int, ImageFolder]

    @cached_property
    def digest(self) -> str:
        """A short hash of the pictures."""
        found = hashlib.sha256()
        for person, folder in sorted(self.folders.items()):
            found.update(str(person).encode())
            for file in folder.files:
                found.update(hashlib.sha256(file.read_bytes()).digest())
        return found.hexdigest()[:12]

    def people(self, frames: np.ndarray, height: int, width: int, num_people: int) -> list[PersonTrack]:
        """Return who the meshes of a clip are, in the order of their numbers; without a mask for those who have none.

        Args:
            frames: [T] int, numbers of the clip's frames in the video.
            height, width: of the clip's frames; masks of another size are scaled.
            num_people: of the file of meshes.

        Raises:
            MeshFileError: if there is no mask of a frame, or a picture can't be read.
        """
        empty = PersonTrack(
            np.full((len(frames), 4), np.nan, np.float32), mask=np.zeros((len(frames), height, width), bool)
        )
        people = [empty] * num_people
        for person, folder in self.folders.items():
            if frames.max(initial=-1) >= len(folder):
                raise MeshFileError(
                    f"it has {len(folder)} masks, and the video a frame {frames.max()}",
                    path=folder.path,
                    hint="give a picture for each frame of the video, those without anybody too",
                )
            mask = np.zeros((len(frames), height, width), bool)
            boxes = np.full((len(frames), 4), np.nan, np.float32)
            for t, number in enumerate(frames):
                try:
                    picture = folder.image(int(number)).any(-1)
                except VideoError as error:
                    raise MeshFileError(error.reason, path=error.path, hint=error.hint) from error
                mask[t] = cv2.resize(picture.astype(np.uint8), (width, height), interpolation=cv2.INTER_AREA) > 0
                boxes[t] = mask_box(mask[t])
            if person < num_people:
                people[person] = PersonTrack(boxes, mask=mask)
        return people


def read_masks(path: Path) -> GivenMasks:
    """Find the pictures of a folder: of person 0, or in folders of their own, 0, 1, ..., those of each person.

    Raises:
        MeshFileError: if there are none.
    """
    if not path.is_dir():
        raise MeshFileError("no such folder of masks", path=path)
    numbered = sorted(folder for folder in path.iterdir() if folder.is_dir() and re.fullmatch("[0-9]+", folder.name))
    try:
        pictures = {int(folder.name): image_folder(folder) for folder in numbered} or {0: image_folder(path)}
    except VideoError as error:
        hint = "name a folder of pictures, one for each frame, or of folders 0, 1, ... of such for each person"
        raise MeshFileError("no picture is in it", path=error.path, hint=hint) from error
    return GivenMasks(path, {person: folder for person, folder in pictures.items() if folder is not None})
