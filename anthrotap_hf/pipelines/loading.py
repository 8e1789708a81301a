"""Loading a tracker by the name that a user gives."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from anthrotap_hf.models import TRACKERS
from anthrotap_hf.pipelines import DEFAULT_MODEL, find_tracker
from anthrotap_hf.utils.devices import check_device
from anthrotap_hf.utils.errors import AnthroTapError, one_line
from anthrotap_hf.utils.file_limits import (
    MAX_CONFIG_LAYERS,
    MAX_CONFIG_NUMBER,
    MAX_EXPANDED_BYTES,
    MAX_NETWORK_GROWTH,
    FileLimitError,
    read_json,
)
from anthrotap_hf.utils.hub_errors import describe_hub_error

if TYPE_CHECKING:
    from transformers import Pipeline


class TrackerError(AnthroTapError):
    """A tracker that can't be loaded; `path` is its name."""


def _check_config(model: str, revision: str | None) -> None:
    """Raise FileLimitError for a configuration of a network that nobody could build: no memory is taken for it."""
    from transformers.utils import cached_file

    path = cached_file(model, "config.json", revision=revision, _raise_exceptions_for_missing_entries=False)
    waiting = [] if path is None else [("", read_json(Path(path)))]
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, dict):
            waiting.extend((str(key), inner) for key, inner in value.items())
        elif isinstance(value, list):
            waiting.extend((name, inner) for inner in value)
        elif isinstance(value, int | float):
            most = MAX_CONFIG_LAYERS if re.search("layers|blocks|depth", name) else MAX_CONFIG_NUMBER
            # Not a number, which is not below anything, is no size.
            if not abs(value) <= most:
                raise FileLimitError(f"config.json: {name} is {value}, and {most} is the limit")


def _check_weights(model: str, revision: str | None) -> None:
    """Raise TrackerError if a file has not the weights of the network, or has them in other sizes.

    transformers would draw random numbers for those that it lacks. Only the file's header is read, and the network
    takes no memory. Raises FileLimitError if the network is far larger than the file.
    """
    import torch
    from safetensors import safe_open
    from transformers import AutoConfig, AutoModel
    from transformers.utils import cached_file

    path = cached_file(model, "model.safetensors", revision=revision, _raise_exceptions_for_missing_entries=False)
    if path is None:
        return
    config = AutoConfig.from_pretrained(model, revision=revision, trust_remote_code=False)
    with torch.device("meta"):
        network = AutoModel.from_config(config, trust_remote_code=False).state_dict()
    size, there = sum(tensor.nbytes for tensor in network.values()), Path(path).stat().st_size
    # Weights may be stored in half precision, and parts that follow from others left out.
    if size > MAX_NETWORK_GROWTH * there + MAX_EXPANDED_BYTES:
        raise FileLimitError(
            f"config.json is of a network of {size >> 20} MB, and the file of weights has {there / 2**20:.1f} MB"
        )
    if config.model_type not in TRACKERS:
        return
    wanted = {name: [*tensor.shape] for name, tensor in network.items()}
    with safe_open(path, "pt") as file:
        found = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - not a mapping
    other = sorted(name for name in wanted.keys() & found.keys() if wanted[name] != found[name])
    no_such = f"its weights are not those of the {config.model_type} of its config.json: they"
    for reason, names in (
        (f"{no_such} lack", sorted(wanted.keys() - found.keys())),
        (f"{no_such} have besides", sorted(found.keys() - wanted.keys())),
        (
            "its weights are of another size than its config.json says:",
            [f"{name} is {found[name]}, not {wanted[name]}" for name in other],
        ),
    ):
        if names:
            others = f", and {len(names) - 1} more" if len(names) > 1 else ""
            hint = "take both files from one tracker's folder, or convert its checkpoint again"
            raise TrackerError(f"{reason} {names[0]}{others}", path=model, hint=hint)


def load_tracker(
    name: str | None = None,
    device: str = "cpu",
    progress: Callable[[str, int, int | None], object] | None = None,
) -> Pipeline:
    """Load a tracker as `pipeline("point-tracking")`.

    Args:
        name: A bundled or a known name (`anthrotap trackers`), a folder, or a Hub id with or without a pinned
            revision; None: the bundled default. A known one is downloaded and converted when it is first loaded.
        device: The device to run on, as torch names it.
        progress: Called with the kind of work, how many bytes of a download are done, and how many there are; None: a
            bar on a terminal.

    Raises:
        TrackerError: if there is no such tracker, or it can't be loaded; its `argument` is "model".
        AnthroTapError: if there is no such device.
    """
    from safetensors import SafetensorError
    from transformers import pipeline

    from anthrotap_hf.pipelines.known_trackers import without_progress_bars
    from anthrotap_hf.utils.safe_pickle import DAMAGE

    check_device(device)
    try:
        model, revision = (str(DEFAULT_MODEL), None) if name is None else find_tracker(name, progress)
        _check_config(model, revision)
        _check_weights(model, revision)
        # Weights in a pickle could crash the reader, and code of a stranger is never run or asked about.
        options = {"use_safetensors": True}
        with without_progress_bars():
            return pipeline(
                "point-tracking",
                model=model,
                revision=revision,
                device=device,
                trust_remote_code=False,
                model_kwargs=options,
            )
    except (*DAMAGE, OSError, SafetensorError) as error:
        known: AnthroTapError | None = describe_hub_error(error, str(name))
        if known is None and isinstance(error, AnthroTapError):
            known = error
        if known is not None:
            raise TrackerError(known.reason, path=known.path or name, hint=known.hint, argument="model") from error
        # Where transformers tried several classes, it quotes the tracebacks of all; the last line is the error.
        text = str(error).strip()
        reason = text.splitlines()[-1] if "Traceback (most" in text else text or type(error).__name__
        raise TrackerError(one_line(reason, 500), path=name, argument="model") from error
