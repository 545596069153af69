"""Two tables of the same experiment: equal up to rounding where the weights are equal, within the spread elsewhere.

Whether a run (one trained model) is the same computation is not guessed from its numbers: `published` asks whether the
model's files have the published bytes, and names the runs that do.

- The published bytes: **every** number must equal the published one up to rounding,
  |own − published| ≤ `RELATIVE` · max(|own|, |published|) + `ABSOLUTE`.
- Other weights: training is chaotic, so a number is judged by how much it varies from seed to seed. It is averaged
  over a run's latent dimensions (inactive ones apart, since they are forced to kurtosis 3, and since dimensions of
  different runs are not the same dimensions) and over judges. In each cell the n′ own runs and the n published ones
  must then pass two tests as two samples of one normal law: Student's t of the two means, which finds a shift of all
  runs, and the externally studentised residual of each own run among all others, which finds one run that is off. Both
  have n + n′ − 2 degrees of freedom. The level is `ALARM` divided by the number of tests in the table (Bonferroni),
  since a table has thousands; nothing is assumed of other cells, whose spread may be ten times larger.
  No normal law describes counts and shares, nor a single run that is one of several kinds (a dimension more that has
  not collapsed, a control that has not turned into place): for these the published spread over the cells of the same
  data set and architecture counts where it is larger.
  Differences up to `NEGLIGIBLE` in a number's own unit (ten times that for a single run), of counts by one and of
  shares by one dimension pass besides.
  Where judges were trained anew, all scores move with them: Student's t of the judges' means is added, at the level
  `ALARM` divided by the number of scores. Three judges tell little, so such scores are compared loosely.

A cell with fewer than three runs in both together cannot be judged; such numbers are counted and said. Curves of single
models (`CURVES`), and tables without a model's keys, are compared where the weights are equal, and told elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from .tables import CELL, KEYS

RELATIVE = 1e-6
ABSOLUTE = 1e-9
# The probability that an honest rerun of other weights fails in a table.
ALARM = 1e-3
# A tenth of the thresholds of C1-C3 (0.05): nats, kurtosis, shares, and codes in units of the prior's
# standard deviation all have a natural scale of 1. A collapsed model's 10⁻⁵ nat is none.
NEGLIGIBLE = 0.005

# How quantities are called that are judged by the spread between seeds.
MEAN, SINGLE = "mean over seeds of ", "single run's "
RUN = [*CELL, "seed"]
Run = tuple[Any, ...]
# Words that say which rows of a run belong together. `active` splits all numbers but the shares themselves.
GROUPS = ("split", "form", "sampler", "active")
CURVES = {"marginal_curves", "latent_density", "latent_ellipses"}
# Numbers that name a row, or that are the same whatever was trained.
NAMES = {"dimension", "epoch", "judge", "x", "z1", "z2", "label", "learning_rate", "n", "draws"}


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


def compare_tables(
    name: str, own: pd.DataFrame, published: pd.DataFrame, same: Collection[Run], other_judges: bool = False
) -> Comparison:
    """Compare a reader's table with the published one.

    Args:
        name: The table's name.
        own: The reader's table.
        published: The published table.
        same: The runs, as tuples of `RUN`, that have the published bytes.
        other_judges: Whether the judges that a table's scores come from were trained anew.

    Returns:
        A comparison with the status `within rounding`, `within seed spread`, `differs` or `not compared`.
    """
    lost = [column for column in published if column not in own]
    if lost:
        differences = [Difference("header", column, "a column", "missing") for column in lost]
        return Comparison(name, "differs", differences=differences)
    if not set(RUN) <= set(published):
        note = "not one row per model: drawn from the tables above"
        return Comparison(name, "not compared", note=note)
    # A table whose KL weights are whole numbers is read with integers.
    own, published = (table.astype({"kl_weight": float}) for table in (own[list(published)], published))
    if other_judges and "judge" in published:
        same = set()
    differences = list(_lost_cells(own, published))
    rows, compared = _by_row(own, published, same)
    differences += rows
    others = own[[run not in same for run in _keys(own, RUN)]]
    if others.empty:
        return Comparison(name, "differs" if differences else "within rounding", compared, 0, differences)
    if name in CURVES:
        note = "curves of single models; those with the published weights were compared"
        return Comparison(name, "differs" if differences else "not compared", compared, 0, differences, note)
    found, count, blind = _by_spread(others, published, other_judges)
    differences += found
    return Comparison(name, "differs" if differences else "within seed spread", compared + count, blind, differences)


def _place(values: tuple[Any, ...], names: list[str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in zip(names, values, strict=True))


def _keys(table: pd.DataFrame, keys: list[str]) -> list[tuple]:
    return list(table[keys].itertuples(index=False, name=None))


def _lost_cells(own: pd.DataFrame, published: pd.DataFrame) -> Iterator[Difference]:
    here = set(_keys(own, CELL))
    for cell in dict.fromkeys(_keys(published, CELL)):
        if cell not in here:
            yield Difference(_place(cell, CELL), "rows", "present", "missing")


def _by_row(own: pd.DataFrame, published: pd.DataFrame, same: Collection[Run]) -> tuple[list[Difference], int]:
    """What differs in the runs with the published weights, and how many values were compared in them."""
    differences: list[Difference] = []
    compared = 0
    values = [column for column in published if column not in {*KEYS, *CELL}]
    own_runs = dict(iter(own.groupby(RUN, sort=False)))
    for run, theirs in published.groupby(RUN, sort=False):
        if run not in same:
            continue
        mine = own_runs.get(run, own.iloc[:0])
        if len(mine) != len(theirs):
            differences.append(Difference(_place(run, RUN), "number of rows", len(theirs), len(mine)))
            continue
        compared += len(values) * len(theirs)
        for column in values:
            x, y = mine[column].to_numpy(), theirs[column].to_numpy()
            for row in np.flatnonzero(~_agree(x, y)):
                labels = theirs.iloc[row]
                words = [key for key in theirs if key in {"split", "form", "judge", "sampler", "dimension", "epoch"}]
                place = _place((*run, *(labels[word] for word in words)), [*RUN, *words])
                differences.append(Difference(place, column, y[row], x[row], _tolerance(x[row], y[row])))
    return differences, compared


def _agree(own: np.ndarray, published: np.ndarray) -> np.ndarray:
    if all(np.issubdtype(part.dtype, np.number) for part in (own, published)):
        a, b = own.astype(float), published.astype(float)
        with np.errstate(invalid="ignore"):
            return (a == b) | (np.isnan(a) & np.isnan(b)) | (np.abs(a - b) <= rounding(a, b))
    return (own == published) | (pd.isna(own) & pd.isna(published))


def _tolerance(own: Any, published: Any) -> float | None:
    numeric = all(isinstance(value, int | float | np.number) for value in (own, published))
    return float(rounding(np.float64(own), np.float64(published))) if numeric else None


def _by_spread(own: pd.DataFrame, published: pd.DataFrame, other_judges: bool) -> tuple[list[Difference], int, int]:
    """Compare own runs of other weights with all published runs of their cells: (differences, compared, unjudged)."""
    groups = [column for column in GROUPS if column in published]
    shares = list(published.select_dtypes("bool"))
    numbers = [
        column
        for column in published.select_dtypes("number")
        if column not in {*KEYS, *CELL, *NAMES} and published[column].notna().any()
    ]
    if "epoch" in published:
        # A run is judged by where it ends.
        own, published = (
            table.sort_values("epoch", kind="stable").groupby(RUN, sort=False).tail(1) for table in (own, published)
        )
    tests = []
    for columns, place in ((numbers, groups), (shares, [key for key in groups if key != "active"])):
        if columns:
            tests += _tests(own, published, [*CELL, *place], columns, other_judges)
    table = pd.concat(tests, ignore_index=True)
    level = ALARM / (2 * max(1, len(table)))
    t = stats.t.isf(level, table["freedom"].where(table["freedom"] > 0))
    table["tolerance"] = table["floor"] + table["error"] * t
    gap = (table["own"] - table["published"]).abs()
    # A number where the published runs have none at all, or the other way round, is a difference of its own.
    one_sided = table["own"].isna() != table["published"].isna()
    blind = ~one_sided & table["tolerance"].isna()
    outside = table[one_sided | (~blind & (gap > table["tolerance"]))]
    differences = [
        Difference(row.where, row.what, row.published, row.own, row.tolerance)
        for row in outside.itertuples(index=False)
    ]
    return differences, len(table), int((blind & (gap > table["floor"])).sum())


def _tests(
    own: pd.DataFrame, published: pd.DataFrame, place: list[str], columns: list[str], other_judges: bool
) -> list[pd.DataFrame]:
    """Both tests of every number, as tables of where, what, own, published, error, freedom and floor."""
    each = [*place, "quantity"]
    own_runs, their_runs = (_long(table, place, columns, "seed") for table in (own, published))
    mine, theirs = (runs.groupby(each)["value"].agg(["count", "mean", "var"]) for runs in (own_runs, their_runs))
    cells = mine.add_suffix("_own").join(theirs.add_suffix("_published"), how="inner")
    cells["floor"], cells["continuous"] = _floors(cells.index, published, place, columns)
    n, m = cells["count_own"], cells["count_published"]
    own_squares, their_squares = (
        (count - 1).clip(lower=0) * cells[f"var_{whose}"].fillna(0) for count, whose in ((n, "own"), (m, "published"))
    )
    squares = own_squares + their_squares
    freedom = n + m - 2
    alike = [cells.index.get_level_values(key) for key in each if key not in {"latent_dim", "kl_weight"}]
    usual = their_squares.groupby(alike).transform("sum") / (m - 1).groupby(alike).transform("sum")
    variance = squares / freedom.where(freedom > 0)
    # Five runs with one and the same count are no proof that it never varies.
    variance = variance.where(cells["continuous"], np.fmax(variance, usual))
    error = np.sqrt(variance * (1 / n + 1 / m))
    cells["judges"] = 0.0
    if other_judges and "judge" in published:
        a, b = (
            _long(table, place, columns, "judge").groupby(each)["value"].agg(["count", "var"]).reindex(cells.index)
            for table in (own, published)
        )
        level = ALARM / (2 * len(columns))
        cells["judges"] = np.sqrt(a["var"] / a["count"] + b["var"] / b["count"]) * stats.t.isf(
            level, a["count"] + b["count"] - 2
        )
    means = pd.DataFrame({"own": cells["mean_own"], "published": cells["mean_published"]})
    floor = cells["floor"] + cells["judges"]
    means = means.assign(floor=floor, error=error, freedom=freedom, what=MEAN).reset_index()
    # Each own run among all other runs of the cell, own and published.
    cells["squares"] = squares + n * m / (n + m) * (cells["mean_own"] - cells["mean_published"]) ** 2
    cells["usual"] = usual
    runs = own_runs.dropna().join(cells, on=each, how="inner")
    others = runs["count_own"] + runs["count_published"] - 1
    total = runs["count_own"] * runs["mean_own"] + (runs["count_published"] * runs["mean_published"]).fillna(0)
    centre = (total - runs["value"]) / others
    rest = runs["squares"] - (runs["value"] - centre) ** 2 * others / (others + 1)
    spread = np.fmax(rest / (others - 1).where(others > 1), runs["usual"]) * (1 + 1 / others)
    single = runs[[*each, "seed"]].assign(own=runs["value"], published=centre, error=np.sqrt(spread))
    floor = runs["floor"] + 9 * NEGLIGIBLE + runs["judges"]
    single = single.assign(floor=floor, freedom=others - 1, what=SINGLE)
    found = []
    for table, names in ((means, place), (single, [*place, "seed"])):
        where = [_place(key, names) for key in _keys(table, names)]
        what = table["what"] + table["quantity"]
        found.append(table[["own", "published", "error", "freedom", "floor"]].assign(where=where, what=what))
    return found


def _long(table: pd.DataFrame, place: list[str], columns: list[str], unit: str) -> pd.DataFrame:
    """One row per place, `unit` (a seed or a judge) and quantity: the mean over all rows."""
    means = table.astype(dict.fromkeys(columns, float)).groupby([*place, unit])[columns].mean().reset_index()
    return means.melt([*place, unit], columns, "quantity", "value")


def _floors(
    index: pd.MultiIndex, published: pd.DataFrame, place: list[str], columns: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """What is no difference in any case, and whether a number is neither a count nor a share."""
    quantity = index.get_level_values("quantity")
    shares = quantity.isin([column for column in columns if published[column].dtype == bool])
    whole = [column for column in columns if (published[column].dropna() % 1 == 0).all()]
    counts = quantity.isin(whole) & ~shares
    rows = published.groupby([*place, "seed"]).size().groupby(place).min()
    sizes = rows.reindex(index.droplevel("quantity")).to_numpy(float)
    return NEGLIGIBLE + counts + shares / sizes, ~(counts | shares)
