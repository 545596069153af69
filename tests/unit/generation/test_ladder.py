"""The ladder as a whole, on decoders whose right scores are known."""

import numpy as np
import pytest
import torch

from aggregated_posterior.generation.features import PixelFeatures
from aggregated_posterior.generation.image_quality import frechet_distance
from aggregated_posterior.generation.judge import Judge
from aggregated_posterior.generation.ladder import Splits, automatic_draws, decode, ladder, score_ladder
from aggregated_posterior.generation.samplers import PosteriorSampler, PriorSampler
from aggregated_posterior.posterior.mixture import AggregatedPosterior
from aggregated_posterior.posterior.splits import Posteriors
from aggregated_posterior.storage import DataError


def identity(z: np.ndarray) -> np.ndarray:
    return z


def clusters(n: int, rng: np.random.Generator) -> np.ndarray:
    """Codes in three clusters on a circle: uncorrelated, dependent, and skewed, which KID's cubic kernel sees."""
    angle = 2 * np.pi * rng.integers(3, size=n) / 3
    return 1.4 * np.column_stack([np.cos(angle), np.sin(angle)]) + 0.15 * rng.standard_normal((n, 2))


def narrow(points: np.ndarray) -> AggregatedPosterior:
    return AggregatedPosterior(points, np.full_like(points, 1e-3))


def scores(train: np.ndarray, test: np.ndarray, decoder=identity, **changes) -> dict[str, dict[str, float]]:
    """The ladder by principal components, as {sampler: scores}, for images that are their own codes."""
    posteriors = Posteriors(narrow(train), narrow(test))
    table = ladder(decoder, posteriors, decoder(train), decoder(test), progress=False, **changes)
    assert (table["judge"] == "pixels").all()
    return table.set_index("sampler").to_dict("index")


@pytest.fixture(scope="module")
def triangle() -> dict[str, dict[str, float]]:
    points = clusters(3000, np.random.default_rng(0))
    return scores(points[:2000], points[2000:], components=(6,))


def test_the_crossed_reference_is_not_optimistic(monkeypatch):
    """Codes are images: held-out Q is then other real images of one law with the floor, and scores like them.

    Judged against its own images it would score 0, at every draw and far below the floor.
    """
    monkeypatch.setattr("aggregated_posterior.generation.ladder.rungs", lambda *_: {"q_train": PosteriorSampler()})
    rng = np.random.default_rng(1)
    found = []
    for _ in range(60):
        points = rng.standard_normal((700, 3))
        table = scores(points[:500], points[500:], draws=1)
        names = ("floor", "q_heldout", "q_train_thinned")
        found.append([[table[name][key] for name in names] for key in ("frechet", "kid")])
    frechet, kid = np.moveaxis(np.array(found), 1, 0)
    # All three are draws of one law, so that means differ by chance alone, and an unbiased measure is 0.
    for measure in (frechet, kid):
        difference = measure[:, 1:] - measure[:, :1]
        error = difference.std(0, ddof=1) / np.sqrt(len(difference))
        assert (np.abs(difference.mean(0)) < 3.5 * error).all()
    assert (np.abs(kid.mean(0)) < 3.5 * kid.std(0, ddof=1) / np.sqrt(len(kid))).all()
    own = np.mean(
        [frechet_distance(x, x + 0.03 * rng.standard_normal(x.shape)) for x in rng.standard_normal((60, 100, 3))]
    )
    assert own < 0.1 * frechet[:, 1].mean()


def test_the_ladder_of_a_known_law(triangle):
    kid = {sampler: row["kid"] for sampler, row in triangle.items()}
    # Location, scale and correlation are right already: what is wrong with the prior is shape and dependence, in
    # moments of the third order, and only Q's own draws and a mixture have both.
    assert kid["gaussian"] == pytest.approx(kid["prior"], rel=0.1)
    assert kid["copula"] == pytest.approx(kid["marginals"], rel=0.1)
    assert kid["prior"] > 1.2 * kid["marginals"]
    assert kid["prior"] > 1.2 * kid["dependence"]
    for sampler in ("gmm_6", "q_heldout", "q_train", "q_train_thinned"):
        assert abs(kid[sampler]) < 0.4 * min(kid["marginals"], kid["dependence"])
    assert triangle["prior"]["coverage"] < triangle["q_train"]["coverage"]
    assert triangle["prior"]["precision"] < 0.6 < triangle["gmm_6"]["precision"]
    assert np.isnan(triangle["prior"]["class_balance"])


def test_corners_differ_by_scale_alone():
    # Decoder coordinates are 3 z + 1: the canonical codes decoded as they are have the wrong place and scale.
    points = clusters(1500, np.random.default_rng(2))
    table = scores(3 * points[:1000] + 1, 3 * points[1000:] + 1, draws=1)
    for rung in ("prior", "marginals", "dependence", "q_train"):
        assert table[f"{rung}_raw"]["frechet"] > table[rung]["frechet"] + 0.5
    centred = points - points[:1000].mean(0)
    table = scores(*np.split(centred / centred[:1000].std(0), [1000]), draws=1)
    for rung in ("prior", "marginals", "dependence", "q_train"):
        assert table[f"{rung}_raw"]["frechet"] == pytest.approx(table[rung]["frechet"], abs=1e-3)


def test_errors_of_one_draw_and_of_many_agree(monkeypatch):
    monkeypatch.setattr("aggregated_posterior.generation.ladder.rungs", lambda *_: {"prior": PriorSampler()})
    points = clusters(3000, np.random.default_rng(3))
    splits = Splits(points[:2000], points[2000:], 1.0, narrow(points[:2000]), narrow(points[2000:]))
    judges = {"pixels": PixelFeatures(points[:2000])}

    def prior(draws: int, seed: int) -> dict[str, float]:
        rows, _ = score_ladder(identity, splits, judges, None, [], draws=draws, seed=seed)
        return next(row for row in rows if row["sampler"] == "prior")

    many, one = prior(40, 0), [prior(1, seed) for seed in range(1, 6)]
    assert many["draws"] == 40
    for key in ("frechet_se", "kid_se"):
        # That of one draw holds the test images' share too, which is about as large as the draw's own.
        ratio = np.mean([row[key] for row in one]) / (many[key] * np.sqrt(40))
        assert 0.8 < ratio < 3


def test_draws_by_the_number_of_images():
    assert [automatic_draws(n) for n in (20, 360, 1000, 2000, 7999, 8000, 10_000)] == [8, 8, 8, 4, 2, 1, 1]


def test_a_ladder_repeats_itself_and_needs_no_pixels_of_the_pipeline():
    points = clusters(300, np.random.default_rng(4))
    once, twice = (scores(points[:200], points[200:], seed=5, draws=2) for _ in range(2))
    assert once["prior"] == pytest.approx(twice["prior"], nan_ok=True, abs=0)
    assert once["prior"]["kid"] != scores(points[:200], points[200:], seed=6, draws=2)["prior"]["kid"]


def test_a_torch_module_gets_tensors_and_labels_train_a_judge():
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 2, 400)
    codes = np.where(labels[:, None] == 1, 1.0, -1.0) + 0.1 * rng.standard_normal((400, 2))
    decoder = torch.nn.Sequential(torch.nn.Linear(2, 36), torch.nn.Sigmoid(), torch.nn.Unflatten(1, (6, 6)))
    torch.manual_seed(0)
    torch.nn.init.normal_(decoder[0].weight, std=2.0)
    images = decode(decoder, codes).reshape(-1, 6, 6)
    posteriors = Posteriors(narrow(codes[:300]), narrow(codes[300:]))
    table = ladder(
        decoder, posteriors, images[:300], images[300:], labels[:300], components=(2,), draws=1, progress=False
    ).set_index("sampler")
    assert table["class_balance"].between(0, 1).all()
    assert table.loc["gmm_2", "kid"] < table.loc["prior", "kid"] / 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"decoder": lambda z: z[:, :1]}, "the decoder gives 1 values an image"),
        ({"decoder": lambda z: z[:-1]}, r"shape \(1, 2\) for 2 codes"),
        ({"decoder": lambda z: z * np.nan}, "not finite"),
        ({"images_test": np.zeros((40, 3))}, r"test images \(3,\)"),
        ({"images_train": np.zeros((59, 2))}, "59 train images but 60 train posteriors"),
        ({"images": 18}, "18 test images are too few"),
        ({"images": 41}, "images is 41 but there are 40"),
        ({"posteriors": Posteriors(narrow(np.eye(60, 2)), None)}, "needs held-out posteriors"),
        ({"images_train": np.zeros((60, 2))}, "all the same"),
    ],
)
def test_what_does_not_go_together(changes, message):
    points = clusters(100, np.random.default_rng(6))
    arguments = {
        "decoder": identity,
        "posteriors": Posteriors(narrow(points[:60]), narrow(points[60:])),
        "images_train": points[:60],
        "images_test": points[60:],
        "progress": False,
    }
    with pytest.raises(DataError, match=message):
        ladder(**{**arguments, **changes})


def test_pixel_features_have_mean_variance_one_and_keep_distances():
    rng = np.random.default_rng(7)
    images = rng.standard_normal((500, 3, 4)) * np.linspace(1, 5, 4) + 7
    judge = PixelFeatures(images)
    features, classes = judge.judge(images.reshape(500, -1))
    assert classes is None
    assert features.astype(float).var(0).mean() == pytest.approx(1, rel=1e-4)
    own, given = (np.square(x[0] - x[1:]).sum(1) for x in (features.astype(float), images.reshape(500, -1)))
    assert own / given == pytest.approx(np.full(499, own[0] / given[0]), rel=1e-4)
    assert PixelFeatures(images, components=3).judge(images.reshape(500, -1))[0].shape == (500, 3)


def test_judges_of_ones_own_are_used_side_by_side():
    points = clusters(300, np.random.default_rng(8)).astype(np.float32).reshape(-1, 1, 2)
    posteriors = Posteriors(narrow(points[:200, 0]), narrow(points[200:, 0]))
    judges = {
        "b": PixelFeatures(points[:200]),
        "a": Judge([1, 2], 3).requires_grad_(False),
        "c": Judge([1, 2], 3).requires_grad_(False),
    }
    table = ladder(identity, posteriors, points[:200], points[200:], judges=judges, draws=1, progress=False)
    assert list(dict.fromkeys(table["judge"])) == ["b", "a", "c"]
    assert table.loc[table["judge"] == "b", "class_balance"].isna().all()
    assert table.loc[table["judge"] == "a", "class_balance"].notna().all()
