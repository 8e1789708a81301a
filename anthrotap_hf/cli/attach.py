"""`anthrotap attach`: a dataset that came without its videos, and the videos, become one that trains."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from anthrotap_hf.cli.common import (
    Json,
    Overwrite,
    check_writable,
    cli_errors,
    fail,
    print_error,
    print_json,
    progress_bars,
)
from anthrotap_hf.utils.errors import missing_extra

MAX_SKIPPED = 50
# What to add to an error that an argument of `attach_videos` would accept.
WAYS_OUT = {
    "partial": "or leave their rows out with --partial",
    "allow_other_decoder": "accept them with --allow-other-decoder, or leave their rows out with --partial",
}


def attach(
    folder: Annotated[Path, typer.Argument(help="A label-only dataset.", metavar="DIR")],
    inputs: Annotated[list[Path], typer.Argument(help="Its videos, or folders of videos.", metavar="VIDEO...")],
    out: Annotated[Path, typer.Option(help="Folder for the dataset with videos.")],
    partial: Annotated[bool, typer.Option("--partial", help="Skip rows whose video is missing or refused.")] = False,
    allow_other_decoder: Annotated[
        bool,
        typer.Option(
            "--allow-other-decoder",
            help="Accept frames that another FFmpeg or OpenCV decodes a little differently from the labeled ones.",
        ),
    ] = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Put your videos into a dataset of labels whose videos may not be passed on.

    Videos are known by their bytes, whatever they are called, and cut as they were for the labels.

    Example: anthrotap attach labels videos --out full
    """
    try:
        from anthrotap_builder.attach import AttachError, attach_videos
        from anthrotap_builder.utils.video_paths import find_videos
    except ImportError as error:
        fail(str(missing_extra(error)))

    with cli_errors(out):
        check_writable(out)
        with progress_bars() as on_progress:
            videos = find_videos(inputs)
            try:
                done = attach_videos(folder, videos, out, partial, allow_other_decoder, overwrite, on_progress)
            except AttachError as error:
                hint = ", ".join(filter(None, [error.hint, WAYS_OUT.get(error.way_out or "")]))
                raise AttachError(error.reason, path=error.path, hint=hint or None) from error
    if as_json:
        print_json({"out": str(out), **asdict(done)})
        return
    for line in done.skipped[:MAX_SKIPPED]:
        print_error(f"skipped: {line}")
    if len(done.skipped) > MAX_SKIPPED:
        print_error(f"... and {len(done.skipped) - MAX_SKIPPED} rows more; {out / 'manifest.json'} lists them")
    print(f"{out}: {done.written} of {done.rows} rows, of {done.found} of {done.videos} videos")
