"""The page in a browser: upload, click, track, see the result; limits, two visitors, and what is left afterwards."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture
def long(make_video) -> Path:
    return make_video("long.mp4", shots=[72], size=(256, 256))


def open_video(page, video: Path) -> None:
    page.set_input_files("#track-upload input[type=file]", str(video))
    page.locator("#track-frame img").wait_for()


def click_on(page, *positions: tuple[float, float]) -> None:
    """Click on points, given as fractions of the frame's width and height."""
    for number, (x, y) in enumerate(positions, 1):
        image = page.locator("#track-frame img")
        box = image.bounding_box()
        image.click(position={"x": x * box["width"], "y": y * box["height"]})
        page.locator(f"#track-points :text('{number} point')").wait_for()


def track_grid(page) -> None:
    """Start to track a grid of points; return while that is being done."""
    page.click("#track-grid")
    page.locator("#track-points :text('25 points')").wait_for()
    page.click("#track-run")
    page.locator("#track-said :text('(locotrack-tiny)')").wait_for()


def result(page) -> str:
    """Return the text and figures of tracking, once it is done."""
    page.locator("#track-overlay video").wait_for()
    return page.inner_text("#track-figures")


def the_worker(temporary: Path) -> psutil.Process:
    """Return the worker process of the page."""
    (server,) = [child for child in psutil.Process().children() if child.cwd() == str(temporary)]
    (worker,) = [child for child in server.children() if child.cmdline()[-1] == "anthrotap app"]
    return worker


def test_upload_click_track_and_leave(served, page, waves, wait_until):
    open_video(page, waves)
    assert "160 x 96, 12 frames" in page.inner_text("#track-opened")
    click_on(page, (0.25, 0.5), (0.75, 0.5))
    page.click("#track-run")
    assert re.search(r"2\s+points\s+12\s+frames", result(page))
    page.locator("#track-files a[download='waves.tracks.npz']").wait_for()
    tracks = next(served[1].rglob("waves.tracks.npz"))
    with np.load(tracks) as found:
        assert np.allclose(found["queries"], [[0, 40, 48], [0, 120, 48]], atol=1.5)
        assert found["tracks"].shape == (2, 12, 2)
    assert next(tracks.parent.glob("waves.tracks.mp4")).stat().st_size > 1000
    page.close()
    wait_until(lambda: not tracks.parent.parent.exists())


def test_buttons_wait_until_they_can_work(page):
    names = [f"#track-{name}" for name in ("run", "undo", "clear")]
    page.click("#track-example")
    page.locator("#track-frame img").wait_for()
    assert "dance.mp4" in page.inner_text("#track-opened")
    assert all(page.locator(name).is_disabled() for name in names)
    click_on(page, (0.3, 0.5))
    page.locator("#track-run:enabled").wait_for()
    assert all(page.locator(name).is_enabled() for name in names)
    page.click("#track-clear")
    page.locator("#track-run:disabled").wait_for()
    assert "Apache-2.0; it comes along" in page.inner_text(".trackers")


def test_two_trackers_are_compared(page, waves):
    open_video(page, waves)
    click_on(page, (0.25, 0.5), (0.75, 0.5))
    page.locator("#track-models").get_by_label("flowchain").check()
    page.click("#track-run")
    figures = result(page)
    for name in ("flowchain", "locotrack-tiny"):
        assert re.search(rf"\d+%\s+visible, {name}", figures)
        page.locator(f"#track-files a[download='waves.{name}.tracks.npz']").wait_for()
    assert re.search(r"[\d.]+ px\s+apart, median", figures)
    page.locator("#track-plot :is(canvas, svg.marks)").wait_for()
    size = "video => [video.videoWidth, video.videoHeight]"
    width, height = page.locator("#track-overlay video").evaluate(size)
    assert width == 160
    assert height > 2 * 96


def test_a_cancelled_run_ends_at_once_and_the_next_one_works(served, page, long):
    open_video(page, long)
    track_grid(page)
    worker = the_worker(served[1])
    page.click("#track-cancel")
    page.locator("#track-said :text-is('Cancelled.')").wait_for()
    assert not worker.is_running()
    page.click("#track-run")
    assert re.search(r"25\s+points\s+72\s+frames", result(page))


def test_a_second_visitor_waits_and_sees_the_queue(served, visit, long, waves):
    first, second = visit(), visit()
    open_video(first, long)
    open_video(second, waves)
    click_on(second, (0.5, 0.5))
    track_grid(first)
    worker = the_worker(served[1])
    worker.suspend()  # now it takes for ever
    notice = second.locator("#track-queue :text('before yours')")
    second.click("#track-run")
    notice.wait_for()
    second.locator("#track-said :text('queue')").wait_for()
    second.click("#track-cancel")  # who no longer wants to wait need not
    second.locator("#track-said :text('Nothing of yours is running or waiting')").wait_for()
    assert not notice.is_visible()
    second.click("#track-run")
    notice.wait_for()
    worker.resume()
    assert re.search(r"1\s+point\s+12\s+frames", result(second))
    notice.wait_for(state="hidden")
    assert re.search(r"25\s+points\s+72\s+frames", result(first))


def test_a_video_that_is_too_long_or_unreadable_is_an_error_message(page, make_video, tmp_path):
    upload = "#track-upload input[type=file]"
    page.set_input_files(upload, str(make_video("long.mp4", shots=[120], size=(32, 48))))
    page.get_by_text("longer than 3 seconds").wait_for()
    text = tmp_path / "text.mp4"
    text.write_text("This is no video.\n" * 100)
    for tab, name in (("track", "Track points"), ("label", "Label people")):
        page.get_by_role("tab", name=name).click()
        page.set_input_files(f"#{tab}-upload input[type=file]", str(text))
        error = page.locator(f"#{tab}-upload-said :text('not a video')")
        error.wait_for()
        assert error.inner_text().startswith("This video can't be used: not a video")
        assert page.locator(f"#{tab}-run").is_disabled()
        assert page.locator(f"#{tab}-cancel").is_disabled()
    assert "Traceback" not in page.inner_text("body")


def test_a_phone_needs_no_sideways_scrolling(served, browser):
    phone = browser.new_page(viewport={"width": 390, "height": 844})
    phone.goto(served[0] + "/?__theme=dark")
    for tab, content in (
        ("Track points", "#track-upload"),
        ("Label people", "#label-upload"),
        ("Browse a dataset", "#browse-name"),
    ):
        phone.get_by_role("tab", name=tab).click()
        phone.locator(content).wait_for()
        assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    phone.get_by_role("tab", name="Track points").click()
    assert phone.locator("#track-empty .hint").bounding_box()["width"] > 200
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
    pytest.importorskip("gradio", reason="needs anthrotap[app]")
    code = f"import runpy; runpy.run_path({str(ROOT / 'examples/space/app.py')!r})"
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not [*tmp_path.glob("anthrotap-app-*")]


def test_the_first_sign_of_life_comes_before_heavy_imports(served):
    assert (served[1] / "log.txt").read_text().startswith("The page is starting ...\n")
    code = "import sys, anthrotap_hf.cli.main; print(*{'gradio', 'torch', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
