"""Draws of the synthetic controls: data for which the linear VAE's answer is known in closed form."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def draw_control(source: str, eigenvalues: Sequence[float], n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw independent sources of given variances, and rotate them.

    x = R s with s_j = √λ_j u_j, u_j independent with mean 0 and variance 1 (normal, or uniform on ±√3), and R
    orthogonal. The covariance's eigenvalues are λ_j, its eigenvectors R's columns, and principal component j
    is s_j, with excess kurtosis 0 (gaussian) or −1.2 (uniform): what the closed form takes as its input.

    Args:
        source: `gaussian` or `uniform`.
        eigenvalues: λ_j, of length D.
        n: Number of observations.
        rng: Source of the rotation, drawn first, and of the sources.

    Returns:
        (n, D) float32.

    Raises:
        ValueError: The source is unknown.
    """
    if source not in ("gaussian", "uniform"):
        raise ValueError(f"unknown source {source!r}; use gaussian or uniform")
    size = len(eigenvalues)
    rotation = random_rotation(size, rng)
    if source == "gaussian":
        sources = rng.standard_normal((n, size))
    else:
        sources = rng.uniform(-math.sqrt(3), math.sqrt(3), (n, size))
    sources *= np.sqrt(np.asarray(eigenvalues, dtype=np.float64))
    observations = np.zeros_like(sources)
    # Not a matrix product: BLAS rounds differently from one processor to the next, and every machine is to
    # get the same bytes.
    for axis, values in zip(rotation.T, sources.T, strict=True):
        observations += values[:, None] * axis
    return observations.astype(np.float32)


def random_rotation(size: int, rng: np.random.Generator) -> np.ndarray:
    """Draw an orthogonal (size, size) matrix from the Haar law: Gram–Schmidt on normal draws (Stewart 1980).

    The sums are exact (`math.fsum`) rather than LAPACK's, so that every machine gets the same bytes; each
    vector is made orthogonal twice, which is enough for working precision.
    """
    columns: list[list[float]] = []
    for _ in range(size):
        vector = rng.standard_normal(size).tolist()
        for column in columns * 2:
            overlap = math.fsum(a * b for a, b in zip(vector, column, strict=True))
            vector = [a - overlap * b for a, b in zip(vector, column, strict=True)]
        length = math.sqrt(math.fsum(a * a for a in vector))
        columns.append([a / length for a in vector])
    return np.array(columns).T
