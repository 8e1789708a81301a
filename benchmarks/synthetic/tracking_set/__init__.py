"""The tracking set: rendered people and objects with exact tracks of their points, as TAP-Vid pickles them.

Trackers are evaluated on `humans.pkl` and `objects.pkl`, and monitored on `validation.pkl` while they train. No clip
has a motion, clothing or an object in common with another, nor with the clips of `standard_set`.
"""

from benchmarks.synthetic.tracking_set.clips import FILES, TrackingClip, tracking_set
from benchmarks.synthetic.tracking_set.files import (
    RenderedTracks,
    load_clips,
    render_tracks,
    write_tracking_set,
)

__all__ = [
    "FILES",
    "RenderedTracks",
    "TrackingClip",
    "load_clips",
    "render_tracks",
    "tracking_set",
    "write_tracking_set",
]
