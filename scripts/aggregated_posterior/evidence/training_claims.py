"""Claims on what training leaves of the first two moments, and at what loss: C1, C2, C2r and M1."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from .limits import LEVEL, Limits, largest_of_cells, mean_over_cells
from .runs import Evidence, by_cell, cell_summary, joined, kept_cells, largest_cell, no_runs, per_run, range_over_cells
from .tables import CELL, RUN, variant, with_training
from .verdicts import Verdict, all_hold, at_most, decide, number, part

CUSTOMARY = "customary"
# A cell, and a run, without the variant of training: what two variants are compared and paired by.
PLACE = ["dataset", "base", "latent_dim", "kl_weight"]
PAIR = [*PLACE, "seed"]


def agrees(evidence: Evidence, claim: str, what: str, residual: Callable, data_error: Callable) -> Verdict:
    """C1 and C2: a residual of the first two moments is small on training rows and, in their gauge, on held-out rows.

    On n held-out rows a residual x_j is known up to a data error e_j. The largest of d residuals is then too large by
    about e √(2 ln 2d) even where all are 0 (the expected maximum of 2d normal variables is at most that), and by
    e √(2 ln 1/α) more with probability α at most (concentration about the mean; Boucheron et al. 2013, theorem 5.8).
    Models of all seeds meet the same rows, so that no mean over seeds averages this out. For the limit that could
    refute, both are taken off each, α being the level's share of a cell; for the limit that supports, nothing.

    Args:
        evidence: The tables.
        claim: C1 or C2.
        what: The residual in words.
        residual: Maps rows of moments.csv to the absolute residual per dimension.
        data_error: Maps rows of moments.csv to an upper bound of √n times its standard error.
    """
    train, test = evidence.active("train"), evidence.active("test")
    if train.empty:
        return evidence.not_tested(claim, "no active dimension")
    runs, lone = kept_cells(per_run(train, residual(train), "max"))
    seen = largest_of_cells(by_cell(runs), statements=2)
    parts = [part(f"{what}, training rows", seen, evidence.option(claim, "threshold"), above=False)]
    held_out = None
    if len(test):
        rows = evidence.divergence[[*RUN, "n_test"]].drop_duplicates(RUN)
        test = test.merge(rows, on=RUN, how="left")
        expected = np.sqrt(2 * np.log(2 * test.groupby(RUN)["dimension"].transform("size")))
        beyond = np.sqrt(2 * np.log(2 * test.groupby(CELL).ngroups / LEVEL))
        excess = (expected + beyond) * data_error(test) / np.sqrt(test["n_test"])
        plain = per_run(test, residual(test), "max")
        above_noise = per_run(test, residual(test) - excess, "max")
        high = largest_of_cells(by_cell(plain), statements=2)
        low = largest_of_cells(by_cell(above_noise), statements=2)
        held_out = Limits(high.estimate, low.low, high.high)
        parts.append(part(f"{what}, held-out rows", held_out, evidence.option(claim, "held_out"), above=False))
    verdict = all_hold(row["verdict"] for row in parts)
    size = f"{at_most(seen)} on training rows (mean {number(seen.estimate)} in {largest_cell(runs)})"
    size += f", {at_most(held_out)} on held-out rows (mean {number(held_out.estimate)})" if held_out else ""
    note = ""
    unseen = len(train[RUN].drop_duplicates()) - len(test[RUN].drop_duplicates())
    if unseen:
        note = f"{unseen} runs without held-out rows: support withheld"
        verdict = "inconclusive" if verdict == "supported" else verdict
    difference = paired_losses(evidence)
    if difference.empty:
        clause = "no customary sub-sweep: the clause on the loss is not tested"
    else:
        loss = mean_over_cells(by_cell(difference))
        clause = f"held-out loss less customary training's: {loss.estimate:+.3g} nat"
        if loss.low > 0:
            # The clause can withhold support; that a loss is higher does not make a moment disagree.
            clause += ", which is above it: support withheld"
            verdict = "inconclusive" if verdict == "supported" else verdict
        elif not np.isfinite(loss.low):
            clause += ", of too few pairs to be judged"
    return evidence.verdict(claim, seen, verdict, runs, size, joined(clause, note, lone), details={"parts": parts})


def claim_first_moment(evidence: Evidence) -> Verdict:
    """C1: |E μ_j| is small. Its data error is √(Var μ / n)."""
    return agrees(
        evidence, "C1", "|E μ|", lambda rows: rows["mean"].abs(), lambda rows: np.sqrt(rows["variance_of_means"])
    )


def deviation_of_square(rows: pd.DataFrame) -> pd.Series:
    """√Var z² under Q(z), per dimension: Var z² = V² (kurtosis − 1) + 4 m V^(3/2) skewness + 4 m² V, with m = E z."""
    mean, variance = rows["mean"], rows["variance"]
    of_mean = 4 * mean * variance**1.5 * rows["skewness"] + 4 * mean**2 * variance
    return np.sqrt(variance**2 * (rows["kurtosis"] - 1) + of_mean)


def claim_second_moment(evidence: Evidence) -> Verdict:
    """C2: |E μ_j² + E s_j − 1| is small. Its data error is at most √(Var z² / n)."""
    return agrees(
        evidence,
        "C2",
        "|E μ² + E s − 1|",
        lambda rows: (rows["second_moment"] - 1).abs(),
        deviation_of_square,
    )


def claim_customary_training(evidence: Evidence) -> Verdict:
    """C2r: what customary training leaves of the second moment, and its price β Σ_j G_j in nats (no verdict)."""
    rows = evidence.active_anywhere
    rows = rows[rows["architecture"].map(variant) == CUSTOMARY]
    if rows.empty:
        return evidence.not_tested("C2r", "no customary sub-sweep")
    runs, lone = kept_cells(per_run(rows, (rows["second_moment"] - 1).abs(), "max"))
    first, _ = kept_cells(per_run(rows, rows["mean"].abs(), "max"))
    price, _ = kept_cells(per_run(rows, rows["kl_weight"] * rows["gauge_slack"], "sum"))
    limits = largest_of_cells(by_cell(runs))
    cost = mean_over_cells(by_cell(price))
    size = (
        f"customary training leaves up to {number(limits.estimate)} of the second moment ({largest_cell(runs)}) and "
        f"{number(first.groupby(CELL)['value'].mean().max())} of the first; this costs {number(cost.estimate)} nat of "
        f"loss on average ({range_over_cells(price)})"
    )
    details = {"price": cell_summary(price), "first_moment": cell_summary(first)}
    return evidence.verdict("C2r", limits, "reported", runs, size, lone, details=details)


def paired_losses(evidence: Evidence, first: str = "", second: str = CUSTOMARY) -> pd.DataFrame:
    """One row per pair of runs that differ in the variant of training alone: held-out loss, `first` less `second`."""
    table = evidence.losses
    if table.empty:
        return no_runs()
    table = evidence.studied(table[table["split"] == "test"])
    table = with_training(table)
    one, other = (table[table["variant"] == name][[*PAIR, "loss"]] for name in (first, second))
    pairs = one.merge(other, on=PAIR, suffixes=("", "_other"), validate="one_to_one")
    pairs = pairs.assign(value=pairs["loss"] - pairs["loss_other"]).rename(columns={"base": "architecture"})
    return pairs[[*RUN, "value"]] if len(pairs) else no_runs()


def claim_regauging(evidence: Evidence) -> Verdict:
    """M1: re-gauging between epochs lowers the held-out loss at the same budget, paired by cell and seed."""
    runs, lone = kept_cells(paired_losses(evidence))
    if runs.empty:
        return evidence.not_tested("M1", "no customary sub-sweep, or no losses")
    limits = mean_over_cells(by_cell(runs))
    cells = cell_summary(runs)
    lower, clearly = (sum(cell[name] < 0 for cell in cells) for name in ("mean", "high"))
    higher = sum(cell["low"] > 0 for cell in cells)
    size = (
        f"held-out loss {limits.estimate:+.3g} nat per image against customary training; lower in {lower} of "
        f"{len(cells)} cells, by a one-sided 95 % limit in {clearly} (and higher in {higher}); {range_over_cells(runs)}"
    )
    ablations = []
    for name in sorted(set(evidence.losses["architecture"].map(variant)) - {"", CUSTOMARY}):
        for first in (name, ""):
            # Each ablation beside the main training on the ablation's own cells.
            pairs = paired_losses(evidence, first)
            if first == "" and len(pairs):
                places = paired_losses(evidence, name)[RUN]
                pairs = pairs.merge(places, on=RUN)
            if len(pairs):
                found = mean_over_cells(by_cell(pairs))
                ablations.append(
                    {"of": name, "training": first or "main", "less": CUSTOMARY, "mean": found.estimate}
                    | {"low": found.low, "high": found.high, "runs": len(pairs)}
                )
    verdict = decide(limits, evidence.option("M1", "threshold"), above=False)
    return evidence.verdict("M1", limits, verdict, runs, size, lone, details={"ablations": ablations})
