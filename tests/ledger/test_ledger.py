"""The ledger's own error rate, on a few simulated experiments; `make test-ledger` takes many and writes the table."""

import numpy as np

from .simulate import CASES, Experiment, error_rates, evaluate, stream, too_often

LEDGERS = 40


def test_a_claim_at_its_threshold_is_rarely_decided():
    rates = error_rates(LEDGERS)
    assert len(rates) == len(CASES) * 11
    assert too_often(rates, LEDGERS).empty, rates.to_string()


def test_a_claim_far_from_its_threshold_is_decided(monkeypatch):
    """The same experiments judged by thresholds that the truth is far from: the harness can see a verdict."""
    found = {verdict.id: verdict for verdict in evaluate(Experiment(stream(0, "power"), "tied").evidence())}
    # Limits a tenth of the way beside the estimate would already decide most claims.
    for claim in ("C1", "C2", "C3", "C4", "C6", "C6k", "C5"):
        width = found[claim].high - found[claim].low
        assert np.isfinite(width)
        assert width < found[claim].estimate, claim
