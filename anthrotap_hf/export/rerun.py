"""Rerun: a recording (.rrd) of frames and points on a timeline of frames, for its viewer."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import repeat
from pathlib import Path

import numpy as np

from anthrotap_hf.export.base import Format, exported_frames, frame_times
from anthrotap_hf.tracks import TrackedClip
from anthrotap_hf.utils.atomic_files import atomic_write
from anthrotap_hf.utils.errors import missing_extra
from anthrotap_hf.visualization.overlay import dot_radius, track_colors

# Of the frames' JPEG.
QUALITY = 85


def write_rerun(clip: TrackedClip, path: Path) -> None:
    """Write a recording with the timelines `frame` (from 0) and `time` (seconds).

    - `video`: the frames, as JPEG, if there is a video.
    - `video/visible` and `video/occluded`: points of visible and of occluded labels, each with its track's color,
      occluded ones smaller and half transparent; components `track` and `person` tell which. Invalid labels have none.

    Rerun's 2D space of an image has its origin in the top left corner of the first pixel, whose center is (0.5, 0.5):
    as here, so nothing is converted (rerun.io, "Pinhole" and "Image": pixel coordinates, origin top left).

    Raises:
        VideoError: as `exported_frames`.
        ImportError: without rerun-sdk.
    """
    try:
        import rerun as rr
    except ImportError as error:
        raise missing_extra(error, "rerun") from error

    tracks, times = clip.tracks, frame_times(clip)
    colors, radius = track_colors(tracks), dot_radius(tracks)
    frames: Iterable[np.ndarray | None] = repeat(None, tracks.num_frames)
    if clip.video is not None:
        frames = exported_frames(clip)
    with atomic_write(path) as tmp_path:
        recording = rr.RecordingStream("anthrotap", make_default=False, make_thread_default=False)
        recording.save(tmp_path)
        for t, frame in enumerate(frames):
            recording.set_time("frame", sequence=t)
            recording.set_time("time", duration=times[t])
            if frame is not None:
                recording.log("video", rr.Image(frame).compress(jpeg_quality=QUALITY))
            for name, labels, opacity, size in (
                ("visible", tracks.visible[:, t], 255, radius),
                ("occluded", tracks.occluded[:, t], 128, 0.6 * radius),
            ):
                own = np.flatnonzero(labels)
                rgba = np.column_stack([colors[own], np.full(len(own), opacity, np.uint8)])
                recording.log(
                    f"video/{name}",
                    rr.Points2D(tracks.xy[own, t], colors=rgba, radii=np.full(len(own), size, np.float32)),
                    rr.AnyValues(track=own.astype(np.int32), person=tracks.person[own]),
                )
        recording.flush()
        recording.disconnect()


FORMAT = Format(
    write_rerun,
    ".rrd",
    "rerun FILE",
    video="goes in, as frames",
    program="Rerun",
    use="Run `rerun FILE`, or drop the file on the viewer: the frames with the points over time.",
)
