"""On a CUDA device: the models of the CPU, to rounding, and the same bytes each time."""

import dataclasses
import importlib

import numpy as np
import pytest
import torch

from aggregated_posterior.model.graphs import WARM_UP, CapturedStep
from aggregated_posterior.model.together import train_together
from aggregated_posterior.model.training import TrainingSettings, prepare_process, train
from aggregated_posterior.model.vae import Objective, load_vae
from aggregated_posterior.storage import DataError, write_arrays

SETTINGS = TrainingSettings(3, 1.0, 0, [16, 8], "bernoulli", 1.0, 4, 32, 1e-3, 0.05)
CHANGES = [
    {},
    {"architecture": "linear", "likelihood": "gaussian", "decoder_variance": 0.3},
    {"architecture": "conv"},
    *({"regauge_epochs": 1, "regauge_adam": adam} for adam in ("keep", "rescale", "reset")),
]

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="this machine has no CUDA device")


@pytest.fixture
def images():
    # 150 images: the last minibatch is smaller than the others, and with 4 epochs of it captured, too.
    return np.random.default_rng(0).integers(0, 17, size=(150, 8, 8)).astype(np.uint8)


@pytest.fixture
def prepared():
    """A process as the rule's: deterministic algorithms, no TF32."""
    mode, fill = torch.get_deterministic_debug_mode(), torch.utils.deterministic.fill_uninitialized_memory
    prepare_process("cuda")
    yield
    torch.set_deterministic_debug_mode(mode)
    torch.utils.deterministic.fill_uninitialized_memory = fill


def assert_same_model(found, expected, **tolerances):
    for name, parameter in found.state_dict().items():
        np.testing.assert_allclose(parameter, expected.state_dict()[name], err_msg=name, **tolerances)


@needs_cuda
@pytest.mark.parametrize("changes", CHANGES)
def test_one_by_one_and_together_are_the_models_of_the_cpu(images, prepared, changes):
    common = dataclasses.replace(SETTINGS, **changes)
    settings = [dataclasses.replace(common, seed=seed, kl_weight=weight) for seed, weight in ((0, 0.5), (1, 2.0))]
    for one, (together, rows) in zip(settings, train_together(images, 16, settings, "cuda"), strict=True):
        expected, expected_rows = train(images, 16, one)
        alone, rows_alone = train(images, 16, one, "cuda")
        for row, row_alone, expected_row in zip(rows, rows_alone, expected_rows, strict=True):
            assert row == pytest.approx(expected_row, rel=1e-4)
            assert row_alone == pytest.approx(expected_row, rel=1e-4)
        assert_same_model(together, expected, rtol=1e-2, atol=2e-5)
        assert_same_model(alone, expected, rtol=1e-2, atol=2e-5)


@needs_cuda
@pytest.mark.parametrize("changes", CHANGES[:3])
def test_twice_the_same_bytes(images, prepared, changes):
    settings = [dataclasses.replace(SETTINGS, seed=seed, **changes) for seed in (0, 1)]
    for (first, _), (second, _) in zip(*(train_together(images, 16, settings, "cuda") for _ in range(2)), strict=True):
        assert_same_model(first, second, rtol=0, atol=0)
    first, second = (train(images, 16, settings[0], "cuda")[0] for _ in range(2))
    assert_same_model(first, second, rtol=0, atol=0)


@needs_cuda
def test_a_captured_step_is_the_step_as_written():
    """Arguments of two shapes in turn, numbers that change, and a place that the step changes itself."""

    def run(wrap):
        total = torch.zeros(5, device="cuda")

        def step(x, number):
            total.add_(x.sum(0) * number)
            return Objective(total.sum(), total.max(), total.min(), x * number, total.clone())

        step = wrap(step)
        draws = np.random.default_rng(0).normal(size=(2 * WARM_UP + 6, 4, 5))
        rows = [torch.tensor(draw[: 4 - n % 2], device="cuda").float() for n, draw in enumerate(draws)]
        return [[value.cpu() for value in step(x, 0.1 * n)] for n, x in enumerate(rows)]

    for found, expected in zip(run(CapturedStep), run(lambda step: step), strict=True):
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-6, atol=1e-6)


@needs_cuda
def test_an_interrupted_training_on_a_gpu_ends_in_the_same_bytes(images, prepared, tmp_path):
    class Stop(Exception):
        pass

    def stop(row):
        if row["epoch"] == 3:
            raise Stop

    checkpoint = tmp_path / "checkpoint.safetensors"
    with pytest.raises(Stop):
        train(images, 16, SETTINGS, "cuda", checkpoint, checkpoint_seconds=0, on_epoch=stop)
    resumed, rows = train(images, 16, SETTINGS, "cuda", checkpoint)
    straight, expected = train(images, 16, SETTINGS, "cuda")
    assert rows == expected
    assert_same_model(resumed, straight, rtol=0, atol=0)


@needs_cuda
def test_a_model_says_which_card_made_it(images, prepared, tmp_path):
    data = tmp_path / "data.safetensors"
    write_arrays(data, {"images_train": images}, {"maximum": 16})
    place = tmp_path / "models/digits/dense/latent_3/kl_1/seed_0"
    vae, history = place / "vae.safetensors", place / "history.csv"
    script = importlib.import_module("train_vae")
    script.train_vae(str(data), str(vae), str(history), dataclasses.asdict(SETTINGS), "cuda", "code")
    run = load_vae(vae)[1]["run"]
    assert (run["device"], run["card"]) == ("cuda", torch.cuda.get_device_name())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_without_a_device_two_lines_say_what_to_do():
    with pytest.raises(DataError, match="finds no CUDA device here; run without --workflow-profile gpu"):
        prepare_process("cuda")
