"""How near generated images are to real ones, measured on features (N, D) of both; sums are taken in float64.

What is needed of a set of features is prepared once, as `NormalLaw`, `KernelSums` and `Neighbourhoods`, so that real
images which serve as reference for many samplers are gone through once. Every function takes plain features too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..storage import DataError
from .neighbours import ALLOWANCE, Neighbourhoods, as_features, squared_distances

# Parts of a set from which the error of KID is taken.
PARTS = 5
# Points whose products of coordinates are held at once: 2080 products of 64 coordinates take 2 MB.
PRODUCT_BLOCK = 250
# Second coordinates j of products of three that are formed together. Fewer save more, in smaller matrix products.
SLAB = 8


@dataclass(frozen=True)
class NormalLaw:
    """Mean and covariance of a set of features, all that the Fréchet distance takes from it.

    Args:
        features: (N, D) float64.
        mean: (D,).
        factor: (min(N, D), D), whose factorᵀ factor is the covariance (with N − 1): the triangle of a QR
            decomposition of the centred features, exact for degenerate covariances too.
    """

    features: np.ndarray
    mean: np.ndarray
    factor: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> NormalLaw:
        """Take mean and covariance of `features` (N, D), at least two rows."""
        (features,) = as_features(features, minimum=2)
        mean = features.mean(0)
        return cls(features, mean, np.linalg.qr(features - mean, mode="r") / np.sqrt(len(features) - 1))

    @property
    def trace(self) -> float:
        """Sum of the variances."""
        return float(np.square(self.factor).sum())


def frechet_distance(features_a: np.ndarray | NormalLaw, features_b: np.ndarray | NormalLaw) -> float:
    """Squared Fréchet distance between normal laws with the features' means and covariances.

    ‖m_a − m_b‖² + tr S_a + tr S_b − 2 tr (S_a^½ S_b S_a^½)^½  (Heusel et al. 2017). With S = RᵀR the last trace is the
    sum of the singular values of R_a R_bᵀ: unlike a general matrix square root this is exact for degenerate
    covariances, hence for fewer samples than features too.

    From finite samples the distance is too large, by about c/N of either set, with c larger for wider laws (Chong and
    Forsyth 2020). Compare distances only between sets of equal sizes, and small ones with `kernel_distance`, which
    has no bias.

    Args:
        features_a: (N, D), at least two rows.
        features_b: (M, D), at least two rows.

    Returns:
        The distance in squared units of the features; 0 or more.
    """
    a, b = _laws(features_a, features_b)
    overlap = np.linalg.svd(a.factor @ b.factor.T, compute_uv=False).sum()
    # Rounding can leave −10⁻¹⁵ where the laws are the same.
    return float(max(np.square(a.mean - b.mean).sum() + a.trace + b.trace - 2 * overlap, 0.0))


def frechet_error(features_a: np.ndarray | NormalLaw, features_b: np.ndarray | NormalLaw) -> float:
    """Standard error of `frechet_distance`, both sets being samples, by its influence function.

    A point x of set a, with c = x − m_a, moves the distance by (1/N)·IF(x) to first order,

        IF(x) = 2 cᵀ(m_a − m_b) + cᵀc − tr S_a − (cᵀTc − tr T S_a),

    where T is the linear map of the optimal transport, T S_a T = S_b (the derivative by S_a is I − T; Takatsu 2011).
    Set b likewise; the error is √(Var IF_a/N + Var IF_b/M). Where the two laws are the same this first order
    vanishes, and with it the error.
    """
    a, b = _laws(features_a, features_b)
    left, overlap, right = np.linalg.svd(a.factor @ b.factor.T, full_matrices=False)
    # A direction in which the laws share nothing adds nothing to the overlap.
    root = np.sqrt(np.where(overlap > 1e-10 * overlap.max(initial=0), overlap, np.inf))
    variance = 0.0
    # T_ab = R_bᵀ V Σ⁻¹ Vᵀ R_b, so that cᵀTc is a sum of squares.
    for x, other, axes in ((a, b, right), (b, a, left.T)):
        centred = x.features - x.mean
        transported = centred @ (axes @ other.factor / root[:, None]).T
        influence = 2 * centred @ (x.mean - other.mean)
        influence += np.einsum("nd,nd->n", centred, centred) - np.einsum("nd,nd->n", transported, transported)
        variance += influence.var() / len(influence)
    return float(np.sqrt(variance))


@dataclass(frozen=True)
class KernelSums:
    """A set of features in parts, ready for sums of the kernel k(x, y) = (xᵀy/D + 1)³ over all pairs of points.

    k is the scalar product of explicit features, k(x, y) = φ(x)ᵀφ(y) with φ(x) = (1, √3 x/√D, √3 x⊗x/D, x⊗x⊗x/D√D),
    so that the sum over all pairs of two parts is Σφ(x)ᵀΣφ(y): linear in the number of points, where a product for
    each pair is quadratic. For few points in many dimensions the pairs are the faster way.

    Args:
        features: (N, D) float64.
        ends: (parts + 1,) where parts begin and end.
        mapped: (parts, L) sums of φ over each part, or None where pairs are faster.
        within: (parts, parts) sums of the kernel over pairs of points of two parts, without a point and itself.
    """

    features: np.ndarray
    ends: np.ndarray
    mapped: np.ndarray | None
    within: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray, explicit: bool | None = None) -> KernelSums:
        """Prepare `features` (N, D), at least ten rows, in random order, for each part is to be a sample.

        Args:
            features: The set.
            explicit: Use φ; None does so where it is faster.
        """
        (features,) = as_features(features, minimum=2 * PARTS)
        n, d = features.shape
        ends = np.linspace(0, n, PARTS + 1).astype(int)
        explicit = n > d * d / 2 if explicit is None else explicit
        if explicit:
            mapped = np.array([_mapped(features[a:b]) for a, b in zip(ends, ends[1:], strict=False)])
            within = mapped @ mapped.T
        else:
            mapped, within = None, _pair_sums(features, ends, features, ends)
        itself = _kernel(np.einsum("nd,nd->n", features, features), d)
        return cls(features, ends, mapped, within - np.diag(np.add.reduceat(itself, ends[:-1])))

    @property
    def sizes(self) -> np.ndarray:
        """(parts,) points in each part."""
        return np.diff(self.ends)

    def across(self, other: KernelSums) -> np.ndarray:
        """Sums of the kernel over pairs of a point of this set and one of `other`, (parts, parts)."""
        if self.mapped is not None and other.mapped is not None:
            return self.mapped @ other.mapped.T
        return _pair_sums(self.features, self.ends, other.features, other.ends)


def kernel_distance(features_a: np.ndarray | KernelSums, features_b: np.ndarray | KernelSums) -> tuple[float, float]:
    """KID: the unbiased squared MMD under the kernel (xᵀy/D + 1)³, and its standard error (Bińkowski et al. 2018).

    Every pair of points is used. Both sets are cut into five parts, and the error is the jackknife's, which leaves out
    one part of both sets at a time. (The customary random subsets overlap, and their spread is no standard error.) An
    unbiased estimate can be negative.

    Args:
        features_a, features_b: (N, D) and (M, D), at least ten rows each, in random order.

    Returns:
        (KID, its standard error).
    """
    if not (isinstance(features_a, KernelSums) or isinstance(features_b, KernelSums)):
        features_a, features_b = as_features(features_a, features_b, minimum=2 * PARTS)
    a, b = (x if isinstance(x, KernelSums) else KernelSums.of(x) for x in (features_a, features_b))
    across = a.across(b)

    # One row for each part that is left out, and a last one for all parts.
    kept = np.vstack([1 - np.eye(PARTS), np.ones(PARTS)])
    n_a, n_b = kept @ a.sizes, kept @ b.sizes
    sums_a, sums_b, sums = ((kept @ pairs * kept).sum(1) for pairs in (a.within, b.within, across))
    *without, value = sums_a / (n_a * (n_a - 1)) + sums_b / (n_b * (n_b - 1)) - 2 * sums / (n_a * n_b)
    return float(value), float(np.sqrt((PARTS - 1) * np.var(without)))


@dataclass(frozen=True)
class Manifold:
    """Overlap of two sets of points: shares in [0, 1], except density, which has mean 1 for equal laws.

    The errors are those of a mean over the points that are counted, the other set's balls being given; that of the
    density, a mean over pairs, holds what either set contributes.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    precision_se: float
    recall_se: float
    density_se: float
    coverage_se: float


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
    rim_fake = (fake_balls.radii + 2 * ALLOWANCE * fake_balls.squares).astype(np.float32)
    rim_real = (real.radii + 2 * ALLOWANCE * real.squares).astype(np.float32)
    meets, holds = np.zeros(len(fake), np.int64), np.empty(len(real.points), np.int64)
    recalled = np.empty(len(real.points), bool)
    inside: np.ndarray | None = None
    for rows, distances in squared_distances(real.points, real.squares, fake_balls.points, fake_balls.squares):
        # One array of marks for all blocks; fresh memory for each would cost more than the comparison.
        inside = np.empty(distances.shape, bool) if inside is None else inside[: len(distances)]
        np.less_equal(distances, rim_real[rows, None], out=inside)
        # A block has fewer than 256 rows, so that a byte counts them.
        meets += np.add.reduce(inside.view(np.uint8), axis=0, dtype=np.uint8)
        holds[rows] = [np.count_nonzero(ball) for ball in inside]
        np.less_equal(distances, rim_fake, out=inside)
        recalled[rows] = inside.any(1)
    counted = {"precision": meets > 0, "recall": recalled, "density": meets / real.neighbours, "coverage": holds > 0}
    errors = {f"{name}_se": float(values.std() / np.sqrt(len(values))) for name, values in counted.items()}
    by_ball = holds.std() * np.sqrt(len(holds)) / (real.neighbours * len(meets))
    errors["density_se"] = float(np.hypot(errors["density_se"], by_ball))
    return Manifold(**{name: float(values.mean()) for name, values in counted.items()}, **errors)


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


def _laws(features_a: np.ndarray | NormalLaw, features_b: np.ndarray | NormalLaw) -> tuple[NormalLaw, NormalLaw]:
    if not (isinstance(features_a, NormalLaw) or isinstance(features_b, NormalLaw)):
        features_a, features_b = as_features(features_a, features_b, minimum=2)
    a, b = (x if isinstance(x, NormalLaw) else NormalLaw.of(x) for x in (features_a, features_b))
    return a, b


def _kernel(products: np.ndarray, width: int) -> np.ndarray:
    kernel = products / width + 1
    return kernel * kernel * kernel


def _pair_sums(a: np.ndarray, ends_a: np.ndarray, b: np.ndarray, ends_b: np.ndarray) -> np.ndarray:
    """Sums of the kernel over all pairs of points of two parts, (parts of a, parts of b), pair by pair."""
    sums = [
        np.add.reduceat(_kernel(a[start:stop] @ b.T, a.shape[1]).sum(0), ends_b[:-1])
        for start, stop in zip(ends_a, ends_a[1:], strict=False)
    ]
    return np.array(sums)


def _mapped(x: np.ndarray) -> np.ndarray:
    """Σ_n φ(x_n), (L,), of points `x` (n, D), each product of two or three coordinates once.

    Of products that differ in the order of their factors one is formed, times the root of their number, which leaves
    scalar products of φ as they are. Those of three are x_i x_j, i ≤ j, times x_k, in slabs of j that begin at j = a
    and take k ≥ a: half of what all k would be. They are float32, whose roundings of single points average out; sums
    over blocks of points are float64.
    """
    n, d = x.shape
    # Pairs in the order of j: those of one slab lie side by side.
    j, i = np.tril_indices(d)
    first = np.arange(d + 1) * np.arange(1, d + 2) // 2
    slabs = [(a, slice(first[a], first[min(a + SLAB, d)])) for a in range(0, d, SLAB)]
    products = np.empty((len(j), min(n, PRODUCT_BLOCK)), np.float32)
    third = [np.zeros((rows.stop - rows.start, d - a)) for a, rows in slabs]
    for start in range(0, n, PRODUCT_BLOCK):
        block = x[start : start + PRODUCT_BLOCK].astype(np.float32)
        columns = np.ascontiguousarray(block.T)
        part = products[:, : len(block)]
        for last in range(d):
            np.multiply(columns[: last + 1], columns[last], out=part[first[last] : first[last + 1]])
        for sums, (a, rows) in zip(third, slabs, strict=True):
            sums += part[rows] @ block[:, a:]
    for sums, (a, rows) in zip(third, slabs, strict=True):
        sums *= np.sqrt(_orders(i[rows, None], j[rows, None], np.arange(a, d)))
    second = (x.T @ x)[j, i] * np.sqrt(np.where(i == j, 1, 2))
    parts = [[n], np.sqrt(3 / d) * x.sum(0), np.sqrt(3) / d * second]
    return np.concatenate([*parts, *(d**-1.5 * sums.ravel() for sums in third)], dtype=np.float64)


def _orders(i: np.ndarray, j: np.ndarray, k: np.ndarray) -> np.ndarray:
    """In how many orders three factors i ≤ j ≤ k can stand; 0 where k < j, which is another product over again."""
    equal = (i == j).astype(int) + (j == k)
    return np.where(k < j, 0, np.array([6, 3, 1])[equal])
