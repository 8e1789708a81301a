"""Labels on the fly: the `datasets` builder behind `load_dataset("anthrotap", data_files=...)`."""

from __future__ import annotations

import json
import logging
import os
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import datasets
from datasets.builder import Key

from anthrotap_builder.config import LABEL_CODE_VERSION, LabelingConfig, labeling_config
from anthrotap_builder.video_result import LISTED, VideoResult
from anthrotap_hf.schema import encode_row, features
from anthrotap_hf.utils.errors import missing_extra
from anthrotap_hf.video import VideoError

logger = logging.getLogger(__name__)


@dataclass
class AnthroTapConfig(datasets.BuilderConfig):
    """The configuration of the builder: `name` is the recipe, `settings` are changes to it, nested as
    LabelingConfig."""

    settings: dict[str, Any] | None = None
    labeling: LabelingConfig = field(init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        self.labeling = labeling_config("open" if self.name == "default" else self.name, self.settings)

    def create_config_id(self, config_kwargs: dict[str, Any], custom_features: datasets.Features | None = None) -> str:
        """The part of the cache's key for the settings; it has the label version, so an old cache is never used."""
        versioned = {**config_kwargs, "label_version": self.labeling.version()}
        return super().create_config_id(versioned, custom_features)


class AnthroTap(datasets.GeneratorBasedBuilder):
    """Labels videos: one example a clip, with the columns of `schema.features`; each video is a shard of work.

    A video that can't be labeled is skipped, one that can't be labeled to its end is cut short, both with a warning
    and a line in `failed-<split>.jsonl` beside the cached data, which also says what was left out of others. If no
    video of a split gives a clip, it is an error.
    """

    BUILDER_CONFIG_CLASS = AnthroTapConfig
    VERSION = datasets.Version(f"{LABEL_CODE_VERSION}.0.0")
    DEFAULT_WRITER_BATCH_SIZE = 8  # a row is a megabyte or two

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(
            description="Point tracks on people: visible, occluded and invalid",
            features=features(self.config.labeling.clips.clip_frames),
        )

    def _split_generators(self, dl_manager: Any) -> list[datasets.SplitGenerator]:
        if not self.config.data_files:
            raise ValueError("nothing to label: name videos with data_files=[...] or a folder with data_dir=...")
        # By split.
        self._without_clips: dict[str, set[str]] = {}
        return [
            datasets.SplitGenerator(
                name=split,
                # `datasets` divides lists among processes.
                gen_kwargs={
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
        try:
            from anthrotap_builder.label_videos import VideoJob, VideoLabeling
        except ImportError as error:
            raise missing_extra(error) from error
        config = self.config.labeling
        # Streaming hands over addresses: a video is fetched when its turn comes.
        fetch = datasets.DownloadConfig(token=self.token, storage_options=self.storage_options)
        for number, (file, name) in enumerate(zip(files, names, strict=True)):
            path = Path(datasets.DownloadManager(download_config=fetch).download(file))
            # A downloaded file may be called by a hash.
            own_name = PurePosixPath(urllib.parse.urlsplit(name).path).name if str(path) != name else ""
            labeling = VideoLabeling(VideoJob(path, config, video=name, name=own_name))
            clips = (clip for clip in labeling if not clip.skipped)
            for row, clip in enumerate(clips):
                yield Key(number, row), encode_row(clip, config.clips.clip_frames)
            self._report(labeling.result, name, split, num_files, log)

    def _report(self, result: VideoResult, name: str, split: str, num_files: int, log: str | None) -> None:
        """Warn of a failure, and keep it for the end of the split."""
        if result.failure:
            logger.warning("%s%s", result.message, "" if result.rows else "; skipped")
        for warning in result.warnings:
            logger.warning("%s: %s", result.video, warning)
        if log:
            lines = {kind: [str(line) for line in getattr(result, kind)] for kind in LISTED}
            if result.failure or any(lines.values()):
                _append(log, {"file": name, "reason": result.message, **lines})
        elif not result.rows:
            # Streaming: there is no end of a split to report at.
            failed = self._without_clips.setdefault(split, set())
            failed.add(name)
            if len(failed) == num_files:
                raise _no_clips(num_files, result.message)

    def _log(self, split: Any) -> str:
        return os.path.join(self._output_dir, f"failed-{split}.jsonl")

    def _prepare_split(self, split_generator: datasets.SplitGenerator, **kwargs: Any) -> None:
        super()._prepare_split(split_generator, **kwargs)
        problems = _read(split_generator.gen_kwargs["log"])
        num_files = split_generator.gen_kwargs["num_files"]
        if not split_generator.split_info.num_examples:
            raise _no_clips(num_files, next((item["reason"] for item in problems if item["reason"]), None))
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
    # Processes share the file: each line is one write.
    with open(path, "ab", buffering=0) as file:
        file.write((json.dumps(item) + "\n").encode())


def _read(path: str) -> list[dict[str, Any]]:
    if not os.path.exists(path):
        return []
    with open(path, encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]
