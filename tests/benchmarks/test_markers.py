"""The marker tracker on balls with known trajectories."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from benchmarks.real_footage.markers import MarkerSettings, find_blobs, follow_markers

T, HEIGHT, WIDTH = 30, 160, 200


def _scene(paths: list[np.ndarray], until: int = T, radius: float = 4.5) -> np.ndarray:
    """[T, H, W, 3] uint8: gray balls on skin with some texture; each path is [T, 2] raster xy."""
    rng = np.random.default_rng(0)
    skin = cv2.GaussianBlur(rng.normal(0, 12, (HEIGHT, WIDTH)).astype(np.float32), None, 3)
    frames = np.empty((T, HEIGHT, WIDTH, 3), np.uint8)
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    for t in range(T):
        picture = np.array([190.0, 140.0, 110.0]) + skin[..., None]
        for path in paths if t < until else []:
            distance = np.hypot(x - path[t, 0], y - path[t, 1])
            ball = np.clip(radius + 0.5 - distance, 0, 1)[..., None]
            picture = picture * (1 - ball) + 225 * ball
        frames[t] = np.clip(picture + rng.normal(0, 2, picture.shape), 0, 255)
    return frames


def _path(x: float, y: float, dx: float, dy: float, sway: float = 0.0) -> np.ndarray:
    t = np.arange(T)
    return np.stack([x + dx * t + sway * np.sin(t / 4), y + dy * t], axis=1)


EVERYWHERE = np.ones((T, HEIGHT, WIDTH), bool)


def test_a_ball_is_tracked_to_a_fraction_of_a_pixel():
    path = _path(40.3, 50.6, 3.37, 1.21, sway=6)
    tracks = follow_markers(_scene([path]), EVERYWHERE)

    assert len(tracks) == 1
    error = np.linalg.norm(tracks.xy[0] - path, axis=1)
    assert np.isfinite(error).all()
    assert error.max() < 0.35
    assert np.linalg.norm(np.mean(tracks.xy[0] - path, axis=0)) < 0.15  # no half pixel off


def test_two_balls_are_two_markers_each_followed_once():
    paths = [_path(40, 40, 3, 1), _path(60, 110, 2, -0.5)]
    tracks = follow_markers(_scene(paths), EVERYWHERE)
    assert len(tracks) == 2
    nearest = [min(np.abs(track - path).max() for path in paths) for track in tracks.xy]
    assert max(nearest) < 0.5


def test_tracking_of_a_ball_ends_where_it_disappears():
    tracks = follow_markers(_scene([_path(40, 50, 3, 1)], until=20), EVERYWHERE)
    assert len(tracks) == 1
    assert np.isfinite(tracks.xy[0, :20]).all()
    assert np.isnan(tracks.xy[0, 20:]).all()


def test_still_objects_are_background():
    assert len(follow_markers(_scene([_path(40, 50, 0, 0)]), EVERYWHERE)) == 0


def test_markers_are_detected_only_where_allowed():
    assert len(follow_markers(_scene([_path(40, 50, 3, 1)]), ~EVERYWHERE)) == 0


def test_colored_objects_are_no_markers():
    frames = _scene([_path(40, 50, 3, 1)])
    frames[..., 2] = np.minimum(frames[..., 2], 130)  # a yellow ball
    assert len(follow_markers(frames, EVERYWHERE)) == 0


def test_a_bright_bar_is_not_round():
    response = np.zeros((60, 60), np.float32)
    response[30, 5:55] = 40
    blurred = cv2.GaussianBlur(response, None, 2)
    assert len(find_blobs(blurred, np.ones((60, 60), bool), MarkerSettings(min_response=1))) == 0


def test_wrong_shapes_are_an_error():
    frames = _scene([])
    with pytest.raises(ValueError, match="uint8"):
        follow_markers(frames.astype(np.float32), EVERYWHERE)
    with pytest.raises(ValueError, match="allowed"):
        follow_markers(frames, EVERYWHERE[:5])
