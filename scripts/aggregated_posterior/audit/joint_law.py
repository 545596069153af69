"""The joint law of an audit: what the rows show by themselves, what held-out rows certify, and what would be bought.

The estimators are those of `statistics.portrait`, the candidates those of `generation.chosen_sampler`; here every error
is one over independent groups of rows. For every normalised density r that has not seen the held-out rows,
E_{Q_test}[ln r − ln p] ≤ KL(Q‖p) − KL(Q‖r): what r gains over the prior p is both what it buys as a sampler and a
certified lower bound of how far Q is from p.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ..generation.chosen_sampler import NORMAL, PRIOR, RESCALED, Comparison, Effort, compare_samplers
from ..posterior.exchangeable import Split
from ..posterior.gauge import canonical_form
from ..posterior.mixture import AggregatedPosterior
from ..posterior.other_laws import Codes, has_density
from ..statistics.clusters import GroupedMean, grouped_mean, least_total_variation
from ..statistics.divergence import refuse_upside_down
from ..statistics.portrait import HELD_OUT, Portrait
from ..streams import stream
from .own_prior import OwnPrior, compare_with_own

LEVEL = 0.05
COLUMNS = ["candidate", "parameters", "gain", "gain_se", "gain_low", "chosen"]
EMPTY: dict[str, Any] = {name + end: None for name in HELD_OUT for end in ("", "_se")}
EMPTY |= {"mean_kl_test": None, "identified": None, "gmm_components": None}


@dataclass(frozen=True)
class JointLaw:
    """What is known of the joint law; the defaults are those of no knowledge.

    rows: the estimators, raw and canonical form. candidates: what each density buys, nats; `best` is the advised one,
    and `comparison` holds the densities. certified: lower limit (95 %, for all candidates together) of KL(Q‖N(0, I)) in
    canonical form; certified_raw: the same in raw form, None where nothing was held out. upper: upper limit of the
    former. prior_misses: shares of the prior's draws that certainly fall where Q does not, raw and canonical.
    grain: how much of the marginals' KL the rows make; None where nothing could be held out. groups_held_out:
    independent groups among the held-out draws. own_prior: what was found of a prior of the user's own.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    candidates: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=COLUMNS))
    best: str | None = None
    certified: float = -np.inf
    certified_raw: float | None = None
    upper: float = np.inf
    prior_misses: tuple[float | None, float | None] = (None, None)
    grain: float | None = None
    groups_held_out: int = 0
    own_prior: dict[str, Any] | None = None
    comparison: Comparison | None = None


def measure_joint_law(
    all_rows: Portrait, halves: Portrait, split: Split, effort: Effort, active_threshold: float,
    own_prior: OwnPrior | None, log_n: float, seed: int,
) -> JointLaw:  # fmt: skip
    """Everything about the joint law.

    Args:
        all_rows: The portrait of all training rows: what they show by themselves.
        halves: That of the rows to fit and the rows held out, which is the same one where the file has both halves.
        split: The same rows with their groups.
        effort: How closely candidates are looked at.
        active_threshold: Mean KL above which a dimension is fitted, nats.
        own_prior: A prior of the user's own.
        log_n: ln of the number of independent groups among all training rows.
        seed: Of every draw.

    Raises:
        ImpossibleEstimate: An estimate contradicts arithmetic by more than its error.
    """
    shared = {"n_test": None if split.test is None else split.test.n, "log_n": log_n}
    if split.test is None:
        return JointLaw([row | EMPTY | shared for row in all_rows.in_sample])
    found = compare_samplers(
        halves.train, split.test, split.groups_train, split.groups_test,
        active_threshold=active_threshold, effort=effort, seed=seed,
    )  # fmt: skip
    kinds = list(found.laws)
    level = LEVEL / (len(kinds) + 1)
    gains = {"raw": {kind: found.gain(kind) for kind in kinds}}
    gains["canonical"] = {kind: found.gain(kind, over=RESCALED) for kind in kinds}
    certified = {
        "raw": max(gain.low(level) for gain in gains["raw"].values()),
        "canonical": max((gains["canonical"][kind].low(level) for kind in kinds[2:]), default=-np.inf),
    }
    upper = np.inf
    bracket = _bracket(halves, split.groups_test) if has_density(split.train) else {}
    if bracket:
        certified = {form: max(low, bracket[form][0].low(level)) for form, low in certified.items()}
        upper = bracket["canonical"][1].high(LEVEL)
    rows = []
    for row in all_rows.in_sample:
        form = row["form"]
        law = halves.test if form == "raw" else halves.test_canonical
        row = row | EMPTY | shared | {"mean_kl_test": law.joint_kl}
        for name, kind in (("certified_gaussian", NORMAL), ("certified_gmm", "mixture")):
            of_kind = [gain for k, gain in gains[form].items() if k.startswith(kind)]
            if of_kind:
                top = max(of_kind, key=lambda gain: gain.value)
                row |= {name: top.value, f"{name}_se": top.se}
        if kinds[2:]:
            row["gmm_components"] = found.laws[max(kinds[2:], key=lambda k: gains["raw"][k].value)].n_components
        if bracket:
            low, high, gap = bracket[form]
            row |= {"bracket_low": low.value, "bracket_low_se": low.se, "identified": gap.value < 1.0}
            row |= {"bracket_high": max(high.value, low.value), "bracket_high_se": high.se}
        rows.append(row)
    tried = found.table.set_index("candidate").loc[kinds].reset_index().astype({"parameters": int})
    tried["gain_low"] = [gains["raw"][kind].low(level) for kind in kinds]
    return JointLaw(
        rows=rows,
        candidates=tried[COLUMNS],
        best=found.chosen,
        certified=certified["canonical"],
        certified_raw=max(0.0, certified["raw"]),
        upper=upper,
        prior_misses=_missed(found, level, seed),
        grain=None if isinstance(split.train, Codes) else halves.grain,
        groups_held_out=len(np.unique(found.groups)),
        own_prior=None if own_prior is None else compare_with_own(own_prior, found, level, seed),
        comparison=found,
    )


def measure_scale(split: Split) -> JointLaw:
    """Where there is no joint law: what rescaling gains on held-out rows, in closed form.

    Given a row, E[ln N(z; m, V) − ln N(z; 0, 1)] = ½ (E z² − E(z − m)²/V − ln V), summed over dimensions.
    """
    if split.test is None:
        return JointLaw()
    canonical = canonical_form(split.train)
    inner = split.test.affine(canonical.shift, canonical.scale)
    values = 0.5 * (_second_moment(split.test) - _second_moment(inner)) + canonical.log_determinant
    gain = grouped_mean(values, split.groups_test)
    low = gain.low(LEVEL)
    rows = [[PRIOR, 0, 0.0, 0.0, 0.0, low <= 0], [RESCALED, 2 * inner.latent_dim, gain.value, gain.se, low, low > 0]]
    table = pd.DataFrame(rows, columns=COLUMNS)
    return JointLaw(candidates=table, best=RESCALED if low > 0 else PRIOR, certified_raw=max(0.0, low))


def _second_moment(q: AggregatedPosterior) -> np.ndarray:
    """Σ_j E[z_j²|n] for each row, (N,)."""
    return np.concatenate([(mean * mean + variance).sum(axis=1) for _, (mean, variance) in q.blocks()])


def _bracket(halves: Portrait, groups: np.ndarray) -> dict[str, tuple[GroupedMean, GroupedMean, GroupedMean]]:
    """E_{Q_test}[ln Q_train − ln p] ≤ KL(Q‖p) ≤ E_{Q_test}[ln Q_test − ln p], and their gap, by form."""
    draws, log_train, log_test = halves.held_out_densities
    groups = groups[draws.row]
    gap = grouped_mean(log_test - log_train, groups)
    refuse_upside_down(gap.value, gap.se)
    found = {}
    for form in ("raw", "canonical"):
        prior = halves.log_prior(form, draws.z)
        found[form] = grouped_mean(log_train - prior, groups), grouped_mean(log_test - prior, groups), gap
    return found


def _missed(found: Comparison, level: float, seed: int) -> tuple[float, float]:
    """Shares of the prior's draws that certainly fall where Q(z) does not, before and after rescaling.

    The region looked at is where a fitted density exceeds the prior; what lies in it is counted among held-out rows and
    fresh draws, so the bound is honest whatever the fit is worth.
    """
    law = found.laws[found.chosen if found.chosen not in (PRIOR, RESCALED) else list(found.laws)[-1]]
    noise = stream(seed, "audit", "prior draws").standard_normal(found.z.shape)
    missed = []
    for kind in (PRIOR, RESCALED):
        prior = found.laws[kind]
        draws = prior.shift + noise / prior.scale
        held = found.log_densities[law.kind] > found.log_densities[kind]
        other = law.score_samples(draws) > prior.score_samples(draws)
        missed.append(least_total_variation(held, found.groups, other, level))
    return missed[0], missed[1]
