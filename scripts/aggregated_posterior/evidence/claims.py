"""From tables to verdicts: each claim's statistic, its interval, and what follows.

The unit of inference is the training run: latent dimensions of different seeds are not the same dimensions, and those
of one run share its weights. An interval therefore resamples the seeds of every cell (a cell is a data set,
architecture, latent size and KL weight) with replacement and computes the statistic again; the 2.5 % and 97.5 %
quantiles bound it. Three seeds give coarse intervals, and the number of runs stands beside each.

A verdict is *supported* where the whole interval lies on the claim's side of the threshold, *refuted* where it lies on
the other, *inconclusive* where it holds the threshold or there is nothing to measure.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from ..statistics.closed_forms import REFERENCE
from ..statistics.marginals import Marginals
from .tables import CELL

RUN = [*CELL, "seed"]


@dataclass
class Verdict:
    """One claim, measured. `estimate`, `low`, `high` and `threshold` are in the units that `statistic` names."""

    id: str
    statement: str
    statistic: str
    estimate: float
    low: float
    high: float
    threshold: float | None
    verdict: str
    runs: int
    note: str = ""
    cells: list[dict[str, Any]] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def decide(low: float, high: float, threshold: float, above: bool) -> str:
    """The verdict for a claim that the statistic lies above (or below) a threshold."""
    if not (np.isfinite(low) and np.isfinite(high)):
        return "inconclusive"
    if above:
        return "supported" if low > threshold else "refuted" if high < threshold else "inconclusive"
    return "supported" if high <= threshold else "refuted" if low > threshold else "inconclusive"


# One row per run, as arrays: the columns of such a table, and `cell`, the number of the run's cell.
Runs = Mapping[str, np.ndarray]


def seed_interval(
    per_run: pd.DataFrame,
    statistic: Callable[[Runs], float],
    replicates: int,
    confidence: float,
    seed: int,
) -> tuple[float, float, float]:
    """A statistic of one row per run, with a percentile interval from resampling the seeds within each cell.

    Args:
        per_run: One row per run with the columns of `CELL` and the run's value.
        statistic: Maps the columns of such a table to a number.
        replicates: Number of resamples.
        confidence: Coverage.
        seed: Seed of the resampling.

    Returns:
        (estimate, low, high); all NaN for an empty table. With one seed per cell there is nothing to resample: the
        bounds are NaN, and the verdict will be inconclusive.
    """
    if per_run.empty:
        return np.nan, np.nan, np.nan
    cell = per_run.groupby(CELL, sort=True).ngroup().to_numpy()
    columns = {name: per_run[name].to_numpy() for name in per_run.columns} | {"cell": cell}
    groups = [np.flatnonzero(cell == number) for number in range(cell.max() + 1)]
    estimate = float(statistic(columns))
    if max(map(len, groups)) == 1:
        return estimate, np.nan, np.nan
    rng = np.random.default_rng(seed)
    values = np.empty(replicates)
    for replicate in range(replicates):
        rows = np.concatenate([rng.choice(group, size=len(group)) for group in groups])
        values[replicate] = statistic({name: column[rows] for name, column in columns.items()})
    low, high = np.nanquantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return estimate, float(low), float(high)


def mean_value(runs: Runs) -> float:
    """The mean over runs."""
    return float(np.mean(runs["value"]))


def worst_cell(runs: Runs) -> float:
    """The largest of the cells' means over seeds."""
    return float(np.max(np.bincount(runs["cell"], runs["value"]) / np.bincount(runs["cell"])))


@dataclass
class Evidence:
    """The tables that claims are drawn from. Controls are kept apart: they have claim C8 to themselves."""

    moments: pd.DataFrame
    marginals: pd.DataFrame
    divergence: pd.DataFrame
    samplers: pd.DataFrame
    controls: pd.DataFrame
    ledger: Mapping[str, Any]
    seed: int = 0

    def __post_init__(self) -> None:
        names = set(self.controls["dataset"]) if len(self.controls) else set()
        self.all_moments = self.moments
        self.control_marginals = self.marginals[self.marginals["dataset"].isin(names)]
        self.moments = self.moments[~self.moments["dataset"].isin(names)]
        self.divergence = self.divergence[~self.divergence["dataset"].isin(names)]

    def active(self, form: str = "raw", split: str = "train") -> pd.DataFrame:
        """Rows of active dimensions of the models under study."""
        table = self.moments
        return table[(table["split"] == split) & (table["form"] == form) & table["active"].astype(bool)]

    def interval(self, per_run: pd.DataFrame, statistic: Callable[[Runs], float]) -> tuple[float, float, float]:
        replicates, confidence = self.ledger["bootstrap_replicates"], self.ledger["confidence"]
        return seed_interval(per_run, statistic, replicates, confidence, self.seed)

    def judge(
        self,
        claim: str,
        per_run: pd.DataFrame,
        statistic: Callable[[Runs], float],
        above: bool,
        note: str = "",
    ) -> Verdict:
        """The verdict on `claim` from one row per run, with column `value`."""
        entry = self.ledger["claims"][claim]
        estimate, low, high = self.interval(per_run, statistic)
        verdict = decide(low, high, entry["threshold"], above)
        return self.verdict(claim, estimate, low, high, verdict, per_run, note)

    def verdict(
        self,
        claim: str,
        estimate: float,
        low: float,
        high: float,
        verdict: str,
        per_run: pd.DataFrame,
        note: str = "",
        threshold: float | None = None,
    ) -> Verdict:
        entry = self.ledger["claims"][claim]
        cells = []
        if len(per_run):
            by_cell = per_run.groupby(CELL, sort=True)["value"].agg(["mean", "min", "max", "size"]).reset_index()
            cells = by_cell.rename(columns={"size": "seeds"}).to_dict("records")
        return Verdict(
            id=claim,
            statement=entry["statement"],
            statistic=entry["statistic"],
            estimate=estimate,
            low=low,
            high=high,
            threshold=entry["threshold"] if threshold is None else threshold,
            verdict=verdict,
            runs=len(per_run),
            note=note,
            cells=cells,
        )


def per_run(table: pd.DataFrame, value: pd.Series | str, how: str | Callable) -> pd.DataFrame:
    """One row per run: `value` aggregated over the run's rows."""
    if table.empty:
        return pd.DataFrame(columns=[*RUN, "value"])
    values = table[value] if isinstance(value, str) else value
    return table[RUN].assign(value=values).groupby(RUN, sort=True)["value"].agg(how).reset_index()


def claim_formulas(evidence: Evidence) -> Verdict:
    """C0: draws from Q(z) have the moments that the formulas give."""
    table = evidence.all_moments
    table = table[(table["split"] == "train") & (table["form"] == "raw")]
    first = table.groupby(CELL)["seed"].transform("min")
    table = table[table["seed"] == first]
    columns = [name for name in table.columns if name.startswith("draws_z_")]
    worst = per_run(table, table[columns].abs().max(axis="columns"), "max")
    estimate = worst["value"].max() if len(worst) else np.nan
    verdict = decide(estimate, estimate, evidence.ledger["claims"]["C0"]["threshold"], above=False)
    return evidence.verdict(
        "C0",
        estimate,
        estimate,
        estimate,
        verdict,
        worst,
        f"{len(table) * len(columns)} z-scores; no sampling of runs",
    )


def claim_first_moment(evidence: Evidence) -> Verdict:
    """C1: |E μ_j| is small."""
    active, canonical = evidence.active(), evidence.active("canonical")
    note = f"canonical form: {canonical['mean'].abs().max():.1e}" if len(canonical) else ""
    return evidence.judge("C1", per_run(active, active["mean"].abs(), "max"), worst_cell, above=False, note=note)


def claim_second_moment(evidence: Evidence) -> Verdict:
    """C2: |E μ_j² + E s_j − 1| is small at every KL weight."""
    active, canonical = evidence.active(), evidence.active("canonical")
    note = f"canonical form: {(canonical['second_moment'] - 1).abs().max():.1e}" if len(canonical) else ""
    residual = (active["second_moment"] - 1).abs()
    return evidence.judge("C2", per_run(active, residual, "max"), worst_cell, above=False, note=note)


def claim_other_moments(evidence: Evidence) -> Verdict:
    """C3: excess kurtosis varies between dimensions that share their first two moments."""
    active = evidence.active()
    rows = [
        {
            **dict(zip(RUN, run, strict=True)),
            "value": group["kurtosis"].std() / np.sqrt((group["kurtosis_se"] ** 2).mean()),
        }
        for run, group in active.groupby(RUN, sort=True)
        if len(group) > 1
    ]
    table = pd.DataFrame(rows, columns=[*RUN, "value"])
    return evidence.judge("C3", table, lambda runs: float(np.median(runs["value"])), above=True)


def claim_kurtosis(evidence: Evidence) -> Verdict:
    """C4: most active dimensions have a kurtosis that is not 3."""
    margin = evidence.ledger["claims"]["C4"]["margin"]

    def outside(table: pd.DataFrame) -> pd.DataFrame:
        away = (table["kurtosis_low"] > 3 + margin) | (table["kurtosis_high"] < 3 - margin)
        result = per_run(table, away.astype(float), "sum")
        result["dimensions"] = per_run(table, away.astype(float), "size")["value"]
        return result

    def share(runs: Runs) -> float:
        return float(runs["value"].sum() / runs["dimensions"].sum())

    train, test = outside(evidence.active()), outside(evidence.active(split="test"))
    note = f"on test images {share(test):.2f}" if len(test) else ""
    verdict = evidence.judge("C4", train, share, above=True, note=note)
    for cell, (_, group) in zip(verdict.cells, train.groupby(CELL, sort=True) if len(train) else [], strict=True):
        cell["dimensions"] = int(group["dimensions"].sum())
        cell["share"] = share(group)
    return verdict


def claim_kl_weight(evidence: Evidence) -> Verdict:
    """C4β: |excess kurtosis| falls as the KL weight grows."""
    from scipy.stats import rankdata

    active = evidence.active()
    table = per_run(active, (active["kurtosis"] - 3).abs(), "median")
    # One correlation per curve: runs that differ in nothing but the KL weight and the seed.
    table["curve"] = table.groupby(["dataset", "architecture", "latent_dim"]).ngroup() if len(table) else []

    def correlation(runs: Runs) -> float:
        values = []
        for curve in np.unique(runs["curve"]):
            chosen = runs["curve"] == curve
            weights, medians = rankdata(runs["kl_weight"][chosen]), rankdata(runs["value"][chosen])
            if np.ptp(weights) and np.ptp(medians):
                values.append(np.corrcoef(weights, medians)[0, 1])
        return float(np.mean(values)) if values else np.nan

    return evidence.judge("C4β", table, correlation, above=False)


def certified_bounds(evidence: Evidence) -> pd.DataFrame:
    """One row per run: the certified lower bound of KL(Q ‖ N(0, I)), canonical form, the better of two densities."""
    table = evidence.divergence
    if table.empty:
        return pd.DataFrame(columns=[*RUN, "value", "ratio"])
    table = table[table["form"] == "canonical"]
    bound = table[["certified_gaussian", "certified_gmm"]].max(axis="columns")
    return table[RUN].assign(value=bound, ratio=table["dimension_wise_kl"] / bound).reset_index(drop=True)


def claim_distance(evidence: Evidence) -> Verdict:
    """C5: in some cell Q(z) is certified to be at least 1 nat away from N(0, I)."""
    bounds = certified_bounds(evidence)
    return evidence.judge("C5", bounds, worst_cell, above=True)


def claim_marginal_share(evidence: Evidence) -> Verdict:
    """C5s: the part of that distance that the marginals hold, in the cell that C5 rests on."""
    bounds = certified_bounds(evidence)
    if len(bounds):
        means = bounds.groupby(CELL)["value"].mean()
        bounds = bounds.set_index(CELL).loc[[means.idxmax()]].reset_index()
    ratios = bounds.assign(value=bounds["ratio"])
    estimate, low, high = evidence.interval(ratios, mean_value)
    return evidence.verdict("C5s", estimate, low, high, "reported", ratios)


def sampler_gain(evidence: Evidence, rung: str) -> pd.DataFrame:
    """One row per run: the part of the prior's Fréchet penalty over the floor that `rung` removes, mean over judges.

    (F(prior) − F(rung)) / (F(prior) − F(floor)), with one judge's distances subtracted before the mean over judges.
    """
    table = evidence.samplers
    if table.empty or rung not in set(table["sampler"]):
        return pd.DataFrame(columns=[*RUN, "value"])
    wide = table.pivot_table(index=[*RUN, "judge"], columns="sampler", values="frechet").groupby(RUN).mean()
    gain = (wide["prior"] - wide[rung]) / (wide["prior"] - wide["floor"])
    return gain.rename("value").reset_index()


def claim_prior_sampling(evidence: Evidence) -> Verdict:
    """C6: a density fitted to the posteriors generates better images than the prior."""
    gain = sampler_gain(evidence, evidence.ledger["claims"]["C6"]["mixture"])
    return evidence.judge("C6", gain, mean_value, above=True)


def claim_marginal_shape(evidence: Evidence) -> Verdict:
    """C6k: right marginals alone, kurtosis included, already generate better images than the prior."""
    return evidence.judge("C6k", sampler_gain(evidence, "marginals"), mean_value, above=True)


def claim_decoy(evidence: Evidence) -> Verdict:
    """C7: a mixture with kurtosis 3 that is plainly not normal."""
    entry = evidence.ledger["claims"]["C7"]
    decoy = REFERENCE["decoy"].posterior()
    kurtosis = float(decoy.moments().kurtosis[0])
    measured = {name: float(getattr(Marginals(decoy).distances(), name)[0]) for name in entry["minima"]}
    ratio = min(measured[name] / minimum for name, minimum in entry["minima"].items())
    passes = abs(kurtosis - 3) <= entry["margin"]
    verdict = "supported" if passes and ratio > entry["threshold"] else "refuted"
    note = f"kurtosis {kurtosis:.6f}, " + ", ".join(f"{name} {value:.4f}" for name, value in measured.items())
    empty = pd.DataFrame(columns=[*RUN, "value"])
    return evidence.verdict("C7", ratio, ratio, ratio, verdict, empty, note + "; exact, no sampling")


def claim_controls(evidence: Evidence) -> Verdict:
    """C8: the controls' kurtosis is the closed-form one, and the Gaussian control's marginals are N(0, 1)."""
    from scipy.stats import norm

    entry, table = evidence.ledger["claims"]["C8"], evidence.controls
    if table.empty:
        return evidence.verdict("C8", np.nan, np.nan, np.nan, "inconclusive", table, "no control in this experiment")
    table = table[table["active"].astype(bool)]
    score = (table["excess_kurtosis"] - table["expected_excess_kurtosis"]).abs() / table["kurtosis_se"]
    worst = per_run(table, score, "max")
    alpha = 1 - evidence.ledger["confidence"]
    threshold = float(norm.ppf(1 - alpha / (2 * len(table))))
    estimate = float(worst["value"].max())
    gaussian = evidence.control_marginals
    gaussian = gaussian[(gaussian["dataset"] == "control_gaussian") & (gaussian["form"] == "canonical")]
    kl = float(gaussian["kl"].max()) if len(gaussian) else np.nan
    supported = estimate <= threshold and not kl > entry["kl_maximum"]
    note = f"{len(table)} dimensions; largest marginal KL of the Gaussian control {kl:.4f} nat"
    verdict = "supported" if supported else "refuted"
    return evidence.verdict("C8", estimate, estimate, estimate, verdict, worst, note, threshold)


LEDGER = (
    claim_formulas,
    claim_first_moment,
    claim_second_moment,
    claim_other_moments,
    claim_kurtosis,
    claim_kl_weight,
    claim_distance,
    claim_marginal_share,
    claim_prior_sampling,
    claim_marginal_shape,
    claim_decoy,
    claim_controls,
)


def evaluate(evidence: Evidence) -> list[Verdict]:
    """All claims, in the ledger's order."""
    return [claim(evidence) for claim in LEDGER]


def number(value: float | None) -> str:
    """A number for a table of verdicts; a dash where there is none."""
    return "–" if value is None or not np.isfinite(value) else f"{value:.3g}"


def verdict_table(verdicts: list[Verdict]) -> pd.DataFrame:
    """The verdicts as a table of text for people."""
    rows = [
        {
            "claim": verdict.id,
            "statement": verdict.statement,
            "verdict": verdict.verdict,
            "estimate [interval]": f"{number(verdict.estimate)} [{number(verdict.low)}, {number(verdict.high)}]",
            "threshold": number(verdict.threshold),
            "runs": verdict.runs,
            "statistic": verdict.statistic,
            "note": verdict.note,
        }
        for verdict in verdicts
    ]
    return pd.DataFrame(rows)
