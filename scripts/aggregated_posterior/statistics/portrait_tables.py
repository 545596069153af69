"""A portrait of Q(z) as tables: one row per split, form and dimension, and the curves of its extreme marginals."""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import ndtri

from ..posterior.splits import active_by_other_customs
from ..streams import stream
from .marginals import Marginals
from .portrait import Portrait
from .uncertainty import draws_z_scores, normal_interval

SCORED = ("mean", "variance", "skewness", "kurtosis")


def moments_table(portrait: Portrait, draws: int = 1_000_000) -> pd.DataFrame:
    """Exact moments of Q(z), their errors over the data and activity, one row per split, form and dimension.

    Args:
        portrait: The model's.
        draws: Points of the raw train Q(z) against which its moments are checked (`draws_z_*`, claim C0).
    """
    flags = {"active": portrait.active, **active_by_other_customs(portrait.train.moments)}
    tables = []
    for split, form, law in portrait.laws():
        moments = law.moments
        low, high = normal_interval(moments.kurtosis, law.kurtosis_se)
        columns = {"split": split, "form": form, "dimension": np.arange(law.q.latent_dim), "kl": law.kl}
        columns |= {name: getattr(moments, name) for name in ("mean", "variance", "second_moment")}
        columns |= {"skewness": moments.skewness, "kurtosis": moments.kurtosis}
        columns |= {name: getattr(law, name) for name in ("kurtosis_se_rows", "kurtosis_se_blocks", "kurtosis_se")}
        columns |= {"kurtosis_low": low, "kurtosis_high": high}
        for name in ("variance_of_means", "mean_variance", "term_means", "term_covariance", "term_scale"):
            columns[name] = getattr(moments, name)
        columns |= {"gauge_slack": law.slack, "kurtosis_bound": moments.kurtosis_bound, **flags}
        scores = {}
        if (split, form) == ("train", "raw"):
            scores = draws_z_scores(law.q, draws, stream(portrait.seed, "draws against moments"), moments)
        columns |= {f"draws_z_{name}": scores.get(name, np.nan) for name in SCORED}
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables, ignore_index=True)


def marginals_table(portrait: Portrait) -> pd.DataFrame:
    """Distances of each marginal to N(0, 1), one row per split, form and dimension; `kl_gaussian` is the slack."""
    tables = []
    for split, form, law in portrait.laws():
        distances = law.distances
        columns = {"split": split, "form": form, "dimension": np.arange(law.q.latent_dim), "kl": distances.kl}
        columns |= {"kl_gaussian": law.slack, "ks": distances.ks, "w1": distances.w1, "w2": distances.w2}
        tables.append(pd.DataFrame({**columns, "tv": distances.tv, "active": portrait.active}))
    return pd.concat(tables, ignore_index=True)


def extreme_marginal_curves(portrait: Portrait) -> pd.DataFrame:
    """Curves of the active dimensions whose marginals are nearest to N(0, 1) and farthest from it, by KL.

    Canonical form, train split; no rows where no dimension is active.
    """
    law = portrait.train_canonical
    active = np.flatnonzero(portrait.active)
    if not len(active):
        return pd.DataFrame(columns=["role", "dimension", "curve", "x", "y"])
    order = active[np.argsort(law.distances.kl[active], kind="stable")]
    chosen = {"most_normal": int(order[0]), "least_normal": int(order[-1])}
    curves = [marginal_curves(law.marginals, role, dimension) for role, dimension in chosen.items()]
    return pd.concat(curves, ignore_index=True)


def marginal_curves(marginals: Marginals, role: str, dimension: int) -> pd.DataFrame:
    """Density on [−5, 5] (241 points) and quantiles against normal ones (199 points) of a single marginal."""
    one = marginals.select([dimension])
    z = np.linspace(-5, 5, 241)
    p = np.arange(1, 200) / 200
    curves = {"density": (z, one.pdf(z)[:, 0]), "quantile": (ndtri(p), one.quantile(p)[:, 0])}
    head = {"role": role, "dimension": dimension}
    return pd.concat([pd.DataFrame({**head, "curve": name, "x": x, "y": y}) for name, (x, y) in curves.items()])
