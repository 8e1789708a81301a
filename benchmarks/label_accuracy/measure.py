"""How accurate labels are: each is compared with the true track of the surface point that it starts on.

A track need not name the point of the skin that it follows, but it must stay on it. So each visible label becomes a
query: the ground truth gives the surface point under it, and where that point is some frames (the lag) later. A
constant offset on the skin is no error; a slide is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np
from rich.table import Table
from scipy.spatial import cKDTree

from anthrotap_builder.bodies import load_body
from anthrotap_builder.bodies.anny import JOINTS
from anthrotap_hf.tracks import Tracks
from benchmarks.label_accuracy.people import VisibleArea, people_figures
from benchmarks.label_accuracy.percentages import MIN_CASES, percentage, plain
from benchmarks.synthetic.ground_truth import GroundTruth

LAGS = (8, 24, 48)
# Pixels of a 256x256 frame, as in TAP-Vid (Doersch et al. 2022), which adds 1.
THRESHOLDS = (2, 4, 8, 16)
# Frames between queries.
QUERY_EVERY = 4
# Pixels between the positions at which coverage is sampled.
COVERAGE_STEP = 6
# Pixels of a 256x256 frame: a position this near to a visible label is covered.
COVERAGE_RADIUS = 4.0
CONFIDENCE_STEPS = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)

PARTS = {
    "head": ("head", "neck01"),
    "torso": ("root", "spine05", "spine03", "spine01", "clavicle.L", "clavicle.R"),
    "upper arms": ("upperarm01.L", "upperarm01.R"),
    "forearms": ("lowerarm01.L", "lowerarm01.R"),
    "hands": ("wrist.L", "wrist.R"),
    "thighs": ("upperleg01.L", "upperleg01.R"),
    "shins": ("lowerleg01.L", "lowerleg01.R"),
    "feet": ("foot.L", "foot.R"),
}
# What belongs to a leg; the joints of the left one end in L, of the right one in R.
LEG_PARTS = ("thighs", "shins", "feet")


def evaluate_labels(
    tracks: Tracks,
    truth: GroundTruth,
    start_frame: int = 0,
    lags: Sequence[int] = LAGS,
    query_every: int = QUERY_EVERY,
) -> dict[str, Any]:
    """Measure the labels of one clip.

    Every `query_every` frames, each visible label is a query. All fractions are percentages, None if they are of fewer
    than `MIN_CASES` cases. Errors are distances in a frame scaled to 256x256.

    Args:
        tracks: the labels; any number of frames. Scaled to the ground truth's frame size if theirs differs.
        truth: ground truth of the whole rendered clip.
        start_frame: frame of the ground truth that is the tracks' first.
        lags: frames from the query to the label that is evaluated.
        query_every: frames between queries.

    Returns:
        A dict that JSON can hold:
        num_tracks: number of tracks.
        off_body: queries under which there is no body (background, furniture).
        coverage: the visible body area that is near a visible label (`COVERAGE_RADIUS`).
        people: who is labeled, as `people.people_figures` gives it.
        lags: by lag (as a string):
            within: by threshold, *evaluated* labels nearer than it to their true position. Evaluated are labels that
                are visible at query and lag and whose point is truly visible there; labels whose query is off the
                body are evaluated too, and fail.
            average_delta: mean of `within`.
            median_error: pixels; None where more than half fail off the body.
            survival: of on-body queries whose point is truly visible at the lag, those whose label is visible.
            visible_but_occluded: of labels visible at the lag, those whose point is not.
            wrong_person: of labels visible at the lag whose query is on a body, those that lie on another person's.
            wrong_leg: of labels visible at the lag on a leg whose query is on a leg of the same person, those on the
                other leg.
            occluded_precision: of labels occluded whose point is in frame, those whose point is occluded.
            occluded_recall: of points in frame and occluded whose label is valid, those whose label is occluded.
            occluded_found: of all points in frame and occluded, invalid labels included, those whose label is occluded.
            occluded_average_delta: as average_delta, for labels correctly occluded.
            counts: the number of cases behind each percentage.
        reliability: by confidence of a visible label (steps of `CONFIDENCE_STEPS`), those within 2 pixels of the
            surface point under their track's most confident label; with the cases in `counts`.
        parts: by body part, its `coverage` and `lags` as above. Labels with a query off the body belong to none.
        counts: queries, and positions at which coverage was sampled.

    Raises:
        ValueError: if the tracks reach past the frames of the ground truth.
    """
    if start_frame < 0 or start_frame + tracks.num_frames > truth.num_frames:
        raise ValueError(
            f"labels of frames {start_frame} to {start_frame + tracks.num_frames} cannot be evaluated: "
            f"the ground truth has {truth.num_frames} frames"
        )
    if (tracks.height, tracks.width) != (truth.height, truth.width):
        tracks = tracks.resized(truth.height, truth.width)
    query_frames = range(0, tracks.num_frames, query_every)
    queries = {t: _query(tracks, truth, t, start_frame) for t in query_frames}
    results = {}
    for lag in lags:
        found = []
        for t in query_frames:
            if t + lag < tracks.num_frames:
                later = queries[t + lag] if t + lag in queries else _query(tracks, truth, t + lag, start_frame)
                found.append(_evaluate(tracks, truth, queries[t], later, start_frame))
        results[lag] = _QueryResults.concatenate(found)
    area = _coverage(tracks, truth, query_frames, start_frame)
    off = np.concatenate([query.part < 0 for query in queries.values()])
    parts = {}
    for number, part in enumerate(PARTS):
        of_part = {lag: _summary(result.select(result.part == number)) for lag, result in results.items()}
        parts[part] = {
            "coverage": percentage(area.near[area.part == number]),
            "lags": {str(lag): figures for lag, figures in of_part.items()},
            "counts": {"positions": int((area.part == number).sum())},
        }
    return {
        "num_tracks": len(tracks),
        "off_body": percentage(off),
        "coverage": percentage(area.near),
        "people": people_figures(area, [query.person for query in queries.values()], len(truth.people)),
        "lags": {str(lag): _summary(result) for lag, result in results.items()},
        "reliability": _reliability(tracks, truth, start_frame),
        "parts": parts,
        "counts": {"queries": len(off), "positions": len(area.near)},
    }


def mean_of(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean over clips of each figure, with equal weight for each clip; None is ignored."""
    if not results:
        raise ValueError("no results to average")
    out: dict[str, Any] = {}
    for key, first in results[0].items():
        values = [result[key] for result in results]
        if isinstance(first, Mapping):
            out[key] = mean_of(values)
        else:
            known = [value for value in values if value is not None]
            out[key] = float(np.mean(known)) if known else None
    return out


# What each percentage is of, by its name in `counts`.
_COUNT_OF = {
    "off_body": "queries", "coverage": "positions", "main_coverage": "main_positions", "unlabeled": "appearances",
    "average_delta": "evaluated", "survival": "truly_visible",
    "visible_but_occluded": "called_visible", "wrong_person": "called_visible", "occluded_precision": "called_occluded",
    "occluded_recall": "labeled_and_occluded", "occluded_found": "truly_occluded",
    "occluded_average_delta": "correctly_occluded",
    **{str(limit): "evaluated" for limit in THRESHOLDS},
    **{f"{low:.2f} to {high:.2f}": f"{low:.2f} to {high:.2f}" for low, high in pairwise(CONFIDENCE_STEPS)},
}  # fmt: skip


def pooled(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the figures over the labels of all clips, with equal weight for each label; counts are summed.

    Percentages of fewer than `MIN_CASES` cases in a clip are ignored. A median cannot be pooled and is None.
    """
    if not results:
        raise ValueError("no results to pool")
    return _pooled(results, results)


def _pooled(results: Sequence[Mapping[str, Any]], owners: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Pool `results`; `owners` are the nearest dicts around them that have counts."""
    out: dict[str, Any] = {}
    for key, first in results[0].items():
        values = [result[key] for result in results]
        if key in ("counts", "num_tracks"):
            out[key] = _summed(values)
        elif isinstance(first, Mapping):
            out[key] = _pooled(values, values if "counts" in first else owners)
        elif key in _COUNT_OF:
            cases = [owner["counts"][_COUNT_OF[key]] for owner in owners]
            known = [(v, n) for v, n in zip(values, cases, strict=True) if v is not None]
            total = sum(n for _, n in known)
            out[key] = sum(v * n for v, n in known) / total if total else None
        else:
            out[key] = None
    return out


def _summed(values: Sequence[Any]) -> Any:
    if isinstance(values[0], Mapping):
        return {key: sum(value[key] for value in values) for key in values[0]}
    return sum(values)


def results_table(results: Mapping[str, Mapping[str, Any]], title: str = "") -> Table:
    """Make a table with one row a result (a clip, or a mean of clips)."""
    first = next(iter(results.values()))
    lags = list(first["lags"])
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("tracks", justify="right")
    table.add_column("coverage", justify="right")
    table.add_column("off\nbody", justify="right")
    for lag in lags:
        table.add_column(f"lag {lag}\ndelta", justify="right")
        table.add_column("\n<8 px", justify="right")
        table.add_column("\nsurvival", justify="right")
    middle = lags[len(lags) // 2]
    for name in ("visible but\noccluded", "occluded\nprec.", "occluded\nrecall", "occluded\nfound"):
        table.add_column(name, justify="right")
    table.caption = f"percentages; occlusion at lag {middle}"
    for name, result in results.items():
        row = [name, plain(result["num_tracks"], 0), plain(result["coverage"], 0), plain(result["off_body"])]
        for lag in lags:
            figures = result["lags"][lag]
            row += [
                plain(figures["average_delta"]),
                plain(figures["within"]["8"]),
                plain(figures["survival"], 0),
            ]
        figures = result["lags"][middle]
        row += [
            plain(figures[key], 1 if key == "visible_but_occluded" else 0)
            for key in ("visible_but_occluded", "occluded_precision", "occluded_recall", "occluded_found")
        ]
        table.add_row(*row)
    return table


def parts_table(result: Mapping[str, Any], title: str = "") -> Table:
    """Make a table with one row a body part."""
    lags = list(next(iter(result["parts"].values()))["lags"])
    table = Table("", "coverage", title=title, title_justify="left")
    for lag in lags:
        for name in (f"lag {lag}\ndelta", "\nsurvival", "occluded\nprec.", "occluded\nrecall"):
            table.add_column(name, justify="right")
    for part, figures in result["parts"].items():
        row = [part, plain(figures["coverage"], 0)]
        for lag in lags:
            own = figures["lags"][lag]
            row += [
                plain(own["average_delta"]),
                *(plain(own[name], 0) for name in ("survival", "occluded_precision", "occluded_recall")),
            ]
        table.add_row(*row)
    return table


@dataclass(frozen=True)
class _Query:
    """Labels visible at frame t, and what is under them: track [K], person [K] (-1: none), face, barycentric, part,
    and leg (0: left, 1: right, -1: none)."""

    t: int
    track: np.ndarray
    person: np.ndarray
    face: np.ndarray
    barycentric: np.ndarray
    part: np.ndarray
    leg: np.ndarray


@dataclass(frozen=True)
class _QueryResults:
    """What K queries lead to at a lag.

    Attributes:
        part: [K] int, index into PARTS; -1 where the query is off the body.
        error: [K] float64, pixels at 256x256; inf where the query is off the body or the label is invalid.
        visible, occluded: [K] bool, the label.
        truly_visible, truly_occluded: [K] bool, the ground truth: the point is visible; it is in frame, but occluded.
        on_another: [K] bool, the label is visible, and lies on another person than the query.
        on_leg, on_other_leg: [K] bool, the label is visible, and lies, as the query, on a leg of one person; on the
            other leg.
    """

    part: np.ndarray
    error: np.ndarray
    visible: np.ndarray
    occluded: np.ndarray
    truly_visible: np.ndarray
    truly_occluded: np.ndarray
    on_another: np.ndarray
    on_leg: np.ndarray
    on_other_leg: np.ndarray

    def select(self, index: np.ndarray) -> _QueryResults:
        return _QueryResults(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    @classmethod
    def concatenate(cls, results: list[_QueryResults]) -> _QueryResults:
        empty = np.zeros(0, bool)
        nothing = cls(np.zeros(0, np.int64), np.zeros(0), *[empty] * 7)
        return cls(
            *(
                np.concatenate([getattr(part, name) for part in (nothing, *results)])
                for name in cls.__dataclass_fields__
            )
        )


def _query(tracks: Tracks, truth: GroundTruth, t: int, start_frame: int) -> _Query:
    track = np.nonzero(tracks.visible[:, t])[0]
    person, face, barycentric = truth.surface_point_under(start_frame + t, tracks.xy[track, t])
    part = np.where(person >= 0, part_of_face()[face], -1)
    leg = np.where(person >= 0, leg_of_face()[face], -1)
    return _Query(t, track, person, face, barycentric, part, leg)


def _evaluate(tracks: Tracks, truth: GroundTruth, query: _Query, later: _Query, start_frame: int) -> _QueryResults:
    """Compare the labels of a query with the ground truth at the frame of a later one."""
    t = later.t
    xy, truly_visible = truth.locate(start_frame + t, query.person, query.face, query.barycentric)
    in_frame = truth.camera(start_frame + t).contains(xy)
    error = np.linalg.norm((tracks.xy[query.track, t] - xy) * _to_256(truth), axis=1)
    owner, leg = np.full((2, len(tracks)), -1)
    owner[later.track], leg[later.track] = later.person, later.leg
    on_leg = (owner[query.track] == query.person) & (query.leg >= 0) & (leg[query.track] >= 0)
    return _QueryResults(
        part=query.part,
        error=np.where(np.isfinite(error), error, np.inf),
        visible=tracks.visible[query.track, t],
        occluded=tracks.occluded[query.track, t],
        truly_visible=truly_visible,
        truly_occluded=in_frame & ~truly_visible,
        on_another=(owner[query.track] >= 0) & (owner[query.track] != query.person),
        on_leg=on_leg,
        on_other_leg=on_leg & (leg[query.track] != query.leg),
    )


def _summary(result: _QueryResults) -> dict[str, Any]:
    on_body = result.part >= 0
    evaluated = result.visible & (result.truly_visible | ~on_body)
    error = result.error[evaluated]
    correctly_occluded = result.error[result.occluded & result.truly_occluded]
    labeled = result.visible | result.occluded
    in_frame = result.truly_visible | result.truly_occluded
    within = {str(limit): percentage(error < limit) for limit in THRESHOLDS}
    median = float(np.median(error)) if len(error) >= MIN_CASES else np.inf
    return {
        "within": within,
        "average_delta": _average(list(within.values())),
        "median_error": median if np.isfinite(median) else None,
        "survival": percentage(result.visible[on_body & result.truly_visible]),
        "visible_but_occluded": percentage(~result.truly_visible[on_body & result.visible]),
        "wrong_person": percentage(result.on_another[on_body & result.visible]),
        "wrong_leg": percentage(result.on_other_leg[result.on_leg]),
        "occluded_precision": percentage(result.truly_occluded[result.occluded & in_frame]),
        "occluded_recall": percentage(result.occluded[result.truly_occluded & labeled]),
        "occluded_found": percentage(result.occluded[result.truly_occluded]),
        "occluded_average_delta": _average([percentage(correctly_occluded < limit) for limit in THRESHOLDS]),
        "counts": {
            "evaluated": int(evaluated.sum()),
            "truly_visible": int((on_body & result.truly_visible).sum()),
            "called_visible": int((on_body & result.visible).sum()),
            "on_legs": int(result.on_leg.sum()),
            "called_occluded": int((result.occluded & in_frame).sum()),
            "labeled_and_occluded": int((result.truly_occluded & labeled).sum()),
            "truly_occluded": int(result.truly_occluded.sum()),
            "correctly_occluded": len(correctly_occluded),
        },
    }


def _reliability(tracks: Tracks, truth: GroundTruth, start_frame: int) -> dict[str, Any]:
    """Measure, by confidence, how many labels are within 2 pixels of the point under their track's surest label."""
    right: list[np.ndarray] = [np.zeros((0, 2))]
    confidence = np.zeros_like(tracks.xy[..., 0]) if tracks.confidence is None else tracks.confidence
    surest = np.where(tracks.visible, confidence, -1).argmax(1) if len(tracks) else np.zeros(0, np.int64)
    for reference in np.unique(surest).tolist():
        own = np.flatnonzero((surest == reference) & tracks.visible[np.arange(len(tracks)), surest])
        point = truth.surface_point_under(start_frame + reference, tracks.xy[own, reference])
        for t in range(0, tracks.num_frames, QUERY_EVERY):
            xy, truly_visible = truth.locate(start_frame + t, *point)
            error = np.linalg.norm((tracks.xy[own, t] - xy) * _to_256(truth), axis=1)
            evaluated = tracks.visible[own, t] & (truly_visible | (point[0] < 0)) & (t != reference)
            right.append(np.stack([confidence[own, t], error < THRESHOLDS[0]], axis=1)[evaluated])
    known, within = np.concatenate(right).T
    percentages, counts = {}, {}
    for low, high in pairwise(CONFIDENCE_STEPS):
        cases = within[(known >= low) & (known < high)]
        percentages[f"{low:.2f} to {high:.2f}"], counts[f"{low:.2f} to {high:.2f}"] = (
            percentage(cases),
            len(cases),
        )
    return {**percentages, "counts": counts}


def _coverage(tracks: Tracks, truth: GroundTruth, frames: range, start_frame: int) -> VisibleArea:
    """Sample positions evenly over the visible people, and find which are near a visible label."""
    x, y = np.meshgrid(
        np.arange(COVERAGE_STEP / 2, truth.width, COVERAGE_STEP),
        np.arange(COVERAGE_STEP / 2, truth.height, COVERAGE_STEP),
    )
    grid = np.stack([x.ravel(), y.ravel()], axis=1)
    scale = _to_256(truth)
    parts: list[VisibleArea] = []
    for index, t in enumerate(frames):
        person, face, _ = truth.surface_point_under(start_frame + t, grid)
        on_body = person >= 0
        labels = tracks.xy[tracks.visible[:, t], t] * scale
        near = np.zeros(on_body.sum(), bool)
        if len(labels):
            distance, _ = cKDTree(labels).query(grid[on_body] * scale, distance_upper_bound=COVERAGE_RADIUS)
            near = np.isfinite(distance)
        frame = np.full(len(near), index)
        parts.append(VisibleArea(frame, person[on_body], part_of_face()[face[on_body]], near))
    return VisibleArea.concatenate(parts)


@lru_cache(maxsize=1)
def part_of_face() -> np.ndarray:
    """Return [F] int64, the index into PARTS of each face of the Anny body, which all rendered people have."""
    body = load_body("anny")
    part_of_joint = np.array([next(i for i, own in enumerate(PARTS.values()) if name in own) for name in JOINTS])
    return part_of_joint[body.weights[body.faces].sum(1).argmax(1)]


@lru_cache(maxsize=1)
def leg_of_face() -> np.ndarray:
    """Return [F] int64, the leg of each face of the Anny body: 0 left, 1 right, -1 none."""
    body = load_body("anny")
    legs = [name for part in LEG_PARTS for name in PARTS[part]]
    of_joint = np.array([("L", "R").index(name[-1]) if name in legs else -1 for name in JOINTS])
    return of_joint[body.weights[body.faces].sum(1).argmax(1)]


def _to_256(truth: GroundTruth) -> np.ndarray:
    return np.array([256 / truth.width, 256 / truth.height])


def _average(percentages: list[float | None]) -> float | None:
    known = [value for value in percentages if value is not None]
    return float(np.mean(known)) if known else None
