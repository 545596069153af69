"""Names of files to write, refused before any work where writing cannot succeed."""

from __future__ import annotations

from pathlib import Path

from ..storage import DataError


def output_path(name: str, suffixes: tuple[str, ...], source: str) -> Path:
    """The path of an output.

    Args:
        name: As the user gave it.
        suffixes: The endings that are known; the file's format follows from them.
        source: The input, which is never overwritten.

    Raises:
        DataError: A folder, another ending, or the input itself.
    """
    path = Path(name)
    if path.is_dir():
        raise DataError(f"--output: {path} is a folder; name a file")
    if path.suffix not in suffixes:
        raise DataError(f"--output: {path} ends in {path.suffix or 'nothing'!r}; expected {' or '.join(suffixes)}")
    if path.resolve() == Path(source).resolve():
        raise DataError(f"--output: {path} is the input itself; name another file")
    return path
