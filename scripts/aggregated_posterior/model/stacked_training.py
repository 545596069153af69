"""Training of many VAEs at once, as one stacked computation: what fills a GPU that a single small model leaves idle.

The models of a batch share data set, layer widths, likelihood and schedule, and differ in latent size, KL weight and
seed (see `stacked.py`). Each starts from the weights, and sees the order of images and the noise, that `training.train`
would give it. The result differs from that of training it alone only by the rounding of sums taken in another order;
this grows during training as it does between two processors, so the bytes differ. Tested on the CPU in float64 and
float32; nothing in it is special to a device, but it had **not been run on CUDA** when it was written.
"""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..storage import DataError, read_arrays, write_arrays
from .optimiser import FlatAdam
from .stacked import StackedVAE, stacked_objective
from .training import (
    EpochStatistics,
    TrainingSettings,
    as_tensor,
    check_progress,
    cosine_learning_rate,
    generators,
    initialise,
)
from .vae import VAE, Objective

# What may differ between the models of one batch; everything else makes the shape or the schedule.
FREE_SETTINGS = ("latent_dim", "kl_weight", "seed")
Histories = list[list[dict[str, float]]]


def train_stacked(
    images: np.ndarray,
    maximum: float,
    settings: Sequence[TrainingSettings],
    device: str = "cpu",
    checkpoint: Path | None = None,
    checkpoint_seconds: float = 300.0,
    on_epoch: Callable[[list[dict[str, float]]], Any] = lambda rows: None,
) -> list[tuple[VAE, list[dict[str, float]]]]:
    """Train a batch of VAEs on the same images, each as `training.train` would train it alone.

    Nothing in the inner loop waits for the device: losses and statistics stay there until an epoch ends, and the next
    epoch's order and noise are drawn by another thread meanwhile (the generators live on the CPU, see
    `training.generators`, which would otherwise be what a GPU waits for).

    Args:
        images: Training images, first axis N; bytes stay bytes until their minibatch is used.
        maximum: The value that becomes pixel value 1.
        settings: What to train; all must agree in everything but `FREE_SETTINGS`.
        device: Where to train, `cpu` or `cuda` (the latter not run when this was written).
        checkpoint: File that holds the state of an unfinished training. Where it exists and was written for the same
            models, training goes on from there and ends in the same bytes as if it had never stopped.
        checkpoint_seconds: Time between two checkpoints.
        on_epoch: Called with the models' rows of the history after every epoch.

    Returns:
        For each of `settings` the trained model on the CPU, and its history: one row per epoch.

    Raises:
        DataError: The settings do not fit in one batch, or a model's loss became NaN or diverged; the message names the
            model by its settings.
    """
    first = _shared_settings(settings)
    data = as_tensor(images).reshape(len(images), -1).to(device)
    if not data.is_floating_point() and data.dtype != torch.uint8:
        raise DataError(f"images have type {data.dtype}; expected bytes (uint8) or floats")
    draws = _Draws(settings, len(data))
    model = StackedVAE([_initial_model(data.shape[1], one, draws.weights[n]) for n, one in enumerate(settings)])
    model.to(device)
    optimiser = FlatAdam(model)
    kl_weights = torch.tensor([one.kl_weight for one in settings], dtype=model.mask.dtype, device=device)
    steps_per_epoch = math.ceil(len(data) / first.batch_size)
    steps = first.epochs * steps_per_epoch
    histories: Histories = [[] for _ in settings]
    untrained_losses: list[float] = []
    state = _Checkpoint(checkpoint, settings, data, optimiser, draws)
    if checkpoint is not None and checkpoint.exists():
        histories, untrained_losses = state.load()
        for rows in zip(*histories, strict=True):
            on_epoch(list(rows))
    last_checkpoint = time.monotonic()

    done = len(histories[0])
    for epoch, (order, noise, draws_state) in enumerate(draws.epochs(first.epochs - done), start=done + 1):
        order, noise = order.to(device), noise.to(device)
        statistics = _StackedStatistics(model)
        for batch in range(steps_per_epoch):
            rows = slice(batch * first.batch_size, (batch + 1) * first.batch_size)
            # index_select copies whole rows, where indexing would gather byte by byte.
            x = data.index_select(0, order[:, rows].flatten()).unflatten(0, (len(settings), -1)) / maximum
            result = stacked_objective(model, x, noise[:, rows], kl_weights)
            optimiser.gradient.zero_()
            # Models share no parameter, so the gradient of the sum holds each model's own.
            result.loss.sum().backward()
            step = (epoch - 1) * steps_per_epoch + batch
            learning_rate = cosine_learning_rate(first.learning_rate, step, steps)
            optimiser.step(learning_rate)
            statistics.add(result)
            if step == 0:
                untrained = result.loss.detach()
        if not untrained_losses:
            untrained_losses = untrained.tolist()
        latest = statistics.rows(epoch, learning_rate, settings)
        for history, row, untrained_loss, one in zip(histories, latest, untrained_losses, settings, strict=True):
            history.append(row)
            check_progress(row, untrained_loss, one)
        on_epoch(latest)
        if checkpoint is not None and time.monotonic() - last_checkpoint >= checkpoint_seconds:
            state.save(histories, untrained_losses, draws_state)
            last_checkpoint = time.monotonic()
    return list(zip(model.unstack(), histories, strict=True))


def _shared_settings(settings: Sequence[TrainingSettings]) -> TrainingSettings:
    """The first of `settings`, after a check that it stands for all in what must be the same."""
    if not settings:
        raise DataError("a batch of models is empty; give at least one")
    for one in settings:
        for name, value in asdict(settings[0]).items():
            if name not in FREE_SETTINGS and getattr(one, name) != value:
                raise DataError(
                    f"one batch has models with {name} {value} and {getattr(one, name)}; "
                    f"only {', '.join(FREE_SETTINGS)} may differ"
                )
    return settings[0]


def _initial_model(pixels: int, settings: TrainingSettings, generator: torch.Generator) -> VAE:
    model = VAE(pixels, settings.latent_dim, settings.hidden_sizes, settings.likelihood, settings.decoder_variance)
    initialise(model, generator)
    return model


class _StackedStatistics:
    """`training.EpochStatistics` of M models: sums over one epoch's minibatches, kept on the device until it ends."""

    def __init__(self, model: StackedVAE) -> None:
        count = len(model.latent_dims)
        self.losses = torch.zeros(2, count, dtype=torch.float64, device=model.mask.device)
        self.moments = torch.zeros(2, count, model.latent_dim, dtype=torch.float64, device=model.mask.device)
        self.images = 0

    @torch.no_grad()
    def add(self, result: Objective) -> None:
        batch = result.mean.shape[1]
        second = result.mean.square() + result.log_variance.exp()
        self.losses += torch.stack([result.reconstruction, result.kl]).double() * batch
        self.moments += torch.stack([second.sum(1), (second - 1 - result.log_variance).sum(1) / 2])
        self.images += batch

    def rows(self, epoch: int, learning_rate: float, settings: Sequence[TrainingSettings]) -> list[dict[str, float]]:
        losses, moments = self.losses.cpu(), self.moments.cpu()
        rows = []
        for index, one in enumerate(settings):
            statistics = EpochStatistics(one.latent_dim, "cpu")
            statistics.losses, statistics.images = losses[:, index], self.images
            statistics.moments = moments[:, index, : one.latent_dim]
            rows.append(statistics.row(epoch, learning_rate, one.active_threshold))
        return rows


class _Draws:
    """The random numbers of M models, each from its own generators, drawn one epoch ahead of their use."""

    def __init__(self, settings: Sequence[TrainingSettings], images: int) -> None:
        self.latent_dims = [one.latent_dim for one in settings]
        self.images = images
        self.weights, self.order, self.noise = zip(*(generators(one.seed) for one in settings), strict=True)

    def epochs(self, count: int) -> Iterator[tuple[Tensor, Tensor, dict[str, np.ndarray]]]:
        """For each epoch the order (M, N), the noise (M, N, D), zero where padded, and the state after these draws."""
        with ThreadPoolExecutor(max_workers=1) as pool:
            upcoming = pool.submit(self._draw) if count else None
            for epoch in range(1, count + 1):
                current = upcoming.result()
                upcoming = pool.submit(self._draw) if epoch < count else None
                yield current

    def _draw(self) -> tuple[Tensor, Tensor, dict[str, np.ndarray]]:
        order = torch.stack([torch.randperm(self.images, generator=generator) for generator in self.order])
        noise = torch.zeros(len(self.latent_dims), self.images, max(self.latent_dims))
        for model, (latent_dim, generator) in enumerate(zip(self.latent_dims, self.noise, strict=True)):
            noise[model, :, :latent_dim] = torch.randn(self.images, latent_dim, generator=generator)
        return order, noise, self.state()

    def state(self) -> dict[str, np.ndarray]:
        return {
            f"generator.{name}": torch.stack([generator.get_state() for generator in of_models]).numpy()
            for name, of_models in (("order", self.order), ("noise", self.noise))
        }

    def restore(self, arrays: dict[str, np.ndarray]) -> None:
        for name, of_models in (("order", self.order), ("noise", self.noise)):
            for generator, stored in zip(of_models, arrays[f"generator.{name}"], strict=True):
                generator.set_state(torch.from_numpy(stored.copy()))


@dataclass
class _Checkpoint:
    """The file that holds everything an unfinished batch needs to go on as if it had never stopped."""

    path: Path | None
    settings: Sequence[TrainingSettings]
    data: Tensor
    optimiser: FlatAdam
    draws: _Draws

    def _identity(self) -> dict[str, Any]:
        # A checkpoint of other models or other images must never be taken up.
        images = f"{zlib.crc32(self.data.cpu().numpy()):08x}"
        return {"settings": [asdict(one) for one in self.settings], "images": images}

    def save(self, histories: Histories, untrained_losses: list[float], draws_state: dict[str, np.ndarray]) -> None:
        arrays = {**draws_state, **self.optimiser.state()}
        progress = {"histories": histories, "untrained_losses": untrained_losses}
        write_arrays(self.path, arrays, {**self._identity(), **progress})

    def load(self) -> tuple[Histories, list[float]]:
        """Take up the stored state; return its histories, empty if the file belongs to another training."""
        arrays, metadata = read_arrays(self.path)
        if any(metadata.get(key) != value for key, value in self._identity().items()):
            return [[] for _ in self.settings], []
        self.optimiser.restore(arrays)
        self.draws.restore(arrays)
        return metadata["histories"], metadata["untrained_losses"]
