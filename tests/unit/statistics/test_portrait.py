"""The portrait of Q(z): every part computed once, and the canonical form by closed form where there is one."""

from dataclasses import fields

import numpy as np
import pytest

from aggregated_posterior.posterior.gauge import canonicalise
from aggregated_posterior.posterior.mixture import AggregatedPosterior
from aggregated_posterior.posterior.splits import Posteriors, active_by_other_customs
from aggregated_posterior.statistics import portrait as module
from aggregated_posterior.statistics.marginals import Marginals
from aggregated_posterior.statistics.portrait import Portrait
from aggregated_posterior.statistics.portrait_tables import marginals_table, moments_table
from aggregated_posterior.statistics.uncertainty import kurtosis_se_blocks, kurtosis_se_rows

SMALL = {"points": 200, "gmm_components": 2, "fit_points": 500}


def posterior(n: int, seed: int) -> AggregatedPosterior:
    r = np.random.default_rng(seed)
    mean = r.exponential(size=(n, 3)) * [1, 0.5, 0.01] + [3, -1, 0]
    return AggregatedPosterior(mean, np.exp(r.normal([-2, -1, 0], [0.5, 0.2, 0.01], (n, 3))))


@pytest.fixture
def posteriors() -> Posteriors:
    return Posteriors(posterior(600, 0), posterior(250, 1))


def larger_error(q: AggregatedPosterior, groups: np.ndarray | None = None) -> np.ndarray:
    return np.fmax(kurtosis_se_rows(q), kurtosis_se_blocks(q, groups=groups))


def copied(q: AggregatedPosterior, canonical) -> AggregatedPosterior:
    """The canonical form as plain arrays, with nothing shared."""
    view = canonicalise(q, canonical)
    return AggregatedPosterior(view.mean.copy(), view.variance.copy())


def test_the_canonical_form_agrees_with_computing_everything_again(posteriors):
    portrait = Portrait(posteriors, **SMALL)
    for raw, law in ((portrait.train, portrait.train_canonical), (portrait.test, portrait.test_canonical)):
        again = copied(raw.q, portrait.canonical)
        moments = again.moments()
        for field in fields(moments):
            ours, expected = getattr(law.moments, field.name), getattr(moments, field.name)
            np.testing.assert_allclose(ours, expected, rtol=1e-10, atol=1e-12, err_msg=field.name)
        np.testing.assert_allclose(law.kl, again.kl(), rtol=1e-11)
        np.testing.assert_allclose(law.covariance, again.covariance(), rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(law.kurtosis_se, larger_error(again), rtol=1e-9)
        distances, expected = law.distances, Marginals(again).distances()
        for field in fields(distances):
            ours, theirs = getattr(distances, field.name), getattr(expected, field.name)
            np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-10, err_msg=field.name)
        z = np.linspace(-3, 3, 7)
        for name in ("pdf", "cdf"):
            ours, theirs = (getattr(m, name)(z) for m in (law.marginals, Marginals(again)))
            np.testing.assert_allclose(ours, theirs, rtol=1e-10, err_msg=name)
        p = np.array([1e-6, 0.3, 0.9])
        np.testing.assert_allclose(law.marginals.quantile(p), Marginals(again).quantile(p), rtol=1e-9, atol=1e-9)
        points = law.q.sample(5, np.random.default_rng(2))
        np.testing.assert_allclose(law.q.log_density(points), again.log_density(points), rtol=1e-11)
    np.testing.assert_allclose(portrait.train_canonical.moments.mean, 0, atol=1e-12)
    np.testing.assert_allclose(portrait.train_canonical.moments.variance, 1, rtol=1e-12)


def test_the_integral_of_the_distribution_function_moves_with_the_law(posteriors):
    portrait = Portrait(posteriors)
    line = portrait.train_canonical.marginals.lines[0]
    z = np.linspace(-2, 2, 4001)
    values = line.evaluate(z, integral=True)
    np.testing.assert_allclose(np.gradient(values.integral, z)[1:-1], values.cdf[1:-1], atol=1e-6)
    assert line.low < -2 < line.centre < 2 < line.high


def test_nothing_is_computed_twice(posteriors, monkeypatch):
    """Both tables, the joint law and the grain: one fit, one set of marginals a split, each ln Q once."""
    calls = []

    def counted(name, function):
        def call(*arguments, **settings):
            calls.append(name)
            return function(*arguments, **settings)

        return call

    monkeypatch.setattr(AggregatedPosterior, "moments", counted("moments", AggregatedPosterior.moments))
    monkeypatch.setattr(AggregatedPosterior, "covariance", counted("covariance", AggregatedPosterior.covariance))
    monkeypatch.setattr(AggregatedPosterior, "kl", counted("kl", AggregatedPosterior.kl))
    monkeypatch.setattr(AggregatedPosterior, "log_density", counted("ln Q", AggregatedPosterior.log_density))
    monkeypatch.setattr(module, "Marginals", counted("marginals", Marginals))
    monkeypatch.setattr(module, "fit_certifying_mixture", counted("fit", module.fit_certifying_mixture))
    portrait = Portrait(posteriors, **SMALL)
    moments_table(portrait, draws=1000)
    marginals_table(portrait)
    assert len(portrait.joint) == 2
    assert portrait.grain >= 0
    assert portrait.certifying_mixture is portrait.certifying_mixture
    counts = {name: calls.count(name) for name in sorted(set(calls))}
    assert counts == {"covariance": 1, "fit": 1, "kl": 4, "ln Q": 3, "marginals": 2, "moments": 2}


def test_activity_stands_once_and_by_three_customs(posteriors):
    portrait = Portrait(posteriors, active_threshold=0.05)
    assert portrait.active.tolist() == [True, True, False]
    others = active_by_other_customs(portrait.train.moments)
    assert {name: flags.tolist() for name, flags in others.items()} == {
        "active_by_variance": [True, True, False],
        "active_by_noise": [True, True, False],
    }


def test_groups_reach_the_errors_of_their_own_split(posteriors):
    group = np.arange(600) % 30
    portrait = Portrait(posteriors, groups_train=group)
    expected = larger_error(posteriors.train, group)
    np.testing.assert_allclose(portrait.train.kurtosis_se, expected)
    np.testing.assert_array_equal(portrait.train_canonical.kurtosis_se, portrait.train.kurtosis_se)
    np.testing.assert_allclose(portrait.test.kurtosis_se, larger_error(posteriors.test))
    assert (portrait.train.kurtosis_se_blocks != Portrait(posteriors).train.kurtosis_se_blocks).all()


def test_grain_of_narrow_posteriors_is_seen_and_of_wide_ones_is_none():
    def half(n, seed, s):
        return AggregatedPosterior(np.random.default_rng(seed).standard_normal((n, 2)), np.full((n, 2), s))

    narrow = Portrait(Posteriors(half(400, 0, 1e-10), half(100, 1, 1e-10)), points=200)
    wide = Portrait(Posteriors(half(4000, 0, 0.5), half(1000, 1, 0.5)), points=200)
    assert narrow.grain > 10
    assert 0 <= wide.grain < 0.05
    assert Portrait(Posteriors(half(50, 0, 0.5), None)).grain is None


def test_narrow_posteriors_of_unequal_width_share_lattices_and_stay_exact():
    """2000 rows of 16 such dimensions once took 105 s: here is one of them, exact against the plain sum."""
    r = np.random.default_rng(0)
    q = AggregatedPosterior(5 * r.standard_normal((2000, 1)), np.exp(-12 + r.standard_normal((2000, 1))))
    marginals = Marginals(q)
    assert sum(lattice.length for lattice in marginals.lines[0].lattices) < 600_000
    assert len(marginals.lines[0].direct_mean) < 200
    z = np.sort(np.concatenate([q.mean[::40, 0], r.uniform(-10, 10, 200)]))
    t = (z[:, None] - q.mean[:, 0]) / np.sqrt(q.variance[:, 0])
    expected = (np.exp(-0.5 * t**2) / np.sqrt(2 * np.pi * q.variance[:, 0])).mean(axis=1)
    np.testing.assert_allclose(marginals.pdf(z)[:, 0], expected, rtol=1e-10, atol=1e-13 * expected.max())
    # KL(q_j‖N) = ½ E z² + ½ ln 2π − h(q): the entropy by draws.
    kl = marginals.distances().kl[0]
    x = q.sample(200_000, np.random.default_rng(1))
    entropy = -np.log(marginals.pdf(x[:, 0])[:, 0])
    expected = 0.5 * q.moments().second_moment[0] + 0.5 * np.log(2 * np.pi) - entropy.mean()
    assert abs(kl - expected) < 5 * entropy.std() / np.sqrt(len(entropy))
