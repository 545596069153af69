"""A true copy agrees; a changed number is named with its size; a missing file is named; the exit status tells."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from safetensors.numpy import save_file

from aggregated_posterior.evidence.published import digest, main, page, verify
from aggregated_posterior.evidence.tolerances import ALARM, NEGLIGIBLE
from aggregated_posterior.storage import DataError, read_json, read_table

ROOT = Path(__file__).resolve().parents[3]
CELL = {"experiment": "toy", "dataset": "digits", "architecture": "dense", "likelihood": "bernoulli"}

SEEDS = (0, 1, 2, 3, 4)
CONDITIONS = {"packages": {"numpy": np.__version__}, "trained_with": [{"device": "cpu"}]}


def moments(noise, seeds=SEEDS):
    """Three dimensions of four cells; every number varies with the run's seed and with `noise`."""
    rows = []
    for latent_dim, kl_weight, seed in [(d, w, s) for d in (2, 4) for w in (0.5, 1) for s in seeds]:
        rng = np.random.default_rng([noise, latent_dim, int(10 * kl_weight), seed])
        for dimension in range(3):
            rows.append(
                {
                    **CELL,
                    "latent_dim": latent_dim,
                    "kl_weight": kl_weight,
                    "seed": seed,
                    "split": "train",
                    "form": "canonical",
                    "dimension": dimension,
                    "kl": 2 + 0.1 * rng.normal(),
                    "mean": 1e-17 * rng.normal(),
                    "kurtosis": 2.5 + 0.1 * rng.normal(),
                    "active": dimension < 2,
                    "draws_z_mean": np.nan,
                }
            )
    return pd.DataFrame(rows)


def claims(estimate=0.8):
    decided = {"id": "C4", "verdict": "supported", "estimate": estimate, "low": 0.7, "high": 0.9, "threshold": 0.5}
    largest = {"id": "C0", "verdict": "supported", "estimate": 2.0, "low": 2.0, "high": 2.0, "threshold": 4.0}
    return [{**decided, "note": f"about {estimate}", "cells": [{"mean": estimate}]}, {**largest, "cells": []}]


def results(folder, noise=0, seeds=SEEDS, verdicts=None):
    """A small experiment: every evidence table is the same kind of table, which the comparison does not mind.

    `noise` is in the models' bytes too, as where it comes from other weights.
    """
    # Not by `write_table`, which waits for the disc each time.
    (folder / "tables").mkdir(parents=True)
    for name in ("moments", "marginals", "divergence", "controls", "samplers"):
        moments(noise, seeds).to_csv(folder / f"tables/{name}.csv", index=False, float_format="%.12g")
    (folder / "claims.json").write_text(json.dumps(claims() if verdicts is None else verdicts))
    (folder / "figures").mkdir()
    (folder / "figures/kurtosis.svg").write_text(f"<svg>{noise}</svg>")
    for latent_dim, kl_weight, seed in [(d, w, s) for d in (2, 4) for w in (0.5, 1) for s in seeds]:
        model = folder / f"models/digits/dense/latent_{latent_dim}/kl_{kl_weight}/seed_{seed}"
        model.mkdir(parents=True)
        for name in ("vae", "posteriors"):
            content = {"x": np.array([noise, seed])}
            save_file(content, model / f"{name}.safetensors", {"metadata": json.dumps({"run": {"device": "cpu"}})})
    return folder


@pytest.fixture
def published(tmp_path):
    return publish(results(tmp_path / "published"))


def publish(folder):
    run = {str(path.relative_to(folder)): digest(path) for path in folder.rglob("*") if path.is_file()}
    shutil.rmtree(folder / "models")
    files = {name: value for name, value in run.items() if not name.startswith("models/")}
    dump({"experiment": "toy", "published": files, "run": run, **CONDITIONS}, folder / "manifest.json")
    return folder


@pytest.fixture
def own(tmp_path):
    return results(tmp_path / "own")


def dump(content, path):
    path.write_text(json.dumps(content))


def save(table, path):
    table.to_csv(path, index=False, float_format="%.12g")


def change(path, row, column, value):
    table = read_table(path)
    table.loc[row, column] = value
    save(table, path)


def differences(verification):
    return {(file.file, each.quantity): each for file in verification.files for each in file.differences}


def test_a_true_copy_is_identical(own, published):
    verification = verify(own, published)
    assert verification.result == "identical" and verification.agrees
    assert {file.status for file in verification.files} == {"identical"}
    assert verification.run["vae.safetensors"] == [20, 0, 0]
    assert "Result: identical\n" in page(verification)


def test_last_digits_are_rounding(own, published):
    table = read_table(own / "tables/moments.csv")
    table["kurtosis"] *= 1 + 1e-8
    save(table, own / "tables/moments.csv")
    verification = verify(own, published)
    assert verification.result == "within rounding"
    assert not differences(verification)


@pytest.mark.parametrize("by", [1e-3, -2.0])
def test_one_changed_number_is_named_with_its_size(own, published, by):
    path = own / "tables/moments.csv"
    before = read_table(path)
    change(path, 7, "kurtosis", before.loc[7, "kurtosis"] + by)
    verification = verify(own, published)
    assert not verification.agrees
    (found,) = differences(verification).values()
    assert found.quantity == "kurtosis"
    assert found.own - found.published == pytest.approx(by)
    assert found.place == (
        "dataset digits, architecture dense, latent_dim 2, kl_weight 0.5, seed 2, "
        "split train, form canonical, dimension 1"
    )
    assert f"{by:+.6g}" in page(verification)


@pytest.mark.parametrize(("column", "value"), [("active", False), ("draws_z_mean", 0.5), ("kl", np.nan)])
def test_flags_and_empty_cells_are_compared_too(own, published, column, value):
    change(own / "tables/moments.csv", 0, column, value)
    assert ("tables/moments.csv", column) in differences(verify(own, published))


@pytest.mark.parametrize("name", ["tables/divergence.csv", "claims.json", "figures/kurtosis.svg"])
@pytest.mark.parametrize("whose", ["own", "published"])
def test_a_missing_file_is_named(own, published, name, whose):
    ((own if whose == "own" else published) / name).unlink()
    verification = verify(own, published)
    assert verification.result == "differs"
    (missing,) = [file for file in verification.files if file.status == "missing"]
    assert missing.file == name
    assert ("your own" in missing.note) == (whose == "own")
    assert name in page(verification)


def test_other_weights_of_the_same_law_are_within_the_seed_spread(own, published, tmp_path):
    # Seeds 0–2 of another stream of noise: no number is the same, and all are drawn from the published law.
    again = results(tmp_path / "again", noise=1, verdicts=claims(0.82))
    verification = verify(again, published)
    assert verification.result == "within seed spread", differences(verification)
    statuses = {file.file: file.status for file in verification.files}
    assert statuses["figures/kurtosis.svg"] == "not compared"
    assert statuses["claims.json"] == "within seed spread"
    assert verification.run["vae.safetensors"] == [0, 20, 0]


def test_other_numbers_of_seeds_can_be_compared(published, tmp_path):
    verification = verify(results(tmp_path / "three", noise=2, seeds=(5, 6, 7)), published)
    assert verification.result == "within seed spread", differences(verification)


def test_a_shift_beyond_the_spread_is_found_in_its_cell_only(published, tmp_path):
    again = results(tmp_path / "again", noise=1)
    table = read_table(again / "tables/moments.csv")
    cell = (table["latent_dim"] == 4) & (table["kl_weight"] == 1)
    table.loc[cell, "kurtosis"] += 1.5
    save(table, again / "tables/moments.csv")
    found = differences(verify(again, published))
    assert found.keys() == {("tables/moments.csv", "mean over seeds of kurtosis")}
    each = found["tables/moments.csv", "mean over seeds of kurtosis"]
    assert each.own - each.published == pytest.approx(1.5, abs=0.3)
    assert 0 < each.tolerance < 0.9
    assert "latent_dim 4, kl_weight 1" in each.place


def test_the_tolerance_is_the_stated_one(published, tmp_path):
    again = results(tmp_path / "again", noise=1)
    theirs, mine = (read_table(folder / "tables/moments.csv") for folder in (published, again))
    mine["kurtosis"] += 9
    save(mine, again / "tables/moments.csv")
    verification = verify(again, published)
    (table,) = [file for file in verification.files if file.file == "tables/moments.csv"]
    each = next(
        each for each in table.differences if "latent_dim 2, kl_weight 0.5" in each.place and "True" in each.place
    )
    both = []
    for folder in (theirs, mine):
        active = folder[folder["active"] & (folder["latent_dim"] == 2) & (folder["kl_weight"] == 0.5)]
        both.append(active.groupby("seed")["kurtosis"].mean())
    # Means of three numbers in four cells and two groups, five single runs to each of them; shares in four cells, too.
    tests = (24 + 4) * 6
    assert table.compared == tests
    expected = scipy.stats.ttest_ind(*both)
    interval = expected.confidence_interval(1 - ALARM / tests)
    assert each.tolerance == pytest.approx((interval.high - interval.low) / 2 + NEGLIGIBLE, rel=1e-6)


def test_one_seed_everywhere_leaves_numbers_unjudged_and_says_so(tmp_path):
    folder = results(tmp_path / "published", seeds=(0,))
    files = {str(path.relative_to(folder)): digest(path) for path in folder.rglob("*.csv")}
    dump({"published": files, "run": {}}, folder / "manifest.json")
    verification = verify(results(tmp_path / "own", noise=1, seeds=(0,)), folder)
    assert verification.agrees
    assert all(file.unjudged for file in verification.files)


def test_empty_tables_agree(own, published):
    manifest = read_json(published / "manifest.json")
    for folder in (own, published):
        table = read_table(folder / "tables/samplers.csv")
        save(table.iloc[:0], folder / "tables/samplers.csv")
    (own / "tables/samplers.csv").write_text((own / "tables/samplers.csv").read_text() + "\n")
    manifest["published"]["tables/samplers.csv"] = digest(published / "tables/samplers.csv")
    dump(manifest, published / "manifest.json")
    assert verify(own, published).agrees


def test_a_lost_cell_and_a_lost_row_are_named(own, published):
    table = read_table(own / "tables/moments.csv")
    save(table[table["kl_weight"] != 1], own / "tables/moments.csv")
    found = differences(verify(own, published))
    assert found["tables/moments.csv", "rows"].own == "missing"
    save(table.drop(index=4), own / "tables/moments.csv")
    found = differences(verify(own, published))
    assert found["tables/moments.csv", "number of rows"].own == 2


def test_another_verdict_is_reported_whatever_the_numbers(published, tmp_path):
    verdicts = claims()
    verdicts[0]["verdict"] = "inconclusive"
    again = results(tmp_path / "again", noise=1, verdicts=verdicts)
    found = differences(verify(again, published))
    assert (found["claims.json", "verdict"].published, found["claims.json", "verdict"].own) == (
        "supported",
        "inconclusive",
    )


@pytest.mark.parametrize("claim", ["C0", "C8"])
def test_another_threshold_is_reported_whatever_the_models(published, tmp_path, claim):
    theirs, mine = ([{**one, "id": claim if one["id"] == "C0" else one["id"]} for one in claims()] for _ in range(2))
    next(one for one in mine if one["id"] == claim)["threshold"] = 0.1
    dump(theirs, published / "claims.json")
    manifest = read_json(published / "manifest.json")
    manifest["published"]["claims.json"] = digest(published / "claims.json")
    dump(manifest, published / "manifest.json")
    found = differences(verify(results(tmp_path / "again", noise=1, verdicts=mine), published))
    assert ("claims.json", "threshold") in found


def test_claims_must_agree_exactly_where_their_tables_do(own, published):
    verdicts = claims(0.81)
    dump(verdicts, own / "claims.json")
    assert {("claims.json", "estimate"), ("claims.json", "cells[0].mean")} == differences(verify(own, published)).keys()


def test_an_estimate_may_move_as_far_as_its_interval_implies(published, tmp_path):
    # 5 √2 · 0.2 / 3.92 = 0.36
    near = results(tmp_path / "near", noise=1, verdicts=claims(0.8 - 0.35))
    assert verify(near, published).agrees
    far = results(tmp_path / "far", noise=1, verdicts=claims(0.8 - 0.37))
    assert differences(verify(far, published)).keys() == {("claims.json", "estimate")}


def test_an_upper_limit_that_is_another_quantitys_lends_no_room(tmp_path):
    def at(estimate):
        # A bound certified at 1.6, its lower limit 1.5; 12 is the upper end of the bracket.
        return [{**claims(estimate)[0], "low": 1.5, "high": 12.0}]

    published = publish(results(tmp_path / "published", verdicts=at(1.6)))
    assert verify(results(tmp_path / "near", noise=1, verdicts=at(1.9)), published).agrees
    far = results(tmp_path / "far", noise=1, verdicts=at(6.0))
    assert differences(verify(far, published)).keys() == {("claims.json", "estimate")}


def test_a_damaged_published_file_is_not_trusted(own, published):
    change(published / "tables/moments.csv", 0, "kl", 9.0)
    change(own / "tables/moments.csv", 0, "kl", 9.0)
    (found,) = [file for file in verify(own, published).files if file.status == "differs"]
    assert "manifest" in found.note


def test_without_a_manifest_the_error_says_where(own, tmp_path):
    with pytest.raises(DataError, match=r"manifest\.json"):
        verify(own, tmp_path)
    dump([], tmp_path / "manifest.json")
    with pytest.raises(DataError, match="lacks"):
        verify(own, tmp_path)


def test_the_exit_status_tells(own, published, capsys):
    assert main([str(own), str(published)]) == 0
    change(own / "tables/moments.csv", 0, "kl", 9.0)
    assert main([str(own), str(published)]) == 1
    assert "| kl |" in capsys.readouterr().out
    assert main([str(own), str(own)]) == 2
    assert main([str(own)]) == 2


def test_the_module_runs_as_a_program(own, published):
    command = [sys.executable, "-m", "aggregated_posterior.evidence.published", str(own), str(published)]
    done = subprocess.run(command, cwd=ROOT / "scripts", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    dump(read_json(own / "claims.json")[:1], own / "claims.json")
    assert subprocess.run(command, cwd=ROOT / "scripts", capture_output=True, check=False).returncode == 1


def test_the_first_sentence_of_a_run_of_which_some_models_are_others(published, tmp_path):
    own = results(tmp_path / "own", verdicts=claims(0.82))
    again = results(tmp_path / "again", noise=1)
    cell = "models/digits/dense/latent_4/kl_1"
    for seed in (1, 3):
        model = f"{cell}/seed_{seed}/posteriors.safetensors"
        shutil.copy(again / model, own / model)
    for name in ("moments", "marginals", "divergence", "controls", "samplers"):
        mine, other = (read_table(folder / f"tables/{name}.csv") for folder in (own, again))
        rows = (mine["latent_dim"] == 4) & (mine["kl_weight"] == 1) & mine["seed"].isin([1, 3])
        mine.loc[rows] = other.loc[rows]
        save(mine, own / f"tables/{name}.csv")
    verification = verify(own, published)
    assert verification.agrees, differences(verification)
    sentence = (
        "Your run agrees: 18 of 20 models have the published bytes; the other 2 lie within the spread between seeds; "
        "all 2 verdicts are the published ones."
    )
    assert page(verification).splitlines()[2] == verification.sentence == sentence
    # A single perturbed number of a model with the published bytes is found among them.
    path = own / "tables/moments.csv"
    change(path, 3, "kurtosis", read_table(path).loc[3, "kurtosis"] + 1e-4)
    verification = verify(own, published)
    assert not verification.agrees
    assert verification.sentence.startswith(
        "Your run differs: 18 of 20 models have the published bytes; the other 2 lie within the spread between seeds; "
        "1 difference in tables/moments.csv; "
    )


def test_the_first_sentence_of_a_copy_of_fresh_seeds_and_of_a_changed_verdict(own, published, tmp_path):
    assert verify(own, published).sentence == (
        "Your run agrees: all 20 models have the published bytes, and so have 7 of 7 published files; "
        "all 2 verdicts are the published ones."
    )
    verdicts = claims()
    verdicts[0]["verdict"] = "refuted"
    fresh = results(tmp_path / "fresh", noise=3, seeds=(10, 11, 12, 13, 14), verdicts=verdicts)
    verification = verify(fresh, published)
    assert verification.sentence == (
        "Your run differs: 0 of 20 models have the published bytes; your 20 models of fresh seeds lie within the "
        "spread between seeds; 1 difference in claims.json; 1 of 2 verdicts are the published ones "
        "(C4: supported, yours refuted)."
    )
    assert "| C4 | supported | refuted |" in page(verification)


def test_a_missing_model_is_named(own, published):
    (own / "models/digits/dense/latent_2/kl_0.5/seed_4/posteriors.safetensors").unlink()
    verification = verify(own, published)
    (missing,) = [file for file in verification.files if file.status == "missing"]
    assert missing.file == "models/digits/dense/latent_2/kl_0.5/seed_4"
    assert not verification.agrees and missing.file in verification.sentence


def test_swapped_tables_are_found(own, published):
    first, second = own / "tables/moments.csv", own / "tables/divergence.csv"
    table = read_table(first).rename(columns={"kurtosis": "certified_gmm"})
    save(table, second)
    assert differences(verify(own, published)).keys() == {("tables/divergence.csv", "kurtosis")}


def test_scores_of_judges_trained_anew_need_not_be_the_published_ones(own, published):
    manifest = read_json(published / "manifest.json")
    judge = own / "judges/digits/judge_0.safetensors"
    judge.parent.mkdir(parents=True)
    judge.write_bytes(b"mine")
    path = own / "tables/samplers.csv"
    for folder in (own, published):
        save(read_table(folder / "tables/samplers.csv").assign(judge=0), folder / "tables/samplers.csv")
    manifest["published"]["tables/samplers.csv"] = digest(published / "tables/samplers.csv")
    change(path, 0, "kurtosis", read_table(path).loc[0, "kurtosis"] + 0.05)
    manifest["run"]["judges/digits/judge_0.safetensors"] = digest(judge)
    dump(manifest, published / "manifest.json")
    assert ("tables/samplers.csv", "kurtosis") in differences(verify(own, published))
    judge.write_bytes(b"trained anew")
    verification = verify(own, published)
    assert verification.agrees, differences(verification)


def test_what_the_runs_were_computed_with_is_told(own, published, tmp_path):
    manifest = read_json(published / "manifest.json")
    pinned = {"device": "cpu", "numerics": {"mode": "portable", "pins": {}, "instructions": "x86-64 with AVX2"}}
    manifest |= {"packages": {"numpy": "0.1", "no-such-package": "2"}, "trained_with": [pinned]}
    dump(manifest, published / "manifest.json")
    again = results(tmp_path / "again", noise=1)
    text = page(verify(again, published))
    assert f"- numpy {np.__version__} (published: 0.1)" in text
    assert "- no-such-package is not installed (published: 2)" in text
    assert "- models trained with cpu, unknown numerics (published: cpu, portable numerics, x86-64 with AVX2)" in text
    dump(manifest | CONDITIONS, published / "manifest.json")
    assert "look for another configuration or changed code" in page(verify(again, published))
    del manifest["trained_with"]
    dump(manifest, published / "manifest.json")
    assert "the manifest does not say with which instructions" in page(verify(again, published))
