"""Tidy tables: keys in front, rows in order."""

import pandas as pd
import pytest

from aggregated_posterior.evidence.tables import KEYS, base_architecture, collect, is_variant, variant
from aggregated_posterior.storage import write_json, write_table

CELLS = [dict(zip(KEYS, ["e", "digits", "dense", "bernoulli", 2, "1", seed], strict=True)) for seed in (0, 1)]


def test_keys_come_first_and_rows_stay_in_order(tmp_path):
    paths = []
    for seed in (0, 1):
        paths.append(tmp_path / f"{seed}.csv")
        write_table(paths[-1], pd.DataFrame({"dimension": [0, 1], "x": [seed, seed + 0.5]}))
    table = collect(paths, CELLS)
    assert list(table.columns) == [*KEYS, "dimension", "x"]
    assert table["seed"].tolist() == [0, 0, 1, 1]
    assert table["x"].tolist() == [0, 0.5, 1, 1.5]


def test_json_records_are_rows(tmp_path):
    write_json(tmp_path / "a.json", [{"form": "raw", "kl": 1.0}, {"form": "canonical", "kl": None}])
    assert collect([tmp_path / "a.json"], CELLS[:1])["form"].tolist() == ["raw", "canonical"]


def test_no_models_give_a_table_of_keys(tmp_path):
    table = collect([], [])
    assert table.empty
    assert list(table.columns) == KEYS


def test_files_and_models_must_match(tmp_path):
    with pytest.raises(ValueError):
        collect([tmp_path / "a.csv"], [])


def test_a_variant_is_told_by_its_label():
    labels = ["dense", "dense_customary", "conv", "external"]
    assert is_variant(pd.DataFrame({"architecture": labels})).tolist() == [False, True, False, False]
    assert [base_architecture(label) for label in labels] == ["dense", "dense", "conv", "external"]
    assert [variant(label) for label in labels] == ["", "customary", "", ""]
