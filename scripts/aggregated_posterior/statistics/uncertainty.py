"""How sure the exact statistics are: errors over the data (influence function, bootstrap) and over training runs.

Given the N posteriors, moments of Q(z) have no Monte-Carlo error. They vary because other data, or another seed, would
have given other posteriors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from ..posterior.mixture import AggregatedPosterior, Moments


@dataclass(frozen=True)
class BootstrapMoments:
    """Moments of bootstrap replicates, each (replicates, d)."""

    mean: np.ndarray
    variance: np.ndarray
    skewness: np.ndarray
    kurtosis: np.ndarray

    def interval(self, name: str, confidence: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """Percentile interval of one of the moments, two (d,) arrays."""
        tail = (1 - confidence) / 2
        low, high = np.quantile(getattr(self, name), [tail, 1 - tail], axis=0)
        return low, high


def kurtosis_se(q: AggregatedPosterior, moments: Moments | None = None) -> np.ndarray:
    """Standard error of the kurtosis of each latent dimension over the data, (d,), by the influence function.

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


def normal_interval(
    estimate: np.ndarray, standard_error: np.ndarray, confidence: float = 0.95
) -> tuple[np.ndarray, np.ndarray]:
    """estimate ± z·SE at the two-sided confidence level."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    return estimate - z * standard_error, estimate + z * standard_error


def bootstrap_moments(
    q: AggregatedPosterior, replicates: int, rng: np.random.Generator, moments: Moments | None = None
) -> BootstrapMoments:
    """Moments of Q(z) in bootstrap replicates of the data, all dimensions together.

    A replicate weighs row n by a multinomial count w_n and averages the conditional moments E[zᵏ|n], k = 1…4, taken
    about the full mixture's mean in units of its spread; centring follows in each replicate. All dimensions and a batch
    of replicates are one product of a (replicates, N) by an (N, 4d) matrix. Memory: about 32·N·d bytes, and 64 MiB for
    the weights.
    """
    moments = q.moments() if moments is None else moments
    scale = np.sqrt(moments.variance)
    conditional = np.empty((q.n, 4, q.latent_dim))
    for start, (mean, variance) in q.blocks():
        rows = slice(start, start + len(mean))
        u = (mean - moments.mean) / scale
        s = variance / moments.variance
        square = u * u
        conditional[rows, 0] = u
        conditional[rows, 1] = square + s
        conditional[rows, 2] = u * (square + 3 * s)
        conditional[rows, 3] = square * square + 6 * square * s + 3 * s * s
    flat = conditional.reshape(q.n, -1)
    batch = max(1, min(replicates, 2**23 // q.n))
    averages = np.empty((replicates, flat.shape[1]))
    for start in range(0, replicates, batch):
        stop = min(start + batch, replicates)
        weights = np.empty((stop - start, q.n))
        for row in weights:
            row[:] = np.bincount(rng.integers(q.n, size=q.n), minlength=q.n)
        averages[start:stop] = weights @ flat / q.n
    first, second, third, fourth = np.moveaxis(averages.reshape(replicates, 4, q.latent_dim), 1, 0)
    variance = second - first**2
    third_central = third - 3 * first * second + 2 * first**3
    fourth_central = fourth - 4 * first * third + 6 * first**2 * second - 3 * first**4
    return BootstrapMoments(
        mean=moments.mean + scale * first,
        variance=moments.variance * variance,
        skewness=third_central / variance**1.5,
        kurtosis=fourth_central / variance**2,
    )


def normal_replicates(
    estimate: np.ndarray, standard_error: np.ndarray, replicates: int, rng: np.random.Generator
) -> np.ndarray:
    """Replicates (replicates, …) of estimates known only through their standard errors, by their normal law."""
    estimate = np.asarray(estimate, dtype=np.float64)
    return estimate + np.asarray(standard_error) * rng.standard_normal((replicates, *estimate.shape))


def hierarchical_interval(
    runs: Sequence[np.ndarray],
    rng: np.random.Generator,
    statistic: Callable[[np.ndarray], float] = np.mean,
    confidence: float = 0.95,
    draws: int = 4000,
) -> tuple[float, float]:
    """Interval of a statistic of training runs: resample the runs (seeds) first, then the data within each run.

    Latent dimensions of different seeds are not the same dimensions, so the unit is the run: reduce each run to one
    number per data replicate before calling this.

    Arguments:
        runs: for every run, an array (R,) of its number in R data replicates (R may differ; R = 1 means that only the
            runs vary).
        statistic: what is said of the runs, from one number per run.
        draws: bootstrap draws.

    Returns:
        Percentile interval (low, high). With a single run only the data vary: the interval is then about that run.

    Raises:
        ValueError: no runs, or a run without replicates.
    """
    runs = [np.atleast_1d(np.asarray(run, dtype=np.float64)) for run in runs]
    if not runs or any(run.ndim != 1 or run.size == 0 for run in runs):
        raise ValueError("runs must be a non-empty list of arrays (replicates,), one number per replicate")
    sizes = np.array([len(run) for run in runs])
    starts = np.cumsum(sizes) - sizes
    chosen = rng.integers(len(runs), size=(draws, len(runs)))
    replicate = rng.integers(sizes[chosen])
    samples = np.concatenate(runs)[starts[chosen] + replicate]
    values = np.array([statistic(sample) for sample in samples])
    tail = (1 - confidence) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return float(low), float(high)


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
