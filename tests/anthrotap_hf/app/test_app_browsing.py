"""The tab for browsing a dataset, in a browser."""

from __future__ import annotations

import re

import pytest


@pytest.fixture
def tab(page):
    page.get_by_role("tab", name="Browse a dataset").click()
    return page


def test_a_dataset_is_opened_filtered_and_played(tab):
    tab.click("#browse-open")
    gallery = tab.locator("#browse-gallery button:has(img)")
    gallery.nth(3).wait_for()
    assert gallery.count() == 4
    tab.locator("#browse-figures :text('occluded 37%')").wait_for()
    assert re.search(r"4\s+clips\s+4\s+seconds\s+28\s+points", tab.inner_text("#browse-figures"))
    tab.locator("#browse-plot :is(canvas, svg.marks)").wait_for()

    search = tab.get_by_label("Video or clip")
    search.fill("PARK")
    search.press("Enter")
    gallery.nth(2).wait_for(state="detached")
    assert gallery.count() == 2
    tab.get_by_label("People").click()
    tab.get_by_role("option", name="2", exact=True).click()
    gallery.nth(1).wait_for(state="detached")
    tab.locator("#browse-figures :text('occluded 20%')").wait_for()
    assert re.search(r"1\s+clip\s+1\s+seconds\s+8\s+points", tab.inner_text("#browse-figures"))

    gallery.first.click()
    tab.locator("#browse-overlay video").wait_for()
    tab.locator("#browse-about :text('park.mp4, clip clip-1')").wait_for()
    assert re.search(r"2\s+people\s+8\s+points\s+10\s+frames\s+train\s+split", tab.inner_text("#browse-facts"))
    tab.wait_for_function("document.querySelector('#browse-overlay video').currentTime > 0")

    search.fill("nowhere")
    search.press("Enter")
    tab.get_by_text("No clip passes these filters").wait_for()
    assert not gallery.count()


def test_a_missing_dataset_is_an_error_in_one_line(tab):
    for name, reason in (("gone", "no such folder"), ("/etc", "Only datasets on the Hugging Face Hub")):
        box = tab.locator("#browse-name input")
        box.fill(name)
        box.press("Enter")
        tab.click("#browse-open")
        message = tab.locator(f"#browse-said .note.bad:has-text('{reason}')")
        message.wait_for()
        assert "/" not in message.inner_text().replace("someone/labels", "")
        assert not tab.locator("#browse-found").is_visible()
