"""Reading posteriors: what is accepted, and that every bad file gives one line with file, array and cause."""

from __future__ import annotations

import io
import pickle
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save, save_file

from aggregated_posterior.posterior.exchangeable import hold_out
from aggregated_posterior.posterior.foreign_files import posteriors_from_arrays, read_posteriors
from aggregated_posterior.posterior.splits import Posteriors
from aggregated_posterior.storage import DataError, write_arrays

N, D = 40, 3


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    mean = rng.normal(0, 0.8, (N, D)).astype(np.float32)
    return {"mean": mean, "variance": np.full((N, D), 0.36, dtype=np.float32)}


def with_bad_value(array: np.ndarray, value: float) -> np.ndarray:
    changed = array.copy()
    changed[4, 2] = value
    return changed


# ------------------------------------------------------------------------------------------------ what is accepted


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
@pytest.mark.parametrize(("kind", "function"), [("variance", lambda s: s), ("log_variance", np.log), ("std", np.sqrt)])
def test_three_spellings_of_the_spread_agree(tmp_path, arrays, ending, kind, function):
    path = tmp_path / f"own.{ending}"
    content = {"mean": arrays["mean"], kind: function(arrays["variance"])}
    np.savez(path, **content) if ending == "npz" else save_file(content, path)
    posteriors = read_posteriors(path)
    assert posteriors.latent_dim == D
    assert posteriors.test is None and posteriors.mean_test is None and posteriors.variance_test is None
    np.testing.assert_allclose(posteriors.variance_train, 0.36, rtol=3e-7)
    np.testing.assert_array_equal(posteriors.mean_train, arrays["mean"])
    assert posteriors.warnings == ()


def test_test_half_and_labels(tmp_path, arrays):
    path = tmp_path / "own.npz"
    test = {"mean_test": arrays["mean"][:10], "std_test": np.full((10, D), 0.5)}
    np.savez(path, **arrays, **test, labels=np.arange(N) % 4, labels_test=np.arange(10) % 4)
    posteriors = read_posteriors(path)
    assert posteriors.mean_test.shape == (10, D)
    np.testing.assert_allclose(posteriors.variance_test, 0.25)
    assert posteriors.labels_train.shape == (N,) and posteriors.labels_test.shape == (10,)
    assert set(posteriors.arrays()) == {"mean_train", "variance_train", "mean_test", "variance_test"}


def test_the_pipelines_own_file_is_read_and_written_back_unchanged(tmp_path, arrays):
    path = tmp_path / "posteriors.safetensors"
    own = {f"{name}_{split}": array for name, array in arrays.items() for split in ("train", "test")}
    write_arrays(path, own, {"settings": {}})
    again = read_posteriors(path).arrays()
    assert set(again) == set(own)
    for name, array in own.items():
        assert again[name].dtype == np.float32
        np.testing.assert_array_equal(again[name], array)


def test_half_precision_is_widened(arrays):
    half = {name: array.astype(np.float16) for name, array in arrays.items()}
    written = posteriors_from_arrays(half).arrays()
    assert all(array.dtype == np.float32 for array in written.values())


def test_compressed_archives_and_names_of_classes(tmp_path, arrays):
    path = tmp_path / "own.npz"
    np.savez_compressed(path, **arrays, labels=np.array(["cat", "dog"] * (N // 2)))
    assert list(read_posteriors(path).labels_train[:2]) == ["cat", "dog"]


def test_unknown_arrays_are_named(tmp_path, arrays):
    path = tmp_path / "own.npz"
    np.savez(path, **arrays, labels_tset=np.arange(N))
    (note,) = read_posteriors(path).warnings
    assert str(path) in note and "labels_tset" in note


# ---------------------------------------------------------------------------------------- a spread with a wrong name


@pytest.mark.parametrize(
    ("stored_as", "function", "suggested"),
    [
        ("variance", np.sqrt, "std"),
        ("log_variance", lambda s: 0.5 * np.log(s), "doubling"),
        ("std", lambda s: s, "variance"),
    ],
)  # fmt: skip
def test_the_gauge_identity_unmasks_a_wrong_name(arrays, stored_as, function, suggested):
    mean = arrays["mean"] / np.sqrt(np.square(arrays["mean"]).mean(axis=0) / 0.64)
    content = {"mean": mean, stored_as: function(arrays["variance"])}
    (note,) = posteriors_from_arrays(content).warnings
    assert stored_as in note and suggested in note
    assert posteriors_from_arrays({**content, stored_as: arrays["variance"]} if stored_as == "variance" else
                                  {"mean": mean, "variance": arrays["variance"]}).warnings == ()  # fmt: skip


def test_positive_log_variances_as_variances_are_suspected(arrays):
    (note,) = posteriors_from_arrays({"mean": arrays["mean"], "variance": arrays["variance"] + 2.0}).warnings
    assert "above 1" in note


# --------------------------------------------------------------------------------------------------- bad content

BAD_CONTENT: dict[str, tuple[Callable[[dict], dict], list[str]]] = {
    "shapes differ": (lambda a: {**a, "variance": a["variance"][:-1]}, ["mean", "variance", "(40, 3)", "(39, 3)"]),
    "nan": (lambda a: {**a, "mean": with_bad_value(a["mean"], np.nan)}, ["mean", "NaN"]),
    "infinity": (lambda a: {**a, "variance": with_bad_value(a["variance"], np.inf)}, ["variance", "infinite"]),
    "nan in log_variance": (
        lambda a: {"mean": a["mean"], "log_variance": with_bad_value(a["variance"], np.nan)},
        ["log_variance", "NaN"],
    ),
    "negative variance": (
        lambda a: {**a, "variance": with_bad_value(a["variance"], -0.1)},
        ["variance", "row 4, dimension 2", "-0.1", "log_variance"],
    ),
    "log-variances as variances": (lambda a: {**a, "variance": np.log(a["variance"])}, ["variance", "log_variance"]),
    "zero variance": (lambda a: {**a, "variance": with_bad_value(a["variance"], 0.0)}, ["variance", "zero"]),
    "negative std": (lambda a: {"mean": a["mean"], "std": -a["variance"]}, ["std", "negative", "log_variance"]),
    "variances as log-variances": (
        lambda a: {"mean": a["mean"], "log_variance": with_bad_value(a["variance"], 900.0)},
        ["log_variance", "900", "variance"],
    ),
    "no rows": (lambda a: {name: x[:0] for name, x in a.items()}, ["mean", "empty"]),
    "no columns": (lambda a: {name: x[:, :0] for name, x in a.items()}, ["mean", "empty"]),
    "integers": (lambda a: {**a, "mean": np.ones((N, D), dtype=np.int64)}, ["mean", "int64"]),
    "integer variances": (lambda a: {**a, "variance": np.ones((N, D), dtype=np.uint8)}, ["variance", "uint8"]),
    "complex": (lambda a: {**a, "mean": a["mean"] + 1j}, ["mean", "complex"]),
    "one axis": (lambda a: {name: x[:, 0] for name, x in a.items()}, ["mean", "(40,)"]),
    "images": (lambda a: {name: x[:, :, None] for name, x in a.items()}, ["mean", "(40, 3, 1)"]),
    "wrong names": (lambda a: {"m": a["mean"], "s": a["variance"]}, ["no array mean", "m, s; name", "--mean"]),
    "no spread": (lambda a: {"mean": a["mean"]}, ["mean", "variance or log_variance or std"]),
    "no mean": (lambda a: {"variance": a["variance"]}, ["variance", "no array mean"]),
    "two spreads": (lambda a: {**a, "std": a["variance"]}, ["variance and std", "both given"]),
    "two means": (lambda a: {**a, "mean_train": a["mean"]}, ["mean and mean_train", "both given"]),
    "half of a test half": (lambda a: {**a, "mean_test": a["mean"]}, ["mean_test", "variance_test"]),
    "test half of another width": (
        lambda a: {**a, "mean_test": a["mean"][:, :2], "variance_test": a["variance"][:, :2]},
        ["mean_test", "3", "2"],
    ),
    "bad test half": (
        lambda a: {**a, "mean_test": a["mean"], "variance_test": -a["variance"]},
        ["variance_test", "log_variance_test"],
    ),
    "labels of another length": (lambda a: {**a, "labels": np.arange(5)}, ["labels", "(5,)", "(40,)"]),
    "labels with infinity": (
        lambda a: {**a, "labels": with_bad_value(np.ones((N, D)), np.inf)[:, 2]}, ["labels", "row 4"]
    ),
    "labels of dates": (lambda a: {**a, "labels": np.zeros(N, "datetime64[D]")}, ["labels", "datetime64"]),
    "labels of no test half": (lambda a: {**a, "labels_test": np.arange(N)}, ["labels_test", "mean_test"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_CONTENT)
def test_bad_content_is_one_line_with_file_array_and_cause(tmp_path, arrays, case):
    change, words = BAD_CONTENT[case]
    path = tmp_path / "own.npz"
    np.savez(path, **change(arrays))
    complains(path, words)


# ----------------------------------------------------------------------------------------------------- bad files


class Bomb:
    """Would leave a trace if it were ever unpickled."""

    def __reduce__(self):
        return (Path.touch, (Path("unpickled"),))


def npz_bytes(**content) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **content)
    return stream.getvalue()


def with_false_shape(arrays: dict[str, np.ndarray]) -> bytes:
    """An archive whose header promises far more numbers than there are."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, array in arrays.items():
            header = io.BytesIO()
            np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (10**13, 3)})
            archive.writestr(f"{name}.npy", header.getvalue() + array.tobytes())
    return stream.getvalue()


def with_stranger_in_archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("data.pkl", pickle.dumps(Bomb()))
    return stream.getvalue()


BAD_FILES: dict[str, tuple[str, Callable[[dict], bytes], list[str]]] = {
    "pickle in npz": ("npz", lambda a: npz_bytes(mean=np.array([Bomb()], dtype=object)), ["array mean", "pickle"]),
    "pickle beside": ("npz", lambda a: npz_bytes(**a, extra=np.array([Bomb()], dtype=object)), ["extra", "pickle"]),
    "pickle called npz": ("npz", lambda a: pickle.dumps(Bomb()), ["no .npz archive"]),
    "pickle file in the archive": ("npz", lambda a: with_stranger_in_archive(), ["data.pkl"]),
    "npy called npz": ("npz", lambda a: b"\x93NUMPY\x01\x00" + b"v\x00{'descr': '<f4'", ["no .npz archive"]),
    "npz called npy": ("npy", lambda a: npz_bytes(**a), ["is an .npz archive", "own.npz"]),
    "truncated npz": ("npz", lambda a: npz_bytes(**a)[:-100], ["cut off"]),
    "damaged npz": ("npz", lambda a: npz_bytes(**a).replace(a["mean"].tobytes()[:16], b"\x00" * 16), ["array mean"]),
    "false shape": ("npz", with_false_shape, ["array mean"]),
    "empty npz": ("npz", lambda a: b"", ["0 bytes"]),
    "npz without arrays": ("npz", lambda a: npz_bytes(), ["no array mean"]),
    "truncated safetensors": ("safetensors", lambda a: save(a)[:-100], ["safetensors"]),
    "cut in the header": ("safetensors", lambda a: save(a)[:20], ["safetensors"]),
    "text called safetensors": ("safetensors", lambda a: b"mean,variance\n1,2\n", ["safetensors"]),
    "empty safetensors": ("safetensors", lambda a: b"", ["0 bytes"]),
    "float8": ("safetensors", lambda a: float8(), ["array mean", "F8_E5M2", "float32"]),
    "wrong ending": ("txt", lambda a: b"1,2\n", [".txt", ".npz or .safetensors"]),
    "no ending": ("", lambda a: npz_bytes(**a), ["nothing", ".npz or .safetensors"]),
}  # fmt: skip


def float8() -> bytes:
    header = b'{"mean":{"dtype":"F8_E5M2","shape":[2,1],"data_offsets":[0,2]}}'
    return len(header).to_bytes(8, "little") + header + b"\x00" * 2


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_are_one_line_with_file_and_cause(tmp_path, arrays, case, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ending, content, words = BAD_FILES[case]
    path = tmp_path / (f"own.{ending}" if ending else "own")
    path.write_bytes(content(arrays))
    complains(path, words)
    assert not Path("unpickled").exists()


def test_missing_file_and_folder(tmp_path):
    complains(tmp_path / "absent.npz", ["no such file"])
    folder = tmp_path / "folder.npz"
    folder.mkdir()
    complains(folder, ["is a folder"])


def complains(path: Path, words: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing may reach the user but the one line
        with pytest.raises(DataError) as caught:
            read_posteriors(path)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 400
    assert message.startswith(f"{path}: ")
    for word in words:
        assert word in message.removeprefix(f"{path}: "), message


# ------------------------------------------------------------------------------------------------------ holding out


def test_hold_out_is_a_partition_the_same_each_time(arrays):
    arrays["mean"][:, 0] = np.arange(N)
    posteriors = posteriors_from_arrays({**arrays, "labels": np.arange(N)})
    split = hold_out(posteriors)
    assert isinstance(split, Posteriors) and split.test.n == N // 5 and split.train.n == N - N // 5
    together = np.concatenate([split.mean_train[:, 0], split.mean_test[:, 0]])
    assert sorted(together) == list(range(N))
    np.testing.assert_array_equal(split.labels_test, split.mean_test[:, 0])
    again = hold_out(posteriors)
    np.testing.assert_array_equal(again.mean_test, split.mean_test)
    # Not simply the last rows, which may be one class.
    assert not np.array_equal(split.mean_test[:, 0], np.arange(N - N // 5, N))


def test_hold_out_leaves_a_given_test_half_alone_and_refuses_a_handful(arrays):
    given = posteriors_from_arrays({**arrays, "mean_test": arrays["mean"], "variance_test": arrays["variance"]})
    assert hold_out(given) is given
    few = posteriors_from_arrays({name: array[:9] for name, array in arrays.items()})
    with pytest.raises(DataError, match="at least 10 rows"):
        hold_out(few)
