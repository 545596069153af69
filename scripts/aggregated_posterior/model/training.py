"""Training of one VAE: Adam with a learning rate that decays to zero, images in memory as bytes, seeded generators.

The learning rate must reach zero before Q(z) is measured: gradient noise at a constant rate keeps E[μ²] + E[s] away
from 1, and would be taken for a property of the model.
"""

from __future__ import annotations

import math
import os
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..storage import DataError, read_arrays, write_arrays
from ..streams import seed_sequence
from .graphs import on_device
from .optimiser import Adam
from .regauging import Optimiser, regauge
from .vae import VAE, Objective, images_to_floats, objective

HISTORY_COLUMNS = ("epoch", "learning_rate", "reconstruction", "kl", "active_dimensions", "gauge_residual")


@dataclass(frozen=True)
class TrainingSettings:
    """Everything, besides the images, that a trained model depends on.

    Args:
        latent_dim: Number of latent dimensions d.
        kl_weight: β, the weight of the KL term.
        seed: Seed of the initial weights, the order of the images and the noise.
        hidden_sizes: Widths of the hidden layers of `dense` from image to code.
        likelihood: `bernoulli` or `gaussian`.
        decoder_variance: ς² of the Gaussian likelihood.
        epochs: Passes over the training images.
        batch_size: Images per step.
        learning_rate: Adam's rate at the first step; it falls to zero along a half cosine.
        active_threshold: A dimension counts as active when its mean KL exceeds this many nats.
        architecture: `dense`, `linear` or `conv`.
        regauge_epochs: k: the model is re-gauged (`regauging.py`) after every epoch but the last k; None: never.
        regauge_once: Whether it is re-gauged at the end.
        regauge_adam: What a re-gauging does to Adam's running means: `keep`, `rescale` or `reset`.
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
    architecture: str = "dense"
    regauge_epochs: int | None = None
    regauge_once: bool = False
    regauge_adam: str = "keep"

    def regauges_after(self, epoch: int) -> bool:
        """Whether the model is re-gauged after this epoch, counted from 1."""
        between = self.regauge_epochs is not None and epoch <= self.epochs - self.regauge_epochs
        return between or (self.regauge_once and epoch == self.epochs)

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in asdict(self).items())


def prepare_process(device: str = "cpu") -> None:
    """One thread and deterministic algorithms, for the same bytes everywhere; subnormal numbers count as zero.

    Adam's mean gradient of a weight whose pixel has gone dark decays to numbers below 10⁻³⁸. Processors compute with
    them many times slower: it cost a quarter of the training of MNIST, for digits that change nothing.

    Args:
        device: Where the process will compute, `cpu` or `cuda`; there with all 24 bits of float32, never as TF32.

    Raises:
        DataError: `cuda`, and PyTorch finds no such device.
    """
    # cuBLAS is deterministic only with a workspace of fixed size; it reads this when it starts.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.set_num_threads(1)
    # The flag of torch.use_deterministic_algorithms(True), which imports PyTorch's compiler besides: 0.96 s.
    torch.set_deterministic_debug_mode("error")
    # It would fill every new tensor with NaN before an operator writes it: a tenth of a training.
    torch.utils.deterministic.fill_uninitialized_memory = False
    torch.set_flush_denormal(True)
    if device == "cuda":
        if not torch.cuda.is_available():
            raise DataError(
                f"training was asked to run on a GPU, and PyTorch {torch.__version__} finds no CUDA device here; "
                "run without --workflow-profile gpu, or install PyTorch's build for CUDA"
            )
        # TF32 rounds the factors of a product to 11 bits; for convolutions it is PyTorch's default.
        torch.backends.cuda.matmul.fp32_precision = "ieee"
        torch.backends.cudnn.conv.fp32_precision = "ieee"


def describe_process(device: str) -> dict[str, Any]:
    """How a process that `prepare_process` has prepared trains: what is recorded with its models."""
    run = {"device": device, "precision": "float32", "deterministic": True, "threads": 1}
    if device == "cuda":
        run |= {"card": torch.cuda.get_device_name(), "torch": str(torch.__version__)}
    return run


def generators(seed: int, purpose: str) -> tuple[torch.Generator, torch.Generator, torch.Generator]:
    """Independent generators for a training's initial weights, image order and noise, all on the CPU.

    They live on the CPU whatever the device, so that a model has the same start, order and noise everywhere.

    Args:
        seed: The model's seed.
        purpose: What is trained, `vae` or `judge`: two of one seed share no stream.
    """

    def generator(part: str) -> torch.Generator:
        (word,) = seed_sequence(seed, purpose, part).generate_state(1, dtype=np.uint64)
        # torch takes seeds below 2⁶³ only.
        return torch.Generator().manual_seed(int(word >> np.uint64(1)))

    return generator("weights"), generator("order"), generator("noise")


def initialise(model: nn.Module, generator: torch.Generator) -> None:
    """Draw every layer's weights and biases from U(−1/√inputs, 1/√inputs), torch's default, from `generator`."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
            # For transposed convolutions too, torch takes the second axis for the inputs.
            bound = 1 / math.sqrt(module.weight[0].numel())
            for parameter in (module.weight, module.bias):
                nn.init.uniform_(parameter, -bound, bound, generator=generator)


def build(image_shape: Sequence[int], settings: TrainingSettings, weights: torch.Generator) -> VAE:
    """The untrained model of these settings, its weights drawn from the generator `weights`."""
    model = VAE(
        image_shape,
        settings.latent_dim,
        settings.hidden_sizes,
        settings.likelihood,
        settings.decoder_variance,
        settings.architecture,
    )
    initialise(model, weights)
    return model


def cosine_learning_rate(initial: float, step: int, steps: int) -> float:
    """η_t = ½ η₀ (1 + cos(π t / T)): η₀ at the first step, nearly zero at the last."""
    return 0.5 * initial * (1 + math.cos(math.pi * step / steps))


class Epoch:
    """What one epoch's minibatches gave, kept on the device until a row of the history is made of it.

    Many models that are trained together have one more axis, the first.
    """

    def __init__(self) -> None:
        self.results: list[Objective] = []

    def add(self, result: Objective) -> None:
        """Keep one minibatch."""
        self.results.append(Objective(*(value.detach() for value in result)))

    def statistics(self) -> tuple[Tensor, Tensor, Tensor]:
        """Means over the epoch's images, at the parameters of the moment each was seen, in float64.

        Returns:
            The reconstruction loss, and per latent dimension (last axis) the KL term and μ² + s.
        """
        log_variance = torch.cat([result.log_variance for result in self.results], dim=-2).double()
        second = torch.cat([result.mean for result in self.results], dim=-2).double().square() + log_variance.exp()
        sums = [result.reconstruction.double() * result.mean.shape[-2] for result in self.results]
        kl = (second - 1 - log_variance).mean(-2) / 2
        return torch.stack(sums).sum(0) / second.shape[-2], kl, second.mean(-2)


def history_row(
    epoch: int, learning_rate: float, active_threshold: float, reconstruction: Tensor, kl: Tensor, second: Tensor
) -> dict[str, float]:
    """One model's row of the history, from `Epoch.statistics`."""
    return {
        "epoch": epoch,
        "learning_rate": learning_rate,
        "reconstruction": float(reconstruction),
        "kl": float(kl.sum()),
        "active_dimensions": int((kl > active_threshold).sum()),
        "gauge_residual": float((second - 1).abs().max()),
    }


@torch.no_grad()
def regauge_on(data: Tensor, maximum: float, model: VAE, optimiser: Optimiser, adam: str) -> None:
    """Re-gauge a model by the moments of its Q(z) over all training images.

    One pass of the encoder, an eighth of an epoch's time. The moments that the epoch's own minibatches gave would be
    free, but belong to weights that have changed since: the KL term would not be sure to fall, and a model of 8 000
    digits of MNIST (d = 8, β = 0.25, 20 epochs) ended 1.4 nats higher on held-out images.
    """
    codes = [model.encode(images_to_floats(block, maximum)) for block in data.split(4096)]
    mean, log_variance = (torch.cat(parts).double() for parts in zip(*codes, strict=True))
    variance = mean.var(0, unbiased=False) + log_variance.exp().mean(0)
    layers = (model.head_mean, model.head_log_variance, model.first_decoder_layer)
    regauge(*layers, mean.mean(0), variance, optimiser, adam)


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
    code: str = "",
    checkpoint_seconds: float = 300.0,
    on_epoch: Callable[[dict[str, float]], Any] = lambda row: None,
) -> tuple[VAE, list[dict[str, float]]]:
    """Train one VAE on `images`.

    Args:
        images: Training images, first axis N; bytes stay bytes until their minibatch is used.
        maximum: The value that becomes pixel value 1.
        settings: What to train.
        device: Where to train, `cpu` or `cuda`.
        checkpoint: File that holds the state of an unfinished training. Where it exists and was written by the same
            computation (settings, images, device and code), training goes on from there and ends in the same
            bytes as if it had never stopped; one of another computation is not taken up.
        code: What names the code that trains and its arithmetic; see `checkpoint`.
        checkpoint_seconds: Time between two checkpoints.
        on_epoch: Called with every row of the history as it is made.

    Returns:
        The trained model on the CPU, and the history: one row per epoch with `HISTORY_COLUMNS`.

    Raises:
        DataError: The loss became NaN or diverged; the message names the epoch and the settings.
    """
    weight_generator, order_generator, noise_generator = generators(settings.seed, "vae")
    data = as_tensor(images).reshape(len(images), -1).to(device)
    if not data.is_floating_point() and data.dtype != torch.uint8:
        raise DataError(f"images have type {data.dtype}; expected bytes (uint8) or floats")
    model = build(images.shape[1:], settings, weight_generator).to(device)
    optimiser = Adam(model.parameters())
    steps_per_epoch = math.ceil(len(data) / settings.batch_size)
    steps = settings.epochs * steps_per_epoch
    history: list[dict[str, float]] = []
    untrained_loss = math.inf
    made_by = {"settings": asdict(settings), "maximum": float(maximum), "code": code, "device": device}
    made_by["images"] = f"{zlib.crc32(data.cpu().numpy()):08x}"
    state = _Checkpoint(checkpoint, made_by, optimiser, order_generator, noise_generator)
    if checkpoint is not None and checkpoint.exists():
        history, untrained_loss = state.load()
        for row in history:
            on_epoch(row)
    last_checkpoint = time.monotonic()

    def step(images: Tensor, noise: Tensor, learning_rate: float | Tensor) -> Objective:
        result = objective(model, images_to_floats(images, maximum), noise, settings.kl_weight)
        optimiser.zero_grad()
        result.loss.backward()
        optimiser.step(learning_rate)
        return result

    run_step = on_device(step, device)
    for epoch in range(len(history) + 1, settings.epochs + 1):
        order = torch.randperm(len(data), generator=order_generator).to(device)
        noise = torch.randn(len(data), settings.latent_dim, generator=noise_generator).to(device)
        seen = Epoch()
        for batch in range(steps_per_epoch):
            rows = slice(batch * settings.batch_size, (batch + 1) * settings.batch_size)
            learning_rate = cosine_learning_rate(settings.learning_rate, (epoch - 1) * steps_per_epoch + batch, steps)
            # Not data[order[rows]]: general indexing costs ten times as much for the same rows.
            result = run_step(data.index_select(0, order[rows]), noise[rows], learning_rate)
            if untrained_loss == math.inf:
                untrained_loss = result.loss.item()
            seen.add(result)
        history.append(history_row(epoch, learning_rate, settings.active_threshold, *seen.statistics()))
        check_progress(history[-1], untrained_loss, settings)
        if settings.regauges_after(epoch):
            regauge_on(data, maximum, model, optimiser, settings.regauge_adam)
        on_epoch(history[-1])
        if checkpoint is not None and time.monotonic() - last_checkpoint >= checkpoint_seconds:
            state.save(history, untrained_loss)
            last_checkpoint = time.monotonic()
    return model.cpu(), history


@dataclass
class _Checkpoint:
    """The file that holds everything an unfinished training needs to go on as if it had never stopped."""

    path: Path | None
    # What the state belongs to: that of another computation must never be taken up.
    made_by: dict[str, Any]
    optimiser: Adam
    order: torch.Generator
    noise: torch.Generator

    def save(self, history: list[dict[str, float]], untrained_loss: float) -> None:
        arrays = {
            **self.optimiser.arrays(),
            "generator.order": self.order.get_state().numpy(),
            "generator.noise": self.noise.get_state().numpy(),
        }
        progress = {"history": history, "untrained_loss": untrained_loss}
        write_arrays(self.path, arrays, {"made_by": self.made_by, **progress})

    def load(self) -> tuple[list[dict[str, float]], float]:
        """Take up the stored state; return its history, empty if the file belongs to another training."""
        arrays, metadata = read_arrays(self.path)
        if metadata.get("made_by") != self.made_by:
            return [], math.inf
        self.optimiser.restore(arrays)
        self.order.set_state(torch.from_numpy(arrays["generator.order"]))
        self.noise.set_state(torch.from_numpy(arrays["generator.noise"]))
        return metadata["history"], metadata["untrained_loss"]
