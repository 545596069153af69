"""From tables to verdicts: the ledger of claims, each with the function that draws its verdict.

A claim reduces every training run to one number (or a count), asks `limits.py` what five seeds can say of it, and
compares the limits with a threshold. A statistic that can only be a lower bound supports and never refutes. Thresholds,
and the date and reason of each, are in `config/claims.yaml`; `docs/ledger.md` has the whole on one page.
"""

from __future__ import annotations

from .distance_claims import claim_controls, claim_distance, claim_marginal_share
from .generation_claims import claim_marginal_shape, claim_prior_sampling, claim_scale
from .moment_claims import claim_formulas, claim_kl_weight, claim_kurtosis, claim_other_moments
from .runs import Evidence
from .training_claims import claim_customary_training, claim_first_moment, claim_regauging, claim_second_moment
from .verdicts import Verdict

LEDGER = {
    "C0": claim_formulas,
    "C1": claim_first_moment,
    "C2": claim_second_moment,
    "C2r": claim_customary_training,
    "C3": claim_other_moments,
    "C4": claim_kurtosis,
    "C4β": claim_kl_weight,
    "C5": claim_distance,
    "C5s": claim_marginal_share,
    "C6": claim_prior_sampling,
    "C6k": claim_marginal_shape,
    "C6s": claim_scale,
    "M1": claim_regauging,
    "C8": claim_controls,
}


def evaluate(evidence: Evidence) -> list[Verdict]:
    """All claims, in the ledger's order."""
    return [claim(evidence) for claim in LEDGER.values()]
