"""The chosen sampler: the right candidate where the answer is known, what it says of itself, and its file."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from aggregated_posterior.generation.chosen_sampler import (
    choose_sampler,
    load_sampler,
)
from aggregated_posterior.posterior.mixture import AggregatedPosterior
from aggregated_posterior.posterior.other_laws import Codes
from aggregated_posterior.posterior.outliers import find_outliers, without_outliers
from aggregated_posterior.posterior.splits import Posteriors
from aggregated_posterior.storage import DataError, write_arrays

FEW = {"components": (2, 5), "fit_points": 4000}


def normal_posteriors(n: int, covariance: np.ndarray, spread: float, seed: int, mean: float = 0.0) -> Posteriors:
    """Q(z) = N(mean, covariance) up to the draw of the means: half of the rows train, half held out."""
    rng = np.random.default_rng(seed)
    d = len(covariance)
    means = rng.multivariate_normal(np.full(d, mean), covariance - spread * np.eye(d), 2 * n)
    both = [AggregatedPosterior(part, np.full((n, d), spread)) for part in (means[:n], means[n:])]
    return Posteriors(*both)


def clusters(n: int, seed: int, d: int = 2, noise_dimensions: int = 0) -> Posteriors:
    """Two narrow clusters at ±0.9 in d dimensions at once, and dimensions that say nothing."""
    rng = np.random.default_rng(seed)
    means = np.where(rng.random((2 * n, 1)) < 0.5, 0.9, -0.9) * np.ones((1, d))
    means = np.concatenate([means, np.zeros((2 * n, noise_dimensions))], axis=1)
    variances = np.concatenate([np.full((2 * n, d), 0.19), np.ones((2 * n, noise_dimensions))], axis=1)
    both = [AggregatedPosterior(means[part], variances[part]) for part in (slice(0, n), slice(n, None))]
    return Posteriors(*both)


def test_the_prior_is_kept_where_q_is_the_prior():
    """Twenty populations that are N(0, I): what certifies more than the prior at 95 % errs in at most one or two."""
    kinds = [
        choose_sampler(normal_posteriors(400, np.eye(3), 0.5, seed), components=(2,), fit_points=800, seed=seed).kind
        for seed in range(20)
    ]
    assert kinds.count("prior") >= 18


def test_a_scale_error_is_answered_by_rescaling_and_its_gain_is_the_closed_form():
    sampler = choose_sampler(normal_posteriors(4000, 4 * np.eye(2), 1.0, 1, mean=1.0), **FEW)
    assert sampler.kind == "rescaled prior"
    truth = 2 * 0.5 * (4 + 1 - 1 - np.log(4))  # KL(N(1, 4) ‖ N(0, 1)) in two dimensions
    row = sampler.candidates_.set_index("candidate").loc["rescaled prior"]
    assert abs(row["gain"] - truth) < 4 * row["gain_se"] < 0.5
    np.testing.assert_allclose(sampler.shift, 1, atol=0.1)
    np.testing.assert_allclose(sampler.scale, 0.5, atol=0.02)


def test_correlation_is_answered_by_one_normal_law():
    covariance = np.array([[1, 0.8], [0.8, 1]])
    sampler = choose_sampler(normal_posteriors(4000, covariance, 0.1, 2), **FEW)
    assert sampler.kind == "normal"
    assert sampler.gain_ == pytest.approx(-0.5 * np.log(1 - 0.64), abs=0.05)
    np.testing.assert_allclose(np.cov(sampler.sample(50_000), rowvar=False), covariance, atol=0.05)


def test_clusters_are_answered_by_a_mixture_of_as_many():
    posteriors = clusters(3000, 3)
    sampler = choose_sampler(posteriors, **FEW)
    assert sampler.kind == "mixture of 2, diagonal"
    # KL(Q‖p) of two components at ±0.9·(1, 1): one bit short of KL of one component, but for their overlap.
    q = posteriors.test
    draws = q.sample(20_000, np.random.default_rng(4))
    truth = float((q.log_density(draws) - multivariate_normal(np.zeros(2)).logpdf(draws)).mean())
    assert sampler.gain_ == pytest.approx(truth, abs=0.05)
    z = sampler.sample(20_000)
    assert (z[:, 0] > 0).mean() == pytest.approx(0.5, abs=0.03)
    assert np.corrcoef(z, rowvar=False)[0, 1] == pytest.approx(0.81, abs=0.02)


def test_dimensions_that_say_nothing_are_left_at_the_prior():
    sampler = choose_sampler(clusters(3000, 3, noise_dimensions=3), **FEW)
    assert sampler.active.tolist() == [0, 1] and sampler.latent_dim == 5
    z = sampler.sample(20_000)
    np.testing.assert_allclose(z[:, 2:].std(axis=0), 1, atol=0.03)


def test_a_fixed_recipe_worse_than_the_prior_is_not_chosen():
    """CASES 4: a mixture of ten with full covariances in 32 dimensions loses on 500 rows; fewer parameters win."""
    rng = np.random.default_rng(0)
    centres = 0.8 * rng.standard_normal((4, 32))
    means = centres[rng.integers(0, 4, 1000)] + 0.6 * rng.standard_normal((1000, 32))
    half = [AggregatedPosterior(means[part], np.full((500, 32), 0.05)) for part in (slice(0, 500), slice(500, None))]
    sampler = choose_sampler(Posteriors(*half))
    gain = sampler.candidates_.set_index("candidate")["gain"]
    assert gain["mixture of 10, full"] < gain[sampler.kind]
    assert sampler.gain_ > 6.5 - 0.5, "as good as the best that the case names"
    assert sampler.n_components in (2, 5)


def test_one_outlier_neither_fits_nor_judges():
    """CASES 3: one log-variance of 20 among 1 000 rows of N(0, I) must not lead to draws with σ = 697."""
    rng = np.random.default_rng(0)
    means, variances = np.sqrt(0.8) * rng.standard_normal((1000, 6)), np.full((1000, 6), 0.2)
    variances[17, 2] = np.exp(20.0)
    assert np.flatnonzero(~without_outliers(AggregatedPosterior(means, variances))[1]).tolist() == [17]
    sampler = choose_sampler(Posteriors(AggregatedPosterior(means, variances), None), **FEW)
    assert sampler.kind == "prior" and sampler.about["outliers_left_out"] == 1


def test_copies_and_groups_are_held_out_together_and_certify_nothing():
    """CASES 2: 200 rows of N(0, I₈), twenty times each, and the same as noisy patches of 200 images."""
    rng = np.random.default_rng(0)
    means = np.repeat(0.95 * rng.standard_normal((200, 8)), 20, axis=0)
    copies = AggregatedPosterior(means, np.full((4000, 8), 0.0975))
    sampler = choose_sampler(Posteriors(copies, None), **FEW)
    assert sampler.kind == "prior" and any("repeat another one" in note for note in sampler.about["notes"])
    patches = AggregatedPosterior(means + 0.01 * rng.standard_normal(means.shape), copies.variance)
    grouped = Posteriors(patches, None, groups_train=np.repeat(np.arange(200), 20))
    assert choose_sampler(grouped, **FEW).kind == "prior"
    assert choose_sampler(Posteriors(patches, None), components=(20, 50, 200)).gain_ > 1, "without groups it is fooled"


def test_codes_without_variances_have_samplers_too():
    rng = np.random.default_rng(0)
    codes = Codes(np.where(rng.random((2000, 1)) < 0.5, 3.0, -3.0) + 0.5 * rng.standard_normal((2000, 2)))
    sampler = choose_sampler(Posteriors(codes, None), **FEW)
    assert sampler.n_components == 2
    z = sampler.sample(20_000)
    assert np.corrcoef(z, rowvar=False)[0, 1] == pytest.approx(9 / 9.25, abs=0.01)


def test_many_rows_far_out_are_part_of_q():
    rng = np.random.default_rng(1)
    means = np.where(rng.random((1000, 1)) < 0.05, 5.0, 0.0) + 1e-3 * rng.standard_normal((1000, 1))
    q = AggregatedPosterior(means, np.full((1000, 1), 1e-6))
    assert not find_outliers(q)


def test_nothing_active_and_one_dimension():
    collapsed = Posteriors(AggregatedPosterior(np.zeros((100, 3)), np.ones((100, 3))), None)
    sampler = choose_sampler(collapsed)
    assert sampler.kind == "prior" and len(sampler.candidates_) == 2
    one = choose_sampler(clusters(3000, 5, d=1), **FEW)
    assert one.kind == "mixture of 2, diagonal"


def test_what_is_left_out_says_why():
    table = choose_sampler(normal_posteriors(30, np.eye(2), 0.5, 6)).candidates_.set_index("candidate")
    assert "takes 50 rows" in table.loc["mixture of 5, full", "left_out"]
    assert np.isnan(table.loc["mixture of 5, full", "gain"])
    with pytest.raises(DataError, match="rows"):
        choose_sampler(Posteriors(AggregatedPosterior(np.zeros((5, 2)), np.ones((5, 2))), None))


@pytest.fixture(scope="module")
def mixed():
    """A sampler with everything: shift and scale, an inactive dimension, several components."""
    posteriors = clusters(1500, 7, noise_dimensions=1)
    moved = [
        q.affine(np.array([1.0, -2.0, 0.5]), np.array([2.0, 0.5, 1.5])) for q in (posteriors.train, posteriors.test)
    ]
    return choose_sampler(Posteriors(*moved), **FEW)


def test_the_density_is_that_of_the_draws(mixed):
    """∫ r = 1 by importance sampling from a wide normal law, and E_r[−ln r] from draws equals the same integral."""
    rng = np.random.default_rng(8)
    z = mixed.sample(100_000, seed=1)
    mean, covariance = z.mean(axis=0), 2 * np.cov(z, rowvar=False)
    proposal = multivariate_normal(mean, covariance)
    points = rng.multivariate_normal(mean, covariance, 200_000)
    log_r = mixed.score_samples(points)
    weight = np.exp(log_r - proposal.logpdf(points))
    assert weight.mean() == pytest.approx(1, abs=0.02)
    assert -(weight * log_r).mean() == pytest.approx(-mixed.score_samples(z).mean(), abs=0.05)


def test_draws_repeat_and_longer_ones_begin_with_shorter_ones(mixed):
    short, long = mixed.sample(10, seed=3), mixed.sample(400_000, seed=3)
    np.testing.assert_array_equal(short, long[:10])
    assert not np.array_equal(short, mixed.sample(10, seed=4))
    assert len(np.unique(long[:, 0])) == len(long), "no block repeats another"
    assert [len(block) for block in mixed.blocks(400_000)] == [349525, 50475]
    for bad in ({"n_samples": 0}, {"n_samples": 1, "seed": -1}):
        with pytest.raises(DataError, match="at least"):
            mixed.sample(**bad)


def test_a_saved_sampler_is_the_same_sampler(mixed, tmp_path):
    path = tmp_path / "sampler.safetensors"
    mixed.save(path)
    again = load_sampler(path)
    np.testing.assert_array_equal(again.sample(100, seed=5), mixed.sample(100, seed=5))
    z = mixed.sample(50)
    np.testing.assert_array_equal(again.score_samples(z), mixed.score_samples(z))
    assert again.kind == mixed.kind and again.gain_ == pytest.approx(mixed.gain_) and again.about == mixed.about
    mixed.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()
    prior = choose_sampler(Posteriors(AggregatedPosterior(np.zeros((100, 3)), np.ones((100, 3))), None))
    prior.save(path)
    np.testing.assert_array_equal(load_sampler(path).sample(7), prior.sample(7))


def test_files_that_are_no_sampler_are_refused(mixed, tmp_path):
    path = tmp_path / "a.safetensors"
    write_arrays(path, {"z": np.zeros(3)})
    with pytest.raises(DataError, match="is no sampler"):
        load_sampler(path)
    metadata = {"format": "aggregated-posterior sampler 1", "kind": "prior"}
    arrays = {name: getattr(mixed, name) for name in ("weights", "means", "factors", "active", "shift", "scale")}
    write_arrays(path, {name: array for name, array in arrays.items() if name != "means"}, metadata)
    with pytest.raises(DataError, match="lacks 'means'"):
        load_sampler(path)
    for name, bad in (("active", np.array([0, 9])), ("scale", -mixed.scale), ("weights", 2 * mixed.weights)):
        write_arrays(path, arrays | {name: bad}, metadata)
        with pytest.raises(DataError, match="do not fit together"):
            load_sampler(path)


def test_codes_of_another_shape_are_refused(mixed):
    with pytest.raises(DataError, match="expected finite"):
        mixed.score_samples(np.zeros((3, 2)))


def test_weights_that_were_rounded_on_their_way_are_shares_again(mixed, tmp_path):
    path = tmp_path / "a.safetensors"
    replace(mixed, weights=mixed.weights * 1.0000005).save(path)
    loaded = load_sampler(path)
    assert loaded.weights.sum() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(loaded.sample(50), mixed.sample(50), rtol=1e-5, atol=1e-5)
