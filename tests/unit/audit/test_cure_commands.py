"""`fit`, `sample` and `canonical`: from a file of posteriors to codes for the decoder that they belong to."""

from __future__ import annotations

import os
import re
import shlex
import signal
import sys
import time
from pathlib import Path
from subprocess import PIPE, Popen

import numpy as np
import pytest
from safetensors.numpy import load_file

import aggregated_posterior
from aggregated_posterior import audit, fit_sampler, load_sampler
from aggregated_posterior.audit.cli import main
from aggregated_posterior.audit.fitting import canonical_arrays
from aggregated_posterior.posterior.gauge import canonical_form
from aggregated_posterior.posterior.mixture import AggregatedPosterior
from aggregated_posterior.storage import DataError

ROOT = Path(__file__).resolve().parents[3]


def rows(n, d):
    """Means and variances of a Q(z) that is no normal law."""
    rng = np.random.default_rng(3)
    return 0.9 * np.sign(rng.standard_normal((n, d))) + 0.1 * rng.standard_normal((n, d)), np.full((n, d), 0.1)


@pytest.fixture(scope="module")
def posteriors():
    """Two clusters on the diagonal of dimensions 0 and 1, moved and stretched, and one dimension that says nothing."""
    rng = np.random.default_rng(0)
    side = np.where(rng.random((2000, 1)) < 0.5, 0.9, -0.9)
    mean = np.concatenate([1 + 2 * side, -2 + 0.5 * side, np.zeros((2000, 1))], axis=1)
    return mean, np.tile([4 * 0.19, 0.25 * 0.19, 1.0], (2000, 1))


@pytest.fixture
def own_file(tmp_path, posteriors):
    path = tmp_path / "posteriors.npz"
    np.savez(path, mean=posteriors[0], variance=posteriors[1])
    return path


def run(capsys, *arguments):
    status = main([str(part) for part in arguments])
    return status, *capsys.readouterr()


def test_from_posteriors_to_codes_in_the_decoders_own_coordinates(own_file, tmp_path, capsys):
    sampler, codes = tmp_path / "sampler.safetensors", tmp_path / "z.npy"
    status, out, err = run(capsys, "fit", own_file, "-o", sampler)
    assert status == 0 and all(line.startswith(("fit: ", "warning: ")) for line in err.splitlines())
    assert "mixture of 2, diagonal: gains" in out and "2 of 3 dimensions fitted" in out
    assert max(len(line) for line in out.splitlines() if "/" not in line) <= 80
    (command,) = re.findall(r"^  (aggregated-posterior sample .*)$", out, re.M)
    assert run(capsys, *command.split()[1:3], "-n", 20_000, "-o", codes)[0] == 0
    z = np.load(codes)
    assert z.shape == (20_000, 3) and z.dtype == np.float32
    np.testing.assert_allclose(z.mean(axis=0), [1, -2, 0], atol=0.06)
    np.testing.assert_allclose(z.std(axis=0), [2, 0.5, 1], atol=0.03)
    assert np.corrcoef(z, rowvar=False)[0, 1] == pytest.approx(0.81, abs=0.02)


def test_the_formats_hold_the_same_codes(own_file, tmp_path, capsys):
    sampler = tmp_path / "sampler.safetensors"
    run(capsys, "fit", own_file, "-o", sampler)
    paths = [tmp_path / name for name in ("z.npy", "z.csv", "z.safetensors")]
    for path in paths:
        assert run(capsys, "sample", sampler, "-n", 50, "-o", path, "--seed", 3)[0] == 0
    expected = load_sampler(sampler).sample(50, seed=3).astype(np.float32)
    for z in (np.load(paths[0]), np.loadtxt(paths[1], delimiter=",", dtype=np.float32), load_file(paths[2])["z"]):
        np.testing.assert_array_equal(z, expected)


def test_ten_lines_of_numpy_draw_the_same_law(own_file, tmp_path, capsys):
    """The reader in the docs, word for word."""
    page = (ROOT / "docs/your-vae.md").read_text()
    (code,) = re.findall(r"```python\n([^`]*def draw\(.*?)```", page, re.S)
    assert len([line for line in code.splitlines() if line.strip()]) <= 10
    names: dict = {}
    exec(code, names)
    path = tmp_path / "sampler.safetensors"
    noise = np.random.default_rng(1)
    prior = fit_sampler(noise.normal(size=(500, 2)) * 0.7, np.full((500, 2), 0.51))
    assert prior.kind == "prior"
    covariance = np.array([[1, 0.8], [0.8, 1]]) - 0.1 * np.eye(2)
    normal = fit_sampler(noise.multivariate_normal(np.ones(2), covariance, 3000), np.full((3000, 2), 0.1))
    assert normal.kind == "normal" and normal.factors.ndim == 3
    mixture = fit_sampler(*[np.load(own_file)[name] for name in ("mean", "variance")])
    assert mixture.factors.ndim == 2 and mixture.n_components == 2
    for sampler in (prior, normal, mixture):
        sampler.save(path)
        own = names["draw"](path, 40_000, np.random.default_rng(2))
        reference = sampler.sample(40_000)
        np.testing.assert_allclose(own.mean(axis=0), reference.mean(axis=0), atol=0.05)
        np.testing.assert_allclose(np.cov(own, rowvar=False), np.cov(reference, rowvar=False), rtol=0.05, atol=0.05)
        assert sampler.score_samples(own).mean() == pytest.approx(sampler.score_samples(reference).mean(), abs=0.02)


def test_canonical_writes_shift_and_scale_in_both_languages(own_file, posteriors, tmp_path, capsys):
    path = tmp_path / "shift_scale.safetensors"
    status, out, _ = run(capsys, "canonical", own_file, "-o", path)
    assert status == 0 and "changes no reconstruction" in out
    arrays = load_file(path)
    q = AggregatedPosterior(*posteriors)
    moved = q.affine(arrays["shift"], arrays["scale"]).moments()
    np.testing.assert_allclose(moved.mean, 0, atol=1e-12)
    np.testing.assert_allclose(moved.variance, 1, atol=1e-12)
    z = q.sample(200_000, np.random.default_rng(0))
    np.testing.assert_allclose(
        (z - arrays["latents_mean"]) / arrays["latents_std"], (z - arrays["shift"]) * arrays["scale"]
    )
    together = (z - arrays["shift_factor"]) * arrays["scaling_factor"]
    assert together.mean() == pytest.approx(0, abs=0.01) and together.std() == pytest.approx(1, abs=0.01)


def test_canonical_names_an_outlier_and_does_without_it(tmp_path, capsys):
    rng = np.random.default_rng(0)
    mean, log_variance = np.sqrt(0.8) * rng.standard_normal((1000, 6)), np.full((1000, 6), np.log(0.2))
    log_variance[17, 2] = 20
    np.savez(tmp_path / "a.npz", mean=mean, log_variance=log_variance)
    status, _, err = run(capsys, "canonical", tmp_path / "a.npz", "-o", tmp_path / "b.safetensors")
    assert status == 0 and "1 row(s) far outside" in err
    np.testing.assert_allclose(load_file(tmp_path / "b.safetensors")["scale"], 1, atol=0.1)


def test_canonical_says_that_an_outlier_of_a_streamed_file_stays(tmp_path, capsys, monkeypatch):
    mean, variance = np.random.default_rng(0).standard_normal((1000, 3)), np.ones((1000, 3))
    variance[17, 2] = 5e8
    np.savez(tmp_path / "a.npz", mean=mean, variance=variance)
    monkeypatch.setattr("aggregated_posterior.posterior.foreign_files.STREAMED_NUMBERS", 100)
    status, _, err = run(capsys, "canonical", tmp_path / "a.npz", "-o", tmp_path / "b.safetensors")
    assert status == 0 and "1 row(s) far outside all others are part of the moments" in err
    assert "Row 17, dimension 2 is an outlier" in err


def test_canonical_arrays_of_one_scale_are_one_factor():
    q = AggregatedPosterior(np.array([[1.0, 1.0], [3.0, 3.0]]), np.full((2, 2), 3.0))
    arrays = canonical_arrays(canonical_form(q))
    assert arrays["shift_factor"] == 2 and arrays["scaling_factor"] == pytest.approx(0.5)  # variance 1 + 3


def test_the_audit_hands_on_its_sampler_and_its_canonical_form(posteriors):
    result = audit(*posteriors, points=300, gmm_components=2, fit_points=1000)
    assert result.sampler().kind == "mixture of 2, diagonal"
    np.testing.assert_allclose(result.canonical.shift, [1, -2, 0], atol=0.2)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit", "own.npz", "-o", "a.npz"], ["--output", ".npz", ".safetensors"]),
        (["fit", "own.npz", "-o", "own.safetensors", "--seed", "-1"], ["--seed"]),
        (["fit", "own.npz", "-o", "own.safetensors", "--active-threshold", "nan"], ["active_threshold is nan"]),
        (["fit", "own.npz", "-o", "own.safetensors", "--active-threshold=-5"], ["active_threshold is -5.0"]),
        (["fit", "own.npz", "-o", "own.safetensors", "--active-threshold", "inf"], ["active_threshold is inf"]),
        (["fit", "absent.npz", "-o", "a.safetensors"], ["no such file"]),
        (["fit", "few.npz", "-o", "a.safetensors"], ["few.npz", "fewer than 10"]),
        (["sample", "absent.safetensors", "-n", "3", "-o", "z.npy"], ["absent.safetensors"]),
        (["sample", "absent.safetensors", "-n", "0", "-o", "z.npy"], ["--number"]),
        (["sample", "absent.safetensors", "-n", "3", "-o", "z.pkl"], ["--output", ".pkl", ".npy"]),
        (["sample", "own.npz", "-n", "3", "-o", "z.npy"], ["own.npz"]),
        (["canonical", "own.npz", "-o", "."], ["folder"]),
        (["fit", "own.npz"], ["-o/--output"]),
    ],
)
def test_bad_input_is_one_line_status_2_and_no_file(tmp_path, capsys, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    np.savez("own.npz", mean=np.zeros((20, 2)), variance=np.ones((20, 2)))
    np.savez("few.npz", mean=np.zeros((5, 2)), variance=np.ones((5, 2)))
    status, out, err = run(capsys, *arguments)
    assert status == 2 and out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert all(word in err for word in words), err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["few.npz", "own.npz"]


@pytest.mark.parametrize("name", ["my run; rm -rf x.safetensors", "-x.safetensors"])
def test_the_command_to_copy_names_one_file_whatever_it_is_called(tmp_path, capsys, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    np.savez("own.npz", mean=np.random.default_rng(0).standard_normal((20, 2)), variance=np.ones((20, 2)))
    status, out, _ = run(capsys, "fit", "own.npz", f"--output={name}")
    assert status == 0
    (command,) = re.findall(r"^  aggregated-posterior (sample .*)$", out, re.M)
    assert run(capsys, *shlex.split(command))[0] == 0
    assert np.load("z.npy").shape == (1000, 2)


def test_the_sampler_takes_what_the_audit_takes():
    rng = np.random.default_rng(0)
    mean, variance = 0.8 * rng.standard_normal((60, 2)), np.full((60, 2), 0.36)
    plain = fit_sampler(mean, variance, components=())
    alias = fit_sampler(mean, logvar=np.log(variance), components=())
    np.testing.assert_allclose(alias.shift, plain.shift)
    np.testing.assert_allclose(alias.scale, plain.scale)
    groups = np.repeat(np.arange(20), 3)
    assert "group" in fit_sampler(mean, variance, groups=groups, components=()).about["held_out"]
    codes = fit_sampler(mean, deterministic=True, components=())
    np.testing.assert_allclose(codes.scale, plain.scale, rtol=0.5)


@pytest.mark.parametrize(
    ("keyword", "words"),
    [("gruops", "fit_sampler has no keyword gruops: did you mean groups?"), ("foo", "no keyword foo: see help")],
)
def test_the_sampler_refuses_an_unknown_keyword_in_one_line(keyword, words):
    mean = np.random.default_rng(0).standard_normal((60, 2))
    with pytest.raises(DataError) as refused:
        fit_sampler(mean, 0.1 + 0 * mean, **{keyword: 1})
    assert words in str(refused.value)
    result = audit(mean, 0.1 + 0 * mean, points=50, gmm_components=1, fit_points=50)
    with pytest.raises(DataError, match=r"^Audit\.sampler has no keyword foo: see help\(Audit\.sampler\)$"):
        result.sampler(foo=1)


@pytest.mark.parametrize(
    ("command", "module"),
    [
        ("audit", "audit_command"),
        ("fit", "fit_command"),
        ("sample", "sample_command"),
        ("canonical", "canonical_command"),
    ],
)
@pytest.mark.parametrize(
    ("error", "status", "words"),
    [(KeyboardInterrupt(), 130, "interrupted; no file was left half written"), (MemoryError(), 2, "memory")],
)
def test_an_interruption_and_a_full_memory_are_one_line(capsys, monkeypatch, command, module, error, status, words):
    def fail(options):
        raise error

    monkeypatch.setattr(f"aggregated_posterior.audit.{module}.run", fail)
    more = {"audit": [], "sample": ["-n", 5, "-o", "z.npy"]}.get(command, ["-o", "a.safetensors"])
    found, out, err = run(capsys, command, "own.npz", *more)
    assert found == status and out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert words in err
    if words == "memory":
        assert ("lower --number" if command == "sample" else "fewer rows") in err


@pytest.mark.parametrize("signal_sent", [signal.SIGTERM, signal.SIGINT])
def test_a_schedulers_signal_leaves_no_part_of_a_file(tmp_path, signal_sent):
    mean, variance = rows(300, 2)
    fit_sampler(mean, variance).save(tmp_path / "s.safetensors")
    command = ["-m", "aggregated_posterior", "sample", "s.safetensors", "-n", "300000000", "-o", "z.csv"]
    own = {**os.environ, "PYTHONPATH": str(Path(aggregated_posterior.__file__).parents[1])}
    with Popen([sys.executable, *command], cwd=tmp_path, env=own, text=True, stderr=PIPE) as process:
        while process.poll() is None and not list(tmp_path.glob(".z.csv*")):
            time.sleep(0.05)
        process.send_signal(signal_sent)
        assert "interrupted" in process.communicate()[1]
    assert process.returncode == 130
    assert [path.name for path in tmp_path.iterdir()] == ["s.safetensors"]


def test_densities_of_tensors_and_of_codes_far_beyond_everything():
    torch = pytest.importorskip("torch")
    sampler = fit_sampler(*rows(300, 2))
    z = np.random.default_rng(0).standard_normal((5, 2)).astype(np.float32)
    expected = sampler.score_samples(z)
    tensor = torch.from_numpy(z).requires_grad_()
    np.testing.assert_array_equal(sampler.score_samples(tensor), expected)
    assert np.isfinite(sampler.score_samples(tensor.bfloat16())).all()
    assert (sampler.score_samples(np.full((3, 2), 1e200)) == -np.inf).all()


@pytest.mark.parametrize("function", [audit, fit_sampler])
@pytest.mark.parametrize(
    ("setting", "words"),
    [({"seed": -1}, "seed is -1"), ({"seed": 1.5}, "seed is 1.5"), ({"active_threshold": None}, "threshold is None")],
)
def test_settings_that_are_none_are_refused_in_words(function, setting, words):
    with pytest.raises(DataError, match=words):
        function(*rows(50, 2), **setting)
