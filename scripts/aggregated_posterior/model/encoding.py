"""Images to posteriors, and what is lost on the way back, by a trained model."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..storage import DataError
from .vae import VAE, images_to_floats, objective


@torch.no_grad()
def encode(model: VAE, images: np.ndarray, maximum: float, block_size: int = 4096) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means μ and variances s, float32 (N, d), of `images`.

    Args:
        model: A trained model, on the CPU.
        images: First axis N.
        maximum: The value that becomes pixel value 1.
        block_size: Images that are encoded at a time.

    Raises:
        DataError: The images do not fit the model, or a mean or variance is not finite and positive.
    """
    encoded = [model.encode(x) for _, x in blocks(model, images, maximum, block_size)]
    mean = torch.cat([mean for mean, _ in encoded]).numpy()
    variance = torch.cat([log_variance for _, log_variance in encoded]).exp().numpy()
    if not (np.isfinite(mean).all() and np.isfinite(variance).all() and (variance > 0).all()):
        raise DataError("the encoder gives means or variances that are not finite and positive; the model is unusable")
    return mean, variance


@torch.no_grad()
def losses(
    model: VAE, images: np.ndarray, maximum: float, kl_weight: float, noise: np.ndarray, block_size: int = 4096
) -> dict[str, float]:
    """`reconstruction`, `kl` and `loss` = reconstruction + β kl, in nats per image: `vae.objective` of all images.

    Args:
        model: A trained model, on the CPU.
        images: First axis N.
        maximum: The value that becomes pixel value 1.
        kl_weight: β.
        noise: Standard normal draws, float32 (N, d), one code for each image.
        block_size: Images that are encoded and decoded at a time.
    """
    sums = np.zeros(2)
    for rows, x in blocks(model, images, maximum, block_size):
        result = objective(model, x, torch.from_numpy(noise[rows]), kl_weight)
        sums += len(x) * np.array([result.reconstruction.item(), result.kl.item()])
    reconstruction, kl = (sums / len(images)).tolist()
    return {"reconstruction": reconstruction, "kl": kl, "loss": reconstruction + kl_weight * kl}


def blocks(model: VAE, images: np.ndarray, maximum: float, block_size: int) -> Iterator[tuple[slice, Tensor]]:
    """Consecutive images as pixels (B, P), each with its place among all."""
    pixels = int(np.prod(images.shape[1:]))
    if pixels != model.pixels:
        raise DataError(f"images have {pixels} values, the model takes {model.pixels}")
    for start in range(0, len(images), block_size):
        rows = slice(start, start + block_size)
        yield rows, images_to_floats(np.array(images[rows]), maximum)
