"""What came of labeling one video: `VideoResult`, and the sentences about what was left out and what went wrong."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from anthrotap_builder.clips import SkippedFrames
from anthrotap_builder.detection.labeled_motion import LabeledMotion
from anthrotap_builder.shards import Tally
from anthrotap_builder.utils.assets import AssetError
from anthrotap_hf.utils.errors import one_line
from anthrotap_hf.utils.workers import LimitExceededError, WorkerDiedError, WorkerError

if TYPE_CHECKING:
    from anthrotap_builder.pipeline import LabeledClip

# Where a larger fraction of the moving area has no label near, somebody may have none; if at least so many cells move.
MAX_UNLABELED_MOTION = 0.6
MIN_MOVING_CELLS = 30
# Errors of the system that are no video's fault: all other videos would meet them too.
SYSTEM_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EMFILE}
# What a `VideoResult` lists in lines, beside the failure.
LISTED = ("skipped", "unlabeled", "warnings")
FailureKind = Literal["content", "error", "limit", "unavailable"]


@dataclass(frozen=True)
class UnlabeledPerson:
    """A person who was found in a clip and has no track there. As text: "person 3, 48 frames from frame 0 on: no label:
    reason".

    Attributes:
        person: the number in the video.
        start_frame: the number of the clip's first frame among the decoded frames of the video.
        num_frames: of the clip.
        reason: why, in a few words.
    """

    person: int
    start_frame: int
    num_frames: int
    reason: str

    def __str__(self) -> str:
        return f"person {self.person}, {SkippedFrames(self.start_frame, self.num_frames, f'no label: {self.reason}')}"


@dataclass
class VideoResult:
    """What came of one video.

    Attributes:
        video: how messages name it.
        name: the file's name, without its folder.
        sha256: of its bytes; None if it could not be read.
        source: the `Source.key` of a build's video.
        rows: clips with labels; None in a build where an earlier plan has labeled a video of the same bytes.
        frames: of these clips.
        tally: counts over all clips, also those without labels.
        skipped: frames that make no row.
        people: the numbers of all people found. One who is not recognized in a later clip has another number there.
        labeled_people: those of them who have tracks.
        unlabeled: people without a track in a clip, clip by clip.
        motion: what moves, and how much of it has labels.
        failure: why it gave no labels, or not all of them, without its name; None if all went well.
        failure_kind: "content" for what is in the file (also if there is nothing to label), "error" for an error in
            labeling or of its process, "limit" for one that takes too much, "unavailable" for a file that can't be
            fetched or read now.
        exceeded: which of the limits of a build it exceeded, and how much that limit allowed.
        attempts: how often it was tried.
        seconds: wall time of the last attempt.
        clips: the numbers of each clip with labels, by `summarize_clip`.
        overlay: the name of the overlay video that is left for it; None if there is none.
    """

    video: str
    name: str = ""
    sha256: str | None = None
    source: str = ""
    rows: int | None = 0
    frames: int = 0
    tally: Tally = field(default_factory=Tally)
    skipped: list[SkippedFrames] = field(default_factory=list)
    people: list[int] = field(default_factory=list)
    labeled_people: list[int] = field(default_factory=list)
    unlabeled: list[UnlabeledPerson] = field(default_factory=list)
    motion: LabeledMotion = field(default_factory=LabeledMotion)
    failure: str | None = None
    failure_kind: FailureKind = "content"
    exceeded: dict[str, float] = field(default_factory=dict)
    attempts: int = 1
    seconds: float = 0.0
    clips: list[dict[str, Any]] = field(default_factory=list)
    overlay: str | None = None

    @property
    def message(self) -> str | None:
        """The failure in one line with the video's name."""
        return self.failure and f"{self.video}: {self.failure}"

    @property
    def warnings(self) -> list[str]:
        """What to look at in a video with labels, a line each without its name."""
        unlabeled = self.motion.unlabeled_fraction
        if self.rows == 0 or self.motion.moving < MIN_MOVING_CELLS or unlabeled <= MAX_UNLABELED_MOTION:
            return []
        look = f"look at {self.overlay}" if self.overlay else "`anthrotap label` draws an overlay of it to look at"
        return [f"{100 * unlabeled:.0f} % of the area that moves has no label near: {look}"]

    @property
    def is_final(self) -> bool:
        """Whether another attempt at the same file under the same limits would give the same."""
        return self.failure is None or self.failure_kind in ("content", "limit")

    def see(self, person: int, start_frame: int, num_frames: int, no_track: str | None) -> None:
        """Count a person of a clip, who has tracks there, or none for the reason `no_track`."""
        if person not in self.people:
            self.people.append(person)
        if no_track is not None:
            self.unlabeled.append(UnlabeledPerson(person, start_frame, num_frames, no_track))
        elif person not in self.labeled_people:
            self.labeled_people.append(person)

    def fail(self, reason: str, kind: FailureKind) -> None:
        """Set the failure."""
        self.failure, self.failure_kind = reason, kind

    def fail_with_worker(self, error: WorkerError) -> None:
        """Set the failure for a process that gave no result."""
        if isinstance(error, LimitExceededError):
            self.exceeded = {error.limit: error.allowed}
            if error.limit == "seconds":
                reason = f"took longer than {error.allowed / 60:.3g} minutes"
            else:
                reason = f"needed more than {error.allowed / 2**30:g} GB of memory"
            self.fail(reason, "limit")
        elif isinstance(error, WorkerDiedError) and error.signal_name:
            hint = ": out of memory?" if error.signal_name == "SIGKILL" else ""
            self.fail(f"crashed the process that labeled it ({error.signal_name}{hint})", "error")
        elif isinstance(error, WorkerDiedError):
            self.fail(f"ended the process that labeled it (code {error.exit_code})", "error")
        else:
            self.fail(describe_error(error), "error")

    def as_json(self) -> dict[str, Any]:
        """All of it as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> VideoResult:
        """The result that `as_json` gave; fields that an older version did not have are as in a new result."""
        made = {
            "skipped": [SkippedFrames(**frames) for frames in values.get("skipped", [])],
            "unlabeled": [UnlabeledPerson(**person) for person in values.get("unlabeled", [])],
            "motion": LabeledMotion(**values.get("motion", {})),
            "tally": Tally(**values.get("tally", {})),
        }
        return cls(**{**values, **made})

    def totals(self) -> dict[str, Any]:
        """Numbers of the whole video: counts are sums, `people` those with labels, the rest are means."""
        labels = max(sum(clip["labels"] for clip in self.clips), 1)

        def mean(key: str) -> float:
            return float(np.mean([clip[key] for clip in self.clips])) if self.clips else float("nan")

        stages = dict.fromkeys(stage for clip in self.clips for stage in clip["stages"])
        return {
            "frames": self.frames,
            "clips": len(self.clips),
            "people": len(self.labeled_people),
            "people_found": len(self.people),
            "unlabeled_motion": self.motion.unlabeled_fraction,
            "tracks": sum(clip["tracks"] for clip in self.clips),
            **{key: sum(clip[key] for clip in self.clips) / labels for key in ("visible", "occluded", "invalid")},
            **{key: mean(key) for key in ("rejected", "fit_error", "mask_overlap")},
            "seconds": self.seconds,
            **{f"{stage}_seconds": sum(clip["stages"].get(stage, 0.0) for clip in self.clips) for stage in stages},
        }


def summarize_clip(clip: LabeledClip) -> dict[str, Any]:
    """The numbers of one labeled clip: its people, tracks and labels, the quality of its meshes, seconds by stage."""
    tracks = clip.tracks
    people = [person for person in clip.people if person["tracks"]]

    def mean(key: str) -> float:
        return float(np.mean([person[key] for person in people])) if people else float("nan")

    return {
        "clip_id": clip.clip_id,
        "frames": tracks.num_frames,
        "people": len(people),
        "tracks": len(tracks),
        "labels": tracks.valid.size,
        **{key: int(getattr(tracks, key).sum()) for key in ("visible", "occluded", "invalid")},
        "rejected": clip.rejected_fraction,
        "fit_error": mean("reprojection_error"),
        "mask_overlap": mean("mask_overlap"),
        "unlabeled_motion": clip.motion.unlabeled_fraction,
        "stages": clip.seconds,
        "fits": clip.people,
    }


def concerns_all_videos(error: BaseException) -> bool:
    """Whether an error is no video's fault, so that all other videos would meet it too."""
    if isinstance(error, OSError):
        return error.errno in SYSTEM_ERRORS
    return isinstance(error, (AssetError, ImportError, MemoryError))


def describe_error(error: BaseException) -> str:
    """An error of someone else's code in one line: its type and text, without the path of a file."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else error
    return f"{type(error).__name__}: {one_line(text, 1000)}"
