"""A batch system of one machine with Slurm's commands, as far as submitit uses them.

``install(folder)`` puts ``sbatch``, ``srun`` and ``sacct`` there. Jobs begin at once;
every task of every node is a process here.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

COMMANDS = ("sbatch", "srun", "sacct")


def install(folder: Path) -> Path:
    """Write the commands to ``folder / "bin"`` and return that."""
    place = folder / "bin"
    place.mkdir()
    (folder / "jobs").mkdir()
    for name in COMMANDS:
        script = place / name
        line = f'exec "{sys.executable}" "{__file__}" "{folder / "jobs"}" {name} "$@"'
        script.write_text(f"#!/bin/bash\n{line}\n")
        script.chmod(0o755)
    return place


def sbatch(jobs: Path, argv: list[str]) -> None:
    text = Path(argv[0]).read_text()
    given = dict(re.findall(r"^#SBATCH --([a-z-]+)=(\S+)$", text, re.MULTILINE))
    number = 7001 + 100 * len(list(jobs.glob("*.sh")))
    (jobs / f"{number}.sh").write_text(text)
    nodes = int(given.get("nodes", "1"))
    common = {
        "SLURM_JOB_NUM_NODES": str(nodes),
        "SLURM_NTASKS": str(nodes * int(given.get("ntasks-per-node", "1"))),
        # What a batch script sees of itself.
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_NODEID": "0",
        "SLURM_JOB_NODELIST": "localhost" + ",127.0.0.1" * (nodes - 1),
    }
    last = re.match(r"0-(\d+)", given.get("array", "").strip("'"))
    for index in range(int(last[1]) + 1 if last else 1):
        own = {"SLURM_JOB_ID": str(number + index)}
        if last:
            own |= {
                "SLURM_ARRAY_JOB_ID": str(number),
                "SLURM_ARRAY_TASK_ID": str(index),
            }
        name = f"{number}_{index}" if last else str(number)
        state = jobs / f"{name}.state"
        state.write_text("RUNNING")
        line = f"bash {jobs / f'{number}.sh'} && s=COMPLETED || s=FAILED; "
        subprocess.Popen(
            ["bash", "-c", f"{line} echo -n $s > {state}"],
            env=os.environ | common | own,
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    print(f"Submitted batch job {number}")


def srun(jobs: Path, argv: list[str]) -> None:
    files: dict[str, str] = {}
    while argv[0].startswith("--"):
        option = argv.pop(0)
        if option in ("--output", "--error"):
            files[option] = argv.pop(0)
    size, nodes = (
        int(os.environ[name]) for name in ("SLURM_NTASKS", "SLURM_JOB_NUM_NODES")
    )
    tasks = []
    for rank in range(size):
        own = {
            "SLURM_STEP_ID": "0",
            "SLURM_STEP_NUM_TASKS": str(size),
            "SLURM_STEP_NODELIST": os.environ["SLURM_JOB_NODELIST"],
            "SLURM_STEP_TASKS_PER_NODE": f"{size // nodes}(x{nodes})",
            "SLURM_PROCID": str(rank),
            "SLURM_NODEID": str(rank // (size // nodes)),
            "SLURM_LOCALID": str(rank % (size // nodes)),
        }
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        out, err = (
            os.open(_filled(files[name], rank), flags)
            for name in ("--output", "--error")
        )
        tasks.append(
            subprocess.Popen(argv, env=os.environ | own, stdout=out, stderr=err)
        )
    sys.exit(max(task.wait() for task in tasks))


def _filled(pattern: str, rank: int) -> str:
    values = {
        "%A": os.environ.get("SLURM_ARRAY_JOB_ID", ""),
        "%a": os.environ.get("SLURM_ARRAY_TASK_ID", ""),
        "%j": os.environ["SLURM_JOB_ID"],
        "%t": str(rank),
    }
    return re.sub("%[Aajt]", lambda match: values[match[0]], pattern)


def sacct(jobs: Path, argv: list[str]) -> None:
    print("JobID|State|NodeList")
    for state in jobs.glob("*.state"):
        print(f"{state.stem}|{state.read_text()}|localhost")


if __name__ == "__main__":
    commands: dict[str, Callable[[Path, list[str]], None]] = {
        "sbatch": sbatch,
        "srun": srun,
        "sacct": sacct,
    }
    commands[sys.argv[2]](Path(sys.argv[1]), sys.argv[3:])
