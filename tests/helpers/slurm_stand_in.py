"""A stand-in for Slurm: `sbatch`, `squeue`, `srun` and `scontrol` that run jobs here, one task after the other.

`sbatch` takes only directives that the real one knows, and honors arrays and dependencies.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

STATE = Path(os.environ.get("SLURM_STAND_IN", "."))
KNOWN = {
    *(
        "cpus-per-task",
        "mem-per-cpu",
        "nodes",
        "partition",
        "job-name",
        "time",
        "output",
        "error",
        "array",
        "qos",
    ),
    *("requeue", "gpus", "dependency", "export", "account", "mail-type", "mail-user"),
}


def install(folder: Path) -> None:
    """The commands, as files of `folder`."""
    folder.mkdir(parents=True)
    for name in ("sbatch", "squeue", "srun", "scontrol"):
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{__file__}" {name} "$@"\n')
        path.chmod(0o755)


def sbatch(arguments: list[str]) -> None:
    script = Path(arguments[-1]).read_text()
    assert script.startswith("#!/bin/bash\n")
    directives = re.findall(r"^#SBATCH --([a-z-]+)(?:=(.*))?$", script, re.MULTILINE)
    directives += [tuple(word[2:].partition("=")[::2]) for word in arguments[:-1]]
    options = dict(directives)
    not_known = set(options) - KNOWN
    if not_known or not options["partition"]:
        sys.exit(f"sbatch: error: unrecognized option {not_known}")
    number = str(100 + len(list(STATE.glob("*.sh"))))
    (STATE / f"{number}.sh").write_text(script)
    first, _, last = options["array"].partition("%")[0].partition("-")
    offset = dict(part.split("=") for part in options.get("export", "").split(",") if "=" in part)
    before = re.findall(r"\d+", options.get("dependency", ""))
    environment = {**os.environ, **offset, "SLURM_JOB_ID": number, "SLURM_NODELIST": "here"}
    runner = [sys.executable, __file__, "run", number, first, last or first, options["output"], *before]
    subprocess.Popen(runner, env=environment, start_new_session=True, stdout=subprocess.DEVNULL)
    print(f"Submitted batch job {number}")


def run(arguments: list[str]) -> None:
    number, first, last, output, *before = arguments
    while not all((STATE / f"{job}.done").exists() for job in before):
        time.sleep(0.05)
    for task in range(int(first), int(last) + 1):
        log = output.replace("%A", number).replace("%a", str(task))
        with open(log, "wb") as file:
            subprocess.run(
                ["bash", str(STATE / f"{number}.sh")],
                env={**os.environ, "SLURM_ARRAY_TASK_ID": str(task)},
                stdout=file,
                stderr=file,
                check=False,
            )
    (STATE / f"{number}.done").touch()


def squeue(arguments: list[str]) -> None:
    assert arguments == ["--noheader", "--format=%A"]
    jobs = [path.stem for path in STATE.glob("*.sh")]
    print("\n".join(job for job in jobs if not (STATE / f"{job}.done").exists()))


def srun(arguments: list[str]) -> None:
    assert arguments[:3] == ["-l", "-n", "1"]
    sys.exit(subprocess.run(arguments[3:], check=False).returncode)


def scontrol(arguments: list[str]) -> None:
    assert arguments[:2] == ["show", "hostnames"]
    print(arguments[2])


if __name__ == "__main__":
    {"sbatch": sbatch, "squeue": squeue, "srun": srun, "scontrol": scontrol, "run": run}[sys.argv[1]](sys.argv[2:])
