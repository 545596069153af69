"""Rows whose law float64 cannot tell from a singular one, refused before they become wrong numbers.

A posterior of width 1e-16 about a mean of 12 is narrower than the distance of neighbouring numbers there: draws fall on
its mean, densities are 0 or infinite, and what is computed from them contradicts arithmetic. The same is true of a
dimension that is constant or a linear combination of others, where Q(z) has no density.
"""

from __future__ import annotations

import numpy as np

from ..storage import DataError
from .mixture import AggregatedPosterior
from .other_laws import Codes, FullCovariance

# A width must span this many of the steps in which numbers of its dimension's size are written.
STEPS = 16
# Variances below this have squares that float64 rounds to 0; the mixture refuses those of posteriors by itself.
SMALLEST_VARIANCE = 1e-140
# Smallest eigenvalue of a correlation matrix that is told from 0.
SINGULAR = 1e-12


def refuse_unresolved(q: AggregatedPosterior) -> None:
    """Refuse dimensions where posteriors, or codes among themselves, are narrower than float64 resolves.

    Raises:
        DataError: It names the array and the dimension.
    """
    largest, narrowest = np.zeros(q.latent_dim), np.full(q.latent_dim, np.inf)
    for _, (mean, variance) in q.blocks():
        largest = np.maximum(largest, np.abs(mean).max(axis=0))
        narrowest = np.minimum(narrowest, variance.min(axis=0))
    codes = isinstance(q, Codes)
    if codes:
        narrowest = np.var(q.mean, axis=0, dtype=np.float64)
    elif isinstance(q, FullCovariance):  # the width that is left once the dimensions before it are known
        narrowest = np.square(np.diagonal(q.factors, axis1=1, axis2=2)).min(axis=0)
    width = np.sqrt(narrowest)
    bad = (width < STEPS * np.finfo(np.float64).eps * largest) | (narrowest < SMALLEST_VARIANCE)
    if not bad.any():
        return
    j = int(bad.argmax())
    name = q.names[0]
    if codes:
        raise DataError(
            f"{name}: dimension {j} is the same in all rows, or differs by rounding alone (standard deviation "
            f"{width[j]:.2g}); leave it out, or rescale it"
        )
    raise DataError(
        f"{name}: dimension {j} has values of {largest[j]:.3g} and posteriors of width {width[j]:.2g}, which float64 "
        "cannot resolve; rescale the dimension, or give the means alone as codes (--deterministic)"
    )


def refuse_dependent(covariance: np.ndarray, dimensions: np.ndarray | None = None) -> None:
    """Refuse a covariance (d, d) of Q(z) that is singular to rounding.

    Args:
        covariance: Of the dimensions looked at, each of positive variance.
        dimensions: Their numbers (d,), for the message.

    Raises:
        DataError: It names the first dimension that follows from those before it.
    """
    from scipy.linalg.lapack import dpotrf

    deviation = np.sqrt(np.diagonal(covariance))
    correlation = covariance / np.outer(deviation, deviation) - SINGULAR * np.eye(len(covariance))
    failed = dpotrf(correlation, lower=1)[1]
    if failed > 0:
        j = failed - 1 if dimensions is None else int(dimensions[failed - 1])
        raise DataError(
            f"mean: dimension {j} is a linear combination of the dimensions before it in these rows, so that Q(z) has "
            "no density; leave it out, or give more rows than dimensions"
        )
