"""Made-up rows of our dataset."""

from __future__ import annotations

import numpy as np
from datasets import Array2D, Array3D, Dataset, Features, List, Value, Video

from anthrotap_hf.video import encode_video


def some_row(number: int, **changes) -> dict:
    """A clip of 10 frames, 64 x 96, of one gray level; five points at other positions in each row."""
    num_frames = 10
    rng = np.random.default_rng(number)
    frames = np.full((num_frames, 64, 96, 3), 20 * number % 256, np.uint8)
    labels = np.ones((5, 12), bool)
    labels[:, num_frames:] = False
    visible = labels.copy()
    visible[0, :6] = False
    row = {
        "clip_id": f"clip-{number}",
        "num_frames": num_frames,
        "height": 64,
        "width": 96,
        "video": {"bytes": encode_video(frames, 10), "path": None},
        "tracks": rng.uniform(5, 60, (5, 12, 2)).astype(np.float32),
        "visible": visible,
        "valid": labels,
        "person": np.zeros(5, np.int32),
        "vertex": np.arange(5, dtype=np.int32),
    }
    return row | changes


def some_rows(count: int) -> Dataset:
    features = Features(
        {
            "clip_id": Value("string"),
            "num_frames": Value("int32"),
            "height": Value("int32"),
            "width": Value("int32"),
            "video": Video(decode=False),
            "tracks": Array3D((None, 12, 2), "float32"),
            "visible": Array2D((None, 12), "bool"),
            "valid": Array2D((None, 12), "bool"),
            "person": List(Value("int32")),
            "vertex": List(Value("int32")),
        }
    )
    made = [some_row(number) for number in range(count)]
    return Dataset.from_dict({key: [row[key] for row in made] for key in features}, features=features)
