"""An audit as text for a terminal and as one figure; `page` makes it a page. Nothing is computed here."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..text import for_terminal
from .auditing import TERMS, Audit

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

SHOWN = 40
# What stands in a table where there is no number: the KL of codes, the error of a single row.
UNKNOWN = "–"
# Headings of columns that hold words.
TEXTS = ("part", "mostly", "candidate", "known")
CURVES = 6

HOW_FAR = {
    "dimension": "dim", "active": "active", "kl": "mean KL", "mean": "mean", "variance": "variance",
    "gauge_slack": "slack", "marginal_kl": "KL(q‖N)", "ks": "KS", "w1": "W1", "tv": "TV",
}  # fmt: skip
WHY = {
    "dimension": "dim", "kurtosis": "kurtosis", "interval": "95 %", "skewness": "skewness", "term_means": "means",
    "term_covariance": "position", "term_scale": "scales", "cause": "mostly",
}  # fmt: skip
CAPTIONS = {
    "far": "How far from N(0, 1); slack: saved by rescaling; KL(q‖N) to TV: after rescaling",
    "why": "Why: kurtosis − 3 = means + position + scales (active dimensions)",
    "parts": "KL(Q‖N(0, I)) by cause, nats",
    "candidates": "What to sample (← advised): gain over N(0, I) on held-out rows, nats",
}  # fmt: skip


def tables(audit: Audit) -> list[tuple[str, list[str], list[list[str]]]]:
    """The tables to show, of train rows: (caption, headings, cells as text); `SHOWN` dimensions at most in each."""
    rows = audit.dimensions[audit.dimensions["split"] == "train"]
    far, more = _most(rows)
    shown = [(CAPTIONS["far"] + more, *_cells(far, HOW_FAR | label_headings(rows)))]
    active, more = _most(rows[rows["active"]])
    limits = zip(active["kurtosis_low"], active["kurtosis_high"], strict=True)
    interval = [UNKNOWN if np.isnan(a + b) else f"{a:.2f}–{b:.2f}" for a, b in limits]
    if len(active):
        shown.append((CAPTIONS["why"] + more, *_cells(active.assign(interval=interval), WHY)))
    parts = [
        [row["part"], *(_nats(row[name]) for name in ("nats", "low", "high")), _known(row)]
        for row in audit.mismatch.to_dict("records")
    ]
    shown.append((CAPTIONS["parts"], ["part", "nats", "low", "high", "known"], parts))
    if len(audit.candidates):
        rows = [
            [row["candidate"] + (" ←" if row["chosen"] else ""), f"{row['parameters']:,}"]
            + [f"{row[name]:.3f}" for name in ("gain", "gain_se", "gain_low")]
            for row in audit.candidates.to_dict("records")
        ]
        headings = ["candidate", "parameters", "gain", "error", "certified"]
        shown.append((CAPTIONS["candidates"], headings, rows))
    return shown


def label_headings(rows: pd.DataFrame) -> dict[str, str]:
    """Headings of the shares of labels, one column each."""
    named = {}
    for kind, symbol in (("eta_squared", "η²"), ("r_squared", "r²")):
        for column in rows.columns[rows.columns.str.startswith(kind) & rows.notna().any().to_numpy()]:
            named[column] = f"{column.removeprefix(kind).removeprefix('_') or 'label'} {symbol}"
    return named


def _nats(value: float) -> str:
    if np.isnan(value):
        return "open"
    return f"{value:.4g}" if np.isfinite(value) else "?"


def _known(row: dict[str, Any]) -> str:
    if row["exact"]:
        return "exact"
    return "open" if np.isnan(row["nats"]) else f"± {0.5 * (row['high'] - row['low']):.2g}"


def print_audit(audit: Audit, source: str, console: Console) -> None:
    """Print an audit to a rich console: the verdict, what it means and what to do, then the tables.

    No number is ever cut: a table that is too wide for the console is continued below, with its first column repeated.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    console.print(Text(headline(audit, source), style="bold"))
    console.print()
    console.print(
        Text(
            audit.verdict,
            style={"in order": "bold green", "open": "bold yellow"}.get(audit.summary["verdict"], "bold red"),
        )
    )
    console.print()
    for title, sentences in (("What this means", audit.findings[1:]), ("What to do", audit.advice)):
        console.print(Text(title, style="bold"))
        for sentence in sentences:
            console.print(Text(f"• {for_terminal(sentence, len(sentence))}"))
        console.print()
    for caption, headings, cells in tables(audit):
        headings = [for_terminal(heading) for heading in headings]  # names of columns of labels are the user's
        for number, columns in enumerate(_folded(headings, cells, console.width)):
            title = caption if number == 0 else "continued"
            table = Table(
                title=title,
                title_justify="left",
                title_style="italic",
                box=box.SIMPLE_HEAD,
                padding=(0, 1),
                collapse_padding=True,
            )
            for column in columns:
                justify = "left" if headings[column] in TEXTS else "right"
                table.add_column(Text(headings[column]), justify=justify, no_wrap=True, overflow="fold")
            for row in cells:
                table.add_row(*(row[column] for column in columns))
            console.print(table)


def _folded(headings: list[str], cells: list[list[str]], width: int) -> list[list[int]]:
    """Columns of the parts into which a table falls in `width` columns of text; each part begins with the first one."""
    # A space of padding between columns, one for the box, and one at either end.
    needed = [max(len(text) for text in column) + 2 for column in zip(headings, *cells, strict=True)]
    parts = [[0]]
    for column in range(1, len(headings)):
        if len(parts[-1]) > 1 and sum(needed[c] for c in [*parts[-1], column]) + 2 > width:
            parts.append([0])
        parts[-1].append(column)
    return parts


def headline(audit: Audit, source: str) -> str:
    """One line on the input: rows, dimensions and where held-out rows come from."""
    summary = audit.summary
    test = f" + {summary['n_test']:,} held out" if summary["n_test"] else ""
    text = f"{for_terminal(source)}: {summary['n']:,} rows{test}, {summary['latent_dim']} latent dimensions"
    return text if test else f"{text}; held-out rows: {summary['held_out']}"


def figure_bytes(audit: Audit, kind: str) -> bytes:
    """The figure as svg, pdf or png; the same audit gives the same bytes."""
    from ..figures.style import METADATA, drawing

    with drawing(None) as settings:
        stream = io.BytesIO()
        draw(audit, settings).savefig(stream, format=kind, dpi=settings["dpi"], metadata=METADATA[kind])
    return stream.getvalue()


def draw(audit: Audit, settings: dict[str, Any]) -> Figure:
    """Three panels: the active marginals farthest from N(0, 1), the terms of kurtosis, the parts of the mismatch."""
    from ..figures.style import new_figure, nothing_to_show

    figure = new_figure(float(settings["width"]), 2.9)
    left, middle, right = figure.subplots(1, 3, width_ratios=[1.2, 1.2, 1])
    active = audit.dimensions[(audit.dimensions["split"] == "train") & audit.dimensions["active"]]
    if active.empty or audit.marginals is None:
        why = "no active dimension" if active.empty else "codes have no density"
        nothing_to_show(left, why)
        nothing_to_show(middle, why)
    else:
        _densities(left, audit, active)
        _terms(middle, active)
    _parts(right, audit.mismatch)
    return figure


def _densities(axis: Any, audit: Audit, active: pd.DataFrame) -> None:
    chosen = active.nlargest(CURVES, "marginal_kl")["dimension"].to_numpy()
    z = np.linspace(-4, 4, 321)
    axis.plot(z, np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi), color="black", lw=1.6, ls="--", label="N(0, 1)")
    for dimension in chosen:
        density = audit.marginals.lines[int(dimension)].evaluate(z, cumulative=False).pdf
        axis.plot(z, density, lw=1, label=f"dim {dimension}")
    axis.set(xlabel="z, rescaled", ylabel="density", title="farthest marginals", ylim=(0, None))
    axis.legend(fontsize="x-small", handlelength=1.2)


def _terms(axis: Any, active: pd.DataFrame) -> None:
    from ..figures.kurtosis import TERM_COLOURS

    rows = active.nlargest(SHOWN, "kl").sort_values("dimension")
    x = np.arange(len(rows))
    above, below = np.zeros(len(rows)), np.zeros(len(rows))
    for name, label in TERMS.items():
        value = rows[name].to_numpy()
        bottom = np.where(value >= 0, above, below)
        axis.bar(x, value, bottom=bottom, color=TERM_COLOURS[name], width=0.8, label=label)
        above, below = above + np.maximum(value, 0), below + np.minimum(value, 0)
    excess = rows["kurtosis"].to_numpy() - 3
    error = np.stack([rows["kurtosis"] - rows["kurtosis_low"], rows["kurtosis_high"] - rows["kurtosis"]])
    axis.errorbar(x, excess, yerr=np.nan_to_num(error), fmt="o", ms=2.5, color="black", elinewidth=0.8, label="sum")
    axis.axhline(0, color="black", lw=0.8)
    step = -(-len(rows) // 9)  # as many labels as fit
    axis.set_xticks(x[::step], [str(d) for d in rows["dimension"].to_numpy()[::step]])
    axis.set(xlabel="active dimension", ylabel="kurtosis − 3", title="why kurtosis is not 3")
    # Bars may fill the panel, so the legend stands below it.
    axis.legend(fontsize="x-small", handlelength=1.0, ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.22))


def _parts(axis: Any, mismatch: pd.DataFrame) -> None:
    y = np.arange(len(mismatch))[::-1]
    low, high = mismatch["low"].to_numpy(), mismatch["high"].to_numpy()
    high = np.where(np.isfinite(high), high, low)  # no upper end is known
    axis.barh(y, low, color="#0072B2", height=0.6)
    axis.barh(y, high - low, left=low, color="#0072B2", alpha=0.3, height=0.6)
    axis.set_yticks(y, mismatch["part"])
    axis.set(xlabel="nats (pale: open)", title="KL(Q‖N(0, I))")


def _most(rows: pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """The dimensions with the largest mean KL, as many as are shown, and words that say so where there are more."""
    if len(rows) <= SHOWN:
        return rows, ""
    kept = rows.nlargest(SHOWN, "kl").sort_values("dimension")
    return kept, f"; the {SHOWN} with most KL of {len(rows)}, all are in --csv"


def _cells(rows: pd.DataFrame, columns: dict[str, str]) -> tuple[list[str], list[list[str]]]:
    present = [name for name in columns if name in rows]
    return [columns[name] for name in present], [_row(row, present) for row in rows.to_dict("records")]


def _row(row: dict[str, Any], names: Sequence[str]) -> list[str]:
    return [_text(row[name]) for name in names]


def _text(value: Any) -> str:
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        if np.isnan(value):
            return UNKNOWN
        if abs(value) < 5e-4:
            return "0" if abs(value) < 1e-9 else f"{value:.0e}"
        return f"{value:.3f}" if abs(value) < 1000 else f"{value:.3g}"
    return str(value)
