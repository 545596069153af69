"""What fuzzing found, kept: each file once ended in a traceback."""

import io
import struct
import zipfile

import numpy as np
import pytest

from aggregated_posterior.data.archives import walk_files
from aggregated_posterior.posterior.foreign_files import read_posteriors
from aggregated_posterior.storage import DataError

from .test_readers import npy_header, posteriors, safetensors, zipped

FINDS = {
    # NumPy tokenises a header that Python cannot read, and the tokeniser has an error of its own.
    "a header that ends within a bracket": ("a.npz", zipped([("mean", npy_header("{", b""))])),
    "9 000 open brackets": ("a.npz", zipped([("mean", npy_header("(" * 9_000, b""))])),
    "9 000 nested brackets": ("a.npz", zipped([("mean", npy_header("[" * 9_000 + "]" * 9_000, b""))])),
    "10¹² points": (
        "a.npz",
        zipped([("mean", npy_header("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000, 1), }", b""))]),
    ),
    "9 000 brackets in safetensors": ("a.safetensors", safetensors(b"[" * 9_000, b"")),
    "10¹² points in safetensors": (
        "a.safetensors",
        safetensors(b'{"mean":{"dtype":"F64","shape":[1000000000000,1],"data_offsets":[0,8000000000000]}}', b""),
    ),
    "a header of 2⁶³ bytes": ("a.safetensors", struct.pack("<Q", 2**63) + b"{}"),
}


@pytest.mark.parametrize("find", FINDS)
def test_finds_are_one_line(tmp_path, find):
    name, content = FINDS[find]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_posteriors(tmp_path / name)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500


def test_thousands_of_names_are_cut_at_ten(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **posteriors(), **{f"\x1b[2Jname{number}": np.zeros(1) for number in range(3000)})
    (note,) = [note for note in read_posteriors(path).warnings if "ignored" in note]
    assert "2,990 more" in note and len(note) < 1000 and note.isprintable()


@pytest.mark.parametrize("name", ["mean", "variance", "labels", "mean_test"])
def test_a_single_value_is_no_array_of_rows(tmp_path, name):
    np.savez(tmp_path / "a.npz", **{**posteriors(), name: np.float64(0)})
    with pytest.raises(DataError, match=rf"{name} is a single value"):
        read_posteriors(tmp_path / "a.npz")


def test_a_member_without_a_name_is_a_damaged_archive(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a/1.png", b"x")
    (tmp_path / "a.zip").write_bytes(stream.getvalue().replace(b"a/1.png", b"\0/1.png"))
    with pytest.raises(DataError, match="a member has no name"):
        list(walk_files(tmp_path / "a.zip", {".png"}))


def test_a_name_that_is_said_to_be_utf_8_and_is_not_is_a_damaged_archive(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("ä/1.png", b"x")
    (tmp_path / "a.zip").write_bytes(stream.getvalue().replace("ä".encode(), b"\xab\xab"))
    with pytest.raises(DataError, match="damaged"):
        list(walk_files(tmp_path / "a.zip", {".png"}))
