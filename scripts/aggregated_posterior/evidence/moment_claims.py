"""Claims on the moments of Q(z) beyond the second, and on the formulas that give them: C0, C3, C4 and C4β."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from .limits import Limits, largest_score, mean_over_cells, share
from .runs import Evidence, by_cell, cell_summary, joined, kept_cells, per_run, range_over_cells
from .tables import CELL, RUN
from .verdicts import Verdict, decide, number


def claim_formulas(evidence: Evidence) -> Verdict:
    """C0: draws from Q(z) have the moments that the formulas give; the threshold follows from the number of scores."""
    table = evidence.moments
    table = table[(table["split"] == "train") & (table["form"] == "raw")]
    table = table[table["seed"] == table.groupby(CELL)["seed"].transform("min")]
    columns = [name for name in table.columns if name.startswith("draws_z_")]
    # A score that is not a number is not a small one.
    runs = per_run(table, table[columns].abs().max(axis="columns", skipna=False), "max")
    count, worst = len(table) * len(columns), float(runs["value"].max(skipna=False))
    threshold = largest_score(count, evidence.option("C0", "level"))
    limits = Limits(worst, worst, worst)
    size = f"the largest of {count} z-scores is {number(worst)}; chance alone stays below {threshold:.2f} in 99 of 100"
    return evidence.verdict("C0", limits, decide(limits, threshold, above=False), runs, size, threshold=threshold)


def claim_other_moments(evidence: Evidence) -> Verdict:
    """C3: kurtosis differs between dimensions that share their first two moments.

    Per run x = the variance of kurtosis between its active dimensions less the mean squared standard error. Its root
    with its sign, ±√|x|, is on average at most the standard deviation σ of their true values, so it gives the estimate
    and the limit that supports. For the limit that refutes no noise is taken off: the errors are the larger of two, and
    dimensions share their rows, so that less of the errors differs between dimensions than they say, and x is too
    small. The root of the mean variance is at least the mean of σ. Where noise is large the two limits lie far apart,
    as they should.
    """
    active = evidence.active("train")
    if active.empty:
        return evidence.not_tested("C3", "no active dimension")
    noise = per_run(active, active["kurtosis_se"] ** 2, "mean")["value"]
    spread = per_run(active, active["kurtosis"], "var")
    several = per_run(active, active["kurtosis"], "size")["value"] > 1
    noisy, lone = kept_cells(spread[several])
    if noisy.empty:
        return evidence.not_tested("C3", "no run with two active dimensions")
    runs, _ = kept_cells(spread.assign(value=signed_root(spread["value"] - noise))[several])
    least, most = mean_over_cells(by_cell(runs)), mean_over_cells(by_cell(noisy))
    limits = Limits(least.estimate, least.low, float(np.sqrt(most.high)))
    size = (
        f"kurtosis differs between active dimensions by {number(limits.estimate)} (standard deviation, noise removed); "
        f"{range_over_cells(runs)}"
    )
    verdict = decide(limits, evidence.option("C3", "threshold"), above=True)
    alone = int((~several).sum())
    note = joined(f"{alone} runs left out: one active dimension" if alone else "", lone)
    return evidence.verdict("C3", limits, verdict, runs, size, note)


def signed_root(value: Any) -> Any:
    """√|x| with the sign of x."""
    return np.sign(value) * np.sqrt(np.abs(value))


def kurtosis_shares(rows: pd.DataFrame, margin: float) -> tuple[pd.Series, pd.Series]:
    """Which dimensions' kurtosis intervals lie outside 3 ± margin, and which inside."""
    outside = (rows["kurtosis_low"] > 3 + margin) | (rows["kurtosis_high"] < 3 - margin)
    inside = (rows["kurtosis_low"] > 3 - margin) & (rows["kurtosis_high"] < 3 + margin)
    return outside, inside


def claim_kurtosis(evidence: Evidence) -> Verdict:
    """C4: most active dimensions have a kurtosis that is not 3, on held-out rows.

    Outside, inside or undecided, by each dimension's own interval. Supported if more than half are outside, refuted if
    more than half are inside; the upper limit is one less the lower limit of the share inside.
    """
    rows = evidence.active("test")
    if rows.empty:
        return evidence.not_tested("C4", "no active dimension on held-out rows")
    margin = evidence.option("C4", "margin")
    counts = rows[RUN].assign(
        **dict(zip(("outside", "inside"), kurtosis_shares(rows, margin), strict=True)), dimensions=1
    )
    counts, lone = kept_cells(counts.groupby(RUN, sort=True).sum().reset_index())
    rows = rows.merge(counts[RUN], on=RUN)
    cell = counts.groupby(CELL, sort=True).ngroup().to_numpy()
    outside = share(counts["outside"].to_numpy(), counts["dimensions"].to_numpy(), cell)
    inside = share(counts["inside"].to_numpy(), counts["dimensions"].to_numpy(), cell)
    limits = Limits(outside.estimate, outside.low, 1 - inside.low)
    curve = []
    for width in evidence.option("C4", "curve"):
        away, near = (float(found.mean()) for found in kurtosis_shares(rows, width))
        curve.append({"margin": width, "outside": away, "inside": near, "undecided": 1 - away - near})
    median = float((rows["kurtosis"] - 3).abs().median())
    size = (
        f"{outside.estimate:.0%} of {len(rows)} active dimensions outside 3 ± {margin:g}, {inside.estimate:.0%} "
        f"inside, {1 - outside.estimate - inside.estimate:.0%} undecided; median |kurtosis − 3| {number(median)}"
    )
    runs = counts.assign(value=counts["outside"] / counts["dimensions"])
    verdict = decide(limits, evidence.option("C4", "threshold"), above=True)
    details = {"curve": curve, "median_distance": median}
    return evidence.verdict("C4", limits, verdict, runs, size, lone, details=details)


def claim_kl_weight(evidence: Evidence) -> Verdict:
    """C4β: |kurtosis − 3| falls as the KL weight grows.

    A run is here the models of one seed, data set, architecture and latent size at all KL weights: Spearman's
    correlation of the weight with the median |kurtosis − 3| over active dimensions. At least three weights, since of
    two every correlation is 1 or −1.
    """
    active = evidence.active("train")
    medians = per_run(active, (active["kurtosis"] - 3).abs(), "median")
    curve = [key for key in RUN if key != "kl_weight"]
    rows = []
    for place, own in medians.groupby(curve, sort=True) if len(medians) else ():
        weights, values = own["kl_weight"].rank().to_numpy(), own["value"].rank().to_numpy()
        if len(own) > 2 and np.ptp(values):
            rows.append(dict(zip(curve, place, strict=True)) | {"value": float(np.corrcoef(weights, values)[0, 1])})
    if not rows:
        return evidence.not_tested("C4β", "no latent size with three KL weights")
    # A latent size is here a cell without a KL weight of its own.
    runs, lone = kept_cells(pd.DataFrame(rows).assign(kl_weight=np.nan))
    limits = mean_over_cells(by_cell(runs))
    verdict = decide(limits, evidence.option("C4β", "threshold"), above=False)
    shown = ", ".join(f"{cell['mean']:+.2f} at d = {cell['latent_dim']}" for cell in cell_summary(runs))
    size = f"rank correlation {limits.estimate:+.2f} between KL weight and median |kurtosis − 3|, {shown}"
    return evidence.verdict("C4β", limits, verdict, runs, size, lone)
