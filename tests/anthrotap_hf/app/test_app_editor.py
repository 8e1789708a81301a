"""The editor in a browser: open, click, see what is wrong, correct it, take it along; keys, undo, tabs, a phone."""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from anthrotap_hf.readers import open_reader
from anthrotap_hf.video import write_video

SETTLED = "() => !editor.isTracking && editor.isTracked() && (editor.tracks || !editor.project.points.length)"
WHERE = "([x, y]) => editor.view.toCanvas(x, y)"


@pytest.fixture
def edit(served, browser) -> Iterator[Callable]:
    """`edit()` opens the editor again; `edit(VIDEO)` with a clip."""
    contexts = []

    def opened(video: Path | None = None, **options):
        contexts.append(browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options))
        page = contexts[-1].new_page()
        page.set_default_timeout(90_000)
        page.on("dialog", lambda dialog: dialog.accept())
        page.goto(served[0] + "/edit/")
        page.locator("body.ready").wait_for()
        if video is not None:
            page.set_input_files("#file", str(video))
            page.locator("body.opened").wait_for()
        return page

    yield opened
    for context in contexts:
        context.close()


def settle(page) -> None:
    """Wait until all is tracked."""
    page.wait_for_function(SETTLED)


def on_page(page, x: float, y: float) -> tuple[float, float]:
    """Return where a position of the video is on the page."""
    box = page.locator("#view").bounding_box()
    cx, cy = page.evaluate(WHERE, [x, y])
    return box["x"] + cx, box["y"] + cy


def click(page, x: float, y: float) -> None:
    page.mouse.click(*on_page(page, x, y))


def drag(page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*on_page(page, *start))
    page.mouse.down()
    page.mouse.move(*on_page(page, *((np.array(start) + end) / 2)), steps=3)
    page.mouse.move(*on_page(page, *end), steps=3)
    page.mouse.up()


def points(page) -> list[dict]:
    return page.evaluate("editor.project.points")


def go(page, t: int) -> None:
    page.fill("#frame", str(t))
    page.press("#frame", "Enter")
    page.locator("#view").focus()
    assert page.evaluate("editor.t") == t


def place(page, id: int) -> list[float]:
    """Return where a point's dot is on the shown frame."""
    found = {each["id"]: each for each in page.evaluate("editor.places()")}
    return [found[id]["x"], found[id]["y"]]


def export(page, format: str) -> tuple[str, bytes]:
    """Return the name and the bytes of an exported file."""
    page.click("#export")
    with page.expect_download() as download:
        page.click(f"[data-format='{format}']")
    page.click("#export-dialog [value=close]")
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


JUMP = 18  # the frame in which two of the discs are elsewhere


@pytest.fixture(scope="module")
def discs(tmp_path_factory) -> tuple[Path, np.ndarray]:
    """A clip of five textured discs that drift; and their centers [5, T, 2], raster pixels.

    Two of them jump once, and others that look the same go on in their place.
    """
    rng, T, H, W = np.random.default_rng(3), 36, 240, 400
    floor = cv2.resize(rng.integers(60, 140, (30, 50, 3), np.uint8), (W, H), interpolation=cv2.INTER_CUBIC)
    skins = [
        cv2.resize(rng.integers(0, 255, (9, 9, 3), np.uint8), (45, 45), interpolation=cv2.INTER_CUBIC) for _ in range(5)
    ]
    starts = np.array([[60, 50], [60, 180], [200, 50], [190, 190], [340, 60]])
    steps = np.array([[0.8, 0.2], [0.6, -0.3], [0.5, 0.5], [0.4, -0.4], [-0.3, 0.5]])
    xy = starts[:, None] + np.arange(T)[:, None] * steps[:, None]
    xy[3, JUMP:] += [90, -10]
    xy[4, JUMP:] += [-5, 95]
    frames = []
    yy, xx = np.mgrid[-22:23, -22:23]
    inside = (xx**2 + yy**2 <= 22**2)[..., None]
    for t in range(T):
        frame = floor.copy()
        stand_ins = [(n, starts[n] + t * steps[n]) for n in (3, 4) if t >= JUMP]
        for n, center in (*enumerate(xy[:, t]), *stand_ins):
            x, y = np.round(center).astype(int)
            part = frame[y - 22 : y + 23, x - 22 : x + 23]
            part[:] = np.where(inside, skins[n], part)
        frames.append(frame)
    path = tmp_path_factory.mktemp("discs") / "discs.mp4"
    write_video(path, frames, 24, crf=8)
    return path, np.round(xy) + 0.5


def test_five_points_two_of_them_wrong_are_corrected_by_three_clicks_and_exported(edit, discs, tmp_path):
    video, truth = discs
    page = edit(video)
    for n in range(5):
        click(page, *truth[n, 0])
    settle(page)
    tracks = [[place(page, n + 1) for n in range(5)] for t in (0, JUMP, 35) if not go(page, t)]
    errors = np.linalg.norm(np.array(tracks[1:]) - truth[:, [JUMP, 35]].swapaxes(0, 1), axis=-1)
    assert (errors[:, :3] < 4).all()
    assert (errors[:, 3:] > 20).all()
    # One is dragged; the other one is clicked, in two frames.
    go(page, JUMP)
    drag(page, place(page, 4), tuple(truth[3, JUMP]))
    page.click("#points [data-id='5']")
    page.click("#mode-correct")
    click(page, *truth[4, JUMP])
    go(page, 35)
    click(page, *truth[4, 35])
    settle(page)
    assert [len(point["queries"]) for point in points(page)] == [1, 1, 1, 2, 3]
    name, data = export(page, "csv")
    assert name == "discs.csv.zip"
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert sorted(archive.namelist()) == ["discs.csv", "discs.mp4"]
        rows = list(csv.DictReader(io.StringIO(archive.read("discs.csv").decode())))
        archive.extractall(tmp_path)
    # What `evaluate` and training read.
    (clip,) = open_reader("points", tmp_path)
    assert clip.tracks.valid.all()
    assert len(list(clip.iter_frames(range(36)))) == 36
    xy = np.array([[float(row["x"]), float(row["y"])] for row in rows]).reshape(5, 36, 2)
    scale = page.evaluate("editor.view.scale")
    for n, t in ((3, JUMP), (4, JUMP), (4, 35), *((n, 0) for n in range(5))):
        np.testing.assert_allclose(xy[n, t], truth[n, t], atol=0.75 / scale + 0.05)
    np.testing.assert_allclose(clip.tracks.xy, xy, atol=1e-4)
    error = np.linalg.norm(xy - truth, axis=-1)
    assert error[:, JUMP:].max() < 4
    assert np.median(error) < 1.5
    name, data = export(page, "after-effects")
    block = data.decode().partition("Track Point #5\tFeature Center\n")[2].partition("\n\n")[0].splitlines()[1:]
    found = {int(t): (float(x), float(y)) for _, t, x, y in (line.split("\t") for line in block)}
    np.testing.assert_allclose([found[t] for t in range(36)], xy[4], atol=1e-3)
    name, data = export(page, "after-effects-nulls")
    assert name == "discs.jsx"
    lines = data.decode().partition("TRACKS = [\n")[2].partition("\n];")[0].splitlines()
    assert json.loads(lines[4].rstrip(","))["name"] == "point 5"


@pytest.mark.parametrize("zoom", [1, 4])
def test_a_click_is_right_to_the_pixel(edit, tmp_path, zoom):
    frames = np.full((6, 120, 200, 3), 40, np.uint8)
    frames[:, 61:64, 81:84] = 255  # its center is (82.5, 62.5)
    video = tmp_path / "mark.mp4"
    write_video(video, frames, 12, crf=1)
    page = edit(video)
    page.wait_for_function("() => editor.frames.small.size > 0")
    if zoom == 4:
        page.evaluate("editor.view.zoomTo(4); editor.draw()")
    else:
        page.keyboard.press("1")
    assert page.evaluate("editor.view.scale") == zoom
    page.wait_for_timeout(300)
    picture = cv2.imdecode(np.frombuffer(page.locator("#view").screenshot(), np.uint8), cv2.IMREAD_GRAYSCALE)
    rows, columns = np.nonzero(picture > 200)
    box = page.locator("#view").bounding_box()
    where = page.evaluate(WHERE, [82.5, 62.5])
    # Of the lit pixels those near: a button is light, too.
    near = np.hypot(columns + 0.5 - where[0], rows + 0.5 - where[1]) < 4 * zoom
    assert near.any()
    x, y = np.round([columns[near].mean(), rows[near].mean()]).astype(int).tolist()
    page.mouse.click(box["x"] + x, box["y"] + y)
    (point,) = points(page)
    np.testing.assert_allclose(point["queries"][0], [0, 82.5, 62.5], atol=0.51 / zoom)


def test_keys_step_mark_delete_and_undo(edit, waves):
    page = edit(waves)
    click(page, 60, 40)
    settle(page)
    press = page.keyboard.press
    for key, t in (("ArrowRight", 1), ("Shift+ArrowRight", 11), ("Shift+ArrowLeft", 1), ("End", 11), ("Home", 0)):
        press(key)
        assert page.evaluate("editor.t") == t
    press("o")
    assert "A point needs one query outside" in page.inner_text("#status")
    page.evaluate("editor.go(4)")
    press("[")
    page.evaluate("editor.go(6)")
    press("]")
    press("o")
    settle(page)
    assert points(page)[0]["occluded"] == [[4, 6]]
    states = page.evaluate("[...editor.tracks.states]")
    assert states[4:7] == [1, 1, 1]
    assert states[0] == 2
    press("Escape")
    page.locator("#points button").click()
    page.evaluate("editor.go(9)")
    press("x")
    settle(page)
    assert points(page)[0]["deleted"] == [[1, 11]]
    assert page.evaluate("[...editor.tracks.states]")[1:] == [0] * 11
    assert page.evaluate("editor.places()") == []
    press("Control+z")
    press("Control+z")
    assert points(page)[0] | {"name": ""} == {
        "id": 1, "name": "", "queries": points(page)[0]["queries"], "occluded": [], "deleted": [],
    }  # fmt: skip
    press("Control+y")
    assert points(page)[0]["occluded"] == [[4, 6]]
    settle(page)
    press("Delete")
    assert points(page) == []
    press(" ")
    page.wait_for_function("() => editor.playing && editor.t !== 9")
    press(" ")
    assert not page.evaluate("editor.playing")


def test_wheel_zooms_where_it_is_and_the_middle_button_moves_the_picture(edit, waves):
    page = edit(waves)
    before = on_page(page, 40, 30)
    page.mouse.move(*before)
    scale = page.evaluate("editor.view.scale")
    page.mouse.wheel(0, -300)
    page.wait_for_function(f"() => editor.view.scale > {scale * 1.3}")
    np.testing.assert_allclose(on_page(page, 40, 30), before, atol=1.5)
    for button in ("middle", "left"):
        before = on_page(page, 40, 30)
        if button == "left":
            page.keyboard.down(" ")
        page.mouse.down(button=button)
        page.mouse.move(before[0] + 50, before[1] + 20, steps=3)
        page.mouse.up(button=button)
        page.keyboard.up(" ")
        np.testing.assert_allclose(on_page(page, 40, 30), np.add(before, [50, 20]), atol=1.5)
        page.mouse.move(*on_page(page, 40, 30))
    assert points(page) == []
    assert not page.evaluate("editor.playing")
    page.keyboard.press("0")
    assert page.evaluate("editor.view.scale") == scale


def test_a_lasso_adds_the_points_of_a_grid_inside(edit, waves):
    page = edit(waves)
    page.keyboard.press("l")
    page.select_option("#grid", "3")
    corners = [(40, 20), (100, 20), (100, 80), (40, 80), (40, 25)]
    page.mouse.move(*on_page(page, *corners[0]))
    page.mouse.down()
    for corner in corners[1:]:
        page.mouse.move(*on_page(page, *corner), steps=4)
    page.mouse.up()
    page.wait_for_function("() => editor.project.points.length === 9")
    found = np.array([point["queries"][0] for point in points(page)])
    assert (found[:, 0] == 0).all()
    expected = [[x, y] for y in (30, 50, 70) for x in (50, 70, 90)]
    np.testing.assert_allclose(found[:, 1:], expected, atol=1)
    settle(page)
    page.keyboard.press("Control+z")
    assert points(page) == []


def test_the_timeline_goes_to_a_query_and_chooses_a_stretch(edit, waves):
    page = edit(waves)
    click(page, 60, 40)
    settle(page)
    go(page, 7)
    page.keyboard.press("c")
    click(page, 70, 44)
    settle(page)
    go(page, 3)
    box = page.locator("#strips").bounding_box()
    x = {t: box["x"] + page.evaluate("(t) => editor.timeline.x(t)", t) for t in (2, 5, 7)}
    row = box["y"] + 24 + 11
    page.mouse.click(x[7] + 4, row)
    assert page.evaluate("editor.t") == 7
    page.mouse.move(x[2], row)
    page.mouse.down()
    page.mouse.move(x[5], row, steps=4)
    page.mouse.up()
    assert page.evaluate("editor.range") == {"id": 1, "first": 2, "last": 5}
    page.click("#cut")
    settle(page)
    assert points(page)[0]["deleted"] == [[2, 5]]
    page.mouse.click(x[2], box["y"] + 8)  # the ruler
    assert page.evaluate("editor.t") == 2


def test_a_project_is_saved_and_loaded(edit, waves, make_video, tmp_path):
    page = edit(waves)
    click(page, 60, 40)
    page.fill("#name", "left hand")
    page.press("#name", "Enter")
    settle(page)
    with page.expect_download() as download:
        page.click("#save")
    saved = tmp_path / download.value.suggested_filename
    download.value.save_as(saved)
    assert saved.name == "waves.project.json"
    before = points(page)
    assert before[0]["name"] == "left hand"
    again = edit(waves)
    again.set_input_files("#project-file", str(saved))
    again.wait_for_function("() => editor.project.points.length === 1")
    settle(again)
    assert points(again) == before
    other = edit(make_video("other.mp4", shots=[9], size=(64, 96)))
    other.set_input_files("#project-file", str(saved))
    other.locator("#status.bad").wait_for()
    assert "12 frames of 160x96, and this video has 9 of 96x64" in other.inner_text("#status")
    assert points(other) == []


def test_buttons_wait_until_they_can_work(edit, waves):
    page = edit()
    off = "undo redo load save export to-start back play forward to-end frame mode-add mode-correct occlude cut delete"
    for name in off.split():
        assert page.locator(f"#{name}").is_disabled(), name
    page.click("#sample")
    page.locator("body.opened").wait_for()
    assert "dance.mp4: 640 x 360, 48 frames" in page.inner_text("#status")
    assert page.locator("#play").is_enabled()
    for name in ("back", "to-start", "export", "save", "undo", "mode-correct", "delete"):
        assert page.locator(f"#{name}").is_disabled(), name
    page.evaluate("editor.go(Infinity)")
    assert page.locator("#forward").is_disabled()
    assert page.locator("#back").is_enabled()


def test_the_second_tab_takes_the_clip_and_the_first_says_so(edit, waves):
    first = edit(waves)
    click(first, 60, 40)
    settle(first)
    second = first.context.new_page()
    second.goto(first.url)
    second.locator("body.ready").wait_for()
    session = first.evaluate("sessionStorage.getItem('anthrotap-edit')")
    # As a browser does that copies a tab.
    second.evaluate("(session) => sessionStorage.setItem('anthrotap-edit', session)", session)
    second.reload()
    second.locator("body.opened").wait_for()
    settle(second)
    assert points(second) == points(first)
    click(first, 100, 60)
    first.locator("#taken-dialog[open]").wait_for()
    first.click("#take-back")
    first.wait_for_function("() => !document.querySelector('#taken-dialog').open")
    settle(first)
    click(second, 100, 60)
    second.locator("#taken-dialog[open]").wait_for()


def test_a_clip_is_still_there_when_the_page_is_loaded_again(edit, waves):
    page = edit(waves)
    click(page, 60, 40)
    settle(page)
    before = points(page)
    page.reload()
    page.locator("body.opened").wait_for()
    assert points(page) == before


def test_the_tab_for_tracking_hands_its_clip_over(served, browser, waves, edit):
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.goto(served[0])
    page.set_input_files("#track-upload input[type=file]", str(waves))
    page.locator("#track-frame img").wait_for()
    page.locator("#track-frame img").click(position={"x": 50, "y": 50})
    page.locator("#track-points :text('1 point')").wait_for()
    with page.expect_popup() as popup:
        page.click("#track-editor a")
    editor = popup.value
    editor.locator("body.opened").wait_for()
    settle(editor)
    assert len(points(editor)) == 1
    assert "#take" not in editor.url
    editor.close()
    page.close()


def test_an_edit_that_contradicts_another_is_taken_back_in_one_line(edit, make_video):
    page = edit(make_video("cut.mp4", shots=[12, 12], size=(96, 160)))
    click(page, 60, 40)
    settle(page)
    go(page, 18)
    page.keyboard.press("c")
    click(page, 70, 44)
    page.locator("#status.bad").wait_for()
    assert re.search(r"cuts to another shot in frame 12: use a point for each shot$", page.inner_text("#status"))
    assert len(points(page)[0]["queries"]) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_and_edits(edit, waves, scheme):
    page = edit(waves, viewport={"width": 390, "height": 844}, has_touch=True, color_scheme=scheme)
    x, y = on_page(page, 60, 40)
    page.touchscreen.tap(x, y)
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    np.testing.assert_allclose(points(page)[0]["queries"][0][1:], [60, 40], atol=1)
    assert page.evaluate("editor.view.radius") >= 5
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == {"light": "rgb(255, 255, 255)", "dark": "rgb(31, 29, 27)"}[scheme]


def test_the_documents_are_served_with_the_page(served, browser):
    page = browser.new_page()
    page.goto(served[0] + "/edit/docs/editor#take-the-tracks-along")
    assert page.inner_text("h1") == "Correct tracks in the editor"
    assert page.locator("#take-the-tracks-along").is_visible()
    assert page.goto(served[0] + "/edit/docs/..%2f..%2fREADME").status == 404
    page.close()
