"""The benchmarks' table can be made of every experiment that is published."""

import json

import pytest

from tests.benchmark.make_table import ROOT, measured
from tests.benchmark.test_benchmark_pipeline import SCRIPTS


@pytest.mark.parametrize("manifest", sorted((ROOT / "results/published").glob("*/manifest.json")), ids=str)
def test_every_rule_has_a_start_up_that_is_measured(manifest):
    rules = json.loads(manifest.read_text(encoding="utf-8"))["run_time"]["by_rule"]
    assert {measured(rule) for rule in rules} <= set(SCRIPTS)
