"""Figure of the distance between Q(z) and N(0, I): bracket, certified bounds, what the marginals explain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from .rows import chosen_rows, image_rows, latent_groups, of_weight, spread_out, weights_of
from .style import GREY, bottom_legend, drawing, empty_figure, kl_colour, new_panels, weight_axis

# Column, label, marker, filled. Lower bounds point up: the truth is above them.
BOUNDS = [
    ("certified_gmm", "certified lower bound, mixture", "^", True),
    ("certified_gaussian", "certified lower bound, Gaussian", "^", False),
    ("dimension_wise_kl", "marginals: Σⱼ KL(qⱼ‖p)", "x", True),
    ("gaussian_part", "correlation: −½ ln det R", "_", True),
]
# One standard error either side is 68 %; 1.96 of them make the 95 % of every other interval here.
_INTERVAL = 1.96


def _divergence_panel(axis: Axes, rows: pd.DataFrame, weights: list[float], settings: Mapping[str, Any]) -> None:
    offsets = spread_out(rows["seed"], 0.5)
    width = 0.5 if len(offsets) == 1 else 0.4 / (len(offsets) - 1)
    for position, weight in enumerate(weights):
        colour = kl_colour(weight, settings)
        for _, run in of_weight(rows, weight).iterrows():
            x = position + offsets[run["seed"]]
            low, high = run["bracket_low"], run["bracket_high"]
            if pd.notna(low) and pd.notna(high):
                axis.add_patch(
                    Rectangle(
                        (x - width / 2, low),
                        width,
                        high - low,
                        facecolor=colour,
                        edgecolor="none" if run["identified"] else colour,
                        alpha=0.45 if run["identified"] else 0.3,
                        hatch=None if run["identified"] else "////",
                        lw=0,
                        zorder=2,
                    )
                )
            for name, _, marker, filled in BOUNDS:
                if name not in run or pd.isna(run[name]):
                    continue
                error = run.get(f"{name}_se")
                axis.errorbar(
                    x,
                    run[name],
                    yerr=_INTERVAL * error if error is not None and pd.notna(error) else None,
                    fmt=marker,
                    ms=3.4,
                    mew=0.9,
                    mfc="black" if filled else "white",
                    color="black",
                    elinewidth=0.7,
                    zorder=4 if filled else 3,
                )
    axis.axhline(settings["divergence_threshold"], color="black", lw=0.8, ls="--", zorder=1)
    axis.axhline(0, color="black", lw=0.6, zorder=1)
    weight_axis(axis, weights)


def _nats_axis(axis: Axes, rows: pd.DataFrame) -> None:
    """Scale y over the rows of all panels, so that they can be compared."""
    shown = rows[["bracket_low", "bracket_high", *(name for name, *_ in BOUNDS)]].to_numpy(dtype=float)
    # Posteriors without a held-out split have no bracket and no certified bound.
    top = shown.max(initial=1.2, where=np.isfinite(shown))
    bottom = shown.min(initial=0.0, where=np.isfinite(shown))
    if top > 8:
        # Linear up to 1 nat, logarithmic above: bounds near 0 and wide brackets are both to be read.
        axis.set_yscale("symlog", linthresh=1.0, linscale=0.8)
        ticks = [t for t in (-100, -10, -1, 0, 1, 3, 10, 30, 100, 300) if bottom * 1.3 <= t <= top * 1.2]
        axis.set_yticks(ticks, [f"{t:g}".replace("-", "−") for t in ticks])
        axis.set_yticks([], minor=True)
    axis.set_ylim(bottom * 1.15 - 0.1, top * 1.12)


def divergence(divergence: pd.DataFrame, style: Mapping[str, Any] | None = None) -> Figure:
    """Draw, for each run, the bracket of KL(Q‖N(0, I)) with the lower bounds inside it, in nats.

    Args:
        divergence: `tables/divergence.csv`; rows of the form that the style names are shown.
        style: Plot settings.
    """
    with drawing(style) as settings:
        rows = chosen_rows(image_rows(divergence), settings)
        groups, weights = latent_groups(rows), weights_of(rows)
        if not groups:
            return empty_figure(settings, "no model in this experiment")
        figure, axes = new_panels(len(groups), settings, height=2.4, max_columns=4, extra=0.6)
        for axis, (label, group) in zip(axes, groups, strict=True):
            _divergence_panel(axis, group, weights, settings)
            _nats_axis(axis, rows)
            axis.set_title(label)
            if axis.get_subplotspec().is_first_col():
                axis.set_ylabel(f"KL(Q ‖ N(0, I)) (nats, {settings['form']})")
        handles = [
            Patch(facecolor=GREY, alpha=0.5, label="bracket, identified (< 1 nat wide)"),
            Patch(facecolor="0.8", edgecolor=GREY, hatch="////", lw=0, label="bracket, not identified"),
        ]
        handles += [
            Line2D(
                [],
                [],
                ls="",
                marker=marker,
                ms=4,
                mfc="black" if filled else "white",
                color="black",
                label=text,
            )
            for _, text, marker, filled in BOUNDS
        ]
        threshold = f"threshold {settings['divergence_threshold']:g} nat"
        handles.append(Line2D([], [], color="black", lw=0.8, ls="--", label=threshold))
        bottom_legend(figure, handles, 3 if len(groups) > 1 else 2)
        return figure
