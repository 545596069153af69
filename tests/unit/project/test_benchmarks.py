"""The benchmarks' table can be made of every experiment that is published."""

import json

import pytest

from tests.benchmark.cuda import IMAGES, images, models
from tests.benchmark.make_table import ROOT, growth, measured, page, rows
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


def test_the_page_is_made_of_the_records_of_every_start_up_and_of_the_published_runs():
    def record(name, group, script=None, **noted):
        return {"name": name, "group": group, "params": {"script": script}, "extra_info": noted, "stats": {"median": 1}}

    start_ups = [record(f"test_start_up[{script}]", "start-up", script) for script in SCRIPTS]
    ladder = record("test_ladder", "ladder")
    text = page([*start_ups, ladder], [ladder], {"sgemm": "1"}, 12.4)
    assert "in 12 minutes of " in text
    assert "| ladder | ladder | portable | 1 s |" in text and "| ladder | ladder | native | 1 s |" in text
    published = [path.parent.name for path in (ROOT / "results/published").glob("*/manifest.json")]
    assert published and all(f"\n| {name} | " in text for name in published)
