"""Run the pipeline's script functions for one small model of each architecture: `probe.py FOLDER [--short] [--native]`.

The functions and not Snakemake, since an emulator emulates the process that it starts and not that process's children.
Files go to FOLDER, and their SHA-256 to FOLDER/manifest.json. `--short` ends after the moments.
"""

from __future__ import annotations

import argparse
import importlib
import inspect
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT)]

from aggregated_posterior import numerics  # noqa: E402


def call(script: str, known: Mapping[str, Any]) -> None:
    """Call the function of scripts/{script}.py with those of the `known` values that it has parameters for."""
    function = getattr(importlib.import_module(script), script)
    parameters = inspect.signature(function).parameters.values()
    missing = [
        parameter.name
        for parameter in parameters
        if parameter.name not in known and parameter.default is parameter.empty
    ]
    if missing:
        raise SystemExit(f"probe: {script} needs {', '.join(missing)}; give the probe a small value for it")
    began = time.monotonic()
    function(**{parameter.name: known[parameter.name] for parameter in parameters if parameter.name in known})
    print(f"{script}: {time.monotonic() - began:.1f} s", flush=True)


def make_images(path: Path) -> None:
    """Write 160 training and 60 test images, 8 × 8, of ten classes: a blot for each class, and noise; whole numbers."""
    import numpy as np

    from aggregated_posterior.storage import write_arrays
    from aggregated_posterior.streams import stream

    rng = stream(0, "processors")
    arrays = {}
    for split, size in (("train", 160), ("test", 60)):
        labels = rng.integers(0, 10, size)
        images = rng.integers(0, 5, (size, 8, 8))
        for image, label in zip(images, labels, strict=True):
            row, column = divmod(int(label), 4)
            image[2 * row : 2 * row + 3, 2 * column : 2 * column + 3] += 11
        arrays |= {f"images_{split}": images.astype(np.uint8), f"labels_{split}": labels.astype(np.uint8)}
    write_arrays(path, arrays, {"dataset": "digits", "image_shape": [8, 8], "maximum": 16, "classes": 10})


def cells() -> list[dict[str, Any]]:
    """One small model of every architecture that the schema offers, as the configuration describes it."""
    from aggregated_posterior.pipeline import configuration
    from aggregated_posterior.pipeline.schemas import load_registry, read_yaml

    schema = read_yaml(ROOT / "workflow/schemas/config.schema.yaml")
    known = schema["properties"]["sweeps"]["items"]["properties"]["architectures"]["items"]["enum"]
    architectures = [name for name in known if name != configuration.MADE]  # there is nothing to train in the others
    training = {"epochs": 5, "batch_size": 32, "learning_rate": 0.01}
    sweep = {"datasets": ["digits"], "latent_dims": [3], "kl_weights": [0.5], "seeds": [0]}
    content = {"experiment": "probe", "training": training, "sweeps": [{**sweep, "architectures": architectures}]}
    registry = load_registry(ROOT / "config/datasets.yaml", ROOT / "workflow/schemas/datasets.schema.yaml")
    return configuration.cells(configuration.validate(content, schema, "probe"), registry)


def run(folder: Path, short: bool) -> None:
    """Make every file in `folder`."""
    from aggregated_posterior.pipeline import configuration

    data = folder / "data.safetensors"
    make_images(data)
    if not short:
        judge = folder / "judge.safetensors"
        settings = {"epochs": 2, "batch_size": 32, "learning_rate": 0.003, "seed": 0, "minimum_accuracy": 0.0}
        call("train_judge", {"data": str(data), "judge": str(judge), **settings})
    models, keys = [], []
    for cell in cells():
        model = folder / cell["architecture"]
        files = {name: str(model / f"{name}.safetensors") for name in ("vae", "posteriors", "plates")}
        tables = ("history", "losses", "moments", "marginals", "curves", "marginal_curves", "scores")
        files |= {name: str(model / f"{name}.csv") for name in tables}
        files |= {"divergence": str(model / "divergence.json"), "data": str(data), "loss_table": files["losses"]}
        training = configuration.training_settings(cell, active_threshold=0.05)
        call("train_vae", {**files, "settings": training, "device": "cpu", "code": "probe"})
        call("encode_posteriors", {**files, "seed": 0, **training})
        sizes = {
            "draws": 2000,
            "points": 60,
            "fit_points": 200,
            "gmm_components": 2,
            "active_threshold": 0.0,
            "seed": 0,
        }
        call("compute_statistics", {**files, **sizes})
        models.append(files["moments"])
        keys.append({"experiment": "probe", **{key: value for key, value in cell.items() if key != "training"}})
        if short:
            continue
        ladder = {"images": 40, "components": [2], "neighbours": 3, "plate_size": 2, "draws": 2, "seed": 0}
        call("score_samplers", {**files, "judges": [str(folder / "judge.safetensors")], **ladder})
    table = folder / "moments.csv"
    collected = {"models": {"moments": models}, "tables": {"moments": str(table)}, "cells": {"moments": keys}}
    call("collect_tables", collected)
    if not short:
        from aggregated_posterior.pipeline.schemas import read_yaml

        schema = read_yaml(ROOT / "workflow/schemas/plotting.schema.yaml")
        style = configuration.validate(read_yaml(ROOT / "config/plotting.yaml"), schema, "plotting.yaml")
        files = {name: str(folder / f"kurtosis_terms.{name}") for name in ("svg", "pdf", "png", "finding")}
        call("plot_kurtosis_terms", {"moments": str(table), "files": files, "style": style})


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--short", action="store_true", help="train, encode and moments only")
    parser.add_argument("--native", action="store_true", help="without the pins")
    arguments = parser.parse_args()
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    numerics.apply("native" if arguments.native else "portable")
    run(arguments.folder, arguments.short)

    from aggregated_posterior.storage import write_json
    from tests.manifest import manifest

    write_json(arguments.folder / "manifest.json", manifest(arguments.folder))


if __name__ == "__main__":
    main()
