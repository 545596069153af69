"""Distances of codes without variances from N(0, 1). A sum of points has no density: KL and total variation are NaN."""

from __future__ import annotations

import numpy as np
from scipy.special import ndtr, ndtri

from ..statistics.marginals import Distances


def distances_of_codes(z: np.ndarray) -> Distances:
    """KS, W1 and W2 of the empirical law of each column of `z` (N, d) from N(0, 1), in closed form.

    With x_i the i-th smallest, p_i = i/N and ∫ Φ⁻¹ dp = −φ(Φ⁻¹(p)):

        W2² = Σ_i ∫_{p_{i−1}}^{p_i} (x_i − Φ⁻¹(p))² dp = E[x²] + 1 − 2 Σ_i x_i (φ(Φ⁻¹(p_{i−1})) − φ(Φ⁻¹(p_i)))

    and W1 the same with |·|, split where Φ⁻¹(p) crosses x_i.
    """
    n, d = z.shape
    p = np.arange(n + 1) / n
    density = _phi(ndtri(p))  # φ(±∞) = 0
    ks, w1, w2 = np.empty(d), np.empty(d), np.empty(d)
    for j in range(d):
        x = np.sort(z[:, j])
        cumulative = ndtr(x)
        ks[j] = max(np.abs(cumulative - p[1:]).max(), np.abs(cumulative - p[:-1]).max())
        middle = np.clip(cumulative, p[:-1], p[1:])
        at_middle = np.where(middle == p[:-1], density[:-1], np.where(middle == p[1:], density[1:], _phi(x)))
        # Below the crossing Φ⁻¹ < x, above it Φ⁻¹ > x.
        below = x * (middle - p[:-1]) - (density[:-1] - at_middle)
        above = (at_middle - density[1:]) - x * (p[1:] - middle)
        w1[j] = (below + above).sum()
        square = np.square(x).mean() + 1 - 2 * (x * (density[:-1] - density[1:])).sum()
        w2[j] = np.sqrt(max(square, 0.0))
    unknown = np.full(d, np.nan)
    return Distances(kl=unknown, ks=ks, w1=w1, w2=w2, tv=unknown.copy())


def _phi(x: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * np.square(x)) / np.sqrt(2 * np.pi)
