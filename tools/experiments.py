"""Set the verdicts of all published experiments side by side: results/published/claims.md, and the README's table.

Run by `make publish`. With --check nothing is written, and the exit status says whether both are up to date.
"""

import re
import sys
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from aggregated_posterior.evidence.verdicts import across_experiments, markdown  # noqa: E402
from aggregated_posterior.storage import DataError, write_text  # noqa: E402

HEADING = """# All claims in all published experiments

Made by `tools/experiments.py` from the experiments' own `claims.json`. Which statistic, limits and threshold stand
behind a verdict: [`docs/ledger.md`](../../docs/ledger.md).

"""
# An experiment of this ending has the customary sub-sweep of another, and these claims are about it.
SUB_SWEEP = "_regauging"
CUSTOMARY = ["C2r", "C6s", "M1"]
BLOCK = re.compile(r"(?<=<!-- experiments -->\n).*?(?=<!-- end -->)", flags=re.S)


def pages(root: Path = ROOT) -> dict[Path, str]:
    """The files that this tool makes, and what has to be in them."""
    published, readme = root / "results/published", root / "README.md"
    table = across_experiments(published)
    # The README has room for how much, and none for where.
    short = with_sub_sweeps(table).map(in_short)
    text = readme.read_text(encoding="utf-8")
    return {
        published / "claims.md": HEADING + markdown(table),
        readme: BLOCK.sub(lambda match: markdown(short), text),
    }


def in_short(cell: str) -> str:
    """A verdict and the first part of its size; of a size that has a part on customary training, that part."""
    verdict, colon, size = re.sub(r" \([^()]*\)", "", cell).partition(": ")
    parts = size.split("; ")
    return verdict + colon + next((part for part in parts if part.startswith("customary")), parts[0])


def with_sub_sweeps(table: pd.DataFrame) -> pd.DataFrame:
    """The table with the verdicts on customary training in the column of the experiment whose cells were trained so.

    `mnist_regauging` has some of the cells of `mnist` once more, so that its other verdicts would be told twice.
    """
    joined = table.set_index("claim")
    for name in [column for column in joined if column.endswith(SUB_SWEEP)]:
        whole = name.removesuffix(SUB_SWEEP)
        if whole in joined:
            joined.loc[CUSTOMARY, whole] = joined.loc[CUSTOMARY, name]
            joined = joined.drop(columns=name)
    return joined.reset_index()


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
