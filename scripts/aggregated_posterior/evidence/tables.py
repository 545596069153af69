"""Tidy tables: one row per observation, with the model's keys in front; what the keys are called stands here alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..storage import read_json, read_table

KEYS = ["experiment", "dataset", "architecture", "likelihood", "latent_dim", "kl_weight", "seed"]
# Runs of one cell differ in the seed alone.
CELL = ["dataset", "architecture", "latent_dim", "kl_weight"]
RUN = [*CELL, "seed"]
# Between an architecture and the name of a variant of its training: dense_customary.
VARIANT_MARK = "_"


def activity_label(threshold: float) -> str:
    """The rule by which a latent dimension is called active, as readers see it (`active_dimensions` applies it)."""
    return f"mean KL > {threshold:g} nat"


def base_architecture(label: str) -> str:
    """The module that a label names: `dense` for `dense` and for `dense_customary`."""
    return label.partition(VARIANT_MARK)[0]


def variant(label: str) -> str:
    """The variant of training that an architecture's label names: `customary` for `dense_customary`, else empty."""
    return label.partition(VARIANT_MARK)[2]


def with_training(table: pd.DataFrame) -> pd.DataFrame:
    """The table with what an architecture's label says in columns of their own, `base` and `variant`."""
    labels = table["architecture"]
    return table.assign(base=labels.map(base_architecture), variant=labels.map(variant))


def is_variant(table: pd.DataFrame) -> pd.Series:
    """Which rows belong to a variant of training and not to the main sweep."""
    return table["architecture"].astype(str).str.contains(VARIANT_MARK, regex=False)


def read_rows(path: str | Path) -> pd.DataFrame:
    """Rows of a CSV file, or of a JSON file that holds a list of records."""
    return pd.DataFrame(read_json(path)) if str(path).endswith(".json") else read_table(path)


def attach_keys(parts: Iterable[tuple[Mapping[str, Any], pd.DataFrame]]) -> pd.DataFrame:
    """Concatenate tables, each with its model's values of `KEYS` as the first columns.

    Without any part the result has the key columns and no rows.
    """
    keyed = []
    for values, rows in parts:
        front = pd.DataFrame([{key: values[key] for key in KEYS}] * len(rows), columns=KEYS, index=rows.index)
        keyed.append(pd.concat([front, rows], axis="columns"))
    return pd.concat(keyed, ignore_index=True) if keyed else pd.DataFrame(columns=KEYS)


def collect(paths: Sequence[str | Path], keys: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Concatenate one file per model, CSV or JSON records, with the keys of each model in the order of `paths`."""
    return attach_keys((values, read_rows(path)) for path, values in zip(paths, keys, strict=True))
