"""Publishing a finished run, and `snakemake verify` against it: the page, the number, the exit status."""

import importlib.util
import json
import re
import subprocess

import pytest

from aggregated_posterior.storage import DataError

from .conftest import ROOT, TINY

VERIFY = ("--cores", "1", "--configfile", TINY, "--rerun-triggers", "mtime", "--", "verify")


def stop(*_):
    raise KeyboardInterrupt


@pytest.fixture
def tool():
    specification = importlib.util.spec_from_file_location("publish", ROOT / "tools/publish.py")
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_the_commit_is_dirty_when_code_was_changed_and_not_when_results_were(tool, tmp_path):
    def git(*command):
        author = ("-c", "user.name=a", "-c", "user.email=a@b")
        return subprocess.run(["git", "-C", tmp_path, *author, *command], check=True, capture_output=True, text=True)

    assert tool.commit(tmp_path) is None
    published, code = tmp_path / "results/published/claims.md", tmp_path / "code.py"
    published.parent.mkdir(parents=True)
    published.write_text("old")
    code.write_text("old")
    git("init")
    git("add", ".")
    git("commit", "-m", "all")
    head = git("rev-parse", "HEAD").stdout.strip()
    published.write_text("new")
    assert tool.commit(tmp_path) == head
    code.write_text("new")
    assert tool.commit(tmp_path) == f"{head}-dirty"


def test_a_published_run_agrees_with_itself_until_a_number_is_changed(clone, tool):
    project = clone()
    with pytest.raises(DataError, match="nothing of that name"):
        tool.publish(project.folder / TINY, without=["tables/no.csv"], root=project.folder)
    large = "tables/training.csv"
    folder = tool.publish(project.folder / TINY, note="a test", without=[large], root=project.folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert not (folder / large).exists() and large in manifest["run"]
    assert manifest["left_out"][large] == "for its size: all experiments together have 30 MiB of the repository"
    assert set(manifest["published"]) == {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    assert "models/digits/dense/latent_2/kl_1/seed_0/vae.safetensors" in manifest["run"]
    assert manifest["configuration"]["training"]["learning_rate"] == 0.001
    assert manifest["packages"]["torch"].startswith("2.")
    assert manifest["numerics"]["mode"] == "portable"
    assert [way["numerics"] for way in manifest["trained_with"]] == [manifest["numerics"]]
    time = manifest["run_time"]
    assert time["by_rule"]["train_vae"]["jobs"] == 3 and time["training_device"] == ["cpu"]
    assert 0 < time["wall_seconds"] <= time["job_seconds"] + 1
    assert str(project.folder) not in (folder / "manifest.json").read_text()

    project.run(*VERIFY)
    page = project.folder / "results/tiny/verification.md"
    assert "Result: identical\n" in page.read_text()
    assert page.read_text().splitlines()[2].startswith("Your run agrees: all 4 models have the published bytes")

    table = folder / "tables/moments.csv"
    old = re.search(r"^tiny,digits.*$", table.read_text(), re.M).group(0)
    fields = old.split(",")
    fields[table.read_text().splitlines()[0].split(",").index("kurtosis")] = "3.5"
    table.write_text(table.read_text().replace(old, ",".join(fields)))
    manifest["published"]["tables/moments.csv"] = tool.digest(table)
    (folder / "manifest.json").write_text(json.dumps(manifest))
    done = project.run(*VERIFY, check=False)
    assert done.returncode != 0
    assert "| kurtosis | 3.5 |" in page.read_text()
    assert "| kurtosis | 3.5 |" in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("removed", "rule"),
    [("explorer.json", "collect_explorer"), ("models/digits/dense/latent_2/kl_1/seed_0/vae.safetensors", "train_vae")],
)
def test_verify_makes_what_the_manifest_names_and_the_run_lacks(clone, tool, removed, rule):
    project = clone()
    tool.publish(project.folder / TINY, root=project.folder)
    (project.folder / "results/tiny" / removed).unlink()
    assert project.plan("--", "verify")[rule] == 1


def test_an_interruption_leaves_what_was_published(clone, tool, monkeypatch):
    project = clone()
    folder = tool.publish(project.folder / TINY, root=project.folder)
    before = folder_bytes(folder.parent)
    monkeypatch.setattr(tool, "write_json", stop)
    with pytest.raises(KeyboardInterrupt):
        tool.publish(project.folder / TINY, note="again", root=project.folder)
    assert folder_bytes(folder.parent) == before


def folder_bytes(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_an_unfinished_run_is_not_published(fresh, tool):
    with pytest.raises(DataError, match="run the experiment"):
        tool.publish(fresh.folder / TINY, root=fresh.folder)


def test_an_experiment_that_was_never_published_is_named(finished):
    done = finished.run("-n", *VERIFY, check=False)
    assert done.returncode != 0
    assert "results/published/tiny/manifest.json" in done.stdout + done.stderr
