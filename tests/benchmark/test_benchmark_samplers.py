"""The ladder of samplers at the size of MNIST: all rungs and judges of one model, and its two dearest parts.

`pytest tests/benchmark/test_benchmark_samplers.py --benchmark-enable -s` measures at N = 60 000 training images, 10 000
test images, d = 32 and three judges, on one thread; without it the same runs on a few hundred images. Times are
processor seconds of this process, so that other programs on the machine disturb them little.
"""

import time

import numpy as np
import pytest
import torch
from sklearn.mixture import GaussianMixture
from threadpoolctl import threadpool_limits

from aggregated_posterior.generation.image_quality import (
    KernelSums,
    kernel_distance,
    precision_recall_density_coverage,
)
from aggregated_posterior.generation.judge import Judge
from aggregated_posterior.generation.ladder import Splits, score_ladder
from aggregated_posterior.model.vae import VAE
from aggregated_posterior.posterior.mixture import AggregatedPosterior
from aggregated_posterior.statistics.fitted_mixture import fit_normal_mixture

CLOCK = {"timer": time.process_time}


@pytest.fixture(autouse=True)
def one_thread():
    """As in a rule: see `scripting.py`."""
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield


def codes(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """Codes on a curved sheet with clusters, as those of a trained model are."""
    centres = 2 * rng.standard_normal((10, d))
    sheet = np.tanh(rng.standard_normal((n, 8)) @ rng.standard_normal((8, d)))
    return centres[rng.integers(10, size=n)] + sheet + 0.2 * rng.standard_normal((n, d))


@pytest.mark.benchmark(group="ladder of samplers", **CLOCK)
def test_ladder_of_one_model(benchmark):
    """All rungs and judges of one model, fits included."""
    small = benchmark.disabled
    n_train, n_test, d = (600, 100, 4) if small else (60_000, 10_000, 32)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (n_train + n_test, 28, 28)).astype(np.uint8)
    mean = codes(n_train + n_test, d, rng)
    variance = np.exp(rng.normal(-3, 0.7, mean.shape))
    splits = Splits(
        images[:n_train],
        images[n_train:],
        255,
        AggregatedPosterior(mean[:n_train], variance[:n_train]),
        AggregatedPosterior(mean[n_train:], variance[n_train:]),
    )
    model = VAE(784, d, [256, 64], "bernoulli").eval().requires_grad_(False)
    judges = {seed: Judge([28, 28], 10).eval().requires_grad_(False) for seed in range(3)}

    @torch.no_grad()
    def decoder(z: np.ndarray) -> torch.Tensor:
        return model.decode(torch.from_numpy(z))

    rows, _ = benchmark.pedantic(score_ladder, (decoder, splits, judges), {"draws": 1}, rounds=1, iterations=1)
    assert len(rows) == 3 * 17


@pytest.mark.benchmark(group="precision, recall, density, coverage", **CLOCK)
def test_neighbour_measures(benchmark):
    n = 500 if benchmark.disabled else 5000
    real, fake = np.random.default_rng(0).standard_normal((2, n, 64)).astype(np.float32)
    scores = benchmark.pedantic(precision_recall_density_coverage, (real, fake, 5), rounds=3)
    assert scores.coverage == pytest.approx(0.97, abs=0.05)


@pytest.mark.benchmark(group="KID over all pairs", **CLOCK)
@pytest.mark.parametrize("explicit", [True, False])
def test_kernel_distance(benchmark, explicit):
    n = 500 if benchmark.disabled else 5000
    a, b = np.random.default_rng(0).standard_normal((2, n, 64)).astype(np.float32)
    reference = KernelSums.of(b, explicit)
    value, error = benchmark.pedantic(
        lambda: kernel_distance(KernelSums.of(a, explicit), reference), rounds=3, iterations=1
    )
    assert abs(value) < 5 * error


@pytest.mark.benchmark(group="mixture of 100 normal laws", **CLOCK)
@pytest.mark.parametrize("kind", ["scikit-learn", "ours"])
def test_mixture_fit(benchmark, kind):
    n, d, components = (1000, 4, 5) if benchmark.disabled else (20_000, 32, 100)
    rng = np.random.default_rng(0)
    points = codes(2 * n, d, rng)
    train, test = points[:n].astype(np.float32), points[n:].astype(np.float32)
    theirs = GaussianMixture(components, random_state=0, max_iter=20, tol=0.01, reg_covar=1e-4)
    if kind == "ours":
        mixture = benchmark.pedantic(
            fit_normal_mixture, (train, components, np.random.default_rng(0), "full", 20), rounds=1, iterations=1
        )
        likelihood = mixture.score_samples(test).mean()
    else:
        likelihood = benchmark.pedantic(theirs.fit, (train,), rounds=1, iterations=1).score(test)
    benchmark.extra_info["held_out_nats"] = round(float(likelihood), 3)
    assert np.isfinite(likelihood)
