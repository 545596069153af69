"""Exact moments, density and draws of Q(z)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregated_posterior.posterior.mixture import AggregatedPosterior, excess_over_log, normal_log_pdf
from aggregated_posterior.statistics.closed_forms import REFERENCE, REFERENCE_TERMS
from aggregated_posterior.storage import DataError

from ..mixture_reference import PROFILE, exact_log_density, exact_moments, mixtures, relative_error

NAMES = ("mean", "variance", "second_moment", "skewness", "kurtosis", "variance_of_means", "mean_variance")
TERMS = ("term_means", "term_covariance", "term_scale")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("name", REFERENCE)
def test_reference_table(name):
    reference = REFERENCE[name]
    q = reference.posterior()
    moments = q.moments()
    assert moments.mean[0] == pytest.approx(0, abs=1e-15)
    assert moments.variance[0] == pytest.approx(1, abs=1e-15)
    assert moments.skewness[0] == pytest.approx(reference.skewness, abs=1e-14)
    assert moments.kurtosis[0] == pytest.approx(reference.kurtosis, abs=1e-14)
    assert q.kl()[0] == pytest.approx(reference.mean_kl, abs=5.1e-9)
    if name in REFERENCE_TERMS:
        terms = [getattr(moments, term)[0] for term in TERMS]
        assert terms == pytest.approx(REFERENCE_TERMS[name], abs=1e-14)


@pytest.mark.parametrize("a", [0.1, 0.5, 0.9, 0.999])
def test_symmetric_pair_in_closed_form(a):
    q = AggregatedPosterior(np.array([[a], [-a]]), np.full((2, 1), 1 - a * a))
    assert q.moments().kurtosis[0] == pytest.approx(3 - 2 * a**4, rel=1e-13)
    assert q.kl()[0] == pytest.approx(-0.5 * np.log(1 - a * a), rel=1e-12)


@PROFILE
@given(mixtures())
def test_total_cumulance_agrees_with_conditional_moments(mixture):
    mean, variance = mixture
    moments = AggregatedPosterior(mean, variance).moments(block_size=3)
    m = mean.mean(axis=0)
    u = mean - m
    second = (u**2 + variance).mean(axis=0)
    third = (u**3 + 3 * u * variance).mean(axis=0)
    fourth = (u**4 + 6 * u**2 * variance + 3 * variance**2).mean(axis=0)
    np.testing.assert_allclose(moments.mean, m, atol=1e-14)
    np.testing.assert_allclose(moments.variance, second, rtol=1e-12)
    np.testing.assert_allclose(moments.skewness, third / second**1.5, atol=1e-11)
    np.testing.assert_allclose(moments.kurtosis, fourth / second**2, rtol=1e-11)
    assert np.all(moments.kurtosis >= moments.skewness**2 + 1 - 1e-11)
    assert np.all(moments.kurtosis >= moments.kurtosis_bound - 1e-11)
    np.testing.assert_allclose(moments.excess_kurtosis, moments.kurtosis - 3, atol=1e-12)


@PROFILE
@given(mixtures(), st.floats(-100, 100), st.floats(0.01, 100), st.randoms(use_true_random=False))
def test_shift_scale_and_permutation(mixture, shift, scale, random):
    mean, variance = mixture
    q = AggregatedPosterior(mean, variance)
    order = list(range(len(mean)))
    random.shuffle(order)
    moved = AggregatedPosterior(mean[order], variance[order]).affine(
        np.full(q.latent_dim, shift), np.full(q.latent_dim, -scale)
    )
    before, after = q.moments(), moved.moments()
    np.testing.assert_allclose(after.mean, -(before.mean - shift) * scale, rtol=1e-12, atol=1e-11 * scale)
    np.testing.assert_allclose(after.variance, before.variance * scale**2, rtol=1e-10)
    np.testing.assert_allclose(after.skewness, -before.skewness, atol=1e-9)
    np.testing.assert_allclose(after.kurtosis, before.kurtosis, rtol=1e-9)
    for term in TERMS:
        np.testing.assert_allclose(getattr(after, term), getattr(before, term), atol=1e-9)


def hard_cases():
    r = rng(1)
    normal = r.standard_normal((40, 2))
    yield "one component", normal[:1], np.array([[0.3, 2.0]])
    yield "one dimension", normal[:, :1], np.exp(normal[:, 1:])
    yield "equal means", np.full((40, 2), 0.7), np.exp(normal)
    yield "variances over 18 orders", normal, 10.0 ** r.uniform(-12, 6, (40, 2))
    yield "far means, narrow", 1e6 + 1e-3 * normal, np.full((40, 2), 1e-6)
    yield "far means, drifting", 1e6 + np.linspace(0, 5, 40)[:, None] * 1e-3 + 1e-6 * normal, np.full((40, 2), 1e-9)
    yield "inactive", 1e-4 * normal, 1 + 1e-4 * r.standard_normal((40, 2))
    yield "duplicates", np.repeat(normal[:4], 10, axis=0), np.repeat(np.exp(normal[:4]), 10, axis=0)
    yield "float32", normal.astype(np.float32), np.exp(normal).astype(np.float32)
    yield "float32 far", (1e6 + 4 * normal).astype(np.float32), np.exp(normal).astype(np.float32)


HARD = list(hard_cases())


@pytest.mark.parametrize("block_size", [None, 7])
@pytest.mark.parametrize(("mean", "variance"), [case[1:] for case in HARD], ids=[case[0] for case in HARD])
def test_moments_to_ten_digits_against_mpmath(mean, variance, block_size):
    q = AggregatedPosterior(mean, variance)
    moments, exact = q.moments(block_size), exact_moments(mean, variance)
    for name in ("mean", "variance", "second_moment", "kurtosis", "mean_variance"):
        assert relative_error(getattr(moments, name), exact[name]) <= 1e-12, name
    # Differences that may cancel have absolute errors of a few ε; A itself vanishes when all means are equal.
    for name in ("skewness", *TERMS):
        np.testing.assert_allclose(getattr(moments, name), np.array(exact[name], dtype=float), atol=1e-13, rtol=1e-10)
    scale = moments.variance
    np.testing.assert_allclose(
        moments.variance_of_means / scale, np.array(exact["variance_of_means"], dtype=float) / scale, atol=1e-15
    )
    if len(mean) > 1 and np.ptp(mean, axis=0).min() > 0:
        assert relative_error(moments.variance_of_means, exact["variance_of_means"]) <= 1e-12
    assert relative_error(q.kl(), exact["kl"]) <= 1e-12
    covariance = q.covariance()
    np.testing.assert_allclose(np.diag(covariance), moments.variance, rtol=1e-12)


def test_kl_near_the_prior_keeps_its_digits():
    x = np.array([1 + 1e-9, 1 - 1e-6, 1 + 0.0099, 1 - 0.0101, 1.5, 1e-12, 1e6])
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(50):
        exact = [mpmath.mpf(float(v)) - 1 - mpmath.log(mpmath.mpf(float(v))) for v in x]
    assert relative_error(excess_over_log(x), exact) < 5e-12
    assert excess_over_log(np.ones(3)).tolist() == [0, 0, 0]


def test_covariance_is_that_of_means_plus_mean_variances():
    mean = rng().standard_normal((5000, 4)) @ rng(1).standard_normal((4, 4)) + 1e5
    variance = np.exp(rng(2).standard_normal((5000, 4)))
    expected = np.cov(mean - 1e5, rowvar=False, bias=True) + np.diag(variance.mean(axis=0))
    np.testing.assert_allclose(AggregatedPosterior(mean, variance).covariance(), expected, rtol=1e-9)


@pytest.mark.parametrize(("mean", "variance"), [case[1:] for case in HARD], ids=[case[0] for case in HARD])
def test_log_density_to_ten_digits_against_mpmath(mean, variance):
    q = AggregatedPosterior(mean, variance)
    z = np.concatenate([q.sample(6, rng(3)), mean[:3].astype(float), q.moments().mean[None]])
    exact = exact_log_density(mean, variance, z)
    for block_size in (2**17, 50):
        np.testing.assert_allclose(q.log_density(z, block_size), exact, rtol=1e-10, atol=1e-10)


def test_log_density_far_out_and_over_many_blocks():
    mean = rng().standard_normal((3000, 3))
    variance = np.exp(rng(1).normal(-4, 1, (3000, 3)))
    q = AggregatedPosterior(mean, variance)
    z = np.concatenate([q.sample(700, rng(2)), [[0, 0, 1e3], [-1e4, 0, 0]]])
    difference = z[:, None] - mean
    terms = -0.5 * (difference**2 / variance + np.log(2 * np.pi * variance)).sum(axis=2)
    top = terms.max(axis=1)
    expected = top + np.log(np.exp(terms - top[:, None]).mean(axis=1))
    for block_size in (5000, 2**16, 2**22):
        np.testing.assert_allclose(q.log_density(z, block_size), expected, rtol=1e-11, atol=1e-10)
    assert q.log_density(np.empty((0, 3))).shape == (0,)


def test_log_density_where_narrow_components_come_after_wide_ones():
    # The running maximum must rise by far more than an exponential can hold.
    mean = np.zeros((4000, 2))
    variance = np.full((4000, 2), 1e6)
    variance[3999] = 1e-12
    mean[3999] = [3.0, -2.0]
    value = AggregatedPosterior(mean, variance).log_density(np.array([[3.0, -2.0], [3.0, -2.0 + 2e-6]]), 1000)
    expected = -np.log(2 * np.pi * 1e-12) - np.log(4000) + np.array([0, -2.0])
    np.testing.assert_allclose(value, expected, rtol=1e-11)


def test_density_integrates_to_one_in_two_dimensions():
    q = AggregatedPosterior(rng().standard_normal((30, 2)), np.exp(rng(1).normal(-1, 0.5, (30, 2))))
    axis = np.linspace(-9, 9, 361)
    z = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    assert np.exp(q.log_density(z)).sum() * (axis[1] - axis[0]) ** 2 == pytest.approx(1, abs=1e-9)


def test_standard_normal_is_its_own_mixture():
    z = rng().standard_normal((50, 4))
    q = AggregatedPosterior(np.zeros((3, 4)), np.ones((3, 4)))
    np.testing.assert_allclose(q.log_density(z), normal_log_pdf(z), rtol=1e-13)


def test_draws_have_the_exact_moments():
    mean, variance = rng().standard_normal((200, 2)), np.exp(rng(1).normal(-1, 1, (200, 2)))
    q = AggregatedPosterior(mean, variance)
    z, moments = q.sample(200_000, rng(2)), q.moments()
    error = np.sqrt(moments.variance / len(z))
    assert np.all(np.abs(z.mean(axis=0) - moments.mean) < 4 * error)
    spread = moments.variance * np.sqrt((moments.kurtosis - 1) / len(z))
    assert np.all(np.abs(z.var(axis=0) - moments.variance) < 4 * spread)
    np.testing.assert_array_equal(q.sample(5, rng(7)), q.sample(5, rng(7)))


def test_select_takes_dimensions_in_order():
    mean, variance = rng().standard_normal((9, 3)), np.ones((9, 3))
    q = AggregatedPosterior(mean, variance).select([2, 0])
    np.testing.assert_array_equal(q.mean, mean[:, [2, 0]])
    assert AggregatedPosterior(mean, variance).select(np.array([True, False, True])).latent_dim == 2


GOOD = np.ones((3, 2))


@pytest.mark.parametrize(
    ("mean", "variance", "message"),
    [
        (GOOD, np.ones((3, 1)), "mu has shape .* s has shape"),
        (np.ones(3), np.ones(3), "expected \\(N, d\\)"),
        (np.empty((0, 2)), np.empty((0, 2)), "mu is empty"),
        (np.empty((3, 0)), np.empty((3, 0)), "mu is empty"),
        (np.ones((3, 2), dtype=int), GOOD, "mu has type int64"),
        (GOOD, np.ones((3, 2), dtype=bool), "s has type bool"),
        (np.array([[0, 1], [np.nan, 0.0], [0, 0]]), GOOD, "mu: 1 value.*row 1, dimension 0 is NaN"),
        (GOOD, np.array([[1, 1], [1, 1], [1, np.inf]]), "s: 1 value.*row 2, dimension 1 is NaN or infinite"),
        (GOOD, np.array([[1, -2], [-1, 1], [1, 1.0]]), "s: 2 value.*row 0, dimension 1 is negative"),
        (GOOD, np.array([[1, 1], [1, 0], [1, 1.0]]), "row 1, dimension 1 is zero"),
        (np.array([[0, 0], [0, -1e150], [0, 0]]), GOOD, "mu: 1 value.*row 1, dimension 1 exceeds 1e\\+70 in size"),
        (GOOD, np.array([[1, 1], [1, 1], [1e300, 1]]), "s: 1 value.*row 2, dimension 0 is outside of 1e-140"),
        (GOOD, np.array([[1, 5e-324], [1, 1], [1, 1.0]]), "s: 1 value.*row 0, dimension 1 is outside of 1e-140"),
    ],
)
def test_bad_input_is_named(mean, variance, message):
    with pytest.raises(DataError, match=message):
        AggregatedPosterior(mean, variance, names=("mu", "s"))


def test_the_largest_and_smallest_values_that_are_taken_have_finite_moments():
    r = rng()
    for mean, variance in ((1e70 * r.uniform(-1, 1, (50, 1)), 1e140), (1e-70 * r.standard_normal((50, 1)), 1e-140)):
        q = AggregatedPosterior(mean, np.full((50, 1), variance))
        with np.errstate(over="raise", invalid="raise", divide="raise"):
            moments, kl = q.moments(), q.kl()
        assert np.isfinite([moments.kurtosis, moments.skewness, kl]).all()
        assert 1.8 < moments.kurtosis[0] < 6


def test_points_of_the_wrong_shape_or_not_finite_are_named():
    q = AggregatedPosterior(GOOD, GOOD)
    with pytest.raises(DataError, match="expected \\(M, 2\\)"):
        q.log_density(np.ones((4, 3)))
    with pytest.raises(DataError, match="NaN or infinity"):
        q.log_density(np.array([[0, np.nan]]))


@pytest.fixture
def mapped(tmp_path):
    def write(mean, variance):
        for name, array in (("mean", mean), ("variance", variance)):
            np.save(tmp_path / f"{name}.npy", array)
        return [np.load(tmp_path / f"{name}.npy", mmap_mode="r") for name in ("mean", "variance")]

    return write


def test_memory_maps_give_the_same_numbers_and_are_not_copied(mapped):
    mean, variance = rng().standard_normal((5000, 3)).astype(np.float32), np.ones((5000, 3), np.float32)
    maps = mapped(mean, variance)
    q = AggregatedPosterior(*maps)
    assert np.shares_memory(q.mean, maps[0])
    expected = AggregatedPosterior(mean, variance)
    np.testing.assert_array_equal(q.moments().kurtosis, expected.moments().kurtosis)
    z = expected.sample(10, rng(1))
    np.testing.assert_array_equal(q.log_density(z), expected.log_density(z))
    np.testing.assert_allclose(q.select([1]).moments().mean, expected.moments().mean[1:2], rtol=1e-12)


@pytest.mark.parametrize("method", ["moments", "kl", "covariance"])
def test_memory_maps_are_examined_in_the_first_pass(mapped, method):
    variance = np.ones((5000, 3), np.float32)
    variance[4321, 2] = -1
    q = AggregatedPosterior(*mapped(np.ones((5000, 3), np.float32), variance))
    with pytest.raises(DataError, match="row 4321, dimension 2 is negative"):
        getattr(q, method)()
