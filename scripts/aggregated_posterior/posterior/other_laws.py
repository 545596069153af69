"""Aggregated posteriors that are not one array of means and one of variances, behind the same methods.

`StreamedPosterior`: rows in several arrays (shards) that may be larger than the memory; spreads become variances block
by block. `FullCovariance`: posteriors N(μ_n, S_n) with a covariance each. `Codes`: an autoencoder without variances,
whose Q is the law of the codes themselves. The last two have moments, draws and a covariance, and no ln Q.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import NoReturn

import numpy as np

from ..storage import DataError
from .mixture import BLOCK_ELEMENTS, RELEASE_BYTES, AggregatedPosterior, _check_values, _memory_map, _release

# Rows gathered from a mapped file before its pages are given back.
GATHERED = 4096


class Rows:
    """Rows of several arrays one after the other, taken when they are asked for: `rows[2:9]`, `rows[[4, 1]]`.

    An array of more than two axes, (N, C, H, W), gives N·H·W rows of C channels; `change` maps what was read, and the
    rows' numbers, to what is returned.
    """

    def __init__(
        self,
        arrays: Sequence[np.ndarray],
        change: Callable[[np.ndarray, Sequence[int]], np.ndarray] | None = None,
    ) -> None:
        self.arrays, self.change = list(arrays), change
        self.positions = int(np.prod(self.arrays[0].shape[2:], dtype=np.int64))
        self.ends = np.cumsum([len(array) * self.positions for array in self.arrays])
        self.shape = (int(self.ends[-1]), self.arrays[0].shape[1])
        self.dtype = np.result_type(*self.arrays, np.float32)
        self.maps = [m for array in self.arrays if (m := _memory_map(array)) is not None]

    @property
    def size(self) -> int:
        """Numbers in all."""
        return self.shape[0] * self.shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: np.dtype | None = None, copy: bool | None = None) -> np.ndarray:
        return np.asarray(self[:], dtype=dtype)

    def __getitem__(self, index: slice | np.ndarray) -> np.ndarray:
        if isinstance(index, slice) and index.step in (None, 1):
            first, stop, _ = index.indices(len(self))
            return self._changed(np.concatenate(list(self._span(first, stop)) or [self._nothing()]), range(first, stop))
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
        index = np.asarray(index)
        index = np.flatnonzero(index) if index.dtype == bool else index
        parts = [self._gather(index[start : start + GATHERED]) for start in range(0, len(index), GATHERED)]
        return self._changed(np.concatenate(parts or [self._nothing()]), index)

    def _nothing(self) -> np.ndarray:
        return np.empty((0, self.shape[1]), self.dtype)

    def _changed(self, rows: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
        return rows if self.change is None else self.change(rows, numbers)

    def _span(self, first: int, stop: int) -> Iterator[np.ndarray]:
        begin = 0
        for array, end in zip(self.arrays, self.ends, strict=True):
            low, high = max(first, begin) - begin, min(stop, end) - begin
            if low < high and self.positions == 1 and array.ndim == 2:
                yield array[low:high]
            elif low < high:
                image, last = low // self.positions, -(-high // self.positions)
                rows = channel_rows(np.asarray(array[image:last]))
                yield rows[low - image * self.positions : high - image * self.positions]
            begin = end

    def _gather(self, index: np.ndarray) -> np.ndarray:
        rows = np.empty((len(index), self.shape[1]), self.dtype)
        part = np.searchsorted(self.ends, index, side="right")
        for number in np.unique(part):
            array, begin = self.arrays[number], self.ends[number] - len(self.arrays[number]) * self.positions
            here = part == number
            local = index[here] - begin
            if array.ndim == 2:
                rows[here] = array[local]
            else:
                flat = array.reshape(len(array), self.shape[1], self.positions)
                rows[here] = flat[local // self.positions, :, local % self.positions]
        _release(self.maps)
        return rows


def channel_rows(array: np.ndarray) -> np.ndarray:
    """(N, C, H, W) → (N·H·W, C): one row per position, the positions of an image one after the other."""
    return np.moveaxis(array, 1, -1).reshape(-1, array.shape[1])


class StreamedPosterior(AggregatedPosterior):
    """Q(z) whose rows lie in `Rows`, read block by block; moments, covariance and KL are exact over all of them."""

    def __init__(self, mean: Rows, variance: Rows, names: tuple[str, str] = ("mean", "variance")) -> None:
        if mean.shape != variance.shape:
            raise DataError(f"{names[0]} has shape {mean.shape} but {names[1]} has shape {variance.shape}")
        self.mean, self.variance, self.names, self._checked = mean, variance, names, False

    def blocks(
        self, rows: int | None = None, description: str | None = None, scratch: np.ndarray | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """(first row, block) over all rows, as in `AggregatedPosterior`; values are checked on the first full pass."""
        rows = min(rows or max(1, BLOCK_ELEMENTS // self.latent_dim), self.n)
        scratch = np.empty((2, rows, self.latent_dim)) if scratch is None else scratch
        # Files are read in larger pieces than the arithmetic works on.
        piece = rows * max(1, 2**20 // (rows * self.latent_dim))
        maps, unreleased = [*self.mean.maps, *self.variance.maps], 0
        for begin in range(0, self.n, piece):
            mean, variance = self.mean[begin : begin + piece], self.variance[begin : begin + piece]
            for start in range(0, len(mean), rows):
                block = scratch[:, : min(rows, len(mean) - start)]
                block[0], block[1] = mean[start : start + rows], variance[start : start + rows]
                if not self._checked:
                    first = begin + start
                    _check_values(block[0], block[1], self.names, range(first, first + block.shape[1]))
                yield begin + start, block
            unreleased += mean.nbytes + variance.nbytes
            if unreleased >= RELEASE_BYTES:
                _release(maps)
                unreleased = 0
        _release(maps)
        self._checked = True


class FullCovariance(AggregatedPosterior):
    """Q(z) of posteriors N(μ_n, S_n) with full covariances, given by lower factors L_n, S_n = L_n L_nᵀ, (N, d, d).

    A single dimension sees only the diagonal of S_n, so everything per dimension is that of the diagonal mixture.
    """

    def __init__(self, mean: np.ndarray, factors: np.ndarray, names: tuple[str, str] = ("mean", "covariance")) -> None:
        super().__init__(mean, np.einsum("nij,nij->ni", factors, factors, dtype=np.float64), names)
        self.factors = factors

    def covariance(self) -> np.ndarray:
        """Cov(μ) + E[S], (d, d)."""
        mean = np.asarray(self.mean, dtype=np.float64) - np.mean(self.mean, axis=0, dtype=np.float64)
        within = sum(
            np.einsum("nij,nkj->ik", part, part, dtype=np.float64)
            for part in np.array_split(self.factors, max(1, self.factors.size // 2**20))
        )
        return (mean.T @ mean + within) / self.n

    def joint_kl(self) -> float:
        """Mean KL(N(μ_n, S_n) ‖ N(0, I)) = ½ E[|μ|² + tr S − d − ln det S], nats; above the sum over dimensions."""
        log_determinant = 2 * np.log(np.abs(np.diagonal(self.factors, axis1=1, axis2=2)).astype(np.float64)).sum(axis=1)
        square = np.square(self.mean, dtype=np.float64).sum(axis=1) + self.variance.sum(axis=1)
        return 0.5 * float((square - self.latent_dim - log_determinant).mean())

    def sample_components(self, index: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One draw from each of the components `index` (n,), (n, d)."""
        noise = rng.standard_normal((len(index), self.latent_dim))
        return self.mean[index] + np.einsum("nij,nj->ni", self.factors[index], noise)

    def affine(self, shift: np.ndarray, scale: np.ndarray) -> FullCovariance:
        """The law of (z − shift)·scale."""
        mean = (np.asarray(self.mean, dtype=np.float64) - shift) * scale
        return FullCovariance(mean, self.factors * np.asarray(scale)[:, None], self.names)

    def log_density(self, z: np.ndarray, block_size: int = 0) -> NoReturn:
        """Not offered: N·M solves of d equations each."""
        raise DataError("ln Q is not computed for posteriors with full covariances")


class Codes(AggregatedPosterior):
    """The law of codes without variances, (N, d): moments, draws (with replacement) and covariance, no ln Q, no KL."""

    def __init__(self, mean: np.ndarray, names: tuple[str, str] = ("mean", "variance")) -> None:
        super().__init__(mean, np.ones_like(mean), names)
        self.variance = np.broadcast_to(np.zeros(1), self.mean.shape)

    def kl(self) -> np.ndarray:
        """NaN: a point has no finite KL."""
        return np.full(self.latent_dim, np.nan)

    def affine(self, shift: np.ndarray, scale: np.ndarray) -> Codes:
        """The law of (z − shift)·scale."""
        return Codes((np.asarray(self.mean, dtype=np.float64) - shift) * scale, self.names)

    def log_density(self, z: np.ndarray, block_size: int = 0) -> NoReturn:
        """Not offered: the codes are points."""
        raise DataError("codes without variances have no ln Q")


def take_rows(q: AggregatedPosterior, rows: np.ndarray) -> AggregatedPosterior:
    """The law of some rows (indices or a mask) of q, of the same kind and in memory."""
    if isinstance(q, Codes):
        return Codes(q.mean[rows], q.names)
    if isinstance(q, FullCovariance):
        return FullCovariance(q.mean[rows], q.factors[rows], q.names)
    mean, variance = np.asarray(q.mean[rows]), np.asarray(q.variance[rows])
    if not q._checked:  # here, where the rows' numbers are known
        _check_values(mean, variance, q.names, np.flatnonzero(rows) if rows.dtype == bool else rows)
    return AggregatedPosterior(mean, variance, q.names)


def has_density(q: AggregatedPosterior) -> bool:
    """Whether ln Q can be evaluated."""
    return not isinstance(q, Codes | FullCovariance)
