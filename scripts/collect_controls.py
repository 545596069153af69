"""Set what the controls' models show beside their closed-form answers."""

from aggregated_posterior.evidence.controls import made_rows, trained_rows
from aggregated_posterior.evidence.tables import attach_keys
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_arrays, read_table, write_table


def collect_controls(
    trained: list[str],
    data: list[str],
    made: list[str],
    table: str,
    trained_keys: list[dict],
    made_keys: list[dict],
    decoder_variances: list[float],
) -> None:
    """Write one row per control model and latent dimension.

    Args:
        trained: The moments of every linear VAE on a control.
        data: The data file of each.
        made: The moments of controls whose posteriors were made.
        table: The table to write.
        trained_keys, made_keys: The key columns of each model.
        decoder_variances: ς² of each linear VAE.
    """
    parts = []
    for moments, images, key, decoder_variance in zip(trained, data, trained_keys, decoder_variances, strict=True):
        arrays, _ = read_arrays(images, ["images_train"])
        rows = trained_rows(read_table(moments), arrays["images_train"], float(key["kl_weight"]), decoder_variance)
        parts.append((key, rows))
    parts += [(key, made_rows(read_table(moments))) for moments, key in zip(made, made_keys, strict=True)]
    write_table(table, attach_keys(parts))


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        collect_controls(
            trained=snakemake.input.get("trained", []),
            data=snakemake.input.get("data", []),
            made=snakemake.input.get("made", []),
            table=snakemake.output.table,
            **snakemake.params.models,
        )
