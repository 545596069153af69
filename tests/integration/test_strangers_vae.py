"""The audit on other people's models: one trained with pythae, one hand-made in torch, one file made by hand."""

from __future__ import annotations

import json

import numpy as np
import pytest

from aggregated_posterior.audit.auditing import audit, audit_file
from aggregated_posterior.audit.cli import main
from aggregated_posterior.posterior.mixture import AggregatedPosterior

FAST = {"points": 400, "gmm_components": 4, "fit_points": 2000}


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 64) in [0, 1] and classes (N,) of scikit-learn's digits."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    return (bunch.data / 16).astype(np.float32), bunch.target


def test_a_vae_trained_with_pythae(digits, tmp_path):
    pytest.importorskip("pythae", reason="pythae is not installed: pip install '.[comparison]'")
    torch = pytest.importorskip("torch", reason="pythae needs torch")
    from pythae.models import VAE, VAEConfig
    from pythae.pipelines import TrainingPipeline
    from pythae.trainers import BaseTrainerConfig

    torch.manual_seed(0)
    images = digits[0][:1000].reshape(-1, 1, 8, 8)
    model = VAE(VAEConfig(input_dim=(1, 8, 8), latent_dim=3, reconstruction_loss="bce"))
    settings = BaseTrainerConfig(
        output_dir=str(tmp_path / "pythae"),
        num_epochs=6,
        per_device_train_batch_size=50,
        learning_rate=2e-3,
        no_cuda=True,
    )
    TrainingPipeline(training_config=settings, model=model)(train_data=images)
    model.eval().to("cpu")
    with torch.no_grad():
        posterior = model.encoder(torch.as_tensor(images))
    result = audit(posterior.embedding, log_variance=posterior.log_covariance, labels=digits[1][:1000], **FAST)
    rows = result.dimensions
    assert len(rows) == 3 and rows["active"].any()
    assert result.warnings == []
    # The moments are those of draws of this model's own posteriors.
    rng = np.random.default_rng(0)
    mean, spread = posterior.embedding.numpy(), np.exp(0.5 * posterior.log_covariance.numpy())
    draws = np.concatenate([mean + spread * rng.standard_normal(mean.shape) for _ in range(200)])
    standard = (draws - draws.mean(axis=0)) / draws.std(axis=0)
    np.testing.assert_allclose(rows["kurtosis"], (standard**4).mean(axis=0), atol=0.1)
    assert result.mismatch["low"].le(result.mismatch["high"] + 1e-12).all()
    assert result.findings and result.advice


def test_a_hand_made_torch_model(digits, tmp_path, capsys):
    torch = pytest.importorskip("torch", reason="the hand-made model is a torch model")
    images = torch.as_tensor(digits[0])

    class Autoencoder(torch.nn.Module):
        """The VAE of the README: two layers each way, Bernoulli likelihood."""

        def __init__(self) -> None:
            super().__init__()
            self.encoder = torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 2 * 4))
            self.decoder = torch.nn.Sequential(torch.nn.Linear(4, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64))

        def forward(self, x):
            mean, log_variance = self.encoder(x).chunk(2, dim=1)
            z = mean + (0.5 * log_variance).exp() * torch.randn_like(mean)
            return self.decoder(z), mean, log_variance

    torch.manual_seed(0)
    model = Autoencoder()
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    train, test = images[:1400], images[1400:]
    for _ in range(25):
        for batch in torch.randperm(len(train)).split(100):
            logits, mean, log_variance = model(train[batch])
            loss = torch.nn.functional.binary_cross_entropy_with_logits(logits, train[batch], reduction="sum")
            loss = loss + 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum()
            optimiser.zero_grad()
            (loss / len(batch)).backward()
            optimiser.step()
    # Straight from the graph: gradients and all.
    _, mean, log_variance = model(train)
    _, mean_test, log_variance_test = model(test)
    assert mean.requires_grad
    result = audit(
        mean, log_variance=log_variance, mean_test=mean_test, log_variance_test=log_variance_test,
        labels=digits[1][:1400], labels_test=digits[1][1400:], **FAST,
    )  # fmt: skip
    rows = result.dimensions
    assert list(rows["split"].unique()) == ["train", "test"] and len(rows) == 8
    assert rows["active"].sum() >= 4
    assert rows["eta_squared"].between(0, 1).all() and rows["eta_squared"].max() > 0.1
    q = AggregatedPosterior(mean.detach().numpy(), log_variance.exp().detach().numpy())
    np.testing.assert_allclose(rows["kl"][:4], q.kl(), rtol=1e-5)
    # Gradient descent is near a stationary point, where the gauge identity holds: little is to be had for free.
    assert result.summary["gauge_slack"] < 0.2

    # The same through a file and the command.
    path = tmp_path / "posteriors.npz"
    np.savez(path, mean=mean.detach().numpy(), log_variance=log_variance.detach().numpy())
    assert main(["audit", str(path), "--json", str(tmp_path / "audit.json"), "--points", "300"]) == 0
    assert "What to do" in capsys.readouterr().out
    written = json.loads((tmp_path / "audit.json").read_text())
    np.testing.assert_allclose([row["kl"] for row in written["dimensions"]], rows["kl"][:4], rtol=1e-6)


def test_a_file_made_by_hand(tmp_path):
    """Two classes at ±0.9 with σ = √0.19 in the first dimension, nothing in the second: every number is known."""
    mean = np.zeros((500, 2))
    mean[::2, 0], mean[1::2, 0] = 0.9, -0.9
    std = np.tile([np.sqrt(0.19), 1.0], (500, 1))
    path = tmp_path / "posteriors.npz"
    np.savez(path, mean=mean, std=std, labels=np.arange(500) % 2)
    result = audit_file(path, **FAST)
    first, second = result.dimensions.to_dict("records")
    assert first["active"] and not second["active"]
    assert first["kurtosis"] == pytest.approx(3 - 2 * 0.9**4, abs=1e-12)
    assert first["kl"] == pytest.approx(-0.5 * np.log(0.19), abs=1e-12)
    assert first["marginal_kl"] == pytest.approx(0.18927903, abs=5e-9)
    assert first["eta_squared"] == pytest.approx(0.81, abs=1e-12)
    assert first["cause"] == "shape of the means"
    part = result.mismatch.set_index("part")
    assert part.loc["scale", "nats"] == pytest.approx(0, abs=1e-12)
    assert part.loc["total", "low"] == pytest.approx(0.189, abs=0.02)


def test_the_pipeline_takes_the_same_file(tmp_path):
    """`prepare_posteriors` makes of a stranger's file what every rule after it reads."""
    import importlib.util
    from pathlib import Path

    from aggregated_posterior.storage import DataError, read_arrays

    script = Path(__file__).parents[2] / "scripts" / "prepare_posteriors.py"
    spec = importlib.util.spec_from_file_location("prepare_posteriors", script)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    rng = np.random.default_rng(0)
    mean = rng.standard_normal((100, 2)).astype(np.float32)
    source, target = tmp_path / "own.npz", tmp_path / "posteriors.safetensors"
    np.savez(source, mean=mean, log_variance=np.full_like(mean, -1))
    module.prepare_posteriors(str(source), str(target), latent_dim=2)
    arrays, metadata = read_arrays(target)
    assert {name: array.shape for name, array in arrays.items()} == {
        "mean_train": (80, 2), "variance_train": (80, 2), "mean_test": (20, 2), "variance_test": (20, 2),
    }  # fmt: skip
    assert metadata == {"source": "external", "held_out": "a seeded fifth of the rows"}
    np.testing.assert_allclose(arrays["variance_test"], np.exp(-1), rtol=1e-7)
    np.savez(source, mean=mean, log_variance=np.full_like(mean, -1), mean_test=mean[:7], std_test=np.ones((7, 2)))
    module.prepare_posteriors(str(source), str(target), latent_dim=2)
    arrays, metadata = read_arrays(target)
    assert arrays["mean_train"].shape == (100, 2) and arrays["mean_test"].shape == (7, 2)
    assert metadata["held_out"] == "given"
    with pytest.raises(DataError, match="has 2 latent dimensions, the configuration says 3"):
        module.prepare_posteriors(str(source), str(target), latent_dim=3)
