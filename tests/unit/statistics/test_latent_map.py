"""ln Q on a grid by one matrix product, against the general form at every point."""

import numpy as np
import pytest

from aggregated_posterior.posterior.mixture import AggregatedPosterior
from aggregated_posterior.statistics import latent_map
from aggregated_posterior.statistics.latent_map import log_density_on_grid


def general(q, axis):
    z = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    return q.log_density(z).reshape(len(axis), -1)


@pytest.mark.parametrize("narrow", [0.5, 1e-2, 1e-4, 1e-8])
@pytest.mark.parametrize("n", [1, 3, 5000])
def test_grid_is_the_general_form(narrow, n):
    """Wide posteriors, and needles far from most points of the grid, of unequal widths and in several blocks."""
    rng = np.random.default_rng(n)
    mean = rng.standard_normal((n, 2)) * [1, 0.3] + [0, 2]
    q = AggregatedPosterior(mean, narrow * np.exp(rng.standard_normal((n, 2))))
    axis = np.linspace(-4, 4, 31)
    found = log_density_on_grid(q, axis)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, general(q, axis), rtol=1e-10, atol=1e-9)


def test_one_normal_law_is_its_formula():
    axis = np.array([-1.0, 0.5, 3.0])
    q = AggregatedPosterior(np.array([[0.2, -0.1]]), np.array([[0.5, 2.0]]))
    x, y = np.meshgrid(axis, axis, indexing="ij")
    expected = -0.5 * ((x - 0.2) ** 2 / 0.5 + (y + 0.1) ** 2 / 2) - np.log(2 * np.pi * np.sqrt(0.5 * 2))
    np.testing.assert_allclose(log_density_on_grid(q, axis), expected, rtol=1e-13)


def test_sums_that_underflow_take_the_general_form(monkeypatch):
    """Needles on a diagonal: a point off it is far from every component, whatever its rows' largest factors say."""
    at = np.linspace(-3, 3, 7)
    q = AggregatedPosterior(np.stack([at, at], axis=1), np.full((7, 2), 5e-4))
    asked = []
    monkeypatch.setattr(q, "log_density", lambda z, of=q.log_density: asked.append(len(z)) or of(z))
    found = latent_map.log_density_on_grid(q, at)
    # On the diagonal, and nowhere else, both factors are largest for one component.
    assert asked == [7 * 7 - 7]
    monkeypatch.undo()
    np.testing.assert_allclose(found, general(q, at), rtol=1e-12)
