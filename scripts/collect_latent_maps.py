"""Collect the density and the posterior ellipses of all two-dimensional models."""

from aggregated_posterior.evidence.tables import collect
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import write_table


def collect_latent_maps(
    densities: list[str], ellipses: list[str], density_table: str, ellipses_table: str, keys: list[dict]
) -> None:
    """Write the rows of every model's files, with the model's keys in front."""
    write_table(density_table, collect(densities, keys))
    write_table(ellipses_table, collect(ellipses, keys))


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        collect_latent_maps(
            densities=snakemake.input.get("density", []),
            ellipses=snakemake.input.get("ellipses", []),
            density_table=snakemake.output.density,
            ellipses_table=snakemake.output.ellipses,
            keys=snakemake.params.cells,
        )
