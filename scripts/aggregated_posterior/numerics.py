"""Which arithmetic the numeric libraries use: the same bytes on every x86-64 processor, or the machine's fastest.

NumPy, SciPy and torch choose among several versions of each inner loop by the processor's vendor and instruction set,
and those differ in the last bits of a sum. Training multiplies such a difference until the models are others. Five
environment variables (`PINS`) hold every library to the loops for AVX2 that all x86-64 processors since 2013 (Intel)
and 2015 (AMD) can run.

The variables are read when a library is loaded. So this module imports nothing numeric, and `apply` belongs before the
first import of NumPy or torch, or in the process that starts the one that computes: the Snakefile calls it, and every
job's script is a process of its own, on this machine or a cluster's.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

MODES = ("portable", "native")

PINS = {
    # torch's products by MKL. AVX2 is not enough here: MKL asks for the vendor too, and only COMPATIBLE does not.
    "MKL_CBWR": "COMPATIBLE",
    # torch's elementwise functions.
    "ATEN_CPU_CAPABILITY": "avx2",
    # torch's convolutions, and products that go through oneDNN. Its older name, DNNL_MAX_CPU_ISA, yields to this one.
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    # NumPy's and SciPy's products and factorisations.
    "OPENBLAS_CORETYPE": "Haswell",
    # NumPy's exp, log and sums. The names are NumPy 2.4's; it passes over names that it does not know, so a test
    # compares them with its own list.
    "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR",
}
# What would overrule a pin, or make NumPy refuse to start beside it.
OVERRULING = ("NPY_ENABLE_CPU_FEATURES",)


def apply(mode: str = "portable") -> None:
    """Set the environment of this process, and so of all that it starts, for one way of computing.

    Args:
        mode: `portable` sets every pin, whatever the variable was before. `native` takes the pins away again where a
            parent process had set them, and leaves values of the user's own.

    Raises:
        ValueError: Another mode.
    """
    if mode not in MODES:
        raise ValueError(f"numerics: {mode!r} is no mode; it is one of {', '.join(MODES)}")
    if mode == "portable":
        os.environ.update(PINS)
        for name in OVERRULING:
            os.environ.pop(name, None)
        return
    for name, value in PINS.items():
        if os.environ.get(name) == value:
            del os.environ[name]


def describe() -> dict[str, Any]:
    """How this process computes, from its environment: what is recorded with results and told apart by caches.

    Returns:
        `mode` (`portable` where all pins are set, else `native`), `pins` (the variables of `PINS` that are set) and
        `instructions` (what the libraries may use). Two machines for which this is equal and portable compute the same
        bytes with the same package versions. No name of a processor: portable results must not depend on it.
    """
    pins = {name: os.environ[name] for name in sorted(PINS) if name in os.environ}
    mode = "portable" if pins == PINS else "native"
    found = instructions()
    return {"mode": mode, "pins": pins, "instructions": AVX2 if mode == "portable" and found == AVX512 else found}


AVX2, AVX512 = "x86-64 with AVX2", "x86-64 with AVX-512"


def instructions() -> str:
    """The instruction set of this machine's processor, in words."""
    machine = platform.machine()
    if machine.lower() not in {"x86_64", "amd64"}:
        return machine
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "x86-64, not known further"
    flags = next((line for line in text.splitlines() if line.startswith("flags")), "").split()
    if "avx2" not in flags or "fma" not in flags:
        return "x86-64 without AVX2"
    return AVX512 if "avx512f" in flags else AVX2


def notice() -> str | None:
    """One line where this process does not compute the published bytes though the code is the same, else None."""
    state = describe()
    if state["mode"] == "native":
        return "numerics: native: results depend on the processor in their last digits, and trained models in more."
    if state["instructions"] != AVX2:
        return (
            f"numerics: this processor ({state['instructions']}) is not an x86-64 one with AVX2, for which the pins "
            "are made: results are as right, but not the published bytes; `snakemake verify` says how near they are."
        )
    return None
