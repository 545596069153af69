"""From arrays to a sampler: the door of `generation.chosen_sampler` for posteriors that somebody else made."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..generation.chosen_sampler import FittedSampler, choose_sampler
from ..posterior.foreign_files import Layout, Reading
from ..posterior.gauge import Canonical
from .auditing import FIT_SETTINGS, posteriors_of_keywords


def fit_sampler(
    mean: Any,
    variance: Any = None,
    *,
    layout: Layout | None = None,
    deterministic: bool = False,
    **arrays_and_settings: Any,
) -> FittedSampler:
    """Fit the best sampler for the posteriors of any VAE with Gaussian posteriors.

    Args:
        mean, variance, layout, deterministic: As for `audit`.
        arrays_and_settings: The other arrays that `audit` takes: another spread, or full covariances, in place of
            `variance`, the same for held-out data (`mean_test`, …), groups and weights. Without held-out data a seeded
            fifth of the rows is held out to choose the sampler by. Also the keyword arguments of `choose_sampler`.

    Returns:
        A `FittedSampler`: `sample(n_samples, seed=0)`, `score_samples(z)`, `candidates_`, `save(path)`.

    Raises:
        DataError: Arrays that cannot be posteriors, or too few rows (the message names the array), or a keyword that is
            not known.
    """
    given = {"mean": mean, "variance": variance}
    reading = Reading(layout=layout, deterministic=deterministic)
    posteriors, settings = posteriors_of_keywords("fit_sampler", given, arrays_and_settings, FIT_SETTINGS, reading)
    return choose_sampler(posteriors, **settings)


def canonical_arrays(canonical: Canonical) -> dict[str, np.ndarray]:
    """The canonical form as arrays, in this project's words and in those of latent diffusion.

    Returns:
        shift, scale: (d,), canonical = (z − shift)·scale. latents_mean, latents_std: (d,), the same as
        (z − latents_mean)/latents_std, one entry per channel where the latent dimensions are channels. shift_factor,
        scaling_factor: (1,), one number for all dimensions together, (z − shift_factor)·scaling_factor, which has mean
        0 and variance 1 over all of them.
    """
    deviation = 1.0 / canonical.scale
    centre = canonical.shift.mean()
    spread = np.sqrt((deviation**2 + (canonical.shift - centre) ** 2).mean())
    return {
        "shift": canonical.shift,
        "scale": canonical.scale,
        "latents_mean": canonical.shift,
        "latents_std": deviation,
        "shift_factor": np.array([centre]),
        "scaling_factor": np.array([1.0 / spread]),
    }
