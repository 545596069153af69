"""MNIST through a mirror and a user's own JPEGs, by the rules that a user would run; skipped without the files."""

import pytest

from aggregated_posterior.storage import read_arrays

from .conftest import ROOT, TINY

SHARED = ROOT.parent / "shared/data"

MNIST = "resources/mnist/train-images-idx3-ubyte.gz"


@pytest.fixture
def mnist(fresh):
    if not (SHARED / "mnist").is_dir():
        pytest.skip(f"needs the four MNIST files in {SHARED / 'mnist'}")
    fresh.edit(TINY, "datasets: [digits]", "datasets: [mnist]")
    return fresh


def test_mnist_from_a_mirror(mnist):
    target = "results/tiny/data/mnist.safetensors"
    mnist.run(target, "--cores", "1", "--configfile", TINY, AGGREGATED_POSTERIOR_MIRROR=str(SHARED))
    arrays, metadata = read_arrays(mnist.folder / target)
    assert arrays["images_train"].shape == (60000, 28, 28)
    assert arrays["images_test"].shape == (10000, 28, 28)
    assert arrays["labels_test"][:5].tolist() == [7, 2, 1, 0, 4]
    assert metadata["maximum"] == 255
    # Nothing is asked of any host once the files are there, whatever the mirror says now.
    again = mnist.run(MNIST, "--cores", "1", "--configfile", TINY, AGGREGATED_POSTERIOR_MIRROR="/nowhere")
    assert "Nothing to be done" in again.stdout + again.stderr


def test_a_corrupt_mirror_is_a_short_error_and_leaves_no_file(mnist, tmp_path):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    for path in (SHARED / "mnist").iterdir():
        (mirror / path.name).write_bytes(path.read_bytes()[:-1] + b"x")
    # The hosts are out of reach on purpose: a port of this machine on which nobody listens.
    registry = mnist.folder / "config/datasets.yaml"
    registry.write_text(registry.read_text().replace("https://", "http://127.0.0.1:9/"))
    done = mnist.run(MNIST, "--cores", "1", "--configfile", TINY, check=False, AGGREGATED_POSTERIOR_MIRROR=str(mirror))
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "wrong checksum" in output
    assert "Traceback" not in output
    assert not [path for path in (mnist.folder / "resources/mnist").glob("*") if path.is_file()]


def test_a_users_own_jpegs(fresh):
    archive = SHARED / "cifar10-jpeg.tar.gz"
    if not archive.is_file():
        pytest.skip(f"needs {archive}")
    registry = fresh.folder / "config/datasets.yaml"
    entry = f"jpegs:\n  kind: image_folder\n  title: JPEGs\n  path: {archive}\n  image_shape: [16, 16]\n"
    registry.write_text(registry.read_text() + entry)
    fresh.edit(TINY, "datasets: [digits]", "datasets: [jpegs]")
    target = "results/tiny/data/jpegs.safetensors"
    fresh.run(target, "--cores", "1", "--configfile", TINY)
    arrays, metadata = read_arrays(fresh.folder / target)
    assert arrays["images_train"].shape[1:] == (16, 16)
    assert len(metadata["class_names"]) == 10
    assert set(arrays["labels_test"].tolist()) == set(range(10))
    assert "train_vae" in fresh.plan()
