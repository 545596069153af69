"""The loss: known values, and the gauge identities that hold at every parameter value."""

import math

import pytest
import torch

from aggregated_posterior.model.training import initialise
from aggregated_posterior.model.vae import (
    VAE,
    images_to_floats,
    kl_divergence,
    load_vae,
    objective,
    reconstruction_loss,
    save_vae,
)
from aggregated_posterior.storage import DataError

BATCH, LATENT = 7, 3
ARCHITECTURES = [("linear", 12), ("dense", 12), ("conv", (8, 8)), ("conv", (28, 28)), ("conv", (32, 32, 3))]


def make(
    likelihood: str, architecture: str = "dense", shape: int | tuple[int, ...] = 12, seed: int = 0
) -> tuple[VAE, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    model = VAE(shape, LATENT, [9, 5], likelihood, decoder_variance=0.7, architecture=architecture).double()
    initialise(model, generator)
    x = torch.rand(BATCH, model.pixels, generator=generator, dtype=torch.float64)
    noise = torch.randn(BATCH, LATENT, generator=generator, dtype=torch.float64)
    return model, x, noise


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize(("architecture", "shape"), ARCHITECTURES)
@pytest.mark.parametrize("kl_weight", [0.25, 8.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_gauge_identities(likelihood, architecture, shape, kl_weight, seed):
    """Shift and scale of a latent dimension can be absorbed by heads and decoder, so their gradients are tied.

    A wrong reduction, a lost factor of ½, or σ in the place of σ² breaks this.
    """
    model, x, noise = make(likelihood, architecture, shape, seed)
    result = objective(model, x, noise, kl_weight)
    result.loss.backward()
    first = model.first_decoder_layer
    mean, log_variance = model.head_mean, model.head_log_variance
    scale = (
        (mean.weight * mean.weight.grad).sum(1)
        + mean.bias * mean.bias.grad
        + 2 * log_variance.bias.grad
        - (first.weight * first.weight.grad).sum(0)
    )
    second = (result.mean.square() + result.log_variance.exp()).mean(0)
    torch.testing.assert_close(scale, kl_weight * (second - 1), rtol=1e-10, atol=1e-10)
    shift = mean.bias.grad - first.weight.T @ first.bias.grad
    torch.testing.assert_close(shift, kl_weight * result.mean.mean(0), rtol=1e-10, atol=1e-10)


def test_kl_is_summed_over_dimensions_and_averaged_over_the_batch():
    mean, log_variance = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [0.0, math.log(4)]])
    expected = (0.5 + 0.5 * (4 - 1 - math.log(4))) / 2
    assert kl_divergence(mean, log_variance).item() == pytest.approx(expected, rel=1e-6)


def test_reconstruction_losses_are_full_negative_log_likelihoods():
    x = torch.tensor([[0.0, 1.0, 0.5]])
    logits = torch.tensor([[0.3, -0.2, 1.0]])
    p = torch.sigmoid(logits)
    expected = -(x * p.log() + (1 - x) * (1 - p).log()).sum().item()
    assert reconstruction_loss(logits, x, "bernoulli", 1.0).item() == pytest.approx(expected, rel=1e-6)
    normal = torch.distributions.Normal(logits, math.sqrt(0.3))
    expected = -normal.log_prob(x).sum().item()
    assert reconstruction_loss(logits, x, "gaussian", 0.3).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("scale", [1, 30])
def test_the_bernoulli_losss_gradient_is_that_of_pytorchs_own(scale):
    random = torch.Generator().manual_seed(0)
    logits = scale * torch.randn(5, 8, generator=random, dtype=torch.float64)
    x = torch.rand(5, 8, generator=random, dtype=torch.float64)
    ours, theirs = (logits.clone().requires_grad_() for _ in range(2))
    loss = reconstruction_loss(ours, x, "bernoulli", 1.0)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(theirs, x, reduction="sum") / 5
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-11, atol=1e-14)


def test_logits_beyond_all_rounding_have_a_finite_loss_and_gradient():
    logits = torch.tensor([[500.0, -500.0, 80.0, -80.0]], requires_grad=True)
    loss = reconstruction_loss(logits, torch.tensor([[1.0, 0.0, 0.0, 1.0]]), "bernoulli", 1.0)
    assert loss.item() == pytest.approx(160)
    loss.backward()
    assert logits.grad[0].tolist() == [0, 0, 1, -1]


def test_images_are_left_as_they_are():
    x = torch.rand(5, 12, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    images_to_floats(x, 4)
    model, _, _ = make("bernoulli")
    objective(model.float(), x, torch.zeros(5, LATENT), 1.0).loss.backward()
    assert torch.equal(x, before)


def test_the_last_axis_of_a_colour_image_is_its_channels():
    model, _, _ = make("gaussian", "conv", (8, 8, 3))
    pixels = torch.arange(2.0 * 8 * 8 * 3).reshape(2, -1)
    images = model.encoder[0](pixels)
    assert images.shape == (2, 3, 8, 8)
    assert torch.equal(images[1, 2], pixels.reshape(2, 8, 8, 3)[1, :, :, 2])
    assert torch.equal(model.decoder[-1](images), pixels)


@pytest.mark.parametrize(("architecture", "shape"), ARCHITECTURES)
def test_a_saved_model_is_the_same_model(tmp_path, architecture, shape):
    model, x, _ = make("bernoulli", architecture, shape)
    model = model.float()
    save_vae(tmp_path / "vae.safetensors", model, {"settings": {"seed": 3}})
    loaded, metadata = load_vae(tmp_path / "vae.safetensors")
    assert metadata["settings"] == {"seed": 3}
    x = x.float()
    assert torch.equal(model.decode(model.encode(x)[0]), loaded.decode(loaded.encode(x)[0]))


def test_unknown_likelihood_is_refused():
    with pytest.raises(DataError, match="laplace"):
        VAE(4, 2, [], "laplace")


def test_an_architecture_that_cannot_be_is_refused():
    with pytest.raises(DataError, match="'densse' is unknown; choose dense or linear or conv"):
        VAE(4, 2, [], "bernoulli", architecture="densse")
    for shape in [(30, 30), 784]:
        with pytest.raises(DataError, match="multiples of 4"):
            VAE(shape, 2, [], "bernoulli", architecture="conv")


def test_a_file_that_is_no_model_is_refused(tmp_path):
    from aggregated_posterior.storage import write_arrays

    write_arrays(tmp_path / "x.safetensors", {"a": torch.zeros(2).numpy()}, {})
    with pytest.raises(DataError, match=r"x\.safetensors"):
        load_vae(tmp_path / "x.safetensors")
