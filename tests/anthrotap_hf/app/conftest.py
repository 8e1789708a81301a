"""The page, served with a small dataset and with made-up labels, and a browser to open it."""

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

TESTS = Path(__file__).parents[2]
# Python runs it as the server and its worker begin: videos are read and results written as ever, with made-up labels.
SITE = """
from anthrotap_hf.utils.import_hooks import when_imported

def replace(pipeline):
    from helpers.fake_labels import fake_label_video

    pipeline.label_video = fake_label_video

when_imported("anthrotap_builder.pipeline", replace)
"""


@contextmanager
def _serve(temporary: Path, *options: str, **environment: str) -> Iterator[str]:
    """Run `anthrotap app`; yield its address. Its temporary files are in the folder."""
    log = temporary / "log.txt"
    environment = {
        **os.environ,
        "TMPDIR": str(temporary),
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    } | environment
    command = [sys.executable, "-m", "anthrotap_hf.cli.main", "app", *options]
    with log.open("w") as output:
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=output, cwd=temporary)
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
    """Poll until it is true; fail if it never is."""
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
    """Three clips of the split train, one of test: other people in each, and other fractions of occluded labels."""
    pytest.importorskip("numba", reason="needs anthrotap[builder]")
    from anthrotap_builder.pipeline import LabeledClip
    from anthrotap_builder.shards import ShardWriter
    from anthrotap_hf.schema import INFO_COLUMNS
    from anthrotap_hf.tracks import Tracks

    def clip(number: int, source: str, people: int, occluded: int) -> LabeledClip:
        """4 points a person for 10 frames, occluded in so many of them."""
        visible = np.ones((4 * people, 10), bool)
        visible[:, :occluded] = False
        xy = np.random.default_rng(number).uniform(5, 60, (*visible.shape, 2)).astype(np.float32)
        person = np.repeat(np.arange(people, dtype=np.int32), 4)
        tracks = Tracks(xy, visible, np.ones_like(visible), 64, 96, person, np.arange(len(xy), dtype=np.int32))
        info = dict.fromkeys(INFO_COLUMNS, "") | {"rejected_fraction": 0.0}
        return LabeledClip(
            tracks=tracks,
            video=pattern(10, 64, 96, number),
            fps=10.0,
            clip_id=f"clip-{number}",
            source_video=source,
            info=info,
        )

    with ShardWriter(folder / "data", clip_frames=12) as shards:
        shards.write(clip(0, "park.mp4", people=1, occluded=0))
        shards.write(clip(1, "park.mp4", people=2, occluded=2))
        shards.write(clip(2, "kitchen.mp4", people=3, occluded=6))
    with ShardWriter(folder / "data", clip_frames=12, stem="test") as shards:
        shards.write(clip(3, "street.mp4", people=1, occluded=4))
    return folder


@pytest.fixture(scope="session")
def served(tmp_path_factory, moving_pattern) -> Iterator[tuple[str, Path]]:
    """The page's address, and the folder that its temporary files are in."""
    pytest.importorskip("gradio", reason="needs anthrotap[app]")
    temporary = tmp_path_factory.mktemp("server")
    dataset = write_dataset(temporary / "made-up-people", moving_pattern)
    (temporary / "site").mkdir()
    (temporary / "site/sitecustomize.py").write_text(SITE)
    path = os.pathsep.join(filter(None, [str(temporary / "site"), str(TESTS), os.environ.get("PYTHONPATH")]))
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
    """`visit()` opens the page again."""
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


@pytest.fixture
def waves(make_video) -> Path:
    """A clip of 12 frames of 160 x 96 pixels."""
    return make_video("waves.mp4", shots=[12], size=(96, 160))
