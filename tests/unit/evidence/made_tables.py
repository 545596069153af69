"""Tables of made-up experiments: every cell and run has the values that a test asks for."""

from pathlib import Path

import numpy as np
import pandas as pd

from aggregated_posterior.evidence.claims import Evidence
from aggregated_posterior.evidence.tables import KEYS
from aggregated_posterior.pipeline.schemas import read_yaml

LEDGER = read_yaml(Path(__file__).resolve().parents[3] / "config/claims.yaml")
SEEDS = (10, 11, 12, 13, 14)
WEIGHTS = (0.5, 1.0, 4.0)
# Every rung at a distance of its own: scale, shape and dependence remove 20, 2 and 8 of the raw prior's penalty.
RUNGS = {"prior_raw": 41.0, "marginals_raw": 39.0, "dependence_raw": 33.0, "q_train_raw": 31.0}
RUNGS |= {"prior": 21.0, "marginals": 19.0, "dependence": 13.0, "q_train": 11.0, "gmm_100": 12.0, "floor": 1.0}


def keys(dataset="mnist", architecture="dense", latent_dim=4, kl_weight=1.0, seed=10):
    return dict(zip(KEYS, ["test", dataset, architecture, "bernoulli", latent_dim, kl_weight, seed], strict=True))


def runs(seeds=SEEDS, weights=WEIGHTS, **fixed):
    """The keys of every run of one data set, architecture and latent size."""
    return [keys(kl_weight=weight, seed=seed, **fixed) for weight in weights for seed in seeds]


def moments(
    kurtosis=2.0, mean=0.0, second=1.0, z=1.0, active=4, spread=0.3, error=0.02, held_out=None, models=None, **fixed
):
    """Four dimensions a run; `kurtosis` is a number or a function of the KL weight, `mean` and `second` are raw."""
    rows = []
    for number, model in enumerate(models or runs(**fixed)):
        centre = kurtosis(model["kl_weight"]) if callable(kurtosis) else kurtosis
        for form in ("raw", "canonical"):
            for split in ("train", "test"):
                first, other = (mean, second) if split == "train" or held_out is None else held_out
                for dimension in range(4):
                    value = centre + spread * (dimension - 1.5) / np.sqrt(5 / 3) + 0.001 * (number % 5)
                    rows.append(
                        {
                            **model,
                            "split": split,
                            "form": form,
                            "dimension": dimension,
                            "mean": first if form == "raw" else 0.0,
                            "variance": other - first**2 if form == "raw" else 1.0,
                            "second_moment": other if form == "raw" else 1.0,
                            "variance_of_means": 0.9,
                            "skewness": 0.0,
                            "kurtosis": value,
                            "kurtosis_se": error,
                            "kurtosis_low": value - 1.96 * error,
                            "kurtosis_high": value + 1.96 * error,
                            "gauge_slack": 0.01,
                            "active": dimension < active,
                            "draws_z_mean": z,
                            "draws_z_kurtosis": -z,
                        }
                    )
    return pd.DataFrame(rows)


def divergence(bound=2.0, error=0.01, upper=4.0, n_test=10000, models=None, **fixed):
    rows = [
        {
            **model,
            "form": form,
            "certified_gaussian": 0.0,
            "certified_gaussian_se": 0.01,
            "certified_gmm": bound + 0.01 * (model["seed"] - 12),
            "certified_gmm_se": error,
            "bracket_high": upper + 0.01 * (model["seed"] - 12),
            "bracket_high_se": 0.01,
            "dimension_wise_kl": 0.5,
            "n_test": n_test,
        }
        for model in models or runs(**fixed)
        for form in ("raw", "canonical")
    ]
    return pd.DataFrame(rows)


def gaussian_control(bound=-0.01):
    return divergence(bound, models=[keys("control_gaussian", "linear", seed=12)])


def samplers(rungs=None, models=None, judges=(0, 1), **fixed):
    """Distances of all rungs: a judge shifts all alike, a seed moves the prior's penalty by a twentieth or less."""
    rows = []
    for model in models or runs(**fixed):
        for judge in judges:
            for rung, value in {**RUNGS, **(rungs or {})}.items():
                moved = 1.0 + (value - 1.0) * (1 + 0.02 * (model["seed"] - 12)) + judge
                rows.append({**model, "judge": judge, "sampler": rung, "frechet": moved, "kid": moved / 10})
    return pd.DataFrame(rows)


def controls(error=0.0, term="excess_kurtosis", names=("control_gaussian", "control_uniform", "control_mixture")):
    answers = {"control_gaussian": 0.0, "control_uniform": -0.6, "control_mixture": -0.9}
    rows = []
    for name in names:
        expected = {"excess_kurtosis": answers[name], "term_means": 0.0, "term_covariance": answers[name]}
        expected |= {"term_scale": 0.0}
        found = {key: value + error * (key == term) for key, value in expected.items()}
        rows.append({**keys(name, "linear"), **found, **{f"expected_{key}": value for key, value in expected.items()}})
    return pd.DataFrame(rows)


def losses(difference=-0.5, noise=0.1, variants=("", "customary"), **fixed):
    """Held-out losses: `difference` between the main training and every variant, which seeds move by `noise`."""
    rows = []
    for label in variants:
        for model in runs(architecture=f"dense_{label}" if label else "dense", **fixed):
            value = 100.0 + 3 * model["seed"] + model["kl_weight"]
            value += (difference + noise * (model["seed"] - 12)) * (label == "")
            for split, loss in (("train", 0.0), ("test", value)):
                rows.append({**model, "split": split, "reconstruction": loss - 1, "kl": 1.0, "loss": loss})
    return pd.DataFrame(rows)


def evidence(**tables):
    """The evidence of an experiment with all that the ledger asks for, and these tables in place of its own."""
    whole = {
        "moments": moments(),
        "divergence": pd.concat([divergence(), gaussian_control()], ignore_index=True),
        "samplers": samplers(),
        "controls": controls(),
        "losses": losses(),
    }
    return Evidence(**{**whole, **tables}, ledger=LEDGER)
