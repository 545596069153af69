"""Collect the training of all models in one table."""

from aggregated_posterior.evidence.tables import collect
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import write_table


def collect_training(models: list[str], table: str, keys: list[dict]) -> None:
    """Write the rows of every model's file, with the model's keys in front."""
    write_table(table, collect(models, keys))


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        collect_training(
            models=snakemake.input.get("models", []),
            table=snakemake.output.table,
            keys=snakemake.params.cells,
        )
