"""What training minimizes: the losses of AllTracker, CoTracker3, LocoTrack, TAPIR and TAPNext, as released and
as meant.

All functions take a batch as `samples.collate(..., "anthrotap")` makes it: `pixel_values_videos` [B, T, 3, H, W],
`query_points` [B, N, 3] (t, x, y), `tracks` [B, N, T, 2] xy, `visible` and `valid` [B, N, T] bool; pixels are raster
pixels of the video. A label is visible, occluded (valid, not visible) or invalid: positions are learned where it is
visible, visibility where it is valid; nothing is learned from invalid labels, and their positions may be NaN.

*Human* batches carry labels on people. The paper learns positions alone from them, because the released labels do not
tell occluded from invalid; ours do, and `visibility_on_humans` learns from it.

Two errors of the released code (cvlab-kaist/AnthroTAP, model_utils.py and experiment.py) can be kept or corrected:

- LocoTrack: the training step asks for a dead-zone loss of human positions, but `tapir_loss` swallows the keyword and
  Huber is used. `as_released=True` does that, `as_released=False` uses the dead zone.
- TAPNext: the coordinate cross-entropy is averaged over all labels before the mask is applied, which then has no
  effect. `as_released=True` does that (over all valid labels), `as_released=False` averages over the masked ones.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

if TYPE_CHECKING:
    from anthrotap_hf.models.alltracker.modeling_alltracker import AllTrackerOutput, AllTrackerSteps
    from anthrotap_hf.models.cotracker3.modeling_cotracker3 import CoTracker3Output, CoTracker3Steps
    from anthrotap_hf.models.locotrack.modeling_locotrack import LocoTrackOutput
    from anthrotap_hf.models.tapir.modeling_tapir import TAPIROutput
    from anthrotap_hf.models.tapnext.modeling_tapnext import TAPNextOutput

# Both losses measure in pixels of a frame scaled to 256x256.
LOSS_SIZE = 256
# Under square roots, as released: it keeps the gradient at zero distance finite.
TINY = 1e-12


def huber(distance: Tensor, delta: float) -> Tensor:
    """Return Huber's loss of distances >= 0: d^2 / 2 below `delta`, delta (d - delta / 2) above. Any shape, pixels."""
    return torch.where(distance < delta, 0.5 * distance.square(), delta * (distance - 0.5 * delta))


def dead_zone(distance: Tensor, epsilon: float = 4.0, sharpness: float = 10.0) -> Tensor:
    """Return (softplus(k (d - epsilon)) / k)^2 of any shape: about 0 below `epsilon` pixels, a parabola above.

    `smooth_deadzone_l2_loss` of the released model_utils.py; k is `sharpness`.
    """
    return (F.softplus(sharpness * (distance - epsilon)) / sharpness).square()


def locotrack_loss(
    output: LocoTrackOutput,
    batch: Mapping[str, Any],
    *,
    human: bool,
    as_released: bool,
    visibility_on_humans: bool = False,
    hidden_weight: float = 0.0,
    position_limit: float | None = None,
    frame_side: int = LOSS_SIZE,
) -> dict[str, Tensor]:
    """Return LocoTrack's loss: of the final estimate and of each unrefined one, the sum of

        position     0.05 mean(visible h(d)), d = |track - label|, h = Huber (delta 4 px), or `dead_zone` on humans
        visibility   sum(valid BCE(occlusion logit, occluded)) / sum(valid)
        uncertainty  mean(visible BCE(uncertainty logit, d > 6 px))

    in pixels at 256x256; means run over all labels, visible or not, as released (`tapir_loss`, after TAPIR,
    arXiv 2306.08637, equation 1). Without invalid labels, visibility is a mean over all labels too, as released.
    On humans only the position counts, unless `visibility_on_humans`.

    With a `hidden_weight` w the last estimate's visible logit, which has the threshold of the configuration in it, is
    learned too, so that it is positive where a point is more likely visible than not:

        visibility   + sum(valid v BCE(visible logit, visible)) / sum(valid v), v = 1 where visible, w where occluded

    Args:
        output: what the model returned, with its unrefined estimates.
        batch: see the module.
        human: whether the batch's labels are on people.
        as_released: as released (Huber on humans too), or as meant (`dead_zone` on humans).
        visibility_on_humans: learn visibility and uncertainty from human labels too.
        hidden_weight: see above; 0: the visible logit is not learned by itself.
        position_limit: positions that are off by more pixels teach nothing: no refinement reaches so far.
        frame_side: pixels are those of a square frame of this side. Samples that are cut out at their clip's own scale
            have their own.

    Returns:
        Scalars: "loss", and its parts "position", "visibility", "uncertainty" (summed over the estimates; the last
        two are 0 where they are not learned).

    Raises:
        ValueError: if the output has no occlusion and uncertainty logits, or shapes disagree.
    """
    if output.tracks is None or output.occlusion_logits is None or output.uncertainty_logits is None:
        raise ValueError("LocoTrack's loss needs tracks, occlusion_logits and uncertainty_logits")
    learn_visibility = not human or visibility_on_humans
    parts = _refinement_loss(
        (output.tracks, *(output.unrefined_tracks or ())),
        (output.occlusion_logits, *(output.unrefined_occlusion_logits or ())),
        (output.uncertainty_logits, *(output.unrefined_uncertainty_logits or ())),
        batch,
        dead_zone_loss=human and not as_released,
        learn_visibility=learn_visibility,
        position_limit=position_limit,
        frame_side=frame_side,
    )
    if hidden_weight and learn_visibility:
        assert output.visible_logits is not None
        valid, visible, _ = _labels(output.tracks, batch, frame_side)
        weight = valid.float() * torch.where(visible, 1.0, hidden_weight)
        bce = F.binary_cross_entropy_with_logits(output.visible_logits.float(), visible.float(), reduction="none")
        calibration = (weight * bce).sum() / weight.sum().clamp_min(1)
        parts = {
            **parts,
            "loss": parts["loss"] + calibration,
            "visibility": parts["visibility"] + calibration,
        }
    return parts


def tapir_loss(
    output: TAPIROutput,
    batch: Mapping[str, Any],
    *,
    human: bool,
    as_released: bool,
    visibility_on_humans: bool = False,
) -> dict[str, Tensor]:
    """Return TAPIR's loss (arXiv 2306.08637, equation 1), which is that of `locotrack_loss`; the expected distance is
    what is called uncertainty there.

    TAPIR was not trained on people by its authors: on humans the choices are those of `locotrack_loss`, too.

    Raises:
        ValueError: if the output has no occlusion and expected-distance logits, or shapes disagree.
    """
    if output.tracks is None or output.occlusion_logits is None or output.expected_distance_logits is None:
        raise ValueError("TAPIR's loss needs tracks, occlusion_logits and expected_distance_logits")
    return _refinement_loss(
        (output.tracks, *(output.unrefined_tracks or ())),
        (output.occlusion_logits, *(output.unrefined_occlusion_logits or ())),
        (output.expected_distance_logits, *(output.unrefined_expected_distance_logits or ())),
        batch,
        dead_zone_loss=human and not as_released,
        learn_visibility=not human or visibility_on_humans,
    )


def _refinement_loss(
    all_tracks: Sequence[Tensor],
    all_occlusion_logits: Sequence[Tensor],
    all_uncertainty_logits: Sequence[Tensor],
    batch: Mapping[str, Any],
    *,
    dead_zone_loss: bool,
    learn_visibility: bool,
    position_limit: float | None = None,
    frame_side: int = LOSS_SIZE,
) -> dict[str, Tensor]:
    """Return the sum over estimates; see `locotrack_loss`."""
    valid, visible, scale = _labels(all_tracks[0], batch, frame_side)
    occluded = (valid & ~visible).float()
    zero = all_tracks[0].new_zeros((), dtype=torch.float32)
    position, visibility, uncertainty = zero, zero, zero
    for tracks, occlusion_logits, uncertainty_logits in zip(
        all_tracks, all_occlusion_logits, all_uncertainty_logits, strict=True
    ):
        squared = _squared_error(tracks.float() * scale, batch["tracks"].float() * scale, visible)
        distance = (squared + TINY).sqrt()
        penalty = dead_zone(distance) if dead_zone_loss else huber(distance, 4.0)
        counted = visible if position_limit is None else visible & (distance < position_limit)
        position = position + 0.05 * (penalty * counted).mean()
        if learn_visibility:
            bce = F.binary_cross_entropy_with_logits(occlusion_logits.float(), occluded, reduction="none")
            visibility = visibility + (bce * valid).sum() / valid.sum().clamp_min(1)
            off = (squared.detach() > 6.0**2).float()
            bce = F.binary_cross_entropy_with_logits(uncertainty_logits.float(), off, reduction="none")
            uncertainty = uncertainty + (bce * visible).mean()
    loss = position + visibility + uncertainty
    return {"loss": loss, "position": position, "visibility": visibility, "uncertainty": uncertainty}


def tapnext_loss(
    output: TAPNextOutput,
    batch: Mapping[str, Any],
    *,
    human: bool,
    as_released: bool,
    visibility_on_humans: bool = False,
) -> dict[str, Tensor]:
    """Return TAPNext's loss: the sum of

        position     0.1 sum(m h(|track - label|)) / sum(m), h = Huber (delta 1 px)
        coordinate   sum(m (CE(x logits, x bin) + CE(y logits, y bin))) / sum(m); not on humans
        visibility   sum(a valid BCE(visible logit, visible)) / sum(a valid); on humans if `visibility_on_humans`

    with a: frames from the query's on, and m: visible labels in them. Pixels and bins are those of a 256x256 frame (the
    number of bins if it is another); labels are clipped to [0, 255], and the bin is round(label - 0.5)
    (`tapnext_loss_and_grad`, `huber_coordinate_loss`, `coordinate_softmax` of the released code, after
    google-deepmind/tapnet; TAPNext is arXiv 2504.05579). Means over no label at all are 0; the released code gives NaN.

    Args:
        output: what the model returned; unless `human`, with `output_coordinate_logits=True`.
        batch: see the module.
        human: whether the batch's labels are on people.
        as_released: as released (cross-entropy is averaged over all valid labels, m ignored), or as meant.
        visibility_on_humans: learn visibility from human labels too.

    Returns:
        Scalars: "loss", and its parts "position", "coordinate", "visibility" (0 where they are not learned).

    Raises:
        ValueError: if logits are missing, or shapes disagree.
    """
    if output.tracks is None or output.visible_logits is None:
        raise ValueError("TAPNext's loss needs tracks and visible_logits")
    if not human and output.coordinate_logits is None:
        raise ValueError("TAPNext's loss needs coordinate_logits: call it with output_coordinate_logits=True")
    bins = LOSS_SIZE if output.coordinate_logits is None else output.coordinate_logits.shape[-1]
    valid, visible, scale = _labels(output.tracks, batch, bins)
    time = torch.arange(visible.shape[-1], device=visible.device)
    after_query = time >= batch["query_points"][..., :1]
    learned = visible & after_query
    zero = output.tracks.new_zeros((), dtype=torch.float32)

    labels = batch["tracks"].float() * scale
    squared = _squared_error(output.tracks.float() * scale, labels.clamp(0, bins - 1), learned)
    position = 0.1 * _masked_mean(huber((squared + TINY).sqrt(), 1.0), learned)
    coordinate, visibility = zero, zero
    if not human and output.coordinate_logits is not None:
        counted = valid if as_released else learned
        bin_index = torch.where(counted[..., None], labels, 0.5)
        bin_index = (bin_index - 0.5).clamp(0, bins - 1).round().long()  # [B, N, T, 2]
        entropy = F.cross_entropy(
            output.coordinate_logits.float().flatten(0, -2), bin_index.flatten(), reduction="none"
        )
        coordinate = _masked_mean(entropy.view(bin_index.shape).sum(-1), counted)
    if not human or visibility_on_humans:
        bce = F.binary_cross_entropy_with_logits(output.visible_logits.float(), visible.float(), reduction="none")
        visibility = _masked_mean(bce, valid & after_query)
    loss = position + coordinate + visibility
    return {"loss": loss, "position": position, "coordinate": coordinate, "visibility": visibility}


def cotracker3_loss(
    output: CoTracker3Output,
    batch: Mapping[str, Any],
    *,
    human: bool,
    as_released: bool,
    visibility_on_humans: bool = False,
) -> dict[str, Tensor]:
    """Return CoTracker3's loss (arXiv 2410.11831): over windows and the steps in them, the mean of

        position     w (0.05 mean(h(dx) + h(dy)) / 2 over visible labels + 0.01 mean(|dx| + |dy|) / 2 over occluded
                     ones), h = Huber (delta 6 px), w = 0.8^(steps that follow)
        visibility   mean over valid labels of BCE(visible logit, visible)
        confidence   mean over visible labels of BCE(confidence logit, d <= 12 px)

    in pixels of the video, which should have the model's resolution. Of an online model, frames before the query's do
    not count. Occluded positions are learned from synthetic batches alone. On humans only visible positions count, as
    where the authors learned from real videos, unless `visibility_on_humans`. `as_released` makes no difference: the
    released loss has no known error.

    Args:
        output: what the model returned, with its steps.
        batch, human, visibility_on_humans: see `locotrack_loss`.
        as_released: see above.

    Returns:
        Scalars: "loss", and its parts "position", "visibility", "confidence".

    Raises:
        ValueError: if the output has no steps, or shapes disagree.
    """
    return _windows_loss(
        output, batch, lambda error: huber(error, 6.0), human=human, learn_visibility=not human or visibility_on_humans
    )


def alltracker_loss(
    output: AllTrackerOutput,
    batch: Mapping[str, Any],
    *,
    human: bool,
    as_released: bool,
    visibility_on_humans: bool = False,
) -> dict[str, Tensor]:
    """Return AllTracker's loss (arXiv 2506.07310): that of `cotracker3_loss` with |dx| and |dy| instead of Huber's.

    AllTracker was not trained on people by its authors: on humans the choices are those of `cotracker3_loss`.

    Raises:
        ValueError: if the output has no steps, or shapes disagree.
    """
    return _windows_loss(
        output, batch, lambda error: error, human=human, learn_visibility=not human or visibility_on_humans
    )


def _windows_loss(
    output: CoTracker3Output | AllTrackerOutput,
    batch: Mapping[str, Any],
    penalty: Callable[[Tensor], Tensor],
    *,
    human: bool,
    learn_visibility: bool,
) -> dict[str, Tensor]:
    """Return the mean over windows; see `cotracker3_loss`."""
    if output.tracks is None or output.steps is None:
        raise ValueError("the loss needs the estimates of all steps: call the model with output_steps=True")
    all_valid, all_visible, _ = _labels(output.tracks, batch, LOSS_SIZE)
    zero = output.tracks.new_zeros((), dtype=torch.float32)
    parts = {"position": zero, "visibility": zero, "confidence": zero}
    clips: Sequence[Sequence[CoTracker3Steps | AllTrackerSteps]] = output.steps
    number = max(sum(map(len, clips)), 1)
    for clip, windows in enumerate(clips):
        for window in windows:
            # 1. Labels of the window's queries and frames.
            own = window.queries[:, None], window.frames
            valid, visible = (labels[clip][own] & window.counted for labels in (all_valid, all_visible))
            occluded, labels = valid & ~visible, batch["tracks"][clip].float()[own]
            for step, (tracks, occlusion, confidence) in enumerate(
                zip(window.tracks, window.occlusion_logits, window.confidence_logits, strict=True), start=1
            ):
                # 2. Positions; what does not count may be NaN.
                share = 1 / (number * len(window.tracks))
                weight = 0.8 ** (len(window.tracks) - step) * share
                error = (tracks.float() - torch.where(valid[..., None], labels, tracks.detach().float())).abs()
                position = 0.05 * _masked_mean(penalty(error).mean(-1), visible)
                if not human:
                    position = position + 0.01 * _masked_mean(error.mean(-1), occluded)
                parts["position"] = parts["position"] + weight * position
                # 3. Visibility and confidence, all steps alike.
                if learn_visibility:
                    near = (error.detach().square().sum(-1) <= 12.0**2).float()
                    for name, logits, target, mask in (
                        ("visibility", -occlusion, visible.float(), valid),
                        ("confidence", confidence, near, visible),
                    ):
                        bce = F.binary_cross_entropy_with_logits(logits.float(), target, reduction="none")
                        parts[name] = parts[name] + share * _masked_mean(bce, mask)
    return {"loss": parts["position"] + parts["visibility"] + parts["confidence"], **parts}


# By the type of the tracker.
LOSSES: dict[str, Callable[..., dict[str, Tensor]]] = {
    "alltracker": alltracker_loss,
    "cotracker3": cotracker3_loss,
    "locotrack": locotrack_loss,
    "tapir": tapir_loss,
    "tapnext": tapnext_loss,
}
# Settings that LocoTrack's loss alone has, and what changes nothing.
LOCOTRACK_SETTINGS = {"hidden_weight": 0.0, "position_limit": None, "frame_side": LOSS_SIZE}


def loss_of(tracker: str, settings: Mapping[str, Any]) -> Callable[..., dict[str, Tensor]]:
    """Return the loss of a type of tracker with a recipe's settings; raise ValueError for one that it does not have."""
    if tracker != "locotrack":
        for name, default in LOCOTRACK_SETTINGS.items():
            if settings[name] != default:
                raise ValueError(f"loss.{name} is for locotrack")
        settings = {name: value for name, value in settings.items() if name not in LOCOTRACK_SETTINGS}
    return partial(LOSSES[tracker], **settings)


def _labels(tracks: Tensor, batch: Mapping[str, Any], side: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return valid and visible [B, N, T] bool, and the factors (x, y) from the video's pixels to a square frame's."""
    for name, shape in (("tracks", tracks.shape), ("visible", tracks.shape[:3]), ("valid", tracks.shape[:3])):
        if batch[name].shape != shape:
            raise ValueError(f"the model's tracks want {name} {list(shape)}, got {list(batch[name].shape)}")
    height, width = batch["pixel_values_videos"].shape[-2:]
    scale = torch.tensor([side / width, side / height], device=tracks.device)
    valid = batch["valid"].bool()
    return valid, valid & batch["visible"].bool(), scale


def _squared_error(tracks: Tensor, labels: Tensor, counted: Tensor) -> Tensor:
    """[B, N, T] squared distances; 0, with no gradient, where not counted (labels may be NaN there)."""
    return (tracks - torch.where(counted[..., None], labels, tracks.detach())).square().sum(-1)


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum() / mask.sum().clamp_min(1)
