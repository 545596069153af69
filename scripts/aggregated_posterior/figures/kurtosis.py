"""Figures of the fourth moment of Q(z): against the KL weight, against activity, and by its three terms."""

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
from matplotlib.ticker import FuncFormatter

from .rows import (
    CONTROL_PREFIX,
    chosen_rows,
    image_rows,
    latent_groups,
    model_groups,
    of_weight,
    one_seed,
    spread_out,
    tidy,
    weights_of,
)
from .style import (
    GREY,
    bottom_legend,
    drawing,
    empty_figure,
    kl_colour,
    kl_handles,
    kurtosis_axis,
    new_figure,
    new_panels,
    note_below,
    weight_axis,
    weight_label,
)

# Okabe and Ito's colours, told apart under the common colour-blindnesses; none stands for a KL weight.
TERM_COLOURS = {"term_means": "#0072B2", "term_covariance": "#E69F00", "term_scale": "#009E73"}
TERM_LABELS = {
    "term_means": "shape of the means, (A/V)² · excess(μ)",
    "term_covariance": "spread tied to position, 6 Cov(μ², s)/V²",
    "term_scale": "scale mixing, 3 Var(s)/V²",
}


# Below this a distance of kurtosis from 3 is nothing that anyone would see, and a log scale has to end somewhere.
NEAREST = 0.01


def distance_from_normal(rows: pd.DataFrame) -> pd.DataFrame:
    """|kurtosis − 3| of each row with the interval that kurtosis' own gives it: columns distance, low, high.

    The low end is 0 where the interval of kurtosis holds 3.
    """
    below, above = rows["kurtosis_low"] - 3, rows["kurtosis_high"] - 3
    holds = (below <= 0) & (above >= 0)
    ends = pd.concat([below.abs(), above.abs()], axis="columns")
    low = ends.min(axis="columns").where(~holds, 0.0)
    return pd.DataFrame({"distance": (rows["kurtosis"] - 3).abs(), "low": low, "high": ends.max(axis="columns")})


def _distance_panel(axis: Axes, rows: pd.DataFrame, weights: list[float], settings: Mapping[str, Any]) -> None:
    """Draw active dimensions as points with intervals, run medians as dashes, cells' medians as a line."""
    active = rows[rows["active"]]
    offsets = spread_out(rows["seed"], 0.6)
    axis.axhspan(NEAREST, settings["kurtosis_margin"], color="0.9", lw=0, zorder=0)
    middles = []
    for position, weight in enumerate(weights):
        cell, colour = of_weight(active, weight), kl_colour(weight, settings)
        if cell.empty:
            if len(of_weight(rows, weight)):
                note_below(axis, position, "none\nactive")
            continue
        medians = []
        for seed, run in cell.groupby("seed"):
            x, shown = position + offsets[seed], distance_from_normal(run).clip(lower=NEAREST)
            bars = np.stack([shown["distance"] - shown["low"], shown["high"] - shown["distance"]])
            axis.errorbar(
                np.full(len(shown), x), shown["distance"], yerr=bars.clip(min=0), fmt="o", ms=2.2, mew=0,
                elinewidth=0.7, color=colour, alpha=0.6, zorder=3,
            )  # fmt: skip
            medians.append(shown["distance"].median())
            axis.plot([x - 0.06, x + 0.06], [medians[-1]] * 2, color="black", lw=1.4, zorder=4)
        middles.append((position, float(np.median(medians))))
    if len(middles) > 1:
        axis.plot(*zip(*middles, strict=True), color="black", lw=0.8, ls=":", zorder=2)
    weight_axis(axis, weights)


def _control_panel(axis: Axes, controls: pd.DataFrame, settings: Mapping[str, Any]) -> list[Line2D]:
    """Draw the linear model's expected kurtosis as lines over the KL weight, the measured one as points."""
    weights = weights_of(controls)
    position = {weight: index for index, weight in enumerate(weights)}
    colours = dict(zip(sorted(controls["dataset"].unique()), ["#D55E00", "#56B4E9", "#CC79A7"], strict=False))
    seeds = spread_out(controls["seed"], 0.3)
    handles, labelled = [], []
    for dataset, rows in controls.groupby("dataset"):
        colour = colours.get(dataset, GREY)
        for eigenvalue, line in rows.groupby("eigenvalue"):
            expected = line.groupby("kl_weight")["expected_excess_kurtosis"].median()
            axis.plot([position[w] for w in expected.index], 3 + expected.to_numpy(), color=colour, lw=1, zorder=2)
            start = 3 + expected.iloc[0]
            # Lines that start together get one label: two would be printed on top of each other.
            if abs(start - 3) > 0.05 and all(abs(start - other) > 0.09 for other in labelled):
                labelled.append(start)
                axis.annotate(
                    f"λ = {eigenvalue:.2g}",
                    (0, start),
                    xytext=(-9, 0),
                    textcoords="offset points",
                    ha="right",
                    va="center",
                    color=colour,
                    fontsize=settings["font_size"] - 2,
                )
        x = [position[w] + seeds[s] for w, s in zip(rows["kl_weight"], rows["seed"], strict=True)]
        measured = 3 + rows["excess_kurtosis"].to_numpy()
        bars = np.abs(np.stack([3 + rows["low"].to_numpy() - measured, 3 + rows["high"].to_numpy() - measured]))
        axis.errorbar(x, measured, yerr=bars, fmt="o", ms=2.6, mew=0, elinewidth=0.8, color=colour, alpha=0.8, zorder=3)
        name = dataset.removeprefix(CONTROL_PREFIX)
        handles.append(Line2D([], [], color=colour, marker="o", ms=3.5, lw=1, label=f"{name}: line = theory"))
    values = [
        controls["low"],
        controls["high"],
        controls["excess_kurtosis"],
        controls["expected_excess_kurtosis"],
    ]
    kurtosis_axis(axis, 3 + pd.concat(values))
    weight_axis(axis, weights)
    if labelled:
        axis.set_xlim(-1.6, len(weights) - 0.4)
    axis.set_title("linear VAE on controls")
    return handles


def kurtosis_by_kl_weight(
    moments: pd.DataFrame, controls: pd.DataFrame | None = None, style: Mapping[str, Any] | None = None
) -> Figure:
    """Draw how far kurtosis is from 3 in every active dimension, against the KL weight, a panel per latent size.

    Args:
        moments: `tables/moments.csv`.
        controls: `tables/controls.csv`, or None where the experiment has no controls (the panel is left out).
        style: Plot settings.
    """
    with drawing(style) as settings:
        rows = chosen_rows(image_rows(moments), settings)
        # Of the controls that were trained: for others no KL weight matters.
        controls = tidy(controls[controls["architecture"] == "linear"]) if controls is not None else pd.DataFrame()
        controls = None if controls.empty else controls
        # A latent size without any active dimension has nothing to say here.
        groups = [(label, group) for label, group in latent_groups(rows) if group["active"].any()]
        count = len(groups) + (controls is not None)
        if not count:
            return empty_figure(settings, "no latent dimension is active")
        figure, axes = new_panels(count, settings, height=2.1, max_columns=4 if count <= 4 else 3, extra=0.45)
        weights = weights_of(rows)
        # One scale for all latent sizes, so that panels can be compared.
        top = 1.3 * max(1.0, distance_from_normal(rows[rows["active"]])["high"].max()) if groups else 1.0
        for axis, (label, group) in zip(axes, groups, strict=False):
            _distance_panel(axis, group, weights, settings)
            axis.set(yscale="log", ylim=(NEAREST, top), title=label)
            axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            if axis.get_subplotspec().is_first_col():
                axis.set_ylabel(f"|kurtosis of Q(z) − 3| ({settings['split']})")
        handles = [
            Line2D([], [], color=GREY, marker="o", ms=3, lw=0.8, label="active dimension, 95 % interval"),
            Line2D([], [], color="black", lw=1.6, label="median of a run"),
            Patch(color="0.9", label=f"within 3 ± {settings['kurtosis_margin']:g}"),
        ]
        if controls is not None:
            handles += _control_panel(axes[-1], controls, settings)
            axes[-1].set_ylabel("kurtosis of Q(z)")
        bottom_legend(figure, handles, 3 if count > 1 else 1)
        return figure


def kurtosis_by_activity(moments: pd.DataFrame, style: Mapping[str, Any] | None = None) -> Figure:
    """Draw kurtosis against A = Var(μ) in canonical form, with the bound (A + √3·(1 − A))² of every mixture.

    Canonical form has A + E[s] = 1, so one curve bounds every dimension of every model.
    """
    with drawing(style) as settings:
        rows = chosen_rows(image_rows(moments), settings, form="canonical")
        groups = model_groups(rows)
        if not groups:
            return empty_figure(settings, "no model in this experiment")
        figure, axes = new_panels(len(groups), settings, height=2.9, max_columns=2, extra=0.4)
        share = np.linspace(0, 1, 201)
        bound = (share + np.sqrt(3) * (1 - share)) ** 2
        for axis, (label, group) in zip(axes, groups, strict=True):
            values = pd.concat([group["kurtosis"], group["kurtosis_high"], pd.Series([1.0, 3.0])])
            kurtosis_axis(axis, values)
            axis.fill_between(share, axis.get_ylim()[0], bound, color="0.92", lw=0, zorder=0)
            axis.plot(share, bound, color=GREY, lw=0.9, zorder=1)
            idle = group[~group["active"]]
            axis.scatter(
                idle["variance_of_means"],
                idle["kurtosis"],
                s=14,
                facecolors="none",
                edgecolors=GREY,
                lw=0.7,
            )
            for weight in weights_of(group):
                cell = of_weight(group[group["active"]], weight)
                low = (cell["kurtosis"] - cell["kurtosis_low"]).clip(lower=0).fillna(0)
                high = (cell["kurtosis_high"] - cell["kurtosis"]).clip(lower=0).fillna(0)
                axis.errorbar(
                    cell["variance_of_means"],
                    cell["kurtosis"],
                    yerr=np.stack([low, high]),
                    fmt="o",
                    ms=3.2,
                    mew=0,
                    elinewidth=0.7,
                    alpha=0.7,
                    color=kl_colour(weight, settings),
                    zorder=3,
                )
            axis.set(xlim=(-0.03, 1.03), xlabel="A = Var(μ), canonical form (A + E[s] = 1)", title=label)
            if axis.get_subplotspec().is_first_col():
                axis.set_ylabel(f"kurtosis of Q(z) ({settings['split']})")
        handles = kl_handles(weights_of(rows), settings)
        handles += [
            Line2D([], [], marker="o", ls="", mfc="none", mec=GREY, ms=4, label="inactive"),
            Patch(facecolor="0.92", edgecolor=GREY, label="impossible (bound)"),
        ]
        bottom_legend(figure, handles, 3 if len(groups) == 1 else 6)
        return figure


def _term_panel(axis: Axes, run: pd.DataFrame) -> None:
    run = run.sort_values("kurtosis", ascending=False).reset_index(drop=True)
    above, below = np.full(len(run), 3.0), np.full(len(run), 3.0)
    for name, colour in TERM_COLOURS.items():
        term = run[name].to_numpy(dtype=float)
        base = np.where(term >= 0, above, below)
        axis.bar(run.index, term, bottom=base, width=0.85, color=colour, lw=0)
        above, below = above + np.clip(term, 0, None), below + np.clip(term, None, 0)
    axis.plot(run.index, run["kurtosis"], ls="", marker="_", ms=min(6, 80 / len(run)), mew=1.3, color="black")
    axis.set_xlim(-0.7, max(len(run) - 0.3, 3))


def kurtosis_terms(moments: pd.DataFrame, style: Mapping[str, Any] | None = None) -> Figure:
    """Draw, for active dimensions of one run per cell, the three terms of excess kurtosis stacked from 3.

    Terms of one dimension add up exactly; medians over runs would not, so one seed is shown.
    """
    with drawing(style) as settings:
        rows = chosen_rows(image_rows(moments), settings)
        groups, weights = latent_groups(rows), weights_of(rows)
        if not groups:
            return empty_figure(settings, "no model in this experiment")
        width = float(settings["width"]) if len(weights) > 1 else 3.4
        figure = new_figure(width, 1.25 * len(groups) + 0.85)
        axes = figure.subplots(len(groups), len(weights), squeeze=False, sharey="row")
        for line, (label, group) in zip(axes, groups, strict=True):
            for axis, weight in zip(line, weights, strict=True):
                cell = one_seed(of_weight(group, weight), settings)
                active = cell[cell["active"]]
                axis.axhline(3, color="black", lw=0.8, zorder=1)
                axis.set_xticks([])
                if active.empty:
                    note_below(axis, 1.15, "no active dimension" if len(cell) else "no such model")
                    axis.set_xlim(-0.7, 3)
                else:
                    _term_panel(axis, active)
                    axis.set_xlabel(f"{len(active)} active of {len(cell)}", fontsize=settings["font_size"] - 1)
                if axis.get_subplotspec().is_first_row():
                    axis.set_title(f"β = {weight_label(weight)}")
            line[0].set_ylabel("kurtosis")
            line[-1].annotate(
                label.replace(", ", "\n"),
                (1, 0.5),
                xytext=(4, 0),
                xycoords="axes fraction",
                textcoords="offset points",
                rotation=270,
                ha="left",
                va="center",
            )
        sns.despine(figure, bottom=True)
        handles = [Patch(color=colour, label=TERM_LABELS[name]) for name, colour in TERM_COLOURS.items()]
        handles.append(
            Line2D(
                [],
                [],
                ls="",
                marker="_",
                ms=6,
                mew=1.5,
                color="black",
                label=f"kurtosis ({settings['split']})",
            )
        )
        bottom_legend(figure, handles, 2 if len(weights) > 1 else 1)
        return figure
