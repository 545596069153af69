"""Encode every image to the mean and variance of its posterior."""

from aggregated_posterior.model.encoding import encode
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_arrays, write_arrays


def encode_posteriors(data: str, vae: str, posteriors: str) -> None:
    """Write `mean_*` and `variance_*`, float32 (N, d), of the training and the test images."""
    arrays, metadata = read_arrays(data, ["images_train", "images_test"])
    weights, model_metadata = read_arrays(vae)
    encoded = {}
    for split in ("train", "test"):
        mean, variance = encode(weights, arrays[f"images_{split}"], metadata["maximum"])
        encoded |= {f"mean_{split}": mean, f"variance_{split}": variance}
    write_arrays(posteriors, encoded, {"settings": model_metadata["settings"]})


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        encode_posteriors(
            data=snakemake.input.data,
            vae=snakemake.input.vae,
            posteriors=snakemake.output.posteriors,
        )
