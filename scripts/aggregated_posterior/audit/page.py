"""An audit as one HTML page that needs no other file: verdict, what to do, what it means, pictures, numbers."""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment
from markupsafe import Markup, escape

from .._version import __version__
from ..generation.chosen_sampler import FittedSampler
from ..statistics.pairs import most_dependent_pair
from ..text import visible
from .auditing import Audit
from .findings import NEGLIGIBLE
from .outputs import no_option
from .pictures import picture_of_activity, picture_of_marginals, picture_of_pair, picture_of_remedies
from .report import headline, label_headings

# What each column is called and means, in the order of the table.
COLUMNS = {
    "dimension": ("dimension", "Index of the latent dimension, from 0."),
    "active": ("active", "Whether the dimension's mean KL exceeds the threshold; an inactive one carries nothing."),
    "kl": ("mean KL", "KL(q(z|x) ‖ N(0, 1)) averaged over the data, nats: what the loss pays for this dimension."),
    "mean": ("mean", "Mean of Q(z); 0 in a converged model."),
    "variance": ("variance", "Variance of Q(z), variance of the means plus mean variance; 1 in a converged model."),
    "gauge_slack": ("slack", "Nats of KL that rescaling saves for free."),
    "marginal_kl": ("KL(q‖N)", "KL of the dimension's own law to N(0, 1) after rescaling, nats: its shape alone."),
    "ks": ("KS", "Largest difference of the distribution functions, Kolmogorov and Smirnov; 0 to 1."),
    "w1": ("W1", "Wasserstein distance: how far mass has to move on average to make N(0, 1), in units of z."),
    "tv": ("TV", "Total variation: the share of draws that would have to move to make N(0, 1)."),
    "kurtosis": ("kurtosis", "Fourth moment over squared variance of Q(z); 3 if it is normal."),
    "kurtosis_low": ("from", "Lower end of the 95 % interval of kurtosis."),
    "kurtosis_high": ("to", "Upper end of the 95 % interval of kurtosis."),
    "skewness": ("skewness", "Third moment over variance^1.5; 0 if the law is symmetric."),
    "term_means": ("by means", "Part of kurtosis − 3 from the shape of the posterior means."),
    "term_covariance": ("by position", "Part of kurtosis − 3 from spread that is tied to position."),
    "term_scale": ("by scales", "Part of kurtosis − 3 from mixing posteriors of different widths."),
}  # fmt: skip
# One column for each column of labels, by the kind of the labels.
SHARES = {
    "eta_squared": ("label η²", "Share of the dimension's variance that the classes account for."),
    "r_squared": ("label r²", "Squared correlation of the dimension with the labels."),
}
PARTS = {
    "part": ("part", "Scale goes by rescaling; marginal shape is each dimension alone; dependence is between them."),
    "nats": ("nats", "KL(Q ‖ N(0, I)) that this part makes; open where the rows cannot settle it within 1 nat."),
    "low": ("at least", "Lower end, certified on held-out rows."),
    "high": ("at most", "Upper end, what these rows show by themselves."),
}  # fmt: skip
CANDIDATES = {
    "candidate": ("sampler", "The law that codes are drawn from."),
    "gain": ("gain", "Mean ln density of held-out codes minus the prior's, nats per code; more is better."),
    "gain_se": ("± error", "Standard error of the gain over rows."),
    "parameters": ("parameters", "Numbers that were fitted."),
}


@dataclass(frozen=True)
class Verdict:
    """A traffic light (`red`, `amber`, `green`), its title, and one sentence with the numbers."""

    light: str
    title: str
    sentence: str


def html_page(audit: Audit, source: str, reading: Sequence[str] = (), level: str = "") -> str:
    """The page of an audit of the file `source`, or of one latent `level` of it.

    `reading` are the words of a command line that say how to read it.
    """
    folder = resources.files(__package__) / "templates"
    style, script = (Markup((folder / name).read_text(encoding="utf-8")) for name in ("audit.css", "audit.js"))
    environment = Environment(autoescape=True, lstrip_blocks=True, finalize=_seen)
    environment.filters["code"] = _code
    template = environment.from_string((folder / "audit.html.j2").read_text(encoding="utf-8"))
    # None where too few rows could be held out: the headline says so, and the page goes without candidates.
    sampler = None if audit.comparison is None else audit.comparison.sampler
    of_level = f", level {level}" if level else ""
    return template.render(
        name=Path(source).name + of_level,
        headline=headline(audit, source + of_level),
        version=__version__,
        style=style,
        script=script,
        # The page's policy names this one script, so that no other can run.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        verdict=verdict(audit, sampler),
        warnings=audit.warnings,
        advice=audit.advice,
        commands=commands(audit, sampler, source, reading, level),
        # The first finding is the verdict, which stands at the top.
        findings=audit.findings[1:],
        pictures=_pictures(audit, sampler),
        tables=_tables(audit, sampler),
        words=[pair for columns in (COLUMNS, SHARES, PARTS, CANDIDATES) for pair in columns.values()],
    )


def _seen(value: object) -> object:
    """Text of the page with what a reader could not see written out, line by line; markup is the page's own."""
    if isinstance(value, Markup) or not isinstance(value, str):
        return value
    return "\n".join(visible(line, len(line)) for line in value.split("\n"))


LIGHTS = {
    "doubtful": ("red", "Do not sample the prior"),
    "collapsed": ("red", "The decoder ignores z"),
    "open": ("amber", "These rows cannot tell"),
    "in order": ("green", "Sampling the prior is in order"),
}


def verdict(audit: Audit, sampler: FittedSampler | None) -> Verdict:
    """The audit's verdict as a traffic light, and what a fitted sampler gains."""
    light, title = LIGHTS[audit.summary["verdict"]]
    sentence = audit.verdict
    ours = audit.summary["own_prior"] is None  # gains are over N(0, I)
    if ours and sampler is not None and sampler.kind != "prior" and light != "green":
        sentence += f" A {_plain(sampler.kind)} instead gains {sampler.gain_:.3g} nats per code."
    return Verdict(light, title, sentence)


def _plain(kind: str) -> str:
    """A candidate's name inside a sentence."""
    if kind == "normal":
        return "normal law with Q's covariance"
    found = re.fullmatch(r"mixture of (\d+), (\w+)", kind)
    return f"mixture of {found[1]} {found[2]} normal laws" if found else kind


def commands(
    audit: Audit, sampler: FittedSampler | None, source: str, reading: Sequence[str], level: str
) -> list[dict[str, str]]:
    """What can be run at once: each a sentence and shell lines with this file's names filled in."""
    # Both are remedies for N(0, I).
    if not audit.summary["active_dimensions"] or audit.summary["own_prior"] is not None:
        return []
    ends = ("sampler.safetensors", "z.npy", "shift_scale.safetensors")
    stem = Path(source).stem + (f"_level_{level}" if level else "")
    made, codes, moved = (shlex.quote(no_option(f"{stem}_{end}")) for end in ends)
    own, found = shlex.join([source, *reading]), []
    if sampler is not None and sampler.kind != "prior":
        found.append(
            {
                "text": f"Draw codes from a fitted law instead of the prior and decode them as before. A "
                f"{_plain(sampler.kind)} gains {sampler.gain_:.3g} ± {1.96 * _error(sampler):.2g} nats per code on "
                "held-out rows, and `fit` looks more closely than this page.",
                "code": f"aggregated-posterior fit {own} -o {made}\n"
                f"aggregated-posterior sample {made} -n 1000 -o {codes}",
            }
        )
    slack = audit.summary["gauge_slack"]
    if slack > NEGLIGIBLE:
        found.append(
            {
                "text": f"Put location and scale right: {slack:.3g} nats of KL for nothing. `fold_into` builds them "
                "into your layers; no reconstruction changes.",
                "code": f"aggregated-posterior canonical {own} -o {moved}",
            }
        )
    return found


def _code(text: str) -> Markup:
    """What stands between backticks is code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def _error(sampler: FittedSampler) -> float:
    return float(sampler.candidates_.set_index("candidate").loc[sampler.kind, "gain_se"])


def _pictures(audit: Audit, sampler: FittedSampler | None) -> list[dict[str, Any]]:
    train = audit.dimensions[audit.dimensions["split"] == "train"]
    active = train[train["active"]]
    pictures = []
    order = active.sort_values("kl", ascending=False)["dimension"].to_numpy()
    canonical = audit.canonical
    pair = most_dependent_pair(audit.posteriors.train, canonical.shift, canonical.scale, order)
    if pair is not None:
        pictures.append(
            {
                "title": "The most dependent pair",
                "caption": f"Left: Q of dimensions {pair.i} and {pair.j}. Right: the same two marginals without "
                f"dependence, all that a product law can draw. Mutual information on these rows: {pair.nats:.2g} nats. "
                "Shades hold 25, 50, 75 and 95 % of the mass.",
                "svg": picture_of_pair(pair),
                "wide": True,
            }
        )
    if len(active) and audit.marginals is not None:
        pictures.append(
            {
                "title": "Each dimension alone",
                "caption": "Exact marginal densities of the active dimensions farthest from N(0, 1), after rescaling. "
                "Dashed: N(0, 1).",
                "svg": picture_of_marginals(audit.marginals, active),
            }
        )
    pictures.append(
        {
            "title": "Which dimensions are active",
            "caption": f"Mean KL per dimension; {len(active)} of {len(train)} exceed "
            f"{audit.summary['active_threshold']:g} nat (dashed).",
            "svg": picture_of_activity(train, audit.summary["active_threshold"]),
        }
    )
    if sampler is not None and len(active):
        pictures.append(
            {
                "title": "What each remedy buys",
                "caption": "Held-out log-density of codes minus the prior's, nats per code, with 95 % intervals; the "
                "best mixture of each kind. Dark: the simplest that is as good as the best.",
                "svg": picture_of_remedies(sampler.candidates_),
            }
        )
    return [picture | {"svg": Markup(picture["svg"])} for picture in pictures]


def _tables(audit: Audit, sampler: FittedSampler | None) -> list[dict[str, Any]]:
    dimensions = audit.dimensions
    splits = list(dimensions["split"].unique())
    shown = [_table("KL(Q ‖ N(0, I)) by cause, nats", audit.mismatch, PARTS)]
    if sampler is not None:
        tried = sampler.candidates_[sampler.candidates_["left_out"] == ""]
        shown.append(_table("Samplers, judged on held-out rows", tried, CANDIDATES))
    for split in splits:
        of_split = "" if len(splits) == 1 else f", {split} split"
        rows = dimensions[dimensions["split"] == split]
        shares = {
            name: (heading, next(meaning for kind, (_, meaning) in SHARES.items() if name.startswith(kind)))
            for name, heading in label_headings(rows).items()
        }
        shown.append(_table(f"Latent dimensions{of_split}", rows, COLUMNS | shares, ~rows["active"]))
    return shown


def _table(
    caption: str, rows: pd.DataFrame, columns: dict[str, tuple[str, str]], quiet: pd.Series | None = None
) -> dict[str, Any]:
    present = [name for name in columns if name in rows]
    quiet = np.zeros(len(rows), dtype=bool) if quiet is None else quiet.to_numpy()
    return {
        "caption": caption,
        "columns": [{"title": columns[name][0], "meaning": columns[name][1]} for name in present],
        "rows": [
            {"quiet": bool(dim), "cells": [_cell(row[name]) for name in present]}
            for row, dim in zip(rows.to_dict("records"), quiet, strict=True)
        ],
    }


def _cell(value: Any) -> dict[str, str]:
    """What is shown, and what is sorted by."""
    if isinstance(value, bool | np.bool_):
        return {"text": "yes" if value else "no", "value": str(int(value))}
    if isinstance(value, float | np.floating):
        if not np.isfinite(value):
            return {"text": "open", "value": ""}
        text = f"{value:.0f}" if value == round(value) and abs(value) >= 1 else f"{value:#.3g}".rstrip(".")
        return {"text": "0" if abs(value) < 1e-9 else text.replace("-", "−"), "value": repr(float(value))}
    return {"text": str(value), "value": str(value)}
