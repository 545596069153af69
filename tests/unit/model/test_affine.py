"""The affine layer is PyTorch's own, whichever product it goes through."""

import pytest
import torch
from torch.func import functional_call, vmap

from aggregated_posterior.model import affine
from aggregated_posterior.model.affine import Affine, onednn_takes


@pytest.fixture
def always_onednn(monkeypatch):
    """As on a processor where oneDNN is the faster, and for small matrices too."""
    monkeypatch.setattr(affine, "ONEDNN", True)
    monkeypatch.setattr(affine, "LARGE", 0)


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("first", [False, True])
def test_onednns_product_and_its_gradient_are_those_of_pytorch(always_onednn, relu, first):
    random = torch.Generator().manual_seed(0)
    layer = Affine(9, 5, relu)
    plain = torch.nn.Linear(9, 5)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(7, 9, generator=random)
    inputs = [x.clone().requires_grad_(not first) for _ in range(2)]
    assert onednn_takes(x, layer.weight)
    ours = layer(inputs[0])
    theirs = plain(inputs[1]).relu() if relu else plain(inputs[1])
    torch.testing.assert_close(ours, theirs)
    gradient = torch.randn(7, 5, generator=random)
    ours.backward(gradient)
    theirs.backward(gradient)
    torch.testing.assert_close(layer.weight.grad, plain.weight.grad)
    torch.testing.assert_close(layer.bias.grad, plain.bias.grad)
    if not first:
        torch.testing.assert_close(inputs[0].grad, inputs[1].grad)


def test_the_rule(always_onednn, monkeypatch):
    layer = Affine(4, 3)
    x = torch.zeros(2, 4)
    assert onednn_takes(x, layer.weight)
    assert not onednn_takes(x.double(), layer.weight)
    assert not onednn_takes(torch.zeros(5, 2, 4), layer.weight)
    assert not onednn_takes(x.to("meta"), layer.weight)
    monkeypatch.setattr(affine, "LARGE", 2 * 12 + 1)
    assert not onednn_takes(x, layer.weight)


def test_under_vmap_the_layer_is_plain(always_onednn):
    layer = Affine(4, 3, relu=True)
    x = torch.randn(6, 2, 4, generator=torch.Generator().manual_seed(0))
    together = vmap(lambda one: functional_call(layer, dict(layer.named_parameters()), one))(x)
    torch.testing.assert_close(together, torch.stack([layer(one) for one in x]))
