"""Shift and scale in a model's own layers: what is decoded stays, what is encoded moves."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

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


def test_a_layer_used_at_two_places_is_changed_once_and_shared_weights_are_refused():
    heads, layer = (nn.Linear(5, D), nn.Linear(5, D)), nn.Linear(D, 7)
    before = layer.weight.detach().clone()
    fold_into(*heads, [layer, layer], 0, 2.0)
    torch.testing.assert_close(layer.weight, before / 2)
    other = nn.Linear(D, 7)
    other.weight = layer.weight
    with pytest.raises(DataError, match="share their weights"):
        fold_into(*heads, [layer, other], 0, 2.0)
    torch.testing.assert_close(layer.weight, before / 2)


@pytest.mark.parametrize(("shift", "scale"), [(np.zeros(4), 1.0), (0, np.ones((2, D)))])
def test_a_shift_or_a_scale_of_another_size_is_refused_in_one_line(shift, scale):
    with pytest.raises(DataError, match=r"^(shift|scale) has shape \(.*\): expected one number or 3"):
        fold_into(nn.Linear(5, D), nn.Linear(5, D), nn.Linear(D, 7), shift, scale)
