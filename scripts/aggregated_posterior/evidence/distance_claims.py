"""Claims on the distance of Q(z) from N(0, I), and on controls whose answer is known: C5, C5s and C8."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .limits import LEVEL, Limits, certified, largest_of_cells, one_sided
from .runs import Evidence, by_cell, joined, kept_cells, largest_cell, name_of, per_run
from .tables import CELL, RUN
from .verdicts import Verdict, all_hold, at_least, decide, number, part

# What a control is judged by; each has a column `expected_…` beside it.
COMPARED = ("excess_kurtosis", "term_means", "term_covariance", "term_scale")
CONTROLS = {"control_gaussian", "control_uniform", "control_mixture"}


def certified_bound(table: pd.DataFrame) -> pd.Series:
    """Lower bound of KL(Q ‖ N(0, I)) per row of divergence.csv, in nats.

    The better of two densities' bounds, each less 1.645 times its Monte-Carlo error.
    """
    least = [
        certified(table[name].astype(float), table[f"{name}_se"].astype(float))
        for name in ("certified_gaussian", "certified_gmm")
    ]
    return np.maximum(*least)


def bounds(table: pd.DataFrame) -> pd.DataFrame:
    """One row per run: certified bound and upper bracket of KL(Q ‖ N(0, I)), canonical, the latter plus its error."""
    table = table[table["form"] == "canonical"] if len(table) else table
    if table.empty:
        return pd.DataFrame(columns=[*RUN, "value", "upper", "marginal"])
    upper = -certified(-table["bracket_high"], table["bracket_high_se"])
    found = table[RUN].assign(value=certified_bound(table), upper=upper, marginal=table["dimension_wise_kl"])
    return found.reset_index(drop=True)


def claim_distance(evidence: Evidence) -> Verdict:
    """C5: in some cell Q(z) is certified to be at least 1 nat away from N(0, I); refuted only by upper bounds."""
    runs, lone = kept_cells(bounds(evidence.main(evidence.divergence)))
    if runs.empty:
        return evidence.not_tested("C5", "no divergence")
    lower, upper = largest_of_cells(by_cell(runs)), largest_of_cells(by_cell(runs, "upper"))
    limits = Limits(lower.estimate, lower.low, upper.high)
    threshold = evidence.option("C5", "threshold")
    means = runs.groupby(CELL)["value"].mean()
    size = (
        f"{at_least(lower)} nat in some cell (mean of the certified bounds {number(lower.estimate)} in "
        f"{largest_cell(runs)}); means of {threshold:g} nat or more in {int((means >= threshold).sum())} of "
        f"{len(means)} cells"
    )
    verdict = evidence.verdict("C5", limits, decide(limits, threshold, above=True), runs, size, lone)
    for cell, upper_mean in zip(verdict.cells, runs.groupby(CELL, sort=True)["upper"].mean(), strict=True):
        cell["upper"] = float(upper_mean)
    return verdict


def claim_marginal_share(evidence: Evidence) -> Verdict:
    """C5s: Σ_j KL(q_j ‖ N(0, 1)) over the certified bound, less its error: at most so much of the distance is marginal.

    Only where the bound is resolved: its cell's lower limit is above 0. Limits are the cells' range.
    """
    runs, lone = kept_cells(bounds(evidence.main(evidence.divergence)))
    cells = [own for _, own in runs.groupby(CELL, sort=True) if one_sided(own["value"].to_numpy())[0] > 0]
    if not cells:
        return evidence.not_tested("C5s", "no cell of several runs whose certified bound is above 0 by its limit")
    kept = pd.concat([own.assign(value=own["marginal"] / own["value"].mean()) for own in cells])
    shares = kept.groupby(CELL)["value"].mean().clip(upper=1)
    farthest = max(cells, key=lambda own: own["value"].mean())
    estimate = min(1.0, float(farthest["marginal"].mean() / farthest["value"].mean()))
    size = (
        f"at most {shares.min():.1%} to {shares.max():.1%} of the distance is marginal, by cell; at most "
        f"{estimate:.1%} in {name_of(farthest.iloc[0])}, the farthest of the {len(shares)} whose distance is resolved"
    )
    limits = Limits(estimate, float(shares.min()), float(shares.max()))
    note = f"{runs.groupby(CELL).ngroups - len(cells)} cells left out: certified bound not above 0"
    return evidence.verdict("C5s", limits, "reported", kept, size, joined(note, lone))


def claim_controls(evidence: Evidence) -> Verdict:
    """C8: kurtosis and its terms are the closed form's on every control, and no distance is certified without one.

    Controls share the sample with their theory, so that noise cancels and an absolute tolerance judges. On the Gaussian
    control no certified bound, less its Monte-Carlo error (level 0.05 over all bounds together), may exceed it in nats.
    Without one of the controls the claim is refuted or undecided.
    """
    table = evidence.controls
    if table.empty:
        return evidence.not_tested("C8", "no control in this experiment")
    tolerance = evidence.option("C8", "threshold")
    error = pd.concat([(table[name] - table[f"expected_{name}"]).abs() for name in COMPARED], axis="columns")
    # An error that is not a number is not a small one.
    runs = per_run(table, error.max(axis="columns", skipna=False), "max")
    parts = []
    for name, own in runs.groupby("dataset", sort=True):
        worst = float(own["value"].max(skipna=False))
        parts.append(part(f"largest error, {name}", Limits(worst, worst, worst), tolerance, above=False))
    gaussian = evidence.divergence
    gaussian = gaussian[gaussian["dataset"] == "control_gaussian"]
    gaussian = gaussian[gaussian["form"] == "canonical"] if len(gaussian) else gaussian
    certified_size = ""
    if len(gaussian):
        kinds = ("certified_gaussian", "certified_gmm")
        bound = np.concatenate([gaussian[kind].to_numpy() for kind in kinds])
        lowest = certified(bound, np.concatenate([gaussian[f"{kind}_se"] for kind in kinds]), LEVEL / len(bound))
        limit = float(lowest.max())
        verdict = decide(Limits(limit, limit, limit), tolerance, above=False)
        measured = {"estimate": float(bound.max()), "low": limit, "high": np.nan}
        parts.append(
            {"part": "certified bound, control_gaussian", **measured, "threshold": tolerance, "verdict": verdict}
        )
        certified_size = f"; largest certified bound of the Gaussian control {number(float(bound.max()))} nat"
    worst = float(runs["value"].max(skipna=False))
    absent = CONTROLS - evidence.control_names
    size = f"largest error of kurtosis or of one of its terms {number(worst)} in {len(runs)} models{certified_size}"
    note = f"not in this experiment: {', '.join(sorted(absent))}" if absent else ""
    verdict = all_hold(row["verdict"] for row in parts)
    if absent and verdict == "supported":
        verdict = "inconclusive"  # the claim is about all of them
    return evidence.verdict("C8", Limits(worst, worst, worst), verdict, runs, size, note, details={"parts": parts})
