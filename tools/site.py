"""Make the pages of all published experiments, from the published files alone: `make site`, into site/."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from aggregated_posterior.figures.page import (  # noqa: E402
    experiment_page,
    figure_entries,
    site_page,
    sweep_content,
)
from aggregated_posterior.storage import DataError, read_json, read_table, write_text  # noqa: E402


def make_site(published: Path, site: Path) -> list[str]:
    """Write a page for every published experiment and one over all; return their names.

    Raises:
        DataError: An experiment lacks a file that its page is made from.
    """
    entries = []
    for folder in sorted(path.parent for path in published.glob("*/manifest.json")):
        if not (folder / "explorer.json").exists():
            continue  # Published by the first edition, which had no page.
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
    write_text(site / "index.html", site_page(entries))
    return [entry["name"] for entry in entries]


if __name__ == "__main__":
    try:
        names = make_site(ROOT / "results/published", ROOT / "site")
    except DataError as error:
        sys.exit(f"error: {error}")
    print(f"site/index.html: {', '.join(names)}")
