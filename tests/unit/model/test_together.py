"""Models that are trained together are those that are trained alone."""

import dataclasses
import importlib

import numpy as np
import pytest
import torch

from aggregated_posterior.model.together import train_together
from aggregated_posterior.model.training import TrainingSettings, train
from aggregated_posterior.pipeline import progress
from aggregated_posterior.storage import read_table, write_arrays

SETTINGS = TrainingSettings(3, 1.0, 0, [16, 8], "bernoulli", 1.0, 4, 32, 1e-3, 0.05)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"architecture": "linear", "likelihood": "gaussian", "decoder_variance": 0.3},
        {"architecture": "conv"},
        *({"regauge_epochs": 1, "regauge_adam": adam} for adam in ("keep", "rescale", "reset")),
    ],
)
def test_each_is_the_model_trained_alone(changes):
    torch.set_num_threads(1)
    # 150 images: the last minibatch is smaller than the others.
    images = np.random.default_rng(0).integers(0, 17, size=(150, 8, 8)).astype(np.uint8)
    common = dataclasses.replace(SETTINGS, **changes)
    settings = [dataclasses.replace(common, seed=seed, kl_weight=weight) for seed, weight in ((0, 0.5), (1, 2.0))]
    for one, (model, history) in zip(settings, train_together(images, 16, settings), strict=True):
        alone, expected = train(images, 16, one)
        assert len(history) == len(expected)
        for row, expected_row in zip(history, expected, strict=True):
            assert row == pytest.approx(expected_row, rel=1e-4)
        for name, parameter in model.state_dict().items():
            np.testing.assert_allclose(parameter, alone.state_dict()[name], rtol=1e-2, atol=2e-5, err_msg=name)


def test_a_batch_says_how_far_it_is(tmp_path, capsys, monkeypatch):
    """A line as of a single training, under the rule's name and the first model's, with all models' losses."""
    monkeypatch.setattr(progress, "PAUSE", 0.0)
    data, settings = tmp_path / "data.safetensors", [dataclasses.asdict(SETTINGS) | {"seed": seed} for seed in (0, 1)]
    images = np.random.default_rng(0).integers(0, 17, size=(50, 8, 8)).astype(np.uint8)
    write_arrays(data, {"images_train": images}, {"maximum": 16})
    places = [tmp_path / f"models/digits/dense/latent_3/kl_1/seed_{seed}" for seed in (0, 1)]
    importlib.import_module("train_vae_batch").train_vae_batch(
        data=str(data),
        vaes=[str(place / "vae.safetensors") for place in places],
        histories=[str(place / "history.csv") for place in places],
        settings=settings,
        device="cpu",
        rule="train_vae_batch_0",
    )
    lines = [line[17:].split(" · ") for line in capsys.readouterr().err.splitlines()]
    # None for the last epoch: that line is Snakemake's.
    assert [line[:2] for line in lines] == [
        ["train_vae_batch_0 digits dense d=3 β=1 seed 0, first of 2", f"epoch {epoch}/4"] for epoch in (1, 2, 3)
    ]
    losses = np.array([read_table(place / "history.csv")["reconstruction"] for place in places])
    assert [line[2] for line in lines] == [
        f"reconstruction {low:.1f} to {high:.1f} nats" for low, high in zip(losses.min(0), losses.max(0), strict=True)
    ][:3]
