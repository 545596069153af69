"""Rows that decide a moment by themselves: an entry of 20 among log-variances of −1.6 makes a variance of 4.9·10⁸.

Second moments have no defence against such a row, and a rescaling by them would be ruinous. Such rows are named, what
they do is told, and they are left out of everything that is advised.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..storage import DataError
from .mixture import AggregatedPosterior
from .other_laws import StreamedPosterior, take_rows
from .splits import Posteriors

# A row's share of a dimension's second moment about the median, over that of the median row: 400 is twenty deviations.
TIMES_MEDIAN = 400.0
# Outliers must make this share of a dimension's variance together, and be at most this share of the rows.
SHARE_OF_VARIANCE = 0.1
SHARE_OF_ROWS = 0.005
FEWEST_ROWS = 50
# Rows from which the medians are taken, and entries that are kept at most.
MEDIAN_ROWS, MOST_ENTRIES = 20_000, 10_000


@dataclass(frozen=True)
class Outlier:
    """One entry: its row and dimension, its mean and variance, and V of the dimension with and without such rows."""

    row: int
    dimension: int
    mean: float
    variance: float
    variance_with: float
    variance_without: float
    half: str = "train"

    def sentence(self) -> str:
        """Where it lies and what it does."""
        row = "Row" if self.half == "train" else "Held-out row"
        return (
            f"{row} {self.row}, dimension {self.dimension} is an outlier (mean {self.mean:.4g}, variance "
            f"{self.variance:.4g}): with it the dimension's variance is {self.variance_with:.4g}, without it "
            f"{self.variance_without:.4g}"
        )


def without_outliers(q: AggregatedPosterior) -> tuple[AggregatedPosterior, np.ndarray, list[Outlier]]:
    """q without the rows that hold outliers, a mask (N,) of the rows that are kept, and the outliers' entries.

    Rows that are streamed from files stay: their outliers are found, and left to the caller.
    """
    found = find_outliers(q)
    kept = np.ones(q.n, dtype=bool)
    if found and not isinstance(q, StreamedPosterior):
        kept[[outlier.row for outlier in found]] = False
        q = take_rows(q, kept)
    return q, kept, found


def refuse_outliers(posteriors: Posteriors) -> None:
    """Raise DataError that names the most extreme outlier of a half, for who cannot leave rows out."""
    for half in ("train", "test"):
        q = getattr(posteriors, half)
        found = [] if q is None else find_outliers(q)
        if found:
            rows = len({outlier.row for outlier in found})
            raise DataError(f"{replace(found[0], half=half).sentence()}; remove {rows} such row(s)")


def find_outliers(q: AggregatedPosterior) -> list[Outlier]:
    """Entries that make a dimension's variance what it is, the most extreme first; one pass over all rows."""
    if q.n < FEWEST_ROWS:
        return []
    some = np.unique(np.linspace(0, q.n - 1, min(q.n, MEDIAN_ROWS)).astype(np.int64))
    mean, variance = (np.asarray(a[some], dtype=np.float64) for a in (q.mean, q.variance))
    centre = np.median(mean, axis=0)
    usual = np.median(np.square(mean - centre) + variance, axis=0)
    # Count, sum of means and of squares about the centre: of all rows, and of those that are far.
    sums = np.zeros((2, 3, q.latent_dim))
    entries: list[tuple[int, int, float, float]] = []
    for start, (mean, variance) in q.blocks(description="outliers"):
        mean -= centre
        square = mean * mean + variance
        far = square > TIMES_MEDIAN * usual
        for part, weight in zip(sums, (np.ones_like(square), far), strict=True):
            part += [weight.sum(axis=0), (weight * mean).sum(axis=0), (weight * square).sum(axis=0)]
        for row, dimension in np.argwhere(far)[:MOST_ENTRIES] if len(entries) < MOST_ENTRIES else ():
            value = float(mean[row, dimension] + centre[dimension]), float(variance[row, dimension])
            entries.append((int(row + start), int(dimension), *value))
    rare = (sums[1, 0] <= max(1.0, SHARE_OF_ROWS * q.n)) & (sums[1, 2] >= SHARE_OF_VARIANCE * sums[0, 2])
    kept = sums[0] - sums[1]
    with_it, without = (
        part[2] / part[0] - np.square(part[1] / part[0]) for part in (sums[0], np.maximum(kept, 1e-300))
    )
    found = [
        Outlier(row, j, mean, variance, float(with_it[j]), float(without[j]))
        for row, j, mean, variance in entries
        if rare[j]
    ]
    extreme = [
        ((entry.mean - centre[entry.dimension]) ** 2 + entry.variance) / usual[entry.dimension] for entry in found
    ]
    return [found[i] for i in np.argsort(extreme, kind="stable")[::-1]]
