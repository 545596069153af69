"""Claims on generating by sampling the prior, and on what its penalty is due to: C6, C6k and C6s."""

from __future__ import annotations

import pandas as pd

from .limits import mean_over_cells
from .runs import Evidence, by_cell, joined, range_over_cells
from .shares import SHAPE_AND_DEPENDENCE, WITH_SCALE, mean_over_judges, ratio_by_run, removable, shapley
from .tables import RUN, with_training
from .training_claims import CUSTOMARY, PLACE
from .verdicts import Verdict, all_hold, decide, part


def living(evidence: Evidence, table: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Rows of models with an active dimension, and a note on the collapsed ones that are left out."""
    if table.empty:
        return table, ""
    alive = evidence.active_anywhere[RUN].drop_duplicates()
    kept = table.merge(alive, on=RUN)
    collapsed = len(table[RUN].drop_duplicates()) - len(kept[RUN].drop_duplicates())
    return kept, f"{collapsed} collapsed models left out" if collapsed else ""


def distances(evidence: Evidence, score: str, rungs: set[str]) -> tuple[pd.DataFrame, str]:
    """Main-sweep distances, mean over judges, of models that have not collapsed; empty where a rung is missing."""
    table = evidence.main(evidence.samplers)
    if not rungs <= set(table.get("sampler", ())):
        return pd.DataFrame(), ""
    table, note = living(evidence, table)
    return (mean_over_judges(table, score) if len(table) else pd.DataFrame()), note


def mean_share(part: pd.Series, whole: pd.Series) -> float:
    """The mean over cells of Σ part / Σ whole; see `ratio_by_run`."""
    return mean_over_cells(by_cell(ratio_by_run(part, whole)[0])).estimate


def claim_prior_sampling(evidence: Evidence) -> Verdict:
    """C6: a better sampler can remove a tenth or more of the prior's penalty over the floor, by Fréchet and by KID."""
    threshold, parts, sizes, shown, notes = evidence.option("C6", "threshold"), [], [], {}, []
    for score, name in (("frechet", "Fréchet"), ("kid", "KID")):
        table, note = distances(evidence, score, {"prior", "q_train", "floor"})
        if table.empty:
            return evidence.not_tested("C6", "no sampler scores of a model with an active dimension")
        penalty = removable(table, SHAPE_AND_DEPENDENCE)
        whole = table["prior"] - table["floor"]
        runs, dropped = ratio_by_run(penalty, whole)
        if runs.empty:
            return evidence.not_tested("C6", f"the prior is nowhere worse than the floor by {name}")
        limits = mean_over_cells(by_cell(runs))
        parts.append(part(f"removable over all, {name}", limits, threshold, above=True))
        shown[score] = (runs, limits)
        size = f"{limits.estimate:.0%} of the prior's {name} penalty over the floor is removable"
        size += f" ({range_over_cells(runs)})"
        if "q_heldout" in table:
            size += f", {mean_share(table['prior'] - table['q_heldout'], whole):.0%} by Q of held-out images"
        mixtures = [rung for rung in table if rung.startswith("gmm_")]
        if mixtures and not ratio_by_run(penalty, penalty)[0].empty:
            removed = {rung: mean_share(table["prior"] - table[rung], penalty) for rung in mixtures}
            size += f", and of that {', '.join(f'{rung} removes {share:.0%}' for rung, share in removed.items())}"
        sizes.append(size)
        notes += [note, dropped]
    # One of two parts would refute, so each interval misses on that side with half the level, as two-sided ones do.
    runs, limits = shown["frechet"]
    note = joined(*dict.fromkeys(notes))
    verdict = all_hold(row["verdict"] for row in parts)
    return evidence.verdict("C6", limits, verdict, runs, "; ".join(sizes), note, details={"parts": parts})


def claim_marginal_shape(evidence: Evidence) -> Verdict:
    """C6k: the marginals' shape, kurtosis included, accounts for most of what a better sampler could remove."""
    by_score, sizes = {}, []
    for score, name in (("frechet", "Fréchet"), ("kid", "KID")):
        table, note = distances(evidence, score, set(SHAPE_AND_DEPENDENCE.values()))
        if table.empty:
            return evidence.not_tested("C6k", "no sampler scores of a model with an active dimension")
        penalty = removable(table, SHAPE_AND_DEPENDENCE)
        runs, dropped = ratio_by_run(shapley(table, SHAPE_AND_DEPENDENCE)["shape"], penalty)
        if runs.empty and score == "frechet":
            return evidence.not_tested("C6k", "nothing can be removed by Fréchet in any cell")
        if runs.empty:
            # The verdict is Fréchet's; KID stands beside it.
            sizes.append(f"nothing can be removed by {name} in any cell")
            continue
        limits = mean_over_cells(by_cell(runs))
        orders = {}
        for order, gain in (
            ("shape first", table["prior"] - table["marginals"]),
            ("shape last", table["dependence"] - table["q_train"]),
        ):
            orders[order] = mean_share(gain, penalty)
        by_score[score] = (runs, limits, joined(note, dropped), orders)
        size = f"{limits.estimate:.1%} of the removable {name} penalty is the marginals' shape"
        size += f" ({', '.join(f'{order} {value:.1%}' for order, value in orders.items())}"
        sizes.append(f"{size}; {range_over_cells(runs)})")
    runs, limits, note, _ = by_score["frechet"]
    details = {
        score: {"estimate": found.estimate, "low": found.low, "high": found.high, "orders": orders}
        for score, (_, found, _, orders) in by_score.items()
    }
    verdict = decide(limits, evidence.option("C6k", "threshold"), above=True)
    return evidence.verdict("C6k", limits, verdict, runs, "; ".join(sizes), note, details=details)


def claim_scale(evidence: Evidence) -> Verdict:
    """C6s: how much of the raw prior's removable penalty is scale, in customary and re-gauged training (no verdict).

    Where there is a customary sub-sweep, both are taken over its cells.
    """
    table = evidence.studied(evidence.samplers)
    if not set(WITH_SCALE.values()) <= set(table.get("sampler", ())):
        return evidence.not_tested("C6s", "no samplers decoded in the wrong scale")
    table = with_training(table)
    customary = table[table["variant"] == CUSTOMARY]
    if len(customary):
        # Beside the customary sub-sweep the main one on the same cells: shares differ widely from cell to cell.
        table = table.merge(customary[PLACE].drop_duplicates(), on=PLACE)
    shown, details = {}, {}
    for training in ("", CUSTOMARY):
        own, note = living(evidence, table[table["variant"] == training])
        if own.empty:
            continue
        scores = mean_over_judges(own, "frechet")
        penalty, values = removable(scores, WITH_SCALE), shapley(scores, WITH_SCALE)
        runs, dropped = ratio_by_run(values["scale"], penalty)
        if runs.empty:
            continue
        factors = {factor: mean_share(values[factor], penalty) for factor in values}
        shown[training] = (runs, joined(note, dropped))
        details[training or "main"] = factors
    if not shown:
        return evidence.not_tested("C6s", "no model with an active dimension and a penalty above 0")
    runs, note = shown.get(CUSTOMARY, shown.get(""))
    names = {"main": "main sweep, same cells" if CUSTOMARY in shown else "main sweep", CUSTOMARY: "customary training"}
    size = "; ".join(
        f"{names[name]}: "
        + ", ".join(f"{factor} {details[name][factor]:.0%}" for factor in ("scale", "shape", "dependence"))
        for name in details
    )
    note = joined(note, "" if CUSTOMARY in shown else "no customary sub-sweep")
    return evidence.verdict("C6s", mean_over_cells(by_cell(runs)), "reported", runs, size, note, details=details)
