"""How far Q(z) is from N(0, I) in all dimensions together, raw and in canonical form."""

from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.posterior.splits import load_posteriors
from aggregated_posterior.statistics.divergence import measure_joint
from aggregated_posterior.storage import write_json


def measure_divergence(
    posteriors: str,
    divergence: str,
    points: int = 2000,
    gmm_components: int = 10,
    fit_points: int = 20_000,
    seed: int = 0,
    active_threshold: float = 0.05,
) -> None:
    """Write two rows, one for each form, to `divergence`; see `measure_joint` for what is in them."""
    pair = load_posteriors(posteriors)
    rows = measure_joint(
        pair.train,
        pair.test,
        points=points,
        gmm_components=gmm_components,
        fit_points=fit_points,
        active_threshold=active_threshold,
        seed=seed,
    )
    write_json(divergence, rows)


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        measure_divergence(
            posteriors=snakemake.input.posteriors,
            divergence=snakemake.output.divergence,
            **snakemake.params.settings,
        )
