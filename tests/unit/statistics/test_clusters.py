"""Errors over groups of rows."""

import numpy as np
import pytest

from aggregated_posterior.statistics.clusters import least_total_variation


def test_the_least_total_variation_is_below_the_difference_of_shares_and_near_it_in_many_rows():
    for rows in (100, 10_000):
        held, drawn = np.arange(rows) < 0.9 * rows, np.arange(rows) < 0.4 * rows
        low = least_total_variation(held, np.arange(rows), drawn)
        assert 0.5 - 2 * np.sqrt(0.33 / rows) < low < 0.5
    halved = least_total_variation(held, np.arange(rows) // 100, drawn)
    assert halved < low, "rows of a group count once"


def test_the_least_total_variation_is_nothing_where_the_prior_has_more_or_no_error_is_known():
    some, many = np.arange(50) < 10, np.arange(50) < 40
    assert least_total_variation(some, np.arange(50), many) == 0
    assert least_total_variation(many, np.zeros(50), some) == pytest.approx(0)
