"""Finds the shots of a video: runs of frames through which points can be followed.

A shot changes where two neighboring frames show different things, not where they differ much: a fast pan changes every
pixel, and a cut between two cameras on one stage changes few. So blocks of one frame are searched for in the whole of
the other, by normalized cross-correlation, which no change of brightness disturbs. A block is *found* if the best match
is good and a neighboring block went the same way; by chance hardly any are. What that means for

- a pan, a zoom, fast dancers, blur, light that is switched: blocks are found, no change;
- a cut, also inside a pan, or to another camera on the same people: none is found, a change;
- a cut between two takes of one camera (a jump cut): the background is found and the people are not; a change if the
  frames differ much more than their neighbors do;
- a flash, or a strobe light between whose flashes it is dark: if up to FLASH_FRAMES frames show something else or
  nothing, and the picture then goes on, they belong to the shot, and no change is reported;
- a fade to black or white: what has no texture is a shot of its own, between two changes; if it lasts no longer than a
  flash and the same picture returns, it is one;
- a dissolve: a change at its first frame that shows more of the later picture. It is recognized by blocks that are a
  mixture of what the frames before and after show there. Where both shots move much, it may be missed;
- a wipe, a slide or a morph: not recognized, unless one of its steps is a cut.

Where many frames in a row have nothing in common (water, a whirl in close-up), there is no change among them.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np

from anthrotap_hf.video import Frame, VideoError, VideoSource, frames_before_damage

# Frames are compared at this short side, pixels.
SIDE = 64
# Side of a block, pixels of those frames, and the distance of neighboring blocks.
BLOCK = 16
STEP = 10
# What varies more slowly than this (standard deviation of a Gaussian, pixels) is taken out of a frame: so smooth
# surfaces don't match each other.
SMOOTH = 3.0
# A block has texture if its standard deviation is above this, of 255 levels.
MIN_TEXTURE = 2.0
# A frame without texture whose brightness varies by less than this (standard deviation, levels) is blank.
BLANK = 6.0
# A block is found where its correlation is above this, and a neighbor's displacement differs by so few pixels.
MIN_CORRELATION = 0.7
MAX_DIFFERENCE = 2
# Two frames show different things if a smaller fraction of their blocks is found: of pairs from two of 30 real videos,
# the worst had 0.2 found, of neighbors in one of them, fast pans too, the worst had 0.7.
FEW_FOUND = 0.3
# That is enough for a cut where this fraction of blocks has texture, and usually more than that is found.
RICH = 0.5
ENOUGH_FOUND = 0.5
# In a plain picture only the people have texture, and while they move fast few blocks are found: a cut is where fewer
# are found than this part of what is found in the steps around it, and the frames differ so many times more. Where they
# differ by a jump, the second part is enough.
FEWER = 0.6
FEWER_IN_A_JUMP = 0.75
MORE_CHANGE = 1.5
# Steps around it: two before and two after, not further away than this.
NEAR = 6
# Frames that differ by less, in levels of 255 on average, are not searched; below that one, nothing moves.
SMALL_CHANGE = 2.0
NOTHING = 0.3
# Frames that differ so many times more than usual are a jump.
JUMP = 3.0
# Without texture, they must also differ by so many levels.
PLAIN_CHANGE = 10.0
# A jump cut: at most this fraction is found, and frames differ by a jump more than in any step near, and by so much.
JUMP_CUT_FOUND = 0.9
JUMP_CUT_CHANGE = 4.0
# Unless light that was switched explains it: of the difference this part remains apart from brightness and contrast.
JUMP_CUT_RELIT = 0.4
# Up to so many frames that show something else are a flash.
FLASH_FRAMES = 3
# After it, so much more is found than in the flash; and where blocks alone do not tell, the picture differs from the
# one before by this part of what the flash does.
MORE_FOUND = 0.25
PLAIN_RETURN = 0.5
# A fade that leaves some texture: the contrast falls below this fraction of the one before and after.
DIM = 0.25
# Half the time over which dissolves are looked for, frames: long ones and short ones; and at every second frame.
DISSOLVE_REACH = (12, 6)
DISSOLVE_STEP = 2
# A block is a mixture if both together explain this fraction of its variance, and this much more than either, and the
# two are no more alike than this; a frame is one if this fraction of its textured blocks is.
MIXTURE_EXPLAINED = 0.6
MIXTURE_GAIN = 0.05
MIXTURE_LIKENESS = 0.4
MIXED_BLOCKS = 0.08
MIN_MIXED_BLOCKS = 4
# A block is looked at more closely if it correlates more than this with both, where it is.
MIXTURE_HINT = 0.2
# How far a block may move within that time, pixels.
MIXTURE_SEARCH = 4
# How many frames before and after one are needed to decide.
REACH = max(NEAR, FLASH_FRAMES, *DISSOLVE_REACH)
# Two frames further apart in time than this, in seconds, belong to two shots.
LONGEST_STEP = 1.0


def find_cuts(video: VideoSource) -> list[int]:
    """Return the first frame of each shot of a video but the first shot. Raises VideoError if it can't be read."""
    shots = [shot for shot, _ in number_shots(frames_before_damage(video))]
    return [t for t, (before, after) in enumerate(pairwise(shots), 1) if before != after]


def number_shots(frames: Iterator[Frame]) -> Iterator[tuple[int, Frame]]:
    """Yield each frame with the number of its shot, REACH frames after it was read.

    A damaged part, another size and a step of more than LONGEST_STEP seconds also change the shot.

    Raises:
        VideoError: as `frames` does, after the frames before it.
    """
    shot = 0
    window = _Window()
    last: Frame | None = None
    error: VideoError | None = None
    while True:
        try:
            frame = next(frames, None)
        except VideoError as damage:
            frame, error = None, damage
        apart = frame is None or (
            last is not None and (frame.after_loss or frame.new_size or not 0 <= frame.time - last.time <= LONGEST_STEP)
        )
        if apart:
            for changed, waiting in window.finish():
                shot += changed
                yield shot, waiting
            shot += 1
            window = _Window()
        if frame is None:
            break
        last = frame
        for changed, waiting in window.add(frame):
            shot += changed
            yield shot, waiting
    if error:
        raise error


@dataclass(frozen=True, eq=False)
class _Look:
    """What two frames are compared by.

    Attributes:
        color: [h, w, 3] float32 RGB, levels.
        texture: [h, w] float32, brightness without what varies slowly, levels.
        corners: [K, 2] int, top and left of each block.
        shape: rows and columns of blocks.
        patterns: [K, BLOCK * BLOCK] float32, each block's texture, of zero mean and unit norm.
        textured: [K] bool, the blocks with texture.
        blank: whether there is nothing to see: no texture, and one color.
    """

    color: np.ndarray
    texture: np.ndarray
    corners: np.ndarray
    shape: tuple[int, int]
    patterns: np.ndarray
    textured: np.ndarray
    blank: bool

    @classmethod
    def of(cls, image: np.ndarray) -> _Look:
        """Take the look of an image [H, W, 3] uint8 RGB."""
        scale = min(1.0, SIDE / min(image.shape[:2]))
        size = tuple(max(BLOCK, round(side * scale)) for side in image.shape[1::-1])
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
        gray = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
        texture = gray - cv2.GaussianBlur(gray, (0, 0), SMOOTH)
        ends = [side - BLOCK for side in gray.shape]
        rows, columns = (np.linspace(0, end, end // STEP + 1).round().astype(int) for end in ends)
        corners = np.stack(np.meshgrid(rows, columns, indexing="ij"), axis=-1).reshape(-1, 2)
        patterns = np.stack([texture[y : y + BLOCK, x : x + BLOCK].ravel() for y, x in corners])
        patterns -= patterns.mean(1, keepdims=True)
        norm = np.linalg.norm(patterns, axis=1)
        textured = norm > MIN_TEXTURE * BLOCK
        patterns /= np.maximum(norm, 1e-6)[:, None]
        blank = not textured.any() and float(gray.std()) < BLANK
        return cls(small.astype(np.float32), texture, corners, (len(rows), len(columns)), patterns, textured, blank)

    @property
    def contrast(self) -> float:
        """Standard deviation of the texture, levels."""
        return float(self.texture.std())

    def difference(self, other: _Look) -> float:
        """Return the mean absolute difference of two frames, levels."""
        return float(cv2.absdiff(self.color, other.color).mean())

    def relit_difference(self, other: _Look) -> float:
        """Return the mean absolute difference of two frames, levels, apart from a change of brightness and contrast."""
        x, y = self.color.mean(-1).ravel(), other.color.mean(-1).ravel()
        gain = float(np.cov(x, y)[0, 1] / max(float(x.var()), 1e-6))
        return float(np.abs(y - y.mean() - gain * (x - x.mean())).mean())

    def found_in(self, other: _Look) -> float:
        """Return the fraction of the textured blocks of one frame that are in the other; NaN if both are plain."""
        a, b = self, other
        if a.textured.sum() < b.textured.sum():
            a, b = b, a
        if not a.textured.any():
            return float("nan")
        displacement = np.full((len(a.corners), 2), np.nan)
        correlation = np.zeros(len(a.corners))
        for index in np.flatnonzero(a.textured):
            scores = cv2.matchTemplate(b.texture, a.patterns[index].reshape(BLOCK, BLOCK), cv2.TM_CCOEFF_NORMED)
            _, correlation[index], _, (x, y) = cv2.minMaxLoc(scores)
            displacement[index] = (y, x) - a.corners[index]
        grid = displacement.reshape(*a.shape, 2)
        same = np.zeros(a.shape, bool)
        # Untextured blocks have no displacement: comparisons with NaN are false.
        vertical = (np.abs(grid[1:] - grid[:-1]) <= MAX_DIFFERENCE).all(-1)
        horizontal = (np.abs(grid[:, 1:] - grid[:, :-1]) <= MAX_DIFFERENCE).all(-1)
        same[1:] |= vertical
        same[:-1] |= vertical
        same[:, 1:] |= horizontal
        same[:, :-1] |= horizontal
        found = same.ravel() & (correlation > MIN_CORRELATION)
        return float(found.sum() / a.textured.sum())


class _Window:
    """The frames of one stretch of video that wait for their decision, and the looks around them.

    Frames are counted from 0 in the stretch.
    """

    def __init__(self) -> None:
        self._frames: deque[Frame] = deque()
        self._looks: dict[int, _Look] = {}
        self._differences: dict[int, float] = {}
        self._fractions: dict[tuple[int, int], float] = {}
        self._read = 0
        self._next = 0
        # No change is reported before this frame, as a flash lasts till then; no dissolve is before that one; and the
        # shot is one of blank frames.
        self._flash_end = 0
        self._blank = False
        self._dissolve_end = 0

    def add(self, frame: Frame) -> Iterator[tuple[bool, Frame]]:
        """Take a frame; yield those that are decided, and whether the shot changes with them."""
        self._frames.append(frame)
        self._looks[self._read] = _Look.of(frame.image)
        if self._read:
            self._differences[self._read] = self._looks[self._read - 1].difference(self._looks[self._read])
        self._read += 1
        if len(self._frames) > REACH:
            yield self._decide()

    def finish(self) -> Iterator[tuple[bool, Frame]]:
        """Yield the frames that still wait."""
        while self._frames:
            yield self._decide()

    def _decide(self) -> tuple[bool, Frame]:
        t = self._next
        if not t:
            self._blank = self._looks[t].blank
        changed = t >= max(1, self._flash_end) and (self._is_cut(t) or self._is_dissolve(t))
        self._next += 1
        old = t - REACH
        self._looks.pop(old, None)
        self._differences.pop(old, None)
        self._fractions = {pair: value for pair, value in self._fractions.items() if pair[0] > old}
        return changed, self._frames.popleft()

    def _found(self, a: int, b: int) -> float:
        if (a, b) not in self._fractions:
            self._fractions[a, b] = self._looks[a].found_in(self._looks[b])
        return self._fractions[a, b]

    def _near(self, t: int) -> list[int]:
        """The two steps before and the two after the one to frame t; repeated frames, where nothing moves, are not
        counted."""
        steps = [
            [k for k in side if self._differences.get(k, 0) > NOTHING][:2]
            for side in (range(t - 1, t - NEAR - 1, -1), range(t + 1, t + NEAR + 1))
        ]
        return steps[0] + steps[1]

    def _is_cut(self, t: int) -> bool:
        """Whether frame t shows something else than the one before it, and no flash begins with it."""
        if self._blank or self._looks[t].blank:
            return self._turns_blank(t)
        change, near = self._differences[t], self._near(t)
        usual = max(NOTHING, float(np.median([self._differences[k] for k in near] or [0.0])))
        if change < min(SMALL_CHANGE, JUMP * usual):
            return False
        rich = min(self._looks[t - 1].textured.mean(), self._looks[t].textured.mean()) >= RICH
        found = self._found(t - 1, t)
        if np.isnan(found):
            return change >= max(PLAIN_CHANGE, JUMP * usual) and not self._is_flash(t, FEW_FOUND, PLAIN_RETURN)
        if found > JUMP_CUT_FOUND:
            return False
        usually_found = float(np.median([self._step_found(k) for k in near] or [1.0]))
        jump = change >= JUMP * usual
        fewer = found < (FEWER_IN_A_JUMP if jump else FEWER) * usually_found and change >= MORE_CHANGE * usual
        if fewer or (found < FEW_FOUND and (jump or (rich and usually_found > ENOUGH_FOUND))):
            return not self._is_flash(t, FEW_FOUND if rich else ENOUGH_FOUND, math.inf if rich else PLAIN_RETURN)
        largest = max(self._differences.get(k, 0) for k in range(t - NEAR, t + NEAR + 1) if k != t)
        relit = self._looks[t - 1].relit_difference(self._looks[t])
        jump_cut = change >= max(JUMP_CUT_CHANGE, JUMP * largest) and relit > JUMP_CUT_RELIT * change
        return jump_cut and not self._is_flash(t, JUMP_CUT_FOUND, PLAIN_RETURN)

    def _is_flash(self, t: int, same: float, part: float) -> bool:
        """Whether the picture before frame t goes on soon after it.

        Args:
            t: the frame.
            same: the picture goes on if more than this fraction is found, and clearly more than in frame t.
            part: and if it differs by at most this part of what frame t does.
        """
        found, change = np.nan_to_num(self._found(t - 1, t)), self._differences[t]
        same = max(same, min(found + MORE_FOUND, JUMP_CUT_FOUND))
        for end in range(t + 1, min(t + 1 + FLASH_FRAMES, self._read)):
            again, difference = self._found(t - 1, end), self._looks[t - 1].difference(self._looks[end])
            # Without texture the colors decide.
            if difference <= PLAIN_RETURN * change if np.isnan(again) else again > same and difference <= part * change:
                self._flash_end = end + 1
                return True
        return False

    def _turns_blank(self, t: int) -> bool:
        """Whether blank frames begin or end with frame t, for longer than a flash, or change their color."""
        ahead = [self._looks[k].blank for k in range(t, min(t + 1 + FLASH_FRAMES, self._read))]
        if self._blank:
            if any(ahead[:FLASH_FRAMES]):
                usual = max(NOTHING, *(self._differences[k] for k in self._near(t))) if self._near(t) else NOTHING
                return ahead[0] and self._differences[t] >= max(PLAIN_CHANGE, JUMP * usual)
            self._blank = False
            return True
        ends_so = all(ahead) and len(ahead) <= FLASH_FRAMES
        self._blank = not ends_so and not self._is_flash(t, FEW_FOUND, math.inf)
        return self._blank

    def _step_found(self, t: int) -> float:
        """As `_found`, of the step to frame t; 1 where the frames hardly differ or have no texture."""
        found = 1.0 if self._differences[t] < SMALL_CHANGE else self._found(t - 1, t)
        return 1.0 if np.isnan(found) else found

    def _is_dissolve(self, t: int) -> bool:
        """Whether a dissolve, or a fade that leaves some texture, turns to the later picture with frame t."""
        now = self._looks[t]
        if t < self._dissolve_end or t % DISSOLVE_STEP or now.blank:
            return False
        for reach in DISSOLVE_REACH:
            before, after = self._looks.get(t - reach), self._looks.get(t + reach)
            if before is None or after is None or before.difference(after) < PLAIN_CHANGE:
                continue
            later = _later_share(before, now, after)
            contrasts = [self._looks[k].contrast for k in (t - DISSOLVE_STEP, t + DISSOLVE_STEP)]
            dim = now.contrast <= min(*contrasts, DIM * before.contrast, DIM * after.contrast)
            turned = dim or (later is not None and later >= 0.5)
            if turned and self._found(t - reach, t + reach) < FEW_FOUND:
                self._dissolve_end = t + 2 * reach
                return True
        return False


def _later_share(before: _Look, now: _Look, after: _Look) -> float | None:
    """Return how much of a frame is of the later picture, in [0, 1]; None if it is no mixture of two."""
    # First without motion, for all blocks at once: most videos end here.
    alike = [(now.patterns * look.patterns).sum(1) for look in (before, after)]
    likely = now.textured & (np.minimum(*alike) > MIXTURE_HINT)
    likely &= (before.patterns * after.patterns).sum(1) < 2 * MIXTURE_LIKENESS
    enough = max(MIN_MIXED_BLOCKS, MIXED_BLOCKS * now.textured.sum())
    if likely.sum() <= enough:
        return None
    shares = []
    for index in np.flatnonzero(likely):
        pattern, corner = now.patterns[index], now.corners[index]
        (a, alike_a), (b, alike_b) = _best_nearby(before, pattern, corner), _best_nearby(after, pattern, corner)
        likeness = float(a @ b)
        if likeness >= MIXTURE_LIKENESS:
            continue
        # Least squares of the block in the two patches, all of unit norm.
        weight_a = (alike_a - likeness * alike_b) / (1 - likeness**2)
        weight_b = (alike_b - likeness * alike_a) / (1 - likeness**2)
        explained = weight_a * alike_a + weight_b * alike_b
        gain = explained - max(alike_a, alike_b) ** 2
        if min(weight_a, weight_b) > 0 and explained > MIXTURE_EXPLAINED and gain > MIXTURE_GAIN:
            shares.append(weight_b / (weight_a + weight_b))
    return float(np.median(shares)) if len(shares) > enough else None


def _best_nearby(look: _Look, pattern: np.ndarray, corner: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the patch of a frame near a corner that correlates best with a pattern, likewise, and the correlation."""
    y, x = np.maximum(corner - MIXTURE_SEARCH, 0)
    bottom, right = corner + BLOCK + MIXTURE_SEARCH
    area = look.texture[y:bottom, x:right]
    scores = cv2.matchTemplate(area, pattern.reshape(BLOCK, BLOCK), cv2.TM_CCOEFF_NORMED)
    _, correlation, _, (column, row) = cv2.minMaxLoc(scores)
    patch = area[row : row + BLOCK, column : column + BLOCK].ravel()
    patch = patch - patch.mean()
    return patch / max(float(np.linalg.norm(patch)), 1e-6), float(correlation)
