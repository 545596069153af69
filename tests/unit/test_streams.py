"""Random streams: each purpose its own, none a user's."""

import numpy as np
import pytest

from aggregated_posterior.streams import stream


def test_a_stream_is_a_function_of_seed_and_purpose():
    assert (stream(3, "noise", 1).normal(size=5) == stream(3, "noise", 1).normal(size=5)).all()


@pytest.mark.parametrize("other", [(3, "noise"), (3, "noise", 2), (4, "noise", 1), (3, "nois", "e1"), (3, "noise1")])
def test_other_purposes_and_seeds_are_other_streams(other):
    assert not np.isin(stream(*other).random(1000), stream(3, "noise", 1).random(1000)).any()


@pytest.mark.parametrize("seed", range(4))
def test_no_stream_is_a_users_own(seed):
    own = stream(seed, "joint law").standard_normal(2000)
    for users in (np.random.default_rng(seed), np.random.default_rng([seed, 1]), np.random.RandomState(seed)):
        values = users.standard_normal(2000)
        assert abs(np.corrcoef(values, own)[0, 1]) < 0.1 and not np.isin(values, own).any()
