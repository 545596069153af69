"""Exact statistics of one model's Q(z): its moments, its marginals, and how far it is from N(0, I)."""

from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.posterior.splits import load_posteriors
from aggregated_posterior.statistics.portrait import Portrait
from aggregated_posterior.statistics.portrait_tables import extreme_marginal_curves, marginals_table, moments_table
from aggregated_posterior.storage import write_json, write_table


def compute_statistics(
    posteriors: str,
    moments: str,
    marginals: str,
    curves: str,
    divergence: str,
    active_threshold: float,
    draws: int,
    points: int,
    gmm_components: int,
    fit_points: int,
    seed: int,
) -> None:
    """Write four files from one portrait of Q(z).

    Args:
        posteriors: The model's posteriors.
        moments: Table to write, one row per split, form and dimension; activity is decided on raw train posteriors.
        marginals: Table to write, distances to N(0, 1) per split, form and dimension.
        curves: Table to write, curves of the most and the least normal active dimension.
        divergence: JSON to write, one entry for each form; see `Portrait.joint`.
        draws: See `moments_table`.
        active_threshold, points, gmm_components, fit_points, seed: See `Portrait`.
    """
    portrait = Portrait(
        load_posteriors(posteriors),
        active_threshold=active_threshold,
        points=points,
        gmm_components=gmm_components,
        fit_points=fit_points,
        seed=seed,
    )
    write_table(moments, moments_table(portrait, draws))
    write_table(marginals, marginals_table(portrait))
    write_table(curves, extreme_marginal_curves(portrait))
    write_json(divergence, portrait.joint)


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        compute_statistics(
            posteriors=snakemake.input.posteriors,
            **{name: snakemake.output[name] for name in ("moments", "marginals", "curves", "divergence")},
            **snakemake.params.settings,
        )
