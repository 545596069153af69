"""The objective's gradient, written out: backpropagation through the VAE of `vae.py`.

What automatic differentiation gives, with less around it: layers this small are done in tenths of a millisecond, and
building and walking a graph costs as much as half of their matrix products (`pytest tests/benchmark -k training`
compares). With g = ∂loss/∂z, z = μ + σε, σ² = s and B images:

    ∂loss/∂μ    = g + β μ / B
    ∂loss/∂ln s = ½ (g σ ε + β (s − 1) / B)

The first is Kingma and Welling's (2014) reparameterisation with the KL term's own derivative added; the second is the
chain rule through σ = exp(½ ln s).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from .vae import VAE, Objective


@torch.no_grad()
def objective_and_gradient(model: VAE, x: Tensor, noise: Tensor, kl_weight: float) -> Objective:
    """`vae.objective` of one minibatch; its gradient replaces every parameter's `.grad`.

    Args:
        model: The VAE.
        x: Images (B, P).
        noise: Standard normal draws (B, d).
        kl_weight: β.

    Raises:
        TypeError: A layer is neither affine nor a ReLU.
    """
    batch = len(x)
    encoder, decoder = list(model.encoder), list(model.decoder)
    hidden = _forward(encoder, x)
    mean, log_variance = _affine(model.head_mean, hidden[-1]), _affine(model.head_log_variance, hidden[-1])
    deviation = (0.5 * log_variance).exp_()
    decoded = _forward(decoder, torch.addcmul(mean, deviation, noise))
    reconstruction, gradient = _reconstruction(decoded[-1], x, model.likelihood, model.decoder_variance)

    gradient = _backward(decoder, decoded, gradient)
    variance_slack = deviation.square().sub_(1)
    kl = 0.5 * (mean.square() + variance_slack - log_variance).sum() / batch
    gradient_log_variance = 0.5 * (gradient * deviation * noise).add_(variance_slack, alpha=kl_weight / batch)
    gradient_mean = gradient.add_(mean, alpha=kl_weight / batch)
    _store_affine_gradient(model.head_mean, hidden[-1], gradient_mean)
    _store_affine_gradient(model.head_log_variance, hidden[-1], gradient_log_variance)
    if encoder:
        gradient = gradient_mean @ model.head_mean.weight
        gradient.addmm_(gradient_log_variance, model.head_log_variance.weight)
        _backward(encoder, hidden, gradient, to_input=False)
    return Objective(reconstruction + kl_weight * kl, reconstruction, kl, mean, log_variance)


def _affine(layer: nn.Linear, x: Tensor) -> Tensor:
    return torch.addmm(layer.bias, x, layer.weight.t())


def _forward(layers: list[nn.Module], x: Tensor) -> list[Tensor]:
    """The input of every layer, and the last one's output; affine layers and ReLUs only."""
    values = [x]
    for layer in layers:
        if isinstance(layer, nn.Linear):
            values.append(_affine(layer, values[-1]))
        elif isinstance(layer, nn.ReLU):
            # It overwrites its input: its derivative is known from its output.
            values.append(values[-1].relu_())
        else:
            raise TypeError(f"the gradient of {type(layer).__name__} is not written out: add it to gradient.py")
    return values


def _backward(layers: list[nn.Module], values: list[Tensor], gradient: Tensor, to_input: bool = True) -> Tensor:
    """Store the parameters' gradients, given that of the last output; return that of the first input, if wanted."""
    for n in reversed(range(len(layers))):
        layer = layers[n]
        if not isinstance(layer, nn.Linear):
            gradient.mul_(values[n + 1].sign())
            continue
        _store_affine_gradient(layer, values[n], gradient)
        if n > 0 or to_input:
            gradient = gradient @ layer.weight
    return gradient


def _store_affine_gradient(layer: nn.Linear, x: Tensor, gradient: Tensor) -> None:
    """∂loss/∂W = gᵀx and ∂loss/∂b = Σ g for the output's gradient g (B, outputs), into buffers that are kept."""
    for parameter in (layer.weight, layer.bias):
        if parameter.grad is None:
            parameter.grad = torch.empty_like(parameter)
    torch.mm(gradient.t(), x, out=layer.weight.grad)
    torch.sum(gradient, 0, out=layer.bias.grad)


def _reconstruction(output: Tensor, x: Tensor, likelihood: str, decoder_variance: float) -> tuple[Tensor, Tensor]:
    """`vae.reconstruction_loss` and its gradient with respect to the decoder's `output` (B, P).

    Bernoulli, for logits l and p = σ(l): Σ max(l, 0) − x l − ln σ(|l|) with σ(|l|) = ½ + |p − ½|, and (p − x)/B.
    Gaussian, for means m: Σ (m − x)²/(2ς²) + ½ ln(2πς²), and (m − x)/(ς² B).
    """
    batch = len(x)
    if likelihood == "bernoulli":
        p = torch.sigmoid(output)
        # In place: on a buffer that is in the cache already.
        softplus = (p - 0.5).abs_().add_(0.5).log_().sum().neg_() + output.clamp_min(0).sum()
        loss = (softplus - torch.dot(output.view(-1), x.view(-1))) / batch
        return loss, p.sub_(x).div_(batch)
    residual = output - x
    loss = torch.dot(residual.view(-1), residual.view(-1)) / (2 * decoder_variance * batch)
    constant = 0.5 * x[0].numel() * math.log(2 * math.pi * decoder_variance)
    return loss + constant, residual.div_(decoder_variance * batch)
