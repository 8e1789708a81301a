"""Losses against the released code's values, and the labels that they use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from anthrotap_hf.models.locotrack.modeling_locotrack import LocoTrackOutput
from anthrotap_hf.models.tapir.modeling_tapir import TAPIROutput
from anthrotap_hf.models.tapnext.modeling_tapnext import TAPNextOutput
from anthrotap_hf.training.losses import dead_zone, huber, locotrack_loss, tapir_loss, tapnext_loss


@pytest.fixture(scope="module")
def case(reference_dir: Path) -> dict[str, torch.Tensor]:
    with np.load(reference_dir / "losses.npz") as file:
        return {name: torch.from_numpy(np.asarray(file[name])) for name in file}


def batch_of(case: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    B, N, T = case["occluded"].shape
    return {
        "pixel_values_videos": torch.zeros(1).expand(B, T, 3, 256, 256),
        "query_points": case["query_points_tyx"][..., [0, 2, 1]],
        "tracks": case["target_tracks_xy"],
        "visible": ~case["occluded"],
        "valid": torch.ones(B, N, T, dtype=torch.bool),
    }


def locotrack_output(case: dict[str, torch.Tensor]) -> LocoTrackOutput:
    return LocoTrackOutput(
        tracks=case["tracks_xy"],
        occlusion_logits=case["occlusion_logits"],
        uncertainty_logits=case["expected_dist_logits"],
        unrefined_tracks=tuple(case[f"unrefined_tracks_xy_{i}"] for i in range(2)),
        unrefined_occlusion_logits=tuple(case[f"unrefined_occlusion_{i}"] for i in range(2)),
        unrefined_uncertainty_logits=tuple(case[f"unrefined_expected_dist_{i}"] for i in range(2)),
    )


def tapnext_output(case: dict[str, torch.Tensor]) -> TAPNextOutput:
    logits = case["track_logits"].transpose(1, 2).unflatten(-1, (2, 256)).flip(-2)  # y, x -> x, y
    return TAPNextOutput(
        tracks=case["tracks_xy"],
        visible_logits=case["visible_logits"].squeeze(-1).transpose(1, 2),
        coordinate_logits=logits,
    )


def test_elementwise_losses_as_released(case: dict[str, torch.Tensor]) -> None:
    distance = (case["tracks_xy"] - case["target_tracks_xy"]).norm(dim=-1)
    visible = ~case["occluded"]
    assert float((dead_zone(distance) * visible).mean()) == pytest.approx(
        float(case["loss_deadzone_elementwise_mean"]), rel=1e-5
    )
    assert float((huber(distance, 4.0) * visible).mean()) == pytest.approx(
        float(case["loss_huber_elementwise_mean"]), rel=1e-5
    )


def test_locotrack_as_released(case: dict[str, torch.Tensor]) -> None:
    output, batch = locotrack_output(case), batch_of(case)
    synthetic = locotrack_loss(output, batch, human=False, as_released=True)
    assert float(synthetic["loss"]) == pytest.approx(float(case["loss_locotrack_synthetic"]), rel=1e-5)
    human = locotrack_loss(output, batch, human=True, as_released=True)
    assert float(human["loss"]) == pytest.approx(float(case["loss_locotrack_human_as_released"]), rel=1e-5)
    assert float(human["loss"]) == float(human["position"])


def test_locotrack_as_meant_uses_the_dead_zone_on_humans_only(case: dict[str, torch.Tensor]) -> None:
    output, batch = locotrack_output(case), batch_of(case)
    final = LocoTrackOutput(
        tracks=output.tracks,
        occlusion_logits=output.occlusion_logits,
        uncertainty_logits=output.uncertainty_logits,
    )
    meant = locotrack_loss(final, batch, human=True, as_released=False)
    expected = 0.05 * float(case["loss_deadzone_elementwise_mean"])
    assert float(meant["loss"]) == pytest.approx(expected, rel=1e-5)
    released = locotrack_loss(output, batch, human=False, as_released=True)
    assert locotrack_loss(output, batch, human=False, as_released=False) == released


def test_tapir_learns_by_the_same_loss(case: dict[str, torch.Tensor]) -> None:
    theirs, batch = locotrack_output(case), batch_of(case)
    output = TAPIROutput(
        tracks=theirs.tracks,
        occlusion_logits=theirs.occlusion_logits,
        expected_distance_logits=theirs.uncertainty_logits,
        unrefined_tracks=theirs.unrefined_tracks,
        unrefined_occlusion_logits=theirs.unrefined_occlusion_logits,
        unrefined_expected_distance_logits=theirs.unrefined_uncertainty_logits,
    )
    loss = tapir_loss(output, batch, human=False, as_released=True)
    assert float(loss["loss"]) == pytest.approx(float(case["loss_locotrack_synthetic"]), rel=1e-5)
    for human in (False, True):
        ours = tapir_loss(output, batch, human=human, as_released=False, visibility_on_humans=True)
        assert ours == locotrack_loss(theirs, batch, human=human, as_released=False, visibility_on_humans=True)
    with pytest.raises(ValueError, match="TAPIR's loss needs"):
        tapir_loss(TAPIROutput(tracks=theirs.tracks), batch, human=False, as_released=True)


def test_tapnext_as_released(case: dict[str, torch.Tensor]) -> None:
    output, batch = tapnext_output(case), batch_of(case)
    for human, name in ((False, "synthetic"), (True, "human_as_released")):
        loss = tapnext_loss(output, batch, human=human, as_released=True)
        found = {
            "loss": loss["loss"],
            "huber_loss": 10 * loss["position"],
            "visibility_loss": loss["visibility"],
        }
        if not human:  # the released code computes it on humans too, with weight 0
            found["softmax_loss"] = loss["coordinate"]
        for part, value in found.items():
            assert float(value) == pytest.approx(float(case[f"loss_tapnext_{name}_{part}"]), rel=1e-5), part


def test_tapnext_as_meant_ignores_masked_labels(case: dict[str, torch.Tensor]) -> None:
    output, batch = tapnext_output(case), batch_of(case)
    loss = tapnext_loss(output, batch, human=False, as_released=False)
    masked_out = ~batch["visible"] | (torch.arange(9) < batch["query_points"][..., :1])
    moved = dict(batch, tracks=torch.where(masked_out[..., None], batch["tracks"] + 50, batch["tracks"]))
    assert tapnext_loss(output, moved, human=False, as_released=False)["coordinate"] == loss["coordinate"]
    as_released = tapnext_loss(output, batch, human=False, as_released=True)
    assert tapnext_loss(output, moved, human=False, as_released=True)["coordinate"] != as_released["coordinate"]


def made_up(seed: int = 0) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    draw = torch.Generator().manual_seed(seed)
    B, N, T = 1, 6, 5
    batch = {
        "pixel_values_videos": torch.zeros(B, T, 3, 64, 128, dtype=torch.uint8),
        "query_points": torch.zeros(B, N, 3),
        "tracks": torch.rand(B, N, T, 2, generator=draw) * 60,
        "visible": torch.rand(B, N, T, generator=draw) < 0.6,
        "valid": torch.rand(B, N, T, generator=draw) < 0.6,
    }
    predictions = {
        "tracks": batch["tracks"] + torch.randn(B, N, T, 2, generator=draw) * 5,
        "logits": torch.randn(B, N, T, generator=draw),
        "more_logits": torch.randn(B, N, T, generator=draw),
        "coordinates": torch.randn(B, N, T, 2, 256, generator=draw),
    }
    return batch, {name: value.requires_grad_() for name, value in predictions.items()}


@pytest.mark.parametrize("model", ["locotrack", "tapnext"])
@pytest.mark.parametrize("human", [False, True])
@pytest.mark.parametrize("as_released", [False, True])
def test_nothing_is_learned_from_invalid_labels(model: str, human: bool, as_released: bool) -> None:
    batch, predicted = made_up()
    batch["tracks"][~batch["valid"]] = torch.nan
    if model == "locotrack":
        output = LocoTrackOutput(
            tracks=predicted["tracks"],
            occlusion_logits=predicted["logits"],
            uncertainty_logits=predicted["more_logits"],
        )
        loss = locotrack_loss(output, batch, human=human, as_released=as_released, visibility_on_humans=True)
    else:
        output = TAPNextOutput(
            tracks=predicted["tracks"],
            visible_logits=predicted["logits"],
            coordinate_logits=predicted["coordinates"],
        )
        loss = tapnext_loss(output, batch, human=human, as_released=as_released, visibility_on_humans=True)
    loss["loss"].backward()
    visible = batch["valid"] & batch["visible"]
    logits, tracks = predicted["logits"].grad, predicted["tracks"].grad
    assert logits is not None
    assert tracks is not None
    assert (logits[~batch["valid"]] == 0).all()
    assert (logits[batch["valid"]] != 0).all()
    assert (tracks[~visible] == 0).all()
    assert (tracks[visible].norm(dim=-1) > 0).all()
    assert torch.isfinite(loss["loss"])


def test_occluded_labels_push_visibility_down_and_visible_ones_up() -> None:
    batch, predicted = made_up()
    output = TAPNextOutput(tracks=predicted["tracks"], visible_logits=predicted["logits"])
    tapnext_loss(output, batch, human=True, as_released=False, visibility_on_humans=True)["loss"].backward()
    slope = predicted["logits"].grad
    assert slope is not None
    assert (slope[batch["valid"] & batch["visible"]] < 0).all()
    assert (slope[batch["valid"] & ~batch["visible"]] > 0).all()


def test_human_labels_train_no_visibility_unless_asked() -> None:
    batch, predicted = made_up()
    output = TAPNextOutput(tracks=predicted["tracks"], visible_logits=predicted["logits"])
    assert tapnext_loss(output, batch, human=True, as_released=True)["visibility"].item() == 0


def test_pixels_are_those_of_a_256_frame() -> None:
    batch, predicted = made_up()
    twice = dict(
        batch,
        tracks=batch["tracks"] * torch.tensor([2.0, 4.0]),
        pixel_values_videos=torch.zeros(1, 5, 3, 256, 256, dtype=torch.uint8),
    )
    small = TAPNextOutput(tracks=predicted["tracks"], visible_logits=predicted["logits"])
    large = TAPNextOutput(tracks=predicted["tracks"] * torch.tensor([2.0, 4.0]), visible_logits=predicted["logits"])
    one = tapnext_loss(small, batch, human=True, as_released=True)["loss"]
    other = tapnext_loss(large, twice, human=True, as_released=True)["loss"]
    torch.testing.assert_close(one, other)


def test_no_label_at_all_is_no_loss() -> None:
    batch, predicted = made_up()
    batch["valid"] = torch.zeros_like(batch["valid"])
    output = TAPNextOutput(
        tracks=predicted["tracks"],
        visible_logits=predicted["logits"],
        coordinate_logits=predicted["coordinates"],
    )
    assert tapnext_loss(output, batch, human=False, as_released=False)["loss"].item() == 0


def test_errors_say_what_is_missing() -> None:
    batch, predicted = made_up()
    with pytest.raises(ValueError, match="output_coordinate_logits"):
        tapnext_loss(
            TAPNextOutput(tracks=predicted["tracks"], visible_logits=predicted["logits"]),
            batch,
            human=False,
            as_released=True,
        )
    with pytest.raises(ValueError, match="occlusion_logits"):
        locotrack_loss(LocoTrackOutput(tracks=predicted["tracks"]), batch, human=False, as_released=True)
    batch["visible"] = batch["visible"][:, :2]
    with pytest.raises(ValueError, match="want visible"):
        tapnext_loss(
            TAPNextOutput(tracks=predicted["tracks"], visible_logits=predicted["logits"]),
            batch,
            human=True,
            as_released=True,
        )


def test_locotrack_learns_visibility_itself_and_leaves_hopeless_positions(case: dict[str, torch.Tensor]) -> None:
    output, batch = locotrack_output(case), batch_of(case)
    output.visible_logits = -output.occlusion_logits
    plain = locotrack_loss(output, batch, human=False, as_released=True)
    weighted = locotrack_loss(output, batch, human=False, as_released=True, hidden_weight=3.0)
    visible = batch["visible"]
    bce = torch.nn.functional.softplus(torch.where(visible, -1.0, 1.0) * output.visible_logits)
    weight = torch.where(visible, 1.0, 3.0)
    expected = (bce * weight).sum() / weight.sum()
    assert float(weighted["loss"] - plain["loss"]) == pytest.approx(float(expected), rel=1e-4)
    # In pixels of a frame of half the side, all errors are halved; none beyond the limit counts.
    limited = locotrack_loss(output, batch, human=False, as_released=True, position_limit=10.0, frame_side=128)
    total = 0.0
    for tracks in (output.tracks, *output.unrefined_tracks):
        distance = (tracks - batch["tracks"]).norm(dim=-1) / 2
        total += float(0.05 * (huber(distance, 4.0) * (visible & (distance < 10))).mean())
    assert float(limited["position"]) == pytest.approx(total, rel=1e-4)
