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
(evaluation) and 7.5 (weights) standard deviations leaves out less than 1e-13 of the mass. Within one cell of the
lattice, the sum over these neighbours is a polynomial of degree 15 to the last digits: its Chebyshev coefficients are
the 33 weights times a constant matrix, so a point costs a matrix product and no exponential.

Components of an octave with few of them go to the next narrower one. Those that no lattice takes (outliers, very narrow
ones far apart) are summed directly over the pairs closer than 38 standard deviations, where float64 underflows. That is
exact, and fast unless most points lie inside most of those components. No variance is out of range.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.polynomial.chebyshev import chebvander
from scipy.special import ndtr

SPACING = 0.55
WEIGHT_REACH = 7.5
EVALUATION_REACH = 8.5
UNDERFLOW_REACH = 38.0
# An octave with fewer components than this has no lattice of its own.
FEW = 48
# A lattice may have this many points and four more for each component: 1 MiB.
LONGEST = 2**17
PAIRS = 2**17
EVALUATED_AT_ONCE = 4096
# Chebyshev coefficients of a sum over neighbours within one cell. A neighbour at t standard deviations varies by
# exp(±0.275 t) there, so what is left out is below 1e-14 of it for t ≤ 6.5, and 1e-11 at 8.5.
DEGREES = 16
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
        self._centre = float(np.median(mean))
        # What is prepared is of z, what is asked for is of (z − shift)·scale; see `affine`.
        self._shift, self._scale = 0.0, 1.0
        mean = mean - self._centre
        self.n = len(mean)
        exponent = np.frexp(variance)[1]
        deviation = np.sqrt(variance)
        self.octaves: list[tuple[float, np.ndarray]] = []
        self.lattices: list[_Lattice] = []
        # From wide to narrow; `carried` is the lattice of the wider octaves, to be passed down where that is worth it,
        # and `pending` are components of wider octaves that were too few for a lattice.
        carried: _Lattice | None = None
        pending = np.empty(0, dtype=np.int64)
        for e in np.unique(exponent)[::-1]:
            member = np.flatnonzero(exponent == e)
            base = float(np.ldexp(1.0, int(e) - 2))  # s in [2a, 4a)
            self.octaves.append((base, mean[member]))
            spacing = _short(SPACING * np.sqrt(base))
            longest = spacing * (4 * len(member) + LONGEST)
            # Outliers, and much wider components, would stretch the lattice: only what is near the middle shares it.
            waiting = np.concatenate([pending, member])
            reach = np.abs(mean[waiting] - np.median(mean[member])) + WEIGHT_REACH * deviation[waiting]
            near = reach <= 0.5 * longest
            if near.sum() < FEW:
                pending = waiting
                continue
            pending = waiting[~near]
            shared = waiting[near]
            parts = [(mean[shared], variance[shared], np.full(len(shared), 1.0 / self.n))]
            if carried is not None:
                if carried.length * carried.spacing <= longest:
                    parts.append(carried.components())
                else:
                    self.lattices.append(carried)
            carried = _Lattice(parts, base, spacing)
        if carried is not None:
            self.lattices.append(carried)
        self.direct_mean = mean[pending]
        self.direct_deviation = deviation[pending]
        self._low = self._centre + float((mean - UNDERFLOW_REACH * deviation).min())
        self._high = self._centre + float((mean + UNDERFLOW_REACH * deviation).max())

    def affine(self, shift: float, scale: float) -> LineMixture:
        """The law of (z − shift)·scale, scale > 0, which shares everything that was prepared for this one."""
        moved = copy.copy(self)
        moved._shift = self._shift + shift / self._scale
        moved._scale = self._scale * scale
        return moved

    @property
    def centre(self) -> float:
        """The median of the means."""
        return self._outwards(self._centre)

    @property
    def low(self) -> float:
        """Below this point the distribution function is 0 in float64."""
        return self._outwards(self._low)

    @property
    def high(self) -> float:
        """Above this point the survival function is 0 in float64."""
        return self._outwards(self._high)

    def _outwards(self, z: np.ndarray | float) -> np.ndarray | float:
        return (z - self._shift) * self._scale

    def evaluate(self, z: np.ndarray, cumulative: bool = True, integral: bool = False) -> Values:
        """Density at points z (M,); the two tail functions if `cumulative`; ∫F too if `integral` (implies both)."""
        z = np.asarray(z, dtype=np.float64).ravel() / self._scale + (self._shift - self._centre)
        cumulative = cumulative or integral
        order = None
        if len(z) > 1 and np.any(z[1:] < z[:-1]):
            order = np.argsort(z)
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
        out[0] /= self._scale
        out[3] *= self._scale
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

    def forget(self) -> None:
        """Drop what is quickly made again; evaluation makes it."""
        for lattice in self.lattices:
            lattice.forget()

    def panels(self, low: float, high: float) -> np.ndarray:
        """Sorted breakpoints over [low, high] and all components, at most 4σ apart near each of these.

        Panels are dyadic and aligned, so that those of different octaves nest. Where no component is within 8.5σ and
        outside of [low, high] panels may be long: the density vanishes there. Breakpoints inside [low, high] are at
        most 1 apart, for the standard normal density.
        """
        points = [np.arange(np.floor(low), np.ceil(high) + 1)]
        for base, mean in self.octaves:
            width = float(2.0 ** np.floor(np.log2(4 * np.sqrt(2 * base))))
            cell = np.unique(np.floor((mean + self._centre) / width))
            reach = int(np.ceil(EVALUATION_REACH * 2 * np.sqrt(base) / width))
            # Runs of neighbouring cells are widened as a whole, which keeps dense octaves cheap.
            gap = np.flatnonzero(np.diff(cell) > 2 * reach + 1)
            first = cell[np.concatenate([[0], gap + 1])] - reach
            last = cell[np.concatenate([gap, [len(cell) - 1]])] + reach + 1
            count = (last - first + 1).astype(np.int64)
            start = np.repeat(first, count)
            step = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
            points.append(self._outwards((start + step) * width))
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
        self.windows = np.lib.stride_tricks.sliding_window_view(weights, 2 * self.reach + 1)

    @cached_property
    def below(self) -> np.ndarray:
        """Sums of the weights before each lattice point, (length + 1,)."""
        return np.concatenate([[0.0], np.cumsum(self.weights)])

    @cached_property
    def above(self) -> np.ndarray:
        """Sums of the weights from each lattice point on, (length + 1,), without cancellation."""
        return np.concatenate([np.cumsum(self.weights[::-1])[::-1], [0.0]])

    @cached_property
    def moment(self) -> np.ndarray:
        """Sums of weight × position before each lattice point, (length + 1,)."""
        position = (self.origin + np.arange(self.length)) * self.spacing
        return np.concatenate([[0.0], np.cumsum(self.weights * position)])

    def forget(self) -> None:
        """Drop the sums: they take three times the memory of the lattice, and no time to speak of."""
        for name in ("below", "above", "moment"):
            self.__dict__.pop(name, None)

    def _spread(
        self, mean: np.ndarray, variance: np.ndarray, weight: np.ndarray, nearest: np.ndarray, spread: int,
        weights: np.ndarray,
    ) -> None:  # fmt: skip
        """Add h N(x_k; μ, s − a) · weight to the lattice's weights, out to `spread` points from each mean."""
        spacing = self.spacing
        order = np.argsort(nearest)
        index = nearest[order] - self.origin
        shift = mean[order] - nearest[order] * spacing
        narrow = variance[order] - self.base
        height = weight[order] * spacing / (ROOT_TWO_PI * np.sqrt(narrow))
        chunk = max(1, 2**18 // (2 * spread + 1))
        for start in range(0, len(mean), chunk):
            part = slice(start, start + chunk)
            table = np.empty((2 * spread + 1, len(index[part])))
            for sign in (1, -1):
                _bell(height[part], sign * shift[part], narrow[part], spacing, table[spread::sign][: spread + 1])
            cell = index[part]
            # Components that share a lattice point are added up first.
            first = np.flatnonzero(np.diff(cell, prepend=-1))
            if len(first) < len(cell):
                table = np.add.reduceat(table, first, axis=1)
            where = cell[first] - spread
            for row in table:
                weights[where] += row
                where += 1

    def components(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Means, variances and weights of the lattice's points that carry mass."""
        index = np.flatnonzero(self.weights > 1e-40)
        return (self.origin + index) * self.spacing, np.full(len(index), self.base), self.weights[index]

    def add(self, z: np.ndarray, out: np.ndarray, cumulative: bool, integral: bool) -> None:
        """Add this octave's part at sorted points z (M,) to out (4, M)."""
        # The tail that is smaller at z is summed, the other is what remains: 0 is the median of the means.
        middle = int(np.searchsorted(z, 0.0))
        for first, stop in ((0, middle), (middle, len(z))):
            for start in range(first, stop, EVALUATED_AT_ONCE):
                self._add(z, slice(start, min(start + EVALUATED_AT_ONCE, stop)), first == 0, out, cumulative, integral)

    def _add(self, z: np.ndarray, part: slice, lower: bool, out: np.ndarray, cumulative: bool, integral: bool) -> None:
        kernels = _kernels(self.spacing / self.sigma, self.reach)
        z = z[part]
        # The window's first index; a point beyond the lattice takes the outermost window, whose weights are 0.
        position = np.clip(np.rint(z / self.spacing) - self.origin - self.reach, 0, len(self.windows) - 1)
        window = position.astype(np.int64)
        fresh = np.diff(window, prepend=-1) != 0
        cell = np.cumsum(fresh) - 1
        weights = self.windows[window[fresh]]
        x = (z - (position + (self.origin + self.reach)) * self.spacing) * (2 / self.spacing)
        basis = chebvander(np.clip(x, -1, 1), DEGREES - 1)

        def total(kernel: np.ndarray) -> np.ndarray:
            return np.einsum("ij,ij->i", (weights @ kernel)[cell], basis)

        out[0, part] += total(kernels[0]) / self.sigma
        if not cumulative:
            return
        if lower:
            tail = total(kernels[1]) + self.below[window]
            out[1, part] += tail
            out[2, part] += self.below[-1] - tail
        else:
            tail = total(kernels[2]) + self.above[window + self.windows.shape[1]]
            out[1, part] += self.above[0] - tail
            out[2, part] += tail
        if integral:
            out[3, part] += total(kernels[3]) * self.sigma + self.below[window] * z - self.moment[window]


def _bell(height: np.ndarray, shift: np.ndarray, variance: np.ndarray, spacing: float, out: np.ndarray) -> None:
    """height · exp(−(k·spacing − shift)²/(2·variance)) for k = 0, 1, …, the rows of `out`.

    The ratio of neighbours is geometric in k: two products a number instead of an exponential. Their rounding grows
    with the square of the steps, so every 32nd row is made anew.
    """
    square = np.exp(-(spacing**2) / variance)
    for k in range(len(out)):
        if k % 32 == 0:
            out[k] = height * np.exp(np.maximum(-0.5 * (k * spacing - shift) ** 2 / variance, -700.0))
            ratio = np.exp((-(k + 0.5) * spacing**2 + spacing * shift) / variance)
            continue
        np.multiply(out[k - 1], ratio, out=out[k])
        ratio *= square


@lru_cache
def _kernels(ratio: float, reach: int) -> tuple[np.ndarray, ...]:
    """φ, Φ, 1 − Φ and ∫Φ of (x/2 − k)·ratio as polynomials in x ∈ [−1, 1], for the neighbours k = −reach … reach.

    Each (2·reach + 1, DEGREES), Chebyshev coefficients by interpolation at Chebyshev's points.
    """
    x = np.cos(np.pi * (np.arange(DEGREES) + 0.5) / DEGREES)
    t = ratio * (0.5 * x - np.arange(-reach, reach + 1)[:, None])
    density = np.exp(-0.5 * t * t) / ROOT_TWO_PI
    interpolation = chebvander(x, DEGREES - 1) * (2 / DEGREES)
    interpolation[:, 0] *= 0.5
    return tuple(values @ interpolation for values in (density, ndtr(t), ndtr(-t), t * ndtr(t) + density))


def _short(x: float) -> float:
    """x rounded down to eight binary digits, so that integer multiples of it are exact in float64."""
    mantissa, exponent = np.frexp(x)
    return float(np.ldexp(np.floor(mantissa * 256) / 256, exponent))
