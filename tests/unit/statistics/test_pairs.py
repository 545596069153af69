"""The most dependent pair of dimensions."""

import numpy as np
import pytest

from aggregated_posterior.posterior.mixture import AggregatedPosterior
from aggregated_posterior.posterior.other_laws import FullCovariance
from aggregated_posterior.statistics.pairs import STEP, most_dependent_pair


def correlated(rho: float, n: int = 20_000) -> AggregatedPosterior:
    """Five dimensions of N(0, 1); 1 and 3 have correlation `rho`."""
    rng = np.random.default_rng(0)
    covariance = np.eye(5)
    covariance[1, 3] = covariance[3, 1] = rho
    means = rng.multivariate_normal(np.zeros(5), covariance - 0.2 * np.eye(5), n)
    return AggregatedPosterior(means, np.full((n, 5), 0.2))


@pytest.mark.parametrize("rho", [0.5, -0.7])
def test_information_of_a_normal_pair_is_the_closed_form(rho):
    pair = most_dependent_pair(correlated(rho), np.zeros(5), np.ones(5), np.arange(5))
    assert (pair.i, pair.j) == (1, 3)
    assert pair.nats == pytest.approx(-0.5 * np.log(1 - rho**2), abs=0.03)
    assert pair.joint.sum() * STEP**2 == pytest.approx(1)
    moment = (pair.grid[:, None] * pair.grid * pair.joint).sum() * STEP**2
    assert moment == pytest.approx(rho, abs=0.03)
    flat = (pair.grid[:, None] * pair.grid * pair.product).sum() * STEP**2
    assert flat == pytest.approx(0, abs=0.01)
    np.testing.assert_allclose(pair.product.sum(axis=1), pair.joint.sum(axis=1), atol=1e-12)


def test_shift_and_scale_bring_it_into_view():
    shift, scale = np.full(5, 100.0), np.full(5, 0.01)
    pair = most_dependent_pair(correlated(0.5).affine(-shift * scale, 1 / scale), shift, scale, np.arange(5))
    same = most_dependent_pair(correlated(0.5), np.zeros(5), np.ones(5), np.arange(5))
    assert pair.nats == pytest.approx(same.nats, abs=1e-9)


def test_one_dimension_has_no_pair():
    assert most_dependent_pair(correlated(0.5), np.zeros(5), np.ones(5), np.array([2])) is None


def test_posteriors_with_full_covariances_have_no_pair():
    factors = np.tile([[1.0, 0.0], [0.9, 0.4]], (100, 1, 1))
    q = FullCovariance(np.zeros((100, 2)), factors)
    assert most_dependent_pair(q, np.zeros(2), np.ones(2), np.arange(2)) is None
