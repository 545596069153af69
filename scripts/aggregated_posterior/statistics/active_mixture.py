"""A normal mixture where Q(z) has something to say, and N(0, 1) where it is the prior anyway.

A dimension j is inactive where its mean KL, the average over the data of KL(q(z_j|x) ‖ N(0, 1)), is below a threshold.
A mixture that is fitted in all dimensions spends components and their covariances on inactive ones, which are noise to
it. Leaving them out costs at most what they hold: with z_A the active and z_I the inactive part,

    KL(Q ‖ Q_A × N(0, I)) ≤ Σ_{j ∈ I} mean KL_j,

because Q(z_I | z_A) is a mixture of the posteriors' parts q(z_I | x), and KL is convex.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..posterior.mixture import AggregatedPosterior, normal_log_pdf
from ..posterior.splits import active_dimensions
from .fitted_mixture import NormalMixture, fit_normal_mixture

# Nats of mean KL, below which a dimension is left at N(0, 1).
ACTIVE_THRESHOLD = 0.05


@dataclass(frozen=True)
class ActiveMixture:
    """A mixture of normal laws in the dimensions `active`, times N(0, I) in the other of `latent_dim` dimensions.

    `mixture` is None where no dimension is active.
    """

    latent_dim: int
    active: np.ndarray
    mixture: NormalMixture | None

    @property
    def components(self) -> int:
        """K, 0 where no dimension is active."""
        return 0 if self.mixture is None else self.mixture.components

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw `n` points, (n, d)."""
        z = rng.standard_normal((n, self.latent_dim))
        if self.mixture is not None:
            z[:, self.active] = self.mixture.sample(n, rng)
        return z

    def log_density(self, z: np.ndarray) -> np.ndarray:
        """ln of the density at points `z` (M, d), in nats, (M,)."""
        if self.mixture is None:
            return normal_log_pdf(z)
        inactive = np.delete(z, self.active, axis=1)
        return self.mixture.log_density(z[:, self.active]) + normal_log_pdf(inactive)


def fit_active_mixture(
    q: AggregatedPosterior,
    points: np.ndarray,
    components: int,
    rng: np.random.Generator,
    active_threshold: float = ACTIVE_THRESHOLD,
    **settings: float,
) -> ActiveMixture:
    """Fit a mixture to `points` (N, d), draws of `q` or its means, in the dimensions where `q` is active.

    Args:
        q: Says which dimensions are active. In canonical form an inactive dimension is N(0, 1) to within its mean KL.
        points: What the mixture is fitted to.
        components: K.
        rng: Chooses the first centres.
        active_threshold: Nats of mean KL.
        settings: Further arguments of `fit_normal_mixture`.
    """
    active = np.flatnonzero(active_dimensions(q.kl(), active_threshold))
    mixture = fit_normal_mixture(points[:, active], components, rng, **settings) if len(active) else None
    return ActiveMixture(q.latent_dim, active, mixture)
