"""The README: one screen to the point, its table made from the published results, its links there."""

import re
import sys
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools"))

from experiments import in_short, main, pages, with_sub_sweeps  # noqa: E402

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_its_verdicts_are_the_published_ones():
    assert "<!-- experiments -->" in README
    for path, text in pages(ROOT).items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run tools/experiments.py"


def test_a_changed_verdict_would_be_found(tmp_path):
    (tmp_path / "results").symlink_to(ROOT / "results")
    (tmp_path / "README.md").write_text(README)
    assert main(check=True, root=tmp_path) == 0
    (tmp_path / "README.md").write_text(README.replace("| supported: ", "| refuted: ", 1))
    assert main(check=True, root=tmp_path) == 1


@pytest.mark.parametrize(
    ("cell", "short"),
    [
        ("supported: at most 0.02 (mnist, d = 2) on training rows; more", "supported: at most 0.02 on training rows"),
        ("reported: main sweep: scale 2%; customary training: scale 29%", "reported: customary training: scale 29%"),
        ("A statement of its own.", "A statement of its own."),
    ],
)
def test_the_readme_tells_how_much_and_of_customary_training_where_it_can(cell, short):
    assert in_short(cell) == short


def test_a_sub_sweep_of_customary_training_stands_in_its_experiments_column():
    claims = {"claim": ["C1", "C2r", "C6s", "M1"]}
    table = pd.DataFrame({**claims, "a": list("1234"), "a_regauging": list("5678"), "b_regauging": list("qrst")})
    joined = pd.DataFrame({**claims, "a": list("1678"), "b_regauging": list("qrst")})
    pd.testing.assert_frame_equal(with_sub_sweeps(table), joined)


def test_it_is_read_in_one_sitting():
    words = re.sub(r"<!-- experiments -->.*?<!-- end -->", "", README, flags=re.S).split()
    assert len(words) <= 700


@pytest.mark.parametrize("page", ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))])
def test_every_picture_and_page_that_it_names_is_there(page):
    for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", (ROOT / page).read_text(encoding="utf-8")):
        if "://" not in link:
            assert (ROOT / page).parent.joinpath(link).exists(), link
