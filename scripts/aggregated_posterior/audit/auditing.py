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

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..generation.chosen_sampler import FittedSampler, choose_sampler
from ..posterior.foreign_files import posteriors_from_arrays, read_posteriors
from ..posterior.gauge import Canonical, canonicalise, slack_of
from ..posterior.mixture import AggregatedPosterior, Moments, normal_log_pdf
from ..posterior.splits import FEWEST_ROWS, Posteriors, active_dimensions, hold_out
from ..statistics.divergence import balanced_draws, fit_certifying_mixture, measure_joint
from ..statistics.marginals import Marginals
from ..statistics.uncertainty import kurtosis_se, normal_interval
from ..storage import DataError
from .findings import advice, explain

# Beyond this many pairs (points × rows), ln Q is evaluated at fewer points, so that long inputs end.
DENSITY_PAIRS = 1_000_000_000
FEWEST_POINTS = 200
# Excess kurtosis below this is worth under 0.001 nat and gets no explanation.
KURTOSIS_MARGIN = 0.1
# An interval narrower than this many nats is called exact.
EXACT = 0.01
# Spikes without overlap would give infinity, which JSON lacks.
LARGEST_GRAIN = 1e6
# One-sided 95 %: a certified value is the estimate less this many standard errors.
ONE_SIDED = 1.6448536269514722
TERMS = {
    "term_means": "shape of the means",
    "term_covariance": "spread tied to position",
    "term_scale": "mixing of scales",
}
HELD_OUT_GIVEN = "the file's own held-out rows"
HELD_OUT_TAKEN = "a fifth of the rows, drawn with a fixed seed (the encoder was trained on them)"
HELD_OUT_NONE = f"none: fewer than {FEWEST_ROWS} rows"


@dataclass(frozen=True)
class Audit:
    """What `audit` found.

    dimensions: one row per split and latent dimension. `kl` is the mean KL; mean to kurtosis_high are moments of the
        raw Q(z) (skewness and kurtosis are the same in canonical form); the three terms add up to kurtosis − 3 and
        `cause` names the largest; `gauge_slack`; KL(q_j‖N(0, 1)) as `marginal_kl_raw` and `marginal_kl`, and `ks`,
        `w1`, `w2`, `tv`, these last five in canonical form; `eta_squared` (classes) or `r_squared` (numbers) where
        labels are given.
    mismatch: scale, marginal shape, dependence and their sum, nats, each with `low` and `high` for the population that
        the rows come from; `nats` is NaN where these are more than 1 nat apart.
    divergence: the estimators behind it, one row per form (raw, canonical); see `divergence.measure_joint`.
    summary: numbers for the whole model. findings, advice, warnings: sentences.
    """

    dimensions: pd.DataFrame
    mismatch: pd.DataFrame
    divergence: pd.DataFrame
    summary: dict[str, Any]
    findings: list[str]
    advice: list[str]
    warnings: list[str]
    marginals: Marginals
    posteriors: Posteriors

    @property
    def canonical(self) -> Canonical:
        """Shift and scale (d,) that give Q(z) mean 0 and variance 1: (z − shift)·scale."""
        return self.posteriors.canonical()

    def sampler(self, **settings: Any) -> FittedSampler:
        """The best sampler for these posteriors, chosen on held-out rows; `settings` are those of `choose_sampler`."""
        return choose_sampler(self.posteriors, **settings)

    def to_dict(self) -> dict[str, Any]:
        """Everything as JSON builtins."""
        tables = {name: getattr(self, name).to_dict("records") for name in ("dimensions", "mismatch", "divergence")}
        texts = {name: list(getattr(self, name)) for name in ("findings", "advice", "warnings")}
        return {"summary": dict(self.summary), **tables, **texts}


def audit(
    mean: Any,
    variance: Any = None,
    *,
    log_variance: Any = None,
    std: Any = None,
    mean_test: Any = None,
    variance_test: Any = None,
    log_variance_test: Any = None,
    std_test: Any = None,
    labels: Any = None,
    labels_test: Any = None,
    **settings: Any,
) -> Audit:
    """Audit the posteriors of any VAE with diagonal Gaussian posteriors.

    Args:
        mean: (N, d) posterior means: a NumPy array, or a tensor of any library that NumPy can read (torch tensors may
            require gradients and live on a GPU).
        variance, log_variance, std: (N, d) each; exactly one of the three.
        mean_test, variance_test, log_variance_test, std_test: the same for held-out data. Without them a seeded fifth
            of the rows is held out for the joint estimators.
        labels, labels_test: (N,) classes, or real numbers.
        settings: Keyword arguments of `audit_posteriors`.

    Returns:
        An `Audit` with pandas tables and sentences.

    Raises:
        DataError: Arrays that cannot be posteriors; the message names the array.
    """
    given = {
        "mean": mean, "variance": variance, "log_variance": log_variance, "std": std, "mean_test": mean_test,
        "variance_test": variance_test, "log_variance_test": log_variance_test, "std_test": std_test,
        "labels": labels, "labels_test": labels_test,
    }  # fmt: skip
    arrays = {name: as_array(value, name) for name, value in given.items() if value is not None}
    return audit_posteriors(posteriors_from_arrays(arrays), **settings)


def audit_file(path: str | Path, **settings: Any) -> Audit:
    """`audit_posteriors` of a `.npz` or `.safetensors` file; see `posteriors` for the arrays in it."""
    return audit_posteriors(read_posteriors(path), **settings)


def audit_posteriors(
    posteriors: Posteriors,
    *,
    active_threshold: float = 0.05,
    points: int = 2000,
    gmm_components: int = 10,
    fit_points: int = 20_000,
    seed: int = 0,
    progress: Callable[[str], None] = lambda stage: None,
) -> Audit:
    """Audit posteriors that have been read.

    Args:
        posteriors: Train posteriors, with or without a held-out split and labels.
        active_threshold: Mean KL above which a dimension counts as active, nats.
        points: Draws at which ln Q is evaluated; fewer where N is so large that it would take minutes.
        gmm_components, fit_points: Components and draws of the mixture behind the certified bound.
        seed: Of every draw; the same input and seed give the same result.
        progress: Called with the name of each stage as it begins.
    """
    if points < 2 or gmm_components < 1 or fit_points < 2 * gmm_components:
        raise DataError("points ≥ 2, gmm_components ≥ 1 and fit_points ≥ 2·gmm_components are needed")
    train = posteriors.train
    progress("moments")
    moments, kl = train.moments(), train.kl()
    canonical = posteriors.canonical(moments)
    active = active_dimensions(kl, active_threshold)
    progress("marginals")
    marginals = Marginals(canonicalise(train, canonical))
    parts = [_dimensions("train", train, moments, kl, marginals, canonical, active, posteriors.labels_train)]
    if posteriors.test is not None:
        test = posteriors.test
        of_test = Marginals(canonicalise(test, canonical))
        parts.append(
            _dimensions("test", test, test.moments(), test.kl(), of_test, canonical, active, posteriors.labels_test)
        )
    dimensions = pd.concat(parts, ignore_index=True)
    pair, held_out = _pair(posteriors, seed)
    progress("joint law")
    points = int(np.clip(DENSITY_PAIRS // train.n, min(FEWEST_POINTS, points), points))
    settings = {"gmm_components": gmm_components, "fit_points": fit_points, "seed": seed}
    rows = measure_joint(pair.train, pair.test, points=points, active_threshold=active_threshold, **settings)
    divergence = pd.DataFrame(rows)
    grain = _grain(pair, points, seed)
    mismatch = _mismatch(dimensions[dimensions["split"] == "train"], rows[1], grain)
    progress("sampling the prior")
    summary = {
        "n": train.n,
        "n_test": None if posteriors.test is None else posteriors.test.n,
        "latent_dim": train.latent_dim,
        "active_dimensions": int(active.sum()),
        "active_threshold": active_threshold,
        "mean_kl": float(kl.sum()),
        "log_n": float(np.log(pair.train.n)),
        "gauge_slack": float(canonical.slack.sum()),
        "held_out": held_out,
        "identified": rows[1]["identified"],
        "correlation_kl": rows[1]["gaussian_part"],
        "grain": grain,
        **_missed_by_prior(pair, active_threshold=active_threshold, **settings),
        **{
            name: value for name, value in zip(("scale", "shape", "dependence", "total"), mismatch["nats"], strict=True)
        },
        "points": points,
        "seed": seed,
    }
    return Audit(
        dimensions=dimensions,
        mismatch=mismatch,
        divergence=divergence,
        summary=summary,
        findings=explain(dimensions, mismatch, summary),
        advice=advice(dimensions, mismatch, summary),
        warnings=list(posteriors.warnings),
        marginals=marginals,
        posteriors=posteriors,
    )


def as_array(value: Any, name: str) -> np.ndarray:
    """A NumPy array of an array or tensor, without importing the tensor's library."""
    if hasattr(value, "detach"):  # a torch tensor, perhaps on a GPU, perhaps in bfloat16
        value = value.detach().cpu()
        try:
            return value.numpy()
        except TypeError:
            return value.float().numpy()
    try:
        return np.asarray(value)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name}: cannot be read as an array ({' '.join(str(error).split())})") from None


def label_share(q: AggregatedPosterior, moments: Moments, labels: np.ndarray) -> tuple[str, np.ndarray]:
    """How much of each dimension's variance under Q(z) the labels account for, (d,), between 0 and 1.

    For classes η² = Var(E[μ|class])/V, for real numbers the squared correlation Cov(μ, label)²/(V·Var(label)). V holds
    the posterior's own variance too, so a dimension of pure noise has 0 whatever its means do.
    """
    mean = np.asarray(q.mean, dtype=np.float64) - moments.mean
    if labels.dtype.kind == "f":
        values = labels.astype(np.float64) - labels.mean(dtype=np.float64)
        spread = float(np.square(values).mean())
        covariance = values @ mean / q.n
        return "r_squared", covariance**2 / (moments.variance * spread) if spread > 0 else np.zeros(q.latent_dim)
    _, code = np.unique(labels, return_inverse=True)
    order = np.argsort(code, kind="stable")
    starts = np.searchsorted(code[order], np.arange(code.max() + 1))
    sums = np.add.reduceat(mean[order], starts, axis=0)
    sizes = np.bincount(code)[:, None]
    return "eta_squared", (sums**2 / sizes).sum(axis=0) / q.n / moments.variance


def _dimensions(
    split: str, q: AggregatedPosterior, moments: Moments, kl: np.ndarray, marginals: Marginals,
    canonical: Canonical, active: np.ndarray, labels: np.ndarray | None,
) -> pd.DataFrame:  # fmt: skip
    low, high = normal_interval(moments.kurtosis, kurtosis_se(q, moments))
    distances = marginals.distances()
    terms = np.stack([getattr(moments, name) for name in TERMS])
    excess = moments.excess_kurtosis
    names = np.array(list(TERMS.values()))
    # The term that pulls hardest in the direction in which kurtosis went.
    cause = np.where(np.abs(excess) < KURTOSIS_MARGIN, "", names[(terms * np.sign(excess)).argmax(axis=0)])
    # KL changes under z → (z − t)α by the change of E[z²]/2 and by −ln α; no quadrature is needed for the raw form.
    inner_square = ((moments.mean - canonical.shift) ** 2 + moments.variance) * canonical.scale**2
    raw = distances.kl + 0.5 * (moments.second_moment - inner_square) + np.log(canonical.scale)
    columns = {
        "split": split,
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
        "marginal_kl_raw": np.maximum(raw, distances.kl if split == "train" else 0.0),
        "marginal_kl": distances.kl,
        "ks": distances.ks,
        "w1": distances.w1,
        "w2": distances.w2,
        "tv": distances.tv,
    }
    if labels is not None:
        name, share = label_share(q, moments, labels)
        columns[name] = share
    return pd.DataFrame(columns)


def _pair(posteriors: Posteriors, seed: int) -> tuple[Posteriors, str]:
    """Train and held-out rows for the joint estimators, and where the held-out ones come from."""
    if posteriors.test is not None:
        return posteriors, HELD_OUT_GIVEN
    if posteriors.train.n < FEWEST_ROWS:
        return posteriors, HELD_OUT_NONE
    return hold_out(posteriors, seed), HELD_OUT_TAKEN


def _grain(pair: Posteriors, points: int, seed: int) -> float | None:
    """Σ_j E_{z~test}[ln q_j,test(z) − ln q_j,train(z)] ≥ 0, nats: how much of the marginals' KL the rows make.

    KL of a population's marginals lies between the in-sample value less this and the in-sample value, as for the joint
    law. It is near 0 unless posteriors are narrower than the distance of neighbouring means.
    """
    if pair.test is None:
        return None
    canonical = pair.canonical()
    train, test = (canonicalise(q, canonical) for q in (pair.train, pair.test))
    draws = balanced_draws(test, points, np.random.default_rng([seed, 3]))
    with np.errstate(divide="ignore"):
        difference = np.log(Marginals(test).pdf(draws.z)) - np.log(Marginals(train).pdf(draws.z))
    return float(np.clip(difference.sum(axis=1).mean(), 0.0, LARGEST_GRAIN))


def _mismatch(train: pd.DataFrame, joint: dict[str, Any], grain: float | None) -> pd.DataFrame:
    """KL(Q‖p) in three parts, with an interval where a finite number of rows leaves one."""
    scale, shape = float(train["gauge_slack"].sum()), float(train["marginal_kl"].sum())
    shape_low = max(0.0, shape - (shape if grain is None else grain))
    alone = len(train) == 1  # one dimension depends on nothing
    low, high = shape_low, shape
    if joint["bracket_low"] is not None and not alone:
        certified = [
            joint[name] - ONE_SIDED * np.nan_to_num(joint[f"{name}_se"])
            for name in ("bracket_low", "certified_gaussian", "certified_gmm")
        ]
        low = max(low, *certified)
        # In-sample KL errs upwards, and may still fall short of what is certified by its own error.
        high = max(low, shape, joint["bracket_high"] + ONE_SIDED * np.nan_to_num(joint["bracket_high_se"]))
        between = max(0.0, low - shape), high - shape_low
    elif not alone:  # too few rows to hold any out: there is only what they show by themselves
        between = 0.0, float(joint["total_correlation"])
        high = shape + between[1]
    else:
        between = 0.0, 0.0
    # A number only where the rows determine it.
    dependence = 0.5 * sum(between) if between[1] - between[0] < 1.0 else np.nan
    total = scale + shape + dependence if high - low < 1.0 else np.nan
    lows, highs = [scale, shape_low, between[0], scale + low], [scale, shape, between[1], scale + high]
    return pd.DataFrame(
        {
            "part": ["scale", "marginal shape", "dependence", "total"],
            "nats": [scale, shape, dependence, total],
            "low": lows,
            "high": highs,
            "exact": [b - a < EXACT for a, b in zip(lows, highs, strict=True)],
        }
    )


def _missed_by_prior(
    pair: Posteriors, gmm_components: int, fit_points: int, active_threshold: float, seed: int
) -> dict[str, float | None]:
    """Shares of the prior's draws that certainly fall where Q(z) does not, before and after rescaling.

    For any region A, TV(Q, p) ≥ Q(A) − p(A). A is where a mixture fitted on train posteriors exceeds the prior; Q(A)
    and p(A) come from held-out rows and fresh draws, so the bound is honest whatever the fit is worth. 95 % one-sided.
    """
    names = ("prior_misses_raw", "prior_misses_canonical")
    if pair.test is None:
        return dict.fromkeys(names)
    canonical = pair.canonical()
    train, test = (canonicalise(q, canonical) for q in (pair.train, pair.test))
    model = fit_certifying_mixture(train, gmm_components, fit_points, active_threshold, seed)
    rng = np.random.default_rng([seed, 2])
    draws = balanced_draws(test, min(test.n, fit_points), rng)
    prior = rng.standard_normal((len(draws.z), train.latent_dim))
    inside = model.score_samples(draws.z)
    missed = []
    for raw in (True, False):
        if raw:
            # Densities per raw volume: both sides of the comparison carry the same Jacobian, written out for the model.
            jacobian = canonical.log_determinant
            own = inside + jacobian > normal_log_pdf(canonical.invert(draws.z))
            other = model.score_samples(canonical.apply(prior)) + jacobian > normal_log_pdf(prior)
        else:
            own, other = inside > normal_log_pdf(draws.z), model.score_samples(prior) > normal_log_pdf(prior)
        a, b, m = float(own.mean()), float(other.mean()), len(prior)
        missed.append(max(0.0, a - b - ONE_SIDED * float(np.sqrt((a * (1 - a) + b * (1 - b)) / m))))
    return dict(zip(names, missed, strict=True))
