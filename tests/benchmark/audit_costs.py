"""What an audit costs at several sizes and kinds of input, by part, beside what its plan says beforehand.

`python tests/benchmark/audit_costs.py` prints the table of docs/audit.md: processor seconds of one thread and the peak
memory of a process for each input. `python tests/benchmark/audit_costs.py 3` measures the fourth input alone.
"""

import os
import resource
import subprocess
import sys
import time
from pathlib import Path

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

import numpy as np

from aggregated_posterior.audit.auditing import audit

# Kind, rows, dimensions, held-out rows.
INPUTS = [
    ("usual", 10_000, 16, 0), ("usual", 60_000, 16, 0), ("usual", 60_000, 16, 10_000), ("usual", 200_000, 16, 0),
    ("usual", 1_000_000, 16, 0), ("usual", 10_000, 64, 0), ("usual", 10_000, 256, 0), ("usual", 60_000, 512, 0),
    ("narrow, unequal", 2_000, 16, 0), ("narrow, unequal", 20_000, 16, 0), ("narrow, unequal", 2_000, 256, 0),
    ("wide", 1_000, 2_048, 0),
]  # fmt: skip
PARTS = ("outliers", "rows that repeat", "moments", "marginals", "joint law")


def made(kind: str, n: int, d: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Means and variances: ten clusters with a quarter of the dimensions collapsed, needles, or wide ones."""
    if kind == "usual":
        mean = 0.6 * rng.standard_normal((10, d))[rng.integers(10, size=n)] + 0.7 * rng.standard_normal((n, d))
        variance = np.exp(-2 + 0.5 * rng.standard_normal((n, d)))
        mean[:, : d // 4] *= 0.01
        variance[:, : d // 4] = 0.999
        return mean.astype(np.float32), variance.astype(np.float32)
    if kind == "wide":
        return rng.standard_normal((n, d)), np.full((n, d), np.exp(-1.0))
    return 5 * rng.standard_normal((n, d)), np.exp(-12 + rng.standard_normal((n, d)))


def row(kind: str, n: int, d: int, held_out: int) -> str:
    """One line of the table, measured here and now."""
    rng = np.random.default_rng(0)
    mean, variance = made(kind, n + held_out, d, rng)
    halves = {} if not held_out else {"mean_test": mean[n:], "variance_test": variance[n:]}
    audit(mean[:100, :2], variance[:100, :2])  # libraries are loaded before the clock starts
    plans, stages = [], []
    start = time.process_time()
    audit(
        mean[:n], variance[:n], **halves,
        announce=plans.append, progress=lambda stage: stages.append((stage, time.process_time())),
    )  # fmt: skip
    end = time.process_time()
    times = dict.fromkeys(PARTS, 0.0)
    for (stage, began), (_, ended) in zip(stages, [*stages[1:], ("", end)], strict=True):
        times[stage] += ended - began
    first = times["outliers"] + times["rows that repeat"] + times["moments"]
    size = f"{n:,} × {d:,}" + (f" + {held_out:,}" if held_out else "")
    cells = [size, kind, f"{first:.2f}", f"{times['marginals']:.2f}", f"{times['joint law']:.2f}", f"{end - start:.1f}"]
    cells += [f"{plans[0].seconds:.1f}", f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f}"]
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(row(*INPUTS[int(sys.argv[1])]))
    else:
        print("| N × d | posteriors | moments, outliers, repeats | marginals | joint law | in all, s | planned | MiB |")
        print("|---|---|---|---|---|---|---|---|")
        for index in range(len(INPUTS)):
            subprocess.run([sys.executable, __file__, str(index)], check=True)
