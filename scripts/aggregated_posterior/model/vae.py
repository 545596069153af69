"""The variational autoencoder and its objective, in one file.

Kingma and Welling 2014 (VAE), Higgins et al. 2017 (KL weight). The encoder gives q(z | x) = N(μ(x), diag s(x)); the
decoder gives p(x | z), a product of Bernoulli laws or of normal laws with one fixed variance.

    loss = −log p(x | z) + β · KL(q(z | x) ‖ N(0, I))

in nats, **summed over pixels and latent dimensions, averaged over the batch**. β is the KL weight.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional

from ..storage import DataError, read_arrays, write_arrays
from .affine import Affine, inside_torch_func

LIKELIHOODS = ("bernoulli", "gaussian")


class VAE(nn.Module):
    """A VAE whose heads and first decoder layer are affine with bias, whatever lies between.

    Those biases are what makes the first two moments of Q(z) a matter of gauge (see `regauging.py`): without them the
    identities E[μ] = 0 and E[μ²] + E[s] = 1 of a converged model would not hold.

    Args:
        image_shape: Shape of one image: (H, W), (H, W, channels), or the number P of values that are no image.
        latent_dim: Number of latent dimensions d.
        hidden_sizes: Widths of `dense` from image to latent code, mirrored in the decoder.
        likelihood: `bernoulli` (pixels in [0, 1], decoder gives logits) or `gaussian` (decoder gives means).
        decoder_variance: ς² of the Gaussian likelihood; ignored by `bernoulli`.
        architecture: A name of `ARCHITECTURES`.

    Raises:
        DataError: An unknown architecture or likelihood, or images that the architecture cannot take.
    """

    def __init__(
        self,
        image_shape: int | Sequence[int],
        latent_dim: int,
        hidden_sizes: Sequence[int],
        likelihood: str,
        decoder_variance: float = 1.0,
        architecture: str = "dense",
    ) -> None:
        super().__init__()
        for word, value, known in (
            ("architecture", architecture, ARCHITECTURES),
            ("likelihood", likelihood, LIKELIHOODS),
        ):
            if value not in known:
                raise DataError(f"{word} {value!r} is unknown; choose {' or '.join(known)}")
        self.image_shape = [int(size) for size in np.atleast_1d(image_shape)]
        self.pixels = math.prod(self.image_shape)
        self.latent_dim = latent_dim
        self.architecture = architecture
        self.hidden_sizes = list(hidden_sizes)
        self.likelihood = likelihood
        self.decoder_variance = float(decoder_variance)
        # Images are mostly dark, so a network that sees them uncentred starts far from balanced; every architecture
        # takes pixels as they are, since the first layer's bias can absorb any centring.
        self.encoder, features, self.decoder = ARCHITECTURES[architecture](
            self.image_shape, latent_dim, self.hidden_sizes
        )
        self.head_mean = Affine(features, latent_dim)
        self.head_log_variance = Affine(features, latent_dim)

    @property
    def first_decoder_layer(self) -> Affine:
        """The one layer that takes the code z."""
        return self.decoder[0]

    def forward(self, x: Tensor, noise: Tensor, kl_weight: float | Tensor) -> Objective:
        """`objective`: the way in for `torch.func`, which calls modules."""
        return objective(self, x, noise, kl_weight)

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
            "image_shape": self.image_shape,
            "latent_dim": self.latent_dim,
            "hidden_sizes": self.hidden_sizes,
            "likelihood": self.likelihood,
            "decoder_variance": self.decoder_variance,
            "architecture": self.architecture,
        }


def reconstruction_loss(output: Tensor, x: Tensor, likelihood: str, decoder_variance: float) -> Tensor:
    """−log p(x | z) in nats, summed over pixels and averaged over the batch.

    Bernoulli: −Σ x ln p + (1 − x) ln(1 − p) from logits. Gaussian: Σ (x − m)²/(2ς²) + ½ ln(2πς²). The normalising
    constant is kept, so that values of different ς² can be compared.
    """
    batch = x.shape[0]
    if likelihood == "bernoulli":
        if inside_torch_func():
            return functional.binary_cross_entropy_with_logits(output, x, reduction="sum") / batch
        return _BernoulliLoss.apply(output, x) / batch
    squares = functional.mse_loss(output, x, reduction="sum") / (2 * decoder_variance)
    return squares / batch + 0.5 * x[0].numel() * math.log(2 * math.pi * decoder_variance)


class _BernoulliLoss(torch.autograd.Function):
    """PyTorch's `binary_cross_entropy_with_logits`, summed, in half of its time: p = σ(l) serves loss and gradient.

    Σ max(l, 0) − x l − ln σ(|l|), where σ(|l|) = ½ + |p − ½| is never below ½, and the gradient p − x.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, logits: Tensor, x: Tensor) -> Tensor:
        p = torch.sigmoid(logits)
        # One buffer, which stays in the cache, and p − x in the place of p.
        buffer = (p - 0.5).abs_().add_(0.5).log_()
        log_sigmoid = buffer.sum()
        rest = torch.clamp_min(logits, 0, out=buffer).sum() - torch.dot(logits.reshape(-1), x.reshape(-1))
        ctx.save_for_backward(p.sub_(x))
        return rest - log_sigmoid

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        (residual,) = ctx.saved_tensors
        return residual * gradient, None


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


def objective(model: VAE, x: Tensor, noise: Tensor, kl_weight: float | Tensor) -> Objective:
    """The loss −log p(x | z) + β KL of one minibatch for one draw of noise.

    Args:
        model: The VAE.
        x: Images (B, P).
        noise: Standard normal draws (B, d); the code is z = μ + σ · noise.
        kl_weight: β.
    """
    mean, log_variance = model.encode(x)
    z = torch.addcmul(mean, (0.5 * log_variance).exp(), noise)
    reconstruction = reconstruction_loss(model.decode_natural(z), x, model.likelihood, model.decoder_variance)
    kl = kl_divergence(mean, log_variance)
    return Objective(reconstruction + kl_weight * kl, reconstruction, kl, mean, log_variance)


def images_to_floats(images: np.ndarray | Tensor, maximum: float) -> Tensor:
    """Images of any integer or float dtype as float32 pixels (N, P), divided by `maximum`."""
    images = torch.as_tensor(images)
    return images.reshape(images.shape[0], -1).to(torch.float32, copy=True).div_(maximum)


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


def _dense(
    image_shape: Sequence[int], latent_dim: int, hidden_sizes: Sequence[int]
) -> tuple[nn.Sequential, int, nn.Sequential]:
    """Affine layers with ReLUs, mirrored in the decoder."""
    pixels = math.prod(image_shape)
    widths = [pixels, *hidden_sizes]
    mirrored = [latent_dim, *reversed(hidden_sizes)]
    encoder = [Affine(a, b, relu=True) for a, b in itertools.pairwise(widths)]
    decoder = [Affine(a, b, relu=True) for a, b in itertools.pairwise(mirrored)]
    return nn.Sequential(*encoder), widths[-1], nn.Sequential(*decoder, Affine(mirrored[-1], pixels))


def _conv(
    image_shape: Sequence[int], latent_dim: int, hidden_sizes: Sequence[int]
) -> tuple[nn.Sequential, int, nn.Sequential]:
    """Two convolutions of stride 2 (to 16 and 32 channels), mirrored by two transposed ones."""
    if len(image_shape) not in (2, 3) or image_shape[0] % 4 or image_shape[1] % 4:
        raise DataError(
            f"conv takes images whose height and width are multiples of 4, not {list(image_shape)}; "
            "give the data set another image_shape, or choose dense"
        )
    height, width, channels = (*image_shape, 1)[:3]
    small = (32, height // 4, width // 4)
    encoder = nn.Sequential(
        ToChannels((height, width, channels)),
        nn.Conv2d(channels, 16, kernel_size=4, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, kernel_size=4, stride=2, padding=1),
        nn.ReLU(),
        nn.Flatten(),
    )
    decoder = nn.Sequential(
        Affine(latent_dim, math.prod(small), relu=True),
        nn.Unflatten(1, small),
        nn.ConvTranspose2d(32, 16, kernel_size=4, stride=2, padding=1),
        nn.ReLU(),
        nn.ConvTranspose2d(16, channels, kernel_size=4, stride=2, padding=1),
        FromChannels(),
    )
    return encoder, math.prod(small), decoder


class ToChannels(nn.Module):
    """Rows of pixels (B, H·W·C), channels last as in the data files, to images (B, C, H, W)."""

    def __init__(self, image_shape: Sequence[int]) -> None:
        super().__init__()
        self.image_shape = tuple(image_shape)

    def forward(self, x: Tensor) -> Tensor:
        return x.unflatten(1, self.image_shape).permute(0, 3, 1, 2).contiguous()


class FromChannels(nn.Module):
    """Images (B, C, H, W) back to rows of pixels (B, H·W·C)."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


def _linear(
    image_shape: Sequence[int], latent_dim: int, hidden_sizes: Sequence[int]
) -> tuple[nn.Sequential, int, nn.Sequential]:
    """Affine encoder and decoder (Lucas et al. 2019)."""
    return _dense(image_shape, latent_dim, [])


# From a name to encoder, the number of values that it gives the heads, and decoder.
ARCHITECTURES = {"dense": _dense, "linear": _linear, "conv": _conv}
