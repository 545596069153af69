"""The pages of all published experiments, made from the published files alone."""

import sys

import pytest

from ..browser import accessibility_faults, browser_at, colour_scheme, nothing_asked_and_nothing_wrong, resize
from .conftest import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from site_pages import make_site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    names = make_site(ROOT / "results/published", folder, [{"name": "<b>one</b>", "page": "audits/one.html"}])
    assert "digits" in names
    return folder


def test_it_links_every_experiment_and_every_audit(site):
    text = (site / "index.html").read_text(encoding="utf-8")
    assert 'href="digits/index.html"' in text and 'href="audits/one.html"' in text
    assert "<b>one</b>" not in text and "make reproduce CONFIG=config/config.yaml" in text
    assert (site / "digits/index.html").stat().st_size < 5 * 2**20


def test_the_browser_shows_it_at_both_widths(site):
    with browser_at(site / "index.html") as driver:
        for page in ("index.html", "digits/index.html"):
            driver.get((site / page).as_uri())
            for width in (390, 1200):
                for scheme in ("light", "dark"):
                    resize(driver, width)
                    colour_scheme(driver, scheme)
                    assert driver.execute_script("return document.documentElement.scrollWidth") <= width, page
                    assert not accessibility_faults(driver), page
        assert nothing_asked_and_nothing_wrong(driver)
