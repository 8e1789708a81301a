"""After Effects: keyframe data, the text that its clipboard holds, as points of a tracker; and a script of nulls."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from anthrotap_hf.export.base import Format, frame_rate, frame_times
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
    program="After Effects, tracker",
    use="Copy the whole text, select the footage's layer in After Effects, go to its first frame and paste: the layer "
    "gets a motion tracker with these points.",
)

# In the dialect of 1999 that After Effects runs. `begin` is where the first frame of the footage lies.
SCRIPT = """\
// Point tracks of AnthroTAP as nulls. Run it by File > Scripts > Run Script File.
// The composition that is open gets a null for each track; a selected layer of footage says where its first frame lies.
var SIZE = {size};
var TIMES = {times};
var TRACKS = [
{tracks}
];

(function () {{
    var comp = app.project.activeItem;
    if (!(comp instanceof CompItem)) {{
        alert("Open the composition of the footage first, then run this script again.");
        return;
    }}
    if (Math.abs(comp.width * SIZE[1] - comp.height * SIZE[0]) > Math.max(comp.width, comp.height)) {{
        alert("The composition is not of the shape of the tracks, " + SIZE.join(" x ") + ".");
        return;
    }}
    var scale = comp.width / SIZE[0];
    var begin = comp.selectedLayers.length ? comp.selectedLayers[0].startTime : 0;
    app.beginUndoGroup("AnthroTAP tracks");
    for (var n = 0; n < TRACKS.length; n++) {{
        var track = TRACKS[n], layer = comp.layers.addNull(comp.duration);
        layer.name = track.name;
        layer.property("ADBE Transform Group").property("ADBE Anchor Point").setValue([0, 0]);
        var slider = layer.property("ADBE Effect Parade").addProperty("ADBE Slider Control");
        slider.name = "Confidence";
        addKeys(slider.property(1), track.confidence.frames, track.confidence.values, begin, true);
        var places = [];
        for (var k = 0; k < track.xy.length; k++) {{
            places.push([track.xy[k][0] * scale, track.xy[k][1] * scale]);
        }}
        var position = layer.property("ADBE Transform Group").property("ADBE Position");
        addKeys(position, track.frames, places, begin, false);
        holdGaps(position, track.frames);
    }}
    app.endUndoGroup();

    function addKeys(property, frames, values, begin, hold) {{
        var times = [];
        for (var k = 0; k < frames.length; k++) {{
            times.push(begin + TIMES[frames[k]]);
        }}
        property.setValuesAtTimes(times, values);
        for (k = 1; hold && k <= frames.length; k++) {{
            property.setInterpolationTypeAtKey(k, KeyframeInterpolationType.HOLD);
        }}
    }}

    // Keys are linear; where frames in between are invalid the null stays.
    function holdGaps(property, frames) {{
        for (var k = 0; k < frames.length; k++) {{
            var gap = k + 1 < frames.length && frames[k + 1] > frames[k] + 1;
            var type = gap ? KeyframeInterpolationType.HOLD : KeyframeInterpolationType.LINEAR;
            property.setInterpolationTypeAtKey(k + 1, KeyframeInterpolationType.LINEAR, type);
        }}
    }}
}})();
"""


def write_nulls(clip: TrackedClip, path: Path) -> None:
    """Write a script that adds a null for each track to the composition that is open.

    Run it by File > Scripts > Run Script File. Parent a layer to a null, or pick its Position by the pick whip.

    - Position: a keyframe where valid, in pixels of the composition, whose top left corner is (0, 0), as here; a
      composition of another size and the same shape is allowed, and positions are scaled. Linear between frames that
      follow each other; where invalid frames lie between, the null stays until the next keyframe.
    - Confidence, a slider of the null, with a keyframe where it changes: 100 where visible, 50 where occluded, 0 where
      invalid. An expression may hide what is not visible: `effect("Confidence")(1) == 100 ? 100 : 0` for an Opacity.
    - Time: that of each frame in the video, from the start of the selected layer on; from 0 if none is selected.

    Nulls are called as the clip's `names` say, one a track, else "track 0" and so on. Tracks without a valid label are
    not written.
    """
    tracks = clip.tracks
    names = clip.info.get("names") or [f"track {n}" for n in range(len(tracks))]
    lines = []
    for n in np.flatnonzero(tracks.valid.any(1)):
        frames = np.flatnonzero(tracks.valid[n])
        confidence = np.select([tracks.visible[n], tracks.occluded[n]], [VISIBLE, OCCLUDED], INVALID)
        changes = np.flatnonzero(np.diff(confidence, prepend=-1))
        track = {
            "name": str(names[n]),
            "confidence": {"frames": changes.tolist(), "values": confidence[changes].tolist()},
            "frames": frames.tolist(),
            "xy": [[float(f"{value:.7g}") for value in xy] for xy in tracks.xy[n, frames]],
        }
        lines.append(json.dumps(track))
    times = [round(time, 6) for time in frame_times(clip).tolist()]
    size = [tracks.width, tracks.height]
    script = SCRIPT.format(size=json.dumps(size), times=json.dumps(times), tracks=",\n".join(lines))
    with atomic_write(path) as tmp_path:
        tmp_path.write_text(script, encoding="ascii")


NULLS = Format(
    write_nulls,
    ".jsx",
    "File > Scripts > Run Script File in After Effects, with the composition of the footage open",
    program="After Effects, nulls",
    use="Open the footage's composition, select its layer and choose File > Scripts > Run Script File: each point "
    "becomes a null with position keyframes, to parent layers to.",
)
