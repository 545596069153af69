"""Named arrays out of a stranger's `.npz` or `.safetensors` file, without pickle, with errors that name the array."""

from __future__ import annotations

import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from .storage import DataError

# What damaged or foreign archives make NumPy and zipfile raise; MemoryError comes from a header with a false shape.
_DAMAGE = (
    OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, NotImplementedError, RuntimeError, MemoryError,
    OverflowError, SyntaxError, struct.error, zipfile.BadZipFile, zlib.error, lzma.LZMAError,
)  # fmt: skip


def read_named_arrays(path: str | Path, wanted: Iterable[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Read those of the `wanted` arrays that a file holds.

    Args:
        path: A `.npz` file (`numpy.savez`) or a `.safetensors` file.
        wanted: Names to look for.

    Returns:
        The arrays found, by name, and the sorted names of all arrays in the file.

    Raises:
        DataError: No such file, a folder, another ending, a damaged file, a pickle in place of an array.
    """
    path = Path(path)
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name the .npz or .safetensors file in it")
    if path.suffix not in (".npz", ".safetensors"):
        raise DataError(f"{path}: ends in {path.suffix or 'nothing'!r}; posteriors come as .npz or .safetensors")
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: is empty (0 bytes); write it again")
    read = _read_npz if path.suffix == ".npz" else _read_safetensors
    return read(path, set(wanted))


def _read_npz(path: Path, wanted: set[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    # Asked here because NumPy calls any file that is no zip archive a pickle.
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: is no .npz archive, or was cut off; write it again with numpy.savez")
    arrays: dict[str, np.ndarray] = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = sorted(archive.files)
            for member in archive.zip.namelist():
                name = member.removesuffix(".npy")
                if not member.endswith(".npy"):
                    raise DataError(f"{path}: {member} is no array; write the file with numpy.savez")
                _refuse_pickle(path, archive.zip, member)
                if name in wanted:
                    arrays[name] = _member(path, archive, name)
    except DataError:
        raise
    except _DAMAGE as error:
        raise DataError(f"{path}: cannot be read as .npz ({_one_line(error)}); write it again") from None
    return arrays, names


def _refuse_pickle(path: Path, archive: zipfile.ZipFile, member: str) -> None:
    """Look at an array's header only: an array of Python objects is stored as a pickle, which could run code."""
    name = member.removesuffix(".npy")
    try:
        with archive.open(member) as stream:
            version = np.lib.format.read_magic(stream)
            reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            dtype = reader(stream)[2]
    except _DAMAGE as error:
        raise DataError(f"{path}: array {name} cannot be read ({_one_line(error)}); write the file again") from None
    if dtype.hasobject:
        raise DataError(
            f"{path}: array {name} holds Python objects, stored as a pickle, which is never loaded; save numbers"
        )


def _member(path: Path, archive: np.lib.npyio.NpzFile, name: str) -> np.ndarray:
    try:
        return archive[name]
    except _DAMAGE as error:
        raise DataError(f"{path}: array {name} cannot be read ({_one_line(error)}); write the file again") from None


def _read_safetensors(path: Path, wanted: set[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    from safetensors import SafetensorError, safe_open

    arrays: dict[str, np.ndarray] = {}
    try:
        with safe_open(path, framework="numpy") as stream:
            names = sorted(stream.keys())
            for name in names:
                if name not in wanted:
                    continue
                kind = stream.get_slice(name).get_dtype()
                if kind.startswith(("BF", "F8", "F4")):
                    raise DataError(f"{path}: array {name} has type {kind}, which NumPy lacks; save it as float32")
                arrays[name] = stream.get_tensor(name)
    except DataError:
        raise
    except (SafetensorError, *_DAMAGE) as error:
        raise DataError(f"{path}: cannot be read as safetensors ({_one_line(error)}); write it again") from None
    return arrays, names


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
