"""Verdicts: each claim on tables whose answer is known."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from aggregated_posterior.evidence.claims import LEDGER as CLAIMS
from aggregated_posterior.evidence.claims import evaluate
from aggregated_posterior.evidence.tables import KEYS
from aggregated_posterior.evidence.training_claims import deviation_of_square
from aggregated_posterior.evidence.verdicts import VERDICTS

from .made_tables import (
    LEDGER,
    RUNGS,
    WEIGHTS,
    controls,
    divergence,
    evidence,
    gaussian_control,
    keys,
    losses,
    moments,
    runs,
    samplers,
)


def judge(**tables):
    return {verdict.id: verdict for verdict in evaluate(evidence(**tables))}


def both(main, **variant):
    """The main sweep's moments and those of customary training beside them."""
    return pd.concat([main, moments(models=runs(architecture="dense_customary"), **variant)], ignore_index=True)


def test_every_claim_of_the_ledger_has_a_verdict_and_a_size():
    verdicts = judge()
    assert list(verdicts) == list(LEDGER["claims"]) == list(CLAIMS)
    for claim, verdict in verdicts.items():
        assert verdict.id == claim
        assert verdict.verdict in VERDICTS
        assert verdict.size
        assert verdict.fixed >= "2026-11-25"
        assert verdict.why


@pytest.mark.parametrize(
    ("claim", "tables", "verdict"),
    [
        ("C0", {"moments": moments(z=3.5)}, "supported"),
        ("C0", {"moments": moments(z=3.6)}, "refuted"),
        ("C1", {"moments": moments(mean=0.04)}, "supported"),
        ("C1", {"moments": moments(mean=-0.06)}, "refuted"),
        ("C1", {"moments": moments(mean=0.04, held_out=(0.2, 1.0))}, "refuted"),
        ("C1", {"moments": moments(mean=0.04), "losses": losses(0.5)}, "inconclusive"),
        ("C2", {"moments": moments(second=0.96)}, "supported"),
        ("C2", {"moments": moments(second=1.2)}, "refuted"),
        ("C2", {"moments": moments(held_out=(0.0, 1.3))}, "refuted"),
        ("C2", {"moments": moments(second=0.96), "losses": losses(0.5)}, "inconclusive"),
        ("C2r", {}, "not tested"),
        ("C2r", {"moments": both(moments(), second=1.9)}, "reported"),
        ("C3", {}, "supported"),
        ("C3", {"moments": moments(spread=0.01, error=0.01)}, "refuted"),
        ("C4", {"moments": moments(kurtosis=2.0)}, "supported"),
        ("C4", {"moments": moments(kurtosis=3.0, spread=0.02)}, "refuted"),
        # So noisy that no dimension is outside, and none inside.
        ("C4", {"moments": moments(kurtosis=3.0, error=0.5)}, "inconclusive"),
        ("C4β", {"moments": moments(kurtosis=lambda b: 3 - 0.5 / b)}, "supported"),
        ("C4β", {"moments": moments(kurtosis=lambda b: 3 + b)}, "refuted"),
        ("C4β", {"moments": moments(kurtosis=lambda b: 3 + b, weights=(1.0, 4.0))}, "not tested"),
        ("C5", {"divergence": divergence(2.0)}, "supported"),
        # A lower bound that is small refutes nothing; an upper bound that is small does.
        ("C5", {"divergence": divergence(0.5)}, "inconclusive"),
        ("C5", {"divergence": divergence(0.5, upper=0.8)}, "refuted"),
        ("C5", {"divergence": divergence(1.5, error=0.4)}, "inconclusive"),
        ("C5s", {}, "reported"),
        ("C5s", {"divergence": divergence(0.0)}, "not tested"),
        ("C6", {}, "supported"),
        ("C6", {"samplers": samplers({"q_train": 20.5})}, "refuted"),
        ("C6k", {}, "refuted"),
        ("C6k", {"samplers": samplers({"marginals": 12.0, "dependence": 20.0})}, "supported"),
        ("C6s", {}, "reported"),
        ("M1", {}, "supported"),
        ("M1", {"losses": losses(0.5)}, "refuted"),
        ("M1", {"losses": losses(0.0)}, "inconclusive"),
        ("M1", {"losses": losses(variants=("",))}, "not tested"),
        ("C8", {}, "supported"),
        ("C8", {"controls": controls(0.02)}, "refuted"),
        ("C8", {"controls": controls(names=("control_gaussian", "control_mixture"))}, "inconclusive"),
        ("C8", {"controls": controls(0.02, names=("control_mixture",))}, "refuted"),
        ("C8", {"controls": controls(0.02, "term_scale")}, "refuted"),
        ("C8", {"divergence": pd.concat([divergence(), gaussian_control(0.1)])}, "refuted"),
    ],
)
def test_verdicts_on_known_tables(claim, tables, verdict):
    assert CLAIMS[claim](evidence(**tables)).verdict == verdict


def test_numbers_are_the_ones_that_the_statistic_names():
    verdicts = judge(moments=both(moments(mean=-0.07, second=0.9), mean=0.3, second=1.5))
    # 6 cells × 4 dimensions × 2 moments; all below the threshold in 99 of 100.
    assert (2 * stats.norm.cdf(verdicts["C0"].threshold) - 1) ** 48 == pytest.approx(0.99)
    assert verdicts["C1"].estimate == pytest.approx(0.07)
    assert verdicts["C2"].estimate == pytest.approx(0.1)
    assert verdicts["C2r"].estimate == pytest.approx(0.5)
    # β · four dimensions' slack of 0.01 nat.
    assert [cell["mean"] for cell in verdicts["C2r"].details["price"]] == pytest.approx([0.04 * b for b in WEIGHTS])
    assert verdicts["C3"].estimate == pytest.approx(np.sqrt(0.3**2 - 0.02**2))
    assert verdicts["C4"].estimate == pytest.approx(1.0)
    assert verdicts["C5"].estimate == pytest.approx(2 - 0.0164485, rel=1e-5)
    assert verdicts["C5s"].estimate == pytest.approx(0.5 / (2 - 0.0164485), rel=1e-5)
    assert verdicts["C6"].estimate == pytest.approx(10 / 20)
    assert verdicts["C6k"].estimate == pytest.approx(0.2)
    assert verdicts["C6k"].details["frechet"]["orders"] == pytest.approx({"shape first": 0.2, "shape last": 0.2})
    assert verdicts["C6s"].estimate == pytest.approx(20 / 30)
    assert verdicts["M1"].estimate == pytest.approx(-0.5)
    assert verdicts["C8"].estimate == 0
    assert verdicts["C4"].runs == 15


def test_on_few_held_out_rows_the_data_error_neither_refutes_nor_supports():
    """The largest of four residuals of 360 rows is about 0.1 where all are 0."""
    few = pd.concat([divergence(n_test=360), gaussian_control()], ignore_index=True)
    found = judge(moments=moments(held_out=(0.15, 1.15)), divergence=few)
    assert found["C1"].verdict == found["C2"].verdict == "inconclusive"
    # Errors that all seeds share, on the same rows: no spread between seeds tells of them.
    shared = judge(moments=moments(held_out=(0.3, 1.3)), divergence=few)
    assert shared["C1"].verdict == shared["C2"].verdict == "inconclusive"
    many = judge(moments=moments(held_out=(0.2, 1.2)))
    assert many["C1"].verdict == many["C2"].verdict == "refuted"


@pytest.mark.parametrize("column", ["draws_z_kurtosis", "mean", "second_moment"])
def test_a_moment_that_is_not_a_number_supports_nothing(column):
    """Of one dimension alone, beside others that are right."""
    table = moments()
    table.loc[(table["dimension"] == 2) & (table["seed"] == 10), column] = np.nan
    claim = {"draws_z_kurtosis": "C0", "mean": "C1", "second_moment": "C2"}[column]
    assert CLAIMS[claim](evidence(moments=table)).verdict == "inconclusive"


@pytest.mark.parametrize("name", ["excess_kurtosis", "term_scale"])
def test_a_control_without_a_number_is_not_near_its_answer(name):
    table = controls()
    table.loc[0, name] = np.nan
    assert CLAIMS["C8"](evidence(controls=table)).verdict == "inconclusive"


def test_a_certified_bound_without_an_error_refutes_nothing():
    unknown = gaussian_control().assign(certified_gmm_se=np.nan)
    found = CLAIMS["C8"](evidence(divergence=pd.concat([divergence(), unknown], ignore_index=True)))
    assert found.verdict == "inconclusive"


@pytest.mark.parametrize("without", [(0.5, 1.0, 4.0), (4.0,)])
def test_without_held_out_rows_the_first_two_moments_are_not_supported(without):
    table = moments()
    table = table[(table["split"] == "train") | ~table["kl_weight"].isin(without)]
    for claim in ("C1", "C2"):
        found = CLAIMS[claim](evidence(moments=table))
        assert found.verdict == "inconclusive"
        assert f"{5 * len(without)} runs without held-out rows" in found.note


def test_a_loss_of_one_pair_is_not_said_to_be_judged():
    table = losses(5.0)
    one = table[(table["architecture"] == "dense") | (table["seed"] == 10)]
    assert "of too few pairs to be judged" in CLAIMS["C1"](evidence(losses=one)).note


def test_noise_that_is_overrated_does_not_refute_that_kurtosis_differs():
    """A true spread of 0.06, above the threshold; the dimensions' common error of 0.1 is no difference between them."""
    found = CLAIMS["C3"](evidence(moments=moments(spread=0.06, error=0.1)))
    assert found.estimate < 0
    assert found.verdict == "inconclusive"


def test_runs_of_one_active_dimension_are_left_out_of_c3_and_said_so():
    table = moments()
    table["active"] &= (table["seed"] != 10) | (table["dimension"] == 0)
    found = CLAIMS["C3"](evidence(moments=table))
    assert found.runs == 12
    assert "3 runs left out: one active dimension" in found.note


def test_the_curve_over_margins_adds_up():
    details = judge(moments=moments(kurtosis=3.2, spread=0.2))["C4"].details
    assert [row["margin"] for row in details["curve"]] == LEDGER["claims"]["C4"]["curve"]
    for row in details["curve"]:
        assert row["outside"] + row["inside"] + row["undecided"] == pytest.approx(1)
    outside = [row["outside"] for row in details["curve"]]
    assert outside == sorted(outside, reverse=True)
    assert details["median_distance"] == pytest.approx(0.2, abs=0.01)


def test_both_shapley_orders_count():
    """Shape first removes 2 of 10, shape last 6 of 10: its share is their mean."""
    found = judge(samplers=samplers({"dependence": 17.0}))["C6k"]
    assert found.estimate == pytest.approx(0.4)
    assert found.details["frechet"]["orders"] == pytest.approx({"shape first": 0.2, "shape last": 0.6})


def test_what_removes_the_penalty_is_told_of_held_out_images_and_of_every_mixture():
    """(21 − 16) / 20 by Q of held-out images; (21 − 12) / 10 and (21 − 15) / 10 of the removable by the mixtures."""
    found = judge(samplers=samplers({"q_heldout": 16.0, "gmm_10": 15.0}))["C6"]
    frechet, kid = found.size.split("; ")
    assert frechet.startswith("50% of the prior's Fréchet penalty over the floor is removable (3 cells")
    for size in (frechet, kid):
        assert size.endswith(", 25% by Q of held-out images, and of that gmm_10 removes 60%, gmm_100 removes 90%")


def test_a_limit_is_told_as_one_and_a_single_run_has_none():
    seeds = pd.concat([moments(second=1.01 + 0.001 * (s - 12), models=runs(seeds=(s,))) for s in (10, 11, 12, 13, 14)])
    found = judge(moments=seeds)["C2"]
    assert found.size.startswith(f"at most {found.high:.3g} on training rows (mean 0.01 in mnist dense")
    single = judge(moments=moments(second=1.01, models=runs(seeds=(12,))))["C2"]
    assert single.size.startswith("0.01 on training rows")
    bound = judge()["C5"]
    assert bound.size.startswith(f"at least {bound.low:.3g} nat in some cell (mean of the certified bounds ")


def test_customary_training_has_shares_of_its_own():
    customary = samplers({"prior_raw": 81.0, "marginals_raw": 79.0, "dependence_raw": 73.0, "q_train_raw": 71.0},
                         architecture="dense_customary")  # fmt: skip
    found = judge(samplers=pd.concat([samplers(), customary]), moments=both(moments()))["C6s"]
    assert found.estimate == pytest.approx(60 / 70)
    assert found.details["main"]["scale"] == pytest.approx(20 / 30)
    for shares in found.details.values():
        assert sum(shares.values()) == pytest.approx(1)


def test_shares_of_scale_are_compared_on_the_same_cells():
    """In the main sweep alone there are cells without any error of scale."""
    main = pd.concat(
        [
            samplers(weights=(1.0,)),
            samplers({f"{rung}_raw": RUNGS[rung] for rung in ("prior", "marginals", "dependence", "q_train")},
                     weights=(0.5, 4.0)),
        ]
    )  # fmt: skip
    dead = runs(architecture="dense_adamreset")
    scores = [main, samplers(weights=(1.0,), architecture="dense_customary"), samplers(models=dead)]
    table = pd.concat([both(moments()), moments(models=dead, active=0)], ignore_index=True)
    found = judge(samplers=pd.concat(scores, ignore_index=True), moments=table)["C6s"]
    assert found.details["main"] == pytest.approx(found.details["customary"])
    assert "main sweep, same cells" in found.size
    # Collapsed models of other variants are none of its business.
    assert found.note == ""


def test_kid_alone_does_not_silence_the_shape_claim():
    scores = samplers()
    scores["kid"] = 0.1
    found = CLAIMS["C6k"](evidence(samplers=scores))
    assert found.verdict == "refuted"
    assert "nothing can be removed by KID" in found.size


def test_variants_and_controls_are_kept_out_of_the_other_claims():
    plain = judge()
    awful = both(moments(), mean=1.0, second=3.0, kurtosis=9.0, spread=3.0)
    found = judge(
        moments=awful,
        divergence=pd.concat([divergence(), divergence(9.0, architecture="dense_customary"), gaussian_control()]),
        samplers=pd.concat([samplers(), samplers({"q_train": 20.9}, architecture="dense_customary")]),
    )
    for claim in ("C1", "C2", "C3", "C4", "C4β", "C5", "C5s", "C6", "C6k"):
        assert (found[claim].estimate, found[claim].verdict) == (plain[claim].estimate, plain[claim].verdict), claim


def test_collapsed_models_are_left_out_of_the_sampler_claims_and_said_so():
    alive, dead = runs(weights=(1.0,)), runs(weights=(8.0,))
    table = pd.concat([moments(models=alive), moments(models=dead, active=0)])
    scores = pd.concat([samplers(models=alive), samplers({"q_train": 21.0, "marginals": 5.0}, models=dead)])
    found = judge(moments=table, samplers=scores)
    assert found["C6"].estimate == pytest.approx(0.5)
    assert found["C6k"].estimate == pytest.approx(0.2)
    assert "5 collapsed models left out" in found["C6"].note
    assert found["C6"].runs == 5


def test_a_cell_without_a_removable_penalty_has_no_shares():
    good, idle = runs(weights=(1.0,)), runs(weights=(8.0,))
    scores = pd.concat([samplers(models=good), samplers({"q_train": 21.0, "marginals": 5.0}, models=idle)])
    found = judge(samplers=scores, moments=moments(models=good + idle))
    assert found["C6k"].estimate == pytest.approx(0.2)
    assert "1 cells left out" in found["C6k"].note


def test_ablations_are_set_beside_customary_training_on_their_own_cells():
    table = losses(-0.5, variants=("", "customary", "regaugedonce"))
    table = table[(table["architecture"] != "dense_regaugedonce") | (table["kl_weight"] == 1.0)]
    found = judge(losses=table)["M1"]
    assert found.estimate == pytest.approx(-0.5)
    assert found.runs == 15
    shown = {(row["of"], row["training"]): (row["mean"], row["runs"]) for row in found.details["ablations"]}
    assert shown[("regaugedonce", "regaugedonce")] == (pytest.approx(0), 5)
    assert shown[("regaugedonce", "main")] == (pytest.approx(-0.5), 5)
    assert "lower in 3 of 3 cells" in found.size


def test_without_active_dimensions_nothing_is_claimed():
    verdicts = judge(moments=moments(active=0))
    for claim in ("C1", "C2", "C3", "C4", "C4β", "C6", "C6k", "C6s"):
        assert verdicts[claim].verdict == "not tested", claim


def test_with_one_seed_nothing_is_claimed_about_runs():
    one = {"seeds": (10,)}
    found = judge(moments=moments(**one), divergence=divergence(**one), samplers=samplers(**one), losses=losses(**one))
    for claim in ("C1", "C2", "C3", "C4", "C4β", "C5", "C6", "C6k", "M1"):
        assert found[claim].verdict == "inconclusive", claim
        assert np.isfinite(found[claim].estimate)


def test_a_cell_of_one_run_is_left_out_beside_others_and_said_so():
    lone = [keys(kl_weight=9.0)]
    found = judge(
        moments=pd.concat([moments(), moments(models=lone, mean=0.9)]),
        divergence=pd.concat([divergence(), divergence(models=lone), gaussian_control()]),
    )["C1"]
    assert found.estimate == 0
    assert "1 of 4 cells left out" in found.note
    assert found.runs == 15
    # Nor is it named as the place of the estimate.
    assert "β = 9" not in found.size


def test_a_size_is_about_the_cells_that_the_limits_are_about():
    lone = divergence(7.0, upper=9.0, models=[keys(kl_weight=9.0)])
    found = judge(divergence=pd.concat([divergence(0.5), lone, gaussian_control()], ignore_index=True))["C5"]
    assert "β = 9" not in found.size
    assert "in 0 of 3 cells" in found.size


def test_cells_of_one_run_lend_the_share_no_certainty():
    """Five runs of one cell, whose kurtosis is 3, beside forty runs each in a cell of its own, whose kurtosis is 9."""
    alone = [keys(kl_weight=float(weight)) for weight in range(20, 60)]
    same = moments(kurtosis=3.0, spread=0.02, weights=(1.0,))
    found = judge(moments=pd.concat([same, moments(kurtosis=9.0, models=alone)], ignore_index=True))["C4"]
    assert found.estimate == 0
    assert found.runs == 5
    assert "40 of 41 cells left out: one run only" in found.note
    assert found.details["median_distance"] < 0.1


def test_with_empty_tables_nothing_is_claimed():
    empty = pd.DataFrame(columns=KEYS)
    verdicts = judge(samplers=empty, controls=empty, losses=empty)
    for claim in ("C6", "C6k", "C6s", "M1", "C8"):
        assert verdicts[claim].verdict == "not tested"
    assert "the clause on the loss is not tested" in verdicts["C1"].note


def test_the_deviation_of_a_square():
    """Of an exponential law, whose moments E zⁿ are n!, and of a normal one that is moved."""
    rows = pd.DataFrame({"mean": [1.0, 2.0], "variance": [1.0, 9.0], "skewness": [2.0, 0.0], "kurtosis": [9.0, 3.0]})
    np.testing.assert_allclose(deviation_of_square(rows) ** 2, [24 - 4, 2 * 81 + 4 * 4 * 9])
