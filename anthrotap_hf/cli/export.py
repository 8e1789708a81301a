"""`anthrotap export`: write tracks as files that other programs read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anthrotap_hf.cli import common
from anthrotap_hf.export import FORMATS
from anthrotap_hf.utils.errors import AnthroTapError

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
        typer.Option(help="The video that was tracked, for formats that use it. Datasets have their own."),
    ] = None,
    overwrite: common.Overwrite = False,
    as_json: common.Json = False,
) -> None:
    """Write tracks as files that other programs read: TAP-Vid, CoTracker, COLMAP, After Effects, Blender, Rerun.

    tapvid: a .npz without pickle. cotracker: a .pt of tensors. colmap: a folder with a database, and images if there is
    a video. after-effects: keyframe data, to paste. blender: a script that fills a movie clip. rerun: an .rrd.
    `python -m pydoc anthrotap_hf.export.colmap` (and so on) documents coordinates, and occluded and invalid labels.

    Example: anthrotap export labels --format tapvid --out tapvid

    Example: anthrotap export tracks/dance.tracks.npz --format blender --out dance.py --video dance.mp4
    """
    written: list[Path] = []
    failed: list[str] = []
    with common.cli_errors(out, interrupted="the files of complete clips are kept"):
        if format not in FORMATS:
            raise AnthroTapError(
                f"unknown format {format}", hint=f"known: {', '.join(FORMATS)}", argument="format"
            )
        if video is not None and not FORMATS[format].video:
            raise AnthroTapError(f"{format} does not use a video", argument="video")
        common.check_writable(out if out.is_dir() else out.parent)
        count, clips = _clips(source, clip, video)
        whole_dataset = clip is None and not _is_track_file(source)
        with common.progress_bars() as on_progress:
            for number, found in enumerate(clips, 1):
                if isinstance(found, ValueError):
                    failed.append(str(found))
                    continue
                path = _path(found, format, out, whole_dataset)
                if path in written:
                    failed.append(f"{path}: a second row with this clip_id is skipped")
                    continue
                try:
                    written += _export(found, format, path, overwrite)
                except ValueError as error:
                    # Of a whole dataset, a clip that can't be written is reported at the end.
                    if not whole_dataset or isinstance(error, _ExistsError):
                        raise
                    failed.append(f"{found.name}: {error}")
                on_progress("clips", number, count)
    for line in failed:
        common.print_error(line)
    if as_json:
        common.print_json({"format": format, "files": [str(path) for path in written], "failed": failed})
    else:
        print("\n".join(map(str, written)))
        if written:
            print(f"read by: {FORMATS[format].reader}")
    if failed:
        raise typer.Exit(1)


class _ExistsError(AnthroTapError):
    """A file that would be replaced."""


def _is_track_file(source: Path) -> bool:
    return source.suffix == ".npz"


def _clips(source: Path, clip: str | None, video: Path | None) -> tuple[int, Iterator[Clip | ValueError]]:
    """Return the number of clips, and an iterator over them."""
    from anthrotap_hf.export.sources import SUFFIX, Clip, count_clips, read_clips, read_tracks

    if not _is_track_file(source):
        if video is not None:
            reason = "only for the .npz of `anthrotap track`: rows of a dataset have their own"
            raise AnthroTapError(reason, argument="video")
        return (count_clips(source) if clip is None else 1), read_clips(source, clip)
    if clip is not None:
        raise AnthroTapError(f"only for the rows of a dataset: {source} is one clip", argument="clip")
    tracks, fps = read_tracks(source)
    name = source.name.removesuffix(SUFFIX).removesuffix(".npz")
    return 1, iter([Clip(name, tracks, fps, video)])


def _path(clip: Clip, format: str, out: Path, whole_dataset: bool) -> Path:
    """Return where a clip is written: `out` itself, or a file in it."""
    kind = FORMATS[format]
    in_folder = whole_dataset or (kind.suffix and out.is_dir())
    return kind.path(out, clip.name) if in_folder else out


def _export(clip: Clip, format: str, path: Path, overwrite: bool) -> list[Path]:
    """Write one clip; return the files."""
    from anthrotap_hf.export import export_tracks
    from anthrotap_hf.export.blender import clip_beside

    files = [path]
    if format == "blender" and isinstance(clip.video, bytes):
        files.append(clip_beside(path))
    for file in files:
        is_empty_folder = file.is_dir() and not any(file.iterdir())
        if file.exists() and not overwrite and not is_empty_folder:
            raise _ExistsError("exists already", path=file, hint="--overwrite replaces it")
    video = clip.video if FORMATS[format].video else None
    export_tracks(clip.tracks, path, format, fps=clip.fps, video=video)
    return files
