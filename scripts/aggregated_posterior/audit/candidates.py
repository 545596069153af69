"""What to sample instead of the prior: densities fitted on one part of the rows and compared on the other.

For every normalised density r that has not seen the held-out rows, E_{Q_test}[ln r − ln p] ≤ KL(Q‖p) − KL(Q‖r): what r
gains over the prior p is both what it buys as a sampler and a certified lower bound of how far Q is from p.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..posterior.mixture import AggregatedPosterior, normal_log_pdf
from ..statistics.clusters import GroupedMean, grouped_mean
from ..statistics.fitted_mixture import ActiveMixture, ConvergenceWarning, NormalMixture, fit_normal_mixture
from ..streams import stream

PRIOR, RESCALED, NORMAL = "prior", "rescaled prior", "normal"
# Numbers of components that are tried, in this order.
COMPONENTS = (2, 4, 10, 30, 100)
# Rows (groups) per component that a mixture takes at least, so that components are not single rows.
ROWS_PER_COMPONENT = 10
# Full covariances are tried only where each has this many rows per dimension in all.
ROWS_PER_DIMENSION = 2
# Numbers (draws × dimensions) that a mixture is fitted to at most, and those up to which it has several starts.
FIT_NUMBERS, SEVERAL_STARTS = 4_000_000, 100_000
# More components have to gain this many nats at once, or no larger number is tried.
WORTHWHILE = 0.02


@dataclass(frozen=True)
class Candidate:
    """A density on the canonical latent space, what it gains over the raw prior on held-out rows, and how simple it is.

    gain: E_{Q_test}[ln r − ln p], nats. values: the same per held-out draw. law: None for the prior itself and for the
    prior after rescaling.
    """

    name: str
    parameters: int
    gain: GroupedMean
    values: np.ndarray
    law: ActiveMixture | None


def compare_candidates(
    train: AggregatedPosterior, held_out: np.ndarray, groups: np.ndarray, log_prior: np.ndarray, log_determinant: float,
    active: np.ndarray, train_groups: int, most_components: int, fit_points: int, seed: int,
) -> list[Candidate]:  # fmt: skip
    """All candidates, simplest first.

    Args:
        train: Canonical Q of the rows to fit.
        held_out: Canonical draws of held-out rows (M, d), with their `groups` (M,).
        log_prior: ln p at the same draws, by raw volume.
        log_determinant: ln density by raw volume less that by canonical volume.
        active: Active dimensions (d,) booleans; the others stay at N(0, 1).
        train_groups: Independent groups among the rows to fit.
        most_components, fit_points, seed: Of the mixtures.
    """
    rescaled = normal_log_pdf(held_out) + log_determinant - log_prior
    nothing = np.zeros(len(held_out))
    candidates = [
        Candidate(PRIOR, 0, grouped_mean(nothing, groups), nothing, None),
        Candidate(RESCALED, 2 * train.latent_dim, grouped_mean(rescaled, groups), rescaled, None),
    ]
    chosen = np.flatnonzero(active)
    fit_points = max(min(fit_points, 2000), min(fit_points, FIT_NUMBERS // train.latent_dim))
    if not len(chosen):
        return candidates
    index = np.tile(np.arange(train.n), -(-fit_points // train.n))[:fit_points]
    if fit_points < train.n:
        index = np.sort(stream(seed, "audit", "rows to fit").permutation(train.n)[:fit_points])
    points = train.sample_components(index, stream(seed, "audit", "points to fit"))[:, chosen]
    best: dict[str, float] = {}
    stopped: set[str] = set()
    for components, covariance in _plan(train_groups, len(chosen), min(most_components, fit_points // 20)):
        if covariance in stopped:
            continue
        rng = stream(seed, "audit", "mixture", components, covariance)
        settings = {
            "starts": 3 if components * points.size <= 16 * SEVERAL_STARTS else 1,
            "smallest_gain": 2e-3,
            "iterations": 60,
        }
        with warnings.catch_warnings():  # a candidate need not be the best of its kind
            warnings.simplefilter("ignore", ConvergenceWarning)
            mixture = fit_normal_mixture(points, components, rng, covariance, **settings)
        law = ActiveMixture(train.latent_dim, chosen, mixture)
        values = law.score_samples(held_out) + log_determinant - log_prior
        gain = grouped_mean(values, groups)
        shape = "diagonal" if covariance == "diag" else "full"
        name = NORMAL if components == 1 else f"mixture of {components}, {shape}"
        candidates.append(Candidate(name, _parameters(mixture), gain, values, law))
        if gain.value < best.get(covariance, -np.inf) + WORTHWHILE:
            stopped.add(covariance)
        best[covariance] = max(gain.value, best.get(covariance, -np.inf))
    return sorted(candidates, key=lambda candidate: candidate.parameters)


def best_of(candidates: list[Candidate], groups: np.ndarray) -> Candidate:
    """The simplest candidate within one standard error of the one that gains most.

    The error is that of the difference on the same draws, which is much smaller than that of either.
    """
    top = max(candidates, key=lambda candidate: candidate.gain.value)
    for candidate in candidates:
        difference = grouped_mean(top.values - candidate.values, groups)
        if difference.value <= (difference.se if np.isfinite(difference.se) else 0.0):
            return candidate
    return top


def _plan(rows: int, dimensions: int, most: int) -> Iterator[tuple[int, str]]:
    if rows >= ROWS_PER_DIMENSION * dimensions:
        yield 1, "full"
    for components in sorted({k for k in (*COMPONENTS, most) if 1 < k <= most}):
        if components * ROWS_PER_COMPONENT <= rows:
            yield components, "diag"
            if components * dimensions * ROWS_PER_DIMENSION <= rows:
                yield components, "full"


def _parameters(mixture: NormalMixture) -> int:
    k, d = mixture.means.shape
    return k - 1 + k * d + k * (d if mixture.factors.ndim == 2 else d * (d + 1) // 2)
