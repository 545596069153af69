"""Does a reader's run agree with the published one? Model by model, then file by file, from what the manifest says.

A model whose weights and posteriors have the published SHA-256 is the same computation: all numbers that follow from it
must be the published ones, up to rounding. A model with other bytes (another processor without the pins, other package
versions, a GPU, fresh seeds) is other weights of the same cell: its numbers must lie within the spread between seeds.
`tolerances` says how both are judged. Verdicts must be the published ones in any case. A claim's estimate may move by
`SPREADS` · √2 · (high − low) / (2 · 1.96), where [low, high] is the published 95 % interval; an estimate without an
interval is judged by its verdict alone, unless all models have the published bytes: then every number must agree.
Figures and pages are drawn from tables, so where their bytes differ they are named and not judged.

The manifest (`manifest.json` in the published folder) has `published`, the SHA-256 of every file beside it; `run`, that
of every file of the run, models and posteriors included, which are too large to publish; and `packages` and `numerics`,
what the run was computed with, which tells a reader why weights are other ones.

Without Snakemake: `python -m aggregated_posterior.evidence.published results/digits results/published/digits`, exit
status 0 where all agrees, 1 where anything differs or is missing, 2 where it cannot be told.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import math
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Real
from pathlib import Path
from typing import Any

from ..storage import DataError, read_arrays, read_json, read_table
from .tolerances import (
    ABSOLUTE,
    ALARM,
    MEAN,
    NEGLIGIBLE,
    RELATIVE,
    SINGLE,
    Comparison,
    Difference,
    Run,
    compare_tables,
    rounding,
)

MANIFEST = "manifest.json"
# What a model is: all else in its folder follows from these.
MODEL_FILES = ("vae.safetensors", "posteriors.safetensors")
MODEL = re.compile(r"models/([^/]+)/([^/]+)/latent_(\d+)/kl_([^/]+)/seed_(\d+)/(.+)")
ORDER = ("identical", "within rounding", "within seed spread", "differs")
FAILED = {"differs", "missing"}
SPREADS = 5.0
SHOWN = 50
TOLERANCES = f"""\
Models with the published bytes: every number equals the published one up to {RELATIVE:g} of the larger number plus
{ABSOLUTE:g}. Models with other weights: Student's t at level {ALARM:g} per table, divided by the number of tests in it,
for the mean over a cell's seeds and for every single seed among all others; differences up to {NEGLIGIBLE:g} (nats,
kurtosis, shares, prior standard deviations) pass, counts may differ by one, shares of dimensions by one dimension.
Verdicts: equal. Thresholds: equal. Estimates of claims: as far as the width of the published interval implies. The full
text is in docs/verification.md, `scripts/aggregated_posterior/evidence/published.py` and `tolerances.py`.
"""


@dataclass
class Models:
    """The models of the published run, and those of one's own, by what their bytes say."""

    same: set[Run] = field(default_factory=set)
    other: set[Run] = field(default_factory=set)
    absent: set[Run] = field(default_factory=set)
    fresh: set[Run] = field(default_factory=set)


@dataclass
class Verification:
    """The comparison of a run with the published one: models, files, verdicts, and what both were computed with."""

    experiment: str
    files: list[Comparison]
    models: Models = field(default_factory=Models)
    # Claim → (published verdict, own verdict).
    verdicts: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    # What differs between the conditions of the two runs, a line each.
    conditions: list[str] = field(default_factory=list)
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

    @property
    def sentence(self) -> str:
        """What a person wants to know first."""
        models, files = self.models, self.files
        published = len(models.same | models.other | models.absent)
        parts = []
        if not models.other | models.fresh | models.absent:
            identical = sum(file.status == "identical" for file in files)
            parts.append(
                f"all {_count(published, 'model')} have the published bytes, and so have {identical} of "
                f"{_count(len(files), 'published file')}"
            )
        else:
            parts.append(f"{len(models.same)} of {_count(published, 'model')} have the published bytes")
            others = len(models.other | models.fresh)
            spread = any(each.quantity.startswith((MEAN, SINGLE)) for file in files for each in file.differences)
            if others and models.other:
                place = "do not all lie" if spread else "lies" if others == 1 else "lie"
                which = f"the other {others}" if not models.fresh else f"{others} with other weights"
                parts.append(f"{which} {place} within the spread between seeds")
            elif others:
                place = "do not all lie" if spread else "lie"
                parts.append(f"your {_count(others, 'model')} of fresh seeds {place} within the spread between seeds")
        wrong = sum(len(file.differences) or 1 for file in files if file.status in FAILED)
        if wrong:
            named = ", ".join(file.file for file in files if file.status in FAILED)
            parts.append(f"{_count(wrong, 'difference')} in {named}")
        changed = {claim: pair for claim, pair in self.verdicts.items() if pair[0] != pair[1]}
        if self.verdicts and not changed:
            parts.append(f"all {_count(len(self.verdicts), 'verdict')} are the published ones")
        elif changed:
            which = ", ".join(f"{claim}: {theirs}, yours {mine}" for claim, (theirs, mine) in changed.items())
            parts.append(
                f"{len(self.verdicts) - len(changed)} of {_count(len(self.verdicts), 'verdict')} are the published "
                f"ones ({which})"
            )
        return f"Your run {'agrees' if self.agrees else 'differs'}: {'; '.join(parts)}."


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def packages(names: Iterable[str]) -> dict[str, str | None]:
    """The installed versions of distributions; None for one that is not there."""
    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = None
    return found


def trained_with(results: Path) -> list[dict[str, Any]]:
    """How the models of a run were computed (device, numerics and the like), each way once, from the models' files."""
    ways: list[dict[str, Any]] = []
    for path in sorted(results.glob("models/**/vae.safetensors")):
        way = read_arrays(path)[1].get("run", {})
        if way not in ways:
            ways.append(way)
    return ways


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
    models = _compare_models(own, run)
    judges = {name: value for name, value in run.items() if name.startswith("judges/")}
    other_judges = any(not (own / name).is_file() or digest(own / name) != value for name, value in judges.items())
    files = list(_missing_models(models))
    verdicts: dict[str, tuple[Any, Any]] = {}
    for name in sorted(expected):
        files.append(_compare_file(name, own / name, published / name, expected[name], models, other_judges))
        if name == "claims.json" and (own / name).is_file() and (published / name).is_file():
            mine, theirs = (
                {claim["id"]: claim.get("verdict") for claim in read_json(folder / name)} for folder in (own, published)
            )
            verdicts = {claim: (verdict, mine.get(claim, "missing")) for claim, verdict in theirs.items()}
    unpublished = {name: value for name, value in run.items() if name not in expected}
    conditions = _compare_conditions(manifest, own)
    return Verification(
        str(manifest.get("experiment", own.name)), files, models, verdicts, conditions, _compare_run(own, unpublished)
    )


def _run_of(name: str) -> tuple[Run, str] | None:
    """The model that a file belongs to, keyed as in tables, and its name in there."""
    found = MODEL.fullmatch(name)
    if not found:
        return None
    dataset, architecture, latent_dim, kl_weight, seed, file = found.groups()
    return (dataset, architecture, int(latent_dim), float(kl_weight), int(seed)), file


def _compare_models(own: Path, run: Mapping[str, str]) -> Models:
    models = Models()
    published: dict[Run, dict[str, str]] = {}
    for name in run:
        found = _run_of(name)
        if found and found[1] in MODEL_FILES:
            published.setdefault(found[0], {})[name] = run[name]
    for key, files in published.items():
        if not all((own / name).is_file() for name in files):
            models.absent.add(key)
        elif all(digest(own / name) == expected for name, expected in files.items()):
            models.same.add(key)
        else:
            models.other.add(key)
    for path in own.glob(f"models/**/{MODEL_FILES[-1]}"):
        found = _run_of(path.relative_to(own).as_posix())
        if found and found[0] not in published:
            models.fresh.add(found[0])
    return models


def _missing_models(models: Models) -> Iterator[Comparison]:
    """Published models that are absent though no model of other seeds stands in their place."""
    cells = {run[:-1] for run in models.fresh}
    for dataset, architecture, latent_dim, kl_weight, seed in sorted(models.absent):
        if (dataset, architecture, latent_dim, kl_weight) not in cells:
            name = f"models/{dataset}/{architecture}/latent_{latent_dim}/kl_{kl_weight:g}/seed_{seed}"
            yield Comparison(name, "missing", note="your own run lacks this model's weights or posteriors")


def _compare_conditions(manifest: Mapping[str, Any], own: Path) -> list[str]:
    theirs = manifest.get("packages") or {}
    mine = packages(theirs)
    lines = [
        f"{name} {mine[name] or 'is not installed'} (published: {version})"
        for name, version in theirs.items()
        if mine[name] != version
    ]
    ways = manifest.get("trained_with")
    if ways is None:
        lines.append("the manifest does not say with which instructions the published models were trained")
    else:
        lines += [
            f"models trained with {_way(way)} (published: {'; '.join(map(_way, ways))})"
            for way in trained_with(own)
            if way not in ways
        ]
    return lines


def _way(way: Mapping[str, Any]) -> str:
    """How something was computed, in a line: no more of the pins than that they are set."""
    state = way.get("numerics", way)
    words = [str(way[key]) for key in ("device", "precision") if key in way]
    words += [f"{state['mode']} numerics", str(state["instructions"])] if "mode" in state else ["unknown numerics"]
    return ", ".join(words)


def _compare_file(
    name: str, own: Path, published: Path, expected: str, models: Models, other_judges: bool
) -> Comparison:
    for path, whose in ((published, "the published run's"), (own, "your own")):
        if not path.is_file():
            return Comparison(name, "missing", note=f"{whose} file is missing: {path}")
    theirs = digest(published)
    if theirs != expected:
        return Comparison(name, "differs", note=f"{published} is not the file that its manifest names; get it again")
    if digest(own) == theirs:
        return Comparison(name, "identical")
    if name == "claims.json":
        exact = not (models.other or models.fresh or models.absent or other_judges)
        return compare_claims(name, read_json(own), read_json(published), exact)
    if name.endswith(".csv"):
        comparison = compare_tables(published.stem, read_table(own), read_table(published), models.same, other_judges)
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
            compared += 1
            if not _same(other.get(key), claim.get(key)):
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
        # Where the two limits are of different things (a bound's and its bracket's), the nearer one is the estimate's.
        half = min(high - b, b - low)
        # A claim without a threshold has a range where others have limits; the tables behind it are judged.
        if claim.get("threshold") is None or not half > 0 or math.isnan(a):
            unjudged += not _same(other["estimate"], claim["estimate"])
            continue
        compared += 1
        tolerance = SPREADS * math.sqrt(2) * half / 1.96 + float(rounding(a, b))
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
        verification.sentence,
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
    lines += ["", *_why(verification)]
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
    if verification.verdicts:
        lines += ["", "## Verdicts", "", "| claim | published | own |", "| --- | --- | --- |"]
        lines += [f"| {claim} | {theirs} | {mine} |" for claim, (theirs, mine) in verification.verdicts.items()]
    lines += ["", "## Files of the run that are not published", ""]
    lines += ["Told, not judged: other bits of a model are judged by the numbers that follow from them.", ""]
    lines += ["| kind | identical | other | absent |", "| --- | --- | --- | --- |"]
    lines += [f"| {kind} | {a} | {b} | {c} |" for kind, (a, b, c) in sorted(verification.run.items())]
    lines += ["", "## Tolerances", ""]
    return "\n".join(lines) + "\n" + TOLERANCES


def _why(verification: Verification) -> list[str]:
    """Under which conditions the two runs were computed, where that matters."""
    models = verification.models
    if verification.result == "identical":
        return []
    if verification.conditions:
        head = "What was not as in the published run" + (
            " (other weights are to be expected):" if models.other or models.fresh else ":"
        )
        return [head, "", *(f"- {line}" for line in verification.conditions)]
    if models.other:
        return [
            "Package versions, pins and devices are the published ones, so that the published bytes were to be "
            "expected of every model: look for another configuration or changed code."
        ]
    return []


def main(arguments: list[str]) -> int:
    """Print the comparison of two folders; 0 where they agree, 1 where they do not, 2 where it cannot be told."""
    if len(arguments) != 2:
        print("usage: python -m aggregated_posterior.evidence.published OWN PUBLISHED", file=sys.stderr)
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
