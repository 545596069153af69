"""Make the posteriors of the control whose Q(z) is a known mixture: nothing is trained."""

from aggregated_posterior.data.controls import mixture_posteriors
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import DataError, write_arrays


def prepare_control_posteriors(posteriors: str, latent_dim: int) -> None:
    """Write the posterior file of `control_mixture`."""
    arrays = mixture_posteriors()
    size = arrays["mean_train"].shape[1]
    if latent_dim != size:
        raise DataError(f"control_mixture: has {size} latent dimensions; set latent_dims: [{size}] in its sweep")
    write_arrays(posteriors, arrays, {"source": "control_mixture"})


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        prepare_control_posteriors(
            posteriors=snakemake.output.posteriors,
            latent_dim=snakemake.params.latent_dim,
        )
