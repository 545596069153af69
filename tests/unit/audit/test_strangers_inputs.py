"""Inputs in the manner of what users bring (CASES 2–14, 22): every kind gives the right answer, or says why not."""

from __future__ import annotations

import html
import json
import re
import shlex

import h5py
import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file

from aggregated_posterior.audit import audit_command
from aggregated_posterior.audit.auditing import Audit, audit, audit_file, audit_levels
from aggregated_posterior.audit.cli import main
from aggregated_posterior.audit.codes import distances_of_codes
from aggregated_posterior.audit.plan import plan_audit
from aggregated_posterior.generation.chosen_sampler import choose_sampler
from aggregated_posterior.posterior.exchangeable import same_rows
from aggregated_posterior.posterior.foreign_files import Reading, meaning, read_posteriors
from aggregated_posterior.posterior.mixture import AggregatedPosterior
from aggregated_posterior.posterior.splits import Posteriors
from aggregated_posterior.storage import DataError

FAST = {"points": 300, "gmm_components": 4, "fit_points": 2000}


def normal(rows: int, dimensions: int, variance: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Means of N(0, 1 − variance) under posteriors of that variance: the population's Q is N(0, I)."""
    rng = np.random.default_rng(seed)
    mean = np.sqrt(1 - variance) * rng.standard_normal((rows, dimensions))
    return mean, np.full_like(mean, variance)


def certifies_nothing(result: Audit) -> bool:
    return (
        result.summary["verdict"] != "doubtful"
        and result.mismatch.set_index("part").loc["dependence", "low"] == 0
        and result.summary["certified"] < 0.1
        and max(result.summary["prior_misses_raw"], result.summary["prior_misses_canonical"]) < 0.05
    )


# ------------------------------------------------------------ rows that belong together


def test_repeated_rows_certify_nothing_and_are_counted():
    mean, variance = normal(200, 8, 0.01)
    result = audit(np.repeat(mean, 20, 0), np.repeat(variance, 20, 0), **FAST)
    assert certifies_nothing(result)
    (warning,) = [text for text in result.warnings if "repeat" in text]
    assert "3,800 of 4,000" in warning and "200 are different" in warning
    assert result.summary["groups"] == 200
    assert certifies_nothing(audit(mean, variance, **FAST))


def test_rows_repeated_up_to_rounding_are_found_too():
    mean, variance = normal(200, 8, 0.01)
    noise = 1e-6 * np.random.default_rng(1).standard_normal((4000, 8))
    result = audit(np.repeat(mean, 20, 0) + noise, np.repeat(variance, 20, 0), **FAST)
    assert certifies_nothing(result) and result.summary["groups"] == 200


def test_the_lower_end_holds_for_the_population():
    """½ N(−2, ½²) + ½ N(2, ½²) in one dimension, N(0, 1) in two: KL(Q‖N(0, I)) = 1.6251 nats."""
    too_high = 0
    for seed in range(20):
        rng = np.random.default_rng(1000 + seed)
        sign = rng.integers(0, 2, 600) * 4 - 2.0
        mean = np.c_[sign + 0.3 * rng.standard_normal(600), 0.8 * rng.standard_normal((600, 2))]
        result = audit(mean, np.c_[np.full(600, 0.16), np.full((600, 2), 0.36)], points=200, gmm_components=5)
        low, high = result.mismatch.set_index("part").loc["total", ["low", "high"]]
        too_high += low > 1.6251
        assert 1.2 < low < high
    assert too_high <= 2  # 5 % of 20 is 1


@pytest.mark.parametrize("rows", [1, 3, 9])
def test_fewer_rows_than_can_be_held_out_leave_it_open(rows):
    result = audit(*normal(rows, 4, 0.36))
    assert result.summary["verdict"] == "open" and "fewer than 10 rows" in result.verdict
    assert not any("Rescale" in text or "buys" in text for text in result.advice)


def test_a_prior_of_ones_own_is_judged_in_the_place_of_the_normal_law():
    rng = np.random.default_rng(11)
    means, variances = np.array([[1.5, 0, 0], [-1.5, 0, 0]]), np.full((2, 3), 0.25)
    mean = means[rng.integers(0, 2, 1500)] + 0.3 * rng.standard_normal((1500, 3))
    variance = np.full(mean.shape, 0.16)
    right = audit(mean, variance, prior={"means": means, "variances": variances}, **FAST)
    assert right.summary["verdict"] == "in order" and "your own prior (a mixture of 2)" in right.verdict
    assert right.advice == ["Keep your own prior: nothing that was fitted to these rows gains over it."]
    assert not any("Scale is off" in text for text in right.findings)
    wrong = audit(mean, variance, prior={"means": means + 1, "variances": variances}, **FAST)
    assert wrong.summary["verdict"] == "doubtful"
    (advice,) = wrong.advice
    assert advice.startswith("Sample a mixture of ") and "instead of your own prior" in advice
    few = audit(mean[:8], variance[:8], prior={"means": means, "variances": variances}, **FAST)
    assert few.summary["verdict"] == "open" and "nothing could be held out" in few.verdict


@pytest.mark.parametrize("kind", ["float16", "bfloat16", "noise", "variances"])
def test_copies_in_another_precision_certify_nothing(kind):
    """The population is N(0, I): what is certified of it is wrong."""
    rng = np.random.default_rng(5)
    mean, variance = normal(1000, 8, 0.1)
    if kind in ("float16", "bfloat16"):
        rows = rng.permutation(1000)[:300]
        half = [torch.from_numpy(x[rows]).to(getattr(torch, kind)).float().numpy() for x in (mean, variance)]
        result = audit(mean, variance, mean_test=half[0], variance_test=half[1], **FAST)
        assert any("300 of 300 held-out rows are training rows too" in text for text in result.warnings)
    else:
        mean, variance = (np.repeat(x[:100], 10, axis=0) for x in (mean, variance))
        noise = 1e-3 * rng.standard_normal(mean.shape)
        result = audit(mean + noise * (kind == "noise"), variance * np.exp(noise * (kind == "variances")), **FAST)
        assert any("900 of 1,000 rows repeat another one" in text for text in result.warnings)
    assert certifies_nothing(result)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 16])
@pytest.mark.parametrize("variance", [0.01, 0.1, 0.9])
def test_rows_that_chance_brings_near_are_no_copies(dimensions, variance):
    rng = np.random.default_rng(0)
    sheet = np.tanh(rng.standard_normal((4000, 2)) @ rng.standard_normal((2, dimensions)))
    for mean in (rng.standard_normal((4000, dimensions)), sheet, rng.standard_t(3, (4000, dimensions))):
        for width in (np.full(mean.shape, variance), variance * np.exp(0.3 * rng.standard_normal(mean.shape))):
            groups = same_rows(AggregatedPosterior(mean, width))
            assert len(groups) - len(np.unique(groups)) <= 0.002 * len(groups)


def test_held_out_rows_that_are_training_rows_certify_nothing():
    mean, variance = normal(1000, 8, 0.01)
    result = audit(mean, variance, mean_test=mean[:300], variance_test=variance[:300], **FAST)
    assert certifies_nothing(result)
    assert any("300 of 300 held-out rows are training rows" in text for text in result.warnings)
    # Some that are new: those alone are used.
    fresh, _ = normal(100, 8, 0.01, seed=1)
    test = np.concatenate([mean[:300], fresh])
    result = audit(mean, variance, mean_test=test, variance_test=np.full_like(test, 0.01), **FAST)
    assert certifies_nothing(result) and "100 that are not training rows" in result.summary["held_out"]


def test_groups_are_held_out_whole_and_widen_the_errors():
    mean, _ = normal(150, 8, 0.02)
    rng = np.random.default_rng(2)
    rows = np.repeat(mean, 20, 0) + 0.1 * rng.standard_normal((3000, 8))
    variance = np.full_like(rows, 0.01)
    groups = np.repeat([f"image {i}" for i in range(150)], 20)
    order = rng.permutation(3000)
    rows, groups = rows[order], groups[order]
    together = audit(rows, variance, groups=groups, **FAST)
    assert certifies_nothing(together) and together.summary["groups"] == 150
    # The same rows taken for independent ones give the false certificate that groups are there against.
    apart = audit(rows, variance, **FAST)
    assert not certifies_nothing(apart)
    width = [(r.dimensions["kurtosis_high"] - r.dimensions["kurtosis_low"]).median() for r in (together, apart)]
    assert width[0] > 2 * width[1]


def test_few_large_groups_are_groups_and_no_law_of_few_rows():
    rng = np.random.default_rng(0)
    users = np.repeat(np.arange(15), 100)
    rows = 0.95 * rng.standard_normal((15, 8))[users] + 0.1 * rng.standard_normal((1500, 8))
    result = audit(rows, np.full((1500, 8), 0.09), groups=users, **FAST)
    assert certifies_nothing(result) and not result.summary["discrete"]
    assert result.summary["groups"] == 15 and "a fifth of the groups" in result.summary["held_out"]
    # Atoms of a law are still atoms, also where groups say so.
    atoms = rng.standard_normal((15, 8))[users]
    for groups in ({}, {"groups": users}):
        assert audit(atoms, np.full((1500, 8), 0.09), **groups, **FAST).summary["discrete"]


def test_weights_are_repetitions():
    mean, variance = normal(400, 3, 0.3)
    weights = np.random.default_rng(3).integers(1, 5, 400)
    weighted = audit(mean, variance, weights=weights, **FAST).dimensions
    repeated = audit(np.repeat(mean, weights, 0), np.repeat(variance, weights, 0), **FAST).dimensions
    names = ["mean", "variance", "kurtosis", "kl", "marginal_kl"]
    np.testing.assert_allclose(weighted[names], repeated[names], rtol=1e-12)
    np.testing.assert_allclose(weighted["mean"], np.average(mean, axis=0, weights=weights), atol=1e-12)
    # Weights that are no multiples are met to within their rounding.
    odd = np.random.default_rng(4).uniform(0.1, 1, 400)
    got = audit(mean, variance, weights=odd, **FAST).dimensions["mean"]
    np.testing.assert_allclose(got, np.average(mean, axis=0, weights=odd), atol=3e-3)
    with pytest.raises(DataError, match="weights"):
        audit(mean, variance, weights=-odd, **FAST)


# ---------------------------------------------------------------------------------------------------- what is advised


@pytest.mark.parametrize("where", ["log_variance", "mean"])
def test_an_outlier_is_named_and_does_not_ruin_the_advice(where):
    mean, variance = normal(1000, 6, 0.2)
    arrays = {"mean": mean, "log_variance": np.log(variance)}
    arrays[where][17, 3] = 20.0 if where == "log_variance" else 200.0
    result = audit(**arrays, **FAST)
    (warning,) = result.warnings
    assert "Row 17, dimension 3" in warning and "left out" in warning
    assert not any(text.startswith("Rescale") for text in result.advice)
    assert result.summary["verdict"] != "doubtful"
    assert result.summary["outliers"][0]["row"] == 17
    np.testing.assert_allclose(result.dimensions["variance"], 1, atol=0.15)


def test_the_advised_sampler_beats_the_others_on_held_out_rows():
    """CASES 4: four clusters in 32 dimensions, where a mixture of ten full covariances is worse than the prior."""
    rng = np.random.default_rng(0)
    cluster, centres = rng.integers(0, 4, 1000), 0.8 * rng.standard_normal((4, 32))
    mean = centres[cluster] + 0.6 * rng.standard_normal((1000, 32))
    variance = np.full_like(mean, 0.05)
    halves = {"mean_test": mean[500:], "variance_test": variance[500:]}
    result = audit(mean[:500], variance[:500], **halves, points=300)
    table = result.candidates.set_index("candidate")
    advised = table.loc[result.summary["advised_sampler"]]
    assert advised["gain"] > table.loc["normal", "gain"] > table.loc["prior", "gain"]
    assert result.summary["advised_sampler"] == "mixture of 5, diagonal"
    # What the four clusters are worth: H(normal of equal moments) over the mixture's, more than six nats.
    assert result.mismatch.set_index("part").loc["dependence", "low"] > 6
    assert result.advice[0].startswith("Fit a density") and "nats" in result.advice[0]


def test_grain_is_not_taken_for_the_model():
    """CASES 5: needles on N(0, I): the rows' own spikes are no finding, and nothing is called in order either."""
    mean = np.random.default_rng(0).standard_normal((400, 8))
    result = audit(mean, log_variance=np.full_like(mean, -20.0), **FAST)
    assert certifies_nothing(result) and result.summary["verdict"] == "open"
    text = " ".join([result.verdict, *result.findings, *result.advice])
    assert "hides this" not in text and "93%" not in text and "in order" not in text


def test_advice_is_ordered_by_what_it_buys_and_unequal_losses_come_first():
    rng = np.random.default_rng(0)
    common = rng.standard_normal((3000, 1))
    mean = 1.3 * (0.97 * common + 0.2 * rng.standard_normal((3000, 3)))
    small = audit(mean, np.full_like(mean, 0.05), **FAST).advice
    first, second = (next(i for i, t in enumerate(small) if t.startswith(w)) for w in ("Fit a density", "Rescale"))
    assert first < second
    clusters = 8 * rng.standard_normal((10, 6))[rng.integers(0, 10, 1500)]
    mean = clusters + 0.5 * rng.standard_normal((1500, 6))
    huge = audit(mean, log_variance=np.full_like(mean, -6.0), **FAST)
    assert "averaged" in huge.advice[0] and "summed" in huge.advice[0]
    low = huge.mismatch.set_index("part").loc["total", "low"]
    assert low > huge.summary["log_n"] and not any("at most ln N" in text for text in huge.findings)


def test_exact_means_exact(capsys):
    mean, variance = normal(2000, 2, 0.5)
    rows = audit(mean, variance, **FAST).mismatch
    for row in rows.to_dict("records"):
        assert row["exact"] == (row["high"] - row["low"] <= 1e-9 * (1 + row["high"]))
    assert not rows["exact"].all() and rows["exact"][0]


# ----------------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    "make",
    [
        lambda k: pd.Series(k, index=np.arange(len(k)) + 5),
        lambda k: pd.Categorical.from_codes(k, ["a", "b"]),
        lambda k: pd.Series(["ab"[i] for i in k], dtype="category"),
        lambda k: np.array(["ab"[i] for i in k], dtype=object),
        lambda k: ["ab"[i] for i in k],
        lambda k: k.astype(float),  # class numbers are classes whatever their type
        lambda k: k[:, None],
    ],
)
def test_labels_of_every_kind_are_classes(make):
    rng = np.random.default_rng(0)
    k = rng.integers(0, 2, 500)
    mean = np.stack([np.where(k == 1, 0.9, -0.9) + 0.01 * rng.standard_normal(500), rng.standard_normal(500)], axis=1)
    rows = audit(mean, np.full_like(mean, 0.19), labels=make(k), **FAST).dimensions
    assert rows["eta_squared"][0] == pytest.approx(0.81, abs=0.01) and rows["eta_squared"][1] < 0.02


def test_missing_labels_are_left_out_and_columns_stand_side_by_side():
    rng = np.random.default_rng(0)
    k = rng.integers(0, 2, 600)
    age = rng.standard_normal(600)
    mean = np.stack([np.where(k == 1, 0.9, -0.9) + 0.01 * rng.standard_normal(600), 0.8 * age], axis=1)
    table = pd.DataFrame({"cell": np.array(["a", "b"])[k], "age": age})
    table.loc[::3, "cell"] = None
    table.loc[1::3, "age"] = np.nan
    rows = audit(mean, np.full_like(mean, 0.19), labels=table, **FAST).dimensions
    assert rows["eta_squared_cell"][0] == pytest.approx(0.81, abs=0.01)
    assert rows["r_squared_age"][1] == pytest.approx(0.64 / 0.83, abs=0.05)
    floats = np.where(np.arange(600) % 3 == 0, np.nan, k)
    assert audit(mean, np.full_like(mean, 0.19), labels=floats, **FAST).dimensions["eta_squared"][0] > 0.8


# ------------------------------------------------------------------------------------------------- shapes and kinds


def test_spatial_latents_by_channel_and_flat():
    rng = np.random.default_rng(0)
    images = 0.5 + 2 * rng.standard_normal((40, 4, 6, 6))
    spread = np.full_like(images, 0.1)
    result = audit(images, spread, **FAST)
    assert len(result.dimensions) == 4 and result.summary["n"] == 40 * 36 and result.summary["groups"] == 40
    assert any("1,440 rows of 4 channels" in text for text in result.warnings)
    np.testing.assert_allclose(result.summary["latents_mean"], images.mean(axis=(0, 2, 3)), atol=1e-12)
    np.testing.assert_allclose(result.summary["latents_std"], np.sqrt(images.var(axis=(0, 2, 3)) + 0.1), atol=1e-12)
    assert result.summary["shift_factor"] == pytest.approx(images.mean())
    assert result.summary["scaling_factor"] == pytest.approx(1 / np.sqrt(images.var() + 0.1))
    flat = audit(images, spread, layout="flat", **FAST)
    assert len(flat.dimensions) == 4 * 36 and flat.summary["n"] == 40
    with pytest.raises(DataError, match="layout channel"):
        audit(images[..., 0], spread[..., 0])


def test_codes_without_variances():
    rng = np.random.default_rng(0)
    codes = rng.exponential(size=(3000, 2)) - 1
    with pytest.raises(DataError, match="--deterministic"):
        audit(codes)
    result = audit(codes, deterministic=True, **FAST)
    rows = result.dimensions
    np.testing.assert_allclose(
        rows["kurtosis"], [pd.Series(c - c.mean()).pow(4).mean() / c.var() ** 2 for c in codes.T]
    )
    assert rows["active"].all() and rows["marginal_kl"].isna().all()
    # An exponential law's entropy is 1, the normal law's of its variance 1.4189: 0.4189 nats a dimension.
    assert 0.2 < result.mismatch.set_index("part").loc["total", "low"] < 2 * 0.4189
    json.dumps(result.to_dict()["summary"], allow_nan=True)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_codes_with_held_out_codes(tmp_path, capsys, kind):
    rng = np.random.default_rng(0)
    arrays = {
        "mean": rng.standard_normal((200, 3)).astype(kind),
        "mean_test": rng.standard_normal((50, 3)).astype(kind),
    }
    result = audit(**arrays, deterministic=True, **FAST)
    assert result.summary["held_out"] == "the file's own held-out rows" and result.warnings == []
    copied = audit(**arrays | {"mean_test": arrays["mean"][:50]}, deterministic=True, **FAST)
    assert any("50 of 50 held-out rows are training rows" in text for text in copied.warnings)
    np.savez(tmp_path / "own.npz", **arrays)
    assert main(["audit", "--points", "100", str(tmp_path / "own.npz"), "--deterministic"]) == 0
    capsys.readouterr()
    choose_sampler(read_posteriors(tmp_path / "own.npz", Reading(deterministic=True)), components=(2,), fit_points=1000)


def test_distances_of_codes_against_known_values():
    known = distances_of_codes(np.array([[0.0], [0.0]]))
    assert known.ks[0] == pytest.approx(0.5) and known.w2[0] == pytest.approx(1)
    assert known.w1[0] == pytest.approx(np.sqrt(2 / np.pi))  # E|z|
    rng = np.random.default_rng(0)
    x = np.sort(rng.standard_normal(50) * 1.5 + 0.3)[:, None]
    from scipy.special import ndtri

    p = (np.arange(2_000_000) + 0.5) / 2_000_000
    gap = x[np.minimum((p * 50).astype(int), 49), 0] - ndtri(p)
    measured = distances_of_codes(x)
    assert measured.w1[0] == pytest.approx(np.abs(gap).mean(), abs=1e-5)
    assert measured.w2[0] == pytest.approx(np.sqrt((gap**2).mean()), abs=1e-4)


def test_full_covariances():
    """Diagonal matrices say what variances say; correlated ones give the covariance of Q and a certified dependence."""
    mean, variance = normal(600, 3, 0.4)
    full = audit(mean, covariance=np.einsum("ni,ij->nij", variance, np.eye(3)), **FAST)
    diagonal = audit(mean, variance, **FAST)
    names = ["kl", "variance", "kurtosis", "marginal_kl", "ks"]
    np.testing.assert_allclose(full.dimensions[names], diagonal.dimensions[names], atol=1e-12)
    assert full.summary["mean_kl"] == pytest.approx(diagonal.summary["mean_kl"])
    assert any("full covariances" in text for text in full.plan.left_out)
    matrix = np.full((3, 3), 0.9) + 0.1 * np.eye(3)
    zero = 1e-3 * mean
    correlated = audit(zero, covariance=np.tile(matrix, (600, 1, 1)), **FAST)
    truth = -0.5 * np.linalg.slogdet(matrix)[1]
    assert correlated.summary["correlation_kl"] == pytest.approx(truth, abs=0.01)
    assert truth - 0.3 < correlated.mismatch.set_index("part").loc["dependence", "low"] < truth + 0.05
    with pytest.raises(DataError, match="row 4"):
        broken = np.tile(matrix, (600, 1, 1))
        broken[4, 0, 1] = 0.2
        audit(zero, covariance=broken)
    with pytest.raises(DataError, match="scale_tril: row 0 is no lower triangle"):
        audit(zero, scale_tril=np.tile(np.linalg.cholesky(matrix).T, (600, 1, 1)))


def test_a_prior_of_ones_own():
    rng = np.random.default_rng(0)
    k = rng.integers(0, 2, 3000)
    mean = np.where(k[:, None] == 1, 3.0, -3.0) + 0.5 * rng.standard_normal((3000, 2))
    variance = np.full_like(mean, 0.25)
    right = {"means": [[3.0, 3.0], [-3.0, -3.0]], "variances": np.full((2, 2), 0.5)}
    own = audit(mean, variance, prior=right, **FAST).summary["own_prior"]
    assert own["certified"] < 0.02 and own["misses"] < 0.05
    wrong = {"means": np.zeros((1, 2)), "variances": np.full((1, 2), 9.5)}
    result = audit(mean, variance, prior=wrong, **FAST)
    # Two separated normals of variance ½ against one of variance 9.5: ln 9.5 + 1 − ln 2 − ln ½ − 1 = 2.25 nats.
    assert result.summary["own_prior"]["certified"] == pytest.approx(np.log(9.5), abs=0.2)
    assert result.summary["own_prior"]["misses"] > 0.5
    assert any("your own prior" in text for text in result.findings)
    draws = audit(mean, variance, prior=np.sqrt(9.5) * rng.standard_normal((4000, 2)), **FAST).summary["own_prior"]
    assert draws["certified"] is None and draws["misses"] > 0.4
    with pytest.raises(DataError, match="prior"):
        audit(mean, variance, prior=np.zeros((5, 3)))


# -------------------------------------------------------------------------------------------------- names and files


@pytest.mark.parametrize(
    ("names", "change"),
    [
        (("mu", "logvar"), np.log), (("loc", "scale"), np.sqrt), (("z_mean", "z_log_var"), np.log),
        (("z_loc", "z_scale"), np.sqrt), (("q_mu", "q_logvar"), np.log), (("enc_mean", "enc_logvar"), np.log),
        (("mu", "logsigma2"), np.log), (("mu", "log_sigma"), lambda s: 0.5 * np.log(s)),
        (("qzm", "qzv"), lambda s: s), (("embedding", "log_covariance"), np.log),
        (("mean", "log_std"), lambda s: 0.5 * np.log(s)),
    ],
)  # fmt: skip
@pytest.mark.parametrize("ending", ["npz", "NPZ", "safetensors", "folder"])
def test_names_that_other_code_uses(tmp_path, names, change, ending):
    mean, variance = normal(40, 3, 0.36)
    content = dict(zip(names, (mean, change(variance)), strict=True))
    path = tmp_path / f"own.{ending}"
    if ending == "safetensors":
        save_file(content, path)
    elif ending == "folder":
        path.mkdir()
        for name, array in content.items():
            np.save(path / f"{name}.npy", array)
    else:
        with path.open("wb") as stream:
            np.savez(stream, **content)
    posteriors = read_posteriors(path)
    np.testing.assert_allclose(posteriors.mean_train, mean)
    np.testing.assert_allclose(posteriors.variance_train, variance)


def test_meaning_of_names():
    assert meaning("mu_2_test") == meaning("mu_test_2") == ("mean", "test", "2")
    assert meaning("sigma2") == ("variance", "train", "") and meaning("z_mean") == ("mean", "train", "")
    assert meaning("LogVar_train") == ("log_variance", "train", "")
    assert meaning("something") is None and meaning("labels_3") is None


def test_keys_csv_bfloat16_and_npy_pairs(tmp_path):
    mean, variance = normal(60, 2, 0.36)
    np.savez(tmp_path / "own.npz", first=mean, second=np.log(variance), batch=np.arange(60) // 6)
    read = read_posteriors(
        tmp_path / "own.npz", Reading({"mean": "first", "log_variance": "second", "groups": "batch"})
    )
    np.testing.assert_allclose(read.variance_train, variance)
    assert len(np.unique(read.groups_train)) == 10
    with pytest.raises(DataError, match="no array third"):
        read_posteriors(tmp_path / "own.npz", Reading({"mean": "third"}))
    columns = {f"mu_{j}": mean[:, j] for j in (1, 0)} | {f"logvar_{j}": np.log(variance[:, j]) for j in range(2)}
    pd.DataFrame(columns | {"labels": ["a", "b"] * 30}).to_csv(tmp_path / "own.csv", index=False)
    read = read_posteriors(tmp_path / "own.csv")
    np.testing.assert_allclose(read.mean_train, mean)
    assert list(read.labels_train[:2]) == ["a", "b"]
    np.save(tmp_path / "codes.npy", mean)
    np.save(tmp_path / "widths.npy", np.sqrt(variance))
    read = read_posteriors(tmp_path / "codes.npy", Reading({"std": str(tmp_path / "widths.npy")}))
    np.testing.assert_allclose(read.mean_train, mean)
    np.testing.assert_allclose(read.variance_train, variance)
    # bfloat16 is the upper half of a float32.
    bits = (np.array([[1.5, -2.0]], dtype=np.float32).view(np.uint32) >> 16).astype("<u2")
    body = bits.tobytes() * 2
    entry = {"dtype": "BF16", "shape": [1, 2]}
    entries = {"mean": entry | {"data_offsets": [0, 4]}, "log_variance": entry | {"data_offsets": [4, 8]}}
    header = json.dumps(entries).encode()
    (tmp_path / "b.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + body)
    read = read_posteriors(tmp_path / "b.safetensors")
    np.testing.assert_array_equal(read.mean_train, [[1.5, -2.0]])
    np.testing.assert_allclose(read.variance_train, np.exp([[1.5, -2.0]]))


def test_anndata_files(tmp_path):
    mean, variance = normal(60, 2, 0.36)
    with h5py.File(tmp_path / "cells.h5ad", "w") as file:
        file["obsm/_scvi_latent_qzm"], file["obsm/_scvi_latent_qzv"] = mean, variance
        file["obs/cell_type/codes"] = np.array([0, 1, -1] * 20, dtype=np.int8)
        file["obs/cell_type/categories"] = ["B cell", "T cell"]
        file["obs/donor"] = [f"donor {i % 12}" for i in range(60)]
    read = read_posteriors(tmp_path / "cells.h5ad", Reading({"labels": "cell_type", "groups": "donor"}))
    np.testing.assert_allclose(read.variance_train, variance)
    assert list(read.labels_train[:3]) == ["B cell", "T cell", ""]
    assert len(np.unique(read.groups_train)) == 12


def test_latent_levels_have_one_report_each(tmp_path, capsys):
    mean, variance = normal(300, 2, 0.5)
    path = tmp_path / "levels.npz"
    np.savez(
        path, mean_1=mean, variance_1=variance, mean_2=3 * mean, variance_2=9 * variance, labels=np.arange(300) % 3
    )
    results = audit_levels(path, **FAST)
    assert list(results) == ["1", "2"]
    assert results["1"].summary["gauge_slack"] < 0.02 < results["2"].summary["gauge_slack"]
    assert "eta_squared" in results["2"].dimensions
    with pytest.raises(DataError, match="2 latent levels"):
        audit_file(path)
    assert main(["audit", str(path), "--json", str(tmp_path / "a.json"), "--csv", str(tmp_path / "a.csv")]) == 0
    out = capsys.readouterr().out
    assert "level 1" in out and "level 2" in out
    assert set(json.loads((tmp_path / "a.json").read_text())["levels"]) == {"1", "2"}
    assert (tmp_path / "a_level_2.csv").exists()


def test_a_levels_page_names_a_command_that_reads_this_level(tmp_path, capsys):
    mean, variance = normal(300, 2, 0.5)
    path = tmp_path / "levels.npz"
    log_variance = np.log(9 * variance)
    np.savez(path, mean_1=mean, variance_1=variance, mean_2=3 * mean[:, :1], log_variance_2=log_variance[:, :1])
    assert main(["audit", str(path), "--html", str(tmp_path / "a.html")]) == 0
    page = (tmp_path / "a_level_2.html").read_text()
    assert "levels.npz, level 2" in page
    (command,) = re.findall(r"aggregated-posterior (canonical [^\n<]*)", page)
    assert "--mean=mean_2 --log-variance=log_variance_2 -o levels_level_2_" in command
    made = tmp_path / "made.safetensors"
    assert main([*shlex.split(html.unescape(command))[:-1], str(made)]) == 0
    assert made.exists()
    capsys.readouterr()
    assert main(["fit", str(path), "-o", str(tmp_path / "s.safetensors")]) == 2
    assert "name one: --mean=mean_1 --variance=variance_1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--std", "mean"], "mean is asked for as std, so that there are no means"),
        (["--std", "std", "--variance", "std"], "std is asked for as std and as something else"),
        (["--std", "sigma"], "if these are log-variances, store them as log_variance\n"),
    ],
)
def test_an_array_asked_for_as_what_it_cannot_be(tmp_path, capsys, arguments, words):
    mean, variance = normal(50, 2, 0.5)
    np.savez(tmp_path / "own.npz", mean=mean, std=variance, sigma=-variance)
    assert main(["audit", str(tmp_path / "own.npz"), *arguments]) == 2
    assert words in capsys.readouterr().err


def test_a_level_beside_plain_arrays_is_not_dropped_without_a_word(tmp_path):
    mean, variance = normal(50, 2, 0.5)
    np.savez(tmp_path / "own.npz", mean=mean, variance=variance, mean_2=mean, variance_2=variance)
    (note,) = read_posteriors(tmp_path / "own.npz").warnings
    assert "ignored arrays: mean_2, variance_2 " in note


def test_json_to_standard_output_is_all_there_is(tmp_path, capsys):
    mean, variance = normal(300, 2, 0.5)
    np.savez(tmp_path / "own.npz", mean=mean, variance=variance)
    assert main(["audit", str(tmp_path / "own.npz"), "--json", "-"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["summary"]["n"] == 300 and content["verdict"]


def test_an_unknown_keyword_is_answered_with_the_nearest():
    mean, variance = normal(50, 2, 0.5)
    with pytest.raises(TypeError, match="no keyword lables: did you mean labels"):
        audit(mean, variance, lables=np.arange(50))
    assert len(audit(mean, logvar=np.log(variance), **FAST).dimensions) == 2


# ----------------------------------------------------------------------------------------------------------- any size


def test_shards_give_the_answer_of_one_file(tmp_path):
    mean, variance = normal(1200, 3, 0.5)
    np.savez(tmp_path / "whole.npz", mean=mean, log_variance=np.log(variance))
    (tmp_path / "shards").mkdir()
    for i in range(12):
        part = slice(100 * i, 100 * (i + 1))
        np.savez(tmp_path / "shards" / f"part-{i}.npz", mean=mean[part], log_variance=np.log(variance[part]))
    whole = audit_file(tmp_path / "whole.npz", **FAST)
    for source in (tmp_path / "shards", str(tmp_path / "shards" / "part-*.npz")):
        shards = audit_file(source, **FAST)
        pd.testing.assert_frame_equal(shards.dimensions, whole.dimensions)
        pd.testing.assert_frame_equal(shards.mismatch, whole.mismatch)
    with pytest.raises(DataError, match="no file matches"):
        audit_file(str(tmp_path / "none-*.npz"))


def test_shards_of_images_and_of_rows_do_not_go_together(tmp_path):
    for number, shape in enumerate([(10, 3, 2, 2), (40, 3)]):
        np.savez(tmp_path / f"part-{number}.npz", mean=np.ones(shape), std=np.ones(shape))
    with pytest.raises(DataError, match=r"mean: shards differ in the shape of a row: \(3, 2, 2\), \(3,\)"):
        read_posteriors(tmp_path)


@pytest.mark.parametrize("spread", ["variance", "log_variance"])
def test_what_does_not_fit_is_streamed_with_exact_moments(tmp_path, monkeypatch, spread):
    from aggregated_posterior.audit import plan
    from aggregated_posterior.posterior import containers, foreign_files

    mean, variance = normal(6000, 4, 0.5)
    for i in range(3):
        part = slice(2000 * i, 2000 * (i + 1))
        content = {"mean": mean[part], spread: variance[part] if spread == "variance" else np.log(variance[part])}
        np.savez(tmp_path / f"part-{i}.npz", **content)
    whole = audit(mean, variance, **FAST)
    monkeypatch.setattr(containers, "MAPPED_BYTES", 1000)
    monkeypatch.setattr(foreign_files, "STREAMED_NUMBERS", 10_000)
    monkeypatch.setattr(plan, "NUMBERS", 10_000)
    monkeypatch.setattr(plan, "JOINT_ROWS", 1500)
    shards = audit_file(tmp_path, **FAST)
    names = ["mean", "variance", "kurtosis", "kl", "skewness", "kurtosis_low"]
    np.testing.assert_allclose(shards.dimensions[names], whole.dimensions[names], atol=1e-12)
    assert shards.summary["n"] == 6000 and len(shards.plan.left_out) == 2
    assert all("drawn at random, not" in text for text in shards.plan.left_out)
    np.testing.assert_allclose(shards.dimensions["ks"], whole.dimensions["ks"], atol=0.02)


@pytest.mark.parametrize("row", [3, 3500])
@pytest.mark.parametrize(
    ("spread", "value", "words"),
    [
        ("variance", np.nan, "NaN or infinite"), ("variance", 0.0, "is zero"), ("std", 0.0, "is zero"),
        ("variance", -1.0, "cannot be negative"), ("log_variance", np.nan, "NaN or infinite"),
        ("log_variance", 400.0, "no usable variance"), ("mean", np.inf, "NaN or infinite"),
    ],
)  # fmt: skip
def test_a_bad_value_of_a_streamed_file_is_told_with_its_row(tmp_path, monkeypatch, capsys, row, spread, value, words):
    from aggregated_posterior.posterior import containers, foreign_files

    mean, variance = normal(4000, 3, 0.5)
    arrays = {"mean": mean, "variance" if spread == "mean" else spread: variance}
    arrays[spread][row, 1] = value
    np.savez(tmp_path / "a.npz", **arrays)
    monkeypatch.setattr(containers, "MAPPED_BYTES", 1000)
    monkeypatch.setattr(foreign_files, "STREAMED_NUMBERS", 10_000)
    for command in (["audit"], ["canonical", "-o", str(tmp_path / "b.safetensors")]):
        assert main([command[0], str(tmp_path / "a.npz"), *command[1:]]) == 2
        told = capsys.readouterr().err
        assert words in told and f"{spread}:" in told and f"the first at row {row}, dimension 1" in told
    assert not (tmp_path / "b.safetensors").exists()


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_a_bad_value_of_a_mapped_file_is_told_with_its_row(tmp_path, monkeypatch, value):
    from aggregated_posterior.posterior import containers

    mean, variance = normal(100, 3, 0.5)
    variance[7, 1] = value
    np.savez(tmp_path / "a.npz", mean=mean, variance=variance)
    monkeypatch.setattr(containers, "MAPPED_BYTES", 1000)
    with pytest.raises(DataError, match=r"variance: .* the first at row 7, dimension 1"):
        audit_file(tmp_path / "a.npz", **FAST)


@pytest.mark.parametrize(("spread", "value"), [("variance", np.nan), ("log_variance", 400.0)])
def test_a_bad_value_among_rows_drawn_of_a_streamed_file_is_told_with_its_row(
    tmp_path, monkeypatch, capsys, spread, value
):
    from aggregated_posterior.generation import chosen_sampler
    from aggregated_posterior.posterior import foreign_files

    mean, variance = normal(4000, 3, 0.5)
    variance[3000:, 1] = value
    np.savez(tmp_path / "a.npz", **{"mean": mean, spread: variance})
    monkeypatch.setattr(foreign_files, "STREAMED_NUMBERS", 10_000)
    monkeypatch.setattr(chosen_sampler, "LARGEST_ROWS", 1000)
    assert main(["fit", str(tmp_path / "a.npz"), "-o", str(tmp_path / "b.safetensors")]) == 2
    row = int(re.search(rf"{spread}: .* the first at row (\d+), dimension 1", capsys.readouterr().err)[1])
    assert 3000 <= row < 4000


def test_spatial_latents_are_streamed_too(tmp_path, monkeypatch):
    from aggregated_posterior.posterior import containers, foreign_files

    images = np.random.default_rng(0).standard_normal((30, 3, 4, 4))
    np.savez(tmp_path / "own.npz", mean=images, variance=np.exp(0.1 * images))
    whole = audit_file(tmp_path / "own.npz", **FAST)
    monkeypatch.setattr(containers, "MAPPED_BYTES", 100)
    monkeypatch.setattr(foreign_files, "STREAMED_NUMBERS", 1000)
    streamed = audit_file(tmp_path / "own.npz", **FAST)
    names = ["mean", "variance", "kurtosis", "kl"]
    np.testing.assert_allclose(streamed.dimensions[names], whole.dimensions[names], atol=1e-12)
    assert streamed.summary["groups"] == 30


def test_too_many_dimensions_for_a_joint_law_are_refused_in_one_line_beforehand(monkeypatch):
    from aggregated_posterior.audit import plan

    monkeypatch.setattr(plan, "JOINT_DIMENSIONS", 20)
    said = []
    mean, variance = normal(60, 30, 0.5)
    result = audit(mean, variance, announce=said.append, **FAST)
    (sentence,) = said[0].left_out
    assert "no joint law in 30 dimensions" in sentence and "\n" not in sentence and "--layout channel" in sentence
    # Thirty dimensions of sampling noise in the scale are no finding.
    assert result.summary["verdict"] == "open" and result.summary["certified"] < 0.1
    assert not any(text.startswith("Rescale") for text in result.advice)
    moved = audit(3 * mean, 9 * variance, **FAST)
    assert moved.summary["certified"] == pytest.approx(30 * (4 - np.log(3)), rel=0.2)
    assert moved.advice[0].startswith("Rescale")


def test_progress_without_a_terminal(tmp_path, capsys, monkeypatch):
    mean, variance = normal(300, 2, 0.5)
    np.savez(tmp_path / "own.npz", mean=mean, variance=variance)
    monkeypatch.setattr(audit_command, "PROGRESS_SECONDS", 0.02)
    monkeypatch.setattr(audit_command, "ANNOUNCED", 0.0)
    assert main(["audit", str(tmp_path / "own.npz")]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("audit: moments of all 300 rows in 2 dimensions") and "on one core" in lines[0]
    assert len(lines) > 1 and all(line.startswith("audit: ") for line in lines)


def test_narrow_posteriors_are_planned_for_beforehand():
    """Narrow posteriors of unequal width take several times as long, and the plan says so."""
    mean, variance = normal(2000, 16, 0.5)
    narrow = np.exp(-14 + np.random.default_rng(1).standard_normal(mean.shape))
    plans = [plan_audit(Posteriors(AggregatedPosterior(5 * mean, s), None)) for s in (variance, narrow)]
    assert plans[1].seconds > 3 * plans[0].seconds and not plans[1].left_out
    # The narrowest tenth decides, not the median.
    tenth = np.where(np.arange(2000)[:, None] % 10 == 0, narrow, 0.5)
    assert plan_audit(Posteriors(AggregatedPosterior(5 * mean, tenth), None)).seconds > 2 * plans[0].seconds
    empty = AggregatedPosterior(np.zeros((3, 2)), np.ones((3, 2)))
    empty.mean[1] = np.nan  # as in a mapped file that nobody has looked through yet
    assert np.isfinite(plan_audit(Posteriors(empty, None)).seconds)


# ----------------------------------------------------------------------------------------------------------- told well


def test_names_from_strangers_are_shown_and_never_acted_upon(tmp_path, capsys):
    mean, variance = normal(60, 2, 0.3)
    names = ("\x1b[31m\u202e\nred", "[bold]")
    path = tmp_path / "own\x1b[2J.npz"
    with path.open("wb") as stream:
        np.savez(stream, mean=mean, variance=variance, **{name: np.arange(60) % 3 for name in names})
    labels = [part for name in names for part in ("--labels", name)]
    assert main(["audit", str(path), *labels, "--json", "-"]) == 0
    text = capsys.readouterr().out
    assert "\x1b" not in text and f"eta_squared_{names[0]}" in json.loads(text)["dimensions"][0]
    assert main(["audit", str(path), *labels]) == 0
    assert main(["fit", str(path), "-o", str(tmp_path / "s\x1b[1m.safetensors")]) == 0
    assert main(["sample", str(tmp_path / "s\x1b[1m.safetensors"), "-n", "3", "-o", str(tmp_path / "\x1b[1m.npy")]) == 0
    assert main(["canonical", str(path), "-o", str(tmp_path / "c\x1b[1m.safetensors")]) == 0
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err and "\u202e" not in out + err
    assert r"\x1b[31m\u202e\nred η²" in out and "[bold] η²" in out


@pytest.mark.parametrize("width", [80, 60])
def test_no_number_is_cut_in_a_narrow_terminal(tmp_path, capsys, monkeypatch, width):
    rng = np.random.default_rng(0)
    mean = 30 * rng.standard_normal((400, 12)) - 1000
    np.savez(tmp_path / "own.npz", mean=mean, variance=np.full_like(mean, 0.5), labels=np.arange(400) % 7)
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["audit", str(tmp_path / "own.npz"), "--json", str(tmp_path / "a.json")]) == 0
    out = capsys.readouterr().out
    assert "…" not in out and max(map(len, out.splitlines())) <= width
    result = json.loads((tmp_path / "a.json").read_text())
    for row in result["dimensions"]:
        assert f"{row['kurtosis']:.3f}" in out
        assert f"{row['kurtosis_low']:.2f}–{row['kurtosis_high']:.2f}" in out
        assert f"{row['mean']:.3f}" in out or f"{row['mean']:.3g}" in out
    # The verdict comes before everything but the name of the file.
    assert out.index("is doubtful") < out.index("What this means") < out.index("What to do") < out.index("mean KL  ")


def test_one_kl_term_of_correlated_posteriors(tmp_path, capsys):
    """Mean KL(N(μ, S) ‖ N(0, I)) is more than the sum over dimensions, and the same number everywhere."""
    mean, _ = normal(400, 3, 0.5)
    matrix = 0.7 * np.ones((3, 3)) + 0.31 * np.eye(3)
    truth = 0.5 * (np.square(mean).sum(1).mean() + np.trace(matrix) - 3 - np.linalg.slogdet(matrix)[1])
    result = audit(mean, covariance=np.tile(matrix, (400, 1, 1)), **FAST)
    assert result.summary["mean_kl"] == pytest.approx(truth, rel=1e-9)
    assert result.divergence.set_index("form").loc["raw", "mean_kl"] == pytest.approx(truth, rel=1e-9)
    np.savez(tmp_path / "own.npz", mean=mean, covariance=np.tile(matrix, (400, 1, 1)))
    assert main(["canonical", str(tmp_path / "own.npz"), "-o", str(tmp_path / "c.safetensors")]) == 0
    assert f"of {truth:.4g} nats" in capsys.readouterr().out


@pytest.mark.parametrize("layout", ["Flat", "channels", ""])
def test_a_layout_that_is_none_is_refused(layout):
    with pytest.raises(DataError, match="expected 'channel' or 'flat'"):
        audit(np.zeros((20, 2, 2, 2)), np.ones((20, 2, 2, 2)), layout=layout)


def test_the_pages_commands_for_a_name_that_begins_with_a_dash(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    mean, variance = normal(300, 2, 0.5)
    np.savez("-x.npz", mean=3 * mean, variance=variance)
    assert main(["audit", "./-x.npz", "--html", "x.html"]) == 0
    page = (tmp_path / "x.html").read_text()
    assert "-o ./-x_shift_scale.safetensors" in page and "-o -x" not in page
