"""Fitted mixtures of normal laws: full and diagonal, in all dimensions or only in the active ones."""

import warnings

import numpy as np
import pytest

from aggregated_posterior.posterior.mixture import AggregatedPosterior, normal_log_pdf
from aggregated_posterior.statistics.fitted_mixture import (
    ConvergenceWarning,
    NormalMixture,
    fit_active_mixture,
    fit_normal_mixture,
)
from aggregated_posterior.storage import DataError


@pytest.fixture(scope="module")
def q():
    """Two clusters in dimension 1; dimensions 0 and 2 are the prior."""
    rng = np.random.default_rng(0)
    mean, variance = np.zeros((600, 3)), np.ones((600, 3))
    mean[:, 1] = rng.choice([-2.0, 2.0], 600) + 0.1 * rng.standard_normal(600)
    variance[:, 1] = 0.04
    return AggregatedPosterior(mean, variance)


def test_only_active_dimensions_are_fitted(q):
    rng = np.random.default_rng(1)
    model = fit_active_mixture(q, q.sample(3000, rng), 2, rng)
    assert model.active.tolist() == [1]
    assert model.n_components == 2
    z = model.sample(20_000, rng)
    np.testing.assert_allclose(z.mean(0), q.mean.mean(0), atol=0.1)
    np.testing.assert_allclose(z[:, [0, 2]].std(0), 1, atol=0.02)
    assert (np.abs(np.abs(z[:, 1]) - 2) < 1).all()
    assert np.corrcoef(z, rowvar=False)[0, 2] == pytest.approx(0, abs=0.03)


def test_density_is_the_product_of_mixture_and_prior(q):
    rng = np.random.default_rng(2)
    model = fit_active_mixture(q, q.sample(3000, rng), 2, rng)
    z = rng.standard_normal((50, 3))
    expected = model.mixture.score_samples(z[:, [1]]) + normal_log_pdf(z[:, [0, 2]])
    np.testing.assert_allclose(model.score_samples(z), expected, rtol=1e-12)


def test_it_costs_no_more_than_the_inactive_dimensions_hold():
    """KL(Q ‖ Q_A × N(0, I)) ≤ Σ mean KL of the inactive dimensions, by draws from a Q whose whole law is known."""
    rng = np.random.default_rng(3)
    mean = rng.standard_normal((300, 2)) * [1.5, 0.15]
    mean[:, 1] += 0.1 * np.sign(mean[:, 0])
    q = AggregatedPosterior(mean, np.full((300, 2), [0.1, 0.97]))
    assert (q.kl() > 0.05).tolist() == [True, False]
    z = q.sample(20_000, rng)
    active = AggregatedPosterior(q.mean[:, :1], q.variance[:, :1])
    difference = q.log_density(z) - active.log_density(z[:, :1]) - normal_log_pdf(z[:, 1:])
    error = difference.std() / np.sqrt(len(z))
    assert difference.mean() > 3 * error  # the dimension holds something
    assert difference.mean() <= q.kl()[1] + 3 * error


def test_without_an_active_dimension_it_is_the_prior():
    q = AggregatedPosterior(np.zeros((50, 2)), np.ones((50, 2)))
    model = fit_active_mixture(q, q.mean, 5, np.random.default_rng(4))
    assert model.n_components == 0
    z = model.sample(4000, np.random.default_rng(5))
    np.testing.assert_allclose(z.std(0), 1, atol=0.05)
    np.testing.assert_allclose(model.score_samples(z), normal_log_pdf(z))


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_density_is_that_of_the_formula_and_the_law_of_the_draws(covariance):
    rng = np.random.default_rng(6)
    weights, means = np.array([0.3, 0.7]), np.array([[0.0, 2.0], [1.0, -1.0]])
    deviations = np.array([[0.5, 1.0], [2.0, 0.1]])
    factors = deviations if covariance == "diag" else np.array([[[0.5, 0], [0.3, 1.0]], [[2.0, 0], [-0.2, 0.1]]])
    model = NormalMixture(weights, means, factors)
    z = model.sample(200_000, rng)
    full = factors if covariance == "full" else np.stack([np.diag(row) for row in factors])
    covariances = full @ full.transpose(0, 2, 1)
    expected = np.zeros(50)
    for w, m, c in zip(weights, means, covariances, strict=True):
        u = z[:50] - m
        quadratic = np.einsum("ij,jk,ik->i", u, np.linalg.inv(c), u)
        expected += w * np.exp(-0.5 * quadratic) / (2 * np.pi * np.sqrt(np.linalg.det(c)))
    np.testing.assert_allclose(model.score_samples(z[:50]), np.log(expected), rtol=1e-10, atol=1e-10)
    mean = weights @ means
    spread = np.einsum("k,kij->ij", weights, covariances + means[:, :, None] * means[:, None, :]) - np.outer(mean, mean)
    np.testing.assert_allclose(z.mean(0), mean, atol=0.02)
    np.testing.assert_allclose(np.cov(z.T), spread, atol=0.04)
    assert model.score_samples(np.empty((0, 2))).shape == (0,)


def test_a_diagonal_mixture_finds_diagonal_clusters_and_a_full_one_wins_where_they_are_oblique():
    rng = np.random.default_rng(7)
    points = np.concatenate([rng.normal([0, 0], [1, 2], (3000, 2)), rng.normal([20, 5], [0.5, 0.2], (1000, 2))])
    mixture = fit_normal_mixture(points, 2, np.random.default_rng(1), covariance="diag")
    order = np.argsort(mixture.means[:, 0])
    assert mixture.converged
    np.testing.assert_allclose(mixture.weights[order], [0.75, 0.25], atol=1e-6)
    np.testing.assert_allclose(mixture.means[order], [[0, 0], [20, 5]], atol=0.15)
    np.testing.assert_allclose(mixture.factors[order], [[1, 2], [0.5, 0.2]], rtol=0.1)
    oblique = rng.standard_normal((4000, 2)) @ np.array([[1.0, 0.9], [0.0, 0.3]])
    one = {kind: fit_normal_mixture(oblique, 1, rng, covariance=kind) for kind in ("full", "diag")}
    gain = (one["full"].score_samples(oblique) - one["diag"].score_samples(oblique)).mean()
    correlation = np.corrcoef(oblique.T)[0, 1]
    assert gain == pytest.approx(-0.5 * np.log(1 - correlation**2), abs=0.01)


def test_it_warns_where_expectation_maximisation_has_not_converged():
    points = np.random.default_rng(8).exponential(size=(2000, 2))
    with pytest.warns(ConvergenceWarning, match="6 components has not converged after 3 steps"):
        model = fit_normal_mixture(points, 6, np.random.default_rng(0), iterations=3, smallest_gain=1e-6)
    assert not model.converged
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        few = fit_normal_mixture(points, 6, np.random.default_rng(0), iterations=3, must_converge=False)
        assert fit_normal_mixture(points, 6, np.random.default_rng(0)).converged
    assert not few.converged


def test_an_unknown_kind_of_covariance_is_refused():
    with pytest.raises(DataError, match="'tied': it must be 'full' or 'diag'"):
        fit_normal_mixture(np.eye(3), 1, np.random.default_rng(0), covariance="tied")
