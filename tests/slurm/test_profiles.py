"""Every profile is one that Snakemake takes, and a large sweep is planned before patience ends."""

from __future__ import annotations

import re
import resource

import pytest
import yaml

from ..workflow.conftest import ROOT, TINY, Project, copy_project

# The Kubernetes profile needs a plugin that is not installed, and is marked as untried.
PROFILES = ("default", "gpu", "slurm", "cluster-generic")


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return copy_project(tmp_path_factory.mktemp("profiles") / "project")


@pytest.mark.parametrize("name", PROFILES)
def test_a_profile_plans_the_run(project, name):
    assert project.plan("--workflow-profile", name)["train_vae"] == 3


@pytest.mark.parametrize("name", [*PROFILES, "kubernetes"])
def test_every_entry_of_a_profile_has_its_reason(name):
    """A comment stands above each entry, or above the run of entries that share a reason."""
    lines = (ROOT / f"profiles/{name}/profile.yaml").read_text().splitlines()
    assert lines[0].startswith("# ")
    for number, line in enumerate(lines):
        if re.match(r"[a-z]", line) and not line.startswith(("executor", "default-resources")):
            assert lines[number - 1].lstrip().startswith("#"), f"{name}: {line}"


def test_groups_name_rules_that_exist_and_leave_no_figure_out(project):
    groups = yaml.safe_load((ROOT / "profiles/slurm/profile.yaml").read_text())["groups"]
    planned = set(project.plan())
    assert set(groups) <= planned | {"prepare_posteriors", "measure_latent_map"}
    small = {rule for rule in planned if rule.startswith(("collect_", "check_", "plot_"))}
    assert small <= set(groups)


def test_a_thousand_models_are_planned_in_half_a_minute(project):
    sweep = yaml.safe_load((ROOT / TINY.replace("config", "tests/workflow")).read_text())
    sweep["experiment"] = "thousand"
    sweep["sweeps"][0] |= {"kl_weights": [0.25, 0.5, 1, 2, 4], "latent_dims": [2, 4, 8, 16], "seeds": list(range(50))}
    (project.folder / "config/thousand.yaml").write_text(yaml.safe_dump(sweep))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = project.run("-n", "--cores", "2", "--configfile", "config/thousand.yaml", "--quiet", "rules")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert re.search(r"train_vae\s+1001\b", done.stdout + done.stderr)
    # Seconds of computing and not of waiting, so that other work on the machine does not count.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 30
