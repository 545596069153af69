"""Image quality: closed forms, brute force, and the cases that break naive code."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from aggregated_posterior.generation.copies import CopyDetector
from aggregated_posterior.generation.image_quality import (
    KernelSums,
    NormalLaw,
    class_balance,
    frechet_distance,
    frechet_error,
    kernel_distance,
    precision_recall_density_coverage,
)
from aggregated_posterior.generation.neighbours import Neighbourhoods, kth_smallest, nearest_squared
from aggregated_posterior.storage import DataError


def exact_sample(mean: np.ndarray, root: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Points whose sample mean and covariance (n − 1) are exactly `mean` and `root`ᵀ `root`."""
    x = rng.standard_normal((n, len(mean)))
    x -= x.mean(0)
    x = np.linalg.qr(x)[0] * np.sqrt(n - 1)
    return mean + x @ root


# -------------------------------------------------------------------------------------------------------- Fréchet


def test_frechet_distance_of_two_normal_laws_with_commuting_covariances():
    rng = np.random.default_rng(0)
    a, b, shift = np.array([1.0, 4.0, 0.25]), np.array([2.0, 0.5, 3.0]), np.array([1.0, -2.0, 0.5])
    x = exact_sample(np.zeros(3), np.diag(np.sqrt(a)), 50, rng)
    y = exact_sample(shift, np.diag(np.sqrt(b)), 70, rng)
    expected = np.square(shift).sum() + np.square(np.sqrt(a) - np.sqrt(b)).sum()
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-12)


def test_frechet_distance_agrees_with_the_general_square_root():
    rng = np.random.default_rng(1)
    x = rng.standard_normal((200, 6)) @ rng.standard_normal((6, 6))
    y = rng.standard_normal((300, 6)) @ rng.standard_normal((6, 6)) + 1
    s, t = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    expected = np.square(x.mean(0) - y.mean(0)).sum() + np.trace(s + t - 2 * sqrtm(s @ t).real)
    assert frechet_distance(x, y) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(y, x) == pytest.approx(frechet_distance(x, y), rel=1e-12)


def test_frechet_distance_with_fewer_samples_than_features():
    # Two points ±u have covariance 2uuᵀ, and (2uuᵀ)^½ (2vvᵀ)^½ has the one singular value 2|u·v|.
    rng = np.random.default_rng(2)
    u, v = rng.standard_normal((2, 40))
    expected = 2 * (u @ u) + 2 * (v @ v) - 4 * abs(u @ v)
    assert frechet_distance(np.array([u, -u]), np.array([v, -v])) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_degenerate_covariances():
    rng = np.random.default_rng(3)
    x = np.column_stack([rng.standard_normal(100), np.zeros(100), np.full(100, 7.0)])
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-12)
    assert frechet_distance(x, x + np.array([0, 2, 0])) == pytest.approx(4, rel=1e-9)
    assert frechet_distance(np.ones((5, 3)), np.ones((5, 3))) == 0
    assert frechet_distance(x[:, :1], 2 * x[:, :1]) == pytest.approx(
        x[:, 0].var(ddof=1) + x[:, 0].mean() ** 2, rel=1e-9
    )


@pytest.mark.parametrize("measure", [frechet_distance, kernel_distance])
def test_features_that_cannot_be_compared(measure):
    good = np.random.default_rng(0).standard_normal((30, 3))
    broken = good.copy()
    broken[4, 1] = np.nan
    with pytest.raises(DataError, match="not finite"):
        measure(good, broken)
    with pytest.raises(DataError, match="one width"):
        measure(good, good[:, :2])
    with pytest.raises(DataError, match="1 rows of features; at least"):
        measure(good, good[:1])


def test_a_law_prepared_once_gives_the_same_distance():
    x, y = np.random.default_rng(4).standard_normal((2, 60, 5)) * [[[1.0]], [[2.0]]]
    assert frechet_distance(NormalLaw.of(x), y) == frechet_distance(x, y) == frechet_distance(x, NormalLaw.of(y))


def test_the_error_of_frechet_is_its_spread():
    rng = np.random.default_rng(5)

    def run(n: int, m: int) -> tuple[float, float]:
        a = rng.exponential(size=(n, 4)) @ np.triu(np.ones((4, 4)))
        b = 2 * rng.standard_normal((m, 4)) + 1
        return frechet_distance(a, b), frechet_error(a, b)

    for n, m in ((2000, 500), (500, 4000)):
        runs = np.array([run(n, m) for _ in range(300)])
        assert runs[:, 1].mean() == pytest.approx(runs[:, 0].std(), rel=0.15)


def test_the_error_of_frechet_of_one_law_and_of_a_degenerate_one():
    rng = np.random.default_rng(6)
    x = rng.standard_normal((200, 3))
    assert frechet_error(x, x) == pytest.approx(0, abs=1e-9)
    flat = np.column_stack([x[:, :2], np.zeros(200)])
    assert 0 < frechet_error(flat, x) < 1
    assert frechet_error(np.ones((5, 3)), np.ones((5, 3))) == 0


# ------------------------------------------------------------------------------------------------------------ KID


def direct_kid(a: np.ndarray, b: np.ndarray) -> float:
    def kernel(x, y):
        return (x @ y.T / x.shape[1] + 1) ** 3

    within = sum((kernel(x, x).sum() - np.trace(kernel(x, x))) / (len(x) * (len(x) - 1)) for x in (a, b))
    return within - 2 * kernel(a, b).mean()


@pytest.mark.parametrize("explicit", [False, True])
@pytest.mark.parametrize("shape", [(50, 4), (23, 1), (1100, 7), (300, 21)])
def test_kid_uses_every_pair_in_either_way(explicit, shape):
    rng = np.random.default_rng(4)
    # Far from the origin and not of one size, as a judge's features are.
    a, b = 2 + rng.standard_normal(shape), 2.3 + rng.standard_normal((shape[0] + 7, shape[1]))
    value, error = kernel_distance(KernelSums.of(a, explicit), KernelSums.of(b, explicit))
    assert value == pytest.approx(direct_kid(a, b), rel=1e-4)
    assert error > 0
    assert kernel_distance(a, b) == pytest.approx((value, error), rel=1e-3)


@pytest.mark.parametrize("d", [3, 8, 21])
def test_sums_of_the_kernel_over_parts(d):
    rng = np.random.default_rng(14)
    x, y = 1 + rng.standard_normal((60, d)), rng.standard_normal((20, d))
    explicit, pairs = ([KernelSums.of(z, way) for z in (x, y)] for way in (True, False))
    np.testing.assert_allclose(explicit[0].within, pairs[0].within, rtol=1e-6)
    np.testing.assert_allclose(explicit[0].across(explicit[1]), pairs[0].across(pairs[1]), rtol=1e-6)
    first = np.add.reduce((x[:12] @ x[12:24].T / d + 1) ** 3, axis=(0, 1))
    assert pairs[0].within[0, 1] == pytest.approx(first, rel=1e-12)
    assert explicit[0].across(pairs[1]) == pytest.approx(pairs[0].across(pairs[1]), rel=1e-12)


@pytest.mark.parametrize("n", [300, 3000])
def test_kid_of_one_law_is_zero_within_its_error_and_of_two_laws_is_not(n):
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((2, n, 16))
    value, error = kernel_distance(a, b)
    assert abs(value) < 4 * error
    value, error = kernel_distance(a, b + 0.5)
    assert value > 4 * error


def test_the_error_of_kid_is_its_spread():
    rng = np.random.default_rng(6)
    runs = np.array(
        [kernel_distance(rng.standard_normal((100, 3)), rng.standard_normal((100, 3)) + 0.5) for _ in range(300)]
    )
    # A jackknife of five parts errs upwards a little.
    assert runs[:, 1].mean() == pytest.approx(runs[:, 0].std(), rel=0.25)


def test_kid_of_identical_sets_is_not_positive():
    x = np.random.default_rng(7).standard_normal((40, 3))
    assert kernel_distance(x, x)[0] == pytest.approx(0, abs=0.5)
    assert kernel_distance(np.ones((40, 3)), np.ones((40, 3)))[0] == pytest.approx(0, abs=1e-6)


# ------------------------------------------------------------------------- precision, recall, density and coverage


def test_identical_laws_at_ten_thousand_points():
    rng = np.random.default_rng(8)
    n, k = 10_000, 5
    scores = precision_recall_density_coverage(*rng.standard_normal((2, n, 4)), k)
    i = np.arange(1, k + 1)
    expected = 1 - np.prod((n - i) / (2 * n - i))
    assert expected == pytest.approx(0.96877, abs=5e-6)
    assert scores.coverage == pytest.approx(expected, abs=0.008)
    assert scores.density == pytest.approx(1, abs=0.03)
    assert scores.precision == pytest.approx(scores.recall, abs=0.02)


def brute_force(real: np.ndarray, fake: np.ndarray, k: int) -> tuple[float, float, float, float]:
    def distances(a, b):
        return np.sqrt(np.square(a[:, None] - b[None]).sum(-1))

    r_real = np.sort(distances(real, real), axis=1)[:, k]
    r_fake = np.sort(distances(fake, fake), axis=1)[:, k]
    between = distances(real, fake)
    inside = between <= r_real[:, None]
    return inside.any(0).mean(), (between <= r_fake).any(1).mean(), inside.sum() / k / len(fake), inside.any(1).mean()


@pytest.mark.parametrize(("n_real", "n_fake", "k"), [(400, 300, 3), (30, 500, 5), (1200, 20, 1)])
def test_neighbour_measures_agree_with_brute_force(n_real, n_fake, k):
    rng = np.random.default_rng(9)
    # Far from the origin, where float32 without centring would lose the distances.
    real, fake = rng.standard_normal((n_real, 5)) + 1000, 0.8 * rng.standard_normal((n_fake, 5)) + 1000.3
    scores = precision_recall_density_coverage(real, fake, k)
    found = (scores.precision, scores.recall, scores.density, scores.coverage)
    assert found == pytest.approx(brute_force(real, fake, k), abs=1e-12)


def test_the_errors_of_neighbour_measures_are_near_their_spread():
    # Balls are taken as given, which they are not: the errors are right to within a factor of two, both ways.
    rng = np.random.default_rng(17)
    runs = [
        precision_recall_density_coverage(rng.standard_normal((400, 4)), 0.3 + 0.7 * rng.standard_normal((400, 4)))
        for _ in range(150)
    ]
    for name in ("precision", "recall", "density", "coverage"):
        spread = np.std([getattr(run, name) for run in runs])
        assert 0.5 < np.mean([getattr(run, f"{name}_se") for run in runs]) / spread < 2, name


def test_neighbour_measures_of_disjoint_and_of_collapsed_sets():
    rng = np.random.default_rng(10)
    real = rng.standard_normal((100, 3))
    apart = precision_recall_density_coverage(real, real + 100)
    assert (apart.precision, apart.recall, apart.density, apart.coverage) == (0, 0, 0, 0)
    collapsed = precision_recall_density_coverage(real, np.repeat(real[:1], 50, axis=0))
    assert collapsed.precision == 1
    assert collapsed.recall == pytest.approx(0.01)
    assert collapsed.coverage < 0.2


def test_repeated_points_are_inside_their_balls_of_radius_zero():
    rng = np.random.default_rng(11)
    points = rng.standard_normal((40, 8))
    repeated = np.repeat(points, 6, axis=0)
    scores = precision_recall_density_coverage(repeated, repeated, 5)
    assert (scores.precision, scores.recall, scores.coverage) == (1, 1, 1)
    assert scores.density == pytest.approx(6 / 5)
    nudged = precision_recall_density_coverage(repeated, repeated + 0.1, 5)
    assert (nudged.precision, nudged.coverage) == (0, 0)
    same = np.ones((20, 3))
    assert precision_recall_density_coverage(same, same, 5).coverage == 1


def test_too_few_points_for_the_neighbours():
    points = np.random.default_rng(0).standard_normal((5, 2))
    with pytest.raises(DataError, match="5 points have no 5 neighbours"):
        Neighbourhoods.of(points, 5)
    with pytest.raises(DataError, match="no 5 neighbours"):
        precision_recall_density_coverage(np.random.default_rng(1).standard_normal((50, 2)), points)


@pytest.mark.parametrize("columns", [10, 500, 1003])
def test_kth_smallest_with_ties(columns):
    values = np.random.default_rng(12).integers(0, 40, size=(30, columns)).astype(np.float32)
    for k in (0, 5, 9):
        np.testing.assert_array_equal(kth_smallest(values, k), np.sort(values, axis=1)[:, k])


def test_nearest_over_tiles():
    rng = np.random.default_rng(16)
    a, b = rng.standard_normal((300, 5)).astype(np.float32), rng.standard_normal((700, 5)).astype(np.float32)
    expected = np.square(a[:, None].astype(float) - b[None]).sum(-1).min(1)
    found = nearest_squared(a, np.square(a).sum(1), b, np.square(b).sum(1), columns=64)
    np.testing.assert_allclose(found, expected, atol=1e-5)


# -------------------------------------------------------------------------------------------- classes and copies


def test_class_balance():
    reference = np.repeat(np.arange(4), 25)
    assert class_balance(reference[::-1], reference, 4) == 1
    assert class_balance(np.full(10, 2), reference, 4) == 0.25
    assert class_balance(np.full(10, 1), np.full(7, 3), 4) == 0
    assert class_balance(np.array([0, 0, 0, 1]), np.array([0, 1]), 4) == pytest.approx(0.75)
    with pytest.raises(DataError, match="between 0 and 3"):
        class_balance(np.array([4]), reference, 4)
    with pytest.raises(DataError, match="there are none"):
        class_balance(np.array([], dtype=int), reference, 4)


@pytest.fixture(scope="module")
def detector() -> CopyDetector:
    rng = np.random.default_rng(13)
    images = rng.integers(0, 256, size=(1200, 4, 4)).astype(np.uint8)
    return CopyDetector(images[:1000], images[1000:], 255, rng)


def test_copy_rate_of_copies_of_held_out_copies_and_of_neither(detector):
    rng = np.random.default_rng(13)
    images = rng.integers(0, 256, size=(1200, 4, 4)) / 255
    assert detector.rate(images[:1000]) == 1
    assert detector.rate(images[1000:]) == pytest.approx(-5)
    fresh = np.random.default_rng(14).random((4000, 16))
    assert abs(detector.rate(fresh)) < 4 * np.sqrt(5 / 4000)


def test_a_picture_in_both_splits_is_no_evidence():
    rng = np.random.default_rng(15)
    images = rng.integers(0, 17, size=(60, 3, 3, 3)).astype(np.uint8)
    detector = CopyDetector(images, images, 16, rng)
    assert detector.rate(images.reshape(60, -1) / 16) == pytest.approx(0, abs=1e-12)


def test_a_tie_is_what_single_precision_cannot_tell_and_no_more():
    rng = np.random.default_rng(16)
    train, test = rng.normal(size=(2, 50, 8))
    # Far from the centre, where the squares that cancel are largest, every test image has a training image as near.
    detector = CopyDetector(np.concatenate([train, 3 * test]), 3 * test, 1, rng)
    assert detector.rate(3 * test) == pytest.approx(0, abs=1e-12)
    # A hundredth of a standard deviation away from the picture in one split, on it in the other.
    nearly = CopyDetector(3 * test + 0.03, 3 * test, 1, rng)
    assert nearly.rate(3 * test + 0.03) == 1
    assert nearly.rate(3 * test) == pytest.approx(-1)


def test_copy_rate_of_nothing(detector):
    with pytest.raises(DataError, match="at least one"):
        detector.rate(np.empty((0, 16)))
    with pytest.raises(DataError, match="empty"):
        CopyDetector(np.empty((0, 4, 4)), np.ones((3, 4, 4)), 1, np.random.default_rng(0))
