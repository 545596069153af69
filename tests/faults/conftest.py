"""One undisturbed run to compare with, and projects that may be broken."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator

import pytest

from tests.manifest import manifest
from tests.workflow.conftest import Project, copy_project

from .interruption import ARGUMENTS, Undisturbed, end_all, experiment


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> Undisturbed:
    """A run that nothing happens to; not to be changed."""
    project = copy_project(tmp_path_factory.mktemp("undisturbed") / "project")
    start = time.monotonic()
    project.run(*ARGUMENTS)
    results = f"results/{experiment()}"
    found = manifest(project.folder / results)
    assert "claims.json" in found
    return Undisturbed(project, results, found, time.monotonic() - start)


@pytest.fixture
def broken(tmp_path) -> Iterator[Callable[[], Project]]:
    """Make projects in which nothing has run; none of their processes outlives the test."""
    projects: list[Project] = []

    def make() -> Project:
        projects.append(copy_project(tmp_path / f"project_{len(projects)}"))
        return projects[-1]

    yield make
    for project in projects:
        end_all(project.folder)


@pytest.fixture
def finished_copy(undisturbed, tmp_path) -> Project:
    """A copy of the undisturbed project, results and Snakemake's memory included."""
    shutil.copytree(undisturbed.project.folder, tmp_path / "copy", symlinks=True)
    return Project(tmp_path / "copy")
