"""`anthrotap export`: tracks in the files that other programs read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from anthrotap_hf.cli.common import check_writable, cli_errors, print_error, print_json, progress_bars
from anthrotap_hf.export import FORMATS

if TYPE_CHECKING:
    from anthrotap_hf.export.sources import Clip


def export(
    source: Annotated[
        Path,
        typer.Argument(
            help="A .tracks.npz of `anthrotap track`; or a dataset: a folder of shards, or one shard.",
            metavar="INPUT",
        ),
    ],
    format: Annotated[
        str,
        typer.Option(help=f"{', '.join(FORMATS)}.", autocompletion=lambda: list(FORMATS)),
    ],
    out: Annotated[
        Path,
        typer.Option(help="The file; of a whole dataset, a folder with a file for each clip."),
    ],
    clip: Annotated[str | None, typer.Option(help="Of a dataset, only the row with this clip_id.")] = None,
    video: Annotated[
        Path | None,
        typer.Option(help="The video that was tracked, for formats that show it. Datasets have their own."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print what was written as JSON instead of lines.")
    ] = False,
) -> None:
    """Write tracks in the files that other programs read: TAP-Vid, CoTracker, COLMAP, After Effects, Blender, Rerun.

    tapvid: a .npz without pickle. cotracker: a .pt of tensors. colmap: a folder with a database, and images if there is
    a video. after-effects: keyframe data, to paste. blender: a script that fills a movie clip. rerun: an .rrd.
    `python -m pydoc anthrotap_hf.export.colmap` (and so on) tells coordinates, and what becomes of hidden and unknown.

    Example: anthrotap export labels --format tapvid --out tapvid

    Example: anthrotap export tracks/dance.tracks.npz --format blender --out dance.py --video dance.mp4
    """
    written: list[Path] = []
    failed: list[str] = []
    with cli_errors(out, left="clips that are written stay"):
        if format not in FORMATS:
            raise ValueError(f"--format {format}: choose from {', '.join(FORMATS)}")
        if video is not None and not FORMATS[format].video:
            raise ValueError(f"--video: {format} has no use for it")
        check_writable(out if out.is_dir() else out.parent)
        count, clips = _clips(source, clip, video)
        with progress_bars(Console(stderr=True)) as on_progress:
            for number, found in enumerate(clips, 1):
                if isinstance(found, ValueError):
                    failed.append(str(found))
                    continue
                whole = clip is None and not _is_track(source)
                _export(found, format, out, whole, overwrite, written, failed)
                on_progress("clips", number, count)
    for line in failed:
        print_error(line)
    if as_json:
        print_json({"format": format, "files": [str(path) for path in written], "failed": failed})
    else:
        print("\n".join(map(str, written)))
        if written:
            print(f"read by: {FORMATS[format].reader}")
    if failed:
        raise typer.Exit(1)


def _is_track(source: Path) -> bool:
    return source.suffix == ".npz"


def _clips(source: Path, clip: str | None, video: Path | None) -> tuple[int, Iterator[Clip | ValueError]]:
    """How many clips there are, and they."""
    from anthrotap_hf.export.sources import SUFFIX, Clip, count_clips, read_clips, read_tracks

    if not _is_track(source):
        if video is not None:
            raise ValueError(
                "--video goes with the .npz of `anthrotap track`; rows of a dataset have their own"
            )
        return (count_clips(source) if clip is None else 1), read_clips(source, clip)
    if clip is not None:
        raise ValueError(f"--clip names a row of a dataset; {source} is one clip")
    tracks, fps = read_tracks(source)
    name = source.name.removesuffix(SUFFIX).removesuffix(".npz")
    return 1, iter([Clip(name, tracks, fps, video)])


def _export(
    clip: Clip,
    format: str,
    out: Path,
    whole: bool,
    overwrite: bool,
    written: list[Path],
    failed: list[str],
) -> None:
    """One clip. In a `whole` dataset, one that can't be written costs only itself."""
    from anthrotap_hf.export import export_tracks
    from anthrotap_hf.export.blender import clip_beside

    kind = FORMATS[format]
    path = kind.path(out, clip.name) if whole or (kind.suffix and out.is_dir()) else out
    if path in written:
        failed.append(f"{path}: a second row of this clip_id; it is left out")
        return
    beside = [clip_beside(path)] if format == "blender" and isinstance(clip.video, bytes) else []
    for place in (path, *beside):
        if place.exists() and not overwrite and not (place.is_dir() and not any(place.iterdir())):
            raise ValueError(f"{place}: is there already; --overwrite replaces it")
    try:
        export_tracks(clip.tracks, path, format, fps=clip.fps, video=clip.video if kind.video else None)
    except ValueError as error:
        if not whole:
            raise
        failed.append(f"{clip.name}: {error}")
        return
    written += [path, *beside]
