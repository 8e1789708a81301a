"""`anthrotap track`: track points through a video; write an overlay video and the tracks."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from anthrotap_hf.cli import common
from anthrotap_hf.pipelines import load_tracker
from anthrotap_hf.utils.errors import AnthroTapError
from anthrotap_hf.utils.file_limits import FileLimitError, read_json
from anthrotap_hf.utils.folder_lock import locked_folder

if TYPE_CHECKING:
    from anthrotap_hf.video import VideoInfo


def track(
    video: Annotated[
        Path | None, typer.Argument(help="The video, or a folder of pictures.", metavar="VIDEO", show_default=False)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the results; not with --live.")] = None,
    points: Annotated[
        str | None,
        typer.Option(help='What to track, in pixels: "t,x,y;t,x,y", or a .csv or .json file of t, x, y.'),
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(help='A grid of so many points a side on one frame, or "all" of its pixels. With --points: both.'),
    ] = None,
    points_per_frame: Annotated[
        int | None, typer.Option(min=1, help="Instead: so many points on every frame, spread evenly.")
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(
            help="Where --grid or --points-per-frame puts points: a picture that is not black there, or a folder of "
            "one for each frame."
        ),
    ] = None,
    query_frame: Annotated[int | None, typer.Option(min=0, help="The frame of --grid. Default: the first.")] = None,
    corrections: Annotated[
        Path | None,
        typer.Option(
            help="Instead: a project of the page, or a .csv of id,t,x,y. Tracks pass through all places of a point. "
            "With --overwrite, what an earlier run with the same tracker has found is kept.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="A tracker's folder, Hub id or name (`anthrotap trackers`). Default: locotrack-tiny.",
            autocompletion=common.tracker_names,
        ),
    ] = None,
    resolution: Annotated[
        str | None, typer.Option(help="HEIGHTxWIDTH that the model runs at. Default: the model's own.")
    ] = None,
    support_points: Annotated[
        int | None,
        typer.Option(min=0, help="Points tracked around each one, for TAPNext, and dropped. Default: the model's own."),
    ] = None,
    outside: Annotated[
        bool,
        typer.Option("--outside", help="Let tracks go on beyond the border of the frame. Default: they stay on it."),
    ] = False,
    fps: Annotated[
        float | None, typer.Option(min=0.001, help="Frames a second of a folder of pictures. Default: 25.")
    ] = None,
    device: common.Device = "cpu",
    frame_chunk: Annotated[int | None, typer.Option(min=1, help="Frames processed at once, to bound memory.")] = None,
    query_chunk: Annotated[int | None, typer.Option(min=1, help="Points processed at once, to bound memory.")] = None,
    window: Annotated[
        int | None, typer.Option(min=1, help="Frames whose features are held at once, to bound memory.")
    ] = None,
    live: Annotated[
        str | None,
        typer.Option(
            help="Instead of VIDEO, frames as they come: the number of a camera, the address of a stream, or - for raw "
            "rgb24 frames on standard input. --points are added in their frames; positions go to standard output.",
            metavar="0|URL|-",
        ),
    ] = None,
    size: Annotated[str | None, typer.Option(help="HEIGHTxWIDTH of the raw frames of --live -.")] = None,
    live_output: Annotated[
        str, typer.Option(help="What --live writes: json (a line a frame), csv, or frames (raw rgb24, points drawn).")
    ] = "json",
    no_drop: Annotated[
        bool, typer.Option("--no-drop", help="Let the source of --live wait, rather than drop frames.")
    ] = False,
    overwrite: common.Overwrite = False,
    as_json: common.Json = False,
) -> None:
    """Track points through a video; write an overlay video, a .npz and a .json. Or track them live.

    Example: anthrotap track dance.mp4 --points "0,320.5,180.5;24,100,90" --out tracks
    """
    if live is not None:
        not_live: tuple[object, ...] = (
            video,
            out,
            points_per_frame,
            mask,
            query_frame,
            corrections,
            support_points,
            fps,
            frame_chunk,
        )
        with common.cli_errors(Path(live)):
            if any(other is not None for other in (*not_live, query_chunk, window)) or outside or overwrite or as_json:
                raise AnthroTapError(
                    "--live goes with --points, --grid, --model, --resolution, --device, --size, --live-output and "
                    "--no-drop alone"
                )
            _track_live(live, points, grid, model, resolution, device, size, live_output, not no_drop)
        return
    if video is None or out is None:
        common.fail("what to track: name a VIDEO, and by --out a folder for the results, or a source by --live")
    from anthrotap_hf.cli.corrections import track_corrected
    from anthrotap_hf.export.track_files import track_files, write_tracks
    from anthrotap_hf.pipelines.projects import read_project
    from anthrotap_hf.pipelines.queries import check_mask, query_points
    from anthrotap_hf.utils.atomic_files import file_sha256
    from anthrotap_hf.video import probe

    with common.cli_errors(video):
        # Check what can be checked before a model is loaded.
        others = (points, grid, points_per_frame, mask, query_frame, support_points)
        if corrections is not None and any(other is not None for other in others):
            raise AnthroTapError("--corrections says what to track: leave out all other options that do")
        if corrections is not None and (outside or frame_chunk or query_chunk or window):
            raise AnthroTapError("--corrections goes without --outside, --frame-chunk, --query-chunk and --window")
        if corrections is None and (points is None and grid is None) == (points_per_frame is None):
            raise AnthroTapError("what to track: give --points, --grid or both, or --points-per-frame")
        if mask is not None and grid is None and points_per_frame is None:
            raise AnthroTapError("--mask needs --grid or --points-per-frame, which says how many points it gets")
        given = None if points is None else _read_points(points)
        queries: dict[str, Any] = {
            "points": given,
            "grid_size": _read_grid(grid),
            "points_per_frame": points_per_frame,
            "query_frame": query_frame,
            "mask": None if mask is None else str(mask),
        }
        if size is not None or live_output != "json" or no_drop:
            raise AnthroTapError("--size, --live-output and --no-drop go with --live")
        model_size = None if resolution is None else common.read_resolution(resolution)
        if fps is not None and not video.is_dir():
            raise AnthroTapError("--fps is for folders of pictures; a video file has times of its own", argument="fps")
        project = None if corrections is None else read_project(corrections)
        files = track_files(out, video.stem)
        common.check_writable(out)
        with locked_folder(out):
            _check_free(files, overwrite)
            info = probe(video, fps)
            sha256 = file_sha256(video)
            _check_points(given or [], info)
            if mask is not None:
                # Before a model is loaded; the frames of a video are not counted yet.
                check_mask(str(mask), info.height, info.width)
            tracker = load_tracker(model, device)
            start = time.perf_counter()
            name = f"{tracker.model.config.model_type} {model or '(default)'}"
            said = ""
            if project is not None:
                with common.progress_bars() as on_progress:
                    found, asked, said = track_corrected(
                        tracker,
                        video,
                        info,
                        sha256,
                        project,
                        name,
                        files[1],
                        model_size,
                        lambda done, total: on_progress("stretches", done, total),
                    )
            else:
                found = tracker(
                    str(video),
                    **queries,
                    resolution=model_size,
                    support_points=support_points,
                    outside=outside,
                    frame_chunk_size=frame_chunk,
                    query_chunk_size=query_chunk,
                    window_size=window,
                )
                asked = query_points(found["visible"].shape[1], info.height, info.width, **queries)
            seconds = time.perf_counter() - start
            count, frames = found["visible"].shape
            # Another program may have written some meanwhile.
            _check_free(files, overwrite)
            with common.progress_bars() as on_progress:
                write_tracks(
                    files, video, info, found, asked, name, lambda t: on_progress("overlay", t, frames), sha256
                )
    visible, rate = float(found["visible"].mean()), frames / seconds
    if as_json:
        summary = {
            "video": str(video),
            "model": name,
            "points": count,
            "frames": frames,
            "visible": visible,
            "seconds": round(seconds, 3),
            "frames_per_second": rate,
            "files": [str(file) for file in files],
        }
        common.print_json(summary)
        return
    print(f"{count} points over {frames} frames by {name}, {visible:.0%} visible, {said or f'{rate:.1f} frames/s'}")
    print("\n".join(map(str, files)))


def _track_live(
    source: str,
    points: str | None,
    grid: str | None,
    model: str | None,
    resolution: str | None,
    device: str,
    size: str | None,
    output: str,
    drop: bool,
) -> None:
    from anthrotap_hf.cli.live import OUTPUTS, open_source, track_live
    from anthrotap_hf.pipelines import OnlineTracker

    if points is None and grid is None:
        raise AnthroTapError("what to track: give --points, --grid or both")
    if output not in OUTPUTS:
        raise AnthroTapError(f"must be one of {', '.join(OUTPUTS)}, got {output}", argument="live-output")
    side = _read_grid(grid)
    if side == "all":
        raise AnthroTapError("not every pixel is tracked live: name a number", argument="grid")
    frame_size = None if size is None else common.read_resolution(size, "size")
    images = open_source(source, frame_size)
    of_model = None if resolution is None else common.read_resolution(resolution)
    given = [] if points is None else _read_points(points)
    tracker = OnlineTracker(load_tracker(model, device), of_model)
    track_live(tracker, images, given, side if isinstance(side, int) else None, output, drop)


def _check_free(files: list[Path], overwrite: bool) -> None:
    existing = [str(file) for file in files if file.exists()]
    if existing and not overwrite:
        raise AnthroTapError("exists already", path=", ".join(existing), hint="--overwrite replaces it")


def _read_grid(grid: str | None) -> int | str | None:
    if grid is None or grid == "all":
        return grid
    if not (grid.isascii() and grid.isdecimal() and int(grid) > 0):
        raise AnthroTapError(f'must be a whole number from 1 up, or "all", got {grid}', argument="grid")
    return int(grid)


def _check_points(points: list[list[float]], info: VideoInfo) -> None:
    for n, (t, x, y) in enumerate(points):
        if not (t >= 0 and 0 <= x <= info.width and 0 <= y <= info.height):
            raise AnthroTapError(
                f"point {n} is (t, x, y) = ({t:g}, {x:g}, {y:g}), outside the video: t from 0, x from 0 to "
                f"{info.width}, y from 0 to {info.height}",
                argument="points",
            )


def _read_points(points: str) -> list[list[float]]:
    """Read [[t, x, y], ...] from "t,x,y;t,x,y", or from a .csv (with or without a heading) or .json file.

    Raises:
        AnthroTapError: if the text or file can't be read, or an entry is not a point.
        OSError: if the file can't be opened.
    """
    suffix = Path(points).suffix.lower()
    path = points if suffix in (".csv", ".json") else None
    rows: Any
    try:
        # utf-8-sig: files of Excel begin with a byte order mark.
        if suffix == ".json":
            rows = _json_rows(read_json(Path(points), "utf-8-sig"))
        elif suffix == ".csv":
            with Path(points).open(newline="", encoding="utf-8-sig") as file:
                rows = [row for row in csv.reader(file) if row]
            if rows and [name.strip() for name in rows[0]] == ["t", "x", "y"]:
                rows = rows[1:]
        else:
            rows = [part.split(",") for part in points.split(";") if part.strip()]
        queries = [[float(value) for value in row] for row in rows]
    except UnicodeDecodeError as error:
        raise AnthroTapError("not a text file (not UTF-8)", path=path, argument="points") from error
    except FileLimitError as error:
        raise AnthroTapError(error.reason, path=path, argument="points") from error
    except (TypeError, ValueError, csv.Error) as error:
        raise AnthroTapError(f"not rows of t,x,y: {error}", path=path, argument="points") from error
    for row in queries:
        if len(row) != 3:
            text = ",".join(f"{value:g}" for value in row)
            raise AnthroTapError(f"{text} is not t,x,y", path=path, argument="points")
    if not queries:
        raise AnthroTapError("no query point", path=path, hint="give at least one t,x,y", argument="points")
    return queries


def _json_rows(content: Any) -> list[Any]:
    """Return the rows of [[t, x, y], ...] or [{"t": ..., "x": ..., "y": ...}, ...], or of such a list in a mapping."""
    rows = content.get("queries", content.get("points")) if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise ValueError("must hold a list [[t, x, y], ...], or one under queries or points")
    points = [
        [row[name] for name in "txy"] if isinstance(row, dict) and set("txy") <= set(row) else row for row in rows
    ]
    for n, row in enumerate(points):
        if not isinstance(row, list):
            raise ValueError(f"entry {n} is {json.dumps(row)}, not a point [t, x, y]")
    return points
