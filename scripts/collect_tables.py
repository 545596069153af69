"""Collect what lies beside each model into one tidy table per kind of observation."""

from collections.abc import Mapping, Sequence
from typing import Any

from aggregated_posterior.evidence.tables import collect
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import write_table


def collect_tables(
    models: Mapping[str, Sequence[str]], tables: Mapping[str, str], cells: Mapping[str, Sequence[Mapping[str, Any]]]
) -> None:
    """Write each of `tables`: the rows of its files in `models`, with the keys of their models in `cells` in front."""
    for name, path in tables.items():
        write_table(path, collect(models[name], cells[name]))


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        collect_tables(
            # A table that no model has rows for has no input.
            models={name: snakemake.input.get(name, []) for name in snakemake.output.keys()},
            tables=dict(snakemake.output.items()),
            cells=snakemake.params.cells,
        )
