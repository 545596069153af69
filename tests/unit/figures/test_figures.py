"""Figures: each draws from tidy tables, gives the same bytes twice, and survives empty or lonely cells."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from aggregated_posterior.audit.pictures import picture_of_activity
from aggregated_posterior.figures import density as figures_density
from aggregated_posterior.figures import divergence as figures_divergence
from aggregated_posterior.figures import findings as figures_findings
from aggregated_posterior.figures import kurtosis as figures_kurtosis
from aggregated_posterior.figures import samplers as figures_samplers
from aggregated_posterior.figures import style as figures
from aggregated_posterior.figures import training as figures_training
from aggregated_posterior.storage import DataError

ROOT = Path(__file__).resolve().parents[3]
KEYS = ["experiment", "dataset", "architecture", "likelihood", "latent_dim", "kl_weight", "seed"]
SAMPLERS = {
    "floor": 2.0,
    "ceiling": 14.0,
    "prior_raw": 60.0,
    "prior": 58.0,
    "marginals_raw": 55.0,
    "marginals": 52.0,
    "dependence_raw": 40.0,
    "dependence": 36.0,
    "gaussian": 50.0,
    "copula": 44.0,
    "gmm_10": 30.0,
    "gmm_100": 24.0,
    "q_heldout": 15.0,
    "q_train_raw": 19.0,
    "q_train": 13.0,
}


# --- synthetic tables: real mixtures where a formula is short, plausible numbers elsewhere ------------------


def _posteriors(latent_dim: int, kl_weight: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return means and variances (400, d) whose dimensions die as the KL weight and their index grow."""
    strength = np.clip(1.15 - 0.35 * kl_weight**0.5 - 0.5 * np.arange(latent_dim) / latent_dim, 0, 0.97)
    strength[strength < 0.15] = 0.0005
    shape = np.where(
        rng.random((400, latent_dim)) < 0.5,
        rng.uniform(-1.7, 1.7, (400, latent_dim)),
        rng.normal(size=(400, latent_dim)),
    )
    mean = np.sqrt(strength) * shape / shape.std(axis=0) + 0.01 * rng.normal(size=latent_dim)
    variance = (1 - strength) * rng.gamma(6, 1 / 6, (400, latent_dim)) * np.exp(0.2 * np.abs(mean))
    return mean, np.clip(variance, 1e-4, None)


def _moments(mean: np.ndarray, variance: np.ndarray, form: str, split: str) -> pd.DataFrame:
    """Return the rows of moments.csv for one model, from the exact formulas."""
    kl = ((mean**2 + variance - 1 - np.log(variance)) / 2).mean(axis=0)
    active = kl > 0.05
    if form == "canonical":
        total = mean.var(axis=0) + variance.mean(axis=0)
        mean, variance = (mean - mean.mean(axis=0)) / np.sqrt(total), variance / total
    spread, noise, centred = mean.var(axis=0), variance.mean(axis=0), mean - mean.mean(axis=0)
    square = spread + noise
    term_means = ((centred**4).mean(axis=0) - 3 * spread**2) / square**2
    covariance = (centred**2 * variance).mean(axis=0) - spread * noise
    term_covariance, term_scale = 6 * covariance / square**2, 3 * variance.var(axis=0) / square**2
    kurtosis = 3 + term_means + term_covariance + term_scale
    return pd.DataFrame(
        {
            "split": split,
            "form": form,
            "dimension": range(mean.shape[1]),
            "kl": kl,
            "mean": mean.mean(axis=0),
            "variance": square,
            "second_moment": square + mean.mean(axis=0) ** 2,
            "skewness": (centred**3).mean(axis=0),
            "kurtosis": kurtosis,
            "kurtosis_low": kurtosis - 0.08,
            "kurtosis_high": kurtosis + 0.08,
            "variance_of_means": spread,
            "mean_variance": noise,
            "term_means": term_means,
            "term_covariance": term_covariance,
            "term_scale": term_scale,
            "gauge_slack": 1e-3,
            "kurtosis_bound": (spread + np.sqrt(3) * noise) ** 2 / square**2,
            "active": active,
            "active_by_variance": spread > 0.01,
            "active_by_noise": noise < 0.95,
        }
    )


def _curves(mean: np.ndarray, variance: np.ndarray, moments: pd.DataFrame) -> pd.DataFrame:
    active = moments[moments["active"]].sort_values("kl")
    tables, grid = [], np.linspace(-5, 5, 121)
    for role, place in (("most_normal", 0), ("least_normal", -1)):
        if active.empty:
            break
        j = int(active["dimension"].iloc[place])
        density = np.exp(-((grid[:, None] - mean[:, j]) ** 2) / (2 * variance[:, j])) / np.sqrt(
            2 * np.pi * variance[:, j]
        )
        density = density.mean(axis=1)
        cumulative = np.cumsum(density) / density.sum()
        normal = np.linspace(-2.5, 2.5, 99)
        quantile = np.interp(normal, grid, grid + 0.4 * np.sin(grid)) + 0 * cumulative[:99]
        for curve, x, y in (("density", grid, density), ("quantile", normal, quantile)):
            tables.append(pd.DataFrame({"role": role, "dimension": j, "curve": curve, "x": x, "y": y}))
    columns = ["role", "dimension", "curve", "x", "y"]
    return pd.concat(tables) if tables else pd.DataFrame(columns=columns)


def _history(kl_weight: float, latent_dim: int, rng: np.random.Generator) -> pd.DataFrame:
    epoch = np.arange(1, 31)
    rate = 4.0 * np.sqrt(latent_dim) / kl_weight**0.45 * (1 + 0.02 * rng.normal())
    return pd.DataFrame(
        {
            "epoch": epoch,
            "reconstruction": 95 - 2.1 * rate * (1 - np.exp(-epoch / 6)) + 12 * np.exp(-epoch / 5),
            "kl": rate * (1 - np.exp(-epoch / 3)),
            "active_dimensions": latent_dim,
            "gauge_residual": 0.9 * np.exp(-epoch / 7) + 0.01 * rng.random(30),
        }
    )


def _divergence(kl_weight: float, latent_dim: int, form: str, rng: np.random.Generator) -> pd.DataFrame:
    true = 0.9 * latent_dim**0.8 / kl_weight**0.6 * (1 + 0.05 * rng.normal())
    half = 0.12 * latent_dim
    return pd.DataFrame(
        [
            {
                "form": form,
                "mean_kl": 3 * true,
                "log_n": 7.2,
                "bracket_low": true - half,
                "bracket_high": true + half,
                "identified": 2 * half < 1,
                "certified_gaussian": 0.25 * true,
                "certified_gaussian_se": 0.04,
                "certified_gmm": 0.7 * true,
                "certified_gmm_se": 0.06,
                "gaussian_part": 0.2 * true,
                "dimension_wise_kl": 0.12 * true,
                "total_correlation": 0.8 * true,
            }
        ]
    )


def _scores(kl_weight: float, rng: np.random.Generator) -> pd.DataFrame:
    rows = []
    for judge, (name, frechet) in product(range(3), SAMPLERS.items()):
        drop = 1 + 0.2 * np.log(kl_weight) if name not in {"floor"} else 1
        if name == "marginals" and kl_weight > 2:
            frechet += 14  # a step for the worse
        rows.append(
            {
                "judge": judge,
                "sampler": name,
                "n": 1000,
                "frechet": frechet * drop * (1 + 0.03 * rng.normal()),
            }
        )
    return pd.DataFrame(rows)


def _map(mean: np.ndarray, variance: np.ndarray, rng: np.random.Generator) -> tuple[pd.DataFrame, pd.DataFrame]:
    names = {f"mean_{j + 1}": mean[:, j] for j in range(2)}
    names |= {f"std_{j + 1}": np.sqrt(variance[:, j]) for j in range(2)}
    ellipses = pd.DataFrame({"label": rng.integers(0, 10, len(mean)), **names})
    axis = np.linspace(-4, 4, 41)
    z = np.stack([g.ravel() for g in np.meshgrid(axis, axis)], axis=1)
    exponent = -((z[:, None, :] - mean) ** 2 / (2 * variance)).sum(axis=2)
    density = (np.exp(exponent) / (2 * np.pi * np.sqrt(variance.prod(axis=1)))).mean(axis=1)
    return ellipses, pd.DataFrame({"z1": z[:, 0], "z2": z[:, 1], "log_density": np.log(density)})


def make_tables(
    datasets: tuple[str, ...] = ("digits",),
    latent_dims: tuple[int, ...] = (2, 4, 8),
    kl_weights: tuple[float, ...] = (0.25, 1.0, 4.0),
    seeds: tuple[int, ...] = (0, 1, 2),
    controls: bool = True,
) -> dict[str, pd.DataFrame]:
    """Return the experiment tables of a sweep, by name."""
    tables: dict[str, list[pd.DataFrame]] = {}

    def add(table: str, rows: pd.DataFrame, *values: Any) -> None:
        for place, (name, value) in enumerate(zip(KEYS, ("test", *values), strict=True)):
            rows.insert(place, name, value)
        tables.setdefault(table, []).append(rows)

    for dataset, latent_dim, kl_weight, seed in product(datasets, latent_dims, kl_weights, seeds):
        keys = (dataset, "dense", "bernoulli", latent_dim, kl_weight, seed)
        rng = np.random.default_rng([latent_dim, int(100 * kl_weight), seed])
        mean, variance = _posteriors(latent_dim, kl_weight, rng)
        for split, form in product(("train", "test"), ("raw", "canonical")):
            moments = _moments(mean, variance, form, split)
            add("moments", moments, *keys)
            add("marginals", moments[["split", "form", "dimension", "kl", "active"]].copy(), *keys)
        add("marginal_curves", _curves(mean, variance, moments), *keys)
        add("training", _history(kl_weight, latent_dim, rng), *keys)
        for form in ("raw", "canonical"):
            add("divergence", _divergence(kl_weight, latent_dim, form, rng), *keys)
        add("samplers", _scores(kl_weight, rng), *keys)
        if latent_dim == 2:
            for name, rows in zip(("latent_ellipses", "latent_density"), _map(mean, variance, rng), strict=True):
                add(name, rows, *keys)
    for dataset, kl_weight, seed in product(("control_gaussian", "control_uniform"), (0.25, 1.0, 2.0, 4.0), seeds):
        if controls:
            rng = np.random.default_rng([seed, int(100 * kl_weight)])
            eigenvalue = np.array([4.0, 2.0, 1.0, 0.5])
            excess = 0.0 if dataset == "control_gaussian" else -1.2
            expected = np.clip(1 - kl_weight / eigenvalue, 0, None) ** 2 * excess
            measured = expected + 0.03 * rng.normal(size=4)
            rows = pd.DataFrame(
                {"dimension": range(4), "eigenvalue": eigenvalue, "active": True, "expected_excess_kurtosis": expected}
            )
            rows = rows.assign(excess_kurtosis=measured, low=measured - 0.06, high=measured + 0.06)
            keys = {"dataset": dataset, "architecture": "linear", "kl_weight": kl_weight, "seed": seed}
            for place, (name, value) in enumerate(keys.items()):
                rows.insert(place, name, value)
            tables.setdefault("controls", []).append(rows)
    return {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}


def make_plates(cells: list[dict[str, Any]], shape: tuple[int, ...] = (8, 8)) -> list[dict[str, np.ndarray]]:
    """Return noise plates, one per cell."""
    rng = np.random.default_rng(5)
    return [{name: rng.integers(0, 256, (16, *shape), dtype=np.uint8) for name in SAMPLERS} for _ in cells]


def make_cells(
    kl_weights: tuple[float, ...] = (0.25, 1.0, 4.0), seeds: tuple[int, ...] = (0, 1)
) -> list[dict[str, Any]]:
    """Return the keys of cells as the rule hands them over."""
    values = product(("test",), ("digits",), ("dense",), ("bernoulli",), (2, 8), kl_weights, seeds)
    return [dict(zip(KEYS, value, strict=True)) for value in values]


Tables = dict[str, pd.DataFrame]
DRAW: dict[str, Callable[[Tables], Figure]] = {
    "kurtosis_by_kl_weight": lambda t: figures_kurtosis.kurtosis_by_kl_weight(t["moments"], t.get("controls")),
    "kurtosis_by_activity": lambda t: figures_kurtosis.kurtosis_by_activity(t["moments"]),
    "kurtosis_terms": lambda t: figures_kurtosis.kurtosis_terms(t["moments"]),
    "variance_law": lambda t: figures_training.variance_law(t["moments"], t["training"]),
    "active_dimensions": lambda t: figures_training.active_dimensions(t["moments"]),
    "rate_distortion": lambda t: figures_training.rate_distortion(t["training"]),
    "marginals": lambda t: figures_density.marginals(t["marginal_curves"], t["marginals"]),
    "latent_map": lambda t: figures_density.latent_map(t["latent_ellipses"], t["latent_density"]),
    "divergence": lambda t: figures_divergence.divergence(t["divergence"]),
    "sampler_split": lambda t: figures_samplers.sampler_split(t["samplers"]),
    "penalty_shares": lambda t: figures_samplers.penalty_shares(t["samplers"]),
    "sampler_plates": lambda t: figures_samplers.sampler_plates(make_plates(make_cells()), make_cells()),
}


# --- tests --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sweep() -> Tables:
    """Return a small sweep with controls and an inactive dimension somewhere."""
    return make_tables(latent_dims=(2, 4), kl_weights=(0.25, 4.0), seeds=(0, 1))


def _save(figure: Figure, folder: Path) -> dict[str, bytes]:
    pictures = {kind: folder / f"figure.{kind}" for kind in ("svg", "pdf", "png")}
    figures.save_figure(figure, "A finding.\n", {**pictures, "finding": folder / "figure.rst"}, {"dpi": 60})
    assert (folder / "figure.rst").read_text() == "A finding.\n"
    return {kind: path.read_bytes() for kind, path in pictures.items()}


def _texts(figure: Figure) -> str:
    return " ".join(text.get_text() for axis in figure.axes for text in axis.texts)


@pytest.mark.parametrize("name", DRAW)
def test_same_table_gives_same_bytes(name: str, sweep: Tables, tmp_path: Path) -> None:
    """Drawing twice gives identical files, whole, and without a date or a program's version."""
    # One latent size is enough: drawing costs most of this file's time.
    part = {table: rows[rows["latent_dim"] == 2] if "latent_dim" in rows else rows for table, rows in sweep.items()}
    first, second = (_save(DRAW[name](part), tmp_path / copy) for copy in ("one", "two"))
    assert first == second
    assert first["pdf"].startswith(b"%PDF") and first["png"].startswith(b"\x89PNG") and b"</svg>" in first["svg"]
    for content in first.values():
        assert b"Matplotlib v" not in content and b"CreationDate" not in content and b"dc:date" not in content


def test_another_table_gives_other_bytes(sweep: Tables, tmp_path: Path) -> None:
    """The comparison of bytes can fail: one moved point changes every format."""
    moved = sweep["moments"].copy()
    moved["kurtosis"] += 0.05
    first = _save(figures_kurtosis.kurtosis_by_activity(sweep["moments"]), tmp_path)
    second = _save(figures_kurtosis.kurtosis_by_activity(moved), tmp_path)
    assert all(first[kind] != second[kind] for kind in first)


@pytest.mark.parametrize("name", [name for name in DRAW if name != "sampler_plates"])
def test_empty_tables_say_so(name: str, sweep: Tables, tmp_path: Path) -> None:
    """A table of a header, or of key columns alone, draws axes that say why they are empty."""
    for columns in (slice(None), slice(7)):
        empty = {table: pd.read_csv(_csv(rows.iloc[:0, columns], tmp_path)) for table, rows in sweep.items()}
        assert "nothing to show" in _texts(DRAW[name](empty))
        assert "nothing to report" in figures_findings.describe(name, empty, None)


def _csv(table: pd.DataFrame, folder: Path) -> Path:
    table.to_csv(folder / "table.csv", index=False)
    return folder / "table.csv"


def test_no_plates_say_so() -> None:
    """No cell at all draws a note; a cell without one sampler says `none` in its place."""
    assert "nothing to show" in _texts(figures_samplers.sampler_plates([], []))
    plates = [{"prior": np.zeros((4, 8, 8, 3), np.uint8)}, {"q_heldout": np.zeros((4, 8, 8, 3), np.uint8)}]
    assert "none" in _texts(figures_samplers.sampler_plates(plates, make_cells(seeds=(0,))[:2]))


@pytest.mark.parametrize("name", DRAW)
def test_one_run_alone(name: str, tmp_path: Path) -> None:
    """One seed, one latent size, one KL weight and no control are drawn without a warning."""
    tables = make_tables(latent_dims=(2,), kl_weights=(1.0,), seeds=(3,), controls=False)
    tables = {table: pd.read_csv(_csv(rows, tmp_path)) for table, rows in tables.items()}
    with figures.drawing(None):
        assert _inside_and_apart(DRAW[name](tables))
    if name in figures_findings.FINDINGS:
        assert "1 model" in figures_findings.describe(name, tables, None) or name == "active_dimensions", name


@pytest.mark.parametrize("name", [n for n in DRAW if not n.startswith(("rate_", "sampler_", "penalty_"))])
def test_a_strangers_posteriors(name: str, tmp_path: Path) -> None:
    """Posteriors from elsewhere have no KL weight, likelihood or history."""
    tables = make_tables(latent_dims=(2,), kl_weights=(1.0,), seeds=(0,), controls=False)
    for rows in tables.values():
        rows[["kl_weight", "likelihood", "seed"]] = np.nan
        rows["architecture"] = "external"
    tables["training"] = tables["training"].iloc[:0]
    tables["latent_ellipses"]["label"] = np.nan
    held_out = [name for name in tables["divergence"] if name.startswith(("bracket", "certified", "identified"))]
    tables["divergence"][held_out] = np.nan
    DRAW[name](tables).draw_without_rendering()
    assert figures_findings.describe(name, tables, None)


def test_a_cell_without_active_dimension_is_told() -> None:
    """A collapsed cell is named in the figure, and its dimensions are in no median."""
    tables = make_tables(latent_dims=(2,), kl_weights=(0.25, 4.0), seeds=(0, 1), controls=False)
    collapsed = tables["moments"]["kl_weight"] == 4.0
    tables["moments"].loc[collapsed, "active"] = False
    tables["moments"].loc[collapsed, "kurtosis"] = 77777.0
    assert "none\nactive" in _texts(figures_kurtosis.kurtosis_by_kl_weight(tables["moments"]))
    assert "no active dimension" in _texts(figures_kurtosis.kurtosis_terms(tables["moments"]))
    finding = figures_findings.describe("kurtosis_by_kl_weight", tables, None)
    assert "7.78e+04" not in finding and "2 of 4 models have no active dimension" in finding
    tables["marginal_curves"] = tables["marginal_curves"][tables["marginal_curves"]["kl_weight"] < 0]
    assert "no active" in _texts(figures_density.marginals(tables["marginal_curves"], tables["marginals"]))


def test_several_data_sets_have_their_own_panels(tmp_path: Path) -> None:
    """Two data sets are neither mixed in a panel nor dropped; controls stay out."""
    tables = make_tables(datasets=("mnist", "fashion_mnist"), latent_dims=(2,), kl_weights=(1.0, 4.0), seeds=(0,))
    control = tables["moments"].assign(dataset="control_uniform", architecture="linear")
    tables["moments"] = pd.concat([tables["moments"], control])
    for name in ("kurtosis_by_activity", "kurtosis_by_kl_weight", "active_dimensions"):
        titles = [axis.get_title() for axis in DRAW[name](tables).axes]
        assert any("mnist" in t for t in titles) and any("fashion mnist" in t for t in titles)
        assert not any("control uniform" in title for title in titles)


def test_kurtosis_axis_turns_logarithmic_when_wide() -> None:
    """Kurtosis 2 to 40 is shown on a log scale with plain tick labels; 2 to 4 is not."""
    tables = make_tables(latent_dims=(4,), kl_weights=(1.0,), seeds=(0,), controls=False)
    assert figures_kurtosis.kurtosis_by_activity(tables["moments"]).axes[0].get_yscale() == "linear"
    tables["moments"].loc[0, ["kurtosis", "kurtosis_high"]] = 40.0
    tables["moments"].loc[:, "kurtosis"] = tables["moments"]["kurtosis"].where(tables["moments"]["dimension"] > 0, 40.0)
    axis = figures_kurtosis.kurtosis_by_activity(tables["moments"]).axes[0]
    assert axis.get_yscale() == "log"
    assert axis.get_ylim()[1] > 40


def test_a_weight_has_one_colour_whatever_the_sweep() -> None:
    """Colours do not depend on the other weights, and neighbouring weights of the sweeps differ visibly."""
    settings = figures.complete_style(None)
    weights = [0.25, 1.0, 4.0, 8.0]
    colours = np.array([figures.kl_colour(weight, settings)[:3] for weight in weights])
    assert np.abs(np.diff(colours, axis=0)).sum(axis=1).min() > 0.2
    light = colours @ [0.2126, 0.7152, 0.0722]
    assert (np.diff(light) > 0.05).all()  # a rising lightness is read without hue
    assert figures.kl_colour(4.0, settings) == figures.kl_colour(np.float64("4"), settings)


def test_bound_drawn_is_the_bound_tabulated(sweep: Tables) -> None:
    """In canonical form the drawn curve passes through every dimension's `kurtosis_bound`."""
    rows = sweep["moments"].query("form == 'canonical'")
    line = figures_kurtosis.kurtosis_by_activity(sweep["moments"]).axes[0].lines[1]
    drawn = np.interp(rows["variance_of_means"], line.get_xdata(), line.get_ydata())
    np.testing.assert_allclose(drawn, rows["kurtosis_bound"], atol=1e-4)


def test_factors_add_up_to_what_can_be_removed() -> None:
    """Shapley values of three factors, known where each removes the same whatever else is right."""
    removed = {"scale": 5.0, "shape": 2.0, "dependence": 20.0}
    corners = figures_samplers.WITH_SCALE
    rows = [
        {"sampler": rung, "judge": judge, "frechet": 100.0 + judge - sum(removed[factor] for factor in right)}
        for right, rung in corners.items()
        for judge in (0, 1)
    ]
    keys = {"dataset": "d", "architecture": "dense", "latent_dim": 2, "kl_weight": 1.0, "seed": 0}
    shares = figures_samplers.factor_shares(pd.DataFrame(rows).assign(**keys))
    assert shares[list(removed)].iloc[0].to_dict() == pytest.approx(removed)
    assert shares["removable"].tolist() == pytest.approx([27.0])
    few = pd.DataFrame(rows[:4]).assign(**keys)
    assert figures_samplers.factor_shares(few).empty


def test_shares_of_the_figure_are_those_of_the_claim() -> None:
    """Runs whose removable penalty is small do not count as much as others, and a cell without one has no share."""
    removed = {"scale": 5.0, "shape": 2.0, "dependence": 20.0}
    rows = [
        {
            **{"dataset": "d", "architecture": "dense", "likelihood": "bernoulli", "latent_dim": 2},
            **{"kl_weight": weight, "seed": seed, "judge": 0, "sampler": rung},
            "frechet": 100.0
            - size * (10 + seed) * sum(removed[factor] for factor in right)
            + seed * ("scale" in right),
        }
        for weight, size in ((1.0, 1.0), (4.0, 0.0))
        for seed in range(4)
        for right, rung in figures_samplers.WITH_SCALE.items()
    ]
    table = pd.DataFrame(rows)
    shares = figures_samplers.factor_shares(table)
    runs = figures_samplers.share_of("dependence", shares)
    assert set(runs["kl_weight"]) == {1.0}
    # A run removes 27 (10 + seed), less the seed that its scale adds.
    expected = 20 * 46 / (27 * 46 - 6)
    assert figures_samplers.mean_and_range(runs) == pytest.approx((expected,) * 3)
    assert f"dependence {expected:.0%} (4 models" in figures_findings.describe(
        "penalty_shares", {"samplers": table}, None
    )


def test_distances_from_three_keep_their_intervals() -> None:
    rows = pd.DataFrame({"kurtosis": [2.5, 3.05, 4], "kurtosis_low": [2.3, 2.9, 3.5], "kurtosis_high": [2.7, 3.2, 4.5]})
    shown = figures_kurtosis.distance_from_normal(rows)
    assert shown["distance"].tolist() == pytest.approx([0.5, 0.05, 1.0])
    assert shown["low"].tolist() == pytest.approx([0.3, 0.0, 0.5])
    assert shown["high"].tolist() == pytest.approx([0.7, 0.2, 1.5])


def test_customary_training_stands_beside_and_in_no_other_figure(sweep: Tables) -> None:
    both = {name: rows.copy() for name, rows in sweep.items()}
    for name in ("moments", "training"):
        extra = both[name][both[name]["latent_dim"] == 2].assign(architecture="dense_customary")
        both[name] = pd.concat([both[name], extra], ignore_index=True)

    def legend(tables: Tables) -> list[str]:
        return [text.get_text() for text in DRAW["variance_law"](tables).legends[0].get_texts()]

    assert "customary training" in legend(both) and "customary training" not in legend(sweep)
    for name in ("active_dimensions", "rate_distortion", "kurtosis_by_kl_weight"):
        assert figures_findings.describe(name, both, None) == figures_findings.describe(name, sweep, None)


def test_findings_give_the_numbers_of_the_table(sweep: Tables) -> None:
    """The sentence under a figure counts what the table holds."""
    active = sweep["moments"].query("split == 'train' and form == 'canonical' and active")
    outside = ((active["kurtosis_low"] > 3.1) | (active["kurtosis_high"] < 2.9)).sum()
    text = figures_findings.describe("kurtosis_by_kl_weight", sweep, None)
    assert f"{outside} of {len(active)} active dimensions" in text and "8 models (4 cells, 2 seeds)" in text


def test_text_stays_text_in_pdf_and_is_outlined_in_svg(sweep: Tables, tmp_path: Path) -> None:
    """A PDF embeds its TrueType font; an SVG needs no font of the reader's."""
    content = _save(DRAW["active_dimensions"](sweep), tmp_path)
    assert b"/FontFile2" in content["pdf"] and b"/Type3" not in content["pdf"]
    assert b"<text" not in content["svg"]


def test_style_schema_config_and_code_agree() -> None:
    """The defaults of schema, config/plotting.yaml and library are the same; every key is described."""
    schema = yaml.safe_load((ROOT / "workflow/schemas/plotting.schema.yaml").read_text())
    assert {key: part["default"] for key, part in schema["properties"].items()} == figures.DEFAULT_STYLE
    assert yaml.safe_load((ROOT / "config/plotting.yaml").read_text()) == figures.DEFAULT_STYLE
    assert all(part["description"] for part in schema["properties"].values())
    assert schema["additionalProperties"] is False
    json.dumps(figures.DEFAULT_STYLE)  # a rule's params must be JSON


def test_unknown_style_key_is_an_error() -> None:
    """A typo is named together with what is allowed."""
    with pytest.raises(DataError, match=r"unknown key colour.*palette"):
        figures.complete_style({"colour": "red"})


def test_a_failed_save_leaves_nothing(tmp_path: Path) -> None:
    """A figure that cannot be drawn leaves no file."""
    figure = figures.empty_figure(figures.complete_style(None), r"$\broken{$")
    with pytest.raises(ValueError):
        _save(figure, tmp_path)
    assert not list(tmp_path.iterdir())


def _inside_and_apart(figure: Figure) -> bool:
    """Tell whether panels, legends and free text lie inside the page, and no legend covers a panel."""
    figure.draw_without_rendering()
    renderer = FigureCanvasAgg(figure).get_renderer()
    page = figure.bbox.padded(1)
    panels = [axis.get_tightbbox(renderer) for axis in figure.axes]
    legends = [legend.get_window_extent(renderer) for legend in figure.legends]
    texts = [text.get_window_extent(renderer) for text in figure.texts]
    inside = all(page.contains(*box.min) and page.contains(*box.max) for box in (*panels, *legends, *texts))
    return inside and not any(legend.overlaps(box) for legend in legends for box in panels)


@pytest.mark.parametrize("name", DRAW)
def test_nothing_sticks_out_or_overlaps(name: str, sweep: Tables) -> None:
    """The figures of a small sweep keep their labels and legends on the page."""
    with figures.drawing(None):
        assert _inside_and_apart(DRAW[name](sweep))


@pytest.mark.parametrize("name", DRAW)
def test_each_figure_has_a_script_and_a_caption(name: str) -> None:
    """Rule, script and caption share a name; scripts are short; captions include their finding."""
    script = (ROOT / "scripts" / f"plot_{name}.py").read_text()
    assert len(script.splitlines()) <= 60 and f"def plot_{name}(" in script
    caption = (ROOT / "workflow/report" / f"plot_{name}.rst").read_text()
    assert "snakemake.output" in caption and ".. include::" in caption


def test_figures_do_not_depend_on_the_users_own_settings_of_matplotlib():
    train = pd.DataFrame({"dimension": [0, 1], "kl": [1.0, 0.01], "active": [True, False]})
    plain = picture_of_activity(train, 0.05)
    own = {"text.usetex": True, "savefig.bbox": "tight", "axes.grid": True, "axes.facecolor": "red"}
    with matplotlib.rc_context(own):
        assert picture_of_activity(train, 0.05) == plain
        assert all(matplotlib.rcParams[name] == value for name, value in own.items())
