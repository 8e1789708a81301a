"""The run over a benchmark: every tracker on every video, at the benchmark's 256x256; what is done is kept."""

from __future__ import annotations

import hashlib
import inspect
import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Pipeline

from anthrotap_hf.evaluation import metrics
from anthrotap_hf.evaluation.metrics import (
    hidden_labels_found,
    hidden_recall,
    mean_metrics,
    sample_queries,
    scored_labels,
    tapvid_metrics,
)
from anthrotap_hf.readers import benchmarks as readers
from anthrotap_hf.readers.benchmarks import BenchmarkError, EvaluationVideo
from anthrotap_hf.utils.atomic_files import atomic_write

RESOLUTION = (256, 256)  # height and width that TAP-Vid is scored at


@dataclass(frozen=True)
class Benchmark:
    """How the videos of a kind of benchmark are read, and counted where that is cheap (None: it is not)."""

    read: Callable[[Path, tuple[int, int]], Iterator[EvaluationVideo]]
    count: Callable[[Path], int | None]


_TAPVID = Benchmark(readers.read_tapvid, readers.count_tapvid)
BENCHMARKS = {
    "tapvid-davis": _TAPVID,
    "tapvid-rgb-stacking": _TAPVID,
    "tapvid-kinetics": _TAPVID,
    "robotap": _TAPVID,
    "shards": Benchmark(readers.read_shards, readers.count_shards),
    "points": Benchmark(readers.read_points, lambda path: len(readers.point_files(path))),
}


def find_benchmark(name: str) -> Benchmark:
    """Raises ValueError, which lists them, if there is none of this name."""
    if name not in BENCHMARKS:
        raise ValueError(f"no benchmark {name!r}: choose from {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name]


@dataclass(frozen=True)
class EvaluatedModel:
    """A tracker that is judged.

    Attributes:
        label: what it is called in tables.
        tracker: the pipeline, or what is called and answers as it does.
        key: its kind and a hash of its weights, its configuration and its code.
    """

    label: str
    tracker: Callable[..., dict[str, np.ndarray]]
    key: str

    @classmethod
    def of(cls, label: str, tracker: Pipeline) -> EvaluatedModel:
        return cls(label, tracker, f"{tracker.model.config.model_type}-{fingerprint(tracker)}")


def fingerprint(tracker: Pipeline) -> str:
    """A hash of all that results follow from, besides the video: weights, configuration, and the code of model,
    pipeline and metrics."""
    digest = hashlib.sha256()
    config = tracker.model.config.to_dict()
    for name in ("_name_or_path", "transformers_version"):  # say nothing of what it computes
        config.pop(name, None)
    digest.update(json.dumps(config, sort_keys=True, default=str).encode())
    for name, tensor in sorted(tracker.model.state_dict().items()):
        content = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        digest.update(f"{name} {list(tensor.shape)} {tensor.dtype}".encode() + content.tobytes())
    for code in (
        type(tracker.model),
        type(tracker),
        type(tracker.image_processor),
        metrics,
        sys.modules[__name__],
    ):
        digest.update(Path(inspect.getfile(code)).read_bytes())
    return digest.hexdigest()[:12]


class KeptResults:
    """Figures by video in a JSON file that is written whole after each; those of other frames or labels don't count.

    Raises:
        BenchmarkError: if the file is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._videos: dict[str, dict[str, Any]] = {}
        if path.exists():
            try:
                self._videos = json.loads(path.read_text())["videos"]
            except (ValueError, KeyError, TypeError) as error:
                raise BenchmarkError(f"{path}: damaged ({error}); delete it, and it is made again") from error

    def find(self, name: str, digest: str) -> dict[str, Any] | None:
        known = self._videos.get(name)
        return known if known is not None and known["digest"] == digest else None

    def keep(self, name: str, figures: dict[str, Any]) -> None:
        self._videos[name] = figures
        with atomic_write(self.path) as tmp_path:
            tmp_path.write_text(json.dumps({"videos": self._videos}, indent=1))


def evaluate(
    entrants: Sequence[EvaluatedModel],
    benchmark: str,
    data: Path,
    mode: str,
    folder: Path,
    limit: int | None = None,
    on_step: Callable[[str, str | None], object] = lambda video, label: None,
) -> dict[str, Any]:
    """Judges trackers on a benchmark.

    Args:
        entrants: the trackers, which all see each video before the next is read.
        benchmark: a name of `BENCHMARKS`.
        data: where its files are.
        mode: "first" or "strided".
        folder: keeps the figures of each video in `videos/`: what is there is not done again.
        limit: only so many videos, the first.
        on_step: is told a video and the tracker that begins with it, and (video, None) when all are done with it.

    Returns:
        A dict that JSON can hold: `benchmark`, `data`, `mode`, `resolution`, `videos` (how many are in the means),
        `left_out` (reasons by video) and `models`: for each its `model` (label), `key`, `mean` of the metrics,
        `hidden_recall` (of all hidden labels, how many were called so; None where none is) and `videos`: by name the
        metrics, `hidden` labels and `hidden_found`, `queries`, `frames`, `seconds` of tracking.

    Raises:
        BenchmarkError: for data that can't be used, or in which nothing can be scored.
        ValueError: for an unknown benchmark or mode, or two trackers of one label.
    """
    metrics.check_mode(mode)
    labels = [entrant.label for entrant in entrants]
    if len(set(labels)) < len(labels):
        raise ValueError(f"a model is named twice: {', '.join(labels)}")
    kept = [KeptResults(folder / "videos" / f"{benchmark}-{mode}-{each.key}.json") for each in entrants]
    found: list[dict[str, dict[str, Any]]] = [{} for _ in entrants]
    left_out: dict[str, str] = {}
    for video in itertools.islice(find_benchmark(benchmark).read(data, RESOLUTION), limit):
        queries, index = sample_queries(video.tracks, video.visible, mode)
        scored = scored_labels(queries, len(video.frames), mode, video.valid[index])
        if not (scored & video.visible[index]).any():
            left_out[video.name] = "no point is seen in a frame that is scored"
        else:
            digest = _digest(video)
            for entrant, results, figures in zip(entrants, kept, found, strict=True):
                on_step(video.name, entrant.label)
                known = results.find(video.name, digest)
                if known is None:
                    known = {**_judge(entrant.tracker, video, queries, index, mode), "digest": digest}
                    results.keep(video.name, known)
                figures[video.name] = known
        on_step(video.name, None)
    if not found[0]:
        reason = (
            "in none of its videos is a point seen in a frame that is scored"
            if left_out
            else "it has no video"
        )
        raise BenchmarkError(f"{data}: {reason}; there is nothing to judge by")
    return {
        "benchmark": benchmark,
        "data": str(data),
        "mode": mode,
        "resolution": list(RESOLUTION),
        "videos": len(found[0]),
        "left_out": left_out,
        "models": [
            {
                "model": entrant.label,
                "key": entrant.key,
                "mean": mean_metrics([*figures.values()]),
                "hidden_recall": hidden_recall([*figures.values()]),
                "videos": figures,
            }
            for entrant, figures in zip(entrants, found, strict=True)
        ],
    }


def _judge(
    tracker: Callable[..., dict[str, np.ndarray]],
    video: EvaluationVideo,
    queries: np.ndarray,
    index: np.ndarray,
    mode: str,
) -> dict[str, Any]:
    """The metrics of one tracker on one video. Queries a hair out of frame, as annotators leave, are moved to its
    border for the tracker; their number is told."""
    height, width = video.frames.shape[1:3]
    asked = np.clip(queries, 0, [np.inf, width, height])
    start = time.perf_counter()
    answer = tracker(video.frames, points=asked, resolution=RESOLUTION, progress=False)
    seconds = time.perf_counter() - start
    figures = tapvid_metrics(
        queries,
        video.tracks[index],
        video.visible[index],
        answer["tracks"],
        answer["visible"],
        mode,
        video.valid[index],
    )
    hidden, found = hidden_labels_found(
        queries, video.visible[index], answer["visible"], mode, video.valid[index]
    )
    return {
        **figures,
        "hidden": hidden,
        "hidden_found": found,
        "queries": len(queries),
        "queries_moved_into_frame": int((asked != queries).any(axis=1).sum()),
        "frames": len(video.frames),
        "seconds": round(seconds, 3),
    }


def _digest(video: EvaluationVideo) -> str:
    digest = hashlib.sha256()
    for array in (video.frames, video.tracks, video.visible, video.valid):
        digest.update(f"{array.dtype} {array.shape}".encode() + np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]
