"""The variational autoencoder and its objective, in one file.

Kingma and Welling 2014 (VAE), Higgins et al. 2017 (KL weight). The encoder gives q(z | x) = N(μ(x), diag s(x)); the
decoder gives p(x | z), a product of Bernoulli laws or of normal laws with one fixed variance.

    loss = −log p(x | z) + β · KL(q(z | x) ‖ N(0, I))

in nats, **summed over pixels and latent dimensions, averaged over the batch**. β is the KL weight.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..storage import DataError, read_arrays, write_arrays

LIKELIHOODS = ("bernoulli", "gaussian")


class VAE(nn.Module):
    """A fully connected VAE whose heads and first decoder layer are affine with bias.

    Those biases are what makes the first two moments of Q(z) a matter of gauge (see `gauge.py`): without them the
    identities E[μ] = 0 and E[μ²] + E[s] = 1 of a converged model would not hold.

    Args:
        pixels: Number of observed values P.
        latent_dim: Number of latent dimensions d.
        hidden_sizes: Widths from image to latent code, mirrored in the decoder; empty gives the linear VAE.
        likelihood: `bernoulli` (pixels in [0, 1], decoder gives logits) or `gaussian` (decoder gives means).
        decoder_variance: ς² of the Gaussian likelihood; ignored by `bernoulli`.
    """

    def __init__(
        self,
        pixels: int,
        latent_dim: int,
        hidden_sizes: Sequence[int],
        likelihood: str,
        decoder_variance: float = 1.0,
    ) -> None:
        super().__init__()
        if likelihood not in LIKELIHOODS:
            raise DataError(f"likelihood {likelihood!r} is unknown; choose {' or '.join(LIKELIHOODS)}")
        self.pixels = pixels
        self.latent_dim = latent_dim
        self.hidden_sizes = list(hidden_sizes)
        self.likelihood = likelihood
        self.decoder_variance = float(decoder_variance)
        # Images are mostly dark, so a network that sees them uncentred starts far from balanced; both architectures
        # take pixels as they are, since the first layer's bias can absorb any centring.
        widths = [pixels, *self.hidden_sizes]
        self.encoder = nn.Sequential(*_layers(widths))
        self.head_mean = nn.Linear(widths[-1], latent_dim)
        self.head_log_variance = nn.Linear(widths[-1], latent_dim)
        mirrored = [latent_dim, *reversed(self.hidden_sizes)]
        self.decoder = nn.Sequential(*_layers(mirrored), nn.Linear(mirrored[-1], pixels))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior means μ and log-variances ln s, each (B, d), of images `x` (B, P)."""
        hidden = self.encoder(x)
        return self.head_mean(hidden), self.head_log_variance(hidden)

    def decode_natural(self, z: Tensor) -> Tensor:
        """The decoder's output (B, P) for codes `z` (B, d): logits (`bernoulli`) or means (`gaussian`)."""
        return self.decoder(z)

    def decode(self, z: Tensor) -> Tensor:
        """Mean images E[x | z] (B, P) for codes `z` (B, d)."""
        output = self.decode_natural(z)
        return torch.sigmoid(output) if self.likelihood == "bernoulli" else output

    def metadata(self) -> dict[str, Any]:
        """What is needed to build this module again."""
        return {
            "pixels": self.pixels,
            "latent_dim": self.latent_dim,
            "hidden_sizes": self.hidden_sizes,
            "likelihood": self.likelihood,
            "decoder_variance": self.decoder_variance,
        }


def reconstruction_loss(output: Tensor, x: Tensor, likelihood: str, decoder_variance: float) -> Tensor:
    """−log p(x | z) in nats, summed over pixels and averaged over the batch.

    Bernoulli: −Σ x ln p + (1 − x) ln(1 − p) from logits. Gaussian: Σ (x − m)²/(2ς²) + ½ ln(2πς²). The normalising
    constant is kept, so that values of different ς² can be compared.
    """
    batch = x.shape[0]
    if likelihood == "bernoulli":
        return functional.binary_cross_entropy_with_logits(output, x, reduction="sum") / batch
    squares = functional.mse_loss(output, x, reduction="sum") / (2 * decoder_variance)
    return squares / batch + 0.5 * x[0].numel() * math.log(2 * math.pi * decoder_variance)


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(μ, s) ‖ N(0, 1)) = ½(μ² + s − 1 − ln s) in nats, summed over dimensions and averaged over the batch."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum() / mean.shape[0]


class Objective(NamedTuple):
    """One minibatch's loss and what it is made of; the losses in nats per image."""

    loss: Tensor
    reconstruction: Tensor
    kl: Tensor
    mean: Tensor
    log_variance: Tensor


def objective(model: VAE, x: Tensor, noise: Tensor, kl_weight: float) -> Objective:
    """The loss −log p(x | z) + β KL of one minibatch for one draw of noise.

    Args:
        model: The VAE.
        x: Images (B, P).
        noise: Standard normal draws (B, d); the code is z = μ + σ · noise.
        kl_weight: β.
    """
    mean, log_variance = model.encode(x)
    z = mean + (0.5 * log_variance).exp() * noise
    reconstruction = reconstruction_loss(model.decode_natural(z), x, model.likelihood, model.decoder_variance)
    kl = kl_divergence(mean, log_variance)
    return Objective(reconstruction + kl_weight * kl, reconstruction, kl, mean, log_variance)


def images_to_floats(images: np.ndarray | Tensor, maximum: float) -> Tensor:
    """Images of any integer or float dtype as float32 pixels (N, P), divided by `maximum`."""
    images = torch.as_tensor(images)
    return images.reshape(images.shape[0], -1) / maximum


def save_vae(path: str | Path, model: VAE, metadata: dict[str, Any]) -> None:
    """Write weights and what is needed to build the model again, with `metadata` beside it."""
    arrays = {name: tensor.detach().cpu().numpy() for name, tensor in model.state_dict().items()}
    write_arrays(path, arrays, {"model": model.metadata(), **metadata})


def load_vae(path: str | Path) -> tuple[VAE, dict[str, Any]]:
    """Read a model that `save_vae` wrote: the module in evaluation mode, and its metadata."""
    arrays, metadata = read_arrays(path)
    try:
        model = VAE(**metadata["model"])
        model.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()})
    except (KeyError, TypeError, RuntimeError) as error:
        raise DataError(f"{path}: is not a model of this pipeline ({str(error).splitlines()[0]})") from None
    return model.eval().requires_grad_(False), metadata


def _layers(widths: Sequence[int]) -> list[nn.Module]:
    modules: list[nn.Module] = []
    for inputs, outputs in zip(widths[:-1], widths[1:], strict=True):
        modules += [nn.Linear(inputs, outputs), nn.ReLU()]
    return modules
