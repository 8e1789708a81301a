"""What `anthrotap build` does: many videos in, one dataset out; after a stop or a crash, the same command resumes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from anthrotap_hf.cli.common import (
    Json,
    LabelRecipe,
    OnProgress,
    Set,
    check_writable,
    cli_errors,
    fail,
    first_lines,
    print_error,
    print_json,
    progress_bars,
)
from anthrotap_hf.cli.labeling_options import Fps, LabelWorkers, Points, Quality, ShortSide, Threads, labeling_changes
from anthrotap_hf.utils.devices import check_device
from anthrotap_hf.utils.errors import missing_extra

if TYPE_CHECKING:
    from anthrotap_builder.distributed.build import BuildReport

MAX_FAILURES = 20
# The option that raises each limit.
LIMIT_OPTIONS = {"seconds": "--time-limit", "memory": "--memory-limit"}


def build(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Videos, folders, lists (.txt), addresses (s3://...), Parquet files, Hub datasets.",
            metavar="INPUT...",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the dataset; what is done so far is kept in its .build.")],
    fps: Fps = None,
    short_side: ShortSide = None,
    points: Points = None,
    quality: Quality = None,
    recipe: LabelRecipe = "open",
    settings: Set = None,
    column: Annotated[str, typer.Option(help="Column of the videos in Parquet files.")] = "video",
    split: Annotated[str | None, typer.Option(help="Only this split of the datasets given.")] = None,
    executor: Annotated[
        str,
        typer.Option(help="Where it runs: local, slurm or ray.", autocompletion=lambda: ["local", "slurm", "ray"]),
    ] = "local",
    workers: LabelWorkers = None,
    threads: Threads = None,
    device: Annotated[
        str, typer.Option(help="Where networks run: cpu, cuda; cuda:0,cuda:1 gives workers one in turn.")
    ] = "cpu",
    cluster: Annotated[
        Path | None,
        typer.Option(help="YAML file with what Slurm or Ray are asked for: partition, gpus_per_task ..."),
    ] = None,
    validation: Annotated[float, typer.Option(min=0, max=1, help="Fraction of the videos in split validation.")] = 0.0,
    test: Annotated[float, typer.Option(min=0, max=1, help="Fraction of the videos in split test.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the shuffle and the splits.")] = 0,
    shard_size: Annotated[int, typer.Option(min=1, help="Largest shard, MB.")] = 256,
    label_only: Annotated[
        bool, typer.Option(help="Leave the videos out of the rows: `anthrotap attach` puts them back.")
    ] = False,
    time_limit: Annotated[float, typer.Option(min=0.01, help="Minutes that one video may take.")] = 60.0,
    memory_limit: Annotated[float, typer.Option(min=0.1, help="GB of memory that one video may take.")] = 8.0,
    download_limit: Annotated[float, typer.Option(min=0.001, help="GB that one address may hold.")] = 8.0,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Also read addresses of this machine and its network.")
    ] = False,
    retries: Annotated[int, typer.Option(min=0, help="More attempts at a video that failed.")] = 1,
    retry_failed: Annotated[bool, typer.Option(help="Try videos again that an earlier run gave up.")] = False,
    videos_per_rank: Annotated[
        int | None,
        typer.Option(min=1, help="Videos in a unit of work. Default: by workers, 64 at most."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Label many videos into one dataset, on this machine, Slurm or Ray.

    A video is labeled once for each recipe: the same command goes on where it stopped, labels only new videos when
    some were added, and lists those that failed. Each video has a time and a memory limit, and costs only itself.
    By default there are as many workers as cores, with one thread each; on clusters with cpus_per_task threads.

    Example: anthrotap build videos/ --out dataset --validation 0.05
    """
    try:
        from anthrotap_builder.config import labeling_config
        from anthrotap_builder.distributed.build import EXECUTORS, RunOptions, build_dataset, count_cores
        from anthrotap_builder.distributed.config import BuildConfig, OutputConfig, ResourceLimits
        from anthrotap_builder.distributed.executors import ClusterSettings
        from anthrotap_builder.distributed.video_sources import find_sources
        from anthrotap_hf.hub.cards import write_dataset_card
        from anthrotap_hf.utils.settings import read_recipe
    except ImportError as error:
        fail(str(missing_extra(error)))

    with cli_errors(
        out,
        interrupted="what is labeled is kept, and the same command goes on",
        hint="afterwards the same command goes on",
    ):
        if executor not in EXECUTORS:
            raise ValueError(f"--executor {executor}: there is {', '.join(EXECUTORS)}")
        if validation + test > 1:
            raise ValueError("--validation and --test together are more than all videos")
        if cluster is not None and executor == "local":
            raise ValueError("--cluster goes with --executor slurm or ray")
        if cluster is not None and not cluster.is_file():
            raise ValueError(f"--cluster {cluster}: no such file")
        cluster_settings = (
            ClusterSettings() if cluster is None else read_recipe(ClusterSettings, cluster.parent, cluster)
        )
        devices = tuple(device.split(","))
        if executor == "local":
            for name in devices:
                check_device(name)
        changes = labeling_changes(settings, fps=fps, short_side=short_side, points=points, quality=quality)
        config = labeling_config(recipe, changes)
        if config.meshes_from_file:
            raise ValueError("meshes from files go with `anthrotap label --meshes`, video by video")
        check_writable(out)
        with Console(stderr=True).status("looking for videos"):
            sources = find_sources(inputs, column, split, allow_private)
        threads = threads or (1 if executor == "local" else cluster_settings.cpus_per_task)
        build_config = BuildConfig(
            out=str(out.absolute()),
            labeling=config,
            version=config.version(),
            output=OutputConfig(validation, test, seed, shard_size << 20, label_only),
            limits=ResourceLimits(60 * time_limit, int(memory_limit * 2**30), int(download_limit * 2**30), retries),
            threads=threads,
            devices=devices,
            allow_private=allow_private,
            write_card=write_dataset_card,
        )
        options = RunOptions(
            executor=executor,
            workers=workers or max(1, min(count_cores() // threads, len(sources))),
            cluster=cluster_settings,
            videos_per_rank=videos_per_rank,
            retry_failed=retry_failed,
        )
        with progress_bars() as on_progress:
            report = build_dataset(build_config, sources, options, _report_to(on_progress))
    _print_report(report, out, {"validation": validation, "test": test}, as_json)
    if report.rows is not None and not any(report.rows.values()):
        raise typer.Exit(1)


def _print_report(report: BuildReport, out: Path, fractions: Mapping[str, float], as_json: bool) -> None:
    if as_json:
        print_json({"out": str(out), **asdict(report)})
        return
    for line in first_lines(report.failed, MAX_FAILURES, out / "videos.jsonl"):
        print_error(line)
    for line in first_lines(report.warnings, MAX_FAILURES, out / "videos.jsonl"):
        print_error(line, "yellow")
    if report.exceeded:
        print_error(f"{' and '.join(LIMIT_OPTIONS[limit] for limit in report.exceeded)} may allow more")
    if report.rows is None:
        print(f"submitted: Slurm jobs {', '.join(report.jobs)}; the same command, later, says how far they are")
        return
    rows = ", ".join(f"{count} {name}" for name, count in report.rows.items()) or "none"
    failed = f", {len(report.failed)} failed" if report.failed else ""
    again = "; --retry-failed tries the failed ones again" if report.failed else ""
    print(f"{report.videos} videos, {report.labeled} labeled now{failed}; clips: {rows}")
    print(f"people: {report.people} with labels, of {report.people_found} found")
    for reason, count in report.skipped.items():
        print(f"left out: {count} frames: {reason}")
    for reason, count in report.unlabeled.items():
        print(f"without labels: people in {count} clips: {reason}")
    for name, fraction in fractions.items():
        if fraction and not report.rows.get(name) and any(report.rows.values()):
            print_error(
                f"no clip is in the split {name}: videos are drawn at random, and {report.videos} are few for "
                f"--{name} {fraction:g}; a larger fraction or another --seed gives it some, and labels nothing again",
                "yellow",
            )
    print(f"dataset: {out} (card README.md, manifest.json, videos.jsonl){again}")
    if any(report.rows.values()):
        print(f"next: anthrotap verify {out}; anthrotap train tiny-finetune --data {out} --out trained")


def _report_to(on_progress: OnProgress) -> Callable[[str, int | None, int, int], None]:
    """Show a bar for each stage; for labeling the videos that are done, the rate and the failures."""
    begin = time.monotonic()
    before: int | None = None
    shown: dict[str, int | None] = {}

    def report(stage: str, total: int | None, done: int, failed: int) -> None:
        nonlocal before
        if stage not in shown:
            for other, count in shown.items():
                on_progress(other, count or 1, count or 1)
            shown[stage] = total
        if total is None:
            on_progress(stage, 0, None, "")
            return
        before = done if before is None else before
        rate = f"{3600 * (done - before) / (time.monotonic() - begin):.0f} videos/h"
        on_progress(stage, done, total, f"{rate} · {failed} failed" if failed else rate)

    return report
