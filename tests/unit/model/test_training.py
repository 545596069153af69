"""Training: seeded, resumable to the same bytes, and loud when it goes wrong."""

import contextlib
import dataclasses

import numpy as np
import pytest
import torch

from aggregated_posterior.model import training
from aggregated_posterior.model.encoding import encode, losses
from aggregated_posterior.model.regauging import ADAM
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
    return np.random.default_rng(0).integers(0, 17, size=(150, 8, 8)).astype(np.uint8)


def weights(model) -> dict[str, np.ndarray]:
    return {name: tensor.detach().numpy() for name, tensor in model.state_dict().items()}


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


@pytest.mark.parametrize(
    "changes", [{}, {"architecture": "conv"}, *({"regauge_epochs": 1, "regauge_adam": adam} for adam in ADAM)]
)
def test_an_interrupted_training_ends_in_the_same_bytes(images, tmp_path, changes):
    checkpoint = tmp_path / "checkpoint.safetensors"
    settings = dataclasses.replace(SETTINGS, **changes)
    whole, history = train(images, 16, settings)

    class Interrupted(Exception):
        pass

    def interrupt(row):
        if row["epoch"] == 4:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(images, 16, settings, checkpoint=checkpoint, checkpoint_seconds=0, on_epoch=interrupt)
    seen = []
    resumed, rows = train(images, 16, settings, checkpoint=checkpoint, checkpoint_seconds=1e9, on_epoch=seen.append)
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


@pytest.mark.parametrize("change", [{}, {"code": "of yesterday"}, {"maximum": 17}])
def test_a_checkpoint_of_another_computation_is_not_taken_up(images, tmp_path, monkeypatch, change):
    checkpoint = tmp_path / "checkpoint.safetensors"
    now = {"maximum": 16, "code": "of today"}
    train(images, settings=SETTINGS, checkpoint=checkpoint, checkpoint_seconds=0, **{**now, **change})

    class Started(Exception):
        pass

    def start(*arguments):
        raise Started

    # The checkpoint holds the last epoch, so that who takes it up has nothing left to compute.
    monkeypatch.setattr(training, "objective", start)
    with pytest.raises(Started) if change else contextlib.nullcontext():
        train(images, settings=SETTINGS, checkpoint=checkpoint, **now)


def test_divergence_names_the_epoch_and_the_settings():
    x = np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32) * 50
    settings = dataclasses.replace(
        SETTINGS, likelihood="gaussian", architecture="linear", learning_rate=1.0, kl_weight=1e5
    )
    with pytest.raises(DataError, match=r"diverged in epoch \d+.*learning_rate=1\.0"):
        train(x, 1, settings)


def test_nan_stops_the_training():
    x = np.full((64, 4), np.nan, dtype=np.float32)
    with pytest.raises(DataError, match="epoch 1: the loss is nan"):
        train(x, 1, dataclasses.replace(SETTINGS, likelihood="gaussian", architecture="linear"))


def test_the_learning_rate_decays_to_zero():
    assert cosine_learning_rate(0.1, 0, 100) == 0.1
    assert cosine_learning_rate(0.1, 50, 100) == pytest.approx(0.05)
    assert cosine_learning_rate(0.1, 100, 100) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("architecture", ["dense", "conv"])
def test_history_has_a_row_per_epoch_and_the_loss_falls(images, architecture):
    _, history = train(images, 16, dataclasses.replace(SETTINGS, epochs=10, architecture=architecture))
    assert [row["epoch"] for row in history] == list(range(1, 11))
    assert history[-1]["reconstruction"] < history[0]["reconstruction"]


@pytest.mark.parametrize("kl_weight", [0.5, 2.0])
def test_a_linear_vae_reaches_the_closed_form(kl_weight):
    """Lucas et al. 2019: s_j = βς²/λ_j, Var(μ_j) = 1 − s_j, where λ_j > βς²; and the gauge identities hold."""
    variances = np.array([9.0, 4.0, 0.2])
    x = np.random.default_rng(1).normal(size=(4000, 3)) * np.sqrt(variances)
    x = ((x - x.mean(0)) / x.std(0) * np.sqrt(variances)).astype(np.float32)
    settings = TrainingSettings(3, kl_weight, 0, [], "gaussian", 1.0, 150, 500, 0.03, 0.05, architecture="linear")
    model, _ = train(x, 1, settings)
    mean, variance = encode(model.requires_grad_(False), x, 1)
    answer = linear_vae_answer(np.linalg.eigvalsh(np.cov(x.T))[::-1], 0.0, kl_weight, 1.0)
    order = np.argsort(-mean.var(0))
    np.testing.assert_allclose(mean.var(0)[order], answer.variance_of_means, atol=0.02)
    np.testing.assert_allclose(variance.mean(0)[order], 1 - answer.variance_of_means, atol=0.02)
    np.testing.assert_allclose((mean**2).mean(0) + variance.mean(0), 1, atol=0.02)
    np.testing.assert_allclose(mean.mean(0), 0, atol=0.02)


def test_which_epochs_are_followed_by_a_re_gauging():
    def epochs(**changes):
        settings = dataclasses.replace(SETTINGS, **changes)
        return [epoch for epoch in range(1, 7) if settings.regauges_after(epoch)]

    assert epochs() == []
    assert epochs(regauge_epochs=2) == [1, 2, 3, 4]
    assert epochs(regauge_epochs=0) == [1, 2, 3, 4, 5, 6]
    assert epochs(regauge_once=True) == [6]


@pytest.mark.parametrize("changes", [{"regauge_epochs": 0}, {"regauge_once": True}])
def test_a_re_gauged_model_has_the_moments_of_the_prior(images, changes):
    model, _ = train(images, 16, dataclasses.replace(SETTINGS, **changes))
    mean, variance = encode(model.requires_grad_(False), images, 16)
    np.testing.assert_allclose(mean.mean(0), 0, atol=1e-5)
    np.testing.assert_allclose((mean**2).mean(0) + variance.mean(0), 1, rtol=1e-5)


def test_one_re_gauging_at_the_end_changes_no_reconstruction_and_lowers_the_kl_term(images):
    noise = np.random.default_rng(0).standard_normal((150, 3), dtype=np.float32)
    models = [train(images, 16, dataclasses.replace(SETTINGS, regauge_once=once))[0] for once in (False, True)]
    customary, once = (losses(model.requires_grad_(False), images, 16, 1, noise) for model in models)
    assert once["reconstruction"] == pytest.approx(customary["reconstruction"], rel=1e-6)
    assert once["kl"] < customary["kl"]
