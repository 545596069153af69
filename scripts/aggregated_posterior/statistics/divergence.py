"""How far Q(z) is from N(0, I) in all dimensions together: what is known exactly, what is bracketed, what is certified.

    mean KL = I + KL(Q‖p),    KL(Q‖p) = TC + Σ_j KL(q_j‖p_j)        (Hoffman and Johnson 2016; Chen et al. 2018)

ln Q(z) always uses the whole mixture. Where draws of Q are needed they are spread evenly over the rows, so that a
standard error from row means covers both the draws and the finite number of data. Every estimate has to obey what holds
by arithmetic, I ≤ min(ln N, mean KL − Σ_j KL(q_j‖p_j)) and therefore TC ≥ 0 and KL ≥ 0: one that breaks it by more than
its error stops the program, one that breaks it within its error is moved to the bound.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..posterior.gauge import slack_of
from ..posterior.mixture import AggregatedPosterior, Moments
from ..streams import stream
from .fitted_mixture import ActiveMixture, fit_active_mixture

# An estimate this many standard errors on the wrong side of a bound is wrong, not unlucky.
IMPOSSIBLE = 6.0
# Multiplications of the certifying mixture's fit, about ten seconds of one core, and the fewest steps that are a fit.
FIT_WORK = 1.5e11
FEWEST_STEPS = 10
# Plain rounding, in nats, that no standard error covers.
ROUNDING = 1e-7


class ImpossibleEstimate(ArithmeticError):
    """An estimate that contradicts arithmetic: a fault of the program or of its input, never a finding."""


@dataclass(frozen=True)
class Estimate:
    """A mean over draws of Q(z), in nats, with its standard error."""

    value: float
    se: float

    @classmethod
    def of_rows(cls, values: np.ndarray, rows: int) -> Estimate:
        """From one value per draw, where draws come as repetitions of the same `rows` rows, in the same order."""
        means = values.reshape(-1, rows).mean(axis=0)
        return cls(float(means.mean()), float(means.std(ddof=1) / np.sqrt(rows)) if rows > 1 else float("nan"))


@dataclass(frozen=True)
class Draws:
    """Points z (M, d) of Q(z) and the rows (M,) that they came from: `distinct` different rows, repeated as a whole."""

    z: np.ndarray
    row: np.ndarray
    distinct: int

    def mean(self, values: np.ndarray) -> Estimate:
        """The mean of one value per point, with the standard error over rows."""
        return Estimate.of_rows(values, self.distinct)


def balanced_draws(q: AggregatedPosterior, points: int, rng: np.random.Generator) -> Draws:
    """At least `points` draws of Q(z), one from each of as many distinct rows, or equally many from every row.

    With distinct rows the draws are independent draws of the law that the rows themselves were drawn from.
    """
    if points <= q.n:
        row, distinct = np.sort(rng.permutation(q.n)[:points]), points
    else:
        row, distinct = np.tile(np.arange(q.n), -(-points // q.n)), q.n
    return Draws(q.sample_components(row, rng), row, distinct)


def mutual_information(q: AggregatedPosterior, draws: Draws, log_density: np.ndarray | None = None) -> Estimate:
    """I = E_n E_{z|n}[ln q(z|n) − ln Q(z)], nats: what z says about the data's index; at most ln N.

    The difference is averaged rather than its parts: no single term exceeds ln N, because Q(z) ≥ q(z|n)/N, and where
    components hardly overlap every term is ln N. `log_density` is ln Q at the draws where it is already known.
    """
    log_density = q.log_density(draws.z) if log_density is None else log_density
    mean, variance = q.rows(draws.row)
    own = -0.5 * ((draws.z - mean) ** 2 / variance + np.log(2 * np.pi * variance)).sum(axis=1)
    return draws.mean(own - log_density)


def feasible_information(information: Estimate, n: int, mean_kl: float, dimension_wise_kl: float) -> float:
    """The estimate of I moved into [0, min(ln N, mean KL − Σ_j KL(q_j‖p_j))], where the truth lies.

    Raises:
        ImpossibleEstimate: it lies outside by more than six standard errors, or the interval is empty.
    """
    bounds = {"ln N": float(np.log(n)), "mean KL − marginal KL": mean_kl - dimension_wise_kl}
    name, upper = min(bounds.items(), key=lambda item: item[1])
    slack = IMPOSSIBLE * np.nan_to_num(information.se) + ROUNDING * (1 + abs(mean_kl))
    if upper < -slack:
        raise ImpossibleEstimate(f"marginal KL {dimension_wise_kl:.6g} exceeds mean KL {mean_kl:.6g} nats")
    if not -slack <= information.value <= upper + slack:
        raise ImpossibleEstimate(
            f"mutual information {information.value:.6g} ± {information.se:.2g} nats is outside "
            f"[0, {name} = {upper:.6g}]"
        )
    return min(max(information.value, 0.0), max(upper, 0.0))


def refuse_upside_down(gap: float, se: float) -> None:
    """Refuse a bracket of KL(Q‖p) whose upper end lies `gap` ± `se` nats above its lower end, where that is negative.

    Raises:
        ImpossibleEstimate: the gap is negative by more than six standard errors.
    """
    if gap < -IMPOSSIBLE * np.nan_to_num(se) - ROUNDING:
        raise ImpossibleEstimate(f"the bracket is upside down by {-gap:.6g} nats")


def gaussian_part(moments: Moments, covariance: np.ndarray) -> float:
    """KL(N(m, Σ) ‖ N(0, I)) with the mean and covariance of Q(z), nats; −½ ln det R in canonical form.

    Of all laws with these two moments the Gaussian is nearest to N(0, I), so KL(Q‖p) is at least this.
    """
    deviation = np.sqrt(moments.variance)
    correlation = covariance / np.outer(deviation, deviation)
    return float(slack_of(moments).sum() - 0.5 * np.linalg.slogdet(correlation)[1])


def certified_gaussian(centre: np.ndarray, covariance: np.ndarray, test: AggregatedPosterior) -> Estimate:
    """Lower bound of KL(Q‖p): E_{Q_test}[ln r − ln p] for r = N(`centre`, `covariance`), (d,) and (d, d), nats.

    Valid for every normalised r fitted without the test rows, because E_Q ln(r/p) = KL(Q‖p) − KL(Q‖r); the moments of
    Q_train give the best Gaussian. The expectation given a row is closed form, so the standard error is of the finite
    number of test rows only.
    """
    precision = np.linalg.inv(covariance)
    log_determinant = np.linalg.slogdet(covariance)[1]
    values = np.empty(test.n)
    for start, (mean, variance) in test.blocks():
        u = mean - centre
        quadratic = np.einsum("ij,ij->i", u @ precision, u) + variance @ np.diag(precision)
        own = np.einsum("ij,ij->i", mean, mean) + variance.sum(axis=1)
        values[start : start + len(mean)] = 0.5 * (own - quadratic - log_determinant)
    return Estimate.of_rows(values, test.n)


def fit_certifying_mixture(
    train: AggregatedPosterior,
    n_components: int,
    points: int,
    active_threshold: float,
    seed: int,
    kl: np.ndarray | None = None,
) -> ActiveMixture:
    """The mixture r of the certified bound E_{Q_test}[ln r − ln p] ≤ KL(Q‖p), fitted on `points` draws of Q_train.

    Any normalised density that has not seen the test rows gives a valid bound; this one is good enough to be a tight
    one. `n_components` is capped at one per 20 points, and covariances are diagonal where d is so large that full ones
    would take minutes. `kl` is the mean KL of `train`, (d,), where known.
    """
    z = balanced_draws(train, points, stream(seed, "certifying mixture", "draws")).z
    n_components = max(1, min(n_components, points // 20))
    step = z.size * z.shape[1] * n_components
    # Small problems can afford several starts, and need them: with few components a start is easily a bad one.
    starts = int(np.clip(3e7 / step, 1, 5))
    # Full covariances in hundreds of dimensions cost d² a point and component: then fewer steps, then diagonal ones.
    full = FEWEST_STEPS * step <= FIT_WORK
    return fit_active_mixture(
        train, z, n_components, stream(seed, "certifying mixture", "starts"), active_threshold, kl,
        covariance="full" if full else "diag",
        iterations=int(np.clip(FIT_WORK // step, FEWEST_STEPS, 100)),
        smallest_gain=1e-3,
        starts=starts,
        must_converge=False,  # the bound holds for any mixture
    )  # fmt: skip
