"""Train many VAEs at once and write every model's weights and history."""

from collections.abc import Sequence

import pandas as pd

from aggregated_posterior import numerics
from aggregated_posterior.model.together import train_together
from aggregated_posterior.model.training import HISTORY_COLUMNS, TrainingSettings, describe_process, prepare_process
from aggregated_posterior.model.vae import save_vae
from aggregated_posterior.pipeline.progress import Progress, label_of_file
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.storage import read_arrays, write_table


def train_vae_batch(
    data: str, vaes: Sequence[str], histories: Sequence[str], settings: Sequence[dict], device: str, rule: str
) -> None:
    """Train on the images of `data`, all models in step; lines of progress begin with the rule's name."""
    prepare_process(device)
    arrays, metadata = read_arrays(data, ["images_train"])
    progress = Progress(f"{label_of_file(rule, vaes[0])}, first of {len(vaes)}", "epoch")

    def say(rows: list[dict[str, float]]) -> None:
        lowest, highest = (limit(row["reconstruction"] for row in rows) for limit in (min, max))
        progress(rows[0]["epoch"], settings[0]["epochs"], f"reconstruction {lowest:.1f} to {highest:.1f} nats")

    trained = train_together(
        arrays["images_train"], metadata["maximum"], [TrainingSettings(**one) for one in settings], device, say
    )
    run = {**describe_process(device), "models": len(settings), "numerics": numerics.describe()}
    for vae, history, one, (model, rows) in zip(vaes, histories, settings, trained, strict=True):
        write_table(history, pd.DataFrame(rows, columns=HISTORY_COLUMNS))
        save_vae(vae, model, {"settings": one, "maximum": metadata["maximum"], "run": run})


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
            rule=snakemake.rule,
        )
