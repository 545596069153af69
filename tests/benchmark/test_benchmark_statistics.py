"""Exact statistics of Q(z): ours beside the naive form, in the same run.

`pytest tests/benchmark/test_benchmark_statistics.py --benchmark-enable -s` measures at the size of MNIST (N = 60 000,
d = 16, one thread); without it every form runs once on small arrays and only agreement is asked for. Times are
processor seconds of this process, so that other programs on the machine disturb them little. Ratios to the naive form
and largest differences from it stand in `extra_info`. `-m slow` adds ten million rows from a memory-mapped file.
"""

import json
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest

from aggregated_posterior.posterior.mixture import AggregatedPosterior, Moments
from aggregated_posterior.statistics.marginals import Marginals

LATENT_DIM = 16
CLOCK = {"timer": time.process_time}
# Seconds of the naive form of each group, for the ratio that ours reports.
NAIVE: dict[str, float] = {}


@pytest.fixture
def q(benchmark) -> AggregatedPosterior:
    """Half of the dimensions active with varying widths, half collapsed, as trained VAEs have them."""
    rng = np.random.default_rng(0)
    n = 2_000 if benchmark.disabled else 60_000
    active = np.arange(LATENT_DIM) < LATENT_DIM // 2
    mean = rng.standard_normal((n, LATENT_DIM)) * np.where(active, 0.97, 0.01)
    variance = np.exp(rng.normal(np.where(active, -3.0, 0.0), np.where(active, 0.7, 0.01), (n, LATENT_DIM)))
    return AggregatedPosterior(mean.astype(np.float32), variance.astype(np.float32))


def timed(benchmark, function, rounds: int, kind: str):
    """Run and time; `kind` is "naive" or "ours". The naive form of a group has to come first."""
    group = benchmark.group
    result = benchmark.pedantic(function, rounds=rounds, warmup_rounds=min(rounds - 1, 2), iterations=1)
    if benchmark.disabled:
        return result
    seconds = benchmark.stats.stats.median
    if kind == "naive":
        NAIVE[group] = seconds
    elif group in NAIVE:
        benchmark.extra_info["ratio_to_naive"] = round(NAIVE[group] / seconds, 1)
        print(f"\n{group}: naive {NAIVE[group]:.4g} s, ours {seconds:.4g} s, ratio {NAIVE[group] / seconds:.1f}")
    return result


# ------------------------------------------------------------------------------------------------------ moments


def naive_moments(mean: np.ndarray, variance: np.ndarray) -> dict[str, np.ndarray]:
    """The formulas as written, on whole float64 arrays."""
    mu, s = mean.astype(np.float64), variance.astype(np.float64)
    centre = mu.mean(axis=0)
    u = mu - centre
    second = (u**2 + s).mean(axis=0)
    third = (u**3 + 3 * u * s).mean(axis=0)
    fourth = (u**4 + 6 * u**2 * s + 3 * s**2).mean(axis=0)
    return {"mean": centre, "variance": second, "skewness": third / second**1.5, "kurtosis": fourth / second**2}


def same_moments(ours: Moments, expected: dict[str, np.ndarray]) -> float:
    return max(float(np.abs(getattr(ours, name) - value).max()) for name, value in expected.items())


@pytest.mark.benchmark(group="four moments", **CLOCK)
def test_moments_naive(benchmark, q):
    timed(benchmark, lambda: naive_moments(q.mean, q.variance), 20, "naive")


@pytest.mark.benchmark(group="four moments", **CLOCK)
def test_moments_ours(benchmark, q):
    ours = timed(benchmark, q.moments, 40, "ours")
    benchmark.extra_info["difference"] = same_moments(ours, naive_moments(q.mean, q.variance))
    assert benchmark.extra_info["difference"] < 1e-10


# ---------------------------------------------------------------------------------------------------- density


def broadcast_log_density(q: AggregatedPosterior, z: np.ndarray) -> np.ndarray:
    """The form in β-TCVAE code: ln N of every point under every component and dimension, then sum and log-sum-exp.

    The array (points, N, d) is cut along the points, or it would take 15 GB.
    """
    mean, log_variance = q.mean.astype(np.float64), np.log(q.variance.astype(np.float64))
    inverse = np.exp(-log_variance)
    out = np.empty(len(z))
    for i, point in enumerate(z):
        table = -0.5 * ((point - mean) ** 2 * inverse + log_variance + np.log(2 * np.pi))
        terms = table.sum(axis=1)
        top = terms.max()
        out[i] = top + np.log(np.exp(terms - top).sum()) - np.log(q.n)
    return out


@pytest.fixture
def points(benchmark, q) -> np.ndarray:
    return q.sample(100 if benchmark.disabled else 2000, np.random.default_rng(1))


@pytest.mark.benchmark(group="ln Q at 2000 points", **CLOCK)
def test_log_density_broadcast(benchmark, q, points):
    timed(benchmark, lambda: broadcast_log_density(q, points), 1, "naive")


@pytest.mark.benchmark(group="ln Q at 2000 points", **CLOCK)
def test_log_density_ours(benchmark, q, points):
    ours = timed(benchmark, lambda: q.log_density(points), 5, "ours")
    few = slice(0, 50)
    benchmark.extra_info["difference"] = float(np.abs(ours[few] - broadcast_log_density(q, points[few])).max())
    assert benchmark.extra_info["difference"] < 1e-9


# --------------------------------------------------------------------------------------------------- marginals


def direct_pdf(q: AggregatedPosterior, z: np.ndarray) -> np.ndarray:
    """Every component at every point, one dimension and block of points at a time, (points, d)."""
    out = np.empty((len(z), q.latent_dim))
    for j in range(q.latent_dim):
        mean, deviation = q.mean[:, j].astype(np.float64), np.sqrt(q.variance[:, j].astype(np.float64))
        weight = 1 / (np.sqrt(2 * np.pi) * deviation)
        for start in range(0, len(z), 8):
            t = (z[start : start + 8, None] - mean) / deviation
            out[start : start + 8, j] = (np.exp(np.maximum(-0.5 * t * t, -700)) @ weight) / q.n
    return out


@pytest.fixture
def grid(benchmark) -> np.ndarray:
    return np.linspace(-8, 8, 101 if benchmark.disabled else 2001)


@pytest.mark.benchmark(group="densities of 16 marginals on 2001 points", **CLOCK)
def test_marginals_direct(benchmark, q, grid):
    timed(benchmark, lambda: direct_pdf(q, grid), 1, "naive")


@pytest.mark.benchmark(group="densities of 16 marginals on 2001 points", **CLOCK)
def test_marginals_ours(benchmark, q, grid):
    ours = timed(benchmark, lambda: Marginals(q).pdf(grid), 5, "ours")
    some = slice(0, None, 20)
    benchmark.extra_info["difference"] = float(np.abs(ours[some] - direct_pdf(q, grid[some])).max())
    assert benchmark.extra_info["difference"] < 1e-8


@pytest.mark.benchmark(group="five distances of 16 marginals", **CLOCK)
def test_distances_ours(benchmark, q):
    distances = timed(benchmark, lambda: Marginals(q).distances(), 3, "ours")
    assert np.all(distances.kl >= 0)


# ------------------------------------------------------------------------------- ten million rows, memory-mapped

# Each form runs in its own process, so that the peak of its resident memory (mapped file pages included) is its own.
CHILD = """
import json, sys, time
import numpy as np

folder, form = sys.argv[1:]
mean, variance = (np.load(f"{folder}/{name}.npy", mmap_mode="r") for name in ("mean", "variance"))

def ours():
    from aggregated_posterior.posterior.mixture import AggregatedPosterior
    return AggregatedPosterior(mean, variance).moments().kurtosis

def naive():
    # The whole arrays would not fit: one dimension at a time, and two of them are enough to tell the time of all.
    out = []
    for j in range(2):
        u, s = mean[:, j].astype(np.float64), variance[:, j].astype(np.float64)
        u -= u.mean()
        out.append((u**4 + 6 * u**2 * s + 3 * s**2).mean() / (u**2 + s).mean() ** 2)
    return np.array(out)

start = time.perf_counter(), time.process_time()
kurtosis = {"ours": ours, "naive": naive}[form]()
wall, processor = time.perf_counter() - start[0], time.process_time() - start[1]
status = open("/proc/self/status").read()
peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
print(json.dumps({"kurtosis": kurtosis.tolist(), "wall": wall, "processor": processor, "peak": peak}))
"""


@pytest.fixture(scope="module")
def ten_million(tmp_path_factory):
    """Means and variances, 10 000 000 × 32 float32, 1.2 GiB each, as .npy files."""
    folder = tmp_path_factory.mktemp("ten_million")
    rng = np.random.default_rng(2)
    rows, d, repeats = 500_000, 32, 20
    for name in ("mean", "variance"):
        tile = rng.standard_normal((rows, d), dtype=np.float32)
        if name == "variance":
            tile = np.exp(0.5 * tile - 3)
        out = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", np.float32, (rows * repeats, d))
        for k in range(repeats):
            out[k * rows : (k + 1) * rows] = tile + (0.1 * k if name == "mean" else 0)
        out.flush()
        del out
    yield folder
    for file in folder.iterdir():
        file.unlink()


def run_child(folder, form: str) -> dict:
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(folder), form]
    environment = {"PYTHONPATH": ":".join(sys.path), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)


@pytest.mark.slow
@pytest.mark.benchmark(group="moments of ten million rows, memory-mapped")
def test_ten_million_rows(benchmark, ten_million):
    naive = run_child(ten_million, "naive")
    ours = benchmark.pedantic(lambda: run_child(ten_million, "ours"), rounds=1, iterations=1)
    np.testing.assert_allclose(ours["kurtosis"][:2], naive["kurtosis"], rtol=1e-9)
    for name, result, share in (("naive_times_16", naive, 16), ("ours", ours, 1)):
        numbers = {key: round(share * result[key], 2) for key in ("wall", "processor")}
        benchmark.extra_info[name] = numbers | {"peak_mib": result["peak"] // 2**20}
    print(f"\nten million rows: {json.dumps(dict(benchmark.extra_info))}")
    assert ours["peak"] < 2**30
