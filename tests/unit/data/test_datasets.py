"""Data sets: the registry, idx files whole and damaged, splits, controls against known answers."""

import gzip
import importlib.util
import random
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aggregated_posterior.data import datasets, idx
from aggregated_posterior.data.controls import draw_control, random_rotation
from aggregated_posterior.pipeline.schemas import load_registry, read_yaml, without_prose
from aggregated_posterior.storage import DataError, read_arrays

ROOT = Path(__file__).resolve().parents[3]
SCHEMA = ROOT / "workflow/schemas/datasets.schema.yaml"
REGISTRY = ROOT / "config" / "datasets.yaml"
MNIST = ROOT.parent / "shared" / "data" / "mnist"


def script(name):
    """The pipeline's script as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def idx_bytes(array):
    """An array of bytes in idx format, uncompressed."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def tiny_idx(folder, n_train=20, n_test=10, side=4):
    """Write four idx files of random images and return their paths and a registry entry for them."""
    rng = np.random.default_rng(0)
    arrays = {
        "images_train": rng.integers(0, 256, (n_train, side, side), dtype=np.uint8),
        "labels_train": rng.integers(0, 3, n_train, dtype=np.uint8),
        "images_test": rng.integers(0, 256, (n_test, side, side), dtype=np.uint8),
        "labels_test": rng.integers(0, 3, n_test, dtype=np.uint8),
    }
    paths = {role: folder / name for role, name in datasets.IDX_FILES.items()}
    for role, path in paths.items():
        path.write_bytes(gzip.compress(idx_bytes(arrays[role]), mtime=0))
    return paths, {"kind": "idx", "image_shape": [side, side], "classes": 3, "maximum": 255}, arrays


# --- registry ---


def test_registry_in_the_repository_is_valid_and_complete():
    registry = load_registry(REGISTRY, SCHEMA)
    names = {"digits", "mnist", "fashion_mnist", "kmnist", "control_gaussian", "control_uniform"}
    assert names <= set(registry)
    for name, entry in registry.items():
        assert entry["title"]
        if entry["kind"] in ("digits", "idx"):
            assert entry["licence"] and entry["citation"] and entry["classes"] == 10
        if entry["kind"] == "idx":
            assert set(entry["files"]) == set(datasets.IDX_FILES.values()), name
    assert registry["mnist"]["hosts"][0] == "https://ossci-datasets.s3.amazonaws.com/mnist/"
    assert registry["mnist"]["maximum"] == 255, "the schema's default is filled in"


def test_every_key_of_the_schema_is_described():
    schema = read_yaml(ROOT / "workflow" / "schemas" / "datasets.schema.yaml")

    def rules(node):
        if isinstance(node, dict):
            yield from node.get("properties", {}).items()
            for part in node.values():
                yield from rules(part)

    for key, rule in rules({name: rule for name, rule in schema["$defs"].items() if name != "entry"}):
        target = schema["$defs"][rule["$ref"].rpartition("/")[2]] if "$ref" in rule else rule
        assert "description" in target or "description" in rule, key


def test_registry_accepts_the_commented_example(tmp_path):
    example = REGISTRY.read_text(encoding="utf-8").partition("# my_images:")[2]
    lines = ["my_images:"] + [line.removeprefix("# ") for line in example.splitlines()[1:]]
    path = tmp_path / "datasets.yaml"
    path.write_text("\n".join(lines))
    entry = load_registry(path, SCHEMA)["my_images"]
    assert entry["kind"] == "image_folder" and entry["image_shape"] == [32, 32, 3]


CONTROL = "c:\n  kind: control\n  source: gaussian\n  eigenvalues: [1.0, 2.0]\n  train_size: 9\n  test_size: 9\n"
FOLDER = "c:\n  kind: image_folder\n  path: somewhere\n"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (CONTROL.replace("eigenvalues", "eigenvalue"), "unknown key eigenvalue; did you mean eigenvalues?"),
        (CONTROL.replace("[1.0, 2.0]", "[1.0, -2.0]"), "c.eigenvalues.1: -2.0 is not more than 0"),
        (
            CONTROL.replace("[1.0, 2.0]", "[1.0, 1e-3]"),
            "YAML reads 1e-3 as text, write it with a dot and a sign: 1.0e-03",
        ),
        (CONTROL.replace("[1.0, 2.0]", "['1.5', 2.0]"), "write the number without quotes"),
        (CONTROL.replace("[1.0, 2.0]", "[]"), "c.eigenvalues: [] has fewer than 2 items"),
        (CONTROL.replace("gaussian", "gausian"), "did you mean gaussian?"),
        (CONTROL.replace("control", "controll"), "did you mean control?"),
        (CONTROL.replace("  test_size: 9\n", ""), "the key test_size is missing"),
        (CONTROL + "  test_size: 8\n", "line 7: the key test_size appears twice"),
        (CONTROL.replace("c:", "My-Data:"), "a name has lower-case letters"),
        (CONTROL.replace("c:", "1:"), "1 is not of type string"),
        (CONTROL.replace("train_size: 9", "train_size: 0"), "0 is less than 2"),
        (CONTROL.replace("train_size: 9", "train_size: 9.5"), "9.5 is not of type integer"),
        (CONTROL.replace("train_size: 9", "train_size: true"), "True is not of type integer"),
        (CONTROL + "  decoder_variance: 0\n", "0 is not more than 0"),
        (FOLDER + "  image_shape: [32]\n", "[32] has fewer than 2 items"),
        (FOLDER + "  image_shape: [32, 32, 4]\n", "4 is not 3"),
        (FOLDER + "  image_shape: [0, 32]\n", "0 is less than 1"),
        (FOLDER + "  test_fraction: 1.0\n", "1.0 is not less than 1"),
        (FOLDER + "  mirror: x\n", "unknown key mirror"),
        (FOLDER.replace("somewhere", "3"), "3 is not of type string"),
        ("", "None is not of type object"),
        ("{}", "fewer than 1 keys"),
        ("[1, 2]", "is not of type object"),
        ("c: 3", "c: 3 is not of type object"),
        ("c: {kind: idx", "is not valid YAML"),
        ("c:\n\tkind: idx", "line 2: is not valid YAML"),
        ("c: !!python/object:os.system {}", "is not valid YAML"),
        ("\x00", "is not valid YAML"),
        ("c: {[1]: 2}", "is not valid YAML"),
        (
            "d:\n  kind: digits\n  image_shape: [8, 8]\n  maximum: 16\n  classes: 10\n  test_size: 1797\n",
            "is more than",
        ),
    ],
)
def test_mistakes_in_the_registry_are_told_in_one_line(tmp_path, text, told):
    path = tmp_path / "datasets.yaml"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        load_registry(path, SCHEMA)
    message = str(caught.value)
    assert told in message and str(path) in message and "\n" not in message


def test_idx_entry_wants_its_four_files_and_real_checksums(tmp_path):
    text = REGISTRY.read_text(encoding="utf-8")
    path = tmp_path / "datasets.yaml"
    for old, new, told in [
        ("440fcabf", "440FCABF", "SHA-256 as 64 hexadecimal digits"),
        ("    train-labels-idx1-ubyte.gz: 3552", "    labels.gz: 3552", "unknown key labels.gz"),
        ("class_names: [o, ki,", "class_names: [o,", "9 class_names for 10 classes"),
        ("https://ossci", "ftp://ossci", "does not fit"),
    ]:
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")
        with pytest.raises(DataError, match=told):
            load_registry(path, SCHEMA)


def test_prose_is_not_among_the_keys_that_arrays_depend_on():
    entry = load_registry(REGISTRY, SCHEMA)["mnist"]
    assert set(without_prose(entry)) == {
        "kind",
        "image_shape",
        "maximum",
        "classes",
        "train_size",
        "test_size",
    }


# --- idx ---


@given(st.lists(st.integers(1, 6), min_size=1, max_size=4), st.booleans(), st.integers(0, 2**32))
def test_idx_round_trip(tmp_path_factory, shape, compressed, seed):
    array = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    content = idx_bytes(array)
    path = tmp_path_factory.mktemp("idx") / ("a.gz" if compressed else "a")
    path.write_bytes(gzip.compress(content, mtime=0) if compressed else content)
    np.testing.assert_array_equal(idx.read_idx(path), array)


IMAGES = np.arange(5 * 4 * 4, dtype=np.uint8).reshape(5, 4, 4)
GOOD = idx_bytes(IMAGES)
PACKED = gzip.compress(GOOD, mtime=0)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "not a gzip file"),
        (b"<html>404</html>", "not a gzip file"),
        (GOOD, "not a gzip file"),
        (PACKED[:10], "cut short"),
        (PACKED[:-8], "cut short"),
        (PACKED[:-1], "cut short"),
        (PACKED[:-8] + bytes(4) + PACKED[-4:], "incorrect data check"),
        (PACKED[:-4] + bytes(4), "incorrect length check"),
        (PACKED + b"\0", "bytes after the end"),
        (PACKED + PACKED, "bytes after the end"),
        (gzip.compress(b"", mtime=0), "too short"),
        (gzip.compress(GOOD[:3], mtime=0), "too short"),
        (gzip.compress(GOOD[:9], mtime=0), "within its idx header"),
        (gzip.compress(b"\1" + GOOD[1:], mtime=0), "not an idx file (it begins with 01 00 08 03"),
        (gzip.compress(GOOD[:2] + b"\x0d" + GOOD[3:], mtime=0), "values of type 0x0d"),
        (gzip.compress(GOOD[:3] + b"\0", mtime=0), "0 dimensions"),
        (gzip.compress(GOOD[:3] + b"\xff" + GOOD[4:], mtime=0), "255 dimensions"),
        (gzip.compress(GOOD[:-1], mtime=0), "tells 5 × 4 × 4 = 80 bytes, it holds 79"),
        (gzip.compress(GOOD + b"\0", mtime=0), "more bytes than the 5 × 4 × 4"),
        (gzip.compress(GOOD[:4] + bytes(4) + GOOD[8:], mtime=0), "so it is empty"),
        (gzip.compress(GOOD[:4] + b"\xff" * 12 + GOOD[16:], mtime=0), "more than the limit"),
    ],
)
def test_damaged_idx_files_are_told(tmp_path, content, told):
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        idx.read_idx(path)
    assert told in str(caught.value) and str(path) in str(caught.value)


def test_a_header_of_gigabytes_takes_no_more_memory_than_the_file_has_bytes(tmp_path):
    import tracemalloc

    for name, content in (("a", GOOD), ("a.gz", gzip.compress(GOOD))):
        plain = GOOD[:4] + b"\x00\x00\xff\xff\x00\x00\x00\xff\x00\x00\x00\x40" + GOOD[16:]
        (tmp_path / name).write_bytes(plain if content is GOOD else gzip.compress(plain))
        tracemalloc.start()
        try:
            with pytest.raises(DataError, match="cut short"):
                idx.read_idx(tmp_path / name)
            assert tracemalloc.get_traced_memory()[1] < 50_000_000
        finally:
            tracemalloc.stop()


def test_missing_and_unreadable_idx_files_are_told(tmp_path):
    for path in (tmp_path / "missing.gz", tmp_path):
        with pytest.raises(DataError, match=f"{path}: cannot be read"):
            idx.read_idx(path)


def test_a_zip_bomb_is_not_unpacked(tmp_path, monkeypatch):
    """1 MB that unpacks to 1 GB behind a header of 5 × 4 × 4: no more is inflated than the header tells."""
    packer = zlib.compressobj(9, wbits=31)
    content = packer.compress(GOOD[:16])
    block = bytes(2**20)
    for _ in range(256):
        content += packer.compress(block)
    content += packer.flush()
    path = tmp_path / "bomb.gz"
    path.write_bytes(content)
    inflated = []
    original = idx._GzipReader.read
    monkeypatch.setattr(
        idx._GzipReader, "read", lambda self, size: inflated.append(data := original(self, size)) or data
    )
    with pytest.raises(DataError, match="more bytes than"):
        idx.read_idx(path)
    assert sum(map(len, inflated)) <= len(GOOD) + 1


def mutate(content, seed):
    """Damage a file in one of the ways that transfers and discs do; never gives back what was put in."""
    rng = random.Random(seed)
    damaged = bytearray(content)
    way = seed % 6
    place = rng.randrange(len(damaged))
    if way == 0:
        del damaged[place:]
    elif way == 1:
        damaged[place] ^= 1 << rng.randrange(8)
    elif way == 2:
        del damaged[place : place + rng.randint(1, 8)]
    elif way == 3:
        damaged[place:place] = rng.randbytes(rng.randint(1, 8))
    elif way == 4:
        damaged += rng.randbytes(rng.randint(1, 8))
    else:
        damaged[place : place + 8] = bytes(b ^ 0xFF for b in damaged[place : place + 8])
    return bytes(damaged)


# These bytes before a gzip stream's data say when and where it was made: no check covers them, nor needs to.
UNCHECKED = range(3, 10)


@pytest.mark.parametrize("seed", range(120))
def test_mutated_gzip_files_leave_no_output(tmp_path, seed):
    paths, entry, _ = tiny_idx(tmp_path)
    role = list(paths)[seed % 4]
    content = paths[role].read_bytes()
    damaged = mutate(content, seed)
    if len(damaged) == len(content) and damaged[: UNCHECKED.start] == content[: UNCHECKED.start]:
        damaged = damaged[: UNCHECKED.start] + content[UNCHECKED.start : UNCHECKED.stop] + damaged[UNCHECKED.stop :]
        if damaged == content:
            damaged = content[:-1]
    paths[role].write_bytes(damaged)
    output = tmp_path / "out" / "data.safetensors"
    with pytest.raises(DataError) as caught:
        script("prepare_dataset").prepare_dataset(list(map(str, paths.values())), str(output), "tiny", entry, 0)
    assert paths[role].name in str(caught.value) and len(str(caught.value).splitlines()) <= 2
    assert not output.parent.exists() or not list(output.parent.iterdir())


@pytest.mark.parametrize("seed", range(60))
def test_mutated_headers_leave_no_output(tmp_path, seed):
    """Whole gzip files around an idx header that is wrong in one byte."""
    paths, entry, arrays = tiny_idx(tmp_path)
    role = list(paths)[seed % 4]
    content = bytearray(idx_bytes(arrays[role]))
    rng = random.Random(seed)
    place = rng.randrange(4 + 4 * arrays[role].ndim)
    content[place] = rng.choice([value for value in range(256) if value != content[place]])
    paths[role].write_bytes(gzip.compress(bytes(content), mtime=0))
    output = tmp_path / "data.safetensors"
    with pytest.raises(DataError) as caught:
        script("prepare_dataset").prepare_dataset(list(map(str, paths.values())), str(output), "tiny", entry, 0)
    assert paths[role].name in str(caught.value)
    assert not output.exists() and not list(tmp_path.glob(".*"))


WHOLE = st.binary(min_size=1, max_size=60).map(lambda content: idx_bytes(np.frombuffer(content, np.uint8)))


@given(st.one_of(st.binary(max_size=200), WHOLE, st.tuples(WHOLE, st.binary(max_size=4)).map(b"".join)))
@example(b"")
@example(idx_bytes(np.zeros((2, 3), np.uint8)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes_are_never_read_as_more_than_they_are(tmp_path, content):
    path = tmp_path / "random"
    path.write_bytes(content)
    try:
        array = idx.read_idx(path)
    except DataError as error:
        assert str(path) in str(error)
    else:
        assert idx_bytes(array) == content


# --- data sets from idx files ---


def test_idx_dataset_keeps_images_and_labels(tmp_path):
    paths, entry, arrays = tiny_idx(tmp_path)
    loaded = datasets.load_dataset("tiny", entry, list(paths.values()), seed=0)
    for role, array in loaded.arrays().items():
        np.testing.assert_array_equal(array, arrays[role])
    assert loaded.labels_train.dtype == np.int64
    assert loaded.metadata == {
        "dataset": "tiny",
        "kind": "image",
        "image_shape": [4, 4],
        "maximum": 255,
        "classes": 3,
    }


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image_shape": [5, 4]}, "images of shape [4, 4], but tiny has [5, 4]"),
        ({"classes": 2}, "holds label 2, but tiny has 2 classes"),
        ({"maximum": 16}, "but tiny has maximum 16"),
        ({"train_size": 21}, "holds 20 entries, but tiny has 21"),
        ({"test_size": 11}, "holds 10 entries, but tiny has 11"),
    ],
)
def test_idx_files_at_odds_with_the_registry_are_told(tmp_path, change, told):
    paths, entry, _ = tiny_idx(tmp_path)
    with pytest.raises(DataError) as caught:
        datasets.load_dataset("tiny", entry | change, list(paths.values()), seed=0)
    assert told in str(caught.value) and "ubyte.gz" in str(caught.value)


def test_swapped_or_missing_idx_files_are_told(tmp_path):
    paths, entry, _ = tiny_idx(tmp_path)
    with pytest.raises(DataError, match=r"t10k-labels-idx1-ubyte\.gz \(labels_test\) was not given"):
        datasets.load_dataset("tiny", entry, list(paths.values())[:3], seed=0)
    images, labels = paths["images_train"].read_bytes(), paths["labels_train"].read_bytes()
    paths["labels_train"].write_bytes(images)
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz: labels have one dimension"):
        datasets.load_dataset("tiny", entry, list(paths.values()), seed=0)
    paths["images_train"].write_bytes(labels)
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz: holds images of shape \[\]"):
        datasets.load_dataset("tiny", entry, list(paths.values()), seed=0)
    paths["images_train"].write_bytes(images)
    paths["labels_train"].write_bytes(paths["labels_test"].read_bytes())
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz: holds 10 labels for 20 images"):
        datasets.load_dataset("tiny", entry, list(paths.values()), seed=0)


@pytest.mark.skipif(not MNIST.is_dir(), reason="needs ../shared/data/mnist beside the checkout")
def test_mnist_from_the_shared_mirror(tmp_path):
    output = tmp_path / "mnist.safetensors"
    entry = load_registry(REGISTRY, SCHEMA)["mnist"]
    raw = [str(MNIST / name) for name in entry["files"]]
    script("prepare_dataset").prepare_dataset(raw, str(output), "mnist", entry, 0)
    arrays, metadata = read_arrays(output)
    assert arrays["images_train"].shape == (60000, 28, 28) and arrays["images_train"].dtype == np.uint8
    assert arrays["labels_train"][:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert arrays["labels_test"][:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert len(arrays["images_test"]) == 10000 and metadata["classes"] == 10


# --- splits and digits ---


@given(st.integers(1, 30), st.lists(st.integers(0, 4), min_size=31, max_size=120), st.integers(0, 2**32))
def test_split_is_a_partition_with_every_class_in_proportion(test_size, labels, seed):
    labels = np.array(labels)
    train, test = datasets.split_indices(len(labels), test_size, labels, np.random.default_rng(seed))
    assert len(test) == test_size
    assert sorted([*train, *test]) == list(range(len(labels)))
    for label in np.unique(labels):
        share = np.sum(labels == label) * test_size / len(labels)
        assert abs(np.sum(labels[test] == label) - share) < 1


@pytest.mark.parametrize("test_size", [0, 10, 11, -1])
def test_impossible_splits_are_refused(test_size):
    with pytest.raises(DataError, match="cannot be set aside"):
        datasets.split_indices(10, test_size, None, np.random.default_rng(0))


def test_digits_are_split_without_loss(tmp_path):
    from sklearn.datasets import load_digits

    entry = load_registry(REGISTRY, SCHEMA)["digits"]
    loaded = datasets.load_dataset("digits", entry, [], seed=0)
    assert loaded.images_train.shape == (1437, 8, 8) and loaded.images_test.shape == (360, 8, 8)
    assert loaded.images_train.dtype == np.uint8 and loaded.images_train.max() == 16 == loaded.metadata["maximum"]
    counts = np.bincount(loaded.labels_test)
    assert counts.sum() == 360 and set(counts) <= {35, 36, 37}

    def pairs(images, labels):
        return sorted((label, image.tobytes()) for image, label in zip(images, labels, strict=True))

    digits = load_digits()
    whole = pairs(digits.images.astype(np.uint8), digits.target)
    parts = pairs(loaded.images_train, loaded.labels_train) + pairs(loaded.images_test, loaded.labels_test)
    assert sorted(parts) == whole
    other = datasets.load_dataset("digits", entry, [], seed=1)
    assert not np.array_equal(other.images_test, loaded.images_test), "the seed moves the split"


def test_the_same_data_give_the_same_bytes(tmp_path):
    registry = load_registry(REGISTRY, SCHEMA)
    prepare = script("prepare_dataset").prepare_dataset
    for name in ("digits", "control_gaussian", "control_uniform"):
        for run in "ab":
            prepare([], str(tmp_path / f"{name}_{run}"), name, registry[name], 3)
        assert (tmp_path / f"{name}_a").read_bytes() == (tmp_path / f"{name}_b").read_bytes()


def test_an_unknown_kind_is_refused():
    with pytest.raises(DataError, match="unknown kind 'parquet'"):
        datasets.load_dataset("x", {"kind": "parquet"}, [], seed=0)


# --- controls ---


def test_controls_have_the_layout_of_the_data_file(tmp_path):
    entry = load_registry(REGISTRY, SCHEMA)["control_uniform"]
    script("prepare_dataset").prepare_dataset([], str(tmp_path / "c"), "control_uniform", entry, 0)
    arrays, metadata = read_arrays(tmp_path / "c")
    assert set(arrays) == {"images_train", "images_test"}
    assert arrays["images_train"].shape == (10000, 8) and arrays["images_test"].shape == (2000, 8)
    assert arrays["images_train"].dtype == np.float32
    assert metadata == {
        "dataset": "control_uniform",
        "kind": "control",
        "image_shape": [8],
        "maximum": 1,
        "classes": None,
        "eigenvalues": [16, 8, 4, 2, 0.5, 0.25, 0.125, 0.0625],
        "source": "uniform",
        "decoder_variance": 1.0,
    }


@pytest.mark.parametrize(("source", "excess", "sixth"), [("gaussian", 0.0, 15.0), ("uniform", -1.2, 27 / 7)])
def test_control_components_have_their_variances_and_kurtosis(source, excess, sixth):
    """Rotated back, every component has variance λ and the source's kurtosis, within 5 standard errors."""
    eigenvalues = np.array([16, 8, 4, 2, 0.5, 0.25, 0.125, 0.0625])
    n = 200_000
    observations = draw_control(source, eigenvalues, n, np.random.default_rng(5)).astype(np.float64)
    rotation = random_rotation(8, np.random.default_rng(5))
    standard = observations @ rotation / np.sqrt(eigenvalues)
    kurtosis = 3 + excess
    assert np.abs(standard.mean(axis=0)).max() < 5 / np.sqrt(n)
    assert np.abs((standard**2).mean(axis=0) - 1).max() < 5 * np.sqrt((kurtosis - 1) / n)
    # Var z⁴ = E z⁸ − kurtosis²; E z⁸ is 105 (normal) or 9 (uniform on ±√3: 3⁴ / 9).
    eighth = 105 if source == "gaussian" else 9
    assert np.abs((standard**4).mean(axis=0) - kurtosis).max() < 5 * np.sqrt((eighth - kurtosis**2) / n)
    correlation = np.corrcoef(standard.T) - np.eye(8)
    assert np.abs(correlation).max() < 5 / np.sqrt(n)
    # The sources are independent, not only uncorrelated: squares do not covary either.
    assert np.abs(np.corrcoef((standard**2).T) - np.eye(8)).max() < 5 / np.sqrt(n)
    assert np.allclose((standard**6).mean(axis=0), sixth, rtol=0.1)


def test_rotation_is_orthogonal_and_follows_its_seed():
    rotation = random_rotation(8, np.random.default_rng(0))
    assert np.abs(rotation.T @ rotation - np.eye(8)).max() < 1e-14
    assert not np.allclose(rotation, random_rotation(8, np.random.default_rng(1)))
    # Haar: every entry has mean 0 and variance 1 / size.
    entries = np.array([random_rotation(3, np.random.default_rng(seed)) for seed in range(2000)])
    assert np.abs(entries.mean(axis=0)).max() < 5 * np.sqrt(1 / 3 / 2000)
    assert np.abs((entries**2).mean(axis=0) - 1 / 3).max() < 0.05


def test_two_controls_share_no_draws():
    registry = load_registry(REGISTRY, SCHEMA)
    entry = registry["control_gaussian"]
    one = datasets.load_dataset("control_gaussian", entry, [], seed=0)
    two = datasets.load_dataset("control_other", entry, [], seed=0)
    assert not np.allclose(one.images_train, two.images_train)
    with pytest.raises(ValueError, match="unknown source"):
        draw_control("cauchy", [1.0, 1.0], 3, np.random.default_rng(0))
