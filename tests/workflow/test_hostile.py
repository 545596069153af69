"""Mistakes and malice in a configuration, as Snakemake shows them: one line that names the user's own file and key."""

import json

import pytest

SWEEP = {"datasets": ["digits"], "architectures": ["dense"], "latent_dims": [2], "kl_weights": [1], "seeds": [0]}
THEIRS = {"name": "theirs", "file": "x.npz", "latent_dim": 2}
CASES = {
    "a typing error": ({"trainig": {}}, "unknown key trainig; did you mean training?"),
    "a value": ({"training": {"epochs": 0}}, "training.epochs: 0 is less than 1"),
    "not a number": (
        {"statistics": {"draws": float("nan")}},
        "statistics.draws: nan is no number",
    ),
    "a data set": ({"sweeps": [{**SWEEP, "datasets": ["minst"]}]}, "sweeps: data set 'minst' is unknown"),
    "a script": (
        {"external_posteriors": [{**THEIRS, "likelihood": "a\n\n.. raw:: html\n\n   <script>alert(1)</script>\n"}]},
        "external_posteriors.0.likelihood: 'a\\n\\n.. raw:: html",
    ),
    "a folder": (
        {"external_posteriors": [{**THEIRS, "file": "config"}]},
        "external_posteriors: theirs: config is a folder",
    ),
    "NUL": ({"mirror": "a\0b"}, "mirror: 'a\\x00b'"),
    "a long name": ({"experiment": "x" * 300}, "experiment: 'xxx"),
}


@pytest.mark.parametrize("case", CASES)
def test_a_mistake_names_the_users_own_file_and_key(fresh, case):
    content, said = CASES[case]
    # JSON is YAML, but for its word for what is no number.
    (fresh.folder / "config/mine.yaml").write_text(json.dumps(content).replace("NaN", ".nan"))
    done = fresh.run("-n", "--cores", "1", "--configfile", "config/mine.yaml", check=False)
    assert done.returncode
    assert f"config/mine.yaml: {said}" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_mistake_on_the_command_line_is_found_there(fresh):
    done = fresh.run("-n", "--cores", "1", "--config", "mirror=3", check=False)
    assert "--config: mirror: 3 is not of type string or null" in done.stdout + done.stderr
