"""Faults injected into builds, on real labels: is anything lost or doubled? The result must equal that without faults.

python -m benchmarks.faults                # all; the full disk needs root, for a small tmpfs
python -m benchmarks.faults driver disk    # only these
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow.parquet as pq

from benchmarks.building import short_videos

ROOT = Path(__file__).parents[1]
# The stand-in for Slurm is one of the tests' helpers.
sys.path.insert(0, str(ROOT / "tests"))
OPTIONS = ("--set", "points=64", "--validation", "0.3", "--videos-per-rank", "2", "--retries", "3")
VIDEOS = 8


class Bench:
    """Videos, and the rows that a build of them without faults writes."""

    def __init__(self, folder: Path, kills: int) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self.folder = folder
        self.kills = kills
        self.videos = folder / "videos"
        short_videos(self.videos, VIDEOS)
        begin = time.perf_counter()
        self.finish("unbroken")
        self.seconds = time.perf_counter() - begin
        self.unbroken = rows(folder / "unbroken")
        self.random = random.Random(0)

    def build(self, out: str, *options: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        command = [
            sys.executable,
            "-m",
            "anthrotap_hf.cli.main",
            "build",
            str(self.videos),
            "--out",
            str(self.folder / out),
        ]
        return subprocess.Popen(
            [*command, *OPTIONS, "--workers", "2", "--threads", "1", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **(env or {})},
        )

    def finish(self, out: str, *options: str) -> str:
        """Build to the end, and return what the build printed."""
        build = self.build(out, *options)
        output = "".join(build.communicate())
        assert build.returncode == 0, output
        return output

    def compare(self, out: str) -> str:
        found = rows(self.folder / out)
        names = [name for name, _ in found]
        lost = len({name for name, _ in self.unbroken} - set(names))
        doubled = len(names) - len(set(names))
        equal = "equal, row for row" if found == self.unbroken else "**different**"
        return f"{lost} lost, {doubled} doubled; {equal}"


def rows(out: Path) -> list[tuple[str, bytes]]:
    """Return all rows of a dataset in order: split and clip, and all columns."""
    found = []
    for file in sorted((out / "data").glob("*.parquet")):
        for row in pq.read_table(file).to_pylist():
            found.append((f"{file.name} {row['clip_id']}", json.dumps(row, default=bytes.hex).encode()))
    assert found
    return found


def family(driver: int) -> list[psutil.Process]:
    try:
        return psutil.Process(driver).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def kill_driver(bench: Bench) -> str:
    results: list[str] = []
    done = 0
    while done < bench.kills:
        out = f"driver-{len(results)}"
        while True:
            build = bench.build(out)
            try:
                build.wait(bench.random.uniform(0.5, 0.9 * bench.seconds) if done < bench.kills else None)
            except subprocess.TimeoutExpired:
                orphans = family(build.pid)
                build.kill()
                build.wait()
                _, alive = psutil.wait_procs(orphans, 10)
                assert not alive, "workers outlive their driver"
                done += 1
                continue
            assert build.returncode == 0
            break
        results.append(bench.compare(out))
    return f"{done} kills, {len(results)} builds | {'; '.join(dict.fromkeys(results))}"


def kill_worker(bench: Bench) -> str:
    results: list[str] = []
    done = 0
    while done < bench.kills:
        out = f"worker-{len(results)}"
        build = bench.build(out)
        while build.poll() is None:
            try:
                build.wait(bench.random.uniform(2, 6))
            except subprocess.TimeoutExpired:
                victims = [p for p in family(build.pid) if "resource_tracker" not in " ".join(p.cmdline())]
                if victims and done < bench.kills:
                    bench.random.choice(victims).kill()
                    done += 1
        assert build.returncode == 0, build.communicate()
        results.append(bench.compare(out))
    return f"{done} kills, {len(results)} builds | {'; '.join(dict.fromkeys(results))}"


def full_disk(bench: Bench) -> str:
    out = bench.folder / "disk"
    out.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300k", "tmpfs", str(out)], check=True)
    try:
        errors_seen = []
        for size in ("400k", "600k", "900k", "64m"):
            build = bench.build("disk")
            _, errors = build.communicate()
            if build.returncode == 0:
                break
            errors_seen.append(errors.strip().splitlines()[-1])
            subprocess.run(["mount", "-o", f"remount,size={size}", str(out)], check=True)
        else:
            bench.finish("disk")
        message = errors_seen[-1].replace(str(bench.folder), "...") if errors_seen else "never full"
        return f"full {len(errors_seen)} times, enlarged each time; message: `{message}` | {bench.compare('disk')}"
    finally:
        subprocess.run(["umount", str(out)], check=True)


def vanishing_file(bench: Bench) -> str:
    """Remove the last video while the first are labeled, and restore it for the next build."""
    victim = sorted(bench.videos.iterdir())[-1]
    tmp_path = bench.folder / victim.name
    build = bench.build("vanish")
    while not list((bench.folder / "vanish").rglob("rank-*.jsonl")):
        time.sleep(0.1)
    victim.rename(tmp_path)
    try:
        _, errors = build.communicate()
        assert build.returncode == 0
    finally:
        tmp_path.rename(victim)
    message = next(line for line in errors.splitlines() if victim.name in line)
    without = {name for name, _ in rows(bench.folder / "vanish")}
    missing = len(bench.unbroken) - len(without)
    bench.finish("vanish")
    return f"`{message.rpartition('/')[2]}`, {missing} row fewer; back again | {bench.compare('vanish')}"


def corrupt_shard(bench: Bench) -> str:
    bench.finish("corrupt")
    out = bench.folder / "corrupt"
    hurt = [*sorted(out.glob(".build/*/plan-*/rank-*.rows"))[:2], next(out.glob("data/*.parquet"))]
    for file in hurt:
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    verify = [sys.executable, "-m", "anthrotap_hf.cli.main", "verify", str(out)]
    found = subprocess.run(verify, capture_output=True, text=True, check=False).returncode
    bench.finish("corrupt")
    clean = subprocess.run(verify, capture_output=True, text=True, check=False).returncode
    return (
        f"a byte in two files of ranks and one of the dataset; `anthrotap verify`: {found}, after the next build "
        f"{clean} | {bench.compare('corrupt')}"
    )


def two_builds(bench: Bench) -> str:
    first = bench.build("two")
    while not (bench.folder / "two/.build/inputs.jsonl").exists():
        time.sleep(0.1)
    second = bench.build("two")
    _, errors = second.communicate()
    assert first.wait() == 0
    message = errors.strip().splitlines()[-1].replace(str(bench.folder), "...")
    return f"the second ends with {second.returncode}: `{message}` | {bench.compare('two')}"


def on_ray(bench: Bench) -> str:
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    try:
        cluster.add_node(num_cpus=1)
        cluster_file = bench.folder / "ray.yaml"
        cluster_file.write_text(f"address: {cluster.address}\ncpus_per_task: 1\nmem_per_cpu_gb: 1\n")
        bench.finish("ray", "--executor", "ray", "--cluster", str(cluster_file))
    finally:
        cluster.shutdown()
    return f"a local cluster of two nodes | {bench.compare('ray')}"


def on_slurm(bench: Bench) -> str:
    from helpers import slurm_stand_in  # type: ignore[import-not-found]

    folder = bench.folder / "slurm-commands"
    slurm_stand_in.install(folder)
    state = bench.folder / "slurm-state"
    state.mkdir()
    cluster_file = bench.folder / "slurm.yaml"
    cluster_file.write_text("partition: cpu\ncpus_per_task: 1\n")
    env = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "SLURM_STAND_IN": str(state)}
    build = bench.build("slurm", "--executor", "slurm", "--cluster", str(cluster_file), "--json", env=env)
    jobs = json.loads(build.communicate()[0])["jobs"]
    while not all((state / f"{job}.done").exists() for job in jobs):
        time.sleep(0.5)
    return f"{len(jobs)} jobs, by a stand-in for sbatch | {bench.compare('slurm')}"


FAULTS: dict[str, tuple[str, Callable[[Bench], str]]] = {
    "driver": ("kill -9 of the driver at random moments", kill_driver),
    "worker": ("kill -9 of a worker or its labeling process at random moments", kill_worker),
    "disk": ("a full disk", full_disk),
    "vanish": ("a file vanishes", vanishing_file),
    "corrupt": ("damaged shards", corrupt_shard),
    "two": ("two builds into one folder at once", two_builds),
    "ray": ("none: Ray", on_ray),
    "slurm": ("none: Slurm", on_slurm),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("faults", nargs="*", help=", ".join(FAULTS))
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--folder", type=Path, default=Path("outputs/faults"))
    options = parser.parse_args()
    bench = Bench(options.folder.absolute(), options.kills)
    print(
        f"{VIDEOS} videos, {len(bench.unbroken)} rows\n\n"
        "| fault | injected | compared with the build without faults |\n|---|---|---|"
    )
    for name in options.faults or FAULTS:
        title, inject = FAULTS[name]
        print(f"| {title} | {inject(bench)} |", flush=True)


if __name__ == "__main__":
    main()
