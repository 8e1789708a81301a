"""Checks the card of a dataset before the `datasets` library sees it, which looks up all that a card names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

from anthrotap_hf.utils.errors import AnthroTapError, one_line
from anthrotap_hf.utils.hub_names import is_repository

# The files that `datasets` takes settings from, and how they stand in the first one.
CARD, SETTINGS = "README.md", ".huggingface.yaml"
# What begins an address.
SCHEME = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*:")
FRONT = re.compile(r"\s*---[ \t]*[\r\n]+(.*?)[\r\n]+---[ \t]*([\r\n]|$)", re.DOTALL)
# Cards describe all columns; ours have a few kilobytes.
MAX_CARD_BYTES = 4 << 20


class DatasetCardError(AnthroTapError):
    """A card names what is no file of its dataset."""


def check_dataset_card(name: str, revision: str | None = None, token: str | bool | None = None) -> None:
    """Raise DatasetCardError if a dataset's card names other files or addresses as its own: none of these is opened.

    Cards come from strangers: an address in one may be of this machine or its network, and a path any file of it.

    Args:
        name: a folder, or a Hub id, whose card is fetched from the Hub. One that is neither, or has no card, passes.
        revision, token: of the Hub id, as `datasets.load_dataset` takes them.
    """
    for path in _files_of(name, revision, token):
        with path.open("rb") as file:
            content = file.read(MAX_CARD_BYTES + 1)
        if len(content) > MAX_CARD_BYTES:
            raise DatasetCardError(f"its {path.name} has more than {MAX_CARD_BYTES >> 20} MB", path=name)
        text = content.decode(errors="replace")
        if path.name == CARD:
            front = FRONT.match(text)
            text = front[1] if front else ""
        try:
            settings = yaml.safe_load(text)
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            raise DatasetCardError(f"its {path.name} cannot be read as YAML: {one_line(error)}", path=name) from error
        for named in _texts(settings.get("configs") if isinstance(settings, dict) else None):
            if not _is_own(named, name):
                raise DatasetCardError(
                    f"its card names {_plain(named)}, which is no file of the dataset",
                    path=name,
                    hint="name that file as an input to read it",
                )


def _files_of(name: str, revision: str | None, token: str | bool | None) -> list[Path]:
    """Return the files that a dataset has settings in."""
    folder = Path(name)
    if os.path.isdir(name):
        return [path for path in (folder / CARD, folder / SETTINGS) if path.is_file()]
    if not is_repository(name):
        return []
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError, LocalEntryNotFoundError

    found = []
    for file in (CARD, SETTINGS):
        try:
            found.append(Path(hf_hub_download(name, file, repo_type="dataset", revision=revision, token=token)))
        except LocalEntryNotFoundError:
            # The Hub cannot be reached, and each try takes long.
            break
        except (OSError, EntryNotFoundError, HFValidationError):
            # The library tells why a dataset cannot be had; it may also have no such file.
            continue
    return found


def _is_own(named: str, name: str) -> bool:
    """Return whether what a card names can only be a file of its dataset, or no file at all."""
    # fsspec, which opens what is named, also knows addresses without slashes: "file:/etc/hostname".
    if SCHEME.match(named) or "://" in named or "::" in named:
        own = f"hf://datasets/{name}/", f"hf://datasets/{name}@"
        return "::" not in named and ".." not in named.split("/") and named.startswith(own)
    if named.lstrip().startswith("~"):
        return False
    if os.path.isdir(name):
        return Path(os.path.abspath(os.path.join(name, named))).is_relative_to(os.path.abspath(name))
    return not os.path.isabs(named) and ".." not in Path(named).parts


def _texts(value: Any) -> Iterator[str]:
    """Yield all texts in a value, however deep."""
    waiting, seen = [value], set()
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, dict | list) and id(each) not in seen:
            # Aliases of YAML may lead in circles.
            seen.add(id(each))
            waiting.extend(each if isinstance(each, list) else [*each.keys(), *each.values()])


def _plain(address: str) -> str:
    """Return an address without user, password and what stands behind a question mark."""
    if "://" not in address:
        return one_line(address)
    try:
        parts = urlsplit(address)
        return one_line(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")
    except ValueError:
        return one_line(re.split(r"[?#]", address)[0])
