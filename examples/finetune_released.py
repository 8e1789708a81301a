"""Fine-tune the released code of CoTracker3, TAPIR or LocoTrack on labels of people, in a training loop of your own.

    python examples/finetune_released.py cotracker --code co-tracker --checkpoint scaled_offline.pth --out mine.pth
    python examples/finetune_released.py tapir --code tapnet --checkpoint bootstapir_checkpoint_v2.pt --out mine.pt
    python examples/finetune_released.py locotrack --code locotrack/locotrack_pytorch \\
        --checkpoint locotrack_base.ckpt --out mine.ckpt

CODE is a clone of facebookresearch/co-tracker, google-deepmind/tapnet or cvlab-kaist/locotrack. Batches come in the
layout of that code from `anthrotap_hf.collate`. The losses are those of `anthrotap_hf.training.losses`: the released
ones, but nothing is learned from labels that are not valid.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import anthrotap_hf
from anthrotap_hf.models.cotracker3.modeling_cotracker3 import CoTracker3Output, CoTracker3Steps
from anthrotap_hf.models.tapir.modeling_tapir import TAPIROutput
from anthrotap_hf.training.losses import cotracker3_loss, tapir_loss

# The size that each was trained at: (height, width).
SIZES = {"cotracker": (384, 512), "tapir": (256, 256), "locotrack": (256, 256)}
LOSS = {"human": True, "as_released": True, "visibility_on_humans": True}


def load_cotracker(checkpoint: str | None) -> nn.Module:
    """Build the offline model of CoTracker3; it takes at most 60 frames."""
    code = importlib.import_module("cotracker.models.core.cotracker.cotracker3_offline")
    model: nn.Module = code.CoTrackerThreeOffline(stride=4, corr_radius=3, window_len=60)
    if checkpoint is not None:
        weights = torch.load(checkpoint, map_location="cpu", weights_only=True)
        model.load_state_dict(weights.get("model", weights))
    return model


def load_tapir(checkpoint: str | None) -> nn.Module:
    """Build the PyTorch model of BootsTAPIR (its `pyramid_level` is 1)."""
    model: nn.Module = importlib.import_module("tapnet.torch.tapir_model").TAPIR(pyramid_level=1)
    if checkpoint is not None:
        model.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True))
    for block in model.extra_convs.blocks:
        # It adds to this convolution's input in place, which the gradient needs as it was.
        block.conv.register_forward_pre_hook(lambda module, inputs: (inputs[0].clone(),))
    return model


def load_locotrack(checkpoint: str | None) -> nn.Module:
    """Build the PyTorch model of LocoTrack base. Its checkpoints are Lightning's."""
    model: nn.Module = importlib.import_module("models.locotrack_model").LocoTrack(model_size="base")
    if checkpoint is not None:
        weights = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
        model.load_state_dict({name.removeprefix("model."): value for name, value in weights.items()})
    return model


def cotracker_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return CoTracker3's loss. Its model returns, for each window, the estimates of each iteration."""
    video = batch["video"]  # [B, T, 3, H, W], 0 to 255
    *_, (all_tracks, all_visible, all_confidence, _) = model(video, batch["query_points"], iters=4, is_train=True)
    B, T, N = batch["visibility"].shape
    steps = []
    for number in range(B):
        queries, frames = torch.arange(N, device=video.device), torch.arange(T, device=video.device)
        # Probabilities [B, T, N] become logits [N, T]; it predicts visibility, the loss takes occlusion.
        steps.append(
            CoTracker3Steps(
                queries=queries,
                frames=frames,
                tracks=[tracks[number].transpose(0, 1) for tracks in all_tracks[0]],
                occlusion_logits=[-torch.logit(p[number].T, 1e-6) for p in all_visible[0]],
                confidence_logits=[torch.logit(p[number].T, 1e-6) for p in all_confidence[0]],
                counted=torch.ones(N, T, dtype=torch.bool, device=video.device),
            )
        )
    output = CoTracker3Output(tracks=all_tracks[0][-1].transpose(1, 2), steps=tuple((window,) for window in steps))
    labels = {
        "pixel_values_videos": video,
        "tracks": batch["trajectories"].transpose(1, 2),
        "visible": batch["visibility"].transpose(1, 2),
        "valid": batch["valid"].transpose(1, 2),
    }
    return cotracker3_loss(output, labels, **LOSS)["loss"]


def refinement_loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """Return the loss of TAPIR and of LocoTrack, whose models take and return the same arrays."""
    found = model(batch["video"], batch["query_points"], is_training=True)  # [B, T, H, W, 3] and (t, y, x)
    output = TAPIROutput(
        tracks=found["tracks"],
        occlusion_logits=found["occlusion"],
        expected_distance_logits=found["expected_dist"],
        unrefined_tracks=tuple(found["unrefined_tracks"]),
        unrefined_occlusion_logits=tuple(found["unrefined_occlusion"]),
        unrefined_expected_distance_logits=tuple(found["unrefined_expected_dist"]),
    )
    labels = {
        "pixel_values_videos": batch["video"].movedim(-1, 2),
        "tracks": batch["target_points"],
        "visible": ~batch["occluded"],
        "valid": batch["valid"],
    }
    return tapir_loss(output, labels, **LOSS)["loss"]


LOADERS = {"cotracker": load_cotracker, "tapir": load_tapir, "locotrack": load_locotrack}
LOSSES = {"cotracker": cotracker_loss, "tapir": refinement_loss, "locotrack": refinement_loss}


def fine_tune(
    model: nn.Module, tracker: str, loader: DataLoader, steps: int, learning_rate: float, device: str
) -> list[float]:
    """Fine-tune a model and return the loss of each step. In your own code, this is your loop."""
    model.to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), learning_rate, weight_decay=1e-3)
    losses: list[float] = []
    while len(losses) < steps:
        for batch in loader:
            tensors = {name: value.to(device) for name, value in batch.items() if isinstance(value, Tensor)}
            loss = LOSSES[tracker](model, tensors)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            losses.append(loss.item())
            print(f"step {len(losses)} of {steps}: loss {losses[-1]:.4f}")
            if len(losses) == steps:
                break
    return losses


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tracker", choices=list(LOADERS))
    parser.add_argument("--code", required=True, help="folder of the released code, which is put on the path")
    parser.add_argument("--checkpoint", help="released weights; without it, random ones")
    parser.add_argument("--labels", default="anthrotap", help="folder or Hub id of labels; without it, the sample")
    parser.add_argument("--out", required=True, help="file for the weights")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--num-frames", type=int, default=24)
    parser.add_argument("--num-points", type=int, default=256)
    parser.add_argument("--learning-rate", type=float, default=1e-5)
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()

    sys.path.insert(0, options.code)
    model = LOADERS[options.tracker](options.checkpoint)
    labels = anthrotap_hf.load_dataset(options.labels, split="train").with_format("numpy")
    labels = labels.filter(lambda count: count >= options.num_frames, input_columns="num_frames")
    loader = DataLoader(
        labels,
        batch_size=options.batch_size,
        shuffle=True,
        num_workers=2,
        collate_fn=partial(
            anthrotap_hf.collate,
            layout=options.tracker,
            num_frames=options.num_frames,
            size=SIZES[options.tracker],
            num_points=options.num_points,
        ),
    )
    fine_tune(model, options.tracker, loader, options.steps, options.learning_rate, options.device)
    torch.save(model.state_dict(), options.out)


if __name__ == "__main__":
    main()
