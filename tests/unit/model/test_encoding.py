"""Encoding from stored weights is the model's own encoding."""

import numpy as np
import pytest
import torch

from aggregated_posterior.model.encoding import encode
from aggregated_posterior.model.training import initialise
from aggregated_posterior.model.vae import VAE, images_to_floats
from aggregated_posterior.storage import DataError


def model(hidden_sizes: list[int]) -> VAE:
    made = VAE(36, 3, hidden_sizes, "bernoulli")
    initialise(made, torch.Generator().manual_seed(0))
    return made


def weights(made: VAE) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy() for name, tensor in made.state_dict().items()}


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 17, size=(150, 6, 6)).astype(np.uint8)


# Twelve hidden layers have numbers of one and of two digits.
@pytest.mark.parametrize("hidden_sizes", [[], [16], [16, 8], [20] * 12])
def test_it_is_the_models_own(images, hidden_sizes):
    made = model(hidden_sizes)
    with torch.no_grad():
        mean, log_variance = made.encode(images_to_floats(images, 16))
    ours = encode(weights(made), images, 16)
    np.testing.assert_allclose(ours[0], mean.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(ours[1], log_variance.exp().numpy(), rtol=1e-5)
    assert ours[0].dtype == ours[1].dtype == np.float32


def test_in_blocks_too(images):
    made = weights(model([16]))
    for whole, pieces in zip(encode(made, images, 16), encode(made, images, 16, block_size=37), strict=True):
        np.testing.assert_allclose(whole, pieces, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("log_variance", [1e4, -1e4])
def test_variances_of_infinity_and_of_zero_are_refused(images, log_variance):
    made = model([16])
    made.head_log_variance.bias.data.fill_(log_variance)
    with pytest.raises(DataError, match="not finite and positive"):
        encode(weights(made), images, 16)


def test_what_is_no_model_of_these_images_is_refused(images):
    made = weights(model([16]))
    with pytest.raises(DataError, match=r"no head_mean\.bias: it is none of this pipeline"):
        encode({name: array for name, array in made.items() if name != "head_mean.bias"}, images, 16)
    with pytest.raises(DataError, match="images have 30 values, the model takes 36"):
        encode(made, images[:, :5], 16)
