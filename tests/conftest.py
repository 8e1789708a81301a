"""Fixtures of several test files: folders beside the repository, and small synthetic videos."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from anthrotap_hf.video import REPEATABLE

# Files that are not in the repository lie beside it.
SHARED = Path(__file__).parents[2] / "shared"


@pytest.fixture(scope="session")
def clips_dir() -> Path:
    """The folder of real clips; skips where it is absent."""
    return _shared_folder("clips")


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """The folder of parity cases, outputs of the released code; skips where it is absent."""
    return _shared_folder("reference")


def _shared_folder(name: str) -> Path:
    if not (SHARED / name).is_dir():
        pytest.skip(f"no folder {SHARED / name}")
    return SHARED / name


def _moving_pattern(num_frames: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    """[T, H, W, 3] uint8: smooth blobs that drift by a pixel or two a frame. Each seed is another scene."""
    rng = np.random.default_rng(seed)
    phase, tone = rng.uniform(0, 6, 3), rng.uniform(40, 210, 3)
    y, x = np.mgrid[:height, :width][..., None]
    t = np.arange(num_frames)[:, None, None, None]
    wave = np.sin((x + 1.5 * t) / 17 + phase) * np.cos((y - t) / 13 + 2 * phase)
    return np.clip(tone + 45 * wave, 0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def moving_pattern() -> Callable[..., np.ndarray]:
    """`moving_pattern(T, H, W, seed=0)` -> [T, H, W, 3] uint8, as in the videos of `make_video`."""
    return _moving_pattern


@pytest.fixture
def make_video(tmp_path: Path) -> Callable[..., Path]:
    """Factory of small mp4 files: `make_video("a.mp4", shots=[30, 20], size=(64, 96), fps=24)` -> path.

    Each shot is another scene of so many frames; `times` gives each frame's seconds (variable rate);
    `rotation` (degrees counter-clockwise), `hflip`, `aspect` (of a pixel) and `codec` go into the file.
    """

    def make(
        name: str = "video.mp4",
        shots: tuple[int, ...] | list[int] = (24,),
        size: tuple[int, int] = (64, 96),
        fps: float = 24,
        times: list[float] | None = None,
        rotation: int | None = None,
        hflip: bool = False,
        aspect: Fraction | None = None,
        codec: str = "libx264",
        frames: np.ndarray | None = None,
        options: dict[str, str] | None = None,
        gop: int = 12,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if frames is None:
            frames = np.concatenate([_moving_pattern(n, *size, seed) for seed, n in enumerate(shots)])
        pixels = {"libx264": "yuv420p", "gif": "rgb8"}.get(codec, "yuv420p")
        if codec == "libx264" and (frames.shape[1] % 2 or frames.shape[2] % 2):
            pixels = "yuv444p"
        with av.open(str(path), "w", options=options or {}) as container:
            stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1001))
            stream.height, stream.width = frames.shape[1:3]
            stream.pix_fmt = pixels
            if codec != "gif":
                stream.gop_size = gop
            if codec == "libx264":
                stream.options = {"crf": "15", "preset": "veryfast"} | REPEATABLE
            if aspect is not None:
                stream.codec_context.sample_aspect_ratio = aspect
            if rotation is not None or hflip:
                stream.set_display_rotation(rotation or 0, hflip=hflip)
            if times is not None:
                stream.codec_context.time_base = Fraction(1, 1000)
            if not len(frames):
                container.start_encoding()
            for number, image in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format=pixels)
                if times is not None:
                    frame.pts, frame.time_base = round(1000 * times[number]), Fraction(1, 1000)
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        return path

    return make


@pytest.fixture
def fake_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    """`label_video` in no time: clips are read as ever, two tracks stand still on each."""
    pytest.importorskip("numba", reason="needs anthrotap[builder]")
    from anthrotap_builder import pipeline
    from helpers.fake_labels import fake_label_video

    monkeypatch.setattr(pipeline, "label_video", fake_label_video)
