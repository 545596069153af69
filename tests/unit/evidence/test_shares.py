"""Shapley shares, and judges that agree or do not."""

import pandas as pd
import pytest

from aggregated_posterior.evidence.judges import agreement
from aggregated_posterior.evidence.shares import SHAPE_AND_DEPENDENCE, WITH_SCALE, mean_over_judges, removable, shapley
from aggregated_posterior.evidence.tables import KEYS

from .made_tables import keys, samplers


def test_shares_of_two_factors_by_hand():
    table = pd.DataFrame({"prior": [10.0], "marginals": [9.0], "dependence": [6.0], "q_train": [2.0]})
    values = shapley(table, SHAPE_AND_DEPENDENCE)
    # Shape first removes 1, shape last 4.
    assert values.loc[0].to_dict() == pytest.approx({"shape": 2.5, "dependence": 5.5})
    assert removable(table, SHAPE_AND_DEPENDENCE)[0] == 8


def test_shares_of_three_factors_by_all_six_orders():
    distances = {"prior_raw": 50.0, "prior": 30.0, "marginals_raw": 47.0, "marginals": 20.0}
    distances |= {"dependence_raw": 44.0, "dependence": 9.0, "q_train_raw": 40.0, "q_train": 5.0}
    table = pd.DataFrame([distances])
    steps = {"scale": [], "shape": [], "dependence": []}
    for order in ("scale shape dependence", "scale dependence shape", "shape scale dependence",
                  "shape dependence scale", "dependence scale shape", "dependence shape scale"):  # fmt: skip
        right = frozenset()
        for factor in order.split():
            steps[factor].append(distances[WITH_SCALE[right]] - distances[WITH_SCALE[right | {factor}]])
            right |= {factor}
    found = shapley(table, WITH_SCALE).loc[0].to_dict()
    assert found == pytest.approx({factor: sum(removed) / 6 for factor, removed in steps.items()})
    assert sum(found.values()) == pytest.approx(45)


def test_a_factor_that_changes_nothing_has_no_share():
    table = pd.DataFrame({"prior": [10.0], "marginals": [10.0], "dependence": [3.0], "q_train": [3.0]})
    assert shapley(table, SHAPE_AND_DEPENDENCE)["shape"][0] == 0


def test_judges_are_averaged_before_anything_else():
    found = mean_over_judges(samplers(seeds=(12,), weights=(1.0,)), "frechet")
    assert len(found) == 1
    assert found["prior"].iloc[0] == pytest.approx(21.5)


def scores(judges):
    rows = [
        {**keys(), "judge": judge, "sampler": sampler, "frechet": value}
        for judge, values in enumerate(judges)
        for sampler, value in zip(("prior", "marginals", "gmm_10", "floor", "prior_raw"), values, strict=True)
    ]
    return pd.DataFrame(rows)


def test_judges_that_rank_alike():
    row = agreement(scores([(9, 8, 3, 0, 1), (90, 70, 40, 99, 0)])).iloc[0]
    assert (row["judges"], row["rungs"], row["kendall"], row["prior_worse"]) == (2, 3, 1, 2)
    assert row["alike"] and row["same_best"]


def test_judges_that_do_not():
    # Orders 3 2 1, 3 1 2 and 1 2 3 of prior, marginals and mixture: τ = 1/3, −1 and −1/3.
    row = agreement(scores([(9, 8, 3, 0, 1), (9, 3, 8, 0, 1), (1, 2, 3, 0, 1)])).iloc[0]
    assert row["kendall"] == pytest.approx(-1 / 3)
    assert row["prior_worse"] == 2
    assert not row["alike"]
    assert not row["same_best"]


def test_without_scores_there_is_a_table_of_columns():
    assert list(agreement(pd.DataFrame(columns=KEYS)).columns)[-1] == "prior_worse"
