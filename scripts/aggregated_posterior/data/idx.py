"""Strict reading of idx files (http://yann.lecun.com/exdb/mnist/), gzip-compressed or plain.

A file is two zero bytes, one byte for the type (8: unsigned bytes), one for the number of dimensions, then
each dimension as a big-endian 32-bit integer, then the values in C order. Nothing may follow.
"""

from __future__ import annotations

import math
import struct
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..storage import DataError

# The names that MNIST gave its files, and all that follow it.
IDX_FILES = {
    "images_train": "train-images-idx3-ubyte.gz",
    "labels_train": "train-labels-idx1-ubyte.gz",
    "images_test": "t10k-images-idx3-ubyte.gz",
    "labels_test": "t10k-labels-idx1-ubyte.gz",
}

GZIP_MAGIC = b"\x1f\x8b"
UNSIGNED_BYTE = 0x08
MAXIMUM_DIMENSIONS = 4
# MNIST's training images are 47 MB. A header that promises more than this is damaged, or a trap.
MAXIMUM_BYTES = 2 * 1024**3
CHUNK = 1024**2


class _GzipReader:
    """Inflate a gzip stream no further than asked, so that a small file cannot fill the memory.

    Python's own gzip module skips zero bytes at the end and joins several streams; a published file has
    neither, so both are refused here. zlib itself checks the stream's CRC and length at its end.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    def read(self, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size and not self._inflater.eof:
            source = self._inflater.unconsumed_tail or self._stream.read(CHUNK)
            found = self._inflater.decompress(source, min(size - len(parts), 16 * CHUNK))
            if not source and not found and not self._inflater.eof:
                raise DataError("is cut short (the gzip stream has no end); fetch it again")
            parts += found
        return bytes(parts)

    def trailing(self) -> bool:
        """Whether bytes follow the end of the gzip stream."""
        return bool(self._inflater.unused_data or self._stream.read(1))


def read_idx(path: str | Path, compressed: bool | None = None) -> np.ndarray:
    """Read an idx file of unsigned bytes.

    Args:
        path: The file. It is read as gzip if it begins as gzip does, else as plain idx.
        compressed: Whether it must be gzip; by default, whether its name ends in .gz.

    Returns:
        The array in the shape that the header tells, uint8.

    Raises:
        DataError: The file is missing or is not exactly what its header promises; the message names file and
            cause.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            is_gzip = stream.read(2) == GZIP_MAGIC
            stream.seek(0)
            if not is_gzip and (path.name.endswith(".gz") if compressed is None else compressed):
                raise DataError("is not a gzip file (perhaps an error page of the server); fetch it again")
            return _read_array(_GzipReader(stream) if is_gzip else stream)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except zlib.error as error:
        # zlib says, for example, "Error -3 while decompressing data: incorrect data check".
        cause = str(error).rsplit(": ", 1)[-1]
        raise DataError(f"{path}: is damaged gzip ({cause}); fetch it again") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _read_array(stream: _GzipReader | BinaryIO) -> np.ndarray:
    magic = stream.read(4)
    if len(magic) < 4:
        raise DataError("is too short for an idx file; fetch it again")
    if magic[:2] != b"\0\0":
        raise DataError(f"is not an idx file (it begins with {magic.hex(' ')}, not with 00 00)")
    if magic[2] != UNSIGNED_BYTE:
        raise DataError(f"holds idx values of type 0x{magic[2]:02x}; only unsigned bytes (0x08) are images or labels")
    if not 1 <= magic[3] <= MAXIMUM_DIMENSIONS:
        raise DataError(f"its idx header tells {magic[3]} dimensions; 1 (labels) or 3 (images) are usual")
    header = stream.read(4 * magic[3])
    if len(header) < 4 * magic[3]:
        raise DataError("is cut short within its idx header; fetch it again")
    shape = struct.unpack(f">{magic[3]}I", header)
    size = math.prod(shape)
    told = " × ".join(map(str, shape))
    if size == 0:
        raise DataError(f"its idx header tells {told} values, so it is empty")
    if size > MAXIMUM_BYTES:
        raise DataError(f"its idx header tells {told} bytes, more than the limit of {MAXIMUM_BYTES}")
    values = _read_up_to(stream, size)
    if len(values) < size:
        raise DataError(f"is cut short: its idx header tells {told} = {size} bytes, it holds {len(values)}")
    if stream.read(1):
        raise DataError(f"has more bytes than the {told} = {size} that its idx header tells")
    if isinstance(stream, _GzipReader) and stream.trailing():
        raise DataError("has bytes after the end of its gzip stream")
    return np.frombuffer(values, dtype=np.uint8).reshape(shape)


def _read_up_to(stream: _GzipReader | BinaryIO, size: int) -> bytes:
    """Read in pieces, so that a short file whose header promises gigabytes takes no more memory than it has bytes."""
    parts = bytearray()
    while len(parts) < size and (piece := stream.read(min(size - len(parts), 16 * CHUNK))):
        parts += piece
    return bytes(parts)
