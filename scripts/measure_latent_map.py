"""The density of a two-dimensional Q(z) on a grid, and the posteriors of some held-out images."""

import numpy as np
import pandas as pd

from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.posterior.splits import load_posteriors
from aggregated_posterior.storage import DataError, read_arrays, write_table

GRID_POINTS = 201
ELLIPSES = 300


def measure_latent_map(posteriors: str, data: str, density: str, ellipses: str) -> None:
    """Write ln Q of the raw train posteriors to `density` and the first 300 held-out posteriors to `ellipses`.

    The grid covers [−4, 4]², or a wider square of whole numbers where one posterior in 500 reaches beyond.
    """
    pair = load_posteriors(posteriors)
    train = pair.train
    if train.latent_dim != 2:
        raise DataError(f"{posteriors}: a latent map needs 2 latent dimensions, this model has {train.latent_dim}")
    reach = np.abs(train.mean).max(axis=1) + 2 * np.sqrt(train.variance.max(axis=1))
    limit = max(4.0, float(np.ceil(np.quantile(reach, 0.998))))
    axis = np.linspace(-limit, limit, GRID_POINTS)
    z = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    table = pd.DataFrame({"z1": z[:, 0], "z2": z[:, 1], "log_density": train.log_density(z)})
    shown = pair.test
    count = min(ELLIPSES, shown.n)
    std = np.sqrt(np.asarray(shown.variance[:count], dtype=np.float64))
    mean = np.asarray(shown.mean[:count], dtype=np.float64)
    columns = {"mean_1": mean[:, 0], "mean_2": mean[:, 1], "std_1": std[:, 0], "std_2": std[:, 1]}
    labels = read_arrays(data)[0].get("labels_test")
    if labels is not None and len(labels) != shown.n:
        raise DataError(f"{data}: {len(labels)} labels_test for {shown.n} posteriors; both must be of one data set")
    columns["label"] = [None] * count if labels is None else labels[:count]
    write_table(density, table)
    write_table(ellipses, pd.DataFrame(columns))


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        measure_latent_map(
            posteriors=snakemake.input.posteriors,
            data=snakemake.input.data,
            density=snakemake.output.density,
            ellipses=snakemake.output.ellipses,
        )
