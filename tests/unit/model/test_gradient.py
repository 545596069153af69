"""The gradient that is written out is the one that automatic differentiation finds."""

import pytest
import torch

from aggregated_posterior.model.gradient import objective_and_gradient
from aggregated_posterior.model.training import initialise
from aggregated_posterior.model.vae import VAE, objective


@pytest.mark.parametrize("hidden_sizes", [[], [7], [9, 5], [8, 8, 6]])
@pytest.mark.parametrize(("likelihood", "decoder_variance"), [("bernoulli", 1.0), ("gaussian", 0.3)])
@pytest.mark.parametrize("kl_weight", [0.0, 0.25, 4.0])
def test_it_is_that_of_automatic_differentiation(hidden_sizes, likelihood, decoder_variance, kl_weight):
    generator = torch.Generator().manual_seed(1)
    model = VAE(12, 3, hidden_sizes, likelihood, decoder_variance).double()
    initialise(model, generator)
    with torch.no_grad():
        # Far logits too, where a naive logarithm would give infinity.
        model.decoder[-1].weight.mul_(30)
        model.head_mean.bias.add_(1)
    x = torch.rand(20, 12, generator=generator, dtype=torch.float64)
    noise = torch.randn(20, 3, generator=generator, dtype=torch.float64)
    expected = objective(model, x, noise, kl_weight)
    gradients = torch.autograd.grad(expected.loss, list(model.parameters()))
    # Twice: a second call must replace the first one's gradient, not add to it.
    for _ in range(2):
        result = objective_and_gradient(model, x, noise, kl_weight)
        for name in expected._fields:
            torch.testing.assert_close(getattr(result, name), getattr(expected, name), rtol=1e-12, atol=1e-12)
        for parameter, gradient in zip(model.parameters(), gradients, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-11, atol=1e-12)


def test_logits_beyond_all_rounding_have_a_finite_loss_and_gradient():
    model = VAE(4, 2, [], "bernoulli")
    initialise(model, torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.decoder[-1].bias.copy_(torch.tensor([500.0, -500.0, 80.0, -80.0]))
    x = torch.tensor([[1.0, 0.0, 0.0, 1.0]])
    result = objective_and_gradient(model, x, torch.zeros(1, 2), 1.0)
    assert result.reconstruction.item() == pytest.approx(160, rel=0.02)
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_a_layer_that_it_does_not_know_is_refused():
    model = VAE(4, 2, [3], "bernoulli")
    model.encoder[1] = torch.nn.SiLU()
    with pytest.raises(TypeError, match="gradient of SiLU is not written out"):
        objective_and_gradient(model, torch.rand(5, 4), torch.zeros(5, 2), 1.0)


def test_images_are_left_as_they_are():
    model = VAE(4, 2, [3], "gaussian")
    x = torch.rand(5, 4, generator=torch.Generator().manual_seed(0))
    before = x.clone()
    objective_and_gradient(model, x, torch.zeros(5, 2), 1.0)
    assert torch.equal(x, before)
