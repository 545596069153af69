"""Q(z) one latent dimension at a time, exactly: density, distribution function, quantiles and distances to N(0, 1).

    q_j(z) = E_n φ((z − μ)/σ)/σ,    F_j(z) = E_n Φ((z − μ)/σ)

Distances are effect sizes. There are no p-values: the mixture is not a sample of anything, and with N = 60 000
everything would be "significant".
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import legendre
from scipy.special import ndtr, ndtri

from ..posterior.mixture import AggregatedPosterior
from .line_mixture import LineMixture

ROOT_TWO_PI = np.sqrt(2 * np.pi)
# The standard normal is covered out to here: 2e-19 of its mass lies beyond.
NORMAL_REACH = 9.0
ORDER = 16
NODES, WEIGHTS = legendre.leggauss(ORDER)
# Maps values at the nodes to the last two Legendre coefficients, whose size tells whether a panel is resolved.
LAST_COEFFICIENTS = (
    legendre.legvander(NODES, ORDER - 1)[:, -2:] * WEIGHTS[:, None] * (np.arange(ORDER - 2, ORDER) + 0.5)
)
PANELS_AT_ONCE = 2048
SPLITS = 10
# Relative differences of densities below this are rounding and lattice error , not crossings.
NOISE = 1e-11


@dataclass(frozen=True)
class Distances:
    """Distances of each marginal to N(0, 1), each (d,): kl in nats, ks and tv in [0, 1], w1 and w2 in units of z."""

    kl: np.ndarray
    ks: np.ndarray
    w1: np.ndarray
    w2: np.ndarray
    tv: np.ndarray


class Marginals:
    """The d one-dimensional marginals of Q(z).

    Points and probabilities may be (M,), the same for every dimension, or (M, d), one column per dimension; results are
    (M, d). Values agree with the direct sum over all components to 1e-12 relative (tails below 1e-13 of the mass
    absolutely); see `line_mixture`. Memory is a few N-vectors while a dimension is prepared, and then the lattices.

    Args:
        q: the mixture; or its means (N, d) with
        variance: its variances (N, d).
    """

    def __init__(self, q: AggregatedPosterior | np.ndarray, variance: np.ndarray | None = None) -> None:
        self.q = q if isinstance(q, AggregatedPosterior) else AggregatedPosterior(q, variance)
        self.lines = [
            LineMixture(
                np.ascontiguousarray(self.q.mean[:, j], dtype=np.float64),
                np.ascontiguousarray(self.q.variance[:, j], dtype=np.float64),
            )
            for j in range(self.latent_dim)
        ]
        self._tables: list[tuple[np.ndarray, ...] | None] = [None] * self.latent_dim

    @property
    def latent_dim(self) -> int:
        """Number of latent dimensions d."""
        return self.q.latent_dim

    def affine(self, shift: np.ndarray, scale: np.ndarray) -> Marginals:
        """The marginals of (z − shift)·scale, (d,) each and scale > 0, which share what was prepared for these."""
        lines = [line.affine(t, a) for line, t, a in zip(self.lines, shift, scale, strict=True)]
        return self._of(self.q.affine(shift, scale), lines)

    def select(self, dimensions: list[int]) -> Marginals:
        """The marginals of some dimensions, in the order given."""
        return self._of(self.q.select(dimensions), [self.lines[j] for j in dimensions])

    @classmethod
    def _of(cls, q: AggregatedPosterior, lines: list[LineMixture]) -> Marginals:
        other = cls.__new__(cls)
        other.q, other.lines, other._tables = q, lines, [None] * len(lines)
        return other

    def pdf(self, z: np.ndarray) -> np.ndarray:
        """Densities q_j(z), (M, d), for points (M,) or (M, d)."""
        return self._each(z, lambda line, x: line.evaluate(x, cumulative=False).pdf)

    def cdf(self, z: np.ndarray) -> np.ndarray:
        """Distribution functions F_j(z), (M, d)."""
        return self._each(z, lambda line, x: line.evaluate(x).cdf)

    def quantile(self, p: np.ndarray) -> np.ndarray:
        """Quantiles F_j⁻¹(p), (M, d); p in [0, 1], where 0 and 1 give −∞ and +∞.

        Newton steps from a cubic table, kept inside a bracket; the residual in p is at most 1e-13 relative to
        min(p, 1 − p) where the density is not flat.

        Raises:
            ValueError: a probability outside [0, 1] or NaN.
        """
        p = np.asarray(p, dtype=np.float64)
        if not np.all((p >= 0) & (p <= 1)):
            raise ValueError("probabilities must lie in [0, 1]")
        columns = [self._invert(j, p if p.ndim == 1 else p[:, j]) for j in range(self.latent_dim)]
        return np.stack(columns, axis=1)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """n draws from the product Π_j q_j, (n, d): each dimension takes its own component, so dependence is lost."""
        index = rng.integers(self.q.n, size=(n, self.latent_dim))
        mean = np.take_along_axis(np.asarray(self.q.mean, dtype=np.float64), index, axis=0)
        variance = np.take_along_axis(np.asarray(self.q.variance, dtype=np.float64), index, axis=0)
        return mean + np.sqrt(variance) * rng.standard_normal((n, self.latent_dim))

    def distances(self) -> Distances:
        """Distances of every marginal to N(0, 1); see `distances_of_line` for the formulas."""
        columns = []
        for line in self.lines:
            columns.append(distances_of_line(line))
            line.forget()
        return Distances(*np.array(columns).T)

    def _each(self, z: np.ndarray, function) -> np.ndarray:
        z = np.asarray(z, dtype=np.float64)
        if z.ndim not in (1, 2) or (z.ndim == 2 and z.shape[1] != self.latent_dim):
            raise ValueError(f"points have shape {z.shape}, expected (M,) or (M, {self.latent_dim})")
        return np.stack([function(line, z if z.ndim == 1 else z[:, j]) for j, line in enumerate(self.lines)], axis=1)

    def _table(self, j: int) -> tuple[np.ndarray, ...]:
        """Points, F and 1 − F of one dimension, dense enough to start Newton's method from; made once."""
        if self._tables[j] is None:
            line = self.lines[j]
            breaks = line.panels(line.centre, line.centre)
            if len(breaks) > 50_000:  # very many separate spikes: a coarser table only means more steps
                breaks = breaks[:: len(breaks) // 50_000]
            inner = breaks[:-1, None] + np.diff(breaks)[:, None] * np.linspace(0, 1, 16, endpoint=False)
            z = np.unique(np.concatenate([[line.low], inner.ravel(), breaks[-1:], [line.high]]))
            values = line.evaluate(z)
            self._tables[j] = (z, values.pdf, values.cdf, values.sf)
        return self._tables[j]

    def _invert(self, j: int, p: np.ndarray) -> np.ndarray:
        line = self.lines[j]
        z_table, pdf, cdf, sf = self._table(j)
        upper = p > 0.5
        target = np.where(upper, 1.0 - p, p)
        # Cell of the table with F(z_i) ≤ p ≤ F(z_{i+1}), found on the side where the numbers are small.
        cell = np.searchsorted(cdf, p, side="right") - 1
        cell[upper] = len(sf) - 1 - np.searchsorted(sf[::-1], target[upper], side="left")
        cell = np.clip(cell, 0, len(z_table) - 2)
        low, high = z_table[cell], z_table[cell + 1]
        width = high - low
        z = _cubic_start(cell, target, upper, z_table, pdf, cdf, sf)
        z = np.where((z > low) & (z < high), z, 0.5 * (low + high))
        todo = np.flatnonzero(target > 0)
        for _ in range(200):
            if not len(todo):
                break
            values = line.evaluate(z[todo])
            sign = np.where(upper[todo], -1.0, 1.0)
            residual = sign * (np.where(upper[todo], values.sf, values.cdf) - target[todo])
            # F(z) − p > 0 means that the quantile lies below z.
            high[todo] = np.where(residual >= 0, z[todo], high[todo])
            low[todo] = np.where(residual <= 0, z[todo], low[todo])
            with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
                step = residual / values.pdf
            newton = z[todo] - step
            inside = (newton >= low[todo]) & (newton <= high[todo])
            following = np.where(inside, newton, 0.5 * (low[todo] + high[todo]))
            scale = np.abs(z[todo] - line.centre) + 1e-300
            done = (np.abs(residual) <= 1e-14 * target[todo]) | (np.abs(following - z[todo]) <= 4e-16 * scale)
            done |= high[todo] - low[todo] <= 4e-16 * np.maximum(scale, np.abs(z[todo]))
            # Newton's method squares the error: after a step this short there is nothing left to find.
            done |= inside & (np.abs(step) <= 3e-7 * width[todo])
            z[todo] = np.where(np.abs(residual) <= 1e-14 * target[todo], z[todo], following)
            todo = todo[~done]
        z[p == 0], z[p == 1] = -np.inf, np.inf
        return z


def _cubic_start(
    cell: np.ndarray, target: np.ndarray, upper: np.ndarray,
    z: np.ndarray, pdf: np.ndarray, cdf: np.ndarray, sf: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """z as a cubic Hermite function of F within a table's cell, with dz/dF = 1/q at its ends."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        left = np.where(upper, sf[cell] - target, target - cdf[cell])
        length = np.where(upper, sf[cell] - sf[cell + 1], cdf[cell + 1] - cdf[cell])
        t = left / length
        z0, z1 = z[cell], z[cell + 1]
        slope0, slope1 = length / pdf[cell], length / pdf[cell + 1]
        return (
            z0 * (1 + 2 * t) * (1 - t) ** 2 + slope0 * t * (1 - t) ** 2
            + z1 * t * t * (3 - 2 * t) + slope1 * t * t * (t - 1)
        )  # fmt: skip


def distances_of_line(line: LineMixture) -> tuple[float, float, float, float, float]:
    """KL, KS, W1, W2 and total variation of a one-dimensional mixture q from N(0, 1).

        KL = ∫ q ln(q/φ) − q + φ dz          (both integrate to 1; this integrand is never negative)
        TV = ½ ∫ |q − φ| dz,  KS = max |F − Φ|   from the roots of q − φ, where F − Φ has its extremes
        W1 = ∫ |F − Φ| dz                    from the roots of F − Φ and the closed form of ∫F
        W2² = ∫ (z − Φ⁻¹(F(z)))² q(z) dz     (the quantile coupling, written over z instead of p)

    KL and W2 use Gauss–Legendre panels that are fine where components are, and that are halved until the last Legendre
    coefficients vanish; TV, KS and W1 need no quadrature. Errors: about 1e-11 absolute (1e-10
    for W2, a root) or 1e-10 relative, whichever is larger.
    """
    breaks = line.panels(-NORMAL_REACH, NORMAL_REACH)
    kl = w2_square = 0.0
    largest = 0.0
    density_brackets, cumulative_brackets = [], []
    carry: tuple[np.ndarray, ...] = (np.empty(0), np.empty(0), np.empty(0))
    for start in range(0, len(breaks) - 1, PANELS_AT_ONCE):
        edges = breaks[start : start + PANELS_AT_ONCE + 1]
        z, weight, q, cdf, sf = _resolve(line, edges[:-1], edges[1:])
        kl += float(weight @ _kl_integrand(z, q))
        w2_square += float(weight @ _coupling_integrand(z, q, cdf, sf))
        order = np.argsort(z, kind="stable")
        z, q, difference = z[order], q[order], _cdf_difference(z, cdf, sf)[order]
        largest = max(largest, float(np.abs(difference).max()))
        normal = _phi(z)
        excess = np.where(np.abs(q - normal) <= NOISE * (q + normal), 0.0, q - normal)
        difference = np.where(np.abs(difference) <= 1e-14, 0.0, difference)
        z, excess, difference = (
            np.concatenate([old, new]) for old, new in zip(carry, (z, excess, difference), strict=True)
        )
        density_brackets.append(_sign_changes(z, excess))
        cumulative_brackets.append(_sign_changes(z, difference))
        # The last points that are not zero open the next chunk, so that no crossing falls between chunks.
        keep = np.array(sorted({_last_nonzero(excess), _last_nonzero(difference)} - {-1}), dtype=np.int64)
        carry = (z[keep], excess[keep], difference[keep])
    crossings = _roots(
        lambda x: line.evaluate(x, cumulative=False).pdf - _phi(x), np.concatenate(density_brackets, axis=1)
    )
    values = line.evaluate(crossings)
    extremes = np.concatenate([[0.0], _cdf_difference(crossings, values.cdf, values.sf), [0.0]])
    ks = max(largest, float(np.abs(extremes).max()))
    tv = 0.5 * float(np.abs(np.diff(extremes)).sum())

    def cumulative_difference(x: np.ndarray) -> np.ndarray:
        at = line.evaluate(x)
        return _cdf_difference(x, at.cdf, at.sf)

    zeros = _roots(cumulative_difference, np.concatenate(cumulative_brackets, axis=1))
    ends = np.concatenate([[breaks[0]], zeros, [breaks[-1]]])
    integral = line.evaluate(ends, integral=True).integral - (ends * ndtr(ends) + _phi(ends))
    w1 = float(np.abs(np.diff(integral)).sum())
    return max(kl, 0.0), ks, w1, float(np.sqrt(max(w2_square, 0.0))), min(tv, 1.0)


def _phi(z: np.ndarray) -> np.ndarray:
    return np.exp(-0.5 * np.minimum(z * z, 1400.0)) / ROOT_TWO_PI


def _cdf_difference(z: np.ndarray, cdf: np.ndarray, sf: np.ndarray) -> np.ndarray:
    """F − Φ, formed from the tails above 0 so that it does not cancel there."""
    return np.where(z <= 0, cdf - ndtr(z), ndtr(-z) - sf)


def _kl_integrand(z: np.ndarray, q: np.ndarray) -> np.ndarray:
    log_normal = -0.5 * z * z - np.log(ROOT_TWO_PI)
    positive = q > 0
    log_q = np.log(np.where(positive, q, 1.0))
    return np.where(positive, q * (log_q - log_normal) - q, 0.0) + _phi(z)


def _coupling_integrand(z: np.ndarray, q: np.ndarray, cdf: np.ndarray, sf: np.ndarray) -> np.ndarray:
    lower = cdf <= 0.5
    tail = np.where(lower, cdf, sf)
    inside = (q > 0) & (tail > 0)
    image = ndtri(np.where(inside, tail, 0.5))
    return np.where(inside, (z - np.where(lower, image, -image)) ** 2 * q, 0.0)


def _resolve(line: LineMixture, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, ...]:
    """Nodes, weights, q, F and 1 − F on panels, halving those where either integrand is not resolved."""
    done: list[tuple[np.ndarray, ...]] = []
    for split in range(SPLITS + 1):
        half = 0.5 * (high - low)
        z = 0.5 * (low + high)[:, None] + half[:, None] * NODES
        values = line.evaluate(z.ravel())
        q, cdf, sf = (v.reshape(z.shape) for v in (values.pdf, values.cdf, values.sf))
        rough = np.zeros(len(low), dtype=bool)
        if split < SPLITS:
            for integrand in (_kl_integrand(z, q), _coupling_integrand(z, q, cdf, sf)):
                # A Gauss rule is exact to twice the degree, so its error is about the square of the last coefficients.
                tail = np.abs(integrand @ LAST_COEFFICIENTS).sum(axis=1)
                size = np.abs(integrand).max(axis=1)
                rough |= half * tail**2 > 1e-14 * size
        fine = ~rough
        done.append(tuple(a[fine].ravel() for a in (z, np.broadcast_to(WEIGHTS, z.shape) * half[:, None], q, cdf, sf)))
        if not rough.any():
            break
        middle = 0.5 * (low + high)[rough]
        low, high = np.concatenate([low[rough], middle]), np.concatenate([middle, high[rough]])
    return tuple(np.concatenate(parts) for parts in zip(*done, strict=True))


def _last_nonzero(value: np.ndarray) -> int:
    index = np.flatnonzero(value)
    return int(index[-1]) if len(index) else -1


def _sign_changes(z: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Brackets (low, high, value low, value high), (4, R), of a tabulated function's sign changes, zeros skipped."""
    index = np.flatnonzero(value)
    z, value = z[index], value[index]
    change = np.flatnonzero(value[1:] * np.sign(value[:-1]) < 0)
    return np.stack([z[change], z[change + 1], value[change], value[change + 1]])


def _roots(function, brackets: np.ndarray) -> np.ndarray:
    """One root in each bracket (4, R), by the Illinois method: sorted, accurate to about 1e-8 of the bracket.

    That is enough: at a root the quantities wanted are stationary, so their error is its square. By hand, because
    `scipy.optimize.elementwise.find_root` takes 1.8–2.1 times as long to the same accuracy.
    """
    low, high, f_low, f_high = (a.copy() for a in brackets)
    side = np.zeros(len(low))
    for _ in range(6 if len(low) else 0):
        x = np.clip((low * f_high - high * f_low) / (f_high - f_low), low, high)
        f = function(x)
        same = np.sign(f) == np.sign(f_high)
        f_low = np.where(same & (side == 1), 0.5 * f_low, f_low)
        f_high = np.where(~same & (side == -1), 0.5 * f_high, f_high)
        high, f_high = np.where(same, x, high), np.where(same, f, f_high)
        low, f_low = np.where(same, low, x), np.where(same, f_low, f)
        side = np.where(same, 1.0, -1.0)
        exact = f == 0
        low, high = np.where(exact, x, low), np.where(exact, x, high)
        f_low, f_high = np.where(exact, -1.0, f_low), np.where(exact, 1.0, f_high)
    if not len(low):
        return low
    return np.sort(np.clip((low * f_high - high * f_low) / (f_high - f_low), low, high))
