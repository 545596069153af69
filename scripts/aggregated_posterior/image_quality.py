"""How near generated images are to real ones, measured on features (N, D) of both.

Distances between many points are one matrix product per block of rows, in float32 after centring: it halves
    the time,
and a squared distance then errs by about 10⁻⁶ of the points' squared norms, an allowance that every
comparison makes. Everything that is summed is summed in float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from aggregated_posterior.storage import DataError

BLOCK = 256
# Ten roundings of float32, relative to the squared norms of the two points whose distance is taken.
ALLOWANCE = 10 * float(np.finfo(np.float32).eps)


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
    features_a, features_b = _check(features_a, features_b, 2)
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


def kernel_distance(
    features_a: np.ndarray,
    features_b: np.ndarray,
    rng: np.random.Generator,
    block_size: int = 1000,
    minimum_blocks: int = 10,
) -> tuple[float, float]:
    """KID: the unbiased squared MMD under the kernel (xᵀy/D + 1)³, and its standard error (Bińkowski et al.
    2018).

    Both sets are shuffled and cut into blocks that share no row. The estimate is the mean over pairs of
    blocks, and since the blocks are independent its standard error is their standard deviation over the root
    of their number. (The customary random subsets overlap, and their spread is no standard error.) An
    unbiased estimate can be negative.

    Args:
        features_a: (N, D), at least four rows.
        features_b: (M, D), at least four rows.
        rng: Shuffles the rows.
        block_size: Rows in a block, at most.
        minimum_blocks: Smaller blocks are made where there would be fewer than these, as far as rows go
            round.

    Returns:
        (KID, its standard error).
    """
    features_a, features_b = _check(features_a, features_b, 4)
    rows = min(len(features_a), len(features_b))
    size = max(2, min(block_size, rows // minimum_blocks))
    blocks = rows // size
    order_a, order_b = rng.permutation(len(features_a)), rng.permutation(len(features_b))
    values = np.empty(blocks)
    for block in range(blocks):
        chosen = slice(block * size, (block + 1) * size)
        a, b = features_a[order_a[chosen]], features_b[order_b[chosen]]
        within = 0.0
        for x in (a, b):
            kernel = _cubic_kernel(x, x)
            within += (kernel.sum() - np.trace(kernel)) / (size * (size - 1))
        values[block] = within - 2 * _cubic_kernel(a, b).mean()
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(blocks))


@dataclass(frozen=True)
class Neighbourhoods:
    """Points with the balls that reach from each to its k-th nearest other point.

    Args:
        points: (N, D) float32, centred.
        squares: (N,) squared norms.
        radii: (N,) squared radii.
        centre: (D,) what was taken from the points.
        neighbours: k.
    """

    points: np.ndarray
    squares: np.ndarray
    radii: np.ndarray
    centre: np.ndarray
    neighbours: int

    @classmethod
    def of(cls, points: np.ndarray, neighbours: int, centre: np.ndarray | None = None) -> Neighbourhoods:
        """Measure the balls of `points` (N, D); pass another set's `centre` to compare the two.

        Raises:
            DataError: There are not more than `neighbours` points, or some are not finite.
        """
        (points,) = _check(points)
        if not 1 <= neighbours < len(points):
            raise DataError(
                f"{len(points)} points have no {neighbours} neighbours each; lower neighbours or add points"
            )
        centre = points.mean(0) if centre is None else centre
        points = (points - centre).astype(np.float32)
        squares = np.einsum("nd,nd->n", points, points)
        radii = np.empty(len(points), np.float32)
        for rows, distances in _squared_distances(points, squares, points, squares):
            # The point itself is its own nearest, at distance 0: the k-th other one is entry k.
            radii[rows] = _kth_smallest(distances, neighbours)
        return cls(points, squares, np.maximum(radii, 0), centre, neighbours)


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

    With B(x) the closed ball from x to its k-th nearest neighbour in x's own set:
    precision = share of fake points in some real ball; recall = share of real points in some fake ball;
    density = mean number of real balls around a fake point, over k; coverage = share of real balls with a
    fake point. For two sets of n points of one law, E density = 1 and E coverage = 1 − Π_{i=1..k} (n − i)/(2n
    − i).

    A point on a ball's rim counts as inside: repeated points have balls of radius 0, which the same point
    still meets.

    Args:
        real: (N, D) features, or their neighbourhoods where they serve more than once.
        fake: (M, D) features.
        neighbours: k; taken from `real` where that is a `Neighbourhoods`.
    """
    if not isinstance(real, Neighbourhoods):
        real, fake = _check(real, fake)
        real = Neighbourhoods.of(real, neighbours)
    fake_balls = Neighbourhoods.of(fake, real.neighbours, real.centre)
    rim_fake = fake_balls.radii + 2 * ALLOWANCE * fake_balls.squares
    rim_real = real.radii + 2 * ALLOWANCE * real.squares
    meets = np.zeros(len(fake), np.int64)
    covered, recalled = np.empty(len(real.points), bool), np.empty(len(real.points), bool)
    for rows, distances in _squared_distances(real.points, real.squares, fake_balls.points, fake_balls.squares):
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

    It is 1 minus their total variation distance: 1 for the same shares, 0 for sets that share no class, and
        the
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


class CopyDetector:
    """Do generated images lie nearer to training images than to held-out ones?

    Where a sampler copies nothing, training and held-out images are exchangeable to it, and the nearest image
    to a generated one is a training image with probability p = N_train / (N_train + N_test), however blurred
    it is. The copy rate is (share − p) / (1 − p): 0 on average without copying, 1 where the nearest is always
    a training image, and negative where it is more often a held-out one. (The idea of Meehan et al. 2020,
    free of their held-out threshold.)

    Distances are Euclidean in the leading principal components of the pixels, found on equally many training
    and held-out images. A judge's features would not do: they were learnt on the training images.

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
        train, test = (np.asarray(images).reshape(len(images), -1) for images in (train, test))
        half = min(len(train), len(test), 5000)
        if half == 0:
            raise DataError("the copy rate needs training and held-out images; one of them is empty")
        sample = np.concatenate([images[rng.permutation(len(images))[:half]] for images in (train, test)])
        sample = sample.astype(np.float64) / maximum
        self.centre = sample.mean(0)
        _, vectors = np.linalg.eigh(np.cov(sample, rowvar=False))
        self.axes = vectors[:, ::-1][:, :components].astype(np.float32)
        self.n_train, self.n_test = len(train), len(test)
        self.points = np.concatenate([self._project(images, maximum) for images in (train, test)])
        self.squares = np.einsum("nd,nd->n", self.points, self.points)

    def _project(self, images: np.ndarray, maximum: float) -> np.ndarray:
        blocks = [images[start : start + 4096] for start in range(0, len(images), 4096)]
        offset = (self.centre @ self.axes).astype(np.float32)
        return np.concatenate([block.astype(np.float32) @ (self.axes / maximum) - offset for block in blocks])

    def rate(self, pixels: np.ndarray) -> float:
        """The copy rate of images `pixels` (M, P) in [0, 1]; its standard error is near √(p/(1 − p)/M)."""
        if len(pixels) == 0:
            raise DataError("the copy rate needs at least one generated image")
        queries = self._project(np.asarray(pixels).reshape(len(pixels), -1), 1.0)
        squares = np.einsum("nd,nd->n", queries, queries)
        copied = np.empty(len(queries), np.float64)
        for rows, distances in _squared_distances(queries, squares, self.points, self.squares, 32):
            train, test = distances[:, : self.n_train].min(1), distances[:, self.n_train :].min(1)
            # The same picture in both splits is no evidence either way: a tie counts as the null's
            # probability.
            copied[rows] = np.where(train < test, 1.0, np.where(train > test, 0.0, self.null))
        return float((copied.mean() - self.null) / (1 - self.null))

    @property
    def null(self) -> float:
        """p, the probability that the nearest image is a training image where nothing is copied."""
        return self.n_train / (self.n_train + self.n_test)


def _check(*sets: np.ndarray, minimum: int = 1) -> list[np.ndarray]:
    """Features as float64 matrices of the same width, all finite, with enough rows."""
    if isinstance(sets[-1], int):
        *sets, minimum = sets
    checked = []
    for features in sets:
        features = np.asarray(features, dtype=np.float64)
        if features.ndim != 2 or features.shape[1] != np.shape(sets[0])[1]:
            raise DataError(
                f"features must be matrices of one width; got {' and '.join(str(np.shape(s)) for s in sets)}"
            )
        if len(features) < minimum:
            raise DataError(f"there are {len(features)} rows of features; at least {minimum} are needed")
        if not np.isfinite(features).all():
            raise DataError("features contain values that are not finite; the images or the judge are unusable")
        checked.append(features)
    return checked


def _cubic_kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    kernel = a @ b.T / a.shape[1] + 1
    return kernel * kernel * kernel


def _squared_distances(
    a: np.ndarray, squares_a: np.ndarray, b: np.ndarray, squares_b: np.ndarray, block: int = BLOCK
) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield (rows of a, squared distances (rows, M)) block by block.

    The squared norms enter the product as two more columns, so that the product alone gives |a|² − 2 aᵀb +
    |b|².
    """
    ones_a, ones_b = np.ones_like(squares_a), np.ones_like(squares_b)
    left = np.column_stack([a, squares_a, ones_a]).astype(np.float32)
    right = np.column_stack([-2 * b, ones_b, squares_b]).astype(np.float32).T
    for start in range(0, len(a), block):
        rows = slice(start, min(start + block, len(a)))
        yield rows, left[rows] @ right


def _kth_smallest(values: np.ndarray, k: int) -> np.ndarray:
    """Entry k, counted from 0, of every sorted row of `values` (B, N).

    Least values of groups of 16 columns come first: the (k + 1)-th least of them bounds the answer from
        above, and
    only the few values under that bound are sorted. That is three times as fast as partitioning whole rows.
    """
    count, columns = values.shape
    groups = columns // 16
    if groups <= 4 * (k + 1):
        return np.partition(values, k, axis=1)[:, k]
    least = values[:, : 16 * groups].reshape(count, 16, groups).min(1)
    bound = np.partition(least, k, axis=1)[:, k]
    rows, found = np.nonzero(values <= bound[:, None])
    kept = values[rows, found]
    order = np.lexsort((kept, rows))
    starts = np.searchsorted(rows, np.arange(count))
    return kept[order[starts + k]]
