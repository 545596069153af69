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

from ..evidence.distance_claims import certified_bound
from .rows import chosen_rows, image_rows, latent_groups, of_weight, spread_out, weights_of
from .style import GREY, bottom_legend, drawing, empty_figure, kl_colour, new_panels, weight_axis


def _divergence_panel(axis: Axes, rows: pd.DataFrame, weights: list[float], settings: Mapping[str, Any]) -> None:
    """Draw each run's bracket (filled where identified, else an outline), its certified bound, its marginals' part."""
    offsets = spread_out(rows["seed"], 0.6)
    width = 0.5 if len(offsets) == 1 else 0.48 / (len(offsets) - 1)
    bounds = certified_bound(rows)
    for position, weight in enumerate(weights):
        colour = kl_colour(weight, settings)
        for place, run in of_weight(rows, weight).iterrows():
            x = position + offsets[run["seed"]]
            # KL is not negative: what an estimate says below 0 is 0.
            low, high = (
                max(run[name], 0.0) if pd.notna(run[name]) else None for name in ("bracket_low", "bracket_high")
            )
            if low is not None and high is not None:
                known = bool(run["identified"])
                axis.add_patch(
                    Rectangle(
                        (x - width / 2, low), width, high - low, facecolor=colour if known else "none",
                        edgecolor=colour, alpha=0.55 if known else 1.0, lw=0.7, zorder=2,
                    )
                )  # fmt: skip
            if pd.notna(bounds[place]):
                axis.plot(x, max(bounds[place], 0.0), "^", ms=3.2, mew=0, color="black", zorder=4)
            axis.plot(x, run["dimension_wise_kl"], "_", ms=5, mew=1.2, color="#D55E00", zorder=5)
    axis.axhline(settings["divergence_threshold"], color="black", lw=0.8, ls="--", zorder=1)
    weight_axis(axis, weights)


def _nats_axis(axis: Axes, rows: pd.DataFrame) -> None:
    """Scale y over the rows of all panels, from 0, so that they can be compared."""
    shown = rows[["bracket_high", "certified_gmm", "dimension_wise_kl"]].to_numpy(dtype=float)
    # Posteriors without a held-out split have no bracket and no certified bound.
    top = shown.max(initial=1.2, where=np.isfinite(shown))
    if top > 8:
        # Linear up to 1 nat, logarithmic above: bounds near 0 and wide brackets are both to be read.
        axis.set_yscale("symlog", linthresh=1.0, linscale=0.8)
        ticks = [t for t in (0, 0.5, 1, 3, 10, 30, 100, 300, 1000) if t <= top * 1.2]
        axis.set_yticks(ticks, [f"{t:g}" for t in ticks])
        axis.set_yticks([], minor=True)
    axis.set_ylim(0, top * 1.12)


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
        figure, axes = new_panels(
            len(groups), settings, height=2.4, max_columns=4, extra=0.5 if len(groups) > 1 else 1.0
        )
        for axis, (label, group) in zip(axes, groups, strict=True):
            _divergence_panel(axis, group, weights, settings)
            _nats_axis(axis, rows)
            axis.set_title(label)
            if axis.get_subplotspec().is_first_col():
                axis.set_ylabel(f"KL(Q ‖ N(0, I)) (nats, {settings['form']})")
        handles = [
            Patch(facecolor=GREY, alpha=0.6, label="where KL lies: identified (< 1 nat wide)"),
            Patch(facecolor="none", edgecolor=GREY, label="where KL lies: not identified"),
            Line2D([], [], ls="", marker="^", ms=4, color="black", label="at least this much, certified"),
            Line2D([], [], ls="", marker="_", ms=6, mew=1.4, color="#D55E00", label="of it, the marginals' part"),
        ]
        threshold = f"threshold {settings['divergence_threshold']:g} nat"
        handles.append(Line2D([], [], color="black", lw=0.8, ls="--", label=threshold))
        bottom_legend(figure, handles, 3 if len(groups) > 1 else 1)
        return figure
