"""Ways to draw latent codes, from N(0, I) to Q(z) itself: each rung of the ladder keeps more of Q(z) than the
one before.

A sampler is fitted to an `AggregatedPosterior` of *training* data and then draws codes: `fit(q)`, `sample(n, rng)`.
It works in whatever coordinates it was fitted in; fit it to the canonical form (see `gauge.py`), or a mere error of
scale is taken for one of shape. The samplers that only deform standard normal noise have `transform(noise)` too, so
that the same noise can go through several of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Self

import numpy as np

from ..posterior.mixture import AggregatedPosterior
from ..statistics.fitted_mixture import fit_active_mixture
from ..statistics.marginals import Marginals
from ..storage import DataError
from ..streams import stream

# A level that rounds to 0 or 1 has an infinite quantile; these are those of −37 and 8 standard deviations.
LEVELS = (1e-300, 1 - 2.0**-53)


class Sampler(ABC):
    """A law of latent codes that is fitted to an aggregated posterior."""

    def fit(self, q: AggregatedPosterior) -> Self:
        """Fit the law to `q`, which must not be the split that the samples are scored on."""
        self._fitted_rows = frozenset(_fingerprints(q).tolist())
        self.latent_dim = q.latent_dim
        self._fit(q)
        return self

    @abstractmethod
    def _fit(self, q: AggregatedPosterior) -> None: ...

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw `n` codes, (n, d) float64.

        Raises:
            DataError: The sampler has not been fitted.
        """
        if not hasattr(self, "latent_dim"):
            raise DataError(f"{type(self).__name__} draws nothing before it is fitted: call fit(q) first")
        return self._sample(n, rng)

    @abstractmethod
    def _sample(self, n: int, rng: np.random.Generator) -> np.ndarray: ...

    def refuse(self, evaluation: AggregatedPosterior) -> None:
        """Make sure that this sampler has not seen the data it is going to be scored on.

        Raises:
            DataError: More than one in a hundred of the posteriors of `evaluation` were among those it was
                fitted to. (A few may be: data sets hold the same picture twice.) Both must be in the same
                coordinates.
        """
        seen = np.mean([row in self._fitted_rows for row in _fingerprints(evaluation).tolist()])
        if seen > 0.01:
            raise DataError(
                f"{type(self).__name__} was fitted to {seen:.0%} of the posteriors that judge its samples; "
                "fit it to the training split only"
            )


class NoiseSampler(Sampler):
    """A sampler that deforms standard normal noise."""

    @abstractmethod
    def transform(self, noise: np.ndarray) -> np.ndarray:
        """Codes (n, d) from standard normal `noise` (n, d), row by row."""

    def _sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return self.transform(rng.standard_normal((n, self.latent_dim)))


class PriorSampler(NoiseSampler):
    """N(0, I), the vanilla VAE's law: nothing is taken from Q(z)."""

    def _fit(self, q: AggregatedPosterior) -> None:
        pass

    def transform(self, noise: np.ndarray) -> np.ndarray:
        return np.array(noise, dtype=np.float64)


class MarginalSampler(NoiseSampler):
    """The product Π_j q_j(z_j) of the one-dimensional marginals: their every moment, and no dependence.

    z_j = F_j⁻¹(Φ(ε_j)) with the exact distribution functions F_j.

    Args:
        marginals: The marginals of the Q(z) that it is going to be fitted to, where they are known already.
    """

    def __init__(self, marginals: Marginals | None = None) -> None:
        self.marginals = marginals

    def _fit(self, q: AggregatedPosterior) -> None:
        self.marginals = self.marginals or Marginals(q)

    def transform(self, noise: np.ndarray) -> np.ndarray:
        from scipy.special import ndtr

        levels = np.clip(ndtr(np.asarray(noise, dtype=np.float64)), *LEVELS)
        return self.marginals.quantile(levels)


class DependenceSampler(Sampler):
    """Q's own dependence under normal marginals: z_j = Φ⁻¹(F_j(u_j)) with u ~ Q(z).

    The opposite corner to the product of marginals: every z_j is N(0, 1), and what ties the dimensions together, of
    every order, is Q's (its copula).

    Args:
        marginals: As in `MarginalSampler`.
    """

    def __init__(self, marginals: Marginals | None = None) -> None:
        self.marginals = marginals

    def _fit(self, q: AggregatedPosterior) -> None:
        self.q = q
        self.marginals = self.marginals or Marginals(q)

    def _sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return normal_scores(self.marginals, self.q.sample(n, rng))


class GaussianSampler(NoiseSampler):
    """The normal law with the mean and full covariance of Q(z): correlation only.

    z = m + C^½ ε with the symmetric root, which exists for a degenerate covariance too and moves the noise least.
    """

    def _fit(self, q: AggregatedPosterior) -> None:
        self.mean = q.moments().mean
        self.root = _symmetric_root(q.covariance())

    def transform(self, noise: np.ndarray) -> np.ndarray:
        return self.mean + np.asarray(noise, dtype=np.float64) @ self.root


class CopulaSampler(MarginalSampler):
    """A Gaussian copula with the exact marginals of Q(z): correlation and marginal shape.

    z_j = F_j⁻¹(Φ(η_j)) with η ~ N(0, R), where R is the correlation matrix of the normal scores Φ⁻¹(F_j(z_j)) of
    draws from Q(z).

    Args:
        seed: Seed of those draws.
        draws: Their number; at 20 000 a correlation's standard error is below 0.01.
        marginals: As in `MarginalSampler`.
    """

    def __init__(self, seed: int = 0, draws: int = 20_000, marginals: Marginals | None = None) -> None:
        super().__init__(marginals)
        self.seed = seed
        self.draws = draws

    def _fit(self, q: AggregatedPosterior) -> None:
        super()._fit(q)
        draws = stratified_draws(q, self.draws, stream(self.seed, "samplers", "copula"))
        self.root = _symmetric_root(np.atleast_2d(np.corrcoef(normal_scores(self.marginals, draws), rowvar=False)))

    def transform(self, noise: np.ndarray) -> np.ndarray:
        return super().transform(np.asarray(noise, dtype=np.float64) @ self.root)


class MixtureSampler(Sampler):
    """A mixture of K normal laws with full covariances in the active dimensions, fitted to draws from Q(z).

    Ex-post density estimation (Ghosh et al. 2020), on draws rather than on means, since Q(z) contains the posteriors'
    spread. Inactive dimensions stay at N(0, 1), see `fitted_mixture.py`.

    Args:
        components: K.
        seed: Seed of the draws and of the start.
    """

    def __init__(self, components: int, seed: int = 0) -> None:
        self.components = components
        self.seed = seed

    def _fit(self, q: AggregatedPosterior) -> None:
        rng = stream(self.seed, "samplers", "mixture", self.components)
        # One draw per posterior, but a few each where there are few posteriors, for the sake of their spread.
        draws = stratified_draws(q, max(q.n, min(4 * q.n, 10_000)), rng)
        self.mixture = fit_active_mixture(q, draws, self.components, rng)

    def _sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return self.mixture.sample(n, rng)


class MeanMixtureSampler(MixtureSampler):
    """A mixture of many normal laws fitted to the posterior *means*: one component per hundred posteriors.

    Few enough that none can hold on to a single image (the copy rate stays near 0), many enough to follow the curved
    sheet on which the means lie. Leaving out the posteriors' spread makes it a sharpened Q(z): images are a little
    clearer, and vary a little less (its recall is lower), than those drawn from Q(z).

    Args:
        seed: Seed of the start.
        posteriors_per_component: N/K.
    """

    def __init__(self, seed: int = 0, posteriors_per_component: int = 100) -> None:
        super().__init__(components=0, seed=seed)
        self.posteriors_per_component = posteriors_per_component

    def _fit(self, q: AggregatedPosterior) -> None:
        # With so many components the k-means start does most of the work, and every step is dear.
        self.components = max(1, q.n // self.posteriors_per_component)
        rng = stream(self.seed, "samplers", "mixture of means")
        self.mixture = fit_active_mixture(q, q.mean, self.components, rng, iterations=4, must_converge=False)


class PosteriorSampler(Sampler):
    """Q(z) itself: a training posterior chosen at random, then a draw from it.

    Near to reconstructing the training set: what memorisation would reach, and no generator.
    """

    def _fit(self, q: AggregatedPosterior) -> None:
        self.q = q

    def _sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return self.q.sample(n, rng)


def rungs(components: Sequence[int], seed: int = 0, marginals: Marginals | None = None) -> dict[str, Sampler]:
    """The rungs that are fitted to training posteriors, unfitted, by name, from least to most of Q(z).

    Args:
        components: Numbers of components K of the mixtures.
        seed: Seed of what fits draw.
        marginals: The marginals of the Q(z) that all will be fitted to; three rungs share them.
    """
    return {
        "prior": PriorSampler(),
        "marginals": MarginalSampler(marginals),
        "dependence": DependenceSampler(marginals),
        "gaussian": GaussianSampler(),
        "copula": CopulaSampler(seed, marginals=marginals),
        **{f"gmm_{k}": MixtureSampler(k, seed) for k in components},
        "gmm_means": MeanMixtureSampler(seed),
        "q_train": PosteriorSampler(),
    }


def normal_scores(marginals: Marginals, z: np.ndarray) -> np.ndarray:
    """Φ⁻¹(F_j(z_j)) of points `z` (M, d): N(0, 1) in each dimension where z_j has the law F_j."""
    from scipy.special import ndtri

    return ndtri(np.clip(marginals.cdf(z), *LEVELS))


def stratified_draws(q: AggregatedPosterior, n: int, rng: np.random.Generator) -> np.ndarray:
    """`n` draws from Q(z) that use every posterior equally often, to within one; (n, d), in random order.

    Each row has the law Q(z), and sums over all rows vary less than those of independent draws.
    """
    rounds = [rng.permutation(q.n) for _ in range(-(-n // q.n))]
    return q.sample_components(np.concatenate(rounds)[:n], rng)


def _symmetric_root(covariance: np.ndarray) -> np.ndarray:
    """C^½ of a symmetric matrix; eigenvalues that rounding made negative count as 0."""
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T


def _fingerprints(q: AggregatedPosterior) -> np.ndarray:
    """One number per posterior, from its means and variances: equal for equal posteriors, else different."""
    weights = stream(0, "samplers", "fingerprints").standard_normal((2, q.latent_dim))
    # Not a matrix product: that may round differently in another place of a block.
    return np.concatenate([(block * weights[:, None]).sum((0, 2)) for _, block in q.blocks()])
