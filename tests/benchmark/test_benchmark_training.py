"""Training speed: ours beside the customary ways, in the same run, and beside the core's best matrix product.

`pytest tests/benchmark --benchmark-enable -s` measures; without it every way runs once, and only losses are compared.
Each round times the customary way and ours one after the other, in processor seconds of this process with one thread,
so that other programs on the machine disturb both alike and little. What is found stands in `extra_info`: images per
core and second, the median ratio with the smallest and largest of the rounds, and the share of the matrix-product rate.
"""

import contextlib
import dataclasses
import io
import logging
import os
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from aggregated_posterior.model.affine import ONEDNN
from aggregated_posterior.model.optimiser import Adam
from aggregated_posterior.model.together import train_together
from aggregated_posterior.model.training import (
    TrainingSettings,
    build,
    cosine_learning_rate,
    generators,
    prepare_process,
    train,
)
from aggregated_posterior.model.vae import images_to_floats, objective
from aggregated_posterior.storage import read_table, write_arrays

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 3
SETTINGS = TrainingSettings(
    latent_dim=16,
    kl_weight=1.0,
    seed=0,
    hidden_sizes=[256, 64],
    likelihood="bernoulli",
    decoder_variance=1.0,
    # Enough steps for Adam's means of dark pixels' gradients to decay below 10⁻³⁸, as they do in any real training.
    epochs=100,
    batch_size=128,
    learning_rate=1e-3,
    active_threshold=0.05,
)
# Trainings with other random orders (and, in pythae, a rate that falls once an epoch) end this near to each other.
EQUAL_LOSS = 0.03


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def enlarged_digits():
    """scikit-learn's 1 797 digits, enlarged to 28 × 28 bytes: real strokes of MNIST's size without a download."""
    from sklearn.datasets import load_digits

    digits = np.kron(load_digits().images, np.ones((3, 3))) / 16 * 255
    return np.pad(digits, ((0, 0), (2, 2), (2, 2))).astype(np.uint8)


@pytest.fixture(scope="module")
def images():
    return enlarged_digits()


@pytest.fixture(scope="module")
def sgemm():
    """Multiplications and additions per second of one core in square products, by the better of two libraries."""
    a, b = torch.rand(2, 1024, 1024, generator=torch.Generator().manual_seed(0))
    ways = {
        "MKL": lambda: torch.mm(a, b),
        "oneDNN": lambda: torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], ""),
    }
    best = {}
    for name, way in ways.items():
        way()
        best[name] = 2 * 1024**3 / min(seconds(way) for _ in range(10))
    name = max(best, key=best.get)
    return best[name], name


def seconds(function):
    start = time.process_time()
    function()
    return time.process_time() - start


def operations_per_image(settings, pixels):
    """Multiplications and additions of one image's forward and backward pass through the affine layers.

    A layer of n weights takes 2 n forward, 2 n for its weights' gradient and 2 n for its inputs' gradient, which the
    first layer does not need.
    """
    widths = [pixels, *settings.hidden_sizes]
    first = widths[0] * widths[1]
    hidden = sum(a * b for a, b in zip(widths[1:-1], widths[2:], strict=True))
    weights = 2 * (first + hidden) + 3 * settings.latent_dim * widths[-1]
    return 6 * weights - 2 * first


@torch.no_grad()
def final_loss(model, images):
    """−ELBO of a trained model in nats per image, for one fixed draw of noise."""
    x = images_to_floats(images, 255)
    noise = torch.randn(len(x), model.latent_dim, generator=torch.Generator().manual_seed(1))
    return objective(model, x, noise, 1.0).loss.item()


def initial_model():
    return build((28, 28), SETTINGS, generators(SETTINGS.seed, "vae")[0])


def train_with_a_dataloader(images, folder, epochs):
    """The loop of countless tutorials: floats in a TensorDataset, a shuffling DataLoader, Adam, `loss.item()`."""
    model = initial_model()
    dataset = TensorDataset(images_to_floats(images, 255))
    loader = DataLoader(dataset, SETTINGS.batch_size, shuffle=True, generator=torch.Generator().manual_seed(0))
    optimiser = torch.optim.Adam(model.parameters(), lr=SETTINGS.learning_rate)
    steps = epochs * len(loader)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: cosine_learning_rate(1.0, step, steps))
    for _ in range(epochs):
        total = 0.0
        for (x,) in loader:
            optimiser.zero_grad()
            loss = objective(model, x, torch.randn(len(x), SETTINGS.latent_dim), SETTINGS.kl_weight).loss
            loss.backward()
            optimiser.step()
            schedule.step()
            total += loss.item() * len(x)
    return model


def train_with_pythae(images, folder, epochs):
    """pythae's trainer on the same layers and loss, with its own loader, logging and saving."""
    pytest.importorskip("pythae", reason="pythae, the comparison, is not installed (pip install pythae)")
    from pythae.data.datasets import BaseDataset
    from pythae.models import VAE as PythaeVAE
    from pythae.models import VAEConfig
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder
    from pythae.trainers import BaseTrainer, BaseTrainerConfig

    model = initial_model()

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.layers, self.mean, self.log_variance = model.encoder, model.head_mean, model.head_log_variance

        def forward(self, x):
            hidden = self.layers(x)
            return ModelOutput(embedding=self.mean(hidden), log_covariance=self.log_variance(hidden))

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.layers = model.decoder

        def forward(self, z):
            return ModelOutput(reconstruction=torch.sigmoid(self.layers(z)))

    # Its progress messages, a part of what it does, go nowhere.
    logging.disable(logging.CRITICAL)
    x = images_to_floats(images, 255)
    config = VAEConfig(input_dim=(784,), latent_dim=SETTINGS.latent_dim, reconstruction_loss="bce")
    trainer = BaseTrainer(
        PythaeVAE(config, encoder=Encoder(), decoder=Decoder()),
        train_dataset=BaseDataset(x, torch.zeros(len(x))),
        training_config=BaseTrainerConfig(
            output_dir=str(folder),
            num_epochs=epochs,
            learning_rate=SETTINGS.learning_rate,
            per_device_train_batch_size=SETTINGS.batch_size,
            scheduler_cls="CosineAnnealingLR",
            scheduler_params={"T_max": epochs},
            no_cuda=True,
        ),
    )
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        trainer.train()
    logging.disable(logging.NOTSET)
    return model


def ours(images, settings):
    """As rule `train_vae` does it: deterministic, and subnormal numbers count as zero, unlike in the customary ways."""
    mode, fill = torch.get_deterministic_debug_mode(), torch.utils.deterministic.fill_uninitialized_memory
    prepare_process()
    try:
        return train(images, 255, settings)[0]
    finally:
        torch.set_flush_denormal(False)
        torch.set_deterministic_debug_mode(mode)
        torch.utils.deterministic.fill_uninitialized_memory = fill


class Race:
    """Times two ways of doing the same in turn, round by round."""

    def __init__(self, ours, customary):
        self.ways = {"ours": ours, "customary": customary}
        self.seconds = {"ours": [], "customary": []}
        self.results = {}

    def run(self, name):
        def keep():
            self.results[name] = self.ways[name]()

        self.seconds[name].append(seconds(keep))

    def customary_then_ours(self):
        self.run("customary")
        return ("ours",), {}

    def measure(self, benchmark):
        if benchmark.enabled:
            # Imports and allocators wake up in a round that does not count.
            for name in self.ways:
                self.run(name)
            self.seconds = {name: [] for name in self.ways}
        benchmark.pedantic(self.run, setup=self.customary_then_ours, rounds=ROUNDS)

    def report(self, benchmark, images, operations, sgemm, **more):
        """Write what was measured into the benchmark's record, and print it."""
        ratios = [a / b for a, b in zip(self.seconds["customary"], self.seconds["ours"], strict=True)]
        ours, customary = (images / statistics.median(self.seconds[name]) for name in ("ours", "customary"))
        benchmark.extra_info.update(
            ours_images_per_core_second=round(ours),
            customary_images_per_core_second=round(customary),
            ratio=round(statistics.median(ratios), 3),
            ratio_low=round(min(ratios), 3),
            ratio_high=round(max(ratios), 3),
            sgemm_gflops=round(sgemm[0] / 1e9, 1),
            sgemm_library=sgemm[1],
            sgemm_fraction=round(ours * operations / sgemm[0], 3),
            affine_layers="oneDNN" if ONEDNN else "MKL",
            **more,
        )
        print(benchmark.name, *(f"{key}={value}" for key, value in benchmark.extra_info.items()), sep="\n  ")


@pytest.mark.benchmark(group="training")
@pytest.mark.parametrize("customary", [train_with_a_dataloader, train_with_pythae], ids=["dataloader", "pythae"])
def test_training_beside_the_customary_way(benchmark, images, sgemm, tmp_path, customary):
    settings = dataclasses.replace(SETTINGS, epochs=6) if benchmark.disabled else SETTINGS
    race = Race(lambda: ours(images, settings), lambda: customary(images, tmp_path, settings.epochs))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        race.measure(benchmark)
    losses = {name: final_loss(model, images) for name, model in race.results.items()}
    untrained = final_loss(initial_model(), images)
    race.report(
        benchmark,
        len(images) * settings.epochs,
        operations_per_image(SETTINGS, 784),
        sgemm,
        loss_ours=round(losses["ours"], 2),
        loss_customary=round(losses["customary"], 2),
    )
    # All have learnt, and to the same loss: a faster way that learns less would be no match.
    assert max(losses.values()) < 0.6 * untrained
    assert losses["ours"] == pytest.approx(losses["customary"], rel=EQUAL_LOSS)


@pytest.mark.benchmark(group="training step")
def test_one_step(benchmark, images, sgemm):
    """Forward, backward and Adam of one minibatch, beside the least time that its matrix products can take."""
    model = initial_model()
    optimiser = Adam(model.parameters())
    noise = torch.randn(SETTINGS.batch_size, SETTINGS.latent_dim, generator=torch.Generator().manual_seed(0))
    x = images_to_floats(images[: SETTINGS.batch_size], 255)

    def steps():
        for _ in range(20):
            optimiser.zero_grad()
            result = objective(model, x, noise, SETTINGS.kl_weight)
            result.loss.backward()
            optimiser.step(1e-3)
        return result.loss.item()

    found = []
    before = steps()
    after = benchmark.pedantic(lambda: found.append(seconds(steps)) or steps(), rounds=ROUNDS)
    step = statistics.median(found) / 20
    limit = SETTINGS.batch_size * operations_per_image(SETTINGS, 784) / sgemm[0]
    benchmark.extra_info.update(
        step_ms=round(step * 1e3, 3),
        limit_ms=round(limit * 1e3, 3),
        sgemm_library=sgemm[1],
        fraction=round(limit / step, 3),
    )
    print(benchmark.name, *(f"{key}={value}" for key, value in benchmark.extra_info.items()), sep="\n  ")
    assert after < before


@pytest.mark.benchmark(group="training")
def test_together_beside_one_by_one(benchmark, images, sgemm):
    """Four models at once, on the CPU, where one by one is the default."""
    models = [dataclasses.replace(SETTINGS, seed=seed, epochs=2) for seed in range(4)]
    race = Race(
        lambda: [model for model, _ in train_together(images, 255, models)],
        lambda: [train(images, 255, one)[0] for one in models],
    )
    race.measure(benchmark)
    losses = {name: [final_loss(model, images) for model in result] for name, result in race.results.items()}
    trained = len(images) * models[0].epochs * len(models)
    operations = operations_per_image(SETTINGS, 784)
    race.report(benchmark, trained, operations, sgemm, models=len(models), loss_ours=round(losses["ours"][0], 2))
    assert losses["ours"] == pytest.approx(losses["customary"], rel=1e-3)


PROCESSES = {
    "ours": """
from train_vae import train_vae
train_vae({data!r}, {folder!r} + "/vae.safetensors", {folder!r} + "/history.csv", {settings!r}, "cpu", "code")
""",
    "imports": "import train_vae",
}


@pytest.mark.benchmark(group="training process")
def test_whole_process(benchmark, images, tmp_path):
    """Processor seconds of a job of rule train_vae from its first to its last line, imports and files too."""
    settings = dataclasses.replace(SETTINGS, epochs=2 if benchmark.disabled else SETTINGS.epochs)
    data = str(tmp_path / "data.safetensors")
    write_arrays(data, {"images_train": images}, {"maximum": 255})
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = {name: [] for name in PROCESSES}

    def start():
        for name, code in PROCESSES.items():
            text = code.format(data=data, folder=str(tmp_path), settings=dataclasses.asdict(settings))
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            command = [sys.executable, "-c", text]
            subprocess.run(command, cwd=ROOT / "scripts", env=environment, check=True, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            found[name].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)

    benchmark.pedantic(start, rounds=1 if benchmark.disabled else ROUNDS)
    benchmark.extra_info.update({f"{name}_seconds": round(statistics.median(t), 2) for name, t in found.items()})
    print(benchmark.name, *(f"{key}={value}" for key, value in benchmark.extra_info.items()), sep="\n  ")
    history = read_table(tmp_path / "history.csv")
    assert len(history) == settings.epochs
