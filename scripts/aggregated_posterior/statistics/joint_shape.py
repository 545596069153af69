"""Shape of the joint law Q(z) in closed form: Mardia's kurtosis and skewness, and the distance of kernel means."""

from __future__ import annotations

import numpy as np

from ..posterior.mixture import AggregatedPosterior, Moments

# Rows up to which all pairs of components are summed in `maximum_mean_discrepancy`: half a million pairs, of 64
# dimensions at most; fewer of more, so that 2 048 dimensions take a second and not twenty.
PAIR_ROWS, PAIR_NUMBERS = 1024, 1024**2 * 64
# Numbers of the third moments that are held at once: 64 MiB.
SLAB_ELEMENTS = 2**23
# Multiplications that are still begun: ten seconds of one core.
SKEWNESS_WORK = 1e11


def mardia_kurtosis(
    q: AggregatedPosterior, moments: Moments | None = None, covariance: np.ndarray | None = None
) -> float:
    """Mardia's multivariate kurtosis β₂,d = E[(zᵀMz)²] of the centred mixture, M = Σ⁻¹; d(d + 2) for a normal law.

    Given row n, with S = diag(s): E[(zᵀMz)²] = (μᵀMμ + tr MS)² + 2 tr((MS)²) + 4 μᵀMSMμ (Mardia 1970; moments of
    Gaussian quadratic forms). No sampling. The relative error grows with the condition number of the correlation
    matrix of Q(z).

    Args:
        q: The mixture.
        moments, covariance: Its own, where known.
    """
    whitening, centre = _whitening(q, moments, covariance)
    matrix = whitening.T @ whitening
    squared = matrix * matrix
    total = 0.0
    for _, (mean, variance) in q.blocks(max(64, 2**16 // q.latent_dim), "Mardia's kurtosis"):
        mean -= centre
        u = mean @ matrix
        quadratic = np.einsum("ij,ij->i", u, mean) + variance @ np.diag(matrix)
        trace = np.einsum("ij,ij->i", variance @ squared, variance)
        total += float((quadratic**2 + 2 * trace + 4 * np.einsum("ij,ij,ij->i", u, u, variance)).sum())
    return total / q.n


def mardia_skewness(
    q: AggregatedPosterior, moments: Moments | None = None, covariance: np.ndarray | None = None
) -> float | None:
    """Mardia's multivariate skewness β₁,d = E[(zᵀMz′)³] over independent z, z′ of Q; 0 for a normal law.

    Equal to the sum of squares of the third central moments of the whitened z, T_ijk = E[z_i z_j z_k]. With
    w = W(μ − m), WᵀW = Σ⁻¹ and C_ak = E[s_a w_k]: T_ijk = E[w_i w_j w_k] + U_ijk + U_ikj + U_jki, where
    U_ijk = Σ_a W_ia W_ja C_ak. T is symmetric, so a slab T_i·· is made at a time, of rows and columns from i on, and
    each square counts as often as its indices can be exchanged. Memory stays
    within SLAB_ELEMENTS numbers, at N·d³/3 multiplications.

    Args:
        q: The mixture.
        moments, covariance: Its own, where known.

    Returns:
        None where this would take more than SKEWNESS_WORK multiplications.
    """
    d, n = q.latent_dim, q.n
    if n * d**3 / 3 > SKEWNESS_WORK:
        return None
    whitening, centre = _whitening(q, moments, covariance)
    cross = np.zeros((d, d))
    slabs = max(1, SLAB_ELEMENTS // (d * d))
    total = 0.0
    for first in range(0, d, slabs):
        last = min(first + slabs, d)
        # The slabs i of this group, over all rows: (last − first, d − first, d − first).
        cubes = np.zeros((last - first, d - first, d - first))
        for _, (mean, variance) in q.blocks(max(64, 2**16 // d), "Mardia's skewness"):
            w = whitening @ (mean - centre).T
            if first == 0:
                cross += variance.T @ w.T
            for i in range(first, last):
                right = w[i:]
                cubes[i - first, i - first :, i - first :] += (right * w[i]) @ right.T
        c = cross / n
        for i in range(first, last):
            own = slice(i - first, None)
            slab = cubes[i - first, own, own] / n
            rest = whitening[i:]
            # U_ijk, U_ikj and U_jki for this i and j, k ≥ i.
            pair = (rest * whitening[i]) @ c[:, i:]
            slab += pair + pair.T + (rest * c[:, i]) @ rest.T
            square = slab * slab
            edge = square[0, 1:].sum()  # j = i < k
            # i < j < k six times, two equal three times, all equal once.
            inner = square[1:, 1:]
            inner_diagonal = np.diagonal(inner).sum()
            total += square[0, 0] + 3 * edge + 3 * inner_diagonal + 3 * (inner.sum() - inner_diagonal)
    return float(total)


def maximum_mean_discrepancy(q: AggregatedPosterior, rng: np.random.Generator | None = None) -> float:
    """MMD between Q(z) and N(0, I) for the kernel exp(−‖x − y‖²/(2γ²)), in closed form (Gretton et al. 2012).

    γ is √d, so that γ² is half the mean squared distance of two draws of N(0, I).

    All expectations of this kernel under Gaussians are Gaussian integrals:

        E k(z_n, z_m) = Π_j γ/√(γ² + s_n + s_m) · exp(−(μ_n − μ_m)²/(2(γ² + s_n + s_m)))

    and the same with μ_m = 0, s_m = 1 for the prior. Terms of one row and the diagonal of the pairs are exact over all
    N. Off-diagonal pairs are exact for N ≤ 1024 (and N²d ≤ 1024²·64); beyond, they are averaged over a random subset of
    as many rows (unbiased for the square), which needs `rng`. What the subset's distances to the prior miss of all
    rows' is corrected for, which takes away the largest part of the subset's error when Q is near N(0, I).

    Returns:
        The square root of MMD², 0 where the estimate of the square is negative.
    """
    d = q.latent_dim
    g = float(d)
    prior = np.empty(q.n)
    diagonal = 0.0
    for start, (mean, variance) in q.blocks(description="MMD"):
        width = g + variance + 1.0
        exponent = -0.5 * (mean * mean / width + np.log(width / g)).sum(axis=1)
        prior[start : start + len(mean)] = np.exp(np.maximum(exponent, -700.0))
        diagonal += np.exp(-0.5 * np.log1p(2 * variance / g).sum(axis=1)).sum()
    most = max(2, min(PAIR_ROWS, int(np.sqrt(PAIR_NUMBERS / d))))
    if q.n > most and rng is None:
        raise ValueError(f"{q.n} rows are more than {most}: pairs are subsampled, give a random generator")
    rows = np.arange(q.n) if q.n <= most else np.sort(rng.choice(q.n, most, replace=False))
    pairs = _mean_off_diagonal(*q.rows(rows), g)
    pairs -= 2 * (prior[rows].mean() - prior.mean())
    own = diagonal / q.n**2 + (1 - 1 / q.n) * pairs
    square = own - 2 * prior.mean() + (g / (g + 2)) ** (d / 2)
    return float(np.sqrt(max(square, 0.0)))


def _mean_off_diagonal(mean: np.ndarray, variance: np.ndarray, g: float) -> float:
    """The mean kernel over pairs n ≠ m, from the upper triangle in blocks of 128 rows."""
    n, d = mean.shape
    if n < 2:
        return 0.0
    total = 0.0
    # The product of some widths saves as many logarithms; of so few that it cannot overflow.
    some = max(1, min(8, int(700 / np.log(g + 2 * variance.max() + 2))))
    for start in range(0, n, 128):
        stop = min(start + 128, n)
        quadratic = np.zeros((stop - start, n - start))
        logarithm = np.zeros_like(quadratic)
        for first in range(0, d, some):
            product = np.ones_like(quadratic)
            for j in range(first, min(first + some, d)):
                width = (g + variance[start:stop, j])[:, None] + variance[start:, j]
                difference = mean[start:stop, j][:, None] - mean[start:, j]
                product *= width
                quadratic += difference * difference / width
            logarithm += np.log(product)
        kernel = np.exp(np.maximum(-0.5 * (quadratic + logarithm - d * np.log(g)), -700.0))
        total += float(np.triu(kernel, 1).sum())
    return 2 * total / (n * (n - 1))


def _whitening(
    q: AggregatedPosterior, moments: Moments | None, covariance: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """W with WᵀW = Σ⁻¹, (d, d), and the mean, (d,). Scales are taken out first, which keeps Cholesky well behaved."""
    moments = q.moments() if moments is None else moments
    covariance = q.covariance() if covariance is None else covariance
    deviation = np.sqrt(moments.variance)
    factor = np.linalg.cholesky(covariance / np.outer(deviation, deviation))
    return np.linalg.solve(factor, np.diag(1.0 / deviation)), moments.mean
