"""The density of a two-dimensional Q(z) on a grid, and the posteriors of some held-out images."""

from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.posterior.splits import load_posteriors
from aggregated_posterior.statistics.latent_map import latent_ellipses, latent_map
from aggregated_posterior.storage import DataError, read_arrays, write_table


def measure_latent_map(posteriors: str, data: str, density: str, ellipses: str) -> None:
    """Write ln Q of the raw train posteriors to `density` and the first held-out posteriors to `ellipses`."""
    pair = load_posteriors(posteriors)
    if pair.latent_dim != 2:
        raise DataError(f"{posteriors}: a latent map needs 2 latent dimensions, this model has {pair.latent_dim}")
    labels = read_arrays(data)[0].get("labels_test")
    if labels is not None and len(labels) != pair.test.n:
        raise DataError(f"{data}: {len(labels)} labels_test for {pair.test.n} posteriors; both must be of one data set")
    write_table(density, latent_map(pair.train))
    write_table(ellipses, latent_ellipses(pair.test, labels))


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        measure_latent_map(
            posteriors=snakemake.input.posteriors,
            data=snakemake.input.data,
            density=snakemake.output.density,
            ellipses=snakemake.output.ellipses,
        )
