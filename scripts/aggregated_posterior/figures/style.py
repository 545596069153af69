"""The look of every figure, and saving so that the same table gives the same bytes.

The modules beside this one draw: `kurtosis` (the fourth moment), `training` (gauge identity, activity, rate and
distortion), `density` (marginals and the latent map), `divergence` (distance to N(0, I)) and `samplers` (the ladder of
samplers). They take tidy tables, select and group rows with `rows`, and return a `matplotlib.figure.Figure`; no
statistic is born in them. The sentences of `findings` say the same in words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from ..storage import DataError, atomic_path, write_text

# The same values stand as defaults in workflow/schemas/plotting.schema.yaml, which says what each is for; a
# test keeps the two alike. They are here as well so that an installed library draws without a config folder.
DEFAULT_STYLE: dict[str, Any] = {
    "width": 7.0,
    "font_size": 8.0,
    "dpi": 200,
    "palette": "viridis",
    "palette_range": [0.0, 0.85],
    "kl_weight_range": [0.1, 10.0],
    "split": "train",
    "form": "canonical",
    "seed": None,
    "kurtosis_margin": 0.1,
    "moment_margin": 0.05,
    "divergence_threshold": 1.0,
    "max_ellipses": 200,
    "plate_samplers": ["prior", "marginals", "dependence", "gmm_100", "q_train"],
    "plate_latent_dim": None,
    "plate_columns": 8,
}

GREY = "0.45"
NOT_STATED = "n/a"

# Ids inside an SVG are hashes; with a fixed salt they depend on the drawing alone.
_SVG_SALT = "aggregated-posterior"
# A date, or the version of the program, would change the bytes of an unchanged picture.
METADATA: dict[str, dict[str, None]] = {
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}


def complete_style(style: Mapping[str, Any] | None) -> dict[str, Any]:
    """Fill `style` up with the defaults.

    Raises:
        DataError: A key is unknown.
    """
    unknown = sorted(set(style or {}) - set(DEFAULT_STYLE))
    if unknown:
        raise DataError(
            f"plot settings: unknown key {', '.join(unknown)}; allowed are {', '.join(sorted(DEFAULT_STYLE))}"
        )
    return {**DEFAULT_STYLE, **(style or {})}


@contextmanager
def drawing(style: Mapping[str, Any] | None) -> Iterator[dict[str, Any]]:
    """Set the look for the block only, whatever the user's own matplotlibrc says, and yield the completed settings."""
    settings = complete_style(style)
    size = float(settings["font_size"])
    parameters = {
        **sns.axes_style("ticks"),
        **sns.plotting_context("paper"),
        "font.family": "sans-serif",
        "font.sans-serif": ["DejaVu Sans"],  # shipped with Matplotlib, so the glyphs are the same on every machine
        "font.size": size,
        "axes.titlesize": size,
        "axes.labelsize": size,
        "xtick.labelsize": size - 1,
        "ytick.labelsize": size - 1,
        "legend.fontsize": size - 1,
        "legend.title_fontsize": size - 1,
        "figure.titlesize": size + 1,
        "legend.frameon": False,
        "legend.handletextpad": 0.4,
        "legend.columnspacing": 1.2,
        "axes.linewidth": 0.7,
        "xtick.major.width": 0.7,
        "ytick.major.width": 0.7,
        "xtick.minor.width": 0.5,
        "ytick.minor.width": 0.5,
        "xtick.major.size": 3.0,
        "ytick.major.size": 3.0,
        "xtick.minor.size": 1.8,
        "ytick.minor.size": 1.8,
        "lines.linewidth": 1.2,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.axisbelow": True,
        "savefig.dpi": int(settings["dpi"]),
        "pdf.fonttype": 42,  # embeds TrueType, so text stays text
        "svg.fonttype": "path",  # outlines: an SVG cannot embed a font, and the reader's machine may lack it
        "svg.hashsalt": _SVG_SALT,
    }
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(parameters)
        yield settings


def save_figure(
    figure: Figure, finding: str, files: Mapping[str, str | Path], style: Mapping[str, Any] | None = None
) -> None:
    """Write a figure and what it shows, each file whole or not at all, without dates, versions or machine names.

    Args:
        figure: The figure.
        finding: The sentence that stands under it.
        files: The paths of `svg`, `pdf` and `png`, and of the sentence, `finding`.
        style: Settings of the look.
    """
    with drawing(style) as settings:
        # Laying out is most of the work, and the three formats shall have the same layout.
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
        for kind, metadata in METADATA.items():
            with atomic_path(files[kind]) as temporary:
                figure.savefig(temporary, format=kind, dpi=settings["dpi"], metadata=metadata)
    write_text(files["finding"], finding)


def new_figure(width: float, height: float, layout: str = "constrained") -> Figure:
    """Return an empty figure of that size in inches, unknown to pyplot, so that nothing has to be closed.

    The layout `compressed` suits panels of a fixed aspect.
    """
    figure = Figure(figsize=(width, height), layout=layout)
    figure.get_layout_engine().set(w_pad=0.03, h_pad=0.03, wspace=0.03, hspace=0.04)
    return figure


def new_panels(
    count: int,
    settings: Mapping[str, Any],
    *,
    height: float,
    max_columns: int,
    extra: float = 0.0,
    **keywords: Any,
) -> tuple[Figure, list[Axes]]:
    """Return a figure of full width with `count` panels in rows of at most `max_columns`.

    Args:
        count: Panels wanted, at least one.
        settings: Completed style.
        height: Inches per row of panels.
        max_columns: Panels per row; rows are kept equally full.
        extra: Inches for the legend.
        keywords: Passed to `Figure.subplots`.
    """
    rows = -(-count // max_columns)
    columns = -(-count // rows)
    # One or two panels at full width would be stretched into ribbons.
    width = min(float(settings["width"]), max(3.4, columns * float(settings["width"]) / 2))
    figure = new_figure(width, rows * height + extra)
    axes = figure.subplots(rows, columns, squeeze=False, **keywords)
    for axis in axes.flat[count:]:
        axis.remove()
    return figure, list(axes.flat[:count])


def bottom_legend(figure: Figure, handles: list[Any], columns: int, **keywords: Any) -> None:
    """Place one legend below all panels, outside them, so that it can hide nothing."""
    if handles:
        figure.legend(handles=handles, loc="outside lower center", ncols=columns, **keywords)


def nothing_to_show(axis: Axes, reason: str) -> None:
    """Keep the empty axes and say in them why they are empty."""
    axis.text(
        0.5,
        0.5,
        f"nothing to show:\n{reason}",
        transform=axis.transAxes,
        ha="center",
        va="center",
        color=GREY,
        style="italic",
    )
    axis.set(xticks=[], yticks=[])


def note_below(axis: Axes, x: float, text: str) -> None:
    """Write a note at `x`, just above the x axis, where a cell has nothing to draw."""
    axis.annotate(
        text, (x, 0.03), xycoords=("data", "axes fraction"), ha="center", va="bottom", color=GREY, style="italic"
    )


def empty_figure(settings: Mapping[str, Any], reason: str) -> Figure:
    """Return a figure of one empty panel that says why it is empty."""
    figure, (axis,) = new_panels(1, settings, height=2.4, max_columns=1)
    nothing_to_show(axis, reason)
    return figure


# --- colours ------------------------------------------------------------------------------------------------


def weight_label(kl_weight: float) -> str:
    """Return a KL weight as people write it: 0.25, 1, 4; `n/a` where a stranger's model states none."""
    return NOT_STATED if pd.isna(kl_weight) else f"{float(kl_weight):g}"


def kl_colour(kl_weight: float, settings: Mapping[str, Any]) -> Any:
    """Return the colour of a KL weight.

    The colour depends on the weight's logarithm alone, not on the other weights of the sweep: so one weight
    has one colour in every figure of every experiment.
    """
    if pd.isna(kl_weight):
        return GREY
    low, high = np.log(settings["kl_weight_range"])
    position = 0.0 if kl_weight <= 0 else float(np.clip((np.log(kl_weight) - low) / (high - low), 0, 1))
    first, last = settings["palette_range"]
    return sns.color_palette(settings["palette"], as_cmap=True)(first + (last - first) * position)


def kl_handles(weights: Iterable[float], settings: Mapping[str, Any]) -> list[Line2D]:
    """Return legend entries, one per KL weight."""
    return [
        Line2D(
            [],
            [],
            marker="o",
            ls="",
            ms=5,
            color=kl_colour(w, settings),
            label=f"β = {weight_label(w)}",
        )
        for w in weights
    ]


# --- axes ---------------------------------------------------------------------------------------------------


def weight_axis(axis: Axes, weights: list[float]) -> None:
    """Make x a list of KL weights, equally spaced: weight 0 and an unstated weight have a place too."""
    axis.set_xticks(range(len(weights)), [weight_label(weight) for weight in weights])
    axis.set_xlim(-0.6, max(len(weights) - 0.4, 0.6))
    axis.set_xlabel("KL weight β")


def kurtosis_axis(axis: Axes, values: Iterable[float]) -> None:
    """Make y a kurtosis axis: a line at 3, and a log scale once the largest is more than 4 times the smallest."""
    values = np.asarray([v for v in values if np.isfinite(v) and v > 0], dtype=float)
    low, high = (min(values.min(), 3.0), max(values.max(), 3.0)) if values.size else (2.5, 3.5)
    axis.axhline(3, color="black", lw=0.8, zorder=1)
    if high / low > 4:
        axis.set_yscale("log")
        ticks = [t for t in (1, 1.5, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000) if low / 1.1 <= t <= high * 1.1]
        axis.set_yticks(ticks)
        axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.yaxis.set_minor_formatter(NullFormatter())
        axis.set_ylim(low / 1.1, high * 1.15)
    else:
        margin = 0.07 * max(high - low, 0.3)
        axis.set_ylim(low - margin, high + margin)
