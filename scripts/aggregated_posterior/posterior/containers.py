"""Named arrays in the files that people save: `.npz`, `.npy`, `.safetensors`, `.h5ad`, `.csv`, and folders of them.

Nothing here knows what an array means, and nothing is ever unpickled. Arrays of more than `MAPPED_BYTES` that lie in
a file as they lie in memory are mapped and not read, so that a file may be larger than the memory.
"""

from __future__ import annotations

import contextlib
import glob
import json
import lzma
import re
import struct
import subprocess
import sys
import tempfile
import threading
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..storage import DataError
from ..text import listed, reason
from . import h5ad

if TYPE_CHECKING:
    import pandas as pd

MAPPED_BYTES = 64 * 2**20
# How long the HDF5 library may take for a file.
H5AD_SECONDS, H5AD_BYTES_PER_SECOND = 60, 10_000_000
ENDINGS = (".npz", ".npy", ".safetensors", ".h5ad", ".csv")
KNOWN = ".npz or .safetensors (or .npy, .h5ad, .csv)"
# What damaged or foreign archives make NumPy and zipfile raise; MemoryError comes from a header with a false shape.
_DAMAGE = (
    OSError, ValueError, EOFError, KeyError, TypeError, AttributeError, NotImplementedError, RuntimeError, MemoryError,
    OverflowError, SyntaxError, struct.error, tokenize.TokenError, zipfile.BadZipFile, zlib.error,
    lzma.LZMAError, IndexError,
)  # fmt: skip
# safetensors' names of types, as NumPy's; BF16 is widened, see `_bfloat16`.
_SAFETENSORS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?",
}  # fmt: skip
Wanted = Callable[[str], bool]


def read_named_arrays(path: str | Path, wanted: Iterable[str] | Wanted) -> tuple[dict[str, np.ndarray], list[str]]:
    """Read those of the `wanted` arrays that a file holds.

    Args:
        path: A file with one of the endings `ENDINGS`, in small or capital letters. A `.npy` file holds one array,
            named like the file without its ending; a folder without shards holds its `.npy` files.
        wanted: Names to look for, or a function that says of a name whether it is wanted.

    Returns:
        The arrays found, by name, and the sorted names of all arrays in the file.

    Raises:
        DataError: No such file, a pipe, another ending, a damaged file, a pickle in place of an array.
    """
    path = Path(path)
    if not callable(wanted):
        names = set(wanted)
        wanted = names.__contains__
    if path.is_dir():
        return _read_folder(path, wanted)
    if str(path) == "-" or (path.exists() and not path.is_file()):
        raise DataError(f"{path}: is no regular file (a pipe or standard input); save it as {KNOWN}")
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise DataError(f"{path}: ends in {path.suffix or 'nothing'!r}; posteriors come as {KNOWN}")
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise DataError(f"{path}: is empty (0 bytes); write it again")
    readers = {
        ".npz": _read_npz, ".npy": _read_npy, ".safetensors": _read_safetensors, ".h5ad": _read_h5ad, ".csv": _read_csv,
    }  # fmt: skip
    return readers[ending](path, wanted)


def shard_paths(source: str | Path) -> list[Path]:
    """The files that `source` stands for: itself, the shards that a pattern with * or ? matches, or those in a folder.

    Shards are read in the order of their names, where numbers count as numbers (shard-2 before shard-10).

    Raises:
        DataError: A pattern that matches nothing, a folder without a file that can be read.
    """
    if not str(source):  # an unset variable; Path takes it for the working folder
        raise DataError("the file's name is empty; name a file")
    path = Path(source)
    if path.is_dir():
        found = [file for file in path.iterdir() if file.suffix.lower() in ENDINGS and not file.name.startswith(".")]
        if not found:
            raise DataError(f"{path}: is a folder without a {KNOWN} file; name the file or the folder of the shards")
        # A folder of .npy files is one set of arrays, not a row of shards.
        return [path] if all(file.suffix.lower() == ".npy" for file in found) else sorted(found, key=_natural)
    if path.exists() or not glob.has_magic(str(source)):
        return [path]
    matches = [Path(name) for name in glob.glob(str(source), recursive=True)]  # noqa: PTH207 (absolute patterns too)
    if not matches:
        raise DataError(f"{source}: no file matches this pattern")
    return sorted(matches, key=_natural)


def as_array(value: object, name: str) -> np.ndarray:
    """A NumPy array of an array, a table or a tensor, without importing the library that it comes from.

    torch tensors may require gradients, live on a GPU or be of bfloat16, which NumPy lacks (it becomes float32).

    Raises:
        DataError: It is no array, or an array in which something is masked.
    """
    if isinstance(value, np.ma.MaskedArray) and np.ma.is_masked(value):
        row = int(np.nonzero(np.atleast_1d(np.ma.getmaskarray(value)))[0][0])
        raise DataError(f"{name}: row {row} is masked; leave such rows out of all arrays")
    try:
        if hasattr(value, "detach"):
            value = value.detach().cpu()
            try:
                return value.numpy()
            except TypeError:
                return value.float().numpy()
        array = np.asarray(value)
        if array.dtype == object and hasattr(value, "iloc") and _are_floats(value):
            return value.to_numpy(dtype=np.float64, na_value=np.nan)
        # JAX and ml_dtypes have a bfloat16 of their own that NumPy's functions do not know.
        return array.astype(np.float32) if array.dtype.name == "bfloat16" else array
    except (TypeError, ValueError, RuntimeError) as error:  # the last from torch
        raise DataError(f"{name}: cannot be read as an array ({reason(error)})") from None


def _are_floats(table: object) -> bool:
    """Whether all columns of a pandas object are floats, some of a type that can be missing (Float64)."""
    return all(dtype.kind == "f" for dtype in (table.dtypes if hasattr(table, "columns") else [table.dtype]))


def _natural(path: Path) -> list[object]:
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(path))]


def _read_folder(path: Path, wanted: Wanted) -> tuple[dict[str, np.ndarray], list[str]]:
    files = {file.stem: file for file in sorted(path.glob("*.npy"))}
    arrays = {name: _read_npy(file, wanted)[0][name] for name, file in files.items() if wanted(name)}
    return arrays, sorted(files)


def _read_npy(path: Path, wanted: Wanted) -> tuple[dict[str, np.ndarray], list[str]]:
    if not wanted(path.stem):
        return {}, [path.stem]
    try:
        mode = "r" if path.stat().st_size > MAPPED_BYTES else None
        array = np.load(path, mmap_mode=mode, allow_pickle=False)
    except _DAMAGE as error:
        raise DataError(f"{path}: cannot be read as .npy ({reason(error)}); write it again with numpy.save") from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise DataError(f"{path}: is an .npz archive and no .npy file; rename it to {path.stem}.npz")
    return {path.stem: array}, [path.stem]


def _read_npz(path: Path, wanted: Wanted) -> tuple[dict[str, np.ndarray], list[str]]:
    # Asked here because NumPy calls any file that is no zip archive a pickle.
    if not zipfile.is_zipfile(path):
        raise DataError(f"{path}: is no .npz archive, or was cut off; write it again with numpy.savez")
    arrays: dict[str, np.ndarray] = {}
    try:
        with np.load(path, allow_pickle=False) as archive:
            names = sorted(archive.files)
            if twice := {name for name in names if names.count(name) > 1} if len(set(names)) < len(names) else None:
                raise DataError(f"{path}: holds {listed(sorted(twice))} twice; write the file again")
            for member in archive.zip.infolist():
                name = member.filename.removesuffix(".npy")
                if not member.filename.endswith(".npy"):
                    raise DataError(f"{path}: {member.filename} is no array; write the file with numpy.savez")
                _refuse_pickle(path, archive.zip, member.filename)
                if wanted(name):
                    arrays[name] = _member(path, archive, name, member)
    except DataError:
        raise
    except _DAMAGE as error:
        raise DataError(f"{path}: cannot be read as .npz ({reason(error)}); write it again") from None
    return arrays, names


def _refuse_pickle(path: Path, archive: zipfile.ZipFile, member: str) -> None:
    """Look at an array's header only: an array of Python objects is stored as a pickle, which could run code."""
    name = member.removesuffix(".npy")
    try:
        with archive.open(member) as stream:
            dtype = _npy_header(stream)[2]
    except _DAMAGE as error:
        raise DataError(f"{path}: array {name} cannot be read ({reason(error)}); write the file again") from None
    if dtype.hasobject:
        raise DataError(
            f"{path}: array {name} holds Python objects, stored as a pickle, which is never loaded; save numbers"
        )


def _npy_header(stream) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    reader = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return reader(stream)


def _member(path: Path, archive: np.lib.npyio.NpzFile, name: str, member: zipfile.ZipInfo) -> np.ndarray:
    try:
        if member.compress_type == zipfile.ZIP_STORED and member.file_size > MAPPED_BYTES:
            return _mapped_member(path, member)
        return archive[name]
    except _DAMAGE as error:
        raise DataError(f"{path}: array {name} cannot be read ({reason(error)}); write the file again") from None


def _mapped_member(path: Path, member: zipfile.ZipInfo) -> np.ndarray:
    """Map an array that lies uncompressed in a zip archive: 30 bytes of local header, a name, extras, the .npy file."""
    with path.open("rb") as stream:
        stream.seek(member.header_offset + 26)
        name_length, extra_length = struct.unpack("<HH", stream.read(4))
        stream.seek(name_length + extra_length, 1)
        begin = stream.tell()
        shape, fortran, dtype = _npy_header(stream)
        if begin + member.file_size < stream.tell() + dtype.itemsize * int(np.prod(shape, dtype=np.int64)):
            raise ValueError("the header promises more numbers than there are")
        return np.memmap(path, dtype, "r", stream.tell(), shape, "F" if fortran else "C")


def _read_safetensors(path: Path, wanted: Wanted) -> tuple[dict[str, np.ndarray], list[str]]:
    from safetensors import SafetensorError, safe_open

    arrays: dict[str, np.ndarray] = {}
    try:
        # The library checks the whole header against the file's size; after that the numbers may simply be mapped.
        with safe_open(path, framework="numpy") as stream:
            names = sorted(stream.keys())
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(8), "little")
            header = json.loads(stream.read(length))
        for name in filter(wanted, names):
            entry = header[name]
            if entry["dtype"] not in _SAFETENSORS:
                raise DataError(
                    f"{path}: array {name} has type {entry['dtype']}, which NumPy lacks; save it as float32"
                )
            first, last = entry["data_offsets"]
            dtype, shape = np.dtype(_SAFETENSORS[entry["dtype"]]), tuple(entry["shape"])
            if last == first:
                arrays[name] = np.empty(shape, dtype)
                continue
            array = np.memmap(path, dtype, "r", 8 + length + first, shape)
            if entry["dtype"] == "BF16":
                arrays[name] = _bfloat16(array)
            else:
                arrays[name] = array if last - first > MAPPED_BYTES else np.array(array)
    except DataError:
        raise
    except (SafetensorError, *_DAMAGE) as error:
        raise DataError(f"{path}: cannot be read as safetensors ({reason(error)}); write it again") from None
    return arrays, names


def _bfloat16(bits: np.ndarray) -> np.ndarray:
    """bfloat16 is the upper half of a float32."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _read_csv(path: Path, wanted: Wanted) -> tuple[dict[str, np.ndarray], list[str]]:
    """Columns name_0, name_1, … (or name0, name.0, name[0]) are one array (N, d); any other column is an array (N,)."""
    import pandas as pd

    try:
        header = [str(column) for column in pd.read_csv(path, nrows=0).columns]
        if len(header) == 1 and (other := re.search("[;\t]", header[0])):
            mark = "semicolons" if other[0] == ";" else "tabs"
            raise DataError(f"{path}: the columns are separated by {mark}; write it with commas, and numbers as 0.5")
        table = _table(path)
    except DataError:
        raise
    except (UnicodeDecodeError, *_DAMAGE) as error:
        raise DataError(f"{path}: cannot be read as a table ({reason(error)}); write it with a header line") from None
    if not isinstance(table.index, pd.RangeIndex):  # pandas takes the fields in front for names of rows
        raise DataError(
            f"{path}: the rows have more fields than the header has names ({len(table.columns)}); name every column, "
            "or write the rows without a delimiter at the end"
        )
    columns: dict[str, list[tuple[int, str]]] = {}
    for column in map(str, table.columns):
        match = re.fullmatch(r"(.*?[^\d_.\[])[_.\[]?(\d{1,9})\]?(_train|_test)?", column)
        name, index = (match[1] + (match[3] or ""), int(match[2])) if match else (column, -1)
        columns.setdefault(name, []).append((index, column))
    arrays = {}
    for name, parts in columns.items():
        if wanted(name):
            ordered = [column for _, column in sorted(parts)]
            first = min(index for index, _ in parts)
            if first < 0 and len(parts) > 1:
                raise DataError(
                    f"{path}: the column {name} stands beside {listed(ordered[1:])}, as if it were one of them; rename "
                    "it, or leave it out"
                )
            if first >= 0 and sorted(index for index, _ in parts) != [min(first, 1) + n for n in range(len(parts))]:
                raise DataError(
                    f"{path}: the columns {listed(ordered)} are not numbered from 0 or 1 without a gap; give what "
                    "is missing, or number them anew"
                )
            numbers = table[ordered].to_numpy() if first >= 0 else table[ordered[0]].to_numpy()
            arrays[name] = numbers.astype(np.float64) if numbers.dtype.kind in "iuf" and numbers.ndim == 2 else numbers
    return arrays, sorted(columns)


def _table(path: Path) -> pd.DataFrame:
    """A CSV table. In columns of text only an empty field is missing: a class may be called NA, None or null."""
    import pandas as pd

    table = pd.read_csv(path)
    texts = [place for place, dtype in enumerate(table.dtypes) if dtype.kind not in "biufc"]
    if texts and isinstance(table.index, pd.RangeIndex):
        as_written = pd.read_csv(path, usecols=texts, dtype=str, keep_default_na=False, na_values=[""])
        for column, place in enumerate(texts):
            table.isetitem(place, as_written.iloc[:, column])
    return table


def _read_h5ad(path: Path, wanted: Wanted) -> tuple[dict[str, np.ndarray], list[str]]:
    """Arrays of `obsm` and columns of `obs` of an AnnData file, read with h5py (which anndata brings along)."""
    if find_spec("h5py") is None:
        raise DataError(f"{path}: reading .h5ad takes h5py; pip install h5py, or save the arrays as .npz")
    with tempfile.TemporaryDirectory(prefix="h5ad-") as folder:
        output = Path(folder) / "arrays.npz"
        names, chosen = _ask_h5ad(path, wanted, output)
        # Large arrays stay mapped when the folder is gone.
        parts = _read_npz(output, lambda name: True)[0] if chosen else {}
    return {name: _h5ad_column(path, name, parts) for name in chosen}, sorted(names)


def _ask_h5ad(path: Path, wanted: Wanted, output: Path) -> tuple[list[str], list[str]]:
    """Have `h5ad.py` write the wanted arrays; return the names of all arrays and of those."""
    # Without -P the modules beside h5ad.py could be taken for others of the same name.
    command = [sys.executable, "-P", h5ad.__file__, str(path), str(output)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        timer = threading.Timer(H5AD_SECONDS + path.stat().st_size / H5AD_BYTES_PER_SECOND, process.kill)
        timer.start()
        try:
            names = _h5ad_answer(path, process, timer)["names"]
            chosen = [name for name in names if wanted(name)]
            with contextlib.suppress(BrokenPipeError):  # its end is told by what it does not answer
                process.stdin.write(json.dumps(chosen) + "\n")
                process.stdin.close()
            _h5ad_answer(path, process, timer)
        finally:
            timer.cancel()
            process.kill()
    return names, chosen


def _h5ad_answer(path: Path, process: subprocess.Popen, timer: threading.Timer) -> dict:
    line = process.stdout.readline()
    if not line:
        timer.join(1)  # it may still be about to return from the kill that ended the line
        late = not timer.is_alive()
        how = f"did not come to an end in {timer.interval:.0f} s" if late else f"ended with status {process.wait()}"
        raise DataError(f"{path}: cannot be read as .h5ad (the HDF5 library {how}); write it again")
    answer = json.loads(line)
    if "refused" in answer:
        raise DataError(f"{path}: {answer['refused']}")
    if "damaged" in answer:
        raise DataError(f"{path}: cannot be read as .h5ad ({answer['damaged']}); write it again")
    return answer


def _h5ad_column(path: Path, name: str, parts: dict[str, np.ndarray]) -> np.ndarray:
    """A plain array, or a column of `obs`: categorical (codes, −1 where missing), or nullable (values and mask)."""
    if name in parts:
        return parts[name]
    if f"{name}/codes" in parts:
        values = np.array([*parts[f"{name}/categories"].tolist(), None], dtype=object)
        codes = parts[f"{name}/codes"]
        if codes.dtype.kind not in "iu" or not np.all((codes >= -1) & (codes < len(values) - 1)):
            raise DataError(f"{path}: {name} has codes beyond its {len(values) - 1} categories; write the file again")
        return values[codes]
    values, missing = parts[f"{name}/values"].astype(object), parts[f"{name}/mask"]
    if missing.dtype != bool or missing.shape != values.shape:
        raise DataError(f"{path}: {name} has a mask that does not fit its values; write the file again")
    values[missing] = None
    return values
