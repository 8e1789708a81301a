"""The command line: `anthrotap ...`. Each command checks its words and hands over; heavy imports happen there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from anthrotap_hf import (
    app_command,
    attach_command,
    build_command,
    convert_command,
    evaluate_command,
    stats_command,
    track_command,
    train_command,
    verify_command,
)
from anthrotap_hf.commands import check_device, say, stop
from anthrotap_hf.imports import missing_extra

app = typer.Typer(
    help="Human videos in, trustworthy point tracks out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.add_typer(convert_command.app, name="convert")
app.command()(build_command.build)
app.command()(track_command.track)
app.command()(evaluate_command.evaluate)
app.command()(stats_command.stats)
app.command()(train_command.train)
app.command()(verify_command.verify)
app.command()(attach_command.attach)
app.command("app")(app_command.app)


@app.callback()
def main() -> None:
    """Human videos in, trustworthy point tracks out."""


@app.command()
def label(
    inputs: Annotated[list[Path], typer.Argument(help="Videos, or folders of videos.", metavar="VIDEO...")],
    out: Annotated[Path, typer.Option(help="Folder for shards, manifest, overlay videos and pictures.")],
    fps: Annotated[
        float | None, typer.Option(help="Resample to this rate (the paper: 10). Default: keep it.")
    ] = None,
    short_side: Annotated[int | None, typer.Option(help="Labelling size, pixels. Default: 480.")] = None,
    points: Annotated[int | None, typer.Option(help="Surface points a person. Default: 1024.")] = None,
    recipe: Annotated[
        str, typer.Option(help="A recipe's name, or a YAML file of settings; the options above count more.")
    ] = "open",
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
        from anthrotap_builder.assets import AssetError
        from anthrotap_builder.config import labeling_config
        from anthrotap_builder.inputs import find_videos
        from anthrotap_builder.label_command import find_meshes, label_videos, summary_table
        from anthrotap_hf.settings import parse_settings, recipe_named
    except ImportError as error:
        stop(str(missing_extra(error)))

    errors = Console(stderr=True)
    try:
        clips = {
            name: value for name, value in (("fps", fps), ("short_side", short_side)) if value is not None
        }
        words = [f"clips.{name}={value}" for name, value in clips.items()]
        words += [] if points is None else [f"points={points}"]
        words += ["refine={}"] if refine else []
        words = [*words, *(settings or [])] if refine else [*(settings or []), *words]
        changes = parse_settings(words, "filter.rule=none")
        check_device(device)
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
        reports = label_videos(videos, out, config, threads, overwrite, errors, given, write_meshes, device)
    except FileExistsError as error:
        stop(f"{error}; --overwrite replaces them")
    except (FileNotFoundError, AssetError, ValueError, ImportError) as error:
        stop(str(error))
    except OSError as error:
        stop(f"{error.filename or out}: {error.strerror or error}")
    for report in reports:
        if report.failure:
            say(report.failure)
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
        print(json.dumps(_plain(found), indent=2))
    else:
        Console().print(summary_table(reports))
        print(
            "seen, hidden, unknown: shares of all labels; refused: by flow, of what the mesh sees;\n"
            "fit: median distance of mesh from landmarks; fps: frames labelled a second"
        )
    if not any(report.clips for report in reports):
        raise typer.Exit(1)
    if not as_json:
        print(f"dataset, overlay videos (*.tracks.mp4) and pictures (*.tracks.jpg): {out}")


@app.command("evaluate-labels")
def evaluate_labels(
    out: Annotated[Path, typer.Option(help="Folder for rendered clips, figures, tables and plots.")] = Path(
        "outputs/proving_ground"
    ),
    half: Annotated[
        str | None, typer.Option(help="Only this half of the standard set: tuning or held_out.")
    ] = None,
    clips: Annotated[
        list[str] | None, typer.Option("--clip", help="Only this clip; may be repeated.")
    ] = None,
    ablation: Annotated[
        bool, typer.Option(help="Also leave out each stage, and put the truth in the place of each.")
    ] = True,
    recipe: Annotated[str, typer.Option(help="A recipe's name, or a YAML file of settings.")] = "open",
    processes: Annotated[int, typer.Option(min=1, help="Clips worked on at once.")] = 2,
    as_json: Annotated[bool, typer.Option("--json", help="Print the figures as JSON, no table.")] = False,
) -> None:
    """How right are the labels? Renders clips with exact truth, labels them, and measures every stage.

    The standard set is twenty clips: about twenty minutes on two cores with the ablation, five without. What is done
    is kept in the folder, so a run that was stopped goes on. The tables are wide; labels.txt keeps them.

    Example: anthrotap evaluate-labels --half held_out --no-ablation
    """
    try:
        from anthrotap_builder.assets import AssetError
        from anthrotap_builder.proving_ground.evaluation import WIDTH, evaluate_and_report, report_tables
        from anthrotap_hf.settings import recipe_named
    except ImportError as error:
        stop(str(missing_extra(error, "proving-ground")))
    try:
        report = evaluate_and_report(
            out, half, clips or [], recipe_named(recipe), ablation, processes, Console(stderr=True)
        )
    except (AssetError, ValueError) as error:
        stop(str(error))
    except OSError as error:
        stop(f"{error.filename or out}: {error.strerror or error}")
    if as_json:
        print(json.dumps(report))
    else:
        terminal = Console()
        Console(width=max(WIDTH, terminal.width)).print(report_tables(report))
        print(f"figures: {out / 'labels.json'}; plots: {out / 'labels.png'}")


def _plain(value: Any) -> Any:
    """JSON has no NaN: null."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and value != value else value


if __name__ == "__main__":
    app()
