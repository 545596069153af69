"""The audit's page: what it says, its commands run, and what a real browser that can reach nothing else makes of it."""

from __future__ import annotations

import html
import re
import shlex

import numpy as np
import pandas as pd
import pytest

from aggregated_posterior import audit
from aggregated_posterior.audit.cli import main
from aggregated_posterior.audit.page import html_page, verdict

from ...browser import browser_at, colour_scheme, nothing_asked_and_nothing_wrong, resize, wait

FAST = {"points": 300, "gmm_components": 4, "fit_points": 2000}
NAME = "own & <strange> 'file'.npz"


def clusters(n=2000, noise_dimensions=1, seed=0):
    """Two clusters on a diagonal, moved and stretched, beside dimensions that say nothing: mean, variance."""
    side = np.where(np.random.default_rng(seed).random((n, 1)) < 0.5, 0.9, -0.9)
    mean = np.concatenate([1 + 2 * side, -2 + 0.5 * side, np.zeros((n, noise_dimensions))], axis=1)
    return mean, np.tile([4 * 0.19, 0.25 * 0.19, *[1.0] * noise_dimensions], (n, 1))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with posteriors of a name that has to be escaped and quoted, and the page of their audit."""
    path = tmp_path_factory.mktemp("page")
    mean, variance = clusters(noise_dimensions=10)
    np.savez(path / NAME, mean=mean, variance=variance, labels=(mean[:, 0] > 1).astype(int))
    assert main(["audit", str(path / NAME), "--html", str(path / "audit.html"), "--points", "300"]) == 0
    return path


def test_lights_and_their_reasons():
    rng = np.random.default_rng(1)
    mean = np.sqrt(0.5) * rng.standard_normal((4000, 2))
    cases = {
        "red": clusters(),
        "green": (mean, np.full_like(mean, 0.5)),
        "amber": (np.sqrt(0.9) * rng.standard_normal((1000, 16)), np.full((1000, 16), 0.1)),
    }
    for light, arrays in cases.items():
        result = audit(*arrays, **FAST)
        found = verdict(result, result.sampler(components=(2,), fit_points=2000))
        assert found.light == light, found
    collapsed = verdict(audit(np.zeros((50, 3)), np.ones((50, 3)), **FAST), None)
    assert collapsed.light == "red" and "ignores z" in collapsed.title


def test_the_page_is_whole_and_the_same_twice(folder):
    page = (folder / "audit.html").read_text()
    for words in ("Do not sample the prior", "mixture of 2 diagonal normal laws", "Latent dimensions", "label η²"):
        assert words in page
    assert page.count("<figure") == 4 and page.count("<svg") == 5
    for outside in ("http:", 'src="', "@import", "<strange>"):
        assert outside not in page.replace('xmlns="http:', "").replace('xmlns:xlink="http:', "")
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert main(["audit", str(folder / NAME), "--html", str(folder / "again.html"), "--points", "300"]) == 0
    assert (folder / "again.html").read_text() == page


def test_advice_and_page_are_of_one_fit(monkeypatch):
    result = audit(*clusters(), **FAST)

    def refuse(*arguments, **settings):
        raise AssertionError("fitted again")

    monkeypatch.setattr("aggregated_posterior.generation.chosen_sampler.fit_normal_mixture", refuse)
    sampler = result.comparison.sampler
    assert sampler.kind == result.summary["advised_sampler"] == "mixture of 2, diagonal"
    advised = result.candidates.set_index("candidate").loc[sampler.kind]
    assert sampler.gain_ == advised["gain"] and f"{sampler.gain_:.3g}" in html_page(result, "own.npz")
    with pytest.raises(AssertionError, match="fitted again"):
        result.sampler()


def commands_of(page):
    return [
        line for block in re.findall(r"<pre[^>]*><code>(aggregated-posterior .*?)</code>", page, re.S)
        for line in html.unescape(block).splitlines()
    ]  # fmt: skip


def test_its_commands_run(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    lines = commands_of((folder / "audit.html").read_text())
    assert [shlex.split(line)[1] for line in lines] == ["fit", "sample", "canonical"]
    for line in lines:
        assert main(shlex.split(line)[1:]) == 0, line
    z = np.load(folder / "own & <strange> 'file'_z.npy")
    assert z.shape == (1000, 12)
    np.testing.assert_allclose(z[:, :2].mean(axis=0), [1, -2], atol=0.3)
    capsys.readouterr()


def test_its_commands_read_the_file_as_the_audit_did(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    mean, variance = clusters()
    kind = (mean[:, 0] > 1).astype(int)
    np.savez("k.npz", **{"foo": mean, "-it's bar": variance, "kind": kind, "batch": kind, "mean_1": mean, "rest": mean})
    reading = ["--mean", "foo", "--variance=-it's bar", "--labels", "kind", "--labels", "batch", "--layout", "flat"]
    assert main(["audit", "k.npz", *reading, "--html", "k.html", "--points", "300"]) == 0
    lines = commands_of((tmp_path / "k.html").read_text())
    assert [shlex.split(line)[1] for line in lines] == ["fit", "sample", "canonical"]
    for line in lines:
        assert main(shlex.split(line)[1:]) == 0, line
    capsys.readouterr()


def test_every_column_of_labels_has_one_in_the_table():
    mean, variance = clusters()
    side = mean[:, 0] > 1
    labels = pd.DataFrame({"kind": side, "<age>": mean[:, 0], "batch": side[::-1]})
    page = html_page(audit(mean, variance, labels=labels, **FAST), "a.npz")
    table = page[page.index("Latent dimensions</caption>") :]
    assert all(heading in table for heading in ("kind η²", "batch η²", "&lt;age&gt; r²"))


def test_one_dimension_too_few_rows_and_nothing_active_have_pages_too():
    mean, variance = clusters(noise_dimensions=0)
    for arrays in ((mean[:, :1], variance[:, :1]), (mean[:5], variance[:5]), (np.zeros((50, 3)), np.ones((50, 3)))):
        assert "</html>" in html_page(audit(*arrays, **FAST), "a.npz")


# ------------------------------------------------------------------------------------------------- in a browser


@pytest.fixture(scope="module")
def browser(folder):
    """Chromium with the page open, and no network."""
    with browser_at(folder / "audit.html") as driver:
        yield driver


def screen(browser, width, scheme="light"):
    resize(browser, width)
    colour_scheme(browser, scheme)


@pytest.mark.parametrize("width", [320, 390, 1200])
def test_nothing_overflows(browser, width):
    screen(browser, width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    past = browser.execute_script(
        "return [...document.querySelectorAll('main *:not(.scroll *):not(svg *)')]"
        ".filter(e => e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 80))"
    )
    assert past == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_words_stand_out_from_the_ground(browser, scheme):
    """Contrast of at least 4.5 for every colour of text (WCAG 2.1, AA), in both schemes, drawings' ink included."""
    screen(browser, 1200, scheme)

    def luminance(colour):
        red, green, blue = (int(part) / 255 for part in re.findall(r"\d+", colour)[:3])
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    ask = "return getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    grounds = [
        luminance(browser.execute_script(ask, where, "backgroundColor")) for where in ("body", ".verdict", "pre")
    ]
    for where in ("body", ".quiet", "code", "tr.inactive td", "figure svg"):
        text = luminance(browser.execute_script(ask, where, "color"))
        for ground in grounds:
            assert (max(text, ground) + 0.05) / (min(text, ground) + 0.05) >= 4.5, (where, scheme)
    assert (grounds[0] < 0.05) == (scheme == "dark")


def test_columns_sort_up_and_down_as_numbers(browser):
    tables = browser.find_elements("css selector", "table.sortable")
    table = tables[-1]
    heads = [head.text for head in table.find_elements("css selector", "thead th")]
    column = heads.index("variance")

    def values():
        cells = table.find_elements("css selector", f"tbody td:nth-child({column + 1})")
        return [float(cell.get_attribute("data-value")) for cell in cells]

    button = table.find_elements("css selector", "thead button")[column]
    for order in ("descending", "ascending"):
        browser.execute_script("arguments[0].click()", button)
        assert values() == sorted(values(), reverse=order == "descending") and len(set(values())) > 2
        assert table.find_elements("css selector", "thead th")[column].get_attribute("aria-sort") == order
    assert all(head.get_attribute("title") for head in table.find_elements("css selector", "thead th"))


def test_the_button_copies_or_selects_the_code(browser):
    button = browser.find_element("css selector", "button.copy")
    browser.execute_script("arguments[0].click()", button)
    wait(browser, lambda driver: button.text in ("Copied", "Selected"))


def test_it_asks_nothing_of_the_network_and_raises_no_error(browser):
    assert nothing_asked_and_nothing_wrong(browser)
