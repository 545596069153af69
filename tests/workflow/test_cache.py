"""The cache between checkouts gives back the right bytes or none."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from .conftest import TINY, Project, copy_project

DATA = "results/tiny/data/control_gaussian.safetensors"
MODEL = "results/tiny/models/digits/dense/latent_2/kl_1/seed_0"
MOMENTS = f"{MODEL}/moments.csv"
PROBE = Path(__file__).parent / "probe"


@pytest.fixture
def cache(finished, tmp_path) -> Path:
    """A copy of the cache that the finished project filled."""
    shutil.copytree(finished.cache, tmp_path / "cache")
    return tmp_path / "cache"


def cached_run(project: Project, cache: Path, *arguments: str, **settings) -> str:
    """Run with the cache and return all that Snakemake said."""
    done = project.run(
        *("--cores", "2", "--configfile", TINY, "--cache", "--", *arguments),
        SNAKEMAKE_OUTPUT_CACHE=str(cache),
        **settings,
    )
    return done.stdout + done.stderr


def cached_plan(project: Project, cache: Path, *arguments: str) -> tuple[set[str], set[str]]:
    """The rules whose jobs a dry run would run, and those whose jobs it would take from the cache."""
    done = project.run(
        *("-n", "--cores", "2", "--configfile", TINY, "--cache", "--", *arguments), SNAKEMAKE_OUTPUT_CACHE=str(cache)
    )
    runs, restored = set(), set()
    for block in re.split(r"\nrule ", done.stdout + done.stderr)[1:]:
        rule = block.split(":")[0]
        if "written to global" in block:
            runs.add(rule)
        if "obtained from global" in block:
            restored.add(rule)
    return runs, restored


def files_under(folder: Path) -> dict[str, bytes]:
    """Relative path → bytes of every file."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def made(output: str) -> int:
    """The number of jobs that ran."""
    return output.count("Put into the cache")


def taken(output: str) -> int:
    """The number of jobs that the cache spared."""
    return output.count("Taken from the cache")


def entry_of(cache: Path, content: bytes) -> Path:
    """The cached file that has this content."""
    return next(path for path in cache.iterdir() if path.read_bytes() == content)


def test_a_fresh_clone_gets_everything_from_the_cache_and_trains_nothing(finished, fresh, cache):
    output = cached_run(fresh, cache)
    jobs = len(list(cache.glob("*.sha256")))
    assert (made(output), taken(output)) == (0, jobs)
    assert files_under(fresh.folder / "results") == files_under(finished.folder / "results")
    # Real files and not links: what was restored outlives the cache.
    shutil.rmtree(cache)
    assert fresh.plan() == {}
    assert not any(path.is_symlink() for path in fresh.folder.rglob("*"))


def test_no_two_jobs_share_an_entry(finished, fresh):
    plan = fresh.plan()
    jobs = sum(count for rule, count in plan.items() if rule not in ("all", "everything"))
    assert len(list(finished.cache.glob("*.sha256"))) == jobs
    done = subprocess.run(
        "sha256sum --quiet -c *.sha256", shell=True, cwd=finished.cache, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout


def test_an_edited_library_line_runs_exactly_the_rules_that_use_it(fresh, cache):
    path = fresh.folder / "scripts/aggregated_posterior/evidence/controls.py"
    path.write_text(path.read_text() + "UNUSED = 1\n")
    target = "results/tiny/tables/controls.csv"
    output = cached_run(fresh, cache, target)
    assert made(output) == 1
    assert f"Put into the cache: {target}" in output
    # The data, model, posteriors and moments of the trained control, posteriors and moments of the made one.
    assert taken(output) == 6
    # The second time it is in the cache too, beside what the line before the edit gave.
    shutil.rmtree(fresh.folder / "results")
    assert made(cached_run(fresh, cache, target)) == 0


@pytest.mark.parametrize(
    ("path", "old", "new", "spared"),
    [
        ("scripts/aggregated_posterior/model/vae.py", "nn.ReLU()", "nn.SiLU()", {"prepare_dataset"}),
        (TINY, "  epochs: 3", "  epochs: 4", {"prepare_dataset", "train_judge"}),
        ("config/plotting.yaml", "palette: viridis", "palette: mako", None),
    ],
)
def test_the_key_holds_what_a_result_depends_on_and_nothing_else(fresh, cache, path, old, new, spared):
    fresh.edit(path, old, new)
    runs, restored = cached_plan(fresh, cache)
    if spared is None:
        # The page shows the figures.
        assert runs and all(rule.startswith("plot_") for rule in runs - {"collect_page"})
        assert {"train_vae", "score_samplers", "check_claims"} <= restored
    else:
        assert {"train_vae", "encode_posteriors", "compute_statistics", "check_claims"} <= runs
        assert spared <= restored
        assert not spared & runs


def test_experiments_share_models_and_nothing_that_names_them(fresh, cache):
    fresh.edit(TINY, "experiment: tiny", "experiment: other")
    runs, restored = cached_plan(fresh, cache)
    assert {"prepare_dataset", "train_judge", "train_vae", "encode_posteriors", "score_samplers"} <= restored
    assert {"compute_statistics", "measure_latent_map", "prepare_control_posteriors"} <= restored
    assert {"collect_tables", "check_claims", "collect_page"} <= runs
    assert not runs & restored


def damage(entry: Path, how: str) -> None:
    """Spoil a cached file as discs, full quotas and careless hands do."""
    content = bytearray(entry.read_bytes())
    if how == "one bit":
        content[len(content) // 2] ^= 1
        entry.write_bytes(content)
    elif how == "cut short":
        entry.write_bytes(content[: len(content) // 2])
    elif how == "gone":
        entry.unlink()
    else:
        entry.with_name(f"{entry.stem.split('_')[0]}.sha256").unlink()


@pytest.mark.parametrize("how", ["one bit", "cut short", "gone", "no checksum"])
def test_a_corrupted_entry_is_found_out_and_made_again(finished, fresh, cache, how):
    wanted = (finished.folder / DATA).read_bytes()
    entry = entry_of(cache, wanted)
    damage(entry, how)
    output = cached_run(fresh, cache, DATA)
    assert made(output) == 1
    assert ("is damaged and not used" in output) == (how in ("one bit", "cut short"))
    assert (fresh.folder / DATA).read_bytes() == wanted == entry.read_bytes()


def test_without_the_guard_a_corrupted_entry_would_be_used(finished, fresh, cache):
    """Snakemake's own cache does not look: the test above would fail without ours."""
    wanted = (finished.folder / DATA).read_bytes()
    damage(entry_of(cache, wanted), "one bit")
    fresh.edit("workflow/rules/common.smk", "\nuse_verified_cache(workflow)\n", "\n")
    cached_run(fresh, cache, DATA)
    assert (fresh.folder / DATA).read_bytes() != wanted


def test_a_bare_switch_needs_no_variable(fresh, tmp_path):
    done = fresh.run("--cores", "1", "--configfile", TINY, "--cache", "--", DATA, XDG_CACHE_HOME=str(tmp_path / "home"))
    assert "Put into the cache" in done.stdout + done.stderr
    assert list((tmp_path / "home/aggregated-posterior").glob("*.sha256"))


def can_run_snakemake(user: int, home: Path) -> bool:
    """Whether the tests' Python, which may lie in somebody's home, is open to this user."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", "import snakemake.cli"],
            env={**os.environ, "HOME": str(home)},
            cwd=home,
            user=user,
            group=user,
            capture_output=True,
            check=False,
        )
    except PermissionError:
        return False
    return done.returncode == 0


def test_another_users_cache_is_read_and_need_not_be_writable(finished):
    """Root fills the cache and keeps it; the user `nobody` restores from it, and runs what it lacks."""
    if os.getuid() != 0:
        pytest.skip("only root can act as another user")
    nobody = 65534
    home = Path(tempfile.mkdtemp(prefix="another-user-"))
    try:
        home.chmod(0o755)
        if not can_run_snakemake(nobody, home):
            pytest.skip(f"another user cannot run {sys.executable}")
        cache = shutil.copytree(finished.cache, home / "cache", copy_function=shutil.copy)
        cache.chmod(0o755)
        project = copy_project(home / "nobody/project")
        for path in [home / "nobody", *(home / "nobody").rglob("*")]:
            os.chown(path, nobody, nobody)
        theirs = {"user": nobody, "group": nobody, "HOME": str(home / "nobody")}
        lacking = entry_of(cache, (finished.folder / MOMENTS).read_bytes())
        lacking.unlink()
        output = cached_run(project, cache, MOMENTS, **theirs)
        # The data, the model and its posteriors come from the cache; the moments are made, and stay with their maker.
        assert taken(output) == 3
        assert f"Not put into the cache: {MOMENTS}" in output
        assert (project.folder / MOMENTS).read_bytes() == (finished.folder / MOMENTS).read_bytes()
        assert not lacking.exists()
    finally:
        shutil.rmtree(home)


# What Snakemake's key lacks. The probe's one rule exists in versions, each without one guard: wherever the guard is
# missing, a stale result is handed out, and nowhere else. So these tests fail if a guard is taken out of the project.
GUARDS = ("wildcards", "input", "modules", "versions")


@pytest.fixture(scope="module")
def probe(tmp_path_factory) -> Project:
    """A project with the probe in it, that runs in a cache of its own."""
    project = copy_project(tmp_path_factory.mktemp("probe") / "project")
    shutil.copy(PROBE / "probe.smk", project.folder / "workflow/probe.smk")
    shutil.copy(PROBE / "probe.py", project.folder / "scripts/probe.py")
    (project.folder / "scripts/probe_module.py").write_text("VALUE = 1\n")
    install_package(project, "1.0")
    for name, value in {"five": 5, "three": 3}.items():
        (project.folder / name).write_text(f"{value}\n")
    return project


def install_package(project: Project, version: str) -> None:
    """Put a package with this version where Python finds it, as pip would."""
    site = project.folder / "site"
    shutil.rmtree(site, ignore_errors=True)
    (site / f"probe_package-{version}.dist-info").mkdir(parents=True)
    (site / f"probe_package-{version}.dist-info/METADATA").write_text(
        f"Metadata-Version: 2.1\nName: probe_package\nVersion: {version}\n"
    )
    (site / "probe_package.py").write_text(f"VALUE = {version!r}\n")


def probe_results(project: Project, **environment: str) -> dict[str, dict[str, str]]:
    """Run the probe with the cache, from nothing, and return each version's results: guard → seed → content."""
    shutil.rmtree(project.folder / "results", ignore_errors=True)
    project.run(
        *("--snakefile", "workflow/probe.smk", "--cores", "1", "--configfile", TINY, "--cache"),
        SNAKEMAKE_OUTPUT_CACHE=str(project.folder / "cache"),
        PYTHONPATH=str(project.folder / "site"),
        **environment,
    )
    return {
        guard: {seed: (project.folder / f"results/{guard}_{seed}.txt").read_text() for seed in "12"}
        for guard in ("none", *GUARDS)
    }


def expected(*, difference: int = 2, module: int = 1, package: str = "1.0") -> dict[str, str]:
    return {seed: f"seed {seed}, difference {difference}, module {module}, package {package}\n" for seed in "12"}


def assert_only_one_is_stale(results: dict[str, dict[str, str]], right: dict[str, str], guard: str) -> None:
    stale = {version for version, contents in results.items() if contents != right}
    # The version without wildcards has mixed up its seeds in every run.
    assert stale - {"wildcards"} == {guard} - {"wildcards"}
    assert "wildcards" in stale


def test_every_part_of_the_key_is_needed(probe):
    """Wildcards, names of inputs, imported modules, package versions: four of the cache's silent failures."""
    before = probe_results(probe)
    assert before["none"] == expected()
    assert before["wildcards"]["1"] == before["wildcards"]["2"]
    assert_only_one_is_stale(before, expected(), "wildcards")

    swapped = probe_results(probe, PROBE_SWAP="yes")
    assert_only_one_is_stale(swapped, expected(difference=-2), "input")

    module = probe.folder / "scripts/probe_module.py"
    module.write_text("VALUE = 2\n")
    edited = probe_results(probe)
    assert_only_one_is_stale(edited, expected(module=2), "modules")
    module.write_text("VALUE = 1\n")

    install_package(probe, "2.0")
    upgraded = probe_results(probe)
    assert_only_one_is_stale(upgraded, expected(package="2.0"), "versions")


def test_no_rule_is_of_a_kind_that_the_key_cannot_hold(fresh):
    """The other two failures, `run:` bodies and shell text, and a third, ensure(), which checks after storing.

    Also that every cached rule has the two params that the tests above are about.
    """
    code = (
        "from pathlib import Path\n"
        "from snakemake.api import ConfigSettings, ResourceSettings, SnakemakeApi\n"
        "with SnakemakeApi() as api:\n"
        f"    settings = ConfigSettings(configfiles=[Path({TINY!r})])\n"
        "    opened = api.workflow(ResourceSettings(cores=1), config_settings=settings, snakefile=Path('Snakefile'))\n"
        "    for rule in opened._workflow.rules:\n"
        "        kind = 'script' if rule.is_script else 'run' if rule.is_run else 'shell' if rule.shellcmd else '-'\n"
        "        ensured = any('ensure' in (getattr(f, 'flags', None) or {}) for f in rule.output)\n"
        "        print('RULE', rule.name, kind, bool(rule.cache and rule.cache.output), ensured, *rule.params.keys())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=fresh.folder, capture_output=True, text=True, check=False, timeout=120
    )
    rules = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("RULE")]
    assert len(rules) > 20, done.stderr[-2000:]
    for name, kind, cached, ensured, *params in rules:
        if cached == "True":
            assert kind == "script", name
            assert ensured == "False", name
            assert {"code", "cache_key"} <= set(params), name
        else:
            assert not name.startswith(("download", "prepare", "train", "encode", "compute", "measure", "plot")), name
