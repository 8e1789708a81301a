"""How right labels are: each one is held against the true path of the surface point that it starts on.

A track need not say which point of the skin it follows, but it must keep to it. So a label that is seen
becomes a query: the truth says which surface point lies under it there, and where that point is so many
frames later. A constant offset on the skin is no error; a slide is.
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
from benchmarks.synthetic.truth import Truth

LAGS = (8, 24, 48)
THRESHOLDS = (2, 4, 8, 16)  # pixels of a 256x256 frame, as in TAP-Vid (Doersch et al. 2022), which adds 1
QUERY_EVERY = 4  # frames
MIN_CASES = 20  # a share of fewer cases says nothing
YIELD_STEP = 6  # pixels between the places at which the yield is sampled
CONFIDENCE_STEPS = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95, 1.0)
YIELD_RADIUS = 4.0  # pixels of a 256x256 frame: a place this near to a seen label has a track

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


def evaluate_labels(
    tracks: Tracks,
    truth: Truth,
    start_frame: int = 0,
    lags: Sequence[int] = LAGS,
    query_every: int = QUERY_EVERY,
) -> dict[str, Any]:
    """Measure the labels of one clip.

    Every `query_every` frames, each label that is seen there is a query. All shares are in percent; one of
    fewer than `MIN_CASES` cases is None. Errors are distances in a frame scaled to 256x256.

    Args:
        tracks: the labels; any number of frames. Scaled to the truth's frame size if theirs differs.
        truth: of the whole rendered clip.
        start_frame: which frame of the truth the tracks' first frame is.
        lags: frames from the query to the label that is judged.
        query_every: frames between queries.

    Returns:
        A dict that JSON can hold:
        num_tracks: how many there are.
        off_body: share of queries under which there is no body (background, furniture).
        yield: share of the visible body area near a seen label (`YIELD_RADIUS`).
        lags: by lag (as a string):
            within: by threshold, share of *judged* labels nearer than it to their true place. Judged are
                labels seen at query and lag whose point truly shows there; labels whose query is off the
                body are judged too, and fail.
            average_delta: mean of `within`.
            median_error: pixels; None where more than half fail off the body.
            survival: of on-body queries whose point truly shows at the lag, the share still given as seen.
            seen_but_hidden: of labels called seen at the lag, the share whose point does not show.
            hidden_precision: of labels called hidden whose point is in frame, the share whose point is hidden.
            hidden_recall: of points in frame and hidden whose label is seen or hidden, the share called
                hidden.
            hidden_found: of all points in frame and hidden, labels unknown too, the share called hidden.
            hidden_average_delta: as average_delta, for labels rightly called hidden.
            counts: how many cases the shares are of.
        reliability: by confidence of a seen label (steps of `CONFIDENCE_STEPS`), the share within 2 pixels of the
            surface point under its track's surest label; with the cases in `counts`.
        parts: by body part, its `yield` and `lags` as above. Labels with a query off the body belong to none.
        counts: queries, and places at which the yield was sampled.

    Raises:
        ValueError: if the tracks reach past the truth's frames.
    """
    if start_frame < 0 or start_frame + tracks.num_frames > truth.num_frames:
        raise ValueError(
            f"labels of frames {start_frame} to {start_frame + tracks.num_frames} cannot be judged: "
            f"the truth has {truth.num_frames} frames"
        )
    if (tracks.height, tracks.width) != (truth.height, truth.width):
        tracks = tracks.resized(truth.height, truth.width)
    query_frames = range(0, tracks.num_frames, query_every)
    queries = {t: _query(tracks, truth, t, start_frame) for t in query_frames}
    outcomes = {
        lag: _Outcomes.concatenate(
            [
                _judge(tracks, truth, queries[t], t + lag, start_frame)
                for t in query_frames
                if t + lag < tracks.num_frames
            ]
        )
        for lag in lags
    }
    area, near = _coverage(tracks, truth, query_frames, start_frame)
    off = np.concatenate([query.part < 0 for query in queries.values()])
    parts = {}
    for number, part in enumerate(PARTS):
        of_part = {lag: _summary(outcome.select(outcome.part == number)) for lag, outcome in outcomes.items()}
        parts[part] = {
            "yield": _share(near[area == number]),
            "lags": {str(lag): figures for lag, figures in of_part.items()},
            "counts": {"places": int((area == number).sum())},
        }
    return {
        "num_tracks": len(tracks),
        "off_body": _share(off),
        "yield": _share(near),
        "lags": {str(lag): _summary(outcome) for lag, outcome in outcomes.items()},
        "reliability": _reliability(tracks, truth, start_frame),
        "parts": parts,
        "counts": {"queries": len(off), "places": len(near)},
    }


def mean_of(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean over clips, figure by figure, each clip counting alike; None does not count."""
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


# What each share is a share of, by its name in `counts`.
_COUNT_OF = {
    "off_body": "queries", "yield": "places", "average_delta": "judged", "survival": "showing",
    "seen_but_hidden": "seen", "hidden_precision": "called_hidden", "hidden_recall": "given_and_hidden",
    "hidden_found": "truly_hidden", "hidden_average_delta": "rightly_hidden",
    **{str(limit): "judged" for limit in THRESHOLDS},
    **{f"{low:.2f} to {high:.2f}": f"{low:.2f} to {high:.2f}" for low, high in pairwise(CONFIDENCE_STEPS)},
}  # fmt: skip


def pooled(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures over the labels of all clips together, each label counting alike; counts are summed.

    Shares of fewer than `MIN_CASES` cases in a clip are not in. A median cannot be pooled and is None.
    """
    if not results:
        raise ValueError("no results to pool")
    return _pooled(results, results)


def _pooled(results: Sequence[Mapping[str, Any]], owners: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """`owners` are the nearest dicts around `results` that have counts."""
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
    """One row a result (a clip, or a mean of clips), for the console."""
    first = next(iter(results.values()))
    lags = list(first["lags"])
    table = Table(title=title, title_justify="left")
    table.add_column("")
    table.add_column("tracks", justify="right")
    table.add_column("yield", justify="right")
    table.add_column("off\nbody", justify="right")
    for lag in lags:
        table.add_column(f"lag {lag}\ndelta", justify="right")
        table.add_column("\n<8 px", justify="right")
        table.add_column("\nkept", justify="right")
    middle = lags[len(lags) // 2]
    for name in ("seen but\nhidden", "hidden\nprec.", "hidden\nrecall", "hidden\nfound"):
        table.add_column(name, justify="right")
    table.caption = f"shares in percent; hidden at lag {middle}"
    for name, result in results.items():
        row = [name, plain(result["num_tracks"], 0), plain(result["yield"], 0), plain(result["off_body"])]
        for lag in lags:
            figures = result["lags"][lag]
            row += [
                plain(figures["average_delta"]),
                plain(figures["within"]["8"]),
                plain(figures["survival"], 0),
            ]
        figures = result["lags"][middle]
        row += [
            plain(figures[key], 1 if key == "seen_but_hidden" else 0)
            for key in ("seen_but_hidden", "hidden_precision", "hidden_recall", "hidden_found")
        ]
        table.add_row(*row)
    return table


def parts_table(result: Mapping[str, Any], title: str = "") -> Table:
    """One row a body part, for the console."""
    lags = list(next(iter(result["parts"].values()))["lags"])
    table = Table("", "yield", title=title, title_justify="left")
    for lag in lags:
        for name in (f"lag {lag}\ndelta", "\nkept", "hidden\nprec.", "hidden\nrecall"):
            table.add_column(name, justify="right")
    for part, figures in result["parts"].items():
        row = [part, plain(figures["yield"], 0)]
        for lag in lags:
            own = figures["lags"][lag]
            row += [
                plain(own["average_delta"]),
                *(plain(own[name], 0) for name in ("survival", "hidden_precision", "hidden_recall")),
            ]
        table.add_row(*row)
    return table


@dataclass(frozen=True)
class _Query:
    """Labels seen at a frame and what lies under them: track [K], person [K] (-1 none), face, barycentric,
    part."""

    track: np.ndarray
    person: np.ndarray
    face: np.ndarray
    barycentric: np.ndarray
    part: np.ndarray


@dataclass(frozen=True)
class _Outcomes:
    """What became of K queries at a lag.

    Attributes:
        part: [K] int, index into PARTS; -1 where the query is off the body.
        error: [K] float64, pixels at 256x256; inf where the query is off the body or the label has no place.
        seen, hidden: [K] bool, what the label says.
        shows, covered: [K] bool, the truth: the point shows; it is in frame but hidden.
    """

    part: np.ndarray
    error: np.ndarray
    seen: np.ndarray
    hidden: np.ndarray
    shows: np.ndarray
    covered: np.ndarray

    def select(self, index: np.ndarray) -> _Outcomes:
        return _Outcomes(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    @classmethod
    def concatenate(cls, outcomes: list[_Outcomes]) -> _Outcomes:
        empty = np.zeros(0, bool)
        nothing = cls(np.zeros(0, np.int64), np.zeros(0), empty, empty, empty, empty)
        return cls(
            *(
                np.concatenate([getattr(part, name) for part in (nothing, *outcomes)])
                for name in cls.__dataclass_fields__
            )
        )


def _query(tracks: Tracks, truth: Truth, t: int, start_frame: int) -> _Query:
    track = np.nonzero(tracks.visible[:, t])[0]
    person, face, barycentric = truth.surface_point_under(start_frame + t, tracks.xy[track, t])
    part = np.where(person >= 0, part_of_face()[face], -1)
    return _Query(track, person, face, barycentric, part)


def _judge(tracks: Tracks, truth: Truth, query: _Query, t: int, start_frame: int) -> _Outcomes:
    xy, shows = truth.place(start_frame + t, query.person, query.face, query.barycentric)
    in_frame = truth.camera(start_frame + t).contains(xy)
    error = np.linalg.norm((tracks.xy[query.track, t] - xy) * _to_256(truth), axis=1)
    return _Outcomes(
        part=query.part,
        error=np.where(np.isfinite(error), error, np.inf),
        seen=tracks.visible[query.track, t],
        hidden=tracks.occluded[query.track, t],
        shows=shows,
        covered=in_frame & ~shows,
    )


def _summary(outcome: _Outcomes) -> dict[str, Any]:
    on_body = outcome.part >= 0
    judged = outcome.seen & (outcome.shows | ~on_body)
    error = outcome.error[judged]
    rightly_hidden = outcome.error[outcome.hidden & outcome.covered]
    given = outcome.seen | outcome.hidden
    in_frame = outcome.shows | outcome.covered
    within = {str(limit): _share(error < limit) for limit in THRESHOLDS}
    median = float(np.median(error)) if len(error) >= MIN_CASES else np.inf
    return {
        "within": within,
        "average_delta": _average(list(within.values())),
        "median_error": median if np.isfinite(median) else None,
        "survival": _share(outcome.seen[on_body & outcome.shows]),
        "seen_but_hidden": _share(~outcome.shows[on_body & outcome.seen]),
        "hidden_precision": _share(outcome.covered[outcome.hidden & in_frame]),
        "hidden_recall": _share(outcome.hidden[outcome.covered & given]),
        "hidden_found": _share(outcome.hidden[outcome.covered]),
        "hidden_average_delta": _average([_share(rightly_hidden < limit) for limit in THRESHOLDS]),
        "counts": {
            "judged": int(judged.sum()),
            "showing": int((on_body & outcome.shows).sum()),
            "seen": int((on_body & outcome.seen).sum()),
            "called_hidden": int((outcome.hidden & in_frame).sum()),
            "given_and_hidden": int((outcome.covered & given).sum()),
            "truly_hidden": int(outcome.covered.sum()),
            "rightly_hidden": len(rightly_hidden),
        },
    }


def _reliability(tracks: Tracks, truth: Truth, start_frame: int) -> dict[str, Any]:
    """By confidence, how often a label lies within 2 pixels of what the track's surest label lies on."""
    right: list[np.ndarray] = [np.zeros((0, 2))]
    confidence = np.zeros_like(tracks.xy[..., 0]) if tracks.confidence is None else tracks.confidence
    surest = np.where(tracks.visible, confidence, -1).argmax(1) if len(tracks) else np.zeros(0, np.int64)
    for reference in np.unique(surest).tolist():
        own = np.flatnonzero((surest == reference) & tracks.visible[np.arange(len(tracks)), surest])
        point = truth.surface_point_under(start_frame + reference, tracks.xy[own, reference])
        for t in range(0, tracks.num_frames, QUERY_EVERY):
            xy, shows = truth.place(start_frame + t, *point)
            error = np.linalg.norm((tracks.xy[own, t] - xy) * _to_256(truth), axis=1)
            judged = tracks.visible[own, t] & (shows | (point[0] < 0)) & (t != reference)
            right.append(np.stack([confidence[own, t], error < THRESHOLDS[0]], axis=1)[judged])
    known, within = np.concatenate(right).T
    shares, counts = {}, {}
    for low, high in pairwise(CONFIDENCE_STEPS):
        cases = within[(known >= low) & (known < high)]
        shares[f"{low:.2f} to {high:.2f}"], counts[f"{low:.2f} to {high:.2f}"] = _share(cases), len(cases)
    return {**shares, "counts": counts}


def _coverage(tracks: Tracks, truth: Truth, frames: range, start_frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Body part [M] of places spread evenly over the people that show, and whether each is near a seen
    label [M]."""
    x, y = np.meshgrid(
        np.arange(YIELD_STEP / 2, truth.width, YIELD_STEP),
        np.arange(YIELD_STEP / 2, truth.height, YIELD_STEP),
    )
    grid = np.stack([x.ravel(), y.ravel()], axis=1)
    scale = _to_256(truth)
    parts, near = [np.zeros(0, np.int64)], [np.zeros(0, bool)]
    for t in frames:
        person, face, _ = truth.surface_point_under(start_frame + t, grid)
        on_body = person >= 0
        labels = tracks.xy[tracks.visible[:, t], t] * scale
        parts.append(part_of_face()[face[on_body]])
        if len(labels):
            distance, _ = cKDTree(labels).query(grid[on_body] * scale, distance_upper_bound=YIELD_RADIUS)
            near.append(np.isfinite(distance))
        else:
            near.append(np.zeros(on_body.sum(), bool))
    return np.concatenate(parts), np.concatenate(near)


@lru_cache(maxsize=1)
def part_of_face() -> np.ndarray:
    """[F] int64, index into PARTS for each face of the Anny body, which all people of rendered clips are."""
    body = load_body("anny")
    part_of_joint = np.array(
        [next(i for i, own in enumerate(PARTS.values()) if name in own) for name in JOINTS]
    )
    return part_of_joint[body.weights[body.faces].sum(1).argmax(1)]


def _to_256(truth: Truth) -> np.ndarray:
    return np.array([256 / truth.width, 256 / truth.height])


def _share(cases: np.ndarray) -> float | None:
    return float(100 * cases.mean()) if len(cases) >= MIN_CASES else None


def _average(shares: list[float | None]) -> float | None:
    known = [share for share in shares if share is not None]
    return float(np.mean(known)) if known else None


def plain(value: float | None, digits: int = 1) -> str:
    """A share for a table; a dash where there is none."""
    return "-" if value is None else f"{value:.{digits}f}"
