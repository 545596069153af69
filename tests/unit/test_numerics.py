"""Every pin has its effect, in the test's own process and in a fresh one; none is a word that a library passes over."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from aggregated_posterior import numerics
from aggregated_posterior.numerics import PINS

ROOT = Path(__file__).resolve().parents[2]
needs_avx2 = pytest.mark.skipif(
    numerics.instructions() not in (numerics.AVX2, numerics.AVX512), reason="the pins are for x86-64 with AVX2"
)
# What each library says of itself once it is loaded; oneDNN has no words for it but its log.
PROBE = """
import sys
sys.path.insert(0, "scripts")
from aggregated_posterior import numerics
assert not {"numpy", "scipy", "torch", "pandas"} & set(sys.modules), "numerics must load before every numeric library"
numerics.apply(sys.argv[1])
import json, threadpoolctl, numpy, scipy.linalg, torch
from numpy._core import _multiarray_umath as umath
torch.ops.mkldnn._linear_pointwise(torch.ones(64, 64), torch.ones(64, 64), None, "none", [], "")
print(json.dumps({
    "aten": torch.backends.cpu.get_cpu_capability(),
    "openblas": sorted({pool["architecture"] for pool in threadpoolctl.threadpool_info() if "architecture" in pool}),
    "features": umath.__cpu_features__,
    "dispatch": umath.__cpu_dispatch__,
    "state": numerics.describe(),
}))
"""


def probe(mode, **environment):
    """What a fresh process says of its libraries, and oneDNN's log."""
    variables = {key: value for key, value in os.environ.items() if key not in PINS}
    command = [sys.executable, "-W", "error", "-c", PROBE, mode]
    done = subprocess.run(
        command, cwd=ROOT, env={**variables, **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    (found,) = [json.loads(line) for line in lines if line.startswith("{")]
    return found, [line for line in lines if line.startswith("onednn_verbose")]


@needs_avx2
def test_every_pin_has_its_effect_over_what_the_shell_had_set():
    found, log = probe(
        "portable",
        OPENBLAS_CORETYPE="Nehalem",
        ATEN_CPU_CAPABILITY="default",
        DNNL_MAX_CPU_ISA="SSE41",
        NPY_ENABLE_CPU_FEATURES="X86_V3",
        MKL_CBWR="AVX512",
        ONEDNN_VERBOSE="1",
    )
    assert found["aten"] == "AVX2"
    assert found["openblas"] == ["Haswell"]
    assert [name for name in found["dispatch"] if found["features"][name]] == ["X86_V3"]
    assert "onednn_verbose,v1,info,cpu,isa:Intel AVX2" in log
    assert found["state"] == {"mode": "portable", "pins": dict(sorted(PINS.items())), "instructions": numerics.AVX2}


@needs_avx2
def test_the_product_by_mkl_is_the_vendors_choice_no_more():
    # MKL says nowhere which path it took; its COMPATIBLE products differ from those of its AVX paths.
    script = (
        "import torch; torch.manual_seed(0); print((torch.rand(64, 512) @ torch.rand(512, 64)).double().sum().item())"
    )

    def product(**environment):
        variables = {key: value for key, value in os.environ.items() if key not in PINS}
        command = [sys.executable, "-c", script]
        return subprocess.run(command, env={**variables, **environment}, capture_output=True, check=True).stdout

    assert product(MKL_CBWR=PINS["MKL_CBWR"]) != product(MKL_CBWR="AVX2")


def test_numpy_knows_the_names_that_it_is_told_to_leave_out():
    # A newer NumPy that renames its features passes over the old names without a word.
    from numpy._core import _multiarray_umath as umath

    names = PINS["NPY_DISABLE_CPU_FEATURES"].split()
    assert set(names) <= umath.__cpu_features__.keys()
    if numerics.instructions() in (numerics.AVX2, numerics.AVX512):
        # All that NumPy has loops for beyond AVX2 (X86_V3).
        assert {name for name in umath.__cpu_dispatch__ if name != "X86_V3"} == set(names)


def test_native_takes_the_pins_away_and_leaves_the_users_own(monkeypatch):
    for name in (*PINS, "NPY_ENABLE_CPU_FEATURES"):
        monkeypatch.delenv(name, raising=False)
    numerics.apply("portable")
    assert {name: os.environ[name] for name in PINS} == PINS
    assert numerics.describe()["mode"] == "portable"
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Zen")
    assert numerics.describe()["mode"] == "native"
    numerics.apply("native")
    state = numerics.describe()
    assert state["pins"] == {"OPENBLAS_CORETYPE": "Zen"} and state["mode"] == "native"
    assert "native" in numerics.notice()
    with pytest.raises(ValueError, match="portable, native"):
        numerics.apply("fast")
    for name in PINS:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("machine", "flags", "expected"),
    [
        ("x86_64", "sse4_2 avx avx2 fma avx512f", numerics.AVX512),
        ("AMD64", "sse4_2 avx avx2 fma", numerics.AVX2),
        ("x86_64", "sse4_2 avx", "x86-64 without AVX2"),
        ("aarch64", "asimd", "aarch64"),
        ("x86_64", None, "x86-64, not known further"),
    ],
)
def test_a_machine_that_the_pins_are_not_made_for_gets_one_line(monkeypatch, tmp_path, machine, flags, expected):
    (tmp_path / "cpuinfo").write_text(f"processor : 0\nflags\t\t: {flags}\n")
    found = tmp_path / ("cpuinfo" if flags is not None else "absent")
    monkeypatch.setattr(numerics, "Path", lambda _: found)
    monkeypatch.setattr(numerics.platform, "machine", lambda: machine)
    for name, value in PINS.items():
        monkeypatch.setenv(name, value)
    assert numerics.instructions() == expected
    if expected in (numerics.AVX2, numerics.AVX512):
        # An AVX-512 processor computes with AVX2 under the pins, and says so: nothing tells the two apart.
        assert numerics.describe()["instructions"] == numerics.AVX2
        assert numerics.notice() is None
    else:
        assert expected in numerics.notice() and "\n" not in numerics.notice()


def test_the_tests_own_process_is_pinned(request):
    assert numerics.describe()["mode"] == request.config.getoption("--numerics")
    if request.config.getoption("--numerics") == "portable":
        from numpy._core import _multiarray_umath as umath

        # NumPy was not loaded before the pins were set.
        assert not any(umath.__cpu_features__.get(name) for name in PINS["NPY_DISABLE_CPU_FEATURES"].split())


def test_the_schemas_words_are_the_modules():
    schema = yaml.safe_load((ROOT / "workflow/schemas/config.schema.yaml").read_text())
    assert tuple(schema["properties"]["numerics"]["enum"]) == numerics.MODES
    assert schema["properties"]["numerics"]["default"] == "portable"


def test_ties_are_sorted_in_one_way_everywhere():
    # NumPy's unstable sort leaves equal numbers in an order that hangs on the processor, and sums follow it.
    pattern = re.compile(r"np\.argsort\((?:[^()]|\([^()]*\))*\)")
    calls = [
        f"{path.name}: {call}"
        for path in sorted((ROOT / "scripts").rglob("*.py"))
        for call in pattern.findall(path.read_text(encoding="utf-8"))
    ]
    assert len(calls) > 5
    assert [call for call in calls if 'kind="stable"' not in call] == []
