"""Mixtures of many normal laws, with full or diagonal covariances, fitted fast; in all dimensions or the active ones.

scikit-learn's `GaussianMixture` gives every point a share in every component. With K components almost all of these
shares are zero, and its update of the covariances walks through all of them. Leaving them out is four times as fast for
K = 100 on 20 000 points in 32 dimensions (`tests/benchmark/RESULTS.md`), and no less likely on held-out points.

A dimension j is inactive where its mean KL, the average over the data of KL(q(z_j|x) ‖ N(0, 1)), is below a threshold.
A mixture that is fitted in all dimensions spends components and their covariances on inactive ones, which are noise to
it. Leaving them out costs at most what they hold: with z_A the active and z_I the inactive part,

    KL(Q ‖ Q_A × N(0, I)) ≤ Σ_{j ∈ I} mean KL_j,

because Q(z_I | z_A) is a mixture of the posteriors' parts q(z_I | x), and KL is convex.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ..posterior.mixture import AggregatedPosterior, normal_log_pdf
from ..posterior.splits import ACTIVE_THRESHOLD, active_dimensions
from ..storage import DataError

# A share below this is dropped: with it goes less than a hundredth of a point per component.
SMALLEST_SHARE = 0.01
# Numbers in one block of the E-step: 8 MB of float32, which stays in the cache.
BLOCK_ELEMENTS = 2_000_000


class ConvergenceWarning(UserWarning):
    """Expectation maximisation ended while its steps still gained."""


@dataclass(frozen=True)
class NormalMixture:
    """Σ_k w_k N(z; m_k, C_k).

    `weights` (K,), `means` (K, d), and `factors`: lower Cholesky factors of the covariances (K, d, d), or standard
    deviations (K, d) where these are diagonal. `converged` says whether the fit's last step gained little.
    """

    weights: np.ndarray
    means: np.ndarray
    factors: np.ndarray
    converged: bool = True

    @property
    def n_components(self) -> int:
        """K."""
        return len(self.weights)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw `n` points, (n, d)."""
        chosen = rng.choice(self.n_components, size=n, p=self.weights)
        z = rng.standard_normal((n, self.means.shape[1]))
        if self.factors.ndim == 2:
            return self.means[chosen] + z * self.factors[chosen]
        order = np.argsort(chosen, kind="stable")
        ends = np.searchsorted(chosen[order], np.arange(self.n_components + 1))
        for k in np.flatnonzero(np.diff(ends)):
            rows = order[ends[k] : ends[k + 1]]
            z[rows] = self.means[k] + z[rows] @ self.factors[k].T
        return z

    def score_samples(self, z: np.ndarray) -> np.ndarray:
        """ln of the density at points `z` (M, d), in nats, (M,)."""
        parts = [_log_sum(terms) for _, terms in self.log_terms(np.asarray(z, dtype=np.float64))]
        return np.concatenate(parts) if parts else np.empty(0)

    def log_terms(self, z: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first row, ln w_k + ln N(z; m_k, C_k), (rows, K)) over blocks of `z` (M, d), in the precision of `z`.

        (z − m)ᵀC⁻¹(z − m) = |L⁻¹z − L⁻¹m|², with all L⁻¹ side by side: one matrix product serves all components. For
        diagonal C it is z²·(1/s) − 2 z·(m/s) + m²/s, which is again one product.
        """
        k, d = self.means.shape
        diagonal = self.factors.ndim == 2
        scale = self.factors if diagonal else np.diagonal(self.factors, axis1=1, axis2=2)
        with np.errstate(divide="ignore"):  # a component that lost all its points has ln w = −∞
            constant = np.log(self.weights) - np.log(scale).sum(1) - 0.5 * d * np.log(2 * np.pi)
        if diagonal:
            precision = self.factors**-2.0
            right = np.concatenate([precision.T, -2 * (precision * self.means).T]).astype(z.dtype)
            constant = (constant - 0.5 * (precision * self.means**2).sum(1)).astype(z.dtype)
            rows = max(1, BLOCK_ELEMENTS // (k + 2 * d))
            for start in range(0, len(z), rows):
                part = z[start : start + rows]
                yield start, constant - 0.5 * (np.concatenate([part * part, part], axis=1) @ right)
            return
        inverse = np.linalg.inv(self.factors)
        offset = np.einsum("kij,kj->ki", inverse, self.means).reshape(-1).astype(z.dtype)
        inverse = np.ascontiguousarray(inverse.transpose(2, 0, 1).reshape(d, -1), dtype=z.dtype)
        constant = constant.astype(z.dtype)
        ones = np.ones(d, z.dtype)
        rows = max(1, BLOCK_ELEMENTS // (k * d))
        for start in range(0, len(z), rows):
            white = z[start : start + rows] @ inverse
            white -= offset
            np.square(white, out=white)
            yield start, constant - 0.5 * (white.reshape(-1, d) @ ones).reshape(-1, k)


@dataclass(frozen=True)
class ActiveMixture:
    """A mixture of normal laws in the dimensions `active`, times N(0, I) in the other of `latent_dim` dimensions.

    `mixture` is None where no dimension is active.
    """

    latent_dim: int
    active: np.ndarray
    mixture: NormalMixture | None

    @property
    def n_components(self) -> int:
        """K, 0 where no dimension is active."""
        return 0 if self.mixture is None else self.mixture.n_components

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw `n` points, (n, d)."""
        z = rng.standard_normal((n, self.latent_dim))
        if self.mixture is not None:
            z[:, self.active] = self.mixture.sample(n, rng)
        return z

    def score_samples(self, z: np.ndarray) -> np.ndarray:
        """ln of the density at points `z` (M, d), in nats, (M,)."""
        if self.mixture is None:
            return normal_log_pdf(z)
        inactive = np.delete(z, self.active, axis=1)
        return self.mixture.score_samples(z[:, self.active]) + normal_log_pdf(inactive)


def fit_active_mixture(
    q: AggregatedPosterior,
    points: np.ndarray,
    n_components: int,
    rng: np.random.Generator,
    active_threshold: float = ACTIVE_THRESHOLD,
    kl: np.ndarray | None = None,
    **settings: float | str | bool,
) -> ActiveMixture:
    """Fit a mixture to `points` (N, d), draws of `q` or its means, in the dimensions where `q` is active.

    Args:
        q: Says which dimensions are active. In canonical form an inactive dimension is N(0, 1) to within its mean KL.
        points: What the mixture is fitted to.
        n_components: K.
        rng: Chooses the first centres.
        active_threshold: Nats of mean KL.
        kl: The mean KL of `q`, (d,), where known.
        settings: Further arguments of `fit_normal_mixture`.
    """
    active = np.flatnonzero(active_dimensions(q.kl() if kl is None else kl, active_threshold))
    mixture = fit_normal_mixture(points[:, active], n_components, rng, **settings) if len(active) else None
    return ActiveMixture(q.latent_dim, active, mixture)


def fit_normal_mixture(
    points: np.ndarray,
    n_components: int,
    rng: np.random.Generator,
    covariance: Literal["full", "diag"] = "full",
    iterations: int = 30,
    smallest_gain: float = 0.01,
    starts: int = 1,
    prior_points: float = 5.0,
    must_converge: bool = True,
) -> NormalMixture:
    """Fit a mixture by expectation maximisation from a k-means start (Dempster, Laird and Rubin 1977).

    Each covariance is drawn towards a round one of the same trace as if by `prior_points` more points, and the
    variance in each direction is at least 10⁻⁴ of the mean variance: a component with a handful of points, or points
    in a plane, still has a proper law.

    Args:
        points: (N, d), finite. Distances matter at the start, so dimensions should be of similar size.
        n_components: K, at most N.
        rng: Chooses the first centres.
        covariance: Whether dimensions may be correlated within a component (`full`) or not (`diag`).
        iterations: Steps, at most.
        smallest_gain: Nats per point that a step must bring, or it is the last one.
        starts: k-means starts, of which the likeliest mixture is kept.
        prior_points: Weight of the round covariance.
        must_converge: Warn where the steps end before their gain is small; False where few steps are meant.

    Raises:
        DataError: K is not between 1 and N, or points are not finite or all the same.
    """
    if covariance not in ("full", "diag"):
        raise DataError(f"covariance is {covariance!r}: it must be 'full' or 'diag'")
    points = np.asarray(points, dtype=np.float64)
    if not 1 <= n_components <= len(points):
        raise DataError(
            f"{n_components} components cannot be fitted to {len(points)} points; ask for 1 to {len(points)}"
        )
    # Float32 is enough once location and scale are of order 1.
    centre = points.mean(0)
    scale = np.sqrt(np.square(points - centre).mean())
    if not (np.isfinite(scale) and scale > 0):
        raise DataError("a mixture needs finite points that are not all the same")
    x = ((points - centre) / scale).astype(np.float32)
    diagonal = covariance == "diag"
    fits = [
        _fit(x, _k_means(x, n_components, rng), n_components, diagonal, iterations, smallest_gain, prior_points)
        for _ in range(starts)
    ]
    mixture, _ = max(fits, key=lambda fit: fit[1])
    if must_converge and not mixture.converged:
        warnings.warn(
            f"expectation maximisation of {n_components} components has not converged after {iterations} steps",
            ConvergenceWarning,
            stacklevel=2,
        )
    return replace(mixture, means=mixture.means * scale + centre, factors=mixture.factors * scale)


def _fit(
    x: np.ndarray, component: np.ndarray, n_components: int, diagonal: bool,
    iterations: int, smallest_gain: float, prior_points: float,
) -> tuple[NormalMixture, float]:  # fmt: skip
    """Expectation maximisation from a first choice of every point's component: the mixture, and its mean ln density."""
    row, share = np.arange(len(x)), np.ones(len(x), np.float32)
    log_likelihood, converged = -np.inf, n_components == 1  # of one component the first step is the answer
    for iteration in range(iterations):
        mixture = _maximise(x, row, component, share, n_components, diagonal, prior_points)
        if iteration == iterations - 1:
            break
        before = log_likelihood
        row, component, share, log_likelihood = _expect(x, mixture)
        if log_likelihood - before < smallest_gain:
            converged = True
            break
    return replace(mixture, converged=converged), log_likelihood


def _maximise(
    x: np.ndarray, row: np.ndarray, component: np.ndarray, share: np.ndarray, n_components: int, diagonal: bool,
    prior_points: float,
) -> NormalMixture:  # fmt: skip
    """The likeliest mixture where entry i gives `share[i]` of point `row[i]` to `component[i]`."""
    d = x.shape[1]
    order = np.argsort(component, kind="stable")
    row, share = row[order], share[order]
    ends = np.searchsorted(component[order], np.arange(n_components + 1))
    counts = np.zeros(n_components)
    means = np.zeros((n_components, d))
    factors = np.ones((n_components, d)) if diagonal else np.tile(np.eye(d), (n_components, 1, 1))
    for k in np.flatnonzero(np.diff(ends)):
        part = slice(ends[k], ends[k + 1])
        points, weights = x[row[part]], share[part]
        counts[k] = weights.sum(dtype=np.float64)
        means[k] = weights @ points / counts[k]
        points = points - means[k].astype(np.float32)
        total = counts[k] + prior_points
        if diagonal:
            scatter = (weights @ np.square(points)).astype(np.float64)
            factors[k] = np.sqrt((scatter + prior_points * scatter.mean() / counts[k]) / total + 1e-4)
            continue
        covariance = (points * weights[:, None]).T @ points / counts[k]
        round_variance = np.trace(covariance) / d
        covariance = counts[k] * covariance.astype(np.float64) + prior_points * round_variance * np.eye(d)
        factors[k] = np.linalg.cholesky(covariance / total + 1e-4 * np.eye(d))
    return NormalMixture(counts / counts.sum(), means, factors)


def _expect(x: np.ndarray, mixture: NormalMixture) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """Every share of a point in a component that is not small, (row, component, share), and the mean ln density."""
    parts, total = [], 0.0
    for start, terms in mixture.log_terms(x):
        log_density = _log_sum(terms)
        total += log_density.sum(dtype=np.float64)
        shares = np.exp(terms - log_density[:, None])
        found = np.flatnonzero(shares > SMALLEST_SHARE)
        row, component = np.divmod(found, mixture.n_components)
        parts.append((row + start, component, shares.ravel()[found]))
    row, component, share = (np.concatenate(column) for column in zip(*parts, strict=True))
    return row, component, share, total / len(x)


def _log_sum(terms: np.ndarray) -> np.ndarray:
    """ln Σ exp along rows. By hand: `scipy.special.logsumexp` takes 2.1–2.5 times as long here, in every E-step."""
    top = terms.max(1)
    return top + np.log(np.exp(terms - top[:, None]).sum(1))


def _k_means(x: np.ndarray, n_components: int, rng: np.random.Generator, steps: int = 3) -> np.ndarray:
    """Component of every point after a few of Lloyd's steps; expectation maximisation does the rest."""
    centres = x[rng.choice(len(x), n_components, replace=False)]
    for _ in range(steps):
        squares = np.square(centres).sum(1)
        nearest = [(squares - 2 * x[start : start + 4096] @ centres.T).argmin(1) for start in range(0, len(x), 4096)]
        component = np.concatenate(nearest)
        order = np.argsort(component, kind="stable")
        used, first = np.unique(component[order], return_index=True)
        counts = np.diff([*first, len(x)])
        centres[used] = np.add.reduceat(x[order], first, axis=0) / counts[:, None]
    return component
