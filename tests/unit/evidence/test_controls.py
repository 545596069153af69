"""Controls beside their closed forms: the linear VAE written down by hand, and posteriors made of known mixtures."""

import numpy as np
import pandas as pd
import pytest

from aggregated_posterior.data.controls import MIXTURE_CONTROL, mixture_posteriors
from aggregated_posterior.evidence.controls import made_rows, principal_components, trained_rows
from aggregated_posterior.posterior.mixture import AggregatedPosterior
from aggregated_posterior.statistics.closed_forms import REFERENCE, linear_vae_answer
from aggregated_posterior.storage import DataError, read_arrays
from aggregated_posterior.streams import stream
from prepare_control_posteriors import prepare_control_posteriors


def moments_of(q):
    """The columns of moments.csv that controls are compared by."""
    found = q.moments()
    columns = {name: getattr(found, name) for name in ("kurtosis", "variance_of_means")}
    columns |= {name: getattr(found, name) for name in ("term_means", "term_covariance", "term_scale")}
    return pd.DataFrame(
        {
            "split": "train",
            "form": "raw",
            "dimension": np.arange(q.latent_dim),
            **columns,
            "kurtosis_se": 0.01,
            "kurtosis_low": found.kurtosis - 0.02,
            "kurtosis_high": found.kurtosis + 0.02,
            "active": True,
        }
    )


def test_the_optimal_linear_vae_is_its_own_answer():
    """Means along the principal axes, in any order of the latent dimensions: every error is rounding."""
    x = stream(0, "controls").uniform(-1, 1, (500, 3)) * [6.0, 3.0, 4.0]
    variances, excess = principal_components(x)
    answer = linear_vae_answer(variances, excess, 0.5, 1.0)
    axes = np.linalg.eigh(np.cov(x.T, bias=True))[1][:, ::-1]
    mean = (x - x.mean(axis=0)) @ axes * np.sqrt(answer.variance_of_means / variances)
    order = [2, 0, 1]
    q = AggregatedPosterior(mean[:, order], np.tile(1 - answer.variance_of_means[order], (500, 1)))
    rows = trained_rows(moments_of(q), x, 0.5, 1.0)
    assert rows["dimension"].tolist() == [1, 2, 0]
    for name in ("variance_of_means", "excess_kurtosis", "term_means", "term_covariance", "term_scale"):
        np.testing.assert_allclose(rows[name], rows[f"expected_{name}"], atol=1e-10)


def test_the_mixture_control_has_all_three_terms_and_no_dependence():
    arrays = mixture_posteriors()
    for split, n in (("train", 10_000), ("test", 2_000)):
        assert arrays[f"mean_{split}"].shape == arrays[f"variance_{split}"].shape == (n, 4)
        q = AggregatedPosterior(arrays[f"mean_{split}"], arrays[f"variance_{split}"])
        rows = made_rows(moments_of(q))
        # float32 posteriors.
        for name in ("variance_of_means", "excess_kurtosis", "term_means", "term_covariance", "term_scale"):
            np.testing.assert_allclose(rows[name], rows[f"expected_{name}"], atol=1e-6)
        np.testing.assert_allclose(rows["expected_excess_kurtosis"], rows.filter(regex="expected_term").sum(axis=1))
        assert (rows.filter(regex="expected_term").abs().max() > 0.3).all()
        means = arrays[f"mean_{split}"].astype(float)
        np.testing.assert_allclose(np.cov(means.T, bias=True), np.diag(means.var(axis=0)), atol=1e-7)


def test_the_mixture_controls_distance_is_the_sum_of_its_marginals():
    """The density of the whole mixture at drawn points is the product of the one-dimensional mixtures'."""
    arrays = mixture_posteriors()
    q = AggregatedPosterior(arrays["mean_test"][:80], arrays["variance_test"][:80])
    z = stream(0, "product").standard_normal((50, 4))

    def log_density(mean, variance, points):
        log = -0.5 * ((points[:, None] - mean) ** 2 / variance + np.log(2 * np.pi * variance)).sum(axis=2)
        return np.log(np.exp(log).mean(axis=1))

    whole = log_density(np.asarray(q.mean, float), np.asarray(q.variance, float), z)
    single = [REFERENCE[name].posterior() for name in MIXTURE_CONTROL]
    product = sum(log_density(one.mean, one.variance, z[:, [j]]) for j, one in enumerate(single))
    np.testing.assert_allclose(whole, product, atol=1e-5)


def test_the_script_writes_the_pipelines_file(tmp_path):
    prepare_control_posteriors(str(tmp_path / "posteriors.safetensors"), 4)
    arrays, _ = read_arrays(tmp_path / "posteriors.safetensors")
    assert sorted(arrays) == ["mean_test", "mean_train", "variance_test", "variance_train"]
    with pytest.raises(DataError, match=r"latent_dims: \[4\]"):
        prepare_control_posteriors(str(tmp_path / "other.safetensors"), 2)
