"""config/README.md is what the schemas say, names every key, and its example runs."""

import importlib.util
import re
from pathlib import Path

import pytest

from aggregated_posterior.pipeline.configuration import cells, validate
from aggregated_posterior.pipeline.schemas import load_registry, read_yaml

ROOT = Path(__file__).resolve().parents[3]
SCHEMAS = ROOT / "workflow/schemas"
README = ROOT / "config/README.md"


def load(name):
    specification = importlib.util.spec_from_file_location(name, ROOT / f"tools/{name}.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_it_is_current():
    assert README.read_text(encoding="utf-8") == load("document_config").document(SCHEMAS), "run `make document`"


@pytest.mark.parametrize("name", ["config", "plotting", "datasets", "claims"])
def test_every_key_that_a_file_of_ours_uses_is_documented(name):
    text = README.read_text(encoding="utf-8")
    documented = set(re.findall(r"^\| `([^`]+)` \|", text, flags=re.M))
    words = {part.removesuffix("[]") for key in documented for part in key.split(".")}
    # Keys that share one row are listed in it.
    listed = {
        name for row in re.findall(r"^\|.* Keys: (.*) \|$", text, flags=re.M) for name in re.findall(r"`([^`]+)`", row)
    }

    def keys(content):
        if isinstance(content, dict):
            for key, value in content.items():
                yield key
                yield from keys(value)
        elif isinstance(content, list):
            for value in content:
                yield from keys(value)

    content = read_yaml(ROOT / f"config/{name}.yaml")
    if name == "datasets":
        # Their names are the user's to choose.
        content = list(content.values())
    assert not set(keys(content)) - words - listed


def test_every_key_has_a_meaning():
    rows = re.findall(r"^\| `[^`]+` \|.*\|$", README.read_text(encoding="utf-8"), flags=re.M)
    assert len(rows) > 80
    for row in rows:
        meaning = re.split(r"(?<!\\)\|", row)[4].strip() if row.count("|") > 4 else "file"
        assert len(meaning) >= 4, row


def test_its_example_is_a_valid_experiment_of_eight_models(tmp_path):
    example = re.search(r"```yaml\n(.*?)```", README.read_text(encoding="utf-8"), re.S).group(1)
    (tmp_path / "mine.yaml").write_text(example)
    content = validate(read_yaml(tmp_path / "mine.yaml"), read_yaml(SCHEMAS / "config.schema.yaml"), "mine.yaml")
    registry = load_registry(ROOT / "config/datasets.yaml", SCHEMAS / "datasets.schema.yaml")
    assert len(cells(content, registry)) == 8
