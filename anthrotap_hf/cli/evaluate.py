"""`anthrotap evaluate`: evaluate trackers on a benchmark, side by side."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from anthrotap_hf.cli import common
from anthrotap_hf.utils.errors import AnthroTapError

if TYPE_CHECKING:
    from anthrotap_hf.evaluation.runner import Benchmark, EvaluatedModel

MANY_VIDEOS = 60  # more are listed in the text file only


class Mode(StrEnum):
    first = "first"
    strided = "strided"
    start = "start"


def evaluate(
    benchmark: Annotated[
        str,
        typer.Option(
            help="tapvid-davis, tapvid-rgb-stacking, tapvid-kinetics, robotap: a pickle, or a folder of them; "
            "egopoints, point-odyssey, dynamic-replica, kubric: a folder of sequences; shards: a folder of `anthrotap "
            "label`; points: a .csv or .json of track,t,x,y,visible beside its video, tapvid: a .npz of `export`, "
            "tracks: a .tracks.npz or .json of `track`, or a .pt, .txt or .py of `export`, beside its video; or a "
            "folder of such."
        ),
    ],
    data: Annotated[Path, typer.Option(help="The benchmark's file or folder.")],
    out: common.Out,
    models: common.Models = None,
    mode: Annotated[
        Mode,
        typer.Option(
            help="Where queries are: each point's first frame, every fifth frame, or the first frame of the video."
        ),
    ] = Mode.first,
    resolution: Annotated[
        str | None, typer.Option(help="HEIGHTxWIDTH that models see videos at. Default: each model's own.")
    ] = None,
    score_at: Annotated[
        str,
        typer.Option(help="HEIGHTxWIDTH of the frames in whose pixels errors count; own: each video's own size."),
    ] = "256x256",
    max_queries: Annotated[
        int | None, typer.Option(min=1, help="Largest number of queries of a video, evenly chosen. Default: all.")
    ] = None,
    split: common.Split = None,
    limit: common.Limit = None,
    device: common.Device = "cpu",
    as_json: common.Json = False,
) -> None:
    """Evaluate trackers by TAP-Vid's metrics and those of later benchmarks, or on your own data.

    Each model sees videos at its own resolution; what it finds is scored at 256x256. Writes figures, tables and a plot,
    and a table in Markdown beside what others published. The results of each video are kept in the folder: the same
    command resumes, and another model does not run the others again.

    Example: anthrotap evaluate --benchmark tapvid-davis --data tapvid_davis.pkl --out evaluation --model flowchain
    """
    from anthrotap_hf.evaluation.published import write_comparison
    from anthrotap_hf.evaluation.report import plot_report, write_text
    from anthrotap_hf.evaluation.runner import open_benchmark

    interrupted = f"the results so far are kept in {out / 'videos'}: the same command resumes"
    with common.cli_errors(out, interrupted):
        common.check_writable(out)
        size = None if resolution is None else common.read_resolution(resolution)
        scored_at = None if score_at == "own" else common.read_resolution(score_at, "score_at")
        opened = open_benchmark(benchmark, data, mode, scored_at, max_queries, split)

        def load() -> list[EvaluatedModel]:
            return _load_models(models or [], device, size)

        report = _evaluate(opened, out, load, limit)
        files = [out / f"{opened.key}{suffix}" for suffix in (".json", ".txt", ".png")]
        comparison = out / f"{opened.key}.md"
        write_comparison(report, comparison)
        written = [*common.write_report(report, files, write_text, plot_report), comparison]
    if as_json:
        common.print_json(report)
        return
    _print_tables(report, files[1])
    print("\n".join(map(str, written)))


def _evaluate(
    opened: Benchmark, out: Path, load: Callable[[], list[EvaluatedModel]], limit: int | None
) -> dict[str, Any]:
    """Evaluate with a progress bar. What can be checked is checked before a model is loaded."""
    from anthrotap_hf.evaluation.runner import evaluate as run

    count = len(opened.videos)
    total = min(count, limit or count)
    trackers = load()
    done = 0
    with common.progress_bars() as on_progress:

        def on_step(video: str, model: str | None) -> None:
            nonlocal done
            done += model is None
            on_progress("videos", done, total, None if model is None else f"{video}: {Path(model).name}")

        return run(trackers, opened, out, limit, on_step)


def _load_models(models: list[str], device: str, resolution: tuple[int, int] | None) -> list[EvaluatedModel]:
    from anthrotap_hf.evaluation.runner import EvaluatedModel
    from anthrotap_hf.pipelines import load_tracker

    if len(set(models)) < len(models):
        raise AnthroTapError(f"one is named twice: {', '.join(models)}", argument="model")
    if not models:
        common.print_error("no --model: the bundled locotrack-tiny is evaluated", "yellow")
        models = ["locotrack-tiny"]
    return [EvaluatedModel.of(model, load_tracker(model, device), resolution) for model in models]


def _print_tables(report: dict[str, Any], text: Path) -> None:
    from anthrotap_hf.evaluation.report import means_table, report_tables

    console = Console()
    if report["videos"] + len(report["skipped"]) <= MANY_VIDEOS:
        console.print(report_tables(report))
    else:
        skipped = f", {len(report['skipped'])} skipped" if report["skipped"] else ""
        console.print(means_table(report))
        print(f"{report['videos']} videos{skipped}, each of them: {text}")
