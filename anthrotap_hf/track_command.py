"""`anthrotap track`: points through a video, as an overlay to look at and as files to work with."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

from anthrotap_hf.files import written_whole

if TYPE_CHECKING:
    from transformers import Pipeline

    from anthrotap_hf.tracks import Tracks

TRAIL = 12  # frames back that the overlay draws


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
    query_frame: Annotated[
        int | None, typer.Option(min=0, help="The frame of --grid. Default: the first.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="A tracker's folder or Hub id. Default: FlowChain, no download.")
    ] = None,
    resolution: Annotated[
        str | None, typer.Option(help="HEIGHTxWIDTH that the model sees. Default: the model's own.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Track points through a video; write an overlay video, a .npz and a .json.

    Example: anthrotap track dance.mp4 --points "0,320.5,180.5;24,100,90" --out tracks
    """
    try:
        queries = None if points is None else _read_points(points)
        size = None if resolution is None else _read_resolution(resolution)
        if out.exists() and not out.is_dir():
            raise ValueError(f"{out} is a file, not a folder")
        if (queries is None) == (grid is None):
            raise ValueError("say what to track: either --points or --grid")
        summary = _track(video, out, queries, grid, query_frame, model, size)
    except OSError as error:
        _stop(f"{error.filename}: {error.strerror}" if error.strerror else str(error))
    except ValueError as error:
        _stop(str(error))
    if as_json:
        print(json.dumps(summary, indent=2))
    else:
        print(
            f"{summary['points']} points over {summary['frames']} frames by {summary['model']}, "
            f"{summary['visible']:.0%} visible, {summary['frames_per_second']:.1f} frames/s"
        )
        print("\n".join(summary["files"]))


def _track(
    video: Path,
    out: Path,
    queries: list[list[float]] | None,
    grid: int | None,
    query_frame: int | None,
    model: str | None,
    resolution: tuple[int, int] | None,
) -> dict[str, Any]:
    """Track and write; what was done, for the user."""
    import time

    import numpy as np

    from anthrotap_hf.pipelines.point_tracking import query_points
    from anthrotap_hf.tracks import Tracks
    from anthrotap_hf.video import probe

    info = probe(video)  # what can't be read is said before a model is loaded
    tracker = _load(model)
    start = time.perf_counter()
    wanted: dict[str, Any] = {"points": queries, "grid_size": grid, "query_frame": query_frame}
    found = tracker(str(video), **wanted, resolution=resolution)
    seconds = time.perf_counter() - start
    tracks, visible = found["tracks"], found["visible"]
    count, frames = visible.shape

    fps = info.fps or 25.0
    name = f"{tracker.model.config.model_type} {model or '(default)'}"
    asked = query_points(frames, info.height, info.width, **wanted)
    out.mkdir(parents=True, exist_ok=True)
    arrays = {
        **found,
        "queries": asked.astype(np.float32),
        "fps": np.float32(fps),
        "size": np.array([info.height, info.width], np.int32),
        "model": np.array(name),
    }
    plain = {key: value.tolist() for key, value in arrays.items()}
    files = [out / f"{video.stem}.tracks{suffix}" for suffix in (".mp4", ".npz", ".json")]
    nothing = np.zeros(count, np.int32)
    drawn = Tracks(
        tracks, visible, np.ones_like(visible), info.height, info.width, person=nothing, vertex=nothing
    )
    _write_overlay(files[0], video, fps, drawn)
    with written_whole(files[1]) as aside:
        np.savez_compressed(aside, **arrays)
    with written_whole(files[2]) as aside:
        aside.write_text(json.dumps(plain))
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


def _load(model: str | None) -> Pipeline:
    """The tracker. Raises ValueError, in one line, for none that can be loaded."""
    from safetensors import SafetensorError
    from transformers import pipeline

    from anthrotap_hf.pipelines import DEFAULT_MODEL

    try:
        return pipeline("point-tracking", model=model or str(DEFAULT_MODEL))
    except (OSError, ValueError, SafetensorError) as error:
        lines = str(error).strip().splitlines()
        # Where transformers tried several classes, it quotes what each of them said in full.
        reason = lines[-1] if "Traceback (most" in str(error) else " ".join(lines)
        raise ValueError(f"--model {model}: {reason}") from error


def _write_overlay(path: Path, video: Path, fps: float, tracks: Tracks) -> None:
    """The video with its points; a row or column more where a side is odd, as H.264 wants it."""
    import numpy as np

    from anthrotap_hf.video import VideoWriter, iter_frames
    from anthrotap_hf.visualization import draw_tracks, track_colors

    colors = track_colors(tracks)
    odd = ((0, tracks.height % 2), (0, tracks.width % 2), (0, 0))
    with VideoWriter(path, fps) as writer:
        for t, frame in enumerate(iter_frames(video)):
            drawn = draw_tracks(frame.image, tracks, t, colors, TRAIL)
            writer.write(np.pad(drawn, odd, mode="edge"))


def _read_points(points: str) -> list[list[float]]:
    """[[t, x, y], ...] from "t,x,y;t,x,y", or from a .csv (a heading is allowed) or .json file.

    Raises ValueError, saying which entry is no point.
    """
    suffix = Path(points).suffix.lower()
    rows: Any
    if suffix == ".json":
        try:
            content = json.loads(Path(points).read_text())
        except ValueError as error:
            raise ValueError(f"{points}: not JSON: {error}") from error
        rows = content.get("queries", content.get("points")) if isinstance(content, dict) else content
        if not isinstance(rows, list):
            raise ValueError(f"{points}: must hold a list [[t, x, y], ...], or one under queries or points")
    elif suffix == ".csv":
        with Path(points).open(newline="") as file:
            rows = [row for row in csv.reader(file) if row]
        if rows and [name.strip() for name in rows[0]] == ["t", "x", "y"]:
            rows = rows[1:]
    else:
        rows = [part.split(",") for part in points.split(";") if part.strip()]
    try:
        queries = [[float(value) for value in row] for row in rows]
    except (TypeError, ValueError) as error:
        raise ValueError(f"--points wants t,x,y;t,x,y or a .csv or .json file: {error}") from error
    for row in queries:
        if len(row) != 3:
            raise ValueError(f"--points: {','.join(f'{value:g}' for value in row)} is not t,x,y")
    if not queries:
        raise ValueError("--points: no query point; give at least one t,x,y")
    return queries


def _read_resolution(resolution: str) -> tuple[int, int]:
    height, _, width = resolution.partition("x")
    if not (height.isdecimal() and width.isdecimal()):
        raise ValueError(f"--resolution must be HEIGHTxWIDTH, as 384x512; got {resolution}")
    return int(height), int(width)


def _stop(reason: str) -> NoReturn:
    line = " ".join(reason.split())
    Console(stderr=True).print(line, style="red", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(2)
