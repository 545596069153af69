"""One-dimensional marginals: density, distribution function, quantiles, and distances to N(0, 1)."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import ndtr

from aggregated_posterior.posterior.gauge import slack_of
from aggregated_posterior.posterior.mixture import AggregatedPosterior
from aggregated_posterior.statistics.closed_forms import REFERENCE
from aggregated_posterior.statistics.line_mixture import LineMixture
from aggregated_posterior.statistics.marginals import Marginals

from ..mixture_reference import PROFILE, mixtures


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def direct(mean, variance, z):
    """Density, F, 1 − F and ∫F by summing over every component."""
    sigma = np.sqrt(variance)
    t = (z[:, None] - mean) / sigma
    density = np.exp(-0.5 * t**2) / (np.sqrt(2 * np.pi) * sigma)
    return np.array(
        [
            density.mean(axis=1),
            ndtr(t).mean(axis=1),
            ndtr(-t).mean(axis=1),
            ((z[:, None] - mean) * ndtr(t) + variance * density).mean(axis=1),
        ]
    )


def regimes():
    r = rng(5)
    n = 3000
    yield "active", r.standard_normal(n), np.exp(r.normal(-4, 0.7, n))
    yield "inactive", 0.01 * r.standard_normal(n), np.exp(0.01 * r.standard_normal(n))
    yield "identical", np.full(n, 0.3), np.full(n, 0.5)
    yield "narrow", r.standard_normal(n), np.exp(r.normal(-20, 2, n))
    yield "spikes", r.standard_normal(n), np.full(n, 1e-12)
    yield "over 18 orders", r.standard_normal(n), 10 ** r.uniform(-12, 6, n)
    yield "heavy tails", r.standard_cauchy(n), np.exp(r.normal(-3, 2, n))
    yield "far away", 1e6 + 1e-3 * r.standard_normal(n), 1e-6 * np.exp(r.normal(-3, 1, n))
    yield "wide and one narrow", r.standard_normal(n), np.where(np.arange(n) == 7, 1e-10, 1.0)
    yield "few", r.standard_normal(5), np.exp(r.standard_normal(5))


@pytest.mark.parametrize(("mean", "variance"), [case[1:] for case in regimes()], ids=[case[0] for case in regimes()])
def test_line_agrees_with_the_sum_over_all_components(mean, variance):
    line = LineMixture(mean, variance)
    centre = np.median(mean)
    spread = np.std(np.clip(mean, *np.quantile(mean, [0.1, 0.9]))) + np.sqrt(np.median(variance))
    near = np.concatenate([mean[:20], mean[:20] + np.sqrt(variance[:20])])
    z = np.sort(np.concatenate([centre + spread * np.linspace(-8, 8, 151), near]))
    values = line.evaluate(z, integral=True)
    expected = direct(mean, variance, z)
    peak = (1 / np.sqrt(2 * np.pi * variance)).mean()
    np.testing.assert_allclose(values.pdf, expected[0], rtol=1e-10, atol=1e-13 * peak)
    np.testing.assert_allclose(values.cdf, expected[1], rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(values.sf, expected[2], rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(values.integral, expected[3], rtol=1e-10, atol=1e-13 * spread)
    shuffled = rng().permutation(len(z))
    np.testing.assert_array_equal(line.evaluate(z[shuffled]).cdf, values.cdf[shuffled])


@pytest.mark.parametrize("name", REFERENCE)
def test_reference_table(name):
    reference = REFERENCE[name]
    distances = Marginals(reference.posterior()).distances()
    # To the digits printed: half a unit of the last one.
    assert distances.kl[0] == pytest.approx(reference.kl, abs=5.1e-9)
    assert distances.ks[0] == pytest.approx(reference.ks, abs=5.1e-7)
    assert distances.w1[0] == pytest.approx(reference.w1, abs=5.1e-8)
    assert distances.tv[0] == pytest.approx(reference.tv, abs=5.1e-8)


def test_the_decoy_passes_kurtosis_and_fails_everything_else():
    q = REFERENCE["decoy"].posterior()
    distances = Marginals(q).distances()
    assert q.moments().kurtosis[0] == pytest.approx(3, abs=1e-12)
    assert distances.kl[0] > 0.3
    assert distances.ks[0] > 0.1
    assert distances.w1[0] > 0.19


@pytest.mark.parametrize("copies", [1, 500])
@pytest.mark.parametrize("shift", [0.0, 1e-4, 0.7, -12.0])
def test_a_shifted_normal_in_closed_form(shift, copies):
    distances = Marginals(np.full((copies, 1), shift), np.ones((copies, 1))).distances()
    total = abs(2 * ndtr(abs(shift) / 2) - 1)
    assert distances.kl[0] == pytest.approx(shift**2 / 2, rel=1e-6, abs=1e-13)
    assert distances.ks[0] == pytest.approx(total, rel=1e-8, abs=1e-12)
    assert distances.tv[0] == pytest.approx(total, rel=1e-6, abs=1e-9)
    assert distances.w1[0] == pytest.approx(abs(shift), rel=1e-8, abs=1e-12)
    assert distances.w2[0] == pytest.approx(abs(shift), rel=1e-8, abs=1e-10)


@pytest.mark.parametrize("copies", [1, 500])
@pytest.mark.parametrize("sigma", [1e-3, 0.3, 1.5, 20.0])
def test_a_scaled_normal_in_closed_form(sigma, copies):
    distances = Marginals(np.zeros((copies, 1)), np.full((copies, 1), sigma**2)).distances()
    assert distances.kl[0] == pytest.approx((sigma**2 - 1) / 2 - np.log(sigma), rel=1e-9)
    assert distances.w1[0] == pytest.approx(abs(sigma - 1) * np.sqrt(2 / np.pi), rel=1e-9)
    assert distances.w2[0] == pytest.approx(abs(sigma - 1), rel=1e-9)
    crossing = np.sqrt(2 * np.log(sigma) / (1 - 1 / sigma**2))
    difference = abs(ndtr(crossing / sigma) - ndtr(crossing))
    assert distances.ks[0] == pytest.approx(difference, rel=1e-9)
    assert distances.tv[0] == pytest.approx(2 * difference, rel=1e-9)


def test_separate_spikes_have_the_entropy_of_their_number():
    # 200 components that do not overlap: KL = ½ E z² + ½ ln 2π − (½ ln 2πe σ² + ln 200).
    mean, sigma = np.linspace(-2, 2, 200)[:, None], 1e-6
    kl = Marginals(mean, np.full((200, 1), sigma**2)).distances().kl[0]
    expected = 0.5 * (mean**2).mean() + 0.5 * sigma**2 - 0.5 - np.log(sigma) - np.log(200)
    assert kl == pytest.approx(expected, rel=1e-9)


def test_kl_agrees_with_dense_quadrature_for_thousands_of_components():
    r = rng(3)
    mean, variance = r.standard_normal(4000) ** 3 / 3, np.exp(r.normal(-2, 1, 4000))
    z = np.linspace(-40, 40, 80_001)
    q = LineMixture(mean, variance).evaluate(z, cumulative=False).pdf
    log_normal = -0.5 * z**2 - 0.5 * np.log(2 * np.pi)
    expected = np.sum(np.where(q > 0, q * (np.log(np.maximum(q, 1e-300)) - log_normal), 0)) * (z[1] - z[0])
    assert Marginals(mean[:, None], variance[:, None]).distances().kl[0] == pytest.approx(expected, rel=1e-7)


@PROFILE
@given(mixtures(), st.integers(0, 1000))
def test_laws_of_the_marginals(mixture, seed):
    q = AggregatedPosterior(*mixture)
    marginals = Marginals(q)
    p = np.concatenate([rng(seed).uniform(size=20), [1e-9, 1e-3, 0.5, 1 - 1e-9]])
    z = marginals.quantile(p)
    np.testing.assert_allclose(marginals.cdf(z), np.broadcast_to(p[:, None], z.shape), rtol=1e-11)
    grid = np.linspace(-25, 25, 20_001)
    np.testing.assert_allclose(marginals.pdf(grid).sum(axis=0) * (grid[1] - grid[0]), 1, atol=1e-9)
    distances = marginals.distances()
    assert np.all(distances.kl >= slack_of(q.moments()) - 1e-12)  # the Gaussian part
    assert np.all(distances.kl <= q.kl() + 1e-12)  # convexity
    assert np.all((distances.ks >= 0) & (distances.ks <= distances.tv + 1e-12) & (distances.tv <= 1))
    assert np.all(distances.tv <= np.sqrt(distances.kl / 2) + 1e-9)  # Pinsker
    assert np.all(distances.w1 <= distances.w2 + 1e-10)
    assert np.all(distances.w2 <= np.sqrt(2 * distances.kl) + 1e-6)  # Talagrand
    mirrored = Marginals(q.affine(0.0, -1.0)).distances()
    for name in ("kl", "ks", "w1", "w2", "tv"):
        np.testing.assert_allclose(getattr(mirrored, name), getattr(distances, name), atol=1e-9, rtol=1e-9)


def test_quantiles_of_many_components_in_both_shapes():
    r = rng(1)
    marginals = Marginals(r.standard_normal((3000, 2)), np.exp(r.normal(-3, 1, (3000, 2))))
    p = r.uniform(size=(500, 2))
    z = marginals.quantile(p)
    np.testing.assert_allclose(marginals.cdf(z), p, rtol=1e-12)
    np.testing.assert_allclose(marginals.quantile(p[:, 0])[:, 0], z[:, 0], rtol=1e-12)
    assert np.all(np.diff(marginals.quantile(np.sort(p[:, 0])), axis=0) >= 0)
    assert marginals.quantile(np.array([0.0, 1.0])).tolist() == [[-np.inf] * 2, [np.inf] * 2]


def test_quantiles_in_a_gap_between_spikes():
    marginals = Marginals(np.array([[-1.0], [1.0]]), np.full((2, 1), 1e-12))
    z = marginals.quantile(np.array([0.25, 0.4999, 0.5001, 0.75]))[:, 0]
    np.testing.assert_allclose(z, [-1, -1 + 3.54e-6, 1 - 3.54e-6, 1], atol=2e-7)


def test_draws_keep_the_marginals_and_lose_the_dependence():
    mean = np.repeat(rng().standard_normal((4000, 1)), 2, axis=1)
    q = AggregatedPosterior(mean, np.full((4000, 2), 0.01))
    z = Marginals(q).sample(20_000, rng(2))
    moments = q.moments()
    assert np.all(np.abs(z.var(axis=0) / moments.variance - 1) < 4 * np.sqrt((moments.kurtosis - 1) / len(z)))
    assert abs(np.corrcoef(z.T)[0, 1]) < 4 / np.sqrt(len(z))


@pytest.mark.parametrize("p", [-0.1, 1.1, np.nan])
def test_impossible_probabilities_are_refused(p):
    with pytest.raises(ValueError, match="probabilities"):
        Marginals(np.zeros((2, 1)), np.ones((2, 1))).quantile(np.array([0.5, p]))


def test_points_of_the_wrong_shape_are_refused():
    with pytest.raises(ValueError, match="expected \\(M,\\) or \\(M, 1\\)"):
        Marginals(np.zeros((2, 1)), np.ones((2, 1))).pdf(np.zeros((3, 2)))
