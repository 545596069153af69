"""Encode every image to the mean and variance of its posterior, and measure the losses of both splits."""

import numpy as np
import pandas as pd

from aggregated_posterior.model.encoding import encode, losses
from aggregated_posterior.model.training import prepare_process
from aggregated_posterior.model.vae import load_vae
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_arrays, write_arrays, write_table
from aggregated_posterior.streams import stream

SPLITS = ("train", "test")


def encode_posteriors(data: str, vae: str, posteriors: str, loss_table: str) -> None:
    """Write posteriors and losses.

    Args:
        data: Data file with `images_train` and `images_test`.
        vae: Model file.
        posteriors: To write: `mean_*` and `variance_*`, float32 (N, d), of the training and the test images.
        loss_table: To write: one row per split, `reconstruction`, `kl` and `loss` in nats per image.
    """
    prepare_process()
    arrays, metadata = read_arrays(data, [f"images_{split}" for split in SPLITS])
    model, model_metadata = load_vae(vae)
    settings = model_metadata["settings"]
    encoded, rows = {}, []
    for split in SPLITS:
        images = arrays[f"images_{split}"]
        mean, variance = encode(model, images, metadata["maximum"])
        encoded |= {f"mean_{split}": mean, f"variance_{split}": variance}
        # The seed's own draw for each split, the same for every model: differences between models have less noise.
        noise = stream(settings["seed"], "losses", split).standard_normal(mean.shape, dtype=np.float32)
        rows.append({"split": split, **losses(model, images, metadata["maximum"], settings["kl_weight"], noise)})
    write_arrays(posteriors, encoded, {"settings": settings})
    write_table(loss_table, pd.DataFrame(rows))


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        encode_posteriors(
            data=snakemake.input.data,
            vae=snakemake.input.vae,
            posteriors=snakemake.output.posteriors,
            loss_table=snakemake.output.losses,
        )
