"""What the tabs share: settings, visitors, the worker, notes in words, and the box that takes a video."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from anthrotap_hf.app.jobs import JobError
from anthrotap_hf.app.uploads import Limits, Video, Visitor, Visitors, take_video
from anthrotap_hf.app.worker import CancelledError, Worker
from anthrotap_hf.video import VIDEO_SUFFIXES, VideoError, write_video


@dataclass(frozen=True)
class AppSettings:
    """What the page offers.

    Attributes:
        models: folders or Hub ids of trackers by the names shown; the bundled ones where left out.
        datasets: folders or Hub ids that the page offers by themselves. Visitors may name Hub ids only.
        device: where trackers run.
        limits: of uploads.
        threads: frames worked on at once, in labeling.
    """

    models: dict[str, str] = field(default_factory=dict)
    datasets: tuple[str, ...] = ()
    device: str = "cpu"
    limits: Limits = Limits()  # noqa: RUF009  frozen
    threads: int = 2


@dataclass(frozen=True)
class Page:
    """The page at work."""

    settings: AppSettings
    worker: Worker
    visitors: Visitors

    def visitor(self, request: gr.Request) -> Visitor:
        return self.visitors.get(request.session_hash)

    def leave(self, request: gr.Request) -> None:
        self.visitors.leave(request.session_hash)

    def run(self, visitor: Visitor, job: dict[str, Any], progress: gr.Progress) -> dict[str, Any] | str:
        """What the job gives, or why there is nothing, as HTML."""

        def show(what: str, done: int, total: int | None) -> None:
            progress((done, total) if total else 0, desc=what[:1].upper() + what[1:], unit="")

        progress(0, desc="Starting")
        try:
            return self.worker.run(visitor.name, job, show)
        except CancelledError:
            return note("Cancelled.")
        except JobError as error:
            return note(str(error), "bad")

    def cancel(self, request: gr.Request) -> tuple[str, str]:
        """What is said, and nothing of a queue. Gradio takes out of its queue who has been waiting."""
        stopped = self.worker.cancel(self.visitor(request).name)
        return note("Cancelled." if stopped else "Nothing of yours is running or waiting any more."), ""

    def queue(self, request: gr.Request) -> str:
        """That others come first, if so, as HTML."""
        others = self.worker.owner not in (None, self.visitor(request).name)
        return (
            note("Someone else's video is being worked on. Yours begins by itself, right after.")
            if others
            else ""
        )


def note(words: str, kind: str = "plain") -> str:
    """A sentence in the page; `kind` is plain, good or bad."""
    return f'<p class="note {kind}" role="status">{html.escape(words)}</p>'


def numbers(facts: dict[str, str]) -> str:
    """A row of figures, each with its name, as HTML."""
    cells = "".join(
        f"<div><dd>{html.escape(value)}</dd><dt>{html.escape(name)}</dt></div>"
        for name, value in facts.items()
    )
    return f'<dl class="numbers">{cells}</dl>'


def shares(seen: float, hidden: float, unknown: float) -> str:
    """A bar of three parts, with its legend, as HTML."""
    parts = {"seen": seen, "hidden": hidden, "unknown": unknown}
    bar = "".join(f'<i class="{name}" style="width:{100 * share:.2f}%"></i>' for name, share in parts.items())
    legend = "".join(
        f'<span><i class="{name}"></i>{name} {share:.0%}</span>' for name, share in parts.items()
    )
    return f'<div class="shares"><div class="bar">{bar}</div><div class="legend">{legend}</div></div>'


def count(number: int, what: str) -> str:
    """ "1 point", "2 points"."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def looped_video(elem_id: str, **place: Any) -> gr.Video:
    """A result to watch, over and over."""
    return gr.Video(
        show_label=False, interactive=False, autoplay=True, loop=True, buttons=[], elem_id=elem_id, **place
    )


def downloads(elem_id: str) -> gr.File:
    """Files of a result."""
    return gr.File(label="Download", file_count="multiple", interactive=False, elem_id=elem_id)


@dataclass(frozen=True)
class Runner:
    """The two buttons of heavy work, and what is said of it below them."""

    page: Page
    run: gr.Button
    cancel: gr.Button
    said: gr.HTML
    queue: gr.HTML

    @classmethod
    def build(cls, page: Page, purpose: str, words: str) -> Runner:
        with gr.Row(elem_classes="tools"):
            run = gr.Button(words, variant="primary", elem_id=f"{purpose}-run", scale=3, min_width=140)
            cancel = gr.Button("Cancel", elem_id=f"{purpose}-cancel", scale=1, min_width=100)
        said = gr.HTML(elem_id=f"{purpose}-said", elem_classes="said")
        queue = gr.HTML(elem_id=f"{purpose}-queue", elem_classes="said queue")
        return cls(page, run, cancel, said, queue)

    def does(self, work: Callable[..., list[Any]], inputs: Any, outputs: list[Any]) -> None:
        """What happens on a click. `work` gives what is said, then the outputs. One at a time is at it, of all tabs."""
        quick = {"queue": False, "show_progress": "hidden", "api_name": False}
        self.run.click(self.page.queue, None, self.queue, **quick)
        running = self.run.click(
            work,
            inputs,
            [self.said, *outputs],
            show_progress_on=self.said,
            api_name=False,
            concurrency_id="heavy",
            concurrency_limit=1,
        )
        running.then(lambda: "", None, self.queue, **quick)
        self.cancel.click(self.page.cancel, None, [self.said, self.queue], cancels=[running], **quick)


def video_box(
    page: Page,
    purpose: str,
    made_up: Callable[[], tuple[Any, float]] | None,
    opened: Callable[[Visitor, Video], list[Any]],
    closed: Callable[[Visitor], list[Any]],
    outputs: list[Any],
) -> None:
    """A place to drop a video, which gives way to the name of the video that is open.

    Args:
        page: settings and visitors.
        purpose: what the visitor's folder, and elements of the page, are called by.
        made_up: frames [T, H, W, 3] and rate of a clip for visitors without one, if there is any.
        opened, closed: what goes to `outputs` when a video is there, and when it is put away.
        outputs: components.
    """
    limits = page.settings.limits
    with gr.Column(elem_id=f"{purpose}-empty", elem_classes="drop") as empty:
        box = gr.File(
            label="A video",
            file_types=[*VIDEO_SUFFIXES],
            height=190,
            elem_id=f"{purpose}-upload",
        )
        with gr.Row(elem_classes="under"):
            gr.HTML(
                f'<p class="hint">Any video {limits}. It stays on this server only while the page is open.</p>'
            )
            button = gr.Button(
                "Use a made-up clip", size="sm", scale=0, min_width=170, visible=made_up is not None,
                elem_id=f"{purpose}-made-up",
            )  # fmt: skip
    with gr.Row(visible=False, elem_classes="opened", elem_id=f"{purpose}-opened") as full:
        about = gr.HTML()
        other = gr.Button("Another video", size="sm", scale=0, min_width=150, elem_id=f"{purpose}-other")
    said = gr.HTML(elem_id=f"{purpose}-upload-said", elem_classes="said")

    shared = [box, empty, full, about, said]

    def take(visitor: Visitor, upload: Path, progress: gr.Progress) -> list[Any]:
        def on_frame(done: int, total: int | None) -> None:
            progress((done, total) if total else 0, desc="Reading", unit="frames")

        visitor.videos.pop(purpose, None)
        try:
            video = take_video(upload, visitor.fresh(purpose), limits, on_frame)
        except VideoError as error:
            return [None, gr.skip(), gr.skip(), gr.skip(), note(str(error), "bad"), *closed(visitor)]
        visitor.videos[purpose] = video
        facts = f"{video.width} x {video.height}, {count(video.frames, 'frame')}, {video.seconds:.1f} s"
        name = f"<p><strong>{html.escape(video.path.name)}</strong><br><span>{facts}</span></p>"
        shown = [None, gr.Column(visible=False), gr.Row(visible=True), name, ""]
        return [*shown, *opened(visitor, video)]

    def upload(path: str | None, request: gr.Request, progress=gr.Progress()) -> list[Any]:  # noqa: B008
        if path is None:
            return [gr.skip()] * (len(shared) + len(outputs))
        return take(page.visitor(request), Path(path), progress)

    def make_up(request: gr.Request, progress=gr.Progress()) -> list[Any]:  # noqa: B008
        assert made_up is not None
        visitor = page.visitor(request)
        path = visitor.fresh("made-up") / "made-up.mp4"
        progress(0, desc="Drawing")
        write_video(path, *made_up())
        return take(visitor, path, progress)

    def put_away(request: gr.Request) -> list[Any]:
        visitor = page.visitor(request)
        page.worker.cancel(visitor.name)
        visitor.videos.pop(purpose, None)
        visitor.fresh(purpose)
        return [None, gr.Column(visible=True), gr.Row(visible=False), "", "", *closed(visitor)]

    quiet = {"show_progress_on": said, "api_name": False}
    box.upload(upload, box, [*shared, *outputs], **quiet)
    button.click(make_up, None, [*shared, *outputs], **quiet)
    other.click(put_away, None, [*shared, *outputs], show_progress="hidden", api_name=False)
