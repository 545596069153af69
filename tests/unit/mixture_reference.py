"""Slow, plain answers to 50 digits, and hypothesis strategies, for the tests of the statistics modules."""

import mpmath
import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

# The same examples in every run, and few enough that all property tests together take seconds.
PROFILE = settings(derandomize=True, max_examples=40, deadline=None, database=None)
DIGITS = 50


def exact_moments(mean: np.ndarray, variance: np.ndarray) -> dict[str, list]:
    """Moments of a mixture per dimension, from conditional moments, in 50-digit arithmetic."""
    result: dict[str, list] = {}
    with mpmath.workdps(DIGITS):
        for mu, s in zip(np.asarray(mean, dtype=float).T, np.asarray(variance, dtype=float).T, strict=True):
            mu, s = [mpmath.mpf(float(x)) for x in mu], [mpmath.mpf(float(x)) for x in s]
            n = len(mu)
            m = sum(mu) / n
            u = [x - m for x in mu]
            second = sum(a**2 + b for a, b in zip(u, s, strict=True)) / n
            third = sum(a**3 + 3 * a * b for a, b in zip(u, s, strict=True)) / n
            fourth = sum(a**4 + 6 * a**2 * b + 3 * b**2 for a, b in zip(u, s, strict=True)) / n
            a_ = sum(a**2 for a in u) / n
            b_ = sum(s) / n
            one = {
                "mean": m,
                "variance": second,
                "second_moment": second + m**2,
                "skewness": third / second ** mpmath.mpf("1.5"),
                "kurtosis": fourth / second**2,
                "variance_of_means": a_,
                "mean_variance": b_,
                "term_means": (sum(a**4 for a in u) / n - 3 * a_**2) / second**2,
                "term_covariance": 6 * (sum(a**2 * b for a, b in zip(u, s, strict=True)) / n - a_ * b_) / second**2,
                "term_scale": 3 * (sum(b**2 for b in s) / n - b_**2) / second**2,
                "kl": sum(x**2 + b - 1 - mpmath.log(b) for x, b in zip(mu, s, strict=True)) / (2 * n),
            }
            for name, value in one.items():
                result.setdefault(name, []).append(value)
    return result


def exact_log_density(mean: np.ndarray, variance: np.ndarray, z: np.ndarray) -> np.ndarray:
    """ln Q(z) in 50-digit arithmetic, rounded to float64 at the end."""
    out = []
    with mpmath.workdps(DIGITS):
        for point in z:
            total = mpmath.mpf(0)
            for mu, s in zip(np.asarray(mean, dtype=float), np.asarray(variance, dtype=float), strict=True):
                exponent = mpmath.mpf(0)
                for x, a, b in zip(point, mu, s, strict=True):
                    b = mpmath.mpf(float(b))
                    exponent -= (mpmath.mpf(float(x)) - mpmath.mpf(float(a))) ** 2 / b / 2
                    exponent -= mpmath.log(2 * mpmath.pi * b) / 2
                total += mpmath.exp(exponent)
            out.append(float(mpmath.log(total / len(mean))))
    return np.array(out)


def relative_error(value: np.ndarray, exact: list) -> float:
    """The largest |value − exact| / |exact| over dimensions, measured in 50 digits; exact zeros count absolutely."""
    with mpmath.workdps(DIGITS):
        errors = [
            abs(mpmath.mpf(float(v)) - e) / (abs(e) if e != 0 else 1)
            for v, e in zip(np.atleast_1d(value), exact, strict=True)
        ]
        return float(max(errors))


@st.composite
def mixtures(draw, max_rows: int = 12, max_dimensions: int = 3):
    """Means in [−3, 3] and variances in [0.01, 4] of a small mixture."""
    n, d = draw(st.integers(1, max_rows)), draw(st.integers(1, max_dimensions))
    mean = draw(arrays(np.float64, (n, d), elements=st.floats(-3, 3)))
    log_variance = draw(arrays(np.float64, (n, d), elements=st.floats(-4.6, 1.4)))
    return mean, np.exp(log_variance)
