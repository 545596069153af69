"""Random streams: each purpose its own, none a user's."""

import ast
from pathlib import Path

import numpy as np
import pytest

from aggregated_posterior.audit.auditing import audit
from aggregated_posterior.streams import stream

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
SOURCES = sorted(path for path in SCRIPTS.rglob("*.py") if path.name != "streams.py")


def torch_normal(seed, shape):
    import torch

    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).numpy()


# What users make their data with.
USERS = {
    "default_rng": lambda seed, shape: np.random.default_rng(seed).standard_normal(shape),
    "default_rng of a list": lambda seed, shape: np.random.default_rng([seed, 1]).standard_normal(shape),
    "PCG64": lambda seed, shape: np.random.Generator(np.random.PCG64(seed)).standard_normal(shape),
    "RandomState": lambda seed, shape: np.random.RandomState(seed).standard_normal(shape),
    "torch": torch_normal,
}


def test_a_stream_is_a_function_of_seed_and_purpose():
    assert (stream(3, "noise", 1).normal(size=5) == stream(3, "noise", 1).normal(size=5)).all()


@pytest.mark.parametrize("other", [(3, "noise"), (3, "noise", 2), (4, "noise", 1), (3, "nois", "e1"), (3, "noise1")])
def test_other_purposes_and_seeds_are_other_streams(other):
    assert not np.isin(stream(*other).random(1000), stream(3, "noise", 1).random(1000)).any()


@pytest.mark.parametrize("seed", range(4))
def test_no_stream_is_a_users_own(seed):
    own = stream(seed, "joint law").standard_normal(2000)
    for users in (np.random.default_rng(seed), np.random.default_rng([seed, 1]), np.random.RandomState(seed)):
        values = users.standard_normal(2000)
        assert abs(np.corrcoef(values, own)[0, 1]) < 0.1 and not np.isin(values, own).any()


def own_generators(source: str) -> list[str]:
    """Calls that make or seed a generator, or draw from a shared one, with their lines."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            if name.startswith(("np.random.", "numpy.random.", "random.")) or name.endswith(
                ("default_rng", "RandomState")
            ):
                found.append(f"line {node.lineno}: {name}")
    return found


def test_own_generators_are_found():
    assert own_generators("rng = np.random.default_rng(0)\nnp.random.SeedSequence(1)\nrandom.random()") == [
        "line 1: np.random.default_rng",
        "line 2: np.random.SeedSequence",
        "line 3: random.random",
    ]
    assert own_generators("def f(rng: np.random.Generator): return rng.random() + stream(0, 'f').random()") == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_every_draw_comes_from_a_stream_with_a_key_of_its_own(path):
    assert own_generators(path.read_text(encoding="utf-8")) == []


def test_no_two_places_share_a_stream():
    """The words of a purpose that are written out differ from one call to the next."""
    seen: dict[tuple[str, ...], str] = {}
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("stream", "seed_sequence"):
                key = tuple(ast.unparse(word) for word in node.args[1:])
                place = f"{path.name}:{node.lineno}"
                assert key, f"{place}: a stream without a purpose"
                assert seen.setdefault(key, place) == place, f"{place} and {seen[key]} share the stream {key}"


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("seed", range(2))
def test_an_audit_of_data_made_with_the_same_seed_is_right(user, seed):
    """The law is N(0, I): whatever a coincidence of draws would certify is false."""
    draws = 0.8 * USERS[user](seed, (2000, 3))
    found = audit(
        draws[:1500], np.full((1500, 3), 0.36), mean_test=draws[1500:], variance_test=np.full((500, 3), 0.36),
        seed=seed, points=2500, gmm_components=3, fit_points=2000,
    )  # fmt: skip
    (row,) = found.divergence[found.divergence["form"] == "canonical"].to_dict("records")
    for name in ("certified_gaussian", "certified_gmm"):
        assert abs(row[name]) < 0.1 + 3 * row[f"{name}_se"], name
    assert 0 <= row["mutual_information"] <= np.log(1500)
    assert found.dimensions["kurtosis"].between(2.5, 3.5).all()


@pytest.mark.parametrize("user", USERS)
def test_a_split_does_not_depend_on_how_the_rows_were_drawn(user):
    from aggregated_posterior.posterior.exchangeable import hold_out
    from aggregated_posterior.posterior.foreign_files import posteriors_from_arrays

    mean = USERS[user](0, (1000, 2))
    held = hold_out(posteriors_from_arrays({"mean": mean, "variance": np.ones_like(mean)}), 0).test
    assert abs(held.mean.mean()) < 5 / np.sqrt(held.mean.size)
