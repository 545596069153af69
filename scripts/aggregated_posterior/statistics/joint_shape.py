"""Shape of the joint law Q(z) in closed form: Mardia's kurtosis and skewness, and the distance of kernel means."""

from __future__ import annotations

import numpy as np

from ..posterior.mixture import AggregatedPosterior

# Rows up to which all pairs of components are summed in `maximum_mean_discrepancy`: half a million pairs.
PAIR_ROWS = 1024


def mardia_kurtosis(q: AggregatedPosterior) -> float:
    """Mardia's multivariate kurtosis β₂,d = E[(zᵀMz)²] of the centred mixture, M = Σ⁻¹; d(d + 2) for a normal law.

    Given row n, with S = diag(s): E[(zᵀMz)²] = (μᵀMμ + tr MS)² + 2 tr((MS)²) + 4 μᵀMSMμ (Mardia 1970; moments of
    Gaussian quadratic forms). No sampling. The relative error grows with the condition number of the correlation
    matrix of Q(z).
    """
    whitening, moments = _whitening(q)
    total = 0.0
    for _, (mean, variance) in q.blocks(description="Mardia's kurtosis"):
        mean -= moments.mean
        matrix = whitening.T @ whitening
        u = mean @ matrix
        quadratic = np.einsum("ij,ij->i", u, mean) + variance @ np.diag(matrix)
        trace = np.einsum("ij,ij->i", variance @ (matrix * matrix), variance)
        total += float((quadratic**2 + 2 * trace + 4 * np.einsum("ij,ij,ij->i", u, u, variance)).sum())
    return total / q.n


def mardia_skewness(q: AggregatedPosterior) -> float:
    """Mardia's multivariate skewness β₁,d = E[(zᵀMz′)³] over independent z, z′ of Q; 0 for a normal law.

    Equal to the sum of squares of the third central moments of the whitened z, T_ijk = E[z_i z_j z_k], which needs one
    pass and d³ numbers instead of all N² pairs. With w = W(μ − m), WᵀW = Σ⁻¹ and C_ak = E[s_a w_k]:
    T_ijk = E[w_i w_j w_k] + U_ijk + U_ikj + U_jki, where U_ijk = Σ_a W_ia W_ja C_ak.
    """
    whitening, moments = _whitening(q)
    d = q.latent_dim
    cubes = np.zeros((d, d, d))
    cross = np.zeros((d, d))
    for _, (mean, variance) in q.blocks(max(64, 2**18 // d), "Mardia's skewness"):
        w = (mean - moments.mean) @ whitening.T
        cross += variance.T @ w
        for i in range(d):
            cubes[i, i:] += (w[:, i:] * w[:, i : i + 1]).T @ w
    for i in range(d):
        cubes[i + 1 :, i] = cubes[i, i + 1 :]
    pair = np.einsum("ia,ja,ak->ijk", whitening, whitening, cross / q.n, optimize=True)
    tensor = cubes / q.n + pair + pair.transpose(0, 2, 1) + pair.transpose(2, 0, 1)
    return float((tensor**2).sum())


def maximum_mean_discrepancy(
    q: AggregatedPosterior, rng: np.random.Generator | None = None, bandwidth: float | None = None
) -> float:
    """MMD between Q(z) and N(0, I) for the kernel exp(−‖x − y‖²/(2γ²)), in closed form (Gretton et al. 2012).

    All expectations of this kernel under Gaussians are Gaussian integrals:

        E k(z_n, z_m) = Π_j γ/√(γ² + s_n + s_m) · exp(−(μ_n − μ_m)²/(2(γ² + s_n + s_m)))

    and the same with μ_m = 0, s_m = 1 for the prior. Terms of one row and the diagonal of the pairs are exact over all
    N. Off-diagonal pairs are exact for N ≤ 1024; beyond, they are averaged over a random subset of 1024 rows (unbiased
    for the square), which needs `rng`. What the subset's distances to the prior miss of all rows' is corrected for,
    which takes away the largest part of the subset's error when Q is near N(0, I).

    Arguments:
        bandwidth: γ; default √d, so that γ² is half the mean squared distance of two draws of N(0, I).

    Returns:
        The square root of MMD², 0 where the estimate of the square is negative.
    """
    d = q.latent_dim
    g = float(d) if bandwidth is None else float(bandwidth) ** 2
    prior = np.empty(q.n)
    diagonal = 0.0
    for start, (mean, variance) in q.blocks(description="MMD"):
        width = g + variance + 1.0
        exponent = -0.5 * (mean * mean / width + np.log(width / g)).sum(axis=1)
        prior[start : start + len(mean)] = np.exp(np.maximum(exponent, -700.0))
        diagonal += np.exp(-0.5 * np.log1p(2 * variance / g).sum(axis=1)).sum()
    if q.n > PAIR_ROWS and rng is None:
        raise ValueError(f"{q.n} rows are more than {PAIR_ROWS}: pairs are subsampled, give a random generator")
    rows = np.arange(q.n) if q.n <= PAIR_ROWS else np.sort(rng.choice(q.n, PAIR_ROWS, replace=False))
    pairs = _mean_off_diagonal(
        np.asarray(q.mean[rows], dtype=np.float64), np.asarray(q.variance[rows], dtype=np.float64), g
    )
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
    for start in range(0, n, 128):
        stop = min(start + 128, n)
        quadratic = np.zeros((stop - start, n - start))
        logarithm = np.zeros_like(quadratic)
        for first in range(0, d, 8):  # the product of eight widths cannot overflow, and saves seven logarithms
            product = np.ones_like(quadratic)
            for j in range(first, min(first + 8, d)):
                width = (g + variance[start:stop, j])[:, None] + variance[start:, j]
                difference = mean[start:stop, j][:, None] - mean[start:, j]
                product *= width
                quadratic += difference * difference / width
            logarithm += np.log(product)
        kernel = np.exp(np.maximum(-0.5 * (quadratic + logarithm - d * np.log(g)), -700.0))
        total += float(np.triu(kernel, 1).sum())
    return 2 * total / (n * (n - 1))


def _whitening(q: AggregatedPosterior):
    """W with WᵀW = Σ⁻¹, (d, d), and the moments of q. Scales are taken out first, which keeps Cholesky well behaved."""
    moments = q.moments()
    deviation = np.sqrt(moments.variance)
    factor = np.linalg.cholesky(q.covariance() / np.outer(deviation, deviation))
    return np.linalg.solve(factor, np.diag(1.0 / deviation)), moments
