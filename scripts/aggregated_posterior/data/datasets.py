"""Data sets as arrays in memory: digits, idx files, controls and a user's own images, split and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..storage import DataError
from ..streams import stream
from .controls import draw_control
from .idx import IDX_FILES, read_idx
from .image_folder import read_image_folder


@dataclass(frozen=True)
class Dataset:
    """One data set in memory.

    Attributes:
        images_train: (N, H, W) or (N, H, W, 3) bytes; for controls (N, D) float32 observations.
        images_test: The same for the test split.
        labels_train: (N,) int64, or None without labels.
        labels_test: The same for the test split.
        metadata: dataset, kind (`image` or `control`), image_shape, maximum (a pixel's value is byte /
            maximum), classes (None without labels), class_names where known; for controls also eigenvalues,
            source and decoder_variance.
    """

    images_train: np.ndarray
    images_test: np.ndarray
    labels_train: np.ndarray | None
    labels_test: np.ndarray | None
    metadata: dict[str, Any]

    def arrays(self) -> dict[str, np.ndarray]:
        """The arrays by name, labels only where there are any."""
        arrays = {"images_train": self.images_train, "images_test": self.images_test}
        if self.labels_train is not None and self.labels_test is not None:
            arrays |= {"labels_train": self.labels_train, "labels_test": self.labels_test}
        return arrays


def load_dataset(
    dataset: str,
    entry: Mapping[str, Any],
    raw: Sequence[str | Path],
    seed: int,
) -> Dataset:
    """Make one data set from its registry entry.

    Args:
        dataset: The data set's name in the registry.
        entry: Its entry, checked by `load_registry`.
        raw: The idx files in any order. The other kinds take nothing from here: digits and controls are made
            from no file, and an image_folder from the path in its entry.
        seed: Seed of the split or of the synthetic data; the name is mixed in, so that no two data sets share
            draws.

    Returns:
        Both splits with their metadata.

    Raises:
        DataError: A file is missing, damaged or at odds with the entry.
    """
    rng = stream(seed, "data set", dataset)
    if entry["kind"] == "idx":
        return _load_idx(dataset, entry, {path.name: path for path in map(Path, raw)})
    if entry["kind"] == "image_folder":
        return _load_images(dataset, entry, Path(entry["path"]), rng)
    if entry["kind"] == "control":
        return _draw_control(dataset, entry, rng)
    if entry["kind"] == "digits":
        return _load_digits(dataset, entry, rng)
    raise DataError(f"{dataset}: unknown kind {entry['kind']!r}; use digits, idx, control or image_folder")


def split_indices(
    n: int, test_size: int, labels: np.ndarray | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Split 0 … n − 1 at random, every class in proportion where labels are given.

    A class of share p gets ⌊p · test_size⌋ test observations; those left over go to the largest remainders.

    Args:
        n: Number of observations.
        test_size: Number of test observations.
        labels: (n,) class of each observation, or None.
        rng: Source of the draw.

    Returns:
        Ascending train and test indices.
    """
    if not 0 < test_size < n:
        raise DataError(f"{test_size} of {n} observations cannot be set aside for testing")
    groups = [np.arange(n)] if labels is None else [np.flatnonzero(labels == label) for label in np.unique(labels)]
    shares = np.array([len(group) * test_size / n for group in groups])
    counts = np.floor(shares).astype(int)
    largest_first = np.argsort(counts - shares, kind="stable")
    counts[largest_first[: test_size - counts.sum()]] += 1
    test = np.concatenate([rng.permutation(group)[:count] for group, count in zip(groups, counts, strict=True)])
    is_test = np.zeros(n, dtype=bool)
    is_test[test] = True
    return np.flatnonzero(~is_test), np.flatnonzero(is_test)


def _draw_control(dataset: str, entry: Mapping[str, Any], rng: np.random.Generator) -> Dataset:
    eigenvalues = [float(value) for value in entry["eigenvalues"]]
    observations = draw_control(entry["source"], eigenvalues, entry["train_size"] + entry["test_size"], rng)
    metadata = {
        "dataset": dataset,
        "kind": "control",
        "image_shape": [len(eigenvalues)],
        "maximum": 1,
        "classes": None,
        "eigenvalues": eigenvalues,
        "source": entry["source"],
        "decoder_variance": float(entry.get("decoder_variance", 1.0)),
    }
    train, test = np.split(observations, [entry["train_size"]])
    return Dataset(train, test, None, None, metadata)


def _load_digits(dataset: str, entry: Mapping[str, Any], rng: np.random.Generator) -> Dataset:
    # scikit-learn takes most of a second to import, so only this data set pays for it.
    from sklearn.datasets import load_digits

    digits = load_digits()
    images, labels = digits.images.astype(np.uint8), digits.target.astype(np.int64)
    train, test = split_indices(len(images), entry["test_size"], labels, rng)
    loaded = Dataset(images[train], images[test], labels[train], labels[test], _image_metadata(dataset, entry))
    _check_images(dataset, "scikit-learn's digits", loaded.images_train, entry)
    return loaded


def _load_idx(dataset: str, entry: Mapping[str, Any], paths: Mapping[str, Path]) -> Dataset:
    arrays: dict[str, np.ndarray] = {}
    for role, name in IDX_FILES.items():
        if name not in paths:
            raise DataError(
                f"{dataset}: the file {name} ({role}) was not given; got {', '.join(sorted(paths)) or 'none'}"
            )
        array = arrays[role] = read_idx(paths[name])
        expected = entry.get("train_size" if role.endswith("train") else "test_size")
        if expected is not None and len(array) != expected:
            raise DataError(f"{paths[name]}: holds {len(array)} entries, but {dataset} has {expected}")
        if role.startswith("images"):
            _check_images(dataset, paths[name], array, entry)
        else:
            if array.ndim != 1:
                raise DataError(f"{paths[name]}: labels have one dimension, this file has {array.ndim}")
            if array.max() >= entry["classes"]:
                raise DataError(
                    f"{paths[name]}: holds label {array.max()}, but {dataset} has {entry['classes']} classes"
                )
            arrays[role] = array.astype(np.int64)
    for split in ("train", "test"):
        images, labels = arrays[f"images_{split}"], arrays[f"labels_{split}"]
        if len(labels) != len(images):
            path = paths[IDX_FILES[f"labels_{split}"]]
            raise DataError(f"{path}: holds {len(labels)} labels for {len(images)} images")
    return Dataset(metadata=_image_metadata(dataset, entry), **arrays)


def _load_images(dataset: str, entry: Mapping[str, Any], path: Path, rng: np.random.Generator) -> Dataset:
    found = read_image_folder(path, entry.get("image_shape"))
    if found.is_test is None:
        test_size = max(2, round(entry.get("test_fraction", 0.2) * len(found.images)))
        if len(found.images) - test_size < 2:
            raise DataError(f"{path}: holds {len(found.images)} images; each of train and test needs 2 or more")
        train, test = split_indices(len(found.images), test_size, found.labels, rng)
    else:
        train, test = np.flatnonzero(~found.is_test), np.flatnonzero(found.is_test)
        if min(len(train), len(test)) < 2:
            raise DataError(f"{path}: holds {len(train)} train and {len(test)} test images; each needs 2 or more")
    classes = None if found.class_names is None else len(found.class_names)
    if entry.get("classes") is not None and classes != entry["classes"]:
        raise DataError(f"{path}: has {classes or 'no'} class folders, but {dataset} has {entry['classes']} classes")
    # Files come sorted by class: shuffled, the first n are a fair sample.
    train, test = rng.permutation(train), rng.permutation(test)
    metadata = {
        "dataset": dataset,
        "kind": "image",
        "image_shape": list(found.images.shape[1:]),
        "maximum": 255,
        "classes": classes,
    }
    if found.class_names is not None:
        metadata["class_names"] = list(found.class_names)
    labels = (None, None) if found.labels is None else (found.labels[train], found.labels[test])
    return Dataset(found.images[train], found.images[test], *labels, metadata)


def _image_metadata(dataset: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    metadata = {
        "dataset": dataset,
        "kind": "image",
        "image_shape": list(entry["image_shape"]),
        "maximum": entry.get("maximum", 255),
        "classes": entry.get("classes"),
    }
    if "class_names" in entry:
        metadata["class_names"] = list(entry["class_names"])
    return metadata


def _check_images(dataset: str, source: str | Path, images: np.ndarray, entry: Mapping[str, Any]) -> None:
    told, found = tuple(entry["image_shape"]), images.shape[1:]
    if found != told:
        raise DataError(
            f"{source}: holds images of shape {list(found)}, but {dataset} has {list(told)} in the registry"
        )
    if images.max() > entry.get("maximum", 255):
        raise DataError(f"{source}: holds byte {images.max()}, but {dataset} has maximum {entry['maximum']}")
    if len(images) < 2:
        raise DataError(f"{source}: holds one image; a split needs 2 or more")
