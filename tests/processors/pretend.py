"""Run a command as if on another processor: `python -m tests.processors.pretend NAME COMMAND…`.

What the instruction CPUID says comes from NAME.cpuid in this folder, as QEMU's processor of that name says it: its
vendor, its instruction set, its caches. So every library takes the loops that it would take there, with all of the
process's children, at this machine's full speed. The arithmetic is this processor's own; `test_processors.py` has an
emulated one for that. Linux only, and a processor that can have CPUID fault (`cpuid_fault` in
/proc/cpuinfo).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


def possible() -> bool:
    """Whether this machine can pretend: CPUID faults, and there is a C compiler."""
    cpu = Path("/proc/cpuinfo")
    return shutil.which("cc") is not None and cpu.exists() and "cpuid_fault" in cpu.read_text()


def build(folder: Path) -> Path:
    """Compile pretend.c into `folder`."""
    library = folder / "pretend.so"
    subprocess.run(["cc", "-O2", "-Wall", "-shared", "-fPIC", "-o", library, HERE / "pretend.c"], check=True)
    return library


def environment(name: str, library: Path) -> dict[str, str]:
    """What to add to a process's environment, for it to take this processor for the one called `name`."""
    table = HERE / f"{name}.cpuid"
    if not table.exists():
        known = ", ".join(sorted(path.stem for path in HERE.glob("*.cpuid")))
        raise SystemExit(f"error: there is no {table.name}; known are {known}")
    return {"LD_PRELOAD": str(library), "PRETEND_CPUID": str(table)}


def main() -> int:
    """The command line."""
    if len(sys.argv) < 3:
        raise SystemExit(__doc__)
    if not possible():
        raise SystemExit("error: this needs Linux, a C compiler (cc), and cpuid_fault in /proc/cpuinfo")
    with tempfile.TemporaryDirectory() as folder:
        added = environment(sys.argv[1], build(Path(folder)))
        return subprocess.run(sys.argv[2:], env=os.environ | added, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
