"""Shift and scale in a model's own layers: what is decoded stays, what is encoded moves."""

from __future__ import annotations

import copy
import warnings

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from aggregated_posterior.model.folding import fold_into
from aggregated_posterior.posterior.gauge import canonical_form
from aggregated_posterior.posterior.mixture import AggregatedPosterior
from aggregated_posterior.storage import DataError

D = 3
SHIFT, SCALE = torch.tensor([1.5, 0.0, -0.3]), torch.tensor([2.0, 0.5, 3.0])


def column(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return values.double().view((1, D) + (1,) * (like.dim() - 2))


def linear():
    return nn.Linear(5, D), nn.Linear(5, D), nn.Linear(D, 7), torch.randn(40, 5)


def convolution(**settings):
    heads = nn.Conv2d(2, D, 3), nn.Conv2d(2, D, 1)
    return *heads, nn.Conv2d(D, 4, 3, **settings), torch.randn(6, 2, 9, 9)


KINDS = {
    "linear": linear,
    "convolution": convolution,
    "replicated border": lambda: convolution(padding=1, padding_mode="replicate"),
    "strided": lambda: convolution(stride=2),
}


@pytest.mark.parametrize("kind", KINDS)
def test_reconstructions_stay_and_codes_move(kind):
    torch.manual_seed(0)
    head_mean, head_log_variance, decoder, x = (part.double() for part in KINDS[kind]())
    crop = (lambda h: h[..., 1:-1, 1:-1]) if x.dim() == 4 else (lambda h: h)  # to the size of a 3×3 head
    encode = lambda: (head_mean(x), head_log_variance(crop(x)))  # noqa: E731
    mean, log_variance = encode()
    noise = torch.randn_like(mean)
    before = decoder(mean + (0.5 * log_variance).exp() * noise)
    fold_into(head_mean, head_log_variance, decoder, SHIFT, SCALE)
    moved_mean, moved_log_variance = encode()
    after = decoder(moved_mean + (0.5 * moved_log_variance).exp() * noise)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-12)
    torch.testing.assert_close(moved_mean, (mean - column(SHIFT, mean)) * column(SCALE, mean))
    torch.testing.assert_close(moved_log_variance.exp(), log_variance.exp() * column(SCALE, mean) ** 2)


def test_one_layer_for_both_heads_and_several_decoder_inputs():
    torch.manual_seed(1)
    head, inputs, x = (
        nn.Linear(5, 2 * D).double(),
        [nn.Linear(D, 4).double(), nn.Linear(D, 2).double()],
        torch.randn(9, 5),
    )
    x = x.double()
    mean, log_variance = head(x).chunk(2, dim=1)
    before = [layer(mean) for layer in inputs]
    fold_into(head, head, inputs, SHIFT, SCALE)
    moved, moved_log_variance = head(x).chunk(2, dim=1)
    for layer, expected in zip(inputs, before, strict=True):
        torch.testing.assert_close(layer(moved), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(moved_log_variance, log_variance + 2 * SCALE.double().log())


def test_the_canonical_form_takes_its_slack_off_the_kl_and_float32_keeps_reconstructions_to_rounding():
    torch.manual_seed(2)
    head_mean, head_log_variance, decoder, x = linear()

    def posterior():
        with torch.no_grad():
            return AggregatedPosterior(head_mean(x).numpy(), head_log_variance(x).exp().numpy())

    q = posterior()
    canonical, before = canonical_form(q), decoder(head_mean(x)).detach()
    fold_into(head_mean, head_log_variance, decoder, canonical.shift, canonical.scale)
    folded = posterior()
    np.testing.assert_allclose(folded.kl(), q.kl() - canonical.slack, atol=1e-5)
    np.testing.assert_allclose(folded.moments().variance, 1, atol=1e-5)
    torch.testing.assert_close(decoder(head_mean(x)).detach(), before, rtol=0, atol=1e-5)


def test_a_transposed_convolution_takes_the_scale_and_one_of_1x1_the_shift_too():
    torch.manual_seed(3)
    z = torch.randn(2, D, 4, 4).double()
    for layer, shift in (
        (nn.ConvTranspose2d(D, 5, 3, stride=2, padding=1), torch.zeros(D)),
        (nn.ConvTranspose2d(D, 5, 1), SHIFT),
    ):
        layer.double()
        before = layer(z)
        fold_into(nn.Linear(5, D), nn.Linear(5, D), layer, shift, SCALE)
        torch.testing.assert_close(layer((z - column(shift, z)) * column(SCALE, z)), before, rtol=0, atol=1e-12)


def test_zero_padding_takes_the_scale_alone():
    torch.manual_seed(4)
    layer, z = nn.Conv2d(D, 5, 3, padding=1).double(), torch.randn(2, D, 4, 4).double()
    before = layer(z)
    fold_into(nn.Linear(5, D), nn.Linear(5, D), layer, 0, SCALE)
    torch.testing.assert_close(layer(z * column(SCALE, z)), before, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("decoder", "words"),
    [
        (nn.Conv2d(D, 5, 3, padding=1), "pads z with zeros"),
        (nn.Conv2d(D, 5, 3, padding="same"), "pads z with zeros"),
        (nn.ConvTranspose2d(D, 5, 3), "transposed"),
        (nn.Linear(D, 5, bias=False), "no bias"),
        (nn.Linear(D + 1, 5), "takes 4 numbers"),
        (nn.ReLU(), "ReLU"),
    ],
)
def test_what_cannot_be_folded_is_refused_and_nothing_is_changed(decoder, words):
    head_mean, head_log_variance = nn.Linear(5, D), nn.Linear(5, D)
    before = [parameter.clone() for parameter in head_mean.parameters()]
    with pytest.raises(DataError, match=words):
        fold_into(head_mean, head_log_variance, decoder, SHIFT, SCALE)
    for old, new in zip(before, head_mean.parameters(), strict=True):
        assert torch.equal(old, new)


def test_bad_heads_and_numbers_are_refused():
    layer = nn.Linear(D, 5)
    with pytest.raises(DataError, match="head_log_variance has no bias"):
        fold_into(nn.Linear(5, D), nn.Linear(5, D, bias=False), layer, SHIFT, SCALE)
    with pytest.raises(DataError, match="puts out 4"):
        fold_into(nn.Linear(5, D), nn.Linear(5, D + 1), layer, SHIFT, SCALE)
    with pytest.raises(DataError, match="positive"):
        fold_into(nn.Linear(5, D), nn.Linear(5, D), layer, SHIFT, -SCALE)


def test_a_layer_used_at_two_places_is_changed_once():
    heads, layer = (nn.Linear(5, D), nn.Linear(5, D)), nn.Linear(D, 7)
    before = layer.weight.detach().clone()
    fold_into(*heads, [layer, layer], 0, 2.0)
    torch.testing.assert_close(layer.weight, before / 2)


class Model(nn.Module):
    """Heads h and g of means and log-variances, and two layers that take z, all of one shape."""

    def __init__(self) -> None:
        super().__init__()
        self.h, self.g, self.first, self.second = (nn.Linear(D, D) for _ in range(4))

    def parts(self) -> tuple:
        return self.h, self.g, [self.first, self.second]

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        mean, log_variance = self.h(x), self.g(x)
        return [layer(mean + (0.5 * log_variance).exp()) for layer in (self.first, self.second)]


def old_norm(kind, layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        kind(layer)


def share(model, to, part, of, view=lambda values: values):
    setattr(getattr(model, to), part, nn.Parameter(view(getattr(getattr(model, of), part).data)))


REFUSED = {
    "weight_norm of an input": (lambda m: parametrizations.weight_norm(m.first), "weight of decoder input 1 is comp"),
    "weight_norm of a head": (lambda m: parametrizations.weight_norm(m.h), "weight of head_mean is computed"),
    "spectral_norm of an input": (lambda m: parametrizations.spectral_norm(m.second), "decoder input 2 is computed"),
    "spectral_norm of a head": (lambda m: parametrizations.spectral_norm(m.g), "head_log_variance is computed"),
    "old weight_norm": (lambda m: old_norm(nn.utils.weight_norm, m.first), "decoder input 1 is computed"),
    "old weight_norm of a head": (lambda m: old_norm(nn.utils.weight_norm, m.g), "head_log_variance is computed"),
    "old spectral_norm": (lambda m: old_norm(nn.utils.spectral_norm, m.first), "decoder input 1 is computed"),
    "old spectral_norm of a head": (lambda m: old_norm(nn.utils.spectral_norm, m.h), "head_mean is computed"),
    "pruned": (lambda m: prune.l1_unstructured(m.first, "weight", 0.5), "weight of decoder input 1 is computed"),
    "pruned bias": (lambda m: prune.l1_unstructured(m.h, "bias", 0.5), "bias of head_mean is computed"),
    "input tied to a head": (
        lambda m: setattr(m.first, "weight", m.h.weight),
        "weight of head_mean and the weight of decoder input 1 share memory",
    ),
    "transposed": (lambda m: share(m, "first", "weight", "h", torch.t), "head_mean and .* input 1 share memory"),
    "heads share weights": (lambda m: setattr(m.g, "weight", m.h.weight), "head_mean and .*log_variance share memory"),
    "heads share a bias": (lambda m: setattr(m.g, "bias", m.h.bias), "bias of head_mean and the bias of head_log"),
    "inputs share weights": (lambda m: setattr(m.second, "weight", m.first.weight), "input 1 and .* input 2 share"),
    "inputs share a bias": (lambda m: setattr(m.second, "bias", m.first.bias), "bias of decoder input 1 and the bias"),
    "inputs share storage": (lambda m: share(m, "second", "weight", "first"), "input 1 and .* input 2 share memory"),
    "a part of a bias": (
        lambda m: share(m, "g", "bias", "h", lambda b: b[-1:].expand(D)),
        "repeats numbers of its own",
    ),
    "a head that takes z, too": (lambda m: setattr(m, "first", m.g), "log_variance and .* input 1 share memory"),
    "whole numbers": (
        lambda m: setattr(m.first, "weight", nn.Parameter(torch.ones(D, D, dtype=torch.int8), requires_grad=False)),
        "weight of decoder input 1 is of type torch.int8",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_computed_and_shared_weights_are_refused_and_nothing_is_changed(kind):
    torch.manual_seed(0)
    model, (change, words) = Model(), REFUSED[kind]
    change(model)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(DataError, match=words) as error:
        fold_into(*model.parts(), SHIFT, SCALE)
    assert "\n" not in str(error.value)
    after = model.state_dict()
    assert before.keys() == after.keys()
    for name, values in before.items():
        assert torch.equal(values, after[name]), name


def test_what_the_refusals_advise_makes_models_that_keep_their_reconstructions():
    torch.manual_seed(0)
    model, x = Model().double(), torch.randn(9, D).double()
    parametrizations.weight_norm(model.h)
    prune.l1_unstructured(model.first, "weight", 0.5)
    old_norm(nn.utils.spectral_norm, model.second)
    model.g.bias = model.h.bias
    model.eval()  # where spectral_norm changes nothing of its own
    before = model(x)
    nn.utils.parametrize.remove_parametrizations(model.h, "weight")
    prune.remove(model.first, "weight")
    nn.utils.remove_spectral_norm(model.second)
    model.g.bias = nn.Parameter(model.g.bias.detach().clone())
    fold_into(*model.parts(), SHIFT, SCALE)
    for found, expected in zip(model(x), before, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_weights_side_by_side_in_one_vector_are_folded():
    torch.manual_seed(0)
    model, x = Model().double(), torch.randn(9, D).double()
    before = model(x)
    flat, start = nn.utils.parameters_to_vector(model.parameters()).detach(), 0
    for parameter in model.parameters():
        parameter.data = flat[start : start + parameter.numel()].view_as(parameter)
        start += parameter.numel()
    assert len({parameter.untyped_storage().data_ptr() for parameter in model.parameters()}) == 1
    fold_into(*model.parts(), SHIFT, SCALE)
    for found, expected in zip(model(x), before, strict=True):
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("shift", "scale", "words"),
    [
        (0, 1e6, "weight of head_mean would not be finite in torch.float16"),
        (0, 1e-6, "weight of decoder input 1 would not be finite in torch.float16"),
        (1e5, 1, "bias of head_mean would not be finite in torch.float16"),
    ],
)
def test_what_half_precision_cannot_hold_is_refused_and_nothing_is_changed(shift, scale, words):
    torch.manual_seed(0)
    model = Model().half()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(DataError, match=words):
        fold_into(*model.parts(), shift, scale)
    for name, values in model.state_dict().items():
        assert torch.equal(values, before[name])
    fold_into(*model.parts(), 0, 2)
    assert torch.equal(model.h.weight, before["h.weight"] * 2)
    assert torch.equal(model.first.weight, before["first.weight"] / 2)


def test_without_a_decoder_input_nothing_would_undo_it():
    head_mean, head_log_variance = nn.Linear(5, D), nn.Linear(5, D)
    before = head_mean.weight.detach().clone()
    with pytest.raises(DataError, match="no decoder input is given"):
        fold_into(head_mean, head_log_variance, [], SHIFT, SCALE)
    assert torch.equal(head_mean.weight, before)


@pytest.mark.parametrize(("shift", "scale"), [(np.zeros(4), 1.0), (0, np.ones((2, D)))])
def test_a_shift_or_a_scale_of_another_size_is_refused_in_one_line(shift, scale):
    with pytest.raises(DataError, match=r"^(shift|scale) has shape \(.*\): expected one number or 3"):
        fold_into(nn.Linear(5, D), nn.Linear(5, D), nn.Linear(D, 7), shift, scale)


def test_arrays_that_may_not_be_written_or_run_backwards_are_numbers_and_words_are_not():
    layers = [nn.Linear(5, D), nn.Linear(5, D), nn.Linear(D, 7)]
    before = copy.deepcopy(layers)
    shift, scale = np.zeros(D), SCALE.numpy()[::-1]
    shift.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fold_into(*layers, shift, scale)
    torch.testing.assert_close(layers[2].weight, before[2].weight / SCALE.flip(0))
    with pytest.raises(DataError, match="scale is no array of numbers"):
        fold_into(*layers, shift, "wide")
