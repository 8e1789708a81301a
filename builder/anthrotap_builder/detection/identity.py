"""Identity of people over a clip: tracks are cut where they may have changed their person, and pieces joined again.

Frame after frame, a track follows the picture; where two people cross, that may lead from one to the other. Over the
whole clip their looks decide: a track is cut where its looks change for good, and, between people who look alike,
where one has hidden the other. Pieces are joined by looks and motion, all at once, and only where no other join is
nearly as good: what is left apart is several people, of whom each has one identity.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.optimize import linear_sum_assignment

from anthrotap_builder.detection.association import (
    TORSO,
    D,
    Detection,
    Track,
    appearance_distance,
    covered_fraction,
    mean_appearance,
    velocity,
)

# A track's looks may change where the mean appearances (Hellinger distance) of so many frames before and after differ
# by more than this: of one person they differ by about 0.1, of two by 0.3 and more. They do change if then they
# resemble those of another track more, or if they differ by more than the second: a person who is hidden in part, or
# turns round, changes less.
WINDOW = 6
MAX_CHANGE = 0.22
LARGE_CHANGE = 0.32
# A change also counts if it is large when so many frames on each side are left out: where two people hold each other, a
# track goes over from one to the other in several frames.
APART = 2
# A track that has lost its person for so many frames may have found another one.
MAX_UNSEEN = 5
# Frames on each side of a cut that are not kept: there the pose is of both people.
TRANSITION = 1
# One person hides another if so much of the smaller mask is in the other's. If they look alike, both are cut there.
HIDDEN_OVERLAP = 0.3
# Pieces with a longer gap, frames, are not joined; nor are those whose torso would be off by a larger fraction of the
# person's size, the second for each frame of the gap, from where its motion leads.
MAX_BRIDGE = 24
MAX_OFFSET = 0.25
MAX_OFFSET_STEP = 0.05
# Cost of the largest offset; of appearance at distance 1 it is 1. A join must cost this much less than any other of its
# two ends.
OFFSET_WEIGHT = 0.2
MIN_MARGIN = 0.05

# A torso shorter than this fraction of the person's size points to the camera or away from it.
MIN_TORSO = 0.08
# Frames a second from which on nobody turns by more than a right angle in one frame: dancers turn over in a fifth of a
# second.
MIN_TURN_RATE = 20.0

_NO_JOIN = 1e3


def resolve_identities(tracks: list[Track[D]]) -> list[Track[D]]:
    """Return tracks of one person each: the tracks, cut and joined anew where needed."""
    cuts = [_changes(track, tracks) | _hidden(track, tracks) | _lost(track) for track in tracks]
    if not any(cuts):
        return tracks
    joined = _join([piece for track, at in zip(tracks, cuts, strict=True) for piece in _pieces(track, at)])
    # A cut that was joined again as it was has cost nothing.
    for whole in joined:
        for track, at in zip(tracks, cuts, strict=True):
            for cut in at:
                before = max((t for t in track if t < cut - TRANSITION), default=-1)
                after = min((t for t in track if t >= cut + TRANSITION), default=-1)
                if all(t in whole and whole[t] is track[t] for t in (before, after)):
                    whole.update((t, track[t]) for t in track if before < t < after)
    return joined


def drop_turned(track: Track[D]) -> Track[D]:
    """Return a track without the poses whose torso is turned by more than a right angle from one frame to the next.

    At MIN_TURN_RATE frames a second or more nobody turns so fast: a person who is mostly hidden the landmark network
    sees now upright and now upside down. Kept are the runs of frames between such turns that agree with each other and
    have the most frames, by dynamic programming.
    """
    frames = sorted(track)
    torsos = [_torso(track[t]) for t in frames]
    # In units of the person's size, this is negative where the torso turns by more than a right angle, and near zero
    # where it points to the camera and its direction in the picture means nothing.
    turned = [float(a @ b) < -(MIN_TORSO**2) for a, b in pairwise(torsos)]
    starts = [0, *(i for i in range(1, len(frames)) if turned[i - 1] and frames[i] == frames[i - 1] + 1)]
    runs = [range(a, b) for a, b in zip(starts, [*starts[1:], len(frames)], strict=True)]
    # The largest number of frames kept up to the end of each run, and the run that is kept before it.
    totals: list[int] = []
    before: list[int | None] = []
    for index, run in enumerate(runs):
        agreeing = [k for k in range(index) if float(torsos[runs[k][-1]] @ torsos[run[0]]) >= 0]
        best = max(agreeing, key=lambda k: totals[k], default=None)
        before.append(best)
        totals.append(len(run) + (totals[best] if best is not None else 0))
    kept: set[int] = set()
    last = max(range(len(runs)), key=lambda k: totals[k], default=None)
    while last is not None:
        kept.update(runs[last])
        last = before[last]
    return {t: track[t] for i, t in enumerate(frames) if i in kept}


def _torso(detection: Detection) -> np.ndarray:
    """Return the vector [2] from the middle of the hips to that of the shoulders, in units of the person's size."""
    shoulders, hips = detection.landmarks[TORSO, :2].reshape(2, 2, 2).mean(1)
    torso: np.ndarray = (shoulders - hips) / detection.size
    return torso


def _changes(track: Track[D], tracks: list[Track[D]]) -> set[int]:
    """Return the frames at which one of the tracks begins to look like another person."""
    frames = sorted(track)
    distances, apart = np.zeros((2, len(frames)))
    for i in range(WINDOW, len(frames) - WINDOW + 1):
        for found, skipped in ((distances, 0), (apart, APART)):
            before = frames[max(0, i - WINDOW - skipped) : i - skipped]
            after = frames[i + skipped : i + WINDOW + skipped]
            found[i] = appearance_distance(_mean(track, before), _mean(track, after))
    # The largest change of each stretch of large ones.
    changes = set()
    while len(distances) and distances.max() > MAX_CHANGE:
        i = int(distances.argmax())
        changed = _mean(track, frames[i : i + WINDOW])
        others = [looks for other in tracks if other is not track for looks in _looks_around(other, frames[i])]
        nearest = min((appearance_distance(changed, looks) for looks in others), default=1.0)
        if apart[i] > LARGE_CHANGE or distances[i] > min(LARGE_CHANGE, nearest):
            changes.add(frames[i])
        distances[max(0, i - WINDOW) : i + WINDOW + 1] = 0
    return changes


def _looks_around(track: Track[D], frame: int) -> list[np.ndarray]:
    """Return a track's mean appearances over runs of its frames that a join over this frame could reach."""
    frames = [t for t in sorted(track) if abs(t - frame) <= MAX_BRIDGE]
    return [_mean(track, frames[i : i + WINDOW]) for i in range(0, len(frames), WINDOW)]


def _hidden(track: Track[D], tracks: list[Track[D]]) -> set[int]:
    """Return the frames at which a track's person comes out from behind, or in front of, one who looks alike."""
    cuts = set()
    for other in tracks:
        if other is track or appearance_distance(mean_appearance(track), mean_appearance(other)) > MAX_CHANGE:
            continue
        shared = [
            t
            for t in sorted(track.keys() & other.keys())
            if covered_fraction(track[t].cells, other[t].cells) > HIDDEN_OVERLAP
        ]
        # The end of each run of such frames.
        cuts |= {t + 1 for t in shared if t + 1 not in shared}
    return cuts


def _lost(track: Track[D]) -> set[int]:
    """Return the frames in which a track finds a person again after it has lost one for long."""
    return {t for last, t in pairwise(sorted(track)) if t - last > MAX_UNSEEN}


def _pieces(track: Track[D], cuts: set[int]) -> list[Track[D]]:
    """Cut a track before each of some frames, in which it may have no detection; without the frames around the cuts."""
    pieces: list[Track[D]] = [{}]
    previous = min(track)
    for t in sorted(track):
        if any(previous < cut <= t for cut in cuts):
            pieces.append({})
        previous = t
        if not any(cut - TRANSITION <= t < cut + TRANSITION for cut in cuts):
            pieces[-1][t] = track[t]
    return [piece for piece in pieces if piece]


def _join(pieces: list[Track[D]]) -> list[Track[D]]:
    """Join pieces at least total cost over the clip, where that is clear."""
    looks = [mean_appearance(piece) for piece in pieces]
    count = len(pieces)
    costs = np.full((count, count), _NO_JOIN)
    for i, before in enumerate(pieces):
        for j, after in enumerate(pieces):
            if i != j and 0 < min(after) - max(before) <= MAX_BRIDGE:
                costs[i, j] = _piece_cost(before, after, appearance_distance(looks[i], looks[j]))
    # At most one successor and one predecessor each.
    successors: dict[int, int] = {}
    for i, j in zip(*linear_sum_assignment(costs), strict=True):
        # Others that could be there instead, as another person: those of the same time.
        others = [costs[i, k] for k in range(count) if k != j and _meet(pieces[k], pieces[j])]
        others += [costs[k, j] for k in range(count) if k != i and _meet(pieces[k], pieces[i])]
        if costs[i, j] < _NO_JOIN and costs[i, j] + MIN_MARGIN <= min(others, default=_NO_JOIN):
            successors[int(i)] = int(j)
    joined = []
    for first in sorted(set(range(count)) - set(successors.values())):
        track, i = dict(pieces[first]), first
        while i in successors:
            i = successors[i]
            track.update(pieces[i])
        joined.append(track)
    return joined


def _meet(a: Track[D], b: Track[D]) -> bool:
    return min(a) <= max(b) and min(b) <= max(a)


def _piece_cost(before: Track[D], after: Track[D], distance: float) -> float:
    """Return the cost of a join of two pieces whose appearances have a distance."""
    last, first = max(before), min(after)
    gap = first - last
    here, there = (d.landmarks[TORSO, :2].mean(0) for d in (before[last], after[first]))
    # The person has gone on, or has stopped: the nearer counts.
    offset = min(np.linalg.norm(there - here), np.linalg.norm(there - here - gap * velocity(before, first)))
    largest = (MAX_OFFSET + MAX_OFFSET_STEP * gap) * max(before[last].size, after[first].size)
    if distance > MAX_CHANGE or offset > largest:
        return _NO_JOIN
    return distance + OFFSET_WEIGHT * float(offset / largest)


def _mean(track: Track[D], frames: list[int]) -> np.ndarray:
    return mean_appearance({t: track[t] for t in frames})
