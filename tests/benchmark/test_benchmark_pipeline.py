"""Encoding beside a DataLoader loop, and what starting a rule costs."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from aggregated_posterior.model.encoding import encode
from aggregated_posterior.model.vae import VAE

ROOT = Path(__file__).resolve().parents[2]
CLOCK = {"timer": time.process_time}
# One rule for all that collect tables, and one for all figures: they import the same.
SCRIPTS = [
    "download_dataset",
    "prepare_dataset",
    "train_judge",
    "train_vae",
    "encode_posteriors",
    "compute_moments",
    "measure_marginals",
    "measure_divergence",
    "measure_latent_map",
    "score_samplers",
    "collect_moments",
    "check_claims",
    "plot_kurtosis_terms",
]


@pytest.fixture
def model_and_images(benchmark):
    torch.set_num_threads(1)
    n = 500 if benchmark.disabled else 60_000
    images = np.random.default_rng(0).integers(0, 256, (n, 28, 28)).astype(np.uint8)
    return VAE(784, 16, [256, 64], "bernoulli").eval().requires_grad_(False), images


def encode_with_a_dataloader(model: VAE, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The customary way: float images in a data set, a loader, minibatches of 128, results put together."""
    data = torch.utils.data.TensorDataset(torch.from_numpy(images).float() / 255)
    means, variances = [], []
    with torch.no_grad():
        for (batch,) in torch.utils.data.DataLoader(data, batch_size=128):
            mean, log_variance = model.encode(batch.flatten(1))
            means.append(mean)
            variances.append(log_variance.exp())
    return torch.cat(means).numpy(), torch.cat(variances).numpy()


def encode_in_blocks(model: VAE, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return encode(model, images, 255)


@pytest.mark.benchmark(group="encoding 60 000 images", **CLOCK)
@pytest.mark.parametrize("kind", ["naive", "ours"])
def test_encoding(benchmark, model_and_images, kind):
    model, images = model_and_images
    way = encode_with_a_dataloader if kind == "naive" else encode_in_blocks
    mean, variance = benchmark.pedantic(way, (model, images), rounds=1 if benchmark.disabled else 5, warmup_rounds=1)
    expected = encode_with_a_dataloader(model, images[:100])
    np.testing.assert_allclose(mean[:100], expected[0], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(variance[:100], expected[1], rtol=1e-4, atol=1e-5)


@pytest.mark.benchmark(group="start-up of a rule: its imports")
@pytest.mark.parametrize("script", ["nothing", *SCRIPTS])
def test_start_up(benchmark, script):
    """A fresh Python that imports what the script imports and ends."""
    code = "pass" if script == "nothing" else f"import {script}"
    rounds = 1 if benchmark.disabled else 5

    def start() -> None:
        subprocess.run([sys.executable, "-c", code], cwd=ROOT / "scripts", check=True)

    benchmark.pedantic(start, rounds=rounds, warmup_rounds=1)
