"""A mixture in the active dimensions, and the prior in the others."""

import numpy as np
import pytest

from aggregated_posterior.posterior.mixture import AggregatedPosterior, normal_log_pdf
from aggregated_posterior.statistics.active_mixture import fit_active_mixture


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
    assert model.components == 2
    z = model.sample(20_000, rng)
    np.testing.assert_allclose(z.mean(0), q.mean.mean(0), atol=0.1)
    np.testing.assert_allclose(z[:, [0, 2]].std(0), 1, atol=0.02)
    assert (np.abs(np.abs(z[:, 1]) - 2) < 1).all()
    assert np.corrcoef(z, rowvar=False)[0, 2] == pytest.approx(0, abs=0.03)


def test_density_is_the_product_of_mixture_and_prior(q):
    rng = np.random.default_rng(2)
    model = fit_active_mixture(q, q.sample(3000, rng), 2, rng)
    z = rng.standard_normal((50, 3))
    expected = model.mixture.log_density(z[:, [1]]) + normal_log_pdf(z[:, [0, 2]])
    np.testing.assert_allclose(model.log_density(z), expected, rtol=1e-12)


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
    assert model.components == 0
    z = model.sample(4000, np.random.default_rng(5))
    np.testing.assert_allclose(z.std(0), 1, atol=0.05)
    np.testing.assert_allclose(model.log_density(z), normal_log_pdf(z))
