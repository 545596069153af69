"""The same files, byte by byte, on this processor, on an Intel one and on an AMD one, both with AVX2 and no more.

Once by pretence (`pretend.py`): a library that asks what the processor is (vendor, instruction set, caches) hears of
the named one, and computes on this one. Once, in the long version (`make test-processors`), by emulation: Debian's
qemu-user computes as the named one too.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from aggregated_posterior import numerics
from tests.manifest import differences
from tests.processors import pretend

PROBE = Path(__file__).parent / "probe.py"
QEMU = shutil.which("qemu-x86_64")
# By the emulator's names; in lower case, those of the tables for pretending.
PROCESSORS = {"Intel Haswell": "Haswell", "AMD EPYC": "EPYC"}
needs_qemu = pytest.mark.skipif(not QEMU, reason="qemu-user is not installed; `make test-processors` installs it")
needs_pretence = pytest.mark.skipif(not pretend.possible(), reason="no C compiler, or CPUID cannot fault here")
needs_avx2 = pytest.mark.skipif(
    numerics.instructions() not in (numerics.AVX2, numerics.AVX512), reason="the pins are for x86-64 with AVX2"
)
pytestmark = needs_avx2
# Some of the files, so that a probe that ends early does not pass for one that agrees.
COMPARED = {"linear/scores.csv", "dense/vae.safetensors", "conv/divergence.json", "kurtosis_terms.svg"}


def probe(folder, *arguments, emulated=None, environment=None):
    """The manifest of what the probe makes in `folder`."""
    # The interpreter by the path of its environment, not the resolved one, which would lose the environment.
    command = [sys.executable, PROBE, folder, *arguments]
    if emulated:
        command = [QEMU, "-cpu", emulated, *command]
    began = time.monotonic()
    done = subprocess.run(command, env=os.environ | (environment or {}), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    print(f"{emulated or 'native'}: {time.monotonic() - began:.0f} s\n{done.stdout}")
    return json.loads((folder / "manifest.json").read_text())


@needs_pretence
def test_a_pretended_processor_answers_by_its_table(tmp_path):
    program = tmp_path / "print_cpuid"
    subprocess.run(["cc", "-o", program, Path(__file__).parent / "print_cpuid.c"], check=True)
    added = pretend.environment("epyc", pretend.build(tmp_path))
    answers = subprocess.run([program], env=os.environ | added, capture_output=True, text=True, check=True).stdout
    assert answers == (Path(__file__).parent / "epyc.cpuid").read_text()


@needs_pretence
def test_everything_from_images_to_a_figure_has_the_same_bytes_on_a_pretended_processor(tmp_path):
    expected = probe(tmp_path / "native")
    assert expected.keys() >= COMPARED
    library = pretend.build(tmp_path)
    for name, processor in PROCESSORS.items():
        added = pretend.environment(processor.lower(), library)
        found = differences(expected, probe(tmp_path / processor, environment=added))
        assert found == [], f"on a pretended {name}: {found}"


@needs_qemu
def test_train_encode_and_moments_have_the_same_bytes_on_an_emulated_processor(tmp_path):
    expected = probe(tmp_path / "native", "--short")
    assert expected.keys() >= {"dense/vae.safetensors", "dense/posteriors.safetensors", "moments.csv"}
    # The vendor that this machine's is not would say more, but the pins leave the vendor no say: either will do.
    assert differences(expected, probe(tmp_path / "emulated", "--short", emulated="EPYC")) == []


@needs_qemu
@pytest.mark.slow
def test_everything_from_images_to_a_figure_has_the_same_bytes_on_an_emulated_processor(tmp_path):
    expected = probe(tmp_path / "native")
    assert expected.keys() >= COMPARED
    assert differences(expected, probe(tmp_path / "again")) == []
    for name, processor in PROCESSORS.items():
        found = differences(expected, probe(tmp_path / processor, emulated=processor))
        assert found == [], f"on an emulated {name}: {found}"
