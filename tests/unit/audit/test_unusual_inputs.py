"""Unusual files: a right result, or one line that says what is wrong; never a traceback, a NaN or a lost half."""

from __future__ import annotations

import json
import re
import zipfile
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import save_file

from aggregated_posterior.audit.auditing import audit
from aggregated_posterior.audit.cli import main
from aggregated_posterior.audit.fitting import fit_sampler
from aggregated_posterior.audit.own_prior import as_prior
from aggregated_posterior.generation.chosen_sampler import FORMAT, choose_sampler, load_sampler
from aggregated_posterior.posterior.exchangeable import group_rows
from aggregated_posterior.posterior.foreign_files import Reading, posteriors_from_arrays, read_posteriors
from aggregated_posterior.posterior.labels import as_labels, is_missing
from aggregated_posterior.storage import DataError
from prepare_posteriors import prepare_posteriors

FAST = {"points": 100, "gmm_components": 2, "fit_points": 1000}


def normal(rows: int, dimensions: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Posteriors of variance 0.36 whose Q is N(0, I)."""
    mean = 0.8 * np.random.default_rng(seed).standard_normal((rows, dimensions))
    return {"mean": mean, "variance": np.full_like(mean, 0.36)}


def with_test(train: dict[str, np.ndarray], test: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return train | {f"{name}_test": array for name, array in test.items()}


# ------------------------------------------------------------------------------------------------------ held-out rows


@pytest.mark.parametrize("kind", ["spatial", "weights", "weights in one half", "spatial in one half"])
def test_the_files_own_held_out_rows_are_used_whatever_makes_the_groups(kind):
    train, test = normal(160, 3), normal(80, 3, seed=1)
    if kind.startswith("weights"):
        train["weights"] = np.arange(160) % 3 + 1
        if kind == "weights":
            test["weights"] = np.arange(80) % 3 + 1
    else:
        train = {name: array.reshape(40, 3, 2, 2) for name, array in train.items()}
        if kind == "spatial":
            test = {name: array.reshape(20, 3, 2, 2) for name, array in test.items()}
    result = audit(**with_test(train, test), **FAST)
    assert result.summary["held_out"] == "the file's own held-out rows"
    assert not any("left out of every held-out bound" in text for text in result.warnings)


@pytest.mark.parametrize("rows", [1, 4])
def test_held_out_rows_without_an_error_decide_nothing(rows):
    arrays = with_test(normal(200, 2), normal(rows, 2, seed=1))
    result = audit(**arrays, **FAST)
    assert np.isfinite(result.candidates[["gain", "gain_se", "gain_low"]]).all(axis=None)
    assert "a fifth of the rows" in result.summary["held_out"]
    (warning,) = result.warnings
    assert f"are {rows} independent row(s)" in warning
    sampler = choose_sampler(posteriors_from_arrays(arrays), components=(2,), fit_points=1000)
    assert np.isfinite(sampler.candidates_["gain_se"]).all() and sampler.kind == "prior"


# ---------------------------------------------------------------------------------------- groups, weights and labels


@pytest.mark.parametrize(
    "groups",
    [
        np.where(np.arange(60) == 7, np.nan, 1.0),
        np.array(["a"] * 7 + [None] * 53),
        np.array([""] * 60),
        np.array(["NaT"] * 60, "M8[s]"),
        np.array([b""] * 60),
    ],
)
def test_rows_without_a_group_are_refused(groups):
    with pytest.raises(DataError, match=r"groups: \d+ of 60 rows have none, the first is row [07]"):
        audit(**normal(60, 2), groups=groups)


@pytest.mark.parametrize(
    "weights",
    [
        np.ones(60, complex),
        np.zeros(60, "V4"),
        np.arange(60).astype("M8[s]"),
        np.array(["1"] * 60),
        np.array(["a", 1] * 30, object),
    ],
)
def test_weights_are_numbers(weights):
    with pytest.raises(DataError, match=r"weights has type .*: expected numbers"):
        posteriors_from_arrays(normal(60, 2) | {"weights": weights})


@pytest.mark.parametrize("name", ["variance", "labels", "groups", "weights", "mean_test", "log_variance"])
def test_rows_of_pandas_in_another_order_are_refused(name):
    arrays = {key: pd.DataFrame(array, index=[f"cell {i}" for i in range(60)]) for key, array in normal(60, 2).items()}
    columns = {"labels": np.arange(60) % 3, "groups": np.arange(60) // 2, "weights": np.ones(60)}
    arrays |= {key: pd.Series(column, index=arrays["mean"].index) for key, column in columns.items()}
    if name == "log_variance":
        arrays[name] = np.log(arrays.pop("variance"))
    assert audit(**arrays, **FAST).summary["n"] == 60
    if name == "mean_test":  # the other half has rows of its own
        other = {f"{key}_test": value.sample(frac=1, random_state=1) for key, value in arrays.items()}
        with pytest.raises(DataError, match=r"variance_test: its rows have the index of mean_test in another order"):
            audit(**arrays | other | {"variance_test": arrays["variance"]})
        return
    shuffled = arrays[name].sample(frac=1, random_state=0)
    for function in (audit, fit_sampler):
        with pytest.raises(DataError, match=rf"{name}: its rows have the index of mean in another order") as error:
            function(**arrays | {name: shuffled})
        assert "\n" not in str(error.value) and f"{name}.loc[mean.index]" in str(error.value)
    # Numbers that pandas gave to the rows itself, and names of other rows, say nothing about their order.
    for index in (pd.RangeIndex(60), pd.Index([f"row {i}" for i in range(60)])):
        assert audit(**arrays | {name: arrays[name].set_axis(index)}, **FAST).summary["n"] == 60


@pytest.mark.parametrize("dtype", ["Float64", "Float32"])
def test_floats_of_pandas_that_may_be_missing_are_floats(dtype):
    plain = {name: pd.DataFrame(array) for name, array in normal(60, 2).items()}
    read = audit(**{name: table.astype(dtype) for name, table in plain.items()}, **FAST).dimensions
    expected = audit(**plain, **FAST).dimensions
    np.testing.assert_allclose(read["variance"], expected["variance"], rtol=1e-6)
    mixed = plain["mean"].astype({0: dtype})
    mixed.loc[7, 0] = pd.NA
    with pytest.raises(DataError, match=r"mean: .*NaN"):
        audit(mixed, plain["variance"])


DAYS = np.datetime64("2020-01-01") + np.arange(20)


@pytest.mark.parametrize(
    ("train", "test"),
    [
        (np.arange(20), np.arange(20).astype(float).astype(object)),
        (np.arange(20), np.arange(20).astype(float)),
        (np.arange(20), np.arange(20).astype(str)),
        (np.arange(20).astype(float), np.arange(20).astype(str)),
        (np.arange(20).astype(np.uint64) + 2**62, np.arange(20) + 2**62),
        (np.arange(20).astype("U"), np.arange(20).astype("S").astype(object)),
        (DAYS, np.array(list(pd.Series(DAYS)), dtype=object)),
        (DAYS, DAYS.astype("M8[ns]")),
    ],
)
def test_groups_of_both_halves_are_compared_by_their_values(train, test):
    q = posteriors_from_arrays(
        with_test(normal(60, 2) | {"groups": train.repeat(3)}, normal(60, 2, seed=1) | {"groups": test.repeat(3)})
    )
    of_train, of_test, (warning,) = group_rows(q)
    np.testing.assert_array_equal(of_train, of_test)
    assert len(np.unique(of_train)) == 20
    assert "60 of 60 held-out rows are of groups that are in the training half" in warning


def test_dates_are_groups_in_both_halves_or_in_none():
    arrays = with_test(normal(20, 2) | {"groups": np.arange(20)}, normal(20, 2, seed=1) | {"groups": DAYS})
    with pytest.raises(DataError, match="groups are dates in one half and something else in the other"):
        audit(**arrays, **FAST)


@pytest.mark.parametrize("name", ["mean", "variance", "weights", "mean_test", "prior"])
def test_masked_numbers_are_refused_with_their_row(name):
    given = with_test(normal(60, 2), normal(60, 2, seed=1)) | {"weights": np.ones(60), "weights_test": np.ones(60)}
    given["prior"] = normal(60, 2)["mean"]
    masked = np.ma.array(given[name], mask=False)
    masked[7:] = np.ma.masked
    with pytest.raises(DataError, match=f"{name}: row 7 is masked"):
        audit(**given | {name: masked})
    if name in ("mean", "variance"):
        with pytest.raises(DataError, match=f"{name}: row 7 is masked"):
            fit_sampler(**normal(60, 2) | {name: masked})


def test_masked_labels_are_missing_and_masked_groups_are_refused():
    mask = np.arange(60) % 4 == 0
    for plain in (np.arange(60) % 3, np.where(np.arange(60) % 3, "a", "b"), np.linspace(0, 1, 60), np.arange(60) < 30):
        labels = as_labels(np.ma.array(plain, mask=mask))
        np.testing.assert_array_equal(is_missing(labels), mask)
        np.testing.assert_array_equal(labels[~mask], plain.astype(labels.dtype)[~mask])
    table = np.ma.array(np.zeros(60, [("donor", int), ("age", float)]))
    table["age"][mask] = np.ma.masked
    np.testing.assert_array_equal(is_missing(as_labels(table)["age"]), mask)
    assert not is_missing(as_labels(table)["donor"]).any()
    with pytest.raises(DataError, match="groups: 15 of 60 rows have none, the first is row 0"):
        audit(**normal(60, 2), groups=np.ma.array(np.arange(60), mask=mask))
    # A mask that hides nothing changes nothing.
    plain, masked = (
        audit(**{name: kind(a) for name, a in normal(60, 2).items()}, **FAST) for kind in (np.array, np.ma.array)
    )
    assert plain.summary == masked.summary


CLASSES = pd.Series([None if i % 7 == 0 else i % 3 for i in range(60)], dtype="Int64")


@pytest.mark.parametrize(
    "labels",
    [
        CLASSES.astype("string"),
        (CLASSES == 1).astype("boolean"),
        CLASSES.astype(object),
        CLASSES.astype("category"),
        CLASSES.astype("string").array,
        CLASSES.tolist(),
    ],
    ids=lambda labels: f"{type(labels).__name__} {getattr(labels, 'dtype', '')}",
)
def test_the_missing_value_of_pandas_is_missing(labels):
    np.testing.assert_array_equal(is_missing(as_labels(labels)), np.arange(60) % 7 == 0)
    with pytest.raises(DataError, match="groups: 9 of 60 rows have none, the first is row 0"):
        audit(**normal(60, 2), groups=labels)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (pd.DataFrame(np.ones((60, 3)), columns=["a", "a", "b"]), "labels has 2 columns called a"),
        (pd.DataFrame(np.ones((60, 2)), columns=[0, "0"]), "labels has 2 columns called 0"),
        (pd.DataFrame(np.ones((60, 2)), columns=["a", ""]), "labels has a column without a name, column 1"),
        ({"a": [1] * 60}, r"labels has shape \(\): expected \(N,\)"),
        ([[1, 2], [1]] * 30, "labels: cannot be read as an array"),
        ([torch.ones((), requires_grad=True)] * 60, "labels: cannot be read as an array"),
    ],
)
def test_labels_that_are_none_are_one_line(labels, words):
    with pytest.raises(DataError, match=words) as error:
        audit(**normal(60, 2), labels=labels)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "mean",
    [
        [torch.ones(2, requires_grad=True)] * 60,
        torch.ones((60, 2)).to_sparse(),
        torch.ones((60, 2), device="meta"),
        [[1.0, 2.0], [1.0]] * 30,
    ],
    ids=["list of tensors", "sparse", "meta", "ragged"],
)
def test_means_that_are_no_arrays_are_one_line(mean):
    for function in (audit, fit_sampler):
        with pytest.raises(DataError, match="mean: cannot be read as an array") as error:
            function(mean, normal(60, 2)["variance"])
        assert "\n" not in str(error.value)


@pytest.mark.filterwarnings("error")
def test_weights_of_any_size_are_shares():
    q = posteriors_from_arrays(normal(60, 2) | {"weights": np.r_[1.7e308, 0.85e308, np.full(58, 1e-300)]}).train
    np.testing.assert_allclose([np.mean(q.mean == row, axis=0)[0] for row in normal(60, 2)["mean"][:2]], [2 / 3, 1 / 3])


@pytest.mark.filterwarnings("error")
def test_labels_of_any_size_are_measurements():
    labels = np.random.default_rng(2).standard_normal(60)
    small, large = (audit(**normal(60, 2), labels=size * labels, **FAST).dimensions for size in (1.0, 1e300))
    np.testing.assert_allclose(large["r_squared"], small["r_squared"])
    # Beyond 2⁵³ every float is a whole number, and none is a class.
    assert as_labels(np.array([1e20, 2e20] * 30)).dtype.kind == "f"


def test_labels_of_another_kind_in_the_other_half_are_told_where_they_are(tmp_path, capsys):
    arrays = with_test(normal(60, 2), normal(30, 2, seed=1))
    arrays |= {"labels": np.arange(60) % 3, "labels_test": np.random.default_rng(2).standard_normal(30)}
    np.savez(tmp_path / "own.npz", **arrays)
    assert main(["audit", str(tmp_path / "own.npz"), "--points", "100"]) == 0
    out = capsys.readouterr().out
    assert "label η²" in out and "label r²" not in out and not re.search(r"\bnan\b", out)


# ----------------------------------------------------------------------------------------- no law that float64 can hold


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m, v: (m, 1e-100 * v), r"dimension 0 .* width 6e-51, which float64 cannot resolve"),
        (lambda m, v: (1e20 * m, v), "dimension 0 .* width 0.6, which float64 cannot resolve"),
        (lambda m, v: (m[:, [0, 1, 0]], 1e-20 * v), "dimension 2 is a linear combination"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_posteriors_narrower_than_numbers_are_refused(tmp_path, capsys, change, message):
    mean, variance = change(*normal(120, 3).values())
    np.savez(tmp_path / "own.npz", mean=mean, variance=variance)
    for command in ("audit", "fit"):
        output = ["-o", str(tmp_path / "s.safetensors")] if command == "fit" else []
        assert main([command, str(tmp_path / "own.npz"), *output]) == 2
        assert re.search(f"error: .*own.npz: .*{message}", capsys.readouterr().err)
    assert not (tmp_path / "s.safetensors").exists()


CODES = np.random.default_rng(3).standard_normal((120, 2))


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        (np.c_[CODES, np.ones(120)], "dimension 2 is the same in all rows"),
        (np.c_[CODES, 1e-150 * CODES], "dimension 2 is the same in all rows"),
        (CODES[:1], "dimension 0 is the same in all rows"),
        (np.c_[CODES, CODES.sum(axis=1)], "dimension 2 is a linear combination"),
        (CODES.reshape(10, 24), "linear combination"),
    ],
)
@pytest.mark.filterwarnings("error")
def test_codes_without_a_density_are_refused(codes, message):
    with pytest.raises(DataError, match=message):
        audit(codes, deterministic=True, **FAST)


def test_a_number_that_does_not_exist_is_shown_as_none(tmp_path, capsys):
    np.savez(tmp_path / "codes.npz", mean=CODES)
    np.savez(tmp_path / "row.npz", **normal(1, 2))
    assert main(["audit", str(tmp_path / "codes.npz"), "--deterministic", "--points", "100"]) == 0
    assert main(["audit", str(tmp_path / "row.npz")]) == 0
    output = str(tmp_path / "c.safetensors")
    assert main(["canonical", str(tmp_path / "codes.npz"), "--deterministic", "-o", output]) == 0
    assert not re.search(r"\bnan\b", capsys.readouterr().out)


def test_variances_that_are_covariances():
    arrays = normal(60, 2)
    full = posteriors_from_arrays({"mean": arrays["mean"], "variance": np.tile(0.36 * np.eye(2), (60, 1, 1))})
    np.testing.assert_allclose(full.train.variance, arrays["variance"])


# -------------------------------------------------------------------------------------------------------------- names


def test_numbers_of_thousands_of_digits_in_names(tmp_path):
    many = "9" * 5000
    np.savez(tmp_path / "a.npz", **{f"mean_{many}": np.zeros((9, 2)), f"variance_{many}": np.ones((9, 2))})
    with pytest.raises(DataError, match="has no array mean"):
        read_posteriors(tmp_path / "a.npz")
    (tmp_path / "a.csv").write_text(f"mean_0,mean_{many},variance_0,variance_1\n" + "1.5,1,1,1\n" * 9)
    with pytest.raises(DataError, match="mean has shape"):
        read_posteriors(tmp_path / "a.csv")


def test_shards_whose_names_hold_other_digits(tmp_path):
    for number in ("1", "²", "٣"):
        np.savez(tmp_path / f"{number}.npz", **normal(20, 2))
    assert read_posteriors(tmp_path).train.n == 60


@pytest.mark.parametrize("name", ["labels", "groups"])
@pytest.mark.parametrize("other", [np.datetime64("2020-01-01") + np.arange(20), np.ones((20, 2))])
def test_shards_of_different_kinds_are_one_line(tmp_path, name, other):
    for shard, values in enumerate([np.arange(20), other]):
        np.savez(tmp_path / f"shard-{shard}.npz", **normal(20, 2, seed=shard), **{name: values})
    with pytest.raises(DataError, match=f"{name}: the shards hold .*, which do not go together") as error:
        read_posteriors(tmp_path)
    assert "\n" not in str(error.value)


def test_an_array_that_stands_twice_in_an_archive(tmp_path):
    np.savez(tmp_path / "a.npz", **normal(20, 2))
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("mean.npy", archive.read("variance.npy"))
    with pytest.raises(DataError, match="holds mean twice"):
        read_posteriors(tmp_path / "a.npz")


# ------------------------------------------------------------------------------------------------- outputs and samplers


def test_nothing_that_is_read_is_written_over(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arrays = normal(60, 2)
    np.save("mu.npy", arrays["mean"])
    np.save("width.npy", arrays["variance"])
    np.save("label.npy", np.arange(len(arrays["mean"])) % 3)
    np.savez("prior.npz", draws=arrays["mean"])
    levels = {f"{name}_{level}": array for name, array in arrays.items() for level in (1, 2)}
    np.savez("a_level_1.npz", **levels)
    (tmp_path / "shards").mkdir()
    np.savez("shards/1.npz", **arrays)
    (tmp_path / "loop.safetensors").symlink_to("loop.safetensors")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*.np?")}
    assert main(["audit", ""]) == 2
    for arguments, problem in (
        ("audit mu.npy --variance width.npy --csv width.npy", "is the input itself"),
        ("audit mu.npy --variance width.npy --labels label.npy --csv label.npy", "is the input itself"),
        ("audit mu.npy --variance width.npy --prior prior.npz --html prior.npz", "is the input itself"),
        ("audit shards --json shards/1.npz", "is the input itself"),
        ("audit a_level_1.npz --csv a.npz", "a_level_1.npz is the input itself"),
        ("audit a_level_1.npz --csv b.txt --json b_level_2.txt", "the same name as another output"),
        ("audit shards --html a\0b", "is no name for a file"),
        ("audit a\0b.npz", "is no name for a file"),
        ("audit shards --mean= --labels=", "the name of the array of mean is empty"),
        ("audit shards --csv -", "only --json goes to standard output"),
        ("fit mu.npy --variance shards -o s.safetensors", "has no array shards"),
        ("fit mu.npy --variance loop.safetensors -o loop.safetensors", "has no array loop.safetensors"),
    ):
        assert main(arguments.split()) == 2
        assert problem in capsys.readouterr().err
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.np?")} == before
    assert not list(tmp_path.glob("b*"))


def test_names_of_labels_in_a_table_are_only_shown(tmp_path):
    np.savez(tmp_path / "a.npz", **normal(60, 2), **{"\x1b[2J\n": np.arange(60) % 2})
    arguments = ["audit", str(tmp_path / "a.npz"), "--labels", "\x1b[2J\n", "--csv", str(tmp_path / "a.csv")]
    assert main([*arguments, "--points", "100"]) == 0
    assert all(line.isprintable() for line in (tmp_path / "a.csv").read_text().splitlines())


SAMPLER = {
    "weights": np.ones(1), "means": np.zeros((1, 0)), "factors": np.zeros((1, 0)), "active": np.zeros(0, np.int64),
    "shift": np.zeros(2), "scale": np.ones(2),
}  # fmt: skip
HEADER = {"format": FORMAT, "kind": "prior", "candidates": [], "about": {}}


@pytest.mark.parametrize(
    "change",
    [
        {"shift": np.array(0.0)},
        {"weights": np.array(1.0)},
        {"active": np.array([np.nan])},
        {"scale": np.array([1, -1.0])},
        {"scale": np.array([1, 5e-324])},
        {"means": np.zeros((1, 1)), "factors": -np.ones((1, 1)), "active": np.zeros(1)},
        {"candidates": 5},
        {"candidates": {"a": 1}},
        {"about": 5},
    ],
)
def test_damaged_samplers_are_one_line(tmp_path, change):
    arrays = SAMPLER | {name: value for name, value in change.items() if name in SAMPLER}
    header = HEADER | {name: value for name, value in change.items() if name in HEADER}
    save_file(arrays, tmp_path / "s.safetensors", {"metadata": json.dumps(header)})
    with pytest.raises(DataError, match="make it again"):
        load_sampler(tmp_path / "s.safetensors")


@pytest.mark.parametrize("header", ["[]", "1", '"x"', "null"])
def test_headers_of_other_things_are_no_samplers(tmp_path, header):
    save_file(SAMPLER, tmp_path / "s.safetensors", {"metadata": header})
    with pytest.raises(DataError, match="is no sampler"):
        load_sampler(tmp_path / "s.safetensors")


def test_codes_that_float32_cannot_hold_are_not_written(tmp_path, capsys):
    save_file(SAMPLER | {"shift": np.full(2, 1e60)}, tmp_path / "s.safetensors", {"metadata": json.dumps(HEADER)})
    assert main(["sample", str(tmp_path / "s.safetensors"), "-n", "5", "-o", str(tmp_path / "z.npy")]) == 2
    assert "too large for float32" in capsys.readouterr().err and not (tmp_path / "z.npy").exists()


def test_more_codes_than_fit_are_refused_beforehand(tmp_path, capsys):
    save_file(SAMPLER, tmp_path / "s.safetensors", {"metadata": json.dumps(HEADER)})
    for name, number in (("z.npy", 10**15), ("z.csv", 10**30), ("z.safetensors", 10**15)):
        assert main(["sample", str(tmp_path / "s.safetensors"), "-n", str(number), "-o", str(tmp_path / name)]) == 2
        assert "codes take" in capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"s.safetensors"}


@pytest.mark.parametrize(
    ("prior", "message"),
    [
        (np.zeros((1, 2)), "1 are too few; give at least 40"),
        (np.zeros((40, 2)), "dimension 0 is the same in all"),
        (np.ones((50, 2), complex), "has type complex128"),
        (np.full((50, 2), "x"), "has type <U1"),
        ({"means": np.zeros((1, 2)), "covariances": np.full((1, 2, 2), np.nan)}, "covariances: holds NaN"),
        ({"means": np.zeros((1, 2)), "covariances": np.array([[[1, 0.5], [0, 1]]])}, "not symmetric"),
        ({"means": np.full((1, 2), 1e200), "variances": np.ones((1, 2))}, "prior means: holds NaN, infinity, or"),
        ({"means": np.zeros((1, 2)), "variances": np.full((1, 2), 1e-300)}, "variances must lie between"),
        ({"means": np.zeros((1, 2)), "variances": np.ones((1, 2)), "weights": np.array(["1"])}, "has type <U1"),
    ],
)
def test_priors_that_are_none(prior, message):
    with pytest.raises(DataError, match=message):
        as_prior(prior, 2)


@pytest.mark.parametrize("name", ["pi", "w", "logits", "stds", "labels", "means_2", "weights_test"])
@pytest.mark.parametrize("kind", ["mapping", "npz", "folder"])
def test_an_unknown_part_of_a_prior_is_not_left_out(tmp_path, name, kind):
    prior = {"means": np.zeros((2, 2)), "variances": np.ones((2, 2)), name: np.array([0.9, 0.1])}
    if kind == "npz":
        np.savez(tmp_path / "p.npz", **prior)
    elif kind == "folder":
        for part, array in prior.items():
            np.save(tmp_path / f"{part}.npy", array)
    with pytest.raises(DataError, match=f"prior: has no part {name}; it may have means"):
        as_prior({"mapping": prior, "npz": tmp_path / "p.npz", "folder": tmp_path}[kind], 2)


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"draws": np.zeros((50, 2))}, "draws and means, variances are both given"),
        ({"mu": np.zeros((2, 2))}, "means and mu are both given"),
        ({"std": np.ones((2, 2))}, "with one of variances"),
    ],
)
def test_a_prior_given_twice_over_is_refused(parts, message):
    with pytest.raises(DataError, match=message):
        as_prior({"means": np.zeros((2, 2)), "variances": np.ones((2, 2))} | parts, 2)


@pytest.mark.parametrize("spread", [{"logvar": np.log(0.25)}, {"std": 0.5}, {"log_std": np.log(0.5)}, {"var": 0.25}])
def test_a_prior_saved_as_posteriors_are(tmp_path, spread):
    ((name, value),) = spread.items()
    np.savez(tmp_path / "p.npz", **{"mu": np.ones((3, 2)), name: np.full((3, 2), value), "weight": [1.0, 2.0, 1.0]})
    law = as_prior(str(tmp_path / "p.npz"), 2).law
    np.testing.assert_allclose(law.weights, [0.25, 0.5, 0.25])
    # ln N(1; 1, 1/4) in two dimensions.
    np.testing.assert_allclose(law.score_samples(np.ones((1, 2))), -np.log(2 * np.pi * 0.25))
    with pytest.raises(DataError, match=r"prior std: 6 of 6 .* a standard deviation cannot be negative"):
        as_prior({"mu": np.ones((3, 2)), "std": -np.ones((3, 2))}, 2)


def test_an_npy_file_of_any_name_is_draws_of_a_prior_and_no_name_is_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    draws = normal(60, 2)["mean"]
    np.save("p3.npy", draws)
    np.testing.assert_array_equal(as_prior("p3.npy", 2).draws, draws)
    np.save("draws.npy", draws)
    (tmp_path / "p3.npy").unlink()
    with pytest.raises(DataError, match="prior: the file's name is empty"):
        as_prior("", 2)


def test_weights_of_a_prior_are_shares():
    parts = {"means": np.zeros((2, 2)), "variances": np.ones((2, 2)), "weights": np.full(2, 1.7e308)}
    np.testing.assert_array_equal(as_prior(parts, 2).law.weights, 0.5)


@pytest.mark.parametrize("names", ["mean_0,mean_7,variance_0,variance_1", "mean_1,mean_2,variance_1,variance_3"])
def test_numbered_columns_with_a_gap_are_refused(tmp_path, names):
    (tmp_path / "a.csv").write_text(names + "\n" + "1.5,1,1,1\n2,3,1,1\n" * 9)
    with pytest.raises(DataError, match="without a gap"):
        read_posteriors(tmp_path / "a.csv")


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("mean_0,mean_1,std_0,std_1,mean,std", "column mean stands beside mean_0, mean_1"),
        ("mean,std,mean_0,mean_1,std_0,std_1", "column mean stands beside mean_0, mean_1"),
        ("mean_0,mean_1,std_0,std_1,label,label", "column label stands beside label.1"),
        ("mean_0,mean_1,std_0,std_1,label,label_1", "column label stands beside label_1"),
        ("mean_0,mean_1,std_0,std_1,label_1,label", "column label stands beside label_1"),
    ],
)
def test_a_column_without_a_number_beside_numbered_ones_is_refused(tmp_path, header, words):
    rows = [",".join(f"{x:.4f}" for x in row) for row in np.random.default_rng(0).uniform(0.1, 1, (20, 6))]
    (tmp_path / "own.csv").write_text("\n".join([header, *rows]))
    with pytest.raises(DataError, match=words):
        read_posteriors(tmp_path / "own.csv")


@pytest.mark.parametrize("end", [",", ",7"])
def test_rows_of_a_table_with_more_fields_than_its_header_are_refused(tmp_path, end):
    rows = [",".join(f"{x:.4f}" for x in row) + ",2" for row in np.random.default_rng(0).uniform(0.1, 1, (20, 4))]
    path = tmp_path / "own.csv"
    for faulty in (range(20), [0], [9]):
        lines = [row + end * (i in faulty) for i, row in enumerate(rows)]
        path.write_text("\n".join(["mean_0,mean_1,logvar_0,logvar_1,labels", *lines]))
        with pytest.raises(
            DataError, match=r"more fields than the header has names \(5\)|Expected 5 fields in line 11"
        ):
            read_posteriors(path)


@pytest.mark.parametrize("name", ["None", "NA", "null", "nan", "N/A", "#N/A", "-nan"])
def test_a_class_or_group_of_a_table_may_be_called_none(tmp_path, name):
    """Namibia is NA."""
    classes, donors = [name, "FR", ""] * 20, [name, "a", "b"] * 20
    columns = {f"{key}_{j}": array[:, j] for key, array in normal(60, 2).items() for j in range(2)}
    pd.DataFrame(columns | {"labels": classes, "groups": donors, "age": [1.5, np.nan, 3] * 20}).to_csv(
        tmp_path / "a.csv", index=False
    )
    read = read_posteriors(tmp_path / "a.csv")
    assert read.labels_train.tolist() == classes and read.groups_train.tolist() == donors
    # Numbers stay numbers, with what is missing among them.
    ages = read_posteriors(tmp_path / "a.csv", Reading({"labels": "age"})).labels_train
    assert ages.dtype == np.float64 and np.isnan(ages).sum() == 20
    text = (tmp_path / "a.csv").read_text().splitlines()
    text[8] = name + text[8][text[8].index(",") :]
    (tmp_path / "a.csv").write_text("\n".join(text))
    with pytest.raises(DataError, match=r"mean: .*NaN"):
        read_posteriors(tmp_path / "a.csv")


@pytest.mark.parametrize(("mark", "word"), [(";", "semicolons"), ("\t", "tabs")])
@pytest.mark.parametrize("number", ["0.5", "0,5"])
def test_a_table_without_commas_says_so(tmp_path, mark, word, number):
    rows = [mark.join(["mean_0", "mean_1", "std_0", "std_1"]), *[mark.join([number, "1", number, "1"])] * 9]
    (tmp_path / "a.csv").write_text("\n".join(rows))
    with pytest.raises(DataError, match=f"a.csv: the columns are separated by {word}; write it with commas"):
        read_posteriors(tmp_path / "a.csv")


@pytest.mark.parametrize("number", ["0,5", "1,234.5", "x"])
def test_a_number_that_cannot_be_read_is_named(tmp_path, number):
    lines = ["0.1,0.2,1,1", "0.3,0.4,1,1", f'0.5,"{number}",1,1', f'0.5,"{number}",1,1']
    (tmp_path / "a.csv").write_text("\n".join(["mean_0,mean_1,std_0,std_1", *lines]))
    (tmp_path / "b.csv").write_text("\n".join(["mean_0,mean_1,std_0,std_1", *lines]))
    with pytest.raises(DataError, match=rf"a.csv: mean: row 2, dimension 1 is '{number}'; expected numbers"):
        read_posteriors(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("\n".join(["mean_0,mean_1,std_0,std_1", *lines[:2]]))
    with pytest.raises(DataError, match="mean: row 4, dimension 1 is"):
        read_posteriors(tmp_path)


def test_one_latent_dimension_needs_no_number_in_a_table(tmp_path):
    (tmp_path / "a.csv").write_text("mean,Width,labels\n" + "1.5,2,0\n2,4,1\n" * 9)
    read = read_posteriors(tmp_path / "a.csv", Reading({"variance": "Width"}))
    np.testing.assert_array_equal(read.mean_train[:2], [[1.5], [2]])
    np.testing.assert_array_equal(read.variance_train[:2], [[2], [4]])
    assert read.labels_train.tolist() == [0, 1] * 9


def test_a_name_with_commas_is_a_name_where_there_is_such_an_array(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    plain = normal(60, 2)
    ages, cells = np.linspace(1, 2, 60), np.arange(60) % 3
    arrays = {"age, years": ages, "cell": cells, "mean, raw": plain["mean"], "variance": plain["variance"]}
    np.savez("a.npz", **arrays)
    np.save("cell,type.npy", cells)
    for labels in ("age, years", ("age, years",)):
        read = read_posteriors("a.npz", Reading({"mean": "mean, raw", "labels": labels}))
        np.testing.assert_allclose(read.labels_train, ages)
    for labels in ("cell,age", ("cell", "age")):
        np.savez("b.npz", **plain, cell=cells, age=ages)
        assert read_posteriors("b.npz", Reading({"labels": labels})).labels_train.dtype.names == ("cell", "age")
    options = "--mean|mean, raw|--labels|age, years|--labels|cell|--points|100|--csv|a.csv".split("|")
    assert main(["audit", "a.npz", *options]) == 0
    assert {"r_squared_age, years", "eta_squared_cell"} <= {*pd.read_csv("a.csv").columns}
    assert main(["audit", "b.npz", "--labels", "cell,type.npy", "--points", "100", "--csv", "c.csv"]) == 0
    assert "eta_squared" in pd.read_csv("c.csv")
    assert main(["audit", "b.npz", "--labels", "cell,type.npy", "--csv", "cell,type.npy"]) == 2
    assert "is the input itself" in capsys.readouterr().err
    with pytest.raises(DataError, match="has no array aaaa"):
        read_posteriors("b.npz", Reading({"labels": 300 * "a" + ",cell"}))
    with pytest.raises(DataError, match="has no array mean,variance"):
        read_posteriors("b.npz", Reading({"mean": "mean,variance"}))


def test_columns_may_be_numbered_from_one(tmp_path):
    (tmp_path / "a.csv").write_text("mean_2,mean_1,variance_1,variance_2\n" + "1.5,1,1,2\n2,3,1,2\n" * 9)
    read = read_posteriors(tmp_path / "a.csv").train
    np.testing.assert_array_equal(read.mean[:2], [[1, 1.5], [3, 2]])
    np.testing.assert_array_equal(read.variance[0], [1, 2])


def test_the_pipeline_refuses_dimensions_that_follow_from_others(tmp_path):
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(100, 1)) * [1, 2]
    np.savez(tmp_path / "a.npz", mean=mean, variance=np.full((100, 2), 1e-20))
    with pytest.raises(DataError, match="dimension 1 is a linear combination"):
        prepare_posteriors(str(tmp_path / "a.npz"), str(tmp_path / "b.safetensors"), 2)
    assert not (tmp_path / "b.safetensors").exists()


@pytest.mark.parametrize("half", ["", "_test"])
def test_the_pipeline_refuses_full_covariances(tmp_path, half):
    arrays = with_test(normal(100, 2), normal(50, 2, seed=1))
    del arrays[f"variance{half}"]
    arrays[f"scale_tril{half}"] = np.tile([[1.0, 0.0], [0.9, 0.5]], (len(arrays[f"mean{half}"]), 1, 1))
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=r"a\.npz: has full covariances.*aggregated-posterior audit"):
        prepare_posteriors(str(tmp_path / "a.npz"), str(tmp_path / "b.safetensors"), 2)
    assert not (tmp_path / "b.safetensors").exists()


def test_the_pipeline_refuses_rows_that_an_audit_leaves_out(tmp_path):
    def refused(arrays, words):
        np.savez(tmp_path / "a.npz", **arrays)
        with pytest.raises(DataError, match=rf"a\.npz: .*{words}"):
            prepare_posteriors(str(tmp_path / "a.npz"), str(tmp_path / "b.safetensors"), 2)
        assert not (tmp_path / "b.safetensors").exists()

    both = with_test(normal(100, 2), normal(50, 2, seed=1))
    refused(with_test(normal(100, 2), normal(100, 2)), "100 of 100 held-out rows are training rows too")
    groups = {"groups": np.arange(100) // 2, "groups_test": np.arange(50) // 2 + 45}
    refused(both | groups, "10 of 50 held-out rows are of groups that are in the training half")
    for half, row in (("", "Row"), ("_test", "Held-out row")):
        far = {**both, f"mean{half}": both[f"mean{half}"].copy()}
        far[f"mean{half}"][7, 1] = 1e4
        refused(far, f"{row} 7, dimension 1 is an outlier .*remove 1 such row")
    np.savez(tmp_path / "a.npz", **both)
    prepare_posteriors(str(tmp_path / "a.npz"), str(tmp_path / "b.safetensors"), 2)


def test_the_pipeline_says_what_becomes_of_groups(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", **normal(100, 2), groups=np.repeat(np.arange(20), 5))
    prepare_posteriors(str(tmp_path / "a.npz"), str(tmp_path / "b.safetensors"), 2)
    told = capsys.readouterr().err
    assert told.count("warning:") == 1 and "groups of rows are not kept, and errors are by consecutive rows" in told


@pytest.mark.parametrize("place", ["/proc/x.json", "own.npz/x.json"])
def test_where_nothing_can_be_written_is_refused_before_the_work(tmp_path, capsys, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    np.savez("own.npz", **normal(60, 2))
    monkeypatch.setattr("aggregated_posterior.audit.audit_command._audited", None)  # no work, or it fails
    assert main(["audit", "own.npz", "--html", "new/new.html", "--json", place]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"error: --json: {place} cannot be written (") and err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["own.npz"]


def test_outputs_are_written_all_or_none(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("own.npz", **normal(60, 2))
    # As if the place had been lost during the work.
    monkeypatch.setattr("aggregated_posterior.audit.audit_command.refuse_unwritable", lambda option, path: None)
    assert main(["audit", "own.npz", "--csv", "new.csv", "--json", "/proc/x.json"]) == 2
    assert "/proc/x.json" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["own.npz"]


def test_what_is_more_than_the_disc_has_is_told_in_a_unit_that_shows_it(tmp_path, capsys, monkeypatch):
    save_file(SAMPLER, tmp_path / "s.safetensors", {"metadata": json.dumps(HEADER)})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    assert main(["sample", str(tmp_path / "s.safetensors"), "-n", "100000", "-o", str(tmp_path / "z.npy")]) == 2
    assert "100,000 codes take 800 kB, more than the disc has" in capsys.readouterr().err
