"""Two latent dimensions at a time: the density of Q(z_i, z_j) on a grid, and the pair that is most dependent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..posterior.mixture import AggregatedPosterior
from ..posterior.other_laws import FullCovariance

# Canonical coordinates from −REACH to REACH in cells of STEP; posteriors narrower than a cell are drawn as wide as one.
REACH, STEP = 4.5, 0.125
# Rows looked at, and dimensions among which a pair is searched.
ROWS, DIMENSIONS = 5000, 16


@dataclass(frozen=True)
class Pair:
    """Dimensions i and j: `joint` (G, G) density over `grid` (G,), first axis z_i; `nats` their mutual information."""

    i: int
    j: int
    grid: np.ndarray
    joint: np.ndarray
    nats: float

    @property
    def product(self) -> np.ndarray:
        """The density that the same two marginals have without dependence, (G, G)."""
        return np.outer(self.joint.sum(axis=1), self.joint.sum(axis=0)) * STEP**2


def most_dependent_pair(q: AggregatedPosterior, shift: np.ndarray, scale: np.ndarray, among: np.ndarray) -> Pair | None:
    """The pair of dimensions with most mutual information I = Σ p ln(p / (p_i p_j)), evaluated on the grid.

    The rows of each pair's table are the exact mixture, not draws, so a pair of many rows needs no smoothing. For few
    rows under narrow posteriors I is too large, as every in-sample information is, and for all pairs alike.

    Args:
        q: Q(z) in raw coordinates.
        shift, scale: (d,), of the canonical form.
        among: Indices of dimensions, most important first; the first sixteen are looked at.

    Returns:
        The pair, or None where there are fewer than two dimensions, or where posteriors have full covariances: their
        diagonals alone, which the tables are made of, are another joint law.
    """
    among = np.sort(np.asarray(among)[:DIMENSIONS])
    if len(among) < 2 or isinstance(q, FullCovariance):
        return None
    rows = np.arange(0, q.n, -(-q.n // ROWS))
    mean = (np.asarray(q.mean[rows][:, among], dtype=np.float64) - shift[among]) * scale[among]
    deviation = np.sqrt(np.asarray(q.variance[rows][:, among], dtype=np.float64)) * scale[among]
    grid = np.linspace(-REACH, REACH, round(2 * REACH / STEP) + 1)
    table = np.exp(-0.5 * ((grid - mean[..., None]) / np.maximum(deviation, STEP)[..., None]) ** 2)
    # Each row's mass on the grid is 1, also where its code lies beyond the edge.
    table /= np.maximum(table.sum(axis=2, keepdims=True), 1e-300)
    n, m, g = table.shape
    flat = table.reshape(n, m * g)
    joint = (flat.T @ flat / n).reshape(m, g, m, g).transpose(0, 2, 1, 3)
    information = np.array([[_information(joint[a, b]) if a < b else -1.0 for b in range(m)] for a in range(m)])
    a, b = np.unravel_index(information.argmax(), information.shape)
    return Pair(int(among[a]), int(among[b]), grid, joint[a, b] / STEP**2, float(information[a, b]))


def _information(table: np.ndarray) -> float:
    """Mutual information of a table of probabilities, nats."""
    product = np.outer(table.sum(axis=1), table.sum(axis=0))
    inside = (table > 0) & (product > 0)
    return float((table[inside] * np.log(table[inside] / product[inside])).sum())
