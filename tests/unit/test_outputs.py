"""Every place where a user's string reaches an output, and the same nasty strings at each.

place                                              string                          here or
messages (DataError), tables (CSV), JSON           anything                        test_storage.py
configuration, registry, plot settings             every text                      pipeline/test_schemas.py
paths                                              names, KL weights               test_schemas.py, test_text.py
findings (reST) and titles of figures              labels of models                below
captions and the report's first page (reST)        settings                        below
the audit's page (HTML) and its words (terminal)   file names, warnings            below
standard error and logs of scripts                 file names, addresses           below
logs of the readers of images                      names of folders and files      below
"""

import dataclasses
import html.parser
import io
import logging
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from docutils import nodes
from docutils.core import publish_doctree
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from PIL import Image
from rich.console import Console

from aggregated_posterior import text
from aggregated_posterior.audit import report
from aggregated_posterior.audit.auditing import audit
from aggregated_posterior.audit.page import html_page
from aggregated_posterior.audit.report import print_audit
from aggregated_posterior.data.download import Patience, fetch_file
from aggregated_posterior.data.image_folder import read_image_folder
from aggregated_posterior.evidence.tables import attach_keys
from aggregated_posterior.evidence.verdicts import Verdict, markdown, page, substitutions, verdict_table
from aggregated_posterior.figures.findings import describe, sampler_plates
from aggregated_posterior.figures.page import experiment_page, site_page
from aggregated_posterior.figures.rows import latent_groups, tidy
from aggregated_posterior.figures.style import complete_style
from aggregated_posterior.pipeline.schemas import read_yaml
from aggregated_posterior.storage import DataError, read_table, write_table

from .nasty import NASTY

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(params=[name for name in NASTY if NASTY[name]], ids=str)
def nasty(request) -> str:
    return NASTY[request.param]


def keys(nasty: str, seed: int = 0) -> dict[str, object]:
    words = {"experiment": nasty, "dataset": nasty, "architecture": nasty, "likelihood": nasty}
    return {**words, "latent_dim": 2, "kl_weight": 1.0, "seed": seed}


def assert_plain_rest(source: str) -> None:
    """One paragraph of nothing but text."""
    document = publish_doctree(source, settings_overrides={"report_level": 1, "halt_level": 1})
    assert [type(child) for child in document.children] == [nodes.paragraph]
    assert not [
        node for node in document.findall() if isinstance(node, nodes.raw | nodes.reference | nodes.problematic)
    ]


def test_findings_show_labels_as_text(nasty):
    moments = pd.DataFrame([{**keys(nasty), "split": "train", "form": "raw", "dimension": 0, "active": True}])
    assert_plain_rest(describe("active_dimensions", {"moments": moments}, None))
    settings = complete_style(None)
    cells = [{**keys(nasty), "sampler": "prior", "images": np.zeros((1, 2, 2))}]
    assert_plain_rest(sampler_plates(cells, settings))


def test_titles_of_figures_show_labels_as_text(nasty):
    ((label, _),) = latent_groups(tidy(pd.DataFrame([keys(nasty)])))
    figure = Figure()
    figure.subplots().set_title(label)
    figure.savefig(io.BytesIO(), format="svg")


def test_key_columns_of_tables_are_no_formulas(nasty, tmp_path):
    write_table(tmp_path / "t.csv", attach_keys([(keys(nasty), pd.DataFrame({"x": [1.0, -2.0]}))]))
    table = read_table(tmp_path / "t.csv")
    assert list(table["x"]) == [1.0, -2.0]
    for name in ("experiment", "dataset", "architecture", "likelihood"):
        assert not str(table[name].iloc[0]).lstrip().startswith(text.FORMULA)


INTERPOLATED = {
    path.name: re.findall(r"{{(.*?)}}|{%(.*?)%}", path.read_text(), flags=re.S)
    for path in sorted((ROOT / "workflow/report").glob("*.rst"))
}


def restricted(rule: dict) -> bool:
    """Whether a setting can only be a number, a listed word, or a text that a pattern restricts."""
    kinds = rule.get("type", [])
    kinds = {kinds} if isinstance(kinds, str) else set(kinds)
    if "array" in kinds:
        return restricted(rule["items"])
    return "enum" in rule or "string" not in kinds or "pattern" in rule


@pytest.mark.parametrize("name", INTERPOLATED)
def test_captions_hold_restricted_settings_only(name):
    plotting = read_yaml(ROOT / "workflow/schemas/plotting.schema.yaml")["properties"]
    config = read_yaml(ROOT / "workflow/schemas/config.schema.yaml")["properties"]
    sweep = config["sweeps"]["items"]["properties"]
    for expression in ("".join(pair) for pair in INTERPOLATED[name]):
        for key in re.findall(r"snakemake\.params\.style\.(\w+)", expression):
            assert restricted(plotting[key]), key
        for key in re.findall(r'snakemake\.config\["(\w+)"\]', expression):
            assert key == "sweeps" or restricted(config[key]), key
        for key in re.findall(r'sweep\["(\w+)"\]', expression):
            # A data set's name is a key of the registry, and these are restricted.
            assert key == "datasets" or restricted(sweep[key]), key
        # The verdicts' path holds the experiment's name, which is restricted; the rule for "active" holds a number.
        known = r'snakemake\.(params\.(style\.\w+|verdicts|active)|config\["\w+"\]|output\.(finding|get\("finding"\)))'
        assert "snakemake" not in re.sub(known, "", expression), expression


def verdict(nasty: str) -> Verdict:
    fields = {field.name: nasty for field in dataclasses.fields(Verdict)}
    return Verdict(
        **{
            **fields,
            "id": "C4",
            "verdict": "supported",
            "estimate": 1.0,
            "low": 0.5,
            "high": 1.5,
            "threshold": 1.0,
            "cells": [],
        }
    )


def test_verdicts_are_shown_as_text_in_markdown_html_and_captions(nasty):
    table = verdict_table([verdict(nasty)])
    tokens = MarkdownIt("commonmark").enable("table").parse(markdown(table))
    cells = [token for token in tokens if token.type == "inline"]
    assert len(cells) == 2 * table.shape[1]
    assert {child.type for cell in cells for child in cell.children} <= {"text", "text_special"}
    assert {tag for tag, _ in tags(page(table))} <= {"meta", "style", "table", "thead", "tbody", "tr", "th", "td"}
    document = publish_doctree(substitutions([verdict(nasty)]) + "\n|C4|\n", settings_overrides={"halt_level": 1})
    assert not [
        node for node in document.findall() if isinstance(node, nodes.raw | nodes.reference | nodes.problematic)
    ]


def test_pages_of_experiments_show_names_as_text(nasty):
    def pages(text: str) -> list[str]:
        claim = {**dataclasses.asdict(verdict(text)), "verdict": "supported"}
        figure = {"name": "divergence", "title": text, "claims": ["C4"], "image": "data:,", "finding": text}
        entry = {"name": text, "claims": [claim], "page": "a/index.html", "command": text, "runs": 1}
        return [
            experiment_page(text, [claim], [figure], {"cells": [{"name": text}]}, {"maps": [], "cells": []}),
            site_page([entry]),
        ]

    for made, plain in zip(pages(nasty), pages("plain"), strict=True):
        assert tags(made) == tags(plain)


@pytest.fixture(scope="module")
def found():
    mean = np.random.default_rng(0).standard_normal((300, 2))
    return audit(mean, np.full_like(mean, 0.2), points=50, gmm_components=2, fit_points=100)


def tags(page: str) -> list[str]:
    found = []
    reader = html.parser.HTMLParser()
    reader.handle_starttag = lambda tag, attributes: found.append((tag, [name for name, _ in attributes]))
    reader.feed(page)
    reader.close()
    return found


def test_the_audits_page_shows_names_as_text(found, nasty, monkeypatch):
    # No name is drawn in the figure, which takes a second.
    monkeypatch.setattr(report, "figure_bytes", lambda audit, kind: b"<svg></svg>")
    made = html_page(found, nasty)
    assert tags(made) == tags(html_page(found, "plain.npz"))
    assert not set(made) & set("\x1b\x9b\x07\0\u202e\u2066")


def test_the_audits_words_cannot_act_on_the_terminal(found, nasty):
    stream = io.StringIO()
    print_audit(found, nasty, Console(file=stream, width=100))
    assert all(line.isprintable() for line in stream.getvalue().split("\n"))
    assert not any(line.startswith("error:") for line in stream.getvalue().splitlines())


@pytest.mark.parametrize("kind", ["DataError", "OSError"])
def test_errors_of_scripts_are_one_line(tmp_path, kind):
    nasty = "".join(value for name, value in NASTY.items() if "long" not in name)
    code = (
        "from aggregated_posterior.pipeline.scripting import script_log\n"
        "from aggregated_posterior.storage import DataError\n"
        f"with script_log({str(tmp_path / 'log')!r}):\n"
        f"    raise {'DataError(' if kind == 'DataError' else 'OSError(2, chr(88), '}{nasty!r})\n"
    )
    (tmp_path / "script.py").write_text(code)
    command = [sys.executable, str(tmp_path / "script.py")]
    done = subprocess.run(command, env={"PYTHONPATH": str(ROOT / "scripts")}, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and done.stderr[:-1].isprintable()


def test_addresses_are_shown_as_text(nasty, tmp_path, capsys):
    # Port 9 of this machine: nothing listens there.
    addresses = [f"http://[{nasty}", f"http://127.0.0.1:9/{nasty}", f"file://{nasty}", f"~{nasty}", nasty]
    with pytest.raises(DataError) as caught:
        fetch_file("digits", tmp_path / "a.gz", None, addresses, [], Patience(rounds=1))
    for told in (str(caught.value), *capsys.readouterr().err.split("\n")):
        assert told.isprintable()
    assert list(tmp_path.iterdir()) == []


def test_names_of_folders_and_files_are_shown_as_text(nasty, tmp_path, caplog):
    name = nasty.replace("/", "").replace("\0", "")[:60]
    folder = tmp_path / f"a{name}"
    folder.mkdir()
    (folder / "notes.txt").write_text("skipped")
    Image.new("L", (2, 2)).save(folder / "a.png")
    with caplog.at_level(logging.WARNING), pytest.raises(DataError) as caught:
        read_image_folder(folder)
    assert str(caught.value).isprintable() and len(caplog.records) == 1
    assert caplog.records[0].getMessage().isprintable()
    (folder / f"b{name}.png").write_bytes(b"no image")
    with pytest.raises(DataError) as caught:
        read_image_folder(folder)
    assert str(caught.value).isprintable()
