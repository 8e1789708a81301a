"""What a build is asked for."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.distributed.state import BuildFolder


@dataclass(frozen=True)
class Finish:
    """How the rows are arranged; none of it changes a label.

    Attributes:
        validation, test: shares of the videos in these splits; the rest is "train".
        seed: of the shuffle and the splits. A video stays in its split when others are added.
        shard_bytes: a shard is about this large at most.
        label_only: leave the videos out of the rows, as for videos that may not be passed on.
    """

    validation: float = 0.0
    test: float = 0.0
    seed: int = 0
    shard_bytes: int = 256 << 20
    label_only: bool = False

    def split(self, source_sha256: str) -> str:
        """The split of a video."""
        place = int.from_bytes(digest(f"{self.seed}:{source_sha256}")[:8]) / 2**64
        if place < self.test:
            return "test"
        return "validation" if place < self.test + self.validation else "train"


@dataclass(frozen=True)
class Limits:
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
class Build:
    """Everything that the steps of one build know.

    Attributes:
        out: the dataset's folder.
        config: everything that changes a label.
        version: its label version.
        finish: how the rows are arranged.
        limits: what one video may cost.
        threads: frames that one worker works on at once.
        devices: where networks run, one for each worker in turn.
    """

    out: str
    config: LabelingConfig
    version: str
    finish: Finish = field(default_factory=Finish)
    limits: Limits = field(default_factory=Limits)
    threads: int = 1
    devices: tuple[str, ...] = ("cpu",)

    @property
    def folder(self) -> BuildFolder:
        return BuildFolder(self.out, self.version)


def digest(text: str) -> bytes:
    """What rows are ordered and split by: for each text another number, always the same."""
    return hashlib.sha256(text.encode()).digest()
