"""`anthrotap label`: videos into shards of labels, with overlays to look at; the work is in `anthrotap_builder`."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from anthrotap_hf.cli.common import (
    Device,
    Json,
    LabelRecipe,
    OnProgress,
    Overwrite,
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
from anthrotap_hf.utils.errors import missing_extra, one_line

if TYPE_CHECKING:
    from anthrotap_builder.mesh_recovery.mesh_file import MeshFile, MeshFileError
    from anthrotap_builder.video_result import VideoResult

LEGEND = (
    "people: with labels, of those found; visible, occluded, invalid: fractions of all labels; rejected: by flow, of\n"
    "what the mesh sees; fit: median distance of mesh from landmarks; fps: stored frames labeled a second"
)
# Lines about one video under the table; the rest is in the manifest.
MAX_LINES = 10


def _mesh_formats() -> list[str]:
    """Return the names of the formats, for the shell's completion."""
    from anthrotap_builder.registries import MESH_FORMATS

    return list(MESH_FORMATS)


def label(
    inputs: Annotated[list[Path], typer.Argument(help="Videos, or folders of videos or pictures.", metavar="VIDEO...")],
    out: Annotated[Path, typer.Option(help="Folder for shards, manifest, overlay videos and pictures.")],
    fps: Fps = None,
    short_side: ShortSide = None,
    points: Points = None,
    quality: Quality = None,
    recipe: LabelRecipe = "open",
    settings: Set = None,
    meshes: Annotated[
        Path | None,
        typer.Option(help="Label these meshes, from a .npz or a folder of NAME.meshes.npz, instead of fitting any."),
    ] = None,
    meshes_format: Annotated[
        str | None,
        typer.Option(
            help="What wrote the meshes: phalp, wham, gvhmr, ... Default: guessed by names.",
            autocompletion=_mesh_formats,
        ),
    ] = None,
    meshes_focal: Annotated[
        float | None,
        typer.Option(help="Focal length of the meshes' camera, pixels of the video, where their file does not say it."),
    ] = None,
    masks: Annotated[
        Path | None,
        typer.Option(
            help="Of whom --meshes are, in place of detected people, such as animals: a folder of a picture for each "
            "frame, not black where the body is; or of folders 0, 1, ... of such, for each person of the meshes."
        ),
    ] = None,
    refine: Annotated[
        bool, typer.Option(help="Let the fit refine the mesh source's bodies with masks and flow.")
    ] = False,
    write_meshes: Annotated[bool, typer.Option(help="Also write each video's meshes, as --meshes reads them.")] = False,
    write_obj: Annotated[
        bool, typer.Option(help="Also write the meshes as NAME.obj/PERSON/FRAME.obj, for Blender and others.")
    ] = False,
    workers: LabelWorkers = 1,
    threads: Threads = 2,
    device: Device = "cpu",
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Label videos: people, meshes, visibility, flow check; write dataset shards and an overlay to look at.

    Example: anthrotap label dance.mp4 --out labels
    """
    try:
        from anthrotap_builder.utils.malloc import limit_malloc_arenas

        # Before the libraries below start threads.
        limit_malloc_arenas()
        from anthrotap_builder.config import labeling_config
        from anthrotap_builder.label_videos import LabelOptions, label_videos
        from anthrotap_builder.mesh_recovery.formats.finding import find_meshes, with_masks
        from anthrotap_builder.mesh_recovery.mesh_export import export_meshes
        from anthrotap_builder.utils.video_paths import find_videos
    except ImportError as error:
        fail(str(missing_extra(error)))

    with cli_errors(out):
        changes = labeling_changes(settings, fps=fps, short_side=short_side, points=points, quality=quality)
        check_device(device)
        check_writable(out)
        videos = find_videos(inputs)
        if meshes is None and (meshes_format is not None or meshes_focal is not None):
            raise ValueError("--meshes-format and --meshes-focal go with --meshes, which names the file")
        given = {} if meshes is None else find_meshes(meshes, videos, meshes_format, meshes_focal)
        if masks is not None:
            if meshes is None:
                raise ValueError("--masks goes with --meshes: they say of whom the meshes are")
            given = with_masks(given, masks)
        changes |= _mesh_settings(changes, given)
        if refine:
            changes.setdefault("refine", True)
        config = labeling_config(recipe, changes)
        if masks is not None and not config.filter.masks:
            raise ValueError("--masks: filter.masks is false, so that no mask is looked at")
        options = LabelOptions(workers or 1, threads or 2, device, overwrite, given, write_meshes or write_obj)
        with progress_bars() as on_progress:
            results = label_videos(videos, out, config, options, _report_to(on_progress, videos))
        if write_obj:
            export_meshes(results, out, config)
    for result in results:
        if result.message:
            print_error(result.message)
        for warning in result.warnings:
            print_error(f"{result.video}: {warning}", "yellow")
    if as_json:
        print_json([_as_json(result) for result in results])
    else:
        Console().print(summary_table(results))
        print(LEGEND)
        for line in _left_out(results):
            print(line)
    if not any(result.rows for result in results):
        raise typer.Exit(1)
    if not as_json:
        print(f"dataset, overlay videos (*.tracks.mp4) and pictures (*.tracks.jpg): {out}")


def _mesh_settings(changes: Mapping[str, Any], meshes: Mapping[Path, MeshFile | MeshFileError]) -> dict[str, Any]:
    """The settings that files of meshes imply. Raises ValueError if --set asks for others."""
    if not meshes:
        return {}
    file = next(file for file in meshes.values() if not isinstance(file, Exception))
    implied = {"mesh_source": file.mesh_source, "body": file.body}
    if file.gender is not None:
        implied["gender"] = file.gender
    for name, value in implied.items():
        if changes.get(name, value) != value:
            raise ValueError(f"--set {name}={changes[name]} does not go with --meshes, which means {value}")
    return implied


def _report_to(on_progress: OnProgress, videos: Sequence[Path]) -> Callable[[Path, str, int, int | None], None]:
    """Show a bar for each video, under its path where others have its name: frames labeled, the stage, and the rate.

    Of several videos, another bar shows how many are done.
    """
    begins: dict[Path, float] = {}
    ended: set[Path] = set()
    names = Counter(video.name for video in videos)

    def report(video: Path, stage: str, done: int, expected: int | None) -> None:
        now = time.monotonic()
        seconds = now - begins.setdefault(video, now)
        rate = f"{done / seconds:.1f} frames/s" if done and seconds else ""
        label = video.name if names[video.name] == 1 else str(video)
        on_progress(label, done, expected, f"{stage:<13} {rate}")
        if stage == "done" and len(videos) > 1:
            ended.add(video)
            on_progress("videos", len(ended), len(videos), "")

    return report


def _as_json(result: VideoResult) -> dict[str, Any]:
    from anthrotap_builder.video_result import LISTED

    return {
        "video": result.video,
        "failure": result.message,
        **{name: [f"{result.video}: {line}" for line in getattr(result, name)] for name in LISTED},
        **result.totals(),
        "per_clip": result.clips,
    }


def _left_out(results: list[VideoResult]) -> Iterator[str]:
    """Lines about the frames and the people without labels, with the reason for each."""
    for result in results:
        lines = [str(line) for line in (*result.skipped, *result.unlabeled)]
        yield from (f"{one_line(result.name)}: {line}" for line in first_lines(lines, MAX_LINES, "manifest.json"))


def summary_table(results: list[VideoResult]) -> Table:
    """One line a video: people, tracks, fractions of the labels, fit error, rate."""
    table = Table(box=None, padding=(0, 1, 0, 0))
    table.add_column("video", overflow="fold")
    for name in ("frames", "people", "tracks", "visible", "occluded", "invalid", "rejected", "fit", "fps"):
        table.add_column(name, justify="right", no_wrap=True)
    for result in results:
        total = result.totals()
        if not result.rows:
            table.add_row(one_line(result.name), *["-"] * 9)
            continue
        fit_error = total["fit_error"]
        table.add_row(
            one_line(result.name),
            f"{total['frames']}",
            f"{total['people']} of {total['people_found']}",
            f"{total['tracks']}",
            *(f"{100 * total[key]:.0f} %" for key in ("visible", "occluded", "invalid", "rejected")),
            f"{fit_error:.1f} px" if fit_error == fit_error else "-",
            f"{total['frames'] / result.seconds:.1f}",
        )
    return table
