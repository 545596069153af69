"""Encoding in blocks, and the losses of a whole split."""

import numpy as np
import pytest
import torch

from aggregated_posterior.model.encoding import encode, losses
from aggregated_posterior.model.training import initialise
from aggregated_posterior.model.vae import VAE, images_to_floats, objective
from aggregated_posterior.storage import DataError


@pytest.fixture
def model() -> VAE:
    made = VAE((6, 6), 3, [16], "bernoulli")
    initialise(made, torch.Generator().manual_seed(0))
    return made.requires_grad_(False)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    made = np.random.default_rng(0).integers(0, 17, size=(150, 6, 6)).astype(np.uint8)
    made.setflags(write=False)
    return made


def test_in_blocks_it_is_the_models_own(model, images):
    mean, log_variance = model.encode(images_to_floats(images.copy(), 16))
    for block_size in (37, 150, 4096):
        ours = encode(model, images, 16, block_size)
        np.testing.assert_allclose(ours[0], mean.numpy(), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(ours[1], log_variance.exp().numpy(), rtol=1e-5)
        assert ours[0].dtype == ours[1].dtype == np.float32


def test_losses_in_blocks_are_those_of_the_objective(model, images):
    noise = np.random.default_rng(1).standard_normal((150, 3), dtype=np.float32)
    expected = objective(model, images_to_floats(images.copy(), 16), torch.from_numpy(noise), 0.25)
    found = losses(model, images, 16, 0.25, noise, block_size=37)
    assert found["reconstruction"] == pytest.approx(expected.reconstruction.item(), rel=1e-5)
    assert found["kl"] == pytest.approx(expected.kl.item(), rel=1e-5)
    assert found["loss"] == found["reconstruction"] + 0.25 * found["kl"]


@pytest.mark.parametrize("log_variance", [1e4, -1e4])
def test_variances_of_infinity_and_of_zero_are_refused(model, images, log_variance):
    model.head_log_variance.bias.fill_(log_variance)
    with pytest.raises(DataError, match="not finite and positive"):
        encode(model, images, 16)


def test_images_of_another_size_are_refused(model, images):
    with pytest.raises(DataError, match="images have 30 values, the model takes 36"):
        encode(model, images[:, :5], 16)
