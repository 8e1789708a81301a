"""Finds lost frames in H.264 by their numbers, which FFmpeg conceals without a word.

Each reference frame has the number after that of the reference frame before it (ITU-T H.264, 7.4.3, frame_num): a
frame with another one shows that reference frames between were lost. Frames that none refers to may be lost unnoticed:
nothing is predicted from them.

Beside `decode.py` the file stands alone: saved pipelines take a copy of it along.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

# Kinds of NAL units (table 7-1).
SLICE, IDR_SLICE, SPS, PPS = 1, 5, 7, 8
# Profiles whose parameter sets say how colors are sampled (7.3.2.1.1).
HIGH_PROFILES = {44, 83, 86, 100, 110, 118, 122, 128, 134, 135, 138, 139, 244}
# Bytes of a unit that are looked at: parameter sets with all scaling lists are shorter.
HEAD = 600


@dataclass(frozen=True)
class _Sequence:
    """What a sequence parameter set says of frame numbers."""

    bits: int
    gaps_allowed: bool
    separate_planes: bool


class Bits:
    """Reads bits from the first one on. Raises ValueError at the end."""

    def __init__(self, payload: bytes) -> None:
        self._value = int.from_bytes(payload, "big")
        self._left = 8 * len(payload)

    def read(self, count: int) -> int:
        self._left -= count
        if self._left < 0:
            raise ValueError("the header is too short")
        return (self._value >> self._left) & ((1 << count) - 1)

    def ue(self) -> int:
        """Read an unsigned Exp-Golomb code (9.1)."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros)

    def se(self) -> int:
        """Read a signed Exp-Golomb code."""
        code = self.ue()
        return (code + 1) // 2 if code % 2 else -(code // 2)


class FrameNumbers:
    """Follows the frame numbers of a stream.

    Args:
        extradata: of the decoder; None if there is none.
    """

    def __init__(self, extradata: bytes | None) -> None:
        self._sequences: dict[int, _Sequence] = {}
        # The sequence parameter set of each picture parameter set.
        self._pictures: dict[int, int] = {}
        self._last: int | None = None
        # Bytes of the length before each unit, in mp4 and Matroska; None where start codes stand between units.
        self._length_size: int | None = None
        if extradata and extradata[0] == 1 and len(extradata) > 6:
            self._length_size = (extradata[4] & 3) + 1
            for unit in _units_of_configuration(extradata):
                self._read_parameters(unit)
        elif extradata:
            for unit in _units(extradata, None):
                self._read_parameters(unit)

    def is_after_loss(self, packet: bytes) -> bool:
        """Whether reference frames are missing right before the one of this packet, in order of decoding."""
        for unit in _units(packet, self._length_size):
            kind = unit[0] & 0x1F
            if kind in (SPS, PPS):
                self._read_parameters(unit)
            elif kind in (SLICE, IDR_SLICE):
                try:
                    return self._follow(unit, kind)
                except (KeyError, ValueError):
                    # What a damaged slice says is left to the decoder.
                    self._last = None
                    return False
        return False

    def _follow(self, unit: bytes, kind: int) -> bool:
        bits = _bits_of(unit)
        bits.ue()  # first_mb_in_slice
        bits.ue()  # slice_type
        sequence = self._sequences[self._pictures[bits.ue()]]
        if sequence.separate_planes:
            bits.read(2)  # colour_plane_id
        number, last = bits.read(sequence.bits), self._last
        if kind == IDR_SLICE or unit[0] & 0x60:
            self._last = number
        if kind == IDR_SLICE or last is None or sequence.gaps_allowed:
            return False
        return number not in (last, (last + 1) % (1 << sequence.bits))

    def _read_parameters(self, unit: bytes) -> None:
        bits = _bits_of(unit)
        try:
            if unit[0] & 0x1F == PPS:
                picture = bits.ue()
                self._pictures[picture] = bits.ue()
            elif unit[0] & 0x1F == SPS:
                profile = bits.read(8)
                bits.read(16)  # constraint flags, level
                number = bits.ue()
                self._sequences[number] = _read_sequence(bits, profile)
        except ValueError:
            # A damaged set: frames that need it say so in the decoder.
            return


def _bits_of(unit: bytes) -> Bits:
    """Return the bits of a NAL unit, without its header and its emulation prevention bytes."""
    return Bits(unit[1:HEAD].replace(b"\0\0\3", b"\0\0"))


def _read_sequence(bits: Bits, profile: int) -> _Sequence:
    """Read a sequence parameter set after its number (7.3.2.1.1)."""
    separate = False
    if profile in HIGH_PROFILES:
        chroma = bits.ue()
        separate = chroma == 3 and bool(bits.read(1))
        bits.ue()  # bit_depth_luma_minus8
        bits.ue()  # bit_depth_chroma_minus8
        bits.read(1)  # qpprime_y_zero_transform_bypass_flag
        if bits.read(1):
            for index in range(12 if chroma == 3 else 8):
                if bits.read(1):
                    _skip_scaling_list(bits, 16 if index < 6 else 64)
    number_bits = bits.ue() + 4
    order = bits.ue()
    if order == 0:
        bits.ue()  # log2_max_pic_order_cnt_lsb_minus4
    elif order == 1:
        bits.read(1)  # delta_pic_order_always_zero_flag
        bits.se()  # offset_for_non_ref_pic
        bits.se()  # offset_for_top_to_bottom_field
        for _ in range(bits.ue()):
            bits.se()
    bits.ue()  # max_num_ref_frames
    return _Sequence(number_bits, bool(bits.read(1)), separate)


def _skip_scaling_list(bits: Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.se()) % 256
        last = following or last


def _units(data: bytes, length_size: int | None) -> Iterator[bytes]:
    """Yield the beginnings of NAL units, at most HEAD bytes of each."""
    if length_size is not None:
        at = 0
        while at + length_size < len(data):
            begin = at + length_size
            at = begin + int.from_bytes(data[at:begin], "big")
            if at > begin:
                yield data[begin : min(at, begin + HEAD)]
        return
    begin = data.find(b"\0\0\1")
    while begin >= 0 and begin + 3 < len(data):
        begin += 3
        following = data.find(b"\0\0\1", begin)
        end = len(data) if following < 0 else following
        if end > begin:
            yield data[begin : min(end, begin + HEAD)]
        begin = following


def _units_of_configuration(extradata: bytes) -> Iterator[bytes]:
    """Yield the parameter sets of an AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3.1)."""
    at, count = 6, extradata[5] & 0x1F
    for _ in range(2):
        for _ in range(count):
            begin = at + 2
            at = begin + int.from_bytes(extradata[at:begin], "big")
            if at > begin:
                yield extradata[begin:at]
        count, at = (extradata[at] if at < len(extradata) else 0), at + 1
