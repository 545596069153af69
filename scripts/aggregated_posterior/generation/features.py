"""Features of images without labels: leading principal components of the pixels."""

from __future__ import annotations

import numpy as np

from ..storage import DataError


class PixelFeatures:
    """A judge for data without classes: the leading principal components of the values themselves.

    Scaled as a trained judge's features are, so that their variances over the training data have mean 1. Distances in
    pixels reward blur; where there are labels, train a judge.

    Args:
        train: Training data (N, …), from which the components are found.
        components: Number of components kept, at most.
    """

    classes = None

    def __init__(self, train: np.ndarray, components: int = 64) -> None:
        # The components need a covariance, not every row: 20 000 rows err by a hundredth.
        rows = np.asarray(train).reshape(len(train), -1)[:: -(-len(train) // 20_000)].astype(np.float64)
        self.centre = rows.mean(0)
        _, values, axes = np.linalg.svd(np.linalg.qr(rows - self.centre, mode="r"), full_matrices=False)
        kept = min(components, int(np.count_nonzero(values > 1e-7 * values.max(initial=0))))
        if kept == 0:
            raise DataError("the training data are all the same: they have no principal components to compare by")
        scale = np.sqrt(np.square(values[:kept]).mean() / len(rows))
        self.axes = axes[:kept].T / scale

    def judge(self, pixels: np.ndarray) -> tuple[np.ndarray, None]:
        """Features float32 (n, components) of `pixels` (n, P), and no classes."""
        return ((pixels - self.centre) @ self.axes).astype(np.float32), None
