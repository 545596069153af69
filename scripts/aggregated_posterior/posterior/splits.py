"""The posteriors of one model, train and held-out, and the strict reader of the pipeline's own file.

`posteriors.safetensors` holds `mean_train`, `variance_train`, `mean_test` and `variance_test`, float32 (N, d). Files
that somebody else saved are read by `foreign_files.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Integral, Real
from pathlib import Path

import numpy as np

from ..storage import DataError, read_arrays
from ..streams import stream
from .gauge import Canonical, canonical_form
from .mixture import AggregatedPosterior, Moments
from .other_laws import StreamedPosterior, take_rows

# One row in five is held out where a file has no test half: enough for both ends of the bracket.
HELD_OUT_SHARE = 0.2
FEWEST_ROWS = 10
# Nats of mean KL above which a dimension counts as active.
ACTIVE_THRESHOLD = 0.05
# Two other customs of calling a dimension active: Var(μ) above this (Burda, Grosse and Salakhutdinov 2016), E[s] below.
ACTIVE_VARIANCE_OF_MEANS = 0.01
ACTIVE_MEAN_VARIANCE = 0.95


@dataclass(frozen=True)
class Posteriors:
    """Raw Q(z) of the train split and, where there is one, of the held-out split.

    `labels_train` and `labels_test` (N,) are in the order of the rows, or None. `warnings` are sentences on input that
    can be used but looks wrong; whoever reads a file shows them. `groups_train` and `groups_test` (N,) say which rows
    belong together, such as patches of one image; None where every row stands for itself. `layout` is "channel" where
    rows are positions of spatial latents.
    """

    train: AggregatedPosterior
    test: AggregatedPosterior | None
    labels_train: np.ndarray | None = None
    labels_test: np.ndarray | None = None
    warnings: tuple[str, ...] = ()
    groups_train: np.ndarray | None = None
    groups_test: np.ndarray | None = None
    layout: str | None = None

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

    def canonical(self) -> Canonical:
        """The canonical transform, fitted on the train split only."""
        return canonical_form(self.train)


def load_posteriors(path: str | Path) -> Posteriors:
    """Read a `posteriors.safetensors` of the pipeline: exactly its four arrays, and no guessing.

    Raises:
        DataError: The file cannot be read, lacks one of the arrays, or holds values that cannot be posteriors.
    """
    arrays, _ = read_arrays(path, ["mean_train", "variance_train", "mean_test", "variance_test"])
    named = [(f"mean_{split}", f"variance_{split}") for split in ("train", "test")]
    try:
        train, test = (
            AggregatedPosterior(arrays[mean], arrays[variance], (mean, variance)) for mean, variance in named
        )
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    return Posteriors(train, test)


def some_rows(posteriors: Posteriors, rows: int, seed: int = 0) -> Posteriors:
    """At most `rows` rows of each half, drawn at random, in order and in memory; `posteriors` where that is so."""
    changes: dict[str, object] = {}
    for half in ("train", "test"):
        q = getattr(posteriors, half)
        if q is None or (q.n <= rows and not isinstance(q, StreamedPosterior)):
            continue
        index = np.arange(q.n)
        if rows < q.n:
            index = np.sort(stream(seed, "some rows", half).choice(q.n, rows, replace=False, shuffle=False))
        changes[half] = take_rows(q, index)
        for what in ("labels", "groups"):
            values = getattr(posteriors, f"{what}_{half}")
            changes[f"{what}_{half}"] = None if values is None else values[index]
    return replace(posteriors, **changes) if changes else posteriors


def refuse_settings(active_threshold: float, seed: int) -> None:
    """Refuse a threshold of activity that is no number of nats, and a seed that is none, before work is done."""
    if not (isinstance(active_threshold, Real) and np.isfinite(active_threshold) and active_threshold >= 0):
        raise DataError(f"active_threshold is {active_threshold}: expected a number of nats, 0 or more")
    if not (isinstance(seed, Integral) and seed >= 0):
        raise DataError(f"seed is {seed}: expected a whole number, 0 or more")


def active_dimensions(kl: np.ndarray, threshold: float) -> np.ndarray:
    """Which dimensions are active: mean KL (raw, train) above the threshold in nats; (d,) booleans."""
    return np.asarray(kl) > threshold


def active_by_other_customs(moments: Moments) -> dict[str, np.ndarray]:
    """Which dimensions two other customs call active, from the raw moments of the train split; (d,) booleans each."""
    return {
        "active_by_variance": moments.variance_of_means > ACTIVE_VARIANCE_OF_MEANS,
        "active_by_noise": moments.mean_variance < ACTIVE_MEAN_VARIANCE,
    }
