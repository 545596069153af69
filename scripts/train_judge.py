"""Rule train_judge: one small classifier whose features judge the samplers' images."""

import sys

from aggregated_posterior.generation.judge import accuracy, save_judge
from aggregated_posterior.generation.judge import train_judge as fit_judge
from aggregated_posterior.model.training import prepare_process
from aggregated_posterior.pipeline.progress import Progress, label_of_file
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import DataError, read_arrays


def train_judge(data: str, judge: str, seed: int, epochs: int = 20, minimum_accuracy: float = 0.9) -> None:
    """Train a judge on the training images and write it, with its accuracy on the test images.

    Args:
        data: Data file with labelled images.
        judge: Judge file to write; its metadata hold `accuracy` and `seed`.
        seed: Seed of the initial weights and of the order of the images.
        epochs: Passes over the training images.
        minimum_accuracy: Share of test images that must be classified rightly for the features to be trusted.

    Raises:
        DataError: The data file has no labels, or the judge is not accurate enough.
    """
    prepare_process()
    arrays, metadata = read_arrays(data, ["images_train", "images_test", "labels_train", "labels_test"])
    maximum = metadata["maximum"]
    progress = Progress(label_of_file("train_judge", judge), "epoch")
    trained = fit_judge(
        arrays["images_train"],
        arrays["labels_train"],
        metadata["image_shape"],
        maximum,
        metadata["classes"],
        seed,
        epochs,
        on_epoch=lambda epoch, loss: progress(epoch, epochs, f"loss {loss:.4f} nats"),
    )
    share = accuracy(trained, arrays["images_test"], arrays["labels_test"], maximum)
    print(f"{metadata['dataset']}: judge {seed} has test accuracy {share:.4f}", file=sys.stderr)
    if share < minimum_accuracy:
        raise DataError(
            f"{data}: judge {seed} has test accuracy {share:.4f}, below minimum_accuracy {minimum_accuracy}; "
            f"change its epochs or minimum_accuracy in config/datasets.yaml, under {metadata['dataset']}: judge"
        )
    save_judge(judge, trained, {"accuracy": share, "seed": seed, "dataset": metadata["dataset"]})


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        train_judge(
            data=snakemake.input.data,
            judge=snakemake.output.judge,
            **snakemake.params.settings,
        )
