"""Exact moments of Q(z) per latent dimension: train and held-out, raw and in canonical form."""

import numpy as np
import pandas as pd

from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.posterior.gauge import slack_of
from aggregated_posterior.posterior.splits import active_dimensions, load_posteriors
from aggregated_posterior.statistics.uncertainty import draws_z_scores, kurtosis_se, normal_interval
from aggregated_posterior.storage import write_table


def compute_moments(
    posteriors: str,
    moments: str,
    active_threshold: float = 0.05,
    confidence: float = 0.95,
    draws: int = 1_000_000,
    seed: int = 0,
) -> None:
    """Write one row per split, form and dimension to `moments`; activity is decided on the raw train posteriors."""
    pair = load_posteriors(posteriors)
    exact = pair.train.moments()
    flags = {
        "active": active_dimensions(pair.train.kl(), active_threshold),
        "active_by_variance": exact.variance_of_means > 0.01,
        "active_by_noise": exact.mean_variance < 0.95,
    }
    tables = []
    for split, form, q in pair.variants(pair.canonical(exact)):
        of_q = q.moments()
        error = kurtosis_se(q, of_q)
        low, high = normal_interval(of_q.kurtosis, error, confidence)
        columns = {"split": split, "form": form, "dimension": np.arange(q.latent_dim), "kl": q.kl()}
        columns |= {name: getattr(of_q, name) for name in ("mean", "variance", "second_moment", "skewness", "kurtosis")}
        columns |= {"kurtosis_se": error, "kurtosis_low": low, "kurtosis_high": high}
        for name in ("variance_of_means", "mean_variance", "term_means", "term_covariance", "term_scale"):
            columns[name] = getattr(of_q, name)
        columns |= {"gauge_slack": slack_of(of_q), "kurtosis_bound": of_q.kurtosis_bound, **flags}
        scores = {}
        if (split, form) == ("train", "raw"):
            scores = draws_z_scores(q, draws, np.random.default_rng(seed), of_q)
        for name in ("mean", "variance", "skewness", "kurtosis"):
            columns[f"draws_z_{name}"] = scores.get(name, np.nan)
        tables.append(pd.DataFrame(columns))
    write_table(moments, pd.concat(tables, ignore_index=True))


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        compute_moments(
            posteriors=snakemake.input.posteriors,
            moments=snakemake.output.moments,
            **snakemake.params.settings,
        )
