"""The ladder of samplers, scored: one frozen decoder, the same noise where it can be the same, several
judges."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from ..model.vae import VAE
from ..posterior.gauge import canonical_form, canonicalise
from ..posterior.mixture import AggregatedPosterior
from ..storage import DataError
from .copies import CopyDetector
from .image_quality import (
    class_balance,
    frechet_distance,
    kernel_distance,
    precision_recall_density_coverage,
)
from .judge import Judge
from .neighbours import Neighbourhoods
from .samplers import NoiseSampler, ladder

# The copy rate searches all training images for every image it is given, and needs no more for an error of
# 0.05.
COPY_IMAGES = 2000


@dataclass(frozen=True)
class Splits:
    """Images and posteriors of one data set under one model, both splits.

    Args:
        images_train, images_test: Images as stored, first axis N.
        maximum: The value that becomes pixel value 1.
        q_train, q_test: Q(z) of either split, in the raw coordinates of the decoder; rows go with the images.
    """

    images_train: np.ndarray
    images_test: np.ndarray
    maximum: float
    q_train: AggregatedPosterior
    q_test: AggregatedPosterior

    def __post_init__(self) -> None:
        for split in ("train", "test"):
            images, q = len(getattr(self, f"images_{split}")), getattr(self, f"q_{split}").n
            if images != q:
                raise DataError(
                    f"there are {images} {split} images but {q} {split} posteriors; encode the images again"
                )

    def pixels(self, split: str, rows: np.ndarray) -> np.ndarray:
        """Pixels (n, P) in [0, 1] of some images."""
        images = getattr(self, f"images_{split}")[rows]
        return images.reshape(len(images), -1).astype(np.float32) / np.float32(self.maximum)


def draw_rungs(
    model: VAE, splits: Splits, test_rows: np.ndarray, components: Sequence[int], seed: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield every rung's name and as many pixel means (n, P) in [0, 1] as there are `test_rows`.

    `floor` is training images and `ceiling` the reconstructions of the reference images from their posterior means:
    what another sample of real images, and a code that is never wrong, would score.

    `q_heldout` draws from Q(z) of the test posteriors, the reference that any sampler should reach. It is made of the
    very images that it is compared with, so it also knows in what the test split differs from the training split. No
    sampler that is fitted to training posteriors can know that: one that knew their Q(z) perfectly would score like
    `q_train`. Every other rung is fitted to training posteriors only, in canonical form, and `refuse`s those of the
    test split. `prior_raw` takes the decoder's coordinates as they are: N(0, I) as the vanilla VAE draws it.

    Every image is the decoder's mean: likelihood noise would be the same on every rung and hide what differs.
    """
    canonical = canonical_form(splits.q_train)
    q_train, q_test = (canonicalise(q, canonical) for q in (splits.q_train, splits.q_test))
    n = len(test_rows)
    noise = _generator(seed, "noise").standard_normal((n, q_train.latent_dim))

    chosen = _generator(seed, "floor").permutation(len(splits.images_train))[:n]
    yield "floor", splits.pixels("train", chosen)
    yield "ceiling", decode(model, splits.q_test.mean[test_rows])
    yield "prior_raw", decode(model, noise)
    for name, sampler in ladder(components, seed).items():
        if name == "q_train":
            # The reference stands beside what it judges, before the rung that is no generator.
            yield (
                "q_heldout",
                decode(model, canonical.invert(q_test.sample(n, _generator(seed, "q_heldout")))),
            )
        sampler.fit(q_train).refuse(q_test)
        shares_noise = isinstance(sampler, NoiseSampler)
        z = sampler.transform(noise) if shares_noise else sampler.sample(n, _generator(seed, name))
        yield name, decode(model, canonical.invert(z))


@torch.no_grad()
def decode(model: VAE, z: np.ndarray, block_size: int = 2000) -> np.ndarray:
    """Pixel means (n, P) float32 of raw codes `z` (n, d), cut to [0, 1] as an image file would cut them.

    Raises:
        DataError: The decoder gives a value that is not finite.
    """
    blocks = torch.as_tensor(np.asarray(z, dtype=np.float32)).split(block_size)
    pixels = torch.cat([model.decode(block) for block in blocks]).clamp(0, 1).numpy()
    if not np.isfinite(pixels).all():
        raise DataError("the decoder gives pixels that are not finite; the model or the sampled codes are unusable")
    return pixels


def score_ladder(
    model: VAE,
    splits: Splits,
    judges: Mapping[Any, Judge],
    images: int | None,
    components: Sequence[int],
    neighbours: int,
    plate_size: int,
    seed: int,
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Draw images by every rung and score them against test images.

    Args:
        model: The VAE, whose decoder serves every rung.
        splits: Images and posteriors.
        judges: Judges by name.
        images: Number of test images that are the reference, and of images drawn by each rung; None takes
            all.
        components: Numbers of components K of the mixtures.
        neighbours: k of precision, recall, density and coverage.
        plate_size: Images of each rung that are returned.
        seed: Seed of everything drawn.

    Returns:
        One row per judge and sampler (judge, sampler, n, frechet, kid, kid_se, precision, recall, density, coverage,
        class_balance, copy_rate), and the first `plate_size` images of each rung as bytes, (plate_size, H, W[, C]).

    Raises:
        DataError: More images are asked for than there are test images, or a measure cannot be taken.
    """
    available = len(splits.images_test)
    if images is not None and images > available:
        raise DataError(f"images is {images} but there are {available} test images; lower it, or use null for all")
    test_rows = np.sort(_generator(seed, "reference").permutation(available)[:images])
    reference = splits.pixels("test", test_rows)
    real = {name: judge.judge(reference) for name, judge in judges.items()}
    balls = {name: Neighbourhoods.of(features, neighbours) for name, (features, _) in real.items()}
    copies = CopyDetector(splits.images_train, splits.images_test, splits.maximum, _generator(seed, "copies"))
    rows: list[dict[str, Any]] = []
    plates: dict[str, np.ndarray] = {}
    shape = splits.images_test.shape[1:]
    for sampler, pixels in draw_rungs(model, splits, test_rows, components, seed):
        plates[sampler] = np.round(pixels[:plate_size] * 255).astype(np.uint8).reshape(-1, *shape)
        copy_rate = copies.rate(pixels[:COPY_IMAGES])
        for name, judge in judges.items():
            features, classes = judge.judge(pixels)
            kid, kid_se = kernel_distance(features, real[name][0], _generator(seed, "kid"))
            rows.append(
                {
                    "judge": name,
                    "sampler": sampler,
                    "n": len(pixels),
                    "frechet": frechet_distance(features, real[name][0]),
                    "kid": kid,
                    "kid_se": kid_se,
                    **asdict(precision_recall_density_coverage(balls[name], features)),
                    "class_balance": class_balance(classes, real[name][1], judge.classes),
                    "copy_rate": copy_rate,
                }
            )
    # A stable sort: within a judge the rungs keep their order.
    return sorted(rows, key=lambda row: row["judge"]), plates


def _generator(seed: int, purpose: str) -> np.random.Generator:
    """A generator of its own for each purpose, so that a new rung changes no other rung's draws."""
    return np.random.default_rng([seed, zlib.crc32(purpose.encode())])
