"""Tidy tables: one row per observation, with the model's keys in front."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from ..storage import read_json, read_table

KEYS = ["experiment", "dataset", "architecture", "likelihood", "latent_dim", "kl_weight", "seed"]
CELL = ["dataset", "architecture", "latent_dim", "kl_weight"]


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
