"""The clip for visitors without one: rendered dancers, from the sample of labels that comes with the package."""

from __future__ import annotations

from pathlib import Path

from anthrotap_hf.data.shard_reader import ShardReader
from anthrotap_hf.utils.hub_names import SAMPLE

DANCERS = "dance.mp4"


def write_sample(path: Path) -> None:
    """Write the first clip of the dancers, 48 frames of 640 x 360 pixels, as it stands in the sample."""
    reader = ShardReader.from_path(SAMPLE)
    (first, *_) = (row for row, (name,) in enumerate(reader.columns(["source_video"])) if name == DANCERS)
    path.write_bytes(reader[first]["video"]["bytes"])
