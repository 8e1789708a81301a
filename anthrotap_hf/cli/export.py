"""`anthrotap export`: write tracks as files that other programs read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anthrotap_hf.cli import common
from anthrotap_hf.export import FORMATS, export_clip
from anthrotap_hf.utils.errors import AnthroTapError

# Not of tracks, but of a tracker.
ONNX = "onnx"

if TYPE_CHECKING:
    from anthrotap_hf.export.base import Format
    from anthrotap_hf.readers.base import Reader
    from anthrotap_hf.tracks import TrackedClip


def export(
    source: Annotated[
        Path,
        typer.Argument(
            help="A .tracks.npz or .tracks.json of `anthrotap track`, or a file that this command wrote; a dataset: a "
            "folder of shards, or one shard; for onnx a tracker.",
            metavar="INPUT",
        ),
    ],
    format: Annotated[
        str,
        typer.Option(help=f"{', '.join(FORMATS)}, onnx.", autocompletion=lambda: [*FORMATS, ONNX]),
    ],
    out: Annotated[
        Path,
        typer.Option(help="The file; of a whole dataset, a folder with a file for each clip."),
    ],
    clip: Annotated[str | None, typer.Option(help="Of a dataset, only the row with this clip_id.")] = None,
    split: common.Split = None,
    video: Annotated[
        Path | None,
        typer.Option(help="The video that was tracked, for formats that use it. Datasets have their own."),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, help="For onnx: frames of the clips that it takes. Default: 24.")
    ] = None,
    resolution: Annotated[
        str | None,
        typer.Option(help="For onnx: HEIGHTxWIDTH of the frames that it takes, multiples of 8. Default: 256x256."),
    ] = None,
    overwrite: common.Overwrite = False,
    as_json: common.Json = False,
) -> None:
    """Write tracks as files that other programs read: CSV, TAP-Vid, CoTracker, COLMAP, After Effects, Blender, Rerun.

    csv: rows of track,t,x,y,visible,person. tapvid: a .npz without pickle. cotracker: a .pt of tensors. colmap: a
    folder with a database, and images if there is a video. after-effects: keyframe data, to paste; after-effects-nulls:
    a script that makes nulls. blender: a script that fills a movie clip. rerun: an .rrd. onnx: not tracks but a
    tracker, LocoTrack or LocoTrack-tiny, as a graph.
    `python -m pydoc anthrotap_hf.export.colmap` (and so on) documents coordinates, and occluded and invalid labels.

    Example: anthrotap export labels --format tapvid --out tapvid

    Example: anthrotap export tracks/dance.tracks.npz --format blender --out dance.py --video dance.mp4

    Example: anthrotap export locotrack-tiny --format onnx --out tracker.onnx --frames 48
    """
    with common.cli_errors(out):
        if format == ONNX:
            _refuse("only for tracks: onnx is of a tracker, without a video", clip=clip, split=split, video=video)
        else:
            _refuse(f"only for --format onnx, got {format}", frames=frames, resolution=resolution)
    if format == ONNX:
        _export_tracker(str(source), out, frames or 24, resolution or "256x256", overwrite, as_json)
        return
    written: list[Path] = []
    failed: list[str] = []
    with common.cli_errors(out, interrupted="the files of complete clips are kept"):
        kind: Format = FORMATS.load(format)
        if video is not None and not kind.video:
            raise AnthroTapError(f"{format} does not use a video", argument="video")
        common.check_writable(out if out.is_dir() else out.parent)
        reader, numbers = _open(source, clip, split, video)
        whole_dataset = clip is None and not _is_one_clip(source)
        with common.progress_bars() as on_progress:
            for done, number in enumerate(numbers, 1):
                try:
                    found = _with_rate(reader[number])
                    path = _path(found, kind, out, whole_dataset)
                    if path in written:
                        raise AnthroTapError("a second row with this clip_id is skipped", path=path)
                    written += _export(found, format, path, overwrite)
                except ValueError as error:
                    # Of a whole dataset, a clip that can't be written is reported at the end.
                    if not whole_dataset or isinstance(error, _ExistsError):
                        raise
                    failed.append(str(error))
                on_progress("clips", done, len(numbers))
    for line in failed:
        common.print_error(line)
    if as_json:
        common.print_json({"format": format, "files": [str(path) for path in written], "failed": failed})
    else:
        print("\n".join(map(str, written)))
        if written:
            print(f"read by: {kind.reader}")
    if failed:
        raise typer.Exit(1)


def _export_tracker(name: str, out: Path, frames: int, resolution: str, overwrite: bool, as_json: bool) -> None:
    """Write a tracker as an ONNX graph."""
    with common.cli_errors(out):
        height, width = common.read_resolution(resolution)
        if out.exists() and not overwrite:
            raise _ExistsError("exists already", path=out, hint="--overwrite replaces it")
        common.check_writable(out.parent)
        from anthrotap_hf.export.onnx_model import export_onnx
        from anthrotap_hf.pipelines import load_tracker

        model = load_tracker(name, "cpu").model
        inputs = export_onnx(model, out, num_frames=frames, height=height, width=width)
    if as_json:
        common.print_json({"format": ONNX, "files": [str(out)], "inputs": inputs})
    else:
        print(f"{out}\ninputs: {', '.join(inputs)}; `python -m pydoc anthrotap_hf.export.onnx_model` explains them")


def _refuse(reason: str, **options: object) -> None:
    """Raise AnthroTapError for the first of these options that is given: it would be ignored."""
    for name, value in options.items():
        if value is not None:
            raise AnthroTapError(reason, argument=name)


class _ExistsError(AnthroTapError):
    """A file that would be replaced."""


def _open(source: Path, clip: str | None, split: str | None, video: Path | None) -> tuple[Reader, Sequence[int]]:
    """Open what is exported, and return the numbers of the clips."""
    from anthrotap_hf.readers.points import PointClips
    from anthrotap_hf.readers.shards import ShardClips
    from anthrotap_hf.readers.tapvid import TapVidClips
    from anthrotap_hf.readers.tracks_file import TrackFileClips
    from anthrotap_hf.utils.safe_npz import safe_load_npz

    if _is_one_clip(source):
        _refuse(f"only for the rows of a dataset: {source} is one clip", clip=clip, split=split)
        if source.suffix == ".csv":
            _refuse("the video beside the .csv is taken", video=video)
            return PointClips(source), range(1)
        if source.suffix == ".npz" and "points" in safe_load_npz(source, ["points"]):
            _refuse("the .npz in TAP-Vid's layout has its own", video=video)
            return TapVidClips(source), range(1)
        return TrackFileClips(source, video), range(1)
    if video is not None:
        reason = "only for a file of tracks: rows of a dataset have their own"
        raise AnthroTapError(reason, argument="video")
    if source.is_file() and source.suffix != ".parquet":
        reason = "no tracks that can be exported"
        hint = "`anthrotap track` writes a .tracks.npz of a video, and `anthrotap label` a folder of shards"
        raise AnthroTapError(reason, path=source, hint=hint)
    shards = ShardClips.open(source, split=split)
    return shards, range(len(shards)) if clip is None else [shards.find(clip)]


def _with_rate(clip: TrackedClip) -> TrackedClip:
    """Return a clip with the rate of its video's file, where the file of its tracks does not say it."""
    from anthrotap_hf.video import probe

    if clip.fps is not None or not isinstance(clip.video, str | Path):
        return clip
    return replace(clip, fps=probe(clip.video).fps)


def _is_one_clip(source: Path) -> bool:
    """Return whether a file is of one clip's tracks, and not a dataset or a shard of one."""
    from anthrotap_hf.readers.exported_files import NOT_READ_BACK, suffix_of

    if source.is_dir():
        return any((source / name).is_file() for name in NOT_READ_BACK)
    return source.name.endswith((".csv", *NOT_READ_BACK)) or suffix_of(source) is not None


def _path(clip: TrackedClip, kind: Format, out: Path, whole_dataset: bool) -> Path:
    """Return where a clip is written: `out` itself, or a file in it."""
    if not (whole_dataset or (kind.suffix and out.is_dir())):
        return out
    # Shards of strangers may hold anything.
    if not re.fullmatch(r"\w[\w.-]*", clip.clip_id):
        raise AnthroTapError(f"no file can be called {clip.clip_id[:80]!r}")
    return out / f"{clip.clip_id}{kind.suffix}"


def _export(clip: TrackedClip, format: str, path: Path, overwrite: bool) -> list[Path]:
    """Write one clip; return the files."""
    kind: Format = FORMATS.load(format)
    files = [path]
    copy = None if kind.sidecar is None else kind.sidecar(clip, path)
    if copy is not None:
        files.append(copy)
    for file in files:
        is_empty_folder = file.is_dir() and not any(file.iterdir())
        if file.exists() and not overwrite and not is_empty_folder:
            raise _ExistsError("exists already", path=file, hint="--overwrite replaces it")
    export_clip(clip, path, format)
    return files
