"""Two tables of the same experiment: equal, equal up to rounding, within the spread between seeds, or different.

Training is chaotic: on another machine the last bits of a sum differ, and after some epochs so does the model. Its
numbers must then be judged by how much they vary from seed to seed. On a like machine nothing varies, and a number that
has changed on its own is a mistake. So each run (one trained model) is first asked whether it is *the same
computation*: more than half of its non-integer numbers equal the published ones up to rounding.

- Same computation: **every** number must equal the published one up to rounding,
  |own − published| ≤ `RELATIVE` · max(|own|, |published|) + `ABSOLUTE`.
- Another computation: numbers are averaged over a run's latent dimensions (inactive ones apart, since they are forced
  to kurtosis 3, and since dimensions of different runs are not the same dimensions), then over the n seeds of a cell,
  and the two means must obey |own − published| ≤ `SPREADS` · s · √(1/n_own + 1/n_published) + rounding. s is the
  published standard deviation between seeds: the cell's own, or the root mean square over all cells of the same data
  set and architecture where that is larger (three seeds alone can agree by chance). Counts may besides be off by one,
  shares of dimensions by one dimension. Judges are trained anew as well, so scores vary over seeds and judges, and n is
  the smaller number of the two.

A cell without any published spread (one seed everywhere) cannot be judged; such numbers are counted and said.
Curves of single models (`CURVES`) are compared as the same computation or not at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from .tables import CELL, KEYS

SPREADS = 5.0
RELATIVE = 1e-6
ABSOLUTE = 1e-9

RUN = [*CELL, "seed"]
# Columns that say which rows of a run belong together. `active` splits all numbers but the shares themselves.
GROUPS = {
    "moments": ["split", "form", "active"],
    "marginals": ["split", "form", "active"],
    "controls": ["active"],
    "divergence": ["form"],
    "samplers": ["sampler"],
    "training": [],
}
CURVES = {"marginal_curves", "latent_density", "latent_ellipses"}
# Numbers that name a row, or that are the same whatever was trained.
NAMES = {"dimension", "epoch", "judge", "x", "z1", "z2", "label", "learning_rate", "n"}


@dataclass(frozen=True)
class Difference:
    """One number (or word) outside its tolerance."""

    place: str
    quantity: str
    published: Any
    own: Any
    tolerance: float | None = None


@dataclass
class Comparison:
    """What came of one file."""

    file: str
    status: str
    compared: int = 0
    unjudged: int = 0
    differences: list[Difference] = field(default_factory=list)
    note: str = ""


def rounding(own: np.ndarray, published: np.ndarray) -> np.ndarray:
    """The difference that is put down to rounding, elementwise."""
    return RELATIVE * np.maximum(np.abs(own), np.abs(published)) + ABSOLUTE


def compare_tables(name: str, own: pd.DataFrame, published: pd.DataFrame) -> Comparison:
    """Compare a reader's table with the published one.

    Args:
        name: The table's name, a key of `GROUPS` or one of `CURVES`.
        own: The reader's table.
        published: The published table.

    Returns:
        A comparison with the status `within rounding`, `within seed spread`, `differs` or `not compared`.
    """
    lost = [column for column in published if column not in own]
    if lost:
        differences = [Difference("header", column, "a column", "missing") for column in lost]
        return Comparison(name, "differs", differences=differences)
    # A table whose KL weights are whole numbers is read with integers.
    own, published = (table.astype({"kl_weight": float}) for table in (own[list(published)], published))
    differences = list(_lost_cells(own, published))
    same, rows, compared = _by_row(own, published)
    differences += rows
    others = {run[: len(CELL)] for run in _unique(published, RUN) if run not in same} & set(_unique(own, CELL))
    if not others:
        return Comparison(name, "differs" if differences else "within rounding", compared, 0, differences)
    if name in CURVES:
        note = "curves of single models, which were trained to other weights"
        return Comparison(name, "differs" if differences else "not compared", compared, 0, differences, note)
    unjudged = 0
    for found, count, blind in _by_seed(name, own, published, others):
        differences += found
        compared += count
        unjudged += blind
    return Comparison(name, "differs" if differences else "within seed spread", compared, unjudged, differences)


def _place(values: tuple[Any, ...], names: list[str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))


def _unique(table: pd.DataFrame, keys: list[str]) -> list[tuple]:
    return list(table[keys].drop_duplicates().itertuples(index=False, name=None))


def _lost_cells(own: pd.DataFrame, published: pd.DataFrame) -> Iterator[Difference]:
    here = set(_unique(own, CELL))
    for cell in _unique(published, CELL):
        if cell not in here:
            yield Difference(_place(cell, CELL), "rows", "present", "missing")


def _by_row(own: pd.DataFrame, published: pd.DataFrame) -> tuple[set[tuple], list[Difference], int]:
    """The runs that are the same computation, what differs in them, and how many values were compared in them."""
    same: set[tuple] = set()
    differences: list[Difference] = []
    compared = 0
    values = [column for column in published if column not in KEYS]
    floats = [column for column in published.select_dtypes("float") if column not in {*KEYS, *NAMES}]
    floats = [column for column in floats if (published[column].dropna() % 1 != 0).any()]
    own_runs = dict(iter(own.groupby(RUN, sort=False)))
    for run, theirs in published.groupby(RUN, sort=False):
        if run not in own_runs:
            continue
        mine = own_runs[run]
        if len(mine) != len(theirs):
            differences.append(Difference(_place(run, RUN), "number of rows", len(theirs), len(mine)))
            same.add(run)
            continue
        a, b = mine[floats].to_numpy(float), theirs[floats].to_numpy(float)
        real = np.isfinite(a) & np.isfinite(b)
        if real.any() and (np.abs(a - b) <= rounding(a, b))[real].mean() <= 0.5:
            continue
        same.add(run)
        compared += len(values) * len(theirs)
        for column in values:
            x, y = mine[column].to_numpy(), theirs[column].to_numpy()
            for row in np.flatnonzero(~_agree(x, y)):
                labels = theirs.iloc[row]
                words = [key for key in theirs if key in {"split", "form", "judge", "sampler", "dimension", "epoch"}]
                place = _place((*run, *(labels[word] for word in words)), [*RUN, *words])
                differences.append(Difference(place, column, y[row], x[row], _tolerance(x[row], y[row])))
    return same, differences, compared


def _agree(own: np.ndarray, published: np.ndarray) -> np.ndarray:
    if all(np.issubdtype(part.dtype, np.number) for part in (own, published)):
        a, b = own.astype(float), published.astype(float)
        with np.errstate(invalid="ignore"):
            return (a == b) | (np.isnan(a) & np.isnan(b)) | (np.abs(a - b) <= rounding(a, b))
    return (own == published) | (pd.isna(own) & pd.isna(published))


def _tolerance(own: Any, published: Any) -> float | None:
    numeric = all(isinstance(value, int | float | np.number) for value in (own, published))
    return float(rounding(np.float64(own), np.float64(published))) if numeric else None


def _by_seed(
    name: str, own: pd.DataFrame, published: pd.DataFrame, cells: set[tuple]
) -> Iterator[tuple[list[Difference], int, int]]:
    """Compare means over seeds in `cells`: shares first, then numbers; (differences, compared, without a spread)."""
    tables = []
    for table in (own, published):
        if name == "training":
            # A run is judged by where it ends.
            table = table.sort_values("epoch", kind="stable").groupby(RUN, sort=False).tail(1)
        tables.append(table)
    groups = [column for column in GROUPS[name] if column in published]
    shares = list(published.select_dtypes("bool"))
    numbers = [
        column
        for column in published.select_dtypes("number")
        if column not in {*KEYS, *NAMES} and published[column].notna().any()
    ]
    replicates = ["seed", *(["judge"] if "judge" in published else [])]
    if shares:
        yield _means(*tables, cells, [key for key in groups if key != "active"], shares, replicates, share=True)
    yield _means(*tables, cells, groups, numbers, replicates, share=False)


def _means(
    own: pd.DataFrame,
    published: pd.DataFrame,
    cells: set[tuple],
    groups: list[str],
    columns: list[str],
    replicates: list[str],
    share: bool,
) -> tuple[list[Difference], int, int]:
    place = [*CELL, *groups]
    own_means, own_sizes, _ = _summary(own, place, columns, replicates)
    means, sizes, variance = _summary(published, place, columns, replicates)
    pool = variance.groupby(["dataset", "architecture", *groups]).transform("mean")
    # fmax passes over NaN: a cell with one seed has no variance of its own, but its neighbours may have.
    spread = np.sqrt(np.fmax(variance, pool))

    def long(frame: pd.DataFrame, name: str) -> pd.DataFrame:
        return frame.reset_index().melt(place, columns, "quantity", name)

    table = long(own_means, "own")
    for other in (long(means, "published"), long(spread, "spread")):
        table = table.merge(other, on=[*place, "quantity"])
    table = table.merge(own_sizes.add_suffix("_own").join(sizes.add_suffix("_published")).reset_index(), on=place)
    table = table[[key in cells for key in table[CELL].itertuples(index=False, name=None)]]
    table = table[table["own"].notna() | table["published"].notna()].reset_index(drop=True)
    a, b = table["own"].to_numpy(float), table["published"].to_numpy(float)
    tolerance = rounding(a, b)
    if share:
        tolerance += 1 / table[["rows_own", "rows_published"]].min(axis="columns").to_numpy(float)
    else:
        counts = [column for column in columns if (published[column].dropna() % 1 == 0).all()]
        tolerance += table["quantity"].isin(counts).to_numpy(float)
    blind = table["spread"].isna().to_numpy() & ~(np.abs(a - b) <= tolerance)
    ways = np.sqrt(1 / table["n_own"].to_numpy(float) + 1 / table["n_published"].to_numpy(float))
    tolerance += SPREADS * np.nan_to_num(table["spread"].to_numpy(float)) * ways
    what = "share of {} over seeds" if share else "mean of {} over seeds"
    differences = [
        Difference(
            _place(tuple(table.loc[row, place]), place),
            what.format(table.loc[row, "quantity"]),
            float(b[row]),
            float(a[row]),
            float(tolerance[row]),
        )
        for row in np.flatnonzero(~blind & ~(np.abs(a - b) <= tolerance))
    ]
    return differences, len(table), int(blind.sum())


def _summary(
    table: pd.DataFrame, place: list[str], columns: list[str], replicates: list[str]
) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Means over replicates, their number `n` with the least number of `rows` in one, and variances between them."""
    grouped = table.astype({column: float for column in columns}).groupby([*place, *replicates], sort=True)
    runs = grouped[columns].mean()
    cells = runs.reset_index().groupby(place)
    sizes = pd.DataFrame(
        {"n": cells[replicates].nunique().min(axis="columns"), "rows": grouped.size().groupby(place).min()}
    )
    return cells[columns].mean(), sizes, cells[columns].var()
