"""Training: seeded, resumable to the same bytes, and loud when it goes wrong."""

import dataclasses

import numpy as np
import pytest
import torch

from aggregated_posterior.model.encoding import encode
from aggregated_posterior.model.training import TrainingSettings, cosine_learning_rate, train
from aggregated_posterior.statistics.closed_forms import linear_vae_answer
from aggregated_posterior.storage import DataError

SETTINGS = TrainingSettings(
    latent_dim=3,
    kl_weight=1.0,
    seed=5,
    hidden_sizes=[16, 8],
    likelihood="bernoulli",
    decoder_variance=1.0,
    epochs=6,
    batch_size=32,
    learning_rate=1e-3,
    active_threshold=0.05,
)


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 17, size=(150, 6, 6)).astype(np.uint8)


def weights(model) -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in model.state_dict().items()}


def test_the_same_seed_gives_the_same_model_whatever_the_global_state(images):
    torch.manual_seed(1)
    first, history = train(images, 16, SETTINGS)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    second, again = train(images, 16, SETTINGS)
    assert history == again
    for name, array in weights(first).items():
        np.testing.assert_array_equal(array, weights(second)[name])
    other, _ = train(images, 16, dataclasses.replace(SETTINGS, seed=6))
    assert not np.array_equal(weights(other)["head_mean.weight"], weights(first)["head_mean.weight"])
    assert before is not None


def test_an_interrupted_training_ends_in_the_same_bytes(images, tmp_path):
    checkpoint = tmp_path / "checkpoint.safetensors"
    whole, history = train(images, 16, SETTINGS)

    class Interrupted(Exception):
        pass

    def interrupt(row):
        if row["epoch"] == 4:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(images, 16, SETTINGS, checkpoint=checkpoint, checkpoint_seconds=0, on_epoch=interrupt)
    seen = []
    resumed, rows = train(images, 16, SETTINGS, checkpoint=checkpoint, checkpoint_seconds=1e9, on_epoch=seen.append)
    assert rows == history
    assert seen == history
    for name, array in weights(whole).items():
        np.testing.assert_array_equal(array, weights(resumed)[name])


@pytest.mark.parametrize("change", [{"seed": 6}, {"learning_rate": 2e-3}])
def test_a_checkpoint_of_other_settings_is_not_taken_up(images, tmp_path, change):
    checkpoint = tmp_path / "checkpoint.safetensors"
    train(images, 16, dataclasses.replace(SETTINGS, **change), checkpoint=checkpoint, checkpoint_seconds=0)
    expected, _ = train(images, 16, SETTINGS)
    got, _ = train(images, 16, SETTINGS, checkpoint=checkpoint, checkpoint_seconds=1e9)
    np.testing.assert_array_equal(weights(expected)["head_mean.weight"], weights(got)["head_mean.weight"])


def test_a_checkpoint_of_other_images_is_not_taken_up(images, tmp_path):
    checkpoint = tmp_path / "checkpoint.safetensors"
    train(images[::-1].copy(), 16, SETTINGS, checkpoint=checkpoint, checkpoint_seconds=0)
    expected, _ = train(images, 16, SETTINGS)
    got, _ = train(images, 16, SETTINGS, checkpoint=checkpoint, checkpoint_seconds=1e9)
    np.testing.assert_array_equal(weights(expected)["head_mean.weight"], weights(got)["head_mean.weight"])


def test_divergence_names_the_epoch_and_the_settings():
    x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32) * 50
    settings = dataclasses.replace(SETTINGS, likelihood="gaussian", hidden_sizes=[], learning_rate=1.0, kl_weight=1e5)
    with pytest.raises(DataError, match=r"diverged in epoch \d+.*learning_rate=1\.0"):
        train(x, 1, settings)


def test_nan_stops_the_training():
    x = np.full((64, 4), np.nan, dtype=np.float32)
    with pytest.raises(DataError, match="epoch 1: the loss is nan"):
        train(x, 1, dataclasses.replace(SETTINGS, likelihood="gaussian", hidden_sizes=[]))


def test_the_learning_rate_decays_to_zero():
    assert cosine_learning_rate(0.1, 0, 100) == 0.1
    assert cosine_learning_rate(0.1, 50, 100) == pytest.approx(0.05)
    assert cosine_learning_rate(0.1, 100, 100) == pytest.approx(0, abs=1e-15)


def test_history_has_a_row_per_epoch_and_the_loss_falls(images):
    _, history = train(images, 16, dataclasses.replace(SETTINGS, epochs=10))
    assert [row["epoch"] for row in history] == list(range(1, 11))
    assert history[-1]["reconstruction"] < history[0]["reconstruction"]


@pytest.mark.parametrize("kl_weight", [0.5, 2.0])
def test_a_linear_vae_reaches_the_closed_form(kl_weight):
    """Lucas et al. 2019: s_j = βς²/λ_j, Var(μ_j) = 1 − s_j, where λ_j > βς²; and the gauge identities hold."""
    variances = np.array([9.0, 4.0, 0.2])
    x = np.random.default_rng(1).normal(size=(4000, 3)) * np.sqrt(variances)
    x = ((x - x.mean(0)) / x.std(0) * np.sqrt(variances)).astype(np.float32)
    settings = TrainingSettings(3, kl_weight, 0, [], "gaussian", 1.0, 150, 500, 0.03, 0.05)
    model, _ = train(x, 1, settings)
    mean, variance = encode(weights(model), x, 1)
    answer = linear_vae_answer(np.linalg.eigvalsh(np.cov(x.T))[::-1], 0.0, kl_weight, 1.0)
    order = np.argsort(-mean.var(0))
    np.testing.assert_allclose(mean.var(0)[order], answer.variance_of_means, atol=0.02)
    np.testing.assert_allclose(variance.mean(0)[order], answer.posterior_variance, atol=0.02)
    np.testing.assert_allclose((mean**2).mean(0) + variance.mean(0), 1, atol=0.02)
    np.testing.assert_allclose(mean.mean(0), 0, atol=0.02)
