"""Who is who across the clips of a video: each person keeps one number from clip to clip."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from anthrotap_builder.mesh_recovery import MeshTrack

if TYPE_CHECKING:
    from anthrotap_builder.pipeline import LabeledClip

# A person of one clip goes on in the next one, which continues the same shot, if the body's points have moved by at
# most this fraction of the person's size (the median of all), and by so much more for each frame without a mesh.
MAX_MOVED = 0.25
MOVED_PER_FRAME = 0.03
# Longest gap without a mesh between the two, frames.
MAX_GAP = 12
# The colors of two people differ by the median distance of those of their surface points, in CIE Lab with the lightness
# halved. Who goes on may differ by the first. Who comes back must be as near as the second, and nearer than anybody
# else by the factor.
MAX_COLOR_CHANGE = 20.0
SAME_COLORS = 7.0
CLEARLY_NEARER = 0.6
# Colors are compared at this many surface points at least.
MIN_COLORS = 30
# Colors are taken in every n-th frame, each averaged over a box of this side, pixels.
COLOR_EVERY = 4
COLOR_BOX = 5
_NO_LINK = 1e6


@dataclass(frozen=True)
class _Appearance:
    """A person's body and colors in one clip or several.

    Attributes:
        colors: [K, 3] float32, sums of the colors seen at each surface point, CIE Lab with the lightness halved.
        count: [K] int, how often each was seen.
        first, last: [K, 2] float, where the points are in the first and in the last frame with a mesh, raster pixels.
        first_frame, last_frame: the numbers of these frames among the decoded frames of the video.
    """

    colors: np.ndarray
    count: np.ndarray
    first: np.ndarray
    last: np.ndarray
    first_frame: int
    last_frame: int

    def color_distance(self, other: _Appearance) -> float | None:
        """Return how far the colors of two people are apart; None if too few surface points were seen of both."""
        both = (self.count > 0) & (other.count > 0)
        if both.sum() < MIN_COLORS:
            return None
        own, others = (each.colors[both] / each.count[both, None] for each in (self, other))
        return float(np.median(np.linalg.norm(own - others, axis=1)))

    def moved_to(self, later: _Appearance) -> float:
        """Return how far the body moves from the last frame to the first one of `later`, as a fraction of its size."""
        size = max(float(np.nanmax(np.ptp(self.last, axis=0))), 1.0)
        return float(np.nanmedian(np.linalg.norm(later.first - self.last, axis=1))) / size

    def and_then(self, later: _Appearance) -> _Appearance:
        """Return what is known of one person after a later clip."""
        return replace(later, colors=self.colors + later.colors, count=self.count + later.count)


class VideoPeople:
    """Numbers the people of a video's clips, which are given in order. Memory grows with the people, not the frames.

    A person goes on in the next clip if the body is where it was in the last frame and has not changed its colors. Who
    comes back after a gap or a shot change has the same number only if the colors of the surface clearly say so: two
    people in the same clothes get new numbers rather than each other's.

    Args:
        vertices: [K] int, the vertices of the body that tracks are of.
    """

    def __init__(self, vertices: np.ndarray) -> None:
        self._vertices = np.unique(vertices)
        self._known: dict[int, _Appearance] = {}
        self._last_frame: int | None = None
        self._next_number = 0

    def number(self, clip: LabeledClip) -> LabeledClip:
        """Return a labeled clip with the numbers of the clips before; people who were not there get new ones."""
        found = {mesh.person: self._appearance(clip, mesh) for mesh in clip.meshes if mesh.present.any()}
        frames = clip.source_frames
        spacing = float(np.median(np.diff(frames))) if len(frames) > 1 else 1.0
        continues = self._last_frame is not None and 0 < frames[0] - self._last_frame <= 1.5 * spacing
        numbers = self._going_on(found, spacing) if continues else {}
        numbers |= self._coming_back({p: one for p, one in found.items() if p not in numbers}, numbers)
        # New people: also those who have no mesh to be known by.
        for person in [*(mesh.person for mesh in clip.meshes), *(int(quality["person"]) for quality in clip.people)]:
            if person not in numbers:
                numbers[person] = self._next_number
                self._next_number += 1
        for person, appearance in found.items():
            before = self._known.get(numbers[person])
            self._known[numbers[person]] = before.and_then(appearance) if before else appearance
        self._last_frame = int(frames[-1])
        return _renumbered(clip, numbers)

    def _appearance(self, clip: LabeledClip, mesh: MeshTrack) -> _Appearance:
        count = np.zeros(len(self._vertices), np.int64)
        colors = np.zeros((len(count), 3), np.float32)
        tracks = clip.tracks.select(clip.tracks.person == mesh.person)
        point = np.searchsorted(self._vertices, tracks.vertex)
        for t in range(0, len(clip.frames), COLOR_EVERY):
            shown = np.flatnonzero(tracks.visible[:, t])
            if len(shown):
                columns, rows = tracks.xy[shown, t].astype(int).T
                values = cv2.blur(clip.frames[t], (COLOR_BOX, COLOR_BOX))[rows, columns]
                lab = cv2.cvtColor(values[None].astype(np.float32) / 255, cv2.COLOR_RGB2LAB)[0] * (0.5, 1, 1)
                np.add.at(colors, point[shown], lab.astype(np.float32))
                np.add.at(count, point[shown], 1)
        times = np.flatnonzero(mesh.present)
        assert clip.camera is not None, "a labeled clip has a camera"
        first, last = (clip.camera.project(mesh.vertices[t, self._vertices]) for t in (times[0], times[-1]))
        ends = (int(clip.source_frames[t]) for t in (times[0], times[-1]))
        return _Appearance(colors, count, first, last, *ends)

    def _going_on(self, found: dict[int, _Appearance], spacing: float) -> dict[int, int]:
        """Return the numbers of people whose body is where it was in the clip before, at least total motion."""
        numbers, people = [*self._known], [*found]
        cost = np.full((len(numbers), len(people)), _NO_LINK)
        for row, number in enumerate(numbers):
            for column, person in enumerate(people):
                before, after = self._known[number], found[person]
                missing = (after.first_frame - before.last_frame) / spacing - 1
                moved, change = before.moved_to(after), before.color_distance(after)
                near = missing <= MAX_GAP and moved <= MAX_MOVED + MOVED_PER_FRAME * missing
                if near and (change is None or change <= MAX_COLOR_CHANGE):
                    cost[row, column] = moved
        pairs = zip(*linear_sum_assignment(cost), strict=True)
        return {people[column]: numbers[row] for row, column in pairs if cost[row, column] < _NO_LINK}

    def _coming_back(self, found: dict[int, _Appearance], taken: dict[int, int]) -> dict[int, int]:
        """Return the numbers of people whose colors are clearly those of one who was there before."""
        numbers = [number for number in self._known if number not in taken.values()]
        people = [*found]
        distance = np.full((len(numbers), len(people)), _NO_LINK)
        for row, number in enumerate(numbers):
            for column, person in enumerate(people):
                apart = self._known[number].color_distance(found[person])
                distance[row, column] = _NO_LINK if apart is None else apart
        back = {}
        for row, column in zip(*linear_sum_assignment(distance), strict=True):
            others = np.concatenate([np.delete(distance[row], column), np.delete(distance[:, column], row)])
            limit = min([SAME_COLORS, *(CLEARLY_NEARER * others)])
            if distance[row, column] < limit:
                back[people[column]] = numbers[row]
        return back


def _renumbered(clip: LabeledClip, numbers: dict[int, int]) -> LabeledClip:
    """Return the clip with other numbers for its people."""
    table = np.arange(max([-1, *numbers]) + 1)
    for person, number in numbers.items():
        table[person] = number
    people = [{**quality, "person": numbers[int(quality["person"])]} for quality in clip.people]
    meshes = [replace(mesh, person=numbers[mesh.person]) for mesh in clip.meshes]
    tracks = clip.tracks
    if len(tracks):
        tracks = replace(tracks, person=table[tracks.person].astype(np.int32))
    return replace(clip, tracks=tracks, people=people, meshes=meshes)
