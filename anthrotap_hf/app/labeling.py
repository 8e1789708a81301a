"""The tab where the people of a video are labeled: body meshes say where each point of the skin is."""

from __future__ import annotations

from typing import Any

import gradio as gr

from anthrotap_hf.app.page import (
    Page,
    Runner,
    count,
    downloads,
    looped_video,
    note,
    numbers,
    shares,
    video_box,
)
from anthrotap_hf.app.uploads import Video, Visitor


def labeling_tab(page: Page) -> None:
    """Builds the tab inside the Blocks and Tab that are open."""
    gr.HTML(
        '<p class="lead">Give it a video of people. It fits a body to each person, and so knows where hundreds '
        "of points of the body are in every frame. What it can't be sure of, it leaves out.</p>"
    )
    with gr.Row(equal_height=False):
        with gr.Column(scale=1, min_width=340):
            place = gr.Column(elem_classes="step")
            preview = gr.Image(
                label="First frame",
                type="filepath",
                interactive=False,
                visible=False,
                buttons=[],
                elem_id="label-preview",
            )
        with gr.Column(scale=1, min_width=340):
            runner = Runner.build(page, "label", "Label people")
            with gr.Column(visible=False, elem_id="label-result") as result:
                overlay = looped_video("label-overlay")
                figures = gr.HTML(elem_id="label-figures")
                sheet = gr.Image(
                    label="Some of the frames",
                    type="filepath",
                    interactive=False,
                    buttons=["fullscreen"],
                    elem_id="label-sheet",
                )
                files = downloads("label-files")

    results = [result, overlay, figures, sheet, files]
    nothing = [gr.Column(visible=False), None, "", None, None]

    def opened(_: Visitor, video: Video) -> list[Any]:
        return [gr.Image(str(video.previews[0]), visible=True), "", *nothing]

    def closed(_: Visitor) -> list[Any]:
        return [gr.Image(None, visible=False), "", *nothing]

    with place:
        video_box(page, "label", None, opened, closed, [preview, runner.said, *results])

    def label(request: gr.Request, progress=gr.Progress()) -> list[Any]:  # noqa: B008
        visitor = page.visitor(request)
        video = visitor.videos.get("label")
        if video is None:
            return [note("Choose a video first.", "bad"), *nothing]
        job = {
            "do": "label",
            "folder": str(video.path.parent),
            "video": video.path.name,
            "threads": page.settings.threads,
            "device": page.settings.device,
        }
        answer = page.run(visitor, job, progress)
        if isinstance(answer, str):
            return [answer, *nothing]
        if "totals" not in answer:
            return [note(refusal(answer), "bad"), *nothing]
        folder = video.path.parent
        return [
            note(f"Damaged: {answer['failure']}", "bad") if answer["failure"] else "",
            gr.Column(visible=True),
            str(folder / answer["overlay"]),
            summary(answer),
            str(folder / answer["picture"]),
            [str(folder / file) for file in answer["files"]],
        ]

    runner.does(label, None, results)


def refusal(answer: dict[str, Any]) -> str:
    """Why a video got no label, in a sentence for someone who has never heard of any of this."""
    reason = (answer["failure"] or "").partition(": ")[2] or "no label"
    if "nobody was found" in reason:
        return "Nobody was found in this video. It takes people who are large enough and mostly in view."
    if "could be trusted" in reason:
        return "People were found, but no label could be trusted: fast motion, blur or dark clothes make it hard."
    return f"Nothing was labeled: {reason}."


def summary(answer: dict[str, Any]) -> str:
    """What labeling gave, as HTML."""
    totals = answer["totals"]
    facts = {
        "people" if totals["people"] != 1 else "person": f"{totals['people']}",
        "points": f"{totals['tracks']:,}",
        "frames": f"{totals['frames']}",
        "seconds it took": f"{totals['seconds']:.0f}",
    }
    bar = shares(totals["visible"], totals["occluded"], totals["invalid"])
    left_out = ""
    if answer["left_out"]:
        left_out = note(
            f"Left out: {count(len(answer['left_out']), 'part')} of the video, without labels to trust."
        )
    return numbers(facts) + bar + left_out
