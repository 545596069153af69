"""Figures of the trained models: the variance law, active dimensions, rate and distortion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ..evidence.tables import KEYS
from .rows import chosen_rows, image_rows, latent_groups, model_groups, of_weight, spread_out, weights_of
from .style import (
    GREY,
    bottom_legend,
    drawing,
    empty_figure,
    kl_colour,
    kl_handles,
    new_panels,
    nothing_to_show,
    weight_axis,
)

_MARKERS = ["o", "s", "^", "D", "v", "P", "X", "*"]
ACTIVITY_CRITERIA = {
    "active": ("mean KL", "o", "#000000"),
    "active_by_variance": ("Var(μ) > 0.01", "^", "#0072B2"),
    "active_by_noise": ("E[s] < 0.95", "v", "#D55E00"),
}


def _law_panel(axis: Axes, moments: pd.DataFrame, settings: Mapping[str, Any]) -> None:
    """Draw raw E[s] against raw E[μ²] of every dimension, with the line on which they add up to 1."""
    axis.plot([0, 1], [1, 0], color="black", lw=0.9, zorder=1)
    raw = chosen_rows(moments, settings, form="raw")
    idle = raw[~raw["active"]]
    axis.scatter(
        idle["mean_variance"],
        idle["second_moment"] - idle["mean_variance"],
        s=12,
        facecolors="none",
        edgecolors=GREY,
        lw=0.6,
        zorder=2,
    )
    for weight in weights_of(raw):
        cell = of_weight(raw[raw["active"]], weight)
        axis.scatter(
            cell["mean_variance"],
            cell["second_moment"] - cell["mean_variance"],
            s=11,
            lw=0,
            alpha=0.75,
            color=kl_colour(weight, settings),
            zorder=3,
        )
    axis.set(xlabel="E[s], raw", ylabel="E[μ²], raw", title="the law: E[μ²] + E[s] = 1")
    axis.set_xlim(-0.04, max(1.06, raw["mean_variance"].max() * 1.05))
    axis.set_ylim(-0.04, max(1.06, (raw["second_moment"] - raw["mean_variance"]).max() * 1.05))


# What is below is nothing that a threshold of some hundredths would notice.
_SMALLEST = 1e-4


def _log_ticks(axis: Axes) -> None:
    """Make y logarithmic, with ticks as people write them."""
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def _residual_panel(axis: Axes, moments: pd.DataFrame, settings: Mapping[str, Any]) -> None:
    """Draw the largest raw |E z² − 1| of each run: re-gauged training (discs) beside customary training (squares)."""
    weights, margin = weights_of(moments), settings["moment_margin"]
    raw = chosen_rows(moments[moments["active"]], settings, form="raw")
    offsets = spread_out(moments["seed"], 0.24)
    kinds = {False: ("o", -0.17), True: ("s", 0.17)}
    for customary, (marker, shift) in kinds.items():
        rows = raw[is_customary(raw) == customary]
        for position, weight in enumerate(weights):
            cell = of_weight(rows, weight)
            for (_, seed), run in cell.groupby(["latent_dim", "seed"], dropna=False):
                axis.plot(
                    position + shift + offsets[seed], max((run["second_moment"] - 1).abs().max(), _SMALLEST),
                    marker=marker, ms=3.2, mew=0.7, mec=kl_colour(weight, settings), alpha=0.85,
                    mfc="white" if customary else kl_colour(weight, settings),
                )  # fmt: skip
    axis.axhline(margin, color="black", lw=0.8, ls="--")
    _log_ticks(axis)
    weight_axis(axis, weights)
    axis.set(ylabel="largest |E[z²] − 1| of a run, raw", title=f"what training leaves ({settings['split']})")
    if raw.empty:
        nothing_to_show(axis, "no active dimension")


def is_customary(rows: pd.DataFrame) -> pd.Series:
    """Which rows come from customary training, without re-gauging between epochs."""
    return rows["architecture"].astype(str).str.endswith("_customary")


def _training_panel(axis: Axes, training: pd.DataFrame, settings: Mapping[str, Any]) -> None:
    """Draw the residual of the law along training, a line per run, customary training dashed."""
    axis.set(xlabel="epoch", ylabel="largest |E[μ²] + E[s] − 1|", title="along training")
    rows = training.dropna(subset=["gauge_residual"]) if "gauge_residual" in training else training.head(0)
    if rows.empty:
        nothing_to_show(axis, "no training history")
        return
    keys = [name for name in KEYS if name in rows]
    for run_keys, run in rows.groupby(keys, dropna=False):
        run = run.sort_values("epoch")
        colour = kl_colour(run_keys[keys.index("kl_weight")], settings)
        style = (0, (3, 1.5)) if is_customary(run).any() else "solid"
        axis.plot(run["epoch"], run["gauge_residual"].clip(lower=_SMALLEST), color=colour, lw=0.7, ls=style, alpha=0.7)
    axis.axhline(settings["moment_margin"], color="black", lw=0.8, ls="--")
    _log_ticks(axis)


def variance_law(
    moments: pd.DataFrame, training: pd.DataFrame | None = None, style: Mapping[str, Any] | None = None
) -> Figure:
    """Draw E[μ²] + E[s] = 1: raw against the law's line, its residual, and along training; customary training beside.

    Args:
        moments: `tables/moments.csv`.
        training: `tables/training.csv`; None or empty where the posteriors are a stranger's.
        style: Plot settings.
    """
    with drawing(style) as settings:
        everything = image_rows(moments, variants=True)
        everything = everything[everything["split"] == settings["split"]] if len(everything) else everything
        rows = image_rows(everything)
        if rows.empty:
            return empty_figure(settings, "no model in this experiment")
        both = pd.concat([rows, everything[is_customary(everything)]]).drop_duplicates()
        history = image_rows(training, variants=True) if training is not None else pd.DataFrame()
        if len(history):
            history = history[is_customary(history) | ~history["architecture"].str.contains("_")]
        figure, axes = new_panels(3, settings, height=2.35, max_columns=3, extra=0.35)
        _law_panel(axes[0], rows, settings)
        _residual_panel(axes[1], both, settings)
        _training_panel(axes[2], history, settings)
        handles = kl_handles(weights_of(rows), settings)
        handles += [
            Line2D([], [], marker="o", ls="", mfc="none", mec=GREY, ms=4, label="inactive"),
            Line2D([], [], marker="o", ls="-", color="0.3", ms=3.5, label="this experiment's training"),
            Line2D([], [], color="black", lw=0.8, ls="--", label=f"margin {settings['moment_margin']:g}"),
        ]
        if is_customary(everything).any():
            customary = Line2D(
                [], [], marker="s", ls=(0, (3, 1.5)), color="0.3", mfc="white", ms=3.5, label="customary training"
            )
            handles.insert(-1, customary)
        bottom_legend(figure, handles, -(-len(handles) // 2))
        return figure


def active_dimensions(moments: pd.DataFrame, style: Mapping[str, Any] | None = None) -> Figure:
    """Draw how many latent dimensions of each run are active, by three criteria, against the KL weight."""
    with drawing(style) as settings:
        rows = chosen_rows(image_rows(moments), settings, form="raw")
        groups, weights = latent_groups(rows), weights_of(rows)
        if not groups:
            return empty_figure(settings, "no model in this experiment")
        figure, axes = new_panels(len(groups), settings, height=1.95, max_columns=4, extra=0.3)
        for axis, (label, group) in zip(axes, groups, strict=True):
            runs = group.groupby(["kl_weight", "seed"], dropna=False)[list(ACTIVITY_CRITERIA)].sum().reset_index()
            offsets = spread_out(runs["seed"], 0.14)
            for number, (name, (_, marker, colour)) in enumerate(ACTIVITY_CRITERIA.items()):
                middles = []
                for position, weight in enumerate(weights):
                    cell = of_weight(runs, weight)
                    if cell.empty:
                        continue
                    x = position + 0.26 * (number - 1)
                    middles.append((x, cell[name].median()))
                    axis.plot(
                        x + cell["seed"].map(offsets),
                        cell[name],
                        ls="",
                        marker=marker,
                        ms=3.2,
                        mew=0,
                        color=colour,
                    )
                axis.plot(*zip(*middles, strict=True), color=colour, lw=0.6, alpha=0.6, zorder=1)
            latent_dim = int(group.groupby(["kl_weight", "seed"], dropna=False).size().max())
            axis.axhline(latent_dim, color=GREY, lw=0.8, ls="--", zorder=0)
            axis.set_ylim(-0.06 * latent_dim, 1.08 * latent_dim)
            axis.yaxis.get_major_locator().set_params(integer=True)
            weight_axis(axis, weights)
            axis.set_title(label)
            if axis.get_subplotspec().is_first_col():
                axis.set_ylabel(f"active dimensions ({settings['split']})")
        handles = [
            Line2D([], [], ls="-", lw=0.6, marker=marker, ms=4, mew=0, color=colour, label=text)
            for text, marker, colour in ACTIVITY_CRITERIA.values()
        ]
        handles.append(Line2D([], [], color=GREY, lw=0.8, ls="--", label="latent size d"))
        bottom_legend(figure, handles, 4 if len(groups) > 1 else 2)
        return figure


def rate_distortion(training: pd.DataFrame, style: Mapping[str, Any] | None = None) -> Figure:
    """Draw rate (mean KL) against distortion (−log p(x|z)) at the last epoch of each run.

    Colour is the KL weight, the marker is the latent size; a line joins one latent size's medians over seeds.
    """
    with drawing(style) as settings:
        rows = image_rows(training)
        rows = rows.dropna(subset=["reconstruction", "kl"]) if "reconstruction" in rows else rows.head(0)
        if rows.empty:
            return empty_figure(settings, "no training history")
        keys = [name for name in KEYS if name in rows]
        last = rows.sort_values("epoch").groupby(keys, dropna=False, sort=True).tail(1)
        groups = model_groups(last)
        figure, axes = new_panels(len(groups), settings, height=2.8, max_columns=2, extra=0.45)
        sizes = sorted(last["latent_dim"].unique())
        marker = {size: _MARKERS[index % len(_MARKERS)] for index, size in enumerate(sizes)}
        for axis, (label, group) in zip(axes, groups, strict=True):
            for size, line in group.groupby("latent_dim"):
                middle = line.groupby("kl_weight", dropna=False)[["kl", "reconstruction"]].median()
                axis.plot(middle["kl"], middle["reconstruction"], color="0.7", lw=0.8, zorder=1)
                for weight in weights_of(line):
                    cell = of_weight(line, weight)
                    axis.plot(
                        cell["kl"],
                        cell["reconstruction"],
                        ls="",
                        marker=marker[size],
                        ms=4.2,
                        mew=0.4,
                        mec="white",
                        color=kl_colour(weight, settings),
                        zorder=3,
                    )
            kinds = ", ".join(sorted(set(group["likelihood"]) - {""}))
            axis.set(xlabel="rate: mean KL (nats)", title=label)
            axis.set_ylabel(f"distortion: −log p(x|z) (nats{', ' + kinds if kinds else ''})")
        handles = kl_handles(weights_of(last), settings)
        handles += [
            Line2D([], [], ls="", marker=marker[size], ms=4, color=GREY, label=f"d = {size:g}") for size in sizes
        ]
        handles.append(Line2D([], [], color="0.7", lw=1, label="medians over seeds"))
        bottom_legend(figure, handles, 4 if len(groups) == 1 else 8)
        return figure
