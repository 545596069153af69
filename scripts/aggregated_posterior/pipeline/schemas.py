"""The registry of data sets, and strict reading of YAML: a mistake becomes one line that names the key."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..storage import DataError

# What a reader needs to know of a data set, where it comes from and how its judges are trained do not change the arrays
# made from it.
PROSE = ("title", "licence", "citation", "hosts", "files", "judge")
# How a limit's breach reads after the value.
LIMITS = {
    "minimum": "is less than {}",
    "maximum": "is more than {}",
    "exclusiveMinimum": "is not more than {}",
    "exclusiveMaximum": "is not less than {}",
    "minItems": "has fewer than {} items",
    "maxItems": "has more than {} items",
    "minProperties": "has fewer than {} keys",
    "minLength": "is shorter than {} characters",
    "const": "is not {}",
}


def load_registry(path: str | Path, schema: str | Path) -> dict[str, dict[str, Any]]:
    """Read the registry of data sets and check it.

    Args:
        path: The YAML file, usually config/datasets.yaml.
        schema: The JSON schema (draft 2020-12, as YAML): workflow/schemas/datasets.schema.yaml.

    Returns:
        Data set name → entry, with the defaults of its kind filled in.

    Raises:
        DataError: A key is unknown, missing, doubled or has an impossible value, in one line that names it.
    """
    registry, rules = read_yaml(path), read_yaml(schema)
    check_schema(registry, rules, str(path))
    for dataset, entry in registry.items():
        for key, rule in rules["$defs"][entry["kind"]]["properties"].items():
            rule = rules["$defs"][rule["$ref"].rpartition("/")[2]] | rule if "$ref" in rule else rule
            if "default" in rule:
                entry.setdefault(key, rule["default"])
        names = entry.get("class_names")
        if names is not None and len(names) != entry["classes"]:
            raise DataError(f"{path}: {dataset}: {len(names)} class_names for {entry['classes']} classes")
    return registry


def without_prose(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The keys on which an entry's arrays depend: a better citation or another host must rerun nothing."""
    return {key: value for key, value in entry.items() if key not in PROSE}


def read_yaml(path: str | Path) -> Any:
    """Read one YAML document; raise `DataError` where it is none or has a key twice (YAML keeps the last)."""
    import yaml

    class Loader(yaml.SafeLoader):
        """The safe loader, except that it refuses a repeated key."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"):
                if key.value in seen:
                    line = key.start_mark.line + 1
                    raise DataError(f"{path}: line {line}: the key {key.value} appears twice; keep one")
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    try:
        with Path(path).open(encoding="utf-8") as stream:
            return yaml.load(stream, Loader)
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        cause = getattr(error, "problem", None) or (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path}: {line}is not valid YAML ({cause})") from None


def check_schema(document: Any, schema: Mapping[str, Any], source: str) -> None:
    """Check a document against a JSON schema (draft 2020-12).

    Args:
        document: What was read from a YAML or JSON file.
        schema: The schema.
        source: The file's name, for the message.

    Raises:
        DataError: The first mistake, unknown keys before wrong values, in one line that names the key.
    """
    import jsonschema

    errors = list(jsonschema.Draft202012Validator(schema).iter_errors(document))
    if errors:
        # A misspelt key is told before the missing key that it was meant to be.
        error = min(errors, key=lambda error: error.validator not in ("additionalProperties", "propertyNames"))
        place = ".".join(str(part) for part in error.absolute_path)
        raise DataError(f"{source}: {place + ': ' if place else ''}{_explain(error)}")


def _explain(error: Any) -> str:
    """Say in one line what a schema error means to the person who wrote the file."""
    value, allowed = error.instance, error.validator_value
    shown = repr(value) if len(repr(value)) <= 60 else repr(value)[:57] + "..."
    if error.validator == "additionalProperties":
        known = list(error.schema.get("properties", {}))
        unknown = sorted(str(key) for key in value if key not in known)
        return f"unknown key {', '.join(unknown)}; {_near(unknown[0], known)}allowed: {', '.join(known)}"
    if error.validator == "required":
        return f"the key {', '.join(key for key in allowed if key not in value)} is missing"
    if error.validator == "enum":
        choices = [str(choice) for choice in allowed]
        return f"{shown} is unknown; {_near(str(value), choices)}allowed: {', '.join(choices)}"
    if error.validator == "type":
        wanted = " or ".join([allowed] if isinstance(allowed, str) else allowed)
        return f"{shown} is not of type {wanted}{_yaml_trap(value, wanted)}"
    if error.validator == "pattern":
        return f"{shown} does not fit: {error.schema.get('description', f'text of the form {allowed}')}"
    if error.validator == "uniqueItems":
        return f"{shown} names something twice"
    if error.validator in LIMITS:
        return f"{shown} {LIMITS[error.validator].format(allowed)}"
    return " ".join(error.message.split())


def _near(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]}? " if close else ""


def _yaml_trap(value: Any, wanted: str) -> str:
    """Explain YAML 1.1's number trap: 1e-3 has no dot, so it is read as text."""
    if not isinstance(value, str) or not ("number" in wanted or "integer" in wanted):
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    if "e" in value.lower():
        return f": YAML reads {value} as text, write it with a dot and a sign: {number:.1e}"
    return ": write the number without quotes"
