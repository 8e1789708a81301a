"""Real clips, their masks, and their labels: as `anthrotap label` gives them, or as it once wrote them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

import cv2
import numpy as np

from anthrotap_builder.clips import SkippedFrames
from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.pipeline import label_video
from anthrotap_builder.utils.video_paths import find_videos
from anthrotap_hf.data.shard_reader import ShardReader, find_shards
from anthrotap_hf.tracks import TrackedClip, Tracks
from anthrotap_hf.utils.atomic_files import atomic_write, file_sha256
from anthrotap_hf.video import probe, select_frames
from benchmarks.label_accuracy.evaluation import code_version

MASKS = "masks.npz"
# Arrays of `Tracks` that the kept labels hold.
ARRAYS = ("xy", "visible", "valid", "person", "vertex", "confidence")


@dataclass(frozen=True)
class Footage:
    """A real video.

    Attributes:
        name: the file's name without its ending.
        path: the video.
        masks: a file of masks of the person in front, `np.unpackbits(masks, axis=-1)[..., :width]`, [T, H, W], of all
            frames of the video; None without.
    """

    name: str
    path: Path
    masks: Path | None = None


@dataclass(frozen=True)
class LabeledVideo:
    """A video and its labels.

    Attributes:
        footage: the video.
        clips: its labeled clips in order, also those without tracks; `info["source_frames"]` has the number of each
            frame in the video. Their frames come from the video itself.
        skipped: frames that make no clip.
        people_found: by clip, for how many people there were meshes; None where that is not known (labels of shards).
    """

    footage: Footage
    clips: list[TrackedClip]
    skipped: list[SkippedFrames]
    people_found: list[int] | None


@dataclass(frozen=True)
class FootageClip:
    """What measures look at: one labeled clip with its frames.

    Attributes:
        name: the video's name and the clip's first frame.
        tracks: the labels.
        frames: [T, H, W, 3] uint8 RGB, of the tracks' size.
        mask: [T, H, W] bool, the person in front; None without.
    """

    name: str
    tracks: Tracks
    frames: np.ndarray
    mask: np.ndarray | None = None

    @cached_property
    def grays(self) -> list[np.ndarray]:
        """Frames in gray, each [H, W] uint8."""
        return [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in self.frames]

    @property
    def to_256(self) -> np.ndarray:
        """[2] float64, from pixels of the frames to those of a frame scaled to 256x256."""
        return np.array([256 / self.tracks.width, 256 / self.tracks.height])


def find_footage(folders: Sequence[Path], names: Sequence[str] = ()) -> list[Footage]:
    """Return the videos of folders and of the folders in them, by name; a video that lies beside masks has them.

    Args:
        folders: where to look.
        names: only these (all if empty).

    Raises:
        FileNotFoundError: if a folder is not there, or has no video.
        ValueError: if one of those named is not there; the message lists the known ones.
    """
    found: dict[str, Footage] = {}
    for folder in folders:
        for path in find_videos([folder]):
            masks = path.parent / MASKS
            found.setdefault(path.stem, Footage(path.stem, path, masks if masks.is_file() else None))
    unknown = sorted(set(names) - set(found))
    if unknown:
        raise ValueError(f"no clip {', '.join(unknown)}; there are {', '.join(found) or 'none'}")
    return [footage for name, footage in found.items() if not names or name in names]


def label_footage(footage: Footage, config: LabelingConfig, keep: Path, threads: int = 2) -> LabeledVideo:
    """Label a whole video as `anthrotap label` does; labels are kept, and used again while settings and code stay.

    Args:
        footage: the video.
        config: how to label.
        keep: folder of the kept labels.
        threads: frames processed at once.

    Raises:
        VideoError: if the video cannot be read.
        AssetError: if a network file is not to be had.
        ValueError: if the kept labels are damaged.
    """
    path = keep / f"{config.version()}-{code_version()}" / f"{footage.name}-{file_sha256(footage.path)[:16]}.npz"
    if path.exists():
        return _read_labels(footage, path)
    skipped: list[SkippedFrames] = []
    clips, people = [], []
    for labeled in label_video(footage.path, config, threads, on_skipped=skipped.append):
        source_frames = labeled.source_frames.tolist()
        clips.append(
            TrackedClip(
                labeled.tracks,
                fps=labeled.fps,
                clip_id=labeled.clip_id,
                start_frame=labeled.start_frame,
                info={**labeled.info, "source_frames": source_frames},
            )
        )
        people.append(len(labeled.people))
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_labels(clips, skipped, people, path)
    return _read_labels(footage, path)


def _write_labels(clips: list[TrackedClip], skipped: list[SkippedFrames], people: list[int], path: Path) -> None:
    arrays = {
        f"{number}.{name}": value
        for number, clip in enumerate(clips)
        for name in ARRAYS
        if (value := getattr(clip.tracks, name)) is not None
    }
    about = {
        "clips": [
            {
                "height": clip.tracks.height,
                "width": clip.tracks.width,
                "fps": clip.fps,
                "clip_id": clip.clip_id,
                "start_frame": clip.start_frame,
                "info": clip.info,
            }
            for clip in clips
        ],
        "skipped": [[each.start_frame, each.num_frames, each.reason] for each in skipped],
        "people_found": people,
    }
    with atomic_write(path) as tmp_path, tmp_path.open("wb") as file:
        np.savez_compressed(file, about=np.array(json.dumps(about)), **arrays)


def _read_labels(footage: Footage, path: Path) -> LabeledVideo:
    try:
        with np.load(path) as file:
            about = json.loads(str(file["about"]))
            clips = []
            for number, own in enumerate(about["clips"]):
                arrays = {name: file[f"{number}.{name}"] for name in ARRAYS if f"{number}.{name}" in file}
                tracks = Tracks(**arrays, height=own.pop("height"), width=own.pop("width"))
                clips.append(_with_frames(TrackedClip(tracks, **own), footage))
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path}: damaged ({error}); delete it, and it is made again") from error
    return LabeledVideo(footage, clips, [SkippedFrames(*each) for each in about["skipped"]], about["people_found"])


def read_labels(footage: Footage, folder: Path) -> LabeledVideo | None:
    """Return a video's labels from shards that `anthrotap label` wrote, perhaps with older code.

    Frames are those of the video itself. Their numbers follow from the first one and the rate, so for a video whose
    rate varies, and that was labeled at a rate of its own, they may be off by one.

    Args:
        footage: the video.
        folder: a folder of shards, or of folders of shards; rows belong to a video by the SHA-256 of its bytes.

    Returns:
        The labels; None if no row belongs to the video. What was skipped is not known.

    Raises:
        ShardError: if a shard cannot be read.
    """
    digest, rate = file_sha256(footage.path), probe(footage.path).fps
    shards = [shard for place in (folder, *sorted(folder.glob("*/"))) for shard in find_shards(place)]
    clips = []
    for shard in dict.fromkeys(shards):
        reader = ShardReader.from_path(shard, video=False)
        for row, (sha,) in enumerate(reader.columns(["source_sha256"])):
            if str(sha) == digest:
                clip = reader.clip(row)
                step = rate / clip.fps if rate and clip.fps and clip.fps < 0.98 * rate else 1.0
                numbers = clip.start_frame + np.round(np.arange(clip.tracks.num_frames) * step).astype(int)
                info = {**clip.info, "source_frames": numbers.tolist()}
                clips.append(_with_frames(replace(clip, info=info), footage))
    if not clips:
        return None
    return LabeledVideo(footage, sorted(clips, key=lambda clip: clip.start_frame), [], None)


def _with_frames(clip: TrackedClip, footage: Footage) -> TrackedClip:
    """The clip with frames that are decoded from the video when they are asked for."""
    load = partial(_frames_of, footage.path, clip.info["source_frames"], min(clip.tracks.height, clip.tracks.width))
    return replace(clip, video=load)


def _frames_of(path: Path, source_frames: list[int], short_side: int, numbers: Sequence[int]) -> Iterator[np.ndarray]:
    return select_frames(path, [source_frames[number] for number in numbers], short_side)


def iter_footage_clips(video: LabeledVideo) -> Iterator[FootageClip]:
    """Yield the clips of a video with frames and masks, one at a time."""
    masks = FootageMasks(video.footage.masks) if video.footage.masks else None
    for clip in video.clips:
        tracks = clip.tracks
        frames = np.stack(list(clip.iter_frames(range(tracks.num_frames))))
        mask = masks.scaled(clip.info["source_frames"], tracks.height, tracks.width) if masks else None
        yield FootageClip(f"{video.footage.name} {clip.start_frame}", tracks, frames, mask)


class FootageMasks:
    """The masks of a video's frames."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as file:
            self._bits, self._width = file["masks"], int(file["width"])
        self._path = path

    def __len__(self) -> int:
        return len(self._bits)

    def full(self, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        """[T, H, W] bool, the masks of these frames, of the file's size. Raises ValueError for a frame without one."""
        if len(numbers) and max(numbers) >= len(self):
            raise ValueError(f"{self._path}: has {len(self)} masks, none of frame {max(numbers)}")
        return np.unpackbits(self._bits[np.asarray(numbers, int)], axis=-1)[..., : self._width].astype(bool)

    def scaled(self, numbers: Sequence[int], height: int, width: int) -> np.ndarray:
        """[T, height, width] bool, the same in frames of another size."""
        full = self.full(numbers)
        if full.shape[1:] == (height, width):
            return full
        size = (width, height)
        return np.stack([cv2.resize(m, size, interpolation=cv2.INTER_NEAREST) for m in full.astype(np.uint8)]) > 0
