"""The same experiment gives the same bytes: with one core or two, again, elsewhere, for another user."""

import pytest

from tests.manifest import differences, manifest

from .conftest import ROOT, TINY, copy_project

RESULTS = "results/tiny"


@pytest.fixture(scope="module")
def expected(finished) -> dict[str, str]:
    """The manifest of a run on two cores."""
    return manifest(finished.folder / RESULTS)


def test_the_manifest_covers_all_that_is_promised(expected):
    for name in ("claims.json", "claims.md", "data/digits.safetensors", "judges/digits/judge_0.safetensors"):
        assert name in expected
    models = {name.rpartition("/")[2] for name in expected if name.startswith("models/")}
    assert {"vae.safetensors", "posteriors.safetensors", "history.csv", "moments.csv", "marginals.csv"} <= models
    assert {"divergence.json", "samplers.csv", "sample_plates.safetensors"} <= models
    tables = {name for name in expected if name.startswith("tables/")}
    assert {f"tables/{name}.csv" for name in ("moments", "marginals", "divergence", "samplers", "training")} <= tables
    plots = [path.stem.removeprefix("plot_") for path in (ROOT / "scripts").glob("plot_*.py")]
    for name in plots:
        assert {f"figures/{name}.{kind}" for kind in ("svg", "pdf", "png")} <= set(expected)


def test_one_core_another_folder_another_user_and_language_give_the_same_bytes(expected, tmp_path):
    project = copy_project(tmp_path / "somebody else" / "work")
    home = tmp_path / "home"
    home.mkdir()
    # All at once, since equality with all of it changed is equality with each; what broke it is soon found by hand.
    project.run(
        *("--cores", "1", "--configfile", TINY),
        HOME=str(home),
        USER="somebody",
        LOGNAME="somebody",
        LC_ALL="C",
        TZ="Asia/Tokyo",
        PYTHONHASHSEED="1",
        # Snakemake tells each job its own number of threads; what the caller's shell says must not count.
        OMP_NUM_THREADS="2",
        SOURCE_DATE_EPOCH="0",
    )
    assert differences(expected, manifest(project.folder / RESULTS)) == []


@pytest.mark.parametrize("target", ["models/digits/dense/latent_2/kl_1/seed_0/vae.safetensors", "claims.json"])
def test_a_second_run_over_the_first_gives_the_same_bytes(clone, expected, target):
    project = clone()
    path = f"{RESULTS}/{target}"
    # Without the forced file's successors, which the fresh run above has made a second time already.
    project.run("--cores", "2", "--configfile", TINY, "--forcerun", path, "--until", path)
    found = manifest(project.folder / RESULTS)
    assert differences(expected, found) == []


def test_the_manifest_sees_one_changed_byte_a_missing_file_and_a_new_one(tmp_path):
    for name in ("kept", "changed", "removed", ".hidden.part"):
        (tmp_path / name).write_bytes(b"0123")
    before = manifest(tmp_path)
    assert set(before) == {"kept", "changed", "removed"}
    (tmp_path / "changed").write_bytes(b"0124")
    (tmp_path / "removed").unlink()
    (tmp_path / "added").touch()
    after = manifest(tmp_path)
    assert differences(before, after) == [
        "added: should not be there",
        "changed: has other bytes",
        "removed: is missing",
    ]
    assert differences(before, after, unfinished=True) == ["added: should not be there", "changed: has other bytes"]
