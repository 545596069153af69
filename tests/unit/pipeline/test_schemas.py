"""Strict reading: whatever a file holds, a right document or one short line that names file and place."""

import datetime
import time
from pathlib import Path

import pytest
from tools.check_config import check_config

from aggregated_posterior.pipeline.configuration import cells, validate
from aggregated_posterior.pipeline.schemas import attributed, check_schema, load_registry, read_yaml
from aggregated_posterior.storage import DataError

from ..nasty import NASTY

ROOT = Path(__file__).resolve().parents[3]
SCHEMAS = {path.name.split(".")[0]: read_yaml(path) for path in (ROOT / "workflow/schemas").glob("*.yaml")}
SWEEP = "sweeps: [{datasets: [digits], architectures: [dense], latent_dims: [2], kl_weights: [1], seeds: [0]}]\n"
BOMB = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{last}'] * 10)}]\n" for last, name in zip("abcdefgh", "bcdefghi", strict=True)
)
HOSTILE = {
    "aliases that multiply": (BOMB, "more than 100,000 values"),
    "mappings that multiply": (BOMB.replace("[", "{").replace("]", "}"), "more than 100,000 values"),
    "an alias within itself": ("training: &t\n  x: *t\n", "refers to what it is part of"),
    "nested brackets": ("training: " + "[" * 9_000, "nested too deeply"),
    "closed nested brackets": ("training: " + "[" * 9_000 + "]" * 9_000, "nested too deeply"),
    "base 60": ("training: {epochs: 1:30}", "base 60"),
    "base 60 with a point": ("training: {learning_rate: 1:30.5}", "base 60"),
    "base 8": ("training: {epochs: 010}", "base 8"),
    "a date": ("experiment: 2026-01-01", "a date, put it in quotes"),
    "yes": ("experiment: yes", "put it in quotes"),
    "a number as a name": ("experiment: 7", "not of type string"),
    "a float for an integer": ("training: {epochs: 3.0}", "write 3"),
    "nan": ("statistics: {active_threshold: .nan}", "write a finite one"),
    "infinity": ("training: {decoder_variance: .inf}", "write a finite one"),
    "minus infinity in a list": (SWEEP.replace("[1]", "[-.inf]"), "sweeps.0.kl_weights.0"),
    "an integer beyond all": (f"training: {{epochs: {'9' * 4000}}}", "larger than anything"),
    "an integer that Python refuses": (f"training: {{epochs: {'9' * 5000}}}", "4300 digits"),
    "an integer of 50 000 hexadecimal digits": (f"mirror: 0x{'f' * 50_000}", "line 1: an integer is larger than"),
    "such an integer as a key": (f"? 0x{'f' * 50_000}\n: a", "line 1: an integer is larger than"),
    "a mapping for an integer": ("mirror: !!int {a: 1}", "line 1: is not valid YAML"),
    "nothing for an integer": ('mirror: !!int ""', "is not valid YAML"),
    "another word for yes or no": ("mirror: !!bool maybe", "is not valid YAML"),
    "another word for a date": ("mirror: !!timestamp abc", "is not valid YAML"),
    "a line break at the end": ('experiment: "a\\n"', "does not fit"),
    "a name of 300 characters": (f"experiment: {'x' * 300}", "longer than 64"),
    "a NUL": ('mirror: "a\\0b"', "mirror"),
    "a tag that runs code": ("mirror: !!python/object/apply:os.system [id]", "could not determine a constructor"),
    "Snakemake's templates": ("__use_yte__: true\nmirror: ?1+1", "unknown key __use_yte__"),
    "a key that is a list": ("? [1, 2]\n: 3", "unhashable"),
    "a key that is a number": ("3: 4", "unknown key 3"),
    "a key twice": ("mirror: a\nmirror: b", "twice"),
    "3 000 keys": ("".join(f"key{number}: 1\n" for number in range(3000)), "and 2,990 more"),
    "escape codes": ("mirror: \x1b[31m", "special characters"),
    "nothing": ("", "not of type object"),
    "a list": ("- a", "not of type object"),
    "UTF-16": ("experiment: a".encode("utf-16"), "UTF-16"),
    "not UTF-8": (b"experiment: \xff", "byte 12 is no UTF-8"),
    "a large file": (b"# " + b"x" * 2_000_000, "larger than 1,048,576 bytes"),
    "no YAML": ("a: [1, 2\nb: ]: {", "line"),
    "tabs": ("training:\n\tepochs: 1", "line 2"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_configurations_are_one_short_line_at_once(tmp_path, case):
    content, said = HOSTILE[case]
    path = tmp_path / "mine.yaml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    started = time.process_time()
    with pytest.raises(DataError) as caught:
        check_config(str(path))
    told = str(caught.value)
    assert said in told and told.startswith(str(path)) and told.isprintable() and len(told) < 700
    assert time.process_time() - started < 5


def test_folders_loops_and_missing_files_are_one_line(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for path in (tmp_path, loop, tmp_path / "missing", "/dev/zero", tmp_path / "a\0b", tmp_path / ("x" * 300)):
        with pytest.raises(DataError):
            read_yaml(path)


def test_aliases_that_do_not_multiply_are_read(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: &a {epochs: 3}\nb: *a\nc: {<<: *a, batch_size: 2}\n")
    assert read_yaml(path) == {"a": {"epochs": 3}, "b": {"epochs": 3}, "c": {"epochs": 3, "batch_size": 2}}


def test_numbers_that_mean_what_they_look_like_are_read(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("[0, 10, -3, 0.5, 1.0e-3, 0x1f, 1_000, 0.010, '010', '1:30']\n")
    assert read_yaml(path) == [0, 10, -3, 0.5, 1e-3, 31, 1000, 0.01, "010", "1:30"]


def numeric_bounds(schema, place=()):
    """Every place in a schema where a number is allowed, with its keyword."""
    if isinstance(schema, dict):
        kinds = schema.get("type", [])
        if {"number", "integer"} & set([kinds] if isinstance(kinds, str) else kinds):
            yield place
        for key, value in schema.items():
            yield from numeric_bounds(value, (*place, key))
    elif isinstance(schema, list):
        for position, value in enumerate(schema):
            yield from numeric_bounds(value, (*place, position))


def at(schema, place):
    for key in place:
        schema = schema[key]
    return schema


@pytest.mark.parametrize(
    ("name", "place"), [(name, place) for name, schema in SCHEMAS.items() for place in numeric_bounds(schema)]
)
def test_no_bound_of_any_schema_lets_nan_or_infinity_pass(name, place):
    rule = at(SCHEMAS[name], place)
    for value in (float("nan"), float("inf"), -float("inf"), 10**400):
        with pytest.raises(DataError, match=r"finite|larger"):
            check_schema(value, {"$defs": SCHEMAS[name].get("$defs", {}), **rule}, "a.yaml")


def patterns(schema):
    if isinstance(schema, dict):
        if isinstance(schema.get("pattern"), str):
            yield schema["pattern"]
        for value in schema.values():
            yield from patterns(value)
    elif isinstance(schema, list):
        for value in schema:
            yield from patterns(value)


@pytest.mark.parametrize("pattern", sorted({found for schema in SCHEMAS.values() for found in patterns(schema)}))
@pytest.mark.parametrize("nasty", ["newline", "nul", "escape code", "raw directive"])
def test_no_pattern_lets_control_characters_pass(pattern, nasty):
    for text in (NASTY[nasty], f"a{NASTY[nasty]}", "a\n", f"https://a{NASTY[nasty]}/"):
        with pytest.raises(DataError):
            check_schema(text, {"type": "string", "pattern": pattern}, "a.yaml")


def test_every_text_of_a_configuration_is_restricted():
    def walk(schema, place):
        kinds = schema.get("type", [])
        if "string" in ([kinds] if isinstance(kinds, str) else kinds):
            assert "pattern" in schema or place == "config.sweeps[].datasets[]", place
        for key, rule in schema.get("properties", {}).items():
            walk(rule, f"{place}.{key}")
        if "items" in schema:
            walk(schema["items"], f"{place}[]")

    # A data set is looked up in the registry, whose names are restricted.
    walk(SCHEMAS["config"], "config")
    walk(SCHEMAS["plotting"], "plotting")


DOCUMENTS = [
    ("config/config.yaml", {"experiment": "a", "training": {"epochs": 1, "batch_size": 2}, "sweeps": [1, 2, 3]}),
    ("mine.yaml", {"training": {"epochs": "x"}, "sweeps": [{"seeds": [0.0]}]}),
    ("--config", {"mirror": 3}),
]


@pytest.mark.parametrize(
    ("place", "name"),
    [
        (("training", "epochs"), "mine.yaml"),
        (("training", "batch_size"), "config/config.yaml"),
        (("sweeps", 0, "seeds", 0), "mine.yaml"),
        (("mirror",), "--config"),
        (("experiment",), "config/config.yaml"),
        (("sweeps", 0, "datasets"), "mine.yaml"),
    ],
)
def test_a_mistake_is_found_in_the_file_that_it_came_from(place, name):
    assert attributed(place, DOCUMENTS) == name


def test_a_schema_error_names_the_users_own_file_and_key():
    theirs = {"training": {"epochs": 0, "epoch": 1}}
    files = [("config/config.yaml", {"experiment": "a", "training": {"batch_size": 2}}), ("mine.yaml", theirs)]
    merged = {"experiment": "a", "training": {"batch_size": 2, **theirs["training"]}}
    with pytest.raises(DataError, match=r"^mine\.yaml: training: unknown key epoch; did you mean epochs"):
        validate(merged, SCHEMAS["config"], files)
    del merged["training"]["epoch"]
    with pytest.raises(DataError, match=r"^mine\.yaml: training\.epochs: 0 is less than 1"):
        validate(merged, SCHEMAS["config"], files)
    with pytest.raises(DataError, match=r"^config/config\.yaml: training\.batch_size"):
        validate({"experiment": "a", "training": {"batch_size": 0}}, SCHEMAS["config"], files)


def test_too_many_models_are_refused_before_they_are_listed():
    datasets = load_registry(ROOT / "config/datasets.yaml", ROOT / "workflow/schemas/datasets.schema.yaml")
    sweep = {
        "datasets": ["digits"],
        "architectures": ["dense"],
        "latent_dims": list(range(1, 4000)),
        "kl_weights": [0.001 * number for number in range(1, 4000)],
        "seeds": list(range(4000)),
    }
    content = validate({"experiment": "a", "sweeps": [sweep]}, SCHEMAS["config"], "a.yaml")
    with pytest.raises(DataError, match="more than 100,000"):
        cells(content, datasets)


def test_a_folder_in_place_of_posteriors_is_found_at_once(tmp_path):
    entry = {"name": "theirs", "file": str(tmp_path), "latent_dim": 2}
    content = validate({"experiment": "a", "external_posteriors": [entry]}, SCHEMAS["config"], "a.yaml")
    with pytest.raises(DataError, match="is a folder"):
        cells(content, {})
    entry["file"] = "x" * 4000
    content = validate({"experiment": "a", "external_posteriors": [entry]}, SCHEMAS["config"], "a.yaml")
    with pytest.raises(DataError, match="File name too long"):
        cells(content, {})


@pytest.mark.parametrize("nasty", NASTY)
def test_no_nasty_string_becomes_part_of_a_configuration(nasty):
    entry = {"name": "theirs", "file": "x.npz", "latent_dim": 2, "likelihood": NASTY[nasty]}
    for content in (
        {"experiment": NASTY[nasty]},
        {"experiment": "a", "external_posteriors": [entry]},
        {"experiment": "a", "external_posteriors": [{**entry, "name": NASTY[nasty], "likelihood": "unknown"}]},
    ):
        with pytest.raises(DataError) as caught:
            validate(content, SCHEMAS["config"], "a.yaml")
        assert str(caught.value).isprintable() and len(str(caught.value)) < 500


def test_a_value_is_shown_in_few_characters():
    nested = {"a": {"b": [list(range(1000))] * 1000}}
    for value in (nested, "x" * 10_000, datetime.date(2026, 1, 1), list(range(10_000))):
        with pytest.raises(DataError) as caught:
            check_schema(value, {"type": "integer"}, "a.yaml")
        assert len(str(caught.value)) < 150


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [("samplers", "images", 2**63), ("samplers", "neighbours", 2**63), ("samplers", "plate_size", 10**9)],
)
def test_numbers_that_nothing_can_hold_are_refused(section, key, value):
    with pytest.raises(DataError, match=key):
        validate({"experiment": "a", section: {key: value}}, SCHEMAS["config"], "a.yaml")


@pytest.mark.parametrize("file", ["{dataset}.npz", "https://example.org/a.npz"])
def test_a_file_is_no_pattern_and_no_address(file):
    entry = {"name": "a", "file": file, "latent_dim": 2}
    with pytest.raises(DataError, match="file"):
        validate({"experiment": "a", "external_posteriors": [entry]}, SCHEMAS["config"], "a.yaml")
