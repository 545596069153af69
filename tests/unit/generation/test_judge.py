"""Judges: they learn, repeat themselves to the byte, take any image shape, and say what is wrong."""

import numpy as np
import pytest
import torch

from aggregated_posterior.generation.judge import Judge, accuracy, judge_together, load_judge, save_judge, train_judge
from aggregated_posterior.storage import DataError, write_arrays


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def pictures(shape: tuple[int, ...], n: int = 200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright third of the rows; the class says which third."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    images = rng.integers(0, 100, (n, *shape))
    third = shape[0] // 3
    for image, label in zip(images, labels, strict=True):
        image[label * third : (label + 1) * third] += 150
    return images.astype(np.uint8), labels


def trained(shape: tuple[int, ...] = (9, 7), seed: int = 3) -> Judge:
    images, labels = pictures(shape)
    return train_judge(images, labels, shape, 255, 3, seed, epochs=8, batch_size=20, learning_rate=3e-3)


@pytest.mark.parametrize("shape", [(9, 7), (6, 6, 3), (3, 1)])
def test_a_judge_learns_images_of_any_shape(shape):
    judge = trained(shape)
    images, labels = pictures(shape, seed=1)
    assert accuracy(judge, images, labels, 255) > 0.95
    features, classes = judge.judge(images.reshape(len(images), -1) / 255)
    assert features.shape == (200, 64)
    assert features.dtype == np.float32
    assert (classes == labels).mean() > 0.95


def test_features_have_mean_variance_one_over_the_training_images():
    images, _ = pictures((9, 7))
    features, _ = trained().judge(images.reshape(len(images), -1) / 255)
    assert features.astype(np.float64).var(0).mean() == pytest.approx(1, rel=1e-4)


def plainly(judge: Judge, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Features and classes by the module's own layers, one after the other."""
    hidden = judge.hidden(torch.from_numpy(pixels).float())
    return (hidden / judge.feature_scale).numpy(), judge.scores(hidden).argmax(1).numpy()


@pytest.mark.parametrize("shape", [(9, 7), (6, 6, 3)])
def test_judges_together_say_what_each_says_alone(shape):
    judges = [trained(shape, seed) for seed in (3, 4, 5)]
    pixels = pictures(shape)[0].reshape(200, -1) / 255
    for judge, (features, classes) in zip(judges, judge_together(judges, pixels, block_size=13), strict=True):
        for other in (plainly(judge, pixels), judge.judge(pixels)):
            np.testing.assert_allclose(features, other[0], rtol=1e-4, atol=1e-5)
            np.testing.assert_array_equal(classes, other[1])


def test_judges_of_different_images_do_not_work_together():
    with pytest.raises(DataError, match="need one image shape"):
        judge_together([Judge([9, 7], 3), Judge([8, 8], 3)], np.zeros((2, 63)))


def test_the_same_seed_gives_the_same_bytes_and_another_seed_another_judge(tmp_path):
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        save_judge(tmp_path / name, trained(seed=seed), {"seed": 0})
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b
    assert a != c


def test_a_judge_survives_its_file(tmp_path):
    judge = trained()
    save_judge(tmp_path / "judge.safetensors", judge, {"accuracy": 0.9, "seed": 3})
    loaded, metadata = load_judge(tmp_path / "judge.safetensors")
    pixels = pictures((9, 7))[0].reshape(200, -1) / 255
    np.testing.assert_array_equal(loaded.judge(pixels)[0], judge.judge(pixels)[0])
    assert metadata["accuracy"] == 0.9
    assert not loaded.training


def test_a_file_that_is_no_judge(tmp_path):
    write_arrays(tmp_path / "other.safetensors", {"x": np.zeros(3)}, {})
    with pytest.raises(DataError, match="is not a judge"):
        load_judge(tmp_path / "other.safetensors")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros(5, int), "200 training images but 5 labels"),
        (np.full(200, 3), "between 0 and 2"),
        (np.full(200, -1), "between 0 and 2"),
    ],
)
def test_labels_that_do_not_fit(labels, message):
    images, _ = pictures((9, 7))
    with pytest.raises(DataError, match=message):
        train_judge(images, labels, (9, 7), 255, 3, 0, 1, 20, 1e-3)


def test_vectors_have_no_judge():
    with pytest.raises(DataError, match=r"shape \(H, W\)"):
        Judge([16], 3)
