"""Turn raw files, or a seed, into one data file: train and test images, with labels where there are any."""

from collections.abc import Mapping, Sequence
from typing import Any

from aggregated_posterior.data.datasets import load_dataset
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import write_arrays


def prepare_dataset(
    raw: Sequence[str],
    data: str,
    dataset: str,
    entry: Mapping[str, Any],
    seed: int,
) -> None:
    """Write the data file of one data set.

    Args:
        raw: The files that it is made from (none for digits and controls; an image_folder is found by its path).
        data: The data file to write (safetensors).
        dataset: The data set's name.
        entry: Its entry in the registry.
        seed: Seed of the split or of the synthetic data.
    """
    loaded = load_dataset(dataset, entry, raw, seed)
    write_arrays(data, loaded.arrays(), loaded.metadata)


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        prepare_dataset(
            raw=list(snakemake.input),
            data=snakemake.output.data,
            **snakemake.params.settings,
        )
