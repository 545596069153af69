"""The synthetic controls: data with a closed-form answer for the linear VAE, and posteriors made by hand."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..statistics.closed_forms import REFERENCE

# The one-dimensional mixture of every latent dimension of `control_mixture`. Together all three terms of the excess
# kurtosis are there, from 0.03 to 2.4: shape of the means, spread tied to position, scale mixing.
MIXTURE_CONTROL = ("far_pair", "scale_mixture", "three", "skewed")
# Copies of the product's 2 · 2 · 4 · 5 = 80 components: 10 000 training rows and 2 000 held-out ones.
COPIES = {"train": 125, "test": 25}


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


def mixture_posteriors() -> dict[str, np.ndarray]:
    """The posteriors of `control_mixture`: made, not trained, and their Q(z) known in every respect.

    Row n holds one component of each dimension's mixture, and all combinations occur equally often. So Q(z) is the
    product of the one-dimensional mixtures: total correlation 0, KL(Q ‖ N(0, I)) the sum of theirs, and Mardia's
    kurtosis d² + Σ_j (kurtosis_j − 1). Training and held-out rows have the same law, not only nearly.

    Returns:
        `mean_train`, `variance_train`, `mean_test`, `variance_test`, float32 (N, 4).
    """
    mixtures = [REFERENCE[name].posterior() for name in MIXTURE_CONTROL]
    places = np.stack(np.meshgrid(*(np.arange(mixture.n) for mixture in mixtures), indexing="ij"), axis=-1)
    rows = places.reshape(-1, len(mixtures))
    arrays = {}
    for split, copies in COPIES.items():
        for name in ("mean", "variance"):
            columns = [getattr(mixture, name)[rows[:, j], 0] for j, mixture in enumerate(mixtures)]
            arrays[f"{name}_{split}"] = np.tile(np.column_stack(columns), (copies, 1)).astype(np.float32)
    return arrays
