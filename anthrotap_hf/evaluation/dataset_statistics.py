"""The run over datasets: each clip's labels are read, without its video where that can be, measured and counted."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from anthrotap_hf.data.shard_reader import DamagedShardError, ShardReader
from anthrotap_hf.evaluation import readers
from anthrotap_hf.evaluation.track_statistics import (
    RESOLUTION,
    SHORTEST_STEP,
    at_resolution,
    displacements,
    extents,
    returns,
    run_lengths,
    speeds,
    trajectory_complexity,
    trajectory_diversity,
)
from anthrotap_hf.readers.benchmarks import BenchmarkError, EvaluationVideo
from anthrotap_hf.readers.panning_movi import PanningMoviClips
from anthrotap_hf.readers.procedural import ProceduralClips
from anthrotap_hf.readers.training_sources import (
    ClipSource,
    DriveTrackClips,
    KubricClips,
    LetsDanceClips,
    PointOdysseyClips,
)
from anthrotap_hf.training.samples import BAD, BadSampleError

COMMON_RATE = 10  # frames a second at which complexity is given as well, where rates are known
REASONS = 20  # why clips are left out; what comes later is not told apart
QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)


@dataclass(frozen=True)
class Labels:
    """What is known of the tracks of a clip.

    Attributes:
        name: of the clip.
        xy: [N, T, 2] raster pixels of a frame of height x width; anything where not seen.
        visible, valid: [N, T] bool, as of `Tracks`.
        height, width: pixels.
        fps: frames a second, where known.
        people: how many the tracks lie on, where known.
        confidence: [N, T] of seen labels, where known.
    """

    name: str
    xy: np.ndarray
    visible: np.ndarray
    valid: np.ndarray
    height: int
    width: int
    fps: float | None = None
    people: int | None = None
    confidence: np.ndarray | None = None


# What to do for the labels of a clip: raises one of `BAD` where they can't be had.
Reading = Callable[[], Labels]


@dataclass(frozen=True)
class Kind:
    """A layout of datasets.

    Attributes:
        read: a reading for each clip of the dataset at a path. What is wrong with all of it is raised.
        count: how many there are, where that is cheap to know.
        tells_hidden: whether hidden labels are told apart from unknown ones.
    """

    read: Callable[[Path], Iterator[Reading]]
    count: Callable[[Path], int | None]
    tells_hidden: bool = True


def _shards(path: Path) -> Iterator[Reading]:
    """Our Parquet shards, without the column of videos."""
    reader = ShardReader.from_path(path, video=False)
    return (partial(_labels_of_row, reader, number) for number in range(len(reader)))


def _labels_of_row(reader: ShardReader, number: int) -> Labels:
    try:
        clip = reader.clip(number)
    except DamagedShardError as error:
        raise BadSampleError(str(error)) from error
    tracks = clip.tracks
    if min(tracks.height, tracks.width) < 1:
        raise BadSampleError(f"{clip.clip_id}: a frame of {tracks.width} x {tracks.height} pixels")
    return Labels(
        clip.clip_id,
        tracks.xy,
        tracks.visible,
        tracks.valid,
        tracks.height,
        tracks.width,
        fps=clip.fps,
        people=len(np.unique(tracks.person)),
        confidence=tracks.confidence,
    )


def _clips(
    make: Callable[[Path], ClipSource], fps: float | None = None
) -> Callable[[Path], Iterator[Reading]]:
    """From a source of training clips; no frame is decoded."""

    def labels(source: ClipSource, index: int) -> Labels:
        clip = source[index]
        return Labels(clip.name, clip.tracks, clip.visible, clip.valid, clip.height, clip.width, fps)

    def readings(path: Path) -> Iterator[Reading]:
        source = make(path)
        return (partial(labels, source, index) for index in range(len(source)))

    return readings


def _videos(read: Callable[[Path], Iterator[EvaluationVideo]]) -> Callable[[Path], Iterator[Reading]]:
    """From a reader of benchmarks, which decodes the videos as well; a damaged one ends it."""

    def labels(video: EvaluationVideo) -> Labels:
        height, width = video.frames.shape[1:3]
        return Labels(video.name, video.tracks, video.visible, video.valid, height, width)

    return lambda path: (partial(labels, video) for video in read(path))


def _number_of_clips(path: Path) -> int:
    if not (str(path).isdecimal() and int(str(path))):
        raise ValueError(f"{path}: for procedural clips, say how many instead of where they are")
    return int(str(path))


def _dance(path: Path) -> ClipSource:
    return LetsDanceClips(path, None)


def _procedural(path: Path) -> ClipSource:
    return ProceduralClips(length=_number_of_clips(path))


KINDS = {
    "shards": Kind(_shards, readers.count_shards),
    "letsdance": Kind(_clips(_dance, fps=10), lambda path: len(_dance(path)), tells_hidden=False),
    "kubric": Kind(_clips(KubricClips), lambda path: len(KubricClips(path))),
    "pointodyssey": Kind(_clips(PointOdysseyClips), lambda path: len(PointOdysseyClips(path))),
    "movi": Kind(_clips(PanningMoviClips), lambda path: len(PanningMoviClips(path))),
    "drivetrack": Kind(_clips(DriveTrackClips), lambda path: len(DriveTrackClips(path)), tells_hidden=False),
    "procedural": Kind(_clips(_procedural), _number_of_clips),
    "tapvid": Kind(_videos(readers.read_tapvid), readers.count_tapvid),
    "points": Kind(_videos(readers.read_points), lambda path: len(readers.point_files(path))),
}


def find_kind(name: str) -> Kind:
    """Raises ValueError, which lists them, if there is none of this name."""
    if name not in KINDS:
        raise ValueError(f"no kind {name!r} of dataset: choose from {', '.join(KINDS)}")
    return KINDS[name]


class Distribution:
    """Values of a kind as counts in bins, so that memory does not grow with their number.

    Whole numbers up to 86 have a bin each; beyond, and for other values from 0.001 on, bins are 1.2 % wide, and a
    quantile is the mean of the values in its bin.
    """

    edges = np.concatenate([[-np.inf], np.geomspace(1e-3, 1e6, 1801), [np.inf]])

    def __init__(self) -> None:
        self.counts = np.zeros(len(self.edges) - 1, np.int64)
        self.sums = np.zeros(len(self.edges) - 1)

    def add(self, values: np.ndarray) -> None:
        """NaN is left out."""
        values = np.asarray(values, np.float64).ravel()
        values = values[~np.isnan(values)]
        # A hair above, so that a whole number that is an edge does not fall to either side of it by rounding.
        places = np.searchsorted(self.edges, values * (1 + 1e-9), side="right") - 1
        self.counts += np.bincount(places, minlength=len(self.counts))
        self.sums += np.bincount(places, values, minlength=len(self.counts))

    @property
    def count(self) -> int:
        return int(self.counts.sum())

    @property
    def mean(self) -> float | None:
        return float(self.sums.sum() / self.count) if self.count else None

    def quantile(self, share: float) -> float | None:
        """The smallest value that so large a share (of all values) does not exceed."""
        if not self.count:
            return None
        place = int(np.searchsorted(np.cumsum(self.counts), max(share * self.count - 1e-6, 1)))
        return float(self.sums[place] / self.counts[place])

    def summary(self) -> dict[str, Any]:
        """`count`, `mean`, `quantiles` by share, and the cumulative curve: `values`, and the `shares` up to them."""
        there = np.nonzero(self.counts)[0]
        return {
            "count": self.count,
            "mean": self.mean,
            "quantiles": {f"{share:g}": self.quantile(share) for share in QUANTILES},
            "values": [round(value, 5) for value in (self.sums[there] / self.counts[there]).tolist()],
            "shares": [
                round(share, 5) for share in (np.cumsum(self.counts[there]) / max(self.count, 1)).tolist()
            ],
        }


# Lengths in frames, places and speeds in pixels at 256x256, complexity in radians per frame squared, diversity in
# shares of the frame. "At 10 a second" is every k-th frame, with the k that comes nearest.
DISTRIBUTIONS = (
    "frames_of_clips",
    "fps",
    "people",
    "tracks_of_clips",
    "frames_valid",
    "frames_seen",
    "seen_spells",
    "hidden_spells",
    "returns",
    "speed",
    "displacement",
    "extent",
    "complexity",
    "complexity_at_10",
    "diversity",
    "confidence",
)


@dataclass
class Tally:
    """All that is counted of a dataset."""

    clips: int = 0
    tracks: int = 0
    frames: int = 0
    visible: int = 0
    occluded: int = 0
    invalid: int = 0
    tracks_seen_again: int = 0
    left_out: dict[str, dict[str, Any]] = field(default_factory=dict)
    distributions: dict[str, Distribution] = field(
        default_factory=lambda: {name: Distribution() for name in DISTRIBUTIONS}
    )

    def add(self, labels: Labels) -> None:
        """Raises BadSampleError, and counts nothing, if a seen label has no finite place."""
        seen, hidden = labels.valid & labels.visible, labels.valid & ~labels.visible
        if not np.isfinite(labels.xy[seen]).all():
            raise BadSampleError(f"{labels.name}: a seen label has no finite place")
        tracks, frames = seen.shape
        self.clips += 1
        self.tracks += tracks
        self.frames += frames
        self.visible += int(seen.sum())
        self.occluded += int(hidden.sum())
        self.invalid += int((~labels.valid).sum())
        again = returns(seen)
        self.tracks_seen_again += int((again > 0).sum())
        for name, values in _measures(labels, seen, hidden).items():
            self.distributions[name].add(values)
        self.distributions["returns"].add(again[seen.any(1)])

    def leave_out(self, error: Exception) -> None:
        """Count a clip that can't be used by what is wrong with it; the first such clip is named."""
        name, _, reason = _one_line(error).partition(": ")
        if reason not in self.left_out and len(self.left_out) >= REASONS:
            reason = "other reasons"
        self.left_out.setdefault(reason, {"clips": 0, "first": name})["clips"] += 1

    def summary(self) -> dict[str, Any]:
        labels = self.visible + self.occluded + self.invalid
        return {
            "clips": self.clips,
            "left_out": self.left_out,
            "tracks": self.tracks,
            "frames": self.frames,
            "labels": labels,
            "visible": self.visible / labels if labels else None,
            "occluded": self.occluded / labels if labels else None,
            "invalid": self.invalid / labels if labels else None,
            "tracks_seen_again": self.tracks_seen_again / self.tracks if self.tracks else None,
            "distributions": {name: each.summary() for name, each in self.distributions.items()},
        }


def _measures(labels: Labels, seen: np.ndarray, hidden: np.ndarray) -> dict[str, np.ndarray]:
    """Values for `DISTRIBUTIONS`."""
    size = np.array([labels.width, labels.height])
    xy = at_resolution(labels.xy, labels.height, labels.width)
    shortest = SHORTEST_STEP * np.sqrt(size.prod()) / RESOLUTION  # angles are those of the clip's own shape
    found = {
        "frames_of_clips": np.array([seen.shape[1]]),
        "tracks_of_clips": np.array([seen.shape[0]]),
        "frames_valid": labels.valid.sum(1),
        "frames_seen": seen.sum(1),
        "seen_spells": run_lengths(seen),
        "hidden_spells": run_lengths(hidden),
        "speed": speeds(xy, seen),
        "displacement": displacements(xy, seen),
        "extent": extents(xy, seen),
        "complexity": trajectory_complexity(labels.xy, seen, shortest),
        "diversity": np.array([trajectory_diversity(xy / RESOLUTION, seen)]),
    }
    if labels.fps is not None:
        stride = max(1, round(labels.fps / COMMON_RATE))
        found["fps"] = np.array([labels.fps])
        found["complexity_at_10"] = trajectory_complexity(labels.xy[:, ::stride], seen[:, ::stride], shortest)
    if labels.people is not None:
        found["people"] = np.array([labels.people])
    if labels.confidence is not None:
        found["confidence"] = labels.confidence[seen]
    return found


def survey(
    name: str,
    kind: str,
    data: Path,
    limit: int | None = None,
    on_clip: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Measures a dataset.

    Args:
        name: what it is called in tables.
        kind: a name of `KINDS`.
        data: where its files are; for procedural clips their number.
        limit: only so many clips, the first.
        on_clip: is called after each.

    Returns:
        A dict that JSON can hold: `name`, `kind`, `data`, `tells_hidden`, `clips`, `left_out` (by reason: how many
        `clips`, and the `first`), `tracks`, `frames`, `labels`; `seen`, `hidden`, `unknown` (shares of labels),
        `tracks_seen_again` (share of tracks), and `distributions`: what `Distribution.summary` says of each of
        `DISTRIBUTIONS`.

    Raises:
        BenchmarkError, FileNotFoundError: for data of another kind, or in which no clip can be used.
        ValueError: for an unknown kind.
    """
    known = find_kind(kind)
    tally = Tally()
    for reading in itertools.islice(known.read(data), limit):
        try:
            tally.add(reading())
        except BAD as error:
            tally.leave_out(error)
        on_clip()
    if not tally.clips:
        reason = next(
            (f"{each['first']}: {reason}" for reason, each in tally.left_out.items()), "it has none"
        )
        raise BenchmarkError(f"{data}: no clip that can be used; {reason}")
    head = {"name": name, "kind": kind, "data": str(data), "tells_hidden": known.tells_hidden}
    return {**head, **tally.summary()}


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
