"""Points that leave the frame: occluded, on its border or beyond it, never at its other side."""

from __future__ import annotations

import numpy as np
import pytest

from anthrotap_hf.models.tapir.modeling_tapir import TAPIROutput
from anthrotap_hf.pipelines import load_tracker
from anthrotap_hf.pipelines.leaving import LASTING, Found, keep_in_order
from anthrotap_hf.pipelines.point_tracking import estimates

HEIGHT, WIDTH = 60, 100


def order(x, visible, t=0, outside=True) -> Found:
    """One point at these x, y = 30, asked where it is in frame `t`."""
    xy = np.stack([np.asarray(x, float), np.full(len(x), 30.0)], axis=1)[None]
    count = (1, len(x))
    found = Found(xy, np.array([visible], bool), np.full(count, 0.7, np.float32), np.full(count, 0.2, np.float32))
    keep_in_order(found, np.array([[t, *xy[0, t]]]), HEIGHT, WIDTH, outside)
    return found


def test_a_point_that_left_goes_on_and_its_finds_elsewhere_do_not_count():
    # It leaves to the left by 8 pixels a frame; the tracker then finds it at the right.
    found = order([20, 12, 4, 90, 88, 85, 80], [1, 1, 1, 0, 1, 1, 0])
    assert found.xy[0, :, 0].tolist() == [20, 12, 4, -4, -12, -20, -28]
    assert found.visible[0].tolist() == [True] * 3 + [False] * 4
    assert found.scores[0].tolist() == pytest.approx([1, 0.7, 0.7, 0, 0, 0, 0])
    assert found.uncertainty[0].tolist() == pytest.approx([0, 0.2, 0.2, 1, 1, 1, 1])


def test_by_default_it_stays_on_the_border():
    found = order([20, 12, 4, 90, 88], [1, 1, 1, 0, 0], outside=False)
    assert found.xy[0, :, 0].tolist() == [20, 12, 4, 0, 0]


def test_back_in_time_it_leaves_too():
    found = order([85, 88, 90, 4, 12, 20], [0, 1, 0, 1, 1, 1], t=5)
    assert found.xy[0, :, 0].tolist() == [-20, -12, -4, 4, 12, 20]
    assert not found.visible[0, :3].any()


def test_a_position_beyond_the_border_is_kept_and_occluded():
    found = order([20, 12, 4, -3, -10, -16], [1, 1, 1, 1, 1, 0])
    assert found.xy[0, :, 0].tolist() == [20, 12, 4, -3, -10, -16]
    assert found.visible[0].tolist() == [True] * 3 + [False] * 3
    assert found.uncertainty[0, 4] == np.float32(0.2)


def test_it_comes_back_where_it_can_have_come_to():
    # Four frames after it left, it is seen near that border: 8 pixels a frame.
    x = [20, 12, 4, 90, 90, 90, 20, 28]
    found = order(x, [1, 1, 1, 0, 0, 0, 1, 1])
    assert found.visible[0].tolist() == [True] * 3 + [False] * 3 + [True] * 2
    assert found.xy[0, 6:, 0].tolist() == [20, 28]


def test_what_lasts_is_believed():
    x = [20, 12, 4, 90] + [80] * LASTING
    found = order(x, [1, 1, 1, 0] + [1] * LASTING)
    assert found.visible[0, 4:].all()
    assert found.xy[0, 4:, 0].tolist() == [80] * LASTING


def test_an_occlusion_inside_the_frame_is_the_trackers_own():
    x = [40, 42, 44, 70, 71, 90, 52]
    found = order(x, [1, 1, 1, 0, 0, 0, 1])
    assert found.xy[0, :, 0].tolist() == x
    assert found.visible[0].tolist() == [True, True, True, False, False, False, True]


@pytest.mark.parametrize("name", ["flowchain", "locotrack-tiny"])
def test_bundled_trackers_follow_a_camera_that_turns(name):
    from scipy import ndimage

    rng, speed = np.random.default_rng(0), 16
    height, width = 192, 256
    scene = np.zeros((height, width + 16 * speed, 3))
    for size in (2, 4, 8, 16):
        small = rng.normal(size=(height // size, scene.shape[1] // size, 3))
        scene += size**0.5 * ndimage.zoom(small, (size, size, 1), order=1)
    scene = ((scene - scene.min()) / np.ptp(scene) * 255).astype(np.uint8)
    video = np.stack([scene[:, speed * t : speed * t + width] for t in range(12)])
    found = load_tracker(name)(video, points=[[0, 61.0, 97.0]], outside=True)
    np.testing.assert_allclose(found["tracks"][0, :, 0], 61 - speed * np.arange(12), atol=8)
    assert not found["visible"][0, 4:].any()


def test_scores_are_of_being_visible_and_uncertainty_is_apart():
    import torch

    hidden, off = torch.tensor([[[-2.0, 3.0]]]), torch.tensor([[[1.0, -1.0]]])
    out = TAPIROutput(torch.zeros(1, 1, 2, 2), torch.tensor([[[-1.0, -3.0]]]), hidden, off)
    _, visible, scores, uncertainty = estimates(out)
    assert torch.equal(visible, out.visible_logits)
    torch.testing.assert_close(scores, (-hidden).sigmoid())
    torch.testing.assert_close(uncertainty, off.sigmoid())
