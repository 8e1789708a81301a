"""Builds in no time: labeling processes whose `label_video` gives made-up tracks, or fails as on a bad video."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from anthrotap_builder.config import labeling_config
from anthrotap_builder.distributed.build import BuildReport, RunOptions, build_dataset
from anthrotap_builder.distributed.config import BuildConfig, OutputConfig, ResourceLimits
from anthrotap_builder.distributed.video_sources import find_sources
from anthrotap_hf.hub.cards import write_dataset_card

# Python runs it as any process begins that has its folder on its path. What a video does stands in its name.
SITECUSTOMIZE = '''
import os, signal, sys, time
from pathlib import Path
from types import ModuleType

def once(name):
    """Whether this is the first time, over all processes."""
    try:
        (Path(os.environ["ANTHROTAP_TEST_MARKS"]) / name).touch(exist_ok=False)
        return True
    except FileExistsError:
        return False

def label_video(path, config, threads=1, device="cpu", on_stage=None, on_skipped=None, meshes=None):
    import numpy as np
    from anthrotap_builder.clips import read_clips
    from anthrotap_builder.detection.labeled_motion import LabeledMotion
    from anthrotap_hf.tracks import TrackedClip, Tracks

    class LabeledClip(TrackedClip):
        skipped = None
        rejected_fraction = 0.25
        people = (
            dict(person=0, tracks=2, no_track=None, reprojection_error=1.5, mask_overlap=0.9),
            dict(person=1, tracks=0, no_track="too far away", reprojection_error=1.5, mask_overlap=0.9),
        )
        motion = LabeledMotion(100, 80)
        seconds = {}

    name = Path(path).stem
    with open(Path(os.environ["ANTHROTAP_TEST_MARKS"]) / "labeled", "a") as file:
        file.write(name + "\\n")
    if "crash" in name or ("stumble" in name and once(name)):
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hang" in name:
        time.sleep(1000)
    if "hungry" in name:
        held = np.ones(200_000_000)
        time.sleep(1000)
    if "raise" in name:
        raise RuntimeError("the native library is in a bad mood")
    if "leave" in name:
        os.unlink(path)
    if "slow" in name:
        time.sleep(0.4)
    for clip in read_clips(path, config.clips, on_skipped):
        frames, height, width = clip.frames.shape[:3]
        tracks = Tracks(
            xy=np.tile(np.array([[[1.5, 2.5]], [[9, 8]]], np.float32), (1, frames, 1)) + clip.start_frame % 7,
            visible=np.ones((2, frames), bool),
            valid=np.ones((2, frames), bool),
            height=height,
            width=width,
            person=np.zeros(2, np.int32),
            vertex=np.array([7, 11], np.int32),
        )
        info = dict.fromkeys(("body_model", "mesh_source", "flow"), "")
        yield LabeledClip(
            tracks=tracks,
            video=clip.frames,
            fps=clip.fps,
            clip_id=clip.clip_id,
            source_video=clip.source_video,
            source_sha256=clip.source_sha256,
            start_frame=clip.start_frame,
            info={**info, "label_version": config.version(), "rejected_fraction": 0.25},
        )

labeling = ModuleType("anthrotap_builder.pipeline")
labeling.label_video = label_video
labeling.load_parts = lambda config, device="cpu": None
if "anthrotap labeling" in sys.orig_argv:
    sys.modules["anthrotap_builder.pipeline"] = labeling

    from anthrotap_hf import schema
    encode = schema.encode_row

    def encode_row(clip, *options):
        if "misfit" in clip.source_video:
            raise RuntimeError("no row for this clip")
        return encode(clip, *options)

    schema.encode_row = encode_row
'''


@pytest.fixture
def marks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Fake labeling from here on; the folder records what was labeled."""
    site, marks = tmp_path / "site", tmp_path / "marks"
    site.mkdir()
    marks.mkdir()
    (site / "sitecustomize.py").write_text(SITECUSTOMIZE)
    path = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH")]))
    monkeypatch.setenv("PYTHONPATH", path)
    monkeypatch.setenv("ANTHROTAP_TEST_MARKS", str(marks))
    return marks


@pytest.fixture
def labeled(marks: Path) -> Callable[[], list[str]]:
    """Names of the videos whose labeling was begun since the last call."""
    log = marks / "labeled"

    def names() -> list[str]:
        text = log.read_text() if log.exists() else ""
        log.unlink(missing_ok=True)
        return sorted(text.split())

    return names


@pytest.fixture
def run(marks: Path, tmp_path: Path) -> Callable[..., BuildReport]:
    """`run(inputs, out="out", workers=1, settings={}, ...)` -> BuildReport."""

    def build(
        inputs: Path | str | list[str],
        out: str = "out",
        settings: dict | None = None,
        seconds: float = 60,
        memory: int = 8 << 30,
        retries: int = 1,
        validation: float = 0.0,
        label_only: bool = False,
        shard_bytes: int = 256 << 20,
        **options: object,
    ) -> BuildReport:
        config = labeling_config("open", settings)
        job = BuildConfig(
            out=str(tmp_path / out),
            labeling=config,
            version=config.version(),
            output=OutputConfig(validation=validation, label_only=label_only, shard_bytes=shard_bytes),
            limits=ResourceLimits(seconds, memory, retries=retries),
            write_card=write_dataset_card,
        )
        addresses = inputs if isinstance(inputs, list) else [str(inputs)]
        return build_dataset(job, find_sources(addresses), RunOptions(**options))  # type: ignore[arg-type]

    return build


@pytest.fixture
def described(tmp_path: Path) -> Callable[..., dict[str, dict]]:
    """`described(out="out")` -> the lines of videos.jsonl, by the video's name."""

    def read(out: str = "out") -> dict[str, dict]:
        lines = (tmp_path / out / "videos.jsonl").read_text().splitlines()
        return {line["video"]: line for line in map(json.loads, lines)}

    return read
