"""Labels on the fly: the `datasets` builder behind `load_dataset("anthrotap", data_files=...)`."""

from __future__ import annotations

import json
import logging
import os
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import datasets
from datasets.builder import Key

from anthrotap_builder.config import LABEL_CODE_VERSION, LabelingConfig, labeling_config
from anthrotap_builder.utils.prefetch import prefetch
from anthrotap_hf.schema import encode_row, features
from anthrotap_hf.utils.errors import missing_extra
from anthrotap_hf.video import VideoError

logger = logging.getLogger(__name__)


@dataclass
class AnthroTapConfig(datasets.BuilderConfig):
    """`name` is the recipe; `settings` are changes to it, nested as LabelingConfig is."""

    settings: dict[str, Any] | None = None
    labeling: LabelingConfig = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.labeling = labeling_config("open" if self.name == "default" else self.name, self.settings)

    def create_config_id(
        self, config_kwargs: dict[str, Any], custom_features: datasets.Features | None = None
    ) -> str:
        """Part of the cache's key; with the label version in it, an old cache never gives other labels."""
        versioned = {**config_kwargs, "label_version": self.labeling.version}
        return super().create_config_id(versioned, custom_features)


class AnthroTap(datasets.GeneratorBasedBuilder):
    """One example a clip, columns as in `anthrotap_builder.shards.features`; each video is a shard of work.

    A video that can't be read (to its end) is skipped (from there on), with a warning and a line in
    `failed-<split>.jsonl` beside the cached data; if none of a split's gives a clip, that is an error.
    """

    BUILDER_CONFIG_CLASS = AnthroTapConfig
    VERSION = datasets.Version(f"{LABEL_CODE_VERSION}.0.0")
    DEFAULT_WRITER_BATCH_SIZE = 8  # a row is a megabyte or two

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description="Point tracks on people: seen, hidden and unknown",
            features=features(self.config.labeling.clips.clip_frames),
        )

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        if not self.config.data_files:
            raise ValueError(
                "nothing to label: name videos with data_files=[...] or a folder with data_dir=..."
            )
        self._without_clips: dict[str, set[str]] = {}  # by split
        return [
            datasets.SplitGenerator(
                name=split,
                gen_kwargs={  # `datasets` shares out lists between processes
                    "files": dl_manager.download(list(names)),
                    "names": [str(name) for name in names],
                    "split": str(split),
                    "num_files": len(names),
                    "log": None if dl_manager.is_streaming else self._log(split),
                },
            )
            for split, names in self.config.data_files.items()
        ]

    def _generate_examples(
        self, files: list[str], names: list[str], split: str, num_files: int, log: str | None
    ) -> Iterator[tuple[Key, dict[str, Any]]]:
        for number, (file, name) in enumerate(zip(files, names, strict=True)):
            clips, left_out, failure = 0, list[str](), None
            try:
                for row in self._rows(file, name, left_out):
                    yield Key(number, clips), row
                    clips += 1
            except VideoError as error:
                failure = str(error)
                logger.warning("%s%s", failure, "" if clips else "; skipped")
            if log:
                if failure or left_out:
                    _append(log, {"file": name, "reason": failure, "left_out": left_out})
            elif not clips:  # streaming: nobody comes after us to look at the whole
                failed = self._without_clips.setdefault(split, set())
                failed.add(name)
                if len(failed) == num_files:
                    raise _no_clips(num_files, failure or next(iter(left_out), None))

    def _rows(self, file: str, name: str, left_out: list[str]) -> Iterator[dict[str, Any]]:
        """The rows of one video. Streaming hands over addresses: a video is fetched when its turn comes."""
        try:
            from anthrotap_builder.pipeline import label_video
        except ImportError as error:
            raise missing_extra(error) from error
        config = self.config.labeling
        fetch = datasets.DownloadConfig(token=self.token, storage_options=self.storage_options)
        path = datasets.DownloadManager(download_config=fetch).download(file)
        clips = prefetch(lambda lines: label_video(path, config, skipped=lines), left_out, threads=2)
        for clip in clips:
            if clip.left_out:
                left_out.append(clip.left_out)
                continue
            if path != name:  # a downloaded file may be called by a hash
                clip = replace(clip, source_video=urllib.parse.urlsplit(name).path)
            yield encode_row(clip, config.clips.clip_frames)

    def _log(self, split: Any) -> str:
        return os.path.join(self._output_dir, f"failed-{split}.jsonl")

    def _prepare_split(self, split_generator: datasets.SplitGenerator, **kwargs: Any) -> None:
        super()._prepare_split(split_generator, **kwargs)
        problems = _read(split_generator.gen_kwargs["log"])
        num_files = split_generator.gen_kwargs["num_files"]
        if not split_generator.split_info.num_examples:
            first = next((item["reason"] or item["left_out"][0] for item in problems), None)
            raise _no_clips(num_files, first)
        failed = [item["file"] for item in problems if item["reason"]]
        if failed:
            logger.warning(
                "%d of %d videos could not be read (to the end): %s",
                len(failed),
                num_files,
                ", ".join(failed),
            )


def _no_clips(num_files: int, first: str | None) -> VideoError:
    which = "the video gives no clip" if num_files == 1 else f"none of the {num_files} videos gives a clip"
    return VideoError(f"{which} to label" + (f"; {first}" if first else ""))


def _append(path: str, item: dict[str, Any]) -> None:
    line = (json.dumps(item) + "\n").encode()
    # one write of one line: processes share the file
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def _read(path: str) -> list[dict[str, Any]]:
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
