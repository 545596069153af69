"""Train one VAE and write its weights and its history."""

from pathlib import Path

import pandas as pd

from aggregated_posterior import numerics
from aggregated_posterior.model.training import (
    HISTORY_COLUMNS,
    TrainingSettings,
    describe_process,
    prepare_process,
    train,
)
from aggregated_posterior.model.vae import save_vae
from aggregated_posterior.pipeline.progress import Progress, label_of_file
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_arrays, write_table


def train_vae(data: str, vae: str, history: str, settings: dict, device: str, code: str) -> None:
    """Train on the training images of `data`; an interrupted training goes on from the checkpoint beside `vae`."""
    prepare_process(device)
    arrays, metadata = read_arrays(data, ["images_train"])
    checkpoint = Path(vae).with_name("checkpoint.safetensors")
    progress = Progress(label_of_file("train_vae", vae), "epoch")
    model, rows = train(
        arrays["images_train"],
        metadata["maximum"],
        TrainingSettings(**settings),
        device=device,
        checkpoint=checkpoint,
        code=f"{code}, {numerics.describe()}",
        on_epoch=lambda row: progress(
            row["epoch"], settings["epochs"], f"reconstruction {row['reconstruction']:.1f}, kl {row['kl']:.1f} nats"
        ),
    )
    write_table(history, pd.DataFrame(rows, columns=HISTORY_COLUMNS))
    run = {
        "settings": settings,
        "maximum": metadata["maximum"],
        "run": {**describe_process(device), "numerics": numerics.describe()},
    }
    save_vae(vae, model, run)
    checkpoint.unlink(missing_ok=True)


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        train_vae(
            data=snakemake.input.data,
            vae=snakemake.output.vae,
            history=snakemake.output.history,
            settings=snakemake.params.settings,
            device=snakemake.params.device,
            code=snakemake.params.code,
        )
