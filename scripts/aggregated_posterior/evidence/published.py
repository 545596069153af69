"""Does a reader's run agree with the published one? The files that a manifest names, one by one.

Identical bytes need no further question. Else numbers in tables are compared as `verification_tables` says: up to
rounding where the computation was the same, within `SPREADS` standard errors of the spread between seeds where it was
not. Verdicts must be the published ones, whatever the numbers. A claim's estimate may move by `SPREADS` · √2 · (high −
low) / (2 · 1.96), where [low, high] is the published 95 % interval; an estimate without an interval (a largest z-score)
is judged by its verdict alone, unless every table that it is drawn from agrees up to rounding: then it must too.
Figures and pages are drawn from tables, so where their bytes differ they are named and not judged.

The manifest (`manifest.json` in the published folder) has `published`, the SHA-256 of every file beside it, and `run`,
that of every file of the run, models and posteriors included, which are too large to publish.

Without Snakemake: `python -m aggregated_posterior.verification results/digits results/published/digits`, exit status 0
where all agrees and 1 where anything differs or is missing.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

from ..storage import DataError, read_json, read_table
from .tolerances import (
    ABSOLUTE,
    RELATIVE,
    SPREADS,
    Comparison,
    Difference,
    compare_tables,
    rounding,
)

MANIFEST = "manifest.json"
# The tables that verdicts are drawn from.
EVIDENCE = ("moments", "marginals", "divergence", "samplers", "controls")
ORDER = ("identical", "within rounding", "within seed spread", "differs")
EXACT = {"identical", "within rounding"}
FAILED = {"differs", "missing"}
SHOWN = 50
TOLERANCES = f"""\
Rounding: {RELATIVE:g} of the larger number plus {ABSOLUTE:g}, for every number of a run that is the same computation
(more than half of its numbers equal the published ones up to rounding). Seed spread, for a run that is another
computation: {SPREADS:g} × s × √(1/n + 1/n′) for the means over the n and n′ seeds of a cell, s the published standard
deviation between seeds (the cell's, or the root mean square over the cells of its data set and architecture where that
is larger); counts may besides differ by one, shares of dimensions by one dimension. Verdicts and thresholds: equal.
Estimates of claims: as far as the width of the published interval implies. The full text is in
`scripts/aggregated_posterior/evidence/published.py` and `tolerances.py`.
"""


@dataclass
class Verification:
    """The comparison of a run with the published one, file by file."""

    experiment: str
    files: list[Comparison]
    # File name → [identical to the published run's, others, absent]; told, not judged.
    run: dict[str, list[int]] = field(default_factory=dict)

    @property
    def result(self) -> str:
        """The worst of the files' statuses, among those that are judged."""
        statuses = {"differs" if file.status in FAILED else file.status for file in self.files}
        return next((status for status in reversed(ORDER) if status in statuses), "differs")

    @property
    def agrees(self) -> bool:
        return self.result != "differs"


def digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def verify(own: str | Path, published: str | Path) -> Verification:
    """Compare the run in folder `own` with the published one.

    Args:
        own: The reader's results, results/{experiment}.
        published: The published results, results/published/{experiment}, with their manifest.

    Raises:
        DataError: There is no manifest, or it is none.
    """
    own, published = Path(own), Path(published)
    manifest = read_json(published / MANIFEST)
    try:
        expected, run = manifest["published"], manifest["run"]
    except (KeyError, TypeError):
        raise DataError(f"{published / MANIFEST}: lacks `published` or `run`; get the published folder again") from None
    files: list[Comparison] = []
    # Verdicts last, since how they are judged depends on the tables.
    for name in sorted(expected, key=lambda name: (name == "claims.json", name)):
        files.append(_compare_file(name, own / name, published / name, expected[name], files))
    unpublished = {name: expected for name, expected in run.items() if name not in {file.file for file in files}}
    return Verification(str(manifest.get("experiment", own.name)), files, _compare_run(own, unpublished))


def _compare_file(name: str, own: Path, published: Path, expected: str, before: list[Comparison]) -> Comparison:
    for path, whose in ((published, "the published run's"), (own, "your own")):
        if not path.is_file():
            return Comparison(name, "missing", note=f"{whose} file is missing: {path}")
    theirs = digest(published)
    if theirs != expected:
        return Comparison(name, "differs", note=f"{published} is not the file that its manifest names; get it again")
    if digest(own) == theirs:
        return Comparison(name, "identical")
    if name == "claims.json":
        statuses = {Path(file.file).stem: file.status for file in before if file.file.startswith("tables/")}
        exact = all(statuses.get(table) in EXACT for table in EVIDENCE)
        return compare_claims(name, read_json(own), read_json(published), exact)
    if name.endswith(".csv"):
        comparison = compare_tables(published.stem, read_table(own), read_table(published))
        comparison.file = name
        return comparison
    return Comparison(name, "not compared", note="drawn from the tables; its bytes differ")


def compare_claims(
    name: str, own: list[Mapping[str, Any]], published: list[Mapping[str, Any]], exact: bool
) -> Comparison:
    """Compare verdicts, thresholds and estimates; with `exact`, every number of them up to rounding."""
    differences: list[Difference] = []
    compared = unjudged = 0
    mine = {claim["id"]: claim for claim in own}
    for claim in published:
        if claim["id"] not in mine:
            differences.append(Difference(claim["id"], "claim", "present", "missing"))
            continue
        other = mine[claim["id"]]
        for key in ("verdict", "threshold"):
            # C8's threshold follows from the number of active dimensions, which a run may find otherwise.
            same = _same(other.get(key), claim.get(key)) or (key == "threshold" and claim["id"] == "C8" and not exact)
            compared += 1
            if not same:
                differences.append(Difference(claim["id"], key, claim.get(key), other.get(key)))
        if exact:
            theirs, found = dict(_leaves(claim)), dict(_leaves(other))
            for key in theirs.keys() | found.keys():
                compared += 1
                if key not in {"verdict", "threshold"} and not _same(found.get(key), theirs.get(key)):
                    differences.append(Difference(claim["id"], key, theirs.get(key), found.get(key)))
            continue
        a, b, low, high = (
            math.nan if value is None else float(value)
            for value in (other["estimate"], claim["estimate"], claim["low"], claim["high"])
        )
        width = high - low
        if not width > 0 or math.isnan(a) or math.isnan(b):
            unjudged += not _same(other["estimate"], claim["estimate"])
            continue
        compared += 1
        tolerance = SPREADS * math.sqrt(2) * width / (2 * 1.96) + float(rounding(a, b))
        if not abs(a - b) <= tolerance:
            differences.append(Difference(claim["id"], "estimate", b, a, tolerance))
    status = "differs" if differences else "within rounding" if exact else "within seed spread"
    return Comparison(name, status, compared, unjudged, differences)


def _leaves(value: Any, place: str = "") -> Iterator[tuple[str, Any]]:
    """Every number and word of a JSON value, with its place. Notes are sentences made of numbers printed elsewhere."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            if key != "note":
                yield from _leaves(item, f"{place}.{key}".lstrip("."))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _leaves(item, f"{place}[{number}]")
    else:
        yield place, value


def _same(own: Any, published: Any) -> bool:
    numbers = all(isinstance(value, int | float) and not isinstance(value, bool) for value in (own, published))
    return abs(own - published) <= rounding(own, published) if numbers else own == published


def _compare_run(own: Path, run: Mapping[str, str]) -> dict[str, list[int]]:
    """How many files of each kind have the published run's bytes."""
    counts: dict[str, list[int]] = {}
    for name, expected in run.items():
        path = own / name
        place = 2 if not path.is_file() else 0 if digest(path) == expected else 1
        counts.setdefault(Path(name).name if name.startswith("models/") else name.split("/")[0], [0, 0, 0])[place] += 1
    return counts


def _shown(value: Any) -> str:
    text = f"{value:.9g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|")


def page(verification: Verification) -> str:
    """The comparison as Markdown: the result, the files, which numbers differ and by how much, and the tolerances."""
    files = verification.files
    lines = [
        f"# Your run of `{verification.experiment}` and the published one",
        "",
        f"Result: {verification.result}",
        "",
    ]
    counts = Counter(file.status for file in files)
    lines += [", ".join(f"{count} {status}" for status, count in sorted(counts.items())) + f", of {len(files)} files."]
    found = [(file.file, difference) for file in files for difference in file.differences]
    for file in files:
        if file.status in FAILED and file.note:
            lines += ["", f"- **{file.file}**: {file.note}"]
    if found:
        lines += ["", "## What differs", "", "| file | where | what | published | own | own − published | tolerance |"]
        lines += ["| --- | --- | --- | --- | --- | --- | --- |"]
        for file, each in found[:SHOWN]:
            numbers = all(isinstance(value, Real) for value in (each.own, each.published))
            gap = f"{each.own - each.published:+.6g}" if numbers else "–"
            tolerance = "–" if each.tolerance is None else f"{each.tolerance:.3g}"
            cells = (file, each.place, each.quantity, _shown(each.published), _shown(each.own), gap, tolerance)
            lines.append("| " + " | ".join(cells) + " |")
        if len(found) > SHOWN:
            lines += ["", f"... and {len(found) - SHOWN} more."]
    lines += ["", "## Files", "", "| file | status | values compared | without a spread | note |"]
    lines += ["| --- | --- | --- | --- | --- |"]
    lines += [f"| {f.file} | {f.status} | {f.compared or ''} | {f.unjudged or ''} | {f.note} |" for f in files]
    lines += ["", "## Files of the run that are not published", ""]
    lines += ["Told, not judged: other bits of a model are judged by the numbers that follow from them.", ""]
    lines += ["| kind | identical | other | absent |", "| --- | --- | --- | --- |"]
    lines += [f"| {kind} | {a} | {b} | {c} |" for kind, (a, b, c) in sorted(verification.run.items())]
    lines += ["", "## Tolerances", ""]
    return "\n".join(lines) + "\n" + TOLERANCES


def main(arguments: list[str]) -> int:
    """Print the comparison of two folders; 0 where they agree, 1 where they do not, 2 where it cannot be told."""
    if len(arguments) != 2:
        print("usage: python -m aggregated_posterior.verification OWN PUBLISHED", file=sys.stderr)
        return 2
    try:
        verification = verify(*arguments)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(page(verification), end="")
    return 0 if verification.agrees else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
