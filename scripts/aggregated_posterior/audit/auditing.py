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
import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..generation.chosen_sampler import COMPONENTS, Comparison, Effort, FittedSampler, choose_sampler
from ..posterior.containers import as_array
from ..posterior.exchangeable import group_rows, is_discrete, split_rows
from ..posterior.foreign_files import ALIASES, Layout, Reading, meaning, posteriors_from_arrays, read_levels
from ..posterior.gauge import Canonical
from ..posterior.labels import as_labels, is_missing, label_columns, without_mask
from ..posterior.mixture import AggregatedPosterior, Moments
from ..posterior.other_laws import Codes, StreamedPosterior
from ..posterior.outliers import Outlier, without_outliers
from ..posterior.resolution import refuse_dependent, refuse_unresolved
from ..posterior.splits import ACTIVE_THRESHOLD, ACTIVE_VARIANCE_OF_MEANS, Posteriors, refuse_settings, some_rows
from ..statistics.marginals import Distances, Marginals
from ..statistics.portrait import Law, Portrait
from ..statistics.uncertainty import normal_interval
from ..storage import DataError
from .codes import distances_of_codes
from .findings import advice, explain, judge
from .joint_law import JointLaw, measure_joint_law, measure_scale
from .own_prior import as_prior
from .plan import Plan, plan_audit

# Excess kurtosis below this is worth under 0.001 nat and gets no explanation.
KURTOSIS_MARGIN = 0.1
# An interval narrower than this, relative to its end, is rounding: the number is exact.
EXACT = 1e-9
# A number stands for an interval narrower than this many nats.
ONE_NUMBER = 1.0
# Rows at which the share of labels is taken where rows are read from files.
LABEL_ROWS = 200_000
# Outliers that are named one by one.
OUTLIERS_NAMED = 5
# An audit says what a better sampler would buy; `fit` looks more closely.
QUICK = Effort(
    fit_points=10_000, test_points=2000, largest_draws=4e6, largest_step=2e9, smallest_gain=5e-3, few=5, patience=1
)
TERMS = {
    "term_means": "shape of the means",
    "term_covariance": "spread tied to position",
    "term_scale": "mixing of scales",
}


# Keywords of `fit_sampler` and of `Audit.sampler`, beside arrays.
FIT_SETTINGS = tuple(inspect.signature(choose_sampler).parameters)[1:]


class KeywordError(DataError, TypeError):
    """A keyword that `audit` or `fit_sampler` does not know."""


@dataclass(frozen=True)
class Audit:
    """What `audit` found.

    verdict: one sentence, with its numbers, on sampling N(0, I).
    dimensions: one row per split and latent dimension. `kl` is the mean KL; mean to kurtosis_high are moments of the
        raw Q(z) (skewness and kurtosis are the same in canonical form); the three terms add up to kurtosis − 3 and
        `cause` names the largest; `gauge_slack`; KL(q_j‖N(0, 1)) as `marginal_kl_raw` and `marginal_kl`, and `ks`,
        `w1`, `w2`, `tv`, these last five in canonical form; `eta_squared` (classes) or `r_squared` (numbers) where
        labels are given, with the column's name behind it where there are several.
    mismatch: scale, marginal shape, dependence and their sum, nats, each with `low` and `high`; `nats` is NaN where
        these are more than 1 nat apart. Scale and marginal shape are those of the rows at hand; the sum's `low` is
        certified on held-out rows, for the population that the rows come from, and may lie below that of the parts
        (but where the rows are taken for the whole law, see `discrete` in `summary`).
    candidates: what could be sampled instead of N(0, I), and what each gains on held-out rows, nats.
    divergence: the estimators behind it, one row per form (raw, canonical); see `statistics.divergence`.
    summary: numbers for the whole model. findings, advice, warnings: sentences.
    canonical: the free shift and scale per dimension, fitted on the training rows. plan: what was done, and what not.
    posteriors: what was audited, without the outliers that are named in `summary`. comparison: the candidates
    themselves; None where nothing could be held out or the joint law was left out.
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
    comparison: Comparison | None

    def sampler(self, **settings: Any) -> FittedSampler:
        """The best sampler for these posteriors, chosen as `fit` does: more closely than the advice, which is quick.

        `settings` are those of `choose_sampler`; `comparison.sampler` is the advised one, and costs nothing.

        Raises:
            DataError: Too few rows to hold any out, or a setting that is not known.
        """
        for name in settings:
            if name not in FIT_SETTINGS:
                raise KeywordError(_unknown_keyword("Audit.sampler", name, FIT_SETTINGS))
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
    given = {"mean": mean, "variance": variance}
    reading = Reading(layout=layout, deterministic=deterministic)
    posteriors, settings = posteriors_of_keywords("audit", given, arrays_and_settings, _SETTINGS, reading)
    return audit_posteriors(posteriors, **settings)


def posteriors_of_keywords(
    function: str, given: Mapping[str, Any], keywords: Mapping[str, Any], settings: Sequence[str], reading: Reading
) -> tuple[Posteriors, dict[str, Any]]:
    """Posteriors of the arrays that a function was given, and its settings.

    Args:
        function: Its name, for the message about a keyword that it does not know.
        given: Arrays by name, None for one that was not given.
        keywords: Its other keywords: more arrays, and settings.
        settings: The names of all its settings.
        reading: Layout and kind.

    Raises:
        DataError: Arrays that cannot be posteriors (the message names the array), or a keyword that is not known.
    """
    arrays, chosen = dict(given), {}
    for name, value in keywords.items():
        if name in settings:
            chosen[name] = value
        elif meaning(name) is None or name in given:
            bases = (base + end for base in ALIASES for end in ("", "_test"))
            raise KeywordError(_unknown_keyword(function, name, [*bases, *settings, "layout", "deterministic"]))
        else:
            arrays[name] = value
    _refuse_other_orders(arrays)
    read = {name: _labels_or_array(name, value) for name, value in arrays.items() if value is not None}
    return posteriors_from_arrays(read, reading=reading), chosen


_SETTINGS = ("active_threshold", "points", "gmm_components", "fit_points", "prior", "seed", "progress", "announce")


def _labels_or_array(name: str, value: Any) -> np.ndarray:
    base = meaning(name)[0]
    if base == "labels":
        return as_labels(value, name)
    return as_array(without_mask(value) if base == "groups" else value, name)


def _refuse_other_orders(arrays: Mapping[str, Any]) -> None:
    """Rows are matched by position; pandas objects whose rows have the same names in another order mean something else.

    An index that pandas made itself, a RangeIndex, says nothing.
    """
    tables = {name: value.index for name, value in arrays.items() if hasattr(value, "iloc")}
    named = {name: index for name, index in tables.items() if not isinstance(index, pd.RangeIndex)}
    for (first, one), (second, other) in itertools.combinations(named.items(), 2):
        same_half = meaning(first)[1] == meaning(second)[1]
        if same_half and len(one) == len(other) and not one.equals(other) and set(one) == set(other):
            raise DataError(
                f"{second}: its rows have the index of {first} in another order, and are matched by position; "
                f"put both into one order, as {second}.loc[{first}.index]"
            )


def _unknown_keyword(function: str, name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    says = f"did you mean {close[0]}?" if close else f"see help({function})"
    return f"{function} has no keyword {name}: {says}"


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
    active_threshold: float = ACTIVE_THRESHOLD,
    points: int = 1000,
    gmm_components: int = 30,
    fit_points: int = QUICK.fit_points,
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
    whole = all(isinstance(number, Integral) for number in (points, gmm_components, fit_points))
    if not whole or points < 2 or gmm_components < 1 or fit_points < 2 * gmm_components:
        raise DataError("points ≥ 2, gmm_components ≥ 1 and fit_points ≥ 2·gmm_components are needed, whole numbers")
    refuse_settings(active_threshold, seed)
    own_prior = None if prior is None else as_prior(prior, posteriors.latent_dim)
    plan = plan_audit(posteriors, points, fit_points)
    announce(plan)
    warnings = list(posteriors.warnings)
    progress("outliers")
    posteriors, outliers = _without_outliers(posteriors)
    warnings += _on_outliers(outliers, isinstance(posteriors.train, StreamedPosterior))
    train = posteriors.train
    progress("rows that repeat")
    streamed = isinstance(train, StreamedPosterior)
    sample = some_rows(posteriors, plan.joint_rows, seed)
    looked_at = sample if streamed else posteriors
    *groups, found = group_rows(looked_at, seed)
    warnings += found
    grouped = replace(looked_at, groups_train=groups[0], groups_test=groups[1])
    sample = grouped if streamed else some_rows(grouped, plan.joint_rows, seed)
    for half in (sample.train, sample.test):
        if half is not None:
            refuse_unresolved(half)
    split = split_rows(sample, sample.groups_train, sample.groups_test, seed)
    train_groups = split.groups_train
    if split.train is not sample.train:  # some of the training rows are held out
        train_groups = np.concatenate([train_groups, split.groups_test])
    log_n = float(np.log(len(np.unique(train_groups))))
    progress("moments")
    settings = {"active_threshold": active_threshold, "points": plan.points, "seed": seed}
    of_errors = posteriors if streamed else grouped
    whole = Portrait(
        posteriors,
        groups_train=_dependent(posteriors.train, of_errors.groups_train),
        groups_test=_dependent(posteriors.test, of_errors.groups_test),
        **settings,
    )
    canonical, active = whole.canonical, whole.active
    if isinstance(train, Codes):
        active = whole.train.moments.variance_of_means > ACTIVE_VARIANCE_OF_MEANS
    elif whole.train.joint_kl - whole.train.kl.sum() > active_threshold:
        active = np.ones_like(active)  # what single dimensions do not show lies in their correlation

    def portrait_of(part: Posteriors) -> Portrait:
        """Of some rows, in the canonical form of all; nothing is computed twice where they are all the rows."""
        same = part.train is train and part.test is posteriors.test
        return whole if same else Portrait(part, canonical=canonical, **settings)

    progress("marginals")
    in_sample = portrait_of(sample)
    if plan.joint:
        refuse_dependent(in_sample.train.covariance)
    shown = in_sample
    if plan.marginal_rows != plan.joint_rows:
        shown = portrait_of(some_rows(posteriors, plan.marginal_rows, seed))
    marginals, distances = _distances(shown.train_canonical)
    parts = [_dimensions("train", posteriors, whole.train, distances, canonical, active, seed)]
    if posteriors.test is not None:
        _, distances = _distances(shown.test_canonical)
        parts.append(_dimensions("test", posteriors, whole.test, distances, canonical, active, seed))
    dimensions = pd.concat(parts, ignore_index=True)
    progress("joint law")
    if plan.joint:
        halves = in_sample
        if split.train is not sample.train or split.test is not sample.test:
            halves = Portrait(Posteriors(split.train, split.test), **settings)
        effort = replace(QUICK, components=_components(gmm_components), fit_points=fit_points)
        law = measure_joint_law(in_sample, halves, split, effort, active_threshold, own_prior, log_n, seed)
    else:
        law = measure_scale(split)
    moments = whole.train.moments
    mismatch = _mismatch(dimensions[dimensions["split"] == "train"], law, plan, split.discrete)
    named = dict(zip(("scale", "shape", "dependence", "total"), mismatch["nats"], strict=True))
    summary = {
        "n": train.n,
        "n_test": None if posteriors.test is None else posteriors.test.n,
        "latent_dim": train.latent_dim,
        "active_dimensions": int(active.sum()),
        "active_threshold": active_threshold,
        "mean_kl": whole.train.joint_kl,
        "log_n": log_n,
        "groups": sum(len(np.unique(part)) for part in (split.groups_train, split.groups_test) if part is not None),
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
        "own_prior": None if own_prior is None else law.own_prior or own_prior.compared_with_nothing(),
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
        comparison=law.comparison,
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
        values = labels / max(np.abs(labels).max(), np.finfo(np.float64).tiny)  # whose squares are finite
        values = values - values.mean()
        spread = float(np.square(values).mean())
        covariance = values @ mean / len(mean)
        return name, covariance**2 / (moments.variance * spread) if spread > 0 else np.zeros(q.latent_dim)
    _, code = np.unique(labels, return_inverse=True)
    order = np.argsort(code, kind="stable")
    starts = np.searchsorted(code[order], np.arange(code.max() + 1))
    sums = np.add.reduceat(mean[order], starts, axis=0)
    sizes = np.bincount(code)[:, None]
    return name, (sums**2 / sizes).sum(axis=0) / len(mean) / moments.variance


def _components(most: int) -> tuple[int, ...]:
    """Numbers of components that are tried up to the largest one."""
    return tuple(k for k in sorted({*COMPONENTS, most}) if 1 < k <= most)


def _dependent(q: AggregatedPosterior | None, groups: np.ndarray | None) -> np.ndarray | None:
    """The groups where there are any: None where every row stands for itself, or rows are the atoms of a whole law."""
    return None if groups is None or len(np.unique(groups)) == len(groups) or is_discrete(q, groups) else groups


def _without_outliers(posteriors: Posteriors) -> tuple[Posteriors, list[Outlier]]:
    """The posteriors without rows that decide a variance by themselves, in either half, and those rows' entries."""
    changes: dict[str, Any] = {}
    found: list[Outlier] = []
    for half in ("train", "test"):
        q = getattr(posteriors, half)
        if q is None:
            continue
        q, kept, of_half = without_outliers(q)
        found += [replace(outlier, half=half) for outlier in of_half]
        if kept.all():
            continue
        changes[half] = q
        for what in ("labels", "groups"):
            values = getattr(posteriors, f"{what}_{half}")
            changes[f"{what}_{half}"] = None if values is None else values[kept]
    return replace(posteriors, **changes) if changes else posteriors, found


def _on_outliers(outliers: list[Outlier], streamed: bool) -> list[str]:
    if not outliers:
        return []
    named = "; ".join(outlier.sentence() for outlier in outliers[:OUTLIERS_NAMED])
    rows = len({(outlier.half, outlier.row) for outlier in outliers})
    more = f"; {len(outliers) - OUTLIERS_NAMED} more are in --json" if len(outliers) > OUTLIERS_NAMED else ""
    rest = "This row is" if rows == 1 else f"These {rows} rows are"
    what = "part of everything below, because the rows are read from files too large to be changed; leave it out there"
    return [
        f"{named}{more}. {rest} {what if streamed else 'left out of everything below'}; look at what the encoder was "
        "given there"
    ]


def _distances(law: Law) -> tuple[Marginals | None, Distances]:
    """Marginals and their distances to N(0, 1) in canonical form; codes have the latter alone."""
    if isinstance(law.q, Codes):
        return None, distances_of_codes(law.q.mean)
    return law.marginals, law.distances


def _dimensions(
    half: str, posteriors: Posteriors, law: Law, distances: Distances, canonical: Canonical, active: np.ndarray,
    seed: int,
) -> pd.DataFrame:  # fmt: skip
    q, moments = law.q, law.moments
    low, high = normal_interval(moments.kurtosis, law.kurtosis_se)
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
        "kl": law.kl,
        "mean": moments.mean,
        "variance": moments.variance,
        "variance_of_means": moments.variance_of_means,
        "mean_variance": moments.mean_variance,
        "gauge_slack": law.slack,
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
        some = some_rows(posteriors, LABEL_ROWS, seed)
        q, labels = getattr(some, half), getattr(some, f"labels_{half}")
    for column, values in label_columns(labels).items():
        name, share = label_share(q, moments, values)
        columns[f"{name}_{column}" if column else name] = share
    return pd.DataFrame(columns)


def _mismatch(train: pd.DataFrame, law: JointLaw, plan: Plan, discrete: bool) -> pd.DataFrame:
    """KL(Q‖p) in three parts, with an interval where a finite number of rows leaves one; no upper end where none is.

    discrete: The rows are the whole law, and no sample.
    """
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
    total = scale + low
    if not alone and law.groups_held_out and not discrete:
        # The rows' own scale is above the population's; what is certified of the whole holds for the population.
        total = min(total, law.certified_raw)
    lows, highs = [scale, shape_low, between[0], total], [scale, shape, between[1], scale + high]
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
