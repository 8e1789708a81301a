"""The tab that browses a dataset of labels: filters, statistics, and each clip with its tracks."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pandas as pd

from anthrotap_hf.app.html import count, label_fractions, note, numbers
from anthrotap_hf.app.page import Page, Updates, downloads, looped_video
from anthrotap_hf.app.uploads import Visitor, plain_name, write_picture
from anthrotap_hf.data.shard_reader import DamagedShardError, ShardReader, dataset_splits
from anthrotap_hf.schema import decode_frames
from anthrotap_hf.tracks import TrackedClip
from anthrotap_hf.utils.atomic_files import atomic_write
from anthrotap_hf.utils.errors import AnthroTapError, format_error, one_line
from anthrotap_hf.video import VideoError
from anthrotap_hf.visualization.overlay import DEFAULT_FPS, draw_tracks, write_overlay

# Clips of a dataset that can be browsed.
MAX_CLIPS = 500
# Pictures on one page of the gallery, and the longer side of each, pixels.
PAGE_SIZE = 12
PICTURE_SIDE = 480
# Datasets kept open for all visitors.
MAX_DATASETS = 4
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
SCROLL_TO_CLIP = "() => document.querySelector('#browse-about').scrollIntoView({behavior: 'smooth'})"
KINDS = ("visible", "occluded", "invalid")
NO_FILTER: tuple[Any, ...] = ("", "all", "any", 0, 0)


class BrowsingError(AnthroTapError):
    """A dataset cannot be shown; the message is a sentence for the visitor."""


def summarize_clip(split: str, row: int, clip: TrackedClip) -> dict[str, Any]:
    """Return statistics of a row's labels without its video; visible, occluded and invalid are fractions of labels."""
    tracks = clip.tracks
    labels = max(tracks.valid.size, 1)
    return {
        "split": split,
        "row": row,
        "clip_id": clip.clip_id or str(row),
        "source": clip.source_video,
        "frames": tracks.num_frames,
        "fps": clip.fps or DEFAULT_FPS,
        "people": len(np.unique(tracks.person)),
        "tracks": len(tracks),
        **{kind: float(getattr(tracks, kind).sum()) / labels for kind in KINDS},
    }


class OpenDataset:
    """A dataset's first MAX_CLIPS clips: their labels are read at once, their videos when they are asked for.

    Args:
        name: a folder or a Hub id.
        on_clip: is called with the number of clips read, and how many there are.
        token: False to read it as everybody can, without the token of this machine.

    Attributes:
        clips: a table of the clips that can be browsed, with the columns of `summarize_clip`.
        splits: the names of the splits.
        total: the number of all clips.

    Raises:
        BrowsingError: there is no such dataset, or it is not one of this project.
    """

    def __init__(self, name: str, on_clip: Callable[[int, int], object], token: bool | None = None) -> None:
        if not is_hub_id(name) and not Path(name).exists():
            raise _unreadable(name, "there is no such folder on this server.")
        clips: list[dict[str, Any]] = []
        # Visitors share the readers.
        self._lock = threading.Lock()
        try:
            config = {} if token is None else {"token": token}
            self.splits = list(dataset_splits(name, **config))
            labels = {split: ShardReader.from_dataset(name, split, video=False, **config) for split in self.splits}
            self._readers = {split: ShardReader.from_dataset(name, split, **config) for split in self.splits}
            self.total = sum(map(len, labels.values()))
            for split, reader in labels.items():
                for row in range(min(len(reader), MAX_CLIPS - len(clips))):
                    clips.append(summarize_clip(split, row, reader.clip(row)))
                    on_clip(len(clips), min(self.total, MAX_CLIPS))
        except AnthroTapError as error:
            raise _unreadable(name, format_error(error.reason, hint=error.hint)) from error
        except (OSError, ValueError) as error:
            raise _unreadable(name, error) from error
        self.clips = pd.DataFrame(clips)
        if not clips:
            raise BrowsingError(f"The dataset {display_name(name)} has no clips.")

    def read(self, clip: Any) -> TrackedClip:
        """Return all of a clip. Raises DamagedShardError if it cannot be read."""
        with self._lock:
            return self._readers[clip.split].clip(clip.row)


def _unreadable(name: str, reason: object) -> BrowsingError:
    return BrowsingError(f"The dataset {display_name(name)} can't be read: {one_line(reason, 400)}")


def is_hub_id(name: str) -> bool:
    """Return whether a name has the form of a Hub id, user/name, and is no file or folder."""
    return HUB_ID.fullmatch(name) is not None and ".." not in name and not Path(name).exists()


def display_name(name: str) -> str:
    """Return the name of a dataset that visitors see: a Hub id, or a folder's last part."""
    return name if is_hub_id(name) else Path(name).name


def _by_display_name(names: tuple[str, ...]) -> dict[str, str]:
    """The names of datasets by those that visitors see, each once."""
    found: dict[str, str] = {}
    for name in names:
        shown, number = display_name(name), 2
        while shown in found:
            shown, number = f"{display_name(name)} ({number})", number + 1
        found[shown] = name
    return found


def check_name(name: str, offered: Mapping[str, str]) -> str:
    """Return the name of a dataset that a visitor asks for, by the names that the page offers.

    Raises:
        BrowsingError: it is neither offered by the page nor a Hub id.
    """
    name = name.strip()
    if name in offered:
        return offered[name]
    if not name:
        raise BrowsingError("Type the name of a dataset on the Hugging Face Hub first, such as someone/labels.")
    if not is_hub_id(name):
        raise BrowsingError("Only datasets on the Hugging Face Hub can be opened here: a name such as someone/labels.")
    return name


def filter_clips(
    clips: pd.DataFrame, text: str, split: str, people: str, visible: float, occluded: float
) -> pd.DataFrame:
    """Return the clips that pass all filters.

    Args:
        clips: to choose from.
        text: each of its words must be in the source video's name or the clip's id; case does not matter.
        split: its name, or "all".
        people: "any", "1", "2", or "3+".
        visible, occluded: the least percentage of such labels.
    """
    passes = (100 * clips.visible >= visible) & (100 * clips.occluded >= occluded)
    names = (clips.source + " " + clips.clip_id).str.lower()
    for word in text.lower().split():
        passes &= names.str.contains(word, regex=False)
    if split != "all":
        passes &= clips.split == split
    if people != "any":
        passes &= clips.people.clip(upper=3) == int(people[0])
    return clips[passes]


def summarize(clips: pd.DataFrame) -> tuple[str, pd.DataFrame]:
    """Return numbers of some clips as HTML, and how many clips have which percentage of visible labels, by tens."""
    if clips.empty:
        return note("No clip passes these filters: loosen one of them."), clips[["visible"]].assign(clips=0)
    weights = clips.tracks * clips.frames
    means = (clips[list(KINDS)].mul(weights, axis=0).sum() / max(weights.sum(), 1)).to_dict()
    values = {
        "clip" if len(clips) == 1 else "clips": f"{len(clips):,}",
        "seconds": f"{(clips.frames / clips.fps).sum():,.0f}",
        "points": f"{clips.tracks.sum():,}",
        "people in a clip": f"{clips.people.mean():.1f}",
    }
    counts = np.histogram(clips.visible, np.linspace(0, 1, 11))[0]
    table = pd.DataFrame({"visible": [f"{10 * n}" for n in range(10)], "clips": counts})
    return numbers(values) + label_fractions(**means), table


def write_clip(clip: TrackedClip, name: str, folder: Path) -> list[Path]:
    """Write a clip's overlay, its video as it is, and its tracks (.npz), and return the files in this order.

    Raises:
        VideoError: the video cannot be decoded.
    """
    overlay, plain, arrays = (folder / f"{plain_name(name)}{suffix}" for suffix in (".tracks.mp4", ".mp4", ".npz"))
    tracks, fps = clip.tracks, clip.fps or DEFAULT_FPS
    write_overlay(overlay, decode_frames(clip), fps, tracks)
    plain.write_bytes(clip.video if isinstance(clip.video, bytes) else Path(str(clip.video)).read_bytes())
    with atomic_write(arrays) as tmp_path:
        np.savez_compressed(
            tmp_path,
            tracks=tracks.xy,
            visible=tracks.visible,
            valid=tracks.valid,
            person=tracks.person,
            vertex=tracks.vertex,
            fps=np.float32(fps),
            size=np.array([tracks.height, tracks.width], np.int32),
        )
    return [overlay, plain, arrays]


@dataclass(frozen=True)
class GalleryPage:
    """The clips (rows of a table) that a visitor sees, and the values of page and filters that gave them."""

    dataset: OpenDataset
    clips: list[Any]
    values: tuple[Any, ...]


class BrowsingTab:
    """The tab, built inside the Blocks and Tab that are open."""

    def __init__(self, page: Page) -> None:
        self.page = page
        # By the names that the browser gets: nothing of the folders on this server.
        self.offered = _by_display_name(page.settings.datasets)
        self.datasets: OrderedDict[str, OpenDataset] = OrderedDict()
        gr.HTML(
            '<p class="lead">A dataset is many short clips with their points. Open one, filter it, and click on a clip '
            "to play it.</p>"
        )
        self._build_name()
        with gr.Column(visible=False, elem_id="browse-found") as self.found:
            self._build_filters()
            with gr.Row(equal_height=False):
                with gr.Column(min_width=320):
                    self.figures = gr.HTML(elem_id="browse-figures")
                self.plot = gr.BarPlot(
                    x="visible",
                    y="clips",
                    x_title="visible labels, %",
                    y_title="clips",
                    sort=None,
                    height=190,
                    min_width=320,
                    buttons=[],
                    elem_id="browse-plot",
                )
            self._build_gallery()
        self._connect()

    def _build_name(self) -> None:
        offered = self.offered
        with gr.Row(equal_height=True, elem_classes="tools bottom"):
            self.name = gr.Dropdown(
                list(offered),
                value=next(iter(offered), None),
                label="Dataset",
                info=f"{'One of the list, or a' if offered else 'A'} name on the Hub, such as someone/labels.",
                allow_custom_value=True,
                scale=4,
                min_width=240,
                elem_id="browse-name",
            )
            self.open = gr.Button("Open", variant="primary", scale=1, min_width=110, elem_id="browse-open")
        self.message = gr.HTML(elem_id="browse-said", elem_classes="said")

    def _build_filters(self) -> None:
        with gr.Row():
            self.text = gr.Textbox(label="Video or clip", placeholder="part of its name", min_width=160, scale=2)
            self.split = gr.Dropdown(["all"], value="all", label="Split", min_width=110)
            self.people = gr.Dropdown(["any", "1", "2", "3+"], value="any", label="People", min_width=110)
            self.visible, self.occluded = (
                gr.Slider(0, 100, 0, step=5, label=f"{kind} ≥ %", min_width=170, buttons=[])
                for kind in ("Visible", "Occluded")
            )
        self.filters = [self.text, self.split, self.people, self.visible, self.occluded]

    def _build_gallery(self) -> None:
        self.gallery = gr.Gallery(
            label="Clips",
            columns=4,
            height="auto",
            object_fit="cover",
            allow_preview=False,
            interactive=False,
            buttons=[],
            elem_id="browse-gallery",
        )
        self.number = gr.Slider(1, 2, 1, step=1, label="Page", visible=False, buttons=[], elem_id="browse-sheet")
        self.about = gr.HTML(elem_id="browse-about", elem_classes="said")
        with gr.Row(equal_height=False, visible=False, elem_id="browse-clip") as self.clip:
            self.overlay = looped_video("browse-overlay", scale=3, min_width=320)
            with gr.Column(scale=2, min_width=300):
                self.details = gr.HTML(elem_id="browse-facts")
                self.files = downloads("browse-files")

    def _connect(self) -> None:
        # One at a time, or an older answer might come last.
        in_turn = {"concurrency_id": "browse", "concurrency_limit": 1, "api_name": False}
        quiet = {"show_progress": "hidden", "trigger_mode": "always_last", **in_turn}
        shown = [self.figures, self.plot, self.gallery, self.number, self.about, self.clip]
        outputs = [self.message, self.found, *self.filters, *shown]
        self.open.click(self._open, self.name, outputs, show_progress_on=self.message, **in_turn)
        for trigger in (
            *(self.text.submit, self.text.blur, self.split.input, self.people.input),
            *(self.visible.release, self.occluded.release),
        ):
            trigger(self._filter, self.filters, shown, **quiet)
        self.number.release(self._turn, [self.number, *self.filters], shown, **quiet)
        outputs = [self.about, self.clip, self.overlay, self.details, self.files]
        playing = self.gallery.select(self._play, None, outputs, show_progress_on=self.about, api_name=False)
        playing.then(None, js=SCROLL_TO_CLIP, api_name=False)

    def _open(self, name: str | None, request: gr.Request, progress=gr.Progress()) -> Updates:  # noqa: B008
        def on_clip(done: int, total: int) -> None:
            progress((done, total), desc="Reading labels", unit="clips")

        try:
            name = check_name(str(name or ""), self.offered)
            if name not in self.datasets:
                # What visitors name is read as everybody can read it.
                own = name in self.offered.values() or self.page.settings.dataset_token
                self.datasets[name] = OpenDataset(name, on_clip, None if own else False)
                while len(self.datasets) > MAX_DATASETS:
                    self.datasets.popitem(last=False)
            dataset = self.datasets[name]
        except BrowsingError as error:
            return {self.message: note(error.reason, "bad"), self.found: gr.Column(visible=False)}
        some = f"The first {len(dataset.clips):,} of {dataset.total:,} clips."
        return {
            self.message: note(some) if len(dataset.clips) < dataset.total else "",
            self.found: gr.Column(visible=True),
            **dict(zip(self.filters, NO_FILTER, strict=True)),
            self.split: gr.Dropdown(["all", *dataset.splits], value="all"),
            **self._show(self.page.let_in(request), dataset, 1, *NO_FILTER),
        }

    def _filter(self, request: gr.Request, *values: Any) -> Updates:
        return self._turn(request, 1, *values)

    def _turn(self, request: gr.Request, number: int, *values: Any) -> Updates:
        """Show a page of the gallery, unless it is shown already."""
        visitor = self.page.visitor(request)
        shown: GalleryPage | None = visitor.state.get("browse")
        if shown is None or shown.values == (number, *values):
            return {self.about: gr.skip()}
        return self._show(visitor, shown.dataset, number, *values)

    def _show(self, visitor: Visitor, dataset: OpenDataset, number: int, *values: Any) -> Updates:
        clips = filter_clips(dataset.clips, *values)
        num_pages = max(1, -(-len(clips) // PAGE_SIZE))
        number = min(int(number), num_pages)
        wanted = list(clips[(number - 1) * PAGE_SIZE : number * PAGE_SIZE].itertuples())
        folder = visitor.empty_folder("gallery")
        shown, pictures = [], []
        for clip in wanted:
            path = folder / f"{clip.split}-{clip.row}.jpg"
            try:
                found, middle = dataset.read(clip), clip.frames // 2
                (image,) = found.iter_frames([middle])
                write_picture(path, draw_tracks(image, found.tracks, middle), PICTURE_SIDE)
            except ValueError:
                # A damaged row or video, of another size than the tracks: their number is shown below.
                continue
            shown.append(clip)
            pictures.append((str(path), f"{clip.visible:.0%} visible · {Path(clip.source).stem}"))
        visitor.state["browse"] = GalleryPage(dataset, shown, (number, *values))
        figures, table = summarize(clips)
        damaged = len(wanted) - len(shown)
        return {
            self.figures: figures,
            self.plot: gr.BarPlot(table, visible=not clips.empty),
            self.gallery: gr.Gallery(pictures),
            self.number: gr.Slider(1, max(2, num_pages), number, visible=num_pages > 1),
            self.about: note(f"{count(damaged, 'clip')} on this page can't be read.", "bad") if damaged else "",
            self.clip: gr.Row(visible=False),
        }

    def _play(self, event: gr.SelectData, request: gr.Request) -> Updates:
        visitor = self.page.visitor(request)
        shown: GalleryPage | None = visitor.state.get("browse")
        cleared = {self.clip: gr.Row(visible=False), self.overlay: None, self.details: "", self.files: None}
        if shown is None or not 0 <= event.index < len(shown.clips):
            return {self.about: note("Open the dataset again.", "bad"), **cleared}
        clip = shown.clips[event.index]
        try:
            name = f"{Path(clip.source).stem}-{clip.clip_id[-12:]}"
            files = write_clip(shown.dataset.read(clip), name, visitor.empty_folder("clip"))
        except (VideoError, DamagedShardError) as error:
            return {self.about: note(f"This clip can't be read: {error.reason}", "bad"), **cleared}
        values = {
            "people" if clip.people != 1 else "person": f"{clip.people}",
            "points": f"{clip.tracks:,}",
            "frames": f"{clip.frames}",
            "split": clip.split,
        }
        return {
            self.about: note(f"{clip.source}, clip {clip.clip_id}"),
            self.clip: gr.Row(visible=True),
            self.overlay: str(files[0]),
            self.details: numbers(values) + label_fractions(clip.visible, clip.occluded, clip.invalid),
            self.files: [str(file) for file in files],
        }
