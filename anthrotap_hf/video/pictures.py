"""From decoded frames to pictures: deinterlaced, tone-mapped to BT.709, upright, with square pixels, as RGB.

Beside `decode.py` the file stands alone: saved pipelines take a copy of both along.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import av
import av.filter
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

from .packets import SoundFrame

# swscale's default rounding darkens by 1 of 255 levels, and 10 bits by 2. With these flags what comes out is within
# half a level, and 1.2 where 10 bits are of full range.
SCALE = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT

# Numbers of ITU-T H.273: transfer functions PQ and HLG; primaries and matrix of BT.2020.
PQ, HLG = 16, 18
BT2020 = 9
# Luma coefficients of red and blue by the number of the matrix: BT.709, and the two of BT.2020.
LUMA = {1: (0.2126, 0.0722), 9: (0.2627, 0.0593), 10: (0.2627, 0.0593)}
# Linear light from BT.2020 to BT.709 primaries (ITU-R BT.2087-0, annex).
TO_BT709 = np.array([[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]], np.float32)
# cd/m2: the peak that is mapped to white, of HLG's nominal display too, and diffuse white (ITU-R BT.2408).
PEAK, WHITE = 1000.0, 203.0


class Deinterlacer:
    """Makes whole pictures of interlaced frames by FFmpeg's bwdif, one of each; progressive frames stay as they are.

    It looks at the frames before and after, and so is one frame behind, from the first interlaced frame on.
    """

    def __init__(self) -> None:
        self._graph: Any = None
        self._form: tuple[Any, ...] = ()
        self._waiting: deque[SoundFrame] = deque()
        self.num_interlaced = 0

    def add(self, sound: SoundFrame) -> Iterator[SoundFrame]:
        """Take a frame; yield those that are ready."""
        frame = sound.frame
        self.num_interlaced += bool(frame.interlaced_frame)
        form = (frame.width, frame.height, frame.format.name, frame.colorspace, frame.color_range)
        if self._graph is not None and (form != self._form or sound.after_loss):
            yield from self.finish()
        if self._graph is None:
            if not frame.interlaced_frame:
                yield sound
                return
            self._graph, self._form = self._new_graph(frame), form
        self._waiting.append(sound)
        self._graph.push(frame)
        yield from self._ready()

    def finish(self) -> Iterator[SoundFrame]:
        """Yield the frame that still waits."""
        if self._graph is not None:
            self._graph.push(None)
            yield from self._ready()
            self._graph = None
            self._waiting.clear()

    def _ready(self) -> Iterator[SoundFrame]:
        while True:
            try:
                picture = self._graph.pull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return
            sound = self._waiting.popleft()
            picture.pts, picture.time_base = sound.frame.pts, sound.frame.time_base
            yield replace(sound, frame=picture)

    @staticmethod
    def _new_graph(frame: Any) -> Any:
        graph = av.filter.Graph()
        source = graph.add_buffer(
            width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base
        )
        bwdif = graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
        sink = graph.add("buffersink")
        source.link_to(bwdif)
        bwdif.link_to(sink)
        graph.configure()
        return graph


def is_high_dynamic_range(frame: Any) -> bool:
    """Whether a frame is of PQ or HLG."""
    return frame.color_trc in (PQ, HLG)


def tone_mapped(frame: Any, reformatter: VideoReformatter, width: int, height: int) -> np.ndarray:
    """Return a frame of PQ or HLG, of whatever size, as [height, width, 3] uint8 RGB of BT.709.

    Light above diffuse white is compressed as ITU-R BT.2390 (section 5.4.1) does it, from PEAK to WHITE, equally in
    all three colors, so that hues stay.
    """
    # 16 bits of each sample at the size wanted; colors are taken apart here, as swscale rounds to 8 bits.
    picture = reformatter.reformat(frame, width=width, height=height, format="yuv444p16le", interpolation=SCALE)
    samples = picture.to_ndarray().astype(np.float32)
    y, cb, cr = samples if samples.shape[0] == 3 else np.moveaxis(samples, -1, 0)
    if picture.color_range == 2:
        y, cb, cr = y / 65535, cb / 65535 - 32768 / 65535, cr / 65535 - 32768 / 65535
    else:
        y, cb, cr = (y / 256 - 16) / 219, (cb / 256 - 128) / 224, (cr / 256 - 128) / 224
    kr, kb = LUMA.get(frame.colorspace, LUMA[BT2020])
    red, blue = y + 2 * (1 - kr) * cr, y + 2 * (1 - kb) * cb
    signal = np.stack([red, (y - kr * red - kb * blue) / (1 - kr - kb), blue], axis=-1).clip(0, 1)
    light = _to_light(signal, frame.color_trc)
    if frame.color_primaries in (BT2020, 2):
        light = light @ TO_BT709.T
    light = light.clip(0, None) / WHITE
    # The curve acts on the strongest of the three colors.
    peak = light.max(-1, keepdims=True)
    positions, gains = _tone_curve()
    light *= np.interp(peak, positions, gains).astype(np.float32)
    # A display of BT.1886 shows the power 2.4 of the signal.
    return np.rint(255 * light.clip(0, 1) ** (1 / 2.4)).astype(np.uint8)


def _to_light(signal: np.ndarray, transfer: int) -> np.ndarray:
    """Return the light [..., 3] in cd/m2 that a display shows for a signal from 0 to 1 (ITU-R BT.2100)."""
    table = _transfer_table(transfer)
    scene = table[np.rint(signal * (len(table) - 1)).astype(np.int32)]
    if transfer == PQ:
        return scene
    # HLG is of the scene: a display of 1,000 cd/m2 has the system gamma 1.2.
    luminance = scene @ np.array([0.2627, 0.6780, 0.0593], np.float32)
    shown: np.ndarray = PEAK * np.maximum(luminance, 1e-6)[..., None] ** 0.2 * scene
    return shown


@cache
def _transfer_table(transfer: int) -> np.ndarray:
    """Return the light of signals from 0 to 1, evenly spaced: in cd/m2 for PQ, of the scene from 0 to 1 for HLG."""
    signal = np.linspace(0, 1, 1 << 14)
    if transfer == PQ:
        light = 10000 * _pq_to_light(signal)
    else:
        a, b, c = 0.17883277, 0.28466892, 0.55991073
        light = np.where(signal <= 0.5, signal**2 / 3, (np.exp((signal - c) / a) + b) / 12)
    return light.astype(np.float32)


def _pq_to_light(signal: np.ndarray) -> np.ndarray:
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    root = signal ** (1 / m2)
    light: np.ndarray = (np.maximum(root - c1, 0) / (c2 - c3 * root)) ** (1 / m1)
    return light


def _light_to_pq(light: np.ndarray) -> np.ndarray:
    m1, m2, c1, c2, c3 = 2610 / 16384, 2523 / 32, 3424 / 4096, 2413 / 128, 2392 / 128
    power = light**m1
    signal: np.ndarray = ((c1 + c2 * power) / (1 + c3 * power)) ** m2
    return signal


@cache
def _tone_curve() -> tuple[np.ndarray, np.ndarray]:
    """Return light relative to WHITE, and what it is multiplied by (ITU-R BT.2390, EETF from PEAK to WHITE)."""
    light = np.linspace(0, 10000 / WHITE, 20001)[1:]
    top = _light_to_pq(np.array(PEAK / 10000))
    signal = np.minimum(_light_to_pq(light * WHITE / 10000) / top, 1)
    limit = _light_to_pq(np.array(WHITE / 10000)) / top
    knee = 1.5 * limit - 0.5
    # A Hermite spline from the knee to the limit.
    t = ((signal - knee) / (1 - knee)).clip(0, 1)
    spline = (2 * t**3 - 3 * t**2 + 1) * knee + (t**3 - 2 * t**2 + t) * (1 - knee) + (-2 * t**3 + 3 * t**2) * limit
    mapped = np.where(signal < knee, signal, spline)
    shown = 10000 * _pq_to_light(mapped * top) / WHITE
    return np.concatenate([[0], light]), np.concatenate([[1], shown / light])


def orientation(frame: Any) -> tuple[bool, bool, bool]:
    """Return what brings a frame upright: whether to transpose, then to flip left-right, then to flip up-down.

    The display matrix maps a pixel (x, y) to (a x + c y, b x + d y) (libavutil/display.h); angles that are no
    multiple of 90 degrees are taken to the nearest one.
    """
    try:
        matrix = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # PyAV 18.1 does not know all kinds of side data (EXIF is one), and then gives none. It knows the angle.
        turns = round(frame.rotation / 90) % 4
        return turns % 2 == 1, turns in (2, 3), turns in (1, 2)
    if matrix is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    if abs(a) >= abs(b):
        return False, a < 0, d < 0
    return True, c < 0, b < 0


def to_rgb(frame: Any, reformatter: VideoReformatter, size: tuple[int, int], tone_map: bool) -> np.ndarray:
    """Return a frame as [H, W, 3] uint8 RGB, upright and of `size` (width, height)."""
    transpose, flip_x, flip_y = orientation(frame)
    width, height = size[::-1] if transpose else size
    if tone_map and is_high_dynamic_range(frame):
        image = tone_mapped(frame, reformatter, width, height)
    else:
        picture = reformatter.reformat(frame, width=width, height=height, format="rgb24", interpolation=SCALE)
        image = picture.to_ndarray()
    if transpose:
        image = image.transpose(1, 0, 2)
    if flip_x:
        image = image[:, ::-1]
    if flip_y:
        image = image[::-1]
    return np.ascontiguousarray(image)
