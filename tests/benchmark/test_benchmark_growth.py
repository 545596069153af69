"""How processor time and memory of each exact statistic grow with the rows N and the latent dimensions d.

`pytest tests/benchmark/test_benchmark_growth.py --benchmark-enable -s` measures N = 10⁴ … 10⁷ at d = 16 and
d = 2 … 512 at N = 10⁴, one thread; without it two tiny sizes of each run once. `extra_info` holds seconds and the peak
of what was allocated beside the input, and exponents fitted to the larger half of the sizes. Nothing may grow faster
than its mathematics must.
"""

import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from aggregated_posterior.posterior.mixture import AggregatedPosterior
from aggregated_posterior.statistics.joint_shape import mardia_kurtosis, mardia_skewness
from aggregated_posterior.statistics.marginals import Marginals
from aggregated_posterior.statistics.uncertainty import kurtosis_se_blocks, kurtosis_se_rows

ROWS, DIMENSIONS = (10_000, 100_000, 1_000_000, 10_000_000), (2, 8, 32, 128, 512)
TINY_ROWS, TINY_DIMENSIONS = (200, 400), (2, 4)
AT_ROWS, AT_DIMENSION = 10_000, 16
POINTS = 200


def log_density(q: AggregatedPosterior) -> np.ndarray:
    return q.log_density(q.sample(POINTS, np.random.default_rng(1)))


# Name, function, exponents of N and d that its mathematics takes, and the largest N and d (minutes beyond).
STEPS: list[tuple[str, Callable, float, float, int, int]] = [
    ("moments", AggregatedPosterior.moments, 1, 1, 10**7, 512),
    ("mean KL", AggregatedPosterior.kl, 1, 1, 10**7, 512),
    ("covariance", AggregatedPosterior.covariance, 1, 2, 10**7, 512),
    ("kurtosis errors over rows", kurtosis_se_rows, 1, 1, 10**7, 512),
    ("kurtosis errors over blocks", kurtosis_se_blocks, 1, 1, 10**7, 512),
    ("ln Q at 200 points", log_density, 1, 1, 10**7, 512),
    ("marginals and their distances", lambda q: Marginals(q).distances(), 1, 1, 10**6, 128),
    ("Mardia's kurtosis", mardia_kurtosis, 1, 2, 10**7, 512),
    ("Mardia's skewness", mardia_skewness, 1, 3, 10**7, 128),
]


def posterior(n: int, d: int) -> AggregatedPosterior:
    """Half of the dimensions active with varying widths, half collapsed, as trained VAEs have them; float32."""
    rng = np.random.default_rng(0)
    active = np.arange(d) < (d + 1) // 2
    mean = rng.standard_normal((n, d), dtype=np.float32) * np.where(active, 0.97, 0.01).astype(np.float32)
    spread = rng.standard_normal((n, d), dtype=np.float32) * np.where(active, 0.7, 0.01).astype(np.float32)
    return AggregatedPosterior(mean, np.exp(spread - np.where(active, 3, 0).astype(np.float32)))


def measure(function: Callable, n: int, d: int) -> tuple[float, float]:
    """Processor seconds (the least of up to four runs), and MiB allocated at most beside the input (in the first)."""
    q = posterior(n, d)
    seconds = []
    tracemalloc.start()
    while not seconds or (len(seconds) < 4 and sum(seconds) < 1):
        start = time.process_time()
        function(q)
        seconds.append(time.process_time() - start)
        if tracemalloc.is_tracing():
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
    return min(seconds), peak / 2**20


def exponent(sizes: tuple[int, ...], seconds: list[float]) -> float:
    """The slope of ln seconds over ln size, of the larger half of the sizes."""
    half = slice(-(len(sizes) // 2 + 1), None)
    return float(np.polyfit(np.log(sizes[half]), np.log(np.maximum(seconds[half], 1e-9)), 1)[0])


@pytest.mark.benchmark(group="growth")
@pytest.mark.parametrize(
    ("function", "of_rows", "of_dimensions", "most_rows", "largest"), [s[1:] for s in STEPS], ids=[s[0] for s in STEPS]
)
def test_growth(benchmark, function, of_rows, of_dimensions, most_rows, largest):
    small = benchmark.disabled
    rows = tuple(n for n in (TINY_ROWS if small else ROWS) if n <= most_rows)
    dimensions = tuple(d for d in (TINY_DIMENSIONS if small else DIMENSIONS) if d <= largest)
    found = {}

    def everything():
        found["rows"] = [measure(function, n, AT_DIMENSION) for n in rows]
        found["dimensions"] = [measure(function, min(AT_ROWS, rows[-1]), d) for d in dimensions]

    benchmark.pedantic(everything, rounds=1, iterations=1)
    assert len(found["rows"]) == len(rows)
    assert all(seconds >= 0 and peak > 0 for seconds, peak in found["rows"] + found["dimensions"])
    if small:
        return
    for name, sizes, expected in (("rows", rows, of_rows), ("dimensions", dimensions, of_dimensions)):
        seconds, peaks = ([one[k] for one in found[name]] for k in (0, 1))
        listed = "; ".join(f"{size}: {s:.3g} s, {p:.3g} MiB" for size, s, p in zip(sizes, seconds, peaks, strict=True))
        benchmark.extra_info[name] = listed
        # Beside what its mathematics takes; a quarter more is what caches and other programs may add.
        benchmark.extra_info[f"exponent_of_{name}"] = f"{exponent(sizes, seconds):.2f} (of {expected})"
    print(f"\n{dict(benchmark.extra_info)}")
