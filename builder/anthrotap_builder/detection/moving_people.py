"""People whom the detector does not find, by their motion: dancers upside down, on their backs, in the air.

BlazePose's detector knows people who stand or sit; its landmark network knows all poses, given a region around the
person at about the right angle. A person who is lost while moving is followed on by the picture's motion, turned by
various angles. What moves otherwise than the background and is on nobody's track may be a person, too: it is followed
through the clip, the network looks at it from all sides in every frame, and the sequence of poses that fits the
pictures and itself best (Viterbi's algorithm) is a track.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from itertools import repeat

import cv2
import numpy as np

from anthrotap_builder.config import DetectionSettings
from anthrotap_builder.detection.association import (
    JOINTS,
    MIN_FRAMES,
    Track,
    has_id_conflict,
    is_duplicate,
    is_turned,
    overlap,
    shared_frames,
)
from anthrotap_builder.detection.blazepose_networks import GRAY, Pose, Region, borrow_networks
from anthrotap_builder.detection.scene_motion import CELL, SceneMotion

# A moving area is on nobody's track if less than this fraction of its motion lies on steady poses or, because flow
# reaches a little over contours, within so many cells of them.
MAX_EXPLAINED = 0.5
FLOW_REACH = 2
# It may be a person if its longer side is at least this fraction of the frame's shorter one.
MIN_EXTENT = 0.15
# For how many frames in a row it may stand still, and how far around where the picture carries it it is looked for,
# cells.
MAX_STILL = 4
REACH = 3
# The network's region is this much wider than the area, and is turned by each of these angles, degrees.
REGION_WIDTH = 1.3
ANGLES = range(0, 360, 45)
# An area is probed in three frames; in two of them a pose must have this score (of the network, times the mean
# confidence of its landmarks) and overlap the area by this intersection over union.
MIN_PROBE_SCORE = 0.5
MIN_PROBE_OVERLAP = 0.4
# By the smaller network, this score and this overlap are enough. (Of 29 areas on real clips that showed nobody, one had
# as much in one frame; a dancer upside down had 0.5 in all three.) The quality whose network is that one needs it not.
MIN_ROUGH = 0.2
ROUGH_QUALITY = "fast"
# So many areas are probed in a clip, largest motion first, and so many are people at most: a look at all frames from
# all sides costs as much as several people who stand.
MAX_PROBED = 3
MAX_FOUND = 2
# A joint that is off by this fraction of the person's size from where the picture carried it counts exp(-1/2) in the
# continuity of two poses, which has this weight beside the scores of the poses.
JOINT_TOLERANCE = 0.12
CONTINUITY_WEIGHT = 1.5
# A pose of less continuity with its neighbors, or with a lower score, is not kept, and makes no pose steady.
MIN_CONTINUITY = 0.3
MIN_SCORE = 0.3
# A person is lost while moving if this fraction of the mask moves where the continuous poses end. The region is turned
# by these angles from the last pose's, degrees, unless there is a pose that goes on clearly (of at most 2); a pose that
# is so continuous with the last one goes on, until there is none in so many frames in a row. So many runs of poses are
# followed in a clip, those that move most first, and each is kept if this adds so many frames.
MIN_MOVING = 0.3
TURNS = (-90, -60, -30, 30, 60, 90)
CLEAR = 1.35
MIN_FOLLOWED_CONTINUITY = 0.5
MAX_MISSED = 4
MAX_FOLLOWED = 3
MIN_ADDED = 4
# A pose is of another person if that one's track resembles it more by so much (Hellinger distance of appearances): the
# tracks of one person whom the network saw in two ways resemble it alike.
MIN_CLOSER = 0.1
# The detector sees such a person best alone and upright: in the picture turned by the pose's angle, with all but the
# pose's mask and so many pixels around it in plain gray. It must have seen a person in half of so many frames. (It sees
# none in dogs and camels, in which the landmark network does.)
CONFIRMED_IN = 8
ALONE_MARGIN = 12
CONFIRMING_WIDTHS = (0.9, 1.2, 1.6)
CONFIRMING_ANGLES = (-0.5, 0.0, 0.5)


@dataclass(frozen=True)
class MovingPeople:
    """The search for people by their motion.

    Attributes:
        frames: [T, H, W, 3] uint8 RGB.
        motion: of the frames.
        estimate: the poses of a frame's regions, with scores of the detector, that hold a person.
        min_score: of the detector; a person needs several of these, and one of `settings.high_score_threshold`.
        settings: of the detection.
        pool: that the work is done in.
    """

    frames: np.ndarray
    motion: SceneMotion
    estimate: Callable[[int, list[tuple[float, Region]]], list[Pose]]
    min_score: float
    settings: DetectionSettings
    pool: Executor

    def find(self, people: list[Track[Pose]]) -> list[Track[Pose]]:
        """Return tracks of people who are not, or not steadily, on the tracks of `people`."""
        found = self._follow_lost(people)
        steady = [
            [track[t] for track in people + found if t in track and self._is_steady(track, t)]
            for t in range(len(self.frames))
        ]
        tried = list(np.zeros(self.motion.residual.shape, bool))
        for _ in range(MAX_PROBED):
            area = self._largest_area(steady, tried)
            if not area:
                break
            for t, cells in area.items():
                tried[t] |= _grown(cells, REACH)
            if len(area) >= MIN_FRAMES and self._is_promising(area, steady) and (track := self._track(area, people)):
                found.append(track)
                if len(found) >= MAX_FOUND:
                    break
        return found

    def _follow_lost(self, people: list[Track[Pose]]) -> list[Track[Pose]]:
        """Return longer tracks of the people whose continuous poses end while they move."""
        lost: list[tuple[float, Track[Pose], list[tuple[int, int]], list[Track[Pose]]]] = []
        for index, run in ((i, run) for i, track in enumerate(people) for run in self._continuous_runs(track)):
            ends = [
                (t, step)
                for t, step in ((min(run), -1), (max(run), 1))
                if 0 <= t + step < len(self.frames) and self._moves(run[t], t)
            ]
            if ends:
                energy = sum(float(self.motion.residual[t][pose.cells].sum()) for t, pose in run.items())
                lost.append((energy, run, ends, people[:index] + people[index + 1 :]))
        found: list[Track[Pose]] = []
        tried = 0
        for _, run, ends, others in sorted(lost, key=lambda one: -one[0]):
            if tried == MAX_FOLLOWED:
                break
            # One person may be lost several times.
            if any(_same_poses(run, other) for other in found):
                continue
            tried += 1
            track = dict(run)
            for t, step in ends:
                track |= self._follow_pose(run, t, step, others)
            if len(track) >= len(run) + MIN_ADDED and (track := self._confirmed(track)):
                found.append(track)
        return self._best_of_each(found)

    def _continuous_runs(self, track: Track[Pose]) -> list[Track[Pose]]:
        """Return the runs of at least MIN_FRAMES frames in which each pose of a track continues the last one."""
        runs: list[Track[Pose]] = [{}]
        for t in sorted(track):
            before = runs[-1].get(t - 1)
            if runs[-1] and not (before and self._goes_on(before, t - 1, track[t], t)):
                runs.append({})
            runs[-1][t] = track[t]
        return [run for run in runs if len(run) >= MIN_FRAMES]

    def _goes_on(self, before: Pose, last: int, pose: Pose, t: int) -> bool:
        return _score(pose) >= MIN_SCORE and continuity(self.motion, before, last, pose, t) >= MIN_FOLLOWED_CONTINUITY

    def _best_of_each(self, tracks: list[Track[Pose]]) -> list[Track[Pose]]:
        """Return tracks of which no two are on one person: in the frames that they share, the better one is kept."""
        kept: list[Track[Pose]] = []
        for track in sorted(tracks, key=self._total_score, reverse=True):
            taken = {t for other in kept for t in shared_frames(track, other)}
            if len(track) - len(taken) >= MIN_FRAMES:
                kept.append({t: pose for t, pose in track.items() if t not in taken})
        return kept

    def _total_score(self, track: Track[Pose]) -> float:
        steps = sum(continuity(self.motion, track[t - 1], t - 1, track[t], t) for t in track if t - 1 in track)
        return steps + sum(map(_score, track.values()))

    def _moves(self, pose: Pose, t: int) -> bool:
        moving = int((pose.cells & self.motion.moving(t)).sum())
        return moving > MIN_MOVING * int(pose.cells.sum())

    def _follow_pose(self, run: Track[Pose], start: int, step: int, others: list[Track[Pose]]) -> Track[Pose]:
        """Return the poses that continue one of a run in the frames after (or before) it, one by one.

        They are not of a person whom another track has there and resembles more.
        """
        found: Track[Pose] = {}
        pose, last, t = run[start], start, start + step
        while 0 <= t < len(self.frames) and abs(t - last) <= MAX_MISSED:
            carried = self.motion.carry_cells(pose.cells, last, t)
            if not carried.any():
                break
            around = replace(self._region(carried), angle=pose.angle)
            turned = [replace(around, angle=pose.angle + math.radians(turn)) for turn in TURNS]
            # Each pose with how well it continues the last one.
            rated: list[tuple[float, Pose]] = []
            # Where the network itself would look, and where the picture carried the mask; turned, if that shows no pose
            # that clearly goes on.
            for regions in ([pose.next_region, around], turned):
                rated = self._rated(t, regions, pose, last, carried) + rated[:1]
                rated.sort(key=_rating, reverse=True)
                # Again in the regions that the best poses give, which are better.
                again = [one.next_region for _, one in rated[:2]]
                rated += self._rated(t, again, pose, last, carried)
                rated.sort(key=_rating, reverse=True)
                if rated and rated[0][0] >= CLEAR:
                    break
            best = rated[0][1] if rated else None
            if best and self._goes_on(pose, last, best, t) and not has_id_conflict(best, t, run, others, MIN_CLOSER):
                found[t] = pose = best
                last = t
            t += step
        return found

    def _rated(
        self, t: int, regions: list[Region], before: Pose, last: int, carried: np.ndarray
    ) -> list[tuple[float, Pose]]:
        """Return the poses of a frame's regions, each with how well it continues one of a nearby frame, at most 2.

        Args:
            t: the frame.
            regions: are looked at one by one.
            before: the pose that is continued.
            last: its frame.
            carried: [h, w] bool, its mask, carried to this frame.
        """
        found = self.pool.map(self.estimate, repeat(t), [[(0.0, region)] for region in regions])
        return [
            (
                continuity(self.motion, before, last, pose, t) + (_score(pose) + overlap(carried, pose.cells)) / 2,
                pose,
            )
            for poses in found
            for pose in poses
        ]

    def _largest_area(self, steady: list[list[Pose]], tried: list[np.ndarray]) -> dict[int, np.ndarray]:
        """Return the area of most motion that no steady pose explains, by frame, [h, w] bool each.

        Args:
            steady: the poses of each frame that move as the picture does.
            tried: [h, w] bool of each frame, where areas were before.
        """
        best: tuple[float, int, np.ndarray] | None = None
        free = []
        for t, poses in enumerate(steady):
            taken = tried[t].copy()
            for pose in poses:
                # Flow reaches a little over contours.
                taken |= _grown(pose.cells, FLOW_REACH)
            moving = self.motion.moving(t)
            left = np.zeros_like(moving)
            for area in _components(moving):
                energy = self.motion.residual[t] * area
                if energy[taken].sum() < MAX_EXPLAINED * energy.sum():
                    left |= area & ~taken
            free.append(left)
            for area in _components(left):
                energy_left = float(self.motion.residual[t][area].sum())
                y, x = np.nonzero(area)
                extent = CELL * (max(np.ptp(x), np.ptp(y)) + 1)
                if extent >= MIN_EXTENT * min(self.frames.shape[1:3]) and (best is None or energy_left > best[0]):
                    best = energy_left, t, area
        if best is None:
            return {}
        _, start, cells = best
        areas = {start: cells}
        for step in (1, -1):
            areas.update(self._follow(cells, start, step, free))
        return areas

    def _follow(
        self, cells: np.ndarray, start: int, step: int, free: list[np.ndarray]
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield an area in the frames after (or before) its first one."""
        still, t = 0, start + step
        while 0 <= t < len(free) and still <= MAX_STILL:
            carried = self.motion.carry_cells(cells, t - step, t)
            around = _grown(carried, REACH)
            here = np.zeros_like(carried)
            for area in _components(free[t]):
                if (area & carried).any():
                    here |= area & around
            # It may stand still in part, or in whole for a moment.
            still = 0 if here.any() else still + 1
            cells = here if np.count_nonzero(here) >= 0.5 * np.count_nonzero(carried) else here | carried
            if not cells.any():
                return
            yield t, cells
            t += step

    def _is_steady(self, track: Track[Pose], t: int) -> bool:
        """Return whether a track's pose moves as the picture does, from or to a neighboring frame."""
        pose = track[t]
        continuities = [
            continuity(self.motion, track[t + step], t + step, pose, t) for step in (-1, 1) if t + step in track
        ]
        return max(continuities, default=0.0) >= MIN_CONTINUITY

    def _is_promising(self, area: dict[int, np.ndarray], steady: list[list[Pose]]) -> bool:
        """Return whether the network sees a person in an area who is on nobody's track.

        Most areas show nobody, and the smaller network says so of most of these.
        """
        if self.settings.quality != ROUGH_QUALITY and not self._shows_person(area, steady, rough=True):
            return False
        return self._shows_person(area, steady, rough=False)

    def _shows_person(self, area: dict[int, np.ndarray], steady: list[list[Pose]], rough: bool) -> bool:
        min_score, min_overlap = (MIN_ROUGH, MIN_ROUGH) if rough else (MIN_PROBE_SCORE, MIN_PROBE_OVERLAP)
        frames = sorted(area)
        good = 0
        # The middle frame first: in a short area the first and the last ones are less sure.
        for left, i in zip((2, 1, 0), np.linspace(0, len(frames) - 1, 7).astype(int)[[3, 1, 5]], strict=True):
            t = frames[i]
            regions = self._regions(area[t], ANGLES[::2])
            good += any(
                _score(pose) >= min_score
                and overlap(pose.cells, area[t]) >= min_overlap
                and not any(is_duplicate(pose, other) for other in steady[t])
                for pose in (self._estimate_roughly(t, regions) if rough else self.estimate(t, regions))
            )
            if good == 2 or good + left < 2:
                break
        return good == 2

    def _estimate_roughly(self, t: int, regions: list[tuple[float, Region]]) -> Iterator[Pose]:
        with borrow_networks(self.settings.quality) as networks:
            for score, region in regions:
                yield networks.estimate_pose(self.frames[t], region, score, 0, rough=True)

    def _look(self, t: int, cells: np.ndarray) -> list[Pose]:
        """Return the poses that the network sees in an area of a frame, from all sides."""
        return self.estimate(t, self._regions(cells, ANGLES))

    def _regions(self, cells: np.ndarray, angles: range) -> list[tuple[float, Region]]:
        """Return the region around an area, turned by each of some angles, degrees, with the detector's score, 0."""
        around = self._region(cells)
        return [(0.0, replace(around, angle=math.radians(angle))) for angle in angles]

    @staticmethod
    def _region(cells: np.ndarray) -> Region:
        """Return the region around an area [h, w] bool, not turned."""
        y, x = np.nonzero(cells)
        # Not the very first and last cells: flow reaches a little over contours.
        (left, right), (top, bottom) = np.percentile(x, [2, 98]), np.percentile(y, [2, 98])
        center_x, center_y = CELL * (left + right + 1) / 2, CELL * (top + bottom + 1) / 2
        return Region(center_x, center_y, REGION_WIDTH * CELL * (max(right - left, bottom - top) + 1), 0.0)

    def _track(self, area: dict[int, np.ndarray], people: list[Track[Pose]]) -> Track[Pose]:
        """Return the best sequence of poses of an area; empty if it is no person."""
        frames = sorted(area)
        candidates = dict(zip(frames, self.pool.map(self._look, frames, [area[t] for t in frames]), strict=True))
        for t in frames:
            candidates[t] += [
                track[t] for track in people if t in track and overlap(track[t].cells, area[t]) >= MIN_PROBE_OVERLAP
            ]
        track = self._best_sequence(candidates, area)
        # The area is a rough guess of where the person is; the poses found there, and in the frames beside, are better.
        more = [(t, [(0.0, track[near].next_region) for near in (t - 1, t, t + 1) if near in track]) for t in frames]
        for (t, _), poses in zip(more, self.pool.map(self.estimate, *zip(*more, strict=True)), strict=True):
            candidates[t] += poses
        track = self._best_sequence(candidates, area)
        return self._confirmed({t: pose for t, pose in track.items() if self._is_good(track, t)})

    def _is_good(self, track: Track[Pose], t: int) -> bool:
        return _score(track[t]) >= MIN_SCORE and self._is_steady(track, t)

    def _best_sequence(self, candidates: dict[int, list[Pose]], area: dict[int, np.ndarray]) -> Track[Pose]:
        """Return one pose a frame: the sequence of the largest sum of scores and continuities (Viterbi)."""
        frames = [t for t in sorted(candidates) if candidates[t]]
        if not frames:
            return {}
        totals: list[np.ndarray] = []
        choices: list[np.ndarray] = []
        for index, t in enumerate(frames):
            scores = np.array([_score(pose) + overlap(pose.cells, area[t]) for pose in candidates[t]])
            if index:
                last = frames[index - 1]
                steps = np.array(
                    [
                        [continuity(self.motion, before, last, pose, t) for before in candidates[last]]
                        for pose in candidates[t]
                    ]
                )
                reached = totals[-1] + CONTINUITY_WEIGHT * steps
                choices.append(reached.argmax(1))
                scores = scores + reached.max(1)
            totals.append(scores)
        path = [int(totals[-1].argmax())]
        for choice in reversed(choices):
            path.append(int(choice[path[-1]]))
        return {t: candidates[t][i] for t, i in zip(frames, reversed(path), strict=True)}

    def _confirmed(self, track: Track[Pose]) -> Track[Pose]:
        """Return the track with scores of the detector; empty if that sees no person there."""
        if len(track) < MIN_FRAMES:
            return {}
        frames = sorted(track)
        chosen = [frames[i] for i in np.linspace(0, len(frames) - 1, CONFIRMED_IN).astype(int)]
        scores = dict(zip(chosen, self.pool.map(self._detect_alone, chosen, [track[t] for t in chosen]), strict=True))
        if sum(score >= self.min_score for score in scores.values()) < len(scores) / 2:
            return {}
        if max(scores.values()) < self.settings.high_score_threshold:
            return {}
        return {t: replace(pose, detector_score=scores.get(t, 0.0)) for t, pose in track.items()}

    def _detect_alone(self, t: int, pose: Pose) -> float:
        """Return the detector's best score of a pose, in the picture turned to have the head up, without the rest."""
        frame, region = self.frames[t], pose.next_region
        window, confidence = pose.frame_mask(*frame.shape[:2])
        alone = np.zeros(frame.shape[:2], np.uint8)
        alone[window] = confidence > 0
        around = cv2.dilate(alone, np.ones((2 * ALONE_MARGIN + 1, 2 * ALONE_MARGIN + 1), np.uint8)) > 0
        image = np.where(around[..., None], frame, np.uint8(GRAY))
        best = 0.0
        with borrow_networks(self.settings.quality) as networks:
            for width in CONFIRMING_WIDTHS:
                for turn in CONFIRMING_ANGLES:
                    view = replace(region, size=width * region.size, angle=region.angle + turn)
                    for score, found in networks.detect_in(image, view, self.min_score):
                        near = math.hypot(found.x - region.x, found.y - region.y) < 0.35 * region.size
                        if near and math.cos(found.angle - region.angle) > 0.5:
                            best = max(best, score)
        return best


def continuity(motion: SceneMotion, before: Pose, frame: int, pose: Pose, to: int) -> float:
    """Return how well a pose continues one of a nearby frame, in [0, 1].

    It is the mean of two: the object keypoint similarity of the joints, left and right apart, to where the picture
    carried those of before; and the overlap of the masks, likewise.
    """
    joints = motion.carry_points(before.landmarks[JOINTS, :2], frame, to)
    distance = np.linalg.norm(pose.landmarks[JOINTS, :2] - joints, axis=1)
    tolerance = JOINT_TOLERANCE * min(before.size, pose.size)
    similarity = float(np.exp(-0.5 * (distance / tolerance) ** 2).mean())
    return (similarity + overlap(motion.carry_cells(before.cells, frame, to), pose.cells)) / 2


def _same_poses(run: Track[Pose], track: Track[Pose]) -> bool:
    """Return whether a track has most poses of a run, and not turned over."""
    same = (not is_turned(run[t], track[t]) for t in shared_frames(run, track))
    return sum(same) > len(run) / 2


def _rating(rated: tuple[float, Pose]) -> float:
    return rated[0]


def _score(pose: Pose) -> float:
    return pose.pose_score * pose.confidence


def _components(cells: np.ndarray) -> list[np.ndarray]:
    """Return the connected areas of a mask [h, w] bool."""
    count, labels = cv2.connectedComponents(cells.astype(np.uint8))
    return [labels == label for label in range(1, count)]


def _grown(cells: np.ndarray, by: int) -> np.ndarray:
    return cv2.dilate(cells.astype(np.uint8), np.ones((2 * by + 1, 2 * by + 1), np.uint8)) > 0
