"""Nothing is lost: whatever happens to a run, one command finishes it, and its files are those of an undisturbed run.

Run by `make test-faults`; FAULTS_CONFIG=config/config.yaml takes the digits experiment instead of the tests' tiny one.
"""

from __future__ import annotations

import shutil
import time

import numpy as np
import pytest

from aggregated_posterior.storage import DataError, read_arrays
from tests.manifest import CHECKPOINT, half_written, manifest
from tests.workflow.conftest import Project

from .discs import pages, read_only, small_disc
from .interruption import ARGUMENTS, RESUME, SNAKEMAKE, Run, Undisturbed, resume, wait_for_left_jobs

pytestmark = pytest.mark.faults

EPISODES, KILLS = 4, 6


def pass_time(rng: np.random.Generator, run: Run, undisturbed: Undisturbed) -> str:
    """Let a random time pass in a run and say when that is."""
    typical = undisturbed.seconds / KILLS
    if rng.random() < 0.15:
        time.sleep(rng.uniform(0, 3))
        return "soon"
    run.wait_for_a_job()
    if rng.random() < 0.3:
        run.wait_for_a_write(undisturbed.results, typical)
        return "at a write"
    moment = rng.uniform(0, typical)
    time.sleep(moment)
    return f"after {moment:.1f} s of work"


def begin(episode: int, project: Project, undisturbed: Undisturbed) -> Run:
    """Start a run and let it come so far that the episodes' kills fall into different parts of it."""
    run = Run(project)
    run.wait_for_files(undisturbed.results, len(undisturbed.manifest) * episode // EPISODES)
    return run


def go_on(rng: np.random.Generator, project: Project) -> Run:
    """Continue a run after its Snakemake was killed: by `make resume`, or by hand while old jobs may be at work."""
    if rng.random() < 0.5:
        return Run(project, RESUME)
    project.run("--unlock", *ARGUMENTS)
    return Run(project)


@pytest.mark.parametrize("episode", range(EPISODES))
def test_a_run_killed_at_random_moments_ends_as_if_nothing_had_been(episode, undisturbed, broken):
    rng = np.random.default_rng(episode)
    project = broken()
    run = begin(episode, project, undisturbed)
    kills = 0
    while kills < KILLS:
        when = pass_time(rng, run, undisturbed)
        if run.ended:
            assert run.process.returncode == 0 or run.harmed, run.output()[-3000:]
            if run.process.returncode == 0:
                assert undisturbed.flaws(project) == []
                project = broken()
                run = begin(episode, project, undisturbed)
            else:
                run = Run(project)
            continue
        rule = run.kill_a_job(rng) if rng.random() < 0.5 else None
        if rule is None:
            run.kill_snakemake()
        kills += 1
        flaws = undisturbed.flaws(project, unfinished=True)
        there = len(manifest(project.folder / undisturbed.results))
        parts = len(half_written(project.folder / undisturbed.results))
        print(
            f"\n{episode}.{kills}: SIGKILL of {rule or 'Snakemake'} {when}; {there} of {len(undisturbed.manifest)} "
            f"files, {parts} under temporary names, {len(flaws)} flawed",
            end="",
        )
        assert flaws == []
        if rule is None:
            if rng.random() < 0.5:
                wait_for_left_jobs(project.folder)
                assert undisturbed.flaws(project, unfinished=True) == []
            run = go_on(rng, project)
    if not run.ended:
        run.kill_snakemake()
    resume(project)
    assert undisturbed.flaws(project) == []
    assert project.plan("--configfile", ARGUMENTS[-1]) == {}


def test_a_lock_that_was_left_behind_explains_itself_and_one_command_lifts_it(undisturbed, broken):
    project = broken()
    run = Run(project)
    run.wait_for_a_job()
    run.kill_snakemake()
    refused = Run(project)
    assert refused.finish() != 0
    said = refused.output()
    for words in ("cannot be locked", str(project.folder), "kill signal", "--unlock"):
        assert words in said
    assert "Traceback" not in said
    lifted = Run(project, RESUME, (*ARGUMENTS, "--until", "prepare_dataset"))
    assert lifted.finish() == 0, lifted.output()[-3000:]
    assert undisturbed.flaws(project, unfinished=True) == []


def test_a_run_that_is_still_at_work_is_not_resumed(undisturbed, broken):
    project = broken()
    run = Run(project)
    run.wait_for_a_job()
    second = Run(project, RESUME, ("-n",))
    assert second.finish() == 1
    assert f"still at work in {project.folder} (process {run.process.pid})" in second.output()
    assert len(second.output().splitlines()) == 1
    assert not run.ended
    run.kill_snakemake()


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.9])
def test_a_disc_that_fills_up_stops_the_run_and_spoils_nothing(share, undisturbed, broken):
    project = broken()
    needed = pages(undisturbed.project.folder / undisturbed.results)
    with small_disc(project.folder / undisturbed.results, int(share * needed)) as resize:
        full = Run(project)
        assert full.finish() != 0
        errors = sorted({line for line in full.output().splitlines() if "error: " in line})
        print(f"\n{share:.0%} of the space:", *errors, sep="\n  ")
        assert "No space left" in full.output() or "is the disc full?" in full.output()
        assert undisturbed.flaws(project, unfinished=True) == []
        resize(4 * needed)
        resume(project)
        assert undisturbed.flaws(project) == []


def test_a_disc_that_is_full_for_snakemake_too_spoils_nothing(undisturbed, broken, tmp_path):
    disc = tmp_path / "disc"
    whole = undisturbed.project.folder
    made = pages(whole / undisturbed.results) + pages(whole / ".snakemake") + pages(whole / "logs")
    own = pages(whole) - made
    with small_disc(disc, own + made // 2) as resize:
        source = broken()
        project = Project(disc / "project")
        shutil.copytree(source.folder, project.folder)
        full = Run(project, log=tmp_path / "outside.log")
        assert full.finish() != 0
        assert undisturbed.flaws(project, unfinished=True) == []
        resize(4 * (own + made))
        resume(project)
        assert undisturbed.flaws(project) == []


@pytest.mark.parametrize("folder", ["tables", "figures", "models/digits/dense/latent_2/kl_1/seed_0"])
def test_a_folder_that_cannot_be_written_to_is_named_and_spoils_nothing(folder, undisturbed, finished_copy):
    place = finished_copy.folder / undisturbed.results / folder
    if not place.exists():
        pytest.skip(f"this experiment has no {folder}")
    for path in [*place.iterdir(), finished_copy.folder / undisturbed.results / "claims.json"]:
        path.unlink()
    with read_only(place):
        refused = Run(finished_copy)
        assert refused.finish() != 0
        said = refused.output()
        assert "Read-only file system" in said or "Permission denied" in said
        assert folder in said
        assert undisturbed.flaws(finished_copy, unfinished=True) == []
    resume(finished_copy)
    assert undisturbed.flaws(finished_copy) == []


MODEL = "models/digits/dense/latent_2/kl_1/seed_0"


@pytest.mark.parametrize(
    "names",
    [
        ["data/digits.safetensors"],
        [f"{MODEL}/vae.safetensors"],
        [f"{MODEL}/posteriors.safetensors", f"{MODEL}/history.csv"],
        ["judges/digits/judge_0.safetensors", f"{MODEL}/divergence.json"],
        ["tables/moments.csv", "figures/divergence.png", "claims.md"],
        # Nothing is made from these.
        ["claims.html", "figures/divergence.rst", "figures/marginals.pdf"],
    ],
    ids=lambda names: names[0].rpartition("/")[2],
)
def test_files_that_were_removed_are_made_again(names, undisturbed, finished_copy):
    if not set(names) <= set(undisturbed.manifest):
        pytest.skip("this experiment has other models")
    for name in names:
        (finished_copy.folder / undisturbed.results / name).unlink()
    resume(finished_copy)
    assert undisturbed.flaws(finished_copy) == []


def test_files_removed_during_a_run_are_made_again(undisturbed, broken):
    project = broken()
    run = Run(project)
    rng = np.random.default_rng(0)
    removed = 0
    while removed < 3 and not run.ended:
        time.sleep(undisturbed.seconds / 5)
        there = sorted(manifest(project.folder / undisturbed.results))
        if there and not run.ended:
            (project.folder / undisturbed.results / there[rng.integers(len(there))]).unlink(missing_ok=True)
            removed += 1
    run.finish()
    assert removed
    resume(project)
    assert undisturbed.flaws(project) == []


def test_a_killed_training_goes_on_from_its_checkpoint_to_the_same_bytes(broken):
    """The rule's usual interval is minutes; here it is zero, so that every epoch ends with a checkpoint."""
    whole, killed = broken(), broken()
    for project in (whole, killed):
        project.edit("config/tiny.yaml", "epochs: 3", "epochs: 300")
    training = "scripts/aggregated_posterior/model/training.py"
    killed.edit(training, "checkpoint_seconds: float = 300.0", "checkpoint_seconds: float = 0.0")
    folder = f"results/tiny/{MODEL}"
    targets = ("--cores", "1", "--configfile", "config/tiny.yaml", "--", f"{folder}/vae.safetensors")
    whole.run(*targets)
    assert not (whole.folder / folder / CHECKPOINT).exists()

    def epochs_done() -> int:
        """The epochs in the checkpoint; 0 without one (it goes at the end, perhaps just before it is read)."""
        try:
            return len(read_arrays(killed.folder / folder / CHECKPOINT)[1]["history"])
        except DataError:
            return 0

    run = Run(killed, SNAKEMAKE, targets)
    while epochs_done() < 20:
        assert not run.ended, run.output()[-2000:]
        time.sleep(0.01)
    assert run.kill_a_job(np.random.default_rng(0)) == "train_vae"
    assert run.finish() != 0
    done = epochs_done()
    assert 20 <= done < 300
    assert not (killed.folder / folder / "vae.safetensors").exists()

    again = Run(killed, RESUME, targets)
    seen = set()
    while not again.ended:
        seen.add(epochs_done())
        time.sleep(0.005)
    seen.discard(0)
    assert again.process.returncode == 0, again.output()[-2000:]
    # A training from the start would have come by all the earlier counts.
    assert min(seen) >= done
    assert max(seen) > done
    assert manifest(killed.folder / folder) == manifest(whole.folder / folder)
