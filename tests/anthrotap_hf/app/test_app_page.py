"""The page in a browser: upload, click, run, see the result; limits, a dataset, and what is left afterwards."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("gradio", reason="needs anthrotap[app]")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("no chromium here: apt-get install chromium", allow_module_level=True)
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
ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """The page's address, and the folder that its temporary files are in."""
    temporary = tmp_path_factory.mktemp("server")
    log = temporary / "log.txt"
    environment = {**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    words = [sys.executable, "-m", "anthrotap_hf.cli", "app", "--max-seconds", "3"]
    with log.open("w") as output:
        server = subprocess.Popen(words, env=environment, stdout=output, stderr=output, cwd=temporary)
    try:
        for _ in range(120):
            found = re.search(r"http://127\.0\.0\.1:\d+", log.read_text())
            if found or server.poll() is not None:
                break
            time.sleep(0.5)
        assert found, log.read_text()
        yield found[0], temporary
    finally:
        server.terminate()
        server.wait(20)


@pytest.fixture(scope="module")
def browser() -> Iterator[sync_api.Browser]:
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def page(served, browser) -> Iterator[sync_api.Page]:
    opened = browser.new_page(viewport={"width": 1280, "height": 1000})
    opened.set_default_timeout(60_000)
    opened.goto(served[0])
    opened.get_by_text("Drop File Here").first.wait_for()
    yield opened
    opened.close()


def visitors(temporary: Path) -> list[Path]:
    return [*temporary.glob("anthrotap-app-*/visitors/*")]


def test_upload_click_track_and_leave(served, page, make_video):
    video = make_video("waves.mp4", shots=[12], size=(96, 160))
    page.set_input_files("input[type=file] >> nth=0", str(video))
    page.get_by_text("160 x 96, 12 frames").wait_for()
    picture = page.locator("#track-picture img, img:visible").first
    box = picture.bounding_box()
    page.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 0.5 * box["height"])
    page.get_by_text("1 point.").wait_for()
    page.mouse.click(box["x"] + 0.75 * box["width"], box["y"] + 0.5 * box["height"])
    page.get_by_text("2 points.").wait_for()
    page.get_by_role("button", name="Track", exact=True).click()
    page.locator("a[download='waves.tracks.npz'], a:has-text('waves')").first.wait_for(state="attached")
    page.get_by_text("12", exact=True).first.wait_for()
    (folder,) = visitors(served[1])
    tracks = next(folder.rglob("waves.tracks.npz"))
    import numpy as np

    with np.load(tracks) as found:
        assert np.allclose(found["queries"], [[0, 40, 48], [0, 120, 48]], atol=1.5)
        assert found["tracks"].shape == (2, 12, 2)
    assert next(folder.rglob("waves.tracks.mp4")).stat().st_size > 1000
    page.close()
    for _ in range(40):
        if not visitors(served[1]):
            break
        time.sleep(0.25)
    assert not visitors(served[1])


def test_what_is_too_long_or_no_video_is_told_in_words(page, make_video, tmp_path):
    page.set_input_files("input[type=file] >> nth=0", str(make_video("long.mp4", shots=[120], size=(32, 48))))
    page.get_by_text(re.compile("3 seconds")).nth(1).wait_for()
    damaged = tmp_path / "damaged.mp4"
    damaged.write_bytes(b"no video" * 100)
    page.set_input_files("input[type=file] >> nth=0", str(damaged))
    page.get_by_text(re.compile("damaged.mp4|can.t be read|no video", re.IGNORECASE)).first.wait_for()
    assert "Traceback" not in page.inner_text("body")


def test_a_phone_needs_no_sideways_scrolling(served, browser):
    phone = browser.new_page(viewport={"width": 390, "height": 844})
    phone.goto(served[0] + "/?__theme=dark")
    phone.get_by_text("Drop File Here").first.wait_for()
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    phone.close()


def test_the_page_asks_no_other_host(served, browser):
    asked: list[str] = []
    opened = browser.new_page()
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(served[0])
    opened.get_by_text("Drop File Here").first.wait_for()
    opened.close()
    others = [url for url in asked if not url.startswith((served[0], "data:", "blob:"))]
    assert others == []


def test_the_space_s_file_builds_the_page(tmp_path):
    code = f"import runpy; runpy.run_path({str(ROOT / 'space/app.py')!r})"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not [*tmp_path.glob("anthrotap-app-*")]
    assert tempfile.gettempdir() != str(tmp_path)
