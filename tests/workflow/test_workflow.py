"""The workflow plans exactly what has to be done, and says shortly what is wrong."""

import json
import subprocess
import sys

import pytest

from .conftest import ROOT, TINY

STATISTICS = {"compute_statistics": 4}


def test_the_tiny_experiment_reaches_figures_and_verdicts(finished):
    results = finished.folder / "results/tiny"
    claims = json.loads((results / "claims.json").read_text())
    assert [claim["id"] for claim in claims] == "C0 C1 C2 C2r C3 C4 C4β C5 C5s C6 C6k C6s M1 C8".split()
    for claim in claims:
        assert {"id", "statement", "estimate", "low", "high", "threshold", "verdict", "cells", "size"} <= set(claim)
        assert claim["verdict"] in {"supported", "refuted", "inconclusive", "reported", "not tested"}
    # Nothing is trained there, so that three epochs do not matter.
    parts = {part["part"]: part["verdict"] for part in claims[-1]["details"]["parts"]}
    assert parts["largest error, control_mixture"] == "supported"
    figures = {path.name for path in (results / "figures").iterdir()}
    rules = [path.stem.removeprefix("plot_") for path in (ROOT / "scripts").glob("plot_*.py")]
    assert len(rules) == 12
    for name in rules:
        assert {f"{name}.svg", f"{name}.pdf", f"{name}.png"} <= figures
    # Each figure by its own script, and not all by one.
    pictures = {(results / f"figures/{name}.svg").read_bytes() for name in rules}
    assert len(pictures) == len(rules)


def test_tables_have_the_promised_columns(finished):
    tables = finished.folder / "results/tiny/tables"
    header = (tables / "moments.csv").read_text().splitlines()[0].split(",")
    assert set(
        "experiment dataset architecture likelihood latent_dim kl_weight seed split dimension kl mean variance "
        "skewness kurtosis kurtosis_low kurtosis_high variance_of_means mean_variance term_means term_covariance "
        "term_scale gauge_slack active form".split()
    ) <= set(header)
    header = (tables / "samplers.csv").read_text().splitlines()[0].split(",")
    assert set(
        "experiment dataset architecture likelihood latent_dim kl_weight seed judge sampler frechet kid precision "
        "recall density coverage".split()
    ) <= set(header)


def test_a_second_run_plans_nothing(finished):
    assert finished.plan() == {}


@pytest.mark.parametrize(
    ("removed", "rule"),
    [
        ("explorer.json", "collect_explorer"),
        ("models/digits/dense/latent_2/kl_1/seed_0/losses.csv", "encode_posteriors"),
    ],
)
def test_a_removed_file_that_no_other_step_waits_for_is_made_again(clone, removed, rule):
    project = clone()
    (project.folder / "results/tiny" / removed).unlink()
    assert project.plan()[rule] == 1


def test_both_doors_plan_the_same(fresh):
    plan = fresh.plan()
    assert plan.pop("everything") == 1
    inner = fresh.plan("--snakefile", "workflow/Snakefile")
    assert inner.pop("all") == 1
    assert plan == inner
    assert plan["train_vae"] == 3


@pytest.mark.parametrize(
    ("module", "old", "new", "expected"),
    [
        ("generation/samplers", "", "UNUSED = 1\n", {"score_samplers": 2}),
        ("posterior/gauge", "", "UNUSED = 1\n", {**STATISTICS, "measure_latent_map": 2, "score_samplers": 2}),
        ("pipeline/configuration", "", "UNUSED = 1\n", {}),
        ("evidence/controls", "", "UNUSED = 1\n", {"collect_controls": 1}),
    ],
)
def test_editing_a_library_module_reruns_the_rules_that_import_it(clone, module, old, new, expected):
    project = clone()
    path = project.folder / f"scripts/aggregated_posterior/{module}.py"
    path.write_text(path.read_text() + new)
    plan = project.plan()
    # What follows from the edited rules' results is planned too; what comes before them is not.
    downstream = {"all", "everything"} | {rule for rule in plan if rule.startswith(("collect_", "plot_", "check_"))}
    assert {rule: count for rule, count in plan.items() if rule in expected or rule not in downstream} == expected
    if not expected:
        assert plan == {}


def test_a_comment_in_a_library_module_reruns_nothing(clone):
    project = clone()
    path = project.folder / "scripts/aggregated_posterior/model/vae.py"
    path.write_text(path.read_text() + "\n# One more remark.\n")
    assert project.plan() == {}


def test_editing_the_model_retrains_every_model(clone):
    project = clone()
    project.edit("scripts/aggregated_posterior/model/vae.py", "nn.ReLU()", "nn.SiLU()")
    plan = project.plan()
    assert plan["train_vae"] == 3
    assert "prepare_dataset" not in plan
    assert "download_dataset" not in plan


def test_another_kl_weight_plans_only_the_new_models(clone):
    project = clone()
    project.edit(TINY, "kl_weights: [0.5, 1]", "kl_weights: [0.5, 1, 2]")
    plan = project.plan()
    for rule in ("train_vae", "encode_posteriors", "compute_statistics", "score_samplers"):
        assert plan[rule] == 1, rule
    assert "train_judge" not in plan


def test_a_colour_redraws_the_figures_and_nothing_else(clone):
    project = clone()
    project.edit("config/plotting.yaml", "palette: viridis", "palette: mako")
    plan = project.plan()
    # The page shows the figures.
    assert {rule for rule in plan if not rule.startswith("plot_")} <= {"collect_page", "all", "everything"}
    assert sum(rule.startswith("plot_") for rule in plan) == 12


def test_lint_is_clean(finished):
    done = finished.run("--lint", "--configfile", TINY, check=False)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]


def test_nothing_heavy_is_imported_while_the_workflow_is_read(finished):
    code = (
        "import sys; sys.argv = 'snakemake -n --cores 1 --configfile config/tiny.yaml --quiet all'.split()\n"
        "from snakemake.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'matplotlib', 'seaborn', 'sklearn', 'scipy'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=finished.folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("experiment: tiny", "experimnt: tiny", "experimnt"),
        ("latent_dims: [2]", "latent_dims: [0]", "latent_dims"),
        ("kl_weights: [0.5, 1]", "kl_weights: [-1]", "kl_weights"),
        ("datasets: [digits]", "datasets: [digitz]", "digitz"),
        ("epochs: 3", "epochs: three", "epochs"),
        ("experiment: tiny", "experiment: tiny\nexperiment: twice", "experiment"),
        ("experiment: tiny", "experiment: [tiny", ""),
    ],
)
def test_a_bad_configuration_is_a_short_error_and_starts_nothing(fresh, old, new, said):
    fresh.edit(TINY, old, new)
    done = fresh.run("--cores", "1", "--configfile", TINY, check=False)
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert said in output
    assert "Traceback" not in output
    assert len(output.splitlines()) <= 12, output
    assert not (fresh.folder / "results").exists()


def test_a_failing_rule_prints_one_line_and_leaves_no_output(fresh):
    fresh.edit("config/datasets.yaml", "minimum_accuracy: 0.95", "minimum_accuracy: 1.0")
    target = "results/tiny/judges/digits/judge_0.safetensors"
    done = fresh.run(target, "--cores", "1", "--configfile", TINY, check=False)
    output = done.stdout + done.stderr
    assert done.returncode != 0
    assert "error: " in output and "minimum_accuracy" in output
    assert "Traceback" not in output
    assert not (fresh.folder / target).exists()
    assert "Traceback" in (fresh.folder / "logs/tiny/train_judge/digits_seed_0.log").read_text()
