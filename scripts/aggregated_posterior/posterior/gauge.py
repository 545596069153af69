"""The first two moments are free: the canonical form of a latent space and the KL that it saves.

An affine change z_j → (z_j − t_j)·α_j of each latent dimension can be absorbed by encoder heads and decoder inputs that
are affine with bias: no reconstruction changes, and neither do samples of Q(z). So location and scale of Q(z) carry no
information on normality, and both are put right before anything is compared with N(0, I).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .mixture import AggregatedPosterior, Moments, excess_over_log


@dataclass(frozen=True)
class Canonical:
    """The transform z → (z − shift)·scale, per latent dimension, that gives Q(z) mean 0 and variance 1.

    shift (d,) is E[μ], scale (d,) is 1/√V, slack (d,) is the mean KL in nats that the transform saves.
    """

    shift: np.ndarray
    scale: np.ndarray
    slack: np.ndarray

    def apply(self, z: np.ndarray) -> np.ndarray:
        """Take points (M, d) of the raw latent space to the canonical one."""
        return (np.asarray(z, dtype=np.float64) - self.shift) * self.scale

    def invert(self, z: np.ndarray) -> np.ndarray:
        """Take points (M, d) of the canonical latent space back to the raw one, where the decoder expects them."""
        return np.asarray(z, dtype=np.float64) / self.scale + self.shift

    @property
    def log_determinant(self) -> float:
        """Σ ln scale: ln density in the canonical space is the raw one minus this number."""
        return float(np.log(self.scale).sum())


def slack_of(moments: Moments) -> np.ndarray:
    """Gauge slack G = (E[μ²] + B − 1 − ln V)/2 ≥ 0 per dimension, (d,), nats, from moments already at hand.

    It is the KL that could be had for free, and equals KL(N(mean, V) ‖ N(0, 1)), the Gaussian part of the marginal KL.
    """
    return 0.5 * (moments.mean**2 + excess_over_log(moments.variance))


def canonical_form(q: AggregatedPosterior, moments: Moments | None = None) -> Canonical:
    """The canonical transform of Q(z), fitted on q (the train posteriors); `moments` of q are used where given."""
    moments = q.moments() if moments is None else moments
    return Canonical(shift=moments.mean, scale=1.0 / np.sqrt(moments.variance), slack=slack_of(moments))


def canonicalise(q: AggregatedPosterior, canonical: Canonical | None = None) -> AggregatedPosterior:
    """q in canonical form. Give the transform fitted on train for any other split; None fits it on q itself.

    Moments become (0, 1) to rounding on the split that the transform was fitted on, and only there.
    """
    canonical = canonical_form(q) if canonical is None else canonical
    return q.affine(canonical.shift, canonical.scale)
