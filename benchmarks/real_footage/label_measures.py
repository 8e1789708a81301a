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
from benchmarks.real_footage.missing import measure_missing
from benchmarks.real_footage.occluded import measure_occluded
from benchmarks.real_footage.person_masks import measure_masked_person, unlabeled_masks
from benchmarks.real_footage.visible_pairs import measure_visible_pairs

MEASURES: tuple[Callable[[FootageClip, Chains], Measured], ...] = (
    lambda clip, _: measure_missing(clip),
    lambda clip, _: measure_masked_person(clip),
    measure_visible_pairs,
    measure_occluded,
)


def measure_footage(
    footage: Sequence[Footage],
    config: LabelingConfig,
    keep: Path,
    labels: Path | None = None,
    threads: int = 2,
    on_step: Callable[[str], object] | None = None,
) -> tuple[dict[str, Any], dict[str, list[Example]]]:
    """Label videos, or read their labels, and measure them.

    Args:
        footage: the videos.
        config: how to label.
        keep: folder where labels are kept (`label_footage`).
        labels: a folder of shards to measure instead; videos that it has no row of are left out.
        threads: frames processed at once.
        on_step: called with what is being done.

    Returns:
        A dict that JSON can hold: by video its `counts` and the `people` of each clip, `all` with the counts of all
        videos together, and `without_labels`, videos that `labels` has no row of; and examples by kind.

    Raises:
        VideoError, AssetError, ShardError, ValueError: for what cannot be read.
    """
    opencv_threads.use_one()
    say = on_step or (lambda _: None)
    clips: dict[str, Any] = {}
    absent: list[str] = []
    examples: dict[str, list[Example]] = {}
    for each in footage:
        say(f"labels of {each.name}")
        video = label_footage(each, config, keep, threads) if labels is None else read_labels(each, labels)
        if video is None:
            absent.append(each.name)
            continue
        say(f"measuring {each.name}")
        clips[each.name], found = _measure_video(video)
        for kind, some in found.items():
            examples.setdefault(kind, []).extend(some)
    total = summed(own["counts"] for own in clips.values())
    return {"clips": clips, "all": {"counts": total}, "without_labels": absent}, examples


def _measure_video(video: LabeledVideo) -> tuple[dict[str, Any], dict[str, list[Example]]]:
    counts, people = [], []
    examples: dict[str, list[Example]] = {}
    for clip in iter_footage_clips(video):
        chains = Chains(clip.grays)
        for measure in MEASURES:
            measured = measure(clip, chains)
            counts.append(measured.counts)
            people += [{"clip": clip.name, **each} for each in measured.people]
            for kind, some in measured.examples.items():
                examples.setdefault(kind, []).extend(some)
    if video.people_found is not None:
        counts.append({"people_found": sum(video.people_found)})
    if video.footage.masks is not None:
        masks = FootageMasks(video.footage.masks)
        labeled = [number for clip in video.clips for number in clip.info["source_frames"]]
        counts.append(unlabeled_masks(masks.full(np.setdiff1d(np.arange(len(masks)), labeled))))
    counts.append({"frames_skipped": sum(each.num_frames for each in video.skipped)})
    return {"counts": summed(counts), "people": people, "skipped": [str(each) for each in video.skipped]}, examples
