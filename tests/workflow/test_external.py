"""Posteriors of a model trained elsewhere go through the same rules, tables and figures, without training."""

import json

import numpy as np
import pytest

from aggregated_posterior.storage import read_table

from .conftest import TINY

CONFIG = """
experiment: theirs
sweeps: []
external_posteriors:
  - {name: far, file: far.npz, latent_dim: 2, kl_weight: 0.5}
statistics: {draws: 2000, divergence_points: 200, divergence_components: 2, divergence_fit_points: 500}
"""


def test_from_a_file_to_figures_and_verdicts(fresh):
    rng = np.random.default_rng(0)
    # Two clusters at ±0.9 in the first dimension, N(0, 1) in the second: kurtosis 3 − 2 · 0.9⁴ and 3.
    mean = np.column_stack([rng.choice([-0.9, 0.9], 4000), np.zeros(4000)])
    variance = np.tile([0.19, 1.0], (4000, 1))
    np.savez(
        fresh.folder / "far.npz", mean=mean, std=np.sqrt(variance), mean_test=mean[:500], std_test=variance[:500] ** 0.5
    )
    (fresh.folder / TINY).write_text(CONFIG)
    done = fresh.run("--cores", "2", "--configfile", TINY)
    assert "train_vae" not in done.stdout + done.stderr
    results = fresh.folder / "results/theirs"
    moments = read_table(results / "tables/moments.csv")
    row = moments[(moments["split"] == "train") & (moments["form"] == "canonical")].set_index("dimension")
    assert row.loc[0, "kurtosis"] == pytest.approx(3 - 2 * 0.9**4, abs=0.01)
    assert row.loc[1, "kurtosis"] == pytest.approx(3, abs=1e-9)
    assert row["active"].tolist() == [True, False]
    assert set(moments["architecture"]) == {"external"}
    assert len(list((results / "figures").glob("*.svg"))) == 12
    verdicts = {claim["id"]: claim["verdict"] for claim in json.loads((results / "claims.json").read_text())}
    assert verdicts["C0"] == "supported"
    assert fresh.plan() == {}


def test_a_bad_file_is_a_short_error(fresh):
    np.savez(fresh.folder / "far.npz", mean=np.zeros((10, 3)), variance=np.ones((10, 3)))
    (fresh.folder / TINY).write_text(CONFIG)
    target = "results/theirs/models/far/external/latent_2/kl_0.5/seed_0/posteriors.safetensors"
    done = fresh.run(target, "--cores", "1", "--configfile", TINY, check=False)
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "has 3 latent dimensions, the configuration says 2" in output
    assert "Traceback" not in output
