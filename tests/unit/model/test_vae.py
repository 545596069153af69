"""The loss: known values, and the gauge identities that hold at every parameter value."""

import math

import pytest
import torch

from aggregated_posterior.model.training import initialise
from aggregated_posterior.model.vae import VAE, kl_divergence, load_vae, objective, reconstruction_loss, save_vae
from aggregated_posterior.storage import DataError

BATCH, PIXELS, LATENT = 7, 12, 3


def make(likelihood: str, hidden: list[int], seed: int = 0) -> tuple[VAE, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    model = VAE(PIXELS, LATENT, hidden, likelihood, decoder_variance=0.7).double()
    initialise(model, generator)
    x = torch.rand(BATCH, PIXELS, generator=generator, dtype=torch.float64)
    noise = torch.randn(BATCH, LATENT, generator=generator, dtype=torch.float64)
    return model, x, noise


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("hidden", [[], [9, 5]])
@pytest.mark.parametrize("kl_weight", [0.25, 1.0, 8.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_gauge_identities(likelihood, hidden, kl_weight, seed):
    """Shift and scale of a latent dimension can be absorbed by heads and decoder, so their gradients are tied.

    A wrong reduction, a lost factor of ½, or σ in the place of σ² breaks this.
    """
    model, x, noise = make(likelihood, hidden, seed)
    result = objective(model, x, noise, kl_weight)
    result.loss.backward()
    first = model.decoder[0]
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


def test_a_saved_model_is_the_same_model(tmp_path):
    model, x, _ = make("bernoulli", [9, 5])
    model = model.float()
    save_vae(tmp_path / "vae.safetensors", model, {"settings": {"seed": 3}})
    loaded, metadata = load_vae(tmp_path / "vae.safetensors")
    assert metadata["settings"] == {"seed": 3}
    x = x.float()
    assert torch.equal(model.decode(model.encode(x)[0]), loaded.decode(loaded.encode(x)[0]))


def test_unknown_likelihood_is_refused():
    with pytest.raises(DataError, match="laplace"):
        VAE(4, 2, [], "laplace")


def test_a_file_that_is_no_model_is_refused(tmp_path):
    from aggregated_posterior.storage import write_arrays

    write_arrays(tmp_path / "x.safetensors", {"a": torch.zeros(2).numpy()}, {})
    with pytest.raises(DataError, match=r"x\.safetensors"):
        load_vae(tmp_path / "x.safetensors")
