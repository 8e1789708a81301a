"""Trackers by masks: what stays on a person, and what of the background comes to lie on them."""

import numpy as np
import pytest

from anthrotap_hf.video import write_video
from benchmarks.real_trackers import LAG, follow_masks

SPEED = 3


@pytest.fixture
def folder(tmp_path):
    """A square of 24 pixels that moves to the right over 27 frames of 64x128."""
    frames = np.full((LAG + 3, 64, 128, 3), 60, np.uint8)
    masks = np.zeros(frames.shape[:3], np.uint8)
    for t in range(len(frames)):
        masks[t, 20:44, 10 + SPEED * t : 34 + SPEED * t] = 1
    frames[masks > 0] = 200
    folder = tmp_path / "square"
    folder.mkdir()
    write_video(folder / "square.mp4", frames, 24.0)
    np.savez(folder / "masks.npz", masks=np.packbits(masks, axis=-1))
    return folder


def following(speed: float, visible: bool):
    def track(frames, points, **_):
        tracks = np.repeat(points[:, None, 1:], len(frames), axis=1)
        tracks[..., 0] += speed * np.arange(len(frames))
        return {"tracks": tracks, "visible": np.full(tracks.shape[:2], visible)}

    return track


def test_points_are_kept_where_they_move_along_and_are_called_visible(folder):
    assert follow_masks(following(SPEED, True), folder)["kept"] == 100
    assert follow_masks(following(SPEED, False), folder) == {"kept": 0, "stray": 0}
    # Points that stay where they are: the square has gone, and has come over some of the background.
    still = follow_masks(following(0, True), folder)
    assert still["kept"] == 0
    assert still["stray"] > 0
