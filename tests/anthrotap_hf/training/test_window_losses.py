"""The losses of CoTracker3 and AllTracker, over windows and the steps in them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from anthrotap_hf.models.alltracker.modeling_alltracker import AllTrackerOutput, AllTrackerSteps
from anthrotap_hf.models.cotracker3.modeling_cotracker3 import CoTracker3Output, CoTracker3Steps
from anthrotap_hf.training.losses import alltracker_loss, cotracker3_loss
from anthrotap_hf.training.samples import SampleSettings, _in_few_frames
from helpers.trackers import tiny_alltracker, tiny_cotracker3


@pytest.fixture(autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def made_up() -> dict[str, Any]:
    """Two points in three frames: visible, visible, occluded; and visible, invalid, visible."""
    return {
        "pixel_values_videos": torch.zeros(1, 3, 3, 32, 48, dtype=torch.uint8),
        "query_points": torch.tensor([[[0.0, 10, 10], [0, 20, 20]]]),
        "tracks": torch.full((1, 2, 3, 2), 10.0),
        "visible": torch.tensor([[[1, 1, 0], [1, 0, 1]]]).bool(),
        "valid": torch.tensor([[[1, 1, 1], [1, 0, 1]]]).bool(),
    }


def steps_of(kind: type, error: float, number: int = 2) -> list[Any]:
    """Estimates that are off by `error` pixels in x, with logits of 0."""
    tracks = [torch.full((2, 3, 2), 10.0) + torch.tensor([error, 0]) for _ in range(number)]
    logits = [torch.zeros(2, 3) for _ in range(number)]
    window = kind(torch.arange(2), torch.arange(3), tracks, logits, logits, torch.ones(2, 3, dtype=torch.bool))
    return [tracks[-1][None], ((window,),)]


@pytest.mark.parametrize("error", [4.0, 20.0])
def test_the_published_terms(error: float) -> None:
    weights = (0.8 + 1) / 2
    tracks, steps = steps_of(CoTracker3Steps, error)
    loss = cotracker3_loss(CoTracker3Output(tracks=tracks, steps=steps), made_up(), human=False, as_released=True)
    huber = error**2 / 2 if error < 6 else 6 * (error - 3)
    assert loss["position"].item() == pytest.approx(weights * (0.05 * huber / 2 + 0.01 * error / 2))
    assert loss["visibility"].item() == loss["confidence"].item() == pytest.approx(np.log(2))
    tracks, steps = steps_of(AllTrackerSteps, error)
    output = AllTrackerOutput(tracks=tracks, steps=steps)
    loss = alltracker_loss(output, made_up(), human=False, as_released=True)
    assert loss["position"].item() == pytest.approx(weights * (0.05 + 0.01) * error / 2)
    human = alltracker_loss(output, made_up(), human=True, as_released=True)
    assert human["position"].item() == pytest.approx(weights * 0.05 * error / 2)
    assert human["visibility"].item() == human["confidence"].item() == 0


def test_nothing_is_learned_from_invalid_labels_and_frames_that_do_not_count() -> None:
    batch = made_up()
    batch["tracks"][~batch["valid"]] = torch.nan
    tracks, steps = steps_of(CoTracker3Steps, 4.0, number=1)
    window = steps[0][0]
    window.counted[0, 0] = False
    leaf = window.tracks[0].requires_grad_()
    cotracker3_loss(CoTracker3Output(tracks=tracks, steps=steps), batch, human=False, as_released=True)[
        "loss"
    ].backward()
    assert leaf.grad is not None
    assert (leaf.grad[..., 0] != 0).tolist() == [[False, True, True], [True, False, True]]


@pytest.mark.parametrize(
    ("model", "loss"), [("cotracker3", cotracker3_loss), ("online", cotracker3_loss), ("alltracker", alltracker_loss)]
)
def test_a_step_of_training_lowers_the_loss(model: str, loss: Any) -> None:
    network = tiny_alltracker() if model == "alltracker" else tiny_cotracker3(online=model == "online")
    batch = made_up()
    batch["pixel_values_videos"] = torch.randint(0, 256, (1, 3, 3, 32, 48), dtype=torch.uint8)
    batch["query_points"][0, 1, 0] = 2
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    losses = []
    for _ in range(3):
        videos, queries = batch["pixel_values_videos"], batch["query_points"]
        output = network.train()(pixel_values_videos=videos, query_points=queries, bidirectional=False)
        value = loss(output, batch, human=True, as_released=True, visibility_on_humans=True)["loss"]
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        losses.append(value.item())
    assert losses[-1] < losses[0]


def test_queries_are_drawn_from_few_frames() -> None:
    settings = SampleSettings(num_frames=10, max_query_frames=2)
    candidates = np.arange(3, 100)
    kept = _in_few_frames(candidates, settings, np.random.default_rng(0))
    assert len(np.unique(kept % 10)) == 2
    assert 0 in kept % 10
    with pytest.raises(ValueError, match="max_query_frames must be at least 1"):
        SampleSettings(max_query_frames=0)
