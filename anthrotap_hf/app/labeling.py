"""The tab that labels the people of a video: body meshes tell where each point of the skin is."""

from __future__ import annotations

from typing import Any

import gradio as gr

from anthrotap_hf.app.html import count, label_fractions, note, numbers
from anthrotap_hf.app.jobs import JobError, LabelingResult, label
from anthrotap_hf.app.page import JobButtons, Page, Updates, VideoBox, downloads, looped_video
from anthrotap_hf.app.uploads import Video, Visitor


class LabelingTab:
    """The tab, built inside the Blocks and Tab that are open."""

    def __init__(self, page: Page) -> None:
        self.page = page
        gr.HTML(
            '<p class="lead">Give it a video of people. It fits a body to each person, and so knows where hundreds '
            "of points of the body are in every frame. Labels that may be wrong are marked as invalid.</p>"
        )
        with gr.Row(equal_height=False):
            with gr.Column(scale=1, min_width=340):
                box = VideoBox(page, "label")
                self.preview = gr.Image(
                    label="First frame",
                    type="filepath",
                    interactive=False,
                    visible=False,
                    buttons=[],
                    elem_id="label-preview",
                )
            with gr.Column(scale=1, min_width=340):
                self.buttons = JobButtons(page, "label", "Label people")
                with gr.Column(visible=False, elem_id="label-result") as self.result:
                    self.overlay = looped_video("label-overlay")
                    self.figures = gr.HTML(elem_id="label-figures")
                    self.picture = gr.Image(
                        label="Some of the frames",
                        type="filepath",
                        interactive=False,
                        buttons=["fullscreen"],
                        elem_id="label-sheet",
                    )
                    self.files = downloads("label-files")
        self.cleared: Updates = {
            self.result: gr.Column(visible=False),
            self.overlay: None,
            self.figures: "",
            self.picture: None,
            self.files: None,
        }
        box.connect(self._opened, self._closed, [self.preview, self.buttons.run, self.buttons.message, *self.cleared])
        self.buttons.connect(self._label, None, self.cleared)

    def _opened(self, _: Visitor, video: Video) -> Updates:
        preview = gr.Image(str(video.previews[0]), visible=True)
        run = gr.Button(interactive=True)
        return {self.preview: preview, self.buttons.run: run, self.buttons.message: "", **self.cleared}

    def _closed(self, _: Visitor) -> Updates:
        none, run = gr.Image(None, visible=False), gr.Button(interactive=False)
        return {self.preview: none, self.buttons.run: run, self.buttons.message: "", **self.cleared}

    def _label(self, visitor: Visitor, progress: gr.Progress) -> dict[Any, Any]:
        video = visitor.videos.get("label")
        if video is None:
            raise JobError("Choose a video first.")
        settings = self.page.settings
        found = self.page.run(visitor, progress, label, video.path, settings.threads, settings.device)
        return {
            self.buttons.message: note(f"Damaged: {found.failure}", "bad") if found.failure else "",
            self.result: gr.Column(visible=True),
            self.overlay: str(found.overlay),
            self.figures: summarize(found),
            self.picture: str(found.picture),
            self.files: [str(file) for file in found.files],
        }


def summarize(found: LabelingResult) -> str:
    """Return the numbers of a video's labels as HTML."""
    totals = found.totals
    values = {
        "people" if totals["people"] != 1 else "person": f"{totals['people']:.0f}",
        "points": f"{totals['tracks']:,.0f}",
        "frames": f"{totals['frames']:.0f}",
        "seconds it took": f"{totals['seconds']:.0f}",
    }
    bar = label_fractions(totals["visible"], totals["occluded"], totals["invalid"])
    skipped = note(f"{count(found.skipped, 'part')} of the video without valid labels.") if found.skipped else ""
    return numbers(values) + bar + skipped
