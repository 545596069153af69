"""Answers known in closed form: the linear VAE on Gaussian and non-Gaussian data, and the reference mixtures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..posterior.mixture import AggregatedPosterior


@dataclass(frozen=True)
class LinearAnswer:
    """What a trained linear VAE must show, per principal component (order of the eigenvalues), each (D,)."""

    active: np.ndarray
    variance_of_means: np.ndarray
    excess_kurtosis: np.ndarray


def linear_vae_answer(
    eigenvalues: np.ndarray, excess_kurtosis: np.ndarray | float, kl_weight: float, decoder_variance: float
) -> LinearAnswer:
    """The global optimum of a linear VAE: affine encoder and decoder, Gaussian likelihood of variance ς², KL weight β.

    Component j is active iff λ_j > βς². Then s_j = βς²/λ_j, Var(μ_j) = 1 − s_j, and, because μ_j is the principal
    component up to scale, excess kurtosis(z_j) = (1 − s_j)² · excess kurtosis(component j). Otherwise it collapses to
    the prior: s = 1, Var(μ) = 0, excess kurtosis 0. (Lucas et al. 2019 for β = 1; β only rescales ς².) Mean KL is
    −½ ln s_j nats. Q(z) is N(0, I) for Gaussian data whatever β.

    Args:
        eigenvalues: λ, (D,), of the data's covariance. excess_kurtosis: of the components, a number or (D,).

    Raises:
        ValueError: an eigenvalue, the KL weight or the decoder variance is not positive.
    """
    eigenvalues = np.asarray(eigenvalues, dtype=np.float64)
    if np.any(eigenvalues <= 0) or kl_weight <= 0 or decoder_variance <= 0:
        raise ValueError("eigenvalues, KL weight and decoder variance must be positive")
    noise = kl_weight * decoder_variance / eigenvalues
    active = noise < 1
    signal = 1.0 - np.where(active, noise, 1.0)
    return LinearAnswer(
        active=active,
        variance_of_means=signal,
        excess_kurtosis=signal**2 * np.asarray(excess_kurtosis, dtype=np.float64),
    )


@dataclass(frozen=True)
class ReferenceMixture:
    """A one-dimensional mixture with mean 0 and variance 1, and its statistics to the digits that are known.

    Weights are fractions with a small common denominator, so that an equally weighted mixture of repeated rows is the
    same law. Divergences are from N(0, 1), in nats.
    """

    weights: tuple[int, ...]
    means: tuple[float, ...]
    variances: tuple[float, ...]
    skewness: float
    kurtosis: float
    mean_kl: float
    kl: float
    ks: float
    w1: float
    tv: float

    def posterior(self) -> AggregatedPosterior:
        """The mixture as equally weighted rows, (Σ weights, 1)."""
        mean = np.repeat(self.means, self.weights)[:, None]
        return AggregatedPosterior(mean, np.repeat(self.variances, self.weights)[:, None])


# Every number was derived by hand or to 50 digits; `decoy` has kurtosis exactly 3 and is far from normal:
# kurtosis alone cannot certify normality.
REFERENCE: dict[str, ReferenceMixture] = {
    "near_pair": ReferenceMixture(
        (1, 1), (0.5, -0.5), (0.75, 0.75), 0.0, 2.875, 0.14384104, 0.00038916, 0.003842, 0.0097791, 0.0097607
    ),
    "far_pair": ReferenceMixture(
        (1, 1), (0.9, -0.9), (0.19, 0.19), 0.0, 1.6878, 0.83036560, 0.18927903, 0.103619, 0.2064261, 0.2635355
    ),
    "scale_mixture": ReferenceMixture(
        (1, 1), (0.0, 0.0), (0.1, 1.9), 0.0, 5.43, 0.41518280, 0.14237094, 0.101674, 0.1984266, 0.2314779
    ),
    "three": ReferenceMixture(
        (1, 2, 1), (-1.0, 0.0, 1.0), (0.2, 0.8, 0.2), 0.0, 2.12, 0.45814537, 0.05367977, 0.055026, 0.1178156, 0.1416000
    ),
    "skewed": ReferenceMixture(
        (1, 4), (1.2, -0.3), (0.4, 0.7), 0.108, 2.6868, 0.23429905, 0.00596025, 0.020012, 0.0421405, 0.0434063
    ),
    "decoy": ReferenceMixture(
        (1, 4, 1), (-np.sqrt(2.7), 0.0, np.sqrt(2.7)), (0.1, 0.1, 0.1), 0.0, 3.0,
        1.15129255, 0.30075979, 0.109319, 0.1998576, 0.3321940,
    ),
}  # fmt: skip
# The three terms of the excess kurtosis (means, covariance, scale) where they are all of interest.
REFERENCE_TERMS = {
    "far_pair": (-1.3122, 0.0, 0.0),
    "scale_mixture": (0.0, 0.0, 2.43),
    "three": (-0.25, -0.90, 0.27),
    "skewed": (0.0324, -0.3888, 0.0432),
}
