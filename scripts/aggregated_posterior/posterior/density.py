"""The inner step of ln Q(z): one block of components against some points, in matrix form, with the error in view."""

from __future__ import annotations

import numpy as np


def accumulate(
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
