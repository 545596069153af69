"""Who is to blame for the prior's penalty: Shapley shares of scale, shape and dependence from a ladder of samplers.

A sampler has the right *scale* (it draws in canonical form), the right marginal *shape*, the right *dependence*, or
not, and every combination is a rung of the ladder. F(rung) is a distance to the test images. What any sampler could win
with this decoder is the removable penalty R = F(wrong in everything) − F(Q_train); a factor's share of it is the mean
over all orders of putting the factors right of what it removes (Shapley 1953), so that it hangs on no order.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from math import factorial

import numpy as np
import pandas as pd

from .limits import one_sided
from .runs import cell_numbers, joined, kept_cells
from .tables import RUN

# The rung that has these factors right and the others wrong.
SHAPE_AND_DEPENDENCE = {
    frozenset(): "prior",
    frozenset({"shape"}): "marginals",
    frozenset({"dependence"}): "dependence",
    frozenset({"shape", "dependence"}): "q_train",
}
# The codes of a `_raw` rung are decoded without undoing the canonical form.
WITH_SCALE = {factors: f"{rung}_raw" for factors, rung in SHAPE_AND_DEPENDENCE.items()} | {
    factors | {"scale"}: rung for factors, rung in SHAPE_AND_DEPENDENCE.items()
}


def mean_over_judges(samplers: pd.DataFrame, score: str) -> pd.DataFrame:
    """One row per run (index `RUN`) and one column per sampler: `score`, averaged over judges."""
    return samplers.pivot_table(index=RUN, columns="sampler", values=score, aggfunc="mean")


def removable(distances: pd.DataFrame, corners: Mapping[frozenset[str], str]) -> pd.Series:
    """R = F(every factor wrong) − F(every factor right), per run."""
    return distances[corners[frozenset()]] - distances[corners[max(corners, key=len)]]


def shapley(distances: pd.DataFrame, corners: Mapping[frozenset[str], str]) -> pd.DataFrame:
    """What each factor removes of the distance, per run: its Shapley value, in the distance's units.

    φ_i = Σ_S |S|! (n − |S| − 1)! / n! · (F(S) − F(S ∪ {i})) over the sets S of the other factors.
    The values add up to R.

    Args:
        distances: One row per run, one column per sampler.
        corners: The sampler for every set of factors that are right.

    Returns:
        One column per factor.
    """
    factors = sorted(max(corners, key=len))
    values = {}
    for factor in factors:
        others = [other for other in factors if other != factor]
        value = pd.Series(0.0, index=distances.index)
        for size in range(len(factors)):
            weight = factorial(size) * factorial(len(others) - size) / factorial(len(factors))
            for before in map(frozenset, combinations(others, size)):
                value += weight * (distances[corners[before]] - distances[corners[before | {factor}]])
        values[factor] = value
    return pd.DataFrame(values)


def ratio_by_run(numerator: pd.Series, denominator: pd.Series) -> tuple[pd.DataFrame, str]:
    """One row per run whose mean over a cell is Σ numerator / Σ denominator, and a note on cells that are left out.

    A mean of ratios would rest on the runs whose denominator happens to be small. So a cell's share is the ratio θ of
    sums, and a run's value θ + (numerator − θ·denominator) / mean denominator, the ratio's linear form: its spread is
    the spread of θ. Cells whose denominator is not above 0 by its one-sided limit are left out: there is nothing to
    share.

    Args:
        numerator, denominator: Per run, with the index `RUN`.
    """
    runs = numerator.index.to_frame(index=False)
    numbers, above, below = cell_numbers(runs), numerator.to_numpy(), denominator.to_numpy()
    values, dropped = np.full(len(runs), np.nan), 0
    for number in range(numbers.max() + 1):
        own = numbers == number
        mean = below[own].mean()
        if not (one_sided(below[own])[0] if own.sum() > 1 else mean) > 0:
            dropped += 1
            continue
        ratio = above[own].mean() / mean
        values[own] = ratio + (above[own] - ratio * below[own]) / mean
    runs, lone = kept_cells(runs.assign(value=values)[~np.isnan(values)].reset_index(drop=True))
    return runs, joined(f"{dropped} cells left out: penalty not above 0" if dropped else "", lone)
