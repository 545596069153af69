"""From a configuration to the list of models it asks for, with errors that name the key and what is allowed."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from ..storage import DataError
from .schemas import check_schema

# The architecture of a control whose posteriors are made and not trained.
MADE = "made"
CELL_KEYS = ("dataset", "architecture", "likelihood", "latent_dim", "kl_weight", "seed")


def validate(content: Mapping[str, Any], schema: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Check `content` against a JSON schema (draft 2020-12) and fill in the schema's defaults.

    Args:
        content: What a user wrote.
        schema: The schema; its `default` values are taken for absent keys, at every depth.
        source: The file's name, for the message.

    Returns:
        A new dictionary with all defaults filled in.

    Raises:
        DataError: One line that names the key, the value and what is allowed.
    """
    check_schema(content, schema, source)
    return _with_defaults(content, schema)


def cells(config: Mapping[str, Any], datasets: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The models that a validated configuration asks for, in the order it names them.

    Args:
        config: A configuration from `validate`.
        datasets: The registry of data sets.

    Returns:
        One dictionary per model with `CELL_KEYS` and `training`, the settings it is trained with (None for
        posteriors that come from elsewhere or are made). `kl_weight` is a string, written as in paths.

    Raises:
        DataError: An unknown data set; a KL weight written in two ways; a model asked for twice with different
            training settings.
    """
    known: dict[tuple[Any, ...], dict[str, Any]] = {}
    for cell in itertools.chain(_trained(config, datasets), _external(config, datasets)):
        place = tuple(cell[key] for key in CELL_KEYS if key != "likelihood")
        if known.setdefault(place, cell) != cell:
            raise DataError(
                f"sweeps: the model {_place(cell)} is asked for twice with different training settings; "
                "give the sweeps different seeds, or the same training"
            )
    if not known:
        raise DataError("sweeps: is empty, and so is external_posteriors; there is nothing to do")
    spellings: dict[float, str] = {}
    for cell in known.values():
        text = cell["kl_weight"]
        if spellings.setdefault(float(text), text) != text:
            raise DataError(f"kl_weights: {spellings[float(text)]} and {text} are one number; write it in one way")
    return list(known.values())


def _trained(config: Mapping[str, Any], datasets: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for sweep in config["sweeps"]:
        for name in sweep["datasets"]:
            if name not in datasets:
                raise DataError(
                    f"sweeps: data set {name!r} is unknown; config/datasets.yaml has {', '.join(sorted(datasets))}"
                )
        training = {**config["training"], **sweep.get("training", {})}
        product = itertools.product(
            sweep["datasets"],
            sweep["architectures"],
            sweep["latent_dims"],
            sweep["kl_weights"],
            sweep["seeds"],
        )
        for dataset, architecture, latent_dim, kl_weight, seed in product:
            place = {"latent_dim": latent_dim, "kl_weight": str(kl_weight), "seed": seed}
            if (datasets[dataset]["kind"] == "posteriors") != (architecture == MADE):
                raise DataError(
                    f"sweeps: {dataset} with architecture {architecture}: data sets of kind `posteriors`, and no "
                    f"others, go with the architecture {MADE}"
                )
            if architecture == MADE:
                yield {"dataset": dataset, "architecture": MADE, "likelihood": "none", **place, "training": None}
                continue
            if training["likelihood"] == "bernoulli" and datasets[dataset]["kind"] == "control":
                raise DataError(
                    f"sweeps: {dataset} has values outside [0, 1]; set training: {{likelihood: gaussian}} in its sweep"
                )
            yield {
                "dataset": dataset,
                "architecture": architecture,
                "likelihood": training["likelihood"],
                **place,
                "training": {
                    **training,
                    "hidden_sizes": [] if architecture == "linear" else training["hidden_sizes"],
                },
            }


def _external(config: Mapping[str, Any], datasets: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for entry in config["external_posteriors"]:
        if entry["name"] in datasets:
            raise DataError(f"external_posteriors: {entry['name']!r} is also a data set's name; choose another")
        yield {
            "dataset": entry["name"],
            "architecture": "external",
            "likelihood": entry["likelihood"],
            "latent_dim": entry["latent_dim"],
            "kl_weight": str(entry["kl_weight"]),
            "seed": entry["seed"],
            "training": None,
            "file": entry["file"],
        }


def _place(cell: Mapping[str, Any]) -> str:
    return "/".join(str(cell[key]) for key in CELL_KEYS if key != "likelihood")


def _with_defaults(content: Any, schema: Mapping[str, Any]) -> Any:
    if isinstance(content, Mapping):
        properties = schema.get("properties", {})
        filled = {key: rule["default"] for key, rule in properties.items() if "default" in rule}
        filled |= content
        return {key: _with_defaults(value, properties.get(key, {})) for key, value in filled.items()}
    if isinstance(content, list):
        return [_with_defaults(item, schema.get("items", {})) for item in content]
    return content
