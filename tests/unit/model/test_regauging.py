"""Re-gauging: reconstructions stay, the KL term falls, and Q(z) has mean 0 and variance 1."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from aggregated_posterior.model.optimiser import Adam
from aggregated_posterior.model.regauging import regauge
from aggregated_posterior.model.training import initialise
from aggregated_posterior.model.vae import VAE, kl_divergence, objective
from aggregated_posterior.storage import DataError


def moments(mean, log_variance):
    """Over all axes but the latent dimensions', the second."""
    mean, variance = (value.transpose(0, 1).flatten(1) for value in (mean, log_variance.exp()))
    return mean.mean(1), mean.var(1, unbiased=False) + variance.mean(1)


@pytest.fixture(params=["linear", "dense", "conv"])
def model(request) -> VAE:
    made = VAE((8, 8), 3, [9], "bernoulli", architecture=request.param).double()
    initialise(made, torch.Generator().manual_seed(0))
    with torch.no_grad():
        made.head_mean.weight.mul_(torch.tensor([[9.0], [1.0], [0.1]]))
        made.head_mean.bias.add_(torch.tensor([2.0, -1.0, 0.0]))
        made.head_log_variance.bias.add_(torch.tensor([-3.0, 1.0, 0.0]))
    return made


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(40, 64, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def layers(model):
    return model.head_mean, model.head_log_variance, model.first_decoder_layer


def test_reconstructions_stay_and_the_moments_come_right(model, images):
    noise = torch.randn(40, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    before = objective(model, images, noise, 1.0)
    m, v = moments(before.mean, before.log_variance)
    regauge(*layers(model), m, v)
    after = objective(model, images, noise, 1.0)
    torch.testing.assert_close(after.reconstruction, before.reconstruction, rtol=1e-12, atol=0)
    again = moments(after.mean, after.log_variance)
    torch.testing.assert_close(again[0], torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(again[1], torch.ones(3, dtype=torch.float64), rtol=1e-12, atol=0)
    slack = (m.square() + v - 1 - v.log()).sum() / 2
    assert slack > 1
    torch.testing.assert_close(before.kl - after.kl, slack, rtol=1e-12, atol=0)


def test_the_gauge_identities_hold_afterwards(model, images):
    noise = torch.randn(40, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    mean, log_variance = model.encode(images)
    regauge(*layers(model), *moments(mean.detach(), log_variance.detach()))
    result = objective(model, images[:7], noise[:7], 2.0)
    result.loss.backward()
    shift = model.head_mean.bias.grad - model.first_decoder_layer.weight.T @ model.first_decoder_layer.bias.grad
    torch.testing.assert_close(shift, 2.0 * result.mean.mean(0), rtol=1e-10, atol=1e-10)


def test_a_dimension_without_variance_is_left_alone(model):
    before = copy.deepcopy(model.state_dict())
    variance = torch.tensor([1e-7, 0.0, 4.0], dtype=torch.float64)
    regauge(*layers(model), torch.full((3,), 5.0, dtype=torch.float64), variance)
    after = model.state_dict()
    for name in ("head_mean.weight", "head_mean.bias", "head_log_variance.bias"):
        assert torch.equal(before[name][:2], after[name][:2])
        assert not torch.equal(before[name][2], after[name][2])
    assert torch.equal(before["decoder.0.weight"][:, :2], after["decoder.0.weight"][:, :2])


class Spatial(nn.Module):
    """A stranger's VAE with a spatial code, as diffusion models have."""

    def __init__(self, kernel: int, padding_mode: str) -> None:
        super().__init__()
        size = {"kernel_size": kernel, "padding": kernel // 2, "padding_mode": padding_mode}
        self.mean, self.log_variance = nn.Conv2d(1, 3, 3), nn.Conv2d(1, 3, 3)
        self.decoder = nn.Conv2d(3, 2, **size)


@pytest.mark.parametrize(("kernel", "padding_mode"), [(1, "zeros"), (3, "replicate"), (3, "reflect")])
def test_convolutions_per_channel(kernel, padding_mode):
    random = torch.Generator().manual_seed(0)
    model = Spatial(kernel, padding_mode).double()
    initialise(model, random)
    x = torch.randn(6, 1, 8, 8, generator=random, dtype=torch.float64)
    noise = torch.randn(6, 3, 6, 6, generator=random, dtype=torch.float64)

    def run():
        mean, log_variance = model.mean(x), model.log_variance(x)
        return mean, log_variance, model.decoder(mean + (log_variance / 2).exp() * noise)

    with torch.no_grad():
        mean, log_variance, expected = run()
        regauge(model.mean, model.log_variance, model.decoder, *moments(mean, log_variance))
        mean_after, log_variance_after, found = run()
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)
    assert kl_divergence(mean_after, log_variance_after) < kl_divergence(mean, log_variance)
    torch.testing.assert_close(moments(mean_after, log_variance_after)[1], torch.ones(3, dtype=torch.float64))


def test_what_no_shift_leaves_alone_is_refused():
    model = Spatial(3, "zeros")
    one = torch.ones(3)
    with pytest.raises(DataError, match="pads z with zeros"):
        regauge(model.mean, model.log_variance, model.decoder, one, one)
    regauge(model.mean, model.log_variance, model.decoder, 0 * one, 4 * one)
    head = nn.Linear(5, 3)
    for decoder, said in [
        (nn.Linear(3, 4, bias=False), "no bias"),
        (nn.ReLU(), "is ReLU"),
        (nn.Linear(2, 4), "takes 2"),
    ]:
        with pytest.raises(DataError, match=said):
            regauge(head, nn.Linear(5, 3), decoder, one, one)
    good = nn.Linear(3, 4)
    with pytest.raises(DataError, match="variance must be 3 finite numbers"):
        regauge(head, nn.Linear(5, 3), good, one, one * torch.nan)
    with pytest.raises(DataError, match="adam='forget' is unknown; choose keep, rescale, reset"):
        regauge(head, nn.Linear(5, 3), good, one, one, adam="forget")


@pytest.mark.parametrize("kind", [Adam, torch.optim.Adam])
@pytest.mark.parametrize("adam", ["keep", "rescale", "reset"])
def test_the_optimisers_state(model, images, kind, adam):
    noise = torch.randn(40, 3, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    optimiser = kind(model.parameters())
    objective(model, images, noise, 0.0).loss.backward()
    optimiser.step(*([1e-12] if kind is Adam else []))
    before = copy.deepcopy({name: optimiser.state[parameter] for name, parameter in model.named_parameters()})
    m, v = moments(*(value.detach() for value in model.encode(images)))
    regauge(*layers(model), torch.zeros_like(m), v, optimiser, adam)
    after = {name: optimiser.state[parameter] for name, parameter in model.named_parameters()}
    changed = {"head_mean.weight", "head_mean.bias", "head_log_variance.bias", "decoder.0.weight", "decoder.0.bias"}
    for name in after.keys() - (changed if adam != "keep" else set()):
        for key, value in before[name].items():
            assert torch.equal(value, after[name][key]), name
    if adam == "reset":
        assert all((after[name][key] == 0).all() for name in changed for key in ("step", "exp_avg", "exp_avg_sq"))
    if adam == "rescale" and kind is Adam:
        # As the reconstruction loss's gradient would have been, had the model had these weights before.
        optimiser.zero_grad()
        objective(model, images, noise, 0.0).loss.backward()
        for name in ("head_mean.weight", "head_mean.bias", "decoder.0.weight"):
            gradient = model.get_parameter(name).grad
            torch.testing.assert_close(after[name]["exp_avg"], 0.1 * gradient, rtol=1e-6, atol=1e-9)
            torch.testing.assert_close(after[name]["exp_avg_sq"], 0.001 * gradient.square(), rtol=1e-6, atol=1e-12)


V = torch.tensor([4.0, 0.25, 9.0])


def changed_layers(decoder):
    torch.manual_seed(0)
    return nn.Conv2d(2, 3, 1), nn.Conv2d(2, 3, 1), decoder


def step(optimiser, made):
    """One step on a loss that every layer has a part in."""
    head_mean, head_log_variance, decoder = made
    x = torch.ones(1, 2, 4, 4)
    code = head_mean(x) + head_log_variance(x)
    decoder(code).square().sum().backward()
    optimiser.step()


def states(optimiser, made):
    """What the optimiser holds of every parameter of the layers; looking adds nothing."""
    parameters = {id(p): p for layer in made for p in layer.parameters()}
    return {key: dict(optimiser.state.get(p, {})) for key, p in parameters.items()}


@pytest.mark.parametrize(
    ("decoder", "shape"),
    [
        (lambda: nn.Conv2d(3, 3, 1), (1, 3, 1, 1)),
        (lambda: nn.ConvTranspose2d(3, 3, 2, stride=2), (3, 1, 1, 1)),
        (lambda: nn.ConvTranspose2d(3, 5, 1), (3, 1, 1, 1)),
    ],
)
@pytest.mark.parametrize("amsgrad", [False, True])
def test_running_means_are_rescaled_along_the_axis_of_z(decoder, shape, amsgrad):
    made = changed_layers(decoder())
    optimiser = torch.optim.Adam([p for layer in made for p in layer.parameters()], amsgrad=amsgrad)
    step(optimiser, made)
    before = copy.deepcopy(states(optimiser, made))
    regauge(*made, torch.zeros(3), V, optimiser, "rescale")
    after, deviation = states(optimiser, made), V.sqrt()
    factors = {
        made[0].weight: deviation.view(3, 1, 1, 1),
        made[0].bias: deviation,
        made[2].weight: 1 / deviation.view(shape),
    }
    for parameter in (p for layer in made for p in layer.parameters()):
        old, new, factor = before[id(parameter)], after[id(parameter)], factors.get(parameter, torch.ones(()))
        assert ("max_exp_avg_sq" in new) == amsgrad
        for key, by in (("exp_avg", factor), ("exp_avg_sq", factor**2), ("max_exp_avg_sq", factor**2)):
            if key in old:
                torch.testing.assert_close(new[key], old[key] * by, rtol=1e-6, atol=0)
        assert new["step"] == old["step"] == 1


OPTIMISERS = {
    "no step yet": (torch.optim.Adam, {}, False),
    "plain SGD": (torch.optim.SGD, {}, True),
    "SGD with momentum": (torch.optim.SGD, {"momentum": 0.9}, True),
}


@pytest.mark.parametrize("kind", OPTIMISERS)
@pytest.mark.parametrize("adam", ["rescale", "reset"])
def test_an_optimiser_without_running_means_has_nothing_to_rescale(kind, adam):
    make, settings, stepped = OPTIMISERS[kind]
    made = changed_layers(nn.Conv2d(3, 4, 1))
    optimiser = make([p for layer in made for p in layer.parameters()], lr=1e-3, **settings)
    if stepped:
        step(optimiser, made)
    held, old, expected = len(optimiser.state), copy.deepcopy(states(optimiser, made)), copy.deepcopy(made)
    regauge(*expected, torch.ones(3), V)
    regauge(*made, torch.ones(3), V, optimiser, adam)
    for layer, other in zip(made, expected, strict=True):
        assert torch.equal(layer.weight, other.weight)
        assert torch.equal(layer.bias, other.bias)
    assert len(optimiser.state) == held
    if adam == "rescale":
        for key, values in states(optimiser, made).items():
            assert values.keys() == old[key].keys()
            for name, value in values.items():
                assert value is old[key][name] is None or torch.equal(value, old[key][name])
    step(optimiser, made)


def test_a_parameter_that_is_not_trained_has_no_running_means():
    made = changed_layers(nn.Conv2d(3, 4, 1))
    optimiser = Adam(made[2].parameters())
    optimiser.state[made[2].weight]["exp_avg"].fill_(1)
    regauge(*made, torch.ones(3), V, optimiser, "rescale")
    expected = (1 / V.sqrt()).view(1, 3, 1, 1).expand(4, 3, 1, 1)
    torch.testing.assert_close(optimiser.state[made[2].weight]["exp_avg"], expected)


@pytest.mark.parametrize("adam", ["keep", "rescale", "reset"])
def test_arrays_are_taken_as_tensors_are(adam):
    mean = np.array([1.0, -2.0, 0.5])
    found = changed_layers(nn.Conv2d(3, 4, 1))
    expected = copy.deepcopy(found)
    for made, moments_given in (
        (found, (mean, V.double().numpy())),
        (expected, (torch.from_numpy(mean), V.double())),
    ):
        optimiser = torch.optim.Adam([p for layer in made for p in layer.parameters()])
        step(optimiser, made)
        regauge(*made, *moments_given, optimiser, adam)
    for layer, other in zip(found, expected, strict=True):
        assert torch.equal(layer.weight, other.weight)
        assert torch.equal(layer.bias, other.bias)
    with pytest.raises(DataError, match="mean must be 3 finite numbers"):
        regauge(*found, mean[:2], V.numpy())
    with pytest.raises(DataError, match="variance is no array of numbers"):
        regauge(*found, mean, "large")


@pytest.mark.parametrize("adam", ["keep", "rescale", "reset"])
def test_what_folding_refuses_leaves_layers_and_optimiser_as_they_were(adam):
    made = changed_layers(nn.Conv2d(3, 3, 1))
    made[1].bias = made[0].bias
    optimiser = torch.optim.Adam({id(p): p for layer in made for p in layer.parameters()}.values())
    step(optimiser, made)
    before, old = copy.deepcopy(made), copy.deepcopy(states(optimiser, made))
    with pytest.raises(DataError, match="bias of head_mean and the bias of head_log_variance share memory"):
        regauge(*made, torch.ones(3), V, optimiser, adam)
    for layer, other in zip(made, before, strict=True):
        assert torch.equal(layer.weight, other.weight)
        assert torch.equal(layer.bias, other.bias)
    for key, values in states(optimiser, made).items():
        for name, value in values.items():
            assert torch.equal(value, old[key][name])
