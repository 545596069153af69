"""The experiment's page in a real browser: it explores, slides, fits a phone, and asks the network for nothing."""

import json

import numpy as np
import pytest

from aggregated_posterior.storage import read_arrays

from ..browser import accessibility_faults, browser_at, colour_scheme, nothing_asked_and_nothing_wrong, resize


@pytest.fixture(scope="module")
def page(finished):
    return finished.folder / "results/tiny/index.html"


@pytest.fixture(scope="module")
def browser(page):
    with browser_at(page) as driver:
        yield driver


def text(browser, identifier):
    return browser.find_element("id", identifier).text


def picture(browser, identifier):
    return browser.execute_script(f"return document.getElementById('{identifier}').toDataURL()")


def test_it_is_one_small_file(page):
    assert page.stat().st_size < 5 * 2**20
    content = page.read_text(encoding="utf-8")
    assert 'src="http' not in content and "@import" not in content


def test_it_asks_the_network_for_nothing_and_no_error_is_in_the_console(browser):
    assert text(browser, "headline")
    assert nothing_asked_and_nothing_wrong(browser)


def test_every_claim_has_its_verdict_and_its_reason(browser, finished):
    claims = json.loads((finished.folder / "results/tiny/claims.json").read_text())
    for claim in claims:
        chip = browser.find_element("id", f"claim-{claim['id']}")
        assert claim["verdict"] in chip.text and claim["statement"] in chip.text
        assert claim["statistic"] in chip.get_attribute("textContent")


def test_every_figure_has_a_caption_that_is_seen(browser):
    figures = browser.find_elements("css selector", "figure")
    assert len(figures) >= 11
    assert all(len(figure.find_element("css selector", "figcaption").text) > 20 for figure in figures)


def test_the_explorer_decodes_as_the_pipeline_does(browser, finished):
    models = sorted((finished.folder / "results/tiny/models/digits/dense/latent_2").glob("kl_*/seed_0/vae.safetensors"))
    assert models
    for number, path in enumerate(models):
        weights, _ = read_arrays(path)
        layers = sorted({int(name.split(".")[1]) for name in weights if name.startswith("decoder.")})
        for z in ([0.0, 0.0], [1.5, -2.0], [-3.0, 0.25]):
            x = np.array(z)
            for layer in layers:
                x = weights[f"decoder.{layer}.weight"].astype(float) @ x + weights[f"decoder.{layer}.bias"]
                x = x if layer == layers[-1] else np.maximum(x, 0)
            seen = np.array(browser.execute_script(f"return decodePixels({number}, {z})"))
            assert np.abs(seen - 1 / (1 + np.exp(-x))).max() < 1 / 255


def test_moving_over_the_map_draws_another_image(browser):
    before = picture(browser, "decoded")
    browser.execute_script(
        "const m = document.getElementById('map'), b = m.getBoundingClientRect();"
        "m.dispatchEvent(new PointerEvent('pointermove', {clientX: b.left + 20, clientY: b.top + 20}))"
    )
    moved = picture(browser, "decoded")
    assert moved != before
    browser.find_element("id", "map").send_keys("\ue014")  # the right arrow key
    assert picture(browser, "decoded") != moved


def test_each_sampler_draws_other_codes(browser):
    seen = set()
    buttons = browser.find_elements("css selector", "#sampler-choice button")
    assert len(buttons) == 5
    for number in range(len(buttons)):
        browser.execute_script(f"document.querySelectorAll('#sampler-choice button')[{number}].click()")
        seen.add(picture(browser, "map"))
    assert len(seen) == 5


def test_the_sliders_and_the_switch_change_the_pictures(browser):
    def slide(identifier, place):
        browser.execute_script(
            f"const s = document.getElementById('{identifier}'); s.value = {place}; s.dispatchEvent(new Event('input'))"
        )
        return [browser.find_element("id", name).get_attribute("outerHTML") for name in ("plate", "split", "marginal")]

    first, second = slide("beta", 0), slide("beta", 1)
    assert all(a != b for a, b in zip(first[:2], second[:2], strict=True))
    browser.execute_script("document.getElementById('above-floor').click()")
    assert "floor" in text(browser, "split-note")
    assert browser.find_element("id", "split").get_attribute("outerHTML") != second[1]


@pytest.mark.parametrize(("spelt", "number"), [("1", 1), ("1.0", 1), ("0.50", 0.5), ("1e-05", 1e-5)])
def test_a_cell_is_found_however_the_configuration_spells_its_kl_weight(browser, spelt, number):
    cell = {"dataset": "digits", "architecture": "dense", "latent_dim": 2}
    pair = [{**cell, "kl_weight": spelt}, {**cell, "kl_weight": number}]
    assert browser.execute_script("return same(...arguments[0])", pair)
    assert not browser.execute_script("return same(...arguments[0])", [pair[0], {**pair[1], "latent_dim": 4}])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1200])
def test_it_fits_a_phone_and_can_be_read_by_everyone(browser, width, scheme):
    resize(browser, width)
    colour_scheme(browser, scheme)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width
    assert not accessibility_faults(browser)
