"""All measures of labels on real videos that need no ground truth, clip by clip and of all labels together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anthrotap_builder.config import LabelingConfig
from anthrotap_hf.utils import opencv_threads
from benchmarks.real_footage.chains import Chains
from benchmarks.real_footage.examples import Example, Measured, summed
from benchmarks.real_footage.footage import (
    Footage,
    FootageClip,
    FootageMasks,
    LabeledVideo,
    iter_footage_clips,
    label_footage,
    read_labels,
)
from benchmarks.real_footage.gaps import measure_gaps
from benchmarks.real_footage.ghosts import measure_ghosts
from benchmarks.real_footage.label_tables import percentages
from benchmarks.real_footage.missing import measure_missing
from benchmarks.real_footage.occluded import measure_occluded
from benchmarks.real_footage.person_masks import measure_masked_person, unlabeled_masks
from benchmarks.real_footage.sheets import draw_pair, write_sheet
from benchmarks.real_footage.visible_pairs import measure_visible_pairs

MEASURES: tuple[Callable[[FootageClip, Chains], Measured], ...] = (
    lambda clip, _: measure_missing(clip),
    lambda clip, _: measure_masked_person(clip),
    measure_visible_pairs,
    measure_occluded,
    measure_gaps,
    measure_ghosts,
)
# Pairs of labels of a clip, and of a video, that are drawn of each kind.
DRAWN_CLIP = 24
DRAWN_VIDEO = 72


def measure_footage(
    footage: Sequence[Footage],
    config: LabelingConfig,
    out: Path,
    labels: Path | None = None,
    threads: int = 2,
    on_step: Callable[[str], object] | None = None,
) -> dict[str, Any]:
    """Label videos, or read their labels, and measure them.

    Args:
        footage: the videos.
        config: how to label.
        out: folder where labels are kept (`label_footage`), and for sheets of pairs of labels: `sheets/VIDEO-KIND.png`.
        labels: a folder of shards to measure instead; videos that it has no row of are left out.
        threads: frames processed at once.
        on_step: called with what is being done.

    Returns:
        A dict that JSON can hold: by video, in `clips`, its `label_version`, `counts`, `percent` (see `percentages`),
        counts of each person (`people`) and why frames were `skipped`; in `all`, `counts` and `percent` of all labels
        together; and `without_labels`, the videos that `labels` has no row of.

    Raises:
        VideoError, AssetError, ShardError, ValueError: for what cannot be read.
    """
    opencv_threads.use_one()
    say = on_step or (lambda _: None)
    clips: dict[str, Any] = {}
    absent: list[str] = []
    for each in footage:
        say(f"labels of {each.name}")
        video = label_footage(each, config, out / "labels", threads) if labels is None else read_labels(each, labels)
        if video is None:
            absent.append(each.name)
            continue
        say(f"measuring {each.name}")
        clips[each.name] = _measure_video(video, out / "sheets")
    if not clips:
        raise ValueError(f"{labels}: has no labels of {', '.join(absent)}")
    total = summed(own["counts"] for own in clips.values())
    return {"clips": clips, "all": {"counts": total, "percent": percentages(total)}, "without_labels": absent}


def _measure_video(video: LabeledVideo, sheets: Path) -> dict[str, Any]:
    counts: list[dict[str, int]] = []
    people: list[dict[str, Any]] = []
    pictures: dict[str, list[np.ndarray]] = {}
    for clip in iter_footage_clips(video):
        chains = Chains(clip.grays)
        for measure in MEASURES:
            measured = measure(clip, chains)
            counts.append(measured.counts)
            people += [{"clip": clip.name, **each} for each in measured.people]
            for kind, examples in measured.examples.items():
                drawn = [draw_pair(clip, example) for example in worst(examples, DRAWN_CLIP)]
                pictures.setdefault(kind, []).extend(drawn)
    for kind, drawn in pictures.items():
        path = sheets / f"{video.footage.name}-{kind}.png"
        path.unlink(missing_ok=True)  # of an earlier run
        if drawn:
            write_sheet(drawn[:: -(-len(drawn) // DRAWN_VIDEO)], path)
    counts.append({"frames_skipped": sum(each.num_frames for each in video.skipped)})
    if video.people_found is not None:
        counts.append({"people_found": sum(video.people_found)})
    if video.footage.masks is not None:
        masks = FootageMasks(video.footage.masks)
        labeled = [number for clip in video.clips for number in clip.info["source_frames"]]
        counts.append(unlabeled_masks(masks.full(np.setdiff1d(np.arange(len(masks)), labeled))))
    total = summed(counts)
    return {
        "label_version": ", ".join(sorted({clip.info["label_version"] for clip in video.clips})),
        "counts": total,
        "percent": percentages(total),
        "people": people,
        "skipped": [str(each) for each in video.skipped],
    }


def worst(examples: Sequence[Example], count: int) -> list[Example]:
    """The worst examples, the worst first; of those that are equally bad, some of each part of the clip."""
    spread = [examples[i] for i in np.random.default_rng(0).permutation(len(examples))]
    return sorted(spread, key=lambda example: -example.error)[:count]
