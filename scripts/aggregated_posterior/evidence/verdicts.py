"""What a claim's verdict is, how limits decide it, and how verdicts are shown: the one place for each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..storage import DataError, read_json
from ..text import for_html, for_markdown, for_rest
from .limits import Limits

# `reported`: measured, and no threshold to compare with. `not tested`: the experiment has nothing to measure it by.
VERDICTS = ("supported", "refuted", "inconclusive", "reported", "not tested")


@dataclass
class Verdict:
    """One claim, measured. `estimate`, `low`, `high` and `threshold` are in the units that `statistic` names.

    `size` says in words and units what was found; `fixed` and `why` are the threshold's date and reason; `runs` is the
    number of runs behind the estimate, `cells` their summary by cell and `details` what the claim shows besides.
    """

    id: str
    statement: str
    statistic: str
    estimate: float
    low: float
    high: float
    threshold: float | None
    verdict: str
    size: str
    runs: int
    fixed: str
    why: str
    note: str = ""
    cells: list[dict[str, Any]] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def decide(limits: Limits, threshold: float, above: bool) -> str:
    """The verdict on a claim that a number lies above (or below) a threshold.

    *Supported* where both limits lie on the claim's side, *refuted* where both lie on the other, else *inconclusive*.
    """
    if not (np.isfinite(limits.low) and np.isfinite(limits.high)):
        return "inconclusive"
    over, under = limits.low > threshold, limits.high < threshold
    if above:
        return "supported" if over else "refuted" if under else "inconclusive"
    return "supported" if under else "refuted" if over else "inconclusive"


def all_hold(verdicts: Iterable[str]) -> str:
    """The verdict on a claim of several parts: all must be supported, and one refuted part refutes it."""
    verdicts = set(verdicts)
    if "refuted" in verdicts:
        return "refuted"
    return "supported" if verdicts == {"supported"} else "inconclusive"


def part(name: str, limits: Limits, threshold: float, above: bool) -> dict[str, Any]:
    """One of several conditions of a claim, with its own verdict."""
    verdict = decide(limits, threshold, above)
    measured = {"estimate": limits.estimate, "low": limits.low, "high": limits.high}
    return {"part": name, **measured, "threshold": threshold, "verdict": verdict}


def number(value: float | None) -> str:
    """A number for a table of verdicts; a dash where there is none."""
    return "–" if value is None or not np.isfinite(value) else f"{value:.3g}"


def at_most(limits: Limits) -> str:
    """An upper limit in words; the estimate where runs are too few for a limit."""
    return f"at most {number(limits.high)}" if np.isfinite(limits.high) else number(limits.estimate)


def at_least(limits: Limits) -> str:
    """A lower limit in words, likewise."""
    return f"at least {number(limits.low)}" if np.isfinite(limits.low) else number(limits.estimate)


def verdict_table(verdicts: Sequence[Verdict]) -> pd.DataFrame:
    """The verdicts as a table of text for people."""
    rows = [
        {
            "claim": verdict.id,
            "statement": verdict.statement,
            "verdict": verdict.verdict,
            "size": verdict.size,
            "estimate [limits]": f"{number(verdict.estimate)} [{number(verdict.low)}, {number(verdict.high)}]",
            "threshold": number(verdict.threshold),
            "runs": verdict.runs,
            "statistic": verdict.statistic,
            "note": verdict.note,
        }
        for verdict in verdicts
    ]
    return pd.DataFrame(rows)


def across_experiments(published: str | Path) -> pd.DataFrame:
    """Every claim in every published experiment: a row per claim, a column per experiment, verdict and size in each.

    Args:
        published: The folder of published results, with one `{experiment}/claims.json` per experiment. Experiments of
            the ledger's first edition, whose claims have no sizes, are left out: their thresholds were others.

    Raises:
        DataError: No experiment of this edition is published.
    """
    columns, statements = {}, {}
    for path in sorted(Path(published).glob("*/claims.json")):
        claims = read_json(path)
        if all("size" in claim for claim in claims):
            columns[path.parent.name] = {claim["id"]: f"{claim['verdict']}: {claim['size']}" for claim in claims}
            statements |= {claim["id"]: claim["statement"] for claim in claims}
    if not columns:
        raise DataError(f"{published}: has no claims of this edition; publish an experiment first")
    table = pd.DataFrame({"claim": list(statements), "statement": list(statements.values())})
    for name, cells in columns.items():
        table[name] = [cells.get(claim, "–") for claim in statements]
    return table


def markdown(table: pd.DataFrame) -> str:
    """A table of text as a Markdown table."""
    lines = ["| " + " | ".join(table.columns) + " |", "|" + " --- |" * len(table.columns)]
    lines += ["| " + " | ".join(map(for_markdown, row)) + " |" for row in table.to_numpy()]
    return "\n".join(lines) + "\n"


def substitutions(verdicts: Sequence[Verdict]) -> str:
    """One reStructuredText substitution for each claim, so that a caption's |C4| reads this experiment's verdict."""
    return "".join(
        f".. |{verdict.id}| replace:: **{verdict.verdict}**{': ' if verdict.size else ''}{for_rest(verdict.size)}\n"
        for verdict in verdicts
    )


def page(table: pd.DataFrame) -> str:
    """A table of text as a page of HTML."""
    style = "<style>body{font-family:sans-serif}td,th{padding:4px 8px;text-align:left;vertical-align:top}</style>"
    row = "<tr>{}</tr>".format
    head = row("".join(f"<th>{for_html(name)}</th>" for name in table.columns))
    body = (row("".join(f"<td>{for_html(cell)}</td>" for cell in cells)) for cells in table.to_numpy())
    rows = f"<thead>{head}</thead><tbody>{''.join(body)}</tbody>"
    return f"<!doctype html><meta charset='utf-8'>{style}<table>{rows}</table>\n"
