"""The ablation on a short clip: each variant does what its name says, and the ground truth is no worse than a stage."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from anthrotap_builder.bodies import load_body
from anthrotap_builder.clips import VideoClip
from anthrotap_builder.config import LabelingConfig
from anthrotap_hf.tracks import Tracks
from benchmarks.label_accuracy import evaluation
from benchmarks.label_accuracy.__main__ import app
from benchmarks.label_accuracy.ablation import ABLATION, DEFAULT, TRUTHS, Variant, Workbench
from benchmarks.label_accuracy.measure import evaluate_labels
from benchmarks.synthetic.clip_spec import ClipSpec
from benchmarks.synthetic.demo import demo_scene
from benchmarks.synthetic.renderer import render_scene

CONFIG = LabelingConfig(points=200)


def short_scene():
    return demo_scene(num_frames=16)


@pytest.fixture(scope="module")
def bench() -> Workbench:
    return Workbench(render_scene(short_scene()), threads=2)


@pytest.fixture(scope="module")
def labels(bench: Workbench) -> dict[str, Tracks]:
    return {name: bench.label(CONFIG, variant).tracks for name, variant in ABLATION.items()}


def bench_owner(bench: Workbench, tracks: Tracks, person: int) -> int:
    """Return the true person that the labels of a detected one lie on."""
    own = tracks.visible[:, 0] & (tracks.person == person)
    found, *_ = bench.clip.truth.surface_point_under(0, tracks.xy[own, 0])
    return int(np.bincount(found[found >= 0]).argmax())


def figures(bench: Workbench, tracks: Tracks) -> dict:
    result = evaluate_labels(tracks, bench.clip.truth, lags=(8,))
    return {**result, **result["lags"]["8"]}


@pytest.mark.slow
def test_projection_calls_all_visible_and_ray_casting_does_not(labels: dict[str, Tracks]):
    assert not labels["projection of the mesh"].occluded.any()
    assert labels["+ ray casting"].occluded.mean() > 0.03


@pytest.mark.slow
def test_the_forward_backward_check_only_removes_labels(labels: dict[str, Tracks]):
    assert labels["without the forward-backward check"].valid.sum() > labels[DEFAULT].valid.sum()
    assert (
        labels["+ ray casting"].valid.sum() > labels["+ forward-backward check of steps (the paper's rule)"].valid.sum()
    )


@pytest.mark.slow
def test_with_all_true_labels_are_right(bench: Workbench, labels: dict[str, Tracks]):
    found = figures(bench, labels["all four true"])
    assert found["average_delta"] > 99.5
    assert found["off_body"] < 0.5
    assert found["visible_but_occluded"] < 0.5


@pytest.mark.slow
def test_a_true_mesh_is_better_than_a_fitted_one(bench: Workbench, labels: dict[str, Tracks]):
    fitted, true = (figures(bench, labels[name]) for name in (DEFAULT, "true mesh"))
    assert true["average_delta"] > max(99.5, fitted["average_delta"])
    assert true["visible_but_occluded"] <= fitted["visible_but_occluded"] + 0.5


@pytest.mark.slow
def test_true_visibility_of_the_labels_own_points(bench: Workbench, labels: dict[str, Tracks]):
    tracks = labels["true visibility"]
    assert tracks.visible.any()
    truth = bench.clip.truth
    surface = load_body("anny").surface_points(CONFIG.points, CONFIG.seed)
    index = {vertex: k for k, vertex in enumerate(surface.vertex.tolist())}
    assert len(index) == len(surface)
    own = np.array([index[vertex] for vertex in tracks.vertex.tolist()])
    owners = np.array([bench_owner(bench, tracks, person) for person in (0, 1)])[tracks.person]
    for t in (0, 9):
        _, shows = truth.locate(t, owners, surface.face[own], surface.barycentric[own])
        np.testing.assert_array_equal(tracks.visible[:, t], shows & tracks.valid[:, t])


@pytest.mark.slow
def test_the_default_row_equals_label_clip(bench: Workbench, labels: dict[str, Tracks]):
    from anthrotap_builder.pipeline import label_clip

    clip = bench.clip
    plain = label_clip(clip.frames, clip.fps, CONFIG).tracks
    np.testing.assert_array_equal(plain.xy, labels[DEFAULT].xy)
    np.testing.assert_array_equal(plain.valid, labels[DEFAULT].valid)


def test_a_variant_changes_the_settings_that_it_names_and_no_other():
    changed = Variant({"filter.rule": "none", "points": 7}).configured(CONFIG)
    assert (changed.filter.rule, changed.points) == ("none", 7)
    assert changed.fit_flow == CONFIG.fit_flow
    assert changed.detection == CONFIG.detection
    assert set(TRUTHS) == {"masks", "mesh", "visibility", "flow"}


@pytest.fixture
def short_set(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = ClipSpec("short", "held_out", short_scene)
    chosen = {(None, "standard"), ("held_out", "standard")}
    monkeypatch.setattr(evaluation, "rendered_set", lambda half=None, group=None: [spec] * ((half, group) in chosen))
    monkeypatch.setattr(evaluation, "code_version", lambda: "test")


@pytest.mark.slow
def test_the_command_writes_figures_and_plots_and_resumes(
    short_set: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    arguments = ["--out", str(tmp_path), "--processes", "1"]
    first = CliRunner().invoke(app, [*arguments, "--no-ablation"])
    assert first.exit_code == 0, first.output
    assert "bars" in first.output
    report = json.loads((tmp_path / "labels.json").read_text())
    assert set(report["variants"]) == {DEFAULT}
    assert report["variants"][DEFAULT]["standard"]["held_out"]["clips"]["short"]["num_tracks"] > 0
    assert (tmp_path / "labels.png").stat().st_size > 10_000

    def label_again(*_: object) -> None:
        raise AssertionError("is labeled already")

    monkeypatch.setattr(Workbench, "label", label_again)
    again = CliRunner().invoke(app, [*arguments, "--no-ablation", "--json"])
    assert again.exit_code == 0, again.output
    assert json.loads(again.stdout) == report


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--half", "third"], "no half 'third'"),
        (["--clip", "nonsense"], "no clip nonsense in the rendered sets: walk, "),
        (["--recipe", "nowhere.yaml"], "no recipe"),
    ],
)
def test_unknown_halves_clips_and_recipes_are_an_error_in_one_line(arguments: list[str], reason: str, tmp_path: Path):
    result = CliRunner().invoke(app, ["--out", str(tmp_path), *arguments])
    assert result.exit_code == 2
    assert reason in result.output
    assert "Traceback" not in result.output


def test_criteria_are_reported_as_met_or_missed():
    def figures(delta: float) -> dict:
        lag = {"average_delta": delta, "within": {"8": 96.0}, "survival": 30.0, "visible_but_occluded": 2.0}
        occluded = {"occluded_precision": None, "occluded_recall": 70.0, "occluded_found": 50.0}
        one = {"off_body": 0.4, "lags": {"24": lag | occluded, "48": lag}}
        return {"pooled": one, "mean": one}

    console = Console(record=True, width=180, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(evaluation.bars_table(figures(93.0), figures(88.5)))
    verdicts = {line.split("│")[1].strip(): line for line in console.export_text().splitlines() if "│" in line}
    assert verdicts["average delta at lag 24, at least"].count("met") == 2
    assert verdicts["survival at lag 24, at least"].count("missed") == 2
    assert verdicts["queries off the body, at most"].count("met") == 2
    assert "met" not in verdicts["occluded: precision, at least"]
    assert verdicts["average delta at lag 24 over no forward-backward check, at least"].count("4.5") == 2
    assert verdicts["average delta at lag 24 over no forward-backward check, at least"].count("missed") == 2


def test_a_real_clip_has_no_ground_truth_to_replace_a_stage():
    rendered = render_scene(demo_scene(num_frames=8))
    clip = VideoClip(rendered.frames, rendered.fps, 0, np.arange(8), "a.mp4", 64 * "a")
    with pytest.raises(ValueError, match="no ground truth"):
        Workbench(clip).label(CONFIG, Variant(truths=("mesh",)))
