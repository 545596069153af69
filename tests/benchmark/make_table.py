"""Run every benchmark and write tests/benchmark/RESULTS.md: `make benchmark`.

The machine's limits (matrix products, memory) are measured in the same minute, so that a ratio to the limit means the
same on any machine. Medians are quoted; where rounds are paired, a ratio's spread is their lowest and highest.
"""

import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

# What is measured natively, too.
NATIVE = ("test_training_beside", "test_one_step", "test_whole_process", "test_ladder")
HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def best(function, rounds: int = 7) -> float:
    """The shortest of several times, in seconds: what the machine can do."""
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def limits() -> dict[str, str]:
    """What one thread of this machine can do at most."""
    import torch

    torch.set_num_threads(1)
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    source, target = np.ones(2**26), np.empty(2**26)
    single = 2 * 1024**3 / best(lambda: a @ b) / 1e9
    onednn = 2 * 1024**3 / best(lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")) / 1e9
    double = 2 * 1024**3 / best(lambda: a.double() @ b.double()) / 1e9
    copy = 2 * source.nbytes / best(lambda: np.copyto(target, source)) / 1e9
    return {
        "sgemm (float32 matrix product) by MKL": f"{single:.0f} GFLOP/s",
        "sgemm by oneDNN": f"{onednn:.0f} GFLOP/s",
        "kernels": torch.backends.cpu.get_cpu_capability(),
        "dgemm (float64, conversion included)": f"{double:.0f} GFLOP/s",
        "memory (copy, read and write)": f"{copy:.1f} GB/s",
    }


def run(path: Path, *options: str) -> list[dict]:
    """All benchmarks' records."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        str(HERE),
        "--benchmark-enable",
        f"--benchmark-json={path}",
        *options,
    ]
    # Processor seconds of one thread; NumPy's products would share the work among all cores, and wait in between.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    subprocess.run([*command, "-p", "no:xdist", "-s"], cwd=ROOT, env=environment, check=True)
    return json.loads(path.read_text())["benchmarks"]


def rows(records: list[dict], numerics: str) -> list[str]:
    """One line per benchmark: time, ratio to the customary way of its group, and what else it noted."""
    lines = []
    naive: dict[str, float] = {}
    for record in records:
        if record["group"].startswith("growth"):
            continue
        median = record["stats"]["median"]
        name = record["name"].removeprefix("test_")
        extra = dict(record["extra_info"])
        if any(word in name for word in ("naive", "broadcast", "direct", "scikit-learn")):
            naive[record["group"]] = median
            ratio = "1"
        elif "ratio" in extra:
            ratio = f"{extra.pop('ratio')} [{extra.pop('ratio_low')}, {extra.pop('ratio_high')}]"
        elif record["group"] in naive:
            ratio = f"{naive[record['group']] / median:.1f}"
        else:
            ratio = ""
        extra.pop("ratio_to_naive", None)
        noted = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in extra.items() if value is not None)
        lines.append(f"| {record['group']} | {name} | {numerics} | {median:.4g} s | {ratio} | {noted} |")
    return lines


def growth(records: list[dict]) -> list[str]:
    """One line per step and size: how it grew."""
    lines = []
    for record in (record for record in records if record["group"].startswith("growth")):
        noted = record["extra_info"]
        step = record["name"].removeprefix("test_growth[").removeprefix("test_").removesuffix("]")
        for size in ("rows", "dimensions", "models"):
            if size in noted:
                lines.append(f"| {step} | {size} | {noted[size]} | {noted[f'exponent_of_{size}']} |")
    return lines


def measured(rule: str) -> str:
    """The script whose start-up stands for this rule's: those that collect, and those that plot, import the same."""
    alike = {
        "collect_explorer": "compute_statistics",
        "prepare_control_posteriors": "prepare_dataset",
        "check_published": "check_claims",
    }
    kinds = {"collect": "collect_tables", "plot": "plot_kurtosis_terms"}
    return alike.get(rule) or kinds.get(rule.split("_")[0], rule)


def overhead(records: list[dict]) -> list[str]:
    """One line per published run: cores without a job, and the share of the jobs' time that went into imports."""
    start_ups = {
        record["params"]["script"]: record["stats"]["median"]
        for record in records
        if record["name"].startswith("test_start_up")
    }
    lines = []
    for path in sorted((ROOT / "results" / "published").glob("*/manifest.json")):
        manifest = json.loads(path.read_text())
        run_time, cores = manifest["run_time"], manifest["machine"]["cores"]
        if any(not (ROOT / f"scripts/{rule}.py").exists() for rule in run_time["by_rule"]):
            continue  # Published by an earlier workflow, whose rules are no more.
        imports = sum(of["jobs"] * start_ups[measured(rule)] for rule, of in run_time["by_rule"].items())
        jobs, wall = run_time["job_seconds"], run_time["wall_seconds"]
        lines.append(
            f"| {manifest['experiment']} | {wall:.0f} s | {run_time['jobs']} | {jobs:.0f} s | "
            f"{max(0.0, 1 - jobs / (wall * cores)):.1%} | {imports / jobs:.0%} |"
        )
    return lines


def processor() -> str:
    """The processor's name as Linux tells it."""
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].split(":", 1)[1].strip() if names else platform.processor()


def page(records: list[dict], native: list[dict], machine: dict[str, str], minutes: float) -> str:
    """RESULTS.md: the records of both numerics, the machine's limits, the published runs, and how long all took."""
    lines = [
        "# Benchmarks",
        "",
        f"Made by `make benchmark` in {minutes:.0f} minutes of {datetime.date.today()}: one thread of {processor()},",
        f"Python {platform.python_version()}. Numerics: portable (the default, the same bytes everywhere) or native.",
        "",
        "| limit of this machine, natively | measured |",
        "| --- | --- |",
        *(f"| {name} | {value} |" for name, value in machine.items()),
        "",
        "`ratio` is the customary way's time over ours, in the same run; where rounds were paired, with the lowest and",
        "highest of them. Times of the statistics and samplers are processor seconds, of start-ups wall seconds.",
        "",
        "| group | benchmark | numerics | median | ratio | noted |",
        "| --- | --- | --- | --- | --- | --- |",
        *rows(records, "portable"),
        *rows(native, "native"),
        "",
        "How each step's processor seconds and peak memory grow, and the exponent of its larger sizes, beside what its",
        "mathematics takes. Rows at 16 dimensions, dimensions at 10 000 rows, models of one small experiment.",
        "",
        "| step | over | sizes | exponent |",
        "| --- | --- | --- | --- |",
        *growth(records),
        "",
        "The published runs, by their manifests. Idle: 1 − jobs' time / (wall time × cores), what Snakemake costs.",
        "Imports: the start-ups above times the jobs of each rule, over all jobs' time.",
        "",
        "| experiment | wall time | jobs | jobs' time | idle | imports |",
        "| --- | --- | --- | --- | --- | --- |",
        *overhead(records),
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = run(Path(folder) / "portable.json")
        found_natively = run(Path(folder) / "native.json", "--numerics", "native", "-k", " or ".join(NATIVE))
    text = page(found, found_natively, limits(), (time.monotonic() - start) / 60)
    (HERE / "RESULTS.md").write_text(text, encoding="utf-8")
    print(f"written: {HERE / 'RESULTS.md'}")
