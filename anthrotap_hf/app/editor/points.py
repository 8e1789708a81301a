"""Points and projects as the page sends them, checked: they may come from anybody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from anthrotap_hf.app.editor.sessions import EditSession, SessionError
from anthrotap_hf.app.tracking import MAX_POINTS
from anthrotap_hf.pipelines.corrections import EditedPoint, check_points
from anthrotap_hf.pipelines.projects import FORMAT, VERSION, Project, ProjectVideo, project_from_json, project_to_json
from anthrotap_hf.pipelines.queries import query_points
from anthrotap_hf.utils.errors import one_line

# Points a side of the grid over a lasso.
GRIDS = (1, 2, 3, 5, 8, 12)
# Queries and stretches of one point, and corners of a lasso.
MAX_ENTRIES = 4000
MAX_NAME = 60


def read_points(content: Any, session: EditSession) -> list[EditedPoint]:
    """Return points from a list of them, as a project has it.

    Raises:
        SessionError: it is no list of points, or of too many.
        CorrectionError: points contradict each other, or lie outside the clip.
    """
    return read_project({"format": FORMAT, "version": VERSION, "points": content}, session)


def read_project(content: Any, session: EditSession) -> list[EditedPoint]:
    """Return the points of a project for this clip; raise as `read_points`, also if it is of another clip."""
    points = content.get("points") if isinstance(content, dict) else None
    if isinstance(points, list) and len(points) > MAX_POINTS:
        raise SessionError(f"{len(points):,} points are too many: {MAX_POINTS} are the most that this page edits.")
    project = project_from_json(content)
    for point in project.points:
        if len(point.queries) + len(point.occluded) + len(point.deleted) > MAX_ENTRIES:
            raise SessionError(f"Point {point.id} has too many queries for this page.")
        if not 0 <= point.id < 2**31 or len(point.name) > MAX_NAME:
            raise SessionError(f"A point has a number from 0 up, and a name of at most {MAX_NAME} characters.")
    video = session.video
    project.check_video(session.name, session.sha256, video.frames, video.height, video.width)
    check_points(project.points, video.frames, video.height, video.width)
    return list(project.points)


def points_inside(content: dict[str, Any], session: EditSession) -> list[tuple[int, float, float]]:
    """Return (t, x, y) of a grid over a lasso, of those points that lie inside.

    Args:
        content: "lasso", the [[x, y], ...] of a polygon in pixels of the clip; "t", the frame; "size", of the grid.
        session: the clip.

    Raises:
        SessionError: it is no polygon, or nothing lies inside.
    """
    video, corners, t, size = session.video, content.get("lasso"), content.get("t"), content.get("size")
    try:
        polygon = np.array(corners, np.float64)
        if polygon.ndim != 2 or polygon.shape[1] != 2 or not 3 <= len(polygon) <= MAX_ENTRIES:
            raise ValueError("a lasso is a polygon: draw around something")
        if not np.isfinite(polygon).all() or size not in GRIDS:
            raise ValueError(f"a lasso has finite corners, and a grid of {', '.join(map(str, GRIDS))} points a side")
        # Far corners would not fit into what OpenCV counts with.
        polygon = np.clip(polygon, -1, [video.width + 1, video.height + 1])
        mask = np.zeros((video.height, video.width), np.uint8)
        # Of OpenCV's pixels, the first center is (0, 0); four bits are fractions.
        cv2.fillPoly(mask, [np.round((polygon - 0.5) * 16).astype(np.int32)], 1, shift=4)
        found = query_points(
            video.frames, video.height, video.width, grid_size=size, query_frame=t, mask=mask.astype(bool)
        )
    except (TypeError, ValueError) as error:
        raise SessionError(one_line(error)) from error
    return [(int(row[0]), float(row[1]), float(row[2])) for row in found]


def as_json(points: list[EditedPoint]) -> list[dict[str, Any]]:
    """Return points as the page and a project have them."""
    return project_to_json(Project(tuple(points)))["points"]


def make_project(points: list[EditedPoint], session: EditSession) -> Project:
    """Return the project of a clip, which names its file as the visitor does."""
    video = session.video
    about = ProjectVideo(Path(session.name).name, session.sha256, video.frames, video.height, video.width, video.fps)
    return Project(tuple(points), about, session.tracker)
