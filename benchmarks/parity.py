"""How near our models come to the released ones: largest differences, through the converters, with stand-in weights.

    python -m benchmarks.parity REFERENCE_FOLDER           # --slow adds TAPNext of the released size

The folder holds what the released code answered, and `fill.py`, which makes the weights and videos that it was asked
with. The tests of the converters ask for the same cases.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from anthrotap_hf.models.locotrack.convert_locotrack import convert_locotrack
from anthrotap_hf.models.tapir.convert_tapir import convert_tapir
from anthrotap_hf.models.tapnext.convert_tapnext import convert_tapnext
from anthrotap_hf.models.tokenhmr.convert_tokenhmr import convert_tokenhmr

MEAN, DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # of TokenHMR's crops


Kind = Literal["tracks", "logits", "others"]
Layout = Literal["pt", "lightning", "jax"]
LAYOUTS: tuple[Layout, ...] = get_args(Layout)


@dataclass(frozen=True)
class Pair:
    """One output of a model, and what the released one gave.

    Attributes:
        kind: Positions in pixels, logits, or rotations and other numbers around 1.
    """

    kind: Kind
    ours: Tensor
    theirs: Tensor


def pair(kind: Kind, ours: Tensor, theirs: np.ndarray) -> Pair:
    return Pair(kind, ours, torch.from_numpy(theirs))


class Reference:
    """The folder of cases."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        spec = importlib.util.spec_from_file_location("fill", folder / "fill.py")
        if spec is None or spec.loader is None:
            raise FileNotFoundError(f"{folder} holds no fill.py")
        self.stand_in: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(self.stand_in)

    def case(self, name: str) -> Any:
        return np.load(self.folder / f"{name}.npz")

    def shapes(self, name: str) -> Any:
        return json.loads((self.folder / f"{name}_keys.json").read_text())

    def fill(self, shapes: dict[str, list[int]], seed: int) -> dict[str, Tensor]:
        """Stand-in weights in the released layout."""
        return {key: torch.from_numpy(self.stand_in.fill(key, tuple(shape), seed)) for key, shape in shapes.items()}

    def inputs(self, case: Any, frames: int, height: int, width: int, seed: int) -> tuple[Tensor, Tensor]:
        """The case's video [1, T, 3, H, W] in [-1, 1] and its queries [1, N, 3] (t, x, y)."""
        video = torch.from_numpy(self.stand_in.video(frames, height, width, seed)).permute(0, 3, 1, 2)[None]
        return video / 255 * 2 - 1, torch.from_numpy(case["query_points_tyx"][None][..., [0, 2, 1]])


@dataclass(frozen=True)
class LocoTrackCase:
    title: str
    name: str
    size: str
    seed: int
    video: tuple[int, int, int]
    resolutions: list[tuple[int, int]] | None

    def answers(self, reference: Reference, scratch: Path) -> list[Pair]:
        case = reference.case(self.name)
        weights = reference.fill(reference.shapes(f"locotrack_{self.size}"), self.seed)
        torch.save({"state_dict": weights}, scratch / "x.ckpt")
        model = convert_locotrack(scratch / "x.ckpt")
        video, queries = reference.inputs(case, *self.video, self.seed)
        with torch.inference_mode():
            out = model(pixel_values_videos=video, query_points=queries, refinement_resolutions=self.resolutions)
        pairs = [
            pair("tracks", out.tracks[0], case["tracks_xy"]),
            pair("logits", out.occlusion_logits[0], case["occlusion"]),
            pair("logits", out.uncertainty_logits[0], case["expected_dist"]),
        ]
        for step in range(4):
            pairs += [
                pair("tracks", out.unrefined_tracks[step][0], case[f"unrefined_tracks_xy_{step}"]),
                pair("logits", out.unrefined_occlusion_logits[step][0], case[f"unrefined_occlusion_{step}"]),
                pair(
                    "logits",
                    out.unrefined_uncertainty_logits[step][0],
                    case[f"unrefined_expected_dist_{step}"],
                ),
            ]
        return pairs


LOCOTRACK = (
    LocoTrackCase("LocoTrack small, 256x256", "locotrack_small_256", "small", 1, (6, 256, 256), [(256, 256)]),
    LocoTrackCase("LocoTrack base, 256x256", "locotrack_base_256", "base", 1, (6, 256, 256), [(256, 256)]),
    LocoTrackCase("LocoTrack base, 192x320", "locotrack_base_192x320", "base", 2, (5, 192, 320), None),
)


# Factors on the stand-in weights, by which the first guess is not all but constant (README.md of the cases).
TAPIR_GAINS = {
    "hid1.weight": 2,
    "hid3.weight": 3,
    "hid4.weight": 3,
    "occ_out.weight": -1,
    "torch_pips_mixer.linear_1.weight": 0.3,
    "torch_pips_mixer.linear_1.bias": 0.3,
}


@dataclass(frozen=True)
class TAPIRCase:
    """A case of TAPIR; `keys` names the released layout, `released` whether the released sampler's error is kept."""

    title: str
    name: str
    keys: str
    seed: int
    video: tuple[int, int, int]
    released: bool = False
    causal: bool = False

    def weights(self, reference: Reference) -> dict[str, Tensor]:
        weights = reference.fill(reference.shapes(self.keys), self.seed)
        for name, tensor in weights.items():
            for ending, gain in TAPIR_GAINS.items():
                if name.endswith(ending):
                    tensor *= gain
        return weights

    def model(self, reference: Reference, scratch: Path) -> Any:
        torch.save(self.weights(reference), scratch / "x.pt")
        model = convert_tapir(scratch / "x.pt", causal=self.causal)
        model.config.released_patches = self.released
        return model

    def answers(self, reference: Reference, scratch: Path) -> list[Pair]:
        """Of the whole clip, and of causal weights frame by frame, too."""
        case = reference.case(self.name)
        model = self.model(reference, scratch)
        video, queries = reference.inputs(case, *self.video, self.seed)
        with torch.inference_mode():
            whole = model(pixel_values_videos=video, query_points=queries)
        if self.causal:
            return self._pairs(case, "whole_", whole) + self._by_frame(case, model, video, queries)
        prefix = "" if self.released or self.video[1] == self.video[2] else "as_meant_"
        pairs = self._pairs(case, prefix, whole)
        for step, tracks in enumerate(whole.unrefined_tracks):
            pairs += [
                pair("tracks", tracks[0], case[f"{prefix}iter_tracks_xy_{step}"]),
                pair("logits", whole.unrefined_occlusion_logits[step][0], case[f"{prefix}iter_occlusion_{step}"]),
                pair(
                    "logits",
                    whole.unrefined_expected_distance_logits[step][0],
                    case[f"{prefix}iter_expected_dist_{step}"],
                ),
            ]
        return pairs

    def _pairs(self, case: Any, prefix: str, out: Any) -> list[Pair]:
        return [
            pair("tracks", out.tracks[0], case[f"{prefix}tracks_xy"]),
            pair("logits", out.occlusion_logits[0], case[f"{prefix}occlusion"]),
            pair("logits", out.expected_distance_logits[0], case[f"{prefix}expected_dist"]),
        ]

    def _by_frame(self, case: Any, model: Any, video: Tensor, queries: Tensor) -> list[Pair]:
        with torch.inference_mode():
            features = model.get_query_features(model.get_video_features(video), queries)
            state, found = model.start(queries, features), []
            for frame in video.split(1, dim=1):
                found.append(model(pixel_values_videos=frame, state=state))
                state = found[-1].state
        tracks, occlusion, distance = (
            torch.cat([getattr(out, name)[0] for out in found], dim=1)
            for name in ("tracks", "occlusion_logits", "expected_distance_logits")
        )
        first, last = state.layers[0], state.layers[-1]
        return [
            pair("tracks", tracks, case["online_tracks_xy"]),
            pair("logits", occlusion, case["online_occlusion"]),
            pair("logits", distance, case["online_expected_dist"]),
            pair("logits", first[0][0, :2], case["online_state_block_0_causal_1"]),
            # Our copies of a channel follow one another, theirs lie side by side.
            pair(
                "logits",
                last[1][0, :2].unflatten(-1, (-1, 512)).transpose(-1, -2).flatten(-2),
                case["online_state_block_11_causal_2_last"],
            ),
        ]


TAPIR = (
    TAPIRCase("TAPIR, 256x256", "tapir_256", "tapir", 1, (8, 256, 256)),
    TAPIRCase("BootsTAPIR, 256x256", "bootstapir_256", "bootstapir", 1, (8, 256, 256)),
    TAPIRCase("BootsTAPIR, 192x320", "bootstapir_192x320", "bootstapir", 2, (5, 192, 320)),
    TAPIRCase("the same, as released", "bootstapir_192x320", "bootstapir", 2, (5, 192, 320), released=True),
    TAPIRCase("BootsTAPIR, 320x320", "bootstapir_320", "bootstapir", 2, (4, 320, 320)),
    TAPIRCase("causal TAPIR, 256x256", "causal_tapir_256", "tapir", 2, (6, 256, 256), causal=True),
    TAPIRCase("causal BootsTAPIR, 256x256", "causal_bootstapir_256", "bootstapir", 1, (8, 256, 256), causal=True),
)


def tapnext_file(reference: Reference, name: str, seed: int, layout: Layout, scratch: Path) -> Path:
    """The case's weights in one of the released layouts."""
    if layout == "jax":
        return reference.folder / f"{name}_jax.npz"
    weights = reference.fill(reference.shapes(name), seed)
    if layout == "lightning":
        torch.save({"state_dict": {f"tapnext.{key}": tensor for key, tensor in weights.items()}}, scratch / "x.pt")
    else:
        torch.save(weights, scratch / "x.pt")
    return scratch / "x.pt"


def tapnext_answers(
    reference: Reference, name: str, file: Path, frames: int, seed: int
) -> tuple[list[Pair], list[Pair]]:
    """Of the whole clip at once, and frame by frame."""
    case = reference.case(name)
    model = convert_tapnext(file)
    video, queries = reference.inputs(case, frames, 256, 256, seed)
    with torch.inference_mode():
        whole = model(pixel_values_videos=video, query_points=queries, output_coordinate_logits=True)
        state, tracks, logits = model.start(queries), [], []
        for frame in video.split(1, dim=1):
            out = model(pixel_values_videos=frame, state=state)
            state = out.state
            tracks.append(out.tracks)
            logits.append(out.visible_logits)
    y_then_x = whole.coordinate_logits[:, :, 0].flip(-2).flatten(-2)
    at_once = [
        pair("tracks", whole.tracks[0], case["tracks_xy"]),
        pair("logits", whole.visible_logits[0], case["visible_logits"]),
        pair("logits", y_then_x[0], case["track_logits_frame0"]),
    ]
    by_frame = [
        pair("tracks", torch.cat(tracks, dim=2)[0], case["online_tracks_xy"]),
        pair("logits", torch.cat(logits, dim=2)[0], case["online_visible_logits"]),
    ]
    return at_once, by_frame


# Factors on the stand-in weights of TAPNext++ (README.md of the cases).
TAPNEXTPP_GAINS = {"image_pos_emb": 300, "coordinate_head.6.weight": 8}


@dataclass(frozen=True)
class TAPNextPPCase:
    """TAPNext++ at one of its resolutions; coordinates of the case are those of a frame of 256 x 256."""

    title: str
    name: str
    seed: int
    frames: int
    side: int

    def model(self, reference: Reference, scratch: Path) -> Any:
        """Convert the weights: bare ones, or in a `state_dict` with a prefix for 512."""
        weights = reference.fill(reference.shapes("tapnextpp_w96d3"), self.seed)
        for name, gain in TAPNEXTPP_GAINS.items():
            weights[name] *= gain
        # The sines are a buffer.
        del weights["query_pos_embed"]
        file = scratch / ("tapnextpp_512.ckpt" if self.side == 512 else "tapnextpp_ckpt.pt")
        named = {f"tapnext.{name}": tensor for name, tensor in weights.items()}
        torch.save({"state_dict": named} if self.side == 512 else weights, file)
        return convert_tapnext(file)

    def answers(self, reference: Reference, scratch: Path) -> list[Pair]:
        """Of the whole clip at once, and frame by frame."""
        case, scale = reference.case(self.name), 256 / self.side
        model = self.model(reference, scratch)
        video, queries = reference.inputs(case, self.frames, self.side, self.side, self.seed)
        queries[..., 1:] /= scale
        with torch.inference_mode():
            whole = model(pixel_values_videos=video, query_points=queries, output_coordinate_logits=True)
            state, found = model.start(queries), []
            for frame in video.split(1, dim=1):
                found.append(model(pixel_values_videos=frame, state=state, output_certainty=True))
                state = found[-1].state
        tracks, logits, certainty = (
            torch.cat([out[name][0] for out in found], dim=1) for name in ("tracks", "visible_logits", "certainty")
        )
        first = whole.coordinate_logits[0, :, 0].flip(-2).flatten(-2)
        return [
            pair("tracks", whole.tracks[0] * scale, case["tracks_xy"]),
            pair("logits", whole.visible_logits[0], case["visible_logits"]),
            pair("logits", first, case["track_logits_frame0"]),
            pair("tracks", tracks * scale, case["online_tracks_xy"]),
            pair("logits", logits, case["online_visible_logits"]),
            pair("others", certainty, case["certainty"]),
        ]


TAPNEXTPP = (
    TAPNextPPCase("TAPNext++, width 96, 256x256", "tapnextpp_w96d3_256", 3, 5, 256),
    TAPNextPPCase("TAPNext++, width 96, 512x512", "tapnextpp_w96d3_512", 4, 3, 512),
)


def tokenhmr_files(reference: Reference, scratch: Path) -> list[Path]:
    """In the released layout: checkpoint, tokenizer, mean parameters, configuration."""
    shapes, case = reference.shapes("tokenhmr_tiny"), reference.case("tokenhmr_tiny")
    model = reference.fill(shapes["model"], 1)
    model |= {"initialized": torch.tensor(True), "smpl.betas": torch.zeros(3)}
    codes = {name.removeprefix("tokenizer."): tensor for name, tensor in reference.fill(shapes["tokenizer"], 1).items()}
    torch.save({"state_dict": model, "epoch": 3}, scratch / "tokenhmr.ckpt")
    torch.save({"hparams": {"a": 1}, "net": codes | {"encoder.x": torch.zeros(2)}}, scratch / "tokenizer.pth")
    np.savez(scratch / "means.npz", **{n: case[f"mean_{n}"] for n in ("pose", "shape", "cam")})
    (scratch / "config.json").write_text('{"backbone_config": {"num_attention_heads": 4}}')
    return [scratch / name for name in ("tokenhmr.ckpt", "tokenizer.pth", "means.npz", "config.json")]


def tokenhmr_crops(reference: Reference) -> Tensor:
    pixels = torch.from_numpy(reference.stand_in.video(2, 256, 256, 1)).permute(0, 3, 1, 2) / 255
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]


def tokenhmr_answers(reference: Reference, scratch: Path) -> list[Pair]:
    case = reference.case("tokenhmr_tiny")
    model = convert_tokenhmr(*tokenhmr_files(reference, scratch))
    with torch.inference_mode():
        out = model(pixel_values=tokenhmr_crops(reference))
    probabilities = out.token_logits.softmax(-1)
    found = {"token_probs_max": probabilities.amax(-1), "token_probs_argmax": probabilities.argmax(-1)}
    found |= {name: out[name] for name in ("global_orient", "body_pose", "betas", "pred_cam")}
    return [pair("others", value, case[name].astype(value.numpy().dtype)) for name, value in found.items()]


def line(title: str, pairs: Sequence[Pair]) -> str:
    """One line of the table: the largest difference of each kind."""
    cells = []
    for kind in ("tracks", "logits", "others"):
        off = [(each.ours - each.theirs).abs().max().item() for each in pairs if each.kind == kind]
        cells.append(f"{max(off):.1e}" if off else "-")
    return f"| {title} | {' | '.join(cells)} |"


def main() -> None:
    from benchmarks.parity_joint import ALLTRACKER, COTRACKER3

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--slow", action="store_true", help="also TAPNext of the released size: minutes, 2 GB")
    options = parser.parse_args()
    reference = Reference(options.folder)
    warnings.simplefilter("ignore", UserWarning)  # of made-up weights and small sizes

    print("| case | tracks, px | logits | rotations and others |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        for case in LOCOTRACK:
            print(line(case.title, case.answers(reference, scratch)), flush=True)
        for tapir in TAPIR:
            print(line(tapir.title, tapir.answers(reference, scratch)), flush=True)
        name = "tapnext_w96d3"
        files = (tapnext_file(reference, name, 1, layout, scratch) for layout in LAYOUTS)
        small = [tapnext_answers(reference, name, file, 6, 1) for file in files]
        print(line("TAPNext, width 96, `.pt`, `.ckpt` and JAX `.npz`", [p for whole, _ in small for p in whole]))
        print(line("the same, frame by frame", [p for _, single in small for p in single]), flush=True)
        for plus in TAPNEXTPP:
            print(line(plus.title, plus.answers(reference, scratch)), flush=True)
        if options.slow:
            file = tapnext_file(reference, "tapnext_full", 2, "pt", scratch)
            whole, single = tapnext_answers(reference, "tapnext_full", file, 2, 2)
            print(line("TAPNext of the released size", whole))
            print(line("the same, frame by frame", single), flush=True)
        for joint in (*COTRACKER3, *ALLTRACKER):
            print(line(joint.title, joint.answers(reference, scratch)), flush=True)
        print(line("TokenHMR (mesh source), width 96", tokenhmr_answers(reference, scratch)))


if __name__ == "__main__":
    main()
