"""From packets to frames: which of the decoder's frames are sound, judged in the order of decoding.

Frames are predicted from frames that are decoded before them, and may be displayed before those. So damage reaches
every frame decoded after it, up to the next key frame that is sound; and, of the frames decoded after that one, those
that are displayed before it, which may be predicted from what came earlier.

Beside `decode.py` the file stands alone: saved pipelines take a copy of both along.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import count, pairwise
from statistics import median
from typing import Any

import av
from av.video.frame import PictureType

from .display_order import lost_frames

# So many frames at most are decoded after a frame and displayed before it (H.264 and HEVC: 16 of them are kept).
MAX_REORDERED = 16
# Where MPEG-TS files are joined, one of the last packets before the join is marked as corrupt, since their count begins
# anew: this many packets before it.
BEFORE_JOIN = 2
# Steps between frames that tell at least whether they come at one rate.
FEWEST_STEPS = 5


@dataclass
class Damage:
    """What damage was met while decoding.

    Attributes:
        reason: what the first damage was, in words; None if there was none.
        num_frames: how many frames were left out.
    """

    reason: str | None = None
    num_frames: int = 0


@dataclass(frozen=True)
class SoundFrame:
    """A frame that no damage reaches.

    Attributes:
        frame: PyAV's frame.
        aspect: width of a pixel over its height, as the stream says where the frame is decoded; None if it does not.
        num_lost: how many frames right before this one were left out.
        after_loss: whether frames are missing right before this one: left out, or lost from a damaged file.
    """

    frame: Any
    aspect: Fraction | None
    num_lost: int = 0
    after_loss: bool = False


class _Judge:
    """Holds frames back until no damage can become known that reaches them, and leaves out those that it reaches.

    Packets are numbered in the order in which they are decoded, and frames as their packets.
    """

    def __init__(self, damage: Damage) -> None:
        self._damage = damage
        self._held: deque[tuple[int, Any, Fraction | None, bool]] = deque()
        # Packets by number that have given no frame so far, and their time stamps.
        self._open: dict[int, int | None] = {}
        # Numbers of damaged packets, sorted, after the last sound key frame that was displayed; losses lie between.
        self._damaged: list[float] = []
        # Time stamps of damaged packets that give no frame, as long as no later frame was displayed.
        self._lost: list[int] = []
        self._num_lost = 0
        # Of the last frame that was displayed, and of the steps between the last ones.
        self._pts: int | None = None
        # The latest time stamp that a frame had.
        self._latest: int | None = None
        # The number of the packet where time begins anew, and of one that comes right before such a packet.
        self._join: int | None = None
        self._before_join: int | None = None
        self._steps: deque[int] = deque(maxlen=MAX_REORDERED)

    def add_packet(self, number: int, pts: int | None) -> None:
        """A packet goes to the decoder."""
        self._open[number] = pts

    def add_join(self, number: int) -> None:
        """Time begins anew with a packet."""
        self._join = number

    def add_before_join(self, number: int) -> None:
        """Time begins anew right after a packet: the mark of corrupt packets says nothing there."""
        self._before_join = number

    def add_damage(self, number: int, reason: str) -> None:
        """What a packet holds is damaged."""
        insort(self._damaged, number)
        self._damage.reason = self._damage.reason or reason

    def add_loss(self, number: int, reason: str) -> None:
        """Frames are missing right before a packet, in the order of decoding."""
        insort(self._damaged, number - 0.5)
        self._damage.reason = self._damage.reason or reason

    def add_lost_frame(self, number: int, pts: int | None) -> None:
        """The decoder makes no frame of a damaged packet."""
        self._open.pop(number, None)
        if pts is None:
            self._lose_frame()
        else:
            self._lost.append(pts)

    def add_frame(self, number: int, frame: Any, aspect: Fraction | None, of_key_packet: bool) -> None:
        """The decoder displays the frame of a packet; `of_key_packet`: the packet may hold a key frame."""
        self._open.pop(number, None)
        if frame.pts is not None:
            # Packets that would have been displayed by now are hidden, or were skipped.
            for passed in [n for n, pts in self._open.items() if pts is not None and pts <= frame.pts]:
                del self._open[passed]
        if frame.is_corrupt:
            self.add_damage(number, f"corrupt frame near {time_of(frame)}")
        is_key = of_key_packet and bool(frame.key_frame) and frame.pict_type in (PictureType.I, PictureType.NONE)
        self._held.append((number, frame, aspect, is_key))

    def check_order(self, number: int, pts: int | None) -> None:
        """After damage decoders may display a frame out of order, and so at a wrong time; `pts` is the frame's own."""
        if pts is None:
            return
        if self._join is not None and number >= self._join:
            self._join = self._latest = None
        if self._damaged and self._latest is not None and pts < self._latest:
            insort(self._damaged, number)
        self._latest = pts if self._latest is None else max(self._latest, pts)

    def sound_frames(self, at_end: bool = False) -> Iterator[SoundFrame]:
        """Yield the frames that no damage reaches, and none can reach any more."""
        while self._held:
            number = self._held[0][0]
            if not at_end and len(self._held) <= MAX_REORDERED and any(n < number for n in self._open):
                return
            _, frame, aspect, is_key = self._held.popleft()
            self._lose_frames_until(frame.pts)
            # The last damage up to this frame, if no sound key frame came after it.
            before = bisect_right(self._damaged, number)
            if before and not (is_key and self._damaged[before - 1] < number):
                self._lose_frame()
                continue
            if is_key:
                del self._damaged[:before]
            lost, self._num_lost = self._num_lost, 0
            # Before damage, what is lost may have been displayed between frames that are sound: a hole in time tells.
            # So it does right before a join, where frames come at one rate.
            is_regular = self._is_regular()
            is_hole = self._note_step(frame.pts) and (
                bool(self._damaged) or (is_regular and self._is_near_join(number))
            )
            if is_hole and not self._damage.reason:
                self._damage.reason = f"frames lost before {time_of(frame)}"
            yield SoundFrame(frame, aspect, lost, lost > 0 or is_hole)
        if at_end:
            self._lose_frames_until(None)

    def _note_step(self, pts: int | None) -> bool:
        """Note the time stamp of a frame that is displayed; return whether the step to it is longer than usual."""
        last, self._pts = self._pts, pts
        if pts is None or last is None:
            return False
        is_long = bool(self._steps) and pts - last > 1.5 * median(self._steps)
        self._steps.append(pts - last)
        return is_long

    def _is_regular(self) -> bool:
        """Return whether the last frames were displayed at one rate."""
        if len(self._steps) < FEWEST_STEPS:
            return False
        usual = median(self._steps)
        return all(abs(step - usual) <= 0.1 * usual for step in self._steps)

    def _is_near_join(self, number: int) -> bool:
        """Return whether time begins anew soon after a packet, in the order of decoding."""
        before = self._before_join
        return before is not None and before - MAX_REORDERED <= number <= before + BEFORE_JOIN

    def _lose_frames_until(self, pts: int | None) -> None:
        """Count the lost frames that were to be displayed before a time stamp; all of them for None."""
        due = [lost for lost in self._lost if pts is None or lost < pts]
        for lost in due:
            self._lost.remove(lost)
            self._lose_frame()

    def _lose_frame(self) -> None:
        self._num_lost += 1
        self._damage.num_frames += 1


class _Clock:
    """Chooses the time stamps of frames as ffmpeg does: those for display, unless they are wrong more often than those
    for decoding. AVI has no others than the latter."""

    def __init__(self, container: Any) -> None:
        self._pts = self._dts = -(1 << 62)
        self._wrong_dts = 0
        # Whether packets say when they are displayed.
        self.is_told = container.format.name != "avi"
        self._wrong_pts = 0 if self.is_told else 1 << 62

    def time_stamp(self, frame: Any) -> int | None:
        """Return the time stamp of the next frame in order of display; None if it has none."""
        pts, dts = frame.pts, frame.dts
        if dts is not None:
            self._wrong_dts += dts <= self._dts
            self._dts = dts
        if pts is not None:
            self._wrong_pts += pts <= self._pts
            self._pts = pts
        stamp: int | None = pts
        if dts is not None and (pts is None or self._wrong_pts > self._wrong_dts):
            stamp = dts
        return stamp


def decode_frames(container: Any, stream: Any, damage: Damage, wanted: set[int] | None = None) -> Iterator[SoundFrame]:
    """Yield the sound frames of a stream in the order in which they are displayed; `damage` says what was left out.

    Args:
        container, stream: as `open_video` gives them.
        damage: is filled in.
        wanted: time stamps; frames at others are skipped unless they are needed to predict some. None for all.
    """
    context = stream.codec_context
    judge, clock = _Judge(damage), _Clock(container)
    lost = lost_frames(context)
    # What the file says of its pixels holds, unless the stream itself changes what it says.
    aspect, stream_aspect = stream.sample_aspect_ratio, context.sample_aspect_ratio
    # By packet: the aspect of its pixels, and whether it may hold a key frame. After damage AV1 may show an earlier key
    # frame in place of what is lost.
    kinds: dict[int, tuple[Fraction | None, bool]] = {}
    is_av1 = "av1" in context.name
    packets = _Packets(container.demux(stream))
    for number in count():
        try:
            packet = packets.next()
        except av.error.FFmpegError as error:
            judge.add_damage(number, f"{error.strerror} while reading")
            packet = None
        if packet is not None and not packet.size:
            # At the end of a stream, and where AVI repeats a frame.
            continue
        if packet is not None:
            # PyAV knows these by their identity and forgets them with the packet. Small numbers are one object for all
            # decoders of a process, a tuple is the packet's own.
            packet.opaque = (number,)
            judge.add_packet(number, packet.pts if clock.is_told else None)
            if packets.is_join:
                judge.add_join(number)
            if packets.is_before_join():
                judge.add_before_join(number)
            elif packet.is_corrupt:
                judge.add_damage(number, f"corrupt packet near {time_of(packet)}")
            first = None if lost is None else lost.first_after_loss(number, packet)
            if first is not None:
                judge.add_loss(first, f"frames lost before {time_of(packet)}")
            if wanted is not None:
                context.skip_frame = "DEFAULT" if packet.pts in wanted else "NONREF"
        try:
            frames = context.decode(packet)
        except av.error.EOFError:
            frames = []
        except av.error.FFmpegError as error:
            frames = []
            where = "the end" if packet is None else time_of(packet)
            judge.add_damage(number, f"{error.strerror} near {where}")
            if packet is not None:
                judge.add_lost_frame(number, packet.pts if clock.is_told else None)
        if stream_aspect not in (None, context.sample_aspect_ratio):
            aspect = stream_aspect = context.sample_aspect_ratio
        stream_aspect = context.sample_aspect_ratio
        kinds[number] = aspect, packet is not None and (packet.is_keyframe or not is_av1)
        for frame in frames:
            if frame.time_base is None:
                frame.time_base = stream.time_base
            of_packet = number if frame.opaque is None else frame.opaque[0]
            judge.check_order(of_packet, frame.pts if clock.is_told else None)
            frame.pts = clock.time_stamp(frame)
            judge.add_frame(of_packet, frame, *kinds.get(of_packet, (aspect, not is_av1)))
        kinds.pop(number - 4 * MAX_REORDERED, None)
        yield from judge.sound_frames(at_end=packet is None)
        if packet is None:
            return


class _Packets:
    """The packets of a stream, with a few read ahead.

    Attributes:
        is_join: whether time begins anew with the packet that was given last.
    """

    def __init__(self, packets: Iterator[Any]) -> None:
        self._packets = packets
        # Packets, or None at the end, or the error in place of one.
        self._ahead: deque[Any] = deque()
        self._last: Any = None
        self.is_join = False

    def next(self) -> Any:
        """Return the next packet; None at the end. Raises what reading it raises."""
        while len(self._ahead) <= BEFORE_JOIN:
            try:
                self._ahead.append(next(self._packets, None))
            except av.error.FFmpegError as error:
                self._ahead.append(error)
        packet = self._ahead.popleft()
        if isinstance(packet, Exception):
            raise packet
        self.is_join = _is_join(self._last, packet)
        self._last = packet
        return packet

    def is_before_join(self) -> bool:
        """Return whether time begins anew right after the packet that was given last."""
        following = [self._last, *self._ahead]
        return any(_is_join(a, b) for a, b in pairwise(following))


def _is_join(before: Any, packet: Any) -> bool:
    """Return whether time begins anew with a packet: another file was joined to the one before."""
    last, time = (getattr(each, "dts", None) for each in (before, packet))
    return last is not None and time is not None and time < last and bool(packet.is_keyframe)


def time_of(part: Any) -> str:
    """Return the time of a packet or frame in words."""
    return "the end" if part.pts is None else f"{float(part.pts * part.time_base):.1f} s"
