"""Rows of the experiment's tables as the figures use them: tidied, grouped by model, selected."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from ..evidence.tables import is_variant
from ..text import for_figure

CONTROL_PREFIX = "control_"


def tidy(table: pd.DataFrame) -> pd.DataFrame:
    """Return a copy whose keys have the types that plotting needs, even if it is empty or lacks a key.

    A header without rows is read as text, and a stranger's posteriors may come without a KL weight or seed.
    """
    table = table.copy()
    for name in ("latent_dim", "kl_weight"):
        table[name] = pd.to_numeric(table[name], errors="coerce") if name in table else np.nan
    table["seed"] = pd.to_numeric(table["seed"], errors="coerce").fillna(0).astype(int) if "seed" in table else 0
    for name in ("dataset", "architecture", "likelihood"):
        table[name] = table[name].astype(object).fillna("").astype(str) if name in table else ""
    for name in ("active", "active_by_variance", "active_by_noise", "identified"):
        if name in table:
            table[name] = table[name].map(lambda value: str(value) in {"True", "true", "1", "1.0"}).astype(bool)
    return table


def is_control(table: pd.DataFrame) -> pd.Series:
    """Tell which rows belong to a synthetic control."""
    return table["dataset"].str.startswith(CONTROL_PREFIX)


def image_rows(table: pd.DataFrame, variants: bool = False) -> pd.DataFrame:
    """Return the tidied rows of real data; an experiment of controls alone shows its controls.

    Variants of the training stand beside the main sweep only where `variants` asks for them.
    """
    table = tidy(table)
    real = table[~is_control(table) & (variants | ~is_variant(table))]
    return real if len(real) else table


def chosen_rows(table: pd.DataFrame, settings: Mapping[str, Any], **other: str) -> pd.DataFrame:
    """Return the rows of the split and form that the style names (or `split=`, `form=` here)."""
    split, form = other.get("split", settings["split"]), other.get("form", settings["form"])
    for name, value in (("split", split), ("form", form)):
        if name in table:
            table = table[table[name] == value]
    return table


def model_groups(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Split rows by data set, architecture and likelihood; a label names the data and what else differs."""
    names = ["dataset", "architecture", "likelihood"]
    shown = ["dataset"] + [name for name in names[1:] if len(set(table[name])) > 1]
    groups = []
    for values, rows in table.groupby(names, sort=True):
        words = [value for name, value in zip(names, values, strict=True) if name in shown and value]
        groups.append((for_figure(", ".join(words).replace("_", " ")), rows))
    return groups


def latent_groups(table: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Split rows further by latent size; labels read like `digits, d = 8`."""
    return [
        (", ".join([label] * bool(label) + [f"d = {latent_dim:g}"] * pd.notna(latent_dim)), rows)
        for label, group in model_groups(table)
        for latent_dim, rows in group.groupby("latent_dim", sort=True, dropna=False)
    ]


def weights_of(table: pd.DataFrame) -> list[float]:
    """Return the KL weights in a table in rising order, an unstated one last."""
    weights = table["kl_weight"].drop_duplicates()
    return [*sorted(weights.dropna()), *weights[weights.isna()].head(1)]


def of_weight(table: pd.DataFrame, kl_weight: float) -> pd.DataFrame:
    """Return the rows of one KL weight, an unstated one included."""
    return table[table["kl_weight"].isna() if pd.isna(kl_weight) else table["kl_weight"] == kl_weight]


def one_seed(table: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Return the rows of the seed that the style names, or else of the smallest one."""
    if table.empty:
        return table
    wanted = settings["seed"]
    if wanted is None or not (table["seed"] == wanted).any():
        wanted = table["seed"].min()
    return table[table["seed"] == wanted]


def spread_out(seeds: Iterable[int], width: float = 0.5) -> dict[int, float]:
    """Return an offset for each seed, so that runs of one cell stand side by side."""
    ordered = sorted(set(seeds))
    if len(ordered) < 2:
        return {seed: 0.0 for seed in ordered}
    return {seed: width * (index / (len(ordered) - 1) - 0.5) for index, seed in enumerate(ordered)}
