"""How limits decide, and how verdicts are shown."""

import numpy as np
import pandas as pd
import pytest

from aggregated_posterior.evidence.claims import evaluate
from aggregated_posterior.evidence.limits import Limits
from aggregated_posterior.evidence.verdicts import (
    across_experiments,
    all_hold,
    decide,
    markdown,
    page,
    verdict_table,
)
from aggregated_posterior.storage import DataError, write_json

from .made_tables import evidence


@pytest.mark.parametrize(
    ("low", "high", "above", "verdict"),
    [
        (0.6, 0.8, True, "supported"),
        (0.2, 0.4, True, "refuted"),
        (0.4, 0.6, True, "inconclusive"),
        (0.2, 0.4, False, "supported"),
        (0.6, 0.8, False, "refuted"),
        (0.5, 0.5, False, "inconclusive"),
        (np.nan, np.nan, True, "inconclusive"),
    ],
)
def test_decisions(low, high, above, verdict):
    assert decide(Limits((low + high) / 2, low, high), 0.5, above) == verdict


def test_all_parts_must_hold():
    assert all_hold(["supported", "supported"]) == "supported"
    assert all_hold(["supported", "inconclusive"]) == "inconclusive"
    assert all_hold(["refuted", "supported", "inconclusive"]) == "refuted"


def test_a_table_of_verdicts_survives_bars_and_marks():
    table = verdict_table(evaluate(evidence()))
    text = markdown(table)
    assert len(text.splitlines()) == len(table) + 2
    columns = text.splitlines()[0].count("|")
    assert all(line.replace("\\|", "").count("|") == columns for line in text.splitlines())
    shown = page(pd.DataFrame({"a<b": ["<script>", "x & y"]}))
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert "x &amp; y" in shown


def test_experiments_stand_side_by_side(tmp_path):
    claims = [verdict.as_dict() for verdict in evaluate(evidence())]
    with pytest.raises(DataError, match="publish an experiment"):
        across_experiments(tmp_path)
    write_json(tmp_path / "mnist/claims.json", claims)
    write_json(tmp_path / "fashion/claims.json", claims[:-1])
    table = across_experiments(tmp_path).set_index("claim")
    assert list(table.columns) == ["statement", "fashion", "mnist"]
    assert list(table.index) == [claim["id"] for claim in claims]
    assert table.loc["C8", "fashion"] == "–"
    assert table.loc["C6k", "mnist"].startswith("refuted: 20.0% of the removable Fréchet penalty")
    write_json(tmp_path / "old/claims.json", [{"id": "C0", "verdict": "supported", "statement": ""}])
    assert "old" not in across_experiments(tmp_path), "its thresholds were others"
