"""Errors of means over rows that come in groups: rows of a group may depend on one another, groups do not.

With groups of one row these are the customary standard errors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..posterior.mixture import AggregatedPosterior, Moments


@dataclass(frozen=True)
class GroupedMean:
    """A mean over rows with its standard error over `groups` independent groups."""

    value: float
    se: float
    groups: int

    def low(self, level: float = 0.05) -> float:
        """One-sided lower limit: value − t·se with groups − 1 degrees of freedom; −∞ where there is no error."""
        return self.value - _t(level, self.groups) * self.se if self.groups > 1 else -np.inf

    def high(self, level: float = 0.05) -> float:
        """One-sided upper limit; +∞ where there is no error."""
        return self.value + _t(level, self.groups) * self.se if self.groups > 1 else np.inf


def grouped_mean(values: np.ndarray, groups: np.ndarray) -> GroupedMean:
    """Mean of `values` (M,) with the standard error over `groups` (M,), any labels.

    The linearised error of a mean whose number of rows is random too: with S_g the sum of values less the mean in group
    g, SE = √(G/(G − 1) Σ_g S_g²)/M (Cochran 1977, ratio estimator).
    """
    code = np.unique(groups, return_inverse=True)[1]
    count = int(code.max()) + 1
    mean = float(np.mean(values))
    if count < 2:
        return GroupedMean(mean, float("nan"), count)
    sums = np.bincount(code, weights=np.asarray(values, dtype=np.float64) - mean)
    return GroupedMean(mean, float(np.sqrt(count / (count - 1) * (sums @ sums)) / len(values)), count)


def grouped_kurtosis_se(q: AggregatedPosterior, moments: Moments, groups: np.ndarray) -> np.ndarray:
    """Standard error of the kurtosis per dimension, (d,), where only whole groups are independent; NaN for one group.

    The influence function of `uncertainty.kurtosis_se`, summed within groups before it is squared.
    """
    code = np.unique(groups, return_inverse=True)[1]
    count = int(code.max()) + 1
    sums = np.zeros((count, q.latent_dim))
    for start, (mean, variance) in q.blocks(description="standard errors"):
        mean -= moments.mean
        mean /= np.sqrt(moments.variance)
        variance /= moments.variance
        square = mean * mean
        influence = square * square + 6 * square * variance + 3 * variance * variance - moments.kurtosis
        influence -= 2 * moments.kurtosis * (square + variance - 1) + 4 * moments.skewness * mean
        np.add.at(sums, code[start : start + len(mean)], influence)
    if count < 2:
        return np.full(q.latent_dim, np.nan)
    return np.sqrt(count / (count - 1) * np.square(sums).sum(axis=0)) / q.n


def _t(level: float, groups: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(groups - 1, 1 - level))
