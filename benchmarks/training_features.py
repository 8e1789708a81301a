"""Train the features of a small LocoTrack by themselves: on pairs of frames in which it is known what is where.

    python -m benchmarks.training_features RENDERED --footage VIDEOS --out outputs/features    # 5,000 steps, 70 minutes

RENDERED is a folder of `benchmarks.training_cache`: a pair is two frames of a clip, and the points that are visible in
both. Of real videos, a pair is one frame in two perspectives. A step costs four pairs and no refinement, so that a
network sees thousands of them in the time that a few hundred clips would take.

The loss is the cross-entropy of a point's place among all cells of the other frame (on the fine grid, among those
around it), by the correlation with the point's own feature, times a temperature that is learned:

    L = -sum_cells b(cell) log softmax(tau f_query . f_cell),    b: the bilinear weights of the place

as in XFeat's and SuperGlue's matching losses. The result is a LocoTrack whose other parts are those of the bundled
tracker: `tiny-rendered` trains these on it.
"""

from __future__ import annotations

import argparse
import time
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anthrotap_hf.models.locotrack import LocoTrackConfig, LocoTrackForPointTracking
from anthrotap_hf.pipelines import load_tracker
from anthrotap_hf.readers.prepared import PreparedClips
from anthrotap_hf.video import iter_frames
from benchmarks.real_footage.footage import find_footage

SIDE, CROP = 256, 192
STRIDES = (2, 4, 8)
# Channels and blocks of the bundled tracker's four stages.
CHANNELS, BLOCKS = (24, 48, 64, 64), (1, 1, 2, 2)
PAIRS = 4
# Points of a pair at most, and at least.
MOST, LEAST = 160, 16
# Cells to either side of a fine place, among which it is looked for.
AROUND = 10
FOOTAGE_SHARE = 0.4
# Every how many frames a real video is taken, how many at most, and the side of what is cut out.
FRAME_STEP, FRAMES, FOOTAGE_SIDE = 12, 40, 320

# Two images [CROP, CROP, 3] uint8, and the points [N, 2] in each.
Pair = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def rendered_pair(clips: PreparedClips, rng: np.random.Generator) -> Pair | None:
    """Return two frames of a clip; None if they share too little."""
    clip = clips[int(rng.integers(len(clips)))]
    frames, tracks = clip.frames, clip.tracks
    one = int(rng.integers(len(frames)))
    other = int(np.clip(one + rng.choice([-1, 1]) * rng.integers(1, len(frames)), 0, len(frames) - 1))
    both = tracks.visible[:, one] & tracks.visible[:, other]
    return cut_pair(np.array(frames[one]), tracks.xy[both, one], np.array(frames[other]), tracks.xy[both, other], rng)


def footage_pair(images: np.ndarray, rng: np.random.Generator) -> Pair | None:
    """Return one image of [M, S, S, 3] in two perspectives; None if they share too little."""
    image = images[int(rng.integers(len(images)))]
    side = len(image)
    corners = side / 2 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])

    def perspective() -> np.ndarray:
        angle, scale = rng.normal(0, 0.25), np.exp(rng.normal(0, 0.2))
        turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        moved = corners @ turn.T + rng.normal(0, 0.05 * side, (4, 2)) + SIDE / 2 + rng.normal(0, 12, 2)
        return cv2.getPerspectiveTransform((corners + side / 2).astype(np.float32), moved.astype(np.float32))

    # OpenCV's first pixel center is (0, 0).
    points = rng.uniform(0, side, (400, 1, 2)).astype(np.float32)
    views, places = [], []
    for transform in (perspective(), perspective()):
        views.append(cv2.warpPerspective(image, transform, (SIDE, SIDE)))
        places.append(cv2.perspectiveTransform(points, transform)[:, 0] + 0.5)
    both = ((np.stack(places) > 0) & (np.stack(places) < SIDE)).all((0, 2))
    return cut_pair(views[0], places[0][both], views[1], places[1][both], rng)


def cut_pair(
    one: np.ndarray, one_xy: np.ndarray, other: np.ndarray, other_xy: np.ndarray, rng: np.random.Generator
) -> Pair | None:
    """Return a crop of each image of a pair, with colors of its own; None if they share too few points."""
    for _ in range(10):
        if len(one_xy) < LEAST:
            return None
        center = int(rng.integers(len(one_xy)))
        corners = [
            np.clip(xy[center] - rng.uniform(0.2, 0.8, 2) * CROP, 0, SIDE - CROP).astype(int)
            for xy in (one_xy, other_xy)
        ]
        places = np.stack([one_xy - corners[0], other_xy - corners[1]])
        both = np.flatnonzero(((places > 2) & (places < CROP - 2)).all((0, 2)))
        if len(both) >= LEAST:
            both = rng.permutation(both)[:MOST]
            (x, y), (u, v) = corners
            crops = one[y : y + CROP, x : x + CROP], other[v : v + CROP, u : u + CROP]
            return recolored(crops[0], rng), places[0, both], recolored(crops[1], rng), places[1, both]
    return None


def recolored(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return an image of other contrast, brightness and color, at times blurred or noisy."""
    changed: np.ndarray = image.astype(np.float32)
    if rng.random() < 0.8:
        changed = (changed - 128) * rng.uniform(0.7, 1.3) + 128 + rng.uniform(-25, 25)
        changed = changed * rng.uniform(0.9, 1.1, 3).astype(np.float32)
    if rng.random() < 0.3:
        changed = cv2.GaussianBlur(changed, (0, 0), rng.uniform(0.4, 1.2))
    if rng.random() < 0.3:
        changed = changed + rng.normal(0, rng.uniform(1, 8), changed.shape)
    return np.clip(changed, 0, 255).astype(np.uint8)


def read_footage(folder: Path, rng: np.random.Generator) -> np.ndarray:
    """Return squares [M, FOOTAGE_SIDE, FOOTAGE_SIDE, 3] uint8 cut out of frames of a folder's videos."""
    squares = []
    for footage in find_footage([folder], []):
        for frame in islice(iter_frames(footage.path), 0, FRAMES * FRAME_STEP, FRAME_STEP):
            height, width = frame.image.shape[:2]
            for _ in range(2):
                side = int(min(height, width) * rng.uniform(0.45, 1))
                y, x = rng.integers(height - side + 1), rng.integers(width - side + 1)
                way = cv2.INTER_AREA if side > FOOTAGE_SIDE else cv2.INTER_LINEAR
                squares.append(
                    cv2.resize(frame.image[y : y + side, x : x + side], (FOOTAGE_SIDE,) * 2, interpolation=way)
                )
    return np.stack(squares)


def place_loss(logits: Tensor, places: Tensor, width: int, height: int) -> tuple[Tensor, Tensor]:
    """Return the mean cross-entropy of places [N, 2] among cells, logits [N, height width], and the part that is found.

    A cell's weight is that of the place in it, bilinear; found is what has its peak within 1.5 cells.
    """
    corner = (places - 0.5).floor()
    fraction = places - 0.5 - corner
    log_probability = logits.log_softmax(-1)
    loss = torch.zeros(len(places))
    for right in (0, 1):
        for down in (0, 1):
            x = (corner[:, 0] + right).clamp(0, width - 1)
            y = (corner[:, 1] + down).clamp(0, height - 1)
            weight = (1 - (fraction[:, 0] - right).abs()) * (1 - (fraction[:, 1] - down).abs())
            loss = loss - weight * log_probability.gather(1, (y * width + x).long()[:, None])[:, 0]
    peak = logits.argmax(-1)
    at = torch.stack([peak % width, peak.div(width, rounding_mode="floor")], dim=1) + 0.5
    found = ((at - places).abs() <= 1.5).all(1).float()
    return loss.mean(), found.mean()


def pair_loss(
    grids: list[tuple[Tensor, Tensor]], pair: Pair, temperatures: Tensor, rng: np.random.Generator
) -> tuple[Tensor, list[float]]:
    """Return the loss of a pair, and the part of points found on each grid; grids are [h, w, C] of each image."""
    here, there = (torch.from_numpy(pair[n]).float() for n in (1, 3))
    total, found = torch.zeros(()), []
    for level, ((one, other), stride) in enumerate(zip(grids, STRIDES, strict=True)):
        height, width, _ = one.shape
        at = (here / stride / torch.tensor([width, height]) * 2 - 1)[None, None]
        queries = F.grid_sample(one.permute(2, 0, 1)[None], at, align_corners=False, padding_mode="border")[0, :, 0].T
        if level == 0:
            # Among the cells around a place near the right one.
            shift = torch.from_numpy(rng.uniform(-6, 6, (len(there), 2))).float()
            center = (there / stride + shift).floor()
            limits = torch.tensor([width - 1 - AROUND, height - 1 - AROUND])
            center = torch.minimum(center.clamp(min=AROUND), limits)
            offsets = torch.arange(-AROUND, AROUND + 1)
            rows = (center[:, 1, None] + offsets).long()[:, :, None]
            columns = (center[:, 0, None] + offsets).long()[:, None]
            logits = torch.einsum("nc,nyxc->nyx", queries, other[rows, columns]).flatten(1)
            places, width, height = there / stride - center + AROUND, 2 * AROUND + 1, 2 * AROUND + 1
        else:
            logits, places = queries @ other.flatten(0, 1).T, there / stride
        loss, share = place_loss(temperatures[level].exp() * logits, places, width, height)
        total = total + loss
        found.append(float(share))
    return total, found


def with_features(channels: tuple[int, ...], blocks: tuple[int, ...]) -> LocoTrackForPointTracking:
    """Return the bundled tracker with a backbone of other sizes, whose weights are drawn."""
    bundled = load_tracker().model
    changed = {"stage_channels": list(channels), "stage_blocks": list(blocks)}
    model = LocoTrackForPointTracking(LocoTrackConfig(**bundled.config.to_diff_dict() | changed))
    own = model.state_dict()
    for name, value in bundled.state_dict().items():
        if not name.startswith("backbone."):
            # The last layer has outputs that nothing reads, in a number that follows from the channels.
            rows = len(value) if own[name].shape == value.shape else 4
            own[name][:rows] = value[:rows]
    model.load_state_dict(own)
    return model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rendered", type=Path, help="folder of prepared clips")
    parser.add_argument("--footage", type=Path, required=True, help="folder of real videos")
    parser.add_argument("--out", type=Path, required=True, help="folder for the tracker")
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cv2.setNumThreads(1)
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    clips, images = PreparedClips(options.rendered), read_footage(options.footage, rng)
    model = with_features(CHANNELS, BLOCKS).train()
    temperatures = nn.Parameter(torch.full((3,), float(np.log(15))))
    weights = [{"params": model.backbone.parameters()}, {"params": [temperatures], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(weights, lr=options.learning_rate, weight_decay=1e-4, betas=(0.9, 0.99))
    start, logged = time.monotonic(), []
    for step in range(options.steps):
        # A hundred steps up, and down by a cosine.
        down = 0.02 + 0.98 * (1 + np.cos(np.pi * step / options.steps)) / 2
        for group in optimizer.param_groups:
            group["lr"] = options.learning_rate * min(1, step / 100) * down
        pairs: list[Pair] = []
        while len(pairs) < PAIRS:
            pair = footage_pair(images, rng) if rng.random() < FOOTAGE_SHARE else rendered_pair(clips, rng)
            pairs += [] if pair is None else [pair]
        frames = torch.from_numpy(np.stack([image for pair in pairs for image in (pair[0], pair[2])]))
        grids = model.backbone(frames.permute(0, 3, 1, 2).float() / 127.5 - 1)
        found = [
            pair_loss([(grid[2 * n], grid[2 * n + 1]) for grid in grids], pair, temperatures, rng)
            for n, pair in enumerate(pairs)
        ]
        loss = torch.stack([part for part, _ in found]).mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.backbone.parameters(), 1.0)
        optimizer.step()
        logged.append([loss.item(), *np.mean([share for _, share in found], axis=0)])
        if (step + 1) % 50 == 0:
            mean, fine, middle, coarse = np.mean(logged[-50:], axis=0)
            print(
                f"{step + 1} of {options.steps}: loss {mean:.3f}, found {fine:.1%} fine, {middle:.1%} middle, "
                f"{coarse:.1%} coarse, {time.monotonic() - start:.0f} s",
                flush=True,
            )
    model.save_pretrained(options.out)


if __name__ == "__main__":
    main()
