"""The posteriors of one model, train and held-out, and the strict reader of the pipeline's own file.

`posteriors.safetensors` holds `mean_train`, `variance_train`, `mean_test` and `variance_test`, float32 (N, d). Files
that somebody else saved are read by `foreign_files.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..storage import DataError, read_arrays
from .gauge import Canonical, canonical_form
from .mixture import AggregatedPosterior, Moments

# One row in five is held out where a file has no test half: enough for both ends of the bracket.
HELD_OUT_SHARE = 0.2
FEWEST_ROWS = 10


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

    def canonical(self, moments: Moments | None = None) -> Canonical:
        """The canonical transform, fitted on the train split only; `moments` are those of `train` where known."""
        return canonical_form(self.train, moments)

    def variants(self, canonical: Canonical) -> Iterator[tuple[str, str, AggregatedPosterior]]:
        """Yield (split, form, Q(z)) for every split that exists, raw and canonical."""
        for split, q in (("train", self.train), ("test", self.test)):
            if q is not None:
                yield split, "raw", q
                yield split, "canonical", q.affine(canonical.shift, canonical.scale)


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
