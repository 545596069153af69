"""How far each one-dimensional marginal of Q(z) is from N(0, 1), and the curves of the extreme ones."""

from statistics import NormalDist

import numpy as np
import pandas as pd

from aggregated_posterior.pipeline.scripting import script_log
from aggregated_posterior.posterior.gauge import gauge_slack
from aggregated_posterior.posterior.splits import active_dimensions, load_posteriors
from aggregated_posterior.statistics.marginals import Marginals
from aggregated_posterior.storage import write_table


def marginal_curves(line: Marginals, role: str, dimension: int) -> pd.DataFrame:
    """Density on [−5, 5] (241 points) and quantiles against normal ones (199 points) of a single marginal."""
    z = np.linspace(-5, 5, 241)
    p = np.arange(1, 200) / 200
    normal = np.array([NormalDist().inv_cdf(value) for value in p])
    curves = {"density": (z, line.pdf(z)[:, 0]), "quantile": (normal, line.quantile(p)[:, 0])}
    head = {"role": role, "dimension": dimension}
    return pd.concat([pd.DataFrame({**head, "curve": name, "x": x, "y": y}) for name, (x, y) in curves.items()])


def measure_marginals(posteriors: str, marginals: str, curves: str, active_threshold: float = 0.05) -> None:
    """Write distances per split, form and dimension to `marginals`, and two active dimensions' curves to `curves`."""
    pair = load_posteriors(posteriors)
    active = active_dimensions(pair.train.kl(), active_threshold)
    tables, shown = [], [pd.DataFrame(columns=["role", "dimension", "curve", "x", "y"])]
    for split, form, q in pair.variants(pair.canonical()):
        distances = Marginals(q).distances()
        columns = {"split": split, "form": form, "dimension": np.arange(q.latent_dim), "kl": distances.kl}
        columns |= {"kl_gaussian": gauge_slack(q), "ks": distances.ks, "w1": distances.w1, "w2": distances.w2}
        tables.append(pd.DataFrame({**columns, "tv": distances.tv, "active": active}))
        if (split, form) == ("train", "canonical") and active.any():
            order = np.flatnonzero(active)[np.argsort(distances.kl[active], kind="stable")]
            chosen = {"most_normal": int(order[0]), "least_normal": int(order[-1])}
            shown = [marginal_curves(Marginals(q.select([j])), role, j) for role, j in chosen.items()]
    write_table(marginals, pd.concat(tables, ignore_index=True))
    write_table(curves, pd.concat(shown, ignore_index=True))


if __name__ == "__main__":
    with script_log(snakemake.log[0]):
        measure_marginals(
            posteriors=snakemake.input.posteriors,
            marginals=snakemake.output.marginals,
            curves=snakemake.output.curves,
            **snakemake.params.settings,
        )
