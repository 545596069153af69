"""Stacked training gives every model what training it alone gives, up to rounding."""

import dataclasses

import numpy as np
import pytest
import torch

from aggregated_posterior.model import stacked_training
from aggregated_posterior.model.stacked import StackedVAE, stacked_objective
from aggregated_posterior.model.stacked_training import train_stacked
from aggregated_posterior.model.training import TrainingSettings, initialise, train
from aggregated_posterior.model.vae import VAE, objective
from aggregated_posterior.storage import DataError

PIXELS = 12


def settings(latent_dim=3, kl_weight=1.0, seed=0, **changes):
    one = TrainingSettings(
        latent_dim=latent_dim,
        kl_weight=kl_weight,
        seed=seed,
        hidden_sizes=[10, 6],
        likelihood="bernoulli",
        decoder_variance=0.5,
        epochs=6,
        batch_size=16,
        learning_rate=0.01,
        active_threshold=0.05,
    )
    return dataclasses.replace(one, **changes)


def batch(**changes):
    """Models that differ in latent size, KL weight and seed, the largest neither first nor last."""
    return [
        settings(2, 0.25, 0, **changes),
        settings(5, 4.0, 1, **changes),
        settings(1, 1.0, 2, **changes),
        settings(5, 1.0, 0, **changes),
    ]


@pytest.fixture
def double():
    """Both trainers in float64, where a difference of formula cannot hide behind rounding."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def images():
    """50 images of 12 pixels in bytes: 50 = 3 · 16 + 2, so the last minibatch is a partial one."""
    return np.random.default_rng(0).integers(0, 256, (50, 3, 4), dtype=np.uint8)


def assert_same(stacked, alone, rtol, atol):
    for (model, history), (expected, expected_history) in zip(stacked, alone, strict=True):
        assert model.metadata() == expected.metadata()
        state, expected_state = model.state_dict(), expected.state_dict()
        assert state.keys() == expected_state.keys()
        for name in state:
            torch.testing.assert_close(state[name], expected_state[name], rtol=rtol, atol=atol, msg=name)
        assert len(history) == len(expected_history)
        for row, expected_row in zip(history, expected_history, strict=True):
            assert row.keys() == expected_row.keys()
            assert row == pytest.approx(expected_row, rel=rtol, abs=atol)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("hidden_sizes", [[10, 6], [8], []], ids=["dense", "one_layer", "linear"])
def test_stacked_training_equals_training_alone(double, images, likelihood, hidden_sizes):
    models = batch(likelihood=likelihood, hidden_sizes=hidden_sizes)
    alone = [train(images, 255, one) for one in models]
    assert_same(train_stacked(images, 255, models), alone, rtol=1e-9, atol=1e-10)


def test_stacked_training_equals_training_alone_in_float32(images):
    models = batch()
    alone = [train(images, 255, one) for one in models]
    stacked = train_stacked(images, 255, models)
    assert all(parameter.dtype == torch.float32 for parameter in stacked[0][0].parameters())
    assert_same(stacked, alone, rtol=1e-3, atol=1e-4)


def test_controls_values_outside_the_unit_interval_are_taken(double):
    values = np.random.default_rng(1).normal(size=(40, PIXELS))
    models = batch(likelihood="gaussian", hidden_sizes=[])
    assert_same(train_stacked(values, 1.0, models), [train(values, 1.0, one) for one in models], 1e-9, 1e-10)


def test_company_does_not_change_a_model(double, images):
    together = train_stacked(images, 255, batch())
    assert_same(train_stacked(images, 255, batch()[2:3]), together[2:3], rtol=1e-9, atol=1e-10)


def stack(latent_dims=(2, 4), likelihood="bernoulli"):
    models = [VAE(PIXELS, latent_dim, [6], likelihood, 0.5) for latent_dim in latent_dims]
    for seed, model in enumerate(models):
        initialise(model, torch.Generator().manual_seed(seed))
    return models, StackedVAE(models)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_losses_and_gradients_are_those_of_each_model(double, likelihood):
    models, stacked = stack(likelihood=likelihood)
    generator = torch.Generator().manual_seed(3)
    x = torch.rand(2, 7, PIXELS, generator=generator)
    noise = torch.randn(2, 7, 4, generator=generator)
    weights = torch.tensor([0.5, 3.0])
    result = stacked_objective(stacked, x, noise, weights)
    result.loss.sum().backward()
    for index, model in enumerate(models):
        expected = objective(model, x[index], noise[index, :, : model.latent_dim], weights[index].item())
        expected.loss.backward()
        for field in ("loss", "reconstruction", "kl"):
            assert getattr(result, field)[index].item() == pytest.approx(getattr(expected, field).item(), rel=1e-12)
        torch.testing.assert_close(stacked.weights[0].grad[index].T, model.encoder[0].weight.grad)
        torch.testing.assert_close(stacked.weights[2].grad[index, : model.latent_dim].T, model.decoder[0].weight.grad)


def test_padding_counts_for_nothing_whatever_it_holds(double):
    """Even with rubbish in the padded weights and noise, outputs are unchanged and no gradient reaches them."""
    _, clean = stack()
    _, dirty = stack()
    with torch.no_grad():
        # Model 0 has 2 of 4 dimensions: head columns 2, 3 (means) and 6, 7 (log-variances), decoder rows 2, 3.
        dirty.weights[1][0][:, [2, 3, 6, 7]] = 9.0
        dirty.biases[1][0][[2, 3, 6, 7]] = -5.0
        dirty.weights[2][0][2:] = 7.0
    x, noise = torch.rand(2, 7, PIXELS), torch.randn(2, 7, 4)
    expected = stacked_objective(clean, x, noise, torch.ones(2))
    result = stacked_objective(dirty, x, noise, torch.ones(2))
    result.loss.sum().backward()
    for got, want in zip(result, expected, strict=True):
        assert torch.equal(got, want)
    assert not result.mean[0, :, 2:].any() and not result.log_variance[0, :, 2:].any()
    assert not dirty.weights[1].grad[0][:, [2, 3, 6, 7]].any()
    assert not dirty.biases[1].grad[0][[2, 3, 6, 7]].any()
    assert not dirty.weights[2].grad[0][2:].any()
    assert dirty.weights[2].grad[1][2:].any()


def test_unstacking_gives_back_the_same_weights():
    models, stacked = stack((3, 1, 4))
    for model, again in zip(models, stacked.unstack(), strict=True):
        assert again.metadata() == model.metadata()
        assert all(torch.equal(again.state_dict()[name], value) for name, value in model.state_dict().items())


def test_a_diverging_model_is_named(images):
    models = batch()
    models[1] = settings(4, 1e39, 1)
    with pytest.raises(DataError, match=r"^training diverged in epoch 1: .*latent_dim=4, kl_weight=1e\+39, seed=1"):
        train_stacked(images, 255, models)


def test_a_model_that_becomes_nan_leaves_the_others_alone(double, images, monkeypatch):
    monkeypatch.setattr(stacked_training, "check_progress", lambda *arguments: None)
    models = batch()
    models[0] = settings(2, float("nan"), 0)
    stacked = train_stacked(images, 255, models)
    assert np.isnan(stacked[0][1][-1]["reconstruction"])
    assert_same(stacked[1:], [train(images, 255, one) for one in models[1:]], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("change", [{"epochs": 7}, {"likelihood": "gaussian"}, {"hidden_sizes": [4]}])
def test_models_that_do_not_fit_together_are_refused(images, change):
    (name,) = change
    with pytest.raises(DataError, match=f"one batch has models with {name}"):
        train_stacked(images, 255, [settings(), settings(seed=1, **change)])
    with pytest.raises(DataError, match="empty"):
        train_stacked(images, 255, [])


def test_an_interrupted_batch_ends_in_the_same_bytes(images, tmp_path):
    class Interrupted(Exception):
        pass

    def interrupt(rows):
        assert len(rows) == 4
        if rows[0]["epoch"] == 4:
            raise Interrupted

    checkpoint = tmp_path / "checkpoint.safetensors"
    whole = train_stacked(images, 255, batch())
    with pytest.raises(Interrupted):
        train_stacked(images, 255, batch(), checkpoint=checkpoint, checkpoint_seconds=0, on_epoch=interrupt)
    epochs = []
    resumed = train_stacked(
        images, 255, batch(), checkpoint=checkpoint, on_epoch=lambda rows: epochs.append(rows[0]["epoch"])
    )
    assert epochs == [1, 2, 3, 4, 5, 6]
    assert_same(resumed, whole, rtol=0, atol=0)
    # Neither other models nor other images take it up.
    for other_images, other in ((images, batch(learning_rate=0.02)), (images[::-1].copy(), batch())):
        assert_same(
            train_stacked(other_images, 255, other, checkpoint=checkpoint),
            train_stacked(other_images, 255, other),
            rtol=0,
            atol=0,
        )
