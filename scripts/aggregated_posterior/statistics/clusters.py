"""Errors of means over rows that come in groups: rows of a group may depend on one another, groups do not.

With groups of one row these are the customary standard errors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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


def least_total_variation(held: np.ndarray, groups: np.ndarray, drawn: np.ndarray, level: float = 0.05) -> float:
    """One-sided lower limit of TV(Q, p) from any region A, since TV(Q, p) ≥ Q(A) − p(A); between 0 and 1.

    Args:
        held: (M,) which draws of Q lie in A; A must not have been chosen by these draws.
        groups: (M,) which draws of Q belong together.
        drawn: (K,) which independent draws of p lie in A.
        level: Probability that the limit is too high.
    """
    q, p = grouped_mean(held, groups), grouped_mean(drawn, np.arange(len(drawn)))
    low = GroupedMean(q.value - p.value, float(np.hypot(q.se, p.se)), q.groups).low(level)
    return float(np.clip(low, 0.0, 1.0))


def _t(level: float, groups: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(groups - 1, 1 - level))
