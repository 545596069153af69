"""Reading and writing files: whole or not at all, without pickle, the same bytes for the same content."""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from .text import for_csv, for_terminal, listed, reason

if TYPE_CHECKING:
    import pandas as pd

# safetensors writes its metadata as a hash map, in an order that changes from run to run once there are two keys.
# One key that holds sorted JSON keeps the bytes the same.
METADATA_KEY = "metadata"
LONGEST_MESSAGE = 1_500
# Columns of tables that hold names of a user's choice: one may be called NA, 007 or 1e5.
NAMES = ("experiment", "dataset", "architecture", "likelihood")


class DataError(ValueError):
    """Input that cannot be used: the message says what is wrong, where, and what to do, in one line.

    Messages hold names that strangers chose; here, once for all of them, whatever could act on a terminal is written
    out, and what is too long to read is shortened.
    """

    def __str__(self) -> str:
        return for_terminal(super().__str__(), LONGEST_MESSAGE)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name that takes the final name only if the block ends without an error.

    The temporary file lies in the same folder, hence on the same file system, where `os.replace` is atomic: a reader
    sees the old file, the new file or none, never half of one. On an error the temporary file is removed.

    Only regular files are replaced. A link to one is replaced too, and the file that it led to is left alone. A device
    or a pipe (also by a link, as /dev/stdout) is written to once the block has ended, and receives nothing on an error;
    a file that lies behind it keeps what it held.

    Raises:
        DataError: `path` is a folder, or no name that a file can have.
        OSError: It cannot be written; the error names `path`.
    """
    path = Path(path)
    try:
        if path.is_dir():
            raise DataError(f"{path}: is a folder; name a file")
        direct = is_written_to_directly(path)
    except ValueError as error:
        raise error if isinstance(error, DataError) else DataError(f"{path}: is no name for a file ({error})") from None
    if direct:
        with TemporaryDirectory() as folder:
            temporary = Path(folder) / "content"
            yield temporary
            _copy_into(temporary, path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    # The name's end, since 255 bytes are all that most file systems allow.
    temporary = path.with_name(f".{path.name[-50:]}.{uuid.uuid4().hex}.part")
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


def is_written_to_directly(path: Path) -> bool:
    """Whether a path leads to a device, a pipe or an open file of a process: replacing these would destroy them."""
    try:
        folder = path.parent.resolve()
        if path.is_symlink() and (folder == Path("/dev") or folder.is_relative_to("/proc")):
            return True
        return not stat.S_ISREG(path.stat().st_mode)
    except (OSError, RuntimeError):
        # Nothing there yet, or a link that leads nowhere (in a circle, Python 3.11 raises a RuntimeError).
        return False


def _copy_into(source: Path, path: Path) -> None:
    try:
        with source.open("rb") as content, _opened(path) as target:
            shutil.copyfileobj(content, target)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error


def _opened(path: Path) -> BinaryIO:
    """A device, pipe or open file, to write behind what it holds.

    Standard output and error are not opened anew: words before and after would be written to the same place.
    """
    for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
        with suppress(OSError):
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                if stream is not None:
                    stream.flush()
                return os.fdopen(os.dup(descriptor), "wb")
    return path.open("ab")


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8 with Unix line ends."""
    with atomic_path(path) as temporary:
        # A name that is no UTF-8 is written out rather than refused at the end of the work.
        temporary.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")


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
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({reason(error)})") from None


def write_table(path: str | Path, table: pd.DataFrame) -> None:
    """Write a table as CSV without its index; numbers have 12 significant digits, so that files can be compared.

    Text that a spreadsheet would compute is written with an apostrophe before it; see `text.for_csv`.
    """
    with atomic_path(path) as temporary:
        table_of_text(table).to_csv(temporary, index=False, float_format="%.12g", lineterminator="\n")


def table_of_text(table: pd.DataFrame) -> pd.DataFrame:
    """The table with every name and every cell of text made fit for CSV; numbers are untouched."""
    table = table.rename(columns=for_csv)
    for position, dtype in enumerate(table.dtypes):
        if dtype.kind in "biufc":
            continue
        column = table.iloc[:, position]
        fit = {value: for_csv(value) for value in column.unique() if isinstance(value, str)}
        if any(value != text for value, text in fit.items()):
            column = column.map(lambda value, fit=fit: fit.get(value, value) if isinstance(value, str) else value)
            table.isetitem(position, column)
    return table


def read_table(path: str | Path) -> pd.DataFrame:
    """Read a CSV table; columns of names (`NAMES`) stay text, whatever they look like.

    Raises:
        DataError: It is missing, empty or not a table.
    """
    import pandas as pd

    try:
        # Opened here: pandas takes a name like https://… for an address, and one like x.zip for an archive.
        with Path(path).open(encoding="utf-8", newline="") as stream:
            table = pd.read_csv(stream)
            if len(table):  # without rows nothing was guessed
                stream.seek(0)
                text = {"dtype": str, "keep_default_na": False, "na_values": [""]}
                names = pd.read_csv(stream, usecols=lambda column: column in NAMES, **text)
                table[names.columns] = names
            return table
    except (OSError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: cannot be read as a CSV table ({reason(error)})") from None


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
            # The system's own words, where the library hands on its number.
            code = re.search(r"\(os error (\d+)\)", str(error))
            says = os.strerror(int(code[1])) if code else f"{reason(error)}; is the disc full?"
            raise DataError(f"{path}: cannot be written ({says})") from None


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
                raise DataError(f"{path}: has no array {listed(missing)}; it holds {listed(available)}")
            arrays = {name: stream.get_tensor(name) for name in names or available}
            header = stream.metadata() or {}
        metadata = json.loads(header.get(METADATA_KEY, "{}"))
    except DataError:
        raise
    except (OSError, SafetensorError, ValueError, TypeError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as safetensors ({reason(error)}); make it again") from None
    return arrays, metadata


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
