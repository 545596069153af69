"""Set what the controls' models show beside the linear VAE's closed-form answer."""

from aggregated_posterior.evidence.controls import control_rows
from aggregated_posterior.evidence.tables import attach_keys
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_arrays, read_table, write_table


def collect_controls(
    models: list[str], data: list[str], table: str, keys: list[dict], decoder_variances: list[float]
) -> None:
    """Write one row per control model and latent dimension, ordered by the variance of the means."""
    parts = []
    for moments, images, key, decoder_variance in zip(models, data, keys, decoder_variances, strict=True):
        arrays, _ = read_arrays(images, ["images_train"])
        rows = control_rows(read_table(moments), arrays["images_train"], float(key["kl_weight"]), decoder_variance)
        parts.append((key, rows))
    write_table(table, attach_keys(parts))


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        collect_controls(
            models=snakemake.input.get("models", []),
            data=snakemake.input.get("data", []),
            table=snakemake.output.table,
            keys=snakemake.params.cells,
            decoder_variances=snakemake.params.decoder_variances,
        )
