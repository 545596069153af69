"""The audit: known answers, what it says and advises, what it writes, and how it refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from aggregated_posterior.audit.auditing import Audit, audit, audit_file, label_share
from aggregated_posterior.audit.cli import main
from aggregated_posterior.posterior.mixture import AggregatedPosterior
from aggregated_posterior.storage import DataError

SCRIPTS = Path(__file__).parents[3] / "scripts"
FAST = {"points": 300, "gmm_components": 4, "fit_points": 2000}
N = 2400  # whole sixths for the decoy


def independent(columns: list[tuple[np.ndarray, np.ndarray]], seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Rows whose dimensions are the given columns, each in an order of its own: independent up to the shuffle."""
    rng = np.random.default_rng(seed)
    orders = [rng.permutation(len(mean)) for mean, _ in columns]
    pairs = [(mean[order], variance[order]) for (mean, variance), order in zip(columns, orders, strict=True)]
    return np.stack([m for m, _ in pairs], axis=1), np.stack([s for _, s in pairs], axis=1)


def column(weights: list[float], means: list[float], variances: list[float]) -> tuple[np.ndarray, np.ndarray]:
    counts = np.round(np.array(weights) * N).astype(int)
    assert counts.sum() == N
    return np.repeat(means, counts), np.repeat(variances, counts)


DECOY = column([1 / 6, 2 / 3, 1 / 6], [-np.sqrt(2.7), 0.0, np.sqrt(2.7)], [0.1] * 3)
TWO = column([0.5, 0.5], [-0.9, 0.9], [0.19, 0.19])
SCALES = column([0.5, 0.5], [0.0, 0.0], [0.1, 1.9])
NOISE = (np.zeros(N), np.ones(N))


@pytest.fixture(scope="module")
def known() -> Audit:
    mean, variance = independent([TWO, SCALES, DECOY, NOISE])
    labels = (mean[:, 0] > 0).astype(np.int64)
    return audit(mean, variance, labels=labels, **FAST)


@pytest.fixture(scope="module")
def own_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("own") / "posteriors.npz"
    mean, variance = independent([TWO, NOISE])
    np.savez(path, mean=mean, log_variance=np.log(variance), labels=mean[:, 0] > 0)
    return path


# --------------------------------------------------------------------------------------------------- known answers


def test_reference_mixtures(known):
    rows = known.dimensions
    np.testing.assert_allclose(rows["kl"][:3], [0.83036560, 0.41518280, 1.15129255], atol=5e-9)
    np.testing.assert_allclose(rows["kurtosis"][:2], [1.6878, 5.43], atol=5e-5)
    np.testing.assert_allclose(rows["marginal_kl"][:3], [0.18927903, 0.14237094, 0.30075979], atol=5e-9)
    np.testing.assert_allclose(rows["ks"][:3], [0.103619, 0.101674, 0.109319], atol=5e-7)
    np.testing.assert_allclose(rows["w1"][:3], [0.2064261, 0.1984266, 0.1998576], atol=5e-8)
    np.testing.assert_allclose(rows["tv"][:3], [0.2635355, 0.2314779, 0.3321940], atol=5e-8)
    assert list(rows["active"]) == [True, True, True, False]
    assert list(rows["cause"][:2]) == ["shape of the means", "mixing of scales"]
    # Nothing of an inactive dimension is called unusual.
    assert rows["cause"][3] == "" and rows["marginal_kl"][3] < 1e-9


def test_the_terms_add_up(known):
    rows = known.dimensions
    total = rows[["term_means", "term_covariance", "term_scale"]].sum(axis=1)
    np.testing.assert_allclose(total, rows["kurtosis"] - 3, atol=1e-12)


def test_the_decoy_is_named(known):
    assert abs(known.dimensions["kurtosis"][2] - 3) < 1e-12
    assert any("no test of normality" in sentence and "dimension 2" in sentence for sentence in known.findings)


def test_parts_add_up_and_independence_is_found(known):
    part = known.mismatch.set_index("part")
    assert part.loc["scale", "nats"] < 1e-12
    assert part.loc["marginal shape", "nats"] == pytest.approx(0.18927903 + 0.14237094 + 0.30075979, abs=3e-8)
    assert part.loc["dependence", "low"] == pytest.approx(0, abs=0.02)
    parts = ["scale", "marginal shape", "dependence"]
    assert part.loc[parts, "nats"].sum() == pytest.approx(part.loc["total", "nats"])
    # The rows are the whole law: of a sample the sum's lower end would be what held-out rows certify.
    assert part.loc[parts, "low"].sum() <= part.loc["total", "low"] + 1e-12
    assert part.loc[parts, "high"].sum() >= part.loc["total", "high"] - 1e-12


def test_labels_are_found_where_they_are(known):
    # Half of TWO lies at +0.9 and half at −0.9: 0.81 of a variance of 1 is between classes.
    np.testing.assert_allclose(known.dimensions["eta_squared"], [0.81, 0, 0, 0], atol=0.01)
    assert any("dimension 0 (η² = 0.81)" in sentence for sentence in known.findings)


def test_scale_is_exact_and_nothing_else_moves(known):
    mean, variance = independent([TWO, SCALES, DECOY, NOISE])
    shift, scale = np.array([0.5, 0.0, -1.0, 0.0]), np.array([2.0, 0.5, 1.0, 1.0])
    moved = audit(mean * scale + shift, variance * scale**2, **FAST)
    expected = 0.5 * (shift**2 + scale**2 - 1) - np.log(scale)
    np.testing.assert_allclose(moved.dimensions["gauge_slack"], expected, atol=1e-12)
    kept = [
        "skewness",
        "kurtosis",
        "term_means",
        "term_covariance",
        "term_scale",
        "marginal_kl",
        "ks",
        "w1",
        "w2",
        "tv",
    ]
    np.testing.assert_allclose(moved.dimensions[kept], known.dimensions[kept], atol=1e-9)
    raw = moved.dimensions["marginal_kl_raw"] - moved.dimensions["marginal_kl"]
    np.testing.assert_allclose(raw, moved.dimensions["gauge_slack"], atol=1e-12)
    assert moved.advice[0].startswith("Rescale")
    assert not known.advice[0].startswith("Rescale")


def test_raw_marginal_kl_of_the_test_half_is_a_kl_too():
    mean, variance = independent([TWO, SCALES])
    result = audit(mean * 2, variance * 4, mean_test=mean * 2 + 0.3, variance_test=variance * 4, **FAST)
    direct = audit(mean * 2 + 0.3, variance * 4, **FAST).dimensions["marginal_kl_raw"]
    test = result.dimensions[result.dimensions["split"] == "test"]
    np.testing.assert_allclose(test["marginal_kl_raw"], direct, rtol=1e-9)


def test_dependence_without_marginal_shape():
    """Two components on the diagonal of a rotated frame: nearly normal marginals, all mismatch is dependence."""
    rng = np.random.default_rng(1)
    common = rng.standard_normal(4000) * 0.9
    mean = np.stack([common, common], axis=1)
    result = audit(mean, np.full_like(mean, 0.19), points=1000, gmm_components=2, fit_points=4000)
    part = result.mismatch.set_index("part")
    truth = -0.5 * np.log(1 - 0.81**2)
    assert part.loc["marginal shape", "nats"] < 0.01
    assert part.loc["dependence", "low"] - 0.03 <= truth <= part.loc["dependence", "high"] + 0.03
    assert result.summary["correlation_kl"] == pytest.approx(truth, abs=0.05)
    assert result.summary["prior_misses_canonical"] > 0.1
    assert any(sentence.startswith("Fit a density") for sentence in result.advice)
    assert any("doubtful" in sentence for sentence in result.findings)


def test_a_normal_aggregate_gets_a_clean_bill():
    """Means drawn from N(0, 0.4) under posteriors of variance 0.6: Q(z) is N(0, 1) up to the draw of the means."""
    mean = np.random.default_rng(2).standard_normal((5000, 2)) * np.sqrt(0.4)
    result = audit(mean, np.full_like(mean, 0.6), **FAST)
    assert result.summary["prior_misses_canonical"] < 0.05
    assert any("in order" in sentence for sentence in result.advice)
    assert not any("doubtful" in sentence for sentence in result.findings)


def test_certified_miss_is_below_the_exact_total_variation():
    mean, variance = independent([TWO])
    exact = 0.2635355
    missed = audit(mean, variance, gmm_components=2, fit_points=4000, points=300).summary["prior_misses_canonical"]
    assert 0.15 < missed <= exact + 0.01


def test_collapse_is_said_plainly():
    result = audit(np.zeros((50, 3)), np.ones((50, 3)), **FAST)
    assert result.summary["active_dimensions"] == 0
    assert "ignores z" in result.advice[0]
    assert result.mismatch["high"].max() < 0.05


def test_too_few_rows_to_hold_any_out():
    result = audit(np.array([[0.5, -1.0]]), np.array([[0.4, 0.3]]), **FAST)
    assert "none" in result.summary["held_out"] and result.summary["prior_misses_canonical"] is None
    assert np.isfinite(result.mismatch["high"]).all()
    # One Gaussian has independent dimensions.
    assert result.mismatch.set_index("part").loc["dependence", "high"] == pytest.approx(0, abs=1e-6)


def test_wide_intervals_are_called_open():
    """THEORY's warning: narrow posteriors in 16 dimensions, true divergence 0, and N rows cannot know it."""
    mean = np.random.default_rng(3).standard_normal((N, 16)) * np.sqrt(0.9)
    result = audit(mean, np.full_like(mean, 0.1), **FAST)
    part = result.mismatch.set_index("part")
    assert np.isnan(part.loc["total", "nats"]) and part.loc["total", "high"] > 9
    assert part.loc["total", "low"] < 0.2
    assert any("Treat the dependence as unknown" in sentence for sentence in result.advice)


# ------------------------------------------------------------------------------------------------- arrays and tensors


def test_tensors_are_read_without_importing_their_library():
    class Tensor:
        """Looks like a torch tensor of bfloat16 that requires gradients."""

        def __init__(self, array, wide=False):
            self.array, self.wide = array, wide

        def detach(self):
            return self

        def cpu(self):
            return self

        def float(self):
            return Tensor(self.array.astype(np.float32), True)

        def numpy(self):
            if not self.wide:
                raise TypeError("Got unsupported ScalarType BFloat16")
            return self.array

    mean, variance = independent([TWO, NOISE])
    result = audit(Tensor(mean), Tensor(variance), **FAST)
    assert result.dimensions["kurtosis"][0] == pytest.approx(1.6878, abs=1e-4)


def test_bad_arrays_are_named():
    with pytest.raises(DataError, match="variance has shape"):
        audit(np.zeros((4, 2)), np.ones((4, 3)))
    with pytest.raises(DataError, match="mean has type int64"):
        audit(np.zeros((4, 2), dtype=np.int64), np.ones((4, 2)))
    with pytest.raises(DataError, match="variance and std are both given"):
        audit(np.zeros((4, 2)), np.ones((4, 2)), std=np.ones((4, 2)))
    with pytest.raises(DataError, match="fit_points"):
        audit(np.zeros((40, 2)), np.ones((40, 2)), fit_points=3)


def test_label_share_against_brute_force():
    rng = np.random.default_rng(4)
    mean, variance = rng.normal(size=(60, 3)), rng.uniform(0.1, 1, (60, 3))
    q = AggregatedPosterior(mean, variance)
    classes = rng.integers(0, 5, 60)
    total = mean.var(axis=0) + variance.mean(axis=0)
    between = np.var(np.stack([mean[classes == c].mean(axis=0) for c in classes]), axis=0)
    name, share = label_share(q, q.moments(), classes)
    assert name == "eta_squared"
    np.testing.assert_allclose(share, between / total, rtol=1e-12)
    numbers = rng.normal(size=60)
    name, share = label_share(q, q.moments(), numbers)
    assert name == "r_squared"
    expected = [np.cov(mean[:, j], numbers, bias=True)[0, 1] ** 2 / numbers.var() / total[j] for j in range(3)]
    np.testing.assert_allclose(share, expected, rtol=1e-12)


def test_spiky_marginals_are_not_taken_for_the_models_shape():
    """Means of N(0, I) under needles: 500 rows look like 500 spikes, yet their population is normal."""
    mean = np.random.default_rng(5).standard_normal((500, 2))
    result = audit(mean, np.full_like(mean, 1e-10), **FAST)
    part = result.mismatch.set_index("part")
    assert part.loc["marginal shape", "high"] > 5 and part.loc["total", "low"] < 0.2
    assert not part.loc["marginal shape", "exact"]
    assert any("spiky" in sentence for sentence in result.findings)
    assert not any("doubtful" in sentence for sentence in result.findings)


def test_the_same_input_gives_the_same_result(own_file):
    first, second = (audit_file(own_file, **FAST) for _ in range(2))
    pd.testing.assert_frame_equal(first.dimensions, second.dimensions)
    pd.testing.assert_frame_equal(first.mismatch, second.mismatch)
    assert first.summary == second.summary


# ------------------------------------------------------------------------------------------------------ the command


def test_the_command_prints_and_writes(own_file, tmp_path, capsys):
    names = {"--json": "a.json", "--csv": "a.csv", "--html": "a.html", "--figure": "a.svg"}
    arguments = [part for option, name in names.items() for part in (option, str(tmp_path / name))]
    assert main(["audit", str(own_file), *arguments, "--points", "300"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    for words in ("mean KL", "slack", "kurtosis", "What this means", "What to do", "1 of 2 dimensions is active"):
        assert words in out
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names.values())
    content = json.loads((tmp_path / "a.json").read_text())
    assert content["dimensions"][0]["kurtosis"] == pytest.approx(1.6878, abs=1e-4)
    assert content["summary"]["n"] == N
    table = pd.read_csv(tmp_path / "a.csv")
    assert list(table["active"]) == [True, False] and "eta_squared" in table
    page = (tmp_path / "a.html").read_text()
    assert page.startswith("<!DOCTYPE html>") and "<svg" in page and "What to do" in page
    for outside in ('src="http', 'href="http', "<script src", "@import"):  # the page needs nothing from elsewhere
        assert outside not in page
    again = tmp_path / "again"
    assert (
        main(
            [
                "audit",
                str(own_file),
                "--figure",
                str(again / "a.svg"),
                "--html",
                str(again / "a.html"),
                "--points",
                "300",
            ]
        )
        == 0
    )
    assert (again / "a.svg").read_bytes() == (tmp_path / "a.svg").read_bytes()
    assert (again / "a.html").read_bytes() == (tmp_path / "a.html").read_bytes()


def test_class_names_cannot_break_the_page(tmp_path):
    from aggregated_posterior.audit.page import html_page

    mean, variance = independent([TWO, NOISE])
    page = html_page(audit(mean, variance, **FAST), "<script>alert(1)</script>.npz")
    assert "<script>alert" not in page


def test_warnings_reach_standard_error(tmp_path, capsys):
    mean, variance = independent([TWO, TWO])
    path = tmp_path / "own.npz"
    np.savez(path, mean=mean, variance=np.sqrt(variance))
    assert main(["audit", str(path), "--points", "300"]) == 0
    err = capsys.readouterr().err
    assert err.startswith("warning: ") and "std" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("content", "options", "words"),
    [
        ({"mean": np.zeros((4, 2)), "variance": -np.ones((4, 2))}, [], ["variance", "negative"]),
        ({"mean": np.zeros((4, 2)), "variance": np.ones((4, 3))}, [], ["variance", "(4, 3)"]),
        ({"mean": np.zeros((20, 2)), "variance": np.ones((20, 2))}, ["--figure", "a.gif"], ["--figure", ".gif"]),
        ({"mean": np.zeros((20, 2)), "variance": np.ones((20, 2))}, ["--html", "same", "--csv", "same"], ["same name"]),
        ({"mean": np.zeros((20, 2)), "variance": np.ones((20, 2))}, ["--json", "bad.npz"], ["--json", "input itself"]),
        ({"mean": np.zeros((20, 2)), "variance": np.ones((20, 2))}, ["--csv", "."], ["--csv", "folder"]),
        ({"mean": np.zeros((20, 2)), "variance": np.ones((20, 2))}, ["--points", "0"], ["points"]),
        ({"mean": np.zeros((20, 2)), "variance": np.ones((20, 2))}, ["--seed", "-1"], ["--seed"]),
    ],
)
def test_bad_input_is_one_line_status_2_and_no_file(tmp_path, capsys, monkeypatch, content, options, words):
    monkeypatch.chdir(tmp_path)
    np.savez("bad.npz", **content)
    before = Path("bad.npz").read_bytes()
    outputs = options or ["--json", "a.json", "--csv", "a.csv", "--html", "a.html", "--figure", "a.png"]
    assert main(["audit", "bad.npz", *outputs]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert all(word in err for word in words), err
    assert [path.name for path in tmp_path.iterdir()] == ["bad.npz"]
    assert Path("bad.npz").read_bytes() == before


def test_the_module_runs_and_refuses_in_a_process_of_its_own(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(SCRIPTS)}
    command = [sys.executable, "-m", "aggregated_posterior", "audit", "absent.npz", "--json", "a.json"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr == "error: absent.npz: no such file\n"
    assert list(tmp_path.iterdir()) == []


def test_neither_torch_nor_snakemake_is_imported():
    code = (
        "import sys\n"
        "import numpy as np\n"
        "from aggregated_posterior.audit.auditing import audit\n"
        "import aggregated_posterior.audit.cli, aggregated_posterior.audit.report\n"
        "rng = np.random.default_rng(0); mean = rng.normal(size=(50, 2))\n"
        "audit(mean, np.full((50, 2), 0.5), points=50, gmm_components=1, fit_points=200)\n"
        "assert not {'torch', 'snakemake'} & set(sys.modules)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(SCRIPTS)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["adit", "own.npz"], ["'adit'", "did you mean audit?"]),
        (["audit", "own.npz", "--jsno", "a.json"], ["'--jsno'", "did you mean --json?"]),
        (["audit", "--", "-dash.npz", "--points", "50"], ["'--points'", "options stand before --"]),
        (["audit", "-dash.npz"], ["-dash.npz is taken for an option; name the file as ./-dash.npz"]),
        (["fit", "--seed", "1", "-dash.npz", "-oa.safetensors"], ["name the file as ./-dash.npz"]),
        (["audit", "-"], ["-: is no regular file"]),
        (["audit", "pipe.npz"], ["pipe.npz: is no regular file (a pipe or standard input); save it as .npz"]),
        (["audit", "own.npz", "other.npz"], ["'other.npz'", "one file at a time"]),
        (["audit"], ["FILE"]),
        ([], ["name a command"]),
        (["audit", "own.npz", "--points", "many"], ["--points", "'many'"]),
    ],
)
def test_a_wrong_word_is_answered_with_the_nearest(tmp_path, monkeypatch, arguments, words, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-dash.npz").touch()
    os.mkfifo(tmp_path / "pipe.npz")
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert all(word in err for word in words) and "Traceback" not in err, err
