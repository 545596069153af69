"""Limits over runs: known answers, and simulated coverage at five seeds."""

import numpy as np
import pytest
from scipy import stats

from aggregated_posterior.evidence.limits import (
    certified,
    largest_of_cells,
    largest_score,
    mean_over_cells,
    share,
    wilson,
)
from aggregated_posterior.streams import stream

TRIALS = 500


def test_one_cell_has_students_interval():
    values = np.array([1.0, 2.0, 4.0, 5.0, 8.0])
    limits = mean_over_cells([values])
    low, high = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    assert (limits.estimate, limits.low, limits.high) == pytest.approx((4, low, high))


def test_two_cells_have_welchs_interval():
    a, b = np.array([1.0, 2.0, 4.0, 5.0, 8.0]), np.array([-3.0, -3.5, -2.0])
    welch = stats.ttest_ind(a, -b, equal_var=False).confidence_interval(0.95)
    limits = mean_over_cells([a, b])
    assert (2 * limits.low, 2 * limits.high) == pytest.approx((welch.low, welch.high))


def test_one_run_is_no_evidence_about_runs():
    limits = mean_over_cells([np.array([1.0]), np.array([1.0, 2.0])])
    assert limits.estimate == pytest.approx(1.25)
    assert np.isnan(limits.low) and np.isnan(limits.high)
    limits = largest_of_cells([np.array([1.0]), np.array([1.0, 2.0])])
    assert np.isnan(limits.low) and np.isnan(limits.high)
    assert np.isnan(share(np.array([1]), np.array([2]), np.array([0])).low)
    for nothing in (mean_over_cells([]), largest_of_cells([]), share(*np.zeros((3, 0)))):
        assert np.isnan(nothing.estimate)


@pytest.mark.parametrize("sizes", [(1.0,), (1.0, 1, 1, 1), (1.0, 1, 1, 5), tuple(np.linspace(1, 5, 16))])
def test_the_interval_of_a_mean_holds_at_five_seeds(sizes):
    rng = stream(0, "coverage", *map(str, sizes))
    runs = np.array(sizes)[:, None] * rng.standard_normal((TRIALS, len(sizes), 5))
    limits = [mean_over_cells(list(cells)) for cells in runs]
    assert np.mean([found.low <= 0 <= found.high for found in limits]) >= 0.93


@pytest.mark.parametrize("skewed", [False, True])
@pytest.mark.parametrize("spread", [1, 3, 5])
def test_limits_of_a_maximum_hold_at_five_seeds(spread, skewed):
    """16 tied cells, the worst case of the lower limit; one cell above the others, the worst case of the upper one."""
    rng = stream(0, "maximum", spread, int(skewed))
    shape = (TRIALS, 16, 5)
    noise = (rng.gamma(16, size=shape) - 16) / 4 if skewed else rng.standard_normal(shape)
    noise[:, 0] *= spread
    tied = [largest_of_cells(list(cells)) for cells in noise]
    alone = [largest_of_cells(list(cells)) for cells in noise - np.r_[0, np.full(15, 30.0)][:, None]]
    allowed = 0.05 + 2 * np.sqrt(0.05 * 0.95 / TRIALS)
    assert np.mean([found.low > 0 for found in tied]) <= allowed
    assert np.mean([found.high < 0 for found in alone]) <= allowed


def test_a_maximum_is_estimated_by_the_largest_mean():
    cells = [np.array([1.0, 2, 3]), np.array([5.0, 5, 5]), np.array([0.0, 8, 1])]
    limits = largest_of_cells(cells)
    assert limits.estimate == 5
    assert limits.low == 5
    assert limits.high == pytest.approx(3 + stats.t.ppf(0.975, 2) * np.std(cells[2], ddof=1) / np.sqrt(3))


def test_wilsons_limits():
    # scipy has the same limits for counts.
    expected = stats.binomtest(3, 20).proportion_ci(0.9, method="wilson")
    assert wilson(0.15, 20, stats.norm.isf(0.05)) == pytest.approx((expected.low, expected.high))
    assert wilson(1.0, 5, 2.0) == pytest.approx((5 / 9, 1.0))


@pytest.mark.parametrize("alike", [1.0, 4.0, 40.0])
@pytest.mark.parametrize(("cells", "dimensions"), [(1, 8), (4, 2), (16, 8)])
def test_limits_of_a_share_hold_however_alike_a_runs_dimensions_are(cells, dimensions, alike):
    """Shares of runs from a beta law about ½: `alike` small means that dimensions of a run are nearly all the same."""
    rng = stream(0, "share", cells, dimensions, str(alike))
    number = np.repeat(np.arange(cells), 5)
    totals = np.full(len(number), dimensions)
    wrong = np.zeros(2)
    for _ in range(TRIALS):
        limits = share(rng.binomial(dimensions, rng.beta(alike / 2, alike / 2, len(number))), totals, number)
        wrong += limits.low > 0.5, limits.high < 0.5
    assert (wrong / TRIALS).max() <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / TRIALS)


def test_the_largest_score():
    assert largest_score(1024, 0.01) == pytest.approx(4.42, abs=0.01)
    assert largest_score(64000, 0.01) == pytest.approx(5.25, abs=0.01)
    assert largest_score(1, 0.05) == pytest.approx(1.959964, abs=1e-6)


def test_a_bound_less_its_error():
    np.testing.assert_allclose(certified(np.array([2.0]), np.array([0.1])), [2 - 0.164485], atol=1e-6)
