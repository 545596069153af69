"""Make the pages of all published experiments, from the published files alone: `make site`, into site/.

Beside them the audit of an example model, by the very code of its page under docs/.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from aggregated_posterior.figures.page import (  # noqa: E402
    experiment_page,
    figure_entries,
    site_page,
    sweep_content,
)
from aggregated_posterior.storage import DataError, read_json, read_table, write_text  # noqa: E402

# A model to be audited as a stranger's would be → the page whose Python blocks train it and leave `result`, its audit.
EXAMPLES = {"a torch model on digits": ROOT / "docs/torch.md"}


def make_audits(site: Path) -> list[dict[str, str]]:
    """Write the audit's page of every example model; return their names and addresses."""
    from aggregated_posterior.audit.page import html_page

    audits = []
    for name, path in EXAMPLES.items():
        blocks = re.findall(r"^```python\n(.*?)^```", path.read_text(encoding="utf-8"), flags=re.M | re.S)
        names: dict[str, Any] = {}
        exec(compile("\n".join(blocks), str(path), "exec"), names)
        write_text(site / f"audits/{path.stem}.html", html_page(names["result"], f"{path.stem}.npz"))
        audits.append({"name": name, "page": f"audits/{path.stem}.html"})
    return audits


def make_site(published: Path, site: Path, audits: Sequence[Mapping[str, str]] = ()) -> list[str]:
    """Write a page for every published experiment and one over all; return their names.

    Raises:
        DataError: An experiment lacks a file that its page is made from.
    """
    entries = []
    for folder in sorted(path.parent for path in published.glob("*/manifest.json")):
        if not (folder / "explorer.json").exists():
            continue  # Left out for its size: a part of another experiment, whose page there is.
        claims, manifest = read_json(folder / "claims.json"), read_json(folder / "manifest.json")
        drawn = {path.stem: path for path in (folder / "figures").iterdir() if path.suffix in (".svg", ".png")}
        page = experiment_page(
            folder.name,
            claims,
            figure_entries(drawn, {name: path.with_suffix(".rst") for name, path in drawn.items()}),
            sweep_content(read_table(folder / "tables/samplers.csv"), read_table(folder / "tables/moments.csv")),
            read_json(folder / "explorer.json"),
        )
        write_text(site / folder.name / "index.html", page)
        entries.append(
            {
                "name": folder.name,
                "claims": claims,
                "page": f"{folder.name}/index.html",
                "command": f"make reproduce CONFIG={manifest['config']}",
                "runs": max(claim["runs"] for claim in claims),
            }
        )
    if not entries:
        raise DataError(f"{published}: holds no experiment; publish one with make publish")
    write_text(site / "index.html", site_page(entries, audits))
    return [entry["name"] for entry in entries]


if __name__ == "__main__":
    try:
        names = make_site(ROOT / "results/published", ROOT / "site", make_audits(ROOT / "site"))
    except DataError as error:
        sys.exit(f"error: {error}")
    print(f"site/index.html: {', '.join(names)}")
