"""The tab where points are clicked on a video and tracked through it, by one tracker or by two."""

from __future__ import annotations

from collections.abc import Callable

import gradio as gr
import numpy as np
import pandas as pd

from anthrotap_hf.app.html import count, editor_link, note, numbers, tracker_list
from anthrotap_hf.app.jobs import JobError, TrackingResult, track
from anthrotap_hf.app.page import JobButtons, Page, Updates, VideoBox, downloads, looped_video
from anthrotap_hf.app.released import (
    about_tracker,
    are_here,
    default_tracker,
    describe_tracker,
    license_sentences,
    offered_trackers,
    trackers_of,
)
from anthrotap_hf.app.uploads import Video, Visitor
from anthrotap_hf.pipelines.queries import query_points
from anthrotap_hf.tracks import Tracks
from anthrotap_hf.visualization.overlay import draw_tracks, track_colors

Points = list[tuple[int, float, float]]
"""(t, x, y) in a video's pixels."""

MAX_POINTS = 400
TOO_MANY = f"{MAX_POINTS} points are the most that can be tracked at once on this page."
# Pixels of the picture: a click as close as this to a point removes it.
CLICK_RADIUS = 12


class TrackingTab:
    """The tab, built inside the Blocks and Tab that are open."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.models = trackers_of(page.settings)
        gr.HTML(
            '<p class="lead">Choose a video, click on anything in it, and see where it goes. '
            "A dot is <b>filled</b> while its point is visible and <b>hollow</b> while it is occluded.</p>"
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=340):
                box = VideoBox(page, "track")
                self._build_points()
            with gr.Column(scale=1, min_width=340):
                chosen = gr.CheckboxGroup(
                    list(self.models),
                    value=[default_tracker(page.settings)],
                    label="Tracker",
                    info="Choose one, or two to compare them, released ones included.",
                    elem_id="track-models",
                )
                gr.HTML(tracker_list({name: describe_tracker(name) for name in self.models}))
                self.released = gr.Dropdown(
                    [("none", ""), *offered_trackers(page.settings)],
                    value="",
                    label="A released tracker",
                    info=about_tracker(""),
                    elem_id="track-released",
                )
                self.buttons = JobButtons(page, "track", "Track")
                self._build_result()
        self.cleared: Updates = {
            self.result: gr.Column(visible=False),
            self.overlay: None,
            self.figures: "",
            self.plot: gr.LinePlot(visible=False),
            self.files: None,
        }
        outputs = [self.choose, self.editor, self.slider, self.frame, self.status, self.buttons.message]
        outputs += [*self.needing_points, *self.cleared]
        box.connect(self._opened, self._closed, outputs)
        self._connect_points()
        self.buttons.connect(self._track, [chosen, self.released], self.cleared)

    def _build_points(self) -> None:
        with gr.Column(visible=False, elem_id="track-choose") as self.choose:
            self.status = gr.HTML(elem_id="track-points")
            self.editor = gr.HTML(elem_id="track-editor")
            self.frame = gr.Image(
                show_label=False, type="filepath", interactive=False, buttons=[], elem_id="track-frame"
            )
            self.slider = gr.Slider(0, 1, 0, step=1, label="Frame", buttons=[], elem_id="track-slider")
            with gr.Row(elem_classes="tools", equal_height=True):
                self.undo = gr.Button("Undo", size="sm", min_width=60, elem_id="track-undo")
                self.clear = gr.Button("Clear", size="sm", min_width=60, elem_id="track-clear")
                self.grid = gr.Button("Add a grid of", size="sm", min_width=105, elem_id="track-grid")
                self.grid_size = gr.Dropdown(
                    [(f"{n} x {n}", n) for n in (3, 5, 8, 12, 20)],
                    value=5,
                    show_label=False,
                    container=False,
                    min_width=85,
                    elem_id="track-grid-size",
                )

    def _build_result(self) -> None:
        with gr.Column(visible=False, elem_id="track-result") as self.result:
            self.overlay = looped_video("track-overlay")
            self.figures = gr.HTML(elem_id="track-figures")
            self.plot = gr.LinePlot(
                x="frame",
                y="distance",
                y_title="distance, pixels",
                title="How far the two are apart",
                height=200,
                visible=False,
                buttons=[],
                elem_id="track-plot",
            )
            self.files = downloads("track-files")

    def _connect_points(self) -> None:
        quick = {"show_progress": "hidden", "api_name": False, "concurrency_limit": 8}
        shown = [self.frame, self.status, *self.needing_points]
        self.frame.select(self._on_click, self.slider, shown, **quick)
        self.slider.change(self._on_slide, self.slider, shown, trigger_mode="always_last", **quick)
        self.undo.click(self._on_undo, self.slider, shown, **quick)
        self.clear.click(self._on_clear, self.slider, shown, **quick)
        self.grid.click(self._on_grid, [self.slider, self.grid_size], shown, **quick)
        self.released.change(
            lambda name: gr.Dropdown(info=describe_tracker(name) if name else about_tracker("")),
            self.released,
            self.released,
            **quick,
        )

    @property
    def needing_points(self) -> list[gr.Button]:
        """The buttons that can work once there is a point."""
        return [self.buttons.run, self.undo, self.clear]

    def _show(self, visitor: Visitor, t: int) -> Updates:
        image = draw_points(visitor.videos["track"], visitor.points, t)
        return {
            **{button: gr.Button(interactive=bool(visitor.points)) for button in self.needing_points},
            self.frame: visitor.write_image(image, "frame"),
            self.status: describe_points(visitor.points, t),
        }

    def _opened(self, visitor: Visitor, video: Video) -> Updates:
        visitor.points.clear()
        return {
            self.choose: gr.Column(visible=True),
            self.slider: gr.Slider(0, max(1, video.frames - 1), 0, interactive=video.frames > 1),
            self.buttons.message: "",
            self.editor: editor_link(visitor.name),
            **self._show(visitor, 0),
            **self.cleared,
        }

    def _closed(self, visitor: Visitor) -> Updates:
        visitor.points.clear()
        return {
            self.choose: gr.Column(visible=False),
            self.buttons.run: gr.Button(interactive=False),
            self.slider: gr.Slider(0, 1, 0),
            self.frame: None,
            self.status: "",
            self.editor: "",
            self.buttons.message: "",
            **self.cleared,
        }

    def _change(self, request: gr.Request, t: int, act: Callable[[Video, Points, int], object]) -> Updates:
        """Change the visitor's points on frame `t`, and show that frame."""
        visitor = self.page.visitor(request)
        video = visitor.videos.get("track")
        if video is None:
            return {self.status: note("This video is gone: choose it again.", "bad")}
        t = min(int(t), video.frames - 1)
        try:
            act(video, visitor.points, t)
        except ValueError as error:
            return {self.status: note(str(error), "bad")}
        return self._show(visitor, t)

    def _on_click(self, t: int, event: gr.SelectData, request: gr.Request) -> Updates:
        return self._change(request, t, lambda video, points, t: toggle_point(video, points, t, *event.index))

    def _on_slide(self, t: int, request: gr.Request) -> Updates:
        return self._change(request, t, lambda *_: None)

    def _on_undo(self, t: int, request: gr.Request) -> Updates:
        return self._change(request, t, lambda _, points, __: points and points.pop())

    def _on_clear(self, t: int, request: gr.Request) -> Updates:
        return self._change(request, t, lambda _, points, __: points.clear())

    def _on_grid(self, t: int, size: int, request: gr.Request) -> Updates:
        return self._change(request, t, lambda video, points, t: add_grid(video, points, t, size))

    def _track(self, visitor: Visitor, progress: gr.Progress, chosen: list[str], released: str) -> Updates:
        video = visitor.videos.get("track")
        if video is None:
            raise JobError("Choose a video first.")
        if not visitor.points:
            raise JobError("Click on the picture first: there is no point to track.")
        models = {name: self.models[name] for name in chosen if name in self.models}
        if released in [name for _, name in offered_trackers(self.page.settings)]:
            models[released] = released
        if not models or len(models) < len(chosen) + bool(released):
            raise JobError("Choose a tracker.")
        if len(models) > 2:
            raise JobError("Two trackers can be compared, not more.")
        here = are_here(models)
        device = self.page.settings.device
        found = self.page.run(visitor, progress, track, video.path, visitor.points, models, device)
        new = [name for name, was_here in here.items() if not was_here]
        return {
            self.result: gr.Column(visible=True),
            self.overlay: str(found.overlay),
            self.figures: summarize(found) + note(" ".join(license_sentences(new))) if new else summarize(found),
            self.plot: gr.LinePlot(distances(found), visible=found.differences is not None),
            self.files: [str(file) for file in found.files],
        }


def toggle_point(video: Video, points: Points, t: int, x: float, y: float) -> None:
    """Add a point where the picture of frame `t` was clicked, or remove the one that was hit.

    Args:
        video: whose picture it is.
        points: are changed.
        t: the frame.
        x, y: which pixel of the picture, counted from 0.

    Raises:
        ValueError: there are too many points already.
    """
    height, width = video.preview(t).shape[:2]
    across, down = video.width / width, video.height / height
    # The center of the pixel that was hit.
    click = min(max(x, 0), width - 1) + 0.5, min(max(y, 0), height - 1) + 0.5
    distances = [
        (np.hypot(px / across - click[0], py / down - click[1]), n) for n, (pt, px, py) in enumerate(points) if pt == t
    ]
    if distances and min(distances)[0] <= CLICK_RADIUS:
        del points[min(distances)[1]]
    elif len(points) >= MAX_POINTS:
        raise ValueError(TOO_MANY)
    else:
        points.append((t, click[0] * across, click[1] * down))


def add_grid(video: Video, points: Points, t: int, size: int) -> None:
    """Add size x size points, spread evenly over frame `t`. Raises ValueError if that makes too many."""
    grid = query_points(video.frames, video.height, video.width, grid_size=size, query_frame=t)
    new = [(int(row[0]), float(row[1]), float(row[2])) for row in grid]
    new = [point for point in new if point not in points]
    if len(points) + len(new) > MAX_POINTS:
        raise ValueError(TOO_MANY)
    points += new


def draw_points(video: Video, points: Points, t: int) -> np.ndarray:
    """Return frame `t` with the points that begin on it as filled dots: [h, w, 3] uint8, colors as in the result."""
    image = video.preview(t)
    if not points:
        return image
    height, width = image.shape[:2]
    xy = np.array([[point[1:]] for point in points], np.float32)
    every = np.ones((len(points), 1), bool)
    zeros = np.zeros(len(points), np.int32)
    tracks = Tracks(xy, every, every, video.height, video.width, person=zeros, vertex=zeros)
    index = np.flatnonzero([point[0] == t for point in points])
    colors = track_colors(tracks)[index]
    return draw_tracks(image, tracks.resized(height, width).select(index), 0, colors)


def describe_points(points: Points, t: int) -> str:
    """Return how many points there are, as HTML."""
    if not points:
        return note("Click on the picture: each click adds a point to track.")
    own = sum(point[0] == t for point in points)
    others = "" if own == len(points) else f", {own} of them on this frame"
    return note(f"{count(len(points), 'point')}{others}. A click on a point removes it.")


def summarize(found: TrackingResult) -> str:
    """Return the numbers of a tracking result as HTML."""
    if found.differences is None:
        return numbers(
            {
                "point" if found.points == 1 else "points": f"{found.points}",
                "frames": f"{found.frames}",
                "visible": f"{found.runs[0].visible:.0%}",
                "seconds it took": f"{found.runs[0].seconds:.1f}",
            }
        )

    def pixels(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f} px"

    return numbers(
        {
            "apart, median": pixels(found.differences.median),
            "apart, 90 % below": pixels(found.differences.percentile_90),
            "agree on visibility": f"{found.differences.agreement:.0%}",
            **{f"visible, {run.model}": f"{run.visible:.0%}" for run in found.runs},
        }
    )


def distances(found: TrackingResult) -> pd.DataFrame:
    """Return the median distance of two trackers by frame, for a plot; empty if there is one."""
    by_frame = found.differences.by_frame if found.differences else []
    known = [(t, value) for t, value in enumerate(by_frame) if value is not None]
    return pd.DataFrame(known, columns=["frame", "distance"])
