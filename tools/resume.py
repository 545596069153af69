"""Finish a run that was interrupted: `make resume`, or `python tools/resume.py` with Snakemake's arguments.

A run that is cut short (power, kill -9, a full disc) can leave three things behind, and each is dealt with here: jobs
that live on without Snakemake are ended, files that they had half written under temporary names are removed, and the
lock is lifted. Then Snakemake runs as ever and makes what is missing; a training goes on from its last checkpoint.
"""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil

# Temporary names of aggregated_posterior.storage.atomic_path.
HALF_WRITTEN = re.compile(r"\..+\.[0-9a-f]{32}\.part")


def processes(folder: Path) -> Iterator[tuple[psutil.Process, list[str]]]:
    """The other processes of this machine that work in `folder`, with their command lines."""
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and Path(process.cwd()) == folder:
                yield process, process.cmdline()
        except (psutil.Error, OSError):
            # Gone in the meantime, or another user's.
            continue


def is_snakemake(command: list[str]) -> bool:
    """Whether a command line starts Snakemake, as a program or as a module of Python, and does more than look on."""
    named = "snakemake" in [Path(word).name for word in command[:2]] or command[1:3] == ["-m", "snakemake"]
    return named and not {"--unlock", "-n", "--dry-run", "--dryrun"}.intersection(command)


def end_left_jobs(folder: Path) -> int:
    """End the jobs of a Snakemake that is gone, and return how many there were."""
    scripts = f"{folder}/.snakemake/scripts/"
    left = [process for process, command in processes(folder) if any(scripts in word for word in command)]
    for process in left:
        # SIGKILL, since nothing that a job leaves can do harm, and a job that hangs must go too.
        process.kill()
    psutil.wait_procs(left, timeout=30)
    return len(left)


def remove_half_written(folder: Path) -> int:
    """Remove files that stand under temporary names, and return how many there were."""
    left = [
        path
        for part in ("results", "resources")
        for path in (folder / part).rglob(".*.part")
        if HALF_WRITTEN.fullmatch(path.name)
    ]
    for path in left:
        path.unlink(missing_ok=True)
    return len(left)


def resume(folder: Path, arguments: list[str]) -> None:
    """Clear away what an interrupted run left in `folder` and become Snakemake with `arguments`.

    Exits with a message and status 1 while another Snakemake works there: its lock must stay.
    """
    running = [process.pid for process, command in processes(folder) if is_snakemake(command)]
    if running:
        sys.exit(f"error: Snakemake is still at work in {folder} (process {running[0]}); let it end, or stop it first")
    jobs, files = end_left_jobs(folder), remove_half_written(folder)
    print(f"Ended {jobs} jobs that were left, removed {files} half-written files; unlocking ...", flush=True)
    snakemake = [sys.executable, "-m", "snakemake"]
    unlocked = subprocess.run([*snakemake, "--unlock", *arguments], check=False)
    if unlocked.returncode:
        sys.exit(unlocked.returncode)
    os.execv(sys.executable, [*snakemake, "--rerun-incomplete", *arguments])


if __name__ == "__main__":
    resume(Path.cwd(), sys.argv[1:])
