"""The tiny experiment through a real Slurm on this machine, with its accidents, to the same bytes as a local run."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ..workflow.conftest import TINY, Project, copy_project, finish

# In one group with the tests of the workflow, so that they share the experiment's local run.
pytestmark = pytest.mark.slurm

HERE = Path(__file__).parent
CONFIGURATION = Path("/etc/slurm/slurm.conf")
DATA = "results/tiny/data/control_gaussian.safetensors"
# Snakemake that asks after its jobs every second. The plugin waits ten seconds longer each time that none has ended,
# which is right on a cluster that others use too, has no setting, and would double the time of these tests.
IMPATIENT_SNAKEMAKE = """
from snakemake_interface_executor_plugins.executors.remote import RemoteExecutor
RemoteExecutor.next_seconds_between_status_checks = property(lambda self: 1, lambda self, seconds: None)
from snakemake.cli import main
main()
"""


def slurm_command(*arguments: str) -> str:
    """Run one of Slurm's commands and return what it printed."""
    return subprocess.run(arguments, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def slurm(tmp_path_factory) -> Iterator[Path]:
    """A Slurm with one node of two cores, until the end of these tests."""
    missing = [name for name in ("slurmctld", "slurmd", "sbatch", "munged") if not shutil.which(name)]
    if missing:
        pytest.skip(f"Slurm is not installed here ({', '.join(missing)} missing); `make test-slurm` installs it")
    if os.getuid() != 0:
        pytest.skip("only root can start Slurm's daemons")
    if CONFIGURATION.exists() and "ClusterName=test_of_the_pipeline" not in CONFIGURATION.read_text():
        pytest.skip(f"this machine has a Slurm of its own ({CONFIGURATION})")
    if (
        CONFIGURATION.exists()
        and "is UP"
        in subprocess.run(["timeout", "5", "scontrol", "ping"], capture_output=True, text=True, check=False).stdout
    ):
        pytest.skip(f"another run of these tests has its Slurm up ({CONFIGURATION.resolve()})")
    # A short path: munge's socket has one of at most 108 characters.
    folder = Path("/tmp") / f"slurm-{os.getpid()}"
    started = subprocess.run(["bash", HERE / "start.sh", folder], capture_output=True, text=True, check=False)
    if started.returncode:
        pytest.fail(f"Slurm did not start:\n{started.stderr}")
    try:
        yield folder
    finally:
        subprocess.run(["bash", HERE / "stop.sh", folder], check=False)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Project:
    """The same experiment, run on this machine without Slurm."""
    return finish(tmp_path_factory)


@pytest.fixture
def project(tmp_path) -> Project:
    return copy_project(tmp_path / "project")


def wait_for(what: str, condition: Callable[[], object], run: subprocess.Popen | None = None, seconds: float = 900):
    """Return the condition's value as soon as it is true."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := condition():
            return found
        assert run is None or run.poll() is None, f"the run ended before {what}"
        time.sleep(0.1)
    pytest.fail(f"{what}: not within {seconds} s")


def jobs(states: str) -> dict[str, str]:
    """The jobs in these states: number → rule and wildcards."""
    lines = slurm_command("squeue", "--noheader", f"--states={states}", "--format=%i|%k").splitlines()
    return dict(line.split("|", 1) for line in lines)


def differing(one: Path, other: Path) -> list[str]:
    """The files that are not the same, byte for byte, in two folders."""
    names = {path.relative_to(folder) for folder in (one, other) for path in folder.rglob("*") if path.is_file()}
    return [
        str(name)
        for name in sorted(names)
        if not ((one / name).is_file() and (other / name).is_file())
        or (one / name).read_bytes() != (other / name).read_bytes()
    ]


def test_a_run_with_a_killed_job_and_a_drained_node_gives_the_same_bytes(slurm, local, project, tmp_path):
    """One run for three tests, since each takes a minute: scancel, then drain and resume, then the comparison."""
    node = socket.gethostname().split(".")[0]
    log = tmp_path / "snakemake.log"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "XDG_CACHE_HOME": str(tmp_path / "xdg")}
    with log.open("w") as stream:
        run = subprocess.Popen(
            [sys.executable, "-c", IMPATIENT_SNAKEMAKE, "--workflow-profile", "slurm", "--configfile", TINY],
            cwd=project.folder,
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
        )
    try:
        victim = wait_for(
            "a training runs", lambda: [j for j, rule in jobs("RUNNING").items() if "train_vae" in rule], run
        )[0]
        slurm_command("scancel", victim)
        wait_for("the killed training is sent again", lambda: "Trying to restart job" in log.read_text(), run)

        slurm_command("scontrol", "update", f"nodename={node}", "state=drain", "reason=a test")
        wait_for("a drained node is empty", lambda: jobs("PENDING") and not jobs("RUNNING,COMPLETING"), run)
        time.sleep(2)
        assert not jobs("RUNNING")
        assert run.poll() is None
        slurm_command("scontrol", "update", f"nodename={node}", "state=resume")
        assert run.wait(timeout=1800) == 0, log.read_text()[-3000:]
    except BaseException:
        print(log.read_text()[-5000:])
        raise
    finally:
        run.terminate()
        run.wait()
        subprocess.run(["scontrol", "update", f"nodename={node}", "state=resume"], capture_output=True, check=False)

    assert victim in jobs("CANCELLED")
    assert differing(project.folder / "results", local.folder / "results") == []
    # The statistics of a model are one job, and so are all tables and figures: far fewer jobs than steps.
    sent = [rule for rule in jobs("all").values() if rule]
    steps = len(re.findall(r"^[0-9:]{8} done ", log.read_text(), flags=re.MULTILINE))
    assert len(sent) < steps / 2
    assert project.plan() == {}


def test_a_bare_cache_switch_reaches_the_jobs_of_a_cluster(slurm, local, project):
    project.run(
        *("--workflow-profile", "slurm", "--configfile", TINY, "--slurm-init-seconds-before-status-checks", "1"),
        *("--seconds-between-status-checks", "1", "--cache", "--", DATA),
        SNAKEMAKE_OUTPUT_CACHE=str(project.cache),
    )
    entries = {path.name for path in project.cache.iterdir()}
    assert len(entries) == 2
    # Under the very name that a local run gives it.
    assert entries <= {path.name for path in local.cache.iterdir()}
    assert differing(project.folder / DATA, local.folder / DATA) == []


def test_a_scheduler_known_only_by_its_submit_command(slurm, local, project):
    project.run(
        *("--workflow-profile", "cluster-generic", "--configfile", TINY, "--seconds-between-status-checks", "1"),
        DATA,
    )
    assert "prepare_dataset" in slurm_command("squeue", "--noheader", "--states=COMPLETED", "--format=%j")
    assert (project.folder / DATA).read_bytes() == (local.folder / DATA).read_bytes()
