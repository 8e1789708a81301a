"""The released trackers that are known by name: the table, where each lies in the cache, and getting its file."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from anthrotap_hf.models import TRACKERS
from anthrotap_hf.utils.downloads import DownloadError, OnBytes, cache_dir, check_sha256, download, pin_of
from anthrotap_hf.utils.errors import AnthroTapError
from anthrotap_hf.utils.file_limits import FileLimitError, read_json
from anthrotap_hf.utils.registry import Registry

if TYPE_CHECKING:
    from transformers import PreTrainedModel

logger = logging.getLogger(__name__)

CONVERSION = 3
"""The version of what is made of released files. Raise it whenever a converter makes something else of the same file:
trackers in the cache are converted again then."""

MIRROR_VARIABLE = "ANTHROTAP_MIRROR"
"""An address that has the files of `BUCKETS` under the same paths; HF_ENDPOINT is the one for those of the Hub."""
BUCKETS = "https://storage.googleapis.com"

CONVERTERS = Registry(
    "tracker",
    {name: f"anthrotap_hf.models.{name}.convert_{name}:convert_{name}" for name in TRACKERS if name != "flowchain"},
)
"""What makes a model of a released file, by architecture: called with the file and the options of the table."""


class CheckpointUnavailableError(AnthroTapError):
    """A known tracker's file is not here and can't be had, or is another one; `path` is the tracker's name."""


@dataclass(frozen=True)
class HubFile:
    """A file of the Hugging Face Hub. `type` is that of the repository: "model" or "dataset"."""

    repository: str
    file: str
    type: str


@dataclass(frozen=True)
class FileByHand:
    """A file that a person must get: from which page, and under which name to put it into the cache."""

    file: str
    page: str


@dataclass(frozen=True)
class Checkpoint:
    """A released tracker.

    Attributes:
        name: what users call it.
        architecture: a name of `TRACKERS`.
        title: its name in tables.
        license: an identifier of the Hub, or "unknown".
        terms: where the license is stated.
        hub, url, by_hand: where its file lies; one of them is set.
        bytes: the file's size, in round figures; None if unknown.
        sha256: of the file; None if unknown: that of the first file that was converted is kept then.
        trained_on: the data; None if no source at hand tells.
        resolution: (height, width) that it is best at as published; None if unknown.
        convert: what its file does not tell the converter.
        figures: published ones: `benchmark`, `source`, sometimes `resolution`, and metrics in percent.
    """

    name: str
    architecture: str
    title: str
    license: str
    terms: str
    hub: HubFile | None = None
    url: str | None = None
    by_hand: FileByHand | None = None
    bytes: int | None = None
    sha256: str | None = None
    trained_on: str | None = None
    resolution: tuple[int, int] | None = None
    convert: Mapping[str, Any] = field(default_factory=dict)
    figures: tuple[Mapping[str, Any], ...] = ()

    @property
    def file_name(self) -> str:
        if self.url is not None:
            return self.url.rpartition("/")[2]
        return (self.hub or self.by_hand).file  # type: ignore[union-attr]

    @property
    def address(self) -> str:
        """Where the file is downloaded from; for one that a person must get, the page that says how."""
        if self.by_hand is not None:
            return self.by_hand.page
        if self.hub is not None:
            from huggingface_hub import hf_hub_url

            return hf_hub_url(self.hub.repository, self.hub.file, repo_type=self.hub.type)
        url, mirror = self.url or "", os.environ.get(MIRROR_VARIABLE)
        return url.replace(BUCKETS, mirror.rstrip("/"), 1) if mirror else url

    @property
    def home(self) -> str:
        """Where the file lies, in short, whatever mirror is used."""
        if self.hub is not None:
            return f"{'datasets/' if self.hub.type == 'dataset' else ''}{self.hub.repository} on the Hub"
        return self.by_hand.page if self.by_hand is not None else self.url or ""

    @property
    def folder(self) -> Path:
        """Its folder in the cache: the file, if it was put there, and the converted `model`."""
        return cache_dir() / "trackers" / self.name

    @property
    def model_folder(self) -> Path:
        return self.folder / "model"

    @property
    def is_converted(self) -> bool:
        """Whether its folder has the model, as this release converts it."""
        try:
            return bool(read_json(self.model_folder / "provenance.json").get("conversion") == CONVERSION)
        except (OSError, FileLimitError, AttributeError):
            return False

    def say_license(self) -> str:
        """Return a sentence on its license."""
        if self.license == "unknown":
            return f"its license is unknown: {self.terms}"
        kind = ", for non-commercial use only" if "-nc" in self.license else ""
        return f"its license is {self.license}{kind} ({self.terms})"

    def load(self, file: Path) -> PreTrainedModel:
        """Return the model of its released file. Raises CheckpointError if the file is of another kind or damaged."""
        model: PreTrainedModel = CONVERTERS.load(self.architecture)(file, **self.convert)
        return model

    def find_file(self, on_bytes: OnBytes = lambda done, total: None) -> tuple[Path, bool]:
        """Return its released file, and whether it was downloaded for this: then nobody else needs it.

        It is looked for in `folder`, then in the cache of the Hub's client, and then downloaded.

        Raises:
            CheckpointUnavailableError: it can't be had, or is another file; the hint says what to put where.
        """
        file = self.folder / self.file_name
        own = file.is_file()
        found = file if own else self._in_cache_of_hub()
        try:
            if found is not None:
                check_sha256(found, self.sha256, pin_of(file))
                return found, False
        except DownloadError as error:
            hint = error.hint or "delete it, or replace it by the released file"
            raise CheckpointUnavailableError(f"{found}: {error.reason}", path=self.name, hint=hint) from error
        put = f"get {self.file_name} from {self.home} and put it at {file}"
        if self.by_hand is not None:
            raise CheckpointUnavailableError(
                "it can't be downloaded without a person",
                path=self.name,
                hint=f"get it from {self.home} and put it at {file}",
            )
        from huggingface_hub import constants

        if constants.HF_HUB_OFFLINE:
            reason = "not in the cache, and HF_HUB_OFFLINE=1 forbids to download it"
            raise CheckpointUnavailableError(reason, path=self.name, hint=f"load it once online, or {put}")
        size = f" ({self.bytes / 1e6:.0f} MB, once)" if self.bytes else ""
        logger.warning("downloading %s from %s%s", self.name, self.address, size)
        try:
            download(self.address, file, self.sha256, self._headers(), on_bytes)
        except DownloadError as error:
            hint = "; ".join(filter(None, [error.hint, f"or {put}" if error.hint else put]))
            if self.url not in (None, self.address):
                hint = f"{MIRROR_VARIABLE} names this server; {hint}"
            raise CheckpointUnavailableError(f"{error.path}: {error.reason}", path=self.name, hint=hint) from error
        return file, True

    def _in_cache_of_hub(self) -> Path | None:
        if self.hub is None:
            return None
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(self.hub.repository, self.hub.file, repo_type=self.hub.type)
        return Path(found) if isinstance(found, str) else None

    def _headers(self) -> dict[str, str]:
        """Return the user's token for files of the Hub: it gives more downloads an hour, and gated ones."""
        if self.hub is None:
            return {}
        from huggingface_hub import get_token

        token = get_token()
        return {"Authorization": f"Bearer {token}"} if token else {}


@cache
def checkpoints() -> dict[str, Checkpoint]:
    """Return the table `checkpoints.yaml`, by name."""
    rows = yaml.safe_load(Path(__file__).with_name("checkpoints.yaml").read_text("utf-8"))
    return {name: _row(name, values) for name, values in rows.items()}


def _row(name: str, values: dict[str, Any]) -> Checkpoint:
    if "hub" in values:
        values["hub"] = HubFile(**values["hub"])
    if "by_hand" in values:
        values["by_hand"] = FileByHand(**values["by_hand"])
    for key in ("resolution", "figures"):
        if key in values:
            values[key] = tuple(values[key])
    return Checkpoint(name, **values)
