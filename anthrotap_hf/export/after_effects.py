"""After Effects: keyframe data, the text that its clipboard holds, as points of a motion tracker."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from anthrotap_hf.export.base import Format, frame_rate
from anthrotap_hf.tracks import TrackedClip, Tracks
from anthrotap_hf.utils.atomic_files import atomic_write

# The confidence of a label, percent.
VISIBLE, OCCLUDED, INVALID = 100, 50, 0


def write_after_effects(clip: TrackedClip, path: Path) -> None:
    """Write "Adobe After Effects 8.0 Keyframe Data": one tracker, one track point a track.

    Copy the whole text in an editor, select the layer of the footage, put the time indicator at its first frame and
    paste: pasted keyframes begin there, and the first of the text is frame 0. Layer and footage should have the rate
    and the size that the text names.

    - Feature Center and Attach Point: x and y in pixels of the layer, whose top left corner is (0, 0), the center of a
      1920x1080 layer (960, 540): as here, so nothing is converted. A keyframe where valid.
    - Confidence, a keyframe in every frame: 100 % where visible, 50 % where occluded, 0 % where invalid. So the
      three are kept apart, although After Effects draws a straight line between the keyframes around invalid frames.

    The layout is that of text copied from its Tracker panel (blocks `Motion Trackers, Tracker #1, Track Point #n`).
    Hundreds of track points make the Timeline slow: export few tracks.
    """
    tracks = clip.tracks
    lines = [
        "Adobe After Effects 8.0 Keyframe Data",
        "",
        f"\tUnits Per Second\t{round(frame_rate(clip), 3):g}",
        f"\tSource Width\t{tracks.width}",
        f"\tSource Height\t{tracks.height}",
        "\tSource Pixel Aspect Ratio\t1",
        "\tComp Pixel Aspect Ratio\t1",
        "",
    ]
    for n in range(len(tracks)):
        lines += _track_point(tracks, n)
    with atomic_write(path) as tmp_path:
        tmp_path.write_text("\n".join([*lines, "", "End of Keyframe Data", ""]), encoding="ascii")


def _track_point(tracks: Tracks, n: int) -> Iterator[str]:
    head = f"Motion Trackers\tTracker #1\tTrack Point #{n + 1}"
    positions = [f"\t{t}\t{x:.6g}\t{y:.6g}" for t, (x, y) in enumerate(tracks.xy[n]) if tracks.valid[n, t]]
    for name in ("Feature Center", "Attach Point") if positions else ():
        yield from (f"{head}\t{name}", "\tFrame\tX pixels\tY pixels", *positions, "")
    confidence = np.select([tracks.visible[n], tracks.occluded[n]], [VISIBLE, OCCLUDED], INVALID)
    yield from (
        f"{head}\tConfidence",
        "\tFrame\tpercent",
        *(f"\t{t}\t{percent}" for t, percent in enumerate(confidence)),
        "",
    )


FORMAT = Format(
    write_after_effects,
    ".txt",
    "copied from a text editor, pasted onto the footage's layer at its first frame",
)
