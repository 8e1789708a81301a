"""People by BlazePose: its detector finds them, its landmark network gives their poses, frame by frame."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat

import cv2
import numpy as np

from anthrotap_builder.config import DetectionSettings
from anthrotap_builder.context import ClipContext
from anthrotap_builder.detection import PersonTrack, mask_box
from anthrotap_builder.detection.association import (
    JOINTS,
    TORSO,
    Track,
    drop_contradicted,
    fits_prediction,
    gaps,
    has_id_conflict,
    is_confirmed,
    is_in_sight,
    is_tentative,
    link,
    link_tracklets,
    mean_confidence,
    merge_duplicates,
    needed_confidence,
    propagate,
    suppress_duplicates,
    velocity,
)
from anthrotap_builder.detection.blazepose_networks import (
    GRAY,
    NUM_LANDMARKS,
    BlazePose,
    Pose,
    Region,
    borrow_networks,
    release_networks,
)
from anthrotap_builder.detection.identity import MIN_TURN_RATE, drop_turned, resolve_identities
from anthrotap_builder.detection.moving_people import MovingPeople
from anthrotap_builder.detection.scene_motion import CELL, SceneMotion

# Detector probability that makes a detection.
SCORE_THRESHOLD = 0.5
# A pose needs this probability of a person, this mean confidence of the landmarks in the frame, and this fraction of
# its joints, or of all its landmarks, there.
MIN_POSE_SCORE = 0.5
MIN_POSE_CONFIDENCE = 0.3
MIN_INSIDE = 0.3
# A pose with a larger fraction on people who are masked out is none.
MAX_MASKED_OVERLAP = 0.5
# A score that is low for no visible reason is often high in a region this much wider.
RETRY_WIDENING = 1.2
# In a crowd, so many people of a clip at most are kept, those whose labels are worth most: fitting takes as long for
# one far away as for a main one.
MAX_PEOPLE = 16
# Between three frames, each two from the next, nothing is to be seen that they do not tell, if the middle one's joints
# lie no more than this fraction of the person's size off the middle of the others' (twice what the network's noise
# makes of somebody who stands; in the frames between, a quarter of it is missed), and none moves by more of the
# network's crop in two frames (an arm is about as wide). Joints of less confidence are not asked. Nor may shoulders
# and hips turn further: between somebody seen from the front and the same one taken to be seen from behind is nobody.
MAX_OFF_LINE = 0.03
MAX_IN_CROP = 0.06
MIN_TURN_COSINE = math.cos(math.radians(25))
MIN_SURE = 0.5
# Step of the detector's tiles as a fraction of their side, at most: two tiles cover a frame of 16:9. A detection that
# is larger than a tile by more than this factor is mostly wrong: the tile holds a part of the person at best.
TILE_STEP = 0.8
MAX_REGION_IN_TILE = 1.3


def detect_people(context: ClipContext) -> list[PersonTrack]:
    """Detect and track people; see `anthrotap_builder.detection.detect_people`. LiteRT runs on the CPU alone."""
    settings = context.config.detection
    people: list[Track[Pose]] = []
    rest: list[Track[Pose]] = []
    with ThreadPoolExecutor(context.threads) as pool:
        motion = SceneMotion.of(context.frames, pool)
        for layer in range(settings.num_passes):
            search = _Pass(context.frames, motion, layer, people, settings, pool)
            found = search.run()
            if layer == 0:
                moving = search.moving_people(found)
                found = [*moving, *merge_duplicates(found, moving)]
            tracks = link_tracklets(people + merge_duplicates(found + rest, people), motion)
            num_before = sum(map(len, people))
            confirmed = [is_confirmed(track, settings.high_score_threshold) for track in tracks]
            people = [track for track, is_person in zip(tracks, confirmed, strict=True) if is_person]
            rest = [track for track, is_person in zip(tracks, confirmed, strict=True) if not is_person]
            if sum(map(len, people)) == num_before:
                break
    release_networks()
    if context.fps >= MIN_TURN_RATE:
        people = [drop_turned(track) for track in people]
    people = [track for track in resolve_identities(people) if is_confirmed(track, settings.high_score_threshold)]
    people = sorted(people, key=lambda track: (-_worth(track, motion), min(track)))
    unsure = [track for track in merge_duplicates(rest, people) if is_in_sight(track, settings.high_score_threshold)]
    people, others = people[:MAX_PEOPLE], people[MAX_PEOPLE:]
    people.sort(key=lambda track: (-len(track), min(track)))
    left_out = [(track, f"of the people in a clip only the main {MAX_PEOPLE} are labeled") for track in others]
    left_out += [(track, _why_unsure(track)) for track in unsure]
    return _person_tracks(people, context.frames) + [_left_out(track, why, context.frames) for track, why in left_out]


def _why_unsure(track: Track[Pose]) -> str:
    confidence = mean_confidence(track)
    return (
        f"too much is hidden or hard to see: the landmarks in the frame have a mean confidence of {confidence:.2f}, "
        f"and {needed_confidence(track):.2f} is needed"
    )


def _worth(track: Track[Pose], motion: SceneMotion) -> float:
    """Return what labels of a track are worth: the sum of its masks' diameters, moving ones twice, by confidence."""
    worth = 0.0
    for t, pose in track.items():
        area = int(pose.cells.sum())
        moving = int((pose.cells & motion.moving(t)).sum()) / max(1, area)
        worth += math.sqrt(area) * (1 + moving) * pose.confidence
    return worth


@dataclass(frozen=True)
class _Pass:
    """One detection pass: finds new people in frames in which the known ones are masked out.

    Attributes:
        frames: [T, H, W, 3] uint8 RGB.
        motion: of the frames.
        layer: the number of the pass.
        known: the people of the passes before.
        settings: of the detection.
        pool: that the work is done in.
    """

    frames: np.ndarray
    motion: SceneMotion
    layer: int
    known: list[Track[Pose]]
    settings: DetectionSettings
    pool: ThreadPoolExecutor

    def run(self) -> list[Track[Pose]]:
        threshold = self.settings.high_score_threshold
        num_frames = len(self.frames)
        key_frames = sorted({*range(0, num_frames, self.settings.detect_every), num_frames - 1})
        regions: dict[int, list[tuple[float, Region]]] = {}
        # Few clips have people who can be found only behind others: half of the key frames mostly decide it.
        for some in [key_frames] if self.layer == 0 else [key_frames[::2], key_frames[1::2]]:
            regions.update(zip(some, self.pool.map(self._detect, some), strict=True))
            if not any(score >= threshold for found in regions.values() for score, _ in found):
                return []
        poses = self.pool.map(self._estimate, key_frames, [regions[t] for t in key_frames])
        detections = {t: suppress_duplicates(found) for t, found in zip(key_frames, poses, strict=True)}
        tentative = [track for track in link(detections, self.motion) if is_tentative(track, threshold)]
        tracks = merge_duplicates(tentative, self.known)
        # The detector's region is a rough one: estimate again in the one that the landmarks give.
        for track in tracks:
            track.update(zip(track, self.pool.map(self._estimate_again, track.keys(), track.values()), strict=True))
        return self._propagate(tracks)

    def _propagate(self, tracks: list[Track[Pose]]) -> list[Track[Pose]]:
        """Fill the frames between and around the detections of each track."""
        # One by one, highest scores first: what one takes in need not be propagated again as part of another.
        done: list[Track[Pose]] = [{} for _ in tracks]
        while waiting := [i for i, track in enumerate(tracks) if track.keys() - done[i].keys()]:
            i = max(waiting, key=lambda i: (sum(d.detector_score for d in tracks[i].values()), -i))
            others = [other for j, other in enumerate(tracks) if done[j] and j != i]
            observe = partial(self._observe, others=others)
            for fill in (
                partial(self._fill_slow, observe=observe, others=others),
                partial(self._fill, observe=observe),
            ):
                runs = list(gaps(tracks[i], len(self.frames)))
                for found in list(self.pool.map(fill, repeat(tracks[i]), runs)):
                    tracks[i] = {**tracks[i], **found}
            tracks[i] = done[i] = drop_contradicted(tracks[i], tracks[:i] + tracks[i + 1 :])
            tracks = merge_duplicates(tracks, self.known)
        return tracks

    def _fill(self, track: Track[Pose], run: range, observe: Callable[[int, Track[Pose]], Pose | None]) -> Track[Pose]:
        """Return the poses of a run of frames in which a track has none: the network looks at each."""
        return propagate(track, run, observe, self.motion)

    def _fill_slow(
        self,
        track: Track[Pose],
        run: range,
        observe: Callable[[int, Track[Pose]], Pose | None],
        others: list[Track[Pose]],
    ) -> Track[Pose]:
        """Return the poses of a run of three frames that the network need look at once only, if the motion is slow.

        Then the frames beside the middle one have the mean of their neighbors. Runs of three frames are those between
        detections by the default of `detect_every`, 4; of others nothing is returned.
        """
        first, last = track.get(run.start - 1), track.get(run.stop)
        if len(run) != 3 or first is None or last is None or not _is_slow(first, last, 2 * MAX_IN_CROP):
            return {}
        middle = observe(run[1], track)
        if middle is None or not fits_prediction(track, run[1], middle, self.motion):
            return {}
        halves = [(first, run[0] - 1, middle), (middle, run[1], last)]
        if not all(_is_slow(pose, other, MAX_IN_CROP) for pose, _, other in halves):
            return {}
        found = {run[1]: middle}
        for pose, t, other in halves:
            found[t + 1] = pose.between(other, 0.5, *self.frames.shape[1:3])
            # What shakes may be back in its place two frames later: the picture's motion tells.
            carried = self.motion.carry_points(pose.landmarks[JOINTS, :2], t, t + 1)
            if not _is_close(found[t + 1], carried, np.median):
                return {}
            # The network looks at neither frame, so what `observe` asks is asked here.
            if has_id_conflict(found[t + 1], t + 1, track, others):
                return {}
        mean = (first.landmarks + last.landmarks)[JOINTS, :2] / 2
        return found if _is_close(middle, mean, np.max) else {}

    def moving_people(self, people: list[Track[Pose]]) -> list[Track[Pose]]:
        """Return tracks of people whose motion shows that they are not, or not steadily, on the tracks of `people`."""
        search = MovingPeople(self.frames, self.motion, self._estimate, SCORE_THRESHOLD, self.settings, self.pool)
        return search.find(people)

    def _known_in(self, t: int) -> list[Pose]:
        return [track[t] for track in self.known if t in track]

    def _detect(self, t: int) -> list[tuple[float, Region]]:
        with borrow_networks(self.settings.quality) as networks:
            image = _mask_out(self.frames[t], self._known_in(t))
            return _detect_in_tiles(networks, image, min(image.shape[:2]), SCORE_THRESHOLD)

    def _estimate(self, t: int, regions: list[tuple[float, Region]]) -> list[Pose]:
        """Return the poses of regions of a frame, with their detector scores, that hold a person."""
        masked = self._known_in(t)
        image = _mask_out(self.frames[t], masked)
        with borrow_networks(self.settings.quality) as networks:
            poses = [networks.estimate_pose(image, region, score, self.layer) for score, region in regions]
        return [pose for pose in poses if self._is_clear(pose) and not _is_masked_out(pose, masked)]

    def _is_clear(self, pose: Pose) -> bool:
        # Near the camera a face may fill the frame: a third of all landmarks, though only one of the joints.
        inside = max(pose.inside[JOINTS].mean(), pose.inside.mean())
        return pose.pose_score >= MIN_POSE_SCORE and pose.confidence >= MIN_POSE_CONFIDENCE and inside >= MIN_INSIDE

    def _estimate_again(self, t: int, pose: Pose) -> Pose:
        again = self._estimate(t, [(pose.detector_score, pose.next_region)])
        return again[0] if again else pose

    def _observe(self, t: int, track: Track[Pose], others: list[Track[Pose]]) -> Pose | None:
        """Return a track's person in another frame, where its neighbors predict it."""
        for region in _predict_regions(track, t):
            if poses := self._estimate(t, [(0, region)]):
                return None if has_id_conflict(poses[0], t, track, others) else poses[0]
        return None


def _is_slow(pose: Pose, other: Pose, max_in_crop: float) -> bool:
    """Return whether no joint moves further, from one pose to another, in the network's crop, and no one turns."""
    a, b = (_left_direction(one) for one in (pose, other))
    if a @ b < MIN_TURN_COSINE * np.linalg.norm(a) * np.linalg.norm(b):
        return False
    sure = np.minimum(pose.landmarks[JOINTS, 2], other.landmarks[JOINTS, 2]) >= MIN_SURE
    a, b = (one.region.to_crop(one.landmarks[JOINTS, :2]) for one in (pose, other))
    return sure.any() and bool(np.linalg.norm(b - a, axis=1)[sure].max() <= max_in_crop)


def _left_direction(pose: Pose) -> np.ndarray:
    """Return [3], the direction from right to left shoulder and hip, in the camera's axes."""
    left_shoulder, right_shoulder, left_hip, right_hip = pose.world_landmarks[TORSO]
    direction: np.ndarray = left_shoulder - right_shoulder + left_hip - right_hip
    return direction


def _is_close(pose: Pose, joints: np.ndarray, of_distances: Callable[[np.ndarray], float]) -> bool:
    """Return whether the joints of a pose are near others [J, 2]: the largest distance or the median, say."""
    sure = pose.landmarks[JOINTS, 2] >= MIN_SURE
    distance = np.linalg.norm(pose.landmarks[JOINTS, :2] - joints, axis=1)[sure]
    return len(distance) > 0 and bool(of_distances(distance) <= MAX_OFF_LINE * pose.size)


def _is_masked_out(pose: Pose, masked: list[Pose]) -> bool:
    """Return whether a pose lies mostly on people who are masked out."""
    if not masked:
        return False
    cells = np.any([other.cells for other in masked], axis=0)
    x, y = (pose.landmarks[JOINTS, :2].T // CELL).astype(int)
    joints = cells[y.clip(0, cells.shape[0] - 1), x.clip(0, cells.shape[1] - 1)]
    overlap = np.count_nonzero(pose.cells & cells) / max(1, pose.cells.sum())
    return max(overlap, joints.mean()) > MAX_MASKED_OVERLAP


def _detect_in_tiles(networks: BlazePose, frame: np.ndarray, side: int, min_score: float) -> list[tuple[float, Region]]:
    """Detect in the whole frame and in square tiles over it, which overlap; best first."""
    height, width = frame.shape[:2]
    found = networks.detect(frame, min_score)
    if height == width == side:
        return found
    for top in _tile_starts(height, side):
        for left in _tile_starts(width, side):
            for score, region in networks.detect(frame[top : top + side, left : left + side], min_score):
                if region.size <= MAX_REGION_IN_TILE * side:
                    found.append((score, replace(region, x=region.x + left, y=region.y + top)))
    # Most tiles have the same people: the landmark network need not run twice.
    kept: list[tuple[float, Region]] = []
    for score, region in sorted(found, key=lambda one: -one[0]):
        if not any(region.is_near(other) for _, other in kept):
            kept.append((score, region))
    return kept


def _tile_starts(length: int, side: int) -> list[int]:
    count = math.ceil((length - side) / (TILE_STEP * side)) + 1 if length > side else 1
    return [int(v) for v in np.linspace(0, max(0, length - side), count).round()]


def _predict_regions(track: Track[Pose], frame: int) -> list[Region]:
    """Return where a track's person may be: gone on as before; or where it was, and wider."""
    near = min(track, key=lambda t: (abs(t - frame), t))
    region = track[near].next_region
    x, y = velocity(track, frame) * (frame - near)
    return [
        replace(region, x=region.x + x, y=region.y + y),
        replace(region, size=RETRY_WIDENING * region.size),
    ]


def _mask_out(frame: np.ndarray, poses: list[Pose]) -> np.ndarray:
    """Return the frame with these people, and two pixels around them, in plain gray."""
    if poses:
        frame = frame.copy()
    for pose in poses:
        window, confidence = pose.frame_mask(*frame.shape[:2])
        frame[window][cv2.dilate((confidence > 0).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0] = GRAY
    return frame


def _person_tracks(people: list[Track[Pose]], frames: np.ndarray) -> list[PersonTrack]:
    """Return poses as arrays; a pixel of several masks goes to the one of highest confidence."""
    num_frames, height, width = frames.shape[:3]
    landmarks, world_landmarks = (
        np.full((len(people), num_frames, NUM_LANDMARKS, 3), np.nan, np.float32) for _ in range(2)
    )
    masks = np.zeros((len(people), num_frames, height, width), bool)
    for t in range(num_frames):
        best = np.zeros((height, width), np.float32)
        order = sorted((i for i, person in enumerate(people) if t in person), key=lambda i: people[i][t].layer)
        for before, i in zip([None, *order], order, strict=False):
            pose = people[i][t]
            landmarks[i, t] = pose.landmarks
            world_landmarks[i, t] = pose.world_landmarks
            if before is not None and people[before][t].layer < pose.layer:
                # Of the passes before: masked out when this one was found.
                best[best > 0] = 1
            window, confidence = pose.frame_mask(height, width)
            own = confidence > best[window]
            for mask in masks:
                mask[t][window] &= ~own
            masks[i][t][window] = own
            best[window][own] = confidence[own]
    return [
        PersonTrack(_boxes(points, mask), points, world, mask)
        for points, world, mask in zip(landmarks, world_landmarks, masks, strict=True)
    ]


def _left_out(person: Track[Pose], reason: str, frames: np.ndarray) -> PersonTrack:
    """Return where a person is who is not to be labeled: the boxes alone."""
    landmarks = np.full((len(frames), NUM_LANDMARKS, 3), np.nan, np.float32)
    for t, pose in person.items():
        landmarks[t] = pose.landmarks
    return PersonTrack(_boxes(landmarks, np.zeros((len(frames), 1, 1), bool)), left_out=reason)


def _boxes(landmarks: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return boxes [T, 4] float32 around a person's mask and its confident landmarks; NaN where not found."""
    boxes = np.full((len(mask), 4), np.nan, np.float32)
    for t in np.flatnonzero(np.isfinite(landmarks[:, 0, 0])).tolist():
        confidence = landmarks[t, :, 2]
        corners = [landmarks[t, confidence >= min(0.5, confidence.max()), :2]]
        if np.isfinite(box := mask_box(mask[t])).all():
            corners.append(box.reshape(2, 2))
        around = np.concatenate(corners)
        boxes[t] = *around.min(0), *around.max(0)
    return boxes
