"""Verdicts: each claim on tables whose answer is known."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aggregated_posterior.evidence.claims import Evidence, decide, evaluate, mean_value, seed_interval, verdict_table
from aggregated_posterior.evidence.tables import CELL, KEYS
from aggregated_posterior.pipeline.schemas import read_yaml

LEDGER = read_yaml(Path(__file__).resolve().parents[3] / "config/claims.yaml")
LEDGER = {**LEDGER, "bootstrap_replicates": 200}


def keys(dataset="mnist", latent_dim=4, kl_weight=1.0, seed=0):
    architecture = "linear" if dataset.startswith("control") else "dense"
    return dict(zip(KEYS, ["test", dataset, architecture, "bernoulli", latent_dim, kl_weight, seed], strict=True))


def moments(kurtosis=2.0, mean=0.0, second=1.0, z=1.0, active=4, spread=0.3, seeds=(0, 1, 2), weights=(1.0, 4.0)):
    """Runs whose active dimensions have the given values (a function of the KL weight, or a number)."""
    rng = np.random.default_rng(0)
    rows = []
    for kl_weight in weights:
        centre = kurtosis(kl_weight) if callable(kurtosis) else kurtosis
        for seed in seeds:
            for form in ("raw", "canonical"):
                for split in ("train", "test"):
                    for dimension in range(4):
                        value = centre + spread * (dimension - 1.5) + 0.01 * rng.normal()
                        rows.append(
                            {
                                **keys(kl_weight=kl_weight, seed=seed),
                                "split": split,
                                "form": form,
                                "dimension": dimension,
                                "mean": mean if form == "raw" else 0.0,
                                "second_moment": second if form == "raw" else 1.0,
                                "kurtosis": value,
                                "kurtosis_se": 0.02,
                                "kurtosis_low": value - 0.04,
                                "kurtosis_high": value + 0.04,
                                "active": dimension < active,
                                "draws_z_mean": z,
                                "draws_z_kurtosis": -z,
                            }
                        )
    return pd.DataFrame(rows)


def divergence(bound=2.0, seeds=(0, 1, 2)):
    rows = [
        {
            **keys(seed=seed),
            "form": form,
            "certified_gaussian": 0.1,
            "certified_gmm": bound + 0.01 * seed,
            "dimension_wise_kl": 0.5,
        }
        for seed in seeds
        for form in ("raw", "canonical")
    ]
    return pd.DataFrame(rows)


def samplers(prior=20.0, marginals=19.0, gmm=8.0, floor=1.0, seeds=(0, 1, 2)):
    values = {"prior": prior, "marginals": marginals, "gmm_100": gmm, "floor": floor}
    rows = [
        {**keys(seed=seed), "judge": judge, "sampler": name, "frechet": value + 0.1 * seed + judge * (name != "floor")}
        for seed in seeds
        for judge in (0, 1)
        for name, value in values.items()
    ]
    return pd.DataFrame(rows)


def controls(error=0.0):
    rows = [
        {
            **keys(dataset),
            "active": True,
            "excess_kurtosis": answer + error,
            "expected_excess_kurtosis": answer,
            "kurtosis_se": 0.02,
        }
        for dataset, answer in (("control_gaussian", 0.0), ("control_uniform", -0.6))
    ]
    return pd.DataFrame(rows)


def marginals(kl=0.001):
    return pd.DataFrame([{**keys("control_gaussian"), "form": "canonical", "kl": kl}])


def judge(**tables):
    evidence = {
        "moments": moments(),
        "marginals": marginals(),
        "divergence": divergence(),
        "samplers": samplers(),
        "controls": controls(),
    }
    return {v.id: v for v in evaluate(Evidence(**{**evidence, **tables}, ledger=LEDGER))}


def test_every_claim_of_the_ledger_has_a_verdict():
    assert set(judge()) == set(LEDGER["claims"])


@pytest.mark.parametrize(
    ("claim", "tables", "verdict"),
    [
        ("C0", {"moments": moments(z=3.9)}, "supported"),
        ("C0", {"moments": moments(z=4.1)}, "refuted"),
        ("C1", {"moments": moments(mean=0.04)}, "supported"),
        ("C1", {"moments": moments(mean=-0.06)}, "refuted"),
        ("C2", {"moments": moments(second=0.96)}, "supported"),
        ("C2", {"moments": moments(second=1.2)}, "refuted"),
        ("C3", {"moments": moments()}, "supported"),
        ("C4", {"moments": moments(kurtosis=2.0)}, "supported"),
        ("C4", {"moments": moments(kurtosis=3.0, spread=0.02)}, "refuted"),
        ("C4β", {"moments": moments(kurtosis=lambda b: 3 - 1 / b)}, "supported"),
        ("C4β", {"moments": moments(kurtosis=lambda b: 3 - b)}, "refuted"),
        ("C5", {"divergence": divergence(2.0)}, "supported"),
        ("C5", {"divergence": divergence(0.5)}, "refuted"),
        ("C5s", {}, "reported"),
        ("C6", {}, "supported"),
        ("C6", {"samplers": samplers(gmm=19.5)}, "refuted"),
        ("C6k", {}, "supported"),
        ("C6k", {"samplers": samplers(marginals=21.0)}, "refuted"),
        ("C7", {}, "supported"),
        ("C8", {}, "supported"),
        ("C8", {"controls": controls(0.05)}, "refuted"),
        ("C8", {"marginals": marginals(0.02)}, "refuted"),
    ],
)
def test_verdicts_on_known_tables(claim, tables, verdict):
    assert judge(**tables)[claim].verdict == verdict


def test_numbers_are_the_ones_that_the_statistic_names():
    verdicts = judge(moments=moments(mean=-0.07, second=0.9))
    assert verdicts["C1"].estimate == pytest.approx(0.07)
    assert verdicts["C2"].estimate == pytest.approx(0.1)
    assert verdicts["C5"].estimate == pytest.approx(2.01)
    assert verdicts["C5s"].estimate == pytest.approx(0.5 / 2.01, rel=1e-2)
    # The mean over judges of the distances: prior 20.6, GMM 8.6, floor 1.1 on average over seeds.
    assert verdicts["C6"].estimate == pytest.approx(12 / 19.5, rel=1e-6)
    assert verdicts["C6k"].estimate == pytest.approx(1 / 19.5, rel=1e-6)
    assert verdicts["C4"].estimate == pytest.approx(1.0)
    assert verdicts["C4"].runs == 6


def test_without_active_dimensions_nothing_is_claimed():
    verdicts = judge(moments=moments(active=0))
    for claim in ("C1", "C2", "C3", "C4", "C4β"):
        assert verdicts[claim].verdict == "inconclusive"


def test_with_one_seed_nothing_is_claimed_about_runs():
    one = judge(moments=moments(seeds=(0,)), divergence=divergence(seeds=(0,)), samplers=samplers(seeds=(0,)))
    for claim in ("C1", "C2", "C3", "C4", "C4β", "C5", "C6", "C6k"):
        assert one[claim].verdict == "inconclusive"
        assert np.isfinite(one[claim].estimate)


def test_with_empty_tables_nothing_is_claimed():
    empty = pd.DataFrame(columns=KEYS)
    verdicts = judge(divergence=empty, samplers=empty, controls=empty)
    for claim in ("C5", "C6", "C6k", "C8"):
        assert verdicts[claim].verdict == "inconclusive"
    assert verdict_table(list(verdicts.values())).shape[0] == len(verdicts)


def test_decisions():
    assert decide(0.6, 0.8, 0.5, above=True) == "supported"
    assert decide(0.2, 0.4, 0.5, above=True) == "refuted"
    assert decide(0.4, 0.6, 0.5, above=True) == "inconclusive"
    assert decide(0.2, 0.4, 0.5, above=False) == "supported"
    assert decide(np.nan, np.nan, 0.5, above=True) == "inconclusive"


def test_the_interval_covers_as_often_as_it_says():
    """Seeds resampled within cells: coverage of the mean over many synthetic sweeps with enough seeds."""
    rng = np.random.default_rng(3)
    hits = 0
    for trial in range(40):
        values = rng.normal(size=(2, 30))
        table = pd.DataFrame(
            [
                {**dict(zip(CELL, ["a", "b", 2, cell], strict=True)), "seed": seed, "value": values[cell, seed]}
                for cell in range(2)
                for seed in range(30)
            ]
        )
        _, low, high = seed_interval(table, mean_value, 200, 0.95, trial)
        hits += low <= 0 <= high
    assert 33 <= hits <= 40
