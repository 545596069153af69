"""The experiment's page and the page over all published experiments: one HTML file each, nothing loaded from outside.

The templates are Jinja2 with automatic escaping, so that no string of a configuration can become markup.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from .explorer import shown_rungs

TEMPLATES = Path(__file__).with_name("templates")
# The order of the argument: figure, its title, the claims that it is about.
ARGUMENT = (
    ("sampler_plates", "What each sampler draws, with one and the same decoder", ("C6",)),
    ("penalty_shares", "What the removable penalty is made of", ("C6k", "C6s")),
    ("sampler_split", "Where the prior's penalty comes from", ("C6", "C6k")),
    ("divergence", "How far Q(z) is from N(0, I)", ("C5", "C5s")),
    ("kurtosis_by_kl_weight", "How far kurtosis is from 3", ("C4", "C4β", "C3")),
    ("kurtosis_terms", "Why kurtosis is not 3", ("C4",)),
    ("kurtosis_by_activity", "Inactive dimensions say nothing", ("C4",)),
    ("marginals", "The most and the least normal dimension", ("C4",)),
    ("latent_map", "Two-dimensional latent spaces", ("C5",)),
    ("variance_law", "The first two moments come for free", ("C1", "C2", "C2r")),
    ("active_dimensions", "How many dimensions are used", ()),
    ("rate_distortion", "Rate and distortion", ("M1",)),
)
MEANINGS = {
    "supported": "every limit lies on the claim's side of the threshold",
    "refuted": "a limit that holds lies on the other side of the threshold",
    "inconclusive": "the limits do not decide",
    "reported": "a size without a threshold",
    "not tested": "this experiment has nothing to measure it by",
}


def experiment_page(
    experiment: str,
    claims: Sequence[Mapping[str, Any]],
    figures: Sequence[Mapping[str, str]],
    sweep: Mapping[str, Any],
    explorer: Mapping[str, Any],
    template: str | Path = TEMPLATES / "experiment.html.j2",
) -> str:
    """The page of one experiment.

    Args:
        experiment: Its name.
        claims: Entries of claims.json.
        figures: See `figure_entries`.
        sweep: See `sweep_content`.
        explorer: The document of `explorer.py`.
    """
    by_id = {claim["id"]: claim for claim in claims}
    drawn = [{**figure, "verdicts": [by_id[name] for name in figure["claims"] if name in by_id]} for figure in figures]
    data = {"maps": explorer.get("maps", []), "cells": explorer.get("cells", []), "sweep": sweep}
    return _render(
        template,
        experiment=experiment,
        claims=claims,
        headline=headline(claims),
        meanings=MEANINGS,
        figures=drawn,
        # "</" would end the script element that holds the document, and "<!--" would let it go on past its end.
        data=json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c"),
        maps=data["maps"],
        cells=sweep["cells"],
    )


def figure_entries(figures: Mapping[str, Path], findings: Mapping[str, Path]) -> list[dict[str, Any]]:
    """Name, title, claims, image (a data address) and finding of every figure, in the order of the argument.

    Args:
        figures: Name → its file, SVG or PNG.
        findings: Name → the file with the sentence under it.
    """
    kinds = {".svg": "image/svg+xml", ".png": "image/png"}
    known = {name: (title, claims) for name, title, claims in ARGUMENT}
    order = [name for name in known if name in figures] + sorted(set(figures) - set(known))
    entries = []
    for name in order:
        title, claims = known.get(name, (name.replace("_", " "), ()))
        content = base64.b64encode(figures[name].read_bytes()).decode()
        image = f"data:{kinds[figures[name].suffix]};base64,{content}"
        sentence = " ".join(findings[name].read_text(encoding="utf-8").replace("**", "").split())
        entries.append({"name": name, "title": title, "claims": claims, "image": image, "finding": sentence})
    return entries


def headline(claims: Sequence[Mapping[str, Any]]) -> str:
    """What was found, in one or two sentences drawn from the verdicts C4, C6 and C6k alone."""
    by_id = {claim["id"]: claim for claim in claims}

    def verdict(name: str) -> str:
        return by_id.get(name, {}).get("verdict", "inconclusive")

    kurtosis = {
        "supported": "The kurtosis of Q(z) differs from 3 in most active dimensions",
        "refuted": "The kurtosis of Q(z) is near 3 in most active dimensions",
    }.get(verdict("C4"), "Whether the kurtosis of Q(z) differs from 3 in most active dimensions is not decided")
    prior = {
        "supported": "sampling the prior is doubtful",
        "refuted": "sampling the prior costs little",
    }.get(verdict("C6"), "whether sampling the prior is doubtful is not decided")
    shape = {
        "supported": "the shape of the marginals, kurtosis with it, accounts for most of what can be removed",
        "refuted": "the shape of the marginals, kurtosis with it, is not the main reason: dependence is",
    }.get(verdict("C6k"), "whether the marginals' shape or dependence is the main reason is not decided")
    return f"{kurtosis}, and {prior}. Of the reasons: {shape}."


def sweep_content(samplers: pd.DataFrame, moments: pd.DataFrame) -> dict[str, Any]:
    """What the sliders show, by cell: Fréchet distances of the shown rungs, and |kurtosis − 3| of active dimensions.

    Args:
        samplers, moments: The experiment's tables.
    """
    if samplers.empty:  # posteriors from elsewhere, without a decoder or images
        return {"cells": []}
    rungs = shown_rungs(list(samplers["sampler"].unique()))
    keys = ["dataset", "architecture", "latent_dim", "kl_weight"]
    cells = []
    active = moments[(moments["split"] == "test") & (moments["form"] == "canonical") & moments["active"].astype(bool)]
    for cell, rows in samplers.groupby(keys, sort=True):
        means = rows.groupby("sampler")["frechet"].mean()
        mine = active[(active[keys] == list(cell)).all(axis="columns")]
        cells.append(
            {
                **{
                    name: value.item() if isinstance(value, np.generic) else value
                    for name, value in zip(keys, cell, strict=True)
                },
                "frechet": {plain: float(means[rung]) for plain, rung in rungs.items() if rung in means},
                "floor": float(means["floor"]),
                "reference": float(means["q_train"]),
                "kurtosis": [round(float(value), 3) for value in (mine["kurtosis"] - 3).abs().sort_values()],
            }
        )
    return {"cells": cells}


def site_page(
    experiments: Sequence[Mapping[str, Any]],
    audits: Sequence[Mapping[str, str]] = (),
    template: str | Path = TEMPLATES / "site.html.j2",
) -> str:
    """The page over all published experiments.

    Args:
        audits: `name` and `page` of the audits of example models.
        experiments: `name`, `claims`, `page` (its address beside this page), `command` (how to reproduce it), `runs`.
    """
    order = list(dict.fromkeys(claim["id"] for experiment in experiments for claim in experiment["claims"]))
    statements = {claim["id"]: claim["statement"] for e in experiments for claim in e["claims"]}
    table = [
        {"id": name, "statement": statements[name],
         "cells": [next((c for c in e["claims"] if c["id"] == name), None) for e in experiments]}
        for name in order
    ]  # fmt: skip
    return _render(template, experiments=experiments, audits=audits, table=table, meanings=MEANINGS)


def _render(template: str | Path, **content: Any) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    path = Path(template)
    environment = Environment(
        loader=FileSystemLoader([path.parent, TEMPLATES]), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True,
    )  # fmt: skip
    return environment.get_template(path.name).render(**content)
