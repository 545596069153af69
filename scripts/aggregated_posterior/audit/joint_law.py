"""The joint law of an audit: what the rows show by themselves, what held-out rows certify, and what would be bought.

The estimators are those of `statistics.divergence`; here every error is one over independent groups of rows, and the
certified bounds are those of all candidate densities (see `candidates`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ..posterior.exchangeable import Split
from ..posterior.gauge import Canonical, canonical_form
from ..posterior.mixture import AggregatedPosterior, normal_log_pdf
from ..posterior.other_laws import Codes, FullCovariance
from ..statistics.clusters import GroupedMean, grouped_mean
from ..statistics.divergence import (
    IMPOSSIBLE,
    ROUNDING,
    Draws,
    ImpossibleEstimate,
    balanced_draws,
    feasible_information,
    gaussian_part,
    mutual_information,
)  # fmt: skip
from ..statistics.joint_shape import mardia_kurtosis, mardia_skewness, maximum_mean_discrepancy
from ..statistics.portrait import Law
from ..streams import stream
from .candidates import NORMAL, PRIOR, RESCALED, Candidate, best_of, compare_candidates
from .own_prior import OwnPrior, compare_with_own
from .plan import Plan

# Spikes without overlap would give infinity, which JSON lacks.
LARGEST_GRAIN = 1e6
LEVEL = 0.05


@dataclass(frozen=True)
class JointLaw:
    """rows: the estimators, raw and canonical form. candidates: what each density buys, nats.

    certified: lower limit (95 %, for all candidates together) of KL(Q‖N(0, I)) in canonical form, −∞ where none is.
    prior_misses: shares of the prior's draws that certainly fall where Q does not, raw and canonical. grain: how much
    of the marginals' KL the rows make; None where nothing could be held out. groups_held_out: independent groups among
    the held-out draws. upper: upper limit of the same KL. certified_raw: lower limit of KL(Q‖N(0, I)) in raw form, or
    None. own_prior: what was found of a prior of the user's own.
    """

    rows: list[dict[str, Any]]
    candidates: pd.DataFrame
    best: str | None
    certified: float
    prior_misses: tuple[float | None, float | None]
    grain: float | None
    groups_held_out: int
    upper: float
    certified_raw: float | None = None
    own_prior: dict[str, Any] | None = None

    @classmethod
    def none(cls) -> JointLaw:
        """Where there is no joint law."""
        return cls([], pd.DataFrame(columns=_COLUMNS), None, -np.inf, (None, None), None, 0, np.inf)


def measure_joint_law(
    split: Split, plan: Plan, active: np.ndarray, most_components: int, fit_points: int,
    own_prior: OwnPrior | None, seed: int,
) -> JointLaw:  # fmt: skip
    """Everything about the joint law of rows to fit and rows held out."""
    raw = Law(split.train)
    canonical = canonical_form(split.train, raw.moments)
    inner = Law.of(raw, canonical)
    rows = _in_sample(split, raw, inner, plan, seed)
    groups = len(np.unique(split.groups_train))
    if split.test is None:
        for row in rows:
            row |= _EMPTY
        return JointLaw(rows, pd.DataFrame(columns=_COLUMNS), None, -np.inf, (None, None), None, 0, np.inf)
    test = Law.of(Law(split.test), canonical)
    draws = _held_out_draws(test.q, min(max(test.q.n, plan.points), max(fit_points, plan.points)), seed)
    groups_drawn = split.groups_test[draws.row]
    log_prior = normal_log_pdf(canonical.invert(draws.z))
    candidates = compare_candidates(
        inner.q, draws.z, groups_drawn, log_prior, canonical.log_determinant, active, groups,
        min(most_components, max(1, groups)), fit_points, seed,
    )  # fmt: skip
    best = best_of(candidates, groups_drawn)
    level = LEVEL / (len(candidates) + 1)
    # In canonical form the prior is the second candidate: gains over it.
    over = [grouped_mean(c.values - candidates[1].values, groups_drawn) for c in candidates[1:]]
    limits = [gain.low(level) for gain in over[1:]]
    bracket = _bracket(split, inner.q, test.q, canonical, plan, seed) if plan.bracket else None
    for row in rows:
        is_raw = row["form"] == "raw"
        own = _EMPTY | {"mean_kl_test": float((test.raw if is_raw else test).kl.sum())}
        # Over the prior of this form: the raw prior is the first candidate, the canonical one the second.
        gains = [c.gain for c in candidates] if is_raw else [over[0], *over]
        for name, kind in (("certified_gaussian", NORMAL), ("certified_gmm", "mixture")):
            of_kind = [g for c, g in zip(candidates, gains, strict=True) if c.name.startswith(kind)]
            if of_kind:
                top = max(of_kind, key=lambda gain: gain.value)
                own |= {name: top.value, f"{name}_se": top.se}
        mixtures = [c for c in candidates if c.law is not None]
        own["gmm_components"] = max(mixtures, key=lambda c: c.gain.value).law.n_components if mixtures else None
        if bracket is not None:
            low, high, gap = bracket["raw" if is_raw else "canonical"]
            own |= {"bracket_low": low.value, "bracket_low_se": low.se, "identified": gap.value < 1.0}
            own |= {"bracket_high": max(high.value, low.value), "bracket_high_se": high.se}
        row |= own
    upper = np.inf
    if bracket is not None:
        limits.append(bracket["canonical"][0].low(level))
        upper = bracket["canonical"][1].high(LEVEL)
    table = pd.DataFrame(
        [[c.name, c.parameters, c.gain.value, c.gain.se, c.gain.low(level), c is best] for c in candidates],
        columns=_COLUMNS,
    )
    misses = _missed(candidates, best, draws.z, groups_drawn, log_prior, canonical, level, seed)
    grain = None if isinstance(raw.q, Codes) else _grain(inner, test, plan, seed)
    count = len(np.unique(groups_drawn))
    certified_raw = max(0.0, *(c.gain.low(level) for c in candidates))
    if bracket is not None:
        certified_raw = max(certified_raw, bracket["raw"][0].low(level))
    own = None
    if own_prior is not None:
        own = compare_with_own(own_prior, candidates, best, canonical, draws.z, groups_drawn, log_prior, level, seed)
    return JointLaw(
        rows, table, best.name, max(limits, default=-np.inf), misses, grain, count, upper, certified_raw, own
    )


_COLUMNS = ["candidate", "parameters", "gain", "gain_se", "gain_low", "chosen"]
_EMPTY: dict[str, Any] = {
    name + end: None
    for name in ("bracket_low", "bracket_high", "certified_gaussian", "certified_gmm")
    for end in ("", "_se")
} | {"mean_kl_test": None, "identified": None, "gmm_components": None}


def measure_scale(split: Split) -> JointLaw:
    """Where there is no joint law: what rescaling gains on held-out rows, in closed form.

    Given a row, E[ln N(z; m, V) − ln N(z; 0, 1)] = ½ (E z² − E(z − m)²/V − ln V), summed over dimensions.
    """
    if split.test is None:
        return JointLaw.none()
    canonical = canonical_form(split.train)
    inner = split.test.affine(canonical.shift, canonical.scale)
    values = 0.5 * (_second_moment(split.test) - _second_moment(inner)) + canonical.log_determinant
    gain = grouped_mean(values, split.groups_test)
    low = gain.low(LEVEL)
    rows = [[PRIOR, 0, 0.0, 0.0, 0.0, low <= 0], [RESCALED, 2 * inner.latent_dim, gain.value, gain.se, low, low > 0]]
    table = pd.DataFrame(rows, columns=_COLUMNS)
    best = RESCALED if low > 0 else PRIOR
    return replace(JointLaw.none(), candidates=table, best=best, certified_raw=max(0.0, low))


def _second_moment(q: AggregatedPosterior) -> np.ndarray:
    """Σ_j E[z_j²|n] for each row, (N,)."""
    return np.concatenate([(mean * mean + variance).sum(axis=1) for _, (mean, variance) in q.blocks()])


def _in_sample(split: Split, raw: Law, inner: Law, plan: Plan, seed: int) -> list[dict[str, Any]]:
    full = isinstance(raw.q, FullCovariance)
    latent_dim = raw.q.latent_dim
    with_skewness = plan.skewness and not full
    shared: dict[str, Any] = {
        "n_train": raw.q.n,
        "n_test": None if split.test is None else split.test.n,
        "log_n": float(np.log(len(np.unique(split.groups_train)))),
        "mardia_kurtosis": None if full else mardia_kurtosis(inner.q, inner.moments, inner.covariance),
        "mardia_kurtosis_normal": float(latent_dim * (latent_dim + 2)),
        "mardia_skewness": mardia_skewness(inner.q, inner.moments, inner.covariance) if with_skewness else None,
    }
    names = ("mutual_information", "mutual_information_se", "mutual_information_raw", "total_correlation")
    shared |= dict.fromkeys(names)
    dimension_wise = None
    if plan.bracket:
        dimension_wise = float(inner.distances.kl.sum())
        estimate = mutual_information(
            inner.q, balanced_draws(inner.q, plan.points, stream(seed, "audit", "information"))
        )
        mean_kl = float(inner.kl.sum())
        information = feasible_information(estimate, raw.q.n, mean_kl, dimension_wise)
        correlation = max(mean_kl - information - dimension_wise, 0.0)
        shared |= dict(zip(names, (information, estimate.se, estimate.value, correlation), strict=True))
    rows = []
    for form, law in (("raw", raw), ("canonical", inner)):
        marginal = None
        if dimension_wise is not None:
            # The marginals' KL in raw form is the canonical one plus the slack that was taken out.
            marginal = dimension_wise + (float(law.slack.sum()) if form == "raw" else 0.0)
        rows.append(
            {
                "form": form,
                **shared,
                "mean_kl": float(law.kl.sum()),
                "dimension_wise_kl": marginal,
                "kl_in_sample": None if marginal is None else marginal + shared["total_correlation"],
                "gaussian_part": gaussian_part(law.moments, law.covariance),
                "mmd": None if full else maximum_mean_discrepancy(law.q, stream(seed, "audit", "mmd")),
            }
        )
    return rows


def _held_out_draws(test: AggregatedPosterior, points: int, seed: int) -> Draws:
    return balanced_draws(test, points, stream(seed, "audit", "held-out draws"))


def _bracket(
    split: Split, inner: AggregatedPosterior, test: AggregatedPosterior, canonical: Canonical, plan: Plan, seed: int
) -> dict[str, tuple[GroupedMean, GroupedMean, GroupedMean]]:
    """E_{Q_test}[ln Q_train − ln p] ≤ KL(Q‖p) ≤ E_{Q_test}[ln Q_test − ln p], and their gap, by form."""
    draws = _held_out_draws(test, plan.points, seed)
    groups = split.groups_test[draws.row]
    log_train, log_test = inner.log_density(draws.z), test.log_density(draws.z)
    gap = grouped_mean(log_test - log_train, groups)
    if gap.value < -IMPOSSIBLE * np.nan_to_num(gap.se) - ROUNDING:
        raise ImpossibleEstimate(f"the bracket is upside down by {-gap.value:.6g} nats")
    priors = {
        "raw": normal_log_pdf(canonical.invert(draws.z)) - canonical.log_determinant,
        "canonical": normal_log_pdf(draws.z),
    }
    return {
        form: (grouped_mean(log_train - prior, groups), grouped_mean(log_test - prior, groups), gap)
        for form, prior in priors.items()
    }


def _missed(
    candidates: list[Candidate], best: Candidate, z: np.ndarray, groups: np.ndarray, log_prior: np.ndarray,
    canonical: Canonical, level: float, seed: int,
) -> tuple[float, float]:  # fmt: skip
    """Shares of the prior's draws that certainly fall where Q(z) does not, before and after rescaling.

    For any region A, TV(Q, p) ≥ Q(A) − p(A). A is where a fitted density exceeds the prior; Q(A) and p(A) come from
    held-out rows and fresh draws, so the bound is honest whatever the fit is worth.
    """
    law = best.law or next((c.law for c in reversed(candidates) if c.law is not None), None)
    prior = stream(seed, "audit", "prior draws").standard_normal(z.shape)
    jacobian = canonical.log_determinant

    def inside(points: np.ndarray) -> np.ndarray:
        return normal_log_pdf(points) if law is None else law.score_samples(points)

    own = inside(z)
    missed = []
    for raw in (True, False):
        if raw:
            # Densities by raw volume: both sides of the comparison carry the same Jacobian, written out for the model.
            held = own + jacobian > log_prior
            other = inside(canonical.apply(prior)) + jacobian > normal_log_pdf(prior)
        else:
            held, other = own > normal_log_pdf(z), inside(prior) > normal_log_pdf(prior)
        q, p = grouped_mean(held, groups), grouped_mean(other, np.arange(len(other)))
        both = GroupedMean(q.value - p.value, float(np.hypot(q.se, p.se)), q.groups)
        missed.append(float(np.clip(both.low(level), 0.0, 1.0)))
    return missed[0], missed[1]


def _grain(train: Law, test: Law, plan: Plan, seed: int) -> float:
    """Σ_j E_{z~test}[ln q_j,test(z) − ln q_j,train(z)] ≥ 0, nats: how much of the marginals' KL the rows make.

    KL of a population's marginals lies between the in-sample value less this and the in-sample value, as for the joint
    law. It is near 0 unless posteriors are narrower than the distance of neighbouring means.
    """
    draws = balanced_draws(test.q, plan.points, stream(seed, "audit", "grain"))
    with np.errstate(divide="ignore"):
        difference = np.log(test.marginals.pdf(draws.z)) - np.log(train.marginals.pdf(draws.z))
    return float(np.clip(difference.sum(axis=1).mean(), 0.0, LARGEST_GRAIN))
