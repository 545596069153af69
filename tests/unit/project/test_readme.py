"""The README's tables of verdicts are those of the published results, and its pictures are there."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools"))

from readme import claims_table, filled  # noqa: E402

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_its_verdicts_are_the_published_ones():
    assert "<!-- claims:mnist -->" in README
    assert filled(README, ROOT / "results/published") == README


def test_a_changed_verdict_would_be_found():
    assert filled(README.replace("**supported**", "**refuted**"), ROOT / "results/published") == README


def test_every_picture_and_page_that_it_names_is_there():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(links) > 8
    for link in links:
        if "://" not in link:
            assert (ROOT / link).exists(), link


def test_numbers_are_rounded_and_absent_ones_are_dashes():
    claim = {"id": "C", "statement": "S.", "verdict": "supported", "threshold": None, "runs": 0}
    table = claims_table([{**claim, "estimate": 0.123456, "low": 0.1, "high": 0.2}])
    assert "| C | S. | **supported** | 0.123 [0.1, 0.2] | – | exact |" in table
