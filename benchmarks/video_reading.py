"""Are the frames of any file read rightly? Codecs, containers, rates and faults, against ffmpeg's own decode.

    python -m benchmarks.video_reading                    # makes all files, reads them, prints two tables
    python -m benchmarks.video_reading --folder outputs   # keeps them

Files are made with PyAV from a moving picture with a number in it. A file without a fault must give the frames, order
and times that ffmpeg gives (the program of the distribution, if there is one; it decodes by itself, without PyAV). A
file with a fault must give no frame that differs from the one of the whole file at its time, and nothing may be said
of a fault where there is none.
"""

from __future__ import annotations

import argparse
import io
import math
import random
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from anthrotap_hf.video import Frame, VideoError, iter_frames, select_frames
from anthrotap_hf.video.containers import open_video
from anthrotap_hf.video.packets import Damage, decode_frames

NUM_FRAMES, HEIGHT, WIDTH = 60, 144, 256
# Levels on average by which a frame may differ from ffmpeg's, and from which on it is smeared. Decoders of MPEG-2 and
# its like round in their own ways.
SAME, SMEARED = 0.5, 4.0
CODECS = {
    "h264": ("libx264", "yuv420p", {"preset": "veryfast", "crf": "18"}),
    "h264 refs": ("libx264", "yuv420p", {"preset": "medium", "crf": "18", "refs": "4", "bf": "3"}),
    "h264 open": ("libx264", "yuv420p", {"preset": "veryfast", "x264-params": "open-gop=1:keyint=20:min-keyint=20"}),
    "h264 10 bit": ("libx264", "yuv420p10le", {"preset": "veryfast", "crf": "18"}),
    "hevc": ("libx265", "yuv420p", {"preset": "ultrafast", "x265-params": "log-level=none"}),
    "hevc 10 bit": ("libx265", "yuv420p10le", {"preset": "ultrafast", "x265-params": "log-level=none"}),
    "av1": ("libsvtav1", "yuv420p", {"preset": "12"}),
    "vp8": ("libvpx", "yuv420p", {"auto-alt-ref": "1", "lag-in-frames": "16", "deadline": "good", "cpu-used": "4"}),
    "vp9": ("libvpx-vp9", "yuv420p", {"auto-alt-ref": "1", "lag-in-frames": "16", "cpu-used": "6"}),
    "mpeg4": ("mpeg4", "yuv420p", {"qscale": "3"}),
    "mpeg2": ("mpeg2video", "yuv420p", {"qscale": "3", "bf": "2"}),
    "mpeg1": ("mpeg1video", "yuv420p", {"qscale": "3"}),
    "mjpeg": ("mjpeg", "yuvj420p", {"qscale": "3"}),
    "prores": ("prores_ks", "yuv422p10le", {}),
    "ffv1": ("ffv1", "yuv420p", {}),
    "wmv2": ("wmv2", "yuv420p", {"qscale": "3"}),
    "gif": ("gif", "rgb8", {}),
}
CONTAINERS = {
    "h264": ("mp4", "mkv", "mov", "avi", "ts", "m2ts", "flv", "3gp", "h264"),
    "h264 refs": ("mp4", "mkv", "ts"),
    "h264 open": ("mp4", "ts"),
    "h264 10 bit": ("mp4",),
    "hevc": ("mp4", "mkv", "ts"),
    "hevc 10 bit": ("mp4", "mkv"),
    "av1": ("mp4", "mkv", "webm"),
    "vp8": ("webm", "mkv"),
    "vp9": ("webm", "mp4"),
    "mpeg4": ("mp4", "avi", "mkv"),
    "mpeg2": ("mpg", "ts", "vob", "mxf", "m2v"),
    "mpeg1": ("mpg",),
    "mjpeg": ("avi", "mov"),
    "prores": ("mov",),
    "ffv1": ("mkv",),
    "wmv2": ("asf",),
    "gif": ("gif",),
}
# Seconds of each frame.
RATES: dict[str, list[float]] = {
    "24": [n / 24 for n in range(NUM_FRAMES)],
    "29.97": [n * 1001 / 30000 for n in range(NUM_FRAMES)],
    "8 to 12": (np.cumsum([0, *np.random.default_rng(0).choice([2, 3], NUM_FRAMES - 1)]) / 24).tolist(),
    "a hole": [n / 24 + 3 * (n >= 30) for n in range(NUM_FRAMES)],
    "0.5": [2.0 * n for n in range(NUM_FRAMES)],
}
# Of MPEG-1 and 2 the rate is one of a few.
FIXED_RATE = ("mpeg1", "mpeg2")
VARIABLE = ("mp4", "mkv", "mov", "webm", "ts")
FAULTY = ("h264", "h264 refs", "h264 open", "hevc", "av1", "vp8", "vp9", "mpeg4", "mpeg2", "mjpeg")
GOP = 20


@dataclass
class Read:
    """What the reader gives of a file: its frames, and the error at the end, if there is one."""

    frames: list[Frame]
    error: str | None


def picture(number: int) -> np.ndarray:
    """Return the frame of a number, [HEIGHT, WIDTH, 3] uint8: texture that moves, so that what is lost is seen."""
    y, x = np.mgrid[:HEIGHT, :WIDTH].astype(np.float32)
    waves = [np.sin((x + 3 * number * s) / 9 + s) + np.sin((y - 2 * number) / (7 + s) + s * x / 40) for s in range(3)]
    image = (127 + 55 * np.stack(waves, axis=-1)).clip(0, 255).astype(np.uint8)
    left = 5 + (4 * number) % (WIDTH - 40)
    image[40:80, left : left + 30] = (255 - 3 * number % 200, 40, 3 * number % 200)
    return image


def make(path: Path, codec: str, times: list[float], gop: int = GOP) -> None:
    """Write a file of NUM_FRAMES frames."""
    name, pixels, options = CODECS[codec]
    with av.open(f"file:{path}", "w") as container:
        rate = 1 / (times[1] - times[0]) if times[1] - times[0] > 0.5 or path.suffix in (".avi", ".mpg") else 24
        stream = container.add_stream(name, rate=Fraction(rate).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, pixels
        if codec != "gif":
            stream.gop_size = gop
        stream.options = dict(options)
        even = np.allclose(np.diff(times), times[1] - times[0])
        if not even or times[1] - times[0] not in (1 / 24, 2.0):
            stream.codec_context.time_base = Fraction(1, 30000 if even else 1200)
        for number, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(number), format="rgb24").reformat(format=pixels)
            base = stream.codec_context.time_base or Fraction(1, 24)
            frame.time_base, frame.pts = base, round(time / base)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def read(path: Path) -> Read:
    """Read a file to its end."""
    frames: list[Frame] = []
    try:
        frames.extend(iter_frames(path))
    except VideoError as error:
        return Read(frames, error.reason)
    return Read(frames, None)


def reference(path: Path, form: str) -> tuple[np.ndarray, list[float]] | None:
    """Return what ffmpeg decodes, None where there is no ffmpeg: samples [T, S] uint8 in a pixel format, and times."""
    if not (program := shutil.which("ffmpeg")):
        return None
    command = [program, "-v", "error", "-threads", "1", "-i", f"file:{path}", "-vsync", "passthrough", "-copyts"]
    raw = subprocess.run([*command, "-f", "rawvideo", "-pix_fmt", form, "-"], capture_output=True, check=True).stdout
    command = [program.replace("ffmpeg", "ffprobe"), "-v", "error", "-select_streams", "v:0", "-of", "csv=p=0"]
    command += ["-show_entries", "frame=best_effort_timestamp_time", f"file:{path}"]
    lines = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()
    # Streams without a container have no times.
    times = [float(value) if value != "N/A" else math.nan for line in lines if (value := line.strip(","))]
    return np.frombuffer(raw, np.uint8).reshape(len(times), -1), times


def decoded(path: Path) -> tuple[np.ndarray, str]:
    """Return the samples [T, S] uint8 of the frames that the reader takes, before it converts colors, and their format.

    Colors are measured by a test: programs differ in how they interpolate them.
    """
    with open_video(path) as (container, stream):
        frames = [sound.frame for sound in decode_frames(container, stream, Damage())]
    form = frames[0].format.name
    return np.stack([samples(frame, form) for frame in frames]), form


def samples(frame: av.VideoFrame, form: str) -> np.ndarray:
    """Return the samples of a frame, plane after plane without padding, [S] uint8."""
    parts = []
    for plane in frame.planes:
        row = plane.width * (2 if form.endswith("le") else 4 if form == "bgra" else 1)
        parts.append(np.frombuffer(plane, np.uint8).reshape(plane.height, plane.line_size)[:, :row].ravel())
    return np.concatenate(parts)


def difference(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one.astype(np.int16) - other).mean())


def compare(path: Path) -> str:
    """Return in words how a file without a fault is read: "equal", or what differs."""
    found = read(path)
    if found.error:
        return f"**{found.error}**"
    own, form = decoded(path)
    expected, times = reference(path, form), None
    if expected:
        images, times = expected
        if len(found.frames) != len(images):
            return f"**{len(found.frames)} frames, ffmpeg {len(images)}**"
        worst = max(difference(one, other) for one, other in zip(own, images, strict=True))
        if worst > SAME:
            return f"**differs by {worst:.1f} levels**"
    elif len(found.frames) != NUM_FRAMES:
        return f"**{len(found.frames)} frames of {NUM_FRAMES}**"
    if times is not None and not np.isnan(times).any():
        late = np.array([frame.time for frame in found.frames]) - times
        if np.ptp(late) > 2e-3:
            return f"**times differ by {np.ptp(late):.3f} s**"
    chosen = [0, 7, 31, len(found.frames) - 1]
    for image, number in zip(select_frames(path, chosen), chosen, strict=True):
        if difference(image, found.frames[number].image) > 0.5:
            return f"**select_frames gives another frame {number}**"
    return "equal"


def faults(data: bytes, path: Path, rng: random.Random) -> Iterator[tuple[str, bytes]]:
    """Yield damaged copies of a file by name."""
    yield "packets lost", without_packets(path, set(range(26, 30)))
    yield "one packet lost", without_packets(path, {rng.randrange(22, 38)})
    begin = len(data) // 3 + rng.randrange(len(data) // 4)
    burst = data[:begin] + rng.randbytes(200) + data[begin + 200 :]
    yield "200 bytes overwritten", burst
    zeros = data[:begin] + bytes(1000) + data[begin + 1000 :]
    yield "1,000 zeros", zeros
    if path.suffix == ".ts":
        at = begin // 188 * 188
        yield "6 packets of TS lost", data[:at] + data[at + 6 * 188 :]
        yield "90 packets of TS lost", data[:at] + data[at + 90 * 188 :]
    yield "cut off", data[: int(0.7 * len(data))]


def without_packets(path: Path, numbers: set[int]) -> bytes:
    """Return a copy of a file without some packets, in order of decoding."""
    file = io.BytesIO()
    with av.open(f"file:{path}") as source:
        kind = {"matroska,webm": "matroska", "mov,mp4,m4a,3gp,3g2,mj2": "mp4"}.get(
            source.format.name, source.format.name
        )
        with av.open(file, "w", format=kind) as copy:
            stream = copy.add_stream_from_template(source.streams.video[0], opaque=True)
            for number, packet in enumerate(source.demux(video=0)):
                if packet.size and number not in numbers:
                    packet.stream = stream
                    copy.mux(packet)
    return file.getvalue()


def judge(whole: list[Frame], found: Read, num_known: int) -> str:
    """Return in words what a damaged file gives: sound frames, left out ones, and smeared ones, which must be none."""
    smeared = 0
    for frame in found.frames:
        # AVI counts frames: what follows lost ones is early.
        near = [other for other in whole if abs(other.time - frame.time) < 0.3]
        smeared += min(difference(frame.image, other.image) for other in near or whole) > SMEARED
    said = "said" if found.error else "not said"
    text = f"{len(found.frames)} of {num_known}, {said}"
    return f"**{smeared} smeared**, {text}" if smeared else text


def healthy_table(folder: Path, codecs: list[str]) -> None:
    """Print what is read otherwise than ffmpeg reads it, of files without a fault."""
    version = "no ffmpeg here: only counted"
    if program := shutil.which("ffmpeg"):
        version = subprocess.run([program, "-version"], capture_output=True, text=True, check=True).stdout
        version = version.splitlines()[0].partition(" Copyright")[0]
    print(f"{version}\n\n| codec | container | rate | read |\n|---|---|---|---|")
    wrong = total = 0
    for codec in codecs:
        for suffix in CONTAINERS[codec]:
            for rate, times in RATES.items():
                if rate != "24" and (suffix not in VARIABLE or codec in FIXED_RATE):
                    continue
                path = folder / f"{codec} {rate}.{suffix}".replace(" ", "_")
                make(path, codec, times)
                result = compare(path)
                total, wrong = total + 1, wrong + (result != "equal")
                if result != "equal":
                    print(f"| {codec} | {suffix} | {rate} | {result} |", flush=True)
    print(f"| {total - wrong} of {total} | | | equal |\n")


def fault_table(folder: Path, codecs: list[str]) -> None:
    """Print which faults let smeared frames through."""
    print("| codec | container | fault | frames |\n|---|---|---|---|")
    wrong = total = 0
    for codec in (name for name in codecs if name in FAULTY):
        for suffix in (s for s in CONTAINERS[codec] if s in ("mp4", "mkv", "ts", "webm", "mpg", "avi")):
            for gop in (GOP, 250):
                path = folder / f"{codec} {gop}.{suffix}".replace(" ", "_")
                make(path, codec, RATES["24"], gop)
                whole = read(path).frames
                for seed, (fault, data) in enumerate(faults(path.read_bytes(), path, random.Random(gop))):
                    damaged = folder / f"{seed}_{path.name}"
                    damaged.write_bytes(data)
                    result = judge(whole, read(damaged), len(whole))
                    total, wrong = total + 1, wrong + ("smeared" in result)
                    if "smeared" in result:
                        print(f"| {codec} | {suffix}, key frames every {gop} | {fault} | {result} |", flush=True)
    print(f"| {total - wrong} of {total} | | | no smeared frame |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="keeps the files made; a temporary folder by default")
    parser.add_argument("--codecs", nargs="+", default=list(CODECS))
    parser.add_argument("--tables", nargs="+", choices=("healthy", "faults"), default=["healthy", "faults"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        if "healthy" in options.tables:
            healthy_table(folder, options.codecs)
        if "faults" in options.tables:
            fault_table(folder, options.codecs)


if __name__ == "__main__":
    main()
