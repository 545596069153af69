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

from ..posterior.containers import as_array
from ..posterior.exchangeable import split_groups
from ..posterior.gauge import Canonical, canonical_form
from ..posterior.mixture import AggregatedPosterior, normal_log_pdf
from ..posterior.other_laws import Codes, FullCovariance
from ..posterior.outliers import without_outliers
from ..posterior.resolution import refuse_dependent, refuse_unresolved
from ..posterior.splits import (
    ACTIVE_THRESHOLD,
    ACTIVE_VARIANCE_OF_MEANS,
    FEWEST_ROWS,
    Posteriors,
    active_dimensions,
    refuse_settings,
    some_rows,
)
from ..statistics.clusters import GroupedMean, grouped_mean
from ..statistics.divergence import balanced_draws
from ..statistics.fitted_mixture import NormalMixture, fit_normal_mixture
from ..statistics.portrait import Law
from ..storage import DataError, read_arrays, write_arrays
from ..streams import stream
from ..text import reason

FORMAT = "aggregated-posterior sampler 1"
PRIOR, RESCALED, NORMAL = "prior", "rescaled prior", "normal"
COMPONENTS = (2, 5, 10, 20, 50, 100, 200)
# Rows of one half that are looked at: more would not change what is chosen.
LARGEST_ROWS = 200_000
# Mixtures of so few components have several starts: with few, a start that merges two clusters is not made good.
STARTS = 3
# A component of a mixture needs rows of its own, and a full covariance one for each of its dimensions.
ROWS_PER_COMPONENT = 10
# Numbers in the covariances beyond which a candidate is left out: 400 MB.
LARGEST_COVARIANCES = 5e7
# One-sided 95 %: what beats the prior must do so by this many standard errors.
ONE_SIDED = 1.6448536269514722
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
        z = as_array(z, "codes").astype(np.float64)
        if z.ndim != 2 or z.shape[1] != self.latent_dim or not np.isfinite(z).all():
            raise DataError(f"codes have shape {z.shape}: expected finite (M, {self.latent_dim})")
        u = (z - self.shift) * self.scale
        with np.errstate(over="ignore", invalid="ignore"):  # squares beyond float64: such codes have density 0
            value = normal_log_pdf(np.delete(u, self.active, axis=1)) + np.log(self.scale).sum()
            value = value + self._mixture.score_samples(u[:, self.active]) if len(self.active) else value
        return np.where(np.isnan(value), -np.inf, value)

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
    if not isinstance(metadata, dict) or metadata.get("format") != FORMAT:
        raise DataError(f"{path}: is no sampler (its header does not say {FORMAT!r}); make one with `fit`")
    if any(array.ndim == 0 or array.dtype.kind not in "biuf" for array in arrays.values()):
        raise DataError(f"{path}: its arrays do not fit together; make it again with `fit`")
    try:
        sampler = FittedSampler(
            kind=str(metadata["kind"]),
            active=np.nan_to_num(arrays["active"], nan=-1.0).astype(np.int64),
            **{name: arrays[name].astype(np.float64) for name in ("weights", "means", "factors", "shift", "scale")},
            candidates_=pd.DataFrame(metadata.get("candidates", [])),
            about=dict(metadata.get("about", {})),
        )
    except KeyError as error:
        raise DataError(f"{path}: lacks {error}; make it again with `fit`") from None
    except (TypeError, ValueError) as error:  # what the header says is no table
        raise DataError(f"{path}: its header is no sampler's ({reason(error)}); make it again with `fit`") from None
    k, a, d = len(sampler.weights), len(sampler.active), sampler.latent_dim
    fits = (
        sampler.means.shape == (k, a)
        and sampler.factors.shape in ((k, a), (k, a, a))
        and sampler.shift.shape == sampler.scale.shape == (d,)
        and all(np.isfinite(array).all() for array in arrays.values())
        and d > 0
        and (sampler.scale > np.finfo(np.float64).tiny).all()
        and (_diagonals(sampler.factors) > 0).all()
        and (sampler.weights >= 0).all()
        and abs(sampler.weights.sum() - 1) < 1e-6
        and len(set(sampler.active.tolist()) & set(range(d))) == a
    )
    if not fits:
        raise DataError(f"{path}: its arrays do not fit together; make it again with `fit`")
    # Weights that another program wrote may be rounded; those that `fit` wrote stay the same to the last bit.
    total = sampler.weights.sum()
    return sampler if abs(total - 1) < 1e-12 else replace(sampler, weights=sampler.weights / total)


def _diagonals(factors: np.ndarray) -> np.ndarray:
    return factors if factors.ndim == 2 else np.diagonal(factors, axis1=1, axis2=2)


# ------------------------------------------------------------------------------------------------------- choosing


@dataclass(frozen=True)
class Effort:
    """How closely candidates are looked at.

    Attributes:
        components: Numbers of components to try, growing.
        fit_points: Draws of Q that the mixtures are fitted to.
        test_points: The fewest held-out draws that judge them.
        largest_draws: Numbers in one set of draws: fewer draws than the above in very many dimensions.
        largest_step: Multiplications of one E-step, points · K · a² (full) or · a (diagonal), beyond which a candidate
            is left out, because it would take minutes.
        smallest_gain: Nats per point that a step of expectation maximisation must bring, or it is the last one.
        few: Components up to which a mixture has several starts.
        patience: Sizes of mixture in a row that may fail to improve before larger ones are given up.
    """

    components: tuple[int, ...] = COMPONENTS
    fit_points: int = 40_000
    test_points: int = 10_000
    largest_draws: float = 5e7
    largest_step: float = 5e10
    smallest_gain: float = 2e-3
    few: int = 20
    patience: int = 2


THOROUGH = Effort()


@dataclass(frozen=True, eq=False)
class Comparison:
    """Candidates fitted to one part of the rows, and judged at draws of the other.

    Attributes:
        laws: The candidates by name, those of fewer parameters first.
        log_densities: ln r of each at the draws, (M,), nats.
        z: The held-out draws (M, d), in the decoder's coordinates. groups: (M,) the groups of their rows.
        chosen: The simplest candidate that is as good as the best.
        table: One row per candidate, also of those left out, with the reason.
        active: Dimensions (a,) in which the mixtures live.
        about: Which rows these were.
    """

    laws: dict[str, FittedSampler]
    log_densities: dict[str, np.ndarray]
    z: np.ndarray
    groups: np.ndarray
    chosen: str
    table: pd.DataFrame
    active: np.ndarray
    about: dict[str, Any] = field(default_factory=dict)

    def gain(self, kind: str, over: str = PRIOR) -> GroupedMean:
        """Mean over the held-out draws of ln r − ln p, nats, with the error over groups of rows."""
        return grouped_mean(self.log_densities[kind] - self.log_densities[over], self.groups)

    @property
    def sampler(self) -> FittedSampler:
        """The chosen candidate, with the table that it was chosen from."""
        return replace(self.laws[self.chosen], candidates_=self.table, about=self.about)


def choose_sampler(
    posteriors: Posteriors,
    *,
    active_threshold: float = ACTIVE_THRESHOLD,
    components: tuple[int, ...] = COMPONENTS,
    fit_points: int = THOROUGH.fit_points,
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
        DataError: Fewer than ten rows, so that none can be held out, rows without a density, or a threshold that is
            no number of nats.
    """
    refuse_settings(active_threshold, seed)
    split, notes = split_groups(some_rows(posteriors, LARGEST_ROWS, seed), seed)
    if split.test is None:
        raise DataError(f"mean: held-out rows: {split.source}; a sampler is chosen on held-out rows")
    (train, kept, _), (test, kept_test, _) = without_outliers(split.train), without_outliers(split.test)
    found = compare_samplers(
        Law(train), test, split.groups_train[kept], split.groups_test[kept_test],
        active_threshold=active_threshold, effort=replace(THOROUGH, components=components, fit_points=fit_points),
        seed=seed, progress=progress,
    )  # fmt: skip
    about = {
        "held_out": split.source,
        "notes": notes,
        "outliers_left_out": int((~kept).sum() + (~kept_test).sum()),
    }
    return replace(found, about=found.about | about).sampler


def compare_samplers(
    train: Law,
    test: AggregatedPosterior,
    groups_train: np.ndarray,
    groups_test: np.ndarray,
    *,
    active_threshold: float = ACTIVE_THRESHOLD,
    effort: Effort = THOROUGH,
    seed: int = 0,
    progress: Callable[[str], None] = lambda stage: None,
) -> Comparison:
    """Fit every candidate to `train` and judge it at draws of `test`; see `choose_sampler`.

    Args:
        train: The raw law of the rows to fit. test: That of the rows held out.
        groups_train, groups_test: (N,) which rows belong together.
        active_threshold, seed, progress: See `choose_sampler`.
        effort: How closely to look.

    Raises:
        DataError: The rows to fit have no density that float64 could hold; see `posterior.resolution`.
    """
    refuse_unresolved(train.q)
    canonical = canonical_form(train.q, train.moments)
    active = _fitted_dimensions(train, canonical, active_threshold)
    d, none = train.q.latent_dim, np.empty(0, dtype=np.int64)
    rows = len(np.unique(groups_train))
    most = max(2 * FEWEST_ROWS, int(effort.largest_draws // d))
    judge = balanced_draws(
        test, min(most, max(effort.test_points, min(test.n, effort.fit_points))), stream(seed, "sampler", "judge")
    )
    groups = np.unique(groups_test[judge.row], return_inverse=True)[1]
    laws = {
        PRIOR: _law(PRIOR, Canonical(np.zeros(d), np.ones(d), np.zeros(d)), none),
        RESCALED: _law(RESCALED, canonical, none),
    }
    log_densities: dict[str, np.ndarray] = {}
    found = Comparison(laws, log_densities, judge.z, groups, PRIOR, pd.DataFrame(), active)

    def row(law: FittedSampler, covariance: str, parameters: int) -> dict[str, Any]:
        laws[law.kind], log_densities[law.kind] = law, law.score_samples(judge.z)
        gain = found.gain(law.kind)
        return {
            "candidate": law.kind, "covariance": covariance, "n_components": law.n_components,
            "parameters": parameters, "gain": gain.value, "gain_se": gain.se, "left_out": "",
        }  # fmt: skip

    table = [row(laws[PRIOR], "", 0), row(laws[RESCALED], "diagonal", 2 * d)]
    a = len(active)
    if a > 1:
        progress(NORMAL)
        if a * a > LARGEST_COVARIANCES:
            table.append(_left_out(NORMAL, "full", 1, f"{a} active dimensions have too large a covariance"))
        elif a > rows:
            table.append(_left_out(NORMAL, "full", 1, f"takes {a:,} rows to fit"))
        else:
            law = _law(NORMAL, canonical, active, _normal(train, canonical, active))
            table.append(row(law, "full", 2 * d + a * (a - 1) // 2))
    if a:
        draws = balanced_draws(train.q, min(effort.fit_points, most), stream(seed, "sampler", "fit"))
        points = canonical.apply(draws.z)[:, active]
        for covariance in ("diagonal", "full") if a > 1 else ("diagonal",):
            size = a if covariance == "diagonal" else a * (a + 1) // 2
            best, failures = -np.inf, 0
            for k in effort.components:
                name = f"mixture of {k}, {covariance}"
                reason = _too_large(k, covariance, points, rows, effort)
                if not reason and failures == effort.patience:
                    reason = f"{effort.patience} smaller ones in a row were no better"
                if reason:
                    table.append(_left_out(name, covariance, k, reason))
                    continue
                progress(name)
                # Whether EM has converged matters less here than elsewhere: held-out rows judge what it came to.
                mixture = fit_normal_mixture(
                    points, k, stream(seed, "sampler", covariance, k), "diag" if covariance == "diagonal" else "full",
                    iterations=60, smallest_gain=effort.smallest_gain, starts=STARTS if k <= effort.few else 1,
                    must_converge=False,
                )  # fmt: skip
                table.append(row(_law(name, canonical, active, mixture), covariance, 2 * d + k * (1 + a + size) - 1))
                gain = table[-1]["gain"]
                failures = 0 if gain > best else failures + 1
                best = max(best, gain)
    frame = pd.DataFrame(table)
    tried = frame[frame["left_out"] == ""].sort_values("parameters", kind="stable")
    chosen = _simplest_of_the_best(tried, found)
    about = {
        "rows_fitted": train.q.n, "rows_held_out": test.n, "outliers_left_out": 0, "notes": [],
        "active_threshold": active_threshold, "seed": seed,
    }  # fmt: skip
    return replace(
        found,
        laws={kind: laws[kind] for kind in tried["candidate"]},
        chosen=chosen,
        table=frame.assign(chosen=frame["candidate"] == chosen),
        about=about,
    )


def _fitted_dimensions(train: Law, canonical: Canonical, threshold: float) -> np.ndarray:
    """Indices (a,) of the dimensions that are active in canonical form; see `active_dimensions`."""
    if isinstance(train.q, Codes):
        return np.flatnonzero(train.moments.variance_of_means > ACTIVE_VARIANCE_OF_MEANS)
    if train.joint_kl - train.kl.sum() > threshold:
        return np.arange(train.q.latent_dim)  # what single dimensions do not show lies in their correlation
    return np.flatnonzero(active_dimensions(train.kl - canonical.slack, threshold))


def _left_out(name: str, covariance: str, k: int, reason: str) -> dict[str, Any]:
    return {
        "candidate": name, "covariance": covariance, "n_components": k, "parameters": np.nan, "gain": np.nan,
        "gain_se": np.nan, "left_out": reason,
    }  # fmt: skip


def _too_large(k: int, covariance: str, points: np.ndarray, rows: int, effort: Effort) -> str:
    """Why a mixture is not tried, or nothing."""
    a = points.shape[1]
    width = a if covariance == "diagonal" else a * a
    needed = k * max(ROWS_PER_COMPONENT, 0 if covariance == "diagonal" else a)
    if needed > rows:
        return f"takes {needed:,} rows to fit"
    if len(points) * k * width > effort.largest_step or k * width > LARGEST_COVARIANCES:
        return f"too large in {a} active dimensions"
    return ""


def _simplest_of_the_best(tried: pd.DataFrame, found: Comparison) -> str:
    """Of candidates in the order of their parameters, the first that is as good as the best and beats the prior."""
    best = tried.loc[tried["gain"].idxmax(), "candidate"]
    if best == PRIOR:
        return PRIOR
    for row in tried.to_dict("records"):
        behind = found.gain(best, over=row["candidate"])
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


def _normal(train: Law, canonical: Canonical, active: np.ndarray) -> NormalMixture:
    """The normal law with the exact covariance of Q in the active dimensions, in canonical coordinates."""
    scale = canonical.scale[active]
    # A full covariance per row has no marginal form to select; its whole covariance has.
    whole = isinstance(train.q, FullCovariance | Codes) or train.q.latent_dim**2 <= LARGEST_COVARIANCES
    covariance = train.covariance[np.ix_(active, active)] if whole else train.q.select(active).covariance()
    refuse_dependent(covariance, active)
    covariance = covariance * scale * scale[:, None]
    return NormalMixture(np.ones(1), np.zeros((1, len(active))), np.linalg.cholesky(covariance)[None])
