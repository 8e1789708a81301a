"""The tab where points are clicked on a video and followed through it, by one tracker or by two."""

from __future__ import annotations

from typing import Any

import gradio as gr
import numpy as np
import pandas as pd

from anthrotap_hf.app.page import (
    Page,
    Runner,
    count,
    downloads,
    looped_video,
    note,
    numbers,
    video_box,
)
from anthrotap_hf.app.uploads import Video, Visitor
from anthrotap_hf.pipelines import BUNDLED
from anthrotap_hf.pipelines.point_tracking import query_points
from anthrotap_hf.readers.procedural import ProceduralClips, ProceduralSettings
from anthrotap_hf.tracks import Tracks
from anthrotap_hf.visualization.overlay import draw_tracks, track_colors

MOST_POINTS = 400
NEAR = 12  # pixels of the picture: a click this close to a point takes it away
MADE_UP = ProceduralSettings(
    num_frames=48, height=360, width=640, num_tracks=1, shapes=(5, 7), blur=0.0, noise=2.0
)
MADE_UP_SEED = 12


def made_up_clip() -> tuple[Any, float]:
    """Frames and rate of textured shapes that move, bend and hide one another."""
    clip = ProceduralClips(MADE_UP, seed=MADE_UP_SEED)[0]
    return clip.frames(range(MADE_UP.num_frames)), 24.0


def clicked(video: Video, points: list[tuple[int, float, float]], t: int, x: float, y: float) -> None:
    """A click on the picture of frame `t` adds a point, or takes away the one it hits.

    Args:
        video: whose picture it is.
        points: (t, x, y) in the video's pixels; changed.
        t: the frame.
        x, y: which pixel of the picture, counted from 0.

    Raises:
        ValueError: if there are too many points already.
    """
    height, width = video.preview(t).shape[:2]
    across, down = video.width / width, video.height / height
    # The middle of the pixel that was hit.
    place = min(max(x, 0), width - 1) + 0.5, min(max(y, 0), height - 1) + 0.5
    away = [
        (np.hypot(px / across - place[0], py / down - place[1]), n)
        for n, (pt, px, py) in enumerate(points)
        if pt == t
    ]
    if away and min(away)[0] <= NEAR:
        del points[min(away)[1]]
    elif len(points) >= MOST_POINTS:
        raise ValueError(f"{MOST_POINTS} points are the most that can be followed at once here.")
    else:
        points.append((t, place[0] * across, place[1] * down))


def add_grid(video: Video, points: list[tuple[int, float, float]], t: int, size: int) -> None:
    """Adds size x size points, spread evenly over frame `t`. Raises ValueError if that makes too many."""
    grid = query_points(video.frames, video.height, video.width, grid_size=size, query_frame=t)
    new = [(int(row[0]), float(row[1]), float(row[2])) for row in grid]
    new = [point for point in new if point not in points]
    if len(points) + len(new) > MOST_POINTS:
        raise ValueError(f"{MOST_POINTS} points are the most that can be followed at once here.")
    points += new


def picture(video: Video, points: list[tuple[int, float, float]], t: int) -> np.ndarray:
    """Frame `t` with the points that begin on it as filled dots: [h, w, 3] uint8, colors as in the result."""
    image = video.preview(t)
    if not points:
        return image
    height, width = image.shape[:2]
    xy = np.array([[point[1:]] for point in points], np.float32)
    nobody = np.zeros(len(points), np.int32)
    here = np.array([[point[0] == t] for point in points])
    every = np.ones_like(here)
    tracks = Tracks(xy, every, every, video.height, video.width, person=nobody, vertex=nobody)
    colors = track_colors(tracks)
    index = np.flatnonzero(here[:, 0])
    return draw_tracks(image, tracks.resized(height, width).select(index), 0, colors[index])


def told(points: list[tuple[int, float, float]], t: int) -> str:
    """How many points there are, in words."""
    if not points:
        return note("Click on the picture: each click adds a point to follow.")
    here = sum(point[0] == t for point in points)
    elsewhere = "" if here == len(points) else f", {here} of them on this frame"
    return note(f"{count(len(points), 'point')}{elsewhere}. A click on a point takes it away.")


def tracking_tab(page: Page) -> None:
    """Builds the tab inside the Blocks and Tab that are open."""
    models = page.settings.models or {name: str(path) for name, path in BUNDLED.items()}
    default = "locotrack-tiny" if "locotrack-tiny" in models else next(iter(models))

    gr.HTML(
        '<p class="lead">Choose a video, click on anything in it, and see where it goes. '
        "A dot is <b>filled</b> while its point can be seen and <b>hollow</b> while something hides it.</p>"
    )
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=340):
            place = gr.Column(elem_classes="step")
            with gr.Column(visible=False, elem_id="track-choose") as choose:
                status = gr.HTML(elem_id="track-points")
                frame = gr.Image(
                    show_label=False,
                    type="filepath",
                    interactive=False,
                    buttons=[],
                    elem_id="track-frame",
                )
                slider = gr.Slider(0, 1, 0, step=1, label="Frame", buttons=[], elem_id="track-slider")
                with gr.Row(elem_classes="tools", equal_height=True):
                    undo = gr.Button("Undo", size="sm", min_width=60, elem_id="track-undo")
                    clear = gr.Button("Clear", size="sm", min_width=60, elem_id="track-clear")
                    grid = gr.Button("Add a grid of", size="sm", min_width=105, elem_id="track-grid")
                    size = gr.Dropdown(
                        [("3 x 3", 3), ("5 x 5", 5), ("8 x 8", 8), ("12 x 12", 12), ("20 x 20", 20)],
                        value=5,
                        show_label=False,
                        container=False,
                        min_width=85,
                        elem_id="track-grid-size",
                    )
        with gr.Column(scale=1, min_width=340):
            names = gr.CheckboxGroup(
                list(models),
                value=[default],
                label="Tracker",
                info="Keep the one that is chosen, or choose two to compare them.",
                elem_id="track-models",
            )
            runner = Runner.build(page, "track", "Track")
            with gr.Column(visible=False, elem_id="track-result") as result:
                overlay = looped_video("track-overlay")
                figures = gr.HTML(elem_id="track-figures")
                plot = gr.LinePlot(
                    x="frame",
                    y="distance",
                    y_title="distance, pixels",
                    title="How far the two are apart",
                    height=200,
                    visible=False,
                    buttons=[],
                    elem_id="track-plot",
                )
                files = downloads("track-files")

    nothing = [gr.Column(visible=False), None, "", gr.LinePlot(visible=False), None]
    results = [result, overlay, figures, plot, files]

    def show(visitor: Visitor, t: int) -> list[Any]:
        video = visitor.videos["track"]
        return [visitor.show(picture(video, visitor.points, t), "frame"), told(visitor.points, t)]

    def opened(visitor: Visitor, video: Video) -> list[Any]:
        visitor.points.clear()
        knob = gr.Slider(0, max(1, video.frames - 1), 0, interactive=video.frames > 1)
        return [gr.Column(visible=True), knob, *show(visitor, 0), "", *nothing]

    def closed(visitor: Visitor) -> list[Any]:
        visitor.points.clear()
        return [gr.Column(visible=False), gr.Slider(0, 1, 0), None, "", "", *nothing]

    with place:
        video_box(
            page,
            "track",
            made_up_clip,
            opened,
            closed,
            [choose, slider, frame, status, runner.said, *results],
        )

    def change(request: gr.Request, t: int, act: Any) -> list[Any]:
        visitor = page.visitor(request)
        video = visitor.videos.get("track")
        if video is None:
            return [gr.skip(), note("This video is no longer here: choose it again.", "bad")]
        t = min(int(t), video.frames - 1)
        try:
            act(video, visitor.points, t)
        except ValueError as error:
            return [gr.skip(), note(str(error), "bad")]
        return show(visitor, t)

    def on_click(t: int, event: gr.SelectData, request: gr.Request) -> list[Any]:
        return change(request, t, lambda video, points, t: clicked(video, points, t, *event.index))

    def on_slide(t: int, request: gr.Request) -> list[Any]:
        return change(request, t, lambda *_: None)

    def on_undo(t: int, request: gr.Request) -> list[Any]:
        return change(request, t, lambda _, points, __: points and points.pop())

    def on_clear(t: int, request: gr.Request) -> list[Any]:
        return change(request, t, lambda _, points, __: points.clear())

    def on_grid(t: int, n: int, request: gr.Request) -> list[Any]:
        return change(request, t, lambda video, points, t: add_grid(video, points, t, n))

    quick = {"show_progress": "hidden", "api_name": False, "concurrency_limit": 8}
    frame.select(on_click, slider, [frame, status], **quick)
    slider.change(on_slide, slider, [frame, status], trigger_mode="always_last", **quick)
    undo.click(on_undo, slider, [frame, status], **quick)
    clear.click(on_clear, slider, [frame, status], **quick)
    grid.click(on_grid, [slider, size], [frame, status], **quick)

    def track(chosen: list[str], request: gr.Request, progress=gr.Progress()) -> list[Any]:  # noqa: B008
        visitor = page.visitor(request)
        video = visitor.videos.get("track")
        wrong = None
        if video is None:
            wrong = "Choose a video first."
        elif not visitor.points:
            wrong = "Click on the picture first: there is no point to track."
        elif not chosen or set(chosen) - set(models):
            wrong = "Choose a tracker."
        elif len(chosen) > 2:
            wrong = "Two trackers can be compared, not more."
        if wrong is not None or video is None:
            return [note(wrong or "", "bad"), *nothing]
        job = {
            "do": "track",
            "folder": str(video.path.parent),
            "video": video.path.name,
            "points": visitor.points,
            "models": [[name, models[name]] for name in chosen],
            "device": page.settings.device,
        }
        answer = page.run(visitor, job, progress)
        if isinstance(answer, str):
            return [answer, *nothing]
        folder = video.path.parent
        return [
            "",
            gr.Column(visible=True),
            str(folder / answer["overlay"]),
            summary(answer),
            gr.LinePlot(apart(answer), visible="differences" in answer),
            [str(folder / file) for file in answer["files"]],
        ]

    runner.does(track, names, results)


def summary(answer: dict[str, Any]) -> str:
    """What tracking gave, as HTML."""
    rows = answer["models"]
    if len(rows) == 1:
        return numbers(
            {
                "point" if answer["points"] == 1 else "points": f"{answer['points']}",
                "frames": f"{answer['frames']}",
                "visible": f"{rows[0]['visible']:.0%}",
                "seconds it took": f"{rows[0]['seconds']:.1f}",
            }
        )
    apart = answer["differences"]

    def pixels(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f} px"

    facts = {
        "apart, median": pixels(apart["median"]),
        "apart, 90 % below": pixels(apart["most"]),
        "agree on visibility": f"{apart['agree']:.0%}",
        **{f"visible, {row['model']}": f"{row['visible']:.0%}" for row in rows},
    }
    return numbers(facts)


def apart(answer: dict[str, Any]) -> pd.DataFrame:
    """The median distance of two trackers by frame, for a plot; empty if there is one."""
    by_frame = answer.get("differences", {"by_frame": []})["by_frame"]
    known = [(t, value) for t, value in enumerate(by_frame) if value is not None]
    return pd.DataFrame(known, columns=["frame", "distance"])
