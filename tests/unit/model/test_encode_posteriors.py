"""The script encode_posteriors writes the posteriors and the losses of both splits."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from aggregated_posterior.model.encoding import encode
from aggregated_posterior.model.training import initialise
from aggregated_posterior.model.vae import VAE, save_vae
from aggregated_posterior.storage import read_arrays, read_table, write_arrays

sys.path.insert(0, str(Path(__file__).parents[3] / "scripts"))
from encode_posteriors import encode_posteriors


@pytest.fixture
def undisturbed():
    """The script prepares its process; the tests that follow want theirs as it was."""
    yield
    torch.set_flush_denormal(False)
    torch.set_deterministic_debug_mode("default")
    torch.utils.deterministic.fill_uninitialized_memory = True


def test_posteriors_and_losses(tmp_path, undisturbed):
    rng = np.random.default_rng(0)
    images = {f"images_{split}": rng.integers(0, 17, (n, 6, 6)).astype(np.uint8) for split, n in SIZES.items()}
    write_arrays(tmp_path / "data.safetensors", images, {"maximum": 16})
    model = VAE((6, 6), 3, [8], "bernoulli")
    initialise(model, torch.Generator().manual_seed(0))
    save_vae(tmp_path / "vae.safetensors", model, {"settings": {"seed": 4, "kl_weight": 0.5}})
    outputs = [tmp_path / "posteriors.safetensors", tmp_path / "losses.csv"]
    encode_posteriors(tmp_path / "data.safetensors", tmp_path / "vae.safetensors", *outputs)
    posteriors, _ = read_arrays(outputs[0])
    losses = read_table(outputs[1])
    assert list(losses) == ["split", "reconstruction", "kl", "loss"]
    assert list(losses["split"]) == list(SIZES)
    np.testing.assert_allclose(losses["loss"], losses["reconstruction"] + 0.5 * losses["kl"], rtol=1e-9)
    for split, kl in zip(losses["split"], losses["kl"], strict=True):
        mean, variance = posteriors[f"mean_{split}"], posteriors[f"variance_{split}"]
        np.testing.assert_array_equal(mean, encode(model.requires_grad_(False), images[f"images_{split}"], 16)[0])
        assert kl == pytest.approx((mean**2 + variance - 1 - np.log(variance)).sum(1).mean() / 2, rel=1e-5)


SIZES = {"train": 50, "test": 20}
