"""A real browser that can reach nothing but files, for the tests of pages."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")
# A proxy where nothing listens: whatever is asked of the network fails, as it would on a plane.
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1600,1000 --proxy-server=127.0.0.1:9"
).split()


@contextmanager
def browser_at(page: Path) -> Iterator:
    """A driver of headless Chromium, with a new profile and the page open; the test is skipped where there is none."""
    if not (CHROMIUM and CHROMEDRIVER):
        pytest.skip("chromium and chromedriver are not installed (apt-get install chromium chromium-driver)")
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # Chromium may still write to its profile when it has been told to end.
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        with webdriver.Chrome(options=options, service=webdriver.ChromeService(CHROMEDRIVER)) as driver:
            driver.set_script_timeout(60)
            driver.get(page.as_uri())
            yield driver


def wait(driver, condition):
    """What a condition on the driver gives, once it is true."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(driver, 60).until(condition)


def nothing_asked_and_nothing_wrong(driver) -> bool:
    """Whether only files were loaded and no error stands in the console."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = {
        message["params"]["request"]["url"].split(":", 1)[0]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    }
    severe = [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]
    assert not severe, severe
    return "file" in asked and not asked & {"http", "https", "ws", "wss", "ftp"}


def resize(driver, width: int, height: int = 900) -> None:
    """A window of any width, a phone's too."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def colour_scheme(driver, scheme: str) -> None:
    """`light` or `dark`, as a reader's system would say."""
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def accessibility_faults(driver) -> list[str]:
    """What axe-core finds against WCAG 2 A and AA: contrast, names, keyboard."""
    from axe_core_python.selenium import Axe

    rules = {"runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa"]}}
    found = Axe().run(driver, options=rules)["violations"]
    return [f"{fault['id']}: {node['html'][:120]}" for fault in found for node in fault["nodes"]]
