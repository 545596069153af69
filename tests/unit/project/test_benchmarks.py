"""The benchmarks' table can be made of every experiment that is published."""

import json

import pytest

from tests.benchmark.cuda import IMAGES, images, models
from tests.benchmark.make_table import ROOT, growth, measured, rows
from tests.benchmark.test_benchmark_pipeline import SCRIPTS


@pytest.mark.parametrize("manifest", sorted((ROOT / "results/published").glob("*/manifest.json")), ids=str)
def test_every_rule_has_a_start_up_that_is_measured(manifest):
    rules = json.loads(manifest.read_text(encoding="utf-8"))["run_time"]["by_rule"]
    assert {measured(rule) for rule in rules} <= set(SCRIPTS)


def test_growth_has_a_table_of_its_own():
    noted = {"rows": "10: 1 s", "exponent_of_rows": "1.00 (of 1)"}
    records = [
        {"name": "test_growth[moments]", "group": "growth", "extra_info": noted, "stats": {"median": 1.0}},
        {"name": "test_together", "group": "training", "extra_info": {"models": 4}, "stats": {"median": 2.0}},
    ]
    assert growth(records) == ["| moments | rows | 10: 1 s | 1.00 (of 1) |"]
    assert rows(records, "native") == ["| training | together | native | 2 s |  | models 4 |"]


def test_the_gpu_is_timed_on_the_models_of_the_published_experiment():
    batches = models()
    assert len({(s.latent_dim, s.kl_weight, s.seed) for batch in batches for s in batch}) == 80
    assert all(len({s.latent_dim for s in batch}) == 1 for batch in batches)
    assert images().shape == (IMAGES, 28, 28)
