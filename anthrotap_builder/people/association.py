"""Who is who: sightings of single frames become tracks, by where people move and how they look.

Knows nothing of networks: a sighting is anything that has landmarks, a size, a look and two probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

import numpy as np
from scipy.optimize import linear_sum_assignment

from anthrotap_builder.config import PeopleSettings

# BlazePose's nose, shoulders, elbows, wrists, hips, knees and ankles: what tells where a person is.
JOINTS = np.array([0, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28])
MIRRORED = np.array([0, 12, 11, 14, 13, 16, 15, 24, 23, 26, 25, 28, 27])
TORSO = np.array([11, 12, 23, 24])
TOLERANCE = 0.08  # of the person's size: a joint this far off counts exp(-1/2)
TOLERANCE_GROWTH = 0.15  # how much of it each frame unseen adds
LOOK_WEIGHT = 0.5  # of a wholly different look, against 1 for a wholly different pose


class Sighting(Protocol):
    """One person in one frame.

    Attributes:
        landmarks: [33, 3], x and y in pixels, confidence.
        size: about the diameter of a circle around the whole person, pixels.
        look: [K], square roots of a histogram of the person's colours.
        score: probability that a person is there.
        detection: probability by which a detector found it, 0 if it was only followed from another frame.
    """

    @property
    def landmarks(self) -> np.ndarray: ...
    @property
    def size(self) -> float: ...
    @property
    def look(self) -> np.ndarray: ...
    @property
    def score(self) -> float: ...
    @property
    def detection(self) -> float: ...


Track = dict[int, Sighting]  # by frame index


def similarity(a: np.ndarray, b: np.ndarray, size: float, tolerance: float = TOLERANCE) -> float:
    """How well two poses [33, 3] agree, in [0, 1]: COCO's object keypoint similarity with one tolerance.

    Left and right may be swapped: the landmark network sometimes does, and it is the same person still.
    """
    a, b = a[JOINTS, :2], b[:, :2]
    return max(
        float(np.exp(-0.5 * np.sum((a - b[order]) ** 2, axis=1) / (tolerance * size) ** 2).mean())
        for order in (JOINTS, MIRRORED)
    )


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Hellinger distance of two looks, in [0, 1]."""
    return float(np.sqrt(max(0.0, 1 - float(a @ b))))


def velocity(track: Track, frame: int) -> np.ndarray:
    """[2] pixels a frame: how the torso moves at the end of the track that is nearer to `frame`."""
    known = sorted(track, key=lambda t: abs(t - frame))[:3]
    near, far = known[0], known[-1]
    if near == far:
        return np.zeros(2)
    shift = track[near].landmarks[TORSO, :2].mean(0) - track[far].landmarks[TORSO, :2].mean(0)
    return shift / (near - far)


def predict(track: Track, frame: int) -> np.ndarray:
    """[33, 3]: the track's landmarks in a frame where it was not seen, from its nearest frames."""
    before = max((t for t in track if t < frame), default=None)
    after = min((t for t in track if t > frame), default=None)
    if before is not None and after is not None:
        share = (frame - before) / (after - before)
        return (1 - share) * track[before].landmarks + share * track[after].landmarks
    near = before if before is not None else after
    assert near is not None, "an empty track predicts nothing"
    landmarks = track[near].landmarks.copy()
    landmarks[:, :2] += velocity(track, frame) * (frame - near)
    return landmarks


def link(sightings: dict[int, list[Sighting]], settings: PeopleSettings) -> list[Track]:
    """Sightings of distinct people, by frame, linked into tracks, frame after frame, at least total cost."""
    tracks: list[Track] = []
    for frame in sorted(sightings):
        here = sightings[frame]
        open_tracks = [track for track in tracks if frame - max(track) <= settings.max_gap]
        free = set(range(len(here)))
        if open_tracks and here:
            cost = np.array([[_link_cost(track, frame, s, settings) for s in here] for track in open_tracks])
            for i, j in zip(*linear_sum_assignment(cost), strict=True):
                if cost[i, j] < _NO_LINK:
                    open_tracks[i][frame] = here[j]
                    free.discard(j)
        tracks += [{frame: here[j]} for j in sorted(free)]
    return tracks


_NO_LINK = 1e3


def _link_cost(track: Track, frame: int, sighting: Sighting, settings: PeopleSettings) -> float:
    last = max(track)
    tolerance = TOLERANCE * (1 + TOLERANCE_GROWTH * (frame - last))
    alike = similarity(predict(track, frame), sighting.landmarks, track[last].size, tolerance)
    if alike < settings.min_link:
        return _NO_LINK
    return 1 - alike + LOOK_WEIGHT * difference(track[last].look, sighting.look)


def follow(
    track: Track,
    frames: range,
    look: Callable[[int, Track], Sighting | None],
    settings: PeopleSettings,
) -> Track:
    """Sightings for a run of frames in which the track has none.

    Goes inwards from each end of the run that the track has seen, by turns, and on as long as `look`, asked for
    a frame and given the track so far, returns a sighting that fits the prediction.
    """
    known = dict(track)
    found: Track = {}
    ends = [(frames.start, 1)] if frames.start - 1 in track else []
    ends += [(frames.stop - 1, -1)] if frames.stop in track else []
    while ends:
        frame, step = ends.pop(0)
        if frame in found or frame not in frames:
            continue
        sighting = look(frame, known)
        if sighting is None:
            continue
        if similarity(predict(known, frame), sighting.landmarks, sighting.size) < settings.min_link:
            continue
        known[frame] = found[frame] = sighting
        ends.append((frame + step, step))
    return found


def gaps(track: Track, num_frames: int) -> Iterable[range]:
    """The runs of frames, of a clip of `num_frames`, in which the track has no sighting."""
    last = -1
    for frame in [*sorted(track), num_frames]:
        if frame > last + 1:
            yield range(last + 1, frame)
        last = frame


def mean_look(track: Track) -> np.ndarray:
    """[K]: the look of a track, from the frames in which a detector saw it (else from all)."""
    seen = [s.look for s in track.values() if s.detection] or [s.look for s in track.values()]
    look = np.sqrt(np.mean(np.square(seen), axis=0))
    return look / max(1e-12, float(np.linalg.norm(look)))


def settle(tracks: list[Track], fixed: list[Track], settings: PeopleSettings) -> list[Track]:
    """Tracks of distinct people, out of tracks that may have met on one person.

    Two tracks that meet but were never seen apart are one person and are joined. Of two that were seen apart, in
    the frames where both show one pose, the one with the other look loses it. `fixed` tracks lose nothing.
    """
    tracks = sorted(tracks, key=lambda track: (-len(track), min(track)))
    settled: list[Track] = []
    for track in tracks:
        track = dict(track)
        for other in fixed + settled:
            shared = sorted(set(track) & set(other))
            same = [t for t in shared if is_same(track[t], other[t], settings)]
            if not same:
                continue
            apart = len(shared) - len(same)
            is_fixed = any(other is one for one in fixed)
            if not is_fixed and apart <= len(same) // 4:
                other.update({t: s for t, s in track.items() if t not in other})
                track = {}
                break
            ours, theirs = mean_look(track), mean_look(other)
            for t in same:
                if is_fixed or difference(track[t].look, ours) >= difference(other[t].look, theirs):
                    del track[t]
                else:
                    del other[t]
            if not track:
                break
        if track:
            settled.append(track)
    return [track for track in settled if track]


def is_same(a: Sighting, b: Sighting, settings: PeopleSettings) -> bool:
    """Whether two sightings in one frame are of one person."""
    return similarity(a.landmarks, b.landmarks, min(a.size, b.size)) > settings.same_pose


def distinct(sightings: Iterable[Sighting], settings: PeopleSettings) -> list[Sighting]:
    """The sightings of one frame without those that show a person already shown by a better one."""
    kept: list[Sighting] = []
    for sighting in sorted(sightings, key=lambda s: -s.detection * s.score):
        if not any(is_same(sighting, other, settings) for other in kept):
            kept.append(sighting)
    return kept


def is_person(track: Track, settings: PeopleSettings) -> bool:
    """Whether a track is seen often and surely enough to be a person."""
    detections = [s.detection for s in track.values() if s.detection]
    return (
        len(track) >= settings.min_frames
        and len(detections) >= settings.min_detections
        and max(detections) >= settings.sure_detection
    )
