"""Mixtures of many normal laws with full covariances, fitted fast.

scikit-learn's `GaussianMixture` gives every point a share in every component. With K components almost all of these
shares are zero, and its update of the covariances walks through all of them. Leaving them out is four times as fast for
K = 100 on 20 000 points in 32 dimensions (`tests/benchmark/RESULTS.md`), and no less likely on held-out points.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..storage import DataError

# A share below this is dropped: with it goes less than a hundredth of a point per component.
SMALLEST_SHARE = 0.01
# Numbers in one block of the E-step: 8 MB of float32, which stays in the cache.
BLOCK_ELEMENTS = 2_000_000


@dataclass(frozen=True)
class NormalMixture:
    """Σ_k w_k N(z; m_k, C_k): weights (K,), means (K, d), lower Cholesky factors of the covariances (K, d, d)."""

    weights: np.ndarray
    means: np.ndarray
    factors: np.ndarray

    @property
    def components(self) -> int:
        """K."""
        return len(self.weights)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw `n` points, (n, d)."""
        chosen = rng.choice(self.components, size=n, p=self.weights)
        z = rng.standard_normal((n, self.means.shape[1]))
        order = np.argsort(chosen, kind="stable")
        ends = np.searchsorted(chosen[order], np.arange(self.components + 1))
        for k in np.flatnonzero(np.diff(ends)):
            rows = order[ends[k] : ends[k + 1]]
            z[rows] = self.means[k] + z[rows] @ self.factors[k].T
        return z

    def log_density(self, z: np.ndarray) -> np.ndarray:
        """ln of the density at points `z` (M, d), in nats, (M,)."""
        return np.concatenate([_log_sum(terms) for _, terms in self.log_terms(np.asarray(z, dtype=np.float64))])

    def log_terms(self, z: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first row, ln w_k + ln N(z; m_k, C_k), (rows, K)) over blocks of `z` (M, d), in the precision of `z`.

        (z − m)ᵀC⁻¹(z − m) = |L⁻¹z − L⁻¹m|², with all L⁻¹ side by side: one matrix product serves all components.
        """
        components, d = self.means.shape
        inverse = np.linalg.inv(self.factors)
        offset = np.einsum("kij,kj->ki", inverse, self.means).reshape(-1).astype(z.dtype)
        inverse = np.ascontiguousarray(inverse.transpose(2, 0, 1).reshape(d, -1), dtype=z.dtype)
        half_log_determinant = np.log(np.diagonal(self.factors, axis1=1, axis2=2)).sum(1)
        with np.errstate(divide="ignore"):  # a component that lost all its points has ln w = −∞
            constant = np.log(self.weights) - half_log_determinant - 0.5 * d * np.log(2 * np.pi)
        constant = constant.astype(z.dtype)
        ones = np.ones(d, z.dtype)
        rows = max(1, BLOCK_ELEMENTS // (components * d))
        for start in range(0, len(z), rows):
            white = z[start : start + rows] @ inverse
            white -= offset
            np.square(white, out=white)
            yield start, constant - 0.5 * (white.reshape(-1, d) @ ones).reshape(-1, components)


def fit_normal_mixture(
    points: np.ndarray,
    components: int,
    rng: np.random.Generator,
    iterations: int = 30,
    smallest_gain: float = 0.01,
    starts: int = 1,
    prior_points: float = 5.0,
) -> NormalMixture:
    """Fit a mixture by expectation maximisation from a k-means start (Dempster, Laird and Rubin 1977).

    Each covariance is drawn towards a round one of the same trace as if by `prior_points` more points, and the
    variance in each direction is at least 10⁻⁴ of the mean variance: a component with a handful of points, or points
    in a plane, still has a proper law.

    Args:
        points: (N, d), finite. Distances matter at the start, so dimensions should be of similar size.
        components: K, at most N.
        rng: Chooses the first centres.
        iterations: Steps, at most.
        smallest_gain: Nats per point that a step must bring, or it is the last one.
        starts: k-means starts, of which the likeliest mixture is kept.
        prior_points: Weight of the round covariance.

    Raises:
        DataError: K is not between 1 and N, or points are not finite or all the same.
    """
    points = np.asarray(points, dtype=np.float64)
    if not 1 <= components <= len(points):
        raise DataError(f"{components} components cannot be fitted to {len(points)} points; ask for 1 to {len(points)}")
    # Float32 is enough once location and scale are of order 1.
    centre = points.mean(0)
    scale = np.sqrt(np.square(points - centre).mean())
    if not (np.isfinite(scale) and scale > 0):
        raise DataError("a mixture needs finite points that are not all the same")
    x = ((points - centre) / scale).astype(np.float32)
    fits = [
        _fit(x, _k_means(x, components, rng), components, iterations, smallest_gain, prior_points)
        for _ in range(starts)
    ]
    mixture, _ = max(fits, key=lambda fit: fit[1])
    return NormalMixture(mixture.weights, mixture.means * scale + centre, mixture.factors * scale)


def _fit(
    x: np.ndarray, component: np.ndarray, components: int, iterations: int, smallest_gain: float, prior_points: float
) -> tuple[NormalMixture, float]:
    """Expectation maximisation from a first choice of every point's component: the mixture, and its mean ln density."""
    row, share = np.arange(len(x)), np.ones(len(x), np.float32)
    log_likelihood = -np.inf
    for iteration in range(iterations):
        mixture = _maximise(x, row, component, share, components, prior_points)
        if iteration == iterations - 1:
            break
        before = log_likelihood
        row, component, share, log_likelihood = _expect(x, mixture)
        if log_likelihood - before < smallest_gain:
            break
    return mixture, log_likelihood


def _maximise(
    x: np.ndarray, row: np.ndarray, component: np.ndarray, share: np.ndarray, components: int, prior_points: float
) -> NormalMixture:
    """The likeliest mixture where entry i gives `share[i]` of point `row[i]` to `component[i]`."""
    d = x.shape[1]
    order = np.argsort(component, kind="stable")
    row, share = row[order], share[order]
    ends = np.searchsorted(component[order], np.arange(components + 1))
    counts = np.zeros(components)
    means, factors = np.zeros((components, d)), np.tile(np.eye(d), (components, 1, 1))
    for k in np.flatnonzero(np.diff(ends)):
        part = slice(ends[k], ends[k + 1])
        points, weights = x[row[part]], share[part]
        counts[k] = weights.sum(dtype=np.float64)
        means[k] = weights @ points / counts[k]
        points = points - means[k].astype(np.float32)
        covariance = (points * weights[:, None]).T @ points / counts[k]
        round_variance = np.trace(covariance) / d
        covariance = counts[k] * covariance.astype(np.float64) + prior_points * round_variance * np.eye(d)
        factors[k] = np.linalg.cholesky(covariance / (counts[k] + prior_points) + 1e-4 * np.eye(d))
    return NormalMixture(counts / counts.sum(), means, factors)


def _expect(x: np.ndarray, mixture: NormalMixture) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Every share of a point in a component that is not small, (row, component, share), and the mean ln density."""
    parts, total = [], 0.0
    for start, terms in mixture.log_terms(x):
        log_density = _log_sum(terms)
        total += log_density.sum(dtype=np.float64)
        shares = np.exp(terms - log_density[:, None])
        found = np.flatnonzero(shares > SMALLEST_SHARE)
        row, component = np.divmod(found, mixture.components)
        parts.append((row + start, component, shares.ravel()[found]))
    row, component, share = (np.concatenate(column) for column in zip(*parts, strict=True))
    return row, component, share, total / len(x)


def _log_sum(terms: np.ndarray) -> np.ndarray:
    top = terms.max(1)
    return top + np.log(np.exp(terms - top[:, None]).sum(1))


def _k_means(x: np.ndarray, components: int, rng: np.random.Generator, steps: int = 3) -> np.ndarray:
    """Component of every point after a few of Lloyd's steps; expectation maximisation does the rest."""
    centres = x[rng.choice(len(x), components, replace=False)]
    for _ in range(steps):
        squares = np.square(centres).sum(1)
        nearest = [(squares - 2 * x[start : start + 4096] @ centres.T).argmin(1) for start in range(0, len(x), 4096)]
        component = np.concatenate(nearest)
        order = np.argsort(component, kind="stable")
        used, first = np.unique(component[order], return_index=True)
        counts = np.diff([*first, len(x)])
        centres[used] = np.add.reduceat(x[order], first, axis=0) / counts[:, None]
    return component
