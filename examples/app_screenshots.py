"""Pictures of the page, light, dark and on a phone: python examples/app_screenshots.py FOLDER [VIDEO] [DATASET]

Starts `anthrotap app`, drives it in Debian's Chromium, and leaves PNGs. Without a video it uses the page's
example; only with one are people labeled, only with a dataset is one browsed.
"""

from __future__ import annotations

import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

from anthrotap_hf.app import build_app, launch_options
from anthrotap_hf.app.page import AppSettings

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"]
FLAGS += ["--disable-background-networking", "--disable-component-update"]
LOOKS = {"light": (1280, 900, "light"), "dark": (1280, 900, "dark"), "phone": (390, 844, "light")}
MINUTES = 60_000  # milliseconds


def shoot(page: Page, folder: Path, look: str, name: str) -> None:
    """The whole page, once it is at rest."""
    page.wait_for_timeout(900)
    wide = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    if wide > 0:
        print(f"{name}, {look}: {wide} pixels wider than the screen")
    page.screenshot(path=str(folder / f"{name}-{look}.png"), full_page=True)
    print(folder / f"{name}-{look}.png", flush=True)


def choose(page: Page, tab: str, video: str | None) -> None:
    """A video for a tab."""
    if video is None:
        page.click(f"#{tab}-example")
    else:
        page.set_input_files(f"#{tab}-upload input[type=file]", video)
    page.wait_for_selector(f"#{tab}-opened:visible", timeout=MINUTES)


def click_on(page: Page, places: list[tuple[float, float]]) -> None:
    """Points at shares of the frame's width and height."""
    for number, (x, y) in enumerate(places):
        image = page.locator("#track-frame img")
        image.scroll_into_view_if_needed()
        box = image.bounding_box()
        assert box is not None
        image.click(position={"x": x * box["width"], "y": y * box["height"]})
        page.wait_for_selector(f"#track-points :text('{number + 1} point')")
        page.wait_for_timeout(300)


def drive(page: Page, folder: Path, look: str, video: str | None, dataset: str | None) -> None:
    """Every tab, empty and with a result."""
    shoot(page, folder, look, "1-track-empty")
    choose(page, "track", video)
    places = [(0.5, 0.3), (0.45, 0.45), (0.55, 0.5), (0.4, 0.6), (0.6, 0.62), (0.3, 0.5), (0.7, 0.4)]
    click_on(page, places)
    shoot(page, folder, look, "2-track-points")
    page.locator("#track-models").get_by_label("flowchain").check()
    page.click("#track-run")
    page.wait_for_timeout(4000)
    shoot(page, folder, look, "3-track-running")
    page.wait_for_selector("#track-overlay video", timeout=10 * MINUTES)
    page.wait_for_timeout(1500)
    shoot(page, folder, look, "4-track-compared")
    page.locator("#track-models").get_by_label("flowchain").uncheck()
    page.click("#track-clear")
    page.click("#track-grid")
    page.wait_for_selector("#track-points :text('25 points')")
    page.click("#track-run")
    page.wait_for_selector("#track-figures :text('seconds')", timeout=10 * MINUTES)
    page.wait_for_timeout(1500)
    shoot(page, folder, look, "5-track-result")
    page.get_by_role("tab", name="Label people").click()
    shoot(page, folder, look, "6-label-empty")
    if video is not None and look != "phone":
        choose(page, "label", video)
        page.click("#label-run")
        page.wait_for_timeout(6000)
        shoot(page, folder, look, "7-label-running")
        page.wait_for_selector("#label-figures .numbers", timeout=20 * MINUTES)
        page.wait_for_timeout(1500)
        shoot(page, folder, look, "8-label-result")
    page.get_by_role("tab", name="Browse a dataset").click()
    shoot(page, folder, look, "9-browse-empty")
    if dataset is not None:
        page.click("#browse-open")
        page.wait_for_selector("#browse-gallery img", timeout=MINUTES)
        page.locator("#browse-gallery button:has(img)").first.click()
        page.wait_for_selector("#browse-overlay video", timeout=MINUTES)
        page.wait_for_timeout(1500)
        shoot(page, folder, look, "10-browse")


def main(folder: Path, video: str | None, dataset: str | None, looks: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    settings = AppSettings(datasets=(dataset,) if dataset else ())
    blocks = build_app(settings)
    _, address, _ = blocks.launch(prevent_thread_lock=True, quiet=True, **launch_options(blocks))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for look in looks:
            width, height, theme = LOOKS[look]
            page = browser.new_page(viewport={"width": width, "height": height})
            elsewhere: list[str] = []
            page.on(
                "request",
                lambda r, e=elsewhere: None if r.url.startswith((address, "data:", "blob:")) else e.append(r.url),
            )
            page.on("pageerror", lambda error: print("page error:", error))
            page.goto(f"{address}?__theme={theme}")
            page.wait_for_selector("#track-upload")
            drive(page, folder, look, video, dataset)
            print(look, "asked elsewhere for", elsewhere or "nothing")
            page.close()
        browser.close()
    blocks.close()


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit("usage: python examples/app_screenshots.py FOLDER [VIDEO] [DATASET] [light|dark|phone ...]")
    given = sys.argv[2:]
    looks = [word for word in given if word in LOOKS]
    rest = [word for word in given if word not in LOOKS]
    main(Path(sys.argv[1]), *(rest + [None, None])[:2], looks or list(LOOKS))  # type: ignore[arg-type]
