"""Set the verdicts of all published experiments side by side: results/published/claims.md, and the README's table.

Run by `make publish`. With --check nothing is written, and the exit status says whether both are up to date.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from aggregated_posterior.evidence.verdicts import across_experiments, markdown  # noqa: E402
from aggregated_posterior.storage import DataError, write_text  # noqa: E402

HEADING = """# All claims in all published experiments

Made by `tools/experiments.py` from the experiments' own `claims.json`. Which statistic, limits and threshold stand
behind a verdict: [`docs/ledger.md`](../../docs/ledger.md).

"""
BLOCK = re.compile(r"(?<=<!-- experiments -->\n).*?(?=<!-- end -->)", flags=re.S)


def pages(root: Path = ROOT) -> dict[Path, str]:
    """The files that this tool makes, and what has to be in them."""
    published, readme = root / "results/published", root / "README.md"
    table = across_experiments(published)
    # The README has room for how much, and none for where.
    short = table.map(lambda cell: re.sub(r" \([^()]*\)", "", cell).split("; ")[0])
    text = readme.read_text(encoding="utf-8")
    return {
        published / "claims.md": HEADING + markdown(table),
        readme: BLOCK.sub(lambda match: markdown(short), text),
    }


def main(check: bool = False, root: Path = ROOT) -> int:
    """Write the tables, or compare them with what is there."""
    try:
        made = pages(root)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for path, text in made.items():
        if not check:
            write_text(path, text)
        elif not path.is_file() or path.read_text(encoding="utf-8") != text:
            print(f"error: {path}: is not what the published claims give; run tools/experiments.py", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv))
