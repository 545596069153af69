"""Every reader on files that nobody means well by: a right result, or one short `DataError` and no new file.

In `make test` each reader sees a few dozen files; `make test-fuzz` gives each FUZZ_SECONDS of them. A find is printed
by hypothesis with the file's bytes; it becomes a test beside the reader's own.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import resource
import struct
import tarfile
import time
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from PIL import Image

from aggregated_posterior.data.idx import read_idx
from aggregated_posterior.data.image_folder import read_image_folder
from aggregated_posterior.pipeline.schemas import check_schema, read_yaml
from aggregated_posterior.posterior import containers
from aggregated_posterior.posterior.foreign_files import read_posteriors
from aggregated_posterior.storage import LONGEST_MESSAGE, DataError, read_arrays, read_json, read_table

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
EXAMPLES = 60
MOST_SECONDS_FOR_ONE = 10
MOST_MEMORY_GROWN = 700 * 1024  # KiB; limits of images and archives lie well above what is made here
NASTY_NAMES = ["mean", "variance", "log_variance", "std", "labels", "mean_test", "a\nb", "\x1b[2J", "..", "/etc/x", ""]


# ------------------------------------------------------------------------------------------------------- right files
def npz(arrays: dict[str, np.ndarray], save: Callable = np.savez) -> bytes:
    stream = io.BytesIO()
    save(stream, **arrays)
    return stream.getvalue()


def safetensors(header: bytes, body: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + body


def posteriors() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(20, 3)).astype(np.float32)
    return {"mean": mean, "log_variance": np.full_like(mean, -1), "labels": np.arange(20) % 3}


def image(kind: str, mode: str = "L") -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)).convert(mode).save(stream, kind)
    return stream.getvalue()


def packed(kind: str) -> bytes:
    stream = io.BytesIO()
    files = {"a/1.png": image("PNG"), "a/2.jpg": image("JPEG"), "b/3.png": image("PNG"), "notes.txt": b"x"}
    if kind == "zip":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in files.items():
                archive.writestr(name, content)
    else:
        with tarfile.open(fileobj=stream, mode="w:gz") as archive:
            for name, content in files.items():
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def idx(shape: tuple[int, ...] = (5, 4, 4)) -> bytes:
    header = bytes([0, 0, 8, len(shape)]) + struct.pack(f">{len(shape)}I", *shape)
    return header + bytes(range(int(np.prod(shape)) % 256))[: int(np.prod(shape))]


def h5ad(**options: Any) -> bytes:
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        arrays = posteriors()
        for name in ("mean", "log_variance"):
            file.create_dataset(f"obsm/{name}", data=arrays[name], **options)
        file["obs/labels/codes"], file["obs/labels/categories"] = arrays["labels"].astype(np.int8), ["a", "b", "c"]
        file["obs/donor"] = [f"donor {row % 4}" for row in range(20)]
    return stream.getvalue()


def tensors() -> bytes:
    from safetensors.numpy import save

    return save(posteriors(), metadata={"metadata": '{"a": 1}'})


ROOT = Path(__file__).resolve().parents[2]
SCHEMA = read_yaml(ROOT / "workflow/schemas/config.schema.yaml")
CONFIG = (ROOT / "config/config.yaml").read_bytes()
TABLE = b'experiment,seed,x\ntiny,0,1.5\ntiny,1,-2\n"a,b",2,\n'

# --------------------------------------------------------------------------------------------- and what damages them
INTERESTING = st.sampled_from(
    [b"\0", b"\xff" * 8, b"\x7f" * 4, b"[" * 9_000, b"(" * 9_000, b"{" * 500, b"\xff\xfe", b"\x1b[2J", b"\r", b"\n",
     b"\xe2\x80\xae", b"\xed\xa0\x80", b"9" * 400, b"1e999", b"nan", b"inf", b"-", b"&a [*a,*a]", b"<<: ", b'"',
     b"!!python/name:os.system ", b"10:30", b"010", b"\x1f\x8b", b"PK\x01\x02", b"|O", b"<U9999", b"1000000000000, ",
     b"../", b"null"]
)  # fmt: skip
EDIT = st.tuples(
    st.sampled_from(["flip", "cut", "insert", "remove", "repeat", "set"]), st.floats(0, 1), st.integers(0, 255),
    INTERESTING | st.binary(max_size=20),
)  # fmt: skip


def edited(content: bytes, edits: list[tuple[str, float, int, bytes]]) -> bytes:
    """A file after some accidents."""
    for kind, where, value, piece in edits:
        at = int(where * len(content))
        if kind == "flip" and at < len(content):
            content = content[:at] + bytes([content[at] ^ (value or 1)]) + content[at + 1 :]
        elif kind == "cut":
            content = content[:at]
        elif kind == "insert":
            content = content[:at] + piece + content[at:]
        elif kind == "remove":
            content = content[:at] + content[at + value :]
        elif kind == "repeat":
            content = content[:at] + content[at : at + value] * 3 + content[at + value :]
        elif kind == "set":
            content = content[:at] + piece + content[at + len(piece) :]
    return content


def damaged(*contents: bytes) -> st.SearchStrategy[bytes]:
    whole = st.sampled_from(contents)
    return st.builds(edited, whole, st.lists(EDIT, max_size=6)) | st.binary(max_size=200)


def npy_header(description: str, body: bytes) -> bytes:
    header = description.encode("latin-1", "replace") + b"\n"
    return b"\x93NUMPY\x02\x00" + struct.pack("<I", len(header)) + header + body


def zipped(members: list[tuple[str, bytes]]) -> bytes:
    stream = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a name that is there twice
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members:
                # Python's own writer fails on a name that begins with NUL, since it cuts names there.
                archive.writestr(f"{name}.npy" if name and name[0] != "\0" else "x.npy", content)
    return stream.getvalue()


NAME = st.sampled_from(NASTY_NAMES) | st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
SHAPE = st.lists(st.integers(-1, 5) | st.sampled_from([10**6, 10**12, 2**31, 2**63, 2**64]), max_size=4)
DTYPE = st.sampled_from(
    ["<f4", "<f8", "<f2", "|O", "<i8", "|S3", "<U4", "|b1", "<c16", "|V8", "<M8[D]", "zz", "<f8" * 9]
)
NESTED = ["(" * 9_000, "[" * 9_000 + "]" * 9_000, "{" + "'a': " * 50, "__import__('os')", "{}"]
HEADER = (
    st.builds(
        lambda dtype, shape, order: f"{{'descr': {dtype!r}, 'fortran_order': {order}, 'shape': {tuple(shape)}, }}",
        DTYPE,
        SHAPE,
        st.booleans(),
    )
    | st.sampled_from(NESTED)
    | st.text(max_size=50)
)
FLOATS = st.floats(width=64) | st.sampled_from([1e150, -1e300, 5e-324, 0.0, float("nan"), float("inf")])


@st.composite
def strange_arrays(draw: Any) -> dict[str, np.ndarray]:
    """Small arrays under the names that are looked for, with values and shapes that are none of posteriors."""
    made = {}
    for name in draw(st.lists(st.sampled_from(NASTY_NAMES[:6]), unique=True, min_size=1, max_size=4)):
        shape = tuple(draw(st.lists(st.integers(0, 4), min_size=0, max_size=3)))
        values = draw(st.lists(FLOATS, min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
        with np.errstate(all="ignore"):
            dtype = draw(st.sampled_from(["f8", "f4", "f2", "i8", "U3", "S2", "?", "c16", "M8[s]"]))
            array = np.array(values, dtype="f8").reshape(shape)
            made[name] = array if dtype in ("f8", "M8[s]") else np.nan_to_num(array).astype(dtype)
    return made


NPZ = (
    damaged(npz(posteriors()), npz(posteriors(), np.savez_compressed))
    | st.builds(zipped, st.lists(st.tuples(NAME, st.builds(npy_header, HEADER, st.binary(max_size=64))), max_size=4))
    | strange_arrays().map(npz)
)
ENTRY = st.fixed_dictionaries(
    {},
    optional={
        "dtype": st.sampled_from(["F32", "F64", "I64", "BF16", "F8_E4M3", "BOOL", "U8", "x", 3]),
        "shape": SHAPE | st.text(max_size=3),
        "data_offsets": st.lists(st.integers(-1, 2**64), max_size=3),
    },
)
TABLE_OF_CONTENTS = st.dictionaries(NAME | st.just("__metadata__"), ENTRY | st.text(max_size=5), max_size=4)
SAFETENSORS = damaged(tensors()) | st.builds(
    safetensors,
    TABLE_OF_CONTENTS.map(json.dumps).map(str.encode)
    | st.sampled_from([b"[" * 9_000, b"{}", b'{"a":' * 2_000])
    | st.binary(max_size=30),
    st.binary(max_size=64),
)
WORDS = st.sampled_from(["experiment", "sweeps", "training", "epochs", "mirror", "seeds", "<<", "x"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12) | st.sampled_from(["digits", "010"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)
YAML = damaged(CONFIG, b"a: &a [1, 2]\nb: &b [*a, *a]\nc: [*b, *b]\n") | VALUES.map(json.dumps).map(str.encode)


# ----------------------------------------------------------------------------------------------------- right results
def right_posteriors(path: Path) -> None:
    found = read_posteriors(path)
    for q in filter(None, (found.train, found.test)):
        assert q.mean.shape == q.variance.shape == (q.n, q.latent_dim)
        assert np.isfinite(q.mean).all() and np.isfinite(q.variance).all() and (q.variance > 0).all()


def right_arrays(path: Path) -> None:
    arrays, _ = read_arrays(path)
    assert all(isinstance(array, np.ndarray) for array in arrays.values())


def right_configuration(path: Path) -> None:
    check_schema(read_yaml(path), SCHEMA, str(path))


def right_idx(path: Path) -> None:
    array = read_idx(path)
    assert array.dtype == np.uint8 and 1 <= array.ndim <= 4 and array.size > 0


def right_images(path: Path) -> None:
    found = read_image_folder(path, [5, 7])
    assert found.images.dtype == np.uint8 and found.images.shape[1:] == (5, 7) and len(found.images) >= 2


def right_image_among_others(path: Path) -> None:
    """The file as one image of a folder."""
    (path.parent / "other.png").write_bytes(image("PNG", "RGB"))
    try:
        right_images(path.parent)
    finally:
        (path.parent / "other.png").unlink()


READERS: dict[str, tuple[str, Callable[[Path], object], st.SearchStrategy[bytes]]] = {
    "npz": ("a.npz", right_posteriors, NPZ),
    "safetensors of strangers": ("a.safetensors", right_posteriors, SAFETENSORS),
    "safetensors": ("a.safetensors", right_arrays, SAFETENSORS),
    "idx": ("a", right_idx, damaged(idx(), idx((7,)), gzip.compress(idx()))),
    "idx.gz": ("a.gz", right_idx, damaged(gzip.compress(idx())) | damaged(idx()).map(gzip.compress)),
    "png": ("a.png", right_image_among_others, damaged(*(image("PNG", mode) for mode in ("L", "1", "P", "RGBA")))),
    "jpeg": ("a.jpg", right_image_among_others, damaged(image("JPEG"), image("JPEG", "RGB"), image("JPEG", "CMYK"))),
    "zip": ("a.zip", right_images, damaged(packed("zip"))),
    "tar.gz": ("a.tar.gz", right_images, damaged(packed("tar"))),
    "tar in whole gzip": ("a.tgz", right_images, damaged(gzip.decompress(packed("tar"))).map(gzip.compress)),
    "yaml": ("a.yaml", right_configuration, YAML),
    "csv": ("a.csv", read_table, damaged(TABLE)),
    "json": ("a.json", read_json, damaged(b'{"a": [1, null, "x"]}') | VALUES.map(json.dumps).map(str.encode)),
    "csv of strangers": ("a.csv", right_posteriors, damaged(b"mean_0,mean_1,std_0,std_1\n" + b"0.5,-1,0.3,2\n" * 20)),
    "h5ad of strangers": ("a.h5ad", right_posteriors, damaged(h5ad(), h5ad(compression="gzip"))),
    "npy of strangers": ("mean.npy", right_posteriors, st.builds(npy_header, HEADER, st.binary(max_size=64))),
}  # fmt: skip


@pytest.mark.parametrize("reader", READERS)
def test_a_right_result_or_one_short_error_and_no_file(reader, tmp_path, monkeypatch):
    name, read, contents = READERS[reader]
    monkeypatch.setattr(containers, "H5AD_SECONDS", 5)
    path = tmp_path / name
    accepted = 0

    @settings(
        max_examples=200 if SECONDS else EXAMPLES, deadline=None, database=None, derandomize=not SECONDS,
        suppress_health_check=list(HealthCheck), phases=[Phase.generate, Phase.shrink], print_blob=True,
        report_multiple_bugs=False,
    )  # fmt: skip
    @given(contents)
    def try_one(content: bytes) -> None:
        nonlocal accepted
        path.write_bytes(content)
        started = time.monotonic()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read(path)
            accepted += 1
        except DataError as error:
            told = str(error)
            assert told.isprintable() and 0 < len(told) <= LONGEST_MESSAGE, told
        assert time.monotonic() - started < MOST_SECONDS_FOR_ONE
        assert list(tmp_path.iterdir()) == [path]

    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    finish = time.monotonic() + SECONDS
    try_one()
    while time.monotonic() < finish:
        try_one()
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < MOST_MEMORY_GROWN
    assert accepted or "strangers" in reader, "no file was ever right: the reader was not tried"
