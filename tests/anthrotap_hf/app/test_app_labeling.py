"""The tab that labels people, in a browser: with made-up labels, and with real ones."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

import pytest

pytest.importorskip("numba", reason="needs anthrotap[builder]")


def label(page, video: Path) -> str:
    """Label a video; return the figures that the page shows."""
    page.get_by_role("tab", name="Label people").click()
    page.set_input_files("#label-upload input[type=file]", str(video))
    page.locator("#label-preview img").wait_for()
    page.click("#label-run")
    page.locator("#label-overlay video").wait_for()
    page.locator("#label-sheet img").wait_for()
    return page.inner_text("#label-figures")


def test_labels_are_shown_and_packed(served, page, make_video):
    figures = label(page, make_video("people.mp4", shots=[12]))
    assert re.search(r"1\s+person\s+2\s+points\s+12\s+frames", figures)
    assert "visible 100%" in figures
    page.locator("#label-files a[download='people.labels.zip']").wait_for()
    with zipfile.ZipFile(next(served[1].rglob("people.labels.zip"))) as packed:
        assert packed.namelist() == ["data/train-00000-of-00001.parquet", "manifest.json"]


@pytest.mark.slow
def test_people_of_a_real_video_are_labeled(clips_dir, serve, browser, tmp_path):
    with serve(tmp_path) as address:
        page = browser.new_page()
        page.set_default_timeout(250_000)
        page.goto(address)
        figures = label(page, clips_dir / "upper_body.mkv")
        page.close()
    people, points = re.search(r"(\d+)\s+(?:person|people)\s+([\d,]+)\s+points", figures).groups()
    assert int(people) == 1
    assert int(points.replace(",", "")) > 50
