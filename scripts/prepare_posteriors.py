"""Bring posteriors of a model trained elsewhere into the pipeline's form."""

import sys

from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.posterior.exchangeable import hold_out, refuse_overlap
from aggregated_posterior.posterior.foreign_files import read_posteriors
from aggregated_posterior.posterior.other_laws import FullCovariance
from aggregated_posterior.posterior.outliers import refuse_outliers
from aggregated_posterior.posterior.resolution import refuse_dependent, refuse_unresolved
from aggregated_posterior.storage import DataError, write_arrays


def prepare_posteriors(source: str, posteriors: str, latent_dim: int) -> None:
    """Check a user's file and write its means and variances.

    A file without a test half gets one: a fifth of its rows, drawn with a fixed seed. The encoder was trained on them,
    so they serve the estimators of the divergence and tell nothing about overfitting; the output's metadata says so.

    Raises:
        DataError: The file cannot be read or has other dimensions; full covariances; no density; rows that an audit
            would leave out, since they are outliers or stand in both halves.
    """
    loaded = read_posteriors(source)
    if loaded.latent_dim != latent_dim:
        raise DataError(f"{source}: has {loaded.latent_dim} latent dimensions, the configuration says {latent_dim}")
    if isinstance(loaded.train, FullCovariance) or isinstance(loaded.test, FullCovariance):
        what = "give variances, or take aggregated-posterior audit, which knows full covariances"
        raise DataError(f"{source}: has full covariances, and the pipeline takes diagonal ones; {what}")
    try:
        refuse_unresolved(loaded.train)
        refuse_dependent(loaded.train.covariance())
        refuse_outliers(loaded)
        refuse_overlap(loaded)
    except DataError as error:
        raise DataError(f"{source}: {error}") from None
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if loaded.groups_train is not None:
        what = "errors are by consecutive rows instead; aggregated-posterior audit takes them by group"
        print(f"warning: {source}: its groups of rows are not kept, and {what}", file=sys.stderr)
    held_out = "given"
    if loaded.test is None:
        held_out = "a seeded fifth of the rows"
        print(f"{source}: has no mean_test; {held_out} is held out in its place", file=sys.stderr)
        try:
            loaded = hold_out(loaded)
        except DataError as error:
            raise DataError(f"{source}: {error}") from None
    write_arrays(posteriors, loaded.arrays(), {"source": "external", "held_out": held_out})


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        prepare_posteriors(
            source=snakemake.input.posteriors,
            posteriors=snakemake.output.posteriors,
            latent_dim=snakemake.params.latent_dim,
        )
