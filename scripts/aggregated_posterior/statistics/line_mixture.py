"""One-dimensional Gaussian mixtures with tens of thousands of components, evaluated without looking at each of them.

A wide Gaussian is, almost exactly, a lattice sum of narrower ones. For a, b > 0, c = ab/(a + b) and lattice points x_k
of spacing h,

    Σ_k h N(x_k; μ, b) N(z; x_k, a) = N(z; μ, a + b) · (1 + ε(z)),   |ε(z)| ≤ 2 exp(−2π²c/h²) / (1 − exp(−6π²c/h²)),

because the product of two Gaussians is a Gaussian in x_k of variance c, and Poisson's summation formula gives the sum
of a Gaussian over a lattice. The bound is *relative* and holds at every z. So components are sorted into octaves of
variance, s in [2a, 4a), and each octave becomes positive weights on one lattice of Gaussians of variance a, with
h ≤ 0.55 √a: c ≥ a/2, so |ε| ≤ 1.4e-14. The lattice of a wide octave is itself a mixture, so it is passed down to the
next narrower one in the same way; k octaves add up to k · 1.4e-14. Sums, distribution functions and their integrals
inherit the bound. Every point then meets 33 lattice neighbours instead of N components; cutting the sums at 8.5
(evaluation) and 7.5 (weights) standard deviations leaves out less than 1e-13 of the mass.

An octave whose lattice would be longer than it is worth (few components, or very narrow ones far apart) stays as it
is, and is summed directly over the pairs closer than 38 standard deviations, where float64 underflows. That is exact,
and fast unless most points lie inside most of those components. No variance is out of range.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

SPACING = 0.55
WEIGHT_REACH = 7.5
EVALUATION_REACH = 8.5
UNDERFLOW_REACH = 38.0
# Fewer components than this in an octave are summed directly.
FEW = 48
PAIRS = 2**17
ROOT_TWO_PI = np.sqrt(2 * np.pi)


@dataclass
class Values:
    """A mixture's density, distribution function, survival function and ∫_{−∞}^z F at some points, each (M,)."""

    pdf: np.ndarray
    cdf: np.ndarray | None
    sf: np.ndarray | None
    integral: np.ndarray | None


class LineMixture:
    """The equally weighted mixture of N(μ_n, s_n) on the line.

    Arguments:
        mean: (N,) float64. variance: (N,) float64, positive.
    """

    def __init__(self, mean: np.ndarray, variance: np.ndarray) -> None:
        # A common offset would cost digits in z − x_k: everything below is relative to the centre.
        self.centre = float(np.median(mean))
        mean = mean - self.centre
        self.n = len(mean)
        exponent = np.frexp(variance)[1]
        self.octaves: list[tuple[float, np.ndarray]] = []
        self.lattices: list[_Lattice] = []
        direct = []
        # From wide to narrow; `carried` is the lattice of the wider octaves, to be passed down where that is worth it.
        carried: _Lattice | None = None
        for e in np.unique(exponent)[::-1]:
            member = np.flatnonzero(exponent == e)
            base = float(np.ldexp(1.0, int(e) - 2))  # s in [2a, 4a)
            self.octaves.append((base, mean[member]))
            spacing = _short(SPACING * np.sqrt(base))
            longest = spacing * (4 * len(member) + 16_384)
            # Outliers would stretch the lattice: only components near the octave's middle share it.
            near = np.abs(mean[member] - np.median(mean[member])) <= 0.25 * longest
            if near.sum() < FEW:
                direct.append(member)
                continue
            direct.append(member[~near])
            shared = member[near]
            parts = [(mean[shared], variance[shared], np.full(len(shared), 1.0 / self.n))]
            if carried is not None:
                if carried.length * carried.spacing <= 0.5 * longest:
                    parts.append(carried.components())
                else:
                    self.lattices.append(carried)
            carried = _Lattice(parts, base, spacing)
        if carried is not None:
            self.lattices.append(carried)
        chosen = np.concatenate(direct)
        self.direct_mean = mean[chosen]
        self.direct_deviation = np.sqrt(variance[chosen])
        deviation = np.sqrt(variance)
        self.low = self.centre + float((mean - UNDERFLOW_REACH * deviation).min())
        self.high = self.centre + float((mean + UNDERFLOW_REACH * deviation).max())

    def evaluate(self, z: np.ndarray, cumulative: bool = True, integral: bool = False) -> Values:
        """Density at points z (M,); the two tail functions if `cumulative`; ∫F too if `integral` (implies both)."""
        z = np.asarray(z, dtype=np.float64).ravel() - self.centre
        cumulative = cumulative or integral
        order = None
        if len(z) > 1 and np.any(z[1:] < z[:-1]):
            order = np.argsort(z, kind="stable")
            z = z[order]
        out = np.zeros((4, len(z)))
        for lattice in self.lattices:
            lattice.add(z, out, cumulative, integral)
        if len(self.direct_mean):
            self._add_direct(z, out, cumulative, integral)
        if order is not None:
            unsorted = np.empty_like(out)
            unsorted[:, order] = out
            out = unsorted
        return Values(
            out[0],
            np.minimum(out[1], 1.0) if cumulative else None,
            np.minimum(out[2], 1.0) if cumulative else None,
            out[3] if integral else None,
        )

    def _add_direct(self, z: np.ndarray, out: np.ndarray, cumulative: bool, integral: bool) -> None:
        """Pairs within 38 standard deviations; components wholly below a point count 1 in F, those above in 1 − F."""
        mean, deviation, m = self.direct_mean, self.direct_deviation, len(z)
        first = np.searchsorted(z, mean - UNDERFLOW_REACH * deviation)
        last = np.searchsorted(z, mean + UNDERFLOW_REACH * deviation, side="right")
        weight = 1.0 / self.n
        if cumulative:
            below = np.cumsum(np.bincount(last, minlength=m + 1)[:m])
            above = len(mean) - np.cumsum(np.bincount(first, minlength=m + 1)[:m])
            out[1] += weight * below
            out[2] += weight * above
        if integral:
            moment = np.cumsum(np.bincount(last, weights=mean, minlength=m + 1)[:m])
            out[3] += weight * (below * z - moment)
        count = last - first
        ends = np.cumsum(count)
        start = 0
        while start < len(mean):
            done = ends[start - 1] if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, done + PAIRS, side="right")))
            inside = count[start:stop]
            component = np.repeat(np.arange(start, stop), inside)
            if len(component):
                offset = np.arange(len(component)) - np.repeat(np.cumsum(inside) - inside, inside)
                point = first[component] + offset
                sigma = deviation[component]
                distance = z[point] - mean[component]
                t = distance / sigma
                density = np.exp(-0.5 * t * t) / (ROOT_TWO_PI * sigma)
                out[0] += weight * np.bincount(point, weights=density, minlength=m)
                if cumulative:
                    lower = ndtr(t)
                    out[1] += weight * np.bincount(point, weights=lower, minlength=m)
                    out[2] += weight * np.bincount(point, weights=ndtr(-t), minlength=m)
                    if integral:
                        value = distance * lower + sigma * sigma * density
                        out[3] += weight * np.bincount(point, weights=value, minlength=m)
            start = stop

    def panels(self, low: float, high: float) -> np.ndarray:
        """Sorted breakpoints over [low, high] and all components, at most 2σ apart near each of these.

        Panels are dyadic and aligned, so that those of different octaves nest. Where no component is within 8.5σ and
        outside of [low, high] panels may be long: the density vanishes there. Breakpoints inside [low, high] are at
        most 1 apart, for the standard normal density.
        """
        points = [np.arange(np.floor(low), np.ceil(high) + 1)]
        for base, mean in self.octaves:
            width = float(2.0 ** np.floor(np.log2(2 * np.sqrt(2 * base))))
            cell = np.unique(np.floor((mean + self.centre) / width))
            reach = int(np.ceil(EVALUATION_REACH * 2 * np.sqrt(base) / width))
            # Runs of neighbouring cells are widened as a whole, which keeps dense octaves cheap.
            gap = np.flatnonzero(np.diff(cell) > 2 * reach + 1)
            first = cell[np.concatenate([[0], gap + 1])] - reach
            last = cell[np.concatenate([gap, [len(cell) - 1]])] + reach + 1
            count = (last - first + 1).astype(np.int64)
            start = np.repeat(first, count)
            step = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
            points.append((start + step) * width)
        return np.unique(np.concatenate(points))


class _Lattice:
    """One octave as positive weights on a lattice of Gaussians of equal variance."""

    def __init__(self, parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]], base: float, spacing: float) -> None:
        """parts: means, variances ≥ 2·base and weights, each part with variances of similar size."""
        self.base = base
        self.sigma = np.sqrt(base)
        self.spacing = spacing
        self.reach = int(np.ceil(EVALUATION_REACH * self.sigma / spacing))
        nearest = [np.rint(mean / spacing).astype(np.int64) for mean, _, _ in parts]
        spreads = [int(np.ceil(WEIGHT_REACH * np.sqrt(variance.max() - base) / spacing)) for _, variance, _ in parts]
        # Zeros on both sides, so that a point beyond the lattice finds a whole window there.
        zeros = 2 * self.reach + 2
        self.origin = min(int(k.min()) - spread for k, spread in zip(nearest, spreads, strict=True)) - zeros
        end = max(int(k.max()) + spread for k, spread in zip(nearest, spreads, strict=True)) + zeros
        self.length = length = end - self.origin + 1
        weights = np.zeros(length)
        for part, k, spread in zip(parts, nearest, spreads, strict=True):
            self._spread(*part, k, spread, weights)
        self.weights = weights
        position = (self.origin + np.arange(length)) * spacing
        # Sums over all lattice points before index k (below), from k on (above), and of weight × position before k.
        self.below = np.concatenate([[0.0], np.cumsum(weights)])
        self.above = np.concatenate([np.cumsum(weights[::-1])[::-1], [0.0]])
        self.moment = np.concatenate([[0.0], np.cumsum(weights * position)])
        self.windows = np.lib.stride_tricks.sliding_window_view(weights, 2 * self.reach + 1)

    def _spread(
        self, mean: np.ndarray, variance: np.ndarray, weight: np.ndarray, nearest: np.ndarray, spread: int,
        weights: np.ndarray,
    ) -> None:  # fmt: skip
        """Add h N(x_k; μ, s − a) · weight to the lattice's weights, out to `spread` points from each mean."""
        spacing = self.spacing
        offsets = np.arange(-spread, spread + 1)
        # ln of a weight is quadratic in the offset: a product of three columns by three rows gives a chunk of them.
        powers = np.stack([offsets**2, offsets, np.ones_like(offsets)]).astype(np.float64)
        order = np.argsort(nearest, kind="stable")
        index = nearest[order] - self.origin
        shift = mean[order] - nearest[order] * spacing
        narrow = variance[order] - self.base
        constant = np.log(weight[order] * spacing / (ROOT_TWO_PI * np.sqrt(narrow))) - 0.5 * shift**2 / narrow
        logarithm = np.stack([-0.5 * spacing**2 / narrow, spacing * shift / narrow, constant], axis=1)
        chunk = max(1, 2**15 // len(offsets))
        for start in range(0, len(mean), chunk):
            table = logarithm[start : start + chunk] @ powers
            np.maximum(table, -700.0, out=table)
            np.exp(table, out=table)
            cell = index[start : start + chunk]
            # Components that share a lattice point are added up first, row by row.
            first = np.flatnonzero(np.diff(cell, prepend=-1))
            rows = np.add.reduceat(table, first)
            low = int(cell[0]) - spread
            where = (cell[first] - low)[:, None] + offsets
            part = np.bincount(where.ravel(), weights=rows.ravel())
            weights[low : low + len(part)] += part

    def components(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Means, variances and weights of the lattice's points that carry mass."""
        index = np.flatnonzero(self.weights > 1e-40)
        return (self.origin + index) * self.spacing, np.full(len(index), self.base), self.weights[index]

    def add(self, z: np.ndarray, out: np.ndarray, cumulative: bool, integral: bool) -> None:
        """Add this octave's part at sorted points z (M,) to out (4, M)."""
        chunk = max(1, 2**15 // self.windows.shape[1])
        offsets = np.arange(-self.reach, self.reach + 1) * self.spacing
        last = len(self.windows) - 1
        for start in range(0, len(z), chunk):
            part = slice(start, start + chunk)
            z_part = z[part]
            # The window's first index; a point beyond the lattice takes the outermost window, whose weights are 0.
            position = np.clip(np.rint(z_part / self.spacing) - self.origin - self.reach, 0, last)
            window = position.astype(np.int64)
            weights = self.windows[window]
            middle = z_part - (position + (self.origin + self.reach)) * self.spacing
            distance = middle[:, None] - offsets
            # Only windows of zeros are farther away than this; beyond 38 the exponential would be denormal and slow.
            t = np.clip(distance / self.sigma, -UNDERFLOW_REACH, UNDERFLOW_REACH)
            density = np.exp(-0.5 * t * t)
            out[0, part] += np.einsum("ij,ij->i", weights, density) / (ROOT_TWO_PI * self.sigma)
            if not cumulative:
                continue
            tail = ndtr(-np.abs(t))
            lower = np.where(t < 0, tail, 1.0 - tail)
            upper = np.where(t < 0, 1.0 - tail, tail)
            below = self.below[window]
            out[1, part] += np.einsum("ij,ij->i", weights, lower) + below
            out[2, part] += np.einsum("ij,ij->i", weights, upper) + self.above[window + len(offsets)]
            if integral:
                inside = distance * lower + self.sigma * density / ROOT_TWO_PI
                out[3, part] += np.einsum("ij,ij->i", weights, inside)
                out[3, part] += below * z_part - self.moment[window]


def _short(x: float) -> float:
    """x rounded down to eight binary digits, so that integer multiples of it are exact in float64."""
    mantissa, exponent = np.frexp(x)
    return float(np.ldexp(np.floor(mantissa * 256) / 256, exponent))
