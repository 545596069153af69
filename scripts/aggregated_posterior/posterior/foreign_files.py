"""Posteriors that somebody else saved: a stranger's `.npz` or `.safetensors` file, without pickle, or named arrays.

A file holds `mean` (N, d) and exactly one of `variance`, `log_variance` and `std`, optionally the same with `_test`,
and optionally `labels` (N,) and `labels_test`. The ending `_train` means the same as no ending, so a pipeline's
`posteriors.safetensors` is such a file. Errors name the array.
"""

from __future__ import annotations

import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from ..storage import DataError
from ..text import listed, reason
from .mixture import AggregatedPosterior
from .splits import Posteriors

SPREADS = ("variance", "log_variance", "std")
# ln s beyond this leaves float64 when it is squared again in 1/s²; no encoder means that.
LARGEST_LOG = 300.0
# Rows looked at when it is asked whether a spread was stored under the wrong name.
ROWS_FOR_GUESS = 10_000
# What damaged or foreign archives make NumPy and zipfile raise; MemoryError comes from a header with a false shape.
_DAMAGE = (
    OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, NotImplementedError, RuntimeError, MemoryError,
    OverflowError, SyntaxError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
    lzma.LZMAError,
)  # fmt: skip


def read_posteriors(path: str | Path) -> Posteriors:
    """Read posteriors from a `.npz` or `.safetensors` file; see the module for the arrays' names.

    Raises:
        DataError: One line that names file, array and cause: the file cannot be read; an array is missing or given
            twice over; shapes differ; values are integers, NaN, infinite, or variances that are not positive.
    """
    names = [f"{base}{suffix}" for base in ("mean", *SPREADS, "labels") for suffix in ("", "_train", "_test")]
    arrays, available = read_named_arrays(path, names)
    ignored = sorted(set(available) - set(names))
    try:
        posteriors = posteriors_from_arrays(arrays, available)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    # A misspelt labels_test would otherwise vanish without a word.
    notes = [f"ignored arrays: {listed(ignored)} (known are {', '.join(n for n in names)})"] if ignored else []
    return Posteriors(
        posteriors.train, posteriors.test, posteriors.labels_train, posteriors.labels_test,
        tuple(f"{path}: {note}" for note in (*notes, *posteriors.warnings)),
    )  # fmt: skip


def posteriors_from_arrays(arrays: Mapping[str, np.ndarray], available: list[str] | None = None) -> Posteriors:
    """Make `Posteriors` of named arrays, with the checks of `read_posteriors`.

    Args:
        arrays: `mean`, one of `variance`, `log_variance`, `std`; the same with `_test`; `labels`, `labels_test`.
        available: All names that the source holds, for the message when one is missing; None takes those of `arrays`.
    """
    available = sorted(arrays) if available is None else available
    notes: list[str] = []
    train = _mixture(arrays, ("", "_train"), available, notes)
    if train is None:
        raise DataError(f"has no array mean; it holds {listed(available) or 'nothing'}")
    test = _mixture(arrays, ("_test",), available, notes)
    if test is not None and test.latent_dim != train.latent_dim:
        raise DataError(f"mean has {train.latent_dim} latent dimensions but mean_test has {test.latent_dim}")
    labels_train = _labels(arrays, ("", "_train"), train)
    labels_test = _labels(arrays, ("_test",), test)
    return Posteriors(train, test, labels_train, labels_test, tuple(notes))


def read_named_arrays(path: str | Path, wanted: Iterable[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Read those of the `wanted` arrays that a file holds.

    Args:
        path: A `.npz` file (`numpy.savez`) or a `.safetensors` file.
        wanted: Names to look for.

    Returns:
        The arrays found, by name, and the sorted names of all arrays in the file.

    Raises:
        DataError: No such file, a folder, another ending, a damaged file, a pickle in place of an array.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name the .npz or .safetensors file in it")
    if path.suffix not in (".npz", ".safetensors"):
        raise DataError(f"{path}: ends in {path.suffix or 'nothing'!r}; posteriors come as .npz or .safetensors")
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: is empty (0 bytes); write it again")
    read = _read_npz if path.suffix == ".npz" else _read_safetensors
    return read(path, set(wanted))


def _read_npz(path: Path, wanted: set[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    # Asked here because NumPy calls any file that is no zip archive a pickle.
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: is no .npz archive, or was cut off; write it again with numpy.savez")
    arrays: dict[str, np.ndarray] = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = sorted(archive.files)
            for member in archive.zip.namelist():
                name = member.removesuffix(".npy")
                if not member.endswith(".npy"):
                    raise DataError(f"{path}: {member} is no array; write the file with numpy.savez")
                _refuse_pickle(path, archive.zip, member)
                if name in wanted:
                    arrays[name] = _member(path, archive, name)
    except DataError:
        raise
    except _DAMAGE as error:
        raise DataError(f"{path}: cannot be read as .npz ({reason(error)}); write it again") from None
    return arrays, names


def _refuse_pickle(path: Path, archive: zipfile.ZipFile, member: str) -> None:
    """Look at an array's header only: an array of Python objects is stored as a pickle, which could run code."""
    name = member.removesuffix(".npy")
    try:
        with archive.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            dtype = reader(stream)[2]
    except _DAMAGE as error:
        raise DataError(f"{path}: array {name} cannot be read ({reason(error)}); write the file again") from None
    if dtype.hasobject:
        raise DataError(
            f"{path}: array {name} holds Python objects, stored as a pickle, which is never loaded; save numbers"
        )


def _member(path: Path, archive: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    try:
        return archive[name]
    except _DAMAGE as error:
        raise DataError(f"{path}: array {name} cannot be read ({reason(error)}); write the file again") from None


def _read_safetensors(path: Path, wanted: set[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    from safetensors import SafetensorError, safe_open

    arrays: dict[str, np.ndarray] = {}
    try:
        with safe_open(path, framework="numpy") as stream:
            names = sorted(stream.keys())
            for name in names:
                if name not in wanted:
                    continue
                kind = stream.get_slice(name).get_dtype()
                if kind.startswith(("BF", "F8", "F4")):
                    raise DataError(f"{path}: array {name} has type {kind}, which NumPy lacks; save it as float32")
                arrays[name] = stream.get_tensor(name)
    except DataError:
        raise
    except (SafetensorError, *_DAMAGE) as error:
        raise DataError(f"{path}: cannot be read as safetensors ({reason(error)}); write it again") from None
    return arrays, names


def _one_of(arrays: Mapping[str, np.ndarray], base: str, suffixes: tuple[str, ...]) -> str | None:
    """The name under which an array is there, or None; two names for the same thing are an error."""
    found = [base + suffix for suffix in suffixes if base + suffix in arrays]
    if len(found) > 1:
        raise DataError(f"{' and '.join(found)} are both given; keep one of them")
    return found[0] if found else None


def _mixture(
    arrays: Mapping[str, np.ndarray], suffixes: tuple[str, ...], available: list[str], notes: list[str]
) -> AggregatedPosterior | None:
    mean_name = _one_of(arrays, "mean", suffixes)
    spreads = {kind: name for kind in SPREADS if (name := _one_of(arrays, kind, suffixes)) is not None}
    if len(spreads) > 1:
        raise DataError(f"{' and '.join(spreads.values())} are both given; keep one of them")
    if mean_name is None and not spreads:
        return None
    wanted = " or ".join(kind + suffixes[0] for kind in SPREADS)
    if mean_name is None:
        (name,) = spreads.values()
        raise DataError(f"has {name} but no array mean{suffixes[0]}; it holds {listed(available)}")
    if not spreads:
        raise DataError(f"has {mean_name} but no array {wanted}; it holds {listed(available)}")
    ((kind, name),) = spreads.items()
    mean, spread = arrays[mean_name], arrays[name]
    for array, label in ((mean, mean_name), (spread, name)):
        if not np.issubdtype(array.dtype, np.floating):
            raise DataError(f"{label} has type {array.dtype}: expected floating-point numbers")
    variance = _variance(spread, kind, name)
    q = AggregatedPosterior(mean, variance, (mean_name, name))
    if suffixes[0] == "" and (note := _other_reading(q, spread, kind, name)):
        notes.append(note)
    return q


def _variance(spread: np.ndarray, kind: str, name: str) -> np.ndarray:
    """Variances from whatever an encoder puts out, float64 where they had to be computed."""
    if spread.size == 0 or spread.ndim != 2:
        return spread  # the mixture says what is wrong with the shape
    finite = bool(np.isfinite(spread).all())
    if kind == "log_variance":
        if finite and np.abs(spread).max() > LARGEST_LOG:
            raise DataError(
                f"{name}: {_first(np.abs(spread) > LARGEST_LOG, spread)}, whose exponential is no usable variance; "
                "are these variances? store them as variance"
            )
        return np.exp(spread.astype(np.float64))
    if finite and spread.min() < 0:
        word, other = ("variance", "log_variance") if kind == "variance" else ("standard deviation", "log_variance")
        raise DataError(
            f"{name}: {_first(spread < 0, spread)}, and a {word} cannot be negative; "
            f"if these are log-variances, store them as {other}{name.removeprefix(kind)}"
        )
    return spread if kind == "variance" else np.square(spread.astype(np.float64))


def _first(bad: np.ndarray, values: np.ndarray) -> str:
    row, dimension = (int(i[0]) for i in np.nonzero(bad))
    value = values[row, dimension]
    return f"{int(bad.sum())} of {bad.size} values bad, the first at row {row}, dimension {dimension} is {value:g}"


def _labels(
    arrays: Mapping[str, np.ndarray], suffixes: tuple[str, ...], q: AggregatedPosterior | None
) -> np.ndarray | None:
    name = _one_of(arrays, "labels", suffixes)
    if name is None:
        return None
    if q is None:
        raise DataError(f"has {name} but no array mean{suffixes[0]}")
    labels = np.asarray(arrays[name])
    labels = labels[:, 0] if labels.ndim == 2 and labels.shape[1] == 1 else labels
    if labels.shape != (q.n,):
        raise DataError(f"{name} has shape {labels.shape}: expected ({q.n},), one label per row of mean{suffixes[0]}")
    if labels.dtype.kind not in "biufUS":
        raise DataError(f"{name} has type {labels.dtype}: expected class numbers, names or real numbers")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        bad = np.flatnonzero(~np.isfinite(labels))
        raise DataError(f"{name}: {len(bad)} value(s) bad, the first at row {bad[0]} is {labels[bad[0]]}")
    return labels


def _other_reading(q: AggregatedPosterior, spread: np.ndarray, kind: str, name: str) -> str | None:
    """Ask the gauge identity whether the spread was stored under the wrong name.

    A trained model obeys E[μ²] + E[s] = 1 in every dimension whatever else it does. If the array as named misses that
    clearly, and under another name meets it, the other name is probably right.
    """
    step = max(1, q.n // ROWS_FOR_GUESS)
    mean = np.asarray(q.mean[::step], dtype=np.float64)
    x = np.asarray(spread[::step], dtype=np.float64)
    readings = {
        "variance": lambda: x,
        "std": lambda: x * x,
        "log_variance": lambda: np.exp(x),
        "log_variance, after doubling (they look like logarithms of standard deviations)": lambda: np.exp(2 * x),
    }
    square = np.square(mean).mean(axis=0)
    residual = {}
    for other, read in readings.items():
        with np.errstate(over="ignore"):
            variance = read()
        if variance.min() > 0:
            residual[other] = float(np.median(np.abs(square + variance.mean(axis=0) - 1)))
    own = residual.pop(kind)
    if not residual:
        return None
    best = min(residual, key=residual.__getitem__)
    if own > 0.1 and residual[best] < 0.25 * own and residual[best] < 0.05:
        return (
            f"{name}: E[mean²] + E[variance] is off 1 by {own:.2g} (median over dimensions), but would be off by "
            f"{residual[best]:.2g} if the array were stored as {best}; a trained VAE gives 1, so check the name"
        )
    if kind == "variance" and q.variance.min() > 1:
        return f"{name}: every value is above 1, wider than the prior itself; are these log-variances or precisions?"
    return None
