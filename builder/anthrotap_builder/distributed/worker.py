"""Labels one video after the other in a child process: what a bad video breaks is this process, and nothing else."""

from __future__ import annotations

import functools
import importlib
import json
import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from anthrotap_builder.config import LabelingConfig
from anthrotap_builder.distributed.config import ResourceLimits
from anthrotap_builder.distributed.state import BuildError, rows_path
from anthrotap_builder.distributed.video_sources import Source, SourceError, fetched
from anthrotap_builder.utils.assets import AssetError
from anthrotap_builder.utils.row_file import DamagedRowsError, RowReader, quarantine
from anthrotap_builder.utils.thread_limits import thread_environment
from anthrotap_builder.video_result import SYSTEM_ERRORS, VideoResult, concerns_all_videos, describe_error
from anthrotap_hf.utils.atomic_files import file_sha256
from anthrotap_hf.utils.errors import one_line
from anthrotap_hf.utils.workers import LimitExceededError, Worker, WorkerCancelledError, WorkerDiedError

logger = logging.getLogger(__name__)

PROCESS_NAME = "anthrotap labeling"
# Starts in a row that fail, before the build gives up.
MAX_STARTS = 5
GOES_ON = "once that is repaired, the same command goes on"


@dataclass(frozen=True)
class LabelJob:
    """What a labeling process does with each video.

    Attributes:
        labeling: everything that changes a label.
        version: the label version that must come out.
        videos: the folder for the rows of each video.
        known: an .npy file of sorted SHA-256 of videos that are labeled already, or None.
        scratch: a folder for copies and temporary files.
        download: bytes of a video that is fetched, at most.
        threads: frames worked on at once.
        device: where networks run.
        allow_private: whether videos may come from this machine or its network.
    """

    labeling: LabelingConfig
    version: str
    videos: Path
    known: Path | None
    scratch: Path
    download: int
    threads: int = 1
    device: str = "cpu"
    allow_private: bool = False


class LabelWorker:
    """Labels videos in a process that is started when it is first needed, and again when it is gone.

    Args:
        job: what the process does.
        limits: for each video.
        log: a file for what the process and its libraries print.
    """

    def __init__(self, job: LabelJob, limits: ResourceLimits, log: Path) -> None:
        self.job = job
        self.limits = limits
        self.log = log
        environment = {**thread_environment(job.threads), "TMPDIR": os.fspath(job.scratch)}
        self._worker = Worker(PROCESS_NAME, prepare, (job,), environment, log)

    def close(self, kill: bool = False) -> None:
        """End the process for good; with `kill`, in the middle of a video."""
        self._worker.close(kill)
        shutil.rmtree(self.job.scratch, ignore_errors=True)

    def start(self) -> None:
        """Start the process, if none runs, and wait until it has loaded what it needs.

        Raises:
            BuildError: if something that every video needs is missing, or can't be loaded.
            WorkerCancelledError: if this is closed.
        """
        for attempt in range(1, MAX_STARTS + 1):
            try:
                self._worker.start()
                return
            except WorkerDiedError as error:
                if attempt == MAX_STARTS:
                    raise self._no_start(str(error)) from error
            except (BuildError, WorkerCancelledError):
                raise
            except Exception as error:
                raise self._no_start(describe_error(error)) from error

    def _no_start(self, reason: str) -> BuildError:
        return BuildError(f"the labeling process does not start ({reason})", hint=f"see {self.log}")

    def label(self, source: Source) -> VideoResult:
        """Label one video, into `job.videos`.

        Raises:
            BuildError: if no other video would fare better.
            WorkerCancelledError: if this is closed meanwhile.
        """
        attempts = 0
        while True:
            attempts += 1
            result = self._attempt(source)
            result.attempts = attempts
            if result.is_final or attempts > self.limits.retries:
                return result
            # A network or a disk may come back.
            time.sleep(min(attempts, 5))

    def _attempt(self, source: Source) -> VideoResult:
        self.start()
        begin = time.monotonic()
        limits = self.limits
        try:
            return self._worker.run(label_source, self.job, source, timeout=limits.seconds, memory_limit=limits.memory)
        except (LimitExceededError, WorkerDiedError) as error:
            result = _new_result(source)
            result.fail_with_worker(error)
        except (BuildError, WorkerCancelledError):
            raise
        except Exception as error:
            if concerns_all_videos(error):
                raise
            result = _new_result(source)
            result.fail(describe_error(error), "error")
        result.seconds = time.monotonic() - begin
        return result


def _new_result(source: Source) -> VideoResult:
    return VideoResult(source.display_name, source.name, source=source.key)


# In the labeling process


def prepare(job: LabelJob) -> None:
    """Load what labeling needs.

    Raises:
        BuildError: if something is missing, or the labels would be of another version.
    """
    # Errors in labeling go to the log with their tracebacks.
    logging.basicConfig()
    logging.getLogger("anthrotap_builder.label_videos").setLevel(logging.DEBUG)
    shutil.rmtree(job.scratch, ignore_errors=True)
    with _build_errors():
        job.scratch.mkdir(parents=True)
        if (version := job.labeling.version()) != job.version:
            raise BuildError(
                f"the labels would be of version {version} here, the build's are of {job.version}: "
                "another release of anthrotap, or other files of bodies or networks"
            )
        # Imports that otherwise would count against the time limit of the first video.
        for module in ("datasets", "anthrotap_builder.label_videos"):
            importlib.import_module(module)
        importlib.import_module("anthrotap_builder.pipeline").load_parts(job.labeling, job.device)


def label_source(job: LabelJob, source: Source) -> VideoResult:
    """Label a video, if that was not done. What is foreseen to be wrong with a video is in the result.

    Raises:
        BuildError: for what is no video's fault.
        Exception: for anything unforeseen.
    """
    begin = time.perf_counter()
    result = _new_result(source)
    with _build_errors():
        try:
            with fetched(source, job.scratch, job.download, job.allow_private) as (path, name):
                result = _label_file(job, source, path, replace(result, name=name))
        except SourceError as error:
            result.fail(error.reason, "unavailable")
        except (MemoryError, OSError) as error:
            if isinstance(error, OSError) and error.errno in SYSTEM_ERRORS:
                raise
            logger.exception(source.display_name)
            result.fail(describe_error(error), "unavailable")
        except Exception:
            logger.exception(source.display_name)
            raise
    result.clips = []
    result.seconds = time.perf_counter() - begin
    return result


def _label_file(job: LabelJob, source: Source, path: Path, result: VideoResult) -> VideoResult:
    from anthrotap_builder.label_videos import RESULT, VideoJob, label_into_rows

    if not path.exists():
        raise SourceError("no such file", path=source.display_name)
    try:
        result.sha256 = file_sha256(path)
    except OSError as error:
        raise SourceError(f"can't be read ({error.strerror})", path=source.display_name) from error
    if job.known and _is_known(job.known, result.sha256):
        return replace(result, rows=None)
    rows = rows_path(job.videos, result.sha256)
    if rows.exists():
        try:
            done = VideoResult.from_json(json.loads(RowReader(rows).notes[RESULT]))
        except FileNotFoundError:
            logger.info("%s: another rank has just gathered it", rows)
            return result
        except (DamagedRowsError, KeyError, ValueError, TypeError):
            # Or its note is missing, or not what this release writes.
            quarantine(rows)
        else:
            return replace(done, video=result.video, name=result.name, source=result.source)
    labeled = label_into_rows(
        VideoJob(
            path=path,
            config=job.labeling,
            video=result.video,
            name=result.name,
            threads=job.threads,
            device=job.device,
            rows=rows,
        )
    )
    return replace(labeled, sha256=result.sha256, source=result.source)


@functools.lru_cache(1)
def _known(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r")


def _is_known(path: Path, sha256: str) -> bool:
    known, wanted = _known(path), sha256.encode()
    position = np.searchsorted(known, wanted)
    return bool(position < len(known) and known[position] == wanted)


@contextmanager
def _build_errors() -> Iterator[None]:
    """Turn what is no video's fault into a BuildError."""
    try:
        yield
    except (AssetError, ImportError) as error:
        raise BuildError(one_line(error, 1000)) from error
    except OSError as error:
        raise BuildError(error.strerror or str(error), path=error.filename or "writing", hint=GOES_ON) from error
