"""A prior of the user's own in place of N(0, I): a mixture (VampPrior: of pseudo-inputs' posteriors), or draws."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..generation.chosen_sampler import Comparison
from ..posterior.containers import as_array, read_named_arrays
from ..posterior.foreign_files import SPREADS, as_variance, meaning
from ..posterior.mixture import LARGEST_MEAN, LARGEST_VARIANCE, SMALLEST_VARIANCE
from ..statistics.clusters import grouped_mean, least_total_variation
from ..statistics.fitted_mixture import ConvergenceWarning, NormalMixture, fit_normal_mixture
from ..storage import DataError
from ..streams import stream

# Covariances are symmetric to this share of their largest entry.
SAME = 1e-4
# Components of the density that stands for a prior known by its draws.
FITTED_COMPONENTS = 20
FEWEST_DRAWS = 10
# What a prior may have, in the words for posteriors (see `foreign_files.ALIASES`), and what it is advised to have.
PARTS = ("mean", *SPREADS, "covariance", "weights", "draws")
NAMES = ("means", "variances", "covariances", "weights", "draws")


@dataclass(frozen=True)
class OwnPrior:
    """The prior as a mixture, or as draws (M, d) of it; one of the two is None."""

    law: NormalMixture | None
    draws: np.ndarray | None

    @property
    def description(self) -> str:
        """In words."""
        return f"{len(self.draws):,} draws" if self.law is None else f"a mixture of {self.law.n_components}"

    def compared_with_nothing(self) -> dict[str, Any]:
        """What `compare_with_own` gives where no rows could be held out."""
        return {"description": self.description, "certified": None, "gain": None, "gain_se": None, "misses": None}


def as_prior(value: Any, latent_dim: int) -> OwnPrior:
    """A prior from draws (M, d), from a mapping (see `audit`), or from a file that holds such arrays.

    Raises:
        DataError: Parts that are not known or given twice over, shapes that do not fit, weights that are no weights,
            covariances that are none.
    """
    if isinstance(value, str | Path):
        value = _of_file(value)
    if not isinstance(value, Mapping):
        return OwnPrior(None, _draws(_numbers(value, "prior"), latent_dim, "prior"))
    names = _sorted_out(value)
    arrays = {part: _numbers(value[name], f"prior {name}") for part, name in names.items()}
    for part, array in arrays.items():
        if not np.isfinite(array).all():
            raise DataError(f"prior {names[part]}: holds NaN or infinity")
    if "draws" in arrays:
        if others := sorted({*names.values()} - {"draws"}):
            raise DataError(f"prior: draws and {', '.join(others)} are both given; keep the draws or the mixture")
        return OwnPrior(None, _draws(arrays["draws"], latent_dim, "prior draws"))
    spreads = [part for part in arrays if part in SPREADS or part == "covariance"]
    if "mean" not in arrays or len(spreads) != 1:
        raise DataError(
            "prior: give draws (M, d), or means (K, d) with one of variances (K, d) and covariances (K, d, d)"
        )
    means = _of_width(arrays["mean"], latent_dim, f"prior {names['mean']}")
    weights = arrays.get("weights", np.full(len(means), 1 / len(means)))
    if weights.shape != (len(means),) or not np.isfinite(weights).all() or weights.min() < 0 or weights.max() <= 0:
        raise DataError(f"prior weights: expected {len(means)} numbers, none negative and not all 0")
    weights = weights / weights.max()  # so that their sum is finite
    (kind,) = spreads
    full, name = kind == "covariance", f"prior {names[kind]}"
    spread = arrays[kind] if full else as_variance(arrays[kind], kind, name)
    shape = (*means.shape, latent_dim) if full else means.shape
    if spread.shape != shape:
        raise DataError(f"{name}: has shape {spread.shape}, expected {shape}")
    variances = np.diagonal(spread, axis1=1, axis2=2) if full else spread
    if variances.min() < SMALLEST_VARIANCE or variances.max() > LARGEST_VARIANCE:
        raise DataError(f"{name}: variances must lie between {SMALLEST_VARIANCE:g} and {LARGEST_VARIANCE:g}")
    if full and (np.abs(spread - spread.transpose(0, 2, 1)) > SAME * np.abs(spread).max()).any():
        raise DataError(f"{name}: one is not symmetric")
    try:
        factors = np.linalg.cholesky(spread) if full else np.sqrt(spread)
    except np.linalg.LinAlgError:
        raise DataError(f"{name}: one is not positive definite") from None
    return OwnPrior(NormalMixture(weights / weights.sum(), means, factors), None)


def _of_file(path: str | Path) -> Any:
    """The draws of an `.npy` file, whatever it is called; the named arrays of any other, None for an unknown one."""
    if not str(path):  # an unset variable; Path takes it for the working folder
        raise DataError("prior: the file's name is empty; name a file")
    path = Path(path)
    if path.suffix.lower() == ".npy" and not path.is_dir():
        return next(iter(read_named_arrays(path, lambda _: True)[0].values()))
    arrays, available = read_named_arrays(path, lambda name: _part(name) is not None)
    return dict.fromkeys(available) | arrays


def _part(name: object) -> str | None:
    """What an array of a prior is by its name, one of `PARTS`; None for an unknown name."""
    base, split, level = meaning(str(name)) or (name, "train", "")
    return base if base in PARTS and split == "train" and not level else None


def _sorted_out(value: Mapping) -> dict[str, str]:
    """Part → name of what is given. What is not known may be weights by another name, and is never left out."""
    names: dict[str, str] = {}
    for name, array in value.items():
        part = _part(name)
        if part is None:
            raise DataError(f"prior: has no part {name}; it may have {', '.join(NAMES)}; rename it or leave it out")
        if array is not None and part in names:
            raise DataError(f"prior: {names[part]} and {name} are both given; keep one of them")
        if array is not None:
            names[part] = name
    return names


def compare_with_own(prior: OwnPrior, found: Comparison, level: float, seed: int) -> dict[str, Any]:
    """How far Q is from the prior, by the held-out draws and the densities of a comparison of samplers.

    Returns:
        description; `certified`, a lower limit of KL(Q‖prior) in nats, with `gain` and `gain_se` of the best candidate
        over the prior (None where only draws of the prior are known); `misses`, the share of the prior's draws that
        certainly fall where Q does not.
    """
    law, draws = prior.law, prior.draws
    if law is None:
        # One half stands for the density that draws the region, the other half is counted in it.
        order = stream(seed, "audit", "own prior").permutation(len(draws))
        fitted, draws = draws[order[: len(draws) // 2]], draws[order[len(draws) // 2 :]]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            components = max(1, min(FITTED_COMPONENTS, len(fitted) // 50))
            density = fit_normal_mixture(fitted, components, stream(seed, "audit", "own prior's density"))
    else:
        density, draws = law, law.sample(len(found.z), stream(seed, "audit", "own prior's draws"))
    log_own = density.score_samples(found.z)
    result = prior.compared_with_nothing()
    if law is not None:
        gains = {kind: grouped_mean(values - log_own, found.groups) for kind, values in found.log_densities.items()}
        result["certified"] = max(0.0, *(gain.low(level) for gain in gains.values()))
        result |= {"gain": gains[found.chosen].value, "gain_se": gains[found.chosen].se}
    held = found.log_densities[found.chosen] > log_own
    inside = found.laws[found.chosen].score_samples(draws) > density.score_samples(draws)
    return result | {"misses": least_total_variation(held, found.groups, inside, level)}


def _numbers(value: Any, name: str) -> np.ndarray:
    array = as_array(value, name)
    if array.dtype.kind not in "biuf":
        raise DataError(f"{name}: has type {array.dtype}, expected numbers")
    return array.astype(np.float64)


def _draws(array: np.ndarray, latent_dim: int, name: str) -> np.ndarray:
    draws = _of_width(array, latent_dim, name)
    if len(draws) < 4 * max(FEWEST_DRAWS, latent_dim):
        raise DataError(f"{name}: {len(draws)} are too few; give at least {4 * max(FEWEST_DRAWS, latent_dim)}")
    if not draws.std(axis=0).all():
        raise DataError(f"{name}: dimension {int(draws.std(axis=0).argmin())} is the same in all; a density needs more")
    return draws


def _of_width(array: np.ndarray, latent_dim: int, name: str) -> np.ndarray:
    if array.ndim != 2 or array.shape[1] != latent_dim or len(array) == 0:
        raise DataError(f"{name}: has shape {array.shape}, expected (M, {latent_dim})")
    if not (np.abs(array) <= LARGEST_MEAN).all():
        raise DataError(f"{name}: holds NaN, infinity, or numbers beyond {LARGEST_MEAN:g}")
    return array
