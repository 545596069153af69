"""How processor time grows with the number of models of an experiment: its plan, its tables and its verdicts.

`pytest tests/benchmark/test_benchmark_models.py --benchmark-enable -s` measures 10, 100 and 1 000 models; without it
two and four. `extra_info` holds the seconds, and an exponent fitted to the larger sizes. Each step handles every model
once, so that 1 is what its mathematics takes.
"""

import resource
import time
from pathlib import Path

import pandas as pd
import pytest
import yaml

from aggregated_posterior.evidence.claims import Evidence, evaluate
from aggregated_posterior.evidence.tables import KEYS, collect
from aggregated_posterior.pipeline.schemas import read_yaml
from aggregated_posterior.storage import read_table, write_table

from ..workflow.conftest import copy_project
from .test_benchmark_growth import exponent

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ROOT / "results" / "published" / "digits" / "tables"
MODELS, TINY_MODELS = (10, 100, 1000), (2, 4)


def report(benchmark, sizes: tuple[int, ...], seconds: list[float]) -> None:
    if not benchmark.disabled:
        listed = (f"{size}: {s:.3g} s" for size, s in zip(sizes, seconds, strict=True))
        benchmark.extra_info["models"] = "; ".join(listed)
        benchmark.extra_info["exponent_of_models"] = f"{exponent(sizes, seconds):.2f} (of 1)"
        print(f"\n{dict(benchmark.extra_info)}")


def one_model(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of the published experiment's first model."""
    first = table[KEYS].iloc[0]
    return table[(table[KEYS] == first).all(axis=1)]


def seeded(rows: pd.DataFrame, number: int) -> pd.DataFrame:
    """One model's rows as if of as many models, which differ in the seed."""
    return pd.concat([rows.assign(seed=seed) for seed in range(number)], ignore_index=True)


@pytest.mark.benchmark(group="growth over models")
def test_planning(benchmark, tmp_path):
    """A dry run of a sweep of digits, in which nothing has been made: Snakemake's own work."""
    sizes = TINY_MODELS if benchmark.disabled else MODELS
    project = copy_project(tmp_path / "project")
    cell = {"datasets": ["digits"], "architectures": ["dense"], "latent_dims": [2], "kl_weights": [1]}
    seconds = []

    def plan(number: int) -> float:
        sweep = {**cell, "seeds": list(range(number))}
        (project.folder / "many.yaml").write_text(yaml.safe_dump({"experiment": "many", "sweeps": [sweep]}))
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        project.run("-n", "--quiet", "all", "--cores", "1", "--configfile", "many.yaml")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    benchmark.pedantic(lambda: seconds.extend(map(plan, sizes)), rounds=1, iterations=1)
    report(benchmark, sizes, seconds)
    assert len(seconds) == len(sizes)


@pytest.mark.benchmark(group="growth over models")
def test_collecting(benchmark, tmp_path):
    """Models' moments, one file each, in one table."""
    sizes = TINY_MODELS if benchmark.disabled else MODELS
    rows = one_model(read_table(PUBLISHED / "moments.csv"))
    files = [tmp_path / f"moments_{seed}.csv" for seed in range(sizes[-1])]
    for file in files:
        write_table(file, rows.drop(columns=KEYS))
    keys = [{**dict(rows[KEYS].iloc[0]), "seed": seed} for seed in range(sizes[-1])]
    seconds = []

    def gather(number: int) -> float:
        start = time.process_time()
        table = collect(files[:number], keys[:number])
        write_table(tmp_path / "moments.csv", table)
        assert len(table) == number * len(rows)
        return time.process_time() - start

    benchmark.pedantic(lambda: seconds.extend(map(gather, sizes)), rounds=1, iterations=1)
    report(benchmark, sizes, seconds)


@pytest.mark.benchmark(group="growth over models")
def test_verdicts(benchmark):
    """The ledger, drawn from the tables of one cell with that many seeds."""
    sizes = TINY_MODELS if benchmark.disabled else MODELS
    names = ("moments", "divergence", "samplers", "losses")
    rows = {name: one_model(read_table(PUBLISHED / f"{name}.csv")) for name in names}
    controls = read_table(PUBLISHED / "controls.csv")
    ledger = read_yaml(ROOT / "config" / "claims.yaml")
    seconds = []

    def judge(number: int) -> float:
        tables = {name: seeded(of, number) for name, of in rows.items()}
        evidence = Evidence(**tables, controls=controls, ledger=ledger)
        start = time.process_time()
        verdicts = evaluate(evidence)
        assert verdicts
        return time.process_time() - start

    benchmark.pedantic(lambda: seconds.extend(map(judge, sizes)), rounds=1, iterations=1)
    report(benchmark, sizes, seconds)
