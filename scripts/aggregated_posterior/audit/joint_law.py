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
from ..posterior.gauge import Canonical, canonical_form, slack_of
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
from ..statistics.marginals import Marginals
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
    canonical = canonical_form(split.train)
    inner = split.train.affine(canonical.shift, canonical.scale)
    rows = _in_sample(split, inner, canonical, plan, seed)
    groups = len(np.unique(split.groups_train))
    if split.test is None:
        for row in rows:
            row |= _EMPTY
        return JointLaw(rows, pd.DataFrame(columns=_COLUMNS), None, -np.inf, (None, None), None, 0, np.inf)
    test = split.test.affine(canonical.shift, canonical.scale)
    draws = _held_out_draws(test, min(max(test.n, plan.points), max(fit_points, plan.points)), seed)
    groups_drawn = split.groups_test[draws.row]
    log_prior = normal_log_pdf(canonical.invert(draws.z))
    candidates = compare_candidates(
        inner, draws.z, groups_drawn, log_prior, canonical.log_determinant, active, groups,
        min(most_components, max(1, groups)), fit_points, seed,
    )  # fmt: skip
    best = best_of(candidates, groups_drawn)
    level = LEVEL / (len(candidates) + 1)
    # In canonical form the prior is the second candidate: gains over it.
    over = [grouped_mean(c.values - candidates[1].values, groups_drawn) for c in candidates[1:]]
    limits = [gain.low(level) for gain in over[1:]]
    bracket = _bracket(split, inner, test, plan, seed) if plan.bracket else None
    for row in rows:
        raw = row["form"] == "raw"
        own = _EMPTY | {"mean_kl_test": float((split.test if raw else test).kl().sum())}
        # Over the prior of this form: the raw prior is the first candidate, the canonical one the second.
        gains = [c.gain for c in candidates] if raw else [over[0], *over]
        for name, kind in (("certified_gaussian", NORMAL), ("certified_gmm", "mixture")):
            of_kind = [g for c, g in zip(candidates, gains, strict=True) if c.name.startswith(kind)]
            if of_kind:
                top = max(of_kind, key=lambda gain: gain.value)
                own |= {name: top.value, f"{name}_se": top.se}
        mixtures = [c for c in candidates if c.law is not None]
        own["gmm_components"] = max(mixtures, key=lambda c: c.gain.value).law.n_components if mixtures else None
        if bracket is not None:
            low, high, gap = bracket["raw" if raw else "canonical"]
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
    grain = None if isinstance(inner, Codes) else _grain(inner, test, plan, seed)
    count = len(np.unique(groups_drawn))
    raw = max(0.0, *(c.gain.low(level) for c in candidates))
    if bracket is not None:
        raw = max(raw, bracket["raw"][0].low(level))
    own = None
    if own_prior is not None:
        own = compare_with_own(own_prior, candidates, best, canonical, draws.z, groups_drawn, log_prior, level, seed)
    return JointLaw(rows, table, best.name, max(limits, default=-np.inf), misses, grain, count, upper, raw, own)


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
    gains = [grouped_mean(v, split.groups_test) for v in (np.zeros_like(values), values)]
    table = pd.DataFrame(
        [
            [
                name,
                parameters,
                gain.value,
                gain.se,
                gain.low(LEVEL),
                name == PRIOR if gains[1].low(LEVEL) <= 0 else name == RESCALED,
            ]
            for name, parameters, gain in zip((PRIOR, RESCALED), (0, 2 * inner.latent_dim), gains, strict=True)
        ],
        columns=_COLUMNS,
    )
    none = JointLaw.none()
    best = str(table.loc[table["chosen"], "candidate"].iloc[0])
    return replace(none, candidates=table, best=best, certified_raw=max(0.0, gains[1].low(LEVEL)))


def _second_moment(q: AggregatedPosterior) -> np.ndarray:
    """Σ_j E[z_j²|n] for each row, (N,)."""
    return np.concatenate([(mean * mean + variance).sum(axis=1) for _, (mean, variance) in q.blocks()])


def _in_sample(
    split: Split, inner: AggregatedPosterior, canonical: Canonical, plan: Plan, seed: int
) -> list[dict[str, Any]]:
    train, full = split.train, isinstance(split.train, FullCovariance)
    shared: dict[str, Any] = {
        "n_train": train.n,
        "n_test": None if split.test is None else split.test.n,
        "log_n": float(np.log(len(np.unique(split.groups_train)))),
        "mardia_kurtosis": None if full else mardia_kurtosis(inner),
        "mardia_kurtosis_normal": float(train.latent_dim * (train.latent_dim + 2)),
        "mardia_skewness": mardia_skewness(inner) if plan.skewness and not full else None,
    }
    dimension_wise = np.nan
    if plan.bracket:
        dimension_wise = float(Marginals(inner).distances().kl.sum())
        draws = balanced_draws(inner, plan.points, stream(seed, "audit", "information"))
        estimate = mutual_information(inner, draws)
        mean_kl = float(inner.kl().sum())
        information = feasible_information(estimate, train.n, mean_kl, dimension_wise)
        shared |= {"mutual_information": information, "mutual_information_se": estimate.se}
        shared |= {"mutual_information_raw": estimate.value}
        shared["total_correlation"] = max(mean_kl - information - dimension_wise, 0.0)
    else:
        names = ("mutual_information", "mutual_information_se", "mutual_information_raw", "total_correlation")
        shared |= dict.fromkeys(names)
    rows = []
    for form, q in (("raw", train), ("canonical", inner)):
        marginal = dimension_wise + (float(slack_of(q.moments()).sum()) if form == "raw" else 0.0)
        known = plan.bracket
        rows.append(
            {
                "form": form, **shared, "mean_kl": float(q.kl().sum()),
                "dimension_wise_kl": marginal if known else None,
                "kl_in_sample": marginal + shared["total_correlation"] if known else None,
                "gaussian_part": gaussian_part(q),
                "mmd": None if full else maximum_mean_discrepancy(q, stream(seed, "audit", "mmd")),
            }
        )  # fmt: skip
    return rows


def _held_out_draws(test: AggregatedPosterior, points: int, seed: int) -> Draws:
    return balanced_draws(test, points, stream(seed, "audit", "held-out draws"))


def _bracket(
    split: Split, inner: AggregatedPosterior, test: AggregatedPosterior, plan: Plan, seed: int
) -> dict[str, tuple[GroupedMean, GroupedMean, GroupedMean]]:
    """E_{Q_test}[ln Q_train − ln p] ≤ KL(Q‖p) ≤ E_{Q_test}[ln Q_test − ln p], and their gap, by form."""
    draws = _held_out_draws(test, plan.points, seed)
    groups = split.groups_test[draws.row]
    log_train, log_test = inner.log_density(draws.z), test.log_density(draws.z)
    gap = grouped_mean(log_test - log_train, groups)
    if gap.value < -IMPOSSIBLE * np.nan_to_num(gap.se) - ROUNDING:
        raise ImpossibleEstimate(f"the bracket is upside down by {-gap.value:.6g} nats")
    canonical = canonical_form(split.train)
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


def _grain(train: AggregatedPosterior, test: AggregatedPosterior, plan: Plan, seed: int) -> float:
    """Σ_j E_{z~test}[ln q_j,test(z) − ln q_j,train(z)] ≥ 0, nats: how much of the marginals' KL the rows make.

    KL of a population's marginals lies between the in-sample value less this and the in-sample value, as for the joint
    law. It is near 0 unless posteriors are narrower than the distance of neighbouring means.
    """
    draws = balanced_draws(test, plan.points, stream(seed, "audit", "grain"))
    with np.errstate(divide="ignore"):
        difference = np.log(Marginals(test).pdf(draws.z)) - np.log(Marginals(train).pdf(draws.z))
    return float(np.clip(difference.sum(axis=1).mean(), 0.0, LARGEST_GRAIN))
