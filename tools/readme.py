"""Fill the README's tables of verdicts from the published results, between the marks `<!-- claims:NAME -->`.

Run by `make publish`; a test checks that the README is what this makes. So no number of a verdict is typed by hand.
"""

import json
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def number(value: float | None) -> str:
    """Three significant digits, or a dash."""
    return "–" if value is None else f"{value:.3g}"


def claims_table(claims: list[dict]) -> str:
    """The verdicts as a Markdown table."""
    lines = ["| claim | statement | verdict | estimate [95 % interval] | threshold | runs |", "|" + " --- |" * 6]
    for claim in claims:
        if claim["low"] is None or claim["low"] == claim["high"]:
            estimate = number(claim["estimate"])
        else:
            estimate = f"{number(claim['estimate'])} [{number(claim['low'])}, {number(claim['high'])}]"
        cells = [claim["id"], claim["statement"], f"**{claim['verdict']}**", estimate]
        lines.append("| " + " | ".join([*cells, number(claim["threshold"]), str(claim["runs"] or "exact")]) + " |")
    return "\n".join(lines)


def filled(text: str, published: Path) -> str:
    """`text` with every marked block made anew from the published claims."""

    def block(match: re.Match[str]) -> str:
        path = published / match["name"] / "claims.json"
        table = claims_table(json.loads(path.read_text(encoding="utf-8")))
        return f"<!-- claims:{match['name']} -->\n{table}\n<!-- end -->"

    return re.sub(r"<!-- claims:(?P<name>\w+) -->\n.*?<!-- end -->", block, text, flags=re.S)


if __name__ == "__main__":
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    made = filled(text, ROOT / "results/published")
    if "--check" in sys.argv:
        sys.exit(
            0
            if made == text
            else "README.md: its tables of verdicts are not those of results/published; run make publish"
        )
    readme.write_text(made, encoding="utf-8")
