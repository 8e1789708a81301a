"""The page, served with a small dataset and with labels made up, and a browser to look at it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

# Python runs it as the server and its worker begin. Videos are read and results written as ever; the stages between,
# which take a minute, give two points that stand still.
MADE_UP_LABELS = """
from anthrotap_hf.utils.import_hooks import when_imported

def replace(labeling):
    import numpy as np
    from anthrotap_hf.tracks import Tracks

    def label_clip(frames, fps, config, on_stage, **_):
        on_stage("people")
        time, height, width = frames.shape[:3]
        every = np.ones((2, time), bool)
        xy = np.tile(np.array([[[20, 30]], [[60, 30]]], np.float32), (1, time, 1))
        tracks = Tracks(xy, every, every, height, width, np.zeros(2, np.int32), np.arange(2, dtype=np.int32))
        person = {"person": 0, "rejected_frames": 0, "reprojection_error": 1.0, "mask_overlap": 0.9, "tracks": 2}
        return labeling.LabeledClip(frames, fps, tracks, 0.0, label_version=config.version(), people=[person])

    labeling.label_clip = label_clip

when_imported("anthrotap_builder.pipeline", replace)
"""


@contextmanager
def _serve(temporary: Path, *options: str, **environment: str) -> Iterator[str]:
    """`anthrotap app`; gives its address. Its temporary files are in the folder."""
    log = temporary / "log.txt"
    environment = {
        **os.environ,
        "TMPDIR": str(temporary),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    } | environment
    words = [sys.executable, "-m", "anthrotap_hf.cli.main", "app", *options]
    with log.open("w") as output:
        server = subprocess.Popen(words, env=environment, stdout=output, stderr=output, cwd=temporary)
    address = re.compile(r"http://127\.0\.0\.1:\d+")
    try:
        _wait_until(lambda: address.search(log.read_text()) or server.poll() is not None)
        found = address.search(log.read_text())
        assert found, log.read_text()
        yield found[0]
    finally:
        server.terminate()
        server.wait(20)


def _wait_until(true: Callable[[], object], seconds: float = 60) -> None:
    """Looks until it is true; fails if it never is."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def wait_until() -> Callable[..., None]:
    return _wait_until


@pytest.fixture(scope="session")
def serve() -> Callable:
    """`with serve(folder, *options, **environment) as address`."""
    return _serve


def write_dataset(folder: Path, pattern: Callable[..., np.ndarray]) -> Path:
    """Three clips of the split train, one of test: other people in each, and other shares of hidden labels."""
    pytest.importorskip("scenedetect", reason="needs anthrotap[builder]")
    from anthrotap_builder.pipeline import LabeledClip
    from anthrotap_builder.shards import ShardWriter
    from anthrotap_hf.tracks import Tracks

    def clip(number: int, source: str, people: int, hidden: int) -> LabeledClip:
        """4 points a person for 10 frames; so many of the frames are hidden."""
        visible = np.ones((4 * people, 10), bool)
        visible[:, :hidden] = False
        xy = np.random.default_rng(number).uniform(5, 60, (*visible.shape, 2)).astype(np.float32)
        person = np.repeat(np.arange(people, dtype=np.int32), 4)
        tracks = Tracks(
            xy, visible, np.ones_like(visible), 64, 96, person, np.arange(len(xy), dtype=np.int32)
        )
        return LabeledClip(pattern(10, 64, 96, number), 10.0, tracks, 0.0, f"clip-{number}", source)

    with ShardWriter(folder / "data", clip_frames=12) as shards:
        shards.write(clip(0, "park.mp4", people=1, hidden=0))
        shards.write(clip(1, "park.mp4", people=2, hidden=2))
        shards.write(clip(2, "kitchen.mp4", people=3, hidden=6))
    with ShardWriter(folder / "data", clip_frames=12, stem="test") as shards:
        shards.write(clip(3, "street.mp4", people=1, hidden=4))
    return folder


@pytest.fixture(scope="session")
def served(tmp_path_factory, moving_pattern) -> Iterator[tuple[str, Path]]:
    """The page's address, and the folder that its temporary files are in."""
    pytest.importorskip("gradio", reason="needs anthrotap[app]")
    temporary = tmp_path_factory.mktemp("server")
    dataset = write_dataset(temporary / "made-up-people", moving_pattern)
    (temporary / "site").mkdir()
    (temporary / "site/sitecustomize.py").write_text(MADE_UP_LABELS)
    path = os.pathsep.join(filter(None, [str(temporary / "site"), os.environ.get("PYTHONPATH")]))
    gone = temporary / "gone"
    gone.mkdir()
    options = "--max-seconds", "3", "--dataset", str(dataset), "--dataset", str(gone)
    with _serve(temporary, *options, PYTHONPATH=path) as address:
        gone.rmdir()
        yield address, temporary


@pytest.fixture(scope="session")
def browser() -> Iterator:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if CHROMIUM is None:
        pytest.skip("no chromium here: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def visit(served, browser) -> Iterator[Callable]:
    """`visit()` opens the page once more."""
    pages = []

    def opened():
        page = browser.new_page(viewport={"width": 1280, "height": 1000})
        pages.append(page)
        page.set_default_timeout(60_000)
        page.goto(served[0])
        page.locator("#track-upload input[type=file]").wait_for(state="attached")
        return page

    yield opened
    for page in pages:
        page.close()


@pytest.fixture
def page(visit):
    return visit()
