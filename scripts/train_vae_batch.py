"""Train a batch of VAEs as one stacked computation and write every model's weights and history."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from tqdm import tqdm

from aggregated_posterior import numerics
from aggregated_posterior.model.stacked_training import train_stacked
from aggregated_posterior.model.training import HISTORY_COLUMNS, TrainingSettings, prepare_process
from aggregated_posterior.model.vae import save_vae
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_arrays, write_table


def train_vae_batch(
    data: str, vaes: Sequence[str], histories: Sequence[str], settings: Sequence[dict], device: str
) -> None:
    """Train on the images of `data`; an interrupted batch goes on from a checkpoint beside its first model."""
    prepare_process()
    arrays, metadata = read_arrays(data, ["images_train"])
    checkpoint = Path(vaes[0]).with_name("checkpoint_batch.safetensors")
    with tqdm(total=settings[0]["epochs"], unit="epoch", mininterval=5) as bar:
        trained = train_stacked(
            arrays["images_train"],
            metadata["maximum"],
            [TrainingSettings(**one) for one in settings],
            device=device,
            checkpoint=checkpoint,
            on_epoch=lambda rows: bar.update(),
        )
    run = {"device": device, "precision": "float32", "deterministic": True, "threads": 1, "models": len(settings)}
    run["numerics"] = numerics.describe()
    for vae, history, one, (model, rows) in zip(vaes, histories, settings, trained, strict=True):
        write_table(history, pd.DataFrame(rows, columns=HISTORY_COLUMNS))
        save_vae(vae, model, {"settings": one, "maximum": metadata["maximum"], "run": run})
    checkpoint.unlink(missing_ok=True)


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        # Snakemake's cache wants a name for every output, so the models' files are numbered.
        numbers = range(len(snakemake.params.settings))
        train_vae_batch(
            data=snakemake.input.data,
            vaes=[snakemake.output[f"vae_{number}"] for number in numbers],
            histories=[snakemake.output[f"history_{number}"] for number in numbers],
            settings=snakemake.params.settings,
            device=snakemake.params.device,
        )
