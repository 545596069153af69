"""Set the verdicts of all published experiments side by side: results/published/claims.md. For the maintainer.

Run after `make publish`. With --check nothing is written, and the exit status says whether the table is up to date.
"""

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


def main(check: bool = False, published: Path = ROOT / "results/published") -> int:
    """Write the table, or compare it with the one that is there."""
    try:
        text = HEADING + markdown(across_experiments(published))
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    path = published / "claims.md"
    if not check:
        write_text(path, text)
        return 0
    if path.is_file() and path.read_text(encoding="utf-8") == text:
        return 0
    print(f"error: {path}: is not what the published claims give; run tools/experiments.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main("--check" in sys.argv))
