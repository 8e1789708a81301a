"""Which check ends the tracks? Of visible labels of rendered clips, what became of the point a second later.

    python -m benchmarks.retention --out outputs/label_accuracy

A row a reason, in the order in which labeling asks: the share of start labels that have no visible label of their
track for it, and how many of these points the ground truth calls visible there. Those are the good labels that the
check loses.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from anthrotap_builder.config import LabelingConfig, labeling_config
from anthrotap_builder.context import ClipContext
from anthrotap_builder.detection import PersonTrack, person_masks
from anthrotap_builder.flow.track_flow import TrackFlow
from anthrotap_builder.pipeline import Stages, label_clip
from anthrotap_builder.surface_tracks import SurfaceTracks
from anthrotap_hf.cli.common import LabelRecipe, cli_errors
from anthrotap_hf.tracks import Tracks
from anthrotap_hf.utils.workers import WorkerPool
from benchmarks.label_accuracy.evaluation import choose_clips
from benchmarks.synthetic.clip_sets import load_clip
from benchmarks.synthetic.clip_spec import ClipSpec

LAGS = (24, 48)
# Every so many frames are start frames.
STEP = 4
GIVEN = "given"
NO_MESH = "no mesh in the frame"
OUTSIDE = "outside the frame by the mesh"
SELF_OCCLUDED = "occluded by the own body, by the mesh"
OCCLUDED = "occluded by another person, by the mesh"
OFF_MASK = "outside the person's mask"
OTHER_TRACK = "on another track of the same vertex"
UNCERTAIN = "near a contour or at a grazing angle"
REJECTED = "rejected by flow or by looks"
REASONS = (GIVEN, NO_MESH, OUTSIDE, SELF_OCCLUDED, OCCLUDED, OFF_MASK, OTHER_TRACK, UNCERTAIN, REJECTED)

app = typer.Typer(add_completion=False)


def reasons(
    tracks: Tracks, points: SurfaceTracks, people: list[PersonTrack], context: ClipContext, track: np.ndarray, t: int
) -> np.ndarray:
    """Return why each of some tracks has no visible label in a frame.

    Args:
        tracks: the labels.
        points: the surface points that they were made of.
        people: whose masks they must lie in.
        context: the clip.
        track: [K] int, which tracks.
        t: the frame.

    Returns:
        [K] int, index into REASONS.
    """
    # The surface point of each track, and whether any other track of that point is visible.
    key = points.person.astype(np.int64) << 32 | points.vertex
    order = np.argsort(key, kind="stable")
    wanted = tracks.person.astype(np.int64) << 32 | tracks.vertex
    point = order[np.searchsorted(key[order], wanted)]
    elsewhere = np.zeros(len(key), bool)
    elsewhere[point[tracks.visible[:, t]]] = True
    point = point[track]
    xy = points.xy[point, t]
    masks = person_masks(people)
    column, row = np.clip(np.nan_to_num(xy), 0, [context.camera.width - 1, context.camera.height - 1]).astype(int).T
    in_mask = np.array([masks[p][t, y, x] for p, y, x in zip(points.person[point], row, column, strict=True)], bool)
    tests = {
        GIVEN: tracks.visible[track, t],
        NO_MESH: ~np.isfinite(xy).all(1),
        OUTSIDE: ~context.camera.contains(xy),
        SELF_OCCLUDED: ~points.visible[point, t] & points.self_occluded[point, t],
        OCCLUDED: ~points.visible[point, t],
        OFF_MASK: ~in_mask if context.config.filter.masks else np.zeros(len(track), bool),
        OTHER_TRACK: elsewhere[point],
        UNCERTAIN: ~points.certain[point, t],
        REJECTED: np.ones(len(track), bool),
    }
    return np.select(list(tests.values()), list(range(len(tests))))


def count(spec: ClipSpec, folder: Path, config: LabelingConfig) -> Counter[tuple[int, str, str]]:
    """Count the labels of a clip by lag, reason and what the ground truth says: "visible" or "not"."""
    clip = load_clip(spec, folder, 1)
    kept: list[tuple[ClipContext, SurfaceTracks, list[PersonTrack]]] = []
    usual = Stages()

    def filtering(
        context: ClipContext, points: SurfaceTracks, people: list[PersonTrack], flow: list[TrackFlow]
    ) -> tuple[Tracks, float]:
        kept.append((context, points, people))
        return usual.filtering(context, points, people, flow)

    tracks = label_clip(clip.frames, clip.fps, config, 1, stages=Stages(filtering=filtering)).tracks
    counts: Counter[tuple[int, str, str]] = Counter()
    if not kept:
        return counts
    context, points, people = kept[0]
    for lag in LAGS:
        for t in range(0, len(clip.frames) - lag, STEP):
            track = np.flatnonzero(tracks.visible[:, t])
            person, face, barycentric = clip.truth.surface_point_under(t, tracks.xy[track, t])
            on_body = person >= 0
            track = track[on_body]
            if not len(track):
                continue
            _, visible = clip.truth.locate(t + lag, person[on_body], face[on_body], barycentric[on_body])
            why = reasons(tracks, points, people, context, track, t + lag)
            for reason, truly in zip(why.tolist(), visible.tolist(), strict=True):
                counts[lag, REASONS[reason], "visible" if truly else "not"] += 1
    return counts


def tables(counts: Counter[tuple[int, str, str]]) -> Iterator[Table]:
    """Make a table a lag."""
    for lag in LAGS:
        table = Table("", title=f"Visible labels {lag} frames later", title_justify="left")
        for heading in ("% of start labels", "of these, % truly visible", "good labels lost, % of start labels"):
            table.add_column(heading, justify="right")
        by_reason = {reason: [counts[lag, reason, truly] for truly in ("visible", "not")] for reason in REASONS}
        total = max(1, sum(map(sum, by_reason.values())))
        for reason, (visible, hidden) in by_reason.items():
            lost = "" if reason == GIVEN else f"{100 * visible / total:.1f}"
            share = f"{100 * visible / (visible + hidden):.0f}" if visible + hidden else "-"
            table.add_row(reason, f"{100 * (visible + hidden) / total:.1f}", share, lost)
        table.caption = f"{total} labels"
        yield table


@app.command()
def retention(
    out: Annotated[Path, typer.Option(help="Folder of the rendered clips, as of benchmarks.label_accuracy.")] = Path(
        "outputs/label_accuracy"
    ),
    clips: Annotated[list[str] | None, typer.Option("--clip", help="Only this clip; may be repeated.")] = None,
    half: Annotated[str, typer.Option(help="Which half of the clips: tuning or held_out.")] = "held_out",
    recipe: LabelRecipe = "open",
    processes: Annotated[int, typer.Option(min=1, help="Clips processed at once.")] = 2,
) -> None:
    """Say which check ends the tracks of the rendered standard clips, and how many good labels it loses."""
    with cli_errors(out, interrupted="nothing is kept"):
        specs = choose_clips(half, ["standard"], clips or [])
        counts: Counter[tuple[int, str, str]] = Counter()
        with WorkerPool(processes, "anthrotap retention") as pool:
            for outcome in pool.run(partial(count, folder=out, config=labeling_config(recipe)), specs):
                counts += outcome.result()
    for table in tables(counts):
        Console().print(table)


if __name__ == "__main__":
    # Worker processes find `count` in the module of this name, not in the script that they were not started with.
    from benchmarks.retention import app

    app(prog_name="python -m benchmarks.retention")
