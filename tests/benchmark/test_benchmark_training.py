"""Training speed: ours beside the customary ways, in the same run, and beside the machine's matrix product.

`pytest tests/benchmark --benchmark-enable -s` measures; without it every way runs once, and only losses are compared.
Each round times the customary way and ours one after the other, in processor seconds of this process with one thread,
so that other programs on the machine disturb both alike and little. What is found stands in `extra_info`: images per
core and second, the median ratio with the smallest and largest of the rounds, and the share of the matrix-product rate.
"""

import contextlib
import dataclasses
import io
import logging
import statistics
import time

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from aggregated_posterior.model.stacked_training import train_stacked
from aggregated_posterior.model.training import TrainingSettings, cosine_learning_rate, initialise, train
from aggregated_posterior.model.vae import VAE, images_to_floats, objective

ROUNDS = 5
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


@pytest.fixture(scope="module")
def images():
    """scikit-learn's 1 797 digits, enlarged to 28 × 28 bytes: real strokes of MNIST's size without a download."""
    from sklearn.datasets import load_digits

    digits = np.kron(load_digits().images, np.ones((3, 3))) / 16 * 255
    return np.pad(digits, ((0, 0), (2, 2), (2, 2))).astype(np.uint8)


@pytest.fixture(scope="module")
def sgemm():
    """Multiplications and additions per second of one core in square float32 matrix products, the best of some."""
    a, b = torch.rand(2, 1024, 1024, generator=torch.Generator().manual_seed(0))
    torch.mm(a, b)
    return 2 * 1024**3 / min(seconds(lambda: torch.mm(a, b)) for _ in range(10))


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
    model = VAE(784, SETTINGS.latent_dim, SETTINGS.hidden_sizes, SETTINGS.likelihood)
    initialise(model, torch.Generator().manual_seed(SETTINGS.seed))
    return model


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
    """As rule `train_vae` does it: subnormal numbers count as zero, which the customary ways do not ask for."""
    torch.set_flush_denormal(True)
    try:
        return train(images, 255, settings)[0]
    finally:
        torch.set_flush_denormal(False)


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
            sgemm_gflops=round(sgemm / 1e9, 1),
            sgemm_fraction=round(ours * operations / sgemm, 3),
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
        target_ratio=2.0 if customary is train_with_pythae else None,
        target_sgemm_fraction=0.7,
    )
    # All have learnt, and to the same loss: a faster way that learns less would be no match.
    assert max(losses.values()) < 0.6 * untrained
    assert losses["ours"] == pytest.approx(losses["customary"], rel=EQUAL_LOSS)


@pytest.mark.benchmark(group="training")
def test_stacked_beside_one_by_one(benchmark, images, sgemm):
    """Four models of two latent sizes, on the CPU, where one by one is the default."""
    models = [
        dataclasses.replace(SETTINGS, latent_dim=latent_dim, seed=seed, epochs=2)
        for latent_dim in (8, 16)
        for seed in (0, 1)
    ]
    race = Race(
        lambda: [model for model, _ in train_stacked(images, 255, models)],
        lambda: [train(images, 255, one)[0] for one in models],
    )
    race.measure(benchmark)
    losses = {name: [final_loss(model, images) for model in result] for name, result in race.results.items()}
    trained = len(images) * models[0].epochs * len(models)
    operations = statistics.mean(operations_per_image(one, 784) for one in models)
    race.report(benchmark, trained, operations, sgemm, models=len(models), loss_ours=round(losses["ours"][0], 2))
    assert losses["ours"] == pytest.approx(losses["customary"], rel=1e-3)
