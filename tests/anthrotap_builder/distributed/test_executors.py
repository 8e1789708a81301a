"""The same build on Slurm (a stand-in) and on Ray (a cluster of two nodes on this machine)."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from anthrotap_builder.config import labeling_config
from anthrotap_builder.distributed.config import BuildConfig
from anthrotap_builder.distributed.executors import ClusterSettings
from anthrotap_builder.distributed.state import BuildError
from anthrotap_builder.distributed.steps import new_worker
from helpers import slurm_stand_in
from helpers.dataset_content import content

pytestmark = pytest.mark.usefixtures("marks")


@pytest.fixture
def videos(make_video, tmp_path) -> Path:
    for number in range(3):
        make_video(f"videos/slow-{number}.mp4", shots=[9, 10], fps=20 + number)
    return tmp_path / "videos"


@pytest.fixture
def slurm_state(tmp_path, monkeypatch) -> Path:
    slurm_stand_in.install(tmp_path / "bin")
    state = tmp_path / "slurm"
    state.mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_STAND_IN", str(state))
    return state


def wait_for(jobs: list[str], state: Path) -> None:
    end = time.monotonic() + 200
    while not all((state / f"{job}.done").exists() for job in jobs):
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
def test_slurm_builds_the_same(videos, run, slurm_state, tmp_path):
    cluster = ClusterSettings(partition="cpu", ranks_per_job=2, sbatch_args={"account": "me"})
    report = run(videos, executor="slurm", workers=2, cluster=cluster, videos_per_rank=1)
    assert len(report.jobs) == 4
    assert report.rows is None
    with pytest.raises(BuildError, match=r"Slurm jobs .*are at work here, \d of 3 videos are done"):
        run(videos)
    wait_for(report.jobs, slurm_state)
    run(videos, "local")
    assert content(tmp_path / "out") == content(tmp_path / "local")
    report = run(videos, executor="slurm", cluster=cluster)
    assert len(report.jobs) == 3  # nothing to label
    wait_for(report.jobs, slurm_state)


@pytest.mark.slow
def test_a_rank_that_fails_on_slurm_leaves_the_dataset(videos, run, slurm_state, tmp_path):
    run(videos)
    before = content(tmp_path / "out")
    site = tmp_path / "site/sitecustomize.py"
    whole = site.read_text()
    site.write_text(f"{whole}labeling.load_parts = None\n")  # a node without what labeling needs
    (videos / "new.mp4").write_bytes((videos / "slow-0.mp4").read_bytes() + bytes(100))
    cluster = ClusterSettings(partition="cpu")
    wait_for(run(videos, executor="slurm", cluster=cluster).jobs, slurm_state)
    assert content(tmp_path / "out") == before
    site.write_text(whole)
    wait_for(run(videos, executor="slurm", cluster=cluster).jobs, slurm_state)
    assert len(content(tmp_path / "out")["videos.jsonl"]) > len(before["videos.jsonl"])


def test_squeue_must_answer(videos, run, slurm_state, tmp_path):
    (tmp_path / "out/.build").mkdir(parents=True)
    (tmp_path / "out/.build/slurm.json").write_text('["77"]')
    (tmp_path / "bin/squeue").write_text("#!/bin/sh\necho no controller >&2; exit 1\n")
    with pytest.raises(BuildError, match=r"squeue can't say \(no controller\)"):
        run(videos)


def test_slurm_needs_a_partition_and_sbatch(videos, run, tmp_path, monkeypatch):
    with pytest.raises(BuildError, match="needs a partition"):
        run(videos, executor="slurm")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(BuildError, match="sbatch is not here"):
        run(videos, executor="slurm", cluster=ClusterSettings(partition="cpu"))


def test_errors_of_sbatch_are_reported(videos, run, slurm_state):
    cluster = ClusterSettings(partition="cpu", sbatch_args={"color": "blue"})
    with pytest.raises(BuildError, match="sbatch refused"):
        run(videos, executor="slurm", cluster=cluster)


@pytest.mark.slow
def test_ray_builds_the_same(videos, run, tmp_path):
    ray = pytest.importorskip("ray", reason="needs anthrotap[ray]")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        asked = ClusterSettings(address=cluster.address, cpus_per_task=1, mem_per_cpu_gb=1)
        run(videos, executor="ray", workers=2, cluster=asked, videos_per_rank=1)
    finally:
        ray.shutdown()
        cluster.shutdown()
    run(videos, "local")
    assert content(tmp_path / "out") == content(tmp_path / "local")


def test_workers_get_devices_in_turn(tmp_path):
    config = labeling_config()
    build = BuildConfig(str(tmp_path), config, config.version(), devices=("cuda:0", "cuda:1"))
    devices = [new_worker(build, number=number).job.device for number in range(3)]
    assert devices == ["cuda:0", "cuda:1", "cuda:0"]
