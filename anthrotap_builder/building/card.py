"""The card of a dataset: what the rows are, how they were made, and their statistics."""

from __future__ import annotations

from typing import Any

import yaml


def dataset_card(manifest: dict[str, Any]) -> str:
    """The card as Markdown, with the Hub's front matter; `load_dataset` finds the splits by it.

    Args:
        manifest: of a finished build.
    """
    counts, config = manifest["counts"], manifest["config"]
    front = {
        "pretty_name": "AnthroTAP point tracks on people",
        "task_categories": ["keypoint-detection"],
        "tags": ["point-tracking", "anthrotap", "video"],
        "size_categories": [_size(counts["clips"])],
        "configs": [
            {
                "config_name": "labels" if manifest["label_only"] else "default",
                "default": True,
                "data_files": [
                    {"split": split, "path": f"data/{split}-*.parquet"} for split in manifest["splits"]
                ],
            }
        ],
    }
    labels = max(counts["seen"] + counts["hidden"] + counts["unknown"], 1)
    splits = "\n".join(
        f"| {name} | {split['videos']:,} | {split['rows']:,} | {split['tracks']:,} |"
        for name, split in manifest["splits"].items()
    )
    videos = manifest["videos"]
    mean = (
        f"{counts['frames'] / counts['clips']:.1f} frames, {counts['people'] / counts['clips']:.2f} people and "
        f"{counts['tracks'] / counts['clips']:.0f} tracks a clip."
        if counts["clips"]
        else "No clip."
    )
    return f"""---
{yaml.safe_dump(front, sort_keys=False).strip()}
---

# AnthroTAP point tracks on people

Clips of people with tracks of points on their bodies, made by `anthrotap build`: {_how(config)}.
{_LABEL_ONLY if manifest["label_only"] else ""}
```python
from anthrotap_hf import decode_{"tracks" if manifest["label_only"] else "row"}, load_dataset

row = load_dataset("this folder or its name on the Hub", split="{next(iter(manifest["splits"]), "train")}")[0]
{"tracks = decode_tracks(row)" if manifest["label_only"] else "frames, tracks = decode_row(row)"}  # xy, visible, valid
```

## Statistics

| split | videos | clips | tracks |
|---|---|---|---|
{splits}

{mean}
Of all labels {100 * counts["seen"] / labels:.1f} % are seen, {100 * counts["hidden"] / labels:.1f} % hidden and
{100 * counts["unknown"] / labels:.1f} % unknown: not to be trusted, or out of the frame.

{videos["labelled"]:,} of {videos["given"]:,} videos gave clips; `{videos["file"]}` says of each what came of it.
No video has clips in two splits; of clips with the same frames one was kept.

## How it was made

Label version `{manifest["label_version"]}`; every setting is in `manifest.json`, with the versions of all packages
and the SHA-256 of each file. `anthrotap verify` checks every row.

## People

The clips show people. Their rights in their own pictures, and those of whoever filmed them, go with the videos.
"""


_LABEL_ONLY = """
The videos are not here: they may not be passed on. Who has them puts them back by `anthrotap attach`.
"""


def _how(config: dict[str, Any]) -> str:
    return (
        f"meshes of the body `{config['body']}` by `{config['mesh_source']}`, ray casting, and optical flow "
        f"(`{config['flow']['model']}`) as a check"
    )


def _size(rows: int) -> str:
    limits = [(1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M")]
    return next(
        (name for limit, name in limits if rows < limit), "1M<n<10M" if rows < 10_000_000 else "10M<n<100M"
    )
