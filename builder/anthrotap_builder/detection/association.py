"""Association of detections to tracks of people, by motion, pose and appearance."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.optimize import linear_sum_assignment

from anthrotap_builder.detection.scene_motion import CELL, SceneMotion

# BlazePose's nose, shoulders, elbows, wrists, hips, knees and ankles: the joints that poses are compared by.
JOINTS = np.array([0, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28])
MIRRORED = np.array([0, 12, 11, 14, 13, 16, 15, 24, 23, 26, 25, 28, 27])
TORSO = np.array([11, 12, 23, 24])

# A joint that is off by this fraction of the person's size counts exp(-1/2) in the similarity of two poses, and how
# much the fraction grows with each frame between two detections.
JOINT_TOLERANCE = 0.08
JOINT_MOTION = 0.03
# Two detections of one frame are one person if their poses are more similar than this, or if more than this fraction
# of the smaller mask lies in the other.
OKS_THRESHOLD = 0.6
MASK_OVERLAP_THRESHOLD = 0.6
# If one of two has the head down, they are one person if so much of the smaller mask lies in the other: in some frames
# between the person may have turned.
MIN_TURNED_OVERLAP = 0.3

# A link of a detection to a track needs a pose at least this similar to the predicted one, and an appearance at most
# this far from the track's (Hellinger distance).
MIN_LINK_SIMILARITY = 0.3
MAX_APPEARANCE_DISTANCE = 0.7
# Over so many frames the picture's motion says where a pose and a mask go: longer, and its errors add up.
MAX_CARRIED = 4
# Cost of an appearance at distance 1; a wholly different pose costs 1.
APPEARANCE_WEIGHT = 0.5
# Longest gap of a track, frames, and for how many frames without a detection a track is propagated.
MAX_GAP = 12
MAX_AGE = 2
# Two tracks that meet are one person if they are separate in at most so many frames.
MAX_SEPARATE_FRAMES = 2

# A track is a person if it has so many frames, of which so many are by the detector, and its landmarks have this mean
# confidence in the frame (those of pictures of people have less).
MIN_FRAMES = 8
MIN_DETECTIONS = 2
MIN_TRACK_CONFIDENCE = 0.55
# So much more confidence is needed where no landmark is in the frame, and the more of them are, the less: what is cut
# off at the border may be anything, but of people close to the camera the landmarks that are in the frame are sure.
MORE_CONFIDENCE_OUTSIDE = 0.4

_NO_LINK = 1e3


@dataclass(frozen=True)
class Detection:
    """One person in one frame.

    Attributes:
        landmarks: [33, 3] float32, x and y in raster pixels, confidence.
        size: about the diameter of a circle around the whole person, pixels.
        angle: of the direction from hips to head, radians from up, clockwise in the picture.
        appearance: [K] float32, square roots of a histogram of the person's colors.
        cells: [h, w] bool, the person's mask on a coarse grid over the frame.
        pose_score: probability of a person, by the landmark network.
        detector_score: probability by the detector; 0 if the person was only propagated from another frame.
    """

    landmarks: np.ndarray
    size: float
    angle: float
    appearance: np.ndarray
    cells: np.ndarray
    pose_score: float
    detector_score: float

    @property
    def inside(self) -> np.ndarray:
        """[33] bool, the landmarks that are in the frame, to its last cell."""
        rows, columns = self.cells.shape
        xy = self.landmarks[:, :2]
        return np.all((xy >= 0) & (xy <= (CELL * columns, CELL * rows)), axis=1)

    @property
    def confidence(self) -> float:
        """Mean confidence of the landmarks in the frame: it says nothing of those outside. 0 if there is none."""
        confidence = self.landmarks[self.inside, 2]
        return float(confidence.mean()) if len(confidence) else 0.0


D = TypeVar("D", bound=Detection)
# Detections by frame index.
Track = dict[int, D]


def pose_similarity(a: np.ndarray, b: np.ndarray, tolerance: float) -> float:
    """Return COCO's object keypoint similarity of two poses [33, 3], in [0, 1]; `tolerance` is in pixels.

    Left and right may be swapped, as the landmark network sometimes does with one and the same person.
    """
    a, b = a[JOINTS, :2], b[:, :2]
    return max(
        float(np.exp(-0.5 * np.sum((a - b[order]) ** 2, axis=1) / tolerance**2).mean()) for order in (JOINTS, MIRRORED)
    )


def appearance_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Hellinger distance of two appearances, in [0, 1]."""
    return float(np.sqrt(max(0.0, 1 - float(a @ b))))


def mean_appearance(track: Track[D]) -> np.ndarray:
    """Return the appearance [K] of a track: the mean over the frames with a detector score, else over all."""
    appearances = [d.appearance for d in track.values() if d.detector_score]
    appearances = appearances or [d.appearance for d in track.values()]
    mean = np.sqrt(np.mean(np.square(appearances), axis=0))
    return mean / max(1e-12, float(np.linalg.norm(mean)))


def velocity(track: Track[D], frame: int) -> np.ndarray:
    """Return the torso's motion, [2] pixels a frame, at the end of the track that is nearer to `frame`."""
    known = sorted(track, key=lambda t: abs(t - frame))[:3]
    near, far = known[0], known[-1]
    if near == far:
        return np.zeros(2)
    shift = track[near].landmarks[TORSO, :2].mean(0) - track[far].landmarks[TORSO, :2].mean(0)
    return shift / (near - far)


def predict(track: Track[D], frame: int) -> np.ndarray:
    """Return the track's landmarks [33, 3] in a frame without a detection, from its nearest frames."""
    before = max((t for t in track if t < frame), default=None)
    after = min((t for t in track if t > frame), default=None)
    if before is not None and after is not None:
        # Inside the track: linear between its neighbors.
        fraction = (frame - before) / (after - before)
        return (1 - fraction) * track[before].landmarks + fraction * track[after].landmarks
    # Before its start or after its end: it continues at its velocity.
    near = before if before is not None else after
    assert near is not None, "an empty track predicts nothing"
    landmarks = track[near].landmarks.copy()
    landmarks[:, :2] += velocity(track, frame) * (frame - near)
    return landmarks


def link(detections: dict[int, list[D]], motion: SceneMotion | None = None) -> list[Track[D]]:
    """Link detections of distinct people, by frame, into tracks: frame after frame, at least total cost.

    Args:
        detections: by frame index.
        motion: of the clip; None: poses are compared without it.
    """
    tracks: list[Track[D]] = []
    for frame in sorted(detections):
        candidates = detections[frame]
        open_tracks = [track for track in tracks if frame - max(track) <= MAX_GAP]
        unmatched = set(range(len(candidates)))
        if open_tracks and candidates:
            cost = np.array([[_link_cost(track, frame, d, motion) for d in candidates] for track in open_tracks])
            # The Hungarian method matches all that it can; matches at the cost of no link are none.
            for i, j in zip(*linear_sum_assignment(cost), strict=True):
                if cost[i, j] < _NO_LINK:
                    open_tracks[i][frame] = candidates[j]
                    unmatched.discard(j)
        tracks += [{frame: candidates[j]} for j in sorted(unmatched)]
    return tracks


def _link_cost(track: Track[D], frame: int, detection: D, motion: SceneMotion | None) -> float:
    distance = appearance_distance(track[_nearest(track, frame)].appearance, detection.appearance)
    similarity = similarity_to_prediction(track, frame, detection, motion)
    if similarity < MIN_LINK_SIMILARITY or distance > MAX_APPEARANCE_DISTANCE:
        return _NO_LINK
    return 1 - similarity + APPEARANCE_WEIGHT * distance


def _nearest(track: Track[D], frame: int) -> int:
    return min(track, key=lambda t: (abs(t - frame), t))


def similarity_to_prediction(track: Track[D], frame: int, detection: D, motion: SceneMotion | None = None) -> float:
    """Return how similar a detection is to what a track predicts, in [0, 1]; more tolerant after a gap.

    The track may have gone on as before or have stopped (or turned, at the top of a jump), or have gone where the
    picture went: the best counts. Where the picture's motion is known, so does the overlap of the masks, half: a pose
    that jumps to a neighbor of similar posture is not where the picture went.
    The network often takes a mostly occluded person for one upside down: a turn of more than 90 degrees counts 0.
    """
    near = _nearest(track, frame)
    last = track[near]
    if is_turned(last, detection):
        return 0.0
    tolerance = (JOINT_TOLERANCE + JOINT_MOTION * abs(frame - near)) * last.size
    similarity = max(
        pose_similarity(landmarks, detection.landmarks, tolerance)
        for landmarks in (predict(track, frame), last.landmarks)
    )
    if motion is None or abs(frame - near) > MAX_CARRIED:
        return similarity
    carried = motion.carry_points(last.landmarks[:, :2], near, frame)
    similarity = max(similarity, pose_similarity(carried, detection.landmarks, tolerance))
    return (similarity + overlap(motion.carry_cells(last.cells, near, frame), detection.cells)) / 2


def fits_prediction(track: Track[D], frame: int, detection: D, motion: SceneMotion | None = None) -> bool:
    """Return whether a detection may be the person of a track, see `similarity_to_prediction`."""
    return similarity_to_prediction(track, frame, detection, motion) >= MIN_LINK_SIMILARITY


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Return the intersection over union of two masks, bool of one shape; 0 if both are empty."""
    return int((a & b).sum()) / max(1, int((a | b).sum()))


def covered_fraction(a: np.ndarray, b: np.ndarray) -> float:
    """Return how much of the smaller of two masks lies in the other, bool of one shape; 0 if one is empty."""
    return int((a & b).sum()) / max(1, min(int(a.sum()), int(b.sum())))


def is_turned(a: Detection, b: Detection) -> bool:
    """Return whether two people have their heads in directions more than a right angle apart."""
    return math.cos(a.angle - b.angle) < 0


def propagate(
    track: Track[D],
    frames: range,
    observe: Callable[[int, Track[D]], D | None],
    motion: SceneMotion | None = None,
) -> Track[D]:
    """Find detections for a run of frames in which the track has none.

    Goes inwards from each end of the run where the track has a detection, by turns, and on as long as `observe`,
    called with a frame and the track so far, returns a detection that fits the prediction, or soon does again.
    """
    known = dict(track)
    found: Track[D] = {}
    # Next frame, direction, and how many frames in a row were missed.
    ends = [(frames.start, 1, 0)] if frames.start - 1 in track else []
    ends += [(frames.stop - 1, -1, 0)] if frames.stop in track else []
    while ends:
        frame, step, missed = ends.pop(0)
        if frame in found or frame not in frames:
            continue
        detection = observe(frame, known)
        if detection and fits_prediction(known, frame, detection, motion):
            known[frame] = found[frame] = detection
            missed = 0
        else:
            missed += 1
        if missed <= MAX_AGE:
            ends.append((frame + step, step, missed))
    return found


def drop_contradicted(track: Track[D], tracks: list[Track[D]]) -> Track[D]:
    """Return a track without the poses beyond its detections that other tracks' detections show to be upside down.

    The landmark network may see a person who has just turned over as turned in the frames before, too: it is given the
    region of the next frame. The detector sees who stands. Where it does, more often than it agrees with the track, the
    track's poses are of the wrong angle up to halfway to its own first (or last) detection.

    Args:
        track: after `propagate`; some of its poses are the detector's.
        tracks: may be of the same person.
    """
    detected = [t for t, d in track.items() if d.detector_score]
    if not detected:
        return track
    beyond = [t for t in track if not min(detected) <= t <= max(detected)]
    agreeing: set[int] = set()
    contradicted: set[int] = set()
    for other in tracks:
        for t, d in other.items():
            if d.detector_score and not min(detected) <= t <= max(detected) and _is_near_in_place(track, t, d):
                (contradicted if is_turned(d, track[_nearest(track, t)]) else agreeing).add(t)
    # The detector, too, may take a person for one upside down for a moment.
    if len(contradicted) <= len(agreeing):
        return track
    wrong = {t for t in beyond if _distance_to(t, contradicted) <= _distance_to(t, detected)}
    return {t: d for t, d in track.items() if t not in wrong}


def _is_near_in_place(track: Track[D], frame: int, detection: D) -> bool:
    """Return whether a track has a detection's person in its frame, or in the nearest one to it, however turned."""
    near = _nearest(track, frame)
    same_place = covered_fraction(detection.cells, track[near].cells) > MIN_TURNED_OVERLAP
    return abs(near - frame) <= MAX_AGE and same_place


def _distance_to(t: int, frames: Iterable[int]) -> int:
    return min(abs(t - frame) for frame in frames)


def gaps(track: Track[D], num_frames: int) -> Iterable[range]:
    """Yield the runs of frames, of a clip of `num_frames`, in which the track has no detection."""
    last = -1
    for frame in [*sorted(track), num_frames]:
        if frame > last + 1:
            yield range(last + 1, frame)
        last = frame


def merge_duplicates(tracks: list[Track[D]], fixed: list[Track[D]]) -> list[Track[D]]:
    """Make tracks that may have met on one person tracks of distinct people; as many, some empty.

    Two tracks that meet and are hardly ever separate are one person: the longer one takes the other in,
    unless the other has it upside down and is dropped.
    Of two that are also separate, each run of frames in which both are on one person goes to the track whose
    appearance is closer. `fixed` tracks lose nothing.
    """
    merged = [dict(track) for track in tracks]
    order = sorted((i for i, track in enumerate(tracks) if track), key=lambda i: (-len(tracks[i]), min(tracks[i])))
    for rank, i in enumerate(order):
        track = merged[i]
        for other in fixed:
            for t in shared_frames(track, other):
                del track[t]
        for other in (merged[j] for j in order[:rank]):
            shared = shared_frames(track, other)
            if not shared:
                continue
            if len(track.keys() & other.keys()) - len(shared) <= MAX_SEPARATE_FRAMES:
                # One person: the longer track keeps the better detection of each frame.
                if not any(is_turned(track[t], other[t]) for t in shared):
                    for t, d in track.items():
                        if t not in other or d.detector_score > other[t].detector_score:
                            other[t] = d
                track.clear()
                break
            # Two people: one of them strayed onto the other.
            appearances = [(candidate, mean_appearance(candidate)) for candidate in (track, other)]
            for run in np.split(shared, np.flatnonzero(np.diff(shared) > 1) + 1):
                own, others = (
                    np.mean([appearance_distance(candidate[t].appearance, mean) for t in run])
                    for candidate, mean in appearances
                )
                loser = other if own < others else track
                for t in run:
                    del loser[t]
    return merged


def shared_frames(a: Track[D], b: Track[D]) -> list[int]:
    """Return the frames in which two tracks are on one person."""
    return [t for t in sorted(a.keys() & b.keys()) if is_duplicate(a[t], b[t])]


def has_id_conflict(detection: D, frame: int, track: Track[D], others: list[Track[D]], min_margin: float = 0.0) -> bool:
    """Return whether a detection, meant for a track, is of a person whom another track has there and resembles more.

    Args:
        detection: in the frame.
        frame: its index.
        track: that the detection is meant for.
        others: the tracks of other people.
        min_margin: by how much the other track's appearance must be closer (Hellinger distance).
    """
    return any(
        appearance_distance(other[frame].appearance, mean_appearance(other)) + min_margin
        <= appearance_distance(detection.appearance, mean_appearance(track))
        for other in others
        if frame in other and is_duplicate(detection, other[frame])
    )


def link_tracklets(tracks: list[Track[D]], motion: SceneMotion | None = None) -> list[Track[D]]:
    """Join tracks that fill each other's gaps where motion, pose and appearance agree, best first; drop empty ones."""
    tracks = [track for track in tracks if track]
    while True:
        pairs = [
            (cost, i, j)
            for i, whole in enumerate(tracks)
            for j, piece in enumerate(tracks)
            if i != j and (cost := _join_cost(whole, piece, motion)) < _NO_LINK
        ]
        if not pairs:
            return tracks
        _, i, j = min(pairs)
        tracks[i] = {**tracks[i], **tracks[j]}
        del tracks[j]


def _join_cost(whole: Track[D], piece: Track[D], motion: SceneMotion | None) -> float:
    """Return the cost of putting a piece into, before or after a track: that of its better end."""
    first, last = min(piece), max(piece)
    before = max((t for t in whole if t < first), default=None)
    after = min((t for t in whole if t > first), default=None)
    if first in whole or (after is not None and after <= last):
        return _NO_LINK
    costs = [_NO_LINK]
    if before is not None and first - before <= MAX_GAP:
        costs.append(_link_cost({t: d for t, d in whole.items() if t <= before}, first, piece[first], motion))
    if after is not None and after - last <= MAX_GAP:
        costs.append(_link_cost(piece, after, whole[after], motion))
    return min(costs)


def is_duplicate(a: Detection, b: Detection) -> bool:
    """Return whether two detections of one frame are one person: similar poses, or one mostly inside the other."""
    return (
        covered_fraction(a.cells, b.cells) > MASK_OVERLAP_THRESHOLD
        or pose_similarity(a.landmarks, b.landmarks, JOINT_TOLERANCE * min(a.size, b.size)) > OKS_THRESHOLD
    )


def suppress_duplicates(detections: Iterable[D]) -> list[D]:
    """Return the detections of one frame without those of a person who has a better one."""
    kept: list[D] = []
    for detection in sorted(detections, key=lambda d: -d.detector_score * d.pose_score):
        if not any(is_duplicate(detection, other) for other in kept):
            kept.append(detection)
    return kept


def is_tentative(track: Track[D], high_score_threshold: float) -> bool:
    """Return whether a track, by the detector alone so far, is worth propagating."""
    return len(track) >= MIN_DETECTIONS or any(d.detector_score >= high_score_threshold for d in track.values())


def is_confirmed(track: Track[D], high_score_threshold: float) -> bool:
    """Return whether a track is a person: it is in sight, and its landmarks are sure enough."""
    return is_in_sight(track, high_score_threshold) and mean_confidence(track) >= needed_confidence(track)


def is_in_sight(track: Track[D], high_score_threshold: float) -> bool:
    """Return whether a track has frames and scores enough to be a person."""
    scores = [d.detector_score for d in track.values() if d.detector_score]
    return len(track) >= MIN_FRAMES and len(scores) >= MIN_DETECTIONS and max(scores) >= high_score_threshold


def needed_confidence(track: Track[D]) -> float:
    """Return the mean confidence that the landmarks of a track need to be those of a person."""
    outside = 1 - np.mean([d.inside.mean() for d in track.values()]) if track else 0.0
    return MIN_TRACK_CONFIDENCE + MORE_CONFIDENCE_OUTSIDE * float(outside)


def mean_confidence(track: Track[D]) -> float:
    """Return the mean confidence of a track's landmarks in the frame; of no frames NaN."""
    return float(np.mean([d.confidence for d in track.values()])) if track else float("nan")
