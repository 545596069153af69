"""Samplers: each has what it promises of Q(z), and none takes the split that judges it."""

import numpy as np
import pytest
from scipy.stats import kstest, norm
from sklearn.mixture import GaussianMixture

from aggregated_posterior.generation.samplers import (
    CopulaSampler,
    GaussianSampler,
    MarginalSampler,
    MeanMixtureSampler,
    MixtureSampler,
    PosteriorSampler,
    PriorSampler,
    ladder,
    stratified_draws,
)
from aggregated_posterior.posterior.gauge import canonical_form, canonicalise
from aggregated_posterior.posterior.mixture import AggregatedPosterior
from aggregated_posterior.statistics.fitted_mixture import fit_normal_mixture
from aggregated_posterior.statistics.marginals import Marginals
from aggregated_posterior.storage import DataError

N = 20_000


def posteriors(seed: int, n: int = 2000) -> AggregatedPosterior:
    """Skewed, correlated means in two clusters, variances that depend on them, and one collapsed dimension."""
    rng = np.random.default_rng(seed)
    side = rng.choice([-1.0, 1.0], size=n)
    first = side + 0.3 * rng.standard_normal(n)
    second = np.exp(0.5 * side + 0.3 * rng.standard_normal(n))
    mean = np.column_stack([first, second, 0.001 * rng.standard_normal(n)])
    variance = np.column_stack([0.05 + 0.1 * (side > 0), 0.02 * second, np.ones(n)])
    return AggregatedPosterior(mean.astype(np.float32), variance.astype(np.float32))


@pytest.fixture(scope="module")
def q() -> AggregatedPosterior:
    return canonicalise(posteriors(0))


def exact_noise(n: int, d: int, rng: np.random.Generator) -> np.ndarray:
    """Noise whose sample mean is 0 and whose sample covariance is I, both exactly."""
    noise = rng.standard_normal((n, d))
    return np.linalg.qr(noise - noise.mean(0))[0] * np.sqrt(n)


@pytest.mark.parametrize("name", list(ladder([3])))
def test_every_rung_draws_the_shape_that_was_asked_for_and_repeats_itself(q, name):
    draws = [ladder([3], seed=4)[name].fit(q).sample(7, np.random.default_rng(1)) for _ in range(2)]
    assert draws[0].shape == (7, 3)
    assert draws[0].dtype == np.float64
    assert np.isfinite(draws[0]).all()
    np.testing.assert_array_equal(*draws)


@pytest.mark.parametrize("name", list(ladder([3])))
def test_every_rung_refuses_the_split_that_judges_it(q, name):
    sampler = ladder([3])[name].fit(q)
    sampler.refuse(canonicalise(posteriors(1)))
    mixed = AggregatedPosterior(
        np.concatenate([posteriors(1).mean[:500], q.mean[100:150]]),
        np.concatenate([posteriors(1).variance[:500], q.variance[100:150]]),
    )
    with pytest.raises(DataError, match="fitted to 9% of the posteriors"):
        sampler.refuse(mixed)


def test_a_sampler_has_to_be_fitted():
    with pytest.raises(DataError, match="before it is fitted"):
        PriorSampler().sample(3, np.random.default_rng(0))


def test_product_of_marginals_has_the_exact_marginals_and_no_dependence(q):
    z = MarginalSampler().fit(q).sample(N, np.random.default_rng(2))
    exact = Marginals(q)
    for j in range(3):
        assert kstest(z[:, j], lambda x, j=j: exact.cdf(x)[:, j]).pvalue > 1e-3
    assert np.abs(np.corrcoef(z, rowvar=False) - np.eye(3)).max() < 4 / np.sqrt(N)
    assert abs(np.corrcoef(q.mean, rowvar=False)[0, 1]) > 0.5


def test_marginals_of_noise_beyond_rounding_stay_finite(q):
    sampler = MarginalSampler().fit(q)
    assert np.isfinite(sampler.transform(np.full((1, 3), 50.0))).all()
    assert np.isfinite(sampler.transform(np.full((1, 3), -30.0))).all()


def test_gaussian_has_the_exact_mean_and_covariance(q):
    z = GaussianSampler().fit(q).transform(exact_noise(1000, 3, np.random.default_rng(3)))
    np.testing.assert_allclose(z.mean(0), q.moments().mean, atol=1e-12)
    np.testing.assert_allclose(np.cov(z, rowvar=False, bias=True), q.covariance(), atol=1e-12)


def test_gaussian_of_a_degenerate_covariance():
    mean = np.outer(np.linspace(-1, 1, 50), [1.0, 1.0])
    q = AggregatedPosterior(mean, np.full((50, 2), 1e-16))
    z = GaussianSampler().fit(q).sample(1000, np.random.default_rng(0))
    assert np.isfinite(z).all()
    assert np.abs(z[:, 0] - z[:, 1]).max() < 1e-6


def test_copula_has_the_exact_marginals_and_the_correlation_of_normal_scores(q):
    z = CopulaSampler().fit(q).sample(N, np.random.default_rng(4))
    exact = Marginals(q)
    for j in range(3):
        assert kstest(z[:, j], lambda x, j=j: exact.cdf(x)[:, j]).pvalue > 1e-3
    draws = q.sample(N, np.random.default_rng(5))
    scores = [np.corrcoef(norm.ppf(exact.cdf(points)), rowvar=False) for points in (z, draws)]
    np.testing.assert_allclose(*scores, atol=0.03)


@pytest.mark.parametrize("components", [1, 10, 50])
def test_mixture_keeps_mean_and_covariance_of_q(q, components):
    # Expectation maximisation reproduces the first two moments of what it is fitted to, at every step.
    z = MixtureSampler(components).fit(q).sample(N, np.random.default_rng(6))
    np.testing.assert_allclose(z.mean(0), 0, atol=5 / np.sqrt(N) + 0.02)
    np.testing.assert_allclose(np.cov(z, rowvar=False), q.covariance(), atol=0.05)


def test_mean_mixture_follows_the_means(q):
    sampler = MeanMixtureSampler().fit(q)
    assert sampler.components == 20
    z = sampler.sample(N, np.random.default_rng(7))
    np.testing.assert_allclose(z.mean(0), q.mean.mean(0), atol=0.03)
    # The third dimension is inactive: it stays at the prior.
    np.testing.assert_allclose(np.cov(z[:, :2], rowvar=False), np.cov(q.mean[:, :2], rowvar=False), atol=0.05)
    assert z[:, 2].std() == pytest.approx(1, abs=0.02)
    assert MeanMixtureSampler().fit(q.select(np.arange(3))).components == 20
    assert MeanMixtureSampler().fit(posteriors(0, n=30)).components == 1


def test_posterior_sampler_is_q_itself(q):
    z = PosteriorSampler().fit(q).sample(N, np.random.default_rng(8))
    moments = q.moments()
    assert np.abs(z.mean(0) * np.sqrt(N)).max() < 4
    np.testing.assert_allclose((z**4).mean(0), moments.kurtosis, rtol=0.1)


def test_scale_only_rung_is_the_prior_after_canonical_form():
    # Q(z) is normal but for location and scale: every rung is then the prior, once in canonical form.
    raw = AggregatedPosterior(np.tile([3.0, -2.0], (5, 1)), np.tile([4.0, 0.25], (5, 1)))
    canonical = canonical_form(raw)
    q = canonicalise(raw, canonical)
    noise = np.random.default_rng(9).standard_normal((100, 2))
    for sampler in (PriorSampler(), MarginalSampler(), GaussianSampler()):
        np.testing.assert_allclose(sampler.fit(q).transform(noise), noise, atol=1e-9)
    np.testing.assert_allclose(canonical.invert(noise), noise * [2.0, 0.5] + [3.0, -2.0], atol=1e-12)
    np.testing.assert_allclose(GaussianSampler().fit(raw).transform(noise), canonical.invert(noise), atol=1e-9)


def test_stratified_draws_use_every_posterior_equally_often():
    q = AggregatedPosterior(np.arange(5.0)[:, None], np.full((5, 1), 1e-12))
    z = stratified_draws(q, 13, np.random.default_rng(0)).round().astype(int).ravel()
    counts = np.bincount(z)
    assert counts.sum() == 13
    assert set(counts) == {2, 3}


# ------------------------------------------------------------------------------------------------ normal mixtures


def test_mixture_finds_well_separated_components():
    rng = np.random.default_rng(10)
    points = np.concatenate([rng.normal([0, 0], [1, 2], (3000, 2)), rng.normal([20, 5], [0.5, 0.5], (1000, 2))])
    mixture = fit_normal_mixture(points, 2, np.random.default_rng(1))
    order = np.argsort(mixture.means[:, 0])
    np.testing.assert_allclose(mixture.weights[order], [0.75, 0.25], atol=1e-6)
    np.testing.assert_allclose(mixture.means[order], [[0, 0], [20, 5]], atol=0.15)
    deviations = np.sqrt(np.einsum("kij,kij->ki", mixture.factors, mixture.factors))[order]
    np.testing.assert_allclose(deviations, [[1, 2], [0.5, 0.5]], rtol=0.1)


def test_mixture_is_as_likely_as_scikit_learns(q):
    rng = np.random.default_rng(11)
    train, test = q.sample(4000, rng), q.sample(4000, rng)
    ours = fit_normal_mixture(train, 20, np.random.default_rng(0)).score_samples(test).mean()
    theirs = GaussianMixture(20, random_state=0, max_iter=50).fit(train).score(test)
    assert ours > theirs - 0.05


def test_density_of_one_component_is_the_normal_one():
    rng = np.random.default_rng(12)
    points = rng.standard_normal((5000, 3)) @ np.diag([1.0, 2.0, 0.5]) + [5, 0, -5]
    mixture = fit_normal_mixture(points, 1, rng)
    factor, mean = mixture.factors[0], mixture.means[0]
    white = np.linalg.solve(factor, (points[:50] - mean).T)
    expected = -0.5 * np.square(white).sum(0) - np.log(np.diag(factor)).sum() - 1.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(mixture.score_samples(points[:50]), expected, atol=1e-3)


def test_mixture_of_repeated_points_of_a_plane_and_of_as_many_components_as_points():
    rng = np.random.default_rng(13)
    for points, components in (
        (np.repeat(rng.standard_normal((4, 3)), 10, axis=0), 8),
        (np.column_stack([rng.standard_normal((200, 2)), np.zeros(200)]), 5),
        (rng.standard_normal((6, 4)), 6),
    ):
        mixture = fit_normal_mixture(points, components, rng)
        z = mixture.sample(500, rng)
        assert np.isfinite(z).all()
        assert mixture.weights.sum() == pytest.approx(1)
        assert np.abs(z.mean(0) - points.mean(0)).max() < 0.5


@pytest.mark.parametrize(
    ("points", "components", "message"),
    [
        (np.zeros((5, 2)), 2, "not all the same"),
        (np.array([[0.0], [np.nan]]), 1, "finite"),
        (np.eye(3), 4, "4 components cannot be fitted to 3 points"),
        (np.eye(3), 0, "ask for 1 to 3"),
    ],
)
def test_points_that_no_mixture_fits(points, components, message):
    with pytest.raises(DataError, match=message):
        fit_normal_mixture(points, components, np.random.default_rng(0))
