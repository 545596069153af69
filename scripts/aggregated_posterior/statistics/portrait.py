"""The portrait of one model's Q(z): everything that is said about its posteriors, each part computed once.

A portrait is cheap to make; a part is computed when it is first asked for and then kept. The rules of the pipeline and
the audit read the same portrait, so a number that stands in two tables is one number.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..posterior.gauge import Canonical, canonical_form, slack_of
from ..posterior.mixture import AggregatedPosterior, Moments, normal_log_pdf
from ..posterior.other_laws import FullCovariance, has_density
from ..posterior.splits import ACTIVE_THRESHOLD, Posteriors, active_dimensions
from ..streams import stream
from .divergence import (
    Draws,
    Estimate,
    balanced_draws,
    certified_gaussian,
    feasible_information,
    fit_certifying_mixture,
    gaussian_part,
    mutual_information,
    refuse_upside_down,
)
from .fitted_mixture import ActiveMixture
from .joint_shape import mardia_kurtosis, mardia_skewness, maximum_mean_discrepancy
from .marginals import Distances, Marginals
from .uncertainty import kurtosis_se_blocks, kurtosis_se_rows

# Spikes without overlap would give infinity, which JSON lacks.
LARGEST_GRAIN = 1e6
HELD_OUT = ("bracket_low", "bracket_high", "certified_gaussian", "certified_gmm")


@dataclass(frozen=True, eq=False)
class Law:
    """Q(z) of one split in one form, with its exact statistics.

    Attributes:
        q: The mixture.
        raw: In canonical form, the law of the same split in raw form: what follows from it in closed form is not
            computed again.
        canonical: The transform from `raw` to this, with `raw`.
        groups: (N,) which rows belong together, or None; see `kurtosis_se_blocks`.
    """

    q: AggregatedPosterior
    raw: Law | None = None
    canonical: Canonical | None = None
    groups: np.ndarray | None = None

    @classmethod
    def of(cls, raw: Law, canonical: Canonical) -> Law:
        """The law of `raw` after the canonical transform."""
        return cls(raw.q.affine(canonical.shift, canonical.scale), raw, canonical, raw.groups)

    @cached_property
    def moments(self) -> Moments:
        """Exact moments, (d,) each."""
        if self.raw is None:
            return self.q.moments()
        return self.raw.moments.affine(self.canonical.shift, self.canonical.scale)

    @cached_property
    def kl(self) -> np.ndarray:
        """Mean KL(q(z_j|x) ‖ N(0, 1)), (d,), nats."""
        return self.q.kl()

    @property
    def joint_kl(self) -> float:
        """Mean KL(q(z|x) ‖ N(0, I)), nats; more than the sum over dimensions where posteriors are correlated."""
        return self.q.joint_kl() if isinstance(self.q, FullCovariance) else float(self.kl.sum())

    @cached_property
    def slack(self) -> np.ndarray:
        """Gauge slack, the Gaussian part of the marginal KL, (d,), nats."""
        return slack_of(self.moments)

    @cached_property
    def covariance(self) -> np.ndarray:
        """Covariance of Q(z), (d, d)."""
        if self.raw is None:
            return self.q.covariance()
        return self.raw.covariance * np.outer(self.canonical.scale, self.canonical.scale)

    @cached_property
    def kurtosis_se_rows(self) -> np.ndarray:
        """Standard error of the kurtosis as if rows were independent, (d,)."""
        return kurtosis_se_rows(self.q, self.moments) if self.raw is None else self.raw.kurtosis_se_rows

    @cached_property
    def kurtosis_se_blocks(self) -> np.ndarray:
        """Standard error of the kurtosis by leaving out blocks or groups of rows, (d,)."""
        if self.raw is None:
            return kurtosis_se_blocks(self.q, self.moments, self.groups)
        return self.raw.kurtosis_se_blocks

    @property
    def kurtosis_se(self) -> np.ndarray:
        """The larger of the two standard errors of the kurtosis, (d,).

        The formula over rows is right where rows are exchangeable and too small where neighbouring rows, or those of
        one group, belong together; the jackknife holds in both cases, and is itself uncertain (by 16 % with 20 blocks).
        """
        return np.fmax(self.kurtosis_se_rows, self.kurtosis_se_blocks)

    @cached_property
    def marginals(self) -> Marginals:
        """The d one-dimensional marginals."""
        if self.raw is None:
            return Marginals(self.q)
        return self.raw.marginals.affine(self.canonical.shift, self.canonical.scale)

    @cached_property
    def distances(self) -> Distances:
        """Distances of the marginals to N(0, 1), (d,) each."""
        return self.marginals.distances()


class Portrait:
    """What the posteriors of one model say about Q(z), raw and in canonical form, train and held-out.

    Args:
        posteriors: Train posteriors, with or without a held-out split. What needs the latter is None without it.
        active_threshold: Mean KL above which a dimension counts as active, nats.
        points: Draws at which ln Q is evaluated.
        gmm_components, fit_points: Components and draws of the certifying mixture; at most one component per 20 draws.
        seed: Of every draw; the same input and seed give the same portrait.
        groups_train, groups_test: (N,) which rows of a split belong together (patches of one image, cells of one
            donor), for the standard errors; None takes consecutive rows.
        canonical: The canonical transform; None fits it on the train split. Give that of all rows for some of them.
    """

    def __init__(
        self,
        posteriors: Posteriors,
        *,
        active_threshold: float = ACTIVE_THRESHOLD,
        points: int = 2000,
        gmm_components: int = 10,
        fit_points: int = 20_000,
        seed: int = 0,
        groups_train: np.ndarray | None = None,
        groups_test: np.ndarray | None = None,
        canonical: Canonical | None = None,
    ) -> None:
        self.posteriors = posteriors
        self._canonical = canonical
        self.active_threshold = active_threshold
        self.points, self.gmm_components, self.fit_points = points, gmm_components, fit_points
        self.seed = seed
        self.train = Law(posteriors.train, groups=groups_train)
        self.test = None if posteriors.test is None else Law(posteriors.test, groups=groups_test)

    @cached_property
    def canonical(self) -> Canonical:
        """The canonical transform, fitted on the train split unless it was given."""
        return canonical_form(self.train.q, self.train.moments) if self._canonical is None else self._canonical

    @cached_property
    def train_canonical(self) -> Law:
        """The train split in canonical form."""
        return Law.of(self.train, self.canonical)

    @cached_property
    def test_canonical(self) -> Law | None:
        """The held-out split in the train split's canonical form."""
        return None if self.test is None else Law.of(self.test, self.canonical)

    @cached_property
    def active(self) -> np.ndarray:
        """Which dimensions are active, (d,) booleans: by the mean KL of the raw train posteriors."""
        return active_dimensions(self.train.kl, self.active_threshold)

    def laws(self) -> Iterator[tuple[str, str, Law]]:
        """Yield (split, form, law) for every split that exists, raw and canonical."""
        yield "train", "raw", self.train
        yield "train", "canonical", self.train_canonical
        if self.test is not None:
            yield "test", "raw", self.test
            yield "test", "canonical", self.test_canonical

    @cached_property
    def certifying_mixture(self) -> ActiveMixture:
        """The mixture of the certified bound, fitted on train posteriors only, in canonical form."""
        law = self.train_canonical
        return fit_certifying_mixture(
            law.q, self.gmm_components, self.fit_points, self.active_threshold, self.seed, law.kl
        )

    @cached_property
    def grain(self) -> float | None:
        """Σ_j E_{z~test}[ln q_j,test(z) − ln q_j,train(z)] ≥ 0, nats: how much of the marginals' KL the rows make.

        KL of a population's marginals lies between the in-sample value less this and the in-sample value, as for the
        joint law. It is near 0 unless posteriors are narrower than the distance of neighbouring means.
        """
        if self.test is None:
            return None
        draws = balanced_draws(self.test_canonical.q, self.points, stream(self.seed, "grain"))
        with np.errstate(divide="ignore"):
            log_test, log_train = (
                np.log(law.marginals.pdf(draws.z)) for law in (self.test_canonical, self.train_canonical)
            )
        return float(np.clip((log_test - log_train).sum(axis=1).mean(), 0.0, LARGEST_GRAIN))

    @cached_property
    def joint(self) -> list[dict[str, object]]:
        """Everything about the joint law, one row for raw and one for canonical form (nats; see `divergence.py`).

        Raises:
            ImpossibleEstimate: An estimate contradicts arithmetic by more than its error.
        """
        return [row | self._held_out_row(str(row["form"])) for row in self.in_sample]

    @cached_property
    def in_sample(self) -> list[dict[str, object]]:
        """What the train rows show of the joint law by themselves, one row for raw and one for canonical form, nats.

        Information, total correlation and densities of draws are computed once, in canonical form: an affine change of
        the latent dimensions leaves the first two alone and moves ln Q by a constant. `mutual_information_raw` is the
        estimate before it is moved to a bound. What a law without ln Q has not is None, as is `mardia_skewness` where
        it would take too long.

        Raises:
            ImpossibleEstimate: An estimate contradicts arithmetic by more than its error.
        """
        inner = self.train_canonical
        latent_dim = inner.q.latent_dim
        full = isinstance(self.train.q, FullCovariance)
        mean_kl = inner.joint_kl
        dimension_wise = None
        shared: dict[str, object] = {
            "n_train": inner.q.n,
            "n_test": None if self.test is None else self.test.q.n,
            "mutual_information": None,
            "mutual_information_se": None,
            "mutual_information_raw": None,
            "total_correlation": None,
            "log_n": float(np.log(inner.q.n)),
            "active_dimensions": int(self.active.sum()),
            "mardia_kurtosis": None if full else mardia_kurtosis(inner.q, inner.moments, inner.covariance),
            "mardia_kurtosis_normal": float(latent_dim * (latent_dim + 2)),
            "mardia_skewness": None if full else mardia_skewness(inner.q, inner.moments, inner.covariance),
        }
        if has_density(self.train.q):
            dimension_wise = float(inner.distances.kl.sum())
            estimate = mutual_information(inner.q, *self._draws_train)
            information = feasible_information(estimate, inner.q.n, mean_kl, dimension_wise)
            shared |= {
                "mutual_information": information,
                "mutual_information_se": estimate.se,
                "mutual_information_raw": estimate.value,
                "total_correlation": max(mean_kl - information - dimension_wise, 0.0),
            }
        rows = []
        for form, law in (("raw", self.train), ("canonical", inner)):
            row = {"form": form, **shared, "mean_kl": law.joint_kl}
            row |= {"dimension_wise_kl": None, "kl_in_sample": None}
            if dimension_wise is not None:
                # The marginals' KL in raw form is the canonical one plus the slack that was taken out.
                marginal = dimension_wise + (float(law.slack.sum()) if form == "raw" else 0.0)
                row |= {"dimension_wise_kl": marginal, "kl_in_sample": marginal + shared["total_correlation"]}
            row["gaussian_part"] = gaussian_part(law.moments, law.covariance)
            row["mmd"] = None if full else maximum_mean_discrepancy(law.q, stream(self.seed, "mmd"))
            rows.append(row)
        return rows

    @property
    def held_out_densities(self) -> tuple[Draws, np.ndarray, np.ndarray]:
        """Canonical draws of the held-out split, and ln Q_train and ln Q_test there (canonical volume, nats)."""
        return self._draws_test, self._log_train, self._log_test

    def log_prior(self, form: str, z: np.ndarray) -> np.ndarray:
        """ln p of the form, as a density over the canonical space, at canonical points z (M, d), nats."""
        if form == "canonical":
            return normal_log_pdf(z)
        return normal_log_pdf(self.canonical.invert(z)) - self.canonical.log_determinant

    @cached_property
    def _draws_test(self) -> Draws | None:
        if self.test is None:
            return None
        return balanced_draws(self.test_canonical.q, self.points, stream(self.seed, "bracket"))

    @cached_property
    def _draws_train(self) -> tuple[Draws, np.ndarray]:
        """Draws of Q_train, and ln Q_train there."""
        q = self.train_canonical.q
        draws = balanced_draws(q, self.points, stream(self.seed, "mutual information"))
        return draws, q.log_density(draws.z)

    @cached_property
    def _log_train(self) -> np.ndarray:
        """ln Q_train at the draws of Q_test."""
        return self.train_canonical.q.log_density(self._draws_test.z)

    @cached_property
    def _certified(self) -> tuple[Draws, np.ndarray]:
        """Held-out draws for the mixture's bound, and the mixture's ln density there.

        The mixture's density is cheap, so its bound can afford more draws than ln Q.
        """
        q = self.test_canonical.q
        draws = balanced_draws(q, max(self.points, min(q.n, self.fit_points)), stream(self.seed, "certified bound"))
        return draws, self.certifying_mixture.score_samples(draws.z)

    @cached_property
    def _log_test(self) -> np.ndarray:
        return self.test_canonical.q.log_density(self._draws_test.z)

    def _held_out_row(self, form: str) -> dict[str, object]:
        """Bracket and certified bounds in one form; None everywhere without a held-out split."""
        if self.test is None:
            row: dict[str, object] = {name + end: None for name in HELD_OUT for end in ("", "_se")}
            return row | {"mean_kl_test": None, "identified": None, "gmm_components": None}
        train, test = (self.train, self.test) if form == "raw" else (self.train_canonical, self.test_canonical)
        draws, log_train, log_test = self.held_out_densities
        prior = self.log_prior(form, draws.z)
        low, high = draws.mean(log_train - prior), draws.mean(log_test - prior)
        gap = draws.mean(log_test - log_train)
        refuse_upside_down(gap.value, gap.se)
        many, log_mixture = self._certified
        estimates = {
            "bracket_low": low,
            "bracket_high": Estimate(max(high.value, low.value), high.se),
            "certified_gaussian": certified_gaussian(train.moments.mean, train.covariance, test.q),
            "certified_gmm": many.mean(log_mixture - self.log_prior(form, many.z)),
        }
        row = {}
        for name, estimate in estimates.items():
            row |= {name: estimate.value, f"{name}_se": estimate.se}
        return row | {
            "mean_kl_test": float(test.kl.sum()),
            "identified": gap.value < 1.0,
            "gmm_components": self.certifying_mixture.n_components,
        }
