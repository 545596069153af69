"""What a results folder holds, as one SHA-256 per file: two runs agree when their manifests do."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

# A training's own note of how far it has come; no result, and gone when the training has ended.
CHECKPOINT = "checkpoint.safetensors"


def manifest(results: Path) -> dict[str, str]:
    """SHA-256 of every file under `results`, by its path in there.

    Hidden files are left out (temporary names begin with a dot, see `half_written`); a file that goes away while it is
    looked at counts as absent.
    """
    digests = {}
    for path in sorted(results.rglob("*")):
        if path.name.startswith("."):
            continue
        try:
            with path.open("rb") as stream:
                digests[path.relative_to(results).as_posix()] = hashlib.file_digest(stream, "sha256").hexdigest()
        except (IsADirectoryError, FileNotFoundError):
            continue
    return digests


def half_written(results: Path) -> list[Path]:
    """Files that stand under a temporary name."""
    return sorted(results.rglob(".*.part"))


def differences(expected: Mapping[str, str], found: Mapping[str, str], unfinished: bool = False) -> list[str]:
    """One line for every file that is not as expected; an empty list where the two agree.

    Args:
        expected: The manifest of an undisturbed run.
        found: The manifest to compare with it.
        unfinished: `found` is of a run that has not ended: files may be absent and trainings may have checkpoints, but
            what is there must be whole.
    """
    lines = []
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            if not unfinished:
                lines.append(f"{name}: is missing")
        elif name not in expected:
            if not (unfinished and name.endswith(CHECKPOINT)):
                lines.append(f"{name}: should not be there")
        elif expected[name] != found[name]:
            lines.append(f"{name}: has other bytes")
    return lines
