"""What a model of a control shows, beside the closed-form answer: for the very data it was trained on, or by design."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..data.controls import MIXTURE_CONTROL
from ..statistics.closed_forms import REFERENCE, REFERENCE_TERMS, linear_vae_answer

TERMS = ("term_means", "term_covariance", "term_scale")


def principal_components(observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Variances λ (D,), in falling order, and excess kurtosis (D,) of the principal components of data (N, D).

    The closed form holds for any data, hence for this sample: with the sample's own values, no sampling error is left
    between theory and model, only that of the training.
    """
    x = observations.astype(np.float64)
    x -= x.mean(axis=0)
    variances, axes = np.linalg.eigh(x.T @ x / len(x))
    components = x @ axes[:, ::-1]
    second = np.mean(components**2, axis=0)
    return variances[::-1], np.mean(components**4, axis=0) / second**2 - 3


def trained_rows(
    moments: pd.DataFrame, observations: np.ndarray, kl_weight: float, decoder_variance: float
) -> pd.DataFrame:
    """Pair the latent dimensions of one linear VAE with principal components, both ordered by variance.

    Its posterior variance is the same for all data, so the excess kurtosis is all of it the means'.

    Args:
        moments: The model's rows of moments.csv.
        observations: The training data (N, D).
        kl_weight: β.
        decoder_variance: ς².

    Returns:
        One row per latent dimension: `eigenvalue`; expected and measured activity, variance of the means, excess
        kurtosis and its three terms; the kurtosis' standard error and interval.
    """
    rows = _training_rows(moments, ["variance_of_means"], ascending=False)
    eigenvalues, excess = principal_components(observations)
    answer = linear_vae_answer(eigenvalues, excess, kl_weight, decoder_variance)
    own = slice(len(rows))
    terms = np.column_stack([answer.excess_kurtosis[own], np.zeros((len(rows), 2))])
    return _beside(rows, eigenvalues[own], answer.active[own], answer.variance_of_means[own], terms)


def made_rows(moments: pd.DataFrame) -> pd.DataFrame:
    """Set the latent dimensions of `control_mixture` beside the mixtures that they were made of.

    Args:
        moments: The control's rows of moments.csv.

    Returns:
        The columns of `trained_rows`; there is no eigenvalue.
    """
    rows = _training_rows(moments, ["dimension"], ascending=True)
    mixtures = [REFERENCE[name].posterior() for name in MIXTURE_CONTROL]
    spread = np.array([np.var(mixture.mean) for mixture in mixtures])
    terms = np.array([REFERENCE_TERMS[name] for name in MIXTURE_CONTROL])
    return _beside(rows, np.full(len(rows), np.nan), np.ones(len(rows), dtype=bool), spread, terms)


def _training_rows(moments: pd.DataFrame, by: list[str], ascending: bool) -> pd.DataFrame:
    rows = moments[(moments["split"] == "train") & (moments["form"] == "raw")]
    return rows.sort_values(by, ascending=ascending, kind="stable").reset_index(drop=True)


def _beside(
    rows: pd.DataFrame, eigenvalues: np.ndarray, active: np.ndarray, variance_of_means: np.ndarray, terms: np.ndarray
) -> pd.DataFrame:
    """The table of controls: `terms` (d, 3) are the answer's, whose sum is the excess kurtosis."""
    columns = {
        "dimension": rows["dimension"],
        "eigenvalue": eigenvalues,
        "expected_active": active,
        "active": rows["active"],
        "expected_variance_of_means": variance_of_means,
        "variance_of_means": rows["variance_of_means"],
        "expected_excess_kurtosis": terms.sum(axis=1),
        "excess_kurtosis": rows["kurtosis"] - 3,
    }
    for name, expected in zip(TERMS, terms.T, strict=True):
        columns |= {f"expected_{name}": expected, name: rows[name]}
    columns |= {"kurtosis_se": rows["kurtosis_se"]}
    columns |= {"low": rows["kurtosis_low"] - 3, "high": rows["kurtosis_high"] - 3}
    return pd.DataFrame(columns)
