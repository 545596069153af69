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

from .rows import RUN_KEYS, image_rows, is_control, latent_groups, of_weight, one_seed, tidy, weights_of
from .style import GREY, bottom_legend, drawing, empty_figure, new_panels, weight_label

STEPS = {
    "scale": ("scale: raw → canonical prior", "#999999"),
    "shape": ("shape of the marginals", "#E69F00"),
    "dependence": ("dependence", "#0072B2"),
    "rest": ("left to Q of held-out data", "#CC79A7"),
}
SAMPLER_LABELS = {
    "prior_raw": "N(0, I), raw",
    "prior": "N(0, I)",
    "marginals": "product of marginals",
    "gaussian": "Gaussian",
    "copula": "Gaussian copula",
    "q_heldout": "Q(z), held-out",
    "q_train": "Q(z), train",
    "floor": "train images",
    "ceiling": "reconstructions",
}


def sampler_label(name: str) -> str:
    """Return a sampler's name for people: `gmm_100` reads `GMM, 100`."""
    if name in SAMPLER_LABELS:
        return SAMPLER_LABELS[name]
    return f"GMM, {name.removeprefix('gmm_')}" if name.startswith("gmm_") else name.replace("_", " ")


def dependence_sampler(present: Sequence[str], settings: Mapping[str, Any]) -> str | None:
    """Return the first sampler with dependence, in the style's fixed order, that was scored.

    The order is fixed beforehand: taking the one with the best score would favour it by selection.
    """
    return next((name for name in settings["dependence_samplers"] if name in set(present)), None)


def rungs(rows: pd.DataFrame, settings: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the steps (cause, from sampler, to sampler) that the scored samplers allow, raw prior first."""
    present = set(rows["sampler"])
    ladder = [("scale", "prior"), ("shape", "marginals")]
    best = dependence_sampler(sorted(present), settings)
    ladder += [("dependence", best)] if best else []
    ladder += [("rest", "q_heldout")]
    steps, start = [], "prior_raw"
    for cause, sampler in ladder:
        if sampler in present:
            if start in present:
                steps.append((cause, start, sampler))
            start = sampler
    return steps


def one_judge(rows: pd.DataFrame, settings: Mapping[str, Any]) -> pd.DataFrame:
    """Return the scores of the judge that the style names, or of the first one: judges' scales differ."""
    if rows.empty or "judge" not in rows:
        return rows
    wanted = settings["judge"]
    judges = sorted(rows["judge"].unique())
    return rows[rows["judge"] == (wanted if wanted in judges else judges[0])]


def excess_over_heldout(rows: pd.DataFrame) -> pd.DataFrame:
    """Return each run's Fréchet distances minus that of its own Q of held-out data (runs × samplers).

    One decoder's blur is in all of its distances, and differs far more between KL weights than its samplers do.
    """
    keys = [name for name in RUN_KEYS if name in rows]
    rows = rows.assign(run=rows.groupby(keys, dropna=False).ngroup())
    level = rows.pivot_table(index="run", columns="sampler", values="frechet")
    return level.sub(level["q_heldout"], axis="index")


def _split_panel(axis: Axes, rows: pd.DataFrame, weights: list[float], settings: Mapping[str, Any]) -> None:
    """Draw one staircase per KL weight, from the raw prior at the top to Q of held-out data at the bottom."""
    height = 0.8 / len(STEPS)
    for position, weight in enumerate(weights):
        cell = of_weight(rows, weight)
        if cell.empty:
            continue
        excess = excess_over_heldout(cell)
        level = excess.median()
        y = position - 0.4 + height / 2
        for cause, start, end in rungs(cell, settings):
            better = level[end] <= level[start]
            axis.barh(
                y,
                abs(level[start] - level[end]),
                left=min(level[start], level[end]),
                height=height * 0.9,
                facecolor=STEPS[cause][1] if better else "white",
                edgecolor=STEPS[cause][1],
                hatch=None if better else "//////",
                lw=0.6,
                zorder=2,
            )
            # The last step ends at 0 by construction: its runs are shown where they start from.
            runs = excess[end] if end != "q_heldout" else excess[start]
            axis.plot(runs, [y] * len(runs), ls="", marker="o", ms=2.2, mew=0, color="black", zorder=4)
            y += height
        medians = cell.groupby("sampler")["frechet"].median()
        parts = [
            f"{text} {medians[name]:.3g}" for text, name in (("Q", "q_heldout"), ("floor", "floor")) if name in medians
        ]
        axis.annotate(
            ", ".join(parts),
            (1, position + 0.4),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="center",
            color="0.35",
            fontsize=settings["font_size"] - 2,
        )
        if position:
            axis.axhline(position - 0.5, color="0.85", lw=0.6, zorder=0)
    first = axis.get_subplotspec().is_first_col()
    axis.set_yticks(range(len(weights)), [f"β = {weight_label(weight)}" if first else "" for weight in weights])
    axis.set_ylim(len(weights) - 0.4, -0.5)
    axis.axvline(0, color="black", lw=0.8, zorder=3)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.set_xlabel("Fréchet distance above Q(z)")


def sampler_split(samplers: pd.DataFrame, style: Mapping[str, Any] | None = None) -> Figure:
    """Draw how much Fréchet distance each cause takes: scale, shape of the marginals, dependence, the rest.

    Each KL weight has a staircase of medians over seeds, measured from the distance of Q of held-out data: a bar runs
    from one sampler's distance to the next one's. A step that makes things worse is hatched. Numbers give the distance
    of Q itself and the floor.
    """
    with drawing(style) as settings:
        rows = one_judge(image_rows(samplers), settings)
        rows = rows.dropna(subset=["frechet"]) if "frechet" in rows else rows.head(0)
        groups, weights = latent_groups(rows), weights_of(rows)
        if not groups or not (rows["sampler"] == "q_heldout").any():
            return empty_figure(settings, "no sampler was scored beside Q of held-out data")
        columns = 3 if len(groups) != 4 else 2
        height = 0.5 * len(weights) + 0.6
        figure, axes = new_panels(len(groups), settings, height=height, max_columns=columns, extra=0.55)
        for axis, (label, group) in zip(axes, groups, strict=True):
            _split_panel(axis, group, weights, settings)
            axis.set_title(label)
        handles = [Patch(color=colour, label=text) for text, colour in STEPS.values()]
        worse = Patch(facecolor="white", edgecolor=GREY, hatch="//////", label="hatched: a step for the worse")
        runs = Line2D([], [], color="black", ls="", marker="o", ms=3, label="runs")
        bottom_legend(figure, [*handles, worse, runs], 3 if len(groups) > 1 else 2)
        return figure


def shown_cells(cells: Sequence[Mapping[str, Any]], settings: Mapping[str, Any]) -> pd.DataFrame:
    """Return the cells to draw (index: place in `cells`): one latent size, one seed, all KL weights."""
    table = pd.DataFrame(list(cells))
    table = tidy(table) if len(table) else table
    if table.empty:
        return table
    table = table[~is_control(table)]
    wanted = settings["plate_latent_dim"]
    if wanted is None or not (table["latent_dim"] == wanted).any():
        wanted = table["latent_dim"].max()
    table = table[(table["latent_dim"] == wanted) | table["latent_dim"].isna()]
    return one_seed(table, settings).sort_values(["dataset", "architecture", "likelihood", "kl_weight"])


def _plate(images: np.ndarray, columns: int) -> np.ndarray:
    """Lay the first `columns` images side by side with a white gap of one pixel."""
    images = images[:columns]
    gap = np.full_like(images[0][:, :1], 255)
    return np.concatenate([part for image in images for part in (image, gap)][:-1], axis=1)


def sampler_plates(
    plates: Sequence[Mapping[str, np.ndarray]],
    cells: Sequence[Mapping[str, Any]],
    style: Mapping[str, Any] | None = None,
) -> Figure:
    """Draw images of each sampler in rows, a block of columns per KL weight; one decoder per block.

    Args:
        plates: For each cell, uint8 arrays (n, H, W) or (n, H, W, 3) by sampler name.
        cells: The cells' keys (dataset, latent_dim, kl_weight, seed, ...), in the same order.
        style: Plot settings.
    """
    with drawing(style) as settings:
        shown = shown_cells(cells, settings)
        names = [name for name in settings["plate_samplers"] if any(name in plates[place] for place in shown.index)]
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
