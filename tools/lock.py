"""Make requirements.txt, requirements-dev.txt and environment.yml from pyproject.toml, with the same pins in all.

Run by `make lock`. pip-tools resolves; this file only takes care that a local build's suffix (torch's `+cpu`) does not
get into the lock, and that conda's environment names exactly what pip's lock names.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from aggregated_posterior.storage import atomic_path, write_text  # noqa: E402

COMPILE = [
    sys.executable,
    *("-m", "piptools", "compile", "--quiet", "--strip-extras", "--no-header", "--allow-unsafe"),
    *("--no-emit-index-url", "--no-emit-find-links", "--no-emit-trusted-host", "--no-annotate"),
]
HEADER = "# Made by `make lock` from pyproject.toml. Do not edit.\n"


def pins(path: Path) -> list[str]:
    """The lock's `name==version` lines."""
    return [line for line in path.read_text().splitlines() if line and not line.startswith(("#", "-"))]


def lock(output: str, *options: str) -> None:
    """Resolve one set of extras into a lock file."""
    path = ROOT / output
    with atomic_path(path) as beside:
        # pip-tools keeps what is pinned there.
        shutil.copyfile(path, beside)
        subprocess.run([*COMPILE, *options, "--output-file", str(beside), "pyproject.toml"], cwd=ROOT, check=True)
        lines = [re.sub(r"\+[a-z0-9.]+$", "", line) for line in pins(beside)]
        lines = [line for line in lines if not line.startswith(("pip==", "setuptools==", "aggregated-posterior"))]
        beside.write_text(HEADER + "\n".join(sorted(lines, key=str.lower)) + "\n", encoding="utf-8")


def write_environment() -> None:
    """conda brings Python, pip brings the rest: the same pins whichever way the environment is made."""
    packages = "\n".join(f"      - {line}" for line in pins(ROOT / "requirements.txt"))
    write_text(
        ROOT / "environment.yml",
        f"{HEADER}name: aggregated-posterior\nchannels:\n  - conda-forge\n  - nodefaults\ndependencies:\n"
        f"  - python=3.11\n  - pip\n  - pip:\n{packages}\n",
    )


if __name__ == "__main__":
    lock("requirements.txt", "--extra", "pipeline")
    lock(
        "requirements-dev.txt",
        "--extra",
        "pipeline",
        "--extra",
        "test",
        "--extra",
        "comparison",
        "--extra",
        "lock",
    )
    write_environment()
