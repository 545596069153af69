"""Honest reruns pass, however unlike the cells' spreads are; planted faults do not."""

import numpy as np
import pandas as pd
import pytest

from aggregated_posterior.evidence.tolerances import RUN, compare_tables

CELLS = [(latent_dim, kl_weight) for latent_dim in (2, 8, 16) for kl_weight in (0.25, 1.0, 4.0)]
SEEDS = range(5)
QUANTITIES = [f"quantity_{number}" for number in range(12)]


def law(rng):
    """What is true of each cell: where a quantity lies, and a spread between seeds from 10⁻⁷ to 1 by cell."""
    return {cell: (rng.normal(3, 2, len(QUANTITIES)), 10 ** rng.uniform(-7, 0, len(QUANTITIES))) for cell in CELLS}


def experiment(rng, truth, seeds=SEEDS):
    """A table like `moments`: 8 dimensions per run, of which the last ones are now and then inactive."""
    rows = []
    for cell, (centre, spread) in truth.items():
        for seed in seeds:
            # Heavier tails than the normal law that the tests assume.
            values = centre + spread * rng.standard_t(10, len(QUANTITIES))
            active = 8 if cell[1] < 4 else int(rng.integers(5, 8))
            for dimension in range(8):
                here = values + 0.1 * spread * rng.normal(size=len(QUANTITIES))
                row = dict(zip(QUANTITIES, here, strict=True))
                row |= {"collapsed": abs(1e-5 * rng.normal()) ** (1 + dimension % 2), "mean": 1e-9 * rng.normal()}
                keys = {"experiment": "toy", "dataset": "digits", "architecture": "dense", "likelihood": "bernoulli"}
                place = {"latent_dim": cell[0], "kl_weight": cell[1], "seed": seed, "split": "test"}
                rows.append({**keys, **place, "dimension": dimension, **row, "active": dimension < active})
    return pd.DataFrame(rows)


def scores(rng, seeds=SEEDS, judges=(0, 1, 2), shift=0.0):
    """A table like `samplers`: judges differ more from each other than seeds do, alike for all models."""
    scale = {judge: 1 + 0.2 * rng.normal() for judge in judges}
    rows = []
    for latent_dim, kl_weight in CELLS:
        for seed in seeds:
            quality = latent_dim * (1 + 0.05 * rng.normal()) + shift
            for judge in judges:
                for sampler, part in {"prior": 1.0, "gmm_10": 0.3}.items():
                    keys = {"experiment": "toy", "dataset": "digits", "architecture": "dense"}
                    place = {"latent_dim": latent_dim, "kl_weight": kl_weight, "seed": seed, "judge": judge}
                    frechet = scale[judge] * part * quality * (1 + 0.01 * rng.normal())
                    recall = rng.binomial(360, 0.01 * part) / 360
                    values = {"sampler": sampler, "n": 360, "frechet": frechet, "recall": recall}
                    rows.append({**keys, "likelihood": "bernoulli", **place, **values})
    return pd.DataFrame(rows)


def runs(table):
    return set(table[RUN].itertuples(index=False, name=None))


def test_no_false_alarm_in_twenty_honest_reruns_of_fresh_seeds():
    rng = np.random.default_rng(0)
    for _ in range(20):
        truth = law(rng)
        published, own = experiment(rng, truth), experiment(rng, truth, range(10, 15))
        found = compare_tables("moments", own, published, set())
        assert found.status == "within seed spread", found.differences
        # Nine cells, the active and (at β = 4) the inactive group, means and single runs of each number.
        assert found.compared > 1000 and found.unjudged == 0


def test_no_false_alarm_in_twenty_honest_reruns_with_judges_trained_anew():
    rng = np.random.default_rng(1)
    for _ in range(20):
        found = compare_tables("samplers", scores(rng), scores(rng), set(), other_judges=True)
        assert found.status == "within seed spread", found.differences


def test_scores_that_are_far_off_are_found_with_judges_trained_anew():
    rng = np.random.default_rng(2)
    found = compare_tables("samplers", scores(rng, shift=200.0), scores(rng), set(), other_judges=True)
    assert found.status == "differs"


def test_a_lot_of_runs_and_one_of_them_off():
    rng = np.random.default_rng(3)
    truth = law(rng)
    truth[8, 1.0][1][0] = 0.01
    published, own = experiment(rng, truth), experiment(rng, truth, range(10, 15))
    wrong = (own["latent_dim"] == 8) & (own["kl_weight"] == 1) & (own["seed"] == 12)
    own.loc[wrong, "quantity_0"] += 1
    (found,) = compare_tables("moments", own, published, set()).differences
    assert found.quantity == "single run's quantity_0" and "seed 12" in found.place
    assert found.own - found.published == pytest.approx(1, abs=0.1)


def test_a_shift_of_all_runs_of_a_cell_is_found_which_no_single_run_shows():
    rng = np.random.default_rng(4)
    truth = law(rng)
    truth[8, 1.0][1][0] = 0.01
    published, own = experiment(rng, truth), experiment(rng, truth, range(10, 15))
    own.loc[(own["latent_dim"] == 8) & (own["kl_weight"] == 1), "quantity_0"] += 1
    (found,) = compare_tables("moments", own, published, set()).differences
    assert found.quantity == "mean over seeds of quantity_0"


def test_the_spread_of_another_cell_excuses_nothing():
    rng = np.random.default_rng(5)
    truth = law(rng)
    for cell, (_, spread) in truth.items():
        spread[0] = 0.001 if cell == (2, 1.0) else 10
    published, own = experiment(rng, truth), experiment(rng, truth, range(10, 15))
    own.loc[(own["latent_dim"] == 2) & (own["kl_weight"] == 1), "quantity_0"] += 0.5
    (found,) = compare_tables("moments", own, published, set()).differences
    assert "latent_dim 2, kl_weight 1" in found.place


def test_what_a_collapsed_model_has_near_zero_is_no_difference():
    rng = np.random.default_rng(6)
    truth = law(rng)
    published, own = experiment(rng, truth), experiment(rng, truth, range(10, 15))
    own["collapsed"] += 0.004
    assert compare_tables("moments", own, published, set()).status == "within seed spread"
    own["collapsed"] += 0.01
    assert {each.quantity for each in compare_tables("moments", own, published, set()).differences} == {
        "mean over seeds of collapsed"
    }


def test_equal_weights_need_equal_numbers_and_other_weights_do_not():
    rng = np.random.default_rng(7)
    truth = law(rng)
    published = experiment(rng, truth)
    anew = {run for run in runs(published) if run[3] == 4.0 and run[4] < 2}
    again = experiment(rng, truth)
    own = published.copy()
    mask = [run in anew for run in own[RUN].itertuples(index=False, name=None)]
    own.loc[mask] = again.loc[mask]
    same = runs(published) - anew
    found = compare_tables("moments", own, published, same)
    assert found.status == "within seed spread", found.differences
    # One perturbed number of a model with the published weights, by far less than its spread between seeds.
    row = own.index[(own["kl_weight"] == 1) & (own["seed"] == 3)][4]
    own.loc[row, "quantity_5"] += 1e-4
    (found,) = compare_tables("moments", own, published, same).differences
    assert found.quantity == "quantity_5" and found.own - found.published == pytest.approx(1e-4)
    # Not more than half of the numbers decide what is the same computation: the bytes of the weights do.
    own = again
    assert compare_tables("moments", own, published, runs(published)).status == "differs"


@pytest.mark.parametrize("fault", ["swapped cells", "sigma for its square", "rows of another table", "not a number"])
@pytest.mark.parametrize("weights", ["published", "fresh seeds"])
def test_planted_faults_are_found(fault, weights):
    rng = np.random.default_rng(8)
    # A mean variance as models have it: 0.03 to 0.9, a few per cent between seeds.
    truth = {cell: (rng.uniform(0.03, 0.9, 12), np.full(12, 0.01)) for cell in CELLS}
    published = experiment(rng, truth)
    own = published.copy() if weights == "published" else experiment(rng, truth, range(10, 15))
    same = runs(published) if weights == "published" else set()
    assert compare_tables("moments", own, published, same).status != "differs"
    if fault == "swapped cells":
        own["kl_weight"] = own["kl_weight"].replace({0.25: 1.0, 1.0: 0.25})
        own = own.sort_values([*RUN, "dimension"], kind="stable").reset_index(drop=True)
    elif fault == "sigma for its square":
        own["quantity_2"] = np.sqrt(own["quantity_2"])
    elif fault == "rows of another table":
        own[QUANTITIES] = own[QUANTITIES[::-1]].to_numpy()
    else:
        own["quantity_3"] = np.nan
    assert compare_tables("moments", own, published, same).status == "differs"


def test_tables_without_models_and_curves_of_other_weights_are_told_and_not_judged():
    rng = np.random.default_rng(9)
    truth = law(rng)
    published = experiment(rng, truth)
    own = published.assign(quantity_0=published["quantity_0"] + 9)
    assert compare_tables("latent_ellipses", own, published, set()).status == "not compared"
    assert compare_tables("latent_ellipses", own, published, runs(published)).status == "differs"
    assert compare_tables("agreement", own[["split"]], published[["split"]], set()).status == "not compared"


def test_too_few_runs_are_counted_as_unjudged():
    rng = np.random.default_rng(10)
    truth = {cell: (centre, np.full(12, 1.0)) for cell, (centre, _) in law(rng).items()}
    found = compare_tables("moments", experiment(rng, truth, [1]), experiment(rng, truth, [0]), set())
    assert found.status == "within seed spread" and found.unjudged > 50
