"""The frames of a video beside its tracks, for the formats that hold both."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from anthrotap_hf.tracks import Tracks
from anthrotap_hf.video import VideoError, VideoSource, iter_frames


def frames_of(video: VideoSource, tracks: Tracks) -> Iterator[np.ndarray]:
    """The frames of a clip, [H, W, 3] uint8 RGB, one at a time.

    Raises:
        VideoError: if it can't be read, or has another size or number of frames than the tracks.
    """
    name = "the clip's video" if isinstance(video, bytes) else video
    count = 0
    for frame in iter_frames(video):
        height, width = frame.image.shape[:2]
        if (height, width) != (tracks.height, tracks.width):
            raise VideoError(
                f"{name}: is {width}x{height}, the tracks are of {tracks.width}x{tracks.height}; name the "
                "video that was tracked"
            )
        count += 1
        if count > tracks.num_frames:
            break
        yield frame.image
    if count != tracks.num_frames:
        more = "more" if count > tracks.num_frames else f"{count}"
        raise VideoError(
            f"{name}: has {more} frames, the tracks have {tracks.num_frames}; name the video that was tracked"
        )
