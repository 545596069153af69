"""How near generated images are to real ones, measured on features (N, D) of both; sums are taken in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..storage import DataError
from .neighbours import ALLOWANCE, Neighbourhoods, as_features, squared_distances

# Independent parts of the data from which the error of KID is taken.
PARTS = 10
# Up to so many rows every pair of points enters KID; above, pairs within a part do, which costs a tenth.
ALL_PAIRS = 2000


def frechet_distance(features_a: np.ndarray, features_b: np.ndarray) -> float:
    """Squared Fréchet distance between normal laws with the features' means and covariances.

    ‖m_a − m_b‖² + tr S_a + tr S_b − 2 tr (S_a^½ S_b S_a^½)^½  (Heusel et al. 2017). The last trace is the sum
    of the singular values of S_a^½ S_b^½, with square roots from symmetric eigendecompositions: unlike a
    general matrix square root this is exact for degenerate covariances, hence for fewer samples than features
    too.

    Args:
        features_a: (N, D), at least two rows.
        features_b: (M, D), at least two rows.

    Returns:
        The distance in squared units of the features; 0 or more.
    """
    features_a, features_b = as_features(features_a, features_b, minimum=2)
    roots, covariances = [], []
    for features in (features_a, features_b):
        covariance = np.atleast_2d(np.cov(features, rowvar=False))
        values, vectors = np.linalg.eigh(covariance)
        roots.append(vectors * np.sqrt(np.maximum(values, 0)) @ vectors.T)
        covariances.append(covariance)
    overlap = np.linalg.svd(roots[0] @ roots[1], compute_uv=False).sum()
    shift = np.square(features_a.mean(0) - features_b.mean(0)).sum()
    # Rounding can leave −10⁻¹⁵ where the laws are the same.
    return float(max(shift + np.trace(covariances[0]) + np.trace(covariances[1]) - 2 * overlap, 0.0))


def kernel_distance(features_a: np.ndarray, features_b: np.ndarray, rng: np.random.Generator) -> tuple[float, float]:
    """KID: the unbiased squared MMD under the kernel (xᵀy/D + 1)³, and its standard error (Bińkowski et al. 2018).

    Both sets are shuffled and cut into ten parts that share no row. Above 2000 rows the estimate is the mean over the
    parts, which are independent, and its error their standard deviation over √10. (The customary random subsets
    overlap, and their spread is no standard error.) Smaller sets cannot spare the pairs across parts: all are used,
    and the error is the jackknife's, which leaves out one part at a time. An unbiased estimate can be negative.

    Args:
        features_a, features_b: (N, D) and (M, D), at least twenty rows each; the larger set is cut to the smaller.
        rng: Shuffles the rows.

    Returns:
        (KID, its standard error).
    """
    features_a, features_b = as_features(features_a, features_b, minimum=2 * PARTS)
    size = min(len(features_a), len(features_b)) // PARTS
    a, b = (
        features[rng.permutation(len(features))[: size * PARTS]].reshape(PARTS, size, -1)
        for features in (features_a, features_b)
    )
    if size * PARTS > ALL_PAIRS:
        values = np.array([_unbiased_mmd(*_kernel_sums(x[None], y[None]), size) for x, y in zip(a, b, strict=True)])
        return float(values.mean()), float(values.std(ddof=1) / np.sqrt(PARTS))
    within, across = _kernel_sums(a, b)
    kept = [np.delete(np.arange(PARTS), part) for part in range(PARTS)]
    values = np.array([_unbiased_mmd(within[np.ix_(k, k)], across[np.ix_(k, k)], size) for k in kept])
    error = np.sqrt((PARTS - 1) / PARTS * np.square(values - values.mean()).sum())
    return _unbiased_mmd(within, across, size), float(error)


@dataclass(frozen=True)
class Manifold:
    """Overlap of two sets of points: shares in [0, 1], except density, which has mean 1 for equal laws."""

    precision: float
    recall: float
    density: float
    coverage: float


def precision_recall_density_coverage(
    real: np.ndarray | Neighbourhoods, fake: np.ndarray, neighbours: int = 5
) -> Manifold:
    """Precision and recall (Kynkäänniemi et al. 2019), density and coverage (Naeem et al. 2020).

    With B(x) the closed ball from x to its k-th nearest neighbour in x's own set: precision = share of fake points in
    some real ball; recall = share of real points in some fake ball; density = mean number of real balls around a fake
    point, over k; coverage = share of real balls with a fake point. For two sets of n points of one law, E density =
    1 and E coverage = 1 − Π_{i=1..k} (n − i)/(2n − i).

    A point on a ball's rim counts as inside: repeated points have balls of radius 0, which the same point still
    meets.

    Args:
        real: (N, D) features, or their neighbourhoods where they serve more than once.
        fake: (M, D) features.
        neighbours: k; taken from `real` where that is a `Neighbourhoods`.
    """
    if not isinstance(real, Neighbourhoods):
        real, fake = as_features(real, fake)
        real = Neighbourhoods.of(real, neighbours)
    fake_balls = Neighbourhoods.of(fake, real.neighbours, real.centre)
    rim_fake = fake_balls.radii + 2 * ALLOWANCE * fake_balls.squares
    rim_real = real.radii + 2 * ALLOWANCE * real.squares
    meets = np.zeros(len(fake), np.int64)
    covered, recalled = np.empty(len(real.points), bool), np.empty(len(real.points), bool)
    for rows, distances in squared_distances(real.points, real.squares, fake_balls.points, fake_balls.squares):
        inside = distances <= rim_real[rows, None]
        meets += np.count_nonzero(inside, axis=0)
        covered[rows] = inside.any(1)
        recalled[rows] = (distances <= rim_fake).any(1)
    return Manifold(
        precision=float((meets > 0).mean()),
        recall=float(recalled.mean()),
        density=float(meets.mean() / real.neighbours),
        coverage=float(covered.mean()),
    )


def class_balance(predicted: np.ndarray, reference: np.ndarray, classes: int) -> float:
    """How alike the predicted classes of two sets are: Σ_c min(share in one, share in the other).

    It is 1 minus their total variation distance: 1 for the same shares, 0 for sets that share no class, and the
    reference's share of the one class where every image is taken for that class.

    Args:
        predicted: (N,) predicted classes of the images in question.
        reference: (M,) predicted classes, by the same judge, of real images.
        classes: Number of classes.
    """
    shares = []
    for labels in (np.asarray(predicted), np.asarray(reference)):
        if len(labels) == 0 or labels.min() < 0 or labels.max() >= classes:
            raise DataError(
                f"class predictions must lie between 0 and {classes - 1}; there are none, or some lie outside"
            )
        shares.append(np.bincount(labels, minlength=classes) / len(labels))
    return float(np.minimum(*shares).sum())


def _kernel_sums(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sums of the kernel between parts of `a` and `b` (parts, size, D): within both sets together, and across them.

    A point's kernel with itself is left out. Both results are (parts, parts).
    """
    parts, size, width = a.shape

    def sums(x: np.ndarray, y: np.ndarray, same: bool) -> np.ndarray:
        kernel = x.reshape(-1, width) @ y.reshape(-1, width).T / width + 1
        kernel = kernel * kernel * kernel
        if same:
            np.fill_diagonal(kernel, 0.0)
        return kernel.reshape(parts, size, parts, size).sum((1, 3))

    return sums(a, a, True) + sums(b, b, True), sums(a, b, False)


def _unbiased_mmd(within: np.ndarray, across: np.ndarray, size: int) -> float:
    rows = len(within) * size
    return float(within.sum() / (rows * (rows - 1)) - 2 * across.sum() / rows**2)
