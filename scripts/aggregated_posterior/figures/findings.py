"""The sentence under each figure: what it shows, in numbers selected from the tables that the figure shows.

The report's captions include these sentences, so that a caption cannot disagree with its picture. They are
written in reStructuredText, one paragraph each.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from ..evidence.distance_claims import certified_bound
from ..evidence.tables import KEYS
from ..text import for_rest
from .rows import chosen_rows, image_rows, latent_groups, model_groups, of_weight, one_seed, tidy, weights_of
from .samplers import FACTORS, factor_shares, mean_and_range, share_of, shown_cells
from .style import complete_style, weight_label
from .training import is_customary

NOTHING = "There is nothing to report: {}."


def _runs(rows: pd.DataFrame) -> str:
    """Say how many models of how many cells stand behind a number."""
    keys = [name for name in KEYS if name in rows]
    models = len(rows[keys].drop_duplicates())
    cells = len(rows[[name for name in keys if name != "seed"]].drop_duplicates())
    seeds = rows["seed"].nunique()
    return (
        f"{models} model{'s' if models != 1 else ''} ({cells} cell{'s' if cells != 1 else ''}, "
        f"{seeds} seed{'s' if seeds != 1 else ''})"
    )


def _range(values: pd.Series, digits: str = ".3g") -> str:
    low, high = values.min(), values.max()
    return f"{low:{digits}}" if low == high else f"{low:{digits}} to {high:{digits}}"


def _by_weight(rows: pd.DataFrame, column: str) -> str:
    """List the medians of `column` by KL weight."""
    parts = [
        f"{of_weight(rows, weight)[column].median():.3g} at β = {weight_label(weight)}" for weight in weights_of(rows)
    ]
    return ", ".join(parts)


def _inactive_models(moments: pd.DataFrame, settings: Mapping[str, Any]) -> str:
    """Say how many models have no active dimension, if any."""
    rows = chosen_rows(image_rows(moments), settings)
    keys = [name for name in KEYS if name in rows]
    used = rows.groupby(keys, dropna=False)["active"].any()
    return "" if used.all() else f" {(~used).sum()} of {len(used)} models have no active dimension."


def _active(moments: pd.DataFrame, settings: Mapping[str, Any], **other: str) -> pd.DataFrame:
    rows = chosen_rows(image_rows(moments), settings, **other)
    return rows[rows["active"]] if len(rows) else rows


def kurtosis_by_kl_weight(tables: Mapping[str, pd.DataFrame], settings: Mapping[str, Any]) -> str:
    """Say how many active dimensions have an interval outside 3 ± margin, and the medians by KL weight."""
    active, margin = _active(tables["moments"], settings), settings["kurtosis_margin"]
    if active.empty:
        return NOTHING.format("no latent dimension is active")
    outside = (active["kurtosis_low"] > 3 + margin) | (active["kurtosis_high"] < 3 - margin)
    text = (
        f"In {_runs(active)}, {outside.sum()} of {len(active)} active dimensions have their interval outside "
        f"3 ± {margin:g} ({settings['split']} split); kurtosis runs from {_range(active['kurtosis'])}; the median of "
        f"\\|kurtosis − 3\\| is {_by_weight(active.assign(distance=(active['kurtosis'] - 3).abs()), 'distance')}."
    ) + _inactive_models(tables["moments"], settings)
    controls = tables.get("controls")
    if controls is not None and len(controls):
        used = tidy(controls)
        used = used[used["active"]]
        off = (used["excess_kurtosis"] - used["expected_excess_kurtosis"]).abs().max()
        text += f" On the controls, no active dimension is further than {off:.2g} from the theory's kurtosis."
    return text


def kurtosis_by_activity(tables: Mapping[str, pd.DataFrame], settings: Mapping[str, Any]) -> str:
    """Say how inactive dimensions differ from active ones, and how near to the bound any of them comes."""
    rows = chosen_rows(image_rows(tables["moments"]), settings, form="canonical")
    if rows.empty:
        return NOTHING.format("no model in this experiment")
    parts = [
        f"the {len(group)} {name} dimensions have kurtosis {_range(group['kurtosis'])}"
        for name, group in (("active", rows[rows["active"]]), ("inactive", rows[~rows["active"]]))
        if len(group)
    ]
    slack = (rows["kurtosis"] - rows["kurtosis_bound"]).min()
    return f"In {_runs(rows)}, {' and '.join(parts)}; the least distance from the bound is {slack:.3g}."


def kurtosis_terms(tables: Mapping[str, pd.DataFrame], settings: Mapping[str, Any]) -> str:
    """Give each term's median over the active dimensions."""
    active = _active(tables["moments"], settings)
    if active.empty:
        return NOTHING.format("no latent dimension is active")
    names = {
        "term_means": "shape of the means",
        "term_covariance": "spread tied to position",
        "term_scale": "scale mixing",
    }
    parts = [f"{text} {active[name].median():+.3g}" for name, text in names.items()]
    return f"Medians over the {len(active)} active dimensions of {_runs(active)}: {', '.join(parts)}."


def variance_law(tables: Mapping[str, pd.DataFrame], settings: Mapping[str, Any]) -> str:
    """Give the largest raw |E z² − 1| and |E z|, of this experiment's training and of customary training beside it."""
    everything = chosen_rows(image_rows(tables["moments"], variants=True), settings, form="raw")
    everything = everything[everything["active"]] if len(everything) else everything
    parts = []
    for name, rows in (
        ("as trained here", image_rows(everything)),
        ("customary", everything[is_customary(everything)]),
    ):
        if len(rows):
            square, mean = (rows["second_moment"] - 1).abs(), rows["mean"].abs()
            parts.append(
                f"{name} ({_runs(rows)}), \\|E[z²] − 1\\| has median {square.median():.2g} and is at most "
                f"{square.max():.2g}, and \\|E[z]\\| is at most {mean.max():.2g}"
            )
    if not parts:
        return NOTHING.format("no latent dimension is active")
    return f"Over active dimensions, raw, {settings['split']} split: {'; '.join(parts)}."


def active_dimensions(tables: Mapping[str, pd.DataFrame], settings: Mapping[str, Any]) -> str:
    """Give the count of active dimensions by cell."""
    rows = chosen_rows(image_rows(tables["moments"]), settings, form="raw")
    if rows.empty:
        return NOTHING.format("no model in this experiment")
    parts = []
    for label, group in latent_groups(rows):
        runs = group.groupby(["kl_weight", "seed"], dropna=False)["active"].sum().reset_index()
        parts.append(f"{for_rest(label)}: {_by_weight(runs, 'active')}")
    return f"Median count over seeds of active dimensions — {'; '.join(parts)}."


def rate_distortion(tables: Mapping[str, pd.DataFrame], settings: Mapping[str, Any]) -> str:
    """Give rate and distortion by KL weight at the last epoch."""
    rows = image_rows(tables["training"])
    if rows.empty:
        return NOTHING.format("no training history")
    keys = [name for name in KEYS if name in rows]
    last = rows.sort_values("epoch").groupby(keys, dropna=False).tail(1)
    return (
        f"At the last epoch of {_runs(last)}, the rate's median is {_by_weight(last, 'kl')} nats; "
        f"the distortion's is {_by_weight(last, 'reconstruction')} nats."
    )


def marginals(tables: Mapping[str, pd.DataFrame], settings: Mapping[str, Any]) -> str:
    """Give the KL of the most and the least normal dimensions to N(0, 1)."""
    rows = _active(tables["marginals"], settings)
    if rows.empty:
        return NOTHING.format("no latent dimension is active")
    keys = [name for name in KEYS if name in rows]
    runs = rows.groupby(keys, dropna=False)["kl"]
    return (
        f"In {_runs(rows)} ({settings['split']} split, {settings['form']} form), KL(q\\ :sub:`j`\\ ‖N(0, 1)) "
        f"of the most normal active dimension is {_range(runs.min(), '.2g')} nat, of the least normal one "
        f"{_range(runs.max(), '.2g')} nat."
    )


def latent_map(tables: Mapping[str, pd.DataFrame], settings: Mapping[str, Any]) -> str:
    """Say which models are drawn."""
    rows = image_rows(tables["latent_ellipses"])
    if rows.empty:
        return NOTHING.format("no model has a latent size of 2")
    weights = ", ".join(weight_label(weight) for weight in weights_of(rows))
    seed = one_seed(rows, settings)["seed"].iloc[0]
    return f"Drawn: seed {seed}, KL weights {weights}, of {_runs(rows)} with a latent size of 2."


def divergence(tables: Mapping[str, pd.DataFrame], settings: Mapping[str, Any]) -> str:
    """Give the certified bounds, and how many brackets are identified."""
    rows = chosen_rows(image_rows(tables["divergence"]), settings)
    if rows.empty:
        return NOTHING.format("no model in this experiment")
    rows = rows.assign(bound=certified_bound(rows))
    bound, threshold = rows["bound"].dropna(), settings["divergence_threshold"]
    if bound.empty:
        part = _range(rows["dimension_wise_kl"])
        return f"Without held-out posteriors nothing is certified; the marginals alone account for {part} nats."
    return (
        f"In {_runs(rows)} ({settings['form']} form), {(bound >= threshold).sum()} of {len(rows)} certified "
        f"lower bounds, less their errors, reach {threshold:g} nat; they run from {_range(bound)} nats, with medians "
        f"{_by_weight(rows, 'bound')}. {rows['identified'].sum()} brackets are narrower than 1 nat. "
        f"The marginals' part is {_range(rows['dimension_wise_kl'])} nats."
    )


def sampler_split(tables: Mapping[str, pd.DataFrame], settings: Mapping[str, Any]) -> str:
    """Give what each factor takes of the removable Fréchet distance, mean over the models."""
    shares = factor_shares(image_rows(tables["samplers"]))
    if shares.empty:
        return NOTHING.format("no ladder with all corners was scored")
    parts = [f"{text} {shares[factor].mean():.3g}" for factor, (text, _) in FACTORS.items()]
    return (
        f"Mean over {_runs(shares)}: of a removable Fréchet distance of {shares['removable'].mean():.3g}, "
        f"{', '.join(parts)} (Shapley values, means over judges)."
    )


def penalty_shares(tables: Mapping[str, pd.DataFrame], settings: Mapping[str, Any]) -> str:
    """Give each factor's share of the removable penalty, by data set and architecture."""
    shares = tidy(factor_shares(image_rows(tables["samplers"], variants=True)))
    parts = []
    for label, group in model_groups(shares):
        runs = {factor: share_of(factor, group) for factor in FACTORS}
        if len(runs["scale"]):
            words = ", ".join(f"{text} {mean_and_range(runs[factor])[0]:.0%}" for factor, (text, _) in FACTORS.items())
            parts.append(f"{for_rest(label)}: {words} ({_runs(runs['scale'])})")
    if not parts:
        return NOTHING.format("no ladder with all corners was scored, or nothing can be removed")
    return f"Shares of what a sampler could remove of the raw prior's Fréchet distance — {'; '.join(parts)}."


FINDINGS: dict[str, Callable[[Mapping[str, pd.DataFrame], Mapping[str, Any]], str]] = {
    "kurtosis_by_kl_weight": kurtosis_by_kl_weight,
    "kurtosis_by_activity": kurtosis_by_activity,
    "kurtosis_terms": kurtosis_terms,
    "variance_law": variance_law,
    "active_dimensions": active_dimensions,
    "rate_distortion": rate_distortion,
    "marginals": marginals,
    "latent_map": latent_map,
    "divergence": divergence,
    "sampler_split": sampler_split,
    "penalty_shares": penalty_shares,
}


def sampler_plates(cells: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> str:
    """Say which cells' images are shown."""
    shown = shown_cells(cells, settings)
    if shown.empty:
        return NOTHING.format("no sampler drew an image")
    parts = [
        f"{for_rest(label)} with β = {', '.join(weight_label(w) for w in weights_of(group))}"
        for label, group in latent_groups(shown)
    ]
    return f"Shown are decoder means, seed {shown['seed'].iloc[0]}: {'; '.join(parts)}; one decoder per block."


def describe(name: str, tables: Mapping[str, pd.DataFrame], style: Mapping[str, Any] | None) -> str:
    """Return the finding of a figure of tables, as one line of reStructuredText."""
    return FINDINGS[name](tables, complete_style(style)) + "\n"
