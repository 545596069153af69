"""Do the judges agree? How the ladder's rungs are ranked by classifiers that differ in their seed alone."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import kendalltau

from .tables import KEYS

# Not samplers to choose from: references, and codes decoded in the wrong scale.
REFERENCES = ("floor", "ceiling")


def agreement(samplers: pd.DataFrame, score: str = "frechet") -> pd.DataFrame:
    """One row per model: whether its judges rank the samplers alike.

    Args:
        samplers: `tables/samplers.csv`.
        score: The column by which a judge ranks, smaller is better.

    Returns:
        `KEYS` and: `judges` and `rungs`, their numbers; `kendall`, the mean over pairs of judges of Kendall's τ (τ-b,
        NaN with one judge); `alike`, whether all judges rank all rungs in one order; `same_best`, whether they agree on
        the best rung; `prior_worse`, the number of judges by whom the prior is worse than the product of marginals.
    """
    rows = []
    names = samplers.get("sampler", pd.Series(dtype=str)).astype(str)
    ladder = samplers[~names.isin(REFERENCES) & ~names.str.endswith("_raw")]
    for values, own in ladder.groupby(KEYS, sort=True) if len(ladder) else ():
        table = own.pivot_table(index="judge", columns="sampler", values=score)
        pairs = [kendalltau(a, b).statistic for a, b in combinations(table.to_numpy(), 2)]
        orders = {tuple(row) for row in table.rank(axis="columns").to_numpy()}
        rows.append(
            {
                **dict(zip(KEYS, values, strict=True)),
                "judges": len(table),
                "rungs": table.shape[1],
                "kendall": np.mean(pairs) if pairs else np.nan,
                "alike": len(orders) == 1,
                "same_best": table.idxmin(axis="columns").nunique() == 1,
                "prior_worse": int((table["prior"] > table["marginals"]).sum()),
            }
        )
    columns = [*KEYS, "judges", "rungs", "kendall", "alike", "same_best", "prior_worse"]
    return pd.DataFrame(rows, columns=columns)
