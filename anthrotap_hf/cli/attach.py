"""`anthrotap attach`: a dataset that came without its videos, and the videos, become one that trains."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from anthrotap_hf.cli.common import check_writable, cli_errors, fail, print_error, print_json, progress_bars
from anthrotap_hf.utils.errors import missing_extra

SHOWN = 50


def attach(
    folder: Annotated[Path, typer.Argument(help="A label-only dataset.", metavar="DIR")],
    inputs: Annotated[
        list[Path], typer.Argument(help="Its videos, or folders of videos.", metavar="VIDEO...")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the dataset with videos.")],
    partial: Annotated[
        bool, typer.Option("--partial", help="Leave out rows whose video is missing or refused.")
    ] = False,
    allow_other_decoder: Annotated[
        bool,
        typer.Option(
            "--allow-other-decoder",
            help="Accept frames that another FFmpeg or OpenCV decodes a little differently from the labeled ones.",
        ),
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a dataset of an earlier run in the folder.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the summary as JSON instead of a line.")
    ] = False,
) -> None:
    """Put your videos into a dataset of labels whose videos may not be passed on.

    Videos are known by their bytes, whatever they are called, and cut as they were for the labels.

    Example: anthrotap attach labels videos --out full
    """
    try:
        from anthrotap_builder.attach import attach_videos
        from anthrotap_builder.utils.video_paths import find_videos
    except ImportError as error:
        fail(str(missing_extra(error)))

    with cli_errors(out):
        check_writable(out)
        with progress_bars() as on_progress:
            videos = find_videos(inputs)
            done = attach_videos(folder, videos, out, partial, allow_other_decoder, overwrite, on_progress)
    if as_json:
        print_json({"out": str(out), **asdict(done)})
        return
    for line in done.left_out[:SHOWN]:
        print_error(f"left out: {line}")
    if len(done.left_out) > SHOWN:
        print_error(f"... and {len(done.left_out) - SHOWN} rows more; {out / 'manifest.json'} lists them")
    print(f"{out}: {done.written} of {done.rows} rows, of {done.found} of {done.videos} videos")
