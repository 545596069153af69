"""Standard errors and intervals over data and over runs."""

import numpy as np
import pytest

from aggregated_posterior.posterior.mixture import AggregatedPosterior
from aggregated_posterior.statistics.uncertainty import (
    bootstrap_moments,
    draws_z_scores,
    hierarchical_interval,
    kurtosis_se,
    normal_interval,
    normal_replicates,
)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def posterior(n: int, seed: int) -> AggregatedPosterior:
    r = rng(seed)
    return AggregatedPosterior(r.uniform(-1, 1, (n, 2)) * [1, 4] + [0, 50], np.exp(r.normal(-1, 0.5, (n, 2))))


def test_the_influence_function_knows_the_spread_over_data_sets():
    kurtosis = np.array([posterior(400, seed).moments().kurtosis for seed in range(400)])
    errors = np.array([kurtosis_se(posterior(400, seed)) for seed in range(20)]).mean(axis=0)
    np.testing.assert_allclose(errors, kurtosis.std(axis=0), rtol=0.15)


def test_the_influence_function_is_the_derivative():
    q = posterior(30, 1)
    base = q.moments()
    # Leaving a row out moves the kurtosis by −IF/(N − 1) to first order; sd over rows gives the same error.
    shifts = []
    for row in range(q.n):
        keep = np.arange(q.n) != row
        shifts.append(AggregatedPosterior(q.mean[keep], q.variance[keep]).moments().kurtosis - base.kurtosis)
    jackknife = np.sqrt(((np.array(shifts) - np.mean(shifts, axis=0)) ** 2).sum(axis=0) * (q.n - 1) / q.n)
    np.testing.assert_allclose(kurtosis_se(q), jackknife, rtol=0.2)


def test_one_row_has_no_standard_error():
    assert np.isnan(kurtosis_se(AggregatedPosterior(np.zeros((1, 2)), np.ones((1, 2))))).all()


def test_the_bootstrap_agrees_with_the_influence_function_and_with_plain_resampling():
    q = posterior(500, 2)
    replicates = bootstrap_moments(q, 400, rng(3))
    np.testing.assert_allclose(replicates.kurtosis.std(axis=0), kurtosis_se(q), rtol=0.15)
    low, high = replicates.interval("kurtosis")
    assert np.all((low < q.moments().kurtosis) & (q.moments().kurtosis < high))
    index = rng(3).integers(q.n, size=q.n)
    plain = AggregatedPosterior(q.mean[index], q.variance[index]).moments()
    for name in ("mean", "variance", "skewness", "kurtosis"):
        np.testing.assert_allclose(getattr(replicates, name)[0], getattr(plain, name), rtol=1e-9, atol=1e-10)


def test_normal_interval_and_replicates():
    low, high = normal_interval(np.array([3.0]), np.array([0.1]))
    np.testing.assert_allclose([low[0], high[0]], [3 - 0.1959964, 3 + 0.1959964], atol=1e-7)
    values = normal_replicates(np.array([3.0, 1.0]), np.array([0.1, 0.0]), 4000, rng())
    assert values[:, 0].std() == pytest.approx(0.1, rel=0.05)
    assert np.all(values[:, 1] == 1)


def test_hierarchical_interval_covers_both_sources():
    runs = [rng(seed).normal(seed % 5, 0.5, 200) for seed in range(10)]
    low, high = hierarchical_interval(runs, rng(1))
    within = hierarchical_interval([np.concatenate(runs)], rng(1))
    assert low < 2 < high
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt((2 + 0.25) / 10), rel=0.15)
    assert within[0] < low
    fixed = hierarchical_interval([[1.0], [1.0]], rng())
    assert fixed == (1.0, 1.0)
    assert hierarchical_interval(runs, rng(1)) == (low, high)
    assert hierarchical_interval(runs, rng(1), statistic=np.median)[1] <= 4.5


@pytest.mark.parametrize("runs", [[], [np.array([])], [np.ones((2, 2))]])
def test_runs_without_replicates_are_refused(runs):
    with pytest.raises(ValueError, match="runs must be"):
        hierarchical_interval(runs, rng())


def test_draws_agree_with_exact_moments_and_expose_wrong_ones():
    q = posterior(300, 4)
    scores = draws_z_scores(q, 100_000, rng(5))
    for name, score in scores.items():
        assert np.all(np.abs(score) < 4), name
    wrong = posterior(300, 4)
    wrong.variance = wrong.variance * 1.1  # draws of another law than the moments say
    scores = draws_z_scores(wrong, 100_000, rng(5), q.moments())
    assert np.abs(scores["variance"]).max() > 4
