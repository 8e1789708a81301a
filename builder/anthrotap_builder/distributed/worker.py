"""Labels one video after the other in a process of its own: what a bad video breaks is this process, and nothing else.

Run as `python -m anthrotap_builder.distributed.worker` it answers lines of JSON on its standard input; `LabelWorker` starts
it, watches its time and memory, and starts another one when it is gone.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import psutil
import pyarrow as pa

from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.distributed.config import Limits
from anthrotap_builder.distributed.processes import end_with_parent
from anthrotap_builder.distributed.row_file import DamagedError, RowReader, atomic_rows, quarantine
from anthrotap_builder.distributed.state import BuildError, VideoResult, part_file
from anthrotap_builder.distributed.video_sources import Source, SourceError, fetched
from anthrotap_builder.utils.assets import AssetError
from anthrotap_builder.utils.prefetch import prefetch
from anthrotap_hf.utils.atomic_files import file_sha256

if TYPE_CHECKING:
    from anthrotap_builder.pipeline import LabeledClip

logger = logging.getLogger(__name__)

OUTCOME = "anthrotap.outcome"
STARTS = 5  # in vain, before the build gives up
LOOK_EVERY = 0.1  # seconds between two looks at the memory
NOT_THE_VIDEOS_FAULT = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EMFILE}


@dataclass(frozen=True)
class LabelerJob:
    """What the process is told as it begins.

    Attributes:
        config: everything that changes a label, as `LabelingConfig` reads it.
        version: the label version that must come out.
        videos: the folder of finished videos' rows.
        known: an .npy file of sorted SHA-256 of videos that need no labels again.
        scratch: a folder for copies and temporary files.
        download: bytes of a video that is fetched, at most.
        threads: frames worked on at once.
        device: where networks run.
    """

    config: dict[str, Any]
    version: str
    videos: str
    known: str | None
    scratch: str
    download: int
    threads: int = 1
    device: str = "cpu"


class LabelWorker:
    """Has videos labeled, in a process that is started when it is first needed.

    Args:
        job: what it is told.
        limits: for each video.
        log: a file for what the process and its libraries say.
    """

    def __init__(self, job: LabelerJob, limits: Limits, log: Path) -> None:
        self.job = job
        self.limits = limits
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.Queue[bytes] = queue.Queue()
        self._reason: str | None = None  # why it is to be ended
        self._exceeded: dict[str, float] = {}

    def close(self) -> None:
        """Ends the process."""
        self._end()
        shutil.rmtree(self.job.scratch, ignore_errors=True)

    def start(self) -> None:
        """Starts the process, if none runs, and waits until it has loaded what it needs.

        Raises:
            BuildError: if something that every video needs is missing.
        """
        reasons: list[str] = []
        while self._process is None:
            if self._begin() is None:
                reasons.append(self._end())
            if len(reasons) == STARTS:
                raise BuildError(f"the labeling process does not start ({reasons[-1]}); see {self.log}")

    def _begin(self) -> dict[str, Any] | None:
        """Starts the process; what it answers, None if it ended instead."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(self.job.scratch, ignore_errors=True)
        Path(self.job.scratch).mkdir(parents=True)
        threads = str(self.job.threads)
        variables = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
        environment = {**os.environ, **dict.fromkeys(variables, threads), "TMPDIR": self.job.scratch}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env=environment,
            )
        self._answers = queue.Queue()
        assert self._process.stdout is not None
        threading.Thread(
            target=_read_answers, args=(self._process.stdout, self._answers), daemon=True
        ).start()
        self._send(asdict(self.job))
        return self._wait(None)

    def label(self, source: Source) -> VideoResult:
        """Labels one video, into `job.videos`.

        Raises:
            BuildError: if no other video would fare better.
        """
        attempts = 0
        while True:
            attempts += 1
            outcome, final = self._attempt(source)
            outcome.attempts = attempts
            if outcome.failure is None or final or attempts > self.limits.retries:
                return outcome
            time.sleep(min(attempts, 5))  # a network or a disk may come back

    def _attempt(self, source: Source) -> tuple[VideoResult, bool]:
        """What came of it, and whether another attempt would be in vain."""
        self.start()
        begin = time.monotonic()
        self._send(asdict(source))
        answer = self._wait(self.limits.seconds)
        if answer is not None:
            return VideoResult(**answer["outcome"]), answer["final"]
        reason = self._end()
        failure = f"{source.shown}: {reason}"
        seconds = time.monotonic() - begin
        outcome = VideoResult(source.key, source.shown, source.name, failure=failure, seconds=seconds)
        outcome.exceeded = self._exceeded
        return outcome, bool(outcome.exceeded)

    def _send(self, words: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # its end is found by whoever waits for the answer
            self._process.stdin.write(json.dumps(words).encode() + b"\n")
            self._process.stdin.flush()

    def _wait(self, seconds: float | None) -> dict[str, Any] | None:
        """The answer; None if the process ended, or was ended, without one: `_end` says why."""
        assert self._process is not None
        begin = time.monotonic()
        self._exceeded = {}
        watched = psutil.Process(self._process.pid)
        while True:
            try:
                line = self._answers.get(timeout=LOOK_EVERY)
            except queue.Empty:
                if seconds is not None and time.monotonic() - begin > seconds:
                    self._reason = f"took longer than {seconds / 60:.3g} minutes; --time-limit allows more"
                    self._exceeded = {"seconds": seconds}
                    return None
                if _memory(watched) > self.limits.memory:
                    needed = f"needed more than {self.limits.memory / 2**30:g} GB of memory"
                    self._reason = f"{needed}; --memory-limit allows more"
                    self._exceeded = {"memory": self.limits.memory}
                    return None
                continue
            if not line:
                return None
            answer = json.loads(line)
            if "fatal" in answer:
                self._end()
                raise BuildError(answer["fatal"])
            return answer

    def _end(self) -> str:
        """Ends the process; why it has ended, in a few words."""
        process, self._process = self._process, None
        reason, self._reason = self._reason, None
        if process is None:
            return "ended"
        assert process.stdin is not None
        with suppress(BrokenPipeError):
            process.stdin.close()
        try:
            code = process.wait(0 if reason else 10)  # one that closed its pipes is about to end by itself
        except subprocess.TimeoutExpired:
            process.kill()
            code = process.wait()
        if reason is not None:
            return reason
        if code < 0:
            name = signal.Signals(-code).name
            hint = ": out of memory?" if name == "SIGKILL" else ""
            return f"crashed the process that labeled it ({name}{hint})"
        return f"ended the process that labeled it (code {code})"


def _read_answers(pipe: IO[bytes], answers: queue.Queue[bytes]) -> None:
    with pipe:
        for line in pipe:
            answers.put(line)
    answers.put(b"")


def _memory(process: psutil.Process) -> int:
    try:
        return process.memory_info().rss
    except psutil.Error:
        return 0  # it has just ended


def main() -> None:
    """The process: a job, then one source a line; an answer a line."""
    end_with_parent(int(sys.argv[1]))
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    os.dup2(2, 1)  # whatever libraries print is no answer
    lines = iter(sys.stdin.buffer.readline, b"")
    job = LabelerJob(**json.loads(next(lines)))

    def answer(**words: Any) -> None:
        answers.write(json.dumps(words).encode() + b"\n")

    try:
        with _blamed():
            label = _VideoLabeler(job)
        answer(ready=True)
        for line in lines:
            source = Source(**json.loads(line))
            with _blamed():
                outcome, final = label(source)
            answer(outcome=asdict(outcome), final=final)
    except BuildError as error:
        answer(fatal=str(error))


class UnforeseenError(Exception):
    """Labeling failed in a way that says nothing of the video: it may go well the next time."""


class _VideoLabeler:
    """Labels videos, in this process."""

    def __init__(self, job: LabelerJob) -> None:
        from anthrotap_builder.pipeline import load_parts
        from anthrotap_hf.schema import features

        self.job = job
        self.config = LabelingConfig.model_validate(job.config)
        if self.config.version() != job.version:
            raise BuildError(
                f"the labels here would be of version {self.config.version()}, the build's are of {job.version}: "
                "another release of anthrotap, or other files of bodies or networks"
            )
        self.features = features(self.config.clips.clip_frames)
        self.known = np.empty(0, "S64") if job.known is None else np.load(job.known, mmap_mode="r")
        load_parts(self.config, job.device)

    def __call__(self, source: Source) -> tuple[VideoResult, bool]:
        """What came of a video, and whether another attempt would be in vain."""
        begin = time.perf_counter()
        outcome = VideoResult(source.key, source.shown, source.name)
        final = False
        try:
            with fetched(source, Path(self.job.scratch), self.job.download) as (path, outcome.name):
                if not path.exists():
                    raise SourceError(f"{source.shown}: no such file")
                outcome.sha256 = _sha256(path, source)
                self._label(path, outcome)
                if not path.exists():
                    raise SourceError(f"{source.shown}: vanished while it was labeled")
            final = True
        except UnforeseenError as error:
            logger.exception(source.shown)
            outcome.failure = str(error)
        except (SourceError, MemoryError, OSError) as error:
            if isinstance(error, OSError) and error.errno in NOT_THE_VIDEOS_FAULT:
                raise
            told = isinstance(error, SourceError)
            outcome.failure = (
                str(error) if told else f"{source.shown}: {type(error).__name__}: {_line(error)}"
            )
            outcome.gone = True
        if not final:
            outcome.rows = outcome.frames = 0
        outcome.seconds = time.perf_counter() - begin
        return outcome, final

    def _label(self, path: Path, outcome: VideoResult) -> None:
        """Labels the file, if that was not done."""
        assert outcome.sha256 is not None
        place = np.searchsorted(self.known, outcome.sha256.encode())
        if place < len(self.known) and self.known[place] == outcome.sha256.encode():
            outcome.rows = None
            return
        part = part_file(Path(self.job.videos), outcome.sha256)
        if part.exists():
            try:
                done = json.loads(RowReader(part).notes[OUTCOME])
            except FileNotFoundError:
                logger.info("%s: gathered by another rank just now", part)
            except DamagedError:
                quarantine(part)
            else:
                for name in ("rows", "frames", "left_out", "failure"):
                    setattr(outcome, name, done[name])
                return
        with atomic_rows(part) as rows:
            for table, frames in self._rows(path, outcome):
                rows.write(table)
                outcome.rows = len(rows.index)
                outcome.frames += frames
            if not path.exists():
                rows.index.clear()  # who knows whether it was read to its end
            rows.notes[OUTCOME] = json.dumps(asdict(outcome))
        if not outcome.rows and not outcome.failure:
            reasons = dict.fromkeys(line.rpartition(": ")[2] for line in outcome.left_out)
            outcome.failure = f"{outcome.shown}: no label ({'; '.join(reasons) or 'no clip'})"

    def _rows(self, path: Path, outcome: VideoResult) -> Iterator[tuple[pa.Table, int]]:
        """The rows of the video, and the frames of each; `outcome` hears of what is left out, and of an early end."""
        from anthrotap_builder.pipeline import label_video
        from anthrotap_hf.schema import encode_row, encode_table
        from anthrotap_hf.video import VideoError

        def label(skipped: list[str]) -> Iterator[LabeledClip]:
            return label_video(path, self.config, self.job.threads, self.job.device, skipped=skipped)

        try:
            for clip in prefetch(label, outcome.left_out, self.job.threads):
                if clip.left_out:
                    outcome.left_out.append(clip.left_out)
                    continue
                row = encode_row(replace(clip, source_video=outcome.name), self.config.clips.clip_frames)
                yield encode_table([row], self.features), len(clip.frames)
        except VideoError as error:
            outcome.failure = str(error)
        except (AssetError, ImportError, OSError, MemoryError):
            raise
        except Exception as error:  # native libraries raise what they like
            raise UnforeseenError(
                f"{outcome.shown}: stopped by an error in labeling ({type(error).__name__}: {_line(error)})"
            ) from error
        if os.fspath(path) != outcome.shown:  # a copy's name says nothing to anyone
            name = os.fspath(path)
            outcome.failure = outcome.failure and outcome.failure.replace(name, outcome.shown)
            outcome.left_out = [line.replace(name, outcome.shown) for line in outcome.left_out]


def _sha256(path: Path, source: Source) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        raise SourceError(f"{source.shown}: can't be read ({error.strerror})") from error


@contextmanager
def _blamed() -> Iterator[None]:
    """What is not a video's fault ends the build: BuildError, in one line."""
    try:
        yield
    except (AssetError, ImportError) as error:
        raise BuildError(_line(error)) from error
    except OSError as error:
        raise BuildError(
            f"{error.filename or 'writing'}: {error.strerror or error}; when that is mended, the same command goes on"
        ) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


if __name__ == "__main__":
    main()
