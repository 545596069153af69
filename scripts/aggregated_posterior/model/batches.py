"""Which models of a sweep can be trained together as one stacked computation (see `stacked_training.py`)."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any


def batches(cells: Iterable[Mapping[str, Any]], models: int) -> list[list[Mapping[str, Any]]]:
    """Split models into batches of one data set, one architecture and one set of training settings.

    Within each kind they are ordered by seed: a seed that is added to a sweep then leaves full batches as they were,
    and only the new models (and those of a last batch that was not full) are trained.

    Args:
        cells: Models from `configuration.cells` that are to be trained (`training` is not None).
        models: The largest number of models in a batch.

    Returns:
        The batches; every model is in exactly one.
    """
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for cell in sorted(cells, key=lambda cell: cell["seed"]):
        kind = json.dumps([cell["dataset"], cell["architecture"], cell["training"]], sort_keys=True)
        groups.setdefault(kind, []).append(cell)
    return [group[first : first + models] for group in groups.values() for first in range(0, len(group), models)]
