"""What the tabs have in common: settings, visitors, the worker, the buttons of a job, the box that takes a video."""

from __future__ import annotations

import logging
import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr

from anthrotap_hf.app.guard import JobQuota, is_loopback, visitor_address
from anthrotap_hf.app.html import count, note, title
from anthrotap_hf.app.jobs import JobCancelledError, JobError
from anthrotap_hf.app.samples import DANCERS, write_sample
from anthrotap_hf.app.uploads import FullError, Limits, Uploads, Video, Visitor, Visitors, take_video
from anthrotap_hf.utils.errors import AnthroTapError, format_error, one_line
from anthrotap_hf.utils.workers import Worker, WorkerCancelledError, WorkerDiedError
from anthrotap_hf.video import VIDEO_SUFFIXES, VideoError

logger = logging.getLogger(__name__)

R = TypeVar("R")
# That a job takes, as long as none has ended.
USUAL_SECONDS = 60.0
# Changes in the editor that count as much as one video.
EDITS_PER_JOB = 40
Progress = Callable[..., object]
"""Shows how far a job is; called as `gr.Progress` is."""
Updates = dict[Any, Any]
"""New values of components, by component; those that are not in it stay as they are."""


@dataclass(frozen=True)
class AppSettings:
    """What the page offers.

    Attributes:
        models: folders or Hub ids of trackers, by the names that visitors see; empty for the bundled ones.
        datasets: folders or Hub ids that the page offers. Visitors may name other Hub ids, but no folders.
        device: where trackers run.
        limits: limits on uploads.
        threads: how many frames labeling works on at once.
        hosts: names of the page besides localhost, for `HostAndOriginGuard`: where it listens.
        any_host: whether it may have any name.
        dataset_token: whether the server's token is used to read datasets of the Hub that visitors name.
    """

    models: dict[str, str] = field(default_factory=dict)
    datasets: tuple[str, ...] = ()
    device: str = "cpu"
    limits: Limits = Limits()  # noqa: RUF009  frozen
    threads: int = 2
    hosts: tuple[str, ...] = ()
    any_host: bool = False
    dataset_token: bool = False

    @property
    def is_space(self) -> bool:
        """Whether it runs as a Space of the Hub."""
        return "SPACE_ID" in os.environ

    @property
    def has_any_name(self) -> bool:
        """Whether it may have any name, as a Space is called by names of the Hub."""
        return self.any_host or self.is_space

    @property
    def is_for_strangers(self) -> bool:
        """Whether others than the owner may open it: it listens elsewhere than on this machine alone."""
        return self.has_any_name or not all(map(is_loopback, self.hosts))


class Page:
    """The running page.

    Attributes:
        settings: what it offers.
        visitors: the visitors who have it open.
        worker: the process that runs jobs.
    """

    def __init__(self, settings: AppSettings, root: Path) -> None:
        self.settings = settings
        self.worker = Worker("anthrotap app")
        self.visitors = Visitors(root, self.cancel_job)
        self._lock = threading.Lock()
        self._turn = threading.Condition(self._lock)
        # The visitor whose job runs. An equal list is another job of the same visitor.
        self._running: list[str] | None = None
        self._is_edit = False
        self._begin = 0.0
        # Jobs whose threads wait for their turn, in their order; a visitor who leaves is taken out.
        self._turns: list[list[str]] = []
        # Visitors whose jobs wait, in their order, and how long the last jobs took.
        self._waiting: list[str] = []
        self._seconds: deque[float] = deque(maxlen=20)
        self.uploads = Uploads()
        self._quota = JobQuota(settings.limits.jobs)
        self._edit_quota = JobQuota(settings.limits.jobs * EDITS_PER_JOB)

    def visitor(self, request: gr.Request) -> Visitor:
        """Return who asks: one without anything, if they have brought nothing yet."""
        return self.visitors.find(request.session_hash)

    def let_in(self, request: gr.Request) -> Visitor:
        """Return who asks, with a folder for files. Raises gr.Error if there are too many."""
        try:
            return self.visitors.get(request.session_hash)
        except FullError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def leave(self, request: gr.Request) -> None:
        self.visitors.leave(request.session_hash)

    def wait(self, visitor: Visitor) -> str:
        """Queue a visitor's job; return a sentence about how long it waits, or nothing."""
        with self._lock:
            if self._running == [visitor.name]:
                return ""
            if visitor.name not in self._waiting:
                self._waiting.append(visitor.name)
            before = self._waiting.index(visitor.name)
            if self._running is None:
                return ""
            usual = sum(self._seconds) / len(self._seconds) if self._seconds else USUAL_SECONDS
            left = max(usual - (time.monotonic() - self._begin), 5) + before * usual
        videos = "One video is" if not before else f"{before + 1} videos are"
        return f"{videos} before yours, which begins by itself in about {_duration(left)}."

    def stop_waiting(self, visitor: str) -> None:
        """Take a visitor's job out of the queue."""
        with self._lock:
            if visitor in self._waiting:
                self._waiting.remove(visitor)

    def run(self, visitor: Visitor, progress: Progress, job: Callable[..., R], *args: Any) -> R:
        """Run a job in the worker and return its result.

        Raises:
            JobError: it failed or was canceled, or the visitor had too many, in a sentence for the visitor.
        """
        self.count_video(visitor)
        return self._run(visitor, progress, False, job, *args)

    def run_edit(self, visitor: Visitor, progress: Progress, job: Callable[..., R], *args: Any) -> R:
        """Run a short job of the editor in the worker, after those that came before; else as `run`.

        It is not counted: `count_edit` counts what a visitor asks for.
        """
        return self._run(visitor, progress, True, job, *args)

    def count_edit(self, visitor: Visitor) -> None:
        """Count a change in the editor. Raises JobError if the visitor made too many within an hour."""
        if (seconds := self._edit_quota.take(visitor.address)) is not None:
            edits = count(self._edit_quota.jobs, "change")
            raise JobError(f"This page tracks {edits} an hour of a visitor: the next one in {_duration(seconds)}.")

    def count_video(self, visitor: Visitor) -> None:
        """Count a video that is worked on. Raises JobError if the visitor had too many within an hour."""
        if (seconds := self._quota.take(visitor.address)) is not None:
            jobs = count(self._quota.jobs, "video")
            raise JobError(f"This page takes {jobs} an hour of a visitor: the next one in {_duration(seconds)}.")

    def _run(self, visitor: Visitor, progress: Progress, is_edit: bool, job: Callable[..., R], *args: Any) -> R:
        def on_progress(what: str, done: int, total: int | None) -> None:
            progress((done, total) if total else 0, desc=what[:1].upper() + what[1:], unit="")

        progress(0, desc="Starting")
        running = [visitor.name]
        self._wait_for_turn(running, is_edit)
        try:
            result = self.worker.run(job, *args, on_progress=on_progress)
            if not is_edit:
                self._seconds.append(time.monotonic() - self._begin)
            return result
        except WorkerCancelledError as error:
            raise JobCancelledError("Cancelled.") from error
        except WorkerDiedError as error:
            how = error.signal_name or f"code {error.exit_code}"
            reason = f"The work ended all at once ({how}); perhaps memory ran out."
            raise JobError(f"{reason} A shorter or smaller video needs less.") from error
        except JobError:
            raise
        except AnthroTapError as error:
            raise JobError(format_error(error.reason, hint=error.hint)) from error
        except Exception as error:
            logger.exception("a job failed")
            raise JobError(f"It stopped by an error ({type(error).__name__}: {one_line(error, 400)}).") from error
        finally:
            with self._lock:
                if self._running is running:
                    self._running = None
                    self._turn.notify_all()

    def _wait_for_turn(self, running: list[str], is_edit: bool) -> None:
        """Let the jobs end that came before. Raises JobCancelledError if this one is canceled before it begins."""
        with self._lock:
            if self._running is not None and not (is_edit or self._is_edit):
                # Gradio lets one job of its tabs run at a time, so no visitor waits for this one any more.
                self.worker.cancel()
                self._running = None
            self._turns.append(running)
            # By identity: a visitor may have several jobs, whose turns are equal lists.
            while any(turn is running for turn in self._turns):
                if self._running is None and self._turns[0] is running:
                    break
                self._turn.wait()
            else:
                raise JobCancelledError("Cancelled.")
            del self._turns[0]
            self._running, self._is_edit, self._begin = running, is_edit, time.monotonic()
            if running[0] in self._waiting:
                self._waiting.remove(running[0])

    def cancel_job(self, visitor: str) -> bool:
        """End a visitor's job, if one runs or waits: nothing of it runs on when this returns."""
        self.stop_waiting(visitor)
        with self._lock:
            self._turns = [turn for turn in self._turns if turn != [visitor]]
            self._turn.notify_all()
            if self._running != [visitor]:
                return False
            self.worker.cancel()
            return True


def _duration(seconds: float) -> str:
    return f"{max(seconds, 1):.0f} seconds" if seconds < 90 else f"{seconds / 60:.0f} minutes"


def looped_video(elem_id: str, **layout: Any) -> gr.Video:
    """Return a video that plays over and over."""
    return gr.Video(
        show_label=False, interactive=False, autoplay=True, loop=True, buttons=[], elem_id=elem_id, **layout
    )


def downloads(elem_id: str) -> gr.File:
    """Return a list of files to download."""
    return gr.File(label="Download", file_count="multiple", interactive=False, elem_id=elem_id)


class JobButtons:
    """The buttons that run and cancel a job, with its progress and errors below them."""

    def __init__(self, page: Page, name: str, text: str) -> None:
        self.page = page
        with gr.Row(elem_classes="tools"):
            # Enabled by the tab, once there is something to work on, and while a job runs or waits.
            self.run = gr.Button(
                text, variant="primary", elem_id=f"{name}-run", scale=3, min_width=140, interactive=False
            )
            self.cancel = gr.Button("Cancel", elem_id=f"{name}-cancel", scale=1, min_width=100, interactive=False)
        self.message = gr.HTML(elem_id=f"{name}-said", elem_classes="said")
        self.queue = gr.HTML(elem_id=f"{name}-queue", elem_classes="said queue")

    def connect(self, work: Callable[..., Updates], inputs: Any, cleared: Updates) -> None:
        """Let the button run `work(visitor, progress, *inputs)`, which may raise JobError; one at a time of all tabs.

        Args:
            cleared: all components of a result, with their values while there is none.
        """

        def run(request: gr.Request, progress=gr.Progress(), *values: Any) -> Updates:  # noqa: B008
            visitor = self.page.visitor(request)
            peer = request.client.host if request.client else "unknown"
            forwarded = request.headers.getlist("x-forwarded-for")
            visitor.address = visitor_address(peer, forwarded, self.page.settings.is_space)
            try:
                return {self.message: "", **work(visitor, progress, *values)}
            except JobError as error:
                kind = "plain" if isinstance(error, JobCancelledError) else "bad"
                return {self.message: note(error.reason, kind), **cleared}
            finally:
                self.page.stop_waiting(visitor.name)

        quick = {"queue": False, "show_progress": "hidden", "api_name": False}
        self.run.click(self._on_queue, None, self.queue, **quick)
        self.run.click(lambda: gr.Button(interactive=True), None, self.cancel, **quick)
        running = self.run.click(
            run,
            inputs,
            [self.message, *cleared],
            show_progress_on=self.message,
            api_name=False,
            concurrency_id="heavy",
            concurrency_limit=1,
        )
        running.then(lambda: ("", gr.Button(interactive=False)), None, [self.queue, self.cancel], **quick)
        # Gradio itself takes those out of its queue who wait.
        self.cancel.click(self._on_cancel, None, [self.message, self.queue], cancels=[running], **quick)
        self.cancel.click(lambda: gr.Button(interactive=False), None, self.cancel, **quick)

    def _on_queue(self, request: gr.Request) -> str:
        visitor = self.page.visitor(request)
        # Without a video there is no work to wait for.
        sentence = self.page.wait(visitor) if visitor.videos else ""
        return note(sentence) if sentence else ""

    def _on_cancel(self, request: gr.Request) -> tuple[str, str]:
        stopped = self.page.cancel_job(self.page.visitor(request).name)
        return note("Cancelled." if stopped else "Nothing of yours is running or waiting any more."), ""


class VideoBox:
    """A box to drop a video into, which gives way to the name of the video that is open.

    Args:
        page: settings and visitors.
        name: of the tab; the visitor's folder and elements of the page are called by it.
    """

    def __init__(self, page: Page, name: str) -> None:
        self.page, self.name = page, name
        with gr.Column(elem_classes="step"):
            with gr.Column(elem_id=f"{name}-empty", elem_classes="drop") as self.empty:
                types = [*VIDEO_SUFFIXES]
                self.file = gr.File(label="A video", file_types=types, height=190, elem_id=f"{name}-upload")
                with gr.Row(elem_classes="under"):
                    limits = f"Any video {page.settings.limits}."
                    gr.HTML(f'<p class="hint">{limits} It stays on this server only while the page is open.</p>')
                    self.use_example = gr.Button(
                        "Use the clip of dancers", size="sm", scale=0, min_width=190, elem_id=f"{name}-example"
                    )
            opened = f"{name}-opened"
            with gr.Row(visible=False, elem_classes="opened", elem_id=opened) as self.opened:
                self.about = gr.HTML()
                self.other = gr.Button("Another video", size="sm", scale=0, min_width=150, elem_id=f"{name}-other")
            self.message = gr.HTML(elem_id=f"{name}-upload-said", elem_classes="said")

    def connect(
        self,
        on_open: Callable[[Visitor, Video], Updates],
        on_close: Callable[[Visitor], Updates],
        outputs: Sequence[Any],
    ) -> None:
        """Update `outputs` when a video is opened, and when it is closed."""
        self.on_open, self.on_close = on_open, on_close
        changed = [self.file, self.empty, self.opened, self.about, self.message, *outputs]
        quiet = {"show_progress_on": self.message, "api_name": False}
        self.file.upload(self._upload, self.file, changed, **quiet)
        self.use_example.click(self._make_example, None, changed, **quiet)
        self.other.click(self._close, None, changed, show_progress="hidden", api_name=False)

    def _open(self, visitor: Visitor, upload: Path, progress: gr.Progress) -> Updates:
        def on_frame(done: int, total: int | None) -> None:
            progress((done, total) if total else 0, desc="Reading", unit="frames")

        uploads, video = self.page.uploads, visitor.videos.get(self.name)
        visitor.is_opening = True
        try:
            # One that was submitted twice is open already.
            if video is None or uploads.find(upload) != video.path:
                visitor.videos.pop(self.name, None)
                folder = visitor.empty_folder(self.name)
                video = take_video(upload, folder, self.page.settings.limits, on_frame, uploads)
        except VideoError as error:
            return {self.file: None, self.message: note(error.reason, "bad"), **self.on_close(visitor)}
        finally:
            visitor.is_opening = False
        visitor.videos[self.name] = video
        details = f"{video.width} x {video.height}, {count(video.frames, 'frame')}, {video.seconds:.1f} s"
        return {
            self.file: None,
            self.empty: gr.Column(visible=False),
            self.opened: gr.Row(visible=True),
            self.about: title(video.path.name, details),
            self.message: note(video.damage) if video.damage else "",
            **self.on_open(visitor, video),
        }

    def _upload(self, path: str | None, request: gr.Request, progress=gr.Progress()) -> Updates:  # noqa: B008
        if path is None:
            return {self.file: gr.skip()}
        return self._open(self.page.let_in(request), Path(path), progress)

    def _make_example(self, request: gr.Request, progress=gr.Progress()) -> Updates:  # noqa: B008
        visitor = self.page.let_in(request)
        path = visitor.empty_folder("example") / DANCERS
        write_sample(path)
        return self._open(visitor, path, progress)

    def _close(self, request: gr.Request) -> Updates:
        visitor = self.page.visitor(request)
        self.page.cancel_job(visitor.name)
        visitor.videos.pop(self.name, None)
        shutil.rmtree(visitor.folder / self.name, ignore_errors=True)
        return {
            self.file: None,
            self.empty: gr.Column(visible=True),
            self.opened: gr.Row(visible=False),
            self.about: "",
            self.message: "",
            **self.on_close(visitor),
        }
