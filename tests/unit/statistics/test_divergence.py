"""The joint law of Q(z): information, total correlation, bracket, certified bounds, Mardia's statistics, MMD."""

import numpy as np
import pytest
from hypothesis import given

from aggregated_posterior.posterior.gauge import canonicalise
from aggregated_posterior.posterior.mixture import AggregatedPosterior, normal_log_pdf
from aggregated_posterior.posterior.splits import Posteriors
from aggregated_posterior.statistics import divergence, joint_shape
from aggregated_posterior.statistics.closed_forms import REFERENCE
from aggregated_posterior.statistics.divergence import (
    Estimate,
    ImpossibleEstimate,
    balanced_draws,
    certified_gaussian,
    feasible_information,
    fit_certifying_mixture,
    gaussian_part,
    mutual_information,
    refuse_upside_down,
)
from aggregated_posterior.statistics.joint_shape import mardia_kurtosis, mardia_skewness, maximum_mean_discrepancy
from aggregated_posterior.statistics.portrait import Portrait

from ..mixture_reference import PROFILE, mixtures


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def perfect(n: int, d: int, s: float, seed: int) -> AggregatedPosterior:
    """Means such that the population's Q(z) is exactly N(0, I), with posterior variance s."""
    return AggregatedPosterior(rng(seed).standard_normal((n, d)) * np.sqrt(1 - s), np.full((n, d), s))


def measure_joint(train: AggregatedPosterior, test: AggregatedPosterior | None, **settings) -> list[dict]:
    """Everything about the joint law, raw and canonical."""
    return Portrait(Posteriors(train, test), **settings).joint


def part_of(q: AggregatedPosterior) -> float:
    return gaussian_part(q.moments(), q.covariance())


# ------------------------------------------------------------------------------------------------ closed forms


@pytest.mark.parametrize(("d", "a"), [(1, 0.9), (3, 0.8), (6, 0.3)])
def test_mardia_of_two_components_in_closed_form(d, a):
    mean, variance = np.zeros((2, d)), np.ones((2, d))
    mean[:, 0], variance[:, 0] = [a, -a], 1 - a * a
    q = AggregatedPosterior(mean, variance)
    assert mardia_kurtosis(q) == pytest.approx(d * (d + 2) - 2 * a**4, rel=1e-13)
    assert mardia_skewness(q) == pytest.approx(0, abs=1e-25)


def product(*names: str) -> AggregatedPosterior:
    """The product of one-dimensional reference mixtures as one mixture over all combinations of their rows."""
    parts = [REFERENCE[name].posterior() for name in names]
    index = np.stack(np.meshgrid(*[np.arange(p.n) for p in parts], indexing="ij"), axis=-1).reshape(-1, len(parts))
    mean = np.stack([p.mean[index[:, j], 0] for j, p in enumerate(parts)], axis=1)
    return AggregatedPosterior(mean, np.stack([p.variance[index[:, j], 0] for j, p in enumerate(parts)], axis=1))


def test_mardia_of_a_product_in_closed_form():
    names = ("three", "skewed", "decoy")
    q = product(*names)
    expected = 9 + sum(REFERENCE[name].kurtosis - 1 for name in names)
    assert mardia_kurtosis(q) == pytest.approx(expected, rel=1e-12)
    assert mardia_skewness(q) == pytest.approx(0.108**2, rel=1e-10)


@PROFILE
@given(mixtures())
def test_mardia_in_one_dimension_and_under_affine_maps(mixture):
    q = AggregatedPosterior(*mixture)
    moments = q.moments()
    assert mardia_kurtosis(q.select([0])) == pytest.approx(moments.kurtosis[0], rel=1e-9)
    assert mardia_skewness(q.select([0])) == pytest.approx(moments.skewness[0] ** 2, rel=1e-7, abs=1e-12)
    moved = q.affine(np.full(q.latent_dim, 3.0), np.arange(1, q.latent_dim + 1) * 0.5)
    assert mardia_kurtosis(moved) == pytest.approx(mardia_kurtosis(q), rel=1e-8)
    assert mardia_skewness(moved) == pytest.approx(mardia_skewness(q), rel=1e-6, abs=1e-10)


def test_mardia_against_all_pairs_of_draws_from_a_correlated_mixture():
    mean = rng().standard_normal((6, 2)) @ np.array([[1.0, 0.8], [0.0, 0.6]]) + 4
    q = AggregatedPosterior(mean, np.exp(rng(1).normal(-1.5, 0.5, (6, 2))))
    z = q.sample(400_000, rng(2)) - q.moments().mean
    matrix = np.linalg.inv(q.covariance())
    square = np.einsum("ij,jk,ik->i", z, matrix, z) ** 2
    assert abs(square.mean() - mardia_kurtosis(q)) < 4 * square.std() / np.sqrt(len(z))
    w = z @ np.linalg.cholesky(matrix)
    tensor = np.einsum("ni,nj,nk->ijk", w, w, w, optimize=True) / len(z)
    assert (tensor**2).sum() == pytest.approx(mardia_skewness(q), abs=0.02)


def test_mmd_of_the_prior_is_zero_and_of_a_shifted_normal_closed_form():
    assert maximum_mean_discrepancy(AggregatedPosterior(np.zeros((3, 4)), np.ones((3, 4)))) == pytest.approx(
        0, abs=1e-7
    )
    shift, g = 1.5, 1.0
    q = AggregatedPosterior(np.full((2, 1), shift), np.ones((2, 1)))
    expected = 2 * np.sqrt(g / (g + 2)) * (1 - np.exp(-(shift**2) / (2 * (g + 2))))
    assert maximum_mean_discrepancy(q) ** 2 == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("variance", [1e37, 1e60, 1e130])
def test_mmd_of_a_law_so_wide_that_nothing_of_it_meets_the_prior(variance):
    d = g = 10
    q = AggregatedPosterior(np.zeros((4, d)), np.full((4, d), variance))
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        assert maximum_mean_discrepancy(q) == pytest.approx((g / (g + 2)) ** (d / 4), rel=1e-12)


def test_mmd_subsamples_pairs_only_beyond_its_bound_and_close_to_the_exact_value():
    q = AggregatedPosterior(rng().exponential(size=(1500, 2)), np.full((1500, 2), 0.2))
    with pytest.raises(ValueError, match="give a random generator"):
        maximum_mean_discrepancy(q)
    g = 2.0
    width = g + 0.4
    pairs = np.zeros((1500, 1500))
    for j in range(2):
        pairs += (q.mean[:, j][:, None] - q.mean[:, j]) ** 2
    own = (g / width) * np.exp(-pairs / (2 * width)).mean()
    cross = (g / (g + 1.2)) * np.exp(-(q.mean**2).sum(axis=1) / (2 * (g + 1.2))).mean()
    exact = np.sqrt(own - 2 * cross + g / (g + 2))
    assert maximum_mean_discrepancy(q, rng(1)) == pytest.approx(exact, rel=0.05)


def test_gaussian_part_is_the_correlation_in_canonical_form():
    mean = rng().standard_normal((500, 3)) @ np.array([[1, 0.5, 0], [0, 1, 0.5], [0, 0, 1.0]]) + 2
    q = AggregatedPosterior(mean, np.full((500, 3), 0.3))
    canonical = canonicalise(q)
    assert part_of(canonical) == pytest.approx(-0.5 * np.linalg.slogdet(canonical.covariance())[1], rel=1e-10)
    covariance, centre = q.covariance(), q.moments().mean
    expected = 0.5 * (np.trace(covariance) + centre @ centre - 3 - np.linalg.slogdet(covariance)[1])
    assert part_of(q) == pytest.approx(expected, rel=1e-10)


def test_the_gaussian_certificate_of_a_split_against_itself_is_the_gaussian_part():
    q = AggregatedPosterior(rng().exponential(size=(400, 3)), np.full((400, 3), 0.1))
    value = certified_gaussian(q.moments().mean, q.covariance(), q).value
    assert value == pytest.approx(part_of(q), rel=1e-10)


# ------------------------------------------------------------------------------------------------ estimators


def test_information_is_zero_for_equal_posteriors_and_ln_n_for_separate_ones():
    same = AggregatedPosterior(np.zeros((50, 2)), np.ones((50, 2)))
    assert mutual_information(same, balanced_draws(same, 200, rng())).value == pytest.approx(0, abs=1e-12)
    apart = AggregatedPosterior(np.arange(50.0)[:, None] * 100, np.ones((50, 1)))
    assert mutual_information(apart, balanced_draws(apart, 200, rng())).value == pytest.approx(np.log(50), rel=1e-12)


def test_information_of_two_overlapping_components_against_quadrature():
    q = REFERENCE["far_pair"].posterior()
    estimate = mutual_information(q, balanced_draws(q, 40_000, rng()))
    # mean KL − KL(Q‖p) of the reference table.
    assert abs(estimate.value - (0.83036560 - 0.18927903)) < 0.01


def test_balanced_draws_take_distinct_rows_or_all_rows_equally():
    q = perfect(100, 2, 0.5, 0)
    few, many = balanced_draws(q, 30, rng()), balanced_draws(q, 250, rng())
    assert len(np.unique(few.row)) == 30 == few.distinct
    assert np.bincount(many.row).tolist() == [3] * 100
    constant = many.mean(np.tile(np.arange(100.0), 3))
    assert constant.value == pytest.approx(49.5)
    assert constant.se == pytest.approx(np.arange(100.0).std(ddof=1) / 10)


def test_the_certifying_mixture_is_normalised_and_has_no_more_components_than_its_points_carry():
    q = AggregatedPosterior(rng().exponential(size=(200, 1)), np.full((200, 1), 0.1))
    model = fit_certifying_mixture(q, 5, 1000, 0.05, 0)
    z = np.linspace(-20, 20, 20_001)
    assert np.exp(model.score_samples(z[:, None])).sum() * (z[1] - z[0]) == pytest.approx(1, abs=1e-6)
    assert model.n_components == 5
    assert fit_certifying_mixture(q, 5, 40, 0.05, 0).n_components == 2


def test_in_very_many_dimensions_the_certifying_mixture_is_diagonal(monkeypatch):
    q = AggregatedPosterior(rng().exponential(size=(200, 6)), np.full((200, 6), 0.1))
    assert fit_certifying_mixture(q, 3, 1000, 0.05, 0).mixture.factors.shape == (3, 6, 6)
    monkeypatch.setattr(divergence, "FIT_WORK", 1e5)
    assert fit_certifying_mixture(q, 3, 1000, 0.05, 0).mixture.factors.shape == (3, 6)


def test_inactive_dimensions_do_not_loosen_the_certified_bound():
    """Thirty dimensions of pure noise beside two that matter: the bound is that of the two alone."""

    def law(seed, noise):
        corners = np.random.default_rng(seed).choice([-0.9, 0.9], (400, 2))
        corners[:, 1] *= np.sign(corners[:, 0])
        mean = np.hstack([corners, np.zeros((400, noise))])
        return AggregatedPosterior(mean, np.hstack([np.full((400, 2), 0.19), np.ones((400, noise))]))

    def bound(noise):
        train, test = law(0, noise), law(1, noise)
        return measure_joint(train, test, points=400, gmm_components=8, fit_points=2000)[1]["certified_gmm"]

    alone = bound(0)
    assert alone > 0.2
    assert bound(30) == pytest.approx(alone, abs=0.1)


@pytest.mark.parametrize(
    ("value", "arguments", "expected"),
    [
        (2.0, (100, 5.0, 1.0), 2.0),
        (4.01, (100, 5.0, 1.0), 4.0),  # a negative total correlation within its error
        (4.61, (100, 9.0, 1.0), np.log(100)),
        (-0.01, (100, 5.0, 1.0), 0.0),
    ],
)
def test_estimates_within_their_error_are_moved_to_the_bound(value, arguments, expected):
    assert feasible_information(Estimate(value, 0.01), *arguments) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("value", "arguments", "message"),
    [
        (41.7, (60_000, 50.0, 1.0), "outside \\[0, ln N = 11.0021"),
        (4.2, (100, 5.0, 1.0), "mean KL − marginal KL"),
        (-0.2, (100, 5.0, 1.0), "outside"),
        (0.0, (100, 1.0, 2.0), "exceeds mean KL"),
    ],
)
def test_impossible_estimates_stop_the_program(value, arguments, message):
    with pytest.raises(ImpossibleEstimate, match=message):
        feasible_information(Estimate(value, 0.01), *arguments)


# ------------------------------------------------------------------------------------------------ all together


def check_laws(row: dict) -> None:
    assert 0 <= row["mutual_information"] <= min(row["log_n"], row["mean_kl"]) + 1e-9
    assert row["total_correlation"] >= 0
    assert row["kl_in_sample"] >= row["dimension_wise_kl"] >= 0
    assert row["mean_kl"] == pytest.approx(row["mutual_information"] + row["kl_in_sample"], abs=1e-6)
    assert row["kl_in_sample"] == pytest.approx(row["total_correlation"] + row["dimension_wise_kl"], abs=1e-9)
    assert row["bracket_low"] <= row["bracket_high"]
    assert row["identified"] == (row["bracket_high"] - row["bracket_low"] < 1)
    assert row["gaussian_part"] >= 0
    error = row["bracket_high_se"] + row["certified_gmm_se"] + row["certified_gaussian_se"]
    assert max(row["certified_gmm"], row["certified_gaussian"]) <= row["bracket_high"] + 5 * error


def test_a_bracket_upside_down_by_more_than_its_error_stops_the_program():
    for gap, se in ((-0.5, 0.1), (-1e-8, np.nan), (0.2, 0.0)):
        refuse_upside_down(gap, se)
    for gap, se in ((-0.7, 0.1), (-1e-6, np.nan)):
        with pytest.raises(ImpossibleEstimate, match="upside down"):
            refuse_upside_down(gap, se)


def test_in_sample_divergence_of_a_perfect_model_is_arithmetic():
    """d = 16, s = 0.1, N = 2000: the truth is 0, the in-sample estimate reads 10.7 and nothing is identified."""
    rows = measure_joint(
        perfect(2000, 16, 0.1, 0), perfect(2000, 16, 0.1, 1), points=400, gmm_components=2, fit_points=2000
    )
    assert [row["form"] for row in rows] == ["raw", "canonical"]
    for row in rows:
        check_laws(row)
        assert row["kl_in_sample"] == pytest.approx(10.7, abs=0.15)
        assert not row["identified"]
        assert row["certified_gaussian"] < 0.02
        assert row["bracket_low"] < 0


def test_the_forms_differ_by_the_slack_and_by_nothing_else():
    r = rng(3)
    mean = np.concatenate([r.standard_normal((300, 2)) * 0.3 + 1.5, r.standard_normal((300, 2)) * 0.3 - 1.5])
    train = AggregatedPosterior(mean * [1, 2], np.full((600, 2), 0.1))
    test = AggregatedPosterior(mean[::3] * [1, 2] + 0.05, np.full((200, 2), 0.1))
    raw, canonical = measure_joint(train, test, points=600, gmm_components=4, fit_points=2000)
    slack = raw["mean_kl"] - canonical["mean_kl"]
    assert slack > 0.5
    for row in (raw, canonical):
        check_laws(row)
        assert row["identified"]
        assert row["certified_gmm"] > row["certified_gaussian"]
        assert row["certified_gmm"] > 0.3
    for name in ("mutual_information", "total_correlation", "mardia_kurtosis", "mardia_skewness"):
        assert raw[name] == canonical[name]
    for name in ("dimension_wise_kl", "kl_in_sample", "gaussian_part"):
        assert raw[name] - canonical[name] == pytest.approx(slack, abs=1e-9), name
    # Total correlation by quadrature of the joint and marginal densities.
    axis = np.linspace(-8, 8, 321)
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    log_q = train.log_density(grid).reshape(321, 321)
    joint = np.exp(log_q) * 0.05**2
    entropies = [-np.sum(p * np.log(np.maximum(p, 1e-300) / 0.05)) for p in (joint.sum(axis=1), joint.sum(axis=0))]
    expected = sum(entropies) + np.sum(joint * log_q)
    assert raw["total_correlation"] == pytest.approx(expected, abs=4 * raw["mutual_information_se"] + 1e-3)
    # KL(Q‖p) of the in-sample mixture likewise.
    divergence = np.sum(joint * (log_q - normal_log_pdf(grid).reshape(321, 321)))
    assert raw["kl_in_sample"] == pytest.approx(divergence, abs=4 * raw["mutual_information_se"] + 1e-3)


def test_a_collapsed_model_is_normal_in_every_respect():
    q = AggregatedPosterior(np.zeros((500, 3)), np.ones((500, 3)))
    row = measure_joint(q, q, points=300, gmm_components=1, fit_points=500)[1]
    check_laws(row)
    assert row["active_dimensions"] == 0
    assert row["mutual_information"] == pytest.approx(0, abs=1e-9)
    assert row["bracket_low"] == pytest.approx(0, abs=1e-9) == row["bracket_high"]
    assert row["mardia_kurtosis"] == pytest.approx(row["mardia_kurtosis_normal"])


def test_without_a_held_out_split_nothing_about_it_is_claimed():
    row = measure_joint(perfect(200, 2, 0.3, 0), None, points=200)[0]
    for name in ("n_test", "bracket_low", "bracket_high", "identified", "certified_gmm", "certified_gaussian_se"):
        assert row[name] is None
    assert row["kl_in_sample"] >= 0


def test_the_same_seed_gives_the_same_rows():
    arguments = {"points": 200, "gmm_components": 2, "fit_points": 500, "seed": 4}
    train, test = perfect(300, 2, 0.3, 0), perfect(100, 2, 0.3, 1)
    assert measure_joint(train, test, **arguments) == measure_joint(train, test, **arguments)


def test_draws_never_replay_the_stream_that_made_the_posteriors():
    """The user's means come from `default_rng(0)`, and more points than rows are drawn, with the default seed: every
    draw then used to sit where its own mean had been drawn, and the mutual information came out impossible."""
    r = np.random.default_rng(0)
    train, test = (AggregatedPosterior(r.normal(0, 0.8, (n, 3)), np.full((n, 3), 0.36)) for n in (1500, 500))
    row = measure_joint(train, test, points=2000, gmm_components=2, fit_points=2000)[1]
    assert (
        0 < row["mutual_information_raw"] < row["mean_kl"] - row["dimension_wise_kl"] + 6 * row["mutual_information_se"]
    )
    # The population's Q is N(0, I), and its information −½ ln 0.36 a dimension; in sample it is a little less.
    assert row["mutual_information"] == pytest.approx(-1.5 * np.log(0.36), abs=0.15)


def test_no_draw_of_a_portrait_coincides_with_another_or_with_a_users():
    q = perfect(3000, 2, 0.3, 0)
    portrait = Portrait(Posteriors(q, q), points=3000, fit_points=3000, gmm_components=2)
    noise = [
        np.random.default_rng(0).standard_normal((3000, 2)),
        np.random.default_rng([0, 1]).standard_normal((3000, 2)),
    ]
    for draws in (portrait._draws_train[0], portrait._draws_test, portrait._certified[0]):
        mean, variance = portrait.train_canonical.q.rows(draws.row)
        noise.append((draws.z - mean) / np.sqrt(variance))
    table = np.corrcoef(np.stack([n.ravel() for n in noise]))
    assert np.abs(table - np.eye(5)).max() < 5 / np.sqrt(6000)


def test_skewness_by_slabs_is_that_of_the_whole_tensor(monkeypatch):
    r = rng(9)
    q = AggregatedPosterior(r.exponential(size=(300, 7)), np.exp(r.normal(-1, 1, (300, 7))))
    whole = mardia_skewness(q)
    monkeypatch.setattr(joint_shape, "SLAB_ELEMENTS", 2 * 49)
    assert mardia_skewness(q) == pytest.approx(whole, rel=1e-12)
    # The tensor itself: E[z_i z_j z_k] of whitened z, from the law of total cumulance.
    moments, covariance = q.moments(), q.covariance()
    whitening = np.linalg.inv(np.linalg.cholesky(covariance))
    w = (q.mean - moments.mean) @ whitening.T
    tensor = np.einsum("ni,nj,nk->ijk", w, w, w) / q.n
    pair = np.einsum("na,ia,ja,nk->ijk", q.variance, whitening, whitening, w, optimize=True) / q.n
    tensor += pair + pair.transpose(0, 2, 1) + pair.transpose(2, 1, 0)
    assert whole == pytest.approx((tensor**2).sum(), rel=1e-10)
    monkeypatch.setattr(joint_shape, "SKEWNESS_WORK", 1e3)
    assert mardia_skewness(q) is None
