"""The project's own promises: one set of pins, layers, and no hidden dependence on this machine."""

import ast
import importlib
import re
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
LIBRARY = sorted((ROOT / "scripts/aggregated_posterior").rglob("*.py"))


def pins(name: str) -> set[str]:
    return {line for line in (ROOT / name).read_text().splitlines() if re.match(r"^[a-z0-9]", line)}


def test_conda_and_pip_have_the_same_pins():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    by_pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert set(by_pip) == pins("requirements.txt")
    assert environment["dependencies"][0] == "python=3.11"


def test_the_tests_lock_extends_the_pipelines_lock():
    assert pins("requirements.txt") <= pins("requirements-dev.txt")


def test_pins_that_must_hold():
    locked = pins("requirements.txt")
    assert "torch==2.13.0" in locked
    assert any(re.fullmatch(r"snakemake==9\.\d+(\.\d+)?", pin) for pin in locked)
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", pin) for pin in locked)


@pytest.mark.parametrize("stopped", [False, True])
def test_an_interrupted_lock_leaves_the_old_one(tmp_path, monkeypatch, stopped):
    monkeypatch.syspath_prepend(ROOT / "tools")
    tool = importlib.import_module("lock")

    def compile_(command, **_):
        made = Path(command[command.index("--output-file") + 1])
        assert made.read_text() == "numpy==1.0\n"
        made.write_text("torch==2.0+cpu\nnumpy==2.0\n")
        if stopped:
            raise KeyboardInterrupt

    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool.subprocess, "run", compile_)
    path = tmp_path / "requirements.txt"
    path.write_text("numpy==1.0\n")
    with pytest.raises(KeyboardInterrupt) if stopped else nullcontext():
        tool.lock("requirements.txt")
    assert path.read_text() == ("numpy==1.0\n" if stopped else tool.HEADER + "numpy==2.0\ntorch==2.0\n")
    assert [*tmp_path.iterdir()] == [path]


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names.add((node.module or "").split(".")[0])
    return names


@pytest.mark.parametrize("path", LIBRARY, ids=lambda path: path.name)
def test_the_library_knows_nothing_of_snakemake_nor_of_pickle(path):
    assert not imported(path) & {"snakemake", "pickle", "joblib", "dill", "cloudpickle"}
    assert "snakemake." not in path.read_text()


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_short_and_read_only_what_the_rule_gives(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 60, "a script holds no mathematics"
    for forbidden in ("snakemake.config", "snakemake.wildcards", "pickle"):
        assert forbidden not in text
    assert 'if __name__ == "__main__":' in text
    assert "script_log(snakemake.log[0])" in text


def test_every_rule_has_a_script_and_a_log_of_its_name():
    rules = {}
    for path in sorted((ROOT / "workflow/rules").glob("*.smk")):
        text = path.read_text()
        assert re.match(r"# .*\n(#.*\n)*#   needs  .*\n(#.*\n)*#   makes  ", text) or path.name == "common.smk", (
            f"{path.name} opens with what it needs and makes"
        )
        for block in re.split(r"^rule ", text, flags=re.M)[1:]:
            rules[block.split(":", 1)[0].strip()] = block
    verbs = {"download", "prepare", "train", "encode", "compute", "measure", "score", "collect", "check", "plot"}
    for name, block in rules.items():
        if "script:" not in block:
            continue
        assert name.split("_")[0] in verbs, name
        assert f"scripts/{name}.py" in block, name
        assert f"{name}/" in block or f"{name}.log" in block, name
        assert f'keyed("{name}")' in block, name
    # Figures have one rule each, made in a loop over a table of their names.
    figures = (ROOT / "workflow/rules/figures.smk").read_text()
    drawn = {f"plot_{name}" for name in re.findall(r'^    "(\w+)": \(', figures, flags=re.M)}
    assert all(part in figures for part in ('f"plot_{figure_name}"', 'script=f"plot_{figure_name}.py"'))
    # Batches have one rule each, with a number in its name.
    assert {path.stem for path in SCRIPTS} - {*rules, *drawn} == {"train_vae_batch"}


# From the ground up: a room knows those before it and none after it.
ROOMS = ("posterior", "statistics", "data", "model", "generation", "evidence", "figures", "audit", "pipeline")


def room_of(path: Path) -> str:
    inside = path.relative_to(ROOT / "scripts/aggregated_posterior").parts
    return inside[0] if len(inside) > 1 else ""


@pytest.mark.parametrize(
    "path", [path for path in LIBRARY if room_of(path)], ids=lambda path: path.parent.name + "/" + path.name
)
def test_arrows_between_rooms_go_downwards(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert not (node.module or "").startswith("aggregated_posterior"), "imports inside the package are relative"
        if isinstance(node, ast.ImportFrom) and node.level == 2:
            other = (node.module or "").split(".")[0]
            if other in ROOMS:
                assert ROOMS.index(other) < ROOMS.index(room_of(path)), f"{room_of(path)} imports {other}"
            else:
                assert other in {"storage", "streams", "text", "_version"}, other


def test_the_tests_lie_in_rooms_of_the_same_names():
    here = {path.name for path in (ROOT / "tests/unit").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert here == {*ROOMS, "project"}


def test_the_public_door_opens_without_torch_and_scikit_learn():
    code = (
        "import sys, aggregated_posterior as a; assert not {'torch', 'sklearn', 'numpy'} & set(sys.modules)\n"
        "from aggregated_posterior import AggregatedPosterior, audit\n"
        "import aggregated_posterior.audit.cli, aggregated_posterior.audit.report\n"
        "from aggregated_posterior import audit as again\n"
        "import numpy as np; m = np.random.default_rng(1).normal(size=(50, 1))\n"
        "assert again(.6 * m, np.full((50, 1), .64)).summary == audit(.6 * m, np.full((50, 1), .64)).summary\n"
        "assert 'torch' not in sys.modules and a.__version__\n"
        "try: a.nothing\nexcept AttributeError as error: assert 'it offers' in str(error)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT / "scripts")
