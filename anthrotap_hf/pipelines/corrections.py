"""Tracks that pass through corrections: several queries for one point, each stretch tracked from its own ends.

A stretch lies between two neighboring queries of a point. It is tracked from both ends and joined; before a point's
first query and after its last it is tracked from that one. A stretch depends on nothing but its frames and the queries
at its ends, so a correction touches the two stretches around it, and no other frame changes.

Points are xy in raster pixels of the video. Arrays: N points, T frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import numpy as np

from anthrotap_hf.pipelines.point_tracking import PointTrackingPipeline
from anthrotap_hf.utils.errors import AnthroTapError

# Frames on either side of the frame that a user looks at, which are tracked first.
AROUND = 16
# How far the two directions of a stretch fade into each other where they meet, as a part of the stretch.
FADE = 1 / 12
# A direction never counts less than this, so that weights can be divided by their sum.
LEAST_CERTAINTY = 1e-3


# Of a direction, in order.
FIELDS = ("xy", "visible", "scores", "uncertainty")


class CorrectionError(AnthroTapError):
    """What a user said about a point contradicts itself, or lies outside the video."""


Span = tuple[int, int]


@dataclass(frozen=True)
class EditedPoint:
    """What a user said about one point.

    Attributes:
        id: its number, from 0 up.
        queries: (t, x, y), t ascending: where it is; at least one.
        occluded: (first, last) frames in which it is occluded, whatever the tracker says.
        deleted: (first, last) frames in which its track is invalid.
        name: what the user calls it.
    """

    id: int
    queries: tuple[tuple[int, float, float], ...]
    occluded: tuple[Span, ...] = ()
    deleted: tuple[Span, ...] = ()
    name: str = ""


@dataclass
class EditedTracks:
    """Tracks of edited points.

    Attributes:
        ids: of the points.
        xy: [N, T, 2] float32, finite everywhere.
        visible, valid: [N, T] bool; a label is visible, occluded (valid and not visible) or invalid.
        scores: [N, T] float32, the probability of being visible.
        uncertainty: [N, T] float32, the probability that the position is off.
    """

    ids: list[int]
    xy: np.ndarray
    visible: np.ndarray
    valid: np.ndarray
    scores: np.ndarray
    uncertainty: np.ndarray

    def found(self) -> dict[str, Any]:
        """Return them as the pipeline does, with `valid` and `ids`."""
        return {
            "tracks": self.xy,
            "visible": self.visible,
            "scores": self.scores,
            "uncertainty": self.uncertainty,
            "valid": self.valid,
            "ids": self.ids,
        }


@dataclass(frozen=True)
class Stretch:
    """Frames `first` to `last` of a point, and the queries at its ends; one is None before and after all queries."""

    first: int
    last: int
    start: tuple[int, float, float] | None
    end: tuple[int, float, float] | None


@dataclass
class _Direction:
    """A stretch tracked from one end: xy [S, 2], and [S]: visible, scores and uncertainty."""

    xy: np.ndarray
    visible: np.ndarray
    scores: np.ndarray
    uncertainty: np.ndarray

    def certainty(self) -> np.ndarray:
        """Return [S]: the probability that the point is visible and not off."""
        certainty: np.ndarray = np.maximum(self.scores * (1 - self.uncertainty), LEAST_CERTAINTY)
        return certainty


@dataclass
class _Known:
    """The stretches of a point that are tracked, and the tracks of all its frames."""

    track: _Direction
    stretches: set[Stretch] = field(default_factory=set)


class PointEditor:
    """Tracks edited points through a video, again and again; holds the frames at the model's resolution.

    Args:
        tracker: the tracker.
        video: as the pipeline takes it.
        cuts: first frames of shots, but for the first: a point is valid in the shots of its queries alone.
        resolution: (height, width) that the model sees; its own by default.
        progress: see `PointTrackingPipeline.__call__`; of reading the video.
        video_folder: likewise.

    Attributes:
        num_frames, height, width: of the video.
        tracked_frames: how many frames of points have been tracked so far, each direction counted.

    Raises:
        VideoError: if the video can't be read.
    """

    def __init__(
        self,
        tracker: PointTrackingPipeline,
        video: Any,
        cuts: Sequence[int] = (),
        resolution: tuple[int, int] | None = None,
        progress: Any = None,
        video_folder: Any = None,
    ) -> None:
        pixels, (self.height, self.width) = tracker.read_frames(video, resolution, progress, video_folder)
        # As arrays that the pipeline takes: [T, h, w, 3].
        self._frames = pixels.permute(0, 2, 3, 1).numpy()
        self.num_frames = len(self._frames)
        self.tracker = tracker
        self.cuts = [cut for cut in sorted(set(cuts)) if 0 < cut < self.num_frames]
        self.tracked_frames = 0
        self._known: dict[int, _Known] = {}
        self._scale = np.array([self._frames.shape[2] / self.width, self._frames.shape[1] / self.height])

    def track(
        self,
        points: Sequence[EditedPoint],
        around: int | None = None,
        progress: Callable[[int, int], object] | None = None,
    ) -> EditedTracks:
        """Return the tracks of points; stretches that were tracked before are not tracked again.

        Args:
            points: all points of the video; those that are left out are forgotten.
            around: only frames within `AROUND` of this frame are tracked now, for a quick look: another call without it
                tracks the whole of each stretch. Frames that are not tracked yet hold what they held before, or where
                there is nothing, the position of the nearest query, with a score of 0.
            progress: called with the number of stretches that are tracked, and how many there are.

        Raises:
            CorrectionError: if something that was said about a point can't be.
        """
        check_points(points, self.num_frames, self.height, self.width, self.cuts)
        self._known = {point.id: self._known.get(point.id) or _Known(self._nearest(point)) for point in points}
        missing: list[tuple[int, Stretch]] = []
        for point in points:
            known, stretches = self._known[point.id], stretches_of(point, self.num_frames, self.cuts)
            missing += [(point.id, stretch) for stretch in stretches if stretch not in known.stretches]
            known.stretches &= set(stretches)
        # Stretches of the same frames are tracked at once.
        groups: dict[Span, list[tuple[int, Stretch]]] = {}
        for id_, stretch in missing:
            span = stretch.first, stretch.last
            if around is not None:
                span = max(span[0], around - AROUND), min(span[1], around + AROUND)
            if span[0] <= span[1]:
                groups.setdefault(span, []).append((id_, stretch))
        done = 0
        for span, group in groups.items():
            self._track_span(span, group)
            done += len(group)
            if progress is not None:
                progress(done, len(missing))
        return self._tracks(points)

    def restore(self, points: Sequence[EditedPoint], tracks: EditedTracks) -> None:
        """Take tracks of an earlier editor of the same video and tracker as tracked."""
        check_points(points, self.num_frames, self.height, self.width, self.cuts)
        for n, point in enumerate(points):
            track = _Direction(
                *(each[n].copy() for each in (tracks.xy, tracks.visible, tracks.scores, tracks.uncertainty))
            )
            self._known[point.id] = _Known(track, set(stretches_of(point, self.num_frames, self.cuts)))

    def _nearest(self, point: EditedPoint) -> _Direction:
        """Return what holds while nothing is tracked: the position of the nearest query in time, not visible."""
        times = np.array([query[0] for query in point.queries])
        nearest = np.abs(np.arange(self.num_frames)[:, None] - times).argmin(1)
        xy = np.array([query[1:] for query in point.queries], np.float32)[nearest]
        zeros = np.zeros(self.num_frames, np.float32)
        return _Direction(xy, zeros > 0, zeros, zeros + 1)

    def _track_span(self, span: Span, group: list[tuple[int, Stretch]]) -> None:
        """Track the frames of a span from the ends of each stretch; a span is a stretch's, or a part of it."""
        first, last = span
        queries, owners = [], []
        for n, (_, stretch) in enumerate(group):
            for query in (stretch.start, stretch.end):
                if query is None:
                    continue
                if first <= query[0] <= last:
                    queries.append((query[0] - first, *(np.array(query[1:]) * self._scale)))
                    owners.append(n)
                elif (query[0] < first) == (query is stretch.start):
                    # A part of a stretch goes on from where the track is at its border, if that was tracked before.
                    border = first if query[0] < first else last
                    track = self._known[group[n][0]].track
                    if track.scores[border] > 0:
                        queries.append((border - first, *(track.xy[border] * self._scale)))
                        owners.append(n)
        if not queries:
            return
        limit = [self._frames.shape[2], self._frames.shape[1]]
        asked = [[t, *np.clip([x, y], 0, limit)] for t, x, y in queries]
        size = self._frames.shape[1:3]
        found = self.tracker(self._frames[first : last + 1], points=asked, resolution=size)
        self.tracked_frames += len(asked) * (last - first + 1)
        rest = [found[name] for name in FIELDS[1:]]
        directions = [
            _Direction(found["tracks"][n] / self._scale, *(each[n] for each in rest)) for n in range(len(asked))
        ]
        for n, (id_, stretch) in enumerate(group):
            own = [direction for direction, owner in zip(directions, owners, strict=True) if owner == n]
            if not own:
                continue
            known = self._known[id_]
            part = own[0] if len(own) == 1 else join(*own)
            whole = (first, last) == (stretch.first, stretch.last)
            # A query's own frame belongs to both of its stretches, which agree there.
            for name in FIELDS:
                getattr(known.track, name)[first : last + 1] = getattr(part, name)
            if whole:
                known.stretches.add(stretch)

    def _tracks(self, points: Sequence[EditedPoint]) -> EditedTracks:
        """Return what is tracked, and what users said in place of it."""
        shape = (len(points), self.num_frames)
        xy, valid = np.zeros((*shape, 2), np.float32), np.ones(shape, bool)
        visible, scores, uncertainty = (np.zeros(shape, kind) for kind in (bool, np.float32, np.float32))
        for n, point in enumerate(points):
            track = self._known[point.id].track
            for whole, name in zip((xy, visible, scores, uncertainty), FIELDS, strict=True):
                whole[n] = getattr(track, name)
            for first, last in point.occluded:
                visible[n, first : last + 1] = False
            for t, x, y in point.queries:
                # Exactly, whatever the model's resolution.
                xy[n, t], visible[n, t], scores[n, t], uncertainty[n, t] = (x, y), True, 1, 0
            for first, last in point.deleted:
                valid[n, first : last + 1] = False
            first, last = shot_of(point, self.num_frames, self.cuts)
            valid[n, :first], valid[n, last + 1 :] = False, False
        return EditedTracks([point.id for point in points], xy, visible & valid, valid, scores, uncertainty)


def stretches_of(point: EditedPoint, num_frames: int, cuts: Sequence[int] = ()) -> list[Stretch]:
    """Return the stretches of a point: before its first query, between neighbors, and after its last, in its shot."""
    first, last = shot_of(point, num_frames, cuts)
    ends = [None, *point.queries, None]
    found = []
    for start, end in pairwise(ends):
        found.append(Stretch(first if start is None else start[0], last if end is None else end[0], start, end))
    # A query in a shot's first or last frame has nothing before or after it; a point always has one stretch.
    longer = [stretch for stretch in found if stretch.first < stretch.last]
    return longer or found[:1]


def shot_of(point: EditedPoint, num_frames: int, cuts: Sequence[int]) -> Span:
    """Return the first and last frame of the shot of a point's first query."""
    t = point.queries[0][0]
    borders = [0, *cuts, num_frames]
    return next((first, end - 1) for first, end in pairwise(borders) if t < end)


def join(forward: _Direction, backward: _Direction) -> _Direction:
    """Join a stretch that was tracked from both ends; the first frame is forward's query, the last backward's.

    With u from 0 to 1 along the stretch, c a direction's certainty, and m where the two come closest to each other, the
    weights are

        forward   c (1 - u) s((m - u) / FADE)        backward   c u s((u - m) / FADE)        s the logistic function

    so the track passes through both queries, follows each direction up to where they meet, and a direction that has
    lost the point counts little. Visible is what the direction says that weighs more.
    """
    S = len(forward.xy)
    u = np.linspace(0, 1, S)
    apart = np.linalg.norm(forward.xy - backward.xy, axis=-1)
    # Where they are equally close in many frames, they meet in the middle: a hundredth of a pixel decides.
    meet = u[(apart + 0.01 * np.abs(u - 0.5)).argmin()]
    slope = (u - meet) / FADE
    onward = forward.certainty() * (1 - u) / (1 + np.exp(np.clip(slope, -30, 30)))
    back = backward.certainty() * u / (1 + np.exp(np.clip(-slope, -30, 30)))
    share = back / (onward + back)

    def mixed(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        weight = share.reshape(-1, *[1] * (one.ndim - 1))
        result: np.ndarray = ((1 - weight) * one + weight * other).astype(np.float32)
        return result

    return _Direction(
        mixed(forward.xy, backward.xy),
        np.where(share < 0.5, forward.visible, backward.visible),
        mixed(forward.scores, backward.scores),
        mixed(forward.uncertainty, backward.uncertainty),
    )


def points_of_rows(rows: Sequence[Sequence[float]]) -> list[EditedPoint]:
    """Return points of rows (t, x, y, id), in order of their first row.

    Raises:
        CorrectionError: if a row has other than four numbers, or an id or a frame is not whole.
    """
    queries: dict[int, list[tuple[int, float, float]]] = {}
    for n, row in enumerate(rows):
        try:
            t, x, y, id_ = (float(value) for value in row)
        except (TypeError, ValueError) as error:
            raise CorrectionError(f"point {n} is {row}, not [t, x, y, id]: give each point an id, or none") from error
        if not (t == round(t) and id_ == round(id_)) if np.isfinite([t, id_]).all() else True:
            raise CorrectionError(f"point {n} is {list(row)}: t and the id are whole numbers")
        queries.setdefault(int(id_), []).append((int(t), x, y))
    return [EditedPoint(id_, tuple(sorted(set(found)))) for id_, found in queries.items()]


def check_points(
    points: Sequence[EditedPoint], num_frames: int, height: int, width: int, cuts: Sequence[int] = ()
) -> None:
    """Raise CorrectionError, in one line, unless what is said about points can be."""
    ids: set[int] = set()
    for point in points:
        name = f"point {point.id}"
        if point.id in ids:
            raise CorrectionError(f"two points have the id {point.id}: corrections of one point belong to one entry")
        ids.add(point.id)
        if not point.queries:
            raise CorrectionError(f"{name} has no query: say where it is in one frame")
        times = [query[0] for query in point.queries]
        if times != sorted(times):
            raise CorrectionError(f"{name}: its queries are not in order of time")
        for t, x, y in point.queries:
            # NaN fails both comparisons.
            if not (0 <= t < num_frames and 0 <= x <= width and 0 <= y <= height):
                raise CorrectionError(
                    f"{name} is at ({x:g}, {y:g}) in frame {t}, outside the video: frames go from 0 to "
                    f"{num_frames - 1}, x to {width}, y to {height}"
                )
            if times.count(t) > 1:
                raise CorrectionError(f"{name} is in two places in frame {t}: leave one out")
            for kind, spans in (("occluded", point.occluded), ("deleted", point.deleted)):
                if any(first <= t <= last for first, last in spans):
                    raise CorrectionError(f"{name} has a query in frame {t}, which is marked {kind}: leave one out")
        for first, last in (*point.occluded, *point.deleted):
            if not 0 <= first <= last < num_frames:
                raise CorrectionError(f"{name}: frames {first} to {last} are no stretch of {num_frames} frames")
        _, end = shot_of(point, num_frames, cuts)
        if times[-1] > end:
            raise CorrectionError(
                f"{name} has queries in frames {times[0]} and {times[-1]}, and the video cuts to another shot in frame "
                f"{end + 1}: use a point for each shot"
            )


def with_query(point: EditedPoint, t: int, x: float, y: float) -> EditedPoint:
    """Return a point that is also at (x, y) in frame t, and neither occluded nor deleted there."""
    queries = {query[0]: query for query in point.queries} | {t: (t, x, y)}
    return replace(
        point,
        queries=tuple(queries[time] for time in sorted(queries)),
        occluded=without_frame(point.occluded, t),
        deleted=without_frame(point.deleted, t),
    )


def without_frame(spans: Sequence[Span], t: int) -> tuple[Span, ...]:
    """Return spans of frames without frame t."""
    parts = [part for first, last in spans for part in ((first, min(last, t - 1)), (max(first, t + 1), last))]
    return tuple(dict.fromkeys((first, last) for first, last in parts if first <= last))


__all__ = ["CorrectionError", "EditedPoint", "EditedTracks", "PointEditor", "check_points", "join", "points_of_rows"]
