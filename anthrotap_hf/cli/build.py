"""What `anthrotap build` does: many videos in, one dataset out; stopped or broken, the same command goes on."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)

from anthrotap_hf.cli.common import (
    LabelRecipe,
    check_writable,
    cli_errors,
    fail,
    print_error,
    print_json,
)
from anthrotap_hf.utils.devices import check_device
from anthrotap_hf.utils.errors import missing_extra

if TYPE_CHECKING:
    from anthrotap_builder.distributed.build import BuildReport
    from anthrotap_builder.distributed.state import Plan

FAILURES_SHOWN = 20


def build(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Videos, folders, lists (.txt), addresses (s3://...), Parquet files, Hub datasets.",
            metavar="INPUT...",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder of the dataset; what is done so far is kept in its .build.")
    ],
    recipe: LabelRecipe = "open",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting of the recipe: clips.fps=10. May be repeated."),
    ] = None,
    column: Annotated[str, typer.Option(help="Column of the videos in Parquet files.")] = "video",
    split: Annotated[str | None, typer.Option(help="Only this split of the datasets given.")] = None,
    executor: Annotated[
        str,
        typer.Option(
            help="Where it runs: local, slurm or ray.", autocompletion=lambda: ["local", "slurm", "ray"]
        ),
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1, help="Videos labeled at once, each by its own process. Default: as many as cores."
        ),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of each worker. Default: 1; cpus_per_task on clusters.")
    ] = None,
    device: Annotated[
        str, typer.Option(help="Where networks run: cpu, cuda; cuda:0,cuda:1 gives workers one in turn.")
    ] = "cpu",
    cluster: Annotated[
        Path | None,
        typer.Option(help="YAML file with what Slurm or Ray are asked for: partition, gpus_per_task ..."),
    ] = None,
    validation: Annotated[
        float, typer.Option(min=0, max=1, help="Share of videos in split validation.")
    ] = 0.0,
    test: Annotated[float, typer.Option(min=0, max=1, help="Share of videos in split test.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Of the shuffle and the splits.")] = 0,
    shard_size: Annotated[int, typer.Option(min=1, help="Largest shard, MB.")] = 256,
    label_only: Annotated[
        bool, typer.Option(help="Leave the videos out of the rows: `anthrotap attach` puts them back.")
    ] = False,
    time_limit: Annotated[float, typer.Option(min=0.01, help="Minutes that one video may take.")] = 60.0,
    memory_limit: Annotated[float, typer.Option(min=0.1, help="GB of memory that one video may take.")] = 8.0,
    download_limit: Annotated[float, typer.Option(min=0.001, help="GB that one address may hold.")] = 8.0,
    retries: Annotated[int, typer.Option(min=0, help="More attempts at a video that failed.")] = 1,
    retry_failed: Annotated[bool, typer.Option(help="Try videos again that an earlier run gave up.")] = False,
    videos_per_rank: Annotated[
        int | None, typer.Option(min=1, help="How the work is cut. Default: by workers, 64 at most.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Label many videos into one dataset, on this machine, Slurm or Ray.

    A video is labeled once for each recipe: the same command goes on where it stopped, labels only new videos when
    some were added, and lists those that failed. Each video has a time and a memory limit, and costs only itself.

    Example: anthrotap build videos/ --out dataset --validation 0.05
    """
    try:
        from anthrotap_builder.config import labeling_config
        from anthrotap_builder.distributed.build import EXECUTORS, build_dataset, cores
        from anthrotap_builder.distributed.config import Build, Finish, Limits
        from anthrotap_builder.distributed.executors import ClusterSettings
        from anthrotap_builder.distributed.state import BuildError
        from anthrotap_builder.distributed.video_sources import find_sources
        from anthrotap_hf.utils.settings import parse_settings, read_recipe, recipe_named
    except ImportError as error:
        fail(str(missing_extra(error)))

    errors = Console(stderr=True)
    with cli_errors(
        out,
        interrupted="what is labeled is kept, and the same command goes on",
        also=(BuildError,),
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
        asked = (
            ClusterSettings() if cluster is None else read_recipe(ClusterSettings, cluster.parent, cluster)
        )
        devices = tuple(device.split(","))
        if executor == "local":
            for name in devices:
                check_device(name)
        config = labeling_config(recipe_named(recipe), parse_settings(settings or [], "clips.fps=10"))
        if config.mesh_source == "file":
            raise ValueError("meshes from files go with `anthrotap label --meshes`, video by video")
        check_writable(out)
        with errors.status("looking for videos"):
            sources = find_sources(inputs, column, split)
        own = threads or (1 if executor == "local" else asked.cpus_per_task)
        workers = workers or max(1, min(cores() // own, len(sources)))
        job = Build(
            out=str(out.absolute()),
            config=config,
            version=config.version(),
            finish=Finish(validation, test, seed, shard_size << 20, label_only),
            limits=Limits(60 * time_limit, int(memory_limit * 2**30), int(download_limit * 2**30), retries),
            threads=own,
            devices=devices,
        )
        with _stopped_by_signals(), _shown(errors) as watch:
            report = build_dataset(
                job,
                sources,
                executor,
                workers,
                asked,
                videos_per_rank,
                retry_failed,
                watch,
            )
    _tell(report, out, as_json)
    if report.rows is not None and not any(report.rows.values()):
        raise typer.Exit(1)


def _tell(report: BuildReport, out: Path, as_json: bool) -> None:
    if as_json:
        print_json({"out": str(out), **asdict(report)})
        return
    for line in report.failed[:FAILURES_SHOWN]:
        print_error(line)
    if len(report.failed) > FAILURES_SHOWN:
        print_error(f"and {len(report.failed) - FAILURES_SHOWN} more: {out / 'videos.jsonl'}")
    if report.rows is None:
        print(
            f"submitted: Slurm jobs {', '.join(report.jobs)}; the same command, later, says how far they are"
        )
        return
    rows = ", ".join(f"{count} {name}" for name, count in report.rows.items()) or "none"
    failed = f", {len(report.failed)} failed" if report.failed else ""
    again = "; --retry-failed tries the failed ones again" if report.failed else ""
    print(f"{report.videos} videos, {report.labeled} labeled now{failed}; clips: {rows}")
    print(f"dataset: {out} (card README.md, manifest.json, videos.jsonl){again}")


@contextmanager
def _shown(console: Console) -> Iterator[Callable[[Plan | None, str], None]]:
    """Progress: videos of the plan at work, failures, and an end in sight."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        bars: dict[str, Any] = {}
        seen: dict[Path, tuple[int, int, int]] = {}

        def finish() -> None:
            for bar in bars.values():
                total = progress.tasks[bar].total or 1
                progress.update(bar, total=total, completed=total)

        def watch(plan: Plan | None, stage: str) -> None:
            if stage not in bars:
                finish()
                total = None if plan is None else len(plan.sources())
                bars[stage] = progress.add_task(stage, total=total, note="")
            if plan is None:
                return
            done, failed = plan.progress(seen)
            task = progress.tasks[bars[stage]]
            if "first" not in task.fields:
                task.fields["first"] = done
            hours = (task.elapsed or 0) / 3600
            rate = f"{(done - task.fields['first']) / hours:.0f} videos/h" if hours else ""
            note = f"{rate} · {failed} failed" if failed else rate
            progress.update(bars[stage], completed=done, note=note)

        yield watch
        finish()


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """SIGTERM, as schedulers send it, stops as Ctrl-C does."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
