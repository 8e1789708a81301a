"""`anthrotap track`: points through a video, as an overlay to look at and as files to work with."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from anthrotap_hf.cli.common import check_writable, cli_errors, load_tracker, print_json, trackers


def track(
    video: Annotated[Path, typer.Argument(help="The video.", metavar="VIDEO")],
    out: Annotated[Path, typer.Option(help="Folder for the overlay video and the tracks.")],
    points: Annotated[
        str | None,
        typer.Option(help='What to track, in pixels: "t,x,y;t,x,y", or a .csv or .json file of t, x, y.'),
    ] = None,
    grid: Annotated[
        int | None, typer.Option(min=1, help="Instead: so many points a side, over one frame.")
    ] = None,
    points_per_frame: Annotated[
        int | None, typer.Option(min=1, help="Instead: so many points in every frame, spread evenly.")
    ] = None,
    query_frame: Annotated[
        int | None, typer.Option(min=0, help="The frame of --grid. Default: the first.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A tracker's folder or Hub id, flowchain, or locotrack-tiny (the default).",
            autocompletion=trackers,
        ),
    ] = None,
    resolution: Annotated[
        str | None, typer.Option(help="HEIGHTxWIDTH that the model sees. Default: the model's own.")
    ] = None,
    device: Annotated[str, typer.Option(help="Where the model runs: cpu, cuda, cuda:1, mps.")] = "cpu",
    frame_chunk: Annotated[
        int | None, typer.Option(min=1, help="Frames worked on at once, to bound memory.")
    ] = None,
    query_chunk: Annotated[
        int | None, typer.Option(min=1, help="Points worked on at once, to bound memory.")
    ] = None,
    window: Annotated[
        int | None, typer.Option(min=1, help="Frames whose features are held at once, to bound memory.")
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace files of an earlier run in the folder.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Track points through a video; write an overlay video, a .npz and a .json.

    Example: anthrotap track dance.mp4 --points "0,320.5,180.5;24,100,90" --out tracks
    """
    with cli_errors(video):
        wanted = {
            "points": None if points is None else _read_points(points),
            "grid_size": grid,
            "points_per_frame": points_per_frame,
            "query_frame": query_frame,
        }
        if [points, grid, points_per_frame].count(None) != 2:
            raise ValueError("say what to track: one of --points, --grid and --points-per-frame")
        options = {
            "resolution": None if resolution is None else _read_resolution(resolution),
            "frame_chunk_size": frame_chunk,
            "query_chunk_size": query_chunk,
            "window_size": window,
        }
        summary = _track(video, out, wanted, options, model, device, overwrite)
    if as_json:
        print_json(summary)
    else:
        print(
            f"{summary['points']} points over {summary['frames']} frames by {summary['model']}, "
            f"{summary['visible']:.0%} visible, {summary['frames_per_second']:.1f} frames/s"
        )
        print("\n".join(summary["files"]))


def _track(
    video: Path,
    out: Path,
    wanted: dict[str, Any],
    options: dict[str, Any],
    model: str | None,
    device: str,
    overwrite: bool,
) -> dict[str, Any]:
    """Track and write; what was done, for the user."""
    import time

    from rich.progress import Progress

    from anthrotap_hf.export.track_files import track_files, write_tracks
    from anthrotap_hf.pipelines.point_tracking import query_points
    from anthrotap_hf.video import probe

    # What can be known to go wrong is said before a model is loaded.
    files = track_files(out, video.stem)
    earlier = [str(file) for file in files if file.exists()]
    if earlier and not overwrite:
        raise ValueError(f"{', '.join(earlier)}: of an earlier run; --overwrite replaces")
    check_writable(out)
    info = probe(video)
    for n, (t, x, y) in enumerate(wanted["points"] or ()):
        if not (t >= 0 and 0 <= x <= info.width and 0 <= y <= info.height):
            raise ValueError(
                f"point {n} is (t, x, y) = ({t:g}, {x:g}, {y:g}), outside the video: t from 0, x from 0 to "
                f"{info.width}, y from 0 to {info.height}"
            )
    tracker = load_tracker(model, device)
    start = time.perf_counter()
    found = tracker(str(video), **wanted, **options)
    seconds = time.perf_counter() - start
    visible = found["visible"]
    count, frames = visible.shape
    name = f"{tracker.model.config.model_type} {model or '(default)'}"
    asked = query_points(frames, info.height, info.width, **wanted)
    out.mkdir(parents=True, exist_ok=True)
    # Off a terminal rich gives one line at the end.
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("overlay", total=frames)
        write_tracks(files, video, info, found, asked, name, lambda t: progress.update(bar, completed=t))
    return {
        "video": str(video),
        "model": name,
        "points": count,
        "frames": frames,
        "visible": float(visible.mean()),
        "seconds": round(seconds, 3),
        "frames_per_second": frames / seconds,
        "files": [str(file) for file in files],
    }


def _read_points(points: str) -> list[list[float]]:
    """[[t, x, y], ...] from "t,x,y;t,x,y", or from a .csv (a heading is allowed) or .json file.

    Raises ValueError, saying which entry is no point.
    """
    suffix = Path(points).suffix.lower()
    rows: Any
    try:  # utf-8-sig: Excel begins its files with a mark
        if suffix == ".json":
            rows = _json_rows(json.loads(Path(points).read_text("utf-8-sig")))
        elif suffix == ".csv":
            with Path(points).open(newline="", encoding="utf-8-sig") as file:
                rows = [row for row in csv.reader(file) if row]
            if rows and [name.strip() for name in rows[0]] == ["t", "x", "y"]:
                rows = rows[1:]
        else:
            rows = [part.split(",") for part in points.split(";") if part.strip()]
    except json.JSONDecodeError as error:
        raise ValueError(f"{points}: not JSON: {error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{points}: not a text file (not UTF-8)") from error
    except (ValueError, csv.Error) as error:
        raise ValueError(f"{points}: {error}") from error
    try:
        queries = [[float(value) for value in row] for row in rows]
    except (TypeError, ValueError) as error:
        where = f"{points}:" if suffix in (".csv", ".json") else "--points"
        raise ValueError(f"{where} wants rows of t,x,y: {error}") from error
    for row in queries:
        if len(row) != 3:
            raise ValueError(f"--points: {','.join(f'{value:g}' for value in row)} is not t,x,y")
    if not queries:
        raise ValueError("--points: no query point; give at least one t,x,y")
    return queries


def _json_rows(content: Any) -> list[Any]:
    """Rows of [[t, x, y], ...] or [{"t": ..., "x": ..., "y": ...}, ...], by themselves or under a name."""
    rows = content.get("queries", content.get("points")) if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise ValueError("must hold a list [[t, x, y], ...], or one under queries or points")
    named = [
        [row[name] for name in "txy"] if isinstance(row, dict) and set("txy") <= set(row) else row
        for row in rows
    ]
    for n, row in enumerate(named):
        if not isinstance(row, list):
            raise ValueError(
                f"entry {n} is {json.dumps(row)}, no point [t, x, y]; a single one is [[t, x, y]]"
            )
    return named


def _read_resolution(resolution: str) -> tuple[int, int]:
    height, _, width = resolution.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise ValueError(f"--resolution must be HEIGHTxWIDTH, as 384x512; got {resolution}")
    return int(height), int(width)
