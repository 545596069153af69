"""Labels as users have them: arrays, pandas columns, categories, text, with missing values, one column or several.

What comes out is a NumPy array with one label per row: float where labels are measurements (NaN where missing), text
or integers where they are classes ("" where missing), and a structured array of named columns where there are
several.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..storage import DataError

# Floats that are whole numbers are class numbers if there are at most this many different ones.
MOST_CLASSES = 100
# Floats beyond this are whole numbers because they have no digits left for anything else.
LARGEST_CLASS = 2.0**53


def as_labels(value: Any, name: str = "labels") -> np.ndarray:
    """Labels in the form that the module describes.

    Args:
        value: (N,) or (N, columns): an array, list, tensor, pandas Series, Categorical, Index or DataFrame, or a
            structured array.
        name: How the labels are called in error messages.

    Raises:
        DataError: Something other than numbers and text, infinite numbers, or no column.
    """
    named = _columns(value, name)
    if len(named) == 1:
        return next(iter(named.values()))
    table = np.empty(len(next(iter(named.values()))), [(key, column.dtype) for key, column in named.items()])
    for key, column in named.items():
        table[key] = column
    return table


def label_columns(labels: np.ndarray | None) -> dict[str, np.ndarray]:
    """Column by name; a single column is called ""."""
    if labels is None:
        return {}
    return {key: labels[key] for key in labels.dtype.names} if labels.dtype.names else {"": labels}


def is_missing(labels: np.ndarray) -> np.ndarray:
    """Which labels of one column are missing, (N,) booleans."""
    if labels.dtype.kind == "f":
        return np.isnan(labels)
    return labels == "" if labels.dtype.kind == "U" else np.zeros(len(labels), bool)


def missing_values(values: np.ndarray) -> np.ndarray:
    """Which of the values (N,) are missing, whatever their type, (N,) booleans."""
    return np.array([_is_nothing(value) for value in values]) if values.dtype == object else is_missing(values)


def without_mask(value: Any) -> Any:
    """A masked array as one of objects that holds None where something is masked; anything else as it is."""
    if not isinstance(value, np.ma.MaskedArray):
        return value
    masked = np.ma.getmaskarray(value)
    if not masked.any():
        return value.data
    values = value.data.astype(object)
    values[masked] = None
    return values


def _columns(value: Any, name: str) -> dict[str, np.ndarray]:
    if hasattr(value, "columns") and hasattr(value, "iloc"):  # a DataFrame
        columns = {str(column): value[column] for column in value.columns}
    elif getattr(value, "dtype", None) is not None and getattr(value.dtype, "names", None):
        columns = {column: value[column] for column in value.dtype.names}
    else:
        array = value = without_mask(value)
        if not hasattr(value, "codes") and not hasattr(value, "cat"):
            array = value.detach().cpu().numpy() if hasattr(value, "detach") else np.asarray(value)
            if array.ndim > 2:
                raise DataError(f"{name} has shape {array.shape}: expected (N,), or (N, columns)")
        if getattr(array, "ndim", 1) == 2 and array.shape[1] != 1:
            columns = {str(j): array[:, j] for j in range(array.shape[1])}
        else:
            columns = {"": array[:, 0] if getattr(array, "ndim", 1) == 2 else array}
    if not columns:
        raise DataError(f"{name} has no column; give one label per row")
    return {
        key: _one(column, name if len(columns) == 1 else f"{name}, column {key}") for key, column in columns.items()
    }


def _one(column: Any, name: str) -> np.ndarray:
    # pandas extension types (Categorical, nullable integers, text) become objects, and None, NaN, NaT and NA alike.
    column = without_mask(column)  # of a structured array
    dtype = getattr(column, "dtype", None)
    array = column if isinstance(column, np.ndarray) else np.asarray(column, dtype=None if dtype is None else object)
    if isinstance(dtype, np.dtype) and array.dtype == object and dtype.kind != "O":
        array = array.astype(dtype)
    if array.dtype.kind == "S":
        return np.char.decode(array, "utf-8", "replace")
    if array.dtype.kind in "biuU":
        return array
    if array.dtype.kind == "f":
        return _numbers(array.astype(np.float64), name)
    if array.dtype.kind != "O":
        raise DataError(f"{name} has type {array.dtype}: expected class numbers, names or real numbers")
    missing = np.array([_is_nothing(value) for value in array])
    present = array[~missing]
    if any(isinstance(value, bool | np.bool_ | str | bytes) for value in present):
        texts = [value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value) for value in present]
        result = np.full(len(array), "", dtype=f"U{max([1, *map(len, texts)])}")
        result[~missing] = texts
        return result
    try:
        numbers = np.full(len(array), np.nan)
        numbers[~missing] = [float(value) for value in present]
    except (TypeError, ValueError):
        kinds = sorted({type(value).__name__ for value in present})
        raise DataError(f"{name} holds {', '.join(kinds)}: expected class numbers, names or real numbers") from None
    return _numbers(numbers, name)


def _numbers(numbers: np.ndarray, name: str) -> np.ndarray:
    """Measurements as they are; class numbers that came as floats as integers, or as text where some are missing."""
    if np.isinf(numbers).any():
        row = int(np.flatnonzero(np.isinf(numbers))[0])
        raise DataError(f"{name}: row {row} is {numbers[row]}; expected class numbers, names or real numbers")
    present = numbers[~np.isnan(numbers)]
    different = np.unique(present)
    if (
        len(different) > min(MOST_CLASSES, max(2, len(present) // 2))
        or not ((different == np.round(different)) & (np.abs(different) <= LARGEST_CLASS)).all()
    ):
        return numbers
    whole = np.where(np.isnan(numbers), 0, numbers).astype(np.int64)
    return np.where(np.isnan(numbers), "", whole.astype(str)) if len(present) < len(numbers) else whole


def _is_nothing(value: Any) -> bool:
    """None, NaN, pandas' NA and NaT, and empty text."""
    if value is None or value == "":
        return True
    try:
        return bool(value != value)
    except TypeError:  # pandas' NA answers a comparison with NA, which is neither true nor false
        return True
