"""The project's own promises: one set of pins, layers, and no hidden dependence on this machine."""

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = sorted((ROOT / "scripts").glob("*.py"))
LIBRARY = sorted((ROOT / "scripts/aggregated_posterior").glob("*.py"))


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
    assert "snakemake." not in path.read_text() or path.name in {"figures_findings.py"}


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
        for block in re.split(r"^rule ", path.read_text(), flags=re.M)[1:]:
            name = block.split(":", 1)[0].strip()
            rules[name] = block
    assert len(rules) > 20
    verbs = {"download", "prepare", "train", "encode", "compute", "measure", "score", "collect", "check", "plot"}
    for name, block in rules.items():
        if "script:" not in block:
            continue
        assert name.split("_")[0] in verbs, name
        assert f"scripts/{name}.py" in block, name
        assert f"{name}/" in block or f"{name}.log" in block, name
        assert f'code("{name}")' in block, name
        assert "cache_key=cache_key" in block, name
    # Batches have one rule each, with a number in its name.
    assert {path.stem for path in SCRIPTS} - set(rules) == {"train_vae_batch"}


def test_imports_without_torch_where_arrays_are_enough():
    heavy = {"torch"}
    for name in ("mixture", "marginals", "divergence", "gauge", "uncertainty", "controls", "audit", "cli", "claims"):
        path = ROOT / "scripts/aggregated_posterior" / f"{name}.py"
        assert not imported(path) & heavy, name
