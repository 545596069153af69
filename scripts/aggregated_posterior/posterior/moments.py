"""Moments of Q(z): what they are called, and how those of blocks of data become those of all."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np


@dataclass(frozen=True)
class Moments:
    """Exact moments of Q(z) per latent dimension; every field is a (d,) float64 array.

    With A = Var(μ), B = E[s], V = A + B and μ centred (law of total cumulance, conditional cumulants μ, s, 0, 0):

        κ₃ = κ₃(μ) + 3 Cov(μ, s),    kurtosis − 3 = (A/V)² · excess kurtosis(μ) + 6 Cov(μ², s)/V² + 3 Var(s)/V²

    `term_means`, `term_covariance` and `term_scale` are those three terms, in this order. `second_moment` is
    E[z²] = E[μ²] + E[s]. Variances are those of the mixture itself (division by N).
    """

    mean: np.ndarray
    variance: np.ndarray
    second_moment: np.ndarray
    skewness: np.ndarray
    kurtosis: np.ndarray
    variance_of_means: np.ndarray
    mean_variance: np.ndarray
    term_means: np.ndarray
    term_covariance: np.ndarray
    term_scale: np.ndarray

    @property
    def excess_kurtosis(self) -> np.ndarray:
        """kurtosis − 3, formed from its three terms, so without the rounding of adding and removing 3."""
        return self.term_means + self.term_covariance + self.term_scale

    @property
    def kurtosis_bound(self) -> np.ndarray:
        """The lower bound (A + √3·B)²/V² that the kurtosis of every such mixture obeys."""
        bound = self.variance_of_means + np.sqrt(3.0) * self.mean_variance
        return (bound / self.variance) ** 2

    def affine(self, shift: np.ndarray, scale: np.ndarray) -> Moments:
        """The moments of (z − shift)·scale, (d,) each, in closed form."""
        mean, square = (self.mean - shift) * scale, scale**2
        variance = self.variance * square
        return replace(
            self,
            mean=mean,
            variance=variance,
            second_moment=mean**2 + variance,
            skewness=self.skewness * np.sign(scale),
            variance_of_means=self.variance_of_means * square,
            mean_variance=self.mean_variance * square,
        )


def excess_over_log(x: np.ndarray) -> np.ndarray:
    """x − 1 − ln x ≥ 0, to full relative accuracy also near x = 1, where the plain form loses every digit.

    With e = x − 1 and y = e/(2 + e): ln x = 2 artanh y and e − 2y = e·y, so the value is e·y − 2(y³/3 + y⁵/5 + …).
    """
    x = np.asarray(x, dtype=np.float64)
    e = x - 1.0
    value = e - np.log(x)
    near = np.abs(e) < 0.01
    if near.any():
        e_near = e[near]
        y = e_near / (2.0 + e_near)
        y2 = y * y
        series = y2 * (1 / 3 + y2 * (1 / 5 + y2 * (1 / 7 + y2 / 9)))
        value[near] = y * (e_near - 2.0 * series)
    return value


def merge_blocks(count: np.ndarray, centre: np.ndarray, sums: np.ndarray) -> Moments:
    """Merge block sums into moments. count (B, 1), centre (B, 2, d) of means and variances, sums (B, 8, d) about it."""
    n = count.sum()
    s1, t1, s2, s3, s4, st, s2t, t2 = np.moveaxis(sums, 1, 0)
    # Where the block's own centre missed its mean by rounding, move to the mean (r, q are of the size of rounding).
    r, q = s1 / count, t1 / count
    m2 = s2 - count * r**2
    m3 = s3 - 3 * r * s2 + 2 * count * r**3
    m4 = s4 - 4 * r * s3 + 6 * r**2 * s2 - 3 * count * r**4
    m11 = st - count * r * q
    m21 = s2t - q * s2 - 2 * r * st + 2 * count * r**2 * q
    t2 = t2 - count * q**2
    # Offsets δ, η of each block's mean from the grand mean, formed as differences so that a common offset drops out.
    delta = (centre[:, 0] - centre[0, 0]) + r
    eta = (centre[:, 1] - centre[0, 1]) + q
    mean_delta = (count * delta).sum(axis=0) / n
    mean_eta = (count * eta).sum(axis=0) / n
    delta = delta - mean_delta
    eta = eta - mean_eta
    a = (m2 + count * delta**2).sum(axis=0) / n
    third = (m3 + 3 * delta * m2 + count * delta**3).sum(axis=0) / n
    fourth = (m4 + 4 * delta * m3 + 6 * delta**2 * m2 + count * delta**4).sum(axis=0) / n
    cross = (m11 + count * delta * eta).sum(axis=0) / n
    square_cross = (m21 + eta * m2 + 2 * delta * m11 + count * delta**2 * eta).sum(axis=0) / n
    spread = (t2 + count * eta**2).sum(axis=0) / n
    mean = centre[0, 0] + mean_delta
    b = centre[0, 1] + mean_eta
    v = a + b
    term_means = (fourth - 3 * a**2) / v**2
    term_covariance = 6 * square_cross / v**2
    term_scale = 3 * spread / v**2
    return Moments(
        mean=mean,
        variance=v,
        second_moment=mean**2 + v,
        skewness=(third + 3 * cross) / v**1.5,
        kurtosis=3.0 + (term_means + term_covariance + term_scale),
        variance_of_means=a,
        mean_variance=b,
        term_means=term_means,
        term_covariance=term_covariance,
        term_scale=term_scale,
    )
