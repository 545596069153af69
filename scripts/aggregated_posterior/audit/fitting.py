"""From arrays to a sampler: the door of `generation.chosen_sampler` for posteriors that somebody else made."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..generation.chosen_sampler import FittedSampler, choose_sampler
from ..posterior.containers import as_array
from ..posterior.foreign_files import posteriors_from_arrays
from ..posterior.gauge import Canonical


def fit_sampler(
    mean: Any,
    variance: Any = None,
    *,
    log_variance: Any = None,
    std: Any = None,
    mean_test: Any = None,
    variance_test: Any = None,
    log_variance_test: Any = None,
    std_test: Any = None,
    **settings: Any,
) -> FittedSampler:
    """Fit the best sampler for the posteriors of any VAE with diagonal Gaussian posteriors.

    Args:
        mean: (N, d) posterior means: a NumPy array, or a tensor of any library that NumPy can read.
        variance, log_variance, std: (N, d) each; exactly one of the three.
        mean_test, variance_test, log_variance_test, std_test: the same for held-out data. Without them a seeded fifth
            of the rows is held out to choose the sampler by.
        settings: Keyword arguments of `choose_sampler`.

    Returns:
        A `FittedSampler`: `sample(n_samples, seed=0)`, `score_samples(z)`, `candidates_`, `save(path)`.

    Raises:
        DataError: Arrays that cannot be posteriors, or too few rows; the message names the array.
    """
    given = {
        "mean": mean, "variance": variance, "log_variance": log_variance, "std": std, "mean_test": mean_test,
        "variance_test": variance_test, "log_variance_test": log_variance_test, "std_test": std_test,
    }  # fmt: skip
    arrays = {name: as_array(value, name) for name, value in given.items() if value is not None}
    return choose_sampler(posteriors_from_arrays(arrays), **settings)


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
