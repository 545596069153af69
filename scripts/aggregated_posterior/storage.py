"""Reading and writing files: whole or not at all, without pickle, the same bytes for the same content."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

# safetensors writes its metadata as a hash map, in an order that changes from run to run once there are two keys.
# One key that holds sorted JSON keeps the bytes the same.
METADATA_KEY = "metadata"


class DataError(ValueError):
    """Input that cannot be used: the message says what is wrong, where, and what to do, in one or two lines."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside `path` that takes the final name only if the block ends without an error.

    The temporary file lies in the same folder, hence on the same file system, where `os.replace` is atomic: a reader
    sees the old file, the new file or none, never half of one. On an error the temporary file is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        # Some writers create files for their owner only; others who share a cache must be able to read them.
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        # A full disc is reported by a call that often does not know the file's name, a read-only folder by one that
        # knows the temporary name alone.
        if error.filename is None or str(error.filename) == str(temporary):
            raise OSError(error.errno, error.strerror or str(error), str(path)) from error
        raise
    finally:
        # In a read-only folder even this fails, and would hide the error that names the file.
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8 with Unix line ends."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: str | Path, content: Any) -> None:
    """Write JSON with sorted keys; a NaN becomes null, since JSON has no NaN."""
    write_text(path, json_text(content))


def json_text(content: Any) -> str:
    """JSON as `write_json` writes it."""
    return json.dumps(_without_nan(content), indent=1, sort_keys=True, allow_nan=False) + "\n"


def read_json(path: str | Path) -> Any:
    """Read a JSON file; raise `DataError` where it cannot be parsed."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error})") from None


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table as CSV without its index; numbers have 12 significant digits, so that files can be compared."""
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, float_format="%.12g", lineterminator="\n")


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a CSV table; raise `DataError` where it is missing, empty or not a table."""
    import pandas as pd

    try:
        return pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as a CSV table ({error})") from None


def write_arrays(path: str | Path, arrays: Mapping[str, np.ndarray], metadata: Mapping[str, Any] | None = None) -> None:
    """Write named arrays as a safetensors file.

    Args:
        path: The file's final name.
        arrays: Arrays of any shape in a dtype that safetensors knows.
        metadata: JSON content that travels in the file's header.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    header = {METADATA_KEY: json.dumps(_without_nan(dict(metadata or {})), sort_keys=True)}
    with atomic_path(path) as temporary:
        try:
            save_file(
                {name: np.ascontiguousarray(array) for name, array in arrays.items()},
                temporary,
                metadata=header,
            )
        except SafetensorError as error:
            raise DataError(f"{path}: cannot be written ({error}); is the disc full?") from None


def read_arrays(path: str | Path, names: list[str] | None = None) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Read named arrays (all of them, or `names` only) and the metadata of a safetensors file.

    Raises:
        DataError: The file is missing, truncated, no safetensors file, or lacks one of `names`.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as stream:
            available = sorted(stream.keys())
            missing = sorted(set(names or []) - set(available))
            if missing:
                raise DataError(f"{path}: has no array {', '.join(missing)}; it holds {', '.join(available)}")
            arrays = {name: stream.get_tensor(name) for name in names or available}
            header = stream.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise DataError(f"{path}: cannot be read as safetensors ({error}); make it again") from None
    return arrays, json.loads(header.get(METADATA_KEY, "{}"))


def _without_nan(content: Any) -> Any:
    if isinstance(content, Mapping):
        return {key: _without_nan(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [_without_nan(value) for value in content]
    if isinstance(content, np.generic):
        content = content.item()
    if isinstance(content, float) and not np.isfinite(content):
        return None
    return content
