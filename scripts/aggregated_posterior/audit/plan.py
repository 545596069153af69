"""What an audit will do at a given size, what it leaves out, and how long it takes; decided before the work begins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..posterior.mixture import AggregatedPosterior
from ..posterior.other_laws import Codes, FullCovariance, StreamedPosterior
from ..posterior.splits import Posteriors
from ..statistics.joint_shape import PAIR_NUMBERS, PAIR_ROWS, SKEWNESS_WORK
from ..text import duration

# Numbers (rows × dimensions) that marginals and the joint law look at; more rows are drawn at random.
NUMBERS = 40_000_000
JOINT_ROWS = 200_000
# Beyond this many pairs (points × rows × dimensions), ln Q is evaluated at fewer points, so that long inputs end.
DENSITY_WORK = 16_000_000_000
FEWEST_POINTS = 200
# Dimensions up to which there is a joint law at all: its covariance has d² numbers.
JOINT_DIMENSIONS = 4096
# Seconds on one core of 2024, from the measurements in docs/audit.md. In all, for libraries to load; per row: copies in
# another precision. Per number: moments, outliers and repeats; preparing marginals. Per dimension: distances of a
# marginal, and for narrow posteriors per panel, and per panel and octave of widths (within a factor of about 2). Then
# per number and point of ln Q, per number that mixtures are fitted to, per pair of rows and dimension, per
# multiplication.
SECONDS_START, SECONDS_COPIES = 0.25, 6e-6
SECONDS_MOMENTS, SECONDS_MARGINALS, SECONDS_DIMENSION, SECONDS_PANEL, SECONDS_OCTAVE = 3e-8, 2e-7, 3e-3, 3e-5, 4e-6
SECONDS_DENSITY, SECONDS_FITS, SECONDS_PAIRS, SECONDS_PRODUCTS = 3e-10, 1.3e-6, 1e-8, 3.5e-11
# Rows at which the widths of the posteriors are looked at beforehand, and panels that each row can need.
PROBED, PANELS_PER_ROW = 1000, 8


@dataclass(frozen=True)
class Plan:
    """What is done with the rows of one file.

    marginal_rows, joint_rows: how many rows those parts look at, at most. points: draws where ln Q is evaluated.
    joint, bracket, skewness: whether there is a joint law, ln Q of it, and Mardia's skewness. left_out: sentences, each
    with its reason. seconds: an estimate for one core.
    """

    rows: int
    latent_dim: int
    marginal_rows: int
    joint_rows: int
    points: int
    joint: bool
    bracket: bool
    skewness: bool
    left_out: list[str]
    seconds: float

    def sentence(self) -> str:
        """What will be done and how long it will take, in one line."""
        parts = [f"moments of all {self.rows:,} rows in {self.latent_dim:,} dimensions"]
        parts.append("marginals" + (f" of {self.marginal_rows:,} rows" if self.marginal_rows < self.rows else ""))
        if self.joint:
            rows = f" of {self.joint_rows:,} rows" if self.joint_rows < self.rows else ""
            at = f", ln Q at {self.points:,} points" if self.bracket else ""
            parts.append(f"the joint law{rows}{at}")
        return f"{', '.join(parts)}; about {duration(self.seconds)} on one core"


def plan_audit(posteriors: Posteriors, points: int = 1000, fit_points: int = 10_000) -> Plan:
    """Decide from the size of the train half, and from the kind of its posteriors."""
    q = posteriors.train
    n, d = q.n, q.latent_dim
    left_out = []
    marginal_rows = min(n, max(2000, NUMBERS // d))
    if marginal_rows < n:
        left_out.append(
            f"marginals (KL, KS, W1, W2, TV per dimension) of {marginal_rows:,} rows drawn at random, not all {n:,}; "
            "moments, KL and their errors are of all rows"
        )
    joint = d <= JOINT_DIMENSIONS
    if not joint:
        left_out.append(
            f"no joint law in {d:,} dimensions: a covariance of {d:,}² numbers tells nothing that {n:,} rows could "
            "bear out; for spatial latents say --layout channel"
        )
    joint_rows = min(n, JOINT_ROWS, max(2000, NUMBERS // d))
    if joint and joint_rows < n:
        left_out.append(
            f"the joint law (dependence, certified bounds) of {joint_rows:,} rows drawn at random, not of all {n:,}"
        )
    bracket = joint and not isinstance(q, Codes | FullCovariance)
    if joint and not bracket:
        kind = "codes without variances" if isinstance(q, Codes) else "posteriors with full covariances"
        left_out.append(f"ln Q, and with it mutual information and the upper end of the dependence: not for {kind}")
    if isinstance(q, Codes):
        left_out.append("mean KL, and KL and total variation per dimension: the law of codes has no density")
    points = int(np.clip(DENSITY_WORK // (joint_rows * d), min(FEWEST_POINTS, points), points))
    skewness = joint and joint_rows * float(d) ** 3 / 3 <= SKEWNESS_WORK
    if joint and not skewness:
        left_out.append(f"Mardia's skewness: {d:,}³ third moments")
    seconds = SECONDS_START + SECONDS_MOMENTS * n * d * 3
    seconds += SECONDS_COPIES * (joint_rows if isinstance(q, StreamedPosterior) else n)
    prepared = marginal_rows + (joint_rows if bracket else 0)
    seconds += SECONDS_MARGINALS * prepared * d
    seconds += SECONDS_DIMENSION * d + _panel_seconds(q, marginal_rows)
    if joint:
        seconds += SECONDS_DENSITY * 2 * points * joint_rows * d * bracket
        pairs = min(joint_rows, PAIR_ROWS) ** 2 * d
        seconds += SECONDS_FITS * min(fit_points * d, 4e6) + SECONDS_PAIRS * min(pairs, PAIR_NUMBERS)
        seconds += SECONDS_PRODUCTS * joint_rows * float(d) ** 2 * (d / 3 if skewness else 4)
    return Plan(n, d, marginal_rows, joint_rows, points, joint, bracket, skewness, left_out, seconds)


def _panel_seconds(q: AggregatedPosterior, rows: int) -> float:
    """What the panels take on which the distances of all marginals are summed: many, where posteriors are narrow.

    Of a dimension's narrowest posteriors, any share of the rows takes about as many panels as the widest of that share
    fits into the spread of the means, and no more than that share of the rows can need.
    """
    if isinstance(q, Codes):
        return 0.0
    some = np.unique(np.linspace(0, q.n - 1, min(q.n, PROBED)).astype(np.int64))
    mean, variance = (np.asarray(a[some], dtype=np.float64) for a in (q.mean, q.variance))
    ascending = np.sort(np.where(variance > 0, variance, 1.0), axis=0)
    needed = PANELS_PER_ROW * rows * np.arange(1, len(some) + 1)[:, None] / len(some)
    with np.errstate(invalid="ignore", over="ignore"):  # a mapped file is examined later
        panels = np.minimum(mean.std(axis=0) / np.sqrt(ascending), needed).max(axis=0)
        octaves = 1 + (np.diff(np.frexp(ascending)[1], axis=0) > 0).sum(axis=0)
        seconds = panels * (SECONDS_PANEL + SECONDS_OCTAVE * octaves)
        return float(np.nan_to_num(seconds, posinf=0.0).sum())
