"""Many models at once, for a GPU that one leaves idle: the same objective, under `torch.func`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch.func import functional_call, stack_module_state, vmap

from .optimiser import Adam
from .training import (
    Epoch,
    TrainingSettings,
    as_tensor,
    build,
    check_progress,
    cosine_learning_rate,
    generators,
    history_row,
    regauge_on,
)
from .vae import VAE, images_to_floats


def train_together(
    images: np.ndarray,
    maximum: float,
    settings: Sequence[TrainingSettings],
    device: str = "cpu",
    on_epoch: Callable[[list[dict[str, float]]], Any] = lambda rows: None,
) -> list[tuple[VAE, list[dict[str, float]]]]:
    """Train models that differ in seed and KL weight only; each is what `training.train` gives, to rounding.

    Args:
        images: Training images, first axis N.
        maximum: The value that becomes pixel value 1.
        settings: What to train.
        device: Where to train, `cpu` or `cuda`.
        on_epoch: Called after every epoch with its rows of the histories, one per model.

    Raises:
        DataError: A loss became NaN or diverged.
    """
    common = settings[0]
    data = as_tensor(images).reshape(len(images), -1).to(device)
    draws = [generators(one.seed, "vae") for one in settings]
    models = [build(images.shape[1:], one, draw[0]).to(device) for one, draw in zip(settings, draws, strict=True)]
    stacked, _ = stack_module_state(models)
    shell = copy.deepcopy(models[0]).to("meta")
    objectives = vmap(lambda weights, *arguments: functional_call(shell, weights, arguments))
    optimiser = Adam(stacked.values())
    for n, model in enumerate(models):  # each one's weights become its slice
        for name, parameter in model.named_parameters():
            parameter.data = stacked[name].data[n]
    kl_weights = torch.tensor([one.kl_weight for one in settings], device=device)
    steps_per_epoch = math.ceil(len(data) / common.batch_size)
    histories: list[list[dict[str, float]]] = [[] for _ in settings]
    untrained: list[float] = []
    for epoch in range(1, common.epochs + 1):
        order = torch.stack([torch.randperm(len(data), generator=draw[1]) for draw in draws]).to(device)
        noise = torch.stack([torch.randn(len(data), common.latent_dim, generator=draw[2]) for draw in draws]).to(device)
        seen = Epoch()
        for batch in range(steps_per_epoch):
            rows = slice(batch * common.batch_size, (batch + 1) * common.batch_size)
            x = images_to_floats(data.index_select(0, order[:, rows].flatten()), maximum)
            result = objectives(stacked, x.unflatten(0, (len(models), -1)), noise[:, rows], kl_weights)
            untrained = untrained or result.loss.tolist()
            step = (epoch - 1) * steps_per_epoch + batch
            learning_rate = cosine_learning_rate(common.learning_rate, step, common.epochs * steps_per_epoch)
            optimiser.zero_grad()
            result.loss.sum().backward()
            optimiser.step(learning_rate)
            seen.add(result)
        for n, statistics in enumerate(zip(*seen.statistics(), strict=True)):
            histories[n].append(history_row(epoch, learning_rate, common.active_threshold, *statistics))
            check_progress(histories[n][-1], untrained[n], settings[n])
            if common.regauges_after(epoch):
                regauge_on(data, maximum, models[n], _slice(optimiser, stacked, models[n], n), common.regauge_adam)
        on_epoch([history[-1] for history in histories])
    return [(model.cpu(), history) for model, history in zip(models, histories, strict=True)]


def _slice(optimiser: Adam, stacked: Mapping[str, torch.Tensor], model: VAE, n: int) -> SimpleNamespace:
    """One model's part of the common optimiser; the number of steps is common to all."""
    states = {parameter: optimiser.state[stacked[name]] for name, parameter in model.named_parameters()}
    return SimpleNamespace(
        state={p: {key: value[n] if value.dim() else value for key, value in s.items()} for p, s in states.items()}
    )
