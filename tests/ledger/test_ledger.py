"""The ledger's own error rate, on a few simulated experiments; `make test-ledger` takes many and writes the table."""

import copy
from dataclasses import replace

import pytest

from .simulate import CASES, LEDGER, ONE_SIDED, Experiment, error_rates, evaluate, stream, too_often

LEDGERS = 40
# Claims that a number lies below a threshold; the others say above.
BELOW = {"C1", "C2", "C4β", "M1"}


def test_a_claim_at_its_threshold_is_rarely_decided():
    rates = error_rates(LEDGERS)
    assert len(rates) == len(CASES) * 11
    assert too_often(rates, LEDGERS).empty, rates.to_string()


@pytest.mark.parametrize(("threshold", "below"), [(-100.0, "refuted"), (100.0, "supported")])
def test_a_claim_far_from_its_threshold_is_decided(threshold, below):
    """The same experiment judged by thresholds that the truth is far from, on either side."""
    ledger = copy.deepcopy(LEDGER)
    decidable = {claim for claim, entry in ledger["claims"].items() if entry["threshold"] is not None} - ONE_SIDED
    for claim in decidable:
        entry = ledger["claims"][claim]
        entry |= {key: threshold for key in ("threshold", "held_out") if key in entry}
    evidence = replace(Experiment(stream(0, "power"), "tied").evidence(), ledger=ledger)
    found = {verdict.id: verdict.verdict for verdict in evaluate(evidence) if verdict.id in decidable}
    above = "refuted" if below == "supported" else "supported"
    assert found == {claim: below if claim in BELOW else above for claim in decidable}
