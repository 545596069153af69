"""The scripts train_judge and score_samplers on a data set of a few hundred small images."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from aggregated_posterior.model.encoding import encode
from aggregated_posterior.model.vae import VAE, save_vae
from aggregated_posterior.storage import DataError, read_arrays, write_arrays

sys.path.insert(0, str(Path(__file__).parents[3] / "scripts"))
from score_samplers import score_samplers
from train_judge import train_judge

COLUMNS = "judge,sampler,n,frechet,kid,kid_se,precision,recall,density,coverage,class_balance,copy_rate"
SAMPLERS = "floor,ceiling,prior_raw,prior,marginals,gaussian,copula,gmm_2,gmm_5,gmm_means,q_heldout,q_train"
JUDGE = {"epochs": 10, "batch_size": 30, "learning_rate": 3e-3, "minimum_accuracy": 0.8}
SETTINGS = {"images": 60, "components": [2, 5], "neighbours": 3, "plate_size": 4, "seed": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A data file, a model with its posteriors, and two judges."""
    path = tmp_path_factory.mktemp("samplers")
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 380)
    images = rng.integers(0, 60, (380, 6, 6, 3))
    images[labels == 1, :3] += 120
    images[labels == 0, 3:] += 120
    images = images.astype(np.uint8)
    arrays = {
        "images_train": images[:300],
        "images_test": images[300:],
        "labels_train": labels[:300],
        "labels_test": labels[300:],
    }
    metadata = {"dataset": "halves", "kind": "image", "image_shape": [6, 6, 3], "maximum": 255, "classes": 2}
    write_arrays(path / "data.safetensors", arrays, metadata)
    torch.manual_seed(0)
    model = VAE(108, 3, [8], "gaussian").eval().requires_grad_(False)
    save_vae(path / "vae.safetensors", model, {})
    posteriors = {}
    for split in ("train", "test"):
        mean, variance = encode(model, arrays[f"images_{split}"], 255)
        posteriors |= {f"mean_{split}": mean, f"variance_{split}": variance}
    write_arrays(path / "posteriors.safetensors", posteriors)
    for seed in (0, 1):
        train_judge(path / "data.safetensors", path / f"judge_{seed}.safetensors", seed=seed, **JUDGE)
    return path


def run(folder: Path, name: str = "a", posteriors: str = "posteriors", **changes) -> pd.DataFrame:
    score_samplers(
        vae=folder / "vae.safetensors",
        posteriors=folder / f"{posteriors}.safetensors",
        data=folder / "data.safetensors",
        judges=[folder / "judge_0.safetensors", folder / "judge_1.safetensors"],
        scores=folder / f"{name}.csv",
        plates=folder / f"{name}.safetensors",
        **{**SETTINGS, **changes},
    )
    return pd.read_csv(folder / f"{name}.csv")


def test_the_judge_file_tells_its_accuracy_and_seed(folder):
    _, metadata = read_arrays(folder / "judge_1.safetensors")
    assert metadata["seed"] == 1
    assert metadata["accuracy"] >= 0.8


def test_a_judge_that_is_not_accurate_enough_is_refused(folder, tmp_path):
    judge = tmp_path / "judge.safetensors"
    with pytest.raises(DataError, match=r"below minimum_accuracy 1\.1; train it for more epochs"):
        train_judge(folder / "data.safetensors", judge, seed=0, **{**JUDGE, "epochs": 1, "minimum_accuracy": 1.1})
    assert not judge.exists()


def test_a_data_file_without_labels_is_refused(folder, tmp_path):
    arrays, metadata = read_arrays(folder / "data.safetensors", ["images_train", "images_test"])
    write_arrays(tmp_path / "data.safetensors", arrays, metadata)
    with pytest.raises(DataError, match="labels_test"):
        train_judge(tmp_path / "data.safetensors", tmp_path / "judge", seed=0, **JUDGE)


def test_every_judge_scores_every_sampler_and_the_bytes_repeat(folder):
    table = run(folder)
    assert ",".join(table.columns) == COLUMNS
    assert ",".join(table.loc[table["judge"] == 0, "sampler"]) == SAMPLERS
    assert ",".join(table.loc[table["judge"] == 1, "sampler"]) == SAMPLERS
    assert (table["n"] == 60).all()
    assert not table.isna().any().any()
    assert (table["frechet"] >= 0).all()
    for share in ("precision", "recall", "coverage", "class_balance"):
        assert table[share].between(0, 1).all()
    # The one rung whose score does not depend on the model: other real images.
    frechet = table.groupby("sampler")["frechet"].mean()
    assert frechet.idxmin() == "floor"
    assert table.loc[table["sampler"] == "floor", "copy_rate"].eq(1).all()
    run(folder, "b")
    for suffix in ("csv", "safetensors"):
        assert (folder / f"a.{suffix}").read_bytes() == (folder / f"b.{suffix}").read_bytes()


def test_plates_are_the_first_images_of_every_sampler(folder):
    run(folder, "c", plate_size=3)
    plates, _ = read_arrays(folder / "c.safetensors")
    assert set(plates) == set(SAMPLERS.split(","))
    assert {(plate.shape, plate.dtype) for plate in plates.values()} == {((3, 6, 6, 3), np.dtype(np.uint8))}


def test_another_number_of_components_changes_no_other_rung(folder):
    few, many = run(folder, "d"), run(folder, "e", components=[7, 2, 3], images=60)
    common = [name for name in SAMPLERS.split(",") if name != "gmm_5"]
    few, many = (t[t["sampler"].isin(common)].sort_values(["judge", "sampler"]) for t in (few, many))
    np.testing.assert_array_equal(few["frechet"], many["frechet"])


def test_all_test_images_are_the_default(folder):
    assert (run(folder, "f", images=None)["n"] == 80).all()


def test_more_images_than_there_are(folder):
    with pytest.raises(DataError, match="images is 81 but there are 80 test images"):
        run(folder, "g", images=81)


def test_posteriors_of_the_test_split_among_the_training_ones_are_refused(folder):
    posteriors, _ = read_arrays(folder / "posteriors.safetensors")
    leaked = dict(posteriors)
    for part in ("mean", "variance"):
        leaked[f"{part}_train"] = np.concatenate([posteriors[f"{part}_train"][:220], posteriors[f"{part}_test"]])
    write_arrays(folder / "leaked.safetensors", leaked)
    with pytest.raises(DataError, match="was fitted to 100% of the posteriors"):
        run(folder, "h", posteriors="leaked")


def test_posteriors_that_do_not_go_with_the_images(folder):
    posteriors, _ = read_arrays(folder / "posteriors.safetensors")
    write_arrays(folder / "short.safetensors", {name: array[:50] for name, array in posteriors.items()})
    with pytest.raises(DataError, match="300 train images but 50 train posteriors"):
        run(folder, "i", posteriors="short")
