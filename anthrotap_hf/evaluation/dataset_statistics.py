"""Statistics of a dataset: the labels of each clip are read, without its video where possible, and measured."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from anthrotap_hf.evaluation.track_statistics import (
    RESOLUTION,
    SHORTEST_STEP,
    at_resolution,
    displacements,
    extents,
    num_reappearances,
    run_lengths,
    speeds,
    trajectory_complexity,
    trajectory_diversity,
)
from anthrotap_hf.readers.base import BAD_CLIP, DatasetError, Reader
from anthrotap_hf.tracks import TrackedClip
from anthrotap_hf.utils.errors import one_line

# Frames a second at which complexity is given as well, where rates are known: every k-th frame, with the nearest k.
COMMON_RATE = 10
# At most so many different reasons for skipped clips are counted apart.
MAX_REASONS = 20
QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)


class Distribution:
    """Values of one kind as counts in bins, so that memory does not grow with their number.

    Whole numbers up to 86 have a bin each; beyond, and for other values from 0.001 on, bins are 1.2 % wide, and a
    quantile is the mean of the values in its bin.
    """

    edges = np.concatenate([[-np.inf], np.geomspace(1e-3, 1e6, 1801), [np.inf]])

    def __init__(self) -> None:
        self.counts = np.zeros(len(self.edges) - 1, np.int64)
        self.sums = np.zeros(len(self.edges) - 1)

    def add(self, values: np.ndarray) -> None:
        """Count values of any shape; NaN is ignored."""
        values = np.asarray(values, np.float64).ravel()
        values = values[~np.isnan(values)]
        # A hair above, so that a whole number that is an edge does not fall to either side of it by rounding.
        bins = np.searchsorted(self.edges, values * (1 + 1e-9), side="right") - 1
        self.counts += np.bincount(bins, minlength=len(self.counts))
        self.sums += np.bincount(bins, values, minlength=len(self.counts))

    @property
    def count(self) -> int:
        return int(self.counts.sum())

    @property
    def mean(self) -> float | None:
        return float(self.sums.sum() / self.count) if self.count else None

    def quantile(self, fraction: float) -> float | None:
        """Return the smallest value that this fraction of all values does not exceed."""
        if not self.count:
            return None
        number = int(np.searchsorted(np.cumsum(self.counts), max(fraction * self.count - 1e-6, 1)))
        return float(self.sums[number] / self.counts[number])

    def summary(self) -> dict[str, Any]:
        """Return `count`, `mean`, `quantiles`, and the cumulative curve: `values` and the `fractions` up to them."""
        filled = np.nonzero(self.counts)[0]
        values = self.sums[filled] / self.counts[filled]
        fractions = np.cumsum(self.counts[filled]) / max(self.count, 1)
        return {
            "count": self.count,
            "mean": self.mean,
            "quantiles": {f"{fraction:g}": self.quantile(fraction) for fraction in QUANTILES},
            "values": [round(value, 5) for value in values.tolist()],
            "fractions": [round(fraction, 5) for fraction in fractions.tolist()],
        }


# Lengths in frames, positions and speeds in pixels at 256x256, complexity in radians per frame squared, diversity in
# fractions of the frame.
DISTRIBUTIONS = (
    "frames_per_clip",
    "fps",
    "people",
    "tracks_per_clip",
    "valid_frames",
    "visible_frames",
    "visible_run_lengths",
    "occluded_run_lengths",
    "num_reappearances",
    "speed",
    "displacement",
    "extent",
    "complexity",
    "complexity_at_10",
    "diversity",
    "confidence",
)
_COUNTS = ("clips", "tracks", "frames", "labels", "visible", "occluded", "invalid", "reappearing_tracks")


class DatasetStatistics:
    """Counts and distributions over the clips of a dataset.

    Args:
        reader: the dataset, which says what its labels know.
    """

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.counts = dict.fromkeys(_COUNTS, 0)
        self.skipped: dict[str, dict[str, Any]] = {}
        self.distributions = {name: Distribution() for name in DISTRIBUTIONS}

    def add(self, clip: TrackedClip) -> None:
        """Count and measure one clip."""
        tracks = clip.tracks
        reappearances = num_reappearances(tracks.visible)
        counts = {
            "clips": 1,
            "tracks": len(tracks),
            "frames": tracks.num_frames,
            "labels": tracks.valid.size,
            "visible": tracks.visible.sum(),
            "occluded": tracks.occluded.sum(),
            "invalid": tracks.invalid.sum(),
            "reappearing_tracks": (reappearances > 0).sum(),
        }
        for name, number in counts.items():
            self.counts[name] += int(number)
        for name, values in self._measure(clip).items():
            self.distributions[name].add(values)
        self.distributions["num_reappearances"].add(reappearances[tracks.visible.any(1)])

    def skip(self, error: Exception) -> None:
        """Count a clip that cannot be used by its reason; the first such clip is named."""
        reason = one_line(getattr(error, "reason", None) or error)
        if reason not in self.skipped and len(self.skipped) >= MAX_REASONS:
            reason = "other reasons"
        first = getattr(error, "path", None) or getattr(error, "filename", None) or "a clip"
        self.skipped.setdefault(reason, {"clips": 0, "first": str(first)})["clips"] += 1

    def summary(self) -> dict[str, Any]:
        """Return counts, the fractions of labels and tracks, and the distributions, as JSON can hold them."""
        found: dict[str, Any] = {"knows_occlusion": self.reader.knows_occlusion, **self.counts}
        for name in ("visible", "occluded", "invalid", "reappearing_tracks"):
            whole = self.counts["tracks" if name == "reappearing_tracks" else "labels"]
            found[name] = self.counts[name] / whole if whole else None
        distributions = {name: each.summary() for name, each in self.distributions.items()}
        return {**found, "skipped": self.skipped, "distributions": distributions}

    def _measure(self, clip: TrackedClip) -> dict[str, np.ndarray]:
        """Return the values of a clip for `DISTRIBUTIONS`."""
        tracks, visible = clip.tracks, clip.tracks.visible
        xy = at_resolution(tracks.xy, tracks.height, tracks.width)
        # Angles are those of the clip's own shape, so the shortest step is in its own pixels.
        shortest = SHORTEST_STEP * np.sqrt(tracks.width * tracks.height) / RESOLUTION
        found = {
            "frames_per_clip": np.array([tracks.num_frames]),
            "tracks_per_clip": np.array([len(tracks)]),
            "valid_frames": tracks.valid.sum(1),
            "visible_frames": visible.sum(1),
            "visible_run_lengths": run_lengths(visible),
            "occluded_run_lengths": run_lengths(tracks.occluded),
            "speed": speeds(xy, visible),
            "displacement": displacements(xy, visible),
            "extent": extents(xy, visible),
            "complexity": trajectory_complexity(tracks.xy, visible, shortest),
            "diversity": np.array([trajectory_diversity(xy / RESOLUTION, visible)]),
        }
        if clip.fps is not None:
            every = slice(None, None, max(1, round(clip.fps / COMMON_RATE)))
            found["fps"] = np.array([clip.fps])
            found["complexity_at_10"] = trajectory_complexity(tracks.xy[:, every], visible[:, every], shortest)
        if self.reader.knows_person:
            found["people"] = np.array([len(np.unique(tracks.person))])
        if tracks.confidence is not None:
            found["confidence"] = tracks.confidence[visible]
        return found


def measure_dataset(
    reader: Reader, limit: int | None = None, on_clip: Callable[[], object] = lambda: None
) -> dict[str, Any]:
    """Measure a dataset.

    Args:
        reader: as `open_reader(..., labels_only=True)` gives it.
        limit: largest number of clips.
        on_clip: called after each clip.

    Returns:
        A dict that JSON can hold: `knows_occlusion`, `clips`, `tracks`, `frames`, `labels`; `visible`, `occluded`,
        `invalid` (fractions of labels), `reappearing_tracks` (fraction of tracks that are visible again after a gap),
        `skipped` (by reason: how many `clips`, and the `first`), and `distributions`: `Distribution.summary` for each
        of `DISTRIBUTIONS`.

    Raises:
        DatasetError: if no clip can be used.
    """
    statistics = DatasetStatistics(reader)
    for index in itertools.islice(range(len(reader)), limit):
        try:
            statistics.add(reader[index])
        except BAD_CLIP as error:
            statistics.skip(error)
        on_clip()
    if not statistics.counts["clips"]:
        reasons = [f"{each['first']}: {reason}" for reason, each in statistics.skipped.items()]
        raise DatasetError(f"no clip that can be used; {[*reasons, 'it has none'][0]}", path=reader.name)
    return statistics.summary()
