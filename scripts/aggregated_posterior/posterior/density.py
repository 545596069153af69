"""ln Q(z) with the whole mixture, in matrix form, with the error in view.

One matrix product per block of components, [−½z², z, 1] · [1/s, μ/s, constant]ᵀ, and a running log-sum-exp. The product
form subtracts numbers of size (|z| + |μ|)²/s from one another, so its error is about ε·Σ_j (|z_j| + |μ_j|)²/s_j (after
z and μ are centred). For every component where that bound exceeds 1e-10 nats, the pairs that can matter at all (within
40 nats of the largest, errors counted) are computed again as −½ Σ (z − μ)²/s, so the accuracy holds for variances from
1e-12 to 1e6 and means of 1e6. That second step is as slow as the broadcast form when *all* pairs qualify (thousands of
points inside thousands of equally narrow components).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

# The largest error, in nats, that the matrix form may have before a pair is computed again directly.
DENSITY_TOLERANCE = 1e-10


def log_sum_of_components(
    blocks: Iterable[tuple[np.ndarray, np.ndarray]], z: np.ndarray, points: int, rows: int
) -> np.ndarray:
    """ln Σ_n N(z; μ_n, diag s_n) at points z (M, d), (M,), nats.

    Args:
        blocks: Means and variances (≤ rows, d) of some components at a time, float64; means are overwritten.
        z: Points, float64 and finite.
        points: Points that meet a block at once.
        rows: Components of a block, at most.
    """
    m = len(z)
    shift = z.mean(axis=0)
    centred = z - shift
    parts = [slice(start, min(start + points, m)) for start in range(0, m, points)]
    reach = np.array([np.abs(centred[part]).max(axis=0) for part in parts])
    reach = np.concatenate([reach**2, 2 * reach, np.ones((len(parts), 1))], axis=1)
    # The last column carries minus the running maximum into the product, which saves a pass to subtract it.
    left = np.concatenate([-0.5 * centred**2, centred, np.ones((m, 1)), np.zeros((m, 1))], axis=1)
    top = np.full(m, -np.inf)
    total = np.zeros(m)
    half_log_two_pi = 0.5 * z.shape[1] * np.log(2 * np.pi)
    scratch = np.empty(points * rows)
    epsilon = 2 * np.finfo(np.float64).eps
    for mean, variance in blocks:
        constant = -0.5 * np.log(variance).sum(axis=1) - half_log_two_pi
        original = mean.copy()
        mean -= shift
        precision = 1.0 / variance
        weighted = mean * precision
        square = np.einsum("ij,ij->i", mean, weighted)
        right = np.concatenate(
            [
                precision.T,
                weighted.T,
                (constant - 0.5 * square)[None],
                np.ones((1, len(mean))),
            ]
        )
        # Σ_j (|z_j| + |μ_j|)²/s_j at the farthest point of each part, for all parts in one small product.
        errors = epsilon * (reach @ np.concatenate([precision.T, np.abs(weighted).T, square[None]]))
        for rows_z, error in zip(parts, errors, strict=True):
            fragile = np.flatnonzero(error > DENSITY_TOLERANCE)
            table = scratch[: (rows_z.stop - rows_z.start) * len(mean)].reshape(-1, len(mean))
            _accumulate(
                left[rows_z], right, top[rows_z], total[rows_z], table,
                fragile, error, z[rows_z], original, precision, constant,
            )  # fmt: skip
    return top + np.log(total)


def _accumulate(
    left: np.ndarray, right: np.ndarray, top: np.ndarray, total: np.ndarray, table: np.ndarray,
    fragile: np.ndarray, error: np.ndarray, z: np.ndarray, mean: np.ndarray, precision: np.ndarray,
    constant: np.ndarray,
) -> None:  # fmt: skip
    """Add one block of components to the running log-sum-exp (top, total) of some points, in place."""
    first = bool(np.isneginf(top[0]))
    if first or len(fragile):
        left[:, -1] = 0.0
        np.matmul(left, right, out=table)
        if len(fragile):
            _recompute(table, fragile, error, top, z, mean, precision, constant)
        block_top = table.max(axis=1)
        new_top = np.maximum(top, block_top)
        table -= new_top[:, None]
        total *= np.exp(top - new_top)
        top[:] = new_top
    else:
        left[:, -1] = -top
        np.matmul(left, right, out=table)
        # A component far above the running maximum would overflow: move the maximum there. No component is above its
        # constant, which mostly shows without a look at the table that this cannot be.
        if constant.max() - top.min() > 300.0:
            block_top = table.max(axis=1)
            if block_top.max() > 300.0:
                rise = np.maximum(block_top, 0.0)
                table -= rise[:, None]
                total *= np.exp(-rise)
                top += rise
    # Below −708 the exponential leaves its vector path and is a hundred times slower; exp(−700) adds nothing.
    np.maximum(table, -700.0, out=table)
    np.exp(table, out=table)
    total += table.sum(axis=1)


def _recompute(
    table: np.ndarray, fragile: np.ndarray, error: np.ndarray, top: np.ndarray,
    z: np.ndarray, mean: np.ndarray, precision: np.ndarray, constant: np.ndarray,
) -> None:  # fmt: skip
    """Replace the entries of ill-conditioned components by the direct form where they can matter, by −inf elsewhere."""
    floor = np.maximum((table - error).max(axis=1), top)
    point, column = np.nonzero(table[:, fragile] + error[fragile] >= floor[:, None] - 40.0)
    column = fragile[column]
    value = np.empty(len(point))
    chunk = max(1, 2**18 // z.shape[1])
    for start in range(0, len(point), chunk):
        part = slice(start, start + chunk)
        difference = z[point[part]] - mean[column[part]]
        value[part] = constant[column[part]] - 0.5 * np.einsum(
            "ij,ij,ij->i", difference, difference, precision[column[part]]
        )
    table[:, fragile] = -np.inf
    table[point, column] = value
