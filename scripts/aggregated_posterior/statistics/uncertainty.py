"""How sure the exact statistics are, given that other data would have given other posteriors.

Given the N posteriors, moments of Q(z) have no Monte-Carlo error: what is left is the error over the data.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from ..posterior.mixture import AggregatedPosterior, Moments
from ..storage import DataError

# Consecutive rows that are left out together, and the fewest such blocks.
BLOCK_ROWS = 1000
FEWEST_BLOCKS = 20


def kurtosis_se_rows(q: AggregatedPosterior, moments: Moments | None = None) -> np.ndarray:
    """Standard error of the kurtosis of each latent dimension over independent rows, (d,), by the influence function.

    In canonical, centred units: IF_n = E[z⁴|n] − kurt − 2·kurt·(E[z²|n] − 1) − 4·skew·μ_n and SE = sd(IF)/√N, with
    E[z²|n] = μ² + s and E[z⁴|n] = μ⁴ + 6μ²s + 3s². Blockwise, in one pass once the moments are known. It presumes that
    the N data are independent; N = 1 gives NaN.
    """
    moments = q.moments() if moments is None else moments
    total = np.zeros((2, q.latent_dim))
    for _, (mean, variance) in q.blocks(description="standard errors"):
        mean -= moments.mean
        mean /= np.sqrt(moments.variance)
        variance /= moments.variance
        square = mean * mean
        influence = square * square + 6 * square * variance + 3 * variance * variance - moments.kurtosis
        influence -= 2 * moments.kurtosis * (square + variance - 1) + 4 * moments.skewness * mean
        total[0] += influence.sum(axis=0)
        total[1] += np.einsum("ij,ij->j", influence, influence)
    if q.n < 2:
        return np.full(q.latent_dim, np.nan)
    # The influence function has mean 0 by construction; what is left of its mean is rounding.
    return np.sqrt(np.maximum(total[1] - total[0] ** 2 / q.n, 0.0) / (q.n - 1) / q.n)


def kurtosis_se_blocks(
    q: AggregatedPosterior, moments: Moments | None = None, groups: np.ndarray | None = None
) -> np.ndarray:
    """Standard error of the kurtosis of each latent dimension, (d,), by leaving out whole blocks of rows.

    Blocks of unequal size take the delete-m_j jackknife (Busing, Meijer and Van der Leeden 1999): with h_j = N/m_j,
    θ_j the estimate without block j, pseudo-values t_j = h_j θ − (h_j − 1) θ_j and t = gθ − Σ(1 − 1/h_j) θ_j,

        SE² = (1/g) Σ_j (t_j − t)²/(h_j − 1).

    θ_j follows from the block's sums of E[zᵏ|n], k = 1…4, so nothing is computed twice.

    Args:
        q: The mixture; its rows in the order in which the data came.
        moments: Its moments, where known.
        groups: (N,) anything that tells groups apart; None takes blocks of 1000 consecutive rows, at least 20 of them
            (shorter ones where there are fewer than 20 000 rows).

    Returns:
        (d,); NaN where there are fewer than two blocks.

    Raises:
        DataError: `groups` is not one entry a row.
    """
    moments = q.moments() if moments is None else moments
    if groups is None:
        count = min(max(FEWEST_BLOCKS, q.n // BLOCK_ROWS), q.n)
        code = np.arange(q.n) * count // q.n
    else:
        groups = np.asarray(groups)
        if groups.shape != (q.n,):
            raise DataError(f"groups have shape {groups.shape}: give one entry for each of the {q.n} rows")
        code = np.unique(groups, return_inverse=True)[1]
        count = int(code.max()) + 1
    if count < 2:
        return np.full(q.latent_dim, np.nan)
    sums = np.zeros((count, 4, q.latent_dim))
    for start, (mean, variance) in q.blocks(description="block jackknife"):
        u = (mean - moments.mean) / np.sqrt(moments.variance)
        s = variance / moments.variance
        own = code[start : start + len(u)]
        if groups is not None:  # rows of one group side by side
            order = np.argsort(own, kind="stable")
            own, u, s = own[order], u[order], s[order]
        first = np.flatnonzero(np.diff(own, prepend=-1))
        square = u * u
        powers = (u, square + s, u * (square + 3 * s), square * square + 6 * square * s + 3 * s * s)
        for k, power in enumerate(powers):
            sums[own[first], k] += np.add.reduceat(power, first, axis=0)
    size = np.bincount(code, minlength=count).astype(np.float64)[:, None]
    without = (sums.sum(axis=0) - sums) / (q.n - size)[:, :, None]
    first, second, third, fourth = np.moveaxis(without, 1, 0)
    centred = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
    estimate = centred / (second - first**2) ** 2
    h = q.n / size
    pseudo = h * moments.kurtosis - (h - 1) * estimate
    mean = count * moments.kurtosis - ((1 - 1 / h) * estimate).sum(axis=0)
    return np.sqrt(((pseudo - mean) ** 2 / (h - 1)).mean(axis=0))


def normal_interval(estimate: np.ndarray, standard_error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """estimate ± z·SE, the two-sided interval of 95 %."""
    z = NormalDist().inv_cdf(0.975)
    return estimate - z * standard_error, estimate + z * standard_error


def draws_z_scores(
    q: AggregatedPosterior, draws: int, rng: np.random.Generator, moments: Moments | None = None
) -> dict[str, np.ndarray]:
    """z-scores of the moments of `draws` points of Q(z) against the exact ones: the check of claim C0.

    In exact units x = (z − mean)/√V. Standard errors follow from the influence functions x, x² − 1,
    x³ − skew − 3x − 1.5·skew·(x² − 1) and x⁴ − kurt − 4·skew·x − 2·kurt·(x² − 1), whose spread is taken from the draws.

    Returns:
        mean, variance, skewness, kurtosis: (d,) each. About N(0, 1) if the formulas are right.
    """
    moments = q.moments() if moments is None else moments
    scale = np.sqrt(moments.variance)
    skewness, kurtosis = moments.skewness, moments.kurtosis
    sums, squares = np.zeros((4, q.latent_dim)), np.zeros((4, q.latent_dim))
    batch = max(1, 2**18 // q.latent_dim)
    for start in range(0, draws, batch):
        x = (q.sample(min(batch, draws - start), rng) - moments.mean) / scale
        square = x * x
        excess = square - 1
        influences = (
            x,
            excess,
            square * x - skewness - 3 * x - 1.5 * skewness * excess,
            square * square - kurtosis - 4 * skewness * x - 2 * kurtosis * excess,
        )
        for k, influence in enumerate(influences):
            sums[k] += influence.sum(axis=0)
            squares[k] += np.einsum("ij,ij->j", influence, influence)
    scores = sums / np.sqrt(np.maximum(squares - sums**2 / draws, np.finfo(float).tiny))
    return dict(zip(("mean", "variance", "skewness", "kurtosis"), scores, strict=True))
