"""Blender: a script that puts the tracks into a movie clip, as its own tracking leaves them there."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np

from anthrotap_hf.export.base import Format, exported_frames
from anthrotap_hf.tracks import TrackedClip, Tracks
from anthrotap_hf.utils.atomic_files import atomic_write
from anthrotap_hf.visualization.overlay import track_colors

VISIBLE, OCCLUDED, END = 0, 1, 2

SCRIPT = '''"""Point tracks for Blender's movie clip editor, written by `anthrotap export --format blender`.

Run it by `blender --python FILE`, or in Blender's text editor (Open, Run Script). The tracks go into the clip that is
open in a movie clip editor; where there is none, VIDEO is opened.
"""

import bpy

VIDEO = {video!r}
SIZE = ({width}, {height})
VISIBLE, OCCLUDED, END = range(3)
# Name, color, and markers: frame (the clip's first is 1), x and y as fractions of the clip with y up, state.
TRACKS = [
{tracks}
]


def open_clip():
    for area in bpy.context.screen.areas if bpy.context.screen else ():
        if area.type == "CLIP_EDITOR" and area.spaces.active.clip:
            return area.spaces.active.clip
    if VIDEO is None:
        raise RuntimeError("open the video in a movie clip editor first, then run this script")
    return bpy.data.movieclips.load(VIDEO, check_existing=True)


def add_tracks(clip):
    width, height = clip.size
    if abs(width * SIZE[1] - height * SIZE[0]) > max(width, height):
        raise RuntimeError(f"the clip is {{width}}x{{height}}, the tracks are of {{SIZE[0]}}x{{SIZE[1]}}")
    for name, color, markers in TRACKS:
        track = clip.tracking.tracks.new(name=name, frame=markers[0][0])
        track.use_custom_color = True
        track.color = color
        for frame, x, y, state in markers:
            marker = track.markers.insert_frame(frame, co=(x, y))
            marker.mute = state != VISIBLE
            marker.is_keyed = state == END


add_tracks(open_clip())
'''


def video_beside(clip: TrackedClip, path: Path) -> Path | None:
    """Return where the video of a script goes; None if it is a file already."""
    return path.with_name(f"{path.stem}.clip.mp4") if isinstance(clip.video, bytes) else None


def write_blender(clip: TrackedClip, path: Path) -> None:
    """Write a Python script with the tracks in it.

    - A marker's position is x / W, 1 - y / H: Blender's are fractions of the frame with the origin in its lower left
      corner, the first pixel's center half a pixel in (blenkernel/intern/tracking_util.cc takes 0.5 off when it hands
      pixels to libmv, whose first center is (0, 0)). Frame t is the clip's frame t + 1.
    - Visible: a marker, not keyed, as tracking leaves it. Occluded: a disabled (muted) marker, which solvers and
      stabilization ignore. Invalid: no marker; since Blender holds a marker until the next one, the first of several
      invalid frames has a disabled marker at the last position, which is keyed: so the three are kept apart. Tracks
      without a valid label are not written.
    - The script names the video's file and opens it where no clip is open; of bytes, a file NAME.clip.mp4 is
      written beside it. The frame rate is not written: Blender asks the video.

    Raises:
        VideoError: as `exported_frames`.
    """
    tracks, video = clip.tracks, clip.video
    file: str | None = None
    if video is not None:
        # Read to the end to check that it is the video of these tracks.
        for _ in exported_frames(clip):
            pass
        beside = video_beside(clip, path)
        if isinstance(video, bytes) and beside is not None:
            file = str(beside.absolute())
            with atomic_write(file) as tmp_path:
                tmp_path.write_bytes(video)
        elif isinstance(video, str | Path):
            file = os.path.abspath(video)
    colors = np.round(track_colors(tracks) / 255, 3)
    lines = [
        f"    {json.dumps([f'track {n}', colors[n].tolist(), markers])},"
        for n, markers in enumerate(_markers(tracks))
        if markers
    ]
    script = SCRIPT.format(video=file, width=tracks.width, height=tracks.height, tracks="\n".join(lines))
    with atomic_write(path) as tmp_path:
        tmp_path.write_text(script, encoding="utf-8")


def _markers(tracks: Tracks) -> list[list[list[float]]]:
    """Return [frame, x, y, state] of each marker of each track."""
    positions = tracks.xy / np.array([tracks.width, tracks.height], np.float32) * [1, -1] + [0, 1]
    found = []
    for n in range(len(tracks)):
        markers: list[list[float]] = []
        for t in range(tracks.num_frames):
            if tracks.valid[n, t]:
                x, y = positions[n, t].round(7).tolist()
                markers.append([t + 1, x, y, VISIBLE if tracks.visible[n, t] else OCCLUDED])
            elif t and tracks.valid[n, t - 1]:
                markers.append([t + 1, *markers[-1][1:3], END])
        found.append(markers)
    return found


FORMAT = Format(
    write_blender,
    ".py",
    "blender --python FILE, or Run Script in its text editor",
    video="is opened with the tracks",
    sidecar=video_beside,
    program="Blender",
    use="Open the clip in the Movie Clip Editor, open this file in the Text Editor and choose Run Script: the points "
    "become tracking markers.",
)
