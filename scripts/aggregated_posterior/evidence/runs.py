"""The evidence of one experiment: its tables, which of their rows bear on which claims, and one value per training run.

The unit of inference is the training run: latent dimensions of different seeds are not the same dimensions, and those
of one run share its weights. Verdicts rest on the main sweep. Variants of training (`dense_customary`, …) serve C2r,
C6s, M1 and the clause on the loss in C1 and C2; controls serve C8; C0 looks at every model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from .limits import UNKNOWN, Limits, one_sided
from .tables import CELL, KEYS, RUN, is_variant
from .verdicts import Verdict, number


@dataclass
class Evidence:
    """The tables that claims are drawn from, as they are in `results/{experiment}/tables/`, and the ledger."""

    moments: pd.DataFrame
    divergence: pd.DataFrame
    samplers: pd.DataFrame
    controls: pd.DataFrame
    ledger: Mapping[str, Any]
    losses: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=KEYS))

    def __post_init__(self) -> None:
        self.control_names = set(self.controls["dataset"])
        raw = self.moments[self.moments["form"] == "raw"]
        active = raw[raw["active"].astype(bool)]
        self._active = {split: self.main(active[active["split"] == split]) for split in ("train", "test")}
        # Of variants too, but of no control.
        self.active_anywhere = self.studied(active[active["split"] == "train"])

    def studied(self, table: pd.DataFrame) -> pd.DataFrame:
        """Rows that belong to no control."""
        return table[~table["dataset"].isin(self.control_names)]

    def main(self, table: pd.DataFrame) -> pd.DataFrame:
        """Rows of the main sweep: no control and no variant of training."""
        table = self.studied(table)
        return table[~is_variant(table)]

    def active(self, split: str) -> pd.DataFrame:
        """Rows of the main sweep's active dimensions in the gauge of training (raw), on one split."""
        return self._active[split]

    def option(self, claim: str, name: str) -> Any:
        """A setting of a claim in the ledger, for instance its threshold."""
        return self.ledger["claims"][claim][name]

    def verdict(
        self,
        claim: str,
        limits: Limits,
        verdict: str,
        runs: pd.DataFrame,
        size: str,
        note: str = "",
        threshold: float | None = None,
        details: dict[str, Any] | None = None,
    ) -> Verdict:
        """Put a claim's verdict together; `runs` has one row per run with the columns of `RUN` and `value`."""
        entry = self.ledger["claims"][claim]
        return Verdict(
            id=claim,
            statement=entry["statement"],
            statistic=entry["statistic"],
            estimate=limits.estimate,
            low=limits.low,
            high=limits.high,
            threshold=entry["threshold"] if threshold is None else threshold,
            verdict=verdict,
            size=size,
            runs=len(runs),
            fixed=entry["fixed"],
            why=entry["why"],
            note=note,
            cells=cell_summary(runs),
            details=details or {},
        )

    def not_tested(self, claim: str, reason: str) -> Verdict:
        """The verdict where the experiment has nothing to measure the claim by."""
        return self.verdict(claim, UNKNOWN, "not tested", no_runs(), reason)


def no_runs() -> pd.DataFrame:
    """A table of no runs."""
    return pd.DataFrame(columns=[*RUN, "value"])


def per_run(table: pd.DataFrame, value: pd.Series, how: str | Callable) -> pd.DataFrame:
    """One row per run: `value` aggregated over the run's rows; NaN where one of them is, since it is not known."""
    if table.empty:
        return no_runs()
    groups = table[RUN].assign(value=value).groupby(RUN, sort=True, dropna=False)["value"]
    return groups.agg(how).where(groups.count() == groups.size()).reset_index()


def cell_numbers(runs: pd.DataFrame) -> np.ndarray:
    """The number of every run's cell, counted from 0 in the order of their keys."""
    # By hand, since runs are few and claims are many: a group-by of four columns takes fifty times as long. An unstated
    # KL weight (NaN) is a weight like others.
    columns = [runs[name].tolist() for name in CELL[:-1]] + [runs[CELL[-1]].fillna(-1.0).tolist()]
    keys = list(zip(*columns, strict=True))
    order = {key: place for place, key in enumerate(sorted(set(keys)))}
    return np.array([order[key] for key in keys])


def kept_cells(runs: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The runs without cells of one run, which say nothing of its spread, unless all cells are; and a note on these."""
    if runs.empty:
        return runs, ""
    sizes = np.bincount(numbers := cell_numbers(runs))
    single = int((sizes == 1).sum())
    if not 0 < single < len(sizes):
        return runs, ""
    note = f"{single} of {len(sizes)} cells left out: one run only"
    return runs[sizes[numbers] > 1].reset_index(drop=True), note


def by_cell(runs: pd.DataFrame, column: str = "value") -> list[np.ndarray]:
    """The runs' numbers, cell by cell, of `kept_cells`."""
    runs, _ = kept_cells(runs)
    if runs.empty:
        return []
    numbers, values = cell_numbers(runs), runs[column].to_numpy(dtype=np.float64)
    return [values[numbers == place] for place in range(numbers.max() + 1)]


def cell_summary(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean, one-sided limits, extremes and number of runs of every cell."""
    if runs.empty:
        return []
    numbers, values = cell_numbers(runs), runs["value"].to_numpy(dtype=np.float64)
    first = np.unique(numbers, return_index=True)[1]
    summary = runs[CELL].iloc[first].to_dict("records")
    for cell, row in zip(summary, first, strict=True):
        own = values[numbers == numbers[row]]
        low, high = one_sided(own)
        cell |= {"mean": float(own.mean()), "low": low, "high": high}
        cell |= {"min": float(own.min()), "max": float(own.max()), "seeds": len(own)}
    return summary


def name_of(cell: Mapping[str, Any]) -> str:
    """A cell in words: `mnist dense, d = 8, β = 0.25`."""
    weight = "" if pd.isna(cell["kl_weight"]) else f", β = {cell['kl_weight']:g}"
    return f"{cell['dataset']} {cell['architecture']}, d = {cell['latent_dim']}{weight}"


def largest_cell(runs: pd.DataFrame) -> str:
    """The cell with the largest mean, in words."""
    return name_of(max(cell_summary(runs), key=lambda cell: cell["mean"]))


def range_over_cells(runs: pd.DataFrame) -> str:
    """The smallest and the largest of the cells' means, in words."""
    means = [cell["mean"] for cell in cell_summary(runs)]
    return f"{len(means)} cell{'s' * (len(means) > 1)}, {number(min(means))} to {number(max(means))}"


def joined(*notes: str) -> str:
    """Notes that are not empty, in one line."""
    return "; ".join(note for note in notes if note)
