"""Many VAEs as one stacked computation: the modules and the objective of `vae.py` with a leading axis of models.

The models of a batch share layer widths and likelihood; latent sizes may differ and are padded to the largest, D. A
mask holds the padded dimensions at μ = 0, ln s = 0 and noise = 0, so that z = 0 and KL = 0 there: they add nothing to a
loss, and no gradient reaches their weights, which stay at zero.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..storage import DataError
from .vae import VAE, Objective


class StackedVAE(nn.Module):
    """M VAEs of the same layer widths as one module; latent sizes may differ.

    A layer's weights lie as (M, inputs, outputs), the transpose of `nn.Linear`: so the gradient, inputsᵀ · g, comes out
    in the layout of the parameter and needs no copy. Both heads are one layer with 2 D outputs, means first.

    Args:
        models: The models, whose weights are copied.

    Raises:
        DataError: There is no model, or they differ in something else than their latent size.
    """

    def __init__(self, models: Sequence[VAE]) -> None:
        super().__init__()
        if not models:
            raise DataError("a batch of models is empty; give at least one")
        shapes = [{**model.metadata(), "latent_dim": None} for model in models]
        if any(shape != shapes[0] for shape in shapes):
            raise DataError(
                "the models of a batch differ in more than their latent size; train them in batches of a kind"
            )
        self.latent_dims = [model.latent_dim for model in models]
        self.latent_dim = max(self.latent_dims)
        self.shape = shapes[0]
        stacks = [_padded_layers(model, self.latent_dim) for model in models]
        # Layers in the order encoder, heads, decoder.
        self.heads = len(models[0].hidden_sizes)
        self.weights = nn.ParameterList(torch.stack(weights) for weights in zip(*(w for w, _ in stacks), strict=True))
        self.biases = nn.ParameterList(torch.stack(biases) for biases in zip(*(b for _, b in stacks), strict=True))
        mask = torch.stack([torch.arange(self.latent_dim) < latent_dim for latent_dim in self.latent_dims])
        self.register_buffer("mask", mask[:, None].to(self.weights[0].dtype))

    def forward(self, x: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The decoder's output (M, B, P), means and log-variances (M, B, D) for images (M, B, P) and noise (M, B, D).

        Noise in padded dimensions is ignored; their means and log-variances are 0.
        """
        hidden = x
        for layer in range(self.heads):
            hidden = self._affine(layer, hidden).relu()
        # One product for both heads, split afterwards.
        heads = self._affine(self.heads, hidden).unflatten(2, (2, self.latent_dim)) * self.mask[:, :, None]
        mean, log_variance = heads.unbind(2)
        hidden = mean + (0.5 * log_variance).exp() * (noise * self.mask)
        for layer in range(self.heads + 1, len(self.weights) - 1):
            hidden = self._affine(layer, hidden).relu()
        return self._affine(len(self.weights) - 1, hidden), mean, log_variance

    def unstack(self) -> list[VAE]:
        """The models one by one, on the CPU, without padding."""
        models = []
        for index, latent_dim in enumerate(self.latent_dims):
            model = VAE(**{**self.shape, "latent_dim": latent_dim})
            with torch.no_grad():
                weights = [stack[index].cpu() for stack in self.weights]
                biases = [stack[index].cpu() for stack in self.biases]
                heads = weights[self.heads].T.unflatten(0, (2, self.latent_dim))
                head_biases = biases[self.heads].unflatten(0, (2, self.latent_dim))
                for head, layer in enumerate((model.head_mean, model.head_log_variance)):
                    layer.weight.copy_(heads[head, :latent_dim])
                    layer.bias.copy_(head_biases[head, :latent_dim])
                weights[self.heads + 1] = weights[self.heads + 1][:latent_dim]
                affine = [*_affine_layers(model.encoder), None, *_affine_layers(model.decoder)]
                for layer, weight, bias in zip(affine, weights, biases, strict=True):
                    if layer is not None:
                        layer.weight.copy_(weight.T)
                        layer.bias.copy_(bias)
            models.append(model)
        return models

    def _affine(self, layer: int, inputs: Tensor) -> Tensor:
        return torch.baddbmm(self.biases[layer][:, None], inputs, self.weights[layer])


def stacked_objective(model: StackedVAE, x: Tensor, noise: Tensor, kl_weights: Tensor) -> Objective:
    """The losses −log p(x | z) + β KL of M models, each on its own minibatch; `vae.objective` for each of them.

    Args:
        model: The stacked VAEs.
        x: Images (M, B, P).
        noise: Standard normal draws (M, B, D).
        kl_weights: β of each model, (M,).

    Returns:
        loss, reconstruction and kl (M,) in nats per image; mean and log_variance (M, B, D), zero where padded.
    """
    batch, pixels = x.shape[1:]
    output, mean, log_variance = model(x, noise)
    if model.shape["likelihood"] == "bernoulli":
        entropies = functional.binary_cross_entropy_with_logits(output, x, reduction="none")
        reconstruction = entropies.sum((1, 2)) / batch
    else:
        variance = model.shape["decoder_variance"]
        squares = (output - x).square().sum((1, 2)) / (2 * variance)
        reconstruction = squares / batch + 0.5 * pixels * math.log(2 * math.pi * variance)
    kl = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum((1, 2)) / batch
    return Objective(reconstruction + kl_weights * kl, reconstruction, kl, mean, log_variance)


def _affine_layers(sequence: nn.Sequential) -> list[nn.Linear]:
    return [module for module in sequence if isinstance(module, nn.Linear)]


@torch.no_grad()
def _padded_layers(model: VAE, latent_dim: int) -> tuple[list[Tensor], list[Tensor]]:
    """Weights (inputs, outputs) and biases (outputs) of encoder, heads and decoder, zero in padded dimensions."""
    padding = latent_dim - model.latent_dim
    encoder, decoder = _affine_layers(model.encoder), _affine_layers(model.decoder)
    heads = (model.head_mean, model.head_log_variance)
    head_weight = torch.cat([functional.pad(head.weight, (0, 0, 0, padding)) for head in heads])
    head_bias = torch.cat([functional.pad(head.bias, (0, padding)) for head in heads])
    decoder_weights = [layer.weight for layer in decoder]
    decoder_weights[0] = functional.pad(decoder_weights[0], (0, padding))
    weights = [*(layer.weight for layer in encoder), head_weight, *decoder_weights]
    biases = [*(layer.bias for layer in encoder), head_bias, *(layer.bias for layer in decoder)]
    return [weight.T.contiguous() for weight in weights], [bias.clone() for bias in biases]
