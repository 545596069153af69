"""Copies of training images among generated ones."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh

from ..storage import DataError
from .neighbours import nearest_squared

# Squared distances that differ by less than this part of the data's variance (the mean square distance of an image from
# the centre) are the same. Single precision leaves about 10⁻⁶ of it.
SAME = 1e-4


class CopyDetector:
    """Do generated images lie nearer to training images than to held-out ones?

    Where a sampler copies nothing, training and held-out images are exchangeable to it, and the nearest image to a
    generated one is a training image with probability p = N_train / (N_train + N_test), however blurred it is. The
    copy rate is (share − p) / (1 − p): 0 on average without copying, 1 where the nearest is always a training image,
    and negative where it is more often a held-out one. (The idea of Meehan et al. 2020, free of their held-out
    threshold.)

    Distances are Euclidean in the leading principal components of the pixels, found on equally many training and
    held-out images. A judge's features would not do: they were learnt on the training images. Two images at the same
    distance, to `SAME` of the data's own scale, are equally near: in single precision two copies of one picture are not
    at the same number, and which of them is nearer would be the processor's choice.

    Args:
        train: Training images, first axis N_train.
        test: Held-out images, first axis N_test.
        maximum: The value that becomes pixel value 1.
        rng: Chooses the images that give the principal components.
        components: Number of components kept.
    """

    def __init__(
        self,
        train: np.ndarray,
        test: np.ndarray,
        maximum: float,
        rng: np.random.Generator,
        components: int = 64,
    ) -> None:
        half = min(len(train), len(test), 5000)
        if half == 0:
            raise DataError("the copy rate needs training and held-out images; one of them is empty")
        train, test = (np.asarray(images).reshape(len(images), -1) for images in (train, test))
        sample = np.concatenate([images[rng.permutation(len(images))[:half]] for images in (train, test)])
        sample = sample.astype(np.float64) / maximum
        self.centre = sample.mean(0)
        width = sample.shape[1]
        leading = [max(0, width - components), width - 1]
        _, vectors = eigh(np.atleast_2d(np.cov(sample, rowvar=False)), subset_by_index=leading)
        self.axes = vectors.astype(np.float32)
        self.n_train, self.n_test = len(train), len(test)
        self.points = np.concatenate([self._project(images, maximum) for images in (train, test)])
        self.squares = np.einsum("nd,nd->n", self.points, self.points)
        self.tie = SAME * float(self.squares.mean(dtype=np.float64))

    def _project(self, images: np.ndarray, maximum: float) -> np.ndarray:
        blocks = [images[start : start + 4096] for start in range(0, len(images), 4096)]
        offset = (self.centre @ self.axes).astype(np.float32)
        return np.concatenate([block.astype(np.float32) @ (self.axes / maximum) - offset for block in blocks])

    def rate(self, pixels: np.ndarray) -> float:
        """The copy rate of images `pixels` (M, P) in [0, 1]; its standard error is near √(p/((1 − p) M))."""
        if len(pixels) == 0:
            raise DataError("the copy rate needs at least one generated image")
        queries = self._project(np.asarray(pixels).reshape(len(pixels), -1), 1.0)
        squares = np.einsum("nd,nd->n", queries, queries)
        train, test = (
            nearest_squared(queries, squares, self.points[split], self.squares[split])
            for split in (slice(self.n_train), slice(self.n_train, None))
        )
        # The same picture in both splits is no evidence either way: a tie counts as the null's probability.
        tie = np.abs(train - test) <= self.tie
        copied = np.where(tie, self.null, np.where(train < test, 1.0, 0.0))
        return float((copied.mean() - self.null) / (1 - self.null))

    @property
    def null(self) -> float:
        """p, the probability that the nearest image is a training image where nothing is copied."""
        return self.n_train / (self.n_train + self.n_test)
