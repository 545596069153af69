"""What `make resume` clears away, and what it leaves alone."""

import subprocess
import sys
import uuid

import pytest
from tools.resume import end_left_jobs, is_snakemake, remove_half_written

from aggregated_posterior.storage import atomic_path


def test_half_written_files_are_removed_and_nothing_else(tmp_path):
    kept = [
        tmp_path / "results/tiny/table.csv",
        tmp_path / "results/.a.part",
        tmp_path / f"config/.a.{uuid.uuid4().hex}.part",
    ]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    # A name that storage itself gives, so that the two cannot drift apart.
    with atomic_path(tmp_path / "results/tiny/models/vae.safetensors") as temporary:
        temporary.touch()
        assert remove_half_written(tmp_path) == 1
        assert not temporary.exists()
        temporary.touch()
    assert all(path.exists() for path in kept)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["/venv/bin/python", "/venv/bin/snakemake", "--cores", "2"], True),
        (["python", "-m", "snakemake", "--cores", "2"], True),
        (["snakemake"], True),
        (["python", "-m", "snakemake", "--unlock"], False),
        (["snakemake", "-n", "--cores", "2"], False),
        (["less", "/home/somebody/snakemake.txt"], False),
        (["python", "/home/somebody/.snakemake/scripts/tmp1.train_vae.py"], False),
        ([], False),
    ],
)
def test_only_a_snakemake_that_works_is_one(command, expected):
    assert is_snakemake(command) == expected


def test_jobs_that_lost_their_snakemake_are_ended_and_those_of_other_folders_are_not(tmp_path):
    jobs = []
    for name in ("here", "there"):
        script = tmp_path / name / ".snakemake/scripts/tmp1.train_vae.py"
        script.parent.mkdir(parents=True)
        script.write_text("import time\ntime.sleep(60)\n")
        jobs.append(subprocess.Popen([sys.executable, str(script)], cwd=tmp_path / name))
    try:
        assert end_left_jobs(tmp_path / "here") == 1
        assert jobs[0].poll() is not None
        assert jobs[1].poll() is None
    finally:
        for job in jobs:
            job.kill()
            job.wait()
