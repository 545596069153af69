"""Snakemake in the background, to be killed, alone or one of its jobs; and the one command that finishes the rest."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import yaml

from tests.manifest import differences, half_written, manifest
from tests.workflow.conftest import ROOT, TINY, Project

# Another experiment than the tests' tiny one: FAULTS_CONFIG=config/config.yaml make test-faults
CONFIG = os.environ.get("FAULTS_CONFIG", TINY)
ARGUMENTS = ("--cores", "2", "--configfile", CONFIG)
SNAKEMAKE = (sys.executable, "-m", "snakemake")
RESUME = (sys.executable, str(ROOT / "tools/resume.py"))
SCRIPTS = "/.snakemake/scripts/"
# How long something is waited for that must come; long, since the machine may be busy.
PATIENCE = 3600.0


@dataclass
class Undisturbed:
    """A run that nothing happened to: what its folder holds, and how long it took."""

    project: Project
    results: str
    manifest: dict[str, str]
    seconds: float

    def flaws(self, project: Project, unfinished: bool = False) -> list[str]:
        """How another run's results differ from these, one line per file."""
        lines = differences(self.manifest, manifest(project.folder / self.results), unfinished)
        if not unfinished:
            lines += [f"{path}: was left half-written" for path in half_written(project.folder / self.results)]
        return lines


def experiment() -> str:
    """The name of the experiment of `CONFIG`."""
    path = ROOT / ("tests/workflow/tiny.yaml" if CONFIG == TINY else CONFIG)
    return yaml.safe_load(path.read_text(encoding="utf-8"))["experiment"]


def jobs_in(folder: Path) -> list[psutil.Process]:
    """The processes that run scripts of the project in `folder`, whether or not their Snakemake still lives."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(f"{folder}{SCRIPTS}" in word for word in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def end_all(folder: Path) -> None:
    """SIGKILL whatever still works in `folder`."""
    for process in psutil.process_iter():
        try:
            if Path(process.cwd()) == folder:
                process.kill()
        except (psutil.Error, OSError):
            continue


def rule_of(process: psutil.Process) -> str:
    """The rule whose script a process runs: Snakemake's copy of it is called tmp….{rule}.py."""
    try:
        word = next(word for word in process.cmdline() if SCRIPTS in word)
    except (psutil.Error, StopIteration):
        return "a job"
    return word.split(SCRIPTS)[1].split(".")[1]


@dataclass
class Run:
    """Snakemake at work in a project."""

    project: Project
    command: tuple[str, ...] = SNAKEMAKE
    arguments: tuple[str, ...] = ARGUMENTS
    # Whether one of its jobs was killed, so that it may end with an error.
    harmed: bool = False
    # Where it prints to; beside the project unless told.
    log: Path | None = None
    process: subprocess.Popen = field(init=False)

    def __post_init__(self) -> None:
        variables = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(self.project.folder.parent / "xdg")}
        variables.pop("SNAKEMAKE_OUTPUT_CACHE", None)
        if self.log is None:
            self.log = self.project.folder.parent / f"{self.project.folder.name}.log"
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(
                [*self.command, *self.arguments],
                cwd=self.project.folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def finish(self) -> int:
        """Wait for the end and return the exit status."""
        return self.process.wait(PATIENCE)

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_for_a_job(self) -> None:
        """Return when a rule's script runs, or when Snakemake has ended."""
        end = time.monotonic() + PATIENCE
        while not self.ended and not jobs_in(self.project.folder):
            assert time.monotonic() < end, f"no job was started:\n{self.output()[-2000:]}"
            time.sleep(0.05)

    def wait_for_files(self, results: str, count: int) -> None:
        """Return when so many files of the results are there, or when Snakemake has ended."""
        end = time.monotonic() + PATIENCE
        while not self.ended and len(manifest(self.project.folder / results)) < count:
            assert time.monotonic() < end, f"the run does not come on:\n{self.output()[-2000:]}"
            time.sleep(0.5)

    def wait_for_a_write(self, results: str, seconds: float) -> None:
        """Return while a file is being written under its temporary name, or after so many seconds without one."""
        before = set(half_written(self.project.folder / results))
        end = time.monotonic() + seconds
        while time.monotonic() < end and not self.ended:
            if set(half_written(self.project.folder / results)) - before:
                return
            time.sleep(0.002)

    def kill_snakemake(self) -> None:
        """SIGKILL Snakemake alone; its jobs live on."""
        self.process.kill()
        self.process.wait()

    def kill_a_job(self, rng: np.random.Generator) -> str | None:
        """SIGKILL one of the running jobs, and return its rule; None where none runs."""
        jobs = jobs_in(self.project.folder)
        if not jobs:
            return None
        job = jobs[rng.integers(len(jobs))]
        rule = rule_of(job)
        job.kill()
        self.harmed = True
        return rule


def wait_for_left_jobs(folder: Path) -> None:
    """Wait for the end of the jobs that have lost their Snakemake."""
    _, alive = psutil.wait_procs(jobs_in(folder), timeout=PATIENCE)
    assert not alive


def resume(project: Project) -> Run:
    """Finish a run by the documented command, `make resume`, and fail the test where it fails."""
    run = Run(project, RESUME)
    assert run.finish() == 0, run.output()[-3000:]
    return run
