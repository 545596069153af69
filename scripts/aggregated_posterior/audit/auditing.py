"""An audit of anyone's posteriors: how far Q(z) is from N(0, I), in which dimensions, why, and what to do about it.

    KL(Q‖p) = scale + marginal shape + dependence

*Scale* is the gauge slack Σ_j G_j: moving and rescaling each latent dimension changes no reconstruction and removes
it. *Marginal shape* is Σ_j KL(q_j‖N(0, 1)) after that. Both are exact for the rows at hand. *Dependence* is the total
correlation, which a finite number of rows can only bracket in many dimensions; it is given as an interval, and the
lower end is certified on held-out rows (see `divergence`). Where posteriors are so narrow that even one-dimensional
marginals are spiky, part of the marginal shape is the *grain* of the rows and not of the model; then it is an interval
too.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..generation.chosen_sampler import FittedSampler, choose_sampler
from ..posterior.containers import as_array
from ..posterior.exchangeable import Split, is_discrete, same_rows, split_groups
from ..posterior.foreign_files import ALIASES, Layout, Reading, meaning, posteriors_from_arrays, read_levels
from ..posterior.gauge import Canonical, slack_of
from ..posterior.labels import as_labels, is_missing, label_columns
from ..posterior.mixture import AggregatedPosterior, Moments
from ..posterior.other_laws import Codes, FullCovariance, StreamedPosterior, take_rows
from ..posterior.splits import Posteriors, active_dimensions
from ..statistics.marginals import Distances, Marginals
from ..statistics.uncertainty import kurtosis_se, normal_interval
from ..storage import DataError
from ..streams import stream
from .codes import distances_of_codes
from .findings import advice, explain, judge
from .joint_law import JointLaw, measure_joint_law, measure_scale
from .outliers import Outlier, find_outliers
from .own_prior import as_prior
from .plan import Plan, plan_audit

# Excess kurtosis below this is worth under 0.001 nat and gets no explanation.
KURTOSIS_MARGIN = 0.1
# An interval narrower than this, relative to its end, is rounding: the number is exact.
EXACT = 1e-9
# A number stands for an interval narrower than this many nats.
ONE_NUMBER = 1.0
# Variance of the means above which a code without variances is active (Burda et al. 2016).
ACTIVE_VARIANCE = 0.01
# Rows at which the share of labels is taken where rows are read from files.
LABEL_ROWS = 200_000
# Outliers that are named one by one.
OUTLIERS_NAMED = 5
TERMS = {
    "term_means": "shape of the means",
    "term_covariance": "spread tied to position",
    "term_scale": "mixing of scales",
}


class KeywordError(DataError, TypeError):
    """A keyword that `audit` does not know."""


@dataclass(frozen=True)
class Audit:
    """What `audit` found.

    verdict: one sentence, with its numbers, on sampling N(0, I).
    dimensions: one row per split and latent dimension. `kl` is the mean KL; mean to kurtosis_high are moments of the
        raw Q(z) (skewness and kurtosis are the same in canonical form); the three terms add up to kurtosis − 3 and
        `cause` names the largest; `gauge_slack`; KL(q_j‖N(0, 1)) as `marginal_kl_raw` and `marginal_kl`, and `ks`,
        `w1`, `w2`, `tv`, these last five in canonical form; `eta_squared` (classes) or `r_squared` (numbers) where
        labels are given, with the column's name behind it where there are several.
    mismatch: scale, marginal shape, dependence and their sum, nats, each with `low` and `high` for the population that
        the rows come from; `nats` is NaN where these are more than 1 nat apart.
    candidates: what could be sampled instead of N(0, I), and what each gains on held-out rows, nats.
    divergence: the estimators behind it, one row per form (raw, canonical); see `statistics.divergence`.
    summary: numbers for the whole model. findings, advice, warnings: sentences.
    canonical: the free shift and scale per dimension, fitted on the training rows. plan: what was done, and what not.
    posteriors: what was audited, without the outliers that are named in `summary`.
    """

    verdict: str
    dimensions: pd.DataFrame
    mismatch: pd.DataFrame
    candidates: pd.DataFrame
    divergence: pd.DataFrame
    summary: dict[str, Any]
    findings: list[str]
    advice: list[str]
    warnings: list[str]
    marginals: Marginals | None
    canonical: Canonical
    plan: Plan
    posteriors: Posteriors

    def sampler(self, **settings: Any) -> FittedSampler:
        """The best sampler for these posteriors, chosen on held-out rows; `settings` are those of `choose_sampler`."""
        return choose_sampler(self.posteriors, **settings)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON builtins."""
        tables = {
            name: getattr(self, name).to_dict("records")
            for name in ("dimensions", "mismatch", "candidates", "divergence")
        }
        texts = {name: list(getattr(self, name)) for name in ("findings", "advice", "warnings")}
        return {"verdict": self.verdict, "summary": dict(self.summary), **tables, **texts}


def audit(
    mean: Any,
    variance: Any = None,
    *,
    layout: Layout | None = None,
    deterministic: bool = False,
    **arrays_and_settings: Any,
) -> Audit:
    """Audit the posteriors of any VAE with Gaussian posteriors.

    Args:
        mean: (N, d) posterior means, or (N, C, H, W): a NumPy array, a pandas table, or a tensor of any library that
            NumPy can read (torch tensors may require gradients and live on a GPU).
        variance, log_variance, std, log_std: (N, d) each, or full covariances `covariance`, `scale_tril` (N, d, d);
            exactly one of them. Known aliases, such as `logvar`, are the same.
        mean_test, variance_test, …: the same for held-out data. Without them a seeded fifth of the rows (of the groups)
            is held out for the joint estimators.
        labels, labels_test: classes, or real numbers, one per row: array, list, Series, Categorical, DataFrame (several
            columns); missing values are left out.
        groups, groups_test: (N,) which rows belong together (patches of one image, cells of one donor).
        weights, weights_test: (N,) how much each row counts.
        prior: A prior of one's own in place of N(0, I) in all comparisons of densities: draws (M, d), or a mapping of
            `means` (K, d), `variances` (K, d) or `covariances` (K, d, d), and `weights` (K,).
        layout: "channel" or "flat", for means with more than two axes.
        deterministic: `mean` holds codes of an autoencoder without variances.
        arrays_and_settings: The arrays above, and keyword arguments of `audit_posteriors`.

    Returns:
        An `Audit` with pandas tables and sentences.

    Raises:
        DataError: Arrays that cannot be posteriors (the message names the array), or a keyword that is not known.
    """
    given, settings = {"mean": mean, "variance": variance}, {}
    for name, value in arrays_and_settings.items():
        if name in _SETTINGS:
            settings[name] = value
        elif meaning(name) is None or name in given:
            raise KeywordError(_unknown_keyword(name))
        else:
            given[name] = value
    arrays = {name: _labels_or_array(name, value) for name, value in given.items() if value is not None}
    reading = Reading(layout=layout, deterministic=deterministic)
    return audit_posteriors(posteriors_from_arrays(arrays, reading=reading), **settings)


_SETTINGS = ("active_threshold", "points", "gmm_components", "fit_points", "prior", "seed", "progress", "announce")


def _labels_or_array(name: str, value: Any) -> np.ndarray:
    base = meaning(name)[0]
    return as_labels(value, name) if base == "labels" else as_array(value, name)


def _unknown_keyword(name: str) -> str:
    bases = [base + end for base in ALIASES for end in ("", "_test")]
    known = [*bases, *_SETTINGS, "layout", "deterministic"]
    close = difflib.get_close_matches(name, known, n=1)
    says = f"did you mean {close[0]}?" if close else "see help(audit)"
    return f"audit has no keyword {name}: {says}"


def audit_file(path: str | Path, reading: Reading | None = None, **settings: Any) -> Audit:
    """`audit_posteriors` of a file, a folder of shards or a pattern; see `posterior.foreign_files`.

    Raises:
        DataError: It cannot be read, or holds several latent levels (see `audit_levels`).
    """
    levels = read_levels(path, reading)
    if len(levels) > 1:
        raise DataError(f"{path}: holds {len(levels)} latent levels; audit_levels audits each")
    return audit_posteriors(next(iter(levels.values())), **settings)


def audit_levels(path: str | Path, reading: Reading | None = None, **settings: Any) -> dict[str, Audit]:
    """One audit per latent level of a file that holds `mean_1`, `mean_2`, …; {"": audit} where there is one level."""
    return {level: audit_posteriors(q, **settings) for level, q in read_levels(path, reading).items()}


def audit_posteriors(
    posteriors: Posteriors,
    *,
    active_threshold: float = 0.05,
    points: int = 2000,
    gmm_components: int = 30,
    fit_points: int = 20_000,
    prior: Any = None,
    seed: int = 0,
    progress: Callable[[str], None] = lambda stage: None,
    announce: Callable[[Plan], None] = lambda plan: None,
) -> Audit:
    """Audit posteriors that have been read.

    Args:
        posteriors: Train posteriors, with or without a held-out split, labels and groups.
        active_threshold: Mean KL above which a dimension counts as active, nats.
        points: Draws at which ln Q is evaluated; fewer where N is so large that it would take minutes.
        gmm_components: The largest number of components that is tried.
        fit_points: Draws that a mixture is fitted to.
        prior: A prior of one's own; see `audit`.
        seed: Of every draw; the same input and seed give the same result.
        progress: Called with the name of each stage as it begins.
        announce: Called with the plan before the work begins.
    """
    if points < 2 or gmm_components < 1 or fit_points < 2 * gmm_components:
        raise DataError("points ≥ 2, gmm_components ≥ 1 and fit_points ≥ 2·gmm_components are needed")
    if not (np.isfinite(active_threshold) and active_threshold >= 0):
        raise DataError(f"active_threshold is {active_threshold}: expected a number of nats, 0 or more")
    own_prior = None if prior is None else as_prior(prior, posteriors.latent_dim)
    plan = plan_audit(posteriors, points, fit_points)
    announce(plan)
    warnings = list(posteriors.warnings)
    progress("outliers")
    posteriors, outliers = _without_outliers(posteriors)
    warnings += _on_outliers(outliers)
    train = posteriors.train
    progress("moments")
    moments, kl = train.moments(), train.kl()
    canonical = posteriors.canonical(moments)
    active = active_dimensions(kl, active_threshold)
    if isinstance(train, Codes):
        active = moments.variance_of_means > ACTIVE_VARIANCE
    elif isinstance(train, FullCovariance) and train.joint_kl() - kl.sum() > active_threshold:
        active = np.ones_like(active)  # what single dimensions do not show lies in their correlation
    progress("rows that repeat")
    sample = _sample(posteriors, plan.joint_rows, seed)
    split, found = split_groups(sample, seed)
    warnings += found
    progress("marginals")
    some = _sample(replace(posteriors, test=None, labels_test=None, groups_test=None), plan.marginal_rows, seed)
    marginals, distances = _distances(some.train, canonical)
    parts = [_dimensions("train", posteriors, moments, kl, distances, canonical, active, seed)]
    if posteriors.test is not None:
        test = posteriors.test
        _, distances = _distances(_shorter(test, plan.marginal_rows, seed), canonical)
        parts.append(_dimensions("test", posteriors, test.moments(), test.kl(), distances, canonical, active, seed))
    dimensions = pd.concat(parts, ignore_index=True)
    progress("joint law")
    if plan.joint:
        law = measure_joint_law(split, plan, active, gmm_components, fit_points, own_prior, seed)
    else:
        law = measure_scale(split)
    mismatch = _mismatch(dimensions[dimensions["split"] == "train"], law, plan)
    named = dict(zip(("scale", "shape", "dependence", "total"), mismatch["nats"], strict=True))
    summary = {
        "n": train.n,
        "n_test": None if posteriors.test is None else posteriors.test.n,
        "latent_dim": train.latent_dim,
        "active_dimensions": int(active.sum()),
        "active_threshold": active_threshold,
        "mean_kl": train.joint_kl() if isinstance(train, FullCovariance) else float(kl.sum()),
        "log_n": float(np.log(len(np.unique(split.groups_train)))),
        "groups": _count_groups(split),
        "discrete": split.discrete,
        "certified": law.certified_raw,
        "gauge_slack": float(canonical.slack.sum()),
        "held_out": split.source,
        "identified": law.rows[1]["identified"] if law.rows else None,
        "correlation_kl": law.rows[1]["gaussian_part"] if law.rows else None,
        "grain": law.grain,
        "prior_misses_raw": law.prior_misses[0],
        "prior_misses_canonical": law.prior_misses[1],
        "advised_sampler": law.best,
        **named,
        **_diffusion_words(posteriors, moments),
        "own_prior": law.own_prior,
        "outliers": [vars(outlier) for outlier in outliers],
        "left_out": list(plan.left_out),
        "points": plan.points,
        "seed": seed,
    }
    status, verdict = judge(dimensions, mismatch, summary)
    summary["verdict"] = status
    return Audit(
        verdict=verdict,
        dimensions=dimensions,
        mismatch=mismatch,
        candidates=law.candidates,
        divergence=pd.DataFrame(law.rows),
        summary=summary,
        findings=[verdict, *explain(dimensions, mismatch, summary)],
        advice=advice(dimensions, mismatch, law.candidates, summary),
        warnings=warnings,
        marginals=marginals,
        canonical=canonical,
        plan=plan,
        posteriors=posteriors,
    )


def label_share(q: AggregatedPosterior, moments: Moments, labels: np.ndarray) -> tuple[str, np.ndarray]:
    """How much of each dimension's variance under Q(z) the labels account for, (d,), between 0 and 1.

    For classes η² = Var(E[μ|class])/V, for real numbers the squared correlation Cov(μ, label)²/(V·Var(label)). V holds
    the posterior's own variance too, so a dimension of pure noise has 0 whatever its means do. Rows whose label is
    missing are left out.
    """
    missing = is_missing(labels)
    name = "r_squared" if labels.dtype.kind == "f" else "eta_squared"
    if missing.all():
        return name, np.zeros(q.latent_dim)
    mean, labels = np.asarray(q.mean)[~missing].astype(np.float64), labels[~missing]
    mean -= mean.mean(axis=0)
    if name == "r_squared":
        values = labels.astype(np.float64) - labels.mean(dtype=np.float64)
        spread = float(np.square(values).mean())
        covariance = values @ mean / len(mean)
        return name, covariance**2 / (moments.variance * spread) if spread > 0 else np.zeros(q.latent_dim)
    _, code = np.unique(labels, return_inverse=True)
    order = np.argsort(code, kind="stable")
    starts = np.searchsorted(code[order], np.arange(code.max() + 1))
    sums = np.add.reduceat(mean[order], starts, axis=0)
    sizes = np.bincount(code)[:, None]
    return name, (sums**2 / sizes).sum(axis=0) / len(mean) / moments.variance


def _count_groups(split: Split) -> int:
    """Independent groups of rows that the joint law looked at, held out or not."""
    return len(np.unique(split.groups_train)) + (0 if split.groups_test is None else len(np.unique(split.groups_test)))


def _without_outliers(posteriors: Posteriors) -> tuple[Posteriors, list[Outlier]]:
    """The posteriors without rows that decide a variance by themselves, in either half, and those rows' entries."""
    found = find_outliers(posteriors.train)
    if not found or isinstance(posteriors.train, StreamedPosterior):
        return posteriors, found
    kept = np.ones(posteriors.train.n, bool)
    kept[[outlier.row for outlier in found]] = False
    labels, groups = posteriors.labels_train, posteriors.groups_train
    return replace(
        posteriors,
        train=take_rows(posteriors.train, kept),
        labels_train=None if labels is None else labels[kept],
        groups_train=None if groups is None else groups[kept],
    ), found


def _on_outliers(outliers: list[Outlier]) -> list[str]:
    if not outliers:
        return []
    named = "; ".join(outlier.sentence() for outlier in outliers[:OUTLIERS_NAMED])
    rows = len({outlier.row for outlier in outliers})
    more = f"; {len(outliers) - OUTLIERS_NAMED} more are in --json" if len(outliers) > OUTLIERS_NAMED else ""
    rest = "This row is" if rows == 1 else f"These {rows} rows are"
    return [f"{named}{more}. {rest} left out of everything below; look at what the encoder was given there"]


def _sample(posteriors: Posteriors, rows: int, seed: int) -> Posteriors:
    """At most `rows` rows of each half, drawn at random and in memory."""
    chosen: dict[str, Any] = {}
    for half in ("train", "test"):
        q = getattr(posteriors, half)
        if q is None or (q.n <= rows and not isinstance(q, StreamedPosterior)):
            continue
        index = _rows(q.n, rows, seed)
        chosen[half] = take_rows(q, index)
        for what in ("labels", "groups"):
            values = getattr(posteriors, f"{what}_{half}")
            chosen[f"{what}_{half}"] = None if values is None else values[index]
    return replace(posteriors, **chosen) if chosen else posteriors


def _shorter(q: AggregatedPosterior, rows: int, seed: int) -> AggregatedPosterior:
    return q if q.n <= rows and not isinstance(q, StreamedPosterior) else take_rows(q, _rows(q.n, rows, seed))


def _rows(n: int, rows: int, seed: int) -> np.ndarray:
    if n <= rows:
        return np.arange(n)
    return np.sort(stream(seed, "audit", "rows").choice(n, rows, replace=False, shuffle=False))


def _distances(q: AggregatedPosterior, canonical: Canonical) -> tuple[Marginals | None, Distances]:
    if isinstance(q, Codes):
        return None, distances_of_codes(canonical.apply(q.mean))
    # A single dimension sees only the diagonal of a full covariance.
    marginals = Marginals(AggregatedPosterior(q.mean, q.variance)).affine(canonical.shift, canonical.scale)
    return marginals, marginals.distances()


def _dimensions(
    half: str, posteriors: Posteriors, moments: Moments, kl: np.ndarray, distances: Distances,
    canonical: Canonical, active: np.ndarray, seed: int,
) -> pd.DataFrame:  # fmt: skip
    q: AggregatedPosterior = getattr(posteriors, half)
    groups = getattr(posteriors, f"groups_{half}")
    if groups is None and not isinstance(q, StreamedPosterior):
        same = same_rows(q, seed)
        groups = None if len(np.unique(same)) == q.n or is_discrete(same) else same
    low, high = normal_interval(moments.kurtosis, kurtosis_se(q, moments, groups))
    terms = np.stack([getattr(moments, name) for name in TERMS])
    excess = moments.excess_kurtosis
    names = np.array(list(TERMS.values()))
    # The term that pulls hardest in the direction in which kurtosis went.
    cause = np.where(np.abs(excess) < KURTOSIS_MARGIN, "", names[(terms * np.sign(excess)).argmax(axis=0)])
    # KL changes under z → (z − t)α by the change of E[z²]/2 and by −ln α; no quadrature is needed for the raw form.
    inner_square = ((moments.mean - canonical.shift) ** 2 + moments.variance) * canonical.scale**2
    raw = distances.kl + 0.5 * (moments.second_moment - inner_square) + np.log(canonical.scale)
    columns = {
        "split": half,
        "dimension": np.arange(q.latent_dim),
        "active": active,
        "kl": kl,
        "mean": moments.mean,
        "variance": moments.variance,
        "variance_of_means": moments.variance_of_means,
        "mean_variance": moments.mean_variance,
        "gauge_slack": slack_of(moments),
        "skewness": moments.skewness,
        "kurtosis": moments.kurtosis,
        "kurtosis_low": low,
        "kurtosis_high": high,
        **{name: getattr(moments, name) for name in TERMS},
        "cause": cause,
        "marginal_kl_raw": np.maximum(raw, distances.kl if half == "train" else 0.0),
        "marginal_kl": distances.kl,
        "ks": distances.ks,
        "w1": distances.w1,
        "w2": distances.w2,
        "tv": distances.tv,
    }
    labels = getattr(posteriors, f"labels_{half}")
    if labels is not None and isinstance(q, StreamedPosterior):
        index = _rows(q.n, LABEL_ROWS, seed)
        q, labels = take_rows(q, index), labels[index]
    for column, values in label_columns(labels).items():
        name, share = label_share(q, moments, values)
        columns[f"{name}_{column}" if column else name] = share
    return pd.DataFrame(columns)


def _mismatch(train: pd.DataFrame, law: JointLaw, plan: Plan) -> pd.DataFrame:
    """KL(Q‖p) in three parts, with an interval where a finite number of rows leaves one; no upper end where none is."""
    scale, shape = float(train["gauge_slack"].sum()), float(train["marginal_kl"].sum())
    if np.isnan(shape):  # codes: the law of the rows has no density, that of the population may
        shape_low, shape = 0.0, np.inf
    else:
        shape_low = max(0.0, shape - (shape if law.grain is None else law.grain))
    joint = law.rows[1] if law.rows else {}
    alone = len(train) == 1  # one dimension depends on nothing
    low, high = shape_low, shape
    if alone:
        between = 0.0, 0.0
        low = max(low, law.certified) if np.isinf(shape) else low
    elif law.groups_held_out:
        low = max(low, law.certified)
        # In-sample KL errs upwards, and may still fall short of what is certified by its own error.
        high = max(low, shape, law.upper) if plan.bracket else np.inf
        between = max(0.0, low - shape), high - shape_low
    elif joint.get("total_correlation") is not None:  # too few rows to hold any out: only what they show by themselves
        between = 0.0, float(joint["total_correlation"])
        high = shape + between[1]
    else:
        between, high = (0.0, np.inf), np.inf
    lows, highs = [scale, shape_low, between[0], scale + low], [scale, shape, between[1], scale + high]
    # A number only where the rows determine it.
    nats = [scale, shape if np.isfinite(shape) else np.nan, np.nan, np.nan]
    nats[2] = 0.5 * sum(between) if between[1] - between[0] < ONE_NUMBER else np.nan
    nats[3] = sum(nats[:3]) if high - low < ONE_NUMBER else np.nan
    exact = [b - a <= EXACT * (1 + abs(b)) if np.isfinite(b) else False for a, b in zip(lows, highs, strict=True)]
    parts = ["scale", "marginal shape", "dependence", "total"]
    return pd.DataFrame({"part": parts, "nats": nats, "low": lows, "high": highs, "exact": exact})


def _diffusion_words(posteriors: Posteriors, moments: Moments) -> dict[str, Any]:
    """The free shift and scale of spatial latents as diffusion code calls them: z → (z − shift)·scaling.

    `latents_mean` and `latents_std` per channel; `shift_factor` and `scaling_factor` one number for all channels.
    """
    if posteriors.layout != "channel":
        return {}
    mean = float(moments.mean.mean())
    spread = float(np.sqrt(moments.second_moment.mean() - mean**2))
    return {
        "shift_factor": mean,
        "scaling_factor": 1 / spread,
        "latents_mean": moments.mean.tolist(),
        "latents_std": np.sqrt(moments.variance).tolist(),
    }
