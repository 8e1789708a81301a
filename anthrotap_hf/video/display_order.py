"""Finds lost frames of MPEG-1, MPEG-2, MPEG-4, VP8 and VP9, which FFmpeg does not miss, by when frames are displayed.

MPEG-1 and 2 number the frames of a group in order of display (ISO/IEC 13818-2, 6.3.9, temporal_reference): a number
that is left out is that of a lost frame. Frames of MPEG-4 have times (ISO/IEC 14496-2, 6.3.5), and those of VP8 and VP9
only what the container says. There a hole is a loss where the frames around it come at one rate and the hole is short:
where the rate varies, and at pauses, holes are as they were recorded.

Beside `decode.py` the file stands alone: saved pipelines take a copy of it along.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

from .h264 import Bits, FrameNumbers

# Start codes after 00 00 01, and picture_coding_type of MPEG-1 and 2.
PICTURE, GROUP, MPEG_B = 0x00, 0xB8, 3
# Start codes of MPEG-4, the last of those of a layer, and vop_coding_type.
LAYER, LAST_LAYER, GROUP_OF_VOPS, VOP, VOP_B = 0x20, 0x2F, 0xB3, 0xB6, 2
# Numbers of MPEG-1 and 2 begin anew after so many.
MODULUS = 1024
# Bytes of a header that are looked at.
HEAD = 64
# Steps that tell whether frames come at one rate: the last ones, how many at least, and which share must be alike.
STEPS, FEWEST_STEPS, ALIKE = 60, 12, 0.9
# Seconds; a longer hole is a pause.
LONGEST_HOLE = 1.0


@dataclass(frozen=True)
class Picture:
    """A picture in a packet.

    Attributes:
        position: when it is displayed, in order: a number, or ticks of a clock.
        is_b: whether it is displayed before the one decoded before it, and none is predicted from it.
        is_key: whether it is predicted from none.
        begins_group: whether positions are counted anew from 0.
        is_coded: whether it is more than a repetition of the one before it.
    """

    position: int
    is_b: bool = False
    is_key: bool = False
    begins_group: bool = False
    is_coded: bool = True


class DisplayOrder:
    """Follows pictures in the order of decoding, and finds holes in that of display.

    Args:
        ticks_per_second: of positions that are times; None for those that are counted, up to `MODULUS`.
        runs_forward: whether time runs back only where the picture that tells of another second is lost.
    """

    def __init__(self, ticks_per_second: float | None = None, runs_forward: bool = False) -> None:
        self.ticks_per_second, self.runs_forward = ticks_per_second, runs_forward
        # The last position that was displayed.
        self._shown: int | None = None
        # The picture that is displayed once another one but a B-picture is decoded, and its packet.
        self._pending: Picture | None = None
        self._pending_packet = 0
        self._steps: deque[int] = deque(maxlen=STEPS)
        self._num_hidden = 0

    def hide(self) -> None:
        """Take a picture that is not displayed; it may take the place of one that would be."""
        self._num_hidden += 1

    def follow(self, number: int, picture: Picture, has_b: bool = True) -> int | None:
        """Take the next picture; return the first packet that is decoded after a loss, None if none was lost.

        Args:
            number: of its packet; the one that is returned may be the one before it.
            picture: what the packet says of it.
            has_b: whether there may be B-pictures; without any, each is displayed as it is decoded.
        """
        pending = self._pending
        if not has_b:
            self._pending = None
            if not picture.is_coded and self._shown is not None and self._ticks(self._shown, picture.position) <= 0:
                # What stands for a picture that came in an earlier packet.
                return None
            return number if self._show(picture.position) and not picture.is_key else None
        if picture.is_b:
            if pending is None or picture.position == self._shown:
                # At the beginning, and the second field of a frame.
                return None
            if self._ticks(pending.position, picture.position) > 0:
                # The picture that it is displayed before is lost.
                self._shown, self._pending = picture.position, None
                return number
            # What it is predicted from, or is displayed before it, is missing; a key picture itself is not harmed.
            return self._pending_packet if self._show(picture.position) else None
        if pending is not None and not picture.begins_group:
            step = self._ticks(pending.position, picture.position)
            if step == 0 or (step < 0 and not picture.is_coded):
                # The second field of a frame, or what stands for a picture that came in an earlier packet.
                return None
        packet = self._pending_packet
        is_hole = pending is not None and self._show(pending.position) and not pending.is_key
        if picture.begins_group:
            self._shown = -1
        self._pending, self._pending_packet = picture, number
        return packet if is_hole else None

    def _show(self, position: int) -> bool:
        """Display a picture; return whether one before it was lost."""
        last, self._shown = self._shown, position
        num_hidden, self._num_hidden = self._num_hidden, 0
        if last is None:
            return False
        step = self._ticks(last, position)
        if self.ticks_per_second is None:
            return step != 1
        if step <= 0:
            return self.runs_forward and step < 0
        usual = median(self._steps) if len(self._steps) >= FEWEST_STEPS else None
        self._steps.append(step)
        if usual is None or step <= (1.5 + num_hidden) * usual or step > LONGEST_HOLE * self.ticks_per_second:
            return False
        # Clocks of containers have whole milliseconds.
        near = max(0.1 * usual, 2)
        alike = sum(abs(other - usual) <= near for other in self._steps)
        return alike >= ALIKE * (len(self._steps) - 1)

    def _ticks(self, start: int, end: int) -> int:
        """Return how far one position is after another."""
        step = end - start
        if self.ticks_per_second is None:
            step = (step + MODULUS // 2) % MODULUS - MODULUS // 2
        return step


class LostFrames:
    """Finds lost frames in the packets of a stream, in the order of decoding."""

    def first_after_loss(self, number: int, packet: Any) -> int | None:
        """Return the number of the first packet after frames that are missing; None if no new loss is found.

        Args:
            number: of the packet; the one that is returned may be of a packet before it.
            packet: PyAV's.
        """
        raise NotImplementedError


class _ByFrameNumber(LostFrames):
    """H.264."""

    def __init__(self, context: Any) -> None:
        self._numbers = FrameNumbers(context.extradata)

    def first_after_loss(self, number: int, packet: Any) -> int | None:
        return number if self._numbers.is_after_loss(bytes(packet)) else None


class _ByReference(LostFrames):
    """MPEG-1 and MPEG-2."""

    def __init__(self, context: Any) -> None:
        self._order = DisplayOrder()

    def first_after_loss(self, number: int, packet: Any) -> int | None:
        begins_group = False
        for code, head in _sections(bytes(packet)):
            if code == GROUP:
                begins_group = True
            elif code == PICTURE and len(head) > 1:
                # 10 bits of temporal_reference and 3 of the type.
                reference, kind = head[0] << 2 | head[1] >> 6, head[1] >> 3 & 7
                return self._order.follow(number, Picture(reference, kind == MPEG_B, kind == 1, begins_group))
        return None


class _ByVopTime(LostFrames):
    """MPEG-4."""

    def __init__(self, context: Any) -> None:
        self._context = context
        self._order: DisplayOrder | None = None
        self._resolution, self._bits = 0, 0
        # Whole seconds of the last picture but B-pictures, and of the one before it.
        self._second = self._last_second = 0
        self._read(context.extradata or b"")

    def first_after_loss(self, number: int, packet: Any) -> int | None:
        found = None
        for picture in self._read(bytes(packet)):
            if self._order is not None:
                after = self._order.follow(number, picture, bool(self._context.has_b_frames))
                found = after if found is None else found
        return found

    def _read(self, data: bytes) -> list[Picture]:
        """Return the pictures in some bytes, and note what these say of the clock."""
        pictures = []
        for code, head in _sections(data):
            try:
                if LAYER <= code <= LAST_LAYER:
                    self._read_layer(Bits(head))
                elif code == GROUP_OF_VOPS:
                    bits = Bits(head)
                    hours, minutes, _, seconds = (bits.read(count) for count in (5, 6, 1, 6))
                    self._second = 3600 * hours + 60 * minutes + seconds
                elif code == VOP and self._resolution:
                    pictures.append(self._picture(Bits(head)))
            except ValueError:
                # What a damaged header says is left to the decoder.
                continue
        return pictures

    def _picture(self, bits: Bits) -> Picture:
        kind, passed = bits.read(2), 0
        while bits.read(1):
            passed += 1
        bits.read(1)
        increment = bits.read(self._bits)
        bits.read(1)
        is_coded = bool(bits.read(1))
        if kind == VOP_B:
            return Picture((self._last_second + passed) * self._resolution + increment, is_b=True)
        self._last_second = self._second
        self._second += passed
        position = self._second * self._resolution + increment
        return Picture(position, is_key=kind == 0, is_coded=is_coded)

    def _read_layer(self, bits: Bits) -> None:
        """Read a video object layer up to its clock (6.2.3)."""
        bits.read(9)  # random_accessible_vol, video_object_type_indication
        version = 1
        if bits.read(1):
            version = bits.read(4)
            bits.read(3)  # priority
        if bits.read(4) == 15:
            bits.read(16)  # width and height of a pixel
        if bits.read(1):
            bits.read(3)  # chroma_format, low_delay
            if bits.read(1):
                bits.read(79)  # what a buffer must hold
        if bits.read(2) == 3 and version != 1:
            bits.read(4)  # video_object_layer_shape_extension
        bits.read(1)
        self._resolution = bits.read(16)
        self._bits = max(1, (self._resolution - 1).bit_length())
        if self._order is None or self._order.ticks_per_second != self._resolution:
            self._order = DisplayOrder(self._resolution, runs_forward=True)


class _ByTimeStamp(LostFrames):
    """VP8 and VP9."""

    def __init__(self, context: Any) -> None:
        self._codec = context.name
        self._order: DisplayOrder | None = None

    def first_after_loss(self, number: int, packet: Any) -> int | None:
        if packet.pts is None or packet.time_base is None:
            return None
        if self._order is None:
            self._order = DisplayOrder(float(1 / packet.time_base))
        if is_hidden(self._codec, packet):
            self._order.hide()
            return None
        return self._order.follow(number, Picture(packet.pts, is_key=bool(packet.is_keyframe)), has_b=False)


FINDERS = {
    "h264": _ByFrameNumber,
    "mpeg1video": _ByReference,
    "mpeg2video": _ByReference,
    "mpeg4": _ByVopTime,
    "vp8": _ByTimeStamp,
    "vp9": _ByTimeStamp,
}


def lost_frames(context: Any) -> LostFrames | None:
    """Return what finds lost frames of a codec; None where the decoder does, or nothing tells."""
    finder = FINDERS.get(context.name)
    return finder(context) if finder else None


def is_hidden(codec: str, packet: Any) -> bool:
    """Whether a packet of VP8 or VP9 holds a frame that others are predicted from and that is not displayed."""
    data = memoryview(packet)
    if codec == "vp8":
        # RFC 6386, 9.1: bit 4 of the frame tag is show_frame.
        return not data[0] & 0x10
    # Frames of a VP9 superframe, whose last byte begins with 110, are displayed by its last one. Otherwise, in profiles
    # 0 to 2, the bits 10pp are followed by show_existing_frame, frame_type and show_frame.
    return codec == "vp9" and data[len(data) - 1] & 0xE0 != 0xC0 and data[0] & 0x30 != 0x30 and not data[0] & 0x0A


def _sections(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield start codes, each with at most HEAD bytes that follow it."""
    begin = data.find(b"\0\0\1")
    while 0 <= begin < len(data) - 3:
        yield data[begin + 3], data[begin + 4 : begin + 4 + HEAD]
        begin = data.find(b"\0\0\1", begin + 3)
