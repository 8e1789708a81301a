"""People by BlazePose: its detector finds them, its landmark network gives their poses, frame by frame."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise, repeat

import cv2
import numpy as np

from anthrotap_builder.config import DetectionSettings
from anthrotap_builder.context import ClipContext
from anthrotap_builder.detection import PersonTrack
from anthrotap_builder.detection.association import (
    JOINTS,
    MIN_LINK_SIMILARITY,
    Track,
    gaps,
    has_id_conflict,
    is_confirmed,
    is_tentative,
    link,
    link_tracklets,
    merge_duplicates,
    propagate,
    similarity_to_prediction,
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
)
from anthrotap_builder.detection.identity import resolve_identities
from anthrotap_builder.detection.moving_people import MovingPeople
from anthrotap_builder.detection.pose_interpolation import agree, interpolate, mean_region
from anthrotap_builder.detection.scene_motion import CELL, SceneMotion

# Detector probability that makes a detection; and that of a hint, for which further frames are looked at.
SCORE_THRESHOLD = 0.5
WEAK_SCORE = 0.3
# A hint so near to the center of a detection, as a fraction of its size, is a part of it.
PART_DISTANCE = 0.25
# Behind others, people are looked for in further frames if a detection lacks no more than this to a sure one.
PROMISING_MARGIN = 0.1
# A pose needs this probability of a person, this mean confidence of landmarks, and this fraction of its joints in the
# frame.
MIN_POSE_SCORE = 0.5
MIN_POSE_CONFIDENCE = 0.3
MIN_INSIDE = 0.3
# A pose with a larger fraction on people who are masked out is none.
MAX_MASKED_OVERLAP = 0.5
# A score that is low for no visible reason is often high in a region this much wider.
RETRY_WIDENING = 1.2
# Beyond the detections at either end of a track its person is looked for so many frames further on; frames between two
# looks with at most so many frames from one to the other may be interpolated.
STRIDE = 4
MAX_INTERPOLATED = 8
# In a crowd, so many people of a clip at most are kept, those whose labels are worth most: fitting takes as long for
# one far away as for a main one.
MAX_PEOPLE = 16
# Step of the detector's tiles as a fraction of their side, at most: two tiles cover a frame of 16:9. A detection that
# is larger than a tile by more than this factor is mostly wrong: the tile holds a part of the person at best.
TILE_STEP = 0.8
MAX_REGION_IN_TILE = 1.3
# Who is behind a person may reach so far beyond them on each side, as a fraction of their size.
VIEW_MARGIN = 0.15


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
    people = [track for track in resolve_identities(people) if is_confirmed(track, settings.high_score_threshold)]
    people = sorted(people, key=lambda track: (-_worth(track, motion), min(track)))
    people, others = people[:MAX_PEOPLE], people[MAX_PEOPLE:]
    people.sort(key=lambda track: (-len(track), min(track)))
    return _person_tracks(people, context.frames) + [_left_out(track, context.frames) for track in others]


def _worth(track: Track[Pose], motion: SceneMotion) -> float:
    """Return what labels of a track are worth: the sum of its masks' diameters, moving ones twice, by confidence."""
    worth = 0.0
    for t, pose in track.items():
        area = int(pose.cells.sum())
        moving = int((pose.cells & motion.moving(t)).sum()) / max(1, area)
        worth += math.sqrt(area) * (1 + moving) * float(pose.landmarks[:, 2].mean())
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
        regions = self._detect_all()
        key_frames = sorted(regions)
        sure = {t: [one for one in regions[t] if one[0] >= threshold] for t in key_frames}
        if not any(sure.values()):
            return []
        poses = self._estimate_all(regions if self.layer == 0 else sure)
        if self.layer > 0:
            # Behind others, few detections are people: without a sure one there is none.
            if not any(poses.values()):
                return []
            rest = {t: [one for one in regions[t] if one[0] < threshold] for t in key_frames}
            poses = {t: poses[t] + found for t, found in self._estimate_all(rest).items()}
        detections = {t: suppress_duplicates(found) for t, found in poses.items()}
        tentative = [track for track in link(detections, self.motion) if is_tentative(track, threshold)]
        tracks = merge_duplicates(tentative, self.known)
        # The detector's region is a rough one: estimate again in the one that the landmarks give.
        for track in tracks:
            track.update(zip(track, self.pool.map(self._estimate_again, track.keys(), track.values()), strict=True))
        return self._propagate(tracks)

    def _detect_all(self) -> dict[int, list[tuple[float, Region]]]:
        """Return the detections in key frames; the key frame between two that agree is left out."""
        num_frames = len(self.frames)
        key_frames = sorted({*range(0, num_frames, self.settings.detect_every), num_frames - 1})
        coarse = sorted({*key_frames[::2], key_frames[-1]})
        found: dict[int, list[tuple[float, Region]]] = {}

        def detect(frames: list[int]) -> None:
            found.update(zip(frames, self.pool.map(self._detect, frames), strict=True))

        # Few clips have people who can be found only behind others: some frames mostly decide it.
        if self.layer > 0:
            detect(sorted({*key_frames[::3], key_frames[-1]}))
        promising = self.settings.high_score_threshold - PROMISING_MARGIN
        if self.layer == 0 or any(score >= promising for regions in found.values() for score, _ in regions):
            detect([t for t in coarse if t not in found])
            between = [
                key_frames[key_frames.index(first) + 1]
                for first, last in pairwise(coarse)
                if not self._is_same(found[first], first, found[last], last)
            ]
            detect([t for t in between if t not in found])
        return {t: [one for one in regions if one[0] >= SCORE_THRESHOLD] for t, regions in found.items()}

    def _is_same(
        self, detections: list[tuple[float, Region]], frame: int, others: list[tuple[float, Region]], to: int
    ) -> bool:
        """Return whether the detections of two frames are of the same people, with nobody whom a frame between them
        might show better."""
        ends = [_without_parts(detections), _without_parts(others)]
        if len(ends[0]) != len(ends[1]) or any(score < SCORE_THRESHOLD for found in ends for score, _ in found):
            return False
        left = [region for _, region in ends[1]]
        for _, region in ends[0]:
            ((x, y),) = self.motion.carry_points(np.array([[region.x, region.y]]), frame, to).tolist()
            near = [other for other in left if replace(region, x=x, y=y).is_near(other)]
            if not near:
                return False
            left.remove(near[0])
        return True

    def _estimate_all(self, regions: dict[int, list[tuple[float, Region]]]) -> dict[int, list[Pose]]:
        """Return the poses of regions by frame, likewise."""
        return dict(zip(regions, self.pool.map(self._estimate, regions.keys(), regions.values()), strict=True))

    def _propagate(self, tracks: list[Track[Pose]]) -> list[Track[Pose]]:
        """Fill the frames between and around the detections of each track."""
        # One by one, highest scores first: what one takes in need not be propagated again as part of another.
        done: list[Track[Pose]] = [{} for _ in tracks]
        while waiting := [i for i, track in enumerate(tracks) if track.keys() - done[i].keys()]:
            i = max(waiting, key=lambda i: (sum(d.detector_score for d in tracks[i].values()), -i))
            track = tracks[i]
            others = [other for j, other in enumerate(tracks) if done[j] and j != i]
            observe = partial(self._observe, others=others)
            runs = list(gaps(track, len(self.frames)))
            for found in list(self.pool.map(self._fill, repeat(track), runs, repeat(observe))):
                tracks[i] = {**tracks[i], **found}
            done[i] = tracks[i]
            tracks = merge_duplicates(tracks, self.known)
        return tracks

    def _fill(
        self,
        track: Track[Pose],
        frames: range,
        observe: Callable[[int, Track[Pose]], Pose | None],
    ) -> Track[Pose]:
        """Return poses for a run of frames in which a track has none: by as few looks as tell them.

        Args:
            track: that is to be filled.
            frames: the run.
            observe: looks at the person of a track in a frame.
        """
        known = dict(track)
        if frames.start - 1 in known and frames.stop in known:
            self._fill_between(known, frames.start - 1, frames.stop, observe)
            return {t: known[t] for t in frames if t in known}
        # From the end of the track on, in long steps as long as the person is found there.
        at, step = (frames.start - 1, STRIDE) if frames.start - 1 in known else (frames.stop, -STRIDE)
        while at + step in frames and (pose := self._look(at + step, known, observe)):
            known[at + step] = pose
            self._fill_between(known, min(at, at + step), max(at, at + step), observe)
            at += step
        rest = range(at + 1, frames.stop) if step > 0 else range(frames.start, at)
        return {t: known[t] for t in frames if t in known} | propagate(known, rest, observe, self.motion)

    def _fill_between(
        self,
        known: Track[Pose],
        first: int,
        last: int,
        observe: Callable[[int, Track[Pose]], Pose | None],
    ) -> None:
        """Add the poses between two frames of a track: interpolated where those of the two agree, else by halves."""
        middle = (first + last) // 2
        if middle == first:
            return
        ends = known[first], first, known[last], last
        if last - first <= MAX_INTERPOLATED and agree(self.motion, *ends):
            known.update((t, interpolate(self.motion, *ends, t)) for t in range(first + 1, last))
        elif pose := self._look(middle, known, observe):
            known[middle] = pose
            self._fill_between(known, first, middle, observe)
            self._fill_between(known, middle, last, observe)
        else:
            known.update(propagate(known, range(first + 1, last), observe, self.motion))

    def _look(self, t: int, track: Track[Pose], observe: Callable[[int, Track[Pose]], Pose | None]) -> Pose | None:
        """Return what is observed of a track in a frame, if it fits the track."""
        pose = observe(t, track)
        fits = pose and similarity_to_prediction(track, t, pose, self.motion) >= MIN_LINK_SIMILARITY
        return pose if fits else None

    def moving_people(self, people: list[Track[Pose]]) -> list[Track[Pose]]:
        """Return tracks of people whose motion shows that they are not, or not steadily, on the tracks of `people`."""
        search = MovingPeople(self.frames, self.motion, self._estimate, SCORE_THRESHOLD, self.settings, self.pool)
        return search.find(people)

    def _known_in(self, t: int) -> list[Pose]:
        return [track[t] for track in self.known if t in track]

    def _detect(self, t: int) -> list[tuple[float, Region]]:
        known = self._known_in(t)
        image = _mask_out(self.frames[t], known)
        views = _views(image.shape[0], image.shape[1])
        if self.layer > 0:
            # Who is away from all who are masked out was in full view in the first pass.
            views = [view for view in views if any(_touches(view, pose) for pose in known)]
        with borrow_networks(self.settings.quality) as networks:
            return _detect_in_views(networks, image, views, WEAK_SCORE)

    def _estimate(self, t: int, regions: list[tuple[float, Region]]) -> list[Pose]:
        """Return the poses of regions of a frame, with their detector scores, that hold a person."""
        masked = self._known_in(t)
        image = _mask_out(self.frames[t], masked)
        with borrow_networks(self.settings.quality) as networks:
            poses = [networks.estimate_pose(image, region, score, self.layer) for score, region in regions]
        return [pose for pose in poses if self._is_clear(pose) and not _is_masked_out(pose, masked)]

    def _is_clear(self, pose: Pose) -> bool:
        height, width = self.frames.shape[1:3]
        joints = pose.landmarks[JOINTS, :2]
        inside = float(np.all((joints >= 0) & (joints <= (width, height)), axis=1).mean())
        confidence = float(pose.landmarks[:, 2].mean())
        return pose.pose_score >= MIN_POSE_SCORE and confidence >= MIN_POSE_CONFIDENCE and inside >= MIN_INSIDE

    def _estimate_again(self, t: int, pose: Pose) -> Pose:
        if pose.next_region.is_almost(pose.region):
            return pose
        again = self._estimate(t, [(pose.detector_score, pose.next_region)])
        return again[0] if again else pose

    def _observe(self, t: int, track: Track[Pose], others: list[Track[Pose]]) -> Pose | None:
        """Return a track's person in another frame, where its neighbors predict it."""
        for region in _predict_regions(track, t):
            if poses := self._estimate(t, [(0, region)]):
                return None if has_id_conflict(poses[0], t, track, others) else poses[0]
        return None


def _is_masked_out(pose: Pose, masked: list[Pose]) -> bool:
    """Return whether a pose lies mostly on people who are masked out."""
    if not masked:
        return False
    cells = np.any([other.cells for other in masked], axis=0)
    x, y = (pose.landmarks[JOINTS, :2].T // CELL).astype(int)
    joints = cells[y.clip(0, cells.shape[0] - 1), x.clip(0, cells.shape[1] - 1)]
    overlap = np.count_nonzero(pose.cells & cells) / max(1, pose.cells.sum())
    return max(overlap, joints.mean()) > MAX_MASKED_OVERLAP


def _views(height: int, width: int) -> list[tuple[int, int, int, int]]:
    """Return what the detector looks at: the whole frame, and square tiles over it, which overlap; each as left, top,
    width and height."""
    side = min(height, width)
    whole = [(0, 0, width, height)]
    tiles = [(left, top, side, side) for top in _tile_starts(height, side) for left in _tile_starts(width, side)]
    return whole + [tile for tile in tiles if tile != whole[0]]


def _without_parts(detections: list[tuple[float, Region]]) -> list[tuple[float, Region]]:
    """Return detections, best first, without the improbable ones in the middle of probable ones."""
    kept: list[tuple[float, Region]] = []
    for score, region in detections:
        near = any(math.hypot(region.x - sure.x, region.y - sure.y) < PART_DISTANCE * sure.size for _, sure in kept)
        if score >= SCORE_THRESHOLD or not near:
            kept.append((score, region))
    return kept


def _touches(view: tuple[int, int, int, int], pose: Pose) -> bool:
    """Return whether a person, or who is right behind, may be in a view."""
    left, top, width, height = view
    y, x = np.nonzero(pose.cells)
    if not len(x):
        return False
    margin = VIEW_MARGIN * pose.size
    beyond_x = x.max() * CELL + margin < left or x.min() * CELL - margin > left + width
    return not (beyond_x or y.max() * CELL + margin < top or y.min() * CELL - margin > top + height)


def _detect_in_views(
    networks: BlazePose, frame: np.ndarray, views: list[tuple[int, int, int, int]], min_score: float
) -> list[tuple[float, Region]]:
    """Detect in some views of a frame; best first."""
    found: list[tuple[float, Region]] = []
    for left, top, width, height in views:
        is_tile = (height, width) != frame.shape[:2]
        for score, region in networks.detect(frame[top : top + height, left : left + width], min_score):
            if not is_tile or region.size <= MAX_REGION_IN_TILE * height:
                found.append((score, replace(region, x=region.x + left, y=region.y + top)))
    # Most views have the same people: the landmark network need not run twice.
    kept: list[tuple[float, Region]] = []
    for score, region in sorted(found, key=lambda one: -one[0]):
        if not any(region.is_near(other) for _, other in kept):
            kept.append((score, region))
    return kept


def _tile_starts(length: int, side: int) -> list[int]:
    count = math.ceil((length - side) / (TILE_STEP * side)) + 1 if length > side else 1
    return [int(v) for v in np.linspace(0, max(0, length - side), count).round()]


def _predict_regions(track: Track[Pose], frame: int) -> list[Region]:
    """Return where a track's person may be: between its neighbors, or gone on as before; or where it was, and wider."""
    near = min(track, key=lambda t: (abs(t - frame), t))
    region = track[near].next_region
    before, after = (
        max((t for t in track if t < frame), default=None),
        min((t for t in track if t > frame), default=None),
    )
    if before is not None and after is not None and after - before <= MAX_INTERPOLATED:
        late = (frame - before) / (after - before)
        between = mean_region(track[before].next_region, track[after].next_region, late)
        return [between, replace(region, size=RETRY_WIDENING * region.size)]
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


def _left_out(person: Track[Pose], frames: np.ndarray) -> PersonTrack:
    """Return where a person is who is one too many: the boxes alone."""
    landmarks = np.full((len(frames), NUM_LANDMARKS, 3), np.nan, np.float32)
    for t, pose in person.items():
        landmarks[t] = pose.landmarks
    return PersonTrack(
        _boxes(landmarks, np.zeros((len(frames), 1, 1), bool)),
        left_out=f"of the people in a clip only the main {MAX_PEOPLE} are labeled",
    )


def _boxes(landmarks: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Return boxes [T, 4] float32 around a person's mask and its confident landmarks; NaN where not found."""
    boxes = np.full((len(mask), 4), np.nan, np.float32)
    for t in np.flatnonzero(np.isfinite(landmarks[:, 0, 0])).tolist():
        confidence = landmarks[t, :, 2]
        corners = [landmarks[t, confidence >= min(0.5, confidence.max()), :2]]
        rows, columns = np.flatnonzero(mask[t].any(1)), np.flatnonzero(mask[t].any(0))
        if len(rows):
            corners.append(np.array([[columns[0], rows[0]], [columns[-1] + 1, rows[-1] + 1]], np.float32))
        around = np.concatenate(corners)
        boxes[t] = *around.min(0), *around.max(0)
    return boxes
