"""What the pins cost: processor time of training, moments, ln Q(z) and scores, with and without them.

`python tests/benchmark/portability.py [REPETITIONS]` prints a table in Markdown. The pins are read when a library is
loaded, so two processes are started, one `portable` and one `native`; they take turns, task by task, so that whatever
else the machine does meets both alike. One thread each. Ratios are of medians.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT)]

from aggregated_posterior import numerics  # noqa: E402

MODES = ("native", "portable")


def tasks() -> dict[str, Callable[[], object]]:
    """What is timed: sizes of the replication on MNIST, with a tenth of its images."""
    import numpy as np

    from aggregated_posterior.generation.image_quality import frechet_distance
    from aggregated_posterior.model.training import TrainingSettings, prepare_process, train
    from aggregated_posterior.posterior.mixture import AggregatedPosterior
    from tests.processors.probe import cells

    prepare_process()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (128 * 40, 784), dtype=np.uint8)
    (cell,) = [cell for cell in cells() if cell["architecture"] == "dense"]
    settings = cell["training"] | {"latent_dim": 16, "kl_weight": 1.0, "seed": 0, "active_threshold": 0.05}
    settings = TrainingSettings(**{**settings, "epochs": 1, "batch_size": 128, "learning_rate": 0.001})
    q = AggregatedPosterior(rng.normal(size=(6000, 16)), rng.uniform(0.01, 1, (6000, 16)))
    z = rng.normal(size=(1000, 16))
    a, b = rng.normal(size=(2, 10_000, 64))
    return {
        "training, 40 steps of 128 images, 784-256-64-16": lambda: train(images, 255, settings),
        "moments of 6 000 posteriors, d = 16": lambda: q.moments(),
        "ln Q(z) at 1 000 points, 6 000 posteriors, d = 16": lambda: q.log_density(z),
        "Fréchet distance of 10 000 images' features": lambda: frechet_distance(a, b),
    }


def serve(mode: str) -> None:
    """Load the libraries in one mode, then time the task that each line of standard input names."""
    numerics.apply(mode)
    known = tasks()
    for task in known.values():
        task()
    print(json.dumps(list(known)), flush=True)
    for line in sys.stdin:
        began = time.process_time()
        known[line.strip()]()
        print(time.process_time() - began, flush=True)


def main(repetitions: int) -> None:
    """Print the table."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    for name in numerics.PINS:
        environment.pop(name, None)
    servers = {}
    for mode in MODES:
        command = [sys.executable, __file__, "--serve", mode]
        servers[mode] = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
    # Every server says its tasks once it is ready; they are the same.
    (names,) = {tuple(json.loads(server.stdout.readline())) for server in servers.values()}
    seconds: dict[tuple[str, str], list[float]] = {}
    for _ in range(repetitions):
        for name in names:
            for mode, server in servers.items():
                print(name, file=server.stdin, flush=True)
                seconds.setdefault((name, mode), []).append(float(server.stdout.readline()))
    for server in servers.values():
        server.stdin.close()
        server.wait()
    print("| what | native, ms | portable, ms | portable / native |\n| --- | --- | --- | --- |")
    for name in names:
        native, portable = (statistics.median(seconds[name, mode]) for mode in MODES)
        print(f"| {name} | {1000 * native:.1f} | {1000 * portable:.1f} | {portable / native:.2f} |")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--serve"]:
        serve(sys.argv[2])
    else:
        main(int(sys.argv[1]) if sys.argv[1:] else 15)
