"""The page's heavy work, in a process of its own that may be killed: `python -m anthrotap_hf.app.jobs`.

Jobs come in as lines of JSON on stdin, what happens goes out as lines of JSON on stdout: {"progress": [what, done,
total]}, then {"result": ...} or {"error": "one line"}. Files are read and written in the folder that a job names. The
process ends when its stdin does, in the middle of a job, too.
"""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
import time
import traceback
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

Tell = Callable[[str, int, int | None], None]
TELL_EVERY = 0.1  # seconds between two lines of progress
STAGES = {
    "detection": "detecting people",
    "mesh_recovery": "fitting bodies",
    "visibility": "testing visibility",
    "flow": "measuring motion",
    "filtering": "filtering labels",
}


class JobError(Exception):
    """A job that can't be done. The message is one sentence for the visitor."""


def track(job: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Tracks points by each of the models; overlays, files and, with two models, how far they differ.

    Args:
        job: `video`, a file's name; `points`, [[t, x, y], ...]; `models`, [[name, folder or Hub id], ...]; `device`.
        tell: is told of progress.
    """
    import numpy as np

    from anthrotap_hf.app.comparing import differences, write_compared
    from anthrotap_hf.export.track_files import found_tracks, track_files, write_tracks
    from anthrotap_hf.pipelines import TrackerError, load_tracker
    from anthrotap_hf.utils.errors import format_error
    from anthrotap_hf.video import probe

    video = Path(job["video"])
    info = probe(video)
    queries = np.array(job["points"], np.float64)
    found, rows, files = {}, [], []
    for name, where in job["models"]:
        tell(f"loading {name}", 0, None)
        key = (where, job["device"])
        if key not in _trackers:
            try:
                _trackers[key] = load_tracker(where, job["device"])
            except TrackerError as error:
                reason = format_error(error.reason, hint=error.hint)
                raise JobError(f"The tracker {name} can't be loaded: {reason}") from error
        begin = time.perf_counter()

        def progress(what: str, done: int, total: int | None, name: str = name) -> None:
            tell(f"{what} ({name})", done, total)

        found[name] = _trackers[key](str(video), points=job["points"], progress=progress)
        seconds = time.perf_counter() - begin
        visible = found[name]["visible"]
        own = track_files(Path(), video.stem if len(job["models"]) == 1 else f"{video.stem}.{name}")

        def drawing(t: int, name: str = name, total: int = visible.shape[1]) -> None:
            tell(f"drawing ({name})", t, total)

        write_tracks(own, video, info, found[name], queries, name, drawing)
        files += own
        rows.append({"model": name, "seconds": seconds, "visible": float(visible.mean())})
    result: dict[str, Any] = {"models": rows, "points": len(queries), "frames": visible.shape[1]}
    overlay = files[0]
    if len(found) == 2:
        drawn = {name: found_tracks(one, info) for name, one in found.items()}
        overlay = Path(f"{video.stem}.compared.mp4")
        write_compared(overlay, video, info, drawn, lambda t: tell("comparing", t, visible.shape[1]))
        files.append(overlay)
        result["differences"] = differences(*drawn.values())
    return result | {"overlay": str(overlay), "files": [str(file) for file in files]}


_trackers: dict[tuple[str, str], Any] = {}


def label(job: dict[str, Any], tell: Tell) -> dict[str, Any]:
    """Labels the people of a video by the open recipe; an overlay, a picture, and the dataset as a zip.

    Args:
        job: `video`, a file's name; `threads`, frames worked on at once; `device`.
        tell: is told of progress.
    """
    from anthrotap_hf.utils.errors import missing_extra

    try:
        from anthrotap_builder.config import labeling_config
        from anthrotap_builder.label_videos import label_videos
        from anthrotap_builder.utils.assets import AssetError
        from anthrotap_builder.utils.video_paths import OVERLAY
        from anthrotap_hf.utils.settings import recipe_named
    except ImportError as error:
        raise JobError(f"{missing_extra(error)}") from error
    from rich.console import Console

    video, out = Path(job["video"]), Path("labels")
    tell("getting ready", 0, None)
    config = labeling_config(recipe_named("open"), {})
    with open(os.devnull, "w") as nowhere:
        try:
            (report,) = label_videos(
                *([video], out, config, job["threads"], True, Console(file=nowhere)),
                device=job["device"],
                on_progress=lambda stage, done, total: tell(STAGES.get(stage, stage), done, total),
            )
        except (AssetError, ImportError) as error:
            raise JobError(str(error)) from error
    if not report.clips:
        return {"failure": report.failure, "left_out": report.left_out}
    packed = Path(f"{video.stem}.labels.zip")
    with zipfile.ZipFile(packed, "w") as archive:  # Parquet is compressed by itself
        for file in (*sorted(out.glob("data/*.parquet")), out / "manifest.json"):
            archive.write(file, file.relative_to(out))
    overlay, picture = out / f"{video.stem}{OVERLAY}", out / f"{video.stem}.tracks.jpg"
    files = [str(file) for file in (packed, overlay, picture)]
    totals = {key: value for key, value in report.totals().items() if value == value}
    return {
        "failure": report.failure,
        "left_out": report.left_out,
        "totals": totals,
        "overlay": str(overlay),
        "picture": str(picture),
        "files": files,
    }


JOBS = {"track": track, "label": label}


def serve() -> None:
    """Does the jobs on stdin, one after the other, until there are no more."""
    # Libraries print what they like: to the error stream.
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    lines: queue.Queue[str] = queue.Queue()

    def listen() -> None:
        for line in sys.stdin:
            lines.put(line)
        os._exit(0)  # whoever asked is gone

    threading.Thread(target=listen, daemon=True).start()

    def print_error(message: dict[str, Any]) -> None:
        out.write(json.dumps(message) + "\n")

    while True:
        job = json.loads(lines.get())
        told = ["", 0.0]

        def tell(what: str, done: int, total: int | None, told: list[Any] = told) -> None:
            now = time.monotonic()
            if what != told[0] or done == total or now - told[1] > TELL_EVERY:
                told[:] = what, now
                print_error({"progress": [what, done, total]})

        os.chdir(job["folder"])
        try:
            print_error({"result": JOBS[job["do"]](job, tell)})
        except (JobError, ValueError) as error:
            print_error({"error": " ".join(str(error).split())})
        except Exception as error:  # noqa: BLE001  native libraries raise what they like; the page must hear of it
            traceback.print_exc()
            print_error(
                {"error": f"It stopped by an error ({type(error).__name__}: {' '.join(str(error).split())})."}
            )
        finally:
            os.chdir("/")  # the folder may be deleted


if __name__ == "__main__":
    serve()
