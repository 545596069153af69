"""Collect what the experiment's page lets one explore: two-dimensional decoders, codes, plates, marginals."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aggregated_posterior.figures.explorer import codes_by_sampler, latent_map, plate
from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.posterior.splits import load_posteriors
from aggregated_posterior.storage import read_arrays, read_table, write_json


def collect_explorer(
    maps: Sequence[Mapping[str, str]], map_keys: Sequence[Mapping[str, Any]],
    plates: Sequence[str], curves: Sequence[str], keys: Sequence[Mapping[str, Any]],
    explorer: str, components: Sequence[int], seed: int,
) -> None:  # fmt: skip
    """Write explorer.json.

    Args:
        maps: For every explorable model its files `vae`, `posteriors`, `density`, with its keys in `map_keys`.
        plates, curves: sample_plates.safetensors and marginal_curves.csv of one model of every cell, with its `keys`.
        explorer: The file to write.
        components, seed: Of the ladder's mixtures, and of everything drawn.
    """
    content: dict[str, list[dict[str, Any]]] = {"maps": [], "cells": []}
    shapes = {}
    for plate_path, curve_path, key in zip(plates, curves, keys, strict=True):
        images = read_arrays(plate_path)[0]
        shapes[str(key)] = list(next(iter(images.values())).shape[1:])
        curve = read_table(curve_path)
        curve = curve[(curve["role"] == "least_normal") & (curve["curve"] == "density")]
        shown = {"x": curve["x"].round(3).tolist(), "y": curve["y"].round(4).tolist()} if len(curve) else None
        content["cells"].append({**key, "plate": plate(images), "curve": shown})
    for files, key in zip(maps, map_keys, strict=True):
        weights, metadata = read_arrays(files["vae"])
        codes = codes_by_sampler(load_posteriors(files["posteriors"]), components, seed)
        grid = read_table(files["density"])
        axis = np.unique(grid["z1"])
        about = {**key, "likelihood": metadata["model"]["likelihood"], "image_shape": shapes[str(key)]}
        log_density = grid["log_density"].to_numpy().reshape(len(axis), len(axis))
        content["maps"].append(latent_map(about, weights, codes, log_density, axis))
    write_json(explorer, content)


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        lists = {name: snakemake.input.get(name, []) for name in ("vae", "posteriors", "density", "plates", "curves")}
        collect_explorer(
            maps=[dict(zip(("vae", "posteriors", "density"), files, strict=True))
                  for files in zip(lists["vae"], lists["posteriors"], lists["density"], strict=True)],
            plates=lists["plates"],
            curves=lists["curves"],
            explorer=snakemake.output.explorer,
            **snakemake.params.settings,
        )  # fmt: skip
