"""Made-up benchmark files in each published layout."""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def tapvid_video(frames: np.ndarray, seed: int = 0, count: int = 6) -> dict[str, Any]:
    """One video as TAP-Vid pickles it; points drift as `moving_pattern` does, and are occluded now and then."""
    rng = np.random.default_rng(seed)
    height, width = frames.shape[1:3]
    t = np.arange(len(frames))[None, :, None]
    xy = rng.uniform(0.3, 0.7, (count, 1, 2)) + t * np.array([-1.5 / width, 1 / height])
    return {
        "video": frames,
        "points": xy.astype(np.float32),
        "occluded": rng.random((count, len(frames))) < 0.2,
    }


def jpegs(frames: np.ndarray) -> list[bytes]:
    encoded = []
    for frame in frames:
        file = io.BytesIO()
        Image.fromarray(frame).save(file, "jpeg", quality=95)
        encoded.append(file.getvalue())
    return encoded


def write_tapvid(folder: Path, layout: str, videos: dict[str, dict[str, Any]], protocol: int = 4) -> Path:
    """Videos in a layout: davis, rgb-stacking, kinetics (JPEGs in a byte array, as its script makes it, two shards) or
    robotap (two shards). The path that is to be evaluated."""
    names = list(videos)
    half = len(names) // 2
    if layout == "davis":
        parts: dict[str, Any] = {"tapvid_davis.pkl": videos}
    elif layout == "rgb-stacking":
        parts = {"tapvid_rgb_stacking.pkl": list(videos.values())}
    elif layout == "kinetics":
        packed = [{**video, "video": np.array(jpegs(video["video"]))} for video in videos.values()]
        parts = {"0000_of_0010.pkl": packed[:half], "0001_of_0010.pkl": packed[half:]}
    else:
        shards = names[:half], names[half:]
        parts = {f"robotap_split{n}.pkl": {name: videos[name] for name in s} for n, s in enumerate(shards)}
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in parts.items():
        (folder / name).write_bytes(pickle.dumps(content, protocol))
    return folder if len(parts) > 1 else folder / next(iter(parts))


def some_videos(moving_pattern: Callable[..., np.ndarray], count: int = 2) -> dict[str, dict[str, Any]]:
    """Videos of different sizes and lengths, by name."""
    return {f"video{n}": tapvid_video(moving_pattern(6 + n, 48 + 16 * n, 64, n), n) for n in range(count)}
