"""Canonical form: the first two moments are free, and nothing else moves."""

import numpy as np
import pytest
from hypothesis import given

from aggregated_posterior.posterior.gauge import canonical_form, canonicalise, slack_of
from aggregated_posterior.posterior.mixture import AggregatedPosterior

from ..mixture_reference import PROFILE, mixtures


@PROFILE
@given(mixtures())
def test_canonical_form_has_moments_zero_and_one_and_saves_the_slack(mixture):
    q = AggregatedPosterior(*mixture)
    canonical = canonicalise(q)
    before, after = q.moments(), canonical.moments()
    np.testing.assert_allclose(after.mean, 0, atol=1e-13)
    np.testing.assert_allclose(after.variance, 1, rtol=1e-12)
    np.testing.assert_allclose(after.skewness, before.skewness, atol=1e-9)
    np.testing.assert_allclose(after.kurtosis, before.kurtosis, rtol=1e-9)
    slack = slack_of(q.moments())
    assert np.all(slack >= 0)
    np.testing.assert_allclose(q.kl() - canonical.kl(), slack, atol=1e-11)
    np.testing.assert_allclose(slack_of(canonical.moments()), 0, atol=1e-13)


def test_slack_in_closed_form():
    q = AggregatedPosterior(np.array([[3.0], [5.0]]), np.full((2, 1), 3.0))  # mean 4, V = 1 + 3
    assert slack_of(q.moments())[0] == pytest.approx(0.5 * (16 + 4 - 1 - np.log(4)), rel=1e-14)


def test_the_transform_is_fitted_on_train_and_applied_to_test():
    rng = np.random.default_rng(0)
    train = AggregatedPosterior(rng.standard_normal((50, 3)) + 2, np.full((50, 3), 0.5))
    test = AggregatedPosterior(rng.standard_normal((20, 3)) + 2, np.full((20, 3), 0.5))
    canonical = canonical_form(train)
    moved = canonicalise(test, canonical)
    np.testing.assert_allclose(moved.mean, (test.mean - canonical.shift) * canonical.scale)
    np.testing.assert_allclose(moved.variance, test.variance * canonical.scale**2)
    assert np.abs(moved.moments().mean).max() > 1e-3


def test_points_go_there_and_back_and_densities_with_them():
    rng = np.random.default_rng(1)
    q = AggregatedPosterior(rng.standard_normal((50, 3)) * 7 + 2, np.full((50, 3), 0.5))
    canonical = canonical_form(q)
    z = q.sample(10, rng)
    np.testing.assert_allclose(canonical.invert(canonical.apply(z)), z, rtol=1e-13)
    moved = canonicalise(q, canonical).log_density(canonical.apply(z))
    np.testing.assert_allclose(moved, q.log_density(z) - canonical.log_determinant, rtol=1e-12)
