"""The page's pictures as inline SVG, drawn in the page's own ink so that they are right in the dark too."""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ..figures.style import drawing, new_figure
from ..statistics.marginals import Marginals
from ..statistics.pairs import Pair

# Colours that keep apart for the colour-blind (Okabe and Ito 2008), and that show on white and on black.
BLUE, PALE = "#2f8fd0", "#8fb8d6"
LINES = ("#2f8fd0", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#b8a000")
# Stands for the text's colour in the drawing and is replaced by it in the page.
INK = "#0a0b0c"
MOST_BARS = 64
SHADES = (0.95, 0.75, 0.5, 0.25)


def picture_of_marginals(marginals: Marginals, active: pd.DataFrame) -> str:
    """The active dimensions that are farthest from N(0, 1), canonical, beside it."""
    with _drawing() as figure:
        axis = figure.subplots()
        z = np.linspace(-4, 4, 321)
        chosen = active.nlargest(len(LINES), "marginal_kl")["dimension"].to_numpy()
        for colour, dimension in zip(LINES, chosen, strict=False):
            density = marginals.lines[int(dimension)].evaluate(z, cumulative=False).pdf
            axis.plot(z, density, lw=1.4, color=colour, label=f"dimension {dimension}")
        axis.plot(z, np.exp(-0.5 * z * z) / np.sqrt(2 * np.pi), color=INK, lw=1.4, ls="--", label="N(0, 1)")
        axis.set(xlabel="z, rescaled", ylabel="density", ylim=(0, None), xticks=range(-4, 5, 2))
        # Below the panel: curves may fill it.
        axis.legend(ncols=2, loc="upper center", bbox_to_anchor=(0.5, -0.22), handlelength=1.4)
        return _svg(figure)


def picture_of_pair(pair: Pair) -> str:
    """Q of two dimensions beside the product of their marginals, in the same shades."""
    # Room for the titles: panels of a fixed aspect take all the height that they can.
    with _drawing(4.6, 2.9) as figure:
        panels = figure.subplots(1, 2, sharex=True, sharey=True)
        for axis, density, title in zip(panels, (pair.joint, pair.product), ("Q", "marginals alone"), strict=True):
            levels = [*_levels(pair.joint if title == "Q" else density), density.max() * 1.001]
            colours = [(0x2F / 255, 0x8F / 255, 0xD0 / 255, alpha) for alpha in (0.2, 0.42, 0.66, 0.95)]
            axis.contourf(pair.grid, pair.grid, density.T, levels=levels, colors=colours)
            axis.set(title=title, xlabel=f"dimension {pair.i}", aspect="equal", xlim=(-3.5, 3.5), ylim=(-3.5, 3.5))
        panels[0].set_ylabel(f"dimension {pair.j}")
        return _svg(figure)


def picture_of_activity(train: pd.DataFrame, threshold: float) -> str:
    """Mean KL per dimension, largest first."""
    with _drawing() as figure:
        axis = figure.subplots()
        rows = train.sort_values("kl", ascending=False).head(MOST_BARS)
        x = np.arange(len(rows))
        axis.bar(x, rows["kl"], color=np.where(rows["active"], BLUE, PALE), width=0.8, lw=0)
        axis.axhline(threshold, color=INK, lw=1, ls="--")
        step = -(-len(rows) // 12)
        axis.set_xticks(x[::step], [str(d) for d in rows["dimension"].to_numpy()[::step]])
        more = "" if len(rows) == len(train) else f" (the first {len(rows)} of {len(train)})"
        axis.set(xlabel=f"dimension{more}", ylabel="mean KL, nats")
        return _svg(figure)


def picture_of_remedies(candidates: pd.DataFrame) -> str:
    """Gain over the prior of the rescaled prior, one normal law and the best mixtures."""
    tried = candidates[candidates["left_out"] == ""]
    single = tried[(tried["n_components"] == 1) & (tried["candidate"] != "prior")]
    several = tried[tried["n_components"] > 1]
    best = several.loc[several.groupby("covariance")["gain"].idxmax()] if len(several) else several
    chosen = tried[tried["chosen"] & (tried["candidate"] != "prior")]
    rows = pd.concat([single, best, chosen]).drop_duplicates("candidate").sort_values("gain").tail(6)
    with _drawing() as figure:
        axis = figure.subplots()
        y = np.arange(len(rows))
        axis.barh(y, rows["gain"], color=np.where(rows["chosen"], BLUE, PALE), height=0.62, lw=0)
        axis.errorbar(rows["gain"], y, xerr=1.96 * rows["gain_se"], fmt="none", color=INK, elinewidth=1)
        axis.axvline(0, color=INK, lw=1)
        axis.set_yticks(y, [name.replace(", ", ",\n") for name in rows["candidate"]])
        axis.set(xlabel="nats per code over the prior")
        return _svg(figure)


def _levels(density: np.ndarray) -> list[float]:
    """Densities above which the shares SHADES of the mass lie, growing."""
    values = np.sort(density.ravel())[::-1]
    mass = np.cumsum(values) / values.sum()
    levels = [float(values[min(np.searchsorted(mass, share), len(values) - 1)]) for share in SHADES]
    # contourf needs growing levels, and spiky densities may have equal ones.
    return [level * (1 + 1e-6 * i) for i, level in enumerate(levels)]


@contextmanager
def _drawing(width: float = 3.1, height: float = 2.4) -> Iterator[Figure]:
    """An empty figure in which everything that is not data is drawn in INK."""
    import matplotlib

    names = ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color")
    with drawing({"font_size": 9.0}), matplotlib.rc_context(dict.fromkeys(names, INK)):
        yield new_figure(width, height)


def _svg(figure: Figure) -> str:
    """The figure as SVG for a page that holds several: ids of its own, no size, the page's text colour."""
    stream = io.BytesIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    text = stream.getvalue().decode()
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*">', "<g>", text[text.index("<svg") :]).replace(INK, "currentColor")
    head, rest = text.split(">", 1)
    own = hashlib.sha256(text.encode()).hexdigest()[:8]
    rest = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{own}-", rest)
    return re.sub(r' (?:width|height)="[^"]*"', "", head) + ">" + rest
