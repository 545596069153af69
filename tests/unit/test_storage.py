"""Files: whole or not at all, and the same bytes for the same content."""

import numpy as np
import pandas as pd
import pytest

from aggregated_posterior.storage import (
    DataError,
    atomic_path,
    read_arrays,
    read_json,
    read_table,
    write_arrays,
    write_json,
    write_table,
)


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_final_name_appears_only_at_the_end(tmp_path):
    path = tmp_path / "new" / "file.txt"
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert not path.exists()
        assert temporary.parent == path.parent
    assert path.read_text() == "whole"


def test_others_may_read_what_is_written(tmp_path):
    write_arrays(tmp_path / "a.safetensors", {"x": np.zeros(2)})
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o044 == 0o044


def test_arrays_and_metadata_come_back(tmp_path):
    arrays = {"x": np.arange(6, dtype=np.float32).reshape(2, 3), "y": np.array([1, 2], dtype=np.int64)}
    write_arrays(tmp_path / "a.safetensors", arrays, {"b": [1, None], "a": {"z": 0.5}})
    back, metadata = read_arrays(tmp_path / "a.safetensors")
    assert metadata == {"b": [1, None], "a": {"z": 0.5}}
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype


def test_array_files_have_the_same_bytes_whatever_the_order(tmp_path):
    x, y = np.arange(3.0), np.arange(4)
    for name, arrays, metadata in (
        ("a", {"x": x, "y": y}, {"one": 1, "two": 2}),
        ("b", {"y": y, "x": x}, {"two": 2, "one": 1}),
    ):
        write_arrays(tmp_path / name, arrays, metadata)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("keep", [0, 4, 50])
def test_a_truncated_array_file_is_named(tmp_path, keep):
    path = tmp_path / "a.safetensors"
    write_arrays(path, {"x": np.arange(30.0)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"a\.safetensors"):
        read_arrays(path)


def test_a_missing_array_is_named_with_those_there(tmp_path):
    write_arrays(tmp_path / "a.safetensors", {"x": np.zeros(1)})
    with pytest.raises(DataError, match="has no array y; it holds x"):
        read_arrays(tmp_path / "a.safetensors", ["x", "y"])


def test_tables_and_json(tmp_path):
    table = pd.DataFrame({"a": [1, 2], "b": [0.1, np.nan], "c": [True, False]})
    write_table(tmp_path / "t.csv", table)
    pd.testing.assert_frame_equal(read_table(tmp_path / "t.csv"), table)
    write_json(tmp_path / "t.json", {"x": np.float64("nan"), "y": [np.int64(3)]})
    assert read_json(tmp_path / "t.json") == {"x": None, "y": [3]}
    for name in ("t.csv", "t.json"):
        (tmp_path / name).write_text("")
    with pytest.raises(DataError, match=r"t\.csv"):
        read_table(tmp_path / "t.csv")
    with pytest.raises(DataError, match=r"t\.json"):
        read_json(tmp_path / "t.json")
