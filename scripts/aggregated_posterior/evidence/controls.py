"""What a linear VAE on a control shows, beside the closed-form answer for the very data it was trained on."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..statistics.closed_forms import linear_vae_answer


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


def control_rows(
    moments: pd.DataFrame, observations: np.ndarray, kl_weight: float, decoder_variance: float
) -> pd.DataFrame:
    """Pair the latent dimensions of one model with principal components, both ordered by variance.

    Args:
        moments: The model's rows of moments.csv.
        observations: The training data (N, D).
        kl_weight: β.
        decoder_variance: ς².

    Returns:
        One row per latent dimension: `eigenvalue`, expected and measured variance of the means and excess kurtosis,
        the latter's standard error and interval, and whether the dimension is active.
    """
    rows = moments[(moments["split"] == "train") & (moments["form"] == "raw")]
    rows = rows.sort_values("variance_of_means", ascending=False, kind="stable").reset_index(drop=True)
    eigenvalues, excess = principal_components(observations)
    answer = linear_vae_answer(eigenvalues, excess, kl_weight, decoder_variance)
    count = len(rows)
    return pd.DataFrame(
        {
            "dimension": rows["dimension"],
            "eigenvalue": eigenvalues[:count],
            "expected_active": answer.active[:count],
            "active": rows["active"],
            "expected_variance_of_means": answer.variance_of_means[:count],
            "variance_of_means": rows["variance_of_means"],
            "expected_excess_kurtosis": answer.excess_kurtosis[:count],
            "excess_kurtosis": rows["kurtosis"] - 3,
            "kurtosis_se": rows["kurtosis_se"],
            "low": rows["kurtosis_low"] - 3,
            "high": rows["kurtosis_high"] - 3,
        }
    )
