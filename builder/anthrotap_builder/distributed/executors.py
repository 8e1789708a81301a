"""Where the steps of a build run: on this machine, or by datatrove's executors on Slurm or Ray."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from pathlib import Path

import loguru
from pydantic import Field

from anthrotap_builder.distributed.state import BuildError
from anthrotap_builder.distributed.steps import BuildStep, LabelVideos, label_rank, new_worker
from anthrotap_builder.distributed.worker import LabelWorker
from anthrotap_hf.utils.settings import Settings


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


def run_locally(step: BuildStep, workers: int, on_wait: Callable[[], object]) -> None:
    """Run a step on this machine: ranks in threads, labeling in a child process of each.

    Args:
        step: what to run.
        workers: how many ranks at once.
        on_wait: is called twice a second while ranks run.

    Raises:
        BuildError: if a rank fails; what others have done stays. Nothing goes on when this returns.
    """
    size = min(workers, step.ranks)
    label_workers: list[LabelWorker] = []
    if isinstance(step, LabelVideos):
        label_workers = [new_worker(step.build, step.plan.known, number) for number in range(size)]
    free: queue.SimpleQueue[LabelWorker] = queue.SimpleQueue()
    for worker in label_workers:
        free.put(worker)

    def run(rank: int) -> None:
        if not isinstance(step, LabelVideos):
            step.run_rank(rank)
            return
        worker = free.get()
        try:
            label_rank(step.build, step.plan, rank, worker)
        finally:
            free.put(worker)

    with ThreadPoolExecutor(size) as pool:
        waiting = {pool.submit(run, rank) for rank in range(step.ranks)}
        try:
            while waiting:
                done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                on_wait()
        except BaseException:
            # Threads end as soon as their processes do.
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in label_workers:
                worker.close(kill=True)
            raise
    for worker in label_workers:
        worker.close()


def run_on_ray(step: BuildStep, workers: int, cluster: ClusterSettings) -> None:
    """Run a step on a Ray cluster. The dataset's folder must be the same on all nodes.

    Raises:
        BuildError: if a rank fails.
        ImportError: without Ray.
    """
    import ray
    from datatrove.executor.ray import RayPipelineExecutor

    if not ray.is_initialized():
        try:
            ray.init(address=cluster.address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError) as error:
            raise BuildError(
                f"no Ray cluster at {cluster.address}",
                hint="start one (`ray start --head`), or --cluster names a YAML file with its `address`",
            ) from error
    executor = RayPipelineExecutor(
        [step],
        tasks=step.ranks,
        workers=workers,
        logging_dir=os.fspath(step.logs),
        cpus_per_task=cluster.cpus_per_task,
        mem_per_cpu_gb=cluster.mem_per_cpu_gb,
        gpus_per_task=cluster.gpus_per_task,
    )
    executor.run()
    if left := executor.get_incomplete_ranks():
        raise BuildError(
            f"{len(left)} of {step.ranks} ranks failed",
            hint=f"see {step.logs}/logs; the same command goes on",
        )


def submit_to_slurm(steps: list[BuildStep], workers: int, cluster: ClusterSettings, note: Path) -> list[str]:
    """Submit all steps as Slurm jobs that wait for each other.

    Returns:
        The numbers of the jobs, which `note` keeps.

    Raises:
        BuildError: if they can't be submitted.
    """
    if not cluster.partition:
        raise BuildError("Slurm needs a partition", hint="--cluster names a YAML file with `partition: NAME`")
    if shutil.which("sbatch") is None:
        raise BuildError("sbatch is not here", hint="submit from a machine of the Slurm cluster")
    from datatrove.executor import SlurmPipelineExecutor

    # Of this process; errors are raised.
    loguru.logger.disable("datatrove")
    jobs: list[str] = []
    before: SlurmPipelineExecutor | None = None
    for step in steps:
        executor = SlurmPipelineExecutor(
            [step],
            tasks=step.ranks,
            workers=workers,
            time=cluster.time,
            partition=cluster.partition,
            qos=cluster.qos,
            cpus_per_task=cluster.cpus_per_task,
            mem_per_cpu_gb=cluster.mem_per_cpu_gb,
            gpus_per_task=cluster.gpus_per_task if step is steps[0] else 0,
            env_command=cluster.env_command or None,
            venv_path=None if cluster.env_command else f"{sys.prefix}/bin/activate",
            sbatch_args=dict(cluster.sbatch_args),
            max_array_size=cluster.max_array_size,
            tasks_per_job=cluster.ranks_per_job if step is steps[0] else 1,
            job_name=f"anthrotap-{step.name}",
            logging_dir=os.fspath(step.logs),
            depends=before,
            # The next step reports what is missing, instead of waiting for ever.
            run_on_dependency_fail=True,
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
    """The jobs of `note` that still wait or run. Raises BuildError if squeue does not answer."""
    if not note.exists():
        return []
    jobs = json.loads(note.read_text())
    try:
        # All jobs: asked for one that has long ended, squeue fails.
        answer = subprocess.run(["squeue", "--noheader", "--format=%A"], capture_output=True, text=True, timeout=60)
        reason = answer.stderr if answer.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        answer, reason = None, str(error)
    if reason or answer is None:
        raise BuildError(
            f"whether jobs {', '.join(jobs)} are still at work, squeue can't say ({' '.join(reason.split())})",
            hint=f"if they are not, delete {note}",
        )
    return sorted(set(answer.stdout.split()) & set(jobs))
