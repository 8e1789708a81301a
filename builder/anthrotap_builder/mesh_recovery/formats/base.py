"""What all formats of meshes share: the facts of the video, the description of a format, and helpers for readers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from anthrotap_builder.mesh_recovery.mesh_file import MeshFileError
from anthrotap_builder.registries import MESH_FORMATS
from anthrotap_hf.utils.errors import one_line
from anthrotap_hf.utils.safe_pickle import UnsafeFileError, array_of
from anthrotap_hf.video import image_folder, probe
from anthrotap_hf.video.containers import open_video


@dataclass(frozen=True)
class VideoFacts:
    """What the formats need to know of the video that the meshes are of.

    Attributes:
        name: of the file, without its suffix.
        width, height: displayed size, pixels.
        fps: frames a second; None where the file does not say.
        num_frames: packets of its video stream, which are its frames as a rule.
    """

    name: str
    width: int
    height: int
    fps: float | None
    num_frames: int

    @classmethod
    def of(cls, path: Path) -> VideoFacts:
        """Read a video's header and count its packets; nothing but the first frame is decoded.

        Raises:
            VideoError: it cannot be read.
        """
        info = probe(path)
        if folder := image_folder(path):
            return cls(path.name, info.width, info.height, info.fps, len(folder))
        with open_video(path) as (container, stream):
            count = sum(1 for packet in container.demux(stream) if packet.size)
        return cls(path.stem, info.width, info.height, info.fps, count)


@dataclass(frozen=True)
class MeshInput:
    """A file to read, and for which video.

    Attributes:
        path: the file, or the folder.
        video: that the meshes are of.
        focal: focal length in the video's own pixels, if the user says it: positive.
    """

    path: Path
    video: VideoFacts
    focal: float | None = None

    def error(self, reason: object, hint: str | None = None) -> MeshFileError:
        return MeshFileError(reason, path=self.path, hint=hint)

    def refuse_focal(self) -> None:
        """Raise MeshFileError if the user says a focal length: the file says its own."""
        if self.focal is not None:
            raise self.error("the file says its camera itself", "leave out --meshes-focal")

    @property
    def diagonal(self) -> float:
        """The diagonal of the video's frames, pixels: the focal length that many networks suppose."""
        return float(np.hypot(self.video.width, self.video.height))

    def camera(self, focal: float) -> dict[str, Any]:
        """Return the entries `size` and `focal` of a camera for the video's own frames.

        Args:
            focal: pixels, where the user says none.
        """
        size = np.array([self.video.height, self.video.width])
        return {"size": size, "focal": np.array(focal if self.focal is None else self.focal, np.float64)}


@dataclass(frozen=True)
class MeshFormat:
    """A format of files of meshes; an entry of `registries.MESH_FORMATS` names one.

    Attributes:
        title: what writes it, as its authors call it.
        read: returns the entries of the table of `mesh_recovery.mesh_file`; raises MeshFileError.
        files: where a video's file is in a folder of several videos' ones, the first that is there; {name} is the
            video's name without suffix. The first is also what a file is known by if its name is always the same.
        marks: names of entries that only such a file has, to tell whose a file is.
        has_camera: whether the file says the focal length, so that the user may not.
        has_people: whether the file tells people apart over time.
    """

    title: str
    read: Callable[[MeshInput], Mapping[str, Any]]
    files: tuple[str, ...]
    marks: frozenset[str]
    has_camera: bool = True
    has_people: bool = True


def entries(source: MeshInput, content: Any, title: str, *names: str) -> list[Any]:
    """Return entries of a dict of a file. Raises MeshFileError, and says whose file it seems to be, if one is missing.

    Args:
        source: the file.
        content: what should be a dict.
        title: of the format.
        names: of the entries.
    """
    missing = [name for name in names if not isinstance(content, Mapping) or name not in content]
    if missing:
        raise not_ours(source, f"it has no {' and no '.join(missing)}", title, keys_of(content))
    return [content[name] for name in names]


def keys_of(content: Any, depth: int = 3) -> set[str]:
    """Return the names of entries in a file's dicts, in lists and dicts within one another up to some depth."""
    if isinstance(content, Mapping):
        names = {name for name in content if isinstance(name, str)}
        inner: Sequence[Any] = list(content.values())
    elif isinstance(content, list | tuple):
        names, inner = set(), content
    else:
        return set()
    # Of many frames the first ones tell.
    return names.union(*(keys_of(value, depth - 1) for value in inner[:20])) if depth else names


def not_ours(source: MeshInput, reason: str, title: str, keys: set[str]) -> MeshFileError:
    """Return the error for a file that is none of a format; it names the format whose marks are there."""
    for name in MESH_FORMATS:
        other: MeshFormat = MESH_FORMATS.load(name)
        if other.marks and other.marks <= keys and other.title != title:
            return source.error(
                f"it is no output of {title}", f"it seems to be {other.title}'s: --meshes-format {name}"
            )
    return source.error(f"it is no output of {title}: {reason}")


def numbers(source: MeshInput, value: Any, name: str, *shapes: tuple[int | None, ...]) -> np.ndarray:
    """Return a part of a file as a float64 array of one of the shapes (None: any length).

    Args:
        source: the file.
        value: an array, a tensor, a list of numbers, or a part of what the safe reader of pickles gave.
        name: of the part, for messages.
        shapes: what it may be; anything if there is none.

    Raises:
        MeshFileError: it is no such array.
    """
    try:
        array = value.detach().numpy() if hasattr(value, "detach") else array_of(value)
    except UnsafeFileError as error:
        raise source.error(f"{name}: {error.reason}") from error
    except (RuntimeError, TypeError) as error:
        raise source.error(f"{name}: {one_line(error)}") from error
    fits = (
        len(shape) == array.ndim and all(side in (None, got) for side, got in zip(shape, array.shape, strict=True))
        for shape in shapes
    )
    if shapes and not any(fits):
        expected = " or ".join(str([side or "any" for side in shape]) for shape in shapes)
        raise source.error(f"{name} must be {expected}, got {list(array.shape)}")
    return array.astype(np.float64)


def one_size(source: MeshInput, sizes: np.ndarray) -> np.ndarray:
    """Return the one height and width of [M, 2]. Raises MeshFileError if there are several: two cameras' frames."""
    found = np.unique(np.round(sizes).astype(int), axis=0)
    if len(found) != 1:
        named = " and ".join(f"{width}x{height}" for height, width in found[:2].tolist())
        raise source.error(
            f"its meshes are of frames of {len(found)} sizes, {named}", "give each camera's meshes alone"
        )
    return found[0]
