"""Closed-form answers of the controls."""

import numpy as np
import pytest

from aggregated_posterior.posterior.mixture import AggregatedPosterior
from aggregated_posterior.statistics.closed_forms import linear_vae_answer


@pytest.mark.parametrize(("kl_weight", "expected"), [(0.25, -1.0547), (1, -0.675), (2, -0.30), (4, 0), (8, 0)])
def test_uniform_sources_of_variance_four(kl_weight, expected):
    answer = linear_vae_answer(np.array([4.0]), -1.2, kl_weight, 1.0)
    assert answer.excess_kurtosis[0] == pytest.approx(expected, abs=5e-5)
    assert answer.active[0] == (kl_weight < 4)
    assert answer.variance_of_means[0] == max(1 - kl_weight / 4, 0)


def test_gaussian_sources_are_normal_at_every_weight_and_collapse_in_order():
    answer = linear_vae_answer(np.array([4.0, 2.0, 1.0, 0.5]), 0.0, 1.0, 1.0)
    assert answer.excess_kurtosis.tolist() == [0, 0, 0, 0]
    assert answer.active.tolist() == [True, True, False, False]
    np.testing.assert_allclose(answer.variance_of_means, [0.75, 0.5, 0, 0])


def test_the_answer_is_what_a_linear_encoder_of_uniform_data_has():
    """The optimal encoder written down by hand: kurtosis measured on its posteriors is the closed-form one."""
    x = np.sqrt(12) * ((np.arange(200_000) + 0.5) / 200_000 - 0.5) * 2  # variance 4
    answer = linear_vae_answer(np.array([4.0]), -1.2, 0.5, 1.0)
    mean = x[:, None] / 2 * np.sqrt(answer.variance_of_means)
    q = AggregatedPosterior(mean, np.full_like(mean, 1 - answer.variance_of_means[0]))
    assert q.moments().excess_kurtosis[0] == pytest.approx(answer.excess_kurtosis[0], abs=1e-8)


@pytest.mark.parametrize(("eigenvalue", "kl_weight", "variance"), [(0.0, 1, 1), (1.0, 0, 1), (1.0, 1, -1)])
def test_numbers_that_are_not_positive_are_refused(eigenvalue, kl_weight, variance):
    with pytest.raises(ValueError, match="positive"):
        linear_vae_answer(np.array([eigenvalue]), 0.0, kl_weight, variance)
