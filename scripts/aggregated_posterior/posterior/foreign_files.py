"""Posteriors that somebody else saved: which of a source's named arrays are means, spreads, labels, groups, weights.

A source holds `mean` (N, d) and exactly one of `variance`, `log_variance`, `std`, `log_std`, or full covariances
`covariance` or `scale_tril` (N, d, d); optionally the same with `_test`, and `labels`, `groups`, `weights` (N,). The
ending `_train` means the same as no ending. Names that other code uses (`ALIASES`) are known, several latent levels
are told apart by a number (`mean_1`, `mean_2`), and spatial means (N, C, H, W) become one row per position. Errors name
the array.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from ..storage import DataError
from ..text import listed
from .containers import read_named_arrays, shard_paths
from .labels import as_labels, missing_values
from .mixture import AggregatedPosterior
from .other_laws import Codes, FullCovariance, Rows, StreamedPosterior, channel_rows
from .splits import Posteriors

SPREADS = ("variance", "log_variance", "std", "log_std")
COVARIANCES = ("covariance", "scale_tril")
PER_ROW = ("labels", "groups", "weights")
# What pythae, scVI, Pyro and TensorFlow Probability, diffusers and common tutorials call the same things.
ALIASES = {
    "mean": (
        "mean", "means", "mu", "loc", "z_mean", "z_mu", "z_loc", "q_mu", "enc_mean", "mean_z", "mu_z", "qzm", "qz_m",
        "_scvi_latent_qzm", "latent_mean", "posterior_mean", "embedding",
    ),
    "variance": (
        "variance", "variances", "var", "z_var", "z_variance", "var_z", "qzv", "qz_v", "_scvi_latent_qzv", "sigma2",
        "sigma_squared", "latent_variance", "posterior_variance",
    ),
    "log_variance": (
        "log_variance", "logvariance", "logvar", "log_var", "z_log_var", "z_logvar", "z_log_variance", "logvar_z",
        "log_var_z", "q_logvar", "enc_logvar", "log_covariance", "log_sigma2", "logsigma2", "log_sigma_squared",
    ),
    "std": ("std", "stddev", "sd", "sigma", "scale", "z_std", "z_sigma", "z_scale", "std_z", "sigma_z"),
    "log_std": ("log_std", "logstd", "log_stddev", "z_log_std", "log_scale", "log_sigma"),
    "covariance": ("covariance", "cov", "covariances", "covariance_matrix"),
    "scale_tril": ("scale_tril",),
    "labels": ("labels", "label", "classes"),
    "groups": ("groups", "group"),
    "weights": ("weights", "weight", "sample_weight"),
}  # fmt: skip
_MEANING = {alias: base for base, aliases in ALIASES.items() for alias in aliases}
# ln s beyond this leaves float64 when it is squared again in 1/s²; no encoder means that.
LARGEST_LOG = 300.0
# Rows looked at when it is asked whether a spread was stored under the wrong name.
ROWS_FOR_GUESS = 10_000
# Sources with more numbers than this are read block by block and never as a whole.
STREAMED_NUMBERS = 50_000_000
# Weights that are no whole multiples of the smallest become repetitions of rows, this many on average.
REPETITIONS = 20
MOST_REPEATED = 2_000_000
Layout = Literal["channel", "flat"]
Names = dict[str, list[str]]  # of the arrays of one half, by what they are; only labels may be several


@dataclass(frozen=True)
class Reading:
    """How a source's arrays are to be understood, where their names do not say it.

    keys: `mean`, `variance`, …, `groups`, `weights` → the array's name in the source (its test half has `_test` after
        it); `labels` may be several names, in a tuple or separated by commas (a name that has commas is taken whole).
    layout: "channel" makes of (N, C, H, W) N·H·W rows of C dimensions, grouped by image; "flat" N rows of C·H·W.
        None takes "channel" for four axes.
    deterministic: The means are codes of an autoencoder without variances.
    """

    keys: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)
    layout: Layout | None = None
    deterministic: bool = False

    def __post_init__(self) -> None:
        if self.layout not in (None, "channel", "flat"):
            raise DataError(f"layout is {self.layout!r}: expected 'channel' or 'flat'")

    def asked(self) -> dict[str, str]:
        """Every name that may be meant → what it is asked for as; one of labels with commas, whole and in its parts."""
        asked = {}
        for base, value in self.keys.items():
            for whole in [value] if isinstance(value, str) else value:
                parts = whole.split(",") if base == "labels" and not os.path.lexists(whole) else []
                asked |= dict.fromkeys([whole, *parts], base)
        return asked


def read_posteriors(path: str | Path, reading: Reading | None = None) -> Posteriors:
    """Read posteriors of one latent level; see `read_levels`.

    Raises:
        DataError: One line that names file, array and cause: the file cannot be read; it holds several levels; an array
            is missing or given twice over; shapes differ; values are integers, NaN, infinite, or variances that are not
            positive.
    """
    levels = read_levels(path, reading)
    if len(levels) > 1:
        raise DataError(
            f"{path}: holds {len(levels)} latent levels ({', '.join(f'mean_{level}' for level in levels)}); "
            f"take one of them with --mean and its spread, or audit all with aggregated-posterior audit"
        )
    return next(iter(levels.values()))


def read_levels(path: str | Path, reading: Reading | None = None) -> dict[str, Posteriors]:
    """Read a file, a folder of shards or a pattern that matches shards: posteriors by latent level.

    Args:
        path: See `containers.read_named_arrays` and `containers.shard_paths`.
        reading: Names, layout and kind where the file's own names do not say them.

    Returns:
        {"": posteriors}, or one entry per number behind `mean_`.
    """
    reading = reading or Reading()
    shards = shard_paths(path)
    asked = reading.asked()
    named = [name for name in asked if name.lower().endswith(".npy")]  # arrays in files of their own
    files = {name: Path(name) for name in named if "," not in name or os.path.lexists(name)}

    alone = shards[0].suffix.lower() == ".npy"  # the means, whatever the file is called

    def wanted(name: str) -> bool:
        return alone or meaning(name) is not None or name in asked or name.removesuffix("_test") in asked

    read = [read_named_arrays(shard, wanted) for shard in shards]
    for name, file in files.items():
        if file.is_dir():
            raise DataError(f"{file}: is a folder; name a .npy file")
        read[0][0][name] = read_named_arrays(file, lambda _: True)[0][file.stem]
    available = sorted({name for _, names in read for name in names} | set(files))
    parts = [{name: [array] for name, array in arrays.items()} for arrays, _ in read]
    for shard, arrays in zip(shards, parts, strict=True):
        if shard.suffix.lower() == ".csv":
            _take_single_columns(arrays, asked)
    together: dict[str, list[np.ndarray]] = {}
    for shard, arrays in zip(shards, parts, strict=True):
        if set(arrays) != set(parts[0]):
            here, first = (listed(sorted(part)) for part in (arrays, parts[0]))
            raise DataError(f"{shard}: holds {here}, but {shards[0]} holds {first}")
        for name, array in arrays.items():
            together.setdefault(name, []).extend(array)
    try:
        levels = _levels(together, available, reading, single=alone)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return {level: _with_source(posteriors, path) for level, posteriors in levels.items()}


def posteriors_from_arrays(
    arrays: Mapping[str, np.ndarray], available: list[str] | None = None, reading: Reading | None = None
) -> Posteriors:
    """Make `Posteriors` of named arrays, with the checks of `read_posteriors`.

    Args:
        arrays: `mean`, one of the spreads; the same with `_test`; `labels`, `groups`, `weights`, also with `_test`.
        available: All names that the source holds, for the message when one is missing; None takes those of `arrays`.
        reading: Layout and kind.
    """
    available = sorted(arrays) if available is None else available
    levels = _levels({name: [array] for name, array in arrays.items()}, available, reading or Reading())
    if len(levels) > 1:
        raise DataError(f"several latent levels ({', '.join(f'mean_{level}' for level in levels)}); give one at a time")
    return next(iter(levels.values()))


def meaning(name: str) -> tuple[str, str, str] | None:
    """(base, split, level) of an array's name: `mu_2_test` is ("mean", "test", "2"); None for an unknown name."""
    # Nine digits: nobody has more levels, and Python refuses to read numbers of thousands of digits.
    match = re.fullmatch(r"(.*?)(_train|_test)?(?:_?(\d{1,9}))?(_train|_test)?", name.lower())
    if match is None or (match[2] and match[4]):
        return None
    split = "test" if "_test" in (match[2], match[4]) else "train"
    whole = re.sub(r"(_train|_test)$", "", name.lower())
    if whole in _MEANING:  # qzv, sigma2
        return _MEANING[whole], split, ""
    base = _MEANING.get(match[1])
    return None if base is None or (base in PER_ROW and match[3]) else (base, split, match[3] or "")


def _take_single_columns(arrays: dict[str, list[np.ndarray]], asked: Mapping[str, str]) -> None:
    """In a table a column `mean` or `variance` that stands alone is the only latent dimension: (N,) becomes (N, 1)."""
    for name, parts in arrays.items():
        base = asked.get(name) or asked.get(name.removesuffix("_test")) or (meaning(name) or ("",))[0]
        if base in ("mean", *SPREADS) and parts[0].ndim == 1:
            column = parts[0][:, None]
            arrays[name] = [column.astype(np.float64) if column.dtype.kind in "iu" else column]


def _levels(
    arrays: Mapping[str, list[np.ndarray]], available: list[str], reading: Reading, single: bool = False
) -> dict[str, Posteriors]:
    """Sort arrays (each a list of shards) by level and split, and make posteriors of each level."""
    for name, parts in arrays.items():
        if any(np.ndim(part) == 0 for part in parts):
            raise DataError(f"{name} is a single value: expected an array with one row per data point")
    sorted_out: dict[tuple[str, str], Names] = {}  # by level and split
    used: set[str] = set()
    for base, value in reading.keys.items():
        wholes = [value] if isinstance(value, str) else value
        parts = ([name] if name in arrays or base != "labels" else name.split(",") for name in wholes)
        names = [name for part in parts for name in part if name]
        if not names:
            raise DataError(f"the name of the array of {base} is empty; the file holds {listed(available)}")
        missing = [name for name in names if name not in arrays]
        if missing:
            raise DataError(f"has no array {missing[0]} (asked for as {base}); it holds {listed(available)}")
        if twice := used & {*names}:
            raise DataError(f"{min(twice)} is asked for as {base} and as something else; name each array once")
        if base != "mean" and "mean" not in reading.keys and (meaning(names[0]) or " ")[0] == "mean":
            raise DataError(f"{names[0]} is asked for as {base}, so that there are no means; name them with --mean")
        sorted_out.setdefault(("", "train"), {})[base] = names
        tests = [f"{name}_test" for name in names if f"{name}_test" in arrays]
        if tests:
            sorted_out.setdefault(("", "test"), {})[base] = tests
        used |= {*names, *tests}
    if single and "mean" not in reading.keys and meaning(next(iter({*available} - used), "mean")) is None:
        # `audit codes.npy --log-variance widths.npy`: the file itself is the means, whatever it is called.
        (name,) = set(available) - used
        sorted_out.setdefault(("", "train"), {})["mean"] = [name]
        used.add(name)
    chosen = set(reading.keys) | ({*SPREADS, *COVARIANCES} if {*SPREADS, *COVARIANCES} & set(reading.keys) else set())
    found: dict[tuple[str, str, str], list[str]] = {}
    for name in arrays:
        known = meaning(name) if name not in used else None
        if known is not None and known[0] not in chosen and not (known[2] and "mean" in reading.keys):
            found.setdefault((known[2], known[1], known[0]), []).append(name)
    for (level, split, base), names in found.items():
        # The plain name wins over an alias; two aliases, or mean and mean_train, need a decision.
        plain = [name for name in names if name.removesuffix("_train").removesuffix("_test") == base] or names
        if len(plain) > 1:
            raise DataError(f"{' and '.join(sorted(plain))} are both given; keep one of them")
        sorted_out.setdefault((level, split), {})[base] = plain
    numbered = sorted({level for level, _ in sorted_out if level}, key=int)
    if not any("mean" in sorted_out.get((level, "train"), {}) for level in (numbered or [""])):
        numbered = [level for level in numbered if "mean" in sorted_out.get((level, "train"), {})]
    levels = [""] if "mean" in sorted_out.get(("", "train"), {}) or not numbered else numbered
    per_row = {
        split: {base: names for base, names in sorted_out.get(("", split), {}).items() if base in PER_ROW}
        for split in ("train", "test")
    }
    read = [sorted_out.get((level, split), {}) | per_row[split] for level in levels for split in ("train", "test")]
    ignored = sorted(set(available) - {name for half in read for names in half.values() for name in names})
    # A misspelt labels_test, or mean_2 beside mean, would otherwise vanish without a word.
    known_names = "mean, variance, log_variance, std, labels, groups, weights, each also with _test"
    notes = [f"ignored arrays: {listed(ignored)} (known are {known_names})"] if ignored else []
    result = {}
    for level in levels:
        halves = [sorted_out.get((level, split), {}) | per_row[split] for split in ("train", "test")]
        result[level] = _posteriors(arrays, halves[0], halves[1], available, reading, list(notes))
    return result


def _posteriors(
    arrays: Mapping[str, list[np.ndarray]], names_train: Names, names_test: Names,
    available: list[str], reading: Reading, notes: list[str],
) -> Posteriors:  # fmt: skip
    train = _half(arrays, names_train, "", available, reading, notes)
    if train is None:
        holds = f"{listed(available)}; name the means with --mean" if available else "nothing"
        raise DataError(f"has no array mean; it holds {holds}")
    test = _half(arrays, names_test, "_test", available, reading, notes)
    if test is not None and test.q.latent_dim != train.q.latent_dim:
        raise DataError(f"mean has {train.q.latent_dim} latent dimensions but mean_test has {test.q.latent_dim}")
    if test is not None and (train.groups is None) != (test.groups is None) and "groups" in {*names_train, *names_test}:
        missing = "groups_test" if test.groups is None else "groups"
        raise DataError(f"has no array {missing}: give groups for both halves, since a group may not be in both")
    if test is not None and (train.groups is None) != (test.groups is None):  # spatial or weighted, in one half only
        train, test = (half if half.groups is not None else replace(half, groups=_own_groups(half.q.n, suffix))
                       for half, suffix in ((train, ""), (test, "_test")))  # fmt: skip
    none = _Half(None)
    other = test or none
    return Posteriors(
        train.q, other.q, train.labels, other.labels, tuple(notes),
        groups_train=train.groups, groups_test=other.groups, layout=train.layout,
    )  # fmt: skip


@dataclass(frozen=True)
class _Half:
    q: AggregatedPosterior | None
    labels: np.ndarray | None = None
    groups: np.ndarray | None = None
    layout: Layout | None = None


def _half(
    arrays: Mapping[str, list[np.ndarray]], given: Names, suffix: str,
    available: list[str], reading: Reading, notes: list[str],
) -> _Half | None:  # fmt: skip
    """One split: its mixture, labels and groups, with weights turned into repetitions."""
    names = {base: of_base[0] for base, of_base in given.items()}
    spreads = {kind: names[kind] for kind in (*SPREADS, *COVARIANCES) if kind in names}
    mean_name = names.get("mean")
    if len(spreads) > 1:
        raise DataError(f"{' and '.join(spreads.values())} are both given; keep one of them")
    if mean_name is None:
        for name in (*spreads.values(), *(names[base] for base in PER_ROW if base in names)):
            asks = "" if suffix else "; name the means with --mean"
            raise DataError(f"has {name} but no array mean{suffix}; it holds {listed(available)}{asks}")
        return None
    means = arrays[mean_name]
    _check_types(means, mean_name)
    if reading.deterministic:
        if spreads:
            raise DataError(f"has {next(iter(spreads.values()))}, but --deterministic says that there are no variances")
        kind, name, spread = "none", mean_name, means
    elif not spreads:
        wanted = " or ".join(kind + suffix for kind in SPREADS)
        raise DataError(
            f"has {mean_name} but no array {wanted}; it holds {listed(available)}. For codes of an autoencoder "
            "without variances say --deterministic (deterministic=True)"
        )
    else:
        ((kind, name),) = spreads.items()
        spread = arrays[name]
        _check_types(spread, name)
    if [len(part) for part in means] != [len(part) for part in spread]:
        raise DataError(f"{mean_name} has shape {_shape(means)} but {name} has shape {_shape(spread)}")
    for parts, label in ((means, mean_name), (spread, name)):
        if len({part.shape[1:] for part in parts}) > 1:
            shapes = listed(sorted({str(part.shape[1:]) for part in parts}))
            raise DataError(f"{label}: shards differ in the shape of a row: {shapes}")
    n = sum(map(len, means))
    per_row = {
        base: _per_row(arrays[names[base]], names[base], n, mean_name)
        for base in ("groups", "weights")
        if base in names
    }
    labels = _labels({name: arrays[name] for name in given.get("labels", [])}, n, mean_name)
    groups = per_row.get("groups")
    if groups is not None and (missing := missing_values(groups)).any():
        raise DataError(
            f"{names['groups']}: {int(missing.sum())} of {n} rows have none, the first is row {int(missing.argmax())}; "
            "give every row a group"
        )
    images = means[0].ndim > 2
    if images:
        means, spread, repeats, note = _unfold(means, spread, mean_name, reading.layout)
        notes += [note] if not suffix else []
        labels, per_row["weights"] = (
            None if values is None else np.repeat(values, repeats) for values in (labels, per_row.get("weights"))
        )
        groups = np.repeat(_own_groups(n, suffix) if groups is None else groups, repeats) if repeats > 1 else groups
    q = _mixture(means, spread, kind, mean_name, name)
    full = isinstance(q, FullCovariance)  # also under the name of variances
    if not suffix and kind in SPREADS and not full and (note := _other_reading(q, spread, kind, name)):
        notes.append(note)
    weights = per_row.get("weights")
    if weights is not None:
        if type(q) is not AggregatedPosterior:
            raise DataError(f"{names['weights']}: weights go with diagonal posteriors that fit into memory")
        rows = _repetitions(weights, names["weights"], q.n, q.latent_dim)
        q = AggregatedPosterior(q.mean[rows], q.variance[rows], (mean_name, name))
        labels = None if labels is None else labels[rows]
        groups = (_own_groups(n, suffix) if groups is None else groups)[rows]
    return _Half(q, labels, groups, ("flat" if repeats == 1 else "channel") if images else None)


def _own_groups(n: int, suffix: str) -> np.ndarray:
    """A group of its own for each of `n` rows or images; the halves have different ones."""
    return -1 - np.arange(n) if suffix else np.arange(n)


def _check_types(parts: list[np.ndarray], name: str) -> None:
    for shard, part in enumerate(parts):
        if part.dtype.kind in "OU":
            _refuse_text(part, name, sum(map(len, parts[:shard])))
        if not np.issubdtype(part.dtype, np.floating):
            raise DataError(f"{name} has type {part.dtype}: expected floating-point numbers")


def _refuse_text(part: np.ndarray, name: str, begin: int) -> None:
    """Name the first text that is no number, as 0,5 and 1,234.5 in tables are; the part's first row is row `begin`."""
    for place, value in np.ndenumerate(part):
        try:
            float(value)
        except (TypeError, ValueError):
            where = f"row {begin + place[0]}" + (f", dimension {place[1]}" if part.ndim == 2 else "")
            raise DataError(f"{name}: {where} is {str(value)!r}; expected numbers, written as 0.5") from None


def _unfold(
    means: list[np.ndarray], spread: list[np.ndarray], name: str, layout: Layout | None
) -> tuple[list[np.ndarray], list[np.ndarray], int, str]:
    """Rows of spatial arrays, how many rows an image has, and a sentence on it."""
    shape = means[0].shape
    if len(shape) != 4 and layout is None:
        raise DataError(
            f"{name} has shape {_shape(means)}: expected (N, d), or say --layout channel (rows of {shape[1]} channels, "
            "one per position) or --layout flat (one row per image)"
        )
    if any(a.shape != b.shape for a, b in zip(means, spread, strict=True)):
        raise DataError(f"{name} has shape {_shape(means)} but its spread has shape {_shape(spread)}")
    positions = int(np.prod(shape[2:]))
    text = f"{name} has shape {_shape(means)}"
    if layout == "flat":
        flat = [[part.reshape(len(part), -1) for part in parts] for parts in (means, spread)]
        return *flat, 1, f"{text}: one row of {shape[1] * positions} dimensions per image"
    note = (
        f"{text}: {sum(map(len, means)) * positions:,} rows of {shape[1]} channels, {positions:,} from each image; the "
        "rows of an image are held out together (--layout flat takes an image as one row)"
    )
    if sum(part.size for part in means) > STREAMED_NUMBERS:
        return means, spread, positions, note
    return [channel_rows(part) for part in means], [channel_rows(part) for part in spread], positions, note


def _mixture(
    means: list[np.ndarray], spread: list[np.ndarray], kind: str, mean_name: str, name: str
) -> AggregatedPosterior:
    if kind in COVARIANCES or (kind == "variance" and spread[0].ndim == 3):
        return _full_covariance(_joined(means), _joined(spread), kind, mean_name, name)
    if sum(part.size for part in means) > STREAMED_NUMBERS and kind != "none":

        def change(rows: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
            return as_variance(rows, kind, name, numbers)

        return StreamedPosterior(Rows(means), Rows(spread, change), (mean_name, name))
    mean = _joined(means)
    if kind == "none":
        return Codes(mean, (mean_name, name))
    return AggregatedPosterior(mean, as_variance(_joined(spread), kind, name), (mean_name, name))


def _joined(parts: list[np.ndarray]) -> np.ndarray:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _full_covariance(mean: np.ndarray, matrix: np.ndarray, kind: str, mean_name: str, name: str) -> FullCovariance:
    if mean.ndim != 2 or matrix.shape != (*mean.shape, mean.shape[-1]):
        raise DataError(f"{name} has shape {matrix.shape}: expected (N, d, d) beside {mean_name} {mean.shape}")
    if not np.isfinite(matrix).all():
        raise DataError(f"{name} holds NaN or infinite values; expected covariances (N, d, d)")
    if kind == "scale_tril":
        above = np.triu(matrix, 1).any(axis=(1, 2))
        if above.any():
            raise DataError(f"{name}: row {int(above.argmax())} is no lower triangle; transpose upper ones")
        return FullCovariance(mean, matrix.astype(np.float64), (mean_name, name))
    matrix = matrix.astype(np.float64)
    transposed = matrix.transpose(0, 2, 1)
    uneven = np.abs(matrix - transposed).max(axis=(1, 2)) > 1e-4 * np.abs(matrix).max(axis=(1, 2))
    if uneven.any():
        raise DataError(f"{name}: row {int(uneven.argmax())} is not symmetric; store Cholesky factors as scale_tril")
    try:
        return FullCovariance(mean, np.linalg.cholesky(0.5 * (matrix + transposed)), (mean_name, name))
    except np.linalg.LinAlgError:
        row = int(np.linalg.eigvalsh(matrix).min(axis=1).argmin())
        raise DataError(f"{name}: row {row} is no positive definite covariance") from None


def _shape(parts: list[np.ndarray]) -> tuple[int, ...]:
    return (sum(map(len, parts)), *parts[0].shape[1:])


def _with_source(posteriors: Posteriors, path: str | Path) -> Posteriors:
    return replace(posteriors, warnings=tuple(f"{path}: {note}" for note in posteriors.warnings))


def as_variance(spread: np.ndarray, kind: str, name: str, numbers: Sequence[int] | None = None) -> np.ndarray:
    """Variances from whatever an encoder puts out, float64 where they had to be computed.

    `numbers` are those of the rows in the source, for messages; None where `spread` is all of it.
    """
    if spread.size == 0 or spread.ndim != 2:
        return spread  # the mixture says what is wrong with the shape
    finite = bool(np.isfinite(spread).all())
    if kind in ("log_variance", "log_std"):
        largest = LARGEST_LOG if kind == "log_variance" else 0.5 * LARGEST_LOG
        if finite and np.abs(spread).max() > largest:
            raise DataError(
                f"{name}: {_first(np.abs(spread) > largest, spread, numbers)}, whose exponential is no usable "
                "variance; are these variances? store them as variance"
            )
        return np.exp(spread.astype(np.float64) * (1 if kind == "log_variance" else 2))
    if finite and spread.min() < 0:
        word = "variance" if kind == "variance" else "standard deviation"
        other = f"log_variance{name.removeprefix(kind)}" if name.startswith(kind) else "log_variance"
        raise DataError(
            f"{name}: {_first(spread < 0, spread, numbers)}, and a {word} cannot be negative; "
            f"if these are log-variances, store them as {other}"
        )
    with np.errstate(over="ignore"):  # the mixture says what is wrong with a variance that is 0, infinite or NaN
        return spread if kind == "variance" else np.square(spread.astype(np.float64))


def _first(bad: np.ndarray, values: np.ndarray, numbers: Sequence[int] | None) -> str:
    row, dimension = (int(i[0]) for i in np.nonzero(bad))
    value = values[row, dimension]
    number = row if numbers is None else numbers[row]
    return f"{int(bad.sum())} of {bad.size} values bad, the first at row {number}, dimension {dimension} is {value:g}"


def _of_all_shards(parts: list[np.ndarray], name: str) -> np.ndarray:
    try:
        return np.concatenate(parts)
    except (TypeError, ValueError):  # dates beside numbers, one column beside two
        kinds = listed(sorted({f"{part.dtype} {part.shape}" for part in parts}))
        raise DataError(f"{name}: the shards hold {kinds}, which do not go together; write them alike") from None


def _per_row(parts: list[np.ndarray], name: str, n: int, mean_name: str) -> np.ndarray:
    values = _of_all_shards(parts, name)
    values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
    if values.shape != (n,):
        raise DataError(f"{name} has shape {values.shape}: expected ({n},), one per row of {mean_name}")
    return values


def _labels(columns: dict[str, list[np.ndarray]], n: int, mean_name: str) -> np.ndarray | None:
    if not columns:
        return None
    checked = {}
    for name, parts in columns.items():
        values = _of_all_shards(parts, name)
        values = values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values
        if len(values) != n or values.ndim > 2:
            raise DataError(f"{name} has shape {values.shape}: expected ({n},), one label per row of {mean_name}")
        checked[name] = as_labels(values, name)
    if len(checked) == 1:
        return next(iter(checked.values()))
    import pandas as pd

    return as_labels(pd.DataFrame(checked), "labels")


def _repetitions(weights: np.ndarray, name: str, n: int, latent_dim: int) -> np.ndarray:
    """Row numbers, each as often as its weight says: exactly if all weights are multiples of one number.

    Otherwise N·`REPETITIONS` rows (fewer where that would not fit), by largest remainders, so that a weight is wrong by
    less than one part in as many. Copies of a row are one group.
    """
    if weights.dtype.kind not in "biuf":
        raise DataError(f"{name} has type {weights.dtype}: expected numbers, one per row")
    weights = np.asarray(weights, dtype=np.float64)
    if not (np.isfinite(weights).all() and weights.min() >= 0 and weights.max() > 0):
        raise DataError(f"{name}: weights must be finite, not negative, and not all 0")
    weights = weights / weights.max()  # so that their sum is finite
    with np.errstate(over="ignore"):
        multiples = np.minimum(weights / weights[weights > 0].min(), np.finfo(np.float64).max)
    limit = max(n, min(REPETITIONS * n, MOST_REPEATED, STREAMED_NUMBERS // latent_dim))
    if np.abs(multiples - np.round(multiples)).max() < 1e-6 and multiples.sum() <= limit:
        counts = np.round(multiples).astype(np.int64)
    else:
        shares = weights / weights.sum() * limit
        counts = np.floor(shares).astype(np.int64)
        counts[np.argsort(counts - shares, kind="stable")[: limit - counts.sum()]] += 1
    return np.repeat(np.arange(n), counts)


def _other_reading(q: AggregatedPosterior, spread: list[np.ndarray], kind: str, name: str) -> str | None:
    """Ask the gauge identity whether the spread was stored under the wrong name.

    A trained model obeys E[μ²] + E[s] = 1 in every dimension whatever else it does. If the array as named misses that
    clearly, and under another name meets it, the other name is probably right.
    """
    step = max(1, q.n // ROWS_FOR_GUESS)
    mean = np.asarray(q.mean[::step], dtype=np.float64)
    x = np.asarray(Rows(spread)[::step], dtype=np.float64)
    readings = {
        "variance": lambda: x,
        "std": lambda: x * x,
        "log_variance": lambda: np.exp(x),
        "log_std": lambda: np.exp(2 * x),
    }
    square = np.square(mean).mean(axis=0)
    residual, variances = {}, {}
    for other, read in readings.items():
        with np.errstate(over="ignore"):
            variances[other] = read()
            if variances[other].min() > 0:
                residual[other] = float(np.median(np.abs(square + variances[other].mean(axis=0) - 1)))
    own = residual.pop(kind, None)
    if own is None:  # a file that is not in memory is examined by the first pass over it, which names the fault
        return None
    best = min(residual, key=residual.__getitem__, default=None)
    if best is not None and own > 0.1 and residual[best] < 0.25 * own and residual[best] < 0.05:
        note = ", after doubling (they look like logarithms of standard deviations)" if best == "log_std" else ""
        other = "log_variance" if best == "log_std" else best
        return (
            f"{name}: E[mean²] + E[variance] is off 1 by {own:.2g} (median over dimensions), but would be off by "
            f"{residual[best]:.2g} if the array were stored as {other}{note}; a trained VAE gives 1, so check the name"
        )
    if kind == "variance" and variances["variance"].min() > 1:
        return f"{name}: every value is above 1, wider than the prior itself; are these log-variances or precisions?"
    return None
