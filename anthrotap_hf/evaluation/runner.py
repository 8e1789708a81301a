"""Evaluation on a benchmark: every tracker on every video; results are kept and reused."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from transformers import Pipeline

from anthrotap_hf.evaluation import long_term, metrics, redetection, trajectories
from anthrotap_hf.evaluation.long_term import mean_long_term, measure_long_term
from anthrotap_hf.evaluation.metrics import (
    RESOLUTION,
    count_occluded,
    mean_metrics,
    occlusion_recall,
    sample_queries,
    scored_labels,
    tapvid_metrics,
)
from anthrotap_hf.pipelines import leaving
from anthrotap_hf.pipelines import queries as asking
from anthrotap_hf.readers import READERS, open_reader
from anthrotap_hf.readers.base import DatasetError, Reader
from anthrotap_hf.tracks import TrackedClip
from anthrotap_hf.utils.atomic_files import write_json
from anthrotap_hf.utils.errors import AnthroTapError
from anthrotap_hf.utils.file_limits import FileLimitError, check_clip_size, read_json
from anthrotap_hf.utils.folder_lock import locked_folder

TAPVID_BENCHMARKS = ("tapvid-davis", "tapvid-rgb-stacking", "tapvid-kinetics", "robotap")


@dataclass(frozen=True)
class Benchmark:
    """Videos with ground truth, and how trackers are asked.

    Attributes:
        name: one of `TAPVID_BENCHMARKS`, or a layout of `READERS`.
        data: where its files are.
        mode: one of `QUERY_MODES`, where the queries are.
        videos: the videos with their ground truth.
        scored_at: (height, width) of the frames in whose pixels tracks are scored; None: each video's own.
        max_queries: largest number of queries of a video, evenly chosen of all; None: all.
        split: of shards, which split; None: all.
    """

    name: str
    data: Path
    mode: str
    videos: Reader
    scored_at: tuple[int, int] | None = RESOLUTION
    max_queries: int | None = None
    split: str | None = None

    @property
    def key(self) -> str:
        """How results of this benchmark are called: with what is not as usual."""
        parts = [self.name, *([] if self.split is None else [self.split]), self.mode]
        if self.scored_at != RESOLUTION:
            parts.append("own" if self.scored_at is None else "{}x{}".format(*self.scored_at))
        return "-".join(parts if self.max_queries is None else [*parts, str(self.max_queries)])


def open_benchmark(
    name: str,
    data: Path,
    mode: str = "first",
    scored_at: tuple[int, int] | None = RESOLUTION,
    max_queries: int | None = None,
    split: str | None = None,
) -> Benchmark:
    """Open a benchmark; the arguments are those of `Benchmark`.

    Raises:
        AnthroTapError: if there is no such benchmark, or its data cannot be used.
        ValueError: for an unknown mode.
    """
    metrics.check_mode(mode)
    reader = open_reader(layout_of(name), data, split=split)
    return Benchmark(name, data, mode, reader, scored_at, max_queries, split)


def layout_of(benchmark: str) -> str:
    """Return the layout of a benchmark's files; raise AnthroTapError, which lists them, for an unknown one."""
    layout = "tapvid" if benchmark in TAPVID_BENCHMARKS else benchmark
    if layout not in READERS:
        raise AnthroTapError(
            f"no benchmark {benchmark!r}", hint=f"choose from {', '.join([*TAPVID_BENCHMARKS, *READERS])}"
        )
    return layout


def resize_clip(clip: TrackedClip, height: int, width: int) -> TrackedClip:
    """Return a clip with all its frames decoded and brought to a size, and its tracks in float64.

    Frames are resized one by one as TAP-Vid does it: by Pillow's Lanczos filter, which takes all pixels into account.

    Raises:
        BadClipError, VideoError: if the frames cannot be decoded.
    """
    try:
        check_clip_size(clip.tracks.num_frames)
    except FileLimitError as error:
        raise DatasetError(error.reason, path=clip.clip_id) from error
    frames = np.empty((clip.tracks.num_frames, height, width, 3), np.uint8)
    count = 0
    for frame in clip.iter_frames(range(len(frames))):
        if frame.shape[:2] != (height, width):
            frame = np.asarray(Image.fromarray(frame).resize((width, height), Image.Resampling.LANCZOS))
        frames[count] = frame
        count += 1
    if count != len(frames):
        raise DatasetError(f"the video has {count} frames, its tracks {len(frames)}", path=clip.clip_id)
    exact = replace(clip.tracks, xy=clip.tracks.xy.astype(np.float64))
    return replace(clip, video=frames, tracks=exact.resized(height, width))


@dataclass(frozen=True)
class EvaluatedModel:
    """A tracker to evaluate.

    Attributes:
        label: its name in tables.
        tracker: the pipeline, or what is called and answers as it does.
        key: its kind and a hash of its weights, its configuration, its resolution and its code.
        resolution: (height, width) that it sees videos at.
    """

    label: str
    tracker: Callable[..., dict[str, np.ndarray]]
    key: str
    resolution: tuple[int, int] = RESOLUTION

    @classmethod
    def of(cls, label: str, tracker: Pipeline, resolution: tuple[int, int] | None = None) -> EvaluatedModel:
        """Return a tracker to be evaluated at a resolution: by default its own, that of its image processor.

        A tracker of videos of any size sees them at 256x256.
        """
        if resolution is None:
            size = tracker.image_processor.size or {}
            resolution = (size["height"], size["width"]) if "height" in size else RESOLUTION
        key = f"{tracker.model.config.model_type}-{_tracker_key(tracker, resolution)}"
        return cls(label, tracker, key, resolution)


def _tracker_key(tracker: Pipeline, resolution: tuple[int, int]) -> str:
    """Hash all that results follow from besides the video: weights, configuration, resolution, and the code."""
    digest = hashlib.sha256(f"{resolution}".encode())
    config = tracker.model.config.to_dict()
    # These say nothing of what it computes.
    for name in ("_name_or_path", "transformers_version"):
        config.pop(name, None)
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(tracker.model.state_dict().items()):
        content = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype}".encode() + content.tobytes())
    classes = (type(tracker.model), type(tracker), type(tracker.image_processor))
    scoring = (metrics, long_term, redetection, trajectories, sys.modules[__name__])
    for code in (*classes, leaving, asking, *scoring):
        digest.update(Path(inspect.getfile(code)).read_bytes())
    return digest.hexdigest()[:12]


class ResultCache:
    """Results by video, in a JSON file that is replaced as a whole after each.

    Raises:
        DatasetError: if the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._videos: dict[str, dict[str, Any]] = {}
        if path.exists():
            try:
                self._videos = read_json(path, limit=None)["videos"]
            except (ValueError, KeyError, TypeError) as error:
                raise DatasetError(f"damaged ({error})", path=path, hint="delete it, and it is made again") from error

    def find(self, name: str, digest: str) -> dict[str, Any] | None:
        """Return the results of a video, unless they are of other frames or labels."""
        known = self._videos.get(name)
        return known if known is not None and known["digest"] == digest else None

    def keep(self, name: str, results: dict[str, Any]) -> None:
        self._videos[name] = results
        write_json(self.path, {"videos": self._videos})


def evaluate(
    models: Sequence[EvaluatedModel],
    benchmark: Benchmark,
    folder: Path,
    limit: int | None = None,
    on_step: Callable[[str, str | None], object] = lambda video, label: None,
) -> dict[str, Any]:
    """Evaluate trackers on a benchmark.

    Args:
        models: the trackers; all of them see each video before the next is read.
        benchmark: as `open_benchmark` gives it.
        folder: keeps the results of each video in `videos/`; what is there is not computed again.
        limit: largest number of videos.
        on_step: called with a video and the model that starts on it, and with (video, None) after the last model.

    Returns:
        A dict that JSON can hold: `benchmark`, `key` (its name in files), `data`, `mode`, `resolution` (of the pixels
        that are scored; None: each video's own), `videos` (how many are in the means), `skipped` (reasons by video) and
        `models`: for each its `model` (label), `key`, `resolution` (height and width that it saw), `mean` of the
        metrics, `long_term` (as `mean_long_term` has it; None in mode "strided"),
        `occlusion_recall` (of all occluded labels, the fraction predicted so; None where there are none) and `videos`:
        by name the metrics, `occluded` labels and `occluded_found`, `queries`, `frames`, `seconds` of tracking.

    Raises:
        DatasetError, VideoError: if a video cannot be used, or nothing can be scored in any.
        FolderInUseError: if another run is at work in the folder.
        ValueError: if two models have one label.
    """
    with locked_folder(folder, "videos"):
        return _evaluate(models, benchmark, folder, limit, on_step)


def _evaluate(
    models: Sequence[EvaluatedModel],
    benchmark: Benchmark,
    folder: Path,
    limit: int | None,
    on_step: Callable[[str, str | None], object],
) -> dict[str, Any]:
    labels = [model.label for model in models]
    if len(set(labels)) < len(labels):
        raise ValueError(f"a model is named twice: {', '.join(labels)}")
    mode = benchmark.mode
    caches = [ResultCache(folder / "videos" / f"{benchmark.key}-{each.key}.json") for each in models]
    results: list[dict[str, dict[str, Any]]] = [{} for _ in models]
    skipped: dict[str, str] = {}
    for video in itertools.islice(benchmark.videos, limit):
        name, original = video.clip_id, video
        own = original.tracks.height, original.tracks.width
        video = resize_clip(original, *(benchmark.scored_at or own))
        tracks = video.tracks
        queries, index = sample_queries(tracks.xy, tracks.visible, mode)
        if benchmark.max_queries is not None and len(queries) > benchmark.max_queries:
            chosen = np.linspace(0, len(queries) - 1, benchmark.max_queries).astype(int)
            queries, index = queries[chosen], index[chosen]
        scored = scored_labels(queries, tracks.num_frames, mode, tracks.valid[index])
        if not (scored & tracks.visible[index]).any():
            skipped[name] = "no point is visible in a frame that is scored"
        else:
            digest = _digest(video)
            for model, cache, of_model in zip(models, caches, results, strict=True):
                on_step(name, model.label)
                known = cache.find(name, digest)
                if known is None:
                    known = {**_evaluate_video(model, original, video, queries, index, mode), "digest": digest}
                    cache.keep(name, known)
                of_model[name] = known
        on_step(name, None)
    if not results[0]:
        reason = "no point is visible in a frame that is scored, in any video" if skipped else "it has no video"
        raise DatasetError(reason, path=benchmark.data)
    return {
        "benchmark": benchmark.name,
        "key": benchmark.key,
        "data": str(benchmark.data),
        "mode": mode,
        "resolution": benchmark.scored_at and list(benchmark.scored_at),
        "videos": len(results[0]),
        "skipped": skipped,
        "models": [
            {
                "model": model.label,
                "key": model.key,
                "resolution": list(model.resolution),
                "mean": mean_metrics([*of_model.values()]),
                "long_term": None if mode == "strided" else mean_long_term([*of_model.values()]),
                "occlusion_recall": occlusion_recall([*of_model.values()]),
                "videos": of_model,
            }
            for model, of_model in zip(models, results, strict=True)
        ],
    }


def _evaluate_video(
    model: EvaluatedModel,
    original: TrackedClip,
    video: TrackedClip,
    queries: np.ndarray,
    index: np.ndarray,
    mode: str,
) -> dict[str, Any]:
    """Measure one tracker on one video: `queries` [M, 3] (t, x, y) of the tracks `index` [M].

    It sees the original video at its own resolution, and is scored in the pixels of `video`. Annotators leave queries a
    hair out of frame. Those are moved to its border for the tracker, and counted.
    """
    truth = video.tracks.select(index)
    asked = np.clip(queries, 0, [np.inf, truth.width, truth.height])
    height, width = model.resolution
    same_size = model.resolution == (truth.height, truth.width)
    frames = (video if same_size else resize_clip(original, height, width)).frames
    scale = np.array([width / truth.width, height / truth.height])
    # A border of the frame stays one.
    points = np.minimum(asked * [1, *scale], [np.inf, width, height])
    start = time.perf_counter()
    found = model.tracker(frames, points=points, resolution=model.resolution, progress=False)
    seconds = time.perf_counter() - start
    tracks = found["tracks"] / scale
    scores = tapvid_metrics(queries, truth.xy, truth.visible, tracks, found["visible"], mode, truth.valid)
    forward = {**found, "tracks": tracks}
    later = {} if mode == "strided" else measure_long_term(video, index, queries[:, 0].astype(int), forward)
    occluded, recalled = count_occluded(queries, truth.visible, found["visible"], mode, truth.valid)
    return {
        **scores,
        **later,
        "occluded": occluded,
        "occluded_found": recalled,
        "queries": len(queries),
        "queries_moved_into_frame": int((asked != queries).any(axis=1).sum()),
        "frames": truth.num_frames,
        "seconds": round(seconds, 3),
    }


def _digest(video: TrackedClip) -> str:
    digest = hashlib.sha256()
    for array in (video.frames, video.tracks.xy, video.tracks.visible, video.tracks.valid):
        digest.update(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
