"""This checkout beside an earlier commit: one model trained and its ladder climbed in turn, on one machine, in one run.

`make benchmark-against COMMIT=821c17d` prints, for every rule that both have, the seconds that its job took in the
earlier commit and here, with portable and with native numerics, and the ratio: the rounds' median, the lowest and the
highest. Every round has a seed of its own. `--whole config` runs a whole experiment in both instead, and tells wall
time, jobs' time and models. Nothing else should run meanwhile. Both use this Python's packages.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from tools.publish import run_time

ROOT = Path(__file__).resolve().parents[2]

RULES = ("train_vae", "encode_posteriors", "score_samplers")
EXPERIMENT = "against"


def checkout(commit: str, folder: Path) -> Path:
    """A clone of this repository at one commit."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder)], check=True)
    subprocess.run(["git", "checkout", "--quiet", commit], cwd=folder, check=True)
    return folder


def snakemake(folder: Path, configuration: dict, *arguments: str) -> None:
    """Run one configuration of that checkout, whose own data and models stay where they are."""
    file = folder / f"{configuration['experiment']}.yaml"
    file.write_text(yaml.safe_dump(configuration), encoding="utf-8")
    environment = {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-m", "snakemake", *arguments, "--configfile", str(file), "--quiet", "all"]
    subprocess.run(command, cwd=folder, env={**os.environ, **environment}, check=True)


def seconds(folder: Path, experiment: str) -> dict[str, float]:
    """Rule → seconds of its jobs."""
    rules = run_time(folder / ".snakemake" / "metadata", experiment)["by_rule"]
    return {rule: of["seconds"] for rule, of in rules.items()}


def one_model(ways: dict[str, tuple[Path, dict]], rounds: int) -> None:
    """Print the table of one model's rules."""
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    seeds = range(10, 10 + rounds)
    for seed in seeds:
        for way, (folder, numerics) in ways.items():
            experiment = "_".join([EXPERIMENT, *numerics.values()])
            configuration = yaml.safe_load((folder / "config" / "mnist.yaml").read_text(encoding="utf-8"))
            cell = {"datasets": ["mnist"], "architectures": ["dense"], "latent_dims": [16], "kl_weights": [1]}
            configuration |= {"experiment": experiment, "sweeps": [{**cell, "seeds": list(seeds)}], **numerics}
            model = f"results/{experiment}/models/mnist/dense/latent_16/kl_1/seed_{seed}"
            before = seconds(folder, experiment)
            snakemake(folder, configuration, f"{model}/samplers.csv", "--cores", "1")
            found[way].append({rule: s - before.get(rule, 0.0) for rule, s in seconds(folder, experiment).items()})
    first, *others = ways
    print(f"\n| rule | {first} | " + " | ".join(f"{way} | ratio" for way in others) + " |")
    print("|---" * (2 * len(ways)) + "|")
    for rule in RULES:
        cells = [rule, f"{statistics.median(of[rule] for of in found[first]):.1f} s"]
        for way in others:
            ratios = [before[rule] / now[rule] for before, now in zip(found[first], found[way], strict=True)]
            cells.append(f"{statistics.median(of[rule] for of in found[way]):.1f} s")
            cells.append(f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]")
        print(f"| {' | '.join(cells)} |")


def whole(ways: dict[str, tuple[Path, dict]], name: str) -> None:
    """Print what a whole experiment takes."""
    print("\n| | models | wall time | jobs' time | jobs' time a model |\n|---|---|---|---|---|")
    for way, (folder, numerics) in ways.items():
        configuration = yaml.safe_load((folder / "config" / f"{name}.yaml").read_text(encoding="utf-8"))
        experiment = "_".join([EXPERIMENT, "whole", *numerics.values()])
        snakemake(folder, configuration | {"experiment": experiment, **numerics}, "--cores", "2")
        time = run_time(folder / ".snakemake" / "metadata", experiment)
        models = time["by_rule"]["score_samplers"]["jobs"]
        print(
            f"| {way} | {models} | {time['wall_seconds']:.0f} s | {time['job_seconds']:.0f} s | "
            f"{time['job_seconds'] / models:.2f} s |",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commit", help="the earlier commit")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of one model (default 3)")
    parser.add_argument("--whole", metavar="NAME", help="instead: a whole experiment, a name of config/, as `config`")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        here = checkout("HEAD", Path(work) / "here")
        ways = {
            arguments.commit: (checkout(arguments.commit, Path(work) / "before"), {}),
            "portable": (here, {"numerics": "portable"}),
            "native": (here, {"numerics": "native"}),
        }
        if arguments.whole:
            whole(ways, arguments.whole)
        else:
            one_model(ways, arguments.rounds)
