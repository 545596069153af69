"""Models that are trained together are those that are trained alone."""

import dataclasses

import numpy as np
import pytest
import torch

from aggregated_posterior.model.together import train_together
from aggregated_posterior.model.training import TrainingSettings, train

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
