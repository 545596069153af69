"""AnnData files: what lies in them is read, what they only point to or promise is not, and reading ends."""

import h5py
import numpy as np
import pytest

from aggregated_posterior.posterior import containers
from aggregated_posterior.posterior.containers import read_named_arrays
from aggregated_posterior.storage import DataError

MEAN = np.arange(60, dtype=np.float32).reshape(20, 3)


def read(path, make, wanted=("mean", "variance", "labels")):
    with h5py.File(path, "w") as file:
        file["obsm/variance"] = np.ones_like(MEAN)
        make(file)
    return read_named_arrays(path, wanted)


def test_arrays_and_columns_of_every_kind(tmp_path):
    def make(file):
        file.create_dataset("obsm/mean", data=MEAN, compression="gzip")
        file["obs/labels/codes"] = np.array([0, 1, -1, 1], dtype=np.int8)
        file["obs/labels/categories"] = ["B cell", "T cell"]
        file["obs/age/values"], file["obs/age/mask"] = np.array([5, 6]), np.array([False, True])
        file["obs/donor"] = ["a", "b"]
        file["obs/_index"] = ["x", "y"]

    arrays, names = read(tmp_path / "a.h5ad", make, ("mean", "labels", "age", "donor"))
    assert names == ["age", "donor", "labels", "mean", "variance"]
    np.testing.assert_array_equal(arrays["mean"], MEAN)
    assert arrays["labels"].tolist() == ["B cell", "T cell", None, "T cell"]
    assert arrays["age"].tolist() == [5, None]
    assert arrays["donor"].tolist() == ["a", "b"]


def old_categories(file, refer, codes=(0, 1, -1, 1)):
    """As anndata before 0.8 wrote them."""
    file["obs/labels"] = np.array(codes, dtype=np.int8)
    file["obs/__categories/labels"] = ["B cell", "T cell"]
    file["obs/labels"].attrs["categories"] = refer(file["obs/__categories/labels"])


def test_categories_of_old_files(tmp_path):
    arrays, names = read(tmp_path / "a.h5ad", lambda file: old_categories(file, lambda node: node.ref))
    assert names == ["labels", "variance"]
    assert arrays["labels"].tolist() == ["B cell", "T cell", None, "T cell"]


@pytest.mark.parametrize(
    ("refer", "codes", "message"),
    [
        (lambda node: h5py.Reference(), (0, 1), "/obs/labels is of categories that are not in the file"),
        (lambda node: "/obs/__categories/labels", (0, 1), "/obs/labels is of categories that are not in the file"),
        (lambda node: node.parent.ref, (0, 1), "/obs/__categories is a group, not an array"),
        (lambda node: node.ref, (0, 2), "labels has codes beyond its 2 categories"),
    ],
)
def test_categories_of_old_files_that_cannot_be_found(tmp_path, refer, codes, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a.h5ad", lambda file: old_categories(file, refer, codes))


def test_other_files_are_never_read(tmp_path):
    """Links, raw storage and virtual data sets can name any file that the reader may open."""
    secret = tmp_path / "secret"
    secret.write_bytes(MEAN.tobytes())
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["mean"] = MEAN

    def virtual(file):
        layout = h5py.VirtualLayout(MEAN.shape, "f4")
        layout[:] = h5py.VirtualSource(tmp_path / "other.h5", "mean", MEAN.shape)
        file.create_virtual_dataset("obsm/mean", layout)

    def raw(file):
        file.create_dataset("obsm/mean", MEAN.shape, "f4", external=[(str(secret), 0, MEAN.nbytes)])

    def outside(name):
        return lambda file: file.update({name: h5py.ExternalLink(str(tmp_path / "other.h5"), "/mean")})

    def categories(file):
        file["obs/labels/codes"] = np.zeros(20, dtype=np.int8)
        file["obs/labels/categories"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/mean")

    def groups(file):
        file["obs"] = h5py.ExternalLink(str(tmp_path / "other.h5"), "/")

    for make, message in [
        (virtual, "/obsm/mean has its numbers in other files"),
        (raw, "/obsm/mean has its numbers in other files"),
        (outside("obsm/mean"), r"mean is a link \(ExternalLink\)"),
        (categories, r"categories is a link \(ExternalLink\)"),
        (groups, r"obs is a link \(ExternalLink\)"),
        (lambda file: file.update({"obsm/mean": h5py.SoftLink("/obsm/mean")}), r"mean is a link \(SoftLink\)"),
    ]:
        (tmp_path / "a.h5ad").unlink(missing_ok=True)
        with pytest.raises(DataError, match=message):
            read(tmp_path / "a.h5ad", make)


def test_an_unwanted_link_is_nobodys_business(tmp_path):
    arrays, names = read(tmp_path / "a.h5ad", lambda file: file.update({"obsm/x": h5py.SoftLink("/nowhere")}))
    assert names == ["variance", "x"] and list(arrays) == ["variance"]


def with_codes(*codes):
    def make(file):
        file["obs/labels/codes"] = np.array(codes, dtype=np.int8)
        file["obs/labels/categories"] = ["a", "b"]

    return make


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda file: file.create_dataset("obsm/mean", (10**9, 3000), "f4", chunks=(1000, 10)),
            "/obsm/mean promises 12,000,000,000,000 bytes and holds 0",
        ),
        (lambda file: file.create_group("obsm/mean"), "/obsm/mean is a group, not an array"),
        (lambda file: file.update({"obs": MEAN}), "obs is an array, in AnnData files it is a group"),
        (with_codes(0, 99), "labels has codes beyond its 2 categories"),
        (with_codes(0, -3), "labels has codes beyond its 2 categories"),
    ],
)
def test_what_is_no_array_or_only_promised_is_refused(tmp_path, make, message):
    with pytest.raises(DataError, match=message) as error:
        read(tmp_path / "a.h5ad", make)
    assert str(error.value).startswith(str(tmp_path / "a.h5ad"))


def test_zeros_that_gzip_has_made_small_are_read(tmp_path):
    zeros = np.zeros((1_000_000, 10), dtype=np.float64)
    arrays, _ = read(tmp_path / "a.h5ad", lambda f: f.create_dataset("obsm/mean", data=zeros, compression=9))
    assert (tmp_path / "a.h5ad").stat().st_size < zeros.nbytes / 400
    np.testing.assert_array_equal(arrays["mean"], zeros)


def test_a_process_that_never_ends_is_ended(tmp_path, monkeypatch):
    """See tests/fuzz/test_finds.py for a file that makes the library loop."""
    (tmp_path / "loop.py").write_text("while True: pass")
    monkeypatch.setattr(containers.h5ad, "__file__", str(tmp_path / "loop.py"))
    monkeypatch.setattr(containers, "H5AD_SECONDS", 0.5)
    with pytest.raises(DataError, match=r"a.h5ad: cannot be read as .h5ad \(the HDF5 library did not come to an end"):
        read(tmp_path / "a.h5ad", lambda file: None)


@pytest.mark.parametrize("asked", [False, True])
def test_a_crash_is_told(tmp_path, monkeypatch, asked):
    first = 'print(\'{"names": ["mean"]}\', flush=True);' if asked else ""
    (tmp_path / "crash.py").write_text(f"import os; {first} os.abort()")
    monkeypatch.setattr(containers.h5ad, "__file__", str(tmp_path / "crash.py"))
    with pytest.raises(DataError, match=r"the HDF5 library ended with status -6"):
        read(tmp_path / "a.h5ad", lambda file: None)


def test_a_column_whose_name_is_not_utf_8_is_left_out(tmp_path):
    arrays, names = read(
        tmp_path / "a.h5ad", lambda file: file.require_group("obs").create_dataset(b"caf\xe9", data=MEAN[:, 0])
    )
    assert list(arrays) == ["variance"] and names == ["variance"]
