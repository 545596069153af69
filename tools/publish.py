"""Put a finished experiment among the published ones: `make publish CONFIG=config/mnist.yaml`. For the maintainer.

results/published/{experiment}/ then holds the tables, the figures (SVG, or PNG where the SVG is large), the claims, and
a manifest: the configuration as resolved, package versions, machine, run time, and the SHA-256 of every file of the
run. What is too large for a repository (models, posteriors, data, the tables of curves that only figures need) is left
out and listed in the manifest; `snakemake verify` compares it by its SHA-256.
"""

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from aggregated_posterior import numerics  # noqa: E402
from aggregated_posterior.evidence.published import MANIFEST, digest, packages, trained_with  # noqa: E402
from aggregated_posterior.pipeline import configuration  # noqa: E402
from aggregated_posterior.pipeline.schemas import load_registry, read_yaml  # noqa: E402
from aggregated_posterior.storage import DataError, read_json, write_json  # noqa: E402

# What the repository gives to all published experiments together.
LIMIT = 30 * 2**20
LARGE_SVG = 300 * 2**10
LEFT_OUT = {
    "tables/latent_density.csv": "a grid of densities per model, drawn in figures/latent_map",
    "tables/latent_ellipses.csv": "a few posteriors per model, drawn in figures/latent_map",
    "tables/marginal_curves.csv": "curves of single models, drawn in figures/marginals; distances are in marginals.csv",
}


def resolved(config: str | Path, root: Path) -> dict:
    """The configuration that Snakemake runs with: `config` over config/config.yaml, checked, with all defaults."""

    def overlay(below: dict, above: dict) -> dict:
        both = {**below, **above}
        nested = {
            key for key in below.keys() & above.keys() if isinstance(below[key], dict) and isinstance(above[key], dict)
        }
        return {key: overlay(below[key], above[key]) if key in nested else value for key, value in both.items()}

    content = overlay(read_yaml(root / "config/config.yaml"), read_yaml(config))
    content = configuration.validate(content, read_yaml(root / "workflow/schemas/config.schema.yaml"), str(config))
    # A path of this machine, of no use to anyone else.
    return {**content, "mirror": None}


FOR_ITS_SIZE = f"for its size: all experiments together have {LIMIT >> 20} MiB of the repository"


def selected(results: Path, without: Iterable[str] = ()) -> list[str]:
    """The files that are published, relative to the experiment's folder; those of `without` are not."""
    tables = [f"tables/{path.name}" for path in sorted((results / "tables").glob("*.csv"))]
    names = [name for name in tables if name not in LEFT_OUT] + ["claims.json", "claims.md", "explorer.json"]
    for svg in sorted((results / "figures").glob("*.svg")):
        suffix = ".png" if svg.stat().st_size > LARGE_SVG else ".svg"
        names += [f"figures/{svg.stem}{suffix}", f"figures/{svg.stem}.rst"]
    absent = [name for name in names if not (results / name).is_file()]
    if absent or not tables:
        raise DataError(f"{results}: {', '.join(absent) or 'tables'} missing; finish the run first")
    unknown = sorted(set(without) - set(names))
    if unknown:
        raise DataError(f"--without {' '.join(unknown)}: nothing of that name would be published")
    return [name for name in names if name not in without]


def run_time(metadata: Path, experiment: str) -> dict:
    """Seconds that jobs took, from what Snakemake noted for each output, and which device trained the models.

    The jobs' sum is the cost on one core, the wall time is the length of the time in which at least one job ran: pauses
    between two calls of Snakemake do not count.
    """
    jobs: dict[tuple, tuple[float, float]] = {}
    devices: set[str] = set()
    for path in metadata.rglob("*"):
        record = read_json(path) if path.is_file() else {}
        logs = tuple(record.get("log") or [])
        if not record.get("endtime") or not any(log.startswith(f"logs/{experiment}/") for log in logs):
            continue
        # A job leaves one record for each of its outputs.
        jobs[record["rule"], logs] = (record["starttime"], record["endtime"])
        if record["rule"].startswith("train_vae"):
            devices.add("cuda" if "'cuda'" in str(record.get("params")) else "cpu")
    seconds: dict[str, list[float]] = {}
    for (rule, _), (start, end) in jobs.items():
        seconds.setdefault(re.sub(r"_\d+$", "", rule), []).append(end - start)
    wall, reached = 0.0, 0.0
    for start, end in sorted(jobs.values()):
        wall += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return {
        "jobs": len(jobs),
        "job_seconds": round(sum(end - start for start, end in jobs.values()), 1),
        "wall_seconds": round(wall, 1),
        "by_rule": {
            rule: {"jobs": len(all_), "seconds": round(sum(all_), 1)} for rule, all_ in sorted(seconds.items())
        },
        "training_device": sorted(devices),
    }


def machine() -> dict:
    """The processor and its cores; no host name."""
    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").is_file() else ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.M)
    return {
        "cpu": model.group(1) if model else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        # Its exp and log are NumPy's where NumPy has none of its own for the processor.
        "libc": " ".join(platform.libc_ver()).strip(),
    }


def versions(root: Path) -> dict:
    """The installed versions of what requirements.txt names."""
    lines = (root / "requirements.txt").read_text(encoding="utf-8").splitlines()
    return packages(line.split("==")[0].strip() for line in lines if "==" in line and not line.startswith("#"))


def commit(root: Path) -> str | None:
    """The commit of the code, with `-dirty` where tracked files were changed since.

    Published results, and the README that `tools/experiments.py` fills from them, are what publishing changes.
    """

    def git(*command: str) -> str:
        done = subprocess.run(["git", "-C", str(root), *command], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", ":!results/published", ":!README.md")
    return (git("rev-parse", "--verify", "--quiet", "HEAD") + ("-dirty" if changed else "")) or None


def publish(config: str | Path, note: str = "", without: Sequence[str] = (), root: Path = ROOT) -> Path:
    """Copy a finished experiment's results to results/published/ and write their manifest.

    Args:
        config: The experiment's configuration file.
        note: What a reader should know of the machine or the run (for instance the name of a GPU).
        without: Files that are left out for their size, relative to the experiment's folder.
        root: The checkout in which it ran.

    Returns:
        The published folder.

    Raises:
        DataError: The run is not finished, or too large to publish.
    """
    content = resolved(config, root)
    numerics.apply(content["numerics"])
    experiment = content["experiment"]
    results = root / "results" / experiment
    registry = load_registry(root / "config/datasets.yaml", root / "workflow/schemas/datasets.schema.yaml")
    cells = configuration.cells(content, registry)
    for cell in cells:
        model = "models/{dataset}/{architecture}/latent_{latent_dim}/kl_{kl_weight}/seed_{seed}".format(**cell)
        if not (results / model / "posteriors.safetensors").is_file():
            raise DataError(f"{results / model}: has no posteriors; run the experiment of {config} first")
    names = selected(results, without)
    folder = root / "results/published" / experiment
    others = [path for path in folder.parent.rglob("*") if path.is_file() and not path.is_relative_to(folder)]
    size = sum(path.stat().st_size for path in [*others, *(results / name for name in names)])
    if size > LIMIT:
        raise DataError(
            f"{results}: with it {size / 2**20:.1f} MiB were published in all, more than {LIMIT / 2**20:g}; leave out "
            "a file (--without tables/training.csv), or an experiment"
        )
    run = {
        path.relative_to(results).as_posix(): digest(path)
        for path in sorted(results.rglob("*"))
        # What is made from the run afterwards is no part of it.
        if path.is_file() and path.name not in {"verification.md", "report.html", "report.zip"}
    }
    manifest = {
        "experiment": experiment,
        "note": note,
        "models": len(cells),
        # How to run it again.
        "config": Path(os.path.relpath(config, root)).as_posix(),
        "configuration": content,
        "datasets": {name: registry[name] for name in sorted({cell["dataset"] for cell in cells} & registry.keys())},
        "claims": read_yaml(root / "config/claims.yaml"),
        "commit": commit(root),
        "machine": machine(),
        "packages": versions(root),
        "numerics": numerics.describe(),
        "trained_with": trained_with(results),
        "run_time": run_time(root / ".snakemake/metadata", experiment),
        "published": {name: run[name] for name in names},
        "run": run,
        "left_out": {
            name: reason for name, reason in {**LEFT_OUT, **dict.fromkeys(without, FOR_ITS_SIZE)}.items() if name in run
        },
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Made beside the published folder and renamed when it is whole, so that an interruption leaves what was there.
    with tempfile.TemporaryDirectory(prefix=".publish-", dir=folder.parent) as beside:
        made = Path(beside) / "new"
        for name in names:
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(results / name, made / name)
        write_json(made / MANIFEST, manifest)
        if folder.exists():
            folder.rename(Path(beside) / "old")
        made.rename(folder)
    return folder


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Publish a finished experiment's results.")
    parser.add_argument("--configfile", default="config/config.yaml", help="the experiment's configuration")
    parser.add_argument("--note", default="", help="what to say of the machine or the run, for instance the GPU's name")
    parser.add_argument("--without", nargs="+", default=[], metavar="FILE", help="files to leave out for their size")
    arguments = parser.parse_args()
    try:
        folder = publish(arguments.configfile, arguments.note, arguments.without)
    except DataError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    files = [path for path in folder.rglob("*") if path.is_file()]
    time = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["run_time"]
    print(
        f"{folder.relative_to(ROOT)}: {len(files)} files, {sum(path.stat().st_size for path in files) / 2**20:.1f} MiB"
    )
    print(f"run time: {time['job_seconds']:g} s in {time['jobs']} jobs, {time['wall_seconds']:g} s of wall time")
    return 0


if __name__ == "__main__":
    sys.exit(main())
