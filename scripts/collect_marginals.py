"""Collect the marginals of all models in one table, and their curves in another."""

from aggregated_posterior.evidence.tables import collect
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import write_table


def collect_marginals(models: list[str], curves: list[str], table: str, curves_table: str, keys: list[dict]) -> None:
    """Write the rows of every model's files, with the model's keys in front."""
    write_table(table, collect(models, keys))
    write_table(curves_table, collect(curves, keys))


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        collect_marginals(
            models=snakemake.input.models,
            curves=snakemake.input.curves,
            table=snakemake.output.table,
            curves_table=snakemake.output.curves,
            keys=snakemake.params.cells,
        )
