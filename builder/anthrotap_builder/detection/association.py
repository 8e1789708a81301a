"""Who is who: detections of single frames become tracks, by where people move and how they look.

Knows nothing of networks: a detection is anything that has landmarks, a size, a look and two probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Protocol, TypeVar

import numpy as np
from scipy.optimize import linear_sum_assignment

from anthrotap_builder.config import PeopleSettings

# BlazePose's nose, shoulders, elbows, wrists, hips, knees and ankles: what tells where a person is.
JOINTS = np.array([0, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28])
MIRRORED = np.array([0, 12, 11, 14, 13, 16, 15, 24, 23, 26, 25, 28, 27])
TORSO = np.array([11, 12, 23, 24])


class Detection(Protocol):
    """One person in one frame.

    Attributes:
        landmarks: [33, 3], x and y in pixels, confidence.
        size: about the diameter of a circle around the whole person, pixels.
        angle: of the direction from hips to head, radians from up, clockwise in the picture.
        look: [K], square roots of a histogram of the person's colors.
        cells: [h, w] bool, the person's place on a coarse grid over the frame.
        score: probability that a person is there.
        detection: probability by which a detector found it, 0 if it was only followed from another frame.
    """

    @property
    def landmarks(self) -> np.ndarray: ...
    @property
    def size(self) -> float: ...
    @property
    def angle(self) -> float: ...
    @property
    def look(self) -> np.ndarray: ...
    @property
    def cells(self) -> np.ndarray: ...
    @property
    def score(self) -> float: ...
    @property
    def detection(self) -> float: ...


S = TypeVar("S", bound=Detection)
Track = dict[int, S]  # by frame index


def similarity(a: np.ndarray, b: np.ndarray, tolerance: float) -> float:
    """How well two poses [33, 3] agree, [0, 1]: COCO's object keypoint similarity, `tolerance` in pixels.

    Left and right may be swapped: the landmark network sometimes does, and it is the same person still.
    """
    a, b = a[JOINTS, :2], b[:, :2]
    return max(
        float(np.exp(-0.5 * np.sum((a - b[order]) ** 2, axis=1) / tolerance**2).mean())
        for order in (JOINTS, MIRRORED)
    )


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Hellinger distance of two looks, in [0, 1]."""
    return float(np.sqrt(max(0.0, 1 - float(a @ b))))


def velocity(track: Track[S], frame: int) -> np.ndarray:
    """[2] pixels a frame: how the torso moves at the end of the track that is nearer to `frame`."""
    known = sorted(track, key=lambda t: abs(t - frame))[:3]
    near, far = known[0], known[-1]
    if near == far:
        return np.zeros(2)
    shift = track[near].landmarks[TORSO, :2].mean(0) - track[far].landmarks[TORSO, :2].mean(0)
    return shift / (near - far)


def predict(track: Track[S], frame: int) -> np.ndarray:
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


def link(detections: dict[int, list[S]], settings: PeopleSettings) -> list[Track[S]]:
    """Sightings of distinct people, by frame, linked into tracks, frame after frame, at least total cost."""
    tracks: list[Track[S]] = []
    for frame in sorted(detections):
        here = detections[frame]
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


def _link_cost(track: Track[S], frame: int, detection: S, settings: PeopleSettings) -> float:
    unlike = difference(track[_nearest(track, frame)].look, detection.look)
    alike = fit(track, frame, detection, settings)
    if alike < settings.min_link or unlike > settings.max_look:
        return _NO_LINK
    return 1 - alike + settings.appearance_weight * unlike


def _nearest(track: Track[S], frame: int) -> int:
    return min(track, key=lambda t: (abs(t - frame), t))


def fit(track: Track[S], frame: int, detection: S, settings: PeopleSettings) -> float:
    """How well a detection fits where a track should be: similarity, [0, 1], more tolerant after a gap.

    The track may have gone on as before or have stopped (or turned, at the top of a jump): the better counts.
    Who is mostly hidden is often taken for someone upside down: a turn of more than 90 degrees does not fit.
    """
    near = _nearest(track, frame)
    if _is_turned(track[near], detection):
        return 0.0
    tolerance = settings.joint_tolerance + settings.joint_motion * abs(frame - near)
    return max(
        similarity(landmarks, detection.landmarks, tolerance * track[near].size)
        for landmarks in (predict(track, frame), track[near].landmarks)
    )


def _is_turned(a: Detection, b: Detection) -> bool:
    return math.cos(a.angle - b.angle) < 0


def follow(
    track: Track[S],
    frames: range,
    look: Callable[[int, Track[S]], S | None],
    settings: PeopleSettings,
) -> Track[S]:
    """Sightings for a run of frames in which the track has none.

    Goes inwards from each end of the run that the track has seen, by turns, and on as long as `look`, asked
    for a frame and given the track so far, returns a detection that fits the prediction, or soon does again.
    """
    known = dict(track)
    found: Track[S] = {}
    ends = [(frames.start, 1, 0)] if frames.start - 1 in track else []
    ends += [(frames.stop - 1, -1, 0)] if frames.stop in track else []
    while ends:
        frame, step, missed = ends.pop(0)
        if frame in found or frame not in frames:
            continue
        detection = look(frame, known)
        if detection and fit(known, frame, detection, settings) >= settings.min_link:
            known[frame] = found[frame] = detection
            missed = 0
        else:
            missed += 1
        if missed <= settings.max_missed:
            ends.append((frame + step, step, missed))
    return found


def gaps(track: Track[S], num_frames: int) -> Iterable[range]:
    """The runs of frames, of a clip of `num_frames`, in which the track has no detection."""
    last = -1
    for frame in [*sorted(track), num_frames]:
        if frame > last + 1:
            yield range(last + 1, frame)
        last = frame


def mean_appearance(track: Track[S]) -> np.ndarray:
    """[K]: the look of a track, from the frames in which a detector saw it (else from all)."""
    seen = [s.look for s in track.values() if s.detection] or [s.look for s in track.values()]
    look = np.sqrt(np.mean(np.square(seen), axis=0))
    return look / max(1e-12, float(np.linalg.norm(look)))


def settle(tracks: list[Track[S]], fixed: list[Track[S]], settings: PeopleSettings) -> list[Track[S]]:
    """Tracks of distinct people, out of tracks that may have met on one person; as many, some empty.

    Two tracks that meet but were hardly ever seen apart are one person: the longer one takes the other in,
    unless the other shows it upside down and is nothing.
    Of two that were seen apart, each run of frames in which both show one person goes to the track that looks
    more like it. `fixed` tracks lose nothing.
    """
    settled = [dict(track) for track in tracks]
    order = sorted(
        (i for i, track in enumerate(tracks) if track), key=lambda i: (-len(tracks[i]), min(tracks[i]))
    )
    for rank, i in enumerate(order):
        track = settled[i]
        for other in fixed:
            for t in _meetings(track, other, settings):
                del track[t]
        for other in (settled[j] for j in order[:rank]):
            same = _meetings(track, other, settings)
            if not same:
                continue
            if len(track.keys() & other.keys()) - len(same) <= settings.max_apart:
                if not any(_is_turned(track[t], other[t]) for t in same):
                    other.update(
                        {t: s for t, s in track.items() if t not in other or s.detection > other[t].detection}
                    )
                track.clear()
                break
            ours, theirs = mean_appearance(track), mean_appearance(other)
            for run in np.split(same, np.flatnonzero(np.diff(same) > 1) + 1):
                is_ours = np.mean([difference(track[t].look, ours) for t in run])
                is_theirs = np.mean([difference(other[t].look, theirs) for t in run])
                loser = other if is_ours < is_theirs else track
                for t in run:
                    del loser[t]
    return settled


def _meetings(a: Track[S], b: Track[S], settings: PeopleSettings) -> list[int]:
    return [t for t in sorted(a.keys() & b.keys()) if is_same(a[t], b[t], settings)]


def belongs_to_rival(
    detection: S, frame: int, track: Track[S], rivals: list[Track[S]], settings: PeopleSettings
) -> bool:
    """Whether a detection, meant for a track, shows a person whom a rival has there and looks more like."""
    return any(
        difference(rival[frame].look, mean_appearance(rival))
        <= difference(detection.look, mean_appearance(track))
        for rival in rivals
        if frame in rival and is_same(detection, rival[frame], settings)
    )


def stitch(tracks: list[Track[S]], settings: PeopleSettings) -> list[Track[S]]:
    """Joins tracks that fill each other's gaps, where place, pose and look agree; best first.

    Leaves out empty tracks.
    """
    tracks = [track for track in tracks if track]
    while True:
        pairs = [
            (cost, i, j)
            for i, whole in enumerate(tracks)
            for j, piece in enumerate(tracks)
            if i != j and (cost := _stitch_cost(whole, piece, settings)) < _NO_LINK
        ]
        if not pairs:
            return tracks
        _, i, j = min(pairs)
        tracks[i] = {**tracks[i], **tracks[j]}
        del tracks[j]


def _stitch_cost(whole: Track[S], piece: Track[S], settings: PeopleSettings) -> float:
    """Cost of putting a piece into, before or after a track: that of its better end."""
    first, last = min(piece), max(piece)
    before = max((t for t in whole if t < first), default=None)
    after = min((t for t in whole if t > first), default=None)
    if first in whole or (after is not None and after <= last):
        return _NO_LINK
    costs = [_NO_LINK]
    if before is not None and first - before <= settings.max_gap:
        costs.append(
            _link_cost({t: s for t, s in whole.items() if t <= before}, first, piece[first], settings)
        )
    if after is not None and after - last <= settings.max_gap:
        costs.append(_link_cost(piece, after, whole[after], settings))
    return min(costs)


def is_same(a: Detection, b: Detection, settings: PeopleSettings) -> bool:
    """Whether two detections in one frame are of one person: one pose, or one mostly inside the other."""
    overlap = np.count_nonzero(a.cells & b.cells) / max(1, min(a.cells.sum(), b.cells.sum()))
    return (
        overlap > settings.same_place
        or similarity(a.landmarks, b.landmarks, settings.joint_tolerance * min(a.size, b.size))
        > settings.same_pose
    )


def distinct(detections: Iterable[S], settings: PeopleSettings) -> list[S]:
    """The detections of one frame without those that show a person already shown by a better one."""
    kept: list[S] = []
    for detection in sorted(detections, key=lambda s: -s.detection * s.score):
        if not any(is_same(detection, other, settings) for other in kept):
            kept.append(detection)
    return kept


def is_hopeful(track: Track[S], settings: PeopleSettings) -> bool:
    """Whether a track, seen by the detector alone so far, is worth following."""
    return len(track) >= settings.min_detections or any(
        s.detection >= settings.sure_detection for s in track.values()
    )


def is_person(track: Track[S], settings: PeopleSettings) -> bool:
    """Whether a track is seen often and surely enough to be a person."""
    detections = [s.detection for s in track.values() if s.detection]
    confidence = np.mean([s.landmarks[:, 2].mean() for s in track.values()])
    return bool(
        len(track) >= settings.min_frames
        and len(detections) >= settings.min_detections
        and max(detections) >= settings.sure_detection
        and confidence >= settings.min_track_confidence
    )
