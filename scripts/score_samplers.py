"""Rule score_samplers: draw images by every rung of the ladder of samplers, and score them by every judge."""

from collections.abc import Sequence

import pandas as pd

from aggregated_posterior.generation.judge import load_judge
from aggregated_posterior.generation.ladder import Splits, image_decoder, score_ladder
from aggregated_posterior.model.training import prepare_process
from aggregated_posterior.model.vae import load_vae
from aggregated_posterior.pipeline.progress import Progress, label_of_file
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.posterior.splits import load_posteriors
from aggregated_posterior.storage import read_arrays, write_arrays, write_table


def score_samplers(
    vae: str,
    posteriors: str,
    data: str,
    judges: Sequence[str],
    scores: str,
    plates: str,
    images: int | None,
    components: list[int],
    neighbours: int,
    plate_size: int,
    draws: int | None,
    seed: int,
) -> None:
    """Write one row of scores per judge and sampler, and some images of each sampler.

    Args:
        vae, posteriors, data: A model's file, its posteriors, and the images that it was trained on.
        judges: Judge files; a judge is called by its seed.
        scores: Table to write.
        plates: Images to write, one array of bytes per sampler.
        images, components, neighbours, plate_size, draws, seed: See `score_ladder`.
    """
    prepare_process()
    arrays, metadata = read_arrays(data, ["images_train", "images_test"])
    q = load_posteriors(posteriors)
    splits = Splits(arrays["images_train"], arrays["images_test"], metadata["maximum"], q.train, q.test)
    loaded = {header["seed"]: judge for judge, header in map(load_judge, judges)}
    decoder = image_decoder(load_vae(vae)[0])
    progress = Progress(label_of_file("score_samplers", vae), "draw")
    rows, images_kept = score_ladder(
        decoder, splits, loaded, images, components, neighbours, plate_size, draws, seed, on_draw=progress
    )
    write_table(scores, pd.DataFrame(rows))
    write_arrays(plates, images_kept)


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        score_samplers(
            **{name: snakemake.input[name] for name in ("vae", "posteriors", "data", "judges")},
            **{name: snakemake.output[name] for name in ("scores", "plates")},
            **snakemake.params.settings,
        )
