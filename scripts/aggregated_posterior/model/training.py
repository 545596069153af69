"""Training of one VAE: Adam with a learning rate that decays to zero, images in memory as bytes, seeded generators.

The learning rate must reach zero before Q(z) is measured: gradient noise at a constant rate keeps E[μ²] + E[s] away
from 1, and would be taken for a property of the model.
"""

from __future__ import annotations

import math
import os
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..storage import DataError, read_arrays, write_arrays
from .gradient import objective_and_gradient
from .optimiser import FlatAdam
from .vae import VAE, Objective, images_to_floats

HISTORY_COLUMNS = ("epoch", "learning_rate", "reconstruction", "kl", "active_dimensions", "gauge_residual")


@dataclass(frozen=True)
class TrainingSettings:
    """Everything, besides the images, that a trained model depends on.

    Args:
        latent_dim: Number of latent dimensions d.
        kl_weight: β, the weight of the KL term.
        seed: Seed of the initial weights, the order of the images and the noise.
        hidden_sizes: Widths of the hidden layers from image to code; empty for the linear VAE.
        likelihood: `bernoulli` or `gaussian`.
        decoder_variance: ς² of the Gaussian likelihood.
        epochs: Passes over the training images.
        batch_size: Images per step.
        learning_rate: Adam's rate at the first step; it falls to zero along a half cosine.
        active_threshold: A dimension counts as active when its mean KL exceeds this many nats.
    """

    latent_dim: int
    kl_weight: float
    seed: int
    hidden_sizes: list[int]
    likelihood: str
    decoder_variance: float
    epochs: int
    batch_size: int
    learning_rate: float
    active_threshold: float

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in asdict(self).items())


def prepare_process() -> None:
    """One thread and deterministic algorithms, for the same bytes everywhere; subnormal numbers count as zero.

    Adam's mean gradient of a weight whose pixel has gone dark decays to numbers below 10⁻³⁸. Processors compute with
    them many times slower: it cost a quarter of the training of MNIST, for digits that change nothing.
    """
    # cuBLAS is deterministic only with a workspace of fixed size; it reads this when it starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.set_flush_denormal(True)


def generators(seed: int) -> tuple[torch.Generator, torch.Generator, torch.Generator]:
    """Independent generators for initial weights, image order and noise, all on the CPU.

    They live on the CPU whatever the device, so that a model has the same start, order and noise everywhere.
    """
    words = np.random.SeedSequence(seed).generate_state(3, dtype=np.uint64)
    # torch takes seeds below 2⁶³ only.
    weights, order, noise = (torch.Generator().manual_seed(int(word >> np.uint64(1))) for word in words)
    return weights, order, noise


def initialise(model: nn.Module, generator: torch.Generator) -> None:
    """Draw every affine layer's weights and biases from U(−1/√inputs, 1/√inputs), torch's default, from `generator`."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            bound = 1 / math.sqrt(module.in_features)
            for parameter in (module.weight, module.bias):
                nn.init.uniform_(parameter, -bound, bound, generator=generator)


def cosine_learning_rate(initial: float, step: int, steps: int) -> float:
    """η_t = ½ η₀ (1 + cos(π t / T)): η₀ at the first step, nearly zero at the last."""
    return 0.5 * initial * (1 + math.cos(math.pi * step / steps))


class EpochStatistics:
    """Sums over one epoch's minibatches from which a row of the history is made; kept on the device until then."""

    def __init__(self, latent_dim: int, device: torch.device | str) -> None:
        self.losses = torch.zeros(2, dtype=torch.float64, device=device)
        self.moments = torch.zeros(2, latent_dim, dtype=torch.float64, device=device)
        self.images = 0

    def add(self, result: Objective) -> None:
        """Count one minibatch."""
        batch = len(result.mean)
        with torch.no_grad():
            second = result.mean.square() + result.log_variance.exp()
            self.losses += torch.stack([result.reconstruction, result.kl]).double() * batch
            self.moments += torch.stack([second.sum(0), (second - 1 - result.log_variance).sum(0) / 2])
        self.images += batch

    def row(self, epoch: int, learning_rate: float, active_threshold: float) -> dict[str, float]:
        """The epoch's row of the history: means over its images, at the parameters of the moment each was seen."""
        reconstruction, kl = (self.losses / self.images).tolist()
        second, kl_by_dimension = self.moments / self.images
        return {
            "epoch": epoch,
            "learning_rate": learning_rate,
            "reconstruction": reconstruction,
            "kl": kl,
            "active_dimensions": int((kl_by_dimension > active_threshold).sum()),
            "gauge_residual": float((second - 1).abs().max()),
        }


def as_tensor(images: np.ndarray) -> Tensor:
    """Images as a tensor that shares memory where it may; torch refuses read-only arrays, so these are copied."""
    return torch.from_numpy(np.require(images, requirements=["C", "W"]))


def check_progress(row: dict[str, float], untrained_loss: float, settings: TrainingSettings) -> None:
    """Stop a training that has gone wrong.

    Raises:
        DataError: The epoch's loss is not finite, or twice that of the untrained model's first minibatch or more.
    """
    loss = row["reconstruction"] + settings.kl_weight * row["kl"]
    if not math.isfinite(loss):
        problem = f"the loss is {loss}"
    elif loss > untrained_loss + abs(untrained_loss):
        problem = f"the loss, {loss:.4g} nats, is more than twice that of the untrained model, {untrained_loss:.4g}"
    else:
        return
    raise DataError(f"training diverged in epoch {row['epoch']:.0f}: {problem}; lower the learning rate ({settings})")


def train(
    images: np.ndarray,
    maximum: float,
    settings: TrainingSettings,
    device: str = "cpu",
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 300.0,
    on_epoch: Callable[[dict[str, float]], Any] = lambda row: None,
) -> tuple[VAE, list[dict[str, float]]]:
    """Train one VAE on `images`.

    Args:
        images: Training images, first axis N; bytes stay bytes until their minibatch is used.
        maximum: The value that becomes pixel value 1.
        settings: What to train.
        device: Where to train, `cpu` or `cuda`.
        checkpoint: File that holds the state of an unfinished training. Where it exists and was written under the same
            settings, training goes on from there and ends in the same bytes as if it had never stopped.
        checkpoint_seconds: Time between two checkpoints.
        on_epoch: Called with every row of the history as it is made.

    Returns:
        The trained model on the CPU, and the history: one row per epoch with `HISTORY_COLUMNS`.

    Raises:
        DataError: The loss became NaN or diverged; the message names the epoch and the settings.
    """
    weight_generator, order_generator, noise_generator = generators(settings.seed)
    data = as_tensor(images).reshape(len(images), -1).to(device)
    if not data.is_floating_point() and data.dtype != torch.uint8:
        raise DataError(f"images have type {data.dtype}; expected bytes (uint8) or floats")
    model = VAE(
        data.shape[1],
        settings.latent_dim,
        settings.hidden_sizes,
        settings.likelihood,
        settings.decoder_variance,
    )
    initialise(model, weight_generator)
    model.to(device)
    optimiser = FlatAdam(model)
    steps_per_epoch = math.ceil(len(data) / settings.batch_size)
    steps = settings.epochs * steps_per_epoch
    history: list[dict[str, float]] = []
    untrained_loss = math.inf
    state = _Checkpoint(checkpoint, settings, data, optimiser, order_generator, noise_generator)
    if checkpoint is not None and checkpoint.exists():
        history, untrained_loss = state.load()
        for row in history:
            on_epoch(row)
    last_checkpoint = time.monotonic()

    for epoch in range(len(history) + 1, settings.epochs + 1):
        order = torch.randperm(len(data), generator=order_generator).to(device)
        noise = torch.randn(len(data), settings.latent_dim, generator=noise_generator).to(device)
        statistics = EpochStatistics(settings.latent_dim, device)
        for batch in range(steps_per_epoch):
            rows = slice(batch * settings.batch_size, (batch + 1) * settings.batch_size)
            # Not data[order[rows]]: general indexing costs ten times as much for the same rows.
            x = images_to_floats(data.index_select(0, order[rows]), maximum)
            result = objective_and_gradient(model, x, noise[rows], settings.kl_weight)
            if untrained_loss == math.inf:
                untrained_loss = result.loss.item()
            step = (epoch - 1) * steps_per_epoch + batch
            learning_rate = cosine_learning_rate(settings.learning_rate, step, steps)
            optimiser.step(learning_rate)
            statistics.add(result)
        history.append(statistics.row(epoch, learning_rate, settings.active_threshold))
        check_progress(history[-1], untrained_loss, settings)
        on_epoch(history[-1])
        if checkpoint is not None and time.monotonic() - last_checkpoint >= checkpoint_seconds:
            state.save(history, untrained_loss)
            last_checkpoint = time.monotonic()
    return model.cpu(), history


@dataclass
class _Checkpoint:
    """The file that holds everything an unfinished training needs to go on as if it had never stopped."""

    path: Path | None
    settings: TrainingSettings
    data: Tensor
    optimiser: FlatAdam
    order: torch.Generator
    noise: torch.Generator

    def _identity(self) -> dict[str, Any]:
        # A checkpoint of other settings or other images must never be taken up.
        images = f"{zlib.crc32(self.data.cpu().numpy()):08x}"
        return {"settings": asdict(self.settings), "images": images}

    def save(self, history: list[dict[str, float]], untrained_loss: float) -> None:
        arrays = {
            **self.optimiser.state(),
            "generator.order": self.order.get_state().numpy(),
            "generator.noise": self.noise.get_state().numpy(),
        }
        progress = {"history": history, "untrained_loss": untrained_loss}
        write_arrays(self.path, arrays, {**self._identity(), **progress})

    def load(self) -> tuple[list[dict[str, float]], float]:
        """Take up the stored state; return its history, empty if the file belongs to another training."""
        arrays, metadata = read_arrays(self.path)
        if any(metadata.get(key) != value for key, value in self._identity().items()):
            return [], math.inf
        self.optimiser.restore(arrays)
        self.order.set_state(torch.from_numpy(arrays["generator.order"]))
        self.noise.set_state(torch.from_numpy(arrays["generator.noise"]))
        return metadata["history"], metadata["untrained_loss"]
