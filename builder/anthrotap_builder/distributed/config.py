"""What a build is asked for."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.distributed.state import BuildFolder


@dataclass(frozen=True)
class OutputConfig:
    """How the rows are arranged; none of it changes a label.

    Attributes:
        validation, test: fractions of the videos in these splits; the rest is "train".
        seed: of the shuffle and the splits. A video stays in its split when others are added.
        shard_bytes: a shard is about this large at most.
        label_only: leave the videos out of the rows, for videos that may not be passed on.
    """

    validation: float = 0.0
    test: float = 0.0
    seed: int = 0
    shard_bytes: int = 256 << 20
    label_only: bool = False

    def split_of(self, source_sha256: str) -> str:
        """The split of a video: its hash as a number in [0, 1) is held against the fractions."""
        position = int.from_bytes(sort_key(f"{self.seed}:{source_sha256}")[:8]) / 2**64
        if position < self.test:
            return "test"
        return "validation" if position < self.test + self.validation else "train"


@dataclass(frozen=True)
class ResourceLimits:
    """What one video may cost.

    Attributes:
        seconds: of wall time.
        memory: bytes that the process that labels it may hold.
        download: bytes of a video that is fetched.
        retries: further attempts where it failed for another reason than what is in the file.
    """

    seconds: float = 3600.0
    memory: int = 8 << 30
    download: int = 8 << 30
    retries: int = 1


@dataclass(frozen=True)
class BuildConfig:
    """Everything that the steps of one build know.

    Attributes:
        out: the dataset's folder.
        labeling: everything that changes a label.
        version: its label version on the machine that began the build; all others must come to the same.
        output: how the rows are arranged.
        limits: what one video may cost.
        threads: frames that one worker works on at once.
        devices: where networks run, one for each worker in turn.
        allow_private: whether videos may come from addresses of this machine and its network.
        write_card: called with the dataset's folder when it is complete, to write its card. A function of a module,
            because other machines load it by its name.
    """

    out: str
    labeling: LabelingConfig
    version: str
    output: OutputConfig = field(default_factory=OutputConfig)
    limits: ResourceLimits = field(default_factory=ResourceLimits)
    threads: int = 1
    devices: tuple[str, ...] = ("cpu",)
    allow_private: bool = False
    write_card: Callable[[Path], object] | None = None

    @property
    def folder(self) -> BuildFolder:
        """The state of the build."""
        return BuildFolder(self.out, self.version)


def sort_key(text: str) -> bytes:
    """A hash to order rows and to split videos by: pseudo-random, but the same in every run."""
    return hashlib.sha256(text.encode()).digest()
