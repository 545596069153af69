"""The registry of data sets, and strict reading of YAML: a mistake becomes one line that names the key."""

from __future__ import annotations

import datetime
import difflib
import functools
import itertools
import math
import re
import reprlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..storage import DataError
from ..text import listed, reason, shortened, visible

# No configuration comes near these; a file that does is a mistake, or made to fill the memory.
LARGEST_FILE = 1024**2
MOST_VALUES = 100_000
LARGEST_NUMBER = 2**63
# Bits of an integer that Python still writes in decimal digits for a message.
LONGEST_INTEGER = 14_000
MOST_ERRORS = 1_000
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
    "maxLength": "is longer than {} characters",
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
    """Read one YAML document of plain values.

    Raises:
        DataError: One line that names file and line: it cannot be read, is larger than `LARGEST_FILE`, is no UTF-8 or
            no YAML; it has a key twice (YAML keeps the last), a number that YAML 1.1 reads in base 8 or 60, or aliases
            that refer to themselves or multiply beyond `MOST_VALUES` values.
    """
    import yaml

    # The last three are PyYAML's own answers to a tag before what it does not fit, as in `!!bool maybe`.
    no_value = (yaml.YAMLError, ValueError, TypeError, OverflowError, KeyError, IndexError, AttributeError)
    try:
        return _load(_text_of(Path(path)))
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({reason(error)})") from None
    except RecursionError:
        raise DataError(f"{path}: is not valid YAML (its brackets are nested too deeply)") from None
    except no_value as error:
        mark = getattr(error, "problem_mark", None)
        line = f"line {mark.line + 1}: " if mark else ""
        raise DataError(
            f"{path}: {line}is not valid YAML ({getattr(error, 'problem', None) or reason(error)})"
        ) from None


def _text_of(path: Path) -> str:
    if path.exists() and not path.is_file():
        raise DataError("is not a file; name a YAML file")
    with path.open("rb") as stream:
        content = stream.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise DataError(f"is larger than {LARGEST_FILE:,} bytes, which no configuration is")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        guess = "UTF-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else f"byte {error.start} is no UTF-8"
        raise DataError(f"is not UTF-8 text ({guess}); save it as UTF-8") from None


def _load(text: str) -> Any:
    import yaml

    class Loader(yaml.SafeLoader):
        """The safe loader, except that it refuses a repeated key and numbers that are not what they look like."""

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"):
                if key.value in seen:
                    raise DataError(f"line {key.start_mark.line + 1}: the key {key.value} appears twice; keep one")
                seen.add(key.value)
            return super().construct_mapping(node, deep)

        def plain_number(self, node: yaml.ScalarNode) -> int | float:
            # Not node.value, which is a list where `!!int` stands before a list.
            digits = self.construct_scalar(node).replace("_", "").lstrip("+-")
            base = 60 if ":" in digits else 8 if digits.isdigit() and len(digits) > 1 and digits[0] == "0" else None
            if base is not None:
                raise DataError(
                    f"line {node.start_mark.line + 1}: YAML reads {node.value} in base {base}; write the number in "
                    "decimal digits without a leading zero, or in quotes if it is text"
                )
            if not node.tag.endswith(":int"):
                return self.construct_yaml_float(node)
            number = self.construct_yaml_int(node)
            if number.bit_length() > LONGEST_INTEGER:
                raise DataError(f"line {node.start_mark.line + 1}: an integer is larger than anything here can be")
            return number

    for kind in ("int", "float"):
        Loader.add_constructor(f"tag:yaml.org,2002:{kind}", Loader.plain_number)
    loader = Loader(text)
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _count_values(root, {})
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _count_values(node: Any, known: dict[Any, int | None]) -> int:
    """How many values a node stands for once every alias in it has been replaced by what it names."""
    import yaml

    if node in known:
        if known[node] is None:
            raise DataError(f"line {node.start_mark.line + 1}: an alias refers to what it is part of")
        return known[node]
    known[node] = None
    count = 1
    if isinstance(node, yaml.SequenceNode):
        count += sum(_count_values(item, known) for item in node.value)
    elif isinstance(node, yaml.MappingNode):
        count += sum(_count_values(part, known) for pair in node.value for part in pair)
    if count > MOST_VALUES:
        raise DataError(
            f"line {node.start_mark.line + 1}: stands for more than {MOST_VALUES:,} values (an alias counts as what it "
            "names)"
        )
    known[node] = count
    return count


def check_schema(document: Any, schema: Mapping[str, Any], source: str | Sequence[tuple[str, Any]]) -> None:
    """Check a document against a JSON schema (draft 2020-12), that its numbers are finite and its texts can be shown.

    Stricter than JSON schema in two ways that a reader of YAML expects: 1.0 is no integer, and a pattern's end is the
    text's end, not the place before a last line break.

    Args:
        document: What was read from a YAML or JSON file, or from several that were merged.
        schema: The schema.
        source: The file's name, for the message; or the name and content of every file, later ones going before.

    Raises:
        DataError: The first mistake, unknown keys before wrong values, in one line that names file and key.
    """
    for place, value in _values(document, ()):
        if isinstance(value, str):
            if problem := _harm(value):
                raise _mistake(source, place, f"{_shown(value)} has {problem}")
            continue
        if isinstance(value, float) and not math.isfinite(value):
            raise _mistake(source, place, f"{value} is no number to count with; write a finite one")
        if abs(value) > LARGEST_NUMBER:
            raise _mistake(source, place, f"{_shown(value)} is larger than anything here can be")
    errors = list(itertools.islice(_validator()(schema).iter_errors(document), MOST_ERRORS))
    if errors:
        # A misspelt key is told before the missing key that it was meant to be.
        error = min(errors, key=lambda error: error.validator not in ("additionalProperties", "propertyNames"))
        place = tuple(error.absolute_path)
        unknown = _unknown_keys(error)[:1]
        raise _mistake(source, place, _explain(error), (*place, *unknown))


def attributed(place: Sequence[Any], documents: Sequence[tuple[str, Any]]) -> str:
    """Which of several merged files a place in the result comes from: the last one that has it.

    Args:
        place: Keys and positions from the top, as ("sweeps", 0, "seeds").
        documents: Name and content of each file, in the order in which they were merged.

    Returns:
        The file's name. Where none has the place, that of the last which has most of it: there a key is missing.
    """

    def depth(document: Any) -> int:
        for number, key in enumerate(place):
            try:
                document = document[key]
            except (KeyError, IndexError, TypeError):
                return number
        return len(place)

    return max(reversed(documents), key=lambda named: depth(named[1]))[0]


def _mistake(
    source: str | Sequence[tuple[str, Any]], place: Sequence[Any], explanation: str, blamed: Sequence[Any] | None = None
) -> DataError:
    name = source if isinstance(source, str) else attributed(place if blamed is None else blamed, source)
    where = ".".join(str(part) for part in place)
    return DataError(f"{name}: {where + ': ' if where else ''}{explanation}")


def _values(document: Any, place: tuple[Any, ...]) -> Iterator[tuple[tuple[Any, ...], int | float | str]]:
    """Every number and text of a document, keys included, with its place."""
    if isinstance(document, Mapping):
        for key, value in document.items():
            if isinstance(key, str):
                yield place, key
            yield from _values(value, (*place, key))
    elif isinstance(document, list):
        for position, value in enumerate(document):
            yield from _values(value, (*place, position))
    elif isinstance(document, int | float | str) and not isinstance(document, bool):
        yield place, document


def _harm(text: str) -> str | None:
    """Say what in a text could act where it is shown; a report keeps settings within an HTML script."""
    if visible(text.replace("\n", " "), len(text)) != text.replace("\n", " "):
        return "characters that cannot be shown; remove them"
    if "</" in text or "<!--" in text:
        return "the end of an HTML element in it; write it without </ and <!--"
    return None


@functools.cache
def _validator() -> Any:
    import jsonschema

    def pattern(_: Any, expression: str, value: Any, __: Any) -> Iterator[Any]:
        ends = expression.endswith("$") and isinstance(value, str) and value.endswith("\n")
        if isinstance(value, str) and (ends or not re.search(expression, value)):
            yield jsonschema.ValidationError(f"{value!r} does not fit")

    base = jsonschema.Draft202012Validator
    types = base.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    )
    return jsonschema.validators.extend(base, {"pattern": pattern}, type_checker=types)


def _unknown_keys(error: Any) -> list[str]:
    if error.validator != "additionalProperties":
        return []
    return sorted(str(key) for key in error.instance if key not in error.schema.get("properties", {}))


def _shown(value: Any) -> str:
    brief = reprlib.Repr()
    brief.maxstring = brief.maxlong = brief.maxother = 60
    return shortened(brief.repr(value), 60)


def _explain(error: Any) -> str:
    """Say in one line what a schema error means to the person who wrote the file."""
    value, allowed = error.instance, error.validator_value
    shown = _shown(value)
    if error.validator == "additionalProperties":
        known, unknown = list(error.schema.get("properties", {})), _unknown_keys(error)
        return f"unknown key {listed(unknown)}; {_near(unknown[0], known)}allowed: {', '.join(known)}"
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
    return shortened(" ".join(error.message.split()), 200)


def _near(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word[:60], known, n=1)
    return f"did you mean {close[0]}? " if close else ""


def _yaml_trap(value: Any, wanted: str) -> str:
    """Explain what YAML 1.1 makes of what was written: 1e-3 has no dot, so it is read as text."""
    if "string" in wanted and isinstance(value, bool | datetime.date):
        return f": YAML reads it as {'yes or no' if isinstance(value, bool) else 'a date'}, put it in quotes"
    if isinstance(value, float) and "integer" in wanted and value.is_integer():
        return f": write {value:.0f}"
    if not isinstance(value, str) or len(value) > 60 or not ("number" in wanted or "integer" in wanted):
        return ""
    try:
        number = float(value)
    except ValueError:
        return ""
    if "e" in value.lower():
        return f": YAML reads {value} as text, write it with a dot and a sign: {number:.1e}"
    return ": write the number without quotes"
