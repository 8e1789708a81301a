"""Points and projects as the page sends them, checked: they may come from anybody."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from anthrotap_hf.app.editor.sessions import EditSession, SessionError
from anthrotap_hf.pipelines.corrections import EditedPoint, check_points
from anthrotap_hf.pipelines.projects import FORMAT, VERSION, Project, ProjectVideo, project_from_json, project_to_json

# Points of one clip: so many can be drawn, tracked and told apart.
MAX_POINTS = 400
# Queries and stretches of one point.
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
    try:
        project = project_from_json(content)
    except OverflowError as error:
        raise SessionError("A number of the points is too large.") from error
    for point in project.points:
        if len(point.queries) + len(point.occluded) + len(point.deleted) > MAX_ENTRIES:
            raise SessionError(f"Point {point.id} has too many queries for this page.")
        if not 0 <= point.id < 2**31 or len(point.name) > MAX_NAME:
            raise SessionError(f"A point has a number from 0 up, and a name of at most {MAX_NAME} characters.")
    video = session.video
    project.check_video(session.name, session.sha256, video.frames, video.height, video.width)
    check_points(project.points, video.frames, video.height, video.width)
    return list(project.points)


def as_json(points: list[EditedPoint]) -> list[dict[str, Any]]:
    """Return points as the page and a project have them."""
    return project_to_json(Project(tuple(points)))["points"]


def make_project(points: list[EditedPoint], session: EditSession) -> Project:
    """Return the project of a clip, which names its file as the visitor does."""
    video = session.video
    about = ProjectVideo(Path(session.name).name, session.sha256, video.frames, video.height, video.width, video.fps)
    return Project(tuple(points), about, session.tracker)
