"""Names of files to write, refused before any work where writing cannot succeed or would destroy what is read."""

from __future__ import annotations

import argparse
import errno
import os
from collections.abc import Iterable
from pathlib import Path
from tempfile import TemporaryFile

from ..storage import DataError, is_written_to_directly
from ..text import reason


def input_files(options: argparse.Namespace) -> set[str]:
    """The files that a command reads, links resolved: FILE or its shards, arrays in files of their own, the prior.

    Raises:
        DataError: FILE is a pattern that matches nothing, or a folder without a file that can be read.
    """
    from ..posterior.containers import shard_paths
    from .audit_command import reading_of

    named = [name for name in reading_of(options).asked() if name.lower().endswith(".npy")]
    paths = [*shard_paths(options.posteriors), *map(Path, named)]
    if getattr(options, "prior", None) is not None:
        paths.append(Path(options.prior))
    paths += [file for path in paths if path.is_dir() for file in path.glob("*.npy")]
    return {place_of(path) for path in paths}


def place_of(path: str | Path) -> str:
    """Where a path leads, links resolved; a link in a circle, where Path.resolve raises, leads to itself."""
    try:
        return os.path.realpath(path)
    except ValueError as error:
        raise DataError(f"{path}: is no name for a file ({reason(error)})") from None


def output_path(name: str, suffixes: tuple[str, ...], sources: Iterable[str]) -> Path:
    """The path of an output.

    Args:
        name: As the user gave it.
        suffixes: The endings that are known; the file's format follows from them.
        sources: The files that are read, which are never overwritten.

    Raises:
        DataError: A folder, another ending, the input itself, or a place where nothing can be written.
    """
    path = Path(name)
    if path.is_dir():
        raise DataError(f"--output: {path} is a folder; name a file")
    if path.suffix not in suffixes:
        raise DataError(f"--output: {path} ends in {path.suffix or 'nothing'!r}; expected {' or '.join(suffixes)}")
    if place_of(path) in {place_of(source) for source in sources}:
        raise DataError(f"--output: {path} is the input itself; name another file")
    refuse_unwritable("--output", path)
    return path


def refuse_unwritable(option: str, path: Path) -> None:
    """Refuse, before any work, a file that could not be written after it.

    Raises:
        DataError: The device cannot be written to, or no file can be made in the (nearest existing) folder.
    """
    try:
        if is_written_to_directly(path):
            if not os.access(path, os.W_OK):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
            return
        folder = next(place for place in path.absolute().parents if place.exists())
        # Tried, because neither permissions nor the kind of file system tell it all; the file has no name that stays.
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise DataError(
            f"{option}: {path} cannot be written ({reason(error)}); name a file in another folder"
        ) from None


def no_option(name: str) -> str:
    """A file's name as a word of a command line: one that begins with - would be taken for an option."""
    return f"./{name}" if name.startswith("-") else name
