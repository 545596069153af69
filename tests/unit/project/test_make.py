"""Targets of the Makefile that pass on what a user types."""

import os
import subprocess
import sys

import numpy as np
import pytest

from .test_project import ROOT


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run make with this Python's environment, which is taken as installed."""
    command = ["make", "--no-print-directory", f"VENV={sys.prefix}", "-o", f"{sys.prefix}/.installed", *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="make looks for Python in an environment")
def test_audit_without_an_active_environment(tmp_path):
    rng = np.random.default_rng(0)
    mean = rng.standard_normal((400, 2))
    path = tmp_path / "my posteriors.npz"
    np.savez(path, mean=mean, variance=np.full_like(mean, 0.1))
    page = tmp_path / "audit.html"
    done = make("audit", f"FILE={path}", f"ARGS=--html {page}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "kurtosis" in done.stdout.lower()
    assert page.exists()


def test_audit_says_which_file_it_wants():
    done = make("audit")
    assert done.returncode != 0
    assert "make audit FILE=posteriors.npz" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_help_names_the_targets_that_the_pages_name():
    done = make("help")
    assert {"reproduce", "audit", "report"} <= {line.split()[0] for line in done.stdout.splitlines()}
