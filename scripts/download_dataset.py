"""Fetch one data set's raw files from a mirror or its hosts, checked before they get their names."""

from aggregated_posterior.data.download import download_dataset
from aggregated_posterior.pipeline.scripting import script_log

if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        download_dataset(
            outputs=list(snakemake.output),
            **snakemake.params.settings,
        )
