"""Walk the files of a folder, a .tar.gz or a .zip archive, without unpacking it and without leaving it.

Archives come from strangers. Nothing is written to disc, no link is followed out of the tree, and no member
can be larger than a limit, whatever its header or its compression claims.
"""

from __future__ import annotations

import lzma
import os
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from ..storage import DataError
from ..text import reason

MAXIMUM_FILE_BYTES = 64 * 1024**2
MAXIMUM_TREE_BYTES = 8 * 1024**3
TAR_BLOCK = 512


def walk_files(path: str | Path, suffixes: tuple[str, ...]) -> Iterator[tuple[PurePosixPath, bytes | None]]:
    """Yield every file's path within the tree, with its content where its suffix is in `suffixes`, else None.

    Args:
        path: A folder, or an archive whose name ends in .tar.gz, .tgz or .zip.
        suffixes: Suffixes in lower case, with their dots, of the files to read.

    Yields:
        Relative path and content; a folder's files in sorted order, an archive's in its own.

    Raises:
        DataError: The tree is missing or damaged, has a link or member that leaves it, or exceeds a limit.
    """
    path = Path(path)
    name = path.name.lower()
    if path.is_dir():
        walker = _walk_folder
    elif not path.exists():
        raise DataError(f"{path}: no such folder or archive")
    elif name.endswith((".tar.gz", ".tgz")):
        walker = _walk_tar
    elif name.endswith(".zip"):
        walker = _walk_zip
    else:
        raise DataError(f"{path}: is neither a folder nor a .tar.gz, .tgz or .zip archive")
    try:
        yield from walker(path, suffixes)
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        struct.error,
        EOFError,
        NotImplementedError,
        RuntimeError,
        UnicodeDecodeError,
    ) as error:
        raise DataError(f"{path}: is a damaged or unsupported archive ({reason(error)})") from None
    except OSError as error:
        raise DataError(f"{error.filename or path}: cannot be read ({reason(error)})") from None


def list_files(path: str | Path) -> list[str]:
    """The regular files of a folder, sorted, or the archive itself: what a workflow has to watch for changes.

    A folder's own time stamp does not move when a file in it changes, and its content cannot be hashed.
    """
    path = Path(path)
    try:
        if not path.is_dir():
            return [str(path)]
        return sorted(str(file) for file in path.rglob("*") if file.is_file())
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from None


def _walk_folder(root: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[PurePosixPath, bytes | None]]:
    real_root = root.resolve()

    def stop(error: OSError) -> None:
        raise error

    for folder, folders, files in os.walk(root, onerror=stop):
        folders.sort()
        for name in folders:
            if (Path(folder) / name).is_symlink():
                raise DataError(
                    f"{Path(folder) / name}: is a symbolic link to a folder; put the files themselves there"
                )
        for name in sorted(files):
            file = Path(folder) / name
            relative = _checked(file.relative_to(root).as_posix(), root)
            if file.is_symlink() and not file.resolve().is_relative_to(real_root):
                raise DataError(f"{file}: is a symbolic link out of the folder; put the file itself there")
            wanted = relative.suffix.lower() in suffixes
            if wanted:
                status = file.stat()
                if not stat.S_ISREG(status.st_mode):
                    raise DataError(f"{file}: is not a regular file")
                if status.st_size > MAXIMUM_FILE_BYTES:
                    raise DataError(f"{file}: has {status.st_size} bytes, more than the limit of {MAXIMUM_FILE_BYTES}")
            yield relative, file.read_bytes() if wanted else None


class _LimitedReader:
    """A forward reader over a gzip stream that stops where a tree grows past its limit.

    tarfile believes the sizes in an archive's headers, and reads a long name of any length into memory at
    once.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.tail = b""

    def read(self, size: int) -> bytes:
        if size > MAXIMUM_FILE_BYTES:
            raise DataError(f"has an entry of {size} bytes, more than the limit of {MAXIMUM_FILE_BYTES}")
        data = self._stream.read(size)
        if self.tell() > MAXIMUM_TREE_BYTES:
            raise DataError(f"unpacks to more than the limit of {MAXIMUM_TREE_BYTES} bytes")
        self.tail = (self.tail + data)[-TAR_BLOCK:]
        return data

    def seek(self, position: int) -> int:
        if position < self.tell():
            return self._stream.seek(position)
        if position > MAXIMUM_TREE_BYTES:
            raise DataError(f"unpacks to more than the limit of {MAXIMUM_TREE_BYTES} bytes")
        while self.tell() < position and self.read(min(position - self.tell(), 1024**2)):
            pass
        return self.tell()

    def tell(self) -> int:
        return self._stream.tell()


def _walk_tar(path: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[PurePosixPath, bytes | None]]:
    import gzip

    seen: set[PurePosixPath] = set()
    with gzip.open(path, "rb") as inflated:
        stream = _LimitedReader(inflated)
        try:
            with tarfile.open(fileobj=stream, mode="r:") as archive:
                for member in archive:
                    # The list of members would otherwise keep every header in memory.
                    archive.members = []
                    relative = _checked(member.name, path)
                    if member.isdir():
                        continue
                    if member.issym() or member.islnk():
                        raise DataError(f"its member {relative} is a link; pack the file itself")
                    if not member.isreg():
                        raise DataError(f"its member {relative} is not a regular file")
                    _check_member(relative, member.size, seen)
                    content = None
                    if relative.suffix.lower() in suffixes:
                        content = archive.extractfile(member).read()
                        if len(content) != member.size:
                            raise DataError(f"is cut short within its member {relative}")
                    yield relative, content
                # tarfile takes the end of the data for the end of the archive. Read to the end: gzip checks
                # its CRC there.
                while stream.read(1024**2):
                    pass
                if stream.tail.strip(b"\0"):
                    raise DataError("is cut short (the tar archive has no end mark)")
        except DataError as error:
            raise DataError(str(error) if str(error).startswith(str(path)) else f"{path}: {error}") from None


def _walk_zip(path: Path, suffixes: tuple[str, ...]) -> Iterator[tuple[PurePosixPath, bytes | None]]:
    seen: set[PurePosixPath] = set()
    total = 0
    with zipfile.ZipFile(path) as archive:
        for member in archive.infolist():
            relative = _checked(member.filename, path)
            if not member.filename:  # cut at a NUL; zipfile's own question below fails on it
                raise zipfile.BadZipFile("a member has no name")
            if member.is_dir():
                continue
            kind = stat.S_IFMT(member.external_attr >> 16)
            if kind not in (0, stat.S_IFREG):
                what = "a link; pack the file itself" if kind == stat.S_IFLNK else "not a regular file"
                raise DataError(f"{path}: its member {relative} is {what}")
            if member.flag_bits & 1:
                raise DataError(f"{path}: its member {relative} is encrypted; pack it without a password")
            try:
                _check_member(relative, member.file_size, seen)
            except DataError as error:
                raise DataError(f"{path}: {error}") from None
            total += member.file_size
            if total > MAXIMUM_TREE_BYTES:
                raise DataError(f"{path}: unpacks to more than the limit of {MAXIMUM_TREE_BYTES} bytes")
            content = None
            # Opening compares the two places where a member's name stands, so it is done for skipped ones too.
            with archive.open(member) as stream:
                if relative.suffix.lower() in suffixes:
                    # One byte more than told: a member that goes on past its header is caught, not inflated.
                    content = stream.read(member.file_size + 1)
            if content is not None and len(content) != member.file_size:
                raise DataError(f"{path}: its member {relative} is not as long as its header tells")
            yield relative, content


def _checked(name: str, tree: Path) -> PurePosixPath:
    """Refuse a name that leaves the tree, or that cannot be written to a log."""
    relative = PurePosixPath(name)
    if relative.is_absolute() or ".." in relative.parts or "\\" in name:
        raise DataError(f"{tree}: its member {name!r} leaves the folder; pack it with plain relative names")
    if not name.isprintable():
        raise DataError(f"{tree}: the name {name!r} has characters that cannot be shown; rename the file")
    return relative


def _check_member(relative: PurePosixPath, size: int, seen: set[PurePosixPath]) -> None:
    if size > MAXIMUM_FILE_BYTES:
        raise DataError(f"its member {relative} has {size} bytes, more than the limit of {MAXIMUM_FILE_BYTES}")
    if relative in seen:
        raise DataError(f"its member {relative} is there twice")
    seen.add(relative)
