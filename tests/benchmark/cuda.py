"""Training on a CUDA device: many models at once beside one by one, captured steps beside steps as written.

`make benchmark-cuda`, on a machine with PyTorch's build for CUDA, writes tests/benchmark/CUDA.md. The models are those
of config/mnist.yaml that train on MNIST, in the batches in which the workflow trains them. The images are
scikit-learn's digits, enlarged to 28 × 28 bytes and repeated up to MNIST's number: speed does not depend on what they
show. What a training does in its first epoch only (start of the libraries, capture) is counted once.
"""

import contextlib
import dataclasses
import datetime
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest import mock

import numpy as np
import torch

from aggregated_posterior.model import together, training
from aggregated_posterior.model.together import train_together
from aggregated_posterior.model.training import TrainingSettings, prepare_process, train
from aggregated_posterior.pipeline import configuration

from .make_table import best
from .test_benchmark_training import enlarged_digits, operations_per_image

ROOT = Path(__file__).resolve().parents[2]
IMAGES = 60_000


def models() -> list[list[TrainingSettings]]:
    """The batches of the published MNIST experiment."""
    manifest = json.loads((ROOT / "results/published/mnist/manifest.json").read_text(encoding="utf-8"))
    config = manifest["configuration"]
    cells = [cell for cell in configuration.cells(config, manifest["datasets"]) if cell["dataset"] == "mnist"]
    threshold = config["statistics"]["active_threshold"]
    return [
        [TrainingSettings(**configuration.training_settings(cell, threshold)) for cell in batch]
        for batch in configuration.batches(cells, config["batches"]["models"])
    ]


def images() -> np.ndarray:
    """Real strokes in MNIST's shape and number."""
    return np.resize(enlarged_digits(), (IMAGES, 28, 28))


@contextlib.contextmanager
def as_written():
    """Steps that are launched kernel by kernel."""
    with (
        mock.patch.object(training, "on_device", lambda step, device: step),
        mock.patch.object(together, "on_device", lambda step, device: step),
    ):
        yield


def epoch_seconds(run: Callable[[Callable], object]) -> tuple[float, float]:
    """Seconds of a training's first epoch and of a later one (median); its `on_epoch` is the clock."""
    times = [time.perf_counter()]
    run(lambda row: times.append(time.perf_counter()))
    lasted = np.diff(times)
    return float(lasted[0]), float(statistics.median(lasted[1:]))


def limit_seconds(batch: Sequence[TrainingSettings], flops: float, bytes_per_second: float) -> float:
    """What one epoch of a batch takes at least: its matrix products, then Adam's passes over weights and means."""
    settings = batch[0]
    widths = [784, *settings.hidden_sizes]
    weights = 2 * sum(a * b for a, b in zip(widths, widths[1:], strict=False)) + 3 * settings.latent_dim * widths[-1]
    operations = len(batch) * IMAGES * operations_per_image(settings, 784)
    steps = -(-IMAGES // settings.batch_size)
    # Read weight, gradient and two means, write weight and two means; the gradient was written before.
    return operations / flops + steps * len(batch) * weights * 8 * 4 / bytes_per_second


def card() -> tuple[float, float]:
    """What the device can do: float32 operations per second in square products, bytes per second in copies."""
    factors = torch.rand(2, 8192, 8192, device="cuda")
    source, target = torch.rand(2, 2**30, device="cuda")
    torch.cuda.synchronize()
    product = best(lambda: (torch.mm(*factors), torch.cuda.synchronize()))
    copy = best(lambda: (target.copy_(source), torch.cuda.synchronize()))
    return 2 * 8192**3 / product, 2 * source.nbytes / copy


def main() -> None:
    """Measure and write the table."""
    prepare_process("cuda")
    flops, bandwidth = card()
    data, batches = images(), models()
    number = sum(len(batch) for batch in batches)
    epochs = batches[0][0].epochs
    (one,) = (batch for batch in batches if batch[0].latent_dim == 16)

    whole, limit = 0.0, 0.0
    for batch in batches:
        start = time.perf_counter()
        trained = train_together(data, 255, batch, "cuda")
        lasted = time.perf_counter() - start
        whole += lasted
        limit += epochs * limit_seconds(batch, flops, bandwidth)
        print(
            f"d={batch[0].latent_dim}: {len(batch)} models, {lasted:.1f} s; one ends as {trained[0][1][-1]}", flush=True
        )

    few = [dataclasses.replace(settings, epochs=5) for settings in one]
    lines = [f"| many at once, captured | {whole:.1f} | 1 | all {number} models, {epochs} epochs each |"]

    def row(name: str, way: Callable[[Callable], object], at_once: int) -> None:
        first, later = epoch_seconds(way)
        seconds = (first + (epochs - 1) * later) * number / at_once
        what = f"{at_once} models with d = 16" if at_once > 1 else "one model with d = 16"
        basis = f"from 5 epochs of {what}: {first:.2f} s the first, {later:.2f} s each later one"
        lines.append(f"| {name} | {seconds:.0f} | {seconds / whole:.1f} | {basis} |")
        print(lines[-1], flush=True)

    def alone(device: str) -> Callable[[Callable], object]:
        return lambda clock: train(data, 255, few[0], device, on_epoch=clock)

    with as_written():
        row("many at once, as written", lambda clock: train_together(data, 255, few, "cuda", clock), len(few))
        row("one by one, as written", alone("cuda"), 1)
    row("one by one, captured", alone("cuda"), 1)
    row("one by one, on one core of this machine", alone("cpu"), 1)
    text = f"""# Training on a CUDA device

Made by `make benchmark-cuda` on {datetime.date.today()}: {torch.cuda.get_device_name()}, PyTorch {torch.__version__},
CUDA {torch.version.cuda}; float32 throughout, no TF32, deterministic algorithms.

Seconds for the {number} MNIST models of config/mnist.yaml ({epochs} epochs of {IMAGES:,} images each).

| way | seconds | ratio | measured on |
|---|---:|---:|---|
{chr(10).join(lines)}

Limit of this card for the first way: {limit:.1f} s ({limit / whole:.0%} of the time taken). It is what the matrix
products and Adam's passes over the weights need at the {flops / 1e12:.0f} TFLOP/s of square products and the
{bandwidth / 1e12:.2f} TB/s of copies that were measured in the same minute.
"""
    (Path(__file__).parent / "CUDA.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
