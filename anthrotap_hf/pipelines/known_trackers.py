"""A known tracker by its name: downloaded, checked and converted into the cache, once, when it is first used."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub.utils import tqdm
from transformers.utils import logging as transformers_logging

from anthrotap_hf.models.checkpoints import CONVERSION, Checkpoint, CheckpointUnavailableError
from anthrotap_hf.utils.atomic_files import atomic_dir
from anthrotap_hf.utils.checkpoints import CheckpointError
from anthrotap_hf.utils.downloads import OnBytes, pin_of, pin_sha256
from anthrotap_hf.utils.folder_lock import locked_folder
from anthrotap_hf.utils.provenance import Component, Provenance

if TYPE_CHECKING:
    from anthrotap_hf.pipelines.image_processing_point_tracking import PointTrackingImageProcessor

logger = logging.getLogger(__name__)

Progress = Callable[[str, int, int | None], object] | None
"""Called with the kind of work ("downloading tapir"), how many bytes are done, and how many there are, if known."""


def prepare(checkpoint: Checkpoint, progress: Progress = None) -> Path:
    """Return the folder of a known tracker, for `from_pretrained`. It is made at the first call.

    It is made again where an earlier release converted it otherwise; if its file can't be had then, a warning says so,
    and the earlier model is used. The image processor has the published resolution. Only one process makes it; others
    that want it wait.

    Args:
        checkpoint: which one.
        progress: see `Progress`; None: a bar on a terminal.

    Raises:
        CheckpointUnavailableError: its file can't be had; the hint says what to put where.
        CheckpointError: its file is no such checkpoint.
        OSError: the cache can't be written.
    """
    if checkpoint.is_converted:
        return checkpoint.model_folder
    with locked_folder(checkpoint.folder, wait=True):
        if not checkpoint.is_converted:
            _make(checkpoint, progress)
    return checkpoint.model_folder


def _make(checkpoint: Checkpoint, progress: Progress) -> None:
    from anthrotap_hf.pipelines.point_tracking import PointTrackingPipeline

    try:
        with ExitStack() as stack:
            file, downloaded = checkpoint.find_file(_on_bytes(f"downloading {checkpoint.name}", progress, stack))
    except CheckpointUnavailableError as error:
        if not (checkpoint.model_folder / "config.json").is_file():
            raise
        logger.warning("used as an earlier release converted it, since its file can't be had: %s", error)
        return
    logger.warning("%s: %s", checkpoint.name, checkpoint.say_license())
    if progress is not None:
        progress(f"converting {checkpoint.name}", 0, None)
    pin = pin_of(checkpoint.folder / checkpoint.file_name)
    try:
        model = checkpoint.load(file)
    except CheckpointError as error:
        hint = error.hint or f"it should be {checkpoint.title}"
        if downloaded and checkpoint.sha256 is None:
            # Nobody vouches for it: it may be the page of a proxy, or of a login.
            file.unlink()
            pin.unlink(missing_ok=True)
            hint = f"{hint}; the download was deleted: the same command downloads it again"
        raise CheckpointError(error.reason, path=file, hint=hint) from error
    # Who publishes the weights, or what is trained from them, must know their license.
    weights = Component(f"{checkpoint.title}'s released weights", checkpoint.license, checkpoint.terms, is_weights=True)
    with without_progress_bars(), atomic_dir(checkpoint.model_folder) as tmp_path:
        processor = image_processor_of(checkpoint, model.config)
        PointTrackingPipeline(model, image_processor=processor, device="cpu").save_pretrained(tmp_path)
        provenance = Provenance.of_conversion(Path(checkpoint.file_name), weights)
        replace(provenance, conversion=CONVERSION).write(tmp_path)
    if checkpoint.sha256 is None:
        pin_sha256(file, pin)
    if downloaded:
        # The model has all that is needed of it; its SHA-256 stays.
        file.unlink()


def image_processor_of(checkpoint: Checkpoint, config: Any) -> PointTrackingImageProcessor:
    """Return the image processor of a known tracker: at its published resolution, or else at its configuration's."""
    from anthrotap_hf.pipelines.image_processing_point_tracking import PointTrackingImageProcessor

    usual = PointTrackingImageProcessor.for_model(config)
    if checkpoint.resolution is None:
        return usual
    size = dict(zip(("height", "width"), checkpoint.resolution, strict=True))
    return PointTrackingImageProcessor(size, usual.size_divisor, usual.do_rescale)


@contextmanager
def without_progress_bars() -> Iterator[None]:
    """Keep transformers from showing bars: reading and writing weights takes a moment only."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _on_bytes(what: str, progress: Progress, stack: ExitStack) -> OnBytes:
    if progress is not None:
        return lambda done, total: progress(what, done, total)
    bar: list[Any] = []

    def show(done: int, total: int | None) -> None:
        if not bar:
            # None: not without a terminal.
            options: dict[str, Any] = {
                "unit": "B",
                "unit_scale": True,
                "unit_divisor": 1000,
                "disable": None,
                "leave": False,
            }
            make: Any = tqdm
            bar.append(stack.enter_context(make(desc=what, total=total, initial=done, **options)))
        bar[0].update(done - bar[0].n)

    return show
