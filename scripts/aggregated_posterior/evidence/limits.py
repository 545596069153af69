"""Limits over training runs that hold at five seeds: of a mean over cells, of a maximum over cells, of a share.

A *cell* is a data set, architecture, latent size and KL weight; its runs differ in the seed alone and are independent.
A percentile bootstrap over so few runs is not a 95 % interval: simulated coverage is 0.73 for one cell of three seeds,
0.74–0.77 for a maximum that one cell dominates, and 0.00 for a maximum of 16 tied cells. What stands here instead was
simulated to hold; `tests/unit/evidence/test_limits.py` repeats the simulations.

Standard deviations are never pooled over cells. Pooling them wherever a test of equal variances (Bartlett's) does not
object sounds thrifty, and its limits at 0.05 fail in 6–10 % of simulations (16 cells of 5 seeds, one of which varies 2
or 3 times as much as the others, level of the test 0.05–0.5): at five seeds the test does not see what it is asked for.
With each cell's own the same limits fail in 4–6 %, and in 1–2 % where runs are skewed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

# Probability that an interval misses, both sides together.
LEVEL = 0.05


@dataclass(frozen=True)
class Limits:
    """An estimate with the limits that decide, in the estimate's own units; NaN where runs are too few to say."""

    estimate: float
    low: float
    high: float


UNKNOWN = Limits(np.nan, np.nan, np.nan)


def mean_over_cells(cells: Sequence[np.ndarray], level: float = LEVEL) -> Limits:
    """Two-sided t interval of the mean of the cells' means, every cell counting the same.

    The variance of the estimate is Σ_c s_c²/n_c over the squared number of cells, with each cell's own s_c; its degrees
    of freedom are Welch's and Satterthwaite's, (Σ v_c)² / Σ v_c²/(n_c − 1) with v_c = s_c²/n_c (Satterthwaite 1946).

    Args:
        cells: For every cell the values of its runs; at least two runs in each.
        level: Probability that the interval misses the mean, both sides together.

    Returns:
        The interval; NaN limits where a cell has one run only, and NaN throughout where there is no cell.
    """
    if not cells:
        return UNKNOWN
    estimate = float(np.mean([np.mean(values) for values in cells]))
    sizes = np.array([len(values) for values in cells])
    if sizes.min() < 2:
        return Limits(estimate, np.nan, np.nan)
    variances = np.array([np.var(values, ddof=1) for values in cells]) / sizes
    total = variances.sum()
    if total == 0:
        return Limits(estimate, estimate, estimate)
    freedom = total**2 / np.sum(variances**2 / (sizes - 1))
    half = float(stats.t.ppf(1 - level / 2, freedom) * np.sqrt(total)) / len(cells)
    return Limits(estimate, estimate - half, estimate + half)


def one_sided(values: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """The lower and the upper t limit of a cell's mean, each missing it with probability `level`."""
    if len(values) < 2:
        return np.nan, np.nan
    half = stats.t.ppf(1 - level, len(values) - 1) * np.std(values, ddof=1) / np.sqrt(len(values))
    return float(np.mean(values) - half), float(np.mean(values) + half)


def largest_of_cells(cells: Sequence[np.ndarray], level: float = LEVEL, statements: int = 1) -> Limits:
    """Limits of the largest of the cells' means, without an interval of the maximum itself.

    The largest mean lies below a threshold if every cell's does: the upper limit is the largest of the cells' own
    one-sided upper limits (an intersection–union test, Berger 1982; no correction, since all must hold). It lies above
    if some cell's does: the lower limit is the largest of the cells' lower limits at `level`/cells (Bonferroni). So
    each limit fails with probability `level` at most, however many cells are tied. Upper limits are taken at half the
    level, because a run's value is often itself a maximum and hence skewed: where five such values happen to be small,
    their spread is small as well, and limits at the full level fail in 8 % of simulations (variation 30 %).

    Args:
        cells: For every cell the values of its runs.
        level: Probability that one of the two limits is wrong.
        statements: Number of such maxima any of which would refute the claim: the lower limits share the level.

    Returns:
        The largest mean and the two limits; NaN limits where a cell has one run only.
    """
    if not cells:
        return UNKNOWN
    lows = [one_sided(values, level / (len(cells) * statements))[0] for values in cells]
    highs = [one_sided(values, level / 2)[1] for values in cells]
    return Limits(float(max(np.mean(values) for values in cells)), float(np.max(lows)), float(np.max(highs)))


def share(successes: np.ndarray, totals: np.ndarray, cells: np.ndarray, level: float = LEVEL) -> Limits:
    """A share of all counted things, with two-sided limits of Wilson's form (Wilson 1927) for things that share a run.

    Latent dimensions of one run are not independent, so the count N is divided by the design effect, the ratio of the
    variance between the runs of a cell to the binomial one (Kish 1965), at least 1. Where the share is 0 or 1 nothing
    can be seen of it, and the runs are counted instead of the dimensions. The quantile is t's, with as many degrees of
    freedom as there are more runs than cells.

    Args:
        successes: Number of things that have the property, per run.
        totals: Number of things, per run.
        cells: Number of the run's cell.
        level: Probability that the interval misses the share, both sides together.

    Returns:
        The share and its two limits; NaN limits where no cell has two runs.
    """
    successes, totals = np.asarray(successes, dtype=np.float64), np.asarray(totals, dtype=np.float64)
    count = totals.sum()
    if count == 0:
        return UNKNOWN
    p = float(successes.sum() / count)
    numbers = np.unique(cells)
    freedom = len(totals) - len(numbers)
    if freedom == 0:
        return Limits(p, np.nan, np.nan)
    residual = successes - p * totals
    variance = 0.0
    for number in numbers:
        own = residual[cells == number]
        if len(own) > 1:
            variance += len(own) * np.var(own, ddof=1)
    binomial = count * p * (1 - p)
    effective = count / max(1.0, variance / binomial) if binomial > 0 else float(len(totals))
    low, high = wilson(p, effective, float(stats.t.ppf(1 - level / 2, freedom)))
    return Limits(p, low, high)


def wilson(p: float, count: float, quantile: float) -> tuple[float, float]:
    """Wilson's limits of a share p of `count` independent things: the shares π with |p − π| ≤ q √(π(1 − π)/count)."""
    shrink = 1 + quantile**2 / count
    middle = (p + quantile**2 / (2 * count)) / shrink
    half = quantile / shrink * np.sqrt(p * (1 - p) / count + quantile**2 / (4 * count**2))
    return float(max(0.0, middle - half)), float(min(1.0, middle + half))


def largest_score(count: int, level: float) -> float:
    """The value that the largest of `count` independent |z-scores| exceeds with probability `level` (Šidák 1967).

    Φ⁻¹(½ + ½ (1 − level)^(1/count)): 4.42 for 1 024 scores and 5.25 for 64 000 at level 0.01.
    """
    # 1 − (1 − level)^(1/count), without the loss of digits of the difference.
    single = -np.expm1(np.log1p(-level) / count)
    return float(stats.norm.isf(single / 2))


def certified(bound: np.ndarray, error: np.ndarray, level: float = LEVEL) -> np.ndarray:
    """A certified bound less its Monte-Carlo error: bound − z·error, above the truth with probability `level` at most.

    The estimate alone exceeds the truth in 18–30 % of simulations. An upper bound is treated alike, with the sign of
    the error turned: −certified(−bound, error).
    """
    return bound - float(stats.norm.isf(level)) * error
