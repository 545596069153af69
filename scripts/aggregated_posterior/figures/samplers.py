"""Figures of the ladder of samplers: where the Fréchet distance goes, and what the samples look like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import PercentFormatter

from ..evidence.limits import mean_over_cells
from ..evidence.runs import by_cell, cell_summary
from ..evidence.shares import WITH_SCALE, mean_over_judges, ratio_by_run, removable, shapley
from ..evidence.tables import RUN, is_variant
from .rows import image_rows, is_control, latent_groups, model_groups, of_weight, one_seed, tidy, weights_of
from .style import GREY, bottom_legend, drawing, empty_figure, new_panels, weight_label

# Okabe and Ito's colours, told apart under the common colour-blindnesses.
FACTORS = {
    "scale": ("scale", "#999999"),
    "shape": ("shape of the marginals", "#E69F00"),
    "dependence": ("dependence", "#0072B2"),
}
SAMPLER_LABELS = {
    "prior_raw": "prior, raw",
    "prior": "prior",
    "marginals": "right marginals",
    "dependence": "right dependence",
    "gaussian": "Gaussian",
    "copula": "Gaussian copula",
    "q_heldout": "Q, held-out",
    "q_train": "Q",
    "floor": "train images",
    "ceiling": "reconstructions",
}


def sampler_label(name: str) -> str:
    """Return a sampler's name for people: `gmm_100` reads `mixture of 100`."""
    if name in SAMPLER_LABELS:
        return SAMPLER_LABELS[name]
    return f"mixture of {name.removeprefix('gmm_')}" if name.startswith("gmm_") else name.replace("_", " ")


def factor_shares(samplers: pd.DataFrame) -> pd.DataFrame:
    """Each run's removable penalty and what scale, shape and dependence take of it (Shapley), means over judges.

    Returns:
        `RUN`, `removable` (Fréchet distance) and one column per factor, in the same units; they add up to `removable`.
    """
    needed = set(WITH_SCALE.values())
    if samplers.empty or not needed <= set(samplers["sampler"]):
        return pd.DataFrame(columns=[*RUN, "removable", *FACTORS])
    distances = mean_over_judges(samplers, "frechet")
    values = shapley(distances, WITH_SCALE).assign(removable=removable(distances, WITH_SCALE))
    return values.reset_index()


def share_of(factor: str, shares: pd.DataFrame) -> pd.DataFrame:
    """A factor's share of the removable penalty, a row per run (`RUN`, `value`), as in claim C6s; see `ratio_by_run`.

    Args:
        factor: A name of `FACTORS`.
        shares: Rows of `factor_shares`.
    """
    indexed = shares.set_index(RUN)
    return ratio_by_run(indexed[factor], indexed["removable"])[0]


def mean_and_range(runs: pd.DataFrame) -> tuple[float, float, float]:
    """The mean over cells of `share_of`'s rows, and the smallest and the largest cell."""
    cells = [cell["mean"] for cell in cell_summary(runs)]
    return mean_over_cells(by_cell(runs)).estimate, min(cells), max(cells)


def _split_panel(axis: Axes, rows: pd.DataFrame, weights: list[float]) -> None:
    """Draw one stacked bar per KL weight: the mean over runs of what each factor takes; dots are the runs' totals."""
    for position, weight in enumerate(weights):
        cell = of_weight(rows, weight)
        if cell.empty:
            continue
        # Factors that make things worse go to the left of 0, so that no bar hides another.
        start = {True: 0.0, False: 0.0}
        for factor, (_, colour) in FACTORS.items():
            value = float(cell[factor].mean())
            axis.barh(position, value, left=start[value >= 0], height=0.62, color=colour, lw=0, zorder=2)
            start[value >= 0] += value
        axis.plot(cell["removable"], [position] * len(cell), ls="", marker="o", ms=2.2, mew=0, color="black", zorder=4)
    axis.axvline(0, color="black", lw=0.8, zorder=3)
    first = axis.get_subplotspec().is_first_col()
    axis.set_yticks(range(len(weights)), [f"β = {weight_label(weight)}" if first else "" for weight in weights])
    axis.set_ylim(len(weights) - 0.4, -0.6)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.set_xlabel("removable Fréchet distance")


def factor_handles() -> list[Patch]:
    """Legend entries of the three factors."""
    return [Patch(color=colour, label=text) for text, colour in FACTORS.values()]


def sampler_split(samplers: pd.DataFrame, style: Mapping[str, Any] | None = None) -> Figure:
    """Draw what a sampler could remove of the raw prior's Fréchet distance, split into scale, shape and dependence.

    The whole bar is F(raw prior) − F(Q_train): what the decoder's blur adds to both is in neither. The parts are
    Shapley values, which hang on no order of putting things right.
    """
    with drawing(style) as settings:
        shares = tidy(factor_shares(image_rows(samplers)))
        groups, weights = latent_groups(shares), weights_of(shares)
        if not groups:
            return empty_figure(settings, "no ladder with all corners was scored")
        columns = 4 if len(groups) > 3 else 3
        height = 0.26 * len(weights) + 0.75
        figure, axes = new_panels(len(groups), settings, height=height, max_columns=columns, extra=0.4)
        for axis, (label, group) in zip(axes, groups, strict=True):
            _split_panel(axis, group, weights)
            axis.set_title(label)
        runs = Line2D([], [], color="black", ls="", marker="o", ms=3, label="runs, total")
        bottom_legend(figure, [*factor_handles(), runs], 4 if len(groups) > 1 else 2)
        return figure


def penalty_shares(samplers: pd.DataFrame, style: Mapping[str, Any] | None = None) -> Figure:
    """Draw the shares of scale, shape and dependence in the removable penalty, a bar per data set and architecture.

    A cell's share is a factor's Shapley value over R = F(raw prior) − F(Q_train), a ratio of means over its runs; the
    bar is the mean over cells, in brackets the smallest and the largest. Cells whose R is not above 0 by its limit have
    no share. Rows: the data sets, architectures and variants of training.
    """
    with drawing(style) as settings:
        shares = tidy(factor_shares(image_rows(samplers, variants=True)))
        groups = [(label, group) for label, group in model_groups(shares) if len(share_of("scale", group))]
        if not groups:
            return empty_figure(settings, "no ladder with all corners was scored")
        figure, (axis,) = new_panels(1, settings, height=0.42 * len(groups) + 0.5, max_columns=1, extra=0.35)
        figure.set_size_inches(float(settings["width"]), figure.get_size_inches()[1])
        for position, (_, group) in enumerate(groups):
            start = 0.0
            for factor, (_, colour) in FACTORS.items():
                mean, least, most = mean_and_range(share_of(factor, group))
                width = max(mean, 0.0)
                axis.barh(position, width, left=start, height=0.55, color=colour, lw=0)
                if width > 0.06:
                    text = f"{mean:.0%}\n({least:.0%} to {most:.0%})"
                    dark = factor != "shape"
                    axis.text(
                        start + width / 2, position, text, ha="center", va="center", linespacing=1.0,
                        fontsize=settings["font_size"] - 2, color="white" if dark else "black",
                    )  # fmt: skip
                start += width
        axis.set_yticks(range(len(groups)), [label for label, _ in groups])
        axis.set(ylim=(len(groups) - 0.5, -0.5), xlim=(0, 1), xlabel="share of what a sampler could remove")
        axis.xaxis.set_major_formatter(PercentFormatter(1.0))
        bottom_legend(figure, factor_handles(), 3)
        return figure


def shown_cells(cells: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> pd.DataFrame:
    """Return the cells to draw (index: place in `cells`): one latent size, one seed, all KL weights."""
    table = pd.DataFrame(list(cells))
    table = tidy(table) if len(table) else table
    if table.empty:
        return table
    table = table[~is_control(table) & ~is_variant(table)]
    wanted = settings["plate_latent_dim"]
    if wanted is None or not (table["latent_dim"] == wanted).any():
        wanted = table["latent_dim"].max()
    table = table[(table["latent_dim"] == wanted) | table["latent_dim"].isna()]
    return one_seed(table, settings).sort_values(["dataset", "architecture", "likelihood", "kl_weight"])


def _collapsed(moments: pd.DataFrame | None) -> set[tuple[Any, ...]]:
    """The runs (values of `RUN`) none of whose dimensions is active."""
    if moments is None or moments.empty:
        return set()
    used = tidy(moments).groupby(RUN, dropna=False)["active"].any()
    return set(used.index[~used])


def _plate(images: np.ndarray, columns: int) -> np.ndarray:
    """Lay the first `columns` images side by side with a white gap of one pixel."""
    images = images[:columns]
    gap = np.full_like(images[0][:, :1], 255)
    return np.concatenate([part for image in images for part in (image, gap)][:-1], axis=1)


def sampler_plates(
    plates: Sequence[Mapping[str, np.ndarray]],
    cells: Sequence[Mapping[str, Any]],
    moments: pd.DataFrame | None = None,
    style: Mapping[str, Any] | None = None,
) -> Figure:
    """Draw images of each sampler in rows, a block of columns per KL weight; one decoder per block.

    Args:
        plates: For each cell, uint8 arrays (n, H, W) or (n, H, W, 3) by sampler name.
        cells: The cells' keys (dataset, latent_dim, kl_weight, seed, ...), in the same order.
        moments: `tables/moments.csv`: a model without an active dimension is called collapsed.
        style: Plot settings.
    """
    with drawing(style) as settings:
        shown = shown_cells(cells, settings)
        names = [name for name in settings["plate_samplers"] if any(name in plates[place] for place in shown.index)]
        collapsed = _collapsed(moments)
        if not names:
            return empty_figure(settings, "no sampler drew an image")
        groups, weights = latent_groups(shown), weights_of(shown)
        # Placed by hand, in inches: images of a known shape need no layout engine, and rows shall stand close.
        columns = max(2, min(int(settings["plate_columns"]), 24 // len(weights)))
        margin, gap, title = 0.155 * settings["font_size"], 0.06, 0.032 * settings["font_size"]
        height, width = next(iter(plates[shown.index[0]].values())).shape[1:3]
        full = float(settings["width"]) if len(weights) > 1 else 3.4
        block = (full - margin) / len(weights) - gap
        row = block * height / (columns * (width + 1) - 1) * 1.06
        total = len(groups) * (title + len(names) * row) + 0.04
        figure = Figure(figsize=(full, total))
        for number, (label, group) in enumerate(groups):
            top = total - number * (title + len(names) * row) - title
            for place, weight in enumerate(weights):
                cell = of_weight(group, weight)
                left = margin + place * (block + gap)
                text = f"β = {weight_label(weight)}"
                if len(cell) and tuple(cell.iloc[0][RUN]) in collapsed:
                    text += " (collapsed)"
                figure.text(
                    (left + block / 2) / full,
                    (top + 0.3 * title) / total,
                    f"{label}, {text}" if len(weights) < 4 or not place else text,
                    ha="center",
                )
                for line, name in enumerate(names):
                    box = (left / full, (top - (line + 1) * row) / total, block / full, row / 1.06 / total)
                    axis = figure.add_axes(box)
                    axis.set_axis_off()
                    if place == 0:
                        axis.text(-0.02, 0.5, sampler_label(name), ha="right", va="center", transform=axis.transAxes)
                    images = plates[cell.index[0]].get(name) if len(cell) else None
                    if images is None or not len(images):
                        axis.text(0.5, 0.5, "none", ha="center", va="center", color=GREY, style="italic")
                        continue
                    axis.imshow(_plate(np.asarray(images), columns), cmap="gray", vmin=0, vmax=255)
        return figure
