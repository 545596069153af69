"""The encoder of a trained VAE, from its stored weights: NumPy's matrix products, without importing PyTorch.

Importing PyTorch takes longer than encoding a small data set, once for every model.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import numpy as np

from ..storage import DataError

_HEADS = ("head_mean", "head_log_variance")


def encode(
    weights: Mapping[str, np.ndarray], images: np.ndarray, maximum: float, block_size: int = 4096
) -> tuple[np.ndarray, np.ndarray]:
    """Posterior means μ and variances s, float32 (N, d), of `images`: what `vae.VAE.encode` gives.

    Args:
        weights: The arrays of a model file that `vae.save_vae` wrote.
        images: First axis N.
        maximum: The value that becomes pixel value 1.
        block_size: Images that are encoded at a time.

    Raises:
        DataError: The weights are not those of a VAE, do not fit the images, or give a mean or variance that is not
            finite and positive.
    """
    layers = sorted({int(match[1]) for name in weights if (match := re.fullmatch(r"encoder\.(\d+)\.weight", name))})
    names = [*(f"encoder.{layer}" for layer in layers), *_HEADS]
    missing = [name for head in names for name in (f"{head}.weight", f"{head}.bias") if name not in weights]
    if missing:
        raise DataError(f"the model has no {missing[0]}: it is none of this pipeline")
    pixels = int(np.prod(images.shape[1:]))
    expected = weights[f"{names[0]}.weight"].shape[1]
    if pixels != expected:
        raise DataError(f"images have {pixels} values, the model takes {expected}")
    means, variances = [], []
    for start in range(0, len(images), block_size):
        block = images[start : start + block_size].reshape(-1, pixels)
        hidden = block.astype(np.float32) / np.float32(maximum)
        for name in names[:-2]:
            hidden = np.maximum(_affine(weights, name, hidden), 0)
        mean, log_variance = (_affine(weights, head, hidden) for head in _HEADS)
        means.append(mean)
        with np.errstate(over="ignore"):  # infinity is found below
            variances.append(np.exp(log_variance))
    mean, variance = np.concatenate(means), np.concatenate(variances)
    if not (np.isfinite(mean).all() and np.isfinite(variance).all() and (variance > 0).all()):
        raise DataError("the encoder gives means or variances that are not finite and positive; the model is unusable")
    return mean, variance


def _affine(weights: Mapping[str, np.ndarray], name: str, x: np.ndarray) -> np.ndarray:
    return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]
