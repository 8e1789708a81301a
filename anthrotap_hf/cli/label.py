"""`anthrotap label`: videos into shards of labels, with overlays to look at; the work is in `anthrotap_builder`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

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


def label(
    inputs: Annotated[list[Path], typer.Argument(help="Videos, or folders of videos.", metavar="VIDEO...")],
    out: Annotated[Path, typer.Option(help="Folder for shards, manifest, overlay videos and pictures.")],
    fps: Annotated[
        float | None, typer.Option(help="Resample to this rate (the paper: 10). Default: keep it.")
    ] = None,
    short_side: Annotated[int | None, typer.Option(help="Labeling size, pixels. Default: 480.")] = None,
    points: Annotated[int | None, typer.Option(help="Surface points a person. Default: 1024.")] = None,
    recipe: LabelRecipe = "open",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change a setting of the recipe: filter.rule=none. May be repeated."),
    ] = None,
    meshes: Annotated[
        Path | None,
        typer.Option(
            help="Label these meshes, from a .npz or a folder of NAME.meshes.npz, instead of fitting any."
        ),
    ] = None,
    refine: Annotated[
        bool, typer.Option(help="Let the fit refine the mesh source's bodies with masks and flow.")
    ] = False,
    write_meshes: Annotated[
        bool, typer.Option(help="Also write each video's meshes, as --meshes reads them.")
    ] = False,
    threads: Annotated[int, typer.Option(min=1, help="Frames worked on at once.")] = 2,
    device: Annotated[str, typer.Option(help="Where networks run: cpu, cuda, cuda:1, mps.")] = "cpu",
    overwrite: Annotated[bool, typer.Option(help="Replace shards of an earlier run in the folder.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as JSON instead of a table.")
    ] = False,
) -> None:
    """Label videos: people, meshes, visibility, flow check; write dataset shards and an overlay to look at.

    Example: anthrotap label dance.mp4 --out labels
    """
    try:
        from anthrotap_builder.config import labeling_config
        from anthrotap_builder.label_videos import find_meshes, label_videos, summary_table
        from anthrotap_builder.utils.assets import AssetError
        from anthrotap_builder.utils.video_paths import find_videos
        from anthrotap_hf.utils.settings import parse_settings, recipe_named
    except ImportError as error:
        fail(str(missing_extra(error)))

    errors = Console(stderr=True)
    with cli_errors(out, also=(AssetError,)):
        clips = {
            name: value for name, value in (("fps", fps), ("short_side", short_side)) if value is not None
        }
        words = [f"clips.{name}={value}" for name, value in clips.items()]
        words += [] if points is None else [f"points={points}"]
        words += ["refine=true"] if refine else []
        words = [*words, *(settings or [])] if refine else [*(settings or []), *words]
        changes = parse_settings(words, "filter.rule=none")
        check_device(device)
        check_writable(out)
        videos = find_videos(inputs)
        given = None if meshes is None else find_meshes(meshes, videos)
        if given:
            own = {"mesh_source": "file", "body": next(iter(given.values())).body}
            for name, value in own.items():
                if changes.get(name, value) != value:
                    raise ValueError(
                        f"--set {name}={changes[name]} does not go with --meshes, which means {value}"
                    )
            changes |= own
        config = labeling_config(recipe_named(recipe), changes)
        for file in given.values() if given and config.refine else ():
            file.require_parameters()
        reports = label_videos(videos, out, config, threads, overwrite, errors, given, write_meshes, device)
    for report in reports:
        if report.failure:
            print_error(report.failure)
    if as_json:
        found = [
            {
                "video": str(r.video),
                "failure": r.failure,
                "left_out": r.left_out,
                **r.totals(),
                "per_clip": r.clips,  # with each person's fit
            }
            for r in reports
        ]
        print_json(found)
    else:
        Console().print(summary_table(reports))
        print(
            "visible, occluded, invalid: fractions of all labels; rejected: by flow, of what the mesh sees;\n"
            "fit: median distance of mesh from landmarks; fps: frames labeled a second"
        )
    if not any(report.clips for report in reports):
        raise typer.Exit(1)
    if not as_json:
        print(f"dataset, overlay videos (*.tracks.mp4) and pictures (*.tracks.jpg): {out}")
