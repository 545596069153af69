"""From a configuration to the list of models it asks for, with errors that name the key and what is allowed."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..storage import DataError
from ..text import for_path, listed, reason
from .schemas import check_schema

# The architecture of a control whose posteriors are made and not trained.
MADE = "made"
CELL_KEYS = ("dataset", "architecture", "likelihood", "latent_dim", "kl_weight", "seed")
# A sweep's lists, in the order in which its models are named.
LISTS = ("datasets", "architectures", "latent_dims", "kl_weights", "seeds")
# More would take hours to plan alone.
MOST_MODELS = 100_000


def validate(
    content: Mapping[str, Any], schema: Mapping[str, Any], source: str | Sequence[tuple[str, Any]]
) -> dict[str, Any]:
    """Check `content` against a JSON schema (draft 2020-12) and fill in the schema's defaults.

    Args:
        content: What a user wrote.
        schema: The schema; its `default` values are taken for absent keys, at every depth.
        source: The file's name for the message, or the name and content of each file that was merged into `content`.

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
        posteriors that come from elsewhere or are made). `kl_weight` is a string, written as in paths; `architecture`
        is followed by `_` and the sweep's variant where it has one, and `training` names the architecture without it.

    Raises:
        DataError: An unknown data set; a KL weight written in two ways; a model asked for twice with different
            training settings; an architecture or settings that cannot be trained.
    """
    asked = sum(math.prod(len(sweep[key]) for key in LISTS) for sweep in config["sweeps"])
    if asked > MOST_MODELS:
        raise DataError(f"sweeps: ask for {asked:,} models, more than {MOST_MODELS:,}; split them into experiments")
    known: dict[tuple[Any, ...], dict[str, Any]] = {}
    for cell in itertools.chain(_trained(config, datasets), _external(config, datasets)):
        place = tuple(cell[key] for key in CELL_KEYS if key != "likelihood")
        for key, word in zip((key for key in CELL_KEYS if key != "likelihood"), place, strict=True):
            try:
                for_path(word)
            except ValueError as error:
                raise DataError(f"sweeps: {key}: {error}") from None
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
            raise DataError(
                f"sweeps: kl_weights: {spellings[float(text)]} and {text} are one number; write it in one way"
            )
    return list(known.values())


def training_settings(cell: Mapping[str, Any], active_threshold: float) -> dict[str, Any]:
    """Everything that a trained model depends on besides its images, as `TrainingSettings` takes it.

    Args:
        cell: A model from `cells` that is to be trained (`training` is not None).
        active_threshold: Nats of mean KL above which a dimension counts as active.
    """
    return {
        "latent_dim": cell["latent_dim"],
        "kl_weight": float(cell["kl_weight"]),
        "seed": cell["seed"],
        **cell["training"],
        "active_threshold": active_threshold,
    }


def batches(cells: Iterable[Mapping[str, Any]], models: int) -> list[list[Mapping[str, Any]]]:
    """Split models into batches of one data set, one architecture, one latent size and one set of training settings.

    Within each kind they are ordered by seed: a seed that is added to a sweep then leaves full batches as they were,
    and only the new models (and those of a last batch that was not full) are trained.

    Args:
        cells: Models from `cells` that are to be trained (`training` is not None).
        models: The largest number of models in a batch.

    Returns:
        The batches; every model is in exactly one.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for cell in sorted(cells, key=lambda cell: cell["seed"]):
        kind = json.dumps([cell[key] for key in ("dataset", "architecture", "latent_dim", "training")], sort_keys=True)
        groups.setdefault(kind, []).append(cell)
    return [group[first : first + models] for group in groups.values() for first in range(0, len(group), models)]


def _trained(config: Mapping[str, Any], datasets: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for sweep in config["sweeps"]:
        for name in sweep["datasets"]:
            if name not in datasets:
                raise DataError(
                    f"sweeps: data set {name!r} is unknown; config/datasets.yaml has {listed(sorted(datasets))}"
                )
        training = {**config["training"], **sweep.get("training", {})}
        if training["regauge_epochs"] is not None and training["regauge_epochs"] >= training["epochs"]:
            raise DataError(
                f"training: regauge_epochs leaves the last {training['regauge_epochs']} of {training['epochs']} epochs "
                "free, which is all of them; make it smaller, or null for no re-gauging"
            )
        product = itertools.product(*(sweep[key] for key in LISTS))
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
            label = f"{architecture}_{sweep['variant']}" if sweep["variant"] else architecture
            if datasets[dataset]["kind"] == "control":
                _check_control(dataset, datasets[dataset], architecture, latent_dim, training["likelihood"])
            yield {
                "dataset": dataset,
                "architecture": label,
                "likelihood": training["likelihood"],
                **place,
                "training": {
                    **training,
                    # Where they have no effect, a change of them must not train a model again.
                    "hidden_sizes": training["hidden_sizes"] if architecture == "dense" else [],
                    "architecture": architecture,
                },
            }


def _check_control(name: str, entry: Mapping[str, Any], architecture: str, latent_dim: int, likelihood: str) -> None:
    """Refuse what has no closed form to be set beside."""
    if likelihood == "bernoulli":
        raise DataError(
            f"sweeps: {name} has values outside [0, 1]; set training: {{likelihood: gaussian}} in its sweep"
        )
    if architecture != "linear":
        raise DataError(
            f"sweeps: {name} with architecture {architecture}: a control's answer is known for the linear VAE alone; "
            "choose linear"
        )
    if latent_dim > len(entry["eigenvalues"]):
        raise DataError(
            f"sweeps: latent_dims: {latent_dim} is more than the {len(entry['eigenvalues'])} principal components of "
            f"{name}; choose fewer"
        )


def _external(config: Mapping[str, Any], datasets: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for entry in config["external_posteriors"]:
        if entry["name"] in datasets:
            raise DataError(f"external_posteriors: {entry['name']!r} is also a data set's name; choose another")
        try:
            folder = Path(entry["file"]).is_dir()
        except OSError as error:  # a name that no file can have
            raise DataError(f"external_posteriors: {entry['name']}: {entry['file']}: {reason(error)}") from None
        if folder:
            raise DataError(f"external_posteriors: {entry['name']}: {entry['file']} is a folder; name the file in it")
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
