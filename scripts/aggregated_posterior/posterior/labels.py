"""Labels as users have them: arrays, pandas columns, categories, text, with missing values, one column or several.

What comes out is a NumPy array with one label per row: float where labels are measurements (NaN where missing), text
or integers where they are classes ("" where missing), and a structured array of named columns where there are
several.
"""

from __future__ import annotations

from datetime import date
from numbers import Integral, Real
from typing import Any

import numpy as np

from ..storage import DataError
from .containers import as_array

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
    if labels.dtype.kind in "mM":
        return np.isnat(labels)
    return labels == labels.dtype.type() if labels.dtype.kind in "US" else np.zeros(len(labels), bool)


def missing_values(values: np.ndarray) -> np.ndarray:
    """Which of the values (N,) are missing, whatever their type, (N,) booleans."""
    return np.array([_is_nothing(value) for value in values]) if values.dtype == object else is_missing(values)


def numbering(parts: list[np.ndarray], name: str) -> np.ndarray:
    """A number for every value of the parts (N_i,), one part after the other, (ΣN_i,): the same for equal values.

    Values are compared and not the arrays' types: 1, 1.0, True and the text "1" are equal.

    Raises:
        DataError: Dates in one part and something else in another.
    """
    if len({_holds_dates(part) for part in parts}) > 1:
        raise DataError(f"{name} are dates in one half and something else in the other; write them alike in both")
    kinds = {part.dtype.kind for part in parts}
    if len(kinds) > 1 or "O" in kinds:
        parts = [np.array([_as_text(x) for x in (part if part.dtype.kind == "M" else part.tolist())]) for part in parts]
    return np.unique(np.concatenate(parts), return_inverse=True)[1]


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
        columns = _of_table(value, name)
    elif getattr(value, "dtype", None) is not None and getattr(value.dtype, "names", None):
        columns = {column: value[column] for column in value.dtype.names}
    else:
        array = value = without_mask(value)
        if not hasattr(value, "codes") and not hasattr(value, "cat"):
            array = as_array(value, name)
            if array.ndim not in (1, 2):
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


def _of_table(table: Any, name: str) -> dict[str, Any]:
    """The columns of a DataFrame by name; a single one needs none."""
    names = [str(column) for column in table.columns]
    if len(names) > 1 and "" in names:
        raise DataError(f"{name} has a column without a name, column {names.index('')}; name it")
    if twice := [column for column in names if names.count(column) > 1]:
        raise DataError(f"{name} has {names.count(twice[0])} columns called {twice[0]}; give each a name of its own")
    return {column: table.iloc[:, j] for j, column in enumerate(names)}


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


def _holds_dates(values: np.ndarray) -> bool:
    kind = values.dtype.kind
    return kind == "M" or (kind == "O" and any(isinstance(value, date | np.datetime64) for value in values))


def _as_text(value: Any) -> str:
    """A text that is the same for equal values."""
    if isinstance(value, date | np.datetime64):
        import pandas as pd  # here, because few inputs need it

        return pd.Timestamp(value).isoformat()
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    whole = isinstance(value, Integral | np.bool_) or (isinstance(value, Real) and float(value).is_integer())
    return str(int(value) if whole else value)


def _is_nothing(value: Any) -> bool:
    """None, NaN, pandas' NA and NaT, and empty text."""
    try:
        return value is None or bool(value == "") or bool(value != value)
    except TypeError:  # pandas' NA answers a comparison with NA, which is neither true nor false
        return True
    except ValueError:  # an array, which is no label but not missing
        return False
