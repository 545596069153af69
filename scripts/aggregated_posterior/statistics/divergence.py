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

from ..posterior.gauge import Canonical, canonical_form, slack_of
from ..posterior.mixture import AggregatedPosterior, normal_log_pdf
from .fitted_mixture import ActiveMixture, fit_active_mixture
from .joint_shape import mardia_kurtosis, mardia_skewness, maximum_mean_discrepancy
from .marginals import Marginals

# An estimate this many standard errors on the wrong side of a bound is wrong, not unlucky.
IMPOSSIBLE = 6.0
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
    mean = np.asarray(q.mean[draws.row], dtype=np.float64)
    variance = np.asarray(q.variance[draws.row], dtype=np.float64)
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


def gaussian_part(q: AggregatedPosterior) -> float:
    """KL(N(m, Σ) ‖ N(0, I)) with the mean and covariance of Q(z), nats; −½ ln det R in canonical form.

    Of all laws with these two moments the Gaussian is nearest to N(0, I), so KL(Q‖p) is at least this.
    """
    moments = q.moments()
    deviation = np.sqrt(moments.variance)
    correlation = q.covariance() / np.outer(deviation, deviation)
    return float(slack_of(moments).sum() - 0.5 * np.linalg.slogdet(correlation)[1])


def certified_gaussian(train: AggregatedPosterior, test: AggregatedPosterior) -> Estimate:
    """Lower bound of KL(Q‖p): E_{Q_test}[ln r − ln p] for r the Gaussian with the moments of Q_train, nats.

    Valid for every normalised r fitted without the test rows, because E_Q ln(r/p) = KL(Q‖p) − KL(Q‖r). For a Gaussian
    the expectation given a row is closed form, so the standard error is of the finite number of test rows only.
    """
    covariance = train.covariance()
    precision = np.linalg.inv(covariance)
    centre = train.moments().mean
    log_determinant = np.linalg.slogdet(covariance)[1]
    values = np.empty(test.n)
    for start, (mean, variance) in test.blocks():
        u = mean - centre
        quadratic = np.einsum("ij,ij->i", u @ precision, u) + variance @ np.diag(precision)
        own = np.einsum("ij,ij->i", mean, mean) + variance.sum(axis=1)
        values[start : start + len(mean)] = 0.5 * (own - quadratic - log_determinant)
    return Estimate.of_rows(values, test.n)


def fit_certifying_mixture(
    train: AggregatedPosterior, components: int, points: int, active_threshold: float, seed: int
) -> ActiveMixture:
    """The mixture r of the certified bound E_{Q_test}[ln r − ln p] ≤ KL(Q‖p), fitted on `points` draws of Q_train.

    Any normalised density that has not seen the test rows gives a valid bound; this one is good enough to be a tight
    one. `components` is capped at one per 20 points.
    """
    z = balanced_draws(train, points, np.random.default_rng(seed)).z
    components = max(1, min(components, points // 20))
    # Small problems can afford several starts, and need them: with few components a start is easily a bad one.
    starts = int(np.clip(3e7 / (z.size * z.shape[1] * components), 1, 5))
    settings = {"iterations": 100, "smallest_gain": 1e-3, "starts": starts}
    return fit_active_mixture(train, z, components, np.random.default_rng([seed, 3]), active_threshold, **settings)


def measure_joint(
    train: AggregatedPosterior,
    test: AggregatedPosterior | None,
    canonical: Canonical | None = None,
    *,
    points: int = 2000,
    gmm_components: int = 10,
    fit_points: int = 20_000,
    active_threshold: float = 0.05,
    seed: int = 0,
) -> list[dict[str, object]]:
    """Everything about the joint law, one row for raw and one for canonical form (nats; see the module's docstring).

    Information, total correlation and densities of draws are computed once, in canonical form: an affine change of the
    latent dimensions leaves the first two alone and moves ln Q by a constant.

    Arguments:
        train, test: raw posteriors; without `test` what needs it is None (bracket, certified bounds).
        points: draws at which ln Q is evaluated. gmm_components, fit_points: of the certified bound's mixture, capped
            at one component per 20 points. active_threshold: nats, for the count of active dimensions.

    Returns:
        Two dicts with the same keys. `mutual_information_raw` is the estimate before it is moved to a bound.

    Raises:
        ImpossibleEstimate: an estimate contradicts arithmetic by more than its error.
    """
    rng = np.random.default_rng(seed)
    canonical = canonical_form(train) if canonical is None else canonical
    inner = train.affine(canonical.shift, canonical.scale)
    dimension_wise = float(Marginals(inner).distances().kl.sum())
    draws = balanced_draws(inner, points, rng)
    raw_information = mutual_information(inner, draws)
    mean_kl = float(inner.kl().sum())
    information = feasible_information(raw_information, train.n, mean_kl, dimension_wise)
    shared = {
        "n_train": train.n,
        "n_test": None if test is None else test.n,
        "mutual_information": information,
        "mutual_information_se": raw_information.se,
        "mutual_information_raw": raw_information.value,
        "total_correlation": max(mean_kl - information - dimension_wise, 0.0),
        "log_n": float(np.log(train.n)),
        "active_dimensions": int((train.kl() > active_threshold).sum()),
        "mardia_kurtosis": mardia_kurtosis(inner),
        "mardia_kurtosis_normal": float(train.latent_dim * (train.latent_dim + 2)),
        "mardia_skewness": mardia_skewness(inner),
    }
    held_out = (
        None
        if test is None
        else _HeldOut.measure(inner, test, canonical, points, gmm_components, fit_points, active_threshold, seed)
    )
    rows = []
    for form, q in (("raw", train), ("canonical", inner)):
        log_determinant = canonical.log_determinant if form == "raw" else 0.0
        kl = float(q.kl().sum())
        # The marginals' KL in raw form is the canonical one plus the slack that was taken out.
        marginal = dimension_wise + (float(slack_of(q.moments()).sum()) if form == "raw" else 0.0)
        row = {
            "form": form,
            **shared,
            "mean_kl": kl,
            "dimension_wise_kl": marginal,
            "kl_in_sample": marginal + shared["total_correlation"],
            "gaussian_part": gaussian_part(q),
            "mmd": maximum_mean_discrepancy(q, np.random.default_rng(seed)),
        }
        row |= _HeldOut.empty() if held_out is None else held_out.row(q, test, canonical, form, log_determinant)
        row["gmm_components"] = None if held_out is None else held_out.components
        rows.append(row)
    return rows


@dataclass(frozen=True)
class _HeldOut:
    """Draws of the canonical Q_test with the three log densities there."""

    draws: Draws
    log_train: np.ndarray
    log_test: np.ndarray
    many: Draws
    log_gmm: np.ndarray
    components: int

    @classmethod
    def measure(
        cls, train: AggregatedPosterior, test: AggregatedPosterior, canonical: Canonical,
        points: int, components: int, fit_points: int, active_threshold: float, seed: int,
    ) -> _HeldOut:  # fmt: skip
        inner = test.affine(canonical.shift, canonical.scale)
        rng = np.random.default_rng([seed, 1])
        draws = balanced_draws(inner, points, rng)
        # The mixture's density is cheap, so its bound can afford more draws than ln Q.
        many = balanced_draws(inner, max(points, min(inner.n, fit_points)), rng)
        model = fit_certifying_mixture(train, components, fit_points, active_threshold, seed)
        return cls(
            draws, train.log_density(draws.z), inner.log_density(draws.z),
            many, model.score_samples(many.z), model.n_components,
        )  # fmt: skip

    @staticmethod
    def empty() -> dict[str, object]:
        names = ("bracket_low", "bracket_high", "certified_gaussian", "certified_gmm")
        row: dict[str, object] = {name + end: None for name in names for end in ("", "_se")}
        return row | {"mean_kl_test": None, "identified": None}

    def row(
        self, train: AggregatedPosterior, raw_test: AggregatedPosterior, canonical: Canonical,
        form: str, log_determinant: float,
    ) -> dict[str, object]:  # fmt: skip
        test = raw_test if form == "raw" else raw_test.affine(canonical.shift, canonical.scale)

        def log_prior(draws: Draws) -> np.ndarray:
            return normal_log_pdf(canonical.invert(draws.z) if form == "raw" else draws.z) - log_determinant

        prior = log_prior(self.draws)
        low, high = self.draws.mean(self.log_train - prior), self.draws.mean(self.log_test - prior)
        gap = self.draws.mean(self.log_test - self.log_train)
        if gap.value < -IMPOSSIBLE * np.nan_to_num(gap.se) - ROUNDING:
            raise ImpossibleEstimate(
                f"the bracket is upside down: held-out {low.value:.6g} > in-sample {high.value:.6g} nats, form {form}"
            )
        estimates = {
            "bracket_low": low,
            "bracket_high": Estimate(max(high.value, low.value), high.se),
            "certified_gaussian": certified_gaussian(train, test),
            "certified_gmm": self.many.mean(self.log_gmm - log_prior(self.many)),
        }
        row: dict[str, object] = {"mean_kl_test": float(test.kl().sum()), "identified": gap.value < 1.0}
        for name, estimate in estimates.items():
            row |= {name: estimate.value, f"{name}_se": estimate.se}
        return row
