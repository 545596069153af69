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
        return self.verdict(claim, UNKNOWN, "not tested", no_runs(), f"not tested: {reason}")


def no_runs() -> pd.DataFrame:
    """A table of no runs."""
    return pd.DataFrame(columns=[*RUN, "value"])


def per_run(table: pd.DataFrame, value: pd.Series, how: str | Callable) -> pd.DataFrame:
    """One row per run: `value` aggregated over the run's rows."""
    if table.empty:
        return no_runs()
    return table[RUN].assign(value=value).groupby(RUN, sort=True, dropna=False)["value"].agg(how).reset_index()


def by_cell(runs: pd.DataFrame, column: str = "value") -> list[np.ndarray]:
    """The runs' numbers, cell by cell; a cell of one run is left out where others have more."""
    groups = [rows[column].to_numpy(dtype=np.float64) for _, rows in runs.groupby(CELL, sort=True, dropna=False)]
    several = [values for values in groups if len(values) > 1]
    return several or groups


def left_out(runs: pd.DataFrame) -> str:
    """A note on the cells that `by_cell` leaves out."""
    sizes = runs.groupby(CELL, dropna=False).size()
    single = int((sizes == 1).sum())
    return f"{single} of {len(sizes)} cells left out: one run only" if 0 < single < len(sizes) else ""


def cell_summary(runs: pd.DataFrame) -> list[dict[str, Any]]:
    """Mean, one-sided limits, extremes and number of runs of every cell."""
    summary = []
    for place, rows in runs.groupby(CELL, sort=True, dropna=False) if len(runs) else ():
        values = rows["value"].to_numpy(dtype=np.float64)
        low, high = one_sided(values)
        measured = {"mean": float(values.mean()), "low": low, "high": high}
        extremes = {"min": float(values.min()), "max": float(values.max()), "seeds": len(values)}
        summary.append(dict(zip(CELL, place, strict=True)) | measured | extremes)
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
    return f"{len(means)} cells, {number(min(means))} to {number(max(means))}"


def joined(*notes: str) -> str:
    """Notes that are not empty, in one line."""
    return "; ".join(note for note in notes if note)
