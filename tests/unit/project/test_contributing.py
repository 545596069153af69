"""The examples of CONTRIBUTING.md work as they stand."""

import re
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from aggregated_posterior.data.datasets import load_dataset
from aggregated_posterior.pipeline.configuration import cells, validate
from aggregated_posterior.pipeline.schemas import load_registry, read_yaml
from aggregated_posterior.posterior.mixture import AggregatedPosterior

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def example(section, language):
    """The first block of code of a section."""
    return re.search(rf"^## {section}$.*?```{language}\n(.*?)```", TEXT, re.M | re.S).group(1)


def run(section):
    names = {}
    exec(compile(example(section, "python"), section, "exec"), names)
    return names


def test_a_statistic():
    sixth_moment = run("A statistic")["sixth_moment"]
    # N(0, 1) whichever way it is split into means and variances: 15.
    rng = np.random.default_rng(0)
    assert sixth_moment(AggregatedPosterior(np.zeros((4, 2)), np.ones((4, 2)))) == pytest.approx(15)
    q = AggregatedPosterior(rng.normal(size=(50, 1)), rng.uniform(0.1, 0.5, size=(50, 1)))
    z = q.sample(400_000, rng)[:, 0]
    powers = (z - z.mean()) ** 6
    assert abs(sixth_moment(q)[0] - powers.mean()) < 5 * powers.std() / np.sqrt(len(z))


def test_a_figure():
    draw = run("A figure")["skewness_by_kl_weight"]
    rows = {"kl_weight": [0.5, 1.0, 1.0], "skewness": [0.1, -0.2, 9.0], "active": [True, True, False]}
    moments = pd.DataFrame({**rows, "split": "train", "form": "canonical"})
    (axes,) = draw(moments, None).axes
    assert axes.lines[0].get_ydata() == pytest.approx([0.1, -0.2])


def test_an_architectures_setting():
    sweep = yaml.safe_load(example("An architecture", "yaml"))
    content = validate(
        {"experiment": "mine", "sweeps": sweep}, read_yaml(ROOT / "workflow/schemas/config.schema.yaml"), "mine.yaml"
    )
    registry = load_registry(ROOT / "config/datasets.yaml", ROOT / "workflow/schemas/datasets.schema.yaml")
    assert [cell["training"]["hidden_sizes"] for cell in cells(content, registry)] == [[512, 128, 32]] * 3


def test_an_architectures_layers_keep_the_gauge_identity(monkeypatch):
    import torch

    from aggregated_posterior.model.vae import ARCHITECTURES, VAE, objective

    monkeypatch.setitem(ARCHITECTURES, "smooth", run("An architecture")["smooth"])
    model = VAE(6, 3, [5], "bernoulli", architecture="smooth").double()
    assert any(isinstance(layer, torch.nn.SiLU) for layer in model.decoder)
    random = torch.Generator().manual_seed(0)
    x = torch.rand(7, 6, generator=random, dtype=torch.float64)
    noise = torch.randn(7, 3, generator=random, dtype=torch.float64)
    found = objective(model, x, noise, kl_weight=2.0)
    found.loss.backward()
    first = model.first_decoder_layer
    shift = model.head_mean.bias.grad - first.weight.T @ first.bias.grad
    assert torch.allclose(shift, 2.0 * found.mean.mean(dim=0), atol=1e-10)


def test_a_data_set(tmp_path, monkeypatch):
    from PIL import Image

    entry = yaml.safe_load(example("A data set", "yaml"))
    (tmp_path / "datasets.yaml").write_text(example("A data set", "yaml"))
    registry = load_registry(tmp_path / "datasets.yaml", ROOT / "workflow/schemas/datasets.schema.yaml")
    monkeypatch.chdir(tmp_path)
    with zipfile.ZipFile(entry["shapes"]["path"], "w") as archive:
        for shade in range(20):
            for name in ("discs", "squares"):
                with archive.open(f"{name}/{shade}.png", "w") as stream:
                    Image.new("L", (20, 20), shade).save(stream, "PNG")
    loaded = load_dataset("shapes", registry["shapes"], [], seed=0)
    assert loaded.images_train.shape == (32, 16, 16) and loaded.images_test.shape == (8, 16, 16)
    assert set(loaded.labels_train) == {0, 1}
