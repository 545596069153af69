"""Write config/README.md from the schemas, so that it documents every key as it is checked: `make document`."""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

from aggregated_posterior.pipeline.schemas import read_yaml  # noqa: E402
from aggregated_posterior.storage import write_text  # noqa: E402

INTRODUCTION = """\
<!-- Made by `make document` from workflow/schemas/. Do not edit. -->

# Configuration

| file | what it holds |
| --- | --- |
| `config.yaml` | the default experiment: scikit-learn's digits, no download, 8 minutes on two cores |
| `mnist.yaml` | the replication on MNIST, laid over `config.yaml` |
| `fashion_mnist.yaml`, `*_conv.yaml` | the same on data, and with an architecture, that had not been seen before |
| `*_regauging.yaml` | cells of these beside training without re-gauging between epochs; on MNIST ablations too |
| `batches.yaml` | laid over another one, trains its models many at once on a GPU |
| `datasets.yaml` | the data sets that a sweep may name, and your own |
| `plotting.yaml` | how figures look; a change redraws figures and reruns nothing else |
| `claims.yaml` | claims and thresholds, fixed before the sweep ran |

For an experiment of your own, copy `config.yaml`, give it another `experiment` name and run
`snakemake --cores 8 --configfile config/mine.yaml`. The file is laid over `config.yaml`: a key that you leave out keeps
the value it has there, a list that you give takes the place of the whole list. All files are checked before any job
starts; a mistake is one line that names the key and what is allowed.

A small experiment, with a sweep of eight models:

```yaml
experiment: mine
sweeps:
  - datasets: [digits]
    architectures: [dense]
    latent_dims: [2, 8]
    kl_weights: [0.5, 2]
    seeds: [0, 1]
training:
  epochs: 50
```

YAML reads `1e-3` as text: write `1.0e-3` or `0.001`. KL weights are written as they shall appear in paths (`1` and
`1.0` are two spellings of one number, and only one may be used). A change of any key under `training` retrains the
models that it concerns; `statistics`, `samplers` and `judges` rerun what they name; `mirror` reruns nothing.

In the tables below, `[]` stands for each entry of a list and `*` for each of several keys with the same meaning.

"""
SECTIONS = (
    ("config.schema.yaml", "An experiment: `config.yaml`, `mnist.yaml` and your own"),
    ("datasets.schema.yaml", "Data sets: `datasets.yaml`"),
    ("plotting.schema.yaml", "Figures: `plotting.yaml`"),
    ("claims.schema.yaml", "Claims: `claims.yaml`"),
)
BOUNDS = {
    "minimum": "≥ {}",
    "exclusiveMinimum": "> {}",
    "maximum": "≤ {}",
    "exclusiveMaximum": "< {}",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
}


def written(value: Any) -> str:
    """A value as it is written in YAML."""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list):
        return f"`[{', '.join(str(item) for item in value)}]`"
    return "`null`" if value is None else "`{}`" if value == {} else f"`{value}`"


def kind(rule: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """What values a key takes, in words."""
    rule = followed(rule, root)
    if "enum" in rule:
        return " or ".join(written(value) for value in rule["enum"])
    if "const" in rule:
        return written(rule["const"])
    types = rule.get("type", "any")
    text = " or ".join([types] if isinstance(types, str) else types).replace("object", "mapping")
    if "items" in rule and text == "array":
        text = f"list of {kind(rule['items'], root)}"
    elif "prefixItems" in rule:
        text = "list of (" + "; ".join(kind(item, root) for item in rule["prefixItems"]) + ")"
    bounds = [form.format(rule[key]) for key, form in BOUNDS.items() if key in rule]
    if "minItems" in rule and rule.get("minItems") == rule.get("maxItems"):
        bounds = [f"{rule['minItems']} items"]
    # One item at least goes without saying.
    bounds = [bound for bound in bounds if bound != "at least 1 items"]
    return f"{text}, {', '.join(bounds)}" if bounds else text


def followed(rule: Mapping[str, Any], root: Mapping[str, Any]) -> Mapping[str, Any]:
    """A rule with its reference filled in; what stands beside a reference goes before."""
    if "$ref" not in rule:
        return rule
    target: Any = root
    for part in rule["$ref"].removeprefix("#/").split("/"):
        target = target[part]
    return {**target, **{key: value for key, value in rule.items() if key != "$ref"}}


def keys(rule: Mapping[str, Any], root: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """(key, values, default, meaning) of every key below a rule, at every depth."""
    required = rule.get("required", [])
    properties = rule.get("properties", {})
    if len(properties) > 2 and all(each == next(iter(properties.values())) for each in properties.values()):
        each = followed(next(iter(properties.values())), root)
        names = ", ".join(f"`{name}`" for name in properties)
        each = {**each, "description": f"{' '.join(each['description'].split())} Keys: {names}."}
        properties, required = {"*": each}, ["*"]
    for name, each in properties.items():
        reference = each.get("$ref", "")
        each = followed(each, root)
        place = f"{prefix}{name}"
        default = written(each["default"]) if "default" in each else "required" if name in required else "–"
        nested = each.get("items", {}) if each.get("type") == "array" else each
        below = list(keys(nested, root, f"{place}{'[]' if each.get('type') == 'array' else ''}."))
        if reference.startswith("#/properties/"):
            # A sweep's own `training` has the keys of `training`, each absent unless it is written.
            below, default = [], "–"
        values = (
            "mapping" if below and each.get("type") == "object" else "list of mappings" if below else kind(each, root)
        )
        yield place, values, default, " ".join(str(each.get("description", "")).split())
        yield from below


def table(rule: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """A rule's keys as a Markdown table."""
    lines = ["| key | values | default | meaning |", "| --- | --- | --- | --- |"]
    for place, values, default, meaning in keys(rule, root):
        cells = (f"`{place}`", values, default, meaning)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def document(schemas: Path) -> str:
    """The text of config/README.md."""
    text = INTRODUCTION
    for file, title in SECTIONS:
        schema = read_yaml(schemas / file)
        text += f"## {title}\n\n{' '.join(schema['description'].split())}\n\n"
        if "$defs" not in schema:
            text += table(schema, schema) + "\n"
            continue
        for name in schema["$defs"]["entry"]["properties"]["kind"]["enum"]:
            entry = schema["$defs"][name]
            text += f"### `kind: {name}`\n\n{' '.join(entry['description'].split())}\n\n{table(entry, schema)}\n"
    return text.rstrip() + "\n"


if __name__ == "__main__":
    write_text(ROOT / "config/README.md", document(ROOT / "workflow/schemas"))
