"""Standard errors and intervals over the data: rows that are exchangeable, and rows that belong together."""

import numpy as np
import pytest

from aggregated_posterior.posterior.mixture import AggregatedPosterior
from aggregated_posterior.statistics.uncertainty import (
    draws_z_scores,
    kurtosis_se_blocks,
    kurtosis_se_rows,
    normal_interval,
)
from aggregated_posterior.storage import DataError


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def posterior(n: int, seed: int) -> AggregatedPosterior:
    r = rng(seed)
    return AggregatedPosterior(r.uniform(-1, 1, (n, 2)) * [1, 4] + [0, 50], np.exp(r.normal(-1, 0.5, (n, 2))))


def test_the_influence_function_knows_the_spread_over_data_sets():
    kurtosis = np.array([posterior(400, seed).moments().kurtosis for seed in range(400)])
    errors = np.array([kurtosis_se_rows(posterior(400, seed)) for seed in range(20)]).mean(axis=0)
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
    np.testing.assert_allclose(kurtosis_se_rows(q), jackknife, rtol=0.2)


def test_one_row_has_no_standard_error():
    q = AggregatedPosterior(np.zeros((1, 2)), np.ones((1, 2)))
    assert all(np.isnan(se(q)).all() for se in (kurtosis_se_rows, kurtosis_se_blocks))


def test_the_jackknife_over_single_rows_is_the_plain_one():
    q = posterior(12, 2)
    kurtosis = []
    for row in range(q.n):
        keep = np.arange(q.n) != row
        kurtosis.append(AggregatedPosterior(q.mean[keep], q.variance[keep]).moments().kurtosis)
    plain = np.sqrt(((np.array(kurtosis) - np.mean(kurtosis, axis=0)) ** 2).sum(axis=0) * (q.n - 1) / q.n)
    np.testing.assert_allclose(kurtosis_se_blocks(q), plain, rtol=1e-9)


def test_blocks_of_unequal_size_are_left_out_as_wholes():
    q = posterior(60, 3)
    groups = np.array(["a", "b", "c", "d"])[np.arange(60) ** 2 % 7 % 4]
    theta, names = q.moments().kurtosis, np.unique(groups)
    h = np.array([60 / (groups == name).sum() for name in names])[:, None]
    left = np.array(
        [AggregatedPosterior(q.mean[groups != g], q.variance[groups != g]).moments().kurtosis for g in names]
    )
    centre = len(names) * theta - ((1 - 1 / h) * left).sum(axis=0)
    expected = np.sqrt((((h * theta - (h - 1) * left) - centre) ** 2 / (h - 1)).mean(axis=0))
    np.testing.assert_allclose(kurtosis_se_blocks(q, groups=groups), expected, rtol=1e-9)


@pytest.mark.parametrize(("rows", "blocks"), [(15, 15), (100, 20), (30_500, 30)])
def test_consecutive_blocks_are_a_thousand_rows_or_a_twentieth(rows, blocks):
    q = posterior(rows, 4)
    groups = np.arange(rows) * blocks // rows
    np.testing.assert_array_equal(kurtosis_se_blocks(q), kurtosis_se_blocks(q, groups=groups))


def coverage(se, together: int, repeats: int = 300, rows: int = 2000) -> float:
    """How often kurtosis ± 1.96 SE holds the population's, where `together` consecutive rows share their mean."""
    inside = 0
    for seed in range(repeats):
        r = rng(1000 + seed)
        mean = np.repeat(r.uniform(-np.sqrt(3), np.sqrt(3), (rows // together, 1)), together, axis=0)
        q = AggregatedPosterior(mean, np.full((rows, 1), 0.25))
        moments = q.moments()
        low, high = normal_interval(moments.kurtosis, se(q, moments))
        inside += bool((low <= 3 - 1.2 / 1.25**2 <= high)[0])  # excess −1.2 of the means, times (A/V)²
    return inside / repeats


def larger_error(q, moments):
    """As in a portrait of Q(z)."""
    return np.fmax(kurtosis_se_rows(q, moments), kurtosis_se_blocks(q, moments))


def test_intervals_hold_for_exchangeable_rows():
    for se in (kurtosis_se_rows, kurtosis_se_blocks, larger_error):
        assert 0.91 <= coverage(se, 1) <= 0.99, se.__name__


def test_rows_that_belong_together_break_the_formula_and_not_the_jackknife():
    assert coverage(kurtosis_se_rows, 20) < 0.6
    assert coverage(kurtosis_se_blocks, 20) > 0.9
    assert coverage(larger_error, 20) > 0.9


def test_scattered_groups_need_to_be_named():
    """The same rows shuffled: neighbours tell nothing, the groups tell all."""
    r = rng(7)
    group = r.permutation(np.repeat(np.arange(100), 20))
    mean = r.uniform(-np.sqrt(3), np.sqrt(3), (100, 1))[group]
    q = AggregatedPosterior(mean, np.full((2000, 1), 0.25))
    named, unnamed = kurtosis_se_blocks(q, groups=group), kurtosis_se_blocks(q)
    assert named[0] > 3 * unnamed[0]
    # sd(IF)/√100, as for a hundred independent rows.
    assert named[0] == pytest.approx(kurtosis_se_rows(q)[0] * np.sqrt(20), rel=0.1)


def test_groups_of_the_wrong_number_are_refused_and_a_single_one_has_no_error():
    q = posterior(30, 1)
    with pytest.raises(DataError, match="groups have shape \\(4,\\): give one entry for each of the 30 rows"):
        kurtosis_se_blocks(q, groups=np.arange(4))
    assert np.isnan(kurtosis_se_blocks(q, groups=np.zeros(30))).all()


def test_normal_interval():
    low, high = normal_interval(np.array([3.0]), np.array([0.1]))
    np.testing.assert_allclose([low[0], high[0]], [3 - 0.1959964, 3 + 0.1959964], atol=1e-7)


def test_draws_agree_with_exact_moments_and_expose_wrong_ones():
    q = posterior(300, 4)
    scores = draws_z_scores(q, 100_000, rng(5))
    for name, score in scores.items():
        assert np.all(np.abs(score) < 4), name
    wrong = posterior(300, 4)
    wrong.variance = wrong.variance * 1.1  # draws of another law than the moments say
    scores = draws_z_scores(wrong, 100_000, rng(5), q.moments())
    assert np.abs(scores["variance"]).max() > 4
