"""Posteriors of one model, train and held-out: the pipeline's own file, or arrays that somebody else saved.

A file holds `mean` (N, d) and exactly one of `variance`, `log_variance` and `std`, optionally the same with `_test`,
and optionally `labels` (N,) and `labels_test`. The ending `_train` means the same as no ending, so a pipeline's
`posteriors.safetensors` is such a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .gauge import Canonical, canonical_form
from .mixture import AggregatedPosterior, Moments
from .posterior_files import read_named_arrays
from .storage import DataError

SPREADS = ("variance", "log_variance", "std")
# ln s beyond this leaves float64 when it is squared again in 1/s²; no encoder means that.
LARGEST_LOG = 300.0
# One row in five is held out where a file has no test half: enough for both ends of the bracket.
HELD_OUT_SHARE = 0.2
FEWEST_ROWS = 10
# Rows looked at when it is asked whether a spread was stored under the wrong name.
ROWS_FOR_GUESS = 10_000


@dataclass(frozen=True)
class Posteriors:
    """Raw Q(z) of the train split and, where there is one, of the held-out split.

    `labels_train` and `labels_test` (N,) are in the order of the rows, or None. `warnings` are sentences on input that
    can be used but looks wrong; whoever reads a file shows them.
    """

    train: AggregatedPosterior
    test: AggregatedPosterior | None
    labels_train: np.ndarray | None = None
    labels_test: np.ndarray | None = None
    warnings: tuple[str, ...] = ()

    @property
    def mean_train(self) -> np.ndarray:
        """Means of the train split, (N, d)."""
        return self.train.mean

    @property
    def variance_train(self) -> np.ndarray:
        """Variances of the train split, (N, d)."""
        return self.train.variance

    @property
    def mean_test(self) -> np.ndarray | None:
        """Means of the held-out split, (N, d), or None."""
        return None if self.test is None else self.test.mean

    @property
    def variance_test(self) -> np.ndarray | None:
        """Variances of the held-out split, (N, d), or None."""
        return None if self.test is None else self.test.variance

    @property
    def latent_dim(self) -> int:
        """Number of latent dimensions d."""
        return self.train.latent_dim

    def arrays(self) -> dict[str, np.ndarray]:
        """mean_train, variance_train and, if held-out rows exist, mean_test, variance_test.

        Precision stays what it was, except that float16 becomes float32.
        """
        named = {"mean_train": self.mean_train, "variance_train": self.variance_train}
        if self.test is not None:
            named |= {"mean_test": self.mean_test, "variance_test": self.variance_test}
        return {name: np.asarray(a, dtype=np.promote_types(a.dtype, np.float32)) for name, a in named.items()}

    def canonical(self, moments: Moments | None = None) -> Canonical:
        """The canonical transform, fitted on the train split only; `moments` are those of `train` where known."""
        return canonical_form(self.train, moments)

    def variants(self, canonical: Canonical) -> Iterator[tuple[str, str, AggregatedPosterior]]:
        """Yield (split, form, Q(z)) for every split that exists, raw and canonical."""
        for split, q in (("train", self.train), ("test", self.test)):
            if q is not None:
                yield split, "raw", q
                yield split, "canonical", q.affine(canonical.shift, canonical.scale)


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
    notes = [f"ignored arrays: {', '.join(ignored)} (known are {', '.join(n for n in names)})"] if ignored else []
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
        raise DataError(f"has no array mean; it holds {', '.join(available) or 'nothing'}")
    test = _mixture(arrays, ("_test",), available, notes)
    if test is not None and test.latent_dim != train.latent_dim:
        raise DataError(f"mean has {train.latent_dim} latent dimensions but mean_test has {test.latent_dim}")
    labels_train = _labels(arrays, ("", "_train"), train)
    labels_test = _labels(arrays, ("_test",), test)
    return Posteriors(train, test, labels_train, labels_test, tuple(notes))


def hold_out(posteriors: Posteriors, seed: int = 0) -> Posteriors:
    """Take a seeded fifth of the rows as held-out split where there is none; otherwise return `posteriors` as it is.

    Rows may be sorted by class or time, so they are drawn at random; both splits keep the order of the rows. The
    encoder was trained on rows of both splits. For the estimators of the divergence that does not matter, since they
    take the encoder as given and need only exchangeable rows; but these held-out rows say nothing about overfitting.

    Raises:
        DataError: Fewer than ten rows.
    """
    if posteriors.test is not None:
        return posteriors
    q = posteriors.train
    if q.n < FEWEST_ROWS:
        raise DataError(f"mean has {q.n} rows and there is no mean_test: splitting takes at least {FEWEST_ROWS} rows")
    held_out = np.zeros(q.n, dtype=bool)
    chosen = np.random.Generator(np.random.PCG64(seed)).permutation(q.n)[: round(q.n * HELD_OUT_SHARE)]
    held_out[chosen] = True
    labels = posteriors.labels_train
    return Posteriors(
        AggregatedPosterior(q.mean[~held_out], q.variance[~held_out]),
        AggregatedPosterior(q.mean[held_out], q.variance[held_out]),
        None if labels is None else labels[~held_out],
        None if labels is None else labels[held_out],
        posteriors.warnings,
    )


def active_dimensions(kl: np.ndarray, threshold: float) -> np.ndarray:
    """Which dimensions are active: mean KL (raw, train) above the threshold in nats; (d,) booleans."""
    return np.asarray(kl) > threshold


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
        raise DataError(f"has {name} but no array mean{suffixes[0]}; it holds {', '.join(available)}")
    if not spreads:
        raise DataError(f"has {mean_name} but no array {wanted}; it holds {', '.join(available)}")
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
