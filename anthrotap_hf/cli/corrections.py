"""`anthrotap track --corrections`: tracks that pass through what a user said about points; what is known is kept."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anthrotap_hf.pipelines.corrections import EditedTracks, PointEditor
from anthrotap_hf.pipelines.projects import Project, ProjectVideo, project_from_json, project_to_json
from anthrotap_hf.readers.base import load_labels
from anthrotap_hf.utils.errors import AnthroTapError

if TYPE_CHECKING:
    from anthrotap_hf.pipelines import PointTrackingPipeline
    from anthrotap_hf.video import VideoInfo

ARRAYS = ("tracks", "visible", "valid", "scores", "uncertainty", "ids", "project")


def track_corrected(
    tracker: PointTrackingPipeline,
    video: Path,
    info: VideoInfo,
    sha256: str,
    project: Project,
    model: str,
    earlier: Path,
    resolution: tuple[int, int] | None,
    on_progress: Callable[[int, int], object],
) -> tuple[dict[str, Any], np.ndarray, str]:
    """Track the points of a project, and keep what an earlier run with the same tracker has found.

    Args:
        tracker, video, info, sha256: the tracker, and the video with its SHA-256.
        project: what is said of the points.
        model: the tracker's name.
        earlier: the .npz of an earlier run, if there is one.
        resolution: of the model.
        on_progress: called with the number of stretches that are tracked, and how many there are.

    Returns:
        What was found as the pipeline returns it, and the project; the first query [N, 3] of each point; and a sentence
        on how much was tracked.

    Raises:
        CorrectionError: if the project is of another video, or says what can't be.
    """
    from anthrotap_builder.clips.shots import find_cuts

    editor = PointEditor(tracker, str(video), find_cuts(str(video)), resolution)
    project.check_video(video, sha256, editor.num_frames, editor.height, editor.width)
    size = ProjectVideo(video.name, sha256, editor.num_frames, editor.height, editor.width, info.fps)
    whole = Project(project.points, size, f"{model} at {resolution or 'its own resolution'}")
    kept = _restore(editor, earlier, whole)
    tracks = editor.track(project.points, progress=on_progress)
    queries = np.array([point.queries[0] for point in project.points], np.float32)
    said = f"{editor.tracked_frames:,} frames of points tracked (between two places, from both)"
    said += f"; the rest is that of {earlier}" if kept else ""
    own = {"ids": np.array(tracks.ids), "project": np.array(json.dumps(project_to_json(whole)))}
    return tracks.found() | own, queries, said


def _restore(editor: PointEditor, earlier: Path, project: Project) -> bool:
    """Let the editor keep the tracks of an earlier run, if it was of the same video and tracker."""
    if not earlier.is_file():
        return False
    try:
        arrays = load_labels(earlier, ARRAYS, ())
        before = project_from_json(json.loads(str(arrays["project"])))
        if (before.video, before.model) != (project.video, project.model):
            return False
        tracks = EditedTracks(
            [int(number) for number in arrays["ids"]],
            *(arrays[name] for name in ("tracks", "visible", "valid", "scores", "uncertainty")),
        )
        editor.restore(before.points, tracks)
    except (AnthroTapError, OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile):
        # It is none of an earlier run with corrections: everything is tracked.
        return False
    return True
