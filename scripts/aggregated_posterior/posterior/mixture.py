"""The aggregated posterior Q(z) = (1/N) Σ_n N(z; μ_n, diag s_n): exact moments, cumulant terms, density and draws.

Nothing in this module is estimated by sampling except `AggregatedPosterior.sample` itself. All arithmetic is float64
whatever the input; inputs may be float32, float64 or memory maps, and every pass over them works in blocks.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Sequence
from functools import cached_property

import numpy as np

from ..storage import DataError
from .density import log_sum_of_components
from .moments import Moments, excess_over_log, merge_blocks

# One block of means in float64 takes 256 KiB, so that a block, its variances and two scratch arrays stay in a
# second-level cache: the moments are then bound by arithmetic and not by memory.
BLOCK_ELEMENTS = 32_768
# Rows are folded so that the inner loop runs over about this many numbers, whatever the latent dimension.
FOLD_ELEMENTS = 512
# Arrays with more numbers than this show their progress (on a terminal, after two seconds).
LONG_INPUT = 50_000_000
# Pages of a read-only memory map are given back after this many bytes, so that a pass stays within its memory.
RELEASE_BYTES = 128 * 2**20
# What float64 carries through the fourth power and its sums: beyond, moments would be infinite, zero or NaN.
LARGEST_MEAN = 1e70
SMALLEST_VARIANCE, LARGEST_VARIANCE = 1e-140, 1e140


def normal_log_pdf(z: np.ndarray) -> np.ndarray:
    """ln N(z; 0, I) for points z (M, d); returns (M,)."""
    z = np.asarray(z, dtype=np.float64)
    return -0.5 * np.einsum("ij,ij->i", z, z) - 0.5 * z.shape[1] * np.log(2 * np.pi)


class AggregatedPosterior:
    """Q(z), the equally weighted mixture of N diagonal Gaussians in d dimensions.

    Args:
        mean: (N, d) posterior means μ, any real floating type, finite. Memory maps are not copied.
        variance: (N, d) posterior variances s = σ² > 0 (not logarithms, not standard deviations).
        names: how the two arrays are called in error messages.

    Raises:
        DataError: shapes differ or are not (N, d), no rows or no columns, not floating point, NaN or infinity, a
            variance that is not positive, or values beyond what float64 carries through the fourth power (|μ| above
            1e70, s outside of 1e-140 to 1e140). A memory map is examined during the first pass over it, not here,
            because reading it twice would double the cost.
    """

    def __init__(self, mean: np.ndarray, variance: np.ndarray, names: tuple[str, str] = ("mean", "variance")) -> None:
        self.mean = _as_float_array(mean, names[0])
        self.variance = _as_float_array(variance, names[1])
        self.names = names
        if self.mean.shape != self.variance.shape:
            raise DataError(
                f"{names[0]} has shape {self.mean.shape} but {names[1]} has shape {self.variance.shape}: "
                "give one mean and one variance per row and latent dimension"
            )
        self._checked = False
        if not (_memory_map(self.mean) or _memory_map(self.variance)):
            _check_values(self.mean, self.variance, names, range(self.n))
            self._checked = True

    @property
    def n(self) -> int:
        """Number of components N (rows, data points)."""
        return self.mean.shape[0]

    @property
    def latent_dim(self) -> int:
        """Number of latent dimensions d."""
        return self.mean.shape[1]

    def __repr__(self) -> str:
        return f"AggregatedPosterior(n={self.n}, latent_dim={self.latent_dim}, dtype={self.mean.dtype})"

    # ------------------------------------------------------------------------------------------------ passes

    def blocks(
        self, rows: int | None = None, description: str | None = None, scratch: np.ndarray | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yield (first row, block) over all rows, block (2, rows, d) float64 holding means and variances.

        The block is scratch that the next step overwrites; copy what must stay. Give `scratch` (2, ≥ rows, d) to
        choose where it lies. Values are checked on the first full
        pass over a memory map, and pages already read are given back to the system.
        """
        rows = rows or max(1, BLOCK_ELEMENTS // self.latent_dim)
        rows = min(rows, self.n)
        scratch = np.empty((2, rows, self.latent_dim)) if scratch is None else scratch
        starts: Iterator[int] = iter(range(0, self.n, rows))
        maps = [m for m in (_memory_map(self.mean), _memory_map(self.variance)) if m is not None]
        if self.mean.size > LONG_INPUT:
            from tqdm import tqdm  # only long inputs pay for the import

            starts = iter(tqdm(range(0, self.n, rows), desc=description, unit="block", delay=2, disable=None))
        unreleased = 0
        for start in starts:
            stop = min(start + rows, self.n)
            block = scratch[:, : stop - start]
            block[0] = self.mean[start:stop]
            block[1] = self.variance[start:stop]
            if not self._checked:
                _check_values(block[0], block[1], self.names, range(start, stop))
            yield start, block
            unreleased += block.size * 4
            if maps and unreleased >= RELEASE_BYTES:
                _release(maps)
                unreleased = 0
        if maps:
            _release(maps)
        self._checked = True

    # ----------------------------------------------------------------------------------------------- moments

    def moments(self, block_size: int | None = None) -> Moments:
        """The first four moments of Q(z) and the three terms of its kurtosis, per dimension, in one pass.

        Each block is centred on its own mean and the blocks' central sums are merged exactly (Chan, Golub and
        LeVeque 1979; Pébay 2008), so a large common offset of the means costs no digits. What cannot be recovered is
        what the input's own rounding lost: relative errors grow like ε·(1 + max|μ|/spread) for float input of
        precision ε, and the kurtosis' *terms* have an absolute error of a few ε (they may cancel to 0).

        Args:
            block_size: rows per block; None takes blocks that fit the cache. Memory is 4 · block_size · d · 8 bytes.
        """
        d = self.latent_dim
        rows = min(block_size or max(1, BLOCK_ELEMENTS // d), self.n)
        fold = max(1, min(FOLD_ELEMENTS // d, rows))
        rows = -(-rows // fold) * fold  # whole folds; a short last block is padded with zeros
        scratch = np.empty((3, rows, d))
        u, t, u2 = scratch.reshape(3, rows // fold, fold * d)
        count, centre, sums = [], [], []
        for _, block in self.blocks(rows, "moments", scratch[:2]):
            n = block.shape[1]
            scratch[:2, n:] = 0.0
            c = scratch[:2].reshape(2, rows // fold, fold * d).sum(axis=1).reshape(2, fold, d).sum(axis=1) / n
            tiled = np.tile(c, (1, fold))
            u -= tiled[0]
            t -= tiled[1]
            scratch[:2, n:] = 0.0
            np.multiply(u, u, out=u2)
            folded = np.stack(
                [
                    u.sum(axis=0),
                    t.sum(axis=0),
                    np.einsum("ij,ij->j", u, u),
                    np.einsum("ij,ij->j", u2, u),
                    np.einsum("ij,ij->j", u2, u2),
                    np.einsum("ij,ij->j", u, t),
                    np.einsum("ij,ij->j", u2, t),
                    np.einsum("ij,ij->j", t, t),
                ]
            )
            count.append(n)
            centre.append(c)
            sums.append(folded.reshape(8, fold, d).sum(axis=1))
        return merge_blocks(np.array(count, dtype=np.float64)[:, None], np.array(centre), np.array(sums))

    def covariance(self) -> np.ndarray:
        """Covariance of Q(z), (d, d): Cov(μ) + diag(E[s]). The blocks are centred and merged as in `moments`."""
        d = self.latent_dim
        count, centre = [], []
        scatter, mean_variance = np.zeros((d, d)), np.zeros(d)
        # About d rows at once in many dimensions, so that the product outweighs what is done once a block.
        rows = max(1, BLOCK_ELEMENTS // d, min(d, 1024))
        for _, (mean, variance) in self.blocks(rows, "covariance"):
            c = mean.mean(axis=0)
            mean -= c
            residual = mean.mean(axis=0)
            scatter += mean.T @ mean - len(mean) * np.outer(residual, residual)
            mean_variance += variance.sum(axis=0)
            count.append(len(mean))
            centre.append(c + residual)
        weight = np.array(count, dtype=np.float64)[:, None]
        offset = np.array(centre) - centre[0]
        offset -= (weight * offset).sum(axis=0) / self.n
        scatter += (weight * offset).T @ offset
        return scatter / self.n + np.diag(mean_variance / self.n)

    def kl(self) -> np.ndarray:
        """Mean KL(q(z_j|x_n) ‖ N(0, 1)) over the data, (d,), nats: ½ E[μ² + s − 1 − ln s] (Kingma and Welling 2014)."""
        total = np.zeros(self.latent_dim)
        for _, (mean, variance) in self.blocks(description="KL"):
            total += np.einsum("ij,ij->j", mean, mean) + excess_over_log(variance).sum(axis=0)
        return 0.5 * total / self.n

    def joint_kl(self) -> float:
        """Mean KL(q(z|x_n) ‖ N(0, I)) over the data, nats: the KL term of the loss."""
        return float(self.kl().sum())

    # ----------------------------------------------------------------------------------------------- density

    def log_density(self, z: np.ndarray, block_size: int = 2**17) -> np.ndarray:
        """ln Q(z) in nats with the whole mixture, never a minibatch; z (M, d), returns (M,); see `density.py`.

        Args:
            z: Points, (M, d), finite.
            block_size: Entries (points × components) of one block; peak memory is about 40 bytes for each.

        Raises:
            DataError: z is not (M, d) or not finite.
        """
        z = np.ascontiguousarray(z, dtype=np.float64)
        if z.ndim != 2 or z.shape[1] != self.latent_dim:
            raise DataError(f"points have shape {z.shape}, expected (M, {self.latent_dim})")
        if not np.isfinite(z).all():
            raise DataError("points hold NaN or infinity: ln Q needs finite points")
        if not len(z):
            return np.empty(0)
        points = min(len(z), 256)
        rows = max(1, min(self.n, block_size // points, 2048))
        blocks = ((mean, variance) for _, (mean, variance) in self.blocks(rows, "ln Q"))
        return log_sum_of_components(blocks, z, points, rows) - np.log(self.n)

    # ---------------------------------------------------------------------------------- draws and new mixtures

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw n points of Q(z), (n, d): a uniformly chosen component, then its Gaussian."""
        index = rng.integers(self.n, size=n)
        return self.sample_components(index, rng)

    def sample_components(self, index: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """One draw from each of the components `index` (n,), returned in that order, (n, d)."""
        mean, variance = self.rows(index)
        return mean + np.sqrt(variance) * rng.standard_normal(mean.shape)

    def rows(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Means and variances of the components `index` (n,), (n, d) each, float64."""
        mean = np.asarray(self.mean[index], dtype=np.float64)
        variance = np.asarray(self.variance[index], dtype=np.float64)
        if not self._checked:
            _check_values(mean, variance, self.names, index)
        return mean, variance

    def affine(self, shift: np.ndarray, scale: np.ndarray) -> AggregatedPosterior:
        """The law of (z − shift)·scale, float64: means (μ − shift)·scale, variances s·scale².

        It is a view: passes and draws compute it block by block, and no array is made until `mean` or `variance` is
        asked for.
        """
        return _Affine(self, shift, scale)

    def select(self, dimensions: np.ndarray) -> AggregatedPosterior:
        """The marginal law of some latent dimensions (indices or a boolean mask), in the order given."""
        dimensions = np.asarray(dimensions)
        return AggregatedPosterior(self.mean[:, dimensions], self.variance[:, dimensions], self.names)


class _Affine(AggregatedPosterior):
    """The law of (z − shift)·scale for z of another mixture, computed when it is read."""

    _checked = True  # by the other mixture

    def __init__(self, base: AggregatedPosterior, shift: np.ndarray, scale: np.ndarray) -> None:
        self._base, self.names = base, base.names
        self._shift = np.broadcast_to(np.asarray(shift, dtype=np.float64), (base.latent_dim,))
        self._scale = np.broadcast_to(np.asarray(scale, dtype=np.float64), (base.latent_dim,))

    @cached_property
    def mean(self) -> np.ndarray:
        return (np.asarray(self._base.mean, dtype=np.float64) - self._shift) * self._scale

    @cached_property
    def variance(self) -> np.ndarray:
        return np.asarray(self._base.variance, dtype=np.float64) * self._scale**2

    @property
    def n(self) -> int:
        return self._base.n

    @property
    def latent_dim(self) -> int:
        return self._base.latent_dim

    def __repr__(self) -> str:
        return f"{self._base!r}.affine(...)"

    def blocks(
        self, rows: int | None = None, description: str | None = None, scratch: np.ndarray | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        for start, block in self._base.blocks(rows, description, scratch):
            self._map(*block)
            yield start, block

    def rows(self, index: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        mean, variance = self._base.rows(index)
        self._map(mean, variance)
        return mean, variance

    def select(self, dimensions: np.ndarray) -> AggregatedPosterior:
        dimensions = np.asarray(dimensions)
        return _Affine(self._base.select(dimensions), self._shift[dimensions], self._scale[dimensions])

    def _map(self, mean: np.ndarray, variance: np.ndarray) -> None:
        mean -= self._shift
        mean *= self._scale
        variance *= self._scale**2


# ------------------------------------------------------------------------------------------------------ helpers


def _as_float_array(array: np.ndarray, name: str) -> np.ndarray:
    array = array if isinstance(array, np.ndarray) else np.asarray(array)
    if array.ndim != 2:
        raise DataError(f"{name} has shape {array.shape}: expected (N, d), one row per data point")
    if array.shape[0] == 0 or array.shape[1] == 0:
        raise DataError(f"{name} is empty (shape {array.shape}): at least one row and one latent dimension are needed")
    if not np.issubdtype(array.dtype, np.floating):
        raise DataError(f"{name} has type {array.dtype}: expected floating-point numbers")
    return array


def _check_values(mean: np.ndarray, variance: np.ndarray, names: tuple[str, str], numbers: Sequence[int]) -> None:
    """Raise DataError at values that cannot be posteriors, in rows of these numbers.

    Extremes carry NaN along, so four fast passes suffice.
    """
    lowest, highest = float(mean.min()), float(mean.max())
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        _complain(names[0], ~np.isfinite(mean), "is NaN or infinite", numbers)
    if max(-lowest, highest) > LARGEST_MEAN:
        cause = f"exceeds {LARGEST_MEAN:.0e} in size: its fourth power does not fit into float64; rescale the dimension"
        _complain(names[0], np.abs(mean) > LARGEST_MEAN, cause, numbers)
    lowest, highest = float(variance.min()), float(variance.max())
    if not (np.isfinite(lowest) and np.isfinite(highest)):
        _complain(names[1], ~np.isfinite(variance), "is NaN or infinite", numbers)
    if lowest <= 0:
        negative = variance < 0
        if negative.any():
            _complain(names[1], negative, "is negative (are these logarithms of variances?)", numbers)
        _complain(names[1], variance == 0, "is zero: a posterior of zero width has infinite KL", numbers)
    if lowest < SMALLEST_VARIANCE or highest > LARGEST_VARIANCE:
        cause = (
            f"is outside of {SMALLEST_VARIANCE:.0e} to {LARGEST_VARIANCE:.0e}: its square does not fit into float64; "
            "rescale the dimension"
        )
        _complain(names[1], (variance < SMALLEST_VARIANCE) | (variance > LARGEST_VARIANCE), cause, numbers)


def _complain(name: str, bad: np.ndarray, cause: str, numbers: Sequence[int]) -> None:
    row, dimension = (int(i[0]) for i in np.nonzero(bad))
    raise DataError(
        f"{name}: {int(bad.sum())} value(s) bad, the first at row {numbers[row]}, dimension {dimension} {cause}"
    )


def _memory_map(array: np.ndarray) -> mmap.mmap | None:
    """The memory map that an array views, or None when it lives in ordinary memory."""
    base: object = array
    while isinstance(base, np.ndarray):
        if isinstance(base.base, mmap.mmap):
            return base.base
        base = base.base
    return None


def _release(maps: list[mmap.mmap]) -> None:
    """Give pages of read-only maps back: file pages stay in the system's cache but leave this process' memory."""
    for mapped in maps:
        # A private (copy-on-write) map would lose its changes, so only maps that cannot be written are touched.
        if memoryview(mapped).readonly and hasattr(mapped, "madvise"):
            mapped.madvise(mmap.MADV_DONTNEED)
