"""The best law to draw a model's latent codes from, chosen on held-out rows, as an object and as a file without code.

Candidates, from the simplest: the prior N(0, I); the same rescaled to Q's own mean and variance per dimension (one
normal law with a diagonal covariance); one normal law with Q's full covariance; mixtures of K normal laws, diagonal or
full. Each is judged by what it gains over the prior on rows that it was not fitted to,

    gain(r) = E_{z ~ Q_test}[ln r(z) − ln p(z)]   nats per code,

which is a lower bound of KL(Q_population ‖ p) for every normalised density r, and larger for a better one. Laws other
than the prior live in canonical coordinates (z − shift)·scale, and only in the dimensions that are active there: the
others are N(0, 1) in them to within their own mean KL.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..posterior.exchangeable import split_groups
from ..posterior.gauge import Canonical, canonical_form
from ..posterior.mixture import AggregatedPosterior, normal_log_pdf
from ..posterior.other_laws import Codes, FullCovariance, StreamedPosterior, take_rows
from ..posterior.splits import FEWEST_ROWS, Posteriors, active_dimensions
from ..statistics.clusters import GroupedMean, grouped_mean
from ..statistics.divergence import Draws, balanced_draws
from ..statistics.fitted_mixture import NormalMixture, fit_normal_mixture
from ..storage import DataError, read_arrays, write_arrays
from ..streams import stream

FORMAT = "aggregated-posterior sampler 1"
PRIOR, RESCALED, NORMAL = "prior", "rescaled prior", "normal"
COMPONENTS = (2, 5, 10, 20, 50, 100, 200)
ACTIVE_THRESHOLD = 0.05
# Of codes without variances: variance of a dimension that is fitted (Burda et al. 2016).
ACTIVE_VARIANCE = 0.01
# Rows of one half that are looked at.
LARGEST_ROWS = 200_000
# Draws of Q that a mixture is fitted to, and the fewest held-out draws that judge it.
FIT_POINTS = 40_000
TEST_POINTS = 10_000
# Numbers in one set of draws: fewer draws than the above in very many dimensions, 400 MB in all cases.
LARGEST_DRAWS = 5e7
# Mixtures of so few components have several starts: with few, a start that merges two clusters is not made good.
FEW = 20
# A component of a mixture needs rows of its own.
ROWS_PER_COMPONENT = 10
# Multiplications of one E-step, points · K · a² (full) or · a (diagonal), and numbers in the covariances: beyond these
# a candidate is left out, because it would take minutes or gigabytes.
LARGEST_STEP = 5e10
LARGEST_COVARIANCES = 5e7
# Sizes of mixture in a row that may fail to improve before larger ones are given up.
PATIENCE = 2
# One-sided 95 %: what beats the prior must do so by this many standard errors.
ONE_SIDED = 1.6448536269514722
# A row is an outlier where, in some dimension, (μ − median)² + s is this many times the median over the rows, and at
# most one row in a thousand (or one in all) is.
OUTLIER = 100.0**2
OUTLIER_SHARE = 1e-3
# Numbers in one block of draws; fixed, because the blocks' streams decide what is drawn.
BLOCK_NUMBERS = 2**20


@dataclass(frozen=True, eq=False)
class FittedSampler:
    """A law of latent codes in the coordinates of the user's own decoder: a mixture of normal laws after an affine map.

        z = shift + u / scale,   u_active ~ Σ_k w_k N(m_k, L_k L_kᵀ),   u_elsewhere ~ N(0, 1)

    weights (K,), means (K, a); factors (K, a, a) lower Cholesky factors, or (K, a) standard deviations where the
    covariances are diagonal; active (a,) indices of dimensions; shift (d,), scale (d,). The prior is K = 1 and a = 0.
    `kind` names the law; `candidates_` is the table that it was chosen from; `about` says from which rows.
    """

    kind: str
    weights: np.ndarray
    means: np.ndarray
    factors: np.ndarray
    active: np.ndarray
    shift: np.ndarray
    scale: np.ndarray
    candidates_: pd.DataFrame = field(default_factory=pd.DataFrame)
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def latent_dim(self) -> int:
        """Number of latent dimensions d."""
        return len(self.shift)

    @property
    def n_components(self) -> int:
        """K."""
        return len(self.weights)

    @property
    def gain_(self) -> float:
        """Held-out log-density minus the prior's, nats per code."""
        chosen = self.candidates_["candidate"] == self.kind
        return float(self.candidates_.loc[chosen, "gain"].iloc[0])

    def sample(self, n_samples: int = 1, *, seed: int = 0) -> np.ndarray:
        """Draw codes, (n_samples, d) float64, for the user's own decoder.

        Args:
            n_samples: How many. A larger number begins with the same rows as a smaller one.
            seed: The same seed gives the same codes.

        Raises:
            DataError: `n_samples` is below 1 or the seed is negative.
        """
        return np.concatenate(list(self.blocks(n_samples, seed=seed)))

    def blocks(self, n_samples: int, *, seed: int = 0) -> Iterator[np.ndarray]:
        """The rows of `sample` in blocks, for numbers of codes that do not fit in memory."""
        if n_samples < 1 or seed < 0:
            raise DataError(f"n_samples is {n_samples} and seed is {seed}: expected at least 1 and at least 0")
        rows = max(1, BLOCK_NUMBERS // self.latent_dim)
        for start in range(0, n_samples, rows):
            rng = stream(seed, "chosen sampler", "block", start // rows)
            u = rng.standard_normal((rows, self.latent_dim))
            if len(self.active):
                u[:, self.active] = self._mixture.sample(rows, rng)
            yield (self.shift + u / self.scale)[: n_samples - start]

    def score_samples(self, z: np.ndarray) -> np.ndarray:
        """ln of the density at codes z (M, d), in nats, (M,).

        Raises:
            DataError: z is not (M, d) or not finite.
        """
        z = np.asarray(z, dtype=np.float64)
        if z.ndim != 2 or z.shape[1] != self.latent_dim or not np.isfinite(z).all():
            raise DataError(f"codes have shape {z.shape}: expected finite (M, {self.latent_dim})")
        u = (z - self.shift) * self.scale
        value = normal_log_pdf(np.delete(u, self.active, axis=1)) + np.log(self.scale).sum()
        return value + self._mixture.score_samples(u[:, self.active]) if len(self.active) else value

    @property
    def _mixture(self) -> NormalMixture:
        return NormalMixture(self.weights, self.means, self.factors)

    def save(self, path: str | Path) -> None:
        """Write a safetensors file: numbers only, no code. `docs/your-vae.md` reads it with ten lines of NumPy."""
        names = ("weights", "means", "factors", "active", "shift", "scale")
        arrays = {name: np.asarray(getattr(self, name)) for name in names}
        table = self.candidates_.to_dict("records")
        write_arrays(path, arrays, {"format": FORMAT, "kind": self.kind, "candidates": table, "about": self.about})

    def __repr__(self) -> str:
        return f"FittedSampler({self.kind}, latent_dim={self.latent_dim}, active={len(self.active)})"


def load_sampler(path: str | Path) -> FittedSampler:
    """Read a file that `FittedSampler.save` wrote.

    Raises:
        DataError: It cannot be read, is no such file, or its arrays do not fit together.
    """
    arrays, metadata = read_arrays(path)
    if metadata.get("format") != FORMAT:
        raise DataError(f"{path}: is no sampler (its header does not say {FORMAT!r}); make one with `fit`")
    try:
        sampler = FittedSampler(
            kind=str(metadata["kind"]),
            active=arrays["active"].astype(np.int64),
            **{name: arrays[name].astype(np.float64) for name in ("weights", "means", "factors", "shift", "scale")},
            candidates_=pd.DataFrame(metadata.get("candidates", [])),
            about=dict(metadata.get("about", {})),
        )
    except KeyError as error:
        raise DataError(f"{path}: lacks {error}; make it again with `fit`") from None
    k, a, d = len(sampler.weights), len(sampler.active), sampler.latent_dim
    fits = (
        sampler.means.shape == (k, a)
        and sampler.factors.shape in ((k, a), (k, a, a))
        and sampler.shift.shape == sampler.scale.shape == (d,)
        and all(np.isfinite(array).all() for array in arrays.values())
        and d > 0
        and (sampler.scale > 0).all()
        and (sampler.weights >= 0).all()
        and abs(sampler.weights.sum() - 1) < 1e-6
        and len(set(sampler.active.tolist()) & set(range(d))) == a
    )
    if not fits:
        raise DataError(f"{path}: its arrays do not fit together; make it again with `fit`")
    return sampler


# ------------------------------------------------------------------------------------------------------- choosing


def choose_sampler(
    posteriors: Posteriors,
    *,
    active_threshold: float = ACTIVE_THRESHOLD,
    components: tuple[int, ...] = COMPONENTS,
    fit_points: int = FIT_POINTS,
    seed: int = 0,
    progress: Callable[[str], None] = lambda stage: None,
) -> FittedSampler:
    """The best of the candidates by held-out log-density, the simplest of those that are as good.

    As good means: behind the best one by no more than one standard error of the paired difference. What is chosen in
    place of the prior must also beat it by 1.645 standard errors. Groups of rows, and rows that repeat, are held out
    together and count once in every error. Without a held-out half a fifth is held out, and the sampler stays the one
    that these rows judged.

    Args:
        posteriors: Train posteriors, with or without a held-out half.
        active_threshold: Mean KL in canonical form above which a dimension is fitted, nats.
        components: Numbers of components to try, growing.
        fit_points: Draws of Q that the mixtures are fitted to.
        seed: Of every draw.
        progress: Called with each candidate's name as it is fitted.

    Raises:
        DataError: Fewer than ten rows, so that none can be held out.
    """
    split, notes = split_groups(_in_memory(posteriors, seed), seed)
    if split.test is None:
        raise DataError(f"mean: held-out rows: {split.source}; a sampler is chosen on held-out rows")
    usual, usual_test = ~outlier_rows(split.train), ~outlier_rows(split.test)
    train, test, groups = (
        take_rows(split.train, usual), take_rows(split.test, usual_test), split.groups_test[usual_test]
    )  # fmt: skip
    canonical = canonical_form(train)
    active = np.flatnonzero(
        train.moments().variance_of_means > ACTIVE_VARIANCE
        if isinstance(train, Codes)
        else active_dimensions(train.kl() - canonical.slack, active_threshold)
    )
    d, none = train.latent_dim, np.empty(0, dtype=np.int64)
    most = max(2 * FEWEST_ROWS, int(LARGEST_DRAWS // d))
    test_points = min(most, max(TEST_POINTS, min(test.n, FIT_POINTS)))
    judge = _Judge(balanced_draws(test, test_points, stream(seed, "sampler", "judge")), groups)
    prior = _law(PRIOR, Canonical(np.zeros(d), np.ones(d), np.zeros(d)), none)
    fitted = {PRIOR: prior, RESCALED: _law(RESCALED, canonical, none)}
    rows = [judge.row(fitted[PRIOR], "", 1, 0), judge.row(fitted[RESCALED], "diagonal", 1, 2 * d)]
    a = len(active)
    if a > 1:
        progress(NORMAL)
        if a * a > LARGEST_COVARIANCES:
            rows.append(_left_out(NORMAL, "full", 1, f"{a} active dimensions have too large a covariance"))
        else:
            fitted[NORMAL] = _law(NORMAL, canonical, active, _normal(train, canonical, active))
            rows.append(judge.row(fitted[NORMAL], "full", 1, 2 * d + a * (a - 1) // 2))
    if a:
        draws = balanced_draws(train, min(fit_points, most), stream(seed, "sampler", "fit"))
        points = canonical.apply(draws.z)[:, active]
        for covariance in ("diagonal", "full") if a > 1 else ("diagonal",):
            series = _mixtures(points, train.n, components, covariance, seed, progress, judge, canonical, active)
            for name, k, law in series:
                if isinstance(law, str):
                    rows.append(_left_out(name, covariance, k, law))
                    continue
                fitted[name] = law
                size = a if covariance == "diagonal" else a * (a + 1) // 2
                rows.append(judge.row(law, covariance, k, 2 * d + k * (1 + a + size) - 1))
    table = pd.DataFrame(rows)
    kind = _simplest_of_the_best(table, judge)
    table["chosen"] = table["candidate"] == kind
    about = {
        "rows_fitted": train.n,
        "rows_held_out": test.n,
        "held_out": split.source,
        "notes": notes,
        "outliers_left_out": int((~usual).sum() + (~usual_test).sum()),
        "active_threshold": active_threshold,
        "seed": seed,
    }
    return replace(fitted[kind], candidates_=table, about=about)


def outlier_rows(q: AggregatedPosterior) -> np.ndarray:
    """Mask (N,) of the few rows whose posterior lies, in some dimension, a hundred times farther out than is usual.

    One such row decides the variance of its dimension, and so everything that is fitted to it, while it stands for one
    code in N. Where more than one row in a thousand is so, they are no outliers but part of Q, and none is marked.
    """
    step = max(1, q.n // 10_000)
    centre = np.median(np.asarray(q.mean[::step], dtype=np.float64), axis=0)
    usual = np.median((q.mean[::step] - centre) ** 2 + q.variance[::step], axis=0)
    far = np.empty(q.n, dtype=bool)
    for start, (mean, variance) in q.blocks():
        far[start : start + len(mean)] = ((mean - centre) ** 2 + variance > OUTLIER * usual).any(axis=1)
    return far if far.sum() <= max(1, OUTLIER_SHARE * q.n) else np.zeros(q.n, dtype=bool)


def _in_memory(posteriors: Posteriors, seed: int) -> Posteriors:
    """At most LARGEST_ROWS rows of each half, drawn at random: more would not change what is chosen."""
    changes: dict[str, Any] = {}
    for half in ("train", "test"):
        q = getattr(posteriors, half)
        if q is None or (q.n <= LARGEST_ROWS and not isinstance(q, StreamedPosterior)):
            continue
        number = min(q.n, LARGEST_ROWS)
        index = np.sort(stream(seed, "sampler", "rows", half).choice(q.n, number, replace=False, shuffle=False))
        changes[half] = take_rows(q, index)
        for what in ("labels", "groups"):
            values = getattr(posteriors, f"{what}_{half}")
            changes[f"{what}_{half}"] = None if values is None else values[index]
    return replace(posteriors, **changes) if changes else posteriors


class _Judge:
    """Held-out draws with the groups of their rows, and the gain of every candidate at each of them."""

    def __init__(self, draws: Draws, groups: np.ndarray) -> None:
        self.draws, self.groups = draws, groups[draws.row]
        self.prior = normal_log_pdf(draws.z)
        self.gains: dict[str, np.ndarray] = {}

    def gain(self, law: FittedSampler) -> GroupedMean:
        """Mean over draws of ln r − ln p, with the error over groups of rows."""
        if law.kind not in self.gains:
            self.gains[law.kind] = law.score_samples(self.draws.z) - self.prior
        return grouped_mean(self.gains[law.kind], self.groups)

    def row(self, law: FittedSampler, covariance: str, k: int, parameters: int) -> dict[str, Any]:
        """One row of the table of candidates."""
        gain = self.gain(law)
        return {
            "candidate": law.kind, "covariance": covariance, "n_components": k, "parameters": parameters,
            "gain": gain.value, "gain_se": gain.se, "left_out": "",
        }  # fmt: skip

    def behind(self, kind: str, best: str) -> GroupedMean:
        """How far a candidate lies behind another, paired over the same draws."""
        return grouped_mean(self.gains[best] - self.gains[kind], self.groups)


def _left_out(name: str, covariance: str, k: int, reason: str) -> dict[str, Any]:
    return {
        "candidate": name, "covariance": covariance, "n_components": k, "parameters": np.nan, "gain": np.nan,
        "gain_se": np.nan, "left_out": reason,
    }  # fmt: skip


def _simplest_of_the_best(table: pd.DataFrame, judge: _Judge) -> str:
    tried = table[table["left_out"] == ""].sort_values("parameters", kind="stable")
    best = tried.loc[tried["gain"].idxmax(), "candidate"]
    if best == PRIOR:
        return PRIOR
    for row in tried.to_dict("records"):
        behind = judge.behind(row["candidate"], best)
        beats = row["candidate"] == PRIOR or row["gain"] > ONE_SIDED * np.nan_to_num(row["gain_se"])
        if beats and behind.value <= np.nan_to_num(behind.se):
            return row["candidate"]
    return PRIOR


def _law(kind: str, canonical: Canonical, active: np.ndarray, mixture: NormalMixture | None = None) -> FittedSampler:
    if mixture is None:
        return FittedSampler(
            kind, np.ones(1), np.zeros((1, 0)), np.zeros((1, 0)), active, canonical.shift, canonical.scale
        )
    parts = (mixture.weights, mixture.means, mixture.factors)
    return FittedSampler(kind, *parts, active, canonical.shift, canonical.scale)


def _normal(q: AggregatedPosterior, canonical: Canonical, active: np.ndarray) -> NormalMixture:
    """The normal law with the exact covariance of Q in the active dimensions, in canonical coordinates."""
    scale = canonical.scale[active]
    # A full covariance per row has no marginal form to select; its whole covariance has.
    whole = isinstance(q, FullCovariance | Codes)
    covariance = q.covariance()[np.ix_(active, active)] if whole else q.select(active).covariance()
    covariance = covariance * scale * scale[:, None]
    return NormalMixture(np.ones(1), np.zeros((1, len(active))), np.linalg.cholesky(covariance)[None])


def _mixtures(
    points: np.ndarray, rows: int, components: tuple[int, ...], covariance: str, seed: int,
    progress: Callable[[str], None], judge: _Judge, canonical: Canonical, active: np.ndarray,
) -> Iterator[tuple[str, int, FittedSampler | str]]:  # fmt: skip
    """Yield (name, K, law, or why there is none) for growing K, until it no longer helps."""
    a = points.shape[1]
    width = a if covariance == "diagonal" else a * a
    best, failures = -np.inf, 0
    for k in components:
        name = f"mixture of {k}, {covariance}"
        if k * ROWS_PER_COMPONENT > rows:
            yield name, k, f"takes {k * ROWS_PER_COMPONENT:,} rows to fit"
        elif len(points) * k * width > LARGEST_STEP or k * width > LARGEST_COVARIANCES:
            yield name, k, f"too large in {a} active dimensions"
        elif failures == PATIENCE:
            yield name, k, f"{PATIENCE} smaller ones in a row were no better"
        else:
            progress(name)
            rng = stream(seed, "sampler", covariance, k)
            # Whether EM has converged matters less here than elsewhere: held-out rows judge what it came to.
            mixture = fit_normal_mixture(
                points, k, rng, "diag" if covariance == "diagonal" else "full",
                iterations=60, smallest_gain=2e-3, starts=3 if k <= FEW else 1, must_converge=False,
            )  # fmt: skip
            law = _law(name, canonical, active, mixture)
            gain = judge.gain(law).value
            failures = 0 if gain > best else failures + 1
            best = max(best, gain)
            yield name, k, law
