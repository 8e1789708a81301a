"""Where the steps of a build run: on this machine, on Slurm, on Ray. The steps are the same."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import loguru
from datatrove.executor import LocalPipelineExecutor, SlurmPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.stats import PipelineStats
from pydantic import Field

from anthrotap_builder.distributed.processes import end_with_parent
from anthrotap_builder.distributed.state import BuildError
from anthrotap_builder.distributed.steps import WORKER
from anthrotap_hf.utils.settings import Settings

RESTARTS = 10  # of workers that die without having finished a rank in between


class ClusterSettings(Settings):
    """What Slurm and Ray are asked for, for each worker."""

    time: str = Field("24:00:00", description="Slurm: longest run of a job")
    partition: str = Field("", description="Slurm: partition; needed there")
    qos: str = Field("normal", description="Slurm: quality of service")
    cpus_per_task: int = Field(2, ge=1, description="cores of a worker; also its threads")
    mem_per_cpu_gb: int = Field(4, ge=1, description="memory by core, GB")
    gpus_per_task: int = Field(0, ge=0, description="GPUs of a worker; --device cuda uses them")
    env_command: str = Field("", description="Slurm: shell line that sets up Python, before all others")
    sbatch_args: dict[str, str] = Field({}, description="Slurm: more of sbatch's options: {account: me}")
    max_array_size: int = Field(1001, ge=1, description="Slurm: largest array of the cluster")
    ranks_per_job: int = Field(1, ge=1, description="Slurm: ranks that a job does, one after the other")
    address: str = Field("auto", description="Ray: address of the cluster")


@dataclass(frozen=True)
class Stage:
    """A step that so many ranks do; all of them before the next stage begins."""

    step: PipelineStep
    ranks: int
    logs: Path
    apart: bool = False  # in processes of its own, even if there is one rank

    @property
    def name(self) -> str:
        return str(self.step.name)


class LocalExecutor(LocalPipelineExecutor):
    """datatrove's executor of this machine, but one whose workers may be killed: others take their place.

    A worker is a process of its own, and ends with this one.

    Args:
        stage: what to run.
        workers: how many ranks at once.
        watch: is called twice a second, while ranks run.
    """

    def __init__(self, stage: Stage, workers: int, watch: Callable[[], None] | None = None) -> None:
        loguru.logger.disable("datatrove")  # in this process: errors are raised, and told by whoever called
        super().__init__([stage.step], tasks=stage.ranks, workers=workers, logging_dir=os.fspath(stage.logs))
        self.logs = stage.logs
        self._apart = stage.apart
        self._watch = watch

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_watch": None}

    def run(self) -> PipelineStats:
        """All ranks that are not completed.

        Raises:
            BuildError: if a rank can't be completed; what the others completed stays.
        """
        if self.tasks == 1 and not self._apart:
            return self._run_for_rank(0, 1)
        deaths = 0
        stats = PipelineStats()
        while ranks := self.get_incomplete_ranks():
            before = len(ranks)
            try:
                stats += self._run(ranks)
            except BrokenProcessPool as error:
                deaths = 0 if len(self.get_incomplete_ranks()) < before else deaths + 1
                if deaths > RESTARTS:
                    raise BuildError(
                        f"workers died {deaths} times in a row (of memory?); see {self.logs.parent}; "
                        "fewer --workers may help, and the same command goes on"
                    ) from error
        return stats

    def _run(self, ranks: list[int]) -> PipelineStats:
        # Locks of workers that were killed are cleaned up, and nobody need hear of it.
        heard = os.environ.get("PYTHONWARNINGS")
        os.environ["PYTHONWARNINGS"] = ",".join(filter(None, [heard, "ignore:resource_tracker:UserWarning"]))
        # Not forked: threads of this process may hold locks. Numbers are handed out by a queue of their own kind.
        context = multiprocessing.get_context("spawn")
        numbers = context.SimpleQueue()
        workers = min(self.workers, len(ranks))
        for number in range(workers):
            numbers.put(number)
        log = self.logs.parent / "workers.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        pool = ProcessPoolExecutor(workers, context, _begin_worker, (os.getpid(), numbers, os.fspath(log)))
        stats = PipelineStats()
        try:
            waiting = {pool.submit(self._run_for_rank, rank, 1) for rank in ranks}
            while waiting:
                done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    stats += future.result()
                if self._watch:
                    self._watch()
        except BaseException:
            processes = list((pool._processes or {}).values())
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.kill()
            for process in processes:
                process.join()
            raise
        pool.shutdown()
        return stats


def _begin_worker(parent: int, numbers: Any, log: str) -> None:
    loguru.logger.enable("datatrove")
    end_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, and ends us
    os.environ[WORKER] = str(numbers.get())
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)


def run_locally(stages: list[Stage], workers: int, watch: Callable[[], None] | None = None) -> None:
    """One stage after the other, on this machine. Raises BuildError as `LocalExecutor.run` does."""
    for stage in stages:
        LocalExecutor(stage, workers, watch).run()


def run_on_ray(stages: list[Stage], workers: int, cluster: ClusterSettings) -> None:
    """The first stage on a Ray cluster, the others here; the dataset's folder must be the same on all nodes.

    Raises:
        BuildError: if not all ranks could be completed.
        ImportError: without Ray.
    """
    import ray
    from datatrove.executor.ray import RayPipelineExecutor

    first, *others = stages
    if not ray.is_initialized():
        try:
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise BuildError(
                f"no Ray cluster at {cluster.address}: start one (`ray start --head`), or --cluster names a YAML file "
                "with its `address`"
            ) from error
    executor = RayPipelineExecutor(
        [first.step],
        tasks=first.ranks,
        workers=workers,
        logging_dir=os.fspath(first.logs),
        cpus_per_task=cluster.cpus_per_task,
        mem_per_cpu_gb=cluster.mem_per_cpu_gb,
        gpus_per_task=cluster.gpus_per_task,
    )
    executor.run()
    if left := executor.get_incomplete_ranks():
        raise BuildError(
            f"{len(left)} of {first.ranks} ranks did not end well; see {first.logs}/logs; the same command goes on"
        )
    run_locally(others, workers)


def submit_to_slurm(stages: list[Stage], workers: int, cluster: ClusterSettings, note: Path) -> list[str]:
    """All stages as Slurm jobs that wait for each other; their numbers, which `note` keeps.

    Raises:
        BuildError: if they can't be submitted.
    """
    if not cluster.partition:
        raise BuildError("Slurm needs a partition: --cluster names a YAML file with `partition: NAME`")
    if shutil.which("sbatch") is None:
        raise BuildError("sbatch is not here; submit from a machine of the Slurm cluster")
    jobs: list[str] = []
    before: SlurmPipelineExecutor | None = None
    for stage in stages:
        executor = SlurmPipelineExecutor(
            [stage.step],
            tasks=stage.ranks,
            workers=workers,
            time=cluster.time,
            partition=cluster.partition,
            qos=cluster.qos,
            cpus_per_task=cluster.cpus_per_task,
            mem_per_cpu_gb=cluster.mem_per_cpu_gb,
            gpus_per_task=cluster.gpus_per_task if stage is stages[0] else 0,
            env_command=cluster.env_command or None,
            venv_path=None if cluster.env_command else f"{sys.prefix}/bin/activate",
            sbatch_args=dict(cluster.sbatch_args),
            max_array_size=cluster.max_array_size,
            tasks_per_job=cluster.ranks_per_job if stage is stages[0] else 1,
            job_name=f"anthrotap-{stage.name}",
            logging_dir=os.fspath(stage.logs),
            depends=before,
            run_on_dependency_fail=True,  # the next stage says what is missing, instead of waiting for ever
            mail_type="NONE",
        )
        try:
            executor.launch_job()
        except (OSError, subprocess.CalledProcessError) as error:
            raise BuildError(f"sbatch refused the job {executor.job_name}: {error}") from error
        if executor.job_id != -1:
            jobs.append(str(executor.job_id))
            before = executor
    note.write_text(json.dumps(jobs))
    return jobs


def slurm_jobs_at_work(note: Path) -> list[str]:
    """Those of the jobs in `note` that still wait or run."""
    if not note.exists():
        return []
    jobs = json.loads(note.read_text())
    try:
        # All jobs: asked for one that has long ended, squeue fails.
        answer = subprocess.run(
            ["squeue", "--noheader", "--format=%A"], capture_output=True, text=True, timeout=60
        )
        reason = answer.stderr if answer.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        answer, reason = None, str(error)
    if reason or answer is None:
        raise BuildError(
            f"whether jobs {', '.join(jobs)} are still at work, squeue can't say ({' '.join(reason.split())}); "
            f"if they are not, delete {note}"
        )
    return sorted(set(answer.stdout.split()) & set(jobs))
