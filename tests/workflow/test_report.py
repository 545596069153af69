"""The report as a reader sees it: one file, opened by a real browser that can reach nothing else."""

import json
import re

import pytest

from ..browser import browser_at, nothing_asked_and_nothing_wrong, wait
from .conftest import ROOT, TINY

FIGURES = sorted(path.stem.removeprefix("plot_") for path in (ROOT / "scripts").glob("plot_*.py"))


@pytest.fixture(scope="module")
def report(finished, tmp_path_factory):
    """The report of the finished tiny experiment."""
    path = tmp_path_factory.mktemp("report") / "report.html"
    finished.run("--cores", "1", "--configfile", TINY, "--report", str(path))
    return path


def embedded(report, name):
    """What the page holds in one of its script elements, as Python objects."""
    found = re.search(rf'<script id="{name}">\s*var \w+ = (.*?);\s*</script>', report.read_text(), re.S)
    return json.loads(found.group(1))


@pytest.fixture(scope="module")
def browser(report):
    """Chromium with the report open."""
    with browser_at(report) as driver:
        yield driver


def find(browser, xpath):
    """The first element that an XPath finds, once it is there."""
    return wait(browser, lambda driver: next(iter(driver.find_elements("xpath", xpath)), None))


def click(browser, xpath):
    # Through the page: an element below the fold is clicked as well.
    browser.execute_script("arguments[0].click()", find(browser, xpath))


def open_category(browser, category):
    # By way of the menu, as a reader goes: a list is set up when it is opened.
    browser.execute_script("app.setView({navbarMode: 'menu', content: 'rulegraph'})")
    browser.execute_script("app.showCategory(arguments[0])", category)
    find(browser, "//nav//tbody/tr")


def shown_image(browser, kind):
    """The picture that is shown: its natural width, once it is one of `kind` and has been decoded."""

    def width(driver):
        found = driver.find_elements(
            "xpath", f"//div[@id='app']//img[starts-with(@src, 'data:image/{kind}')][not(ancestor::nav)]"
        )
        return (
            driver.execute_script("return arguments[0].complete && arguments[0].naturalWidth", found[0]) if found else 0
        )

    return wait(browser, width)


def test_every_figure_is_in_two_formats_with_a_caption_that_states_its_finding(report, finished):
    results = embedded(report, "results")
    for name in FIGURES:
        finding = (finished.folder / f"results/tiny/figures/{name}.rst").read_text()
        # The first words up to anything that reStructuredText or HTML would write otherwise.
        words = re.split(r"[\\&<>'|—]", finding)[0].strip()
        for suffix in ("svg", "png"):
            result = results[f"results/tiny/figures/{name}.{suffix}"]
            assert result["labels"]["format"] == suffix.upper()
            assert len(words) > 20 and words in result["caption"], name
            assert "system-message" not in result["caption"], name
            assert "{{" not in result["caption"] and "{%" not in result["caption"], name
    assert len([path for path in results if path.endswith((".svg", ".png"))]) == 2 * len(FIGURES)


def test_results_are_in_categories(report):
    assert set(embedded(report, "categories")) == {
        "1 Moments",
        "2 Distance from N(0, I)",
        "3 Generation",
        "Claims",
    }


def test_the_first_page_says_what_was_done(report):
    text = embedded(report, "workflow-desc")
    assert "<strong>tiny</strong>" in text and "KL weights 0.5, 1" in text
    assert "system-message" not in text and "problematic" not in text


def test_the_browser_opens_it_without_network_and_without_errors(browser):
    find(browser, "//*[contains(text(), 'Is Q(z) normal?')]")
    assert nothing_asked_and_nothing_wrong(browser)


@pytest.mark.parametrize("name", FIGURES)
def test_the_browser_draws_every_figure(browser, report, name):
    path = f"results/tiny/figures/{name}.svg"
    categories = embedded(report, "categories")
    category = next(key for key, groups in categories.items() if any(path in group for group in groups.values()))
    open_category(browser, category)
    title = name.replace("_", " ")
    click(browser, f"//nav//tbody/tr[td='{title}']/td[last()]//a[1]")
    assert shown_image(browser, "png") > 100


def test_a_toggle_changes_png_to_svg(browser):
    open_category(browser, "3 Generation")
    click(browser, "//nav//tbody/tr[1]/td[last()]//a[1]")
    assert shown_image(browser, "png") > 100
    click(browser, "//nav//fieldset//input[@value='SVG']")
    assert shown_image(browser, "svg") > 100
    click(browser, "//nav//fieldset//input[@value='PNG']")
    assert shown_image(browser, "png") > 100


def test_the_claims_are_a_table(browser, finished):
    open_category(browser, "Claims")
    click(browser, "//nav//tbody/tr[1]/td[last()]//a[1]")
    browser.switch_to.frame(find(browser, "//iframe"))
    try:
        rows = wait(browser, lambda driver: driver.find_elements("xpath", "//tbody/tr"))
        texts = [row.text for row in rows]
    finally:
        browser.switch_to.default_content()
    claims = json.loads((finished.folder / "results/tiny/claims.json").read_text())
    assert len(texts) == len(claims)
    for claim, text in zip(claims, texts, strict=True):
        assert text.startswith(claim["id"]) and claim["statement"] in text and claim["verdict"] in text
