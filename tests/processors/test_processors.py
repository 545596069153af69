"""The same files, byte by byte, on this processor, on an emulated Intel one and on an emulated AMD one, both with AVX2.

Debian's qemu-user emulates processors by name: what a library asks of the processor (vendor, instruction set) is the
named one's, and arithmetic is exact. The long version is `make test-processors`.
"""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aggregated_posterior import numerics
from tests.manifest import differences

PROBE = Path(__file__).parent / "probe.py"
QEMU = shutil.which("qemu-x86_64")
PROCESSORS = {"Intel Haswell": "Haswell", "AMD EPYC": "EPYC"}
needs_qemu = pytest.mark.skipif(not QEMU, reason="qemu-user is not installed; `make test-processors` installs it")
needs_avx2 = pytest.mark.skipif(
    numerics.instructions() not in (numerics.AVX2, numerics.AVX512), reason="the pins are for x86-64 with AVX2"
)
pytestmark = [needs_qemu, needs_avx2]


def probe(folder, *arguments, emulated=None):
    """The manifest of what the probe makes in `folder`."""
    # The interpreter by the path of its environment, not the resolved one, which would lose the environment.
    command = [sys.executable, PROBE, folder, *arguments]
    if emulated:
        command = [QEMU, "-cpu", emulated, *command]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    print(f"{emulated or 'native'}: {time.monotonic() - began:.0f} s\n{done.stdout}")
    return json.loads((folder / "manifest.json").read_text())


def test_train_encode_and_moments_have_the_same_bytes_on_an_emulated_processor(tmp_path):
    expected = probe(tmp_path / "native", "--short")
    assert {"dense/vae.safetensors", "dense/posteriors.safetensors", "moments.csv"} <= expected.keys()
    # The vendor that this machine's is not would say more, but the pins leave the vendor no say: either will do.
    assert differences(expected, probe(tmp_path / "emulated", "--short", emulated="EPYC")) == []


@pytest.mark.slow
def test_everything_from_images_to_a_figure_has_the_same_bytes_on_every_processor(tmp_path):
    expected = probe(tmp_path / "native")
    assert {"linear/scores.csv", "dense/divergence.json", "kurtosis_terms.svg", "kurtosis_terms.png"} <= expected.keys()
    assert differences(expected, probe(tmp_path / "again")) == []
    for name, processor in PROCESSORS.items():
        found = differences(expected, probe(tmp_path / processor, emulated=processor))
        assert found == [], f"on an emulated {name}: {found}"
