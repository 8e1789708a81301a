"""Projects: what a user said about the points of a video, in a file that the page and `anthrotap track` share.

A project is JSON: {"format": "anthrotap-project", "version": 1, "video": {"file", "sha256", "num_frames", "height",
"width", "fps"}, "model", "points": [{"id", "name", "queries": [[t, x, y], ...], "occluded": [[first, last], ...],
"deleted": [[first, last], ...]}, ...]}. It holds no tracks: they follow from it.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anthrotap_hf.pipelines.corrections import CorrectionError, EditedPoint
from anthrotap_hf.utils.atomic_files import atomic_write
from anthrotap_hf.utils.file_limits import read_json

FORMAT, VERSION = "anthrotap-project", 1
COLUMNS = ("id", "t", "x", "y")


@dataclass(frozen=True)
class ProjectVideo:
    """The video of a project: its file's name, SHA-256, number of frames, size in pixels and frames a second."""

    file: str
    sha256: str
    num_frames: int
    height: int
    width: int
    fps: float | None = None


@dataclass(frozen=True)
class Project:
    """What a user said about the points of a video; `video` is None for a CSV, which names none."""

    points: tuple[EditedPoint, ...]
    video: ProjectVideo | None = None
    model: str | None = None

    def check_video(self, path: Path | str, sha256: str, num_frames: int, height: int, width: int) -> None:
        """Raise CorrectionError unless this is the project's video: another file with the same frames will do."""
        own = self.video
        if own is None or own.sha256 == sha256:
            return
        if (own.num_frames, own.height, own.width) != (num_frames, height, width):
            raise CorrectionError(
                f"the corrections are of {own.file}, {own.num_frames} frames of {own.width}x{own.height}, and this "
                f"video has {num_frames} of {width}x{height}",
                path=path,
                hint="name the video that was corrected",
            )


def project_to_json(project: Project) -> dict[str, Any]:
    """Return a project as its file has it."""
    return {
        "format": FORMAT,
        "version": VERSION,
        "video": None if project.video is None else dataclasses.asdict(project.video),
        "model": project.model,
        "points": [dataclasses.asdict(point) for point in project.points],
    }


def project_from_json(content: Any) -> Project:
    """Return the project that a file's content describes.

    Raises:
        CorrectionError: if it is none, or of a version that is not known.
    """
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CorrectionError(f'no project: it must hold {{"format": "{FORMAT}", ...}}')
    if content.get("version") != VERSION:
        raise CorrectionError(
            f"version {content.get('version')!r} of projects is not known, {VERSION} is",
            hint="upgrade the package anthrotap",
        )
    try:
        points = tuple(_point(entry) for entry in content["points"])
        model = content.get("model")
        return Project(points, _video(content.get("video")), None if model is None else str(model))
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        reason = f"{error} is missing" if isinstance(error, KeyError) else str(error)
        raise CorrectionError(f"not a project as it should be: {reason}") from error


def _video(entry: Any) -> ProjectVideo | None:
    if entry is None:
        return None
    num_frames, height, width = (_whole(entry[name]) for name in ("num_frames", "height", "width"))
    fps = None if entry.get("fps") is None else float(entry["fps"])
    return ProjectVideo(str(entry["file"]), str(entry["sha256"]), num_frames, height, width, fps)


def _point(entry: Any) -> EditedPoint:
    spans = {
        kind: tuple((_whole(first), _whole(last)) for first, last in entry.get(kind) or ())
        for kind in ("occluded", "deleted")
    }
    queries = tuple((_whole(t), float(x), float(y)) for t, x, y in entry["queries"])
    return EditedPoint(_whole(entry["id"]), queries, spans["occluded"], spans["deleted"], str(entry.get("name") or ""))


def _whole(value: Any) -> int:
    # JSON's 1e999 is read as infinity.
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value % 1:
        raise ValueError(f"{value!r} is no whole number")
    return int(value)


def write_project(path: Path, project: Project) -> None:
    """Write a project, atomically."""
    with atomic_write(path) as tmp_path:
        tmp_path.write_text(json.dumps(project_to_json(project), indent=1))


def read_project(path: Path) -> Project:
    """Read a project, or a CSV of corrections with the columns id, t, x, y.

    Raises:
        CorrectionError: if it is neither, or says something that can't be.
        OSError: if it can't be opened.
    """
    try:
        if path.suffix.lower() == ".csv":
            return Project(_points_of_csv(path))
        return project_from_json(read_json(path, "utf-8-sig"))
    except UnicodeDecodeError as error:
        raise CorrectionError("not a text file (not UTF-8)", path=path) from error
    except CorrectionError as error:
        raise CorrectionError(error.reason, path=path, hint=error.hint) from error


def _points_of_csv(path: Path) -> tuple[EditedPoint, ...]:
    queries: dict[int, dict[int, tuple[int, float, float]]] = {}
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = [row for row in csv.reader(file) if row]
    if not rows or tuple(name.strip() for name in rows[0][:4]) != COLUMNS:
        raise CorrectionError(f"its heading must be {','.join(COLUMNS)}")
    for number, row in enumerate(rows[1:], 2):
        try:
            id_, t = (int(value) for value in row[:2])
            x, y = (float(value) for value in row[2:4])
        except ValueError as error:
            raise CorrectionError(f"line {number} is {','.join(row)}, not {','.join(COLUMNS)}") from error
        own = queries.setdefault(id_, {})
        if own.setdefault(t, (t, x, y)) != (t, x, y):
            raise CorrectionError(f"point {id_} is in two places in frame {t}: leave one out")
    if not queries:
        raise CorrectionError("no correction is in it")
    return tuple(EditedPoint(id_, tuple(own[t] for t in sorted(own))) for id_, own in queries.items())


__all__ = ["Project", "ProjectVideo", "project_from_json", "project_to_json", "read_project", "write_project"]
