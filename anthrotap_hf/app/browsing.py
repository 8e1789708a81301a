"""The tab where a dataset of labels is looked through: filters, statistics, and each clip with its tracks."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pandas as pd

from anthrotap_hf.app.page import Page, count, downloads, looped_video, note, numbers, shares
from anthrotap_hf.app.uploads import Visitor, plain_name, write_picture
from anthrotap_hf.data.shard_reader import DamagedShardError, ShardReader, dataset_splits
from anthrotap_hf.schema import decode_frames
from anthrotap_hf.tracks import TrackedClip
from anthrotap_hf.utils.atomic_files import atomic_write
from anthrotap_hf.utils.errors import AnthroTapError, one_line
from anthrotap_hf.video import VideoError
from anthrotap_hf.visualization.overlay import draw_tracks, write_overlay

MOST_CLIPS = 500  # that are looked through
PICTURES = 12  # on one sheet of the gallery
GALLERY_SIDE = 480  # pixels: their longer side
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
DATASETS_OPEN = 4  # kept in memory for all visitors
LOOK_AT_CLIP = "() => document.querySelector('#browse-about').scrollIntoView({behavior: 'smooth'})"


@dataclass(frozen=True)
class Clip:
    """What is known of a clip before its video is read; shares are of its (track, frame) labels."""

    split: str
    row: int
    clip_id: str
    source: str
    frames: int
    fps: float
    people: int
    tracks: int
    visible: float
    occluded: float
    invalid: float


@dataclass(frozen=True)
class Listing:
    """A dataset that is open: its clips, how many there are with those left out, and where rows are read."""

    name: str
    clips: list[Clip]
    total: int
    rows: dict[str, ShardReader]
    lock: threading.Lock = field(default_factory=threading.Lock)  # of `rows`: visitors share them

    def read(self, clip: Clip) -> TrackedClip:
        """All of a clip. Raises DamagedShardError if it can't be read."""
        with self.lock:
            return self.rows[clip.split].clip(clip.row)


@dataclass(frozen=True)
class Browsed:
    """What a visitor sees of a dataset: these clips, as these filters and this page of them gave them."""

    listing: Listing
    clips: list[Clip]
    asked: tuple[Any, ...]


class DatasetError(ValueError):
    """A dataset that can't be shown, in a sentence for the visitor."""


def called(name: str) -> str:
    """What visitors see of a dataset's name: a Hub id, or a folder's last part."""
    return name if HUB_ID.fullmatch(name) and not Path(name).exists() else Path(name).name


def list_clips(name: str, on_clip: Callable[[int, int], object]) -> Listing:
    """Reads the labels (not the videos) of a dataset's first MOST_CLIPS clips.

    Args:
        name: a folder or a Hub id.
        on_clip: is told how many clips are read, and of how many.

    Raises:
        DatasetError: if there is no such dataset, or it is not one of ours.
    """
    if not HUB_ID.fullmatch(name) and not Path(name).exists():
        raise DatasetError(
            f"The dataset {called(name)} can't be read: there is no such folder on this server."
        )
    try:
        splits = dataset_splits(name)
        labels = {split: ShardReader.from_dataset(name, split, video=False) for split in splits}
        rows = {split: ShardReader.from_dataset(name, split) for split in splits}
        total = sum(map(len, labels.values()))
        clips: list[Clip] = []
        for split, reader in labels.items():
            for number in range(min(len(reader), MOST_CLIPS - len(clips))):
                clips.append(_clip(split, number, reader.clip(number)))
                on_clip(len(clips), min(total, MOST_CLIPS))
    except (OSError, ValueError) as error:
        reason = one_line(error.reason if isinstance(error, AnthroTapError) else error, 400)
        raise DatasetError(f"The dataset {called(name)} can't be read: {reason}") from error
    if not clips:
        raise DatasetError(f"The dataset {called(name)} has no clips.")
    return Listing(name, clips, total, rows)


def _clip(split: str, number: int, clip: TrackedClip) -> Clip:
    tracks = clip.tracks
    labels = max(tracks.valid.size, 1)
    return Clip(
        split=split,
        row=number,
        clip_id=clip.clip_id or str(number),
        source=clip.source_video,
        frames=tracks.num_frames,
        fps=clip.fps or 25.0,
        people=len(np.unique(tracks.person)),
        tracks=len(tracks),
        visible=float(tracks.visible.sum()) / labels,
        occluded=float(tracks.occluded.sum()) / labels,
        invalid=float(tracks.invalid.sum()) / labels,
    )


def matching(
    clips: list[Clip], words: str, split: str, people: str, seen: float, hidden: float
) -> list[Clip]:
    """The clips that pass all filters.

    Args:
        clips: to choose from.
        words: each must be in the source video's name or the clip's id; case does not matter.
        split: its name, or "all".
        people: "any", "1", "2", or "3+".
        seen, hidden: at least so large a share of the labels, %.
    """
    wanted = words.lower().split()

    def fits(clip: Clip) -> bool:
        text = f"{clip.source} {clip.clip_id}".lower()
        crowd = people == "any" or (clip.people >= 3 if people == "3+" else clip.people == int(people))
        return (
            all(word in text for word in wanted)
            and split in ("all", clip.split)
            and crowd
            and 100 * clip.visible >= seen
            and 100 * clip.occluded >= hidden
        )

    return [clip for clip in clips if fits(clip)]


def statistics(clips: list[Clip]) -> tuple[str, pd.DataFrame]:
    """Figures of some clips as HTML, and how many clips have which share of labels seen, in steps of a tenth."""
    if not clips:
        return note("No clip passes these filters: loosen one of them."), pd.DataFrame(
            columns=["seen", "clips"]
        )
    labels = np.array([clip.tracks * clip.frames for clip in clips], float)
    weights = labels / max(labels.sum(), 1)
    facts = {
        "clip" if len(clips) == 1 else "clips": f"{len(clips):,}",
        "seconds": f"{sum(clip.frames / clip.fps for clip in clips):,.0f}",
        "points": f"{sum(clip.tracks for clip in clips):,}",
        "people in a clip": f"{np.mean([clip.people for clip in clips]):.1f}",
    }
    mean = {
        name: float(weights @ [getattr(clip, name) for clip in clips])
        for name in ("seen", "hidden", "unknown")
    }
    tenths = np.minimum((10 * np.array([clip.visible for clip in clips])).astype(int), 9)
    names = [f"{10 * n}" for n in range(10)]
    table = pd.DataFrame({"visible": names, "clips": np.bincount(tenths, minlength=10)})
    return numbers(facts) + shares(**mean), table


def allowed(name: str, offered: tuple[str, ...]) -> str:
    """A dataset that a visitor asks for. Raises DatasetError unless it is offered by the page, or a Hub id."""
    name = name.strip()
    if name in offered:
        return name
    if not name:
        raise DatasetError(
            "Type the name of a dataset on the Hugging Face Hub first, such as someone/labels."
        )
    if not HUB_ID.fullmatch(name) or ".." in name or Path(name).exists():
        raise DatasetError(
            "Only datasets on the Hugging Face Hub can be opened here: a name such as someone/labels."
        )
    return name


def picture(listing: Listing, clip: Clip) -> np.ndarray:
    """The clip's middle frame with its tracks, [H, W, 3] uint8."""
    found = listing.read(clip)
    middle = clip.frames // 2
    return draw_tracks(decode_frames(found)[middle], found.tracks, middle)


def write_clip(listing: Listing, clip: Clip, folder: Path) -> tuple[Path, list[Path]]:
    """The overlay of a clip, and all files to download: overlay, the video as it is, tracks (.npz).

    Raises VideoError or DamagedShardError if the row can't be read.
    """
    found = listing.read(clip)
    frames, tracks = decode_frames(found), found.tracks
    stem = plain_name(f"{Path(clip.source).stem}-{clip.clip_id[-12:]}")
    overlay, plain, arrays = (folder / f"{stem}{end}" for end in (".tracks.mp4", ".mp4", ".npz"))
    write_overlay(overlay, frames, clip.fps, tracks)
    plain.write_bytes(found.video if isinstance(found.video, bytes) else Path(str(found.video)).read_bytes())
    with atomic_write(arrays) as tmp_path:
        np.savez_compressed(
            tmp_path,
            tracks=tracks.xy,
            visible=tracks.visible,
            valid=tracks.valid,
            person=tracks.person,
            vertex=tracks.vertex,
            fps=np.float32(clip.fps),
            size=np.array([tracks.height, tracks.width], np.int32),
        )
    return overlay, [overlay, plain, arrays]


def browsing_tab(page: Page) -> None:
    """Builds the tab inside the Blocks and Tab that are open."""
    offered = page.settings.datasets
    choices = [(called(name), name) for name in offered]
    listings: OrderedDict[str, Listing] = OrderedDict()

    gr.HTML(
        '<p class="lead">A dataset is many short clips with their points. Open one, filter it, and click on a clip '
        "to play it.</p>"
    )
    with gr.Row(equal_height=True, elem_classes="tools bottom"):
        name = gr.Dropdown(
            choices,
            value=offered[0] if offered else None,
            label="Dataset",
            info=f"{'One of the list, or a' if offered else 'A'} name on the Hugging Face Hub, such as someone/labels.",
            allow_custom_value=True,
            scale=4,
            min_width=240,
            elem_id="browse-name",
        )
        open_it = gr.Button("Open", variant="primary", scale=1, min_width=110, elem_id="browse-open")
    said = gr.HTML(elem_id="browse-said", elem_classes="said")
    with gr.Column(visible=False, elem_id="browse-found") as found:
        with gr.Row():
            words = gr.Textbox(label="Video or clip", placeholder="part of its name", min_width=160, scale=2)
            split = gr.Dropdown(["all"], value="all", label="Split", min_width=110)
            people = gr.Dropdown(["any", "1", "2", "3+"], value="any", label="People", min_width=110)
            seen = gr.Slider(0, 100, 0, step=5, label="Seen, from %", min_width=170, buttons=[])
            hidden = gr.Slider(0, 100, 0, step=5, label="Hidden, from %", min_width=170, buttons=[])
        with gr.Row(equal_height=False):
            with gr.Column(min_width=320):
                figures = gr.HTML(elem_id="browse-figures")
            plot = gr.BarPlot(
                x="seen",
                y="clips",
                x_title="labels seen, %",
                y_title="clips",
                sort=None,
                height=190,
                min_width=320,
                buttons=[],
                elem_id="browse-plot",
            )
        gallery = gr.Gallery(
            label="Clips",
            columns=4,
            height="auto",
            object_fit="cover",
            allow_preview=False,
            interactive=False,
            buttons=[],
            elem_id="browse-gallery",
        )
        sheet = gr.Slider(1, 2, 1, step=1, label="Page", visible=False, buttons=[], elem_id="browse-sheet")
        about = gr.HTML(elem_id="browse-about", elem_classes="said")
        with gr.Row(equal_height=False, visible=False, elem_id="browse-clip") as one:
            overlay = looped_video("browse-overlay", scale=3, min_width=320)
            with gr.Column(scale=2, min_width=300):
                facts = gr.HTML(elem_id="browse-facts")
                files = downloads("browse-files")

    filters = [words, split, people, seen, hidden]

    def show(visitor: Visitor, listing: Listing, number: int, *values: Any) -> list[Any]:
        clips = matching(listing.clips, *values)
        sheets = max(1, -(-len(clips) // PICTURES))
        number = min(int(number), sheets)
        some = clips[(number - 1) * PICTURES : number * PICTURES]
        folder = visitor.fresh("gallery")
        shown, pictures = [], []
        for clip in some:
            path = folder / f"{clip.split}-{clip.row}.jpg"
            try:
                write_picture(path, picture(listing, clip), GALLERY_SIDE)
            except (VideoError, DamagedShardError):
                continue  # told when all are counted, below
            shown.append(clip)
            pictures.append((str(path), f"{clip.visible:.0%} seen · {Path(clip.source).stem}"))
        visitor.kept["browse"] = Browsed(listing, shown, (number, *values))
        html, table = statistics(clips)
        damaged = len(some) - len(shown)
        words = note(f"{count(damaged, 'clip')} on this page can't be read.", "bad") if damaged else ""
        knob = gr.Slider(1, max(2, sheets), number, visible=sheets > 1)
        return [
            html,
            gr.BarPlot(table, visible=bool(clips)),
            gr.Gallery(pictures),
            knob,
            words,
            gr.Row(visible=False),
        ]

    shown = [figures, plot, gallery, sheet, about, one]
    unfiltered: list[Any] = ["", "all", "any", 0, 0]

    def open_dataset(asked: str | None, request: gr.Request, progress=gr.Progress()) -> list[Any]:  # noqa: B008
        visitor = page.visitor(request)
        try:
            wanted = allowed(asked or "", offered)
            if wanted not in listings:
                listings[wanted] = list_clips(
                    wanted, lambda done, total: progress((done, total), desc="Reading labels", unit="clips")
                )
                while len(listings) > DATASETS_OPEN:
                    listings.popitem(last=False)
            listing = listings[wanted]
        except DatasetError as error:
            return [
                note(str(error), "bad"),
                gr.Column(visible=False),
                *[gr.skip()] * (len(filters) + len(shown)),
            ]
        some = len(listing.clips) < listing.total
        words = note(f"The first {len(listing.clips):,} of {listing.total:,} clips.") if some else ""
        splits = gr.Dropdown(["all", *listing.rows], value="all")
        return [
            *(words, gr.Column(visible=True), "", splits, "any", 0, 0),
            *show(visitor, listing, 1, *unfiltered),
        ]

    def refilter(number: int, *values: Any, request: gr.Request) -> list[Any]:
        visitor = page.visitor(request)
        browsed: Browsed | None = visitor.kept.get("browse")
        if browsed is None or browsed.asked == (number, *values):
            return [gr.skip()] * len(shown)
        return show(visitor, browsed.listing, number, *values)

    def from_first(request: gr.Request, *values: Any) -> list[Any]:
        return refilter(1, *values, request=request)

    def at_sheet(request: gr.Request, number: int, *values: Any) -> list[Any]:
        return refilter(number, *values, request=request)

    def play(event: gr.SelectData, request: gr.Request) -> list[Any]:
        visitor = page.visitor(request)
        browsed: Browsed | None = visitor.kept.get("browse")
        if browsed is None or not 0 <= event.index < len(browsed.clips):
            return [note("Open the dataset again.", "bad"), gr.Row(visible=False), None, "", None]
        clip = browsed.clips[event.index]
        try:
            path, all_files = write_clip(browsed.listing, clip, visitor.fresh("clip"))
        except (VideoError, DamagedShardError) as error:
            return [note(f"This clip can't be read: {error}", "bad"), gr.Row(visible=False), None, "", None]
        told = numbers(
            {
                "people" if clip.people != 1 else "person": f"{clip.people}",
                "points": f"{clip.tracks:,}",
                "frames": f"{clip.frames}",
                "split": clip.split,
            }
        ) + shares(clip.visible, clip.occluded, clip.invalid)
        title = note(f"{clip.source}, clip {clip.clip_id}")
        return [title, gr.Row(visible=True), str(path), told, [str(file) for file in all_files]]

    outputs = [said, found, *filters, *shown]
    in_turn = {
        "concurrency_id": "browse",
        "concurrency_limit": 1,
        "api_name": False,
    }  # or an old answer came last
    open_it.click(open_dataset, name, outputs, show_progress_on=said, **in_turn)
    hush = {"show_progress": "hidden", "trigger_mode": "always_last", **in_turn}
    words.submit(from_first, filters, shown, **hush)
    words.blur(from_first, filters, shown, **hush)
    for knob in (split, people):
        knob.input(from_first, filters, shown, **hush)
    for knob in (seen, hidden):
        knob.release(from_first, filters, shown, **hush)
    sheet.release(at_sheet, [sheet, *filters], shown, **hush)
    playing = gallery.select(
        play, None, [about, one, overlay, facts, files], show_progress_on=about, api_name=False
    )
    playing.then(None, js=LOOK_AT_CLIP, api_name=False)
