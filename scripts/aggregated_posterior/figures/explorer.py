"""What the experiment's page lets one explore, as one JSON document: it is published, and pages are made from it alone.

For every model with two latent dimensions the decoder itself (float16 weights), codes drawn by five samplers, and the
density of Q(z) on a grid; for every cell of the sweep a plate of images and the curve of its least normal marginal.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..generation.samplers import rungs
from ..posterior.gauge import canonicalise
from ..posterior.splits import Posteriors
from ..storage import DataError
from ..streams import stream

# What a reader presses or looks at, and the rung of the ladder behind it, from nothing of Q(z) to all of it.
PLAIN_NAMES = {
    "prior": "prior",
    "marginals": "right marginals",
    "dependence": "right dependence",
    "mixture": "mixture",
    "q_train": "Q itself",
}
# Codes of each sampler that travel with a map.
CODES = 400


def packed(array: np.ndarray, dtype: str) -> str:
    """An array's bytes (little-endian, C order) in base64, as JavaScript's typed arrays take them."""
    return base64.b64encode(np.ascontiguousarray(array, dtype=np.dtype(dtype).newbyteorder("<")).tobytes()).decode()


def png(image: np.ndarray) -> str:
    """An image of bytes, (H, W) or (H, W, 3), as a PNG in a data address."""
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def mixture_rung(names: Sequence[str]) -> str | None:
    """The mixture with most components among a ladder's rungs: the one that stands for "a fitted mixture"."""
    sizes = {int(match[1]): name for name in names if (match := re.fullmatch(r"gmm_(\d+)", name))}
    return sizes[max(sizes)] if sizes else None


def shown_rungs(names: Sequence[str]) -> dict[str, str]:
    """Plain name → rung, for those of `PLAIN_NAMES` that a ladder has."""
    wanted = {**{name: name for name in PLAIN_NAMES}, "mixture": mixture_rung(names)}
    return {PLAIN_NAMES[key]: rung for key, rung in wanted.items() if rung in names}


def plate(images: Mapping[str, np.ndarray], columns: int = 8) -> dict[str, Any]:
    """One row of images for each shown rung, as one PNG.

    Args:
        images: Rung → images as bytes (n, H, W) or (n, H, W, 3), as in sample_plates.safetensors.
        columns: Images in a row.
    """
    shown = shown_rungs(list(images))
    rows = [np.concatenate(list(images[rung][:columns]), axis=1) for rung in shown.values()]
    return {"rows": list(shown), "png": png(np.concatenate(rows, axis=0))}


def decoder_layers(weights: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """The affine layers of a dense decoder, input first, float16 in base64; a ReLU follows each but the last.

    Raises:
        DataError: The model has no dense decoder.
    """
    order = sorted(int(m[1]) for name in weights if (m := re.fullmatch(r"decoder\.(\d+)\.weight", name)))
    if not order or any(weights[f"decoder.{n}.weight"].ndim != 2 for n in order):
        raise DataError("the decoder is not a chain of affine layers; only such a one can be explored")
    return [
        {
            "outputs": int(weights[f"decoder.{n}.weight"].shape[0]),
            "inputs": int(weights[f"decoder.{n}.weight"].shape[1]),
            "weight": packed(weights[f"decoder.{n}.weight"], "f2"),
            "bias": packed(weights[f"decoder.{n}.bias"], "f2"),
        }
        for n in order
    ]


def codes_by_sampler(posteriors: Posteriors, components: Sequence[int], seed: int) -> dict[str, np.ndarray]:
    """`CODES` codes (n, d) of each shown sampler, in the decoder's own coordinates, by plain name."""
    canonical = posteriors.canonical()
    q = canonicalise(posteriors.train, canonical)
    fitted = rungs(components, seed)
    return {
        plain: canonical.invert(fitted[rung].fit(q).sample(CODES, stream(seed, "explorer", rung)))
        for plain, rung in shown_rungs(list(fitted)).items()
    }


def density_map(log_density: np.ndarray, axis: np.ndarray) -> dict[str, Any]:
    """ln Q on a square grid as bytes: 255 at its maximum, 0 at 8 nats below; row by row of the second dimension.

    Args:
        log_density: (G, G), first index the first latent dimension.
        axis: (G,) the grid's coordinates, the same for both dimensions.
    """
    level = np.clip((log_density - log_density.max()) / 8 + 1, 0, 1)
    return {"size": len(axis), "limit": float(axis[-1]), "level": packed(np.round(255 * level.T), "u1")}


def latent_map(
    metadata: Mapping[str, Any],
    weights: Mapping[str, np.ndarray],
    codes: Mapping[str, np.ndarray],
    log_density: np.ndarray,
    axis: np.ndarray,
) -> dict[str, Any]:
    """Everything that one explorable latent space needs.

    Args:
        metadata: `likelihood` and `image_shape` of the model.
        weights: Arrays of its file.
        codes: Plain name of a sampler → codes (n, 2) in the decoder's own coordinates.
        log_density, axis: See `density_map`.
    """
    return {
        **metadata,
        "layers": decoder_layers(weights),
        "codes": [{"sampler": name, "z": packed(z[:CODES], "f4")} for name, z in codes.items()],
        "density": density_map(log_density, axis),
    }
