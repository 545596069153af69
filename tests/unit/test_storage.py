"""Files: whole or not at all, and the same bytes for the same content."""

import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors import SafetensorError

from aggregated_posterior.storage import (
    DataError,
    atomic_path,
    read_arrays,
    read_json,
    read_table,
    write_arrays,
    write_json,
    write_table,
    write_text,
)

from .nasty import NASTY


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


def test_names_in_a_table_come_back_as_they_were_whatever_they_look_like(tmp_path):
    for names in (["NA", "null", "nan"], ["007", "12", "0.50"], ["1e5", "True", "inf"]):
        columns = dict.fromkeys(("experiment", "dataset", "architecture", "likelihood"), names)
        table = pd.DataFrame({"seed": [1, 2, 3], **columns, "kl": [0.5, np.nan, 1.0], "other": ["a", None, "NA"]})
        write_table(tmp_path / "t.csv", table)
        back = read_table(tmp_path / "t.csv")
        assert list(back.columns) == list(table.columns)
        for column in columns:
            assert list(back[column]) == names
        assert back["seed"].dtype == np.int64 and back["kl"].isna().sum() == 1 and back["other"].isna().sum() == 2


def test_a_table_without_rows_comes_back_without_rows(tmp_path):
    (tmp_path / "t.csv").write_text("dataset,kl\n")
    back = read_table(tmp_path / "t.csv")
    pd.testing.assert_frame_equal(back, pd.read_csv(tmp_path / "t.csv"))


def test_a_message_cannot_act_on_a_terminal():
    for nasty in NASTY.values():
        told = str(DataError(f"{nasty}: is wrong"))
        assert told.isprintable() and len(told) < 5000 and told.endswith("is wrong")


def test_a_link_is_replaced_and_its_target_left_alone(tmp_path):
    target, link = tmp_path / "target", tmp_path / "link"
    target.write_text("old")
    link.symlink_to(target)
    write_text(link, "new")
    assert target.read_text() == "old" and link.read_text() == "new" and not link.is_symlink()


def test_a_link_to_itself_is_replaced(tmp_path):
    link = tmp_path / "link"
    link.symlink_to(link)
    write_text(link, "new")
    assert link.read_text() == "new"


def test_a_folder_that_is_a_link_to_itself_is_an_error_that_names_it(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(OSError, match="loop"):
        write_text(tmp_path / "loop" / "file", "content")


def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()), daemon=True)
    reader.start()
    write_text(pipe, "content")
    reader.join(10)
    assert read == ["content"] and stat.S_ISFIFO(pipe.lstat().st_mode)


def test_a_device_is_written_to_and_stays_a_device(tmp_path):
    link = tmp_path / "null"
    link.symlink_to("/dev/null")
    for path in ("/dev/null", link):
        write_text(path, "content")
        assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert link.is_symlink()
    with pytest.raises(OSError, match="/dev/full"):
        write_text("/dev/full", "content")
    assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)


def test_an_open_file_of_a_process_is_written_to(tmp_path):
    with (tmp_path / "redirected").open("w+") as stream:
        path = f"/proc/self/fd/{stream.fileno()}"
        write_text(path, "content")
        stream.seek(0)
        assert stream.read() == "content" and Path(path).is_symlink()


def test_a_pipe_receives_nothing_after_an_error(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        with pytest.raises(RuntimeError), atomic_path(pipe) as temporary:
            temporary.write_text("half")
            raise RuntimeError
        assert os.read(reader, 10) == b""
    finally:
        os.close(reader)


@pytest.mark.parametrize("name", ["a\0b", "."])
def test_names_that_no_file_can_have(tmp_path, name):
    with pytest.raises(DataError, match="name"):
        write_text(f"{tmp_path}/{name}", "content")


def test_a_name_as_long_as_the_file_system_allows(tmp_path):
    for name in ("x" * 255, "数" * 85):
        write_text(tmp_path / name, "content")
        assert (tmp_path / name).read_text() == "content"
    with pytest.raises(OSError, match="too long"):
        write_text(tmp_path / ("x" * 256), "content")


def test_no_cell_of_a_written_table_is_a_formula(tmp_path):
    texts = list(NASTY.values())
    table = pd.DataFrame({"text": texts, "=name": np.arange(len(texts)) - 5.5, "mixed": [-1, "=1", *texts[2:]]})
    write_table(tmp_path / "t.csv", table)
    back = read_table(tmp_path / "t.csv")
    assert list(back.columns) == ["text", "'=name", "mixed"] and len(back) == len(texts)
    assert (back["'=name"] == table["=name"]).all()
    cells = [*back["text"].dropna(), *back["mixed"].dropna().iloc[1:]]
    assert not any(str(cell).lstrip().startswith(("=", "+", "-2+", "@")) for cell in cells)
    assert back["mixed"].iloc[0] == "-1"
    assert list(table.columns) == ["text", "=name", "mixed"], "the caller's table is left as it was"


def test_a_name_that_is_not_utf_8_is_written_out(tmp_path):
    write_text(tmp_path / "a.txt", "a\udcffb")
    assert (tmp_path / "a.txt").read_text() == "a\\udcffb"


@pytest.mark.parametrize("content", [b"[" * 100_000, b"\xff\xfe[\x00]\x00", b"", b"NaNN"])
def test_damaged_json_is_one_line(tmp_path, content):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.json"):
        read_json(tmp_path / "a.json")


def test_metadata_that_is_no_json_is_one_line(tmp_path):
    from safetensors.numpy import save_file

    for text in ("{", "[" * 100_000):
        save_file({"x": np.zeros(2)}, tmp_path / "a.safetensors", metadata={"metadata": text})
        with pytest.raises(DataError, match=r"a\.safetensors"):
            read_arrays(tmp_path / "a.safetensors")


def test_a_table_is_never_fetched(tmp_path):
    for name in ("https://localhost:1/t.csv", "file:///etc/passwd", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_table(name)


def test_a_file_behind_an_open_one_keeps_what_it_held(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("before\n")
    code = (
        "from aggregated_posterior.storage import write_text; print('words', flush=False);"
        "write_text('/dev/stdout', 'content\\n'); write_text('/dev/fd/3', 'third\\n'); print('after')"
    )
    third = tmp_path / "third.txt"
    third.write_text("held\n")
    for mode, kept in (("a", "before\n"), ("w", "")):
        with log.open(mode) as stream:
            command = f'exec {sys.executable} -c "$1" 3>>{third}'
            environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
            subprocess.run(["bash", "-c", command, "bash", code], stdout=stream, env=environment, check=True)
        assert log.read_text() == f"{kept}words\ncontent\nafter\n"
    assert third.read_text() == "held\nthird\nthird\n"


@pytest.mark.parametrize(
    ("library", "told"),
    [
        ("Error while serializing: I/O error: Read-only file system (os error 30)", "(Read-only file system)"),
        ("Error while serializing: I/O error: No space left on device (os error 28)", "(No space left on device)"),
        ("something else", "(something else; is the disc full?)"),
    ],
)
def test_arrays_that_cannot_be_written_say_what_the_system_says(tmp_path, monkeypatch, library, told):
    def fail(*arguments, **settings):
        raise SafetensorError(library)

    monkeypatch.setattr("safetensors.numpy.save_file", fail)
    with pytest.raises(DataError, match=rf"a\.safetensors: cannot be written {re.escape(told)}$"):
        write_arrays(tmp_path / "a.safetensors", {"x": np.zeros(2)})
