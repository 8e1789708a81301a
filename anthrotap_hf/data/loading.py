"""`load_dataset("anthrotap")`: videos that are labeled on the fly, or published shards."""

from __future__ import annotations

import glob
import inspect
import os
import warnings
from functools import wraps
from typing import TYPE_CHECKING, Any

from anthrotap_hf.utils.dataset_cards import check_dataset_card
from anthrotap_hf.utils.errors import missing_extra
from anthrotap_hf.utils.hub_names import DATASET_NAME, published_path, split_revision

if TYPE_CHECKING:
    from types import ModuleType

    from datasets.data_files import DataFilesDict


def load_dataset(
    path: str = DATASET_NAME,
    name: str | None = None,
    *,
    data_files: Any = None,
    data_dir: str | os.PathLike[str] | None = None,
    split: Any = None,
    streaming: bool = False,
    **options: Any,
) -> Any:
    """As `datasets.load_dataset("anthrotap", ...)`, but without the hook into `datasets`.

    Args:
        path: "anthrotap"; another path goes to `datasets` as it is.
        name: the recipe, a published configuration of the labels.
        data_files: videos to label now: paths, patterns or addresses, or a dict of them by split.
        data_dir: a folder; without `data_files`, all videos in and below it are labeled, as split "train".
            With neither, published shards are loaded: from the Hub id or the folder in ANTHROTAP_REPO, or, if it is
            not set, the sample that comes with the package. The argument `revision` wins over a revision in
            ANTHROTAP_REPO.
        split, streaming: as in `datasets.load_dataset`.
        options: other arguments of `datasets.load_dataset`, such as `cache_dir`, `num_proc` and `download_mode`; for
            videos also `settings={"clips": {"fps": 10}}`, changes to the recipe, nested as
            anthrotap_builder.config.LabelingConfig is.

    Raises:
        ImportError: if labeling needs a package that is not installed.
        AnthroTapError: if `revision` or `token` is given for the sample, or `revision` for a folder.
        FileNotFoundError: if there are no such files.
        ValueError: if there is no such recipe or setting.
    """
    import datasets

    data_dir = None if data_dir is None else os.fspath(data_dir)
    if path != DATASET_NAME or (data_files is None and data_dir is None):
        options |= {"data_files": data_files, "data_dir": data_dir, "split": split, "streaming": streaming}
        if path == DATASET_NAME:
            path = _published(options, options.get("token"))
        return datasets.load_dataset(path, name, **options)
    preparation = {key: options.pop(key) for key in ("num_proc", "download_mode") if key in options}
    builder = _builder_module().AnthroTap(
        dataset_name=DATASET_NAME, config_name=name, data_files=_find_files(data_files, data_dir), **options
    )
    if streaming:
        return builder.as_streaming_dataset(split=split)
    builder.download_and_prepare(**preparation)
    return builder.as_dataset(split=split)


def register_dataset_name(module: ModuleType) -> None:
    """Let `datasets` serve the name "anthrotap".

    `datasets` has no entry point for this. Its `load_dataset` looks up `dataset_module_factory` when it is
    called, so wrapping that works under any earlier `from datasets import load_dataset`.

    Args:
        module: `datasets.load`.
    """
    original = getattr(module, "dataset_module_factory", None)
    if original is None:
        warnings.warn(
            "this version of datasets lacks datasets.load.dataset_module_factory: load_dataset('anthrotap') "
            "is not served; anthrotap_hf.load_dataset() does the same",
            stacklevel=2,
        )
        return
    if hasattr(original, "serves_anthrotap"):
        return
    signature = inspect.signature(original)

    @wraps(original)
    def factory(*args: Any, **kwargs: Any) -> Any:
        bound = signature.bind(*args, **kwargs)
        given = bound.arguments
        if given["path"] != DATASET_NAME:
            return original(*args, **kwargs)
        files, folder = given.get("data_files"), given.get("data_dir")
        if files is None and folder is None:
            # `datasets` hands the token on within the settings of downloads.
            given["path"] = _published(given, getattr(given.get("download_config"), "token", None))
            return original(*bound.args, **bound.kwargs)
        found = _find_files(files, folder, given.get("download_config"))
        return module.DatasetModule(
            _builder_module().__name__,
            None,
            {"data_files": found, "data_dir": None, "dataset_name": DATASET_NAME},
        )

    factory.serves_anthrotap = True  # type: ignore[attr-defined]
    module.dataset_module_factory = factory  # type: ignore[attr-defined]


def _published(arguments: dict[str, Any], token: str | bool | None = None) -> str:
    """Return where the published labels are; `arguments` get the revision that is pinned, if they name none.

    Raises AnthroTapError if they have no revision or token that is asked for, and DatasetCardError if their card names
    what is no file of theirs.
    """
    path, revision = split_revision(published_path(arguments.get("revision"), token))
    if arguments.get("revision") is None and revision is not None:
        arguments["revision"] = revision
    check_dataset_card(path, arguments.get("revision"), token)
    return path


def _builder_module() -> ModuleType:
    """The module of the `datasets` builder, if everything that labeling needs is installed."""
    try:
        import anthrotap_builder.hf_dataset
        import anthrotap_builder.pipeline
    except ImportError as error:
        raise missing_extra(error) from error
    return anthrotap_builder.hf_dataset


def _find_files(data_files: Any, data_dir: Any, download_config: Any = None) -> DataFilesDict:
    """The videos by split, with what their cache key needs."""
    from datasets.data_files import DataFilesDict, sanitize_patterns

    folder = os.path.abspath(os.path.expanduser(data_dir or "."))
    if data_files is None:
        from anthrotap_hf.video import VIDEO_SUFFIXES

        if not os.path.isdir(folder):
            raise FileNotFoundError(f"{data_dir}: no such folder; data_dir names a folder of videos")
        suffixes = [*VIDEO_SUFFIXES, *(suffix.upper() for suffix in VIDEO_SUFFIXES)]
        found = DataFilesDict.from_patterns({"train": ["**"]}, base_path=folder, allowed_extensions=suffixes)
        if not any(found.values()):
            raise FileNotFoundError(f"{data_dir}: no video in this folder ({' '.join(VIDEO_SUFFIXES)})")
        return found
    if isinstance(data_files, os.PathLike):
        data_files = os.fspath(data_files)
    patterns = {
        split: [_pattern(os.fspath(file), folder) for file in files]
        for split, files in sanitize_patterns(data_files).items()
    }
    found = DataFilesDict.from_patterns(patterns, base_path=folder, download_config=download_config)
    for split, files in found.items():
        if not files:
            raise FileNotFoundError(f"{', '.join(patterns[split])}: no such file; check data_files")
    return found


def _pattern(file: str, folder: str) -> str:
    """A file as a pattern that matches it alone: its name may hold characters of a pattern, as in clip[1].mp4."""
    path = os.path.join(folder, os.path.expanduser(file))
    if os.path.isdir(path):
        raise FileNotFoundError(f"{file}: this is a folder; pass it as data_dir, or name the files in it")
    return glob.escape(path) if os.path.isfile(path) else file
