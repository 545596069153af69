"""Copies of the project in which the workflow runs without touching this checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("Snakefile", "workflow", "scripts", "config", "profiles", "requirements.txt", "environment.yml")
TINY = "config/tiny.yaml"


@dataclass
class Project:
    """One copy of the project, and Snakemake in it."""

    folder: Path
    # What its run to the end printed, if there was one.
    said: str = ""

    @property
    def cache(self) -> Path:
        """Where the finished project puts its results for others."""
        return self.folder.parent / "cache"

    def run(
        self,
        *arguments: str,
        check: bool = True,
        user: int | None = None,
        group: int | None = None,
        **environment: str,
    ) -> subprocess.CompletedProcess[str]:
        """Run Snakemake and return what it printed; fail the test where it fails unless `check` is off."""
        variables = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(self.folder.parent / "xdg")}
        variables.pop("SNAKEMAKE_OUTPUT_CACHE", None)
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=self.folder,
            env={**variables, **environment},
            user=user,
            group=group,
            capture_output=True,
            text=True,
            check=False,
        )
        if check and done.returncode:
            pytest.fail(f"snakemake {' '.join(arguments)} failed:\n{(done.stdout + done.stderr)[-3000:]}")
        return done

    def plan(self, *arguments: str) -> dict[str, int]:
        """What a dry run would execute: rule → number of jobs."""
        done = self.run("-n", "--cores", "2", "--configfile", TINY, *arguments)
        output = done.stdout + done.stderr
        if "Nothing to be done" in output:
            return {}
        table = output.split("Job stats:")[-1].split("total")[0]
        return {rule: int(count) for rule, count in re.findall(r"^([a-z]\w+)\s+(\d+)\s*$", table, flags=re.M)}

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace text in one of the copy's files."""
        file = self.folder / path
        text = file.read_text()
        assert old in text, f"{path} has changed: {old!r} is gone"
        file.write_text(text.replace(old, new, 1))


def copy_project(folder: Path) -> Project:
    """Copy what a run needs, with the tests' tiny experiment among its configurations."""
    folder.mkdir(parents=True)
    for part in PARTS:
        source = ROOT / part
        if source.is_dir():
            shutil.copytree(source, folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
        else:
            shutil.copy(source, folder / part)
    shutil.copy(ROOT / "tests/workflow/tiny.yaml", folder / TINY)
    return Project(folder)


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """A project whose tiny experiment has run to its end, and its filled cache; not to be changed."""
    return finish(tmp_path_factory)


FINISHED: list[Project] = []


def finish(tmp_path_factory) -> Project:
    """Run the tiny experiment once a session, whichever test folder asks for it."""
    if not FINISHED:
        project = copy_project(tmp_path_factory.mktemp("finished") / "project")
        done = project.run("--cores", "2", "--configfile", TINY, "--cache", SNAKEMAKE_OUTPUT_CACHE=str(project.cache))
        project.said = done.stdout + done.stderr
        FINISHED.append(project)
    return FINISHED[0]


@pytest.fixture
def clone(finished, tmp_path) -> Callable[[], Project]:
    """Make a copy of the finished project, results and Snakemake's memory included, that a test may change."""

    def make() -> Project:
        shutil.copytree(finished.folder, tmp_path / "clone", symlinks=True)
        return Project(tmp_path / "clone")

    return make


@pytest.fixture
def fresh(tmp_path) -> Project:
    """A project in which nothing has run."""
    return copy_project(tmp_path / "fresh")
