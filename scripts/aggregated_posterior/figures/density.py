"""Figures of Q(z) itself: marginals with quantiles, and the map of a two-dimensional latent space."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from .rows import image_rows, latent_groups, model_groups, of_weight, one_seed, weights_of
from .style import (
    GREY,
    bottom_legend,
    drawing,
    empty_figure,
    kl_colour,
    kl_handles,
    new_figure,
    nothing_to_show,
    weight_label,
)

ROLES = {"most_normal": "most normal", "least_normal": "least normal"}
PRIOR_RADII = (1, 2, 3)


def _marginal_panel(axis: Axes, rows: pd.DataFrame, weights: list[float], settings: Mapping[str, Any]) -> None:
    for weight in weights:
        cell = of_weight(rows, weight)
        if cell.empty:
            continue
        first = one_seed(cell, settings)["seed"].iloc[0]
        for seed, line in cell.groupby("seed"):
            line = line.sort_values("x")
            axis.plot(
                line["x"],
                line["y"],
                color=kl_colour(weight, settings),
                lw=1.2 if seed == first else 0.5,
                alpha=0.95 if seed == first else 0.5,
                zorder=3 if seed == first else 2,
            )
    if rows.empty:
        nothing_to_show(axis, "no active\ndimension")


def marginals(
    marginal_curves: pd.DataFrame,
    marginals: pd.DataFrame | None = None,
    style: Mapping[str, Any] | None = None,
) -> Figure:
    """Draw the exact density and quantiles of the most and the least normal active dimension beside N(0, 1).

    Args:
        marginal_curves: `tables/marginal_curves.csv` (train split, canonical form).
        marginals: `tables/marginals.csv`; tells which latent sizes were run, so that a size without an active
            dimension keeps an empty row instead of vanishing.
        style: Plot settings.
    """
    with drawing(style) as settings:
        curves = image_rows(marginal_curves)
        frame = image_rows(marginals) if marginals is not None else curves
        groups, weights = (
            latent_groups(frame if len(frame) else curves),
            weights_of(frame),
        )
        if not groups:
            return empty_figure(settings, "no model in this experiment")
        if curves.empty:
            # A table without rows has its key columns only.
            curves = curves.assign(role="", curve="", x=np.nan, y=np.nan)
        columns = [(role, curve) for role in ROLES for curve in ("density", "quantile")]
        figure = new_figure(float(settings["width"]), 1.45 * len(groups) + 0.75)
        axes = figure.subplots(len(groups), len(columns), squeeze=False)
        normal = np.linspace(-4.2, 4.2, 241)
        for line, (label, group) in zip(axes, groups, strict=True):
            same = (curves["latent_dim"] == group["latent_dim"].iloc[0]) & True
            for name in ("dataset", "architecture", "likelihood"):
                same &= curves[name] == group[name].iloc[0]
            for axis, (role, curve) in zip(line, columns, strict=True):
                rows = curves[same & (curves["role"] == role) & (curves["curve"] == curve)]
                if len(rows):
                    reference = np.exp(-(normal**2) / 2) / np.sqrt(2 * np.pi) if curve == "density" else normal
                    axis.plot(normal, reference, color="black", lw=0.9, ls="--", zorder=4)
                    axis.set_xlim(-3.9, 3.9) if curve == "density" else axis.set_xlim(-2.9, 2.9)
                    axis.set_xticks([-3, 0, 3] if curve == "density" else [-2, 0, 2])
                _marginal_panel(axis, rows, weights, settings)
                if len(rows):
                    # After drawing: set before it, one limit would stop the other from following the curves.
                    axis.set_ylim(bottom=0) if curve == "density" else axis.set_ylim(-3.6, 3.6)
                if axis.get_subplotspec().is_first_row():
                    axis.set_title(f"{ROLES[role]}:\n{'density' if curve == 'density' else 'quantiles'}")
                if axis.get_subplotspec().is_last_row():
                    axis.set_xlabel("z" if curve == "density" else "quantile of N(0, 1)")
            line[0].set_ylabel("\n".join([*label.split(", "), "density"]))
            line[1].set_ylabel("quantile of Q")
        handles = kl_handles(weights, settings)
        handles.append(Line2D([], [], color="black", lw=0.9, ls="--", label="N(0, 1)"))
        handles.append(Line2D([], [], color=GREY, lw=0.5, label="thin: other seeds"))
        bottom_legend(figure, handles, 8)
        return figure


def _class_colours(labels: pd.Series) -> dict[float, Any]:
    classes = sorted(labels.dropna().unique())
    palette = sns.color_palette("colorblind", 10) if len(classes) <= 10 else sns.husl_palette(len(classes))
    return dict(zip(classes, palette, strict=False))


def _map_panel(
    axis: Axes, codes: pd.DataFrame, density: pd.DataFrame, colours: Mapping[float, Any], limit: float, size: float
) -> None:
    """Draw the exact density of Q(z) in grey, held-out images' class numerals at their means, the prior's circles."""
    if len(density):
        grid = density.pivot_table(index="z2", columns="z1", values="log_density", sort=True)
        axis.pcolormesh(
            grid.columns, grid.index, np.exp(grid - grid.max(axis=None)) ** 0.5, cmap="Greys", vmax=1.6,
            shading="nearest", rasterized=True, zorder=0,
        )  # fmt: skip
    angle = np.linspace(0, 2 * np.pi, 181)
    for radius in PRIOR_RADII:
        axis.plot(radius * np.cos(angle), radius * np.sin(angle), color="black", lw=0.8, ls=(0, (4, 2)), zorder=4)
    for _, code in codes.iterrows():
        # Numerals tell classes apart where colours do not.
        known = pd.notna(code["label"])
        axis.text(
            code["mean_1"], code["mean_2"], f"{code['label']:g}" if known else "·", ha="center", va="center",
            fontsize=size, color=colours.get(code["label"], GREY), clip_on=True, zorder=3,
        )  # fmt: skip
    axis.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xlabel="z₁")


def latent_map(
    latent_ellipses: pd.DataFrame, latent_density: pd.DataFrame, style: Mapping[str, Any] | None = None
) -> Figure:
    """Draw two-dimensional latent spaces: the exact density of Q(z), images as class numerals, the prior's circles.

    Args:
        latent_ellipses: `tables/latent_ellipses.csv`: keys, mean_1, mean_2, std_1, std_2, label.
        latent_density: `tables/latent_density.csv`: keys, z1, z2, log_density of Q(z) on a grid.
        style: Plot settings.
    """
    with drawing(style) as settings:
        ellipses, density = image_rows(latent_ellipses), image_rows(latent_density)
        if ellipses.empty:
            return empty_figure(settings, "no model with a latent size of 2")
        groups, weights = model_groups(ellipses), weights_of(ellipses)
        columns = min(len(weights), 4)
        per_group = -(-len(weights) // columns)
        # Squares of this side, with title and label above and below; then the legend.
        width = float(settings["width"]) if columns > 1 else 3.5
        side = min((width - 0.55) / columns - 0.05, 3.0)
        legend = 0.28 if columns > 1 else 0.5
        height = (side + 0.6) * per_group * len(groups) + legend
        figure = new_figure(columns * (side + 0.05) + 0.55, height, "compressed")
        # Room kept for the legend by hand: `outside` legends and panels of fixed aspect run into each other.
        figure.get_layout_engine().set(rect=(0, legend / height, 1, 1 - legend / height))
        axes = figure.subplots(per_group * len(groups), columns, squeeze=False, sharex=True, sharey=True)
        # Wide enough for the prior's outer circle and for nearly every ellipse; an outlier sets nothing.
        limit = max(3.3, float(ellipses[["mean_1", "mean_2"]].abs().quantile(0.99).max()) + 0.3)
        colours = _class_colours(ellipses["label"])
        for number, (label, group) in enumerate(groups):
            panels = list(axes[number * per_group : (number + 1) * per_group].flat)
            for axis, weight in zip(panels, weights, strict=False):
                cell = one_seed(of_weight(group, weight), settings)
                if cell.empty:
                    nothing_to_show(axis, "no such model")
                    continue
                # Order of the file is arbitrary, so the first few hundred are as good a sample as any.
                cell = cell.head(int(settings["max_ellipses"]))
                same = of_weight(density, weight)
                for name in ("dataset", "architecture", "likelihood", "seed"):
                    same = same[same[name] == cell[name].iloc[0]]
                _map_panel(axis, cell, same, colours, limit, settings["font_size"] - 3.5)
                axis.set_title(f"{label}, β = {weight_label(weight)}")
                if axis.get_subplotspec().is_first_col():
                    axis.set_ylabel("z₂")
            for axis in panels[len(weights) :]:
                axis.remove()
        handles = [
            Patch(color="0.6", label="Q(z), darker where denser"),
            Line2D([], [], color="black", lw=0.8, ls=(0, (4, 2)), label="N(0, I): radius 1, 2, 3"),
        ]
        figure.legend(handles=handles, loc="lower center", ncols=2 if columns > 1 else 1)
        return figure
