"""The configuration's word for how the libraries compute reaches every job: local ones and a cluster's."""

import os

import pytest

from aggregated_posterior import numerics
from aggregated_posterior.storage import read_arrays

from .conftest import TINY

MODEL = "results/tiny/models/control_gaussian/linear/latent_2/kl_1/seed_0/vae.safetensors"
# A submission that waits for its job, and hands on nothing of this process's environment, as a cluster may.
SUBMIT = f"env -i PATH={os.environ['PATH']} HOME={os.environ.get('HOME', '/')} bash"
CLUSTER = (
    "--executor",
    "cluster-generic",
    "--cluster-generic-submit-cmd",
    SUBMIT,
    "--jobs",
    "1",
    "--latency-wait",
    "5",
)


def trained_with(project):
    return read_arrays(project.folder / MODEL)[1]["run"]["numerics"]


@pytest.mark.parametrize("where", [("--cores", "1"), CLUSTER], ids=["local", "cluster"])
def test_jobs_are_pinned_whatever_the_shell_had_set(fresh, where):
    fresh.run(*where, "--configfile", TINY, "--", MODEL, OPENBLAS_CORETYPE="Prescott", MKL_CBWR="AUTO")
    found = trained_with(fresh)
    assert (found["mode"], found["pins"]) == ("portable", numerics.PINS)


def test_native_lifts_the_pins_says_so_and_is_another_entry_of_the_cache(fresh):
    cache = str(fresh.folder.parent / "cache")

    def run(word):
        options = ("--cores", "1", "--configfile", TINY, "--cache", "--config", f"numerics={word}")
        done = fresh.run(*options, "--", MODEL, SNAKEMAKE_OUTPUT_CACHE=cache)
        said = done.stdout + done.stderr
        return "numerics: native" in said, f"Taken from the cache: {MODEL}" in said, trained_with(fresh)

    notice, cached, found = run("portable")
    assert not notice and not cached and found["mode"] == "portable"
    notice, cached, found = run("native")
    assert notice and not cached and found["mode"] == "native" and found["pins"] == {}
    # The first word again makes the model again, from the cache, which has both.
    notice, cached, found = run("portable")
    assert not notice and cached and found["mode"] == "portable"
