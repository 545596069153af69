"""A two-dimensional Q(z) as a map: ln Q on a grid, and some of its posteriors."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..posterior.mixture import AggregatedPosterior

# Points on a side, what the map covers at least, and how many posteriors are drawn on it.
POINTS = 201
LIMIT = 4.0
ELLIPSES = 300
# The grid's sums are exact to rounding above this; below it, terms that count have become zero.
SMALLEST_SUM = 1e-280
# Components at once.
ROWS = 4096


def latent_map(q: AggregatedPosterior) -> pd.DataFrame:
    """ln Q(z) of a two-dimensional Q(z) on a grid, as columns z1, z2, log_density (nats).

    The grid covers [−4, 4]², or a wider square of whole numbers where one posterior in 500 reaches beyond.
    """
    reach = np.abs(q.mean).max(axis=1) + 2 * np.sqrt(q.variance.max(axis=1))
    limit = max(LIMIT, float(np.ceil(np.quantile(reach, 0.998))))
    axis = np.linspace(-limit, limit, POINTS)
    z1, z2 = np.meshgrid(axis, axis, indexing="ij")
    log_density = log_density_on_grid(q, axis)
    return pd.DataFrame({"z1": z1.ravel(), "z2": z2.ravel(), "log_density": log_density.ravel()})


def log_density_on_grid(q: AggregatedPosterior, axis: np.ndarray) -> np.ndarray:
    """ln Q(x_i, y_j) in nats, (G, G), of a two-dimensional Q(z) at all pairs of the axis's points (G,).

    Q(x, y) = E_n N(x; μ_n1, s_n1) N(y; μ_n2, s_n2) is a sum of products: with A_in and B_jn the two factors it is the
    matrix product A Bᵀ/N, which takes 2 G N exponentials in place of the G² N of the general form. Each row of A and of
    B is divided by its largest element, so that few sums underflow; points where one does get the general form.
    """
    top = np.full((2, len(axis)), -np.inf)
    for _, (mean, variance) in q.blocks(ROWS):
        for k in range(2):
            np.maximum(top[k], _log_factors(axis, mean[:, k], variance[:, k]).max(axis=1), out=top[k])
    total = np.zeros((len(axis), len(axis)))
    for _, (mean, variance) in q.blocks(ROWS):
        factors = [_log_factors(axis, mean[:, k], variance[:, k]) - top[k][:, None] for k in range(2)]
        # Below −708 the exponential is a hundred times slower; exp(−700) adds nothing.
        a, b = (np.exp(np.maximum(factor, -700.0, out=factor), out=factor) for factor in factors)
        total += a @ b.T
    lost = np.argwhere(total < SMALLEST_SUM)
    total[lost[:, 0], lost[:, 1]] = 1.0
    log_density = top[0][:, None] + top[1] + np.log(total) - np.log(q.n)
    if len(lost):
        log_density[lost[:, 0], lost[:, 1]] = q.log_density(axis[lost])
    return log_density


def _log_factors(axis: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """ln N(x_i; μ_n, s_n), (G, n)."""
    return -0.5 * ((axis[:, None] - mean) ** 2 / variance + np.log(2 * np.pi * variance))


def latent_ellipses(q: AggregatedPosterior, labels: np.ndarray | None = None) -> pd.DataFrame:
    """Means and standard deviations of the first 300 posteriors of a two-dimensional Q(z), with their labels (N,)."""
    count = min(ELLIPSES, q.n)
    mean, variance = q.rows(np.arange(count))
    std = np.sqrt(variance)
    columns = {"mean_1": mean[:, 0], "mean_2": mean[:, 1], "std_1": std[:, 0], "std_2": std[:, 1]}
    return pd.DataFrame({**columns, "label": [None] * count if labels is None else labels[:count]})
