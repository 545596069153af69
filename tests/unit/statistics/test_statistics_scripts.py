"""The scripts that turn a posterior file into tables: their columns, their laws, and the same bytes every time."""

import json

import numpy as np
import pandas as pd
import pytest

import compute_statistics
import measure_latent_map
from aggregated_posterior.posterior.mixture import AggregatedPosterior
from aggregated_posterior.storage import DataError, write_arrays

MOMENTS = [
    "split",
    "form",
    "dimension",
    "kl",
    "mean",
    "variance",
    "second_moment",
    "skewness",
    "kurtosis",
    "kurtosis_se_rows",
    "kurtosis_se_blocks",
    "kurtosis_se",
    "kurtosis_low",
    "kurtosis_high",
    "variance_of_means",
    "mean_variance",
    "term_means",
    "term_covariance",
    "term_scale",
    "gauge_slack",
    "kurtosis_bound",
    "active",
    "active_by_variance",
    "active_by_noise",
    "draws_z_mean",
    "draws_z_variance",
    "draws_z_skewness",
    "draws_z_kurtosis",
]
DIVERGENCE = [
    "form",
    "n_train",
    "n_test",
    "mean_kl",
    "mean_kl_test",
    "mutual_information",
    "total_correlation",
    "dimension_wise_kl",
    "kl_in_sample",
    "bracket_low",
    "bracket_low_se",
    "bracket_high",
    "bracket_high_se",
    "identified",
    "certified_gaussian",
    "certified_gaussian_se",
    "certified_gmm",
    "certified_gmm_se",
    "gmm_components",
    "gaussian_part",
    "mmd",
    "mardia_kurtosis",
    "mardia_kurtosis_normal",
    "mardia_skewness",
    "log_n",
    "active_dimensions",
]
FAST = {"active_threshold": 0.05, "seed": 0, "points": 200, "gmm_components": 2, "fit_points": 500, "draws": 20_000}
OUTPUTS = {"moments": "moments.csv", "marginals": "marginals.csv", "curves": "curves.csv", "divergence": "joint.json"}


def compute(posteriors, folder, **settings):
    """Run the script: its four files."""
    files = {name: folder / file for name, file in OUTPUTS.items()}
    compute_statistics.compute_statistics(posteriors, **files, **{**FAST, **settings})
    return files


@pytest.fixture
def posteriors(tmp_path):
    """Two active dimensions, one of them far from normal, and one collapsed."""
    rng = np.random.default_rng(0)
    arrays = {}
    for split, n in (("train", 400), ("test", 150)):
        mean = np.stack(
            [rng.standard_normal(n) * 0.9, np.sign(rng.standard_normal(n)) * 2, 1e-3 * rng.standard_normal(n)], axis=1
        )
        variance = np.stack([np.full(n, 0.2), rng.uniform(0.01, 0.05, n), np.ones(n)], axis=1)
        arrays |= {f"mean_{split}": mean.astype(np.float32), f"variance_{split}": variance.astype(np.float32)}
    write_arrays(tmp_path / "posteriors.safetensors", arrays)
    return tmp_path / "posteriors.safetensors"


def test_moments_table(posteriors, tmp_path):
    table = pd.read_csv(compute(posteriors, tmp_path)["moments"])
    assert list(table.columns) == MOMENTS
    assert len(table) == 2 * 2 * 3
    assert table.groupby("dimension")["active"].nunique().eq(1).all()
    assert table[table["dimension"] == 2]["active"].eq(False).all()
    assert table[table["dimension"] < 2]["active"].all()
    canonical = table[(table["form"] == "canonical") & (table["split"] == "train")]
    np.testing.assert_allclose(canonical["mean"], 0, atol=1e-12)
    np.testing.assert_allclose(canonical["variance"], 1, atol=1e-12)
    held_out = table[(table["form"] == "canonical") & (table["split"] == "test")]
    assert (held_out["variance"] - 1).abs().max() > 1e-3
    raw = table[(table["form"] == "raw") & (table["split"] == "train")]
    np.testing.assert_allclose(raw["kurtosis"].to_numpy(), canonical["kurtosis"].to_numpy(), rtol=1e-9)
    np.testing.assert_allclose((raw["kl"].to_numpy() - canonical["kl"].to_numpy()), raw["gauge_slack"], atol=1e-9)
    assert (table["kurtosis"] >= table["kurtosis_bound"] - 1e-9).all()
    assert table["kurtosis"].between(table["kurtosis_low"], table["kurtosis_high"]).all()
    scores = [name for name in MOMENTS if name.startswith("draws_z")]
    assert raw[scores].abs().max().max() < 4
    assert table.drop(raw.index)[scores].isna().all().all()
    errors = table[["kurtosis_se_rows", "kurtosis_se_blocks"]]
    np.testing.assert_array_equal(table["kurtosis_se"], errors.max(axis=1))
    assert (errors.iloc[:, 0] != errors.iloc[:, 1]).all()
    np.testing.assert_allclose(
        table["kurtosis_high"] - table["kurtosis"], 1.959964 * table["kurtosis_se"], rtol=1e-6, atol=1e-11
    )


def test_the_same_posteriors_give_the_same_bytes(posteriors, tmp_path):
    files = compute(posteriors, tmp_path)
    first = {name: path.read_bytes() for name, path in files.items()}
    compute(posteriors, tmp_path)
    assert {name: path.read_bytes() for name, path in files.items()} == first
    compute(posteriors, tmp_path, seed=1)
    changed = {name for name, path in files.items() if path.read_bytes() != first[name]}
    assert changed == {"moments", "divergence"}  # only what draws: the z-scores, and the joint law


def test_marginals_table_and_curves(posteriors, tmp_path):
    files = compute(posteriors, tmp_path)
    table = pd.read_csv(files["marginals"])
    assert list(table.columns) == ["split", "form", "dimension", "kl", "kl_gaussian", "ks", "w1", "w2", "tv", "active"]
    assert len(table) == 2 * 2 * 3
    assert (table["kl"] >= table["kl_gaussian"] - 1e-12).all()
    shown = pd.read_csv(files["curves"])
    assert list(shown.columns) == ["role", "dimension", "curve", "x", "y"]
    assert shown.groupby(["role", "curve"]).size().to_dict() == {
        ("least_normal", "density"): 241,
        ("least_normal", "quantile"): 199,
        ("most_normal", "density"): 241,
        ("most_normal", "quantile"): 199,
    }
    assert shown[shown["role"] == "least_normal"]["dimension"].eq(1).all()
    density = shown[(shown["role"] == "least_normal") & (shown["curve"] == "density")]
    assert density["y"].sum() * 10 / 240 == pytest.approx(1, abs=1e-3)


def test_no_active_dimension_gives_empty_curves(posteriors, tmp_path):
    assert compute(posteriors, tmp_path, active_threshold=1e6)["curves"].read_text() == "role,dimension,curve,x,y\n"


def test_divergence_rows(posteriors, tmp_path):
    rows = json.loads(compute(posteriors, tmp_path)["divergence"].read_text())
    assert [row["form"] for row in rows] == ["raw", "canonical"]
    assert all(set(DIVERGENCE) <= set(row) for row in rows)
    assert rows[0]["active_dimensions"] == 2
    assert rows[0]["n_train"] == 400
    assert rows[1]["certified_gmm"] > 0.3


@pytest.fixture
def flat_model(tmp_path):
    rng = np.random.default_rng(1)
    mean, variance = rng.standard_normal((500, 2)).astype(np.float32), np.full((500, 2), 0.1, np.float32)
    arrays = {"mean_train": mean, "variance_train": variance, "mean_test": mean[:350], "variance_test": variance[:350]}
    write_arrays(tmp_path / "flat.safetensors", arrays)
    return tmp_path / "flat.safetensors", mean, variance


def latent_map(flat, data, tmp_path):
    measure_latent_map.measure_latent_map(flat, data, tmp_path / "density.csv", tmp_path / "ellipses.csv")
    return pd.read_csv(tmp_path / "density.csv"), pd.read_csv(tmp_path / "ellipses.csv")


def test_latent_map_with_labels(flat_model, tmp_path):
    flat, mean, variance = flat_model
    labels = np.arange(350) % 10
    write_arrays(tmp_path / "data.safetensors", {"labels_test": labels})
    density, ellipses = latent_map(flat, tmp_path / "data.safetensors", tmp_path)
    assert list(density.columns) == ["z1", "z2", "log_density"]
    assert len(density) == 201**2
    step = np.diff(np.unique(density["z1"]))[0]
    assert np.exp(density["log_density"]).sum() * step**2 == pytest.approx(1, abs=0.01)
    row = density.iloc[5000]
    expected = AggregatedPosterior(mean, variance).log_density(row[["z1", "z2"]].to_numpy(float)[None])[0]
    assert row["log_density"] == pytest.approx(expected, rel=1e-9)
    assert list(ellipses.columns) == ["mean_1", "mean_2", "std_1", "std_2", "label"]
    assert ellipses["label"].tolist() == labels[:300].tolist()
    np.testing.assert_allclose(ellipses["std_1"], np.sqrt(0.1), rtol=1e-6)


def test_latent_map_without_labels_and_with_wrong_files(flat_model, posteriors, tmp_path):
    flat = flat_model[0]
    write_arrays(tmp_path / "data.safetensors", {"images_test": np.zeros((350, 4), np.float32)})
    assert latent_map(flat, tmp_path / "data.safetensors", tmp_path)[1]["label"].isna().all()
    write_arrays(tmp_path / "data.safetensors", {"labels_test": np.arange(9)})
    with pytest.raises(DataError, match="9 labels_test for 350 posteriors"):
        latent_map(flat, tmp_path / "data.safetensors", tmp_path)
    with pytest.raises(DataError, match="needs 2 latent dimensions, this model has 3"):
        latent_map(posteriors, tmp_path / "data.safetensors", tmp_path)


def test_bad_posteriors_write_nothing_and_name_the_file(tmp_path):
    variance = np.ones((5, 2), np.float32)
    variance[3, 1] = np.nan
    arrays = {"mean_train": np.ones((5, 2), np.float32), "variance_train": variance}
    arrays |= {"mean_test": np.ones((5, 2), np.float32), "variance_test": np.ones((5, 2), np.float32)}
    write_arrays(tmp_path / "bad.safetensors", arrays)
    with pytest.raises(DataError, match=r"bad\.safetensors: variance_train: 1 value.*row 3, dimension 1"):
        compute(tmp_path / "bad.safetensors", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["bad.safetensors"]
