"""The cases of CoTracker3 and AllTracker, for `benchmarks.parity` and the tests of the converters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from anthrotap_hf.models.alltracker.convert_alltracker import convert_alltracker
from anthrotap_hf.models.alltracker.modeling_alltracker import AllTrackerForPointTracking
from anthrotap_hf.models.cotracker3.convert_cotracker3 import convert_cotracker3
from anthrotap_hf.models.cotracker3.modeling_cotracker3 import CoTracker3ForPointTracking, time_embedding
from benchmarks.parity import Pair, Reference, pair

# Factors of stand-in weights, by how their names end or begin: without them the cases would be weak.
COTRACKER3_GAINS = {
    "corr_mlp.fc1.weight": 4.0,
    "corr_mlp.fc2.weight": 4.0,
    "updateformer.flow_head.": 0.1,
    "updateformer.vis_conf_head.": 0.15,
}

# These by how names end.
ALLTRACKER_GAINS = {
    "layer_scale": 0.3,
    "flow_head.2.weight": 0.15,
    "flow_head.2.bias": 0.15,
    "visconf_head.2.weight": -0.03,
    "visconf_head.2.bias": -0.03,
}


def cotracker3_file(reference: Reference, kind: str, seed: int, scratch: Path) -> Path:
    """The stand-in weights of the offline or online model, as a released file."""
    weights = reference.fill(reference.shapes(f"cotracker3_{kind}"), seed)
    for name, tensor in weights.items():
        for start, gain in COTRACKER3_GAINS.items():
            if name.startswith(start):
                tensor *= gain
    weights["time_emb"] = time_embedding(*weights["time_emb"].shape[1:])[None]
    file = scratch / f"cotracker3_{kind}_{seed}.pth"
    torch.save(weights, file)
    return file


@dataclass(frozen=True)
class CoTracker3Case:
    """A case of CoTracker3.

    Attributes:
        video: frames, height and width.
        settings: of the configuration, as the case was run.
        options: of `forward`.
    """

    title: str
    name: str
    kind: str
    seed: int
    video: tuple[int, int, int]
    settings: dict[str, Any]
    options: dict[str, Any]

    def model(self, reference: Reference, scratch: Path) -> CoTracker3ForPointTracking:
        model = convert_cotracker3(cotracker3_file(reference, self.kind, self.seed, scratch))
        for name, value in {"support_grid_size": 0, "attend_to_unseen": True, **self.settings}.items():
            setattr(model.config, name, value)
        return model

    def inputs(self, reference: Reference) -> tuple[Tensor, Tensor, Any]:
        """Video, queries in raster pixels (the cases have pixel centers at whole numbers), and the case."""
        case = reference.case(self.name)
        video, queries = reference.inputs(case, *self.video, self.seed)
        return video, queries + torch.tensor([0, 0.5, 0.5]), case

    def answers(self, reference: Reference, scratch: Path) -> list[Pair]:
        model = self.model(reference, scratch)
        video, queries, case = self.inputs(reference)
        with torch.inference_mode():
            out = model(pixel_values_videos=video, query_points=queries, output_steps=True, **self.options)
        windows: Any = out.steps[0]
        if "predictor" in self.name:
            (_, height, width), (model_height, model_width) = self.video, self.settings["resolution"]
            scale = torch.tensor([(width - 1) / (model_width - 1), (height - 1) / (model_height - 1)])
            found = (out.tracks[0] - 0.5) / scale
            pairs = [pair("tracks", found, case["model_tracks_xy"]), *_probabilities(out, case, "model_")]
            return [*pairs, pair("others", _pinned_visible(out, queries, self.kind), case["predicted_visible"] * 1.0)]
        if self.kind == "online":
            pairs = [pair("tracks", out.tracks[0] - 0.5, case["whole_tracks_xy"])]
            pairs += [*_probabilities(out, case, "whole_"), *self._frame_chunks(model, video, queries, case)]
            for step in range(4):
                pairs += _step(windows[0], step, case, f"window_0_iter_{step}_")
            return [*pairs, *_step(windows[1], 3, case, "window_1_iter_3_")]
        pairs = [pair("tracks", out.tracks[0] - 0.5, case["tracks_xy"]), *_probabilities(out, case, "")]
        for step in range(len(windows[0].tracks)):
            pairs += _step(windows[0], step, case, "iter_", f"_{step}")
        return pairs

    def _frame_chunks(
        self, model: CoTracker3ForPointTracking, video: Tensor, queries: Tensor, case: Any
    ) -> Sequence[Pair]:
        """Fed as the video comes: 16 frames, then the rest."""
        state, pairs = model.start(queries), []
        for number, frames in enumerate((video[:, :16], video[:, 16:])):
            with torch.inference_mode():
                found, state = model.step(frames, state, num_iterations=self.options["num_iterations"])
            out: Any = found
            theirs = case[f"online_step_{number}_tracks_xy"][:, state.begin : state.end]
            pairs.append(pair("tracks", out.tracks[0] - 0.5, theirs))
        return pairs


def _probabilities(out: Any, case: Any, prefix: str) -> list[Pair]:
    return [
        pair("logits", (-out.occlusion_logits[0]).sigmoid(), case[f"{prefix}visible"]),
        pair("logits", out.confidence_logits[0].sigmoid(), case[f"{prefix}confidence"]),
    ]


def _step(steps: Any, step: int, case: Any, prefix: str, suffix: str = "") -> list[Pair]:
    own = slice(len(steps.frames))
    return [
        pair("tracks", steps.tracks[step] - 0.5, case[f"{prefix}tracks_xy{suffix}"][:, own]),
        pair("logits", -steps.occlusion_logits[step], case[f"{prefix}visible_logits{suffix}"][:, own]),
        pair("logits", steps.confidence_logits[step], case[f"{prefix}confidence_logits{suffix}"][:, own]),
    ]


def _pinned_visible(out: Any, queries: Tensor, kind: str) -> Tensor:
    """Whether points are visible, as 0 and 1; the offline predictor says so of every query in its own frame."""
    visible = (out.visible_logits[0] > 0).double()
    if kind == "offline":
        visible[torch.arange(len(visible)), queries[0, :, 0].long()] = 1
    return visible


_SMALL: dict[str, Any] = {"resolution": [96, 128]}
_PREDICTOR = {**_SMALL, "support_grid_size": 6}
COTRACKER3 = (
    CoTracker3Case(
        "CoTracker3 offline, 96x128", "cotracker3_offline_96x128", "offline", 1, (16, 96, 128), _SMALL,
        {"num_iterations": 4},
    ),
    CoTracker3Case(
        "CoTracker3 online, 96x128", "cotracker3_online_96x128", "online", 1, (22, 96, 128), _SMALL,
        {"num_iterations": 4, "bidirectional": False},
    ),
    CoTracker3Case(
        "CoTracker3 offline, 384x512", "cotracker3_offline_384x512", "offline", 2, (3, 384, 512), {}, {},
    ),
    CoTracker3Case(
        "CoTracker3 offline predictor", "cotracker3_predictor_offline", "offline", 2, (10, 120, 200),
        {**_PREDICTOR, "confidence_counts": False, "visible_threshold": 0.9}, {"resolution": (96, 128)},
    ),
    CoTracker3Case(
        "CoTracker3 online predictor", "cotracker3_predictor_online", "online", 2, (24, 120, 200), _PREDICTOR,
        {"resolution": (96, 128), "bidirectional": False},
    ),
)  # fmt: skip


@dataclass(frozen=True)
class AllTrackerCase:
    """A case of AllTracker.

    Attributes:
        kind: "full" or "tiny".
        video: frames, height and width.
        part: what of the case: "dense" for flow, "forward" or "sliding" windows, "queries" or "demo" for tracks.
    """

    title: str
    name: str
    kind: str
    seed: int
    video: tuple[int, int, int]
    part: str

    def model(self, reference: Reference, scratch: Path) -> AllTrackerForPointTracking:
        weights = reference.fill(reference.shapes(f"alltracker_{self.kind}"), self.seed)
        for name, tensor in weights.items():
            for end, gain in ALLTRACKER_GAINS.items():
                if name.endswith(end):
                    tensor *= gain
        weights["time_emb"] = time_embedding(*weights["time_emb"].shape[1:])[None]
        file = scratch / "alltracker.pth"
        torch.save({"model": weights, "global_step": 3}, file)
        model = convert_alltracker(file)
        model.config.released_readout = True
        model.config.first_window_counts = self.part in ("sliding", "demo")
        return model

    def answers(self, reference: Reference, scratch: Path) -> list[Pair]:
        model, case = self.model(reference, scratch), reference.case(self.name)
        video = torch.from_numpy(reference.stand_in.video(*self.video, self.seed)).permute(0, 3, 1, 2)[None]
        if self.part in ("queries", "demo"):
            return self._tracks(model, video, case)
        with torch.inference_mode():
            found: Any = model.track_densely(video)
        logits = torch.stack([-found.occlusion_logits[0], found.confidence_logits[0]], dim=1)
        maps = torch.cat([found.flow[0], logits.sigmoid()], dim=1).permute(0, 2, 3, 1)
        prefix, step = ("", 13) if self.part == "dense" else (f"{self.part}_", 26)
        flow, state = maps[:, ::step, ::step].chunk(2, dim=-1)
        if self.video[0] == 2:  # the released code gives the second frame alone
            flow, state = flow[1], state[1]
        return [pair("tracks", flow, case[f"{prefix}flow"]), pair("logits", state, case[f"{prefix}visconf"])]

    def _tracks(self, model: AllTrackerForPointTracking, video: Tensor, case: Any) -> list[Pair]:
        queries = torch.from_numpy(case["query_points_tyx"][None][..., [0, 2, 1]]) + torch.tensor([0, 0.5, 0.5])
        queries = torch.minimum(queries, torch.tensor([self.video[0] - 1, self.video[2], self.video[1]]))
        with torch.inference_mode():
            out: Any = model(pixel_values_videos=video, query_points=queries, bidirectional=self.part == "demo")
        tracks, confidence = out.tracks[0] - 0.5, out.confidence_logits[0].sigmoid()
        visible = (-out.occlusion_logits[0]).sigmoid()
        if self.part == "queries":
            return [
                pair("tracks", tracks, case["tracks_xy"]),
                pair("logits", confidence, case["confidence"]),
                pair("logits", visible * confidence, case["visible_times_confidence"]),
                pair("others", (out.visible_logits[0] > 0).double(), case["visible"] * 1.0),
            ]
        # The demo cannot start in the last two frames.
        known = ~torch.from_numpy(case["demo_confidence"]).isnan().any(1)
        return [
            pair("tracks", tracks[known], case["demo_tracks_xy"][known.numpy()]),
            pair("logits", visible[known], case["demo_visibility"][known.numpy()]),
            pair("logits", confidence[known], case["demo_confidence"][known.numpy()]),
        ]


ALLTRACKER = (
    AllTrackerCase("AllTracker tiny, 200x251", "alltracker_tiny_200x251", "tiny", 1, (6, 200, 251), "dense"),
    AllTrackerCase("AllTracker full, 200x251", "alltracker_full_200x251", "full", 1, (6, 200, 251), "dense"),
    AllTrackerCase("AllTracker tiny, 150x100", "alltracker_tiny_150x100", "tiny", 1, (4, 150, 100), "dense"),
    AllTrackerCase("AllTracker full, a pair", "alltracker_full_pair", "full", 2, (2, 196, 256), "dense"),
    AllTrackerCase("AllTracker tiny, 27 frames", "alltracker_tiny_long", "tiny", 2, (27, 208, 256), "forward"),
    AllTrackerCase("the same, first window counts", "alltracker_tiny_long", "tiny", 2, (27, 208, 256), "sliding"),
    AllTrackerCase("AllTracker tiny, queries", "alltracker_tiny_queries", "tiny", 1, (12, 208, 256), "queries"),
    AllTrackerCase("the same, both directions", "alltracker_tiny_queries", "tiny", 1, (12, 208, 256), "demo"),
)
