"""The ladder of samplers, scored: one frozen decoder, the same noise where it can be the same, several judges.

**Folds.** Test images are cut into two halves at random. Every rung draws one set of images for each half, is scored
against it, and the two scores are averaged. So held-out Q can be judged fairly: codes drawn from the posteriors of one
half are decoded and compared with the images of the *other* half, never with the images that these posteriors encode.
(Against its own images held-out Q is optimistic: it knows by which pictures it will be judged.) Fréchet distances from
finite samples are too large, and every measure by neighbours depends on how many points there are; as all rungs have
the same number of images in each half, they remain comparable with one another. A distance of n images is one between
sets of n/2. KID has no such bias: where test images are few, rely on it.

**Draws.** Where test images are few, a rung is drawn and scored several times, and the table holds means. The
standard errors are then those of the mean over the draws, for the given test images: the error that comparisons of
rungs have. For a single draw they come from the influence function (Fréchet) and the jackknife (KID), and hold the
test images' share too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch

from ..model.vae import VAE
from ..posterior.gauge import canonical_form, canonicalise
from ..posterior.mixture import AggregatedPosterior
from ..posterior.splits import Posteriors
from ..statistics.marginals import Marginals
from ..storage import DataError
from ..streams import stream
from .copies import CopyDetector
from .features import PixelFeatures
from .image_quality import (
    KernelSums,
    NormalLaw,
    class_balance,
    frechet_distance,
    frechet_error,
    kernel_distance,
    precision_recall_density_coverage,
)
from .judge import Judge, judge_together, train_judge
from .neighbours import Neighbourhoods
from .samplers import NoiseSampler, rungs, stratified_draws

if TYPE_CHECKING:
    import pandas as pd

Decoder = Callable[[Any], Any]

# The copy rate searches all training images for every image it is given, and needs no more for an error of
# 0.05.
COPY_IMAGES = 2000
# Rungs of which the canonical codes are decoded as they are, too: with the decoder's own scale wrong, and all else as
# it is. With and without it, {prior, marginals, dependence, Q} are the eight corners of scale, shape and dependence.
CORNERS = ("prior", "marginals", "dependence", "q_train")
# Images of each half by which precision, recall, density and coverage are measured. Their cost is quadratic: 5 000
# would take a quarter of the ladder's time, for errors that are smaller by √2.
NEIGHBOUR_IMAGES = 2500
# About so many images are scored in all, in at most so many draws.
DRAWN_IMAGES = 8000
MOST_DRAWS = 8


class ImageJudge(Protocol):
    """What scores images: features (n, D), and predicted classes (n,) or None."""

    @property
    def classes(self) -> int | None:
        """Number of classes, or None where it tells none."""

    def judge(self, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Features and classes of `pixels` (n, P)."""


@dataclass(frozen=True)
class Splits:
    """Images and posteriors of one data set under one model, both splits.

    Args:
        images_train, images_test: Images as stored, first axis N.
        maximum: The value that becomes pixel value 1.
        q_train, q_test: Q(z) of either split, in the raw coordinates of the decoder; rows go with the images.
    """

    images_train: np.ndarray
    images_test: np.ndarray
    maximum: float
    q_train: AggregatedPosterior
    q_test: AggregatedPosterior

    def __post_init__(self) -> None:
        for split in ("train", "test"):
            images, q = len(getattr(self, f"images_{split}")), getattr(self, f"q_{split}").n
            if images != q:
                raise DataError(
                    f"there are {images} {split} images but {q} {split} posteriors; encode the images again"
                )

    def pixels(self, split: str, rows: np.ndarray) -> np.ndarray:
        """Pixels (n, P) in [0, 1] of some images."""
        images = getattr(self, f"images_{split}")[rows]
        return images.reshape(len(images), -1).astype(np.float32) / np.float32(self.maximum)


def automatic_draws(images: int) -> int:
    """How often each rung is drawn: once where 8 000 images or more are scored, eight times where 1 000 or fewer."""
    return min(MOST_DRAWS, -(-DRAWN_IMAGES // images))


def image_decoder(model: VAE) -> Decoder:
    """The decoder of one of the pipeline's models, its means cut to [0, 1] as an image file would cut them."""
    return lambda codes: model.decode(torch.from_numpy(codes)).clamp(0, 1)


@torch.no_grad()
def decode(decoder: Decoder, z: np.ndarray, block_size: int = 2000) -> np.ndarray:
    """Images (n, P) float32 of raw codes `z` (n, d).

    Args:
        decoder: Takes codes (n, d) float32, as a tensor where it is a torch module and as an array otherwise, and gives
            an array or tensor (n, …).
        z: Codes.
        block_size: Codes decoded at once.

    Raises:
        DataError: The decoder gives another number of images, or a value that is not finite.
    """
    blocks = []
    for start in range(0, len(z), block_size):
        codes: Any = np.asarray(z[start : start + block_size], dtype=np.float32)
        images = decoder(torch.from_numpy(codes) if isinstance(decoder, torch.nn.Module) else codes)
        images = images.cpu().numpy() if isinstance(images, torch.Tensor) else np.asarray(images)
        if images.ndim < 2 or len(images) != len(codes):
            raise DataError(
                f"the decoder gives shape {images.shape} for {len(codes)} codes; it must give one image for each"
            )
        blocks.append(images.reshape(len(images), -1).astype(np.float32, copy=False))
    pixels = np.concatenate(blocks)
    if not np.isfinite(pixels).all():
        raise DataError("the decoder gives pixels that are not finite; the model or the sampled codes are unusable")
    return pixels


def draw_rungs(
    decoder: Decoder,
    splits: Splits,
    halves: Sequence[np.ndarray],
    components: Sequence[int],
    draws: int,
    seed: int,
) -> Iterator[tuple[str, list[np.ndarray]]]:
    """Yield every rung's name and its images, (n, P) for either half of the test images; `draws` times each.

    `floor` is training images and `ceiling` the reconstructions of the reference images from their posterior means
    (there is only one draw of these): what another sample of real images, and a code that is never wrong, would score.

    `q_heldout` takes one code from each posterior of the *other* half of the test images: the reference that any
    sampler should reach. `q_train_thinned` takes one code from each of as many training posteriors: what Q(z) of
    training data scores when it has as few components. Every other rung is fitted to training posteriors only, in
    canonical form, and `refuse`s those of the test split. `…_raw` rungs decode canonical codes as if they were raw:
    `prior_raw` is N(0, I) as the vanilla VAE draws it.

    Every image is the decoder's mean: likelihood noise would be the same on every rung and hide what differs.
    """
    canonical = canonical_form(splits.q_train)
    q_train, q_test = (canonicalise(q, canonical) for q in (splits.q_train, splits.q_test))
    sizes = [len(half) for half in halves]
    n = sum(sizes)

    def images(z: np.ndarray, raw: bool = False) -> list[np.ndarray]:
        return np.split(decode(decoder, z if raw else canonical.invert(z)), [sizes[0]])

    def one_of_each(subsets: Sequence[AggregatedPosterior], rng: np.random.Generator) -> list[np.ndarray]:
        parts = [stratified_draws(q, size, rng) for q, size in zip(subsets, sizes, strict=True)]
        return images(np.concatenate(parts))

    for draw in range(draws):
        chosen = stream(seed, "ladder", "floor", draw).permutation(len(splits.images_train))[:n]
        yield "floor", np.array_split(splits.pixels("train", chosen), 2)
    yield "ceiling", np.split(decode(decoder, splits.q_test.mean[np.concatenate(halves)]), [sizes[0]])
    for name, sampler in rungs(components, seed, Marginals(q_train)).items():
        if name == "q_train":
            # The reference stands beside what it judges, before the rungs that are no generators.
            for draw in range(draws):
                others = [_rows(q_test, half) for half in reversed(halves)]
                yield "q_heldout", one_of_each(others, stream(seed, "ladder", "q_heldout", draw))
        sampler.fit(q_train).refuse(q_test)
        for draw in range(draws):
            if isinstance(sampler, NoiseSampler):
                z = sampler.transform(stream(seed, "ladder", "noise", draw).standard_normal((n, q_train.latent_dim)))
            else:
                # Q itself and its dependence alone are the same draws.
                key = "q_train" if name == "dependence" else name
                z = sampler.sample(n, stream(seed, "ladder", key, draw))
            if name in CORNERS:
                yield f"{name}_raw", images(z, raw=True)
            yield name, images(z)
    few = stream(seed, "ladder", "thinned").permutation(q_train.n)[:n]
    thinned = [_rows(q_train, half) for half in np.array_split(few, 2)]
    for draw in range(draws):
        yield "q_train_thinned", one_of_each(thinned, stream(seed, "ladder", "q_train_thinned", draw))


def _rows(q: AggregatedPosterior, rows: np.ndarray) -> AggregatedPosterior:
    return AggregatedPosterior(q.mean[rows], q.variance[rows])


class Reference:
    """The test images of one half under one judge, prepared once for all rungs.

    Args:
        judge: The judge.
        features, predicted: What it says of the test images, in random order.
        neighbours: k of precision, recall, density and coverage.
    """

    def __init__(self, judge: ImageJudge, features: np.ndarray, predicted: np.ndarray | None, neighbours: int) -> None:
        self.classes, self.predicted = judge.classes, predicted
        self.law = NormalLaw.of(features)
        self.kernel = KernelSums.of(features)
        self.balls = Neighbourhoods.of(features[:NEIGHBOUR_IMAGES], neighbours)

    def score(self, features: np.ndarray, predicted: np.ndarray | None, errors: bool) -> dict[str, float]:
        """Scores of as many images drawn; `errors` asks for those of a single draw's Fréchet distance and KID."""
        law = NormalLaw.of(features)
        kid, kid_se = kernel_distance(KernelSums.of(features, self.kernel.mapped is not None), self.kernel)
        return {
            "frechet": frechet_distance(law, self.law),
            "frechet_se": frechet_error(law, self.law) if errors else np.nan,
            "kid": kid,
            "kid_se": kid_se if errors else np.nan,
            **asdict(precision_recall_density_coverage(self.balls, features[:NEIGHBOUR_IMAGES])),
            "class_balance": np.nan if predicted is None else class_balance(predicted, self.predicted, self.classes),
        }


def score_ladder(
    decoder: Decoder,
    splits: Splits,
    judges: Mapping[Any, ImageJudge],
    images: int | None = None,
    components: Sequence[int] = (10, 100),
    neighbours: int = 5,
    plate_size: int = 10,
    draws: int | None = None,
    seed: int = 0,
    on_draw: Callable[[int, int], Any] = lambda done, total: None,
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """Draw images by every rung and score them against test images.

    Args:
        decoder: See `decode`; it serves every rung.
        splits: Images and posteriors.
        judges: Judges by name.
        images: Number of test images that are the reference, and of images drawn by each rung; None takes all. An
            even number is used.
        components: Numbers of components K of the mixtures.
        neighbours: k of precision, recall, density and coverage.
        plate_size: Images of each rung that are returned.
        draws: Draws of each rung over which scores are averaged; None chooses by the number of images.
        seed: Seed of everything drawn.
        on_draw: Called after each draw of a rung with how many are scored and how many there are in all.

    Returns:
        One row per judge and sampler (judge, sampler, n, draws, frechet, frechet_se, kid, kid_se, precision, recall,
        density, coverage, the last four's errors …_se, class_balance, copy_rate), and the first `plate_size` images of
        each rung as bytes, (plate_size, H, W[, C]). `n` is the images of one draw, in both halves together.

    Raises:
        DataError: More images are asked for than there are test images, or a measure cannot be taken.
    """
    available = len(splits.images_test)
    if images is not None and images > available:
        raise DataError(f"images is {images} but there are {available} test images; lower it, or use null for all")
    half = (images or available) // 2
    if half < 2 * neighbours or half < 10:
        raise DataError(
            f"{available if images is None else images} test images are too few for two halves of "
            f"{max(10, 2 * neighbours)}; give more, or score by fewer neighbours"
        )
    halves = np.split(stream(seed, "ladder", "reference").permutation(available)[: 2 * half], 2)
    draws = automatic_draws(2 * half) if draws is None else draws
    references = [
        {
            name: Reference(judges[name], *judged, neighbours)
            for name, judged in _judged(judges, splits.pixels("test", rows)).items()
        }
        for rows in halves
    ]
    copies = CopyDetector(splits.images_train, splits.images_test, splits.maximum, stream(seed, "ladder", "copies"))
    shape = splits.images_test.shape[1:]
    plates: dict[str, np.ndarray] = {}
    found: dict[tuple[Any, str], list[dict[str, float]]] = {}
    drawn = draw_rungs(decoder, splits, halves, components, draws, seed)
    total = draws * (len(components) + 14) + 1
    for number, (sampler, folds) in enumerate(drawn, start=1):
        if sampler not in plates:
            plates[sampler] = np.round(np.clip(folds[0][:plate_size], 0, 1) * 255).astype(np.uint8).reshape(-1, *shape)
        copy_rate = copies.rate(np.concatenate(folds)[:COPY_IMAGES])
        errors = draws == 1 or sampler == "ceiling"
        judged = [_judged(judges, pixels) for pixels in folds]
        for name in judges:
            scores = [
                reference[name].score(*own[name], errors) for reference, own in zip(references, judged, strict=True)
            ]
            mean = {key: float(np.mean([score[key] for score in scores])) for key in scores[0]}
            for key in (key for key in mean if key.endswith("_se")):
                mean[key] = float(np.hypot(*(score[key] for score in scores)) / 2)
            row = {"n": sum(map(len, folds)), **mean, "copy_rate": copy_rate}
            found.setdefault((name, sampler), []).append(row)
        on_draw(number, total)
    rows = [{"judge": name, "sampler": sampler, **_over_draws(scores)} for (name, sampler), scores in found.items()]
    # A stable sort: within a judge the rungs keep their order.
    return sorted(rows, key=lambda row: list(judges).index(row["judge"])), plates


def ladder(
    decoder: Decoder,
    posteriors: Posteriors,
    images_train: np.ndarray,
    images_test: np.ndarray,
    labels: np.ndarray | None = None,
    judges: Mapping[Any, ImageJudge] | None = None,
    components: Sequence[int] = (10,),
    images: int | None = None,
    draws: int | None = None,
    judge_epochs: int = 10,
    seed: int = 0,
    progress: bool = True,
) -> pd.DataFrame:
    """What would each sampler of codes buy your own model's images? The ladder on any decoder and data.

    Read the table from `prior_raw` (the vanilla VAE) down to `q_heldout` (what a perfect sampler of codes would
    score), by `kid` and `frechet`: `prior` puts the scale right, `marginals` the shape of every dimension,
    `dependence` what ties them together, `gmm_K` and `gmm_means` are samplers to use.

    >>> import numpy as np
    >>> from aggregated_posterior.posterior.mixture import AggregatedPosterior
    >>> from aggregated_posterior.posterior.splits import Posteriors
    >>> codes = np.random.default_rng(0).choice([-1.0, 1.0], (600, 2))
    >>> q = [AggregatedPosterior(part, np.full_like(part, 0.01)) for part in (codes[:400], codes[400:])]
    >>> table = ladder(lambda z: z, Posteriors(*q), codes[:400], codes[400:], progress=False)
    >>> kid = table.set_index("sampler")["kid"]
    >>> bool(kid["prior"] > 5 * kid["q_heldout"])
    True

    Args:
        decoder: Codes (n, d) float32 to images or profiles (n, …); a torch module gets a tensor, anything else an
            array. Give the decoder's *mean*, in the same units as the images.
        posteriors: Both splits, in the decoder's own coordinates; without held-out rows use `hold_out` first.
        images_train, images_test: The data that were encoded, (N, …), in the order of the posteriors' rows.
        labels: Classes 0, 1, … of the training images (N,), of shape (H, W) or (H, W, C) with values in [0, 1]: a judge
            is trained on them. None compares by principal components of the values.
        judges: Judges of your own, by name, in place of that.
        components: Numbers of components K of the mixtures.
        images, draws, seed: See `score_ladder`.
        judge_epochs: Passes over the training images for a judge.
        progress: Show on standard error how far it is.

    Returns:
        One row per judge and sampler; the columns are those of `score_ladder`.

    Raises:
        DataError: Posteriors and images do not go together, or the decoder gives something else than these images.
    """
    import pandas as pd
    from tqdm import tqdm

    if posteriors.test is None:
        raise DataError("the ladder needs held-out posteriors and their images; split them, or use hold_out")
    train, test = (np.asarray(x, dtype=np.float32) for x in (images_train, images_test))
    splits = Splits(train, test, 1.0, posteriors.train, posteriors.test)
    width = decode(decoder, posteriors.train.mean[:2]).shape[1]
    if width != train[0].size or train.shape[1:] != test.shape[1:]:
        raise DataError(
            f"the decoder gives {width} values an image, the training images have shape {train.shape[1:]} and the test "
            f"images {test.shape[1:]}; give the data that were encoded, and the decoder's mean"
        )
    if judges is None and labels is None:
        judges = {"pixels": PixelFeatures(train)}
    elif judges is None:
        labels = np.asarray(labels)
        judges = {"judge": train_judge(train, labels, train.shape[1:], 1.0, int(labels.max()) + 1, seed, judge_epochs)}
    with tqdm(unit="draw", mininterval=5, disable=not progress) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update()

        rows, _ = score_ladder(decoder, splits, judges, images, components, draws=draws, seed=seed, on_draw=show)
    return pd.DataFrame(rows)


def _judged(judges: Mapping[Any, ImageJudge], pixels: np.ndarray) -> dict[Any, tuple[np.ndarray, np.ndarray | None]]:
    """What every judge says of `pixels` (n, P), by name; those that are alike go over them together."""
    together = [name for name, judge in judges.items() if isinstance(judge, Judge)]
    said = (
        dict(zip(together, judge_together([judges[name] for name in together], pixels), strict=True))
        if together
        else {}
    )
    return {name: said[name] if name in said else judge.judge(pixels) for name, judge in judges.items()}


def _over_draws(scores: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over draws, with standard errors of these means where there are several."""
    mean = {key: float(np.mean([score[key] for score in scores])) for key in scores[0]}
    if len(scores) > 1:
        for key in [key for key in mean if key.endswith("_se")]:
            values = [score[key.removesuffix("_se")] for score in scores]
            mean[key] = float(np.std(values, ddof=1) / np.sqrt(len(scores)))
    n = int(mean.pop("n"))
    return {"n": n, "draws": len(scores), **mean}
