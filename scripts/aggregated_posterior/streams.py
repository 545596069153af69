"""Random streams: one generator for each purpose, none of which can coincide with another nor with a user's own.

A stream's key is the purpose in words. Two purposes under one seed, and the plain `numpy.random.default_rng(seed)` that
a user may have made the data with, are then independent streams, and a new purpose changes no draw of an old one.
"""

from __future__ import annotations

import hashlib

import numpy as np


def seed_sequence(seed: int, *purpose: str | int) -> np.random.SeedSequence:
    """The seed sequence of one purpose: entropy `seed`, and a spawn key made from the SHA-256 of the purpose.

    Args:
        seed: Any non-negative integer.
        purpose: What the numbers are for, e.g. `"marginals", "fit", 3`; all of it counts, in this order.
    """
    name = "\0".join(["aggregated-posterior", *map(str, purpose)]).encode()
    words = np.frombuffer(hashlib.sha256(name).digest(), dtype="<u4")
    return np.random.SeedSequence(seed, spawn_key=tuple(int(word) for word in words))


def stream(seed: int, *purpose: str | int) -> np.random.Generator:
    """The generator of one purpose; see `seed_sequence`."""
    return np.random.Generator(np.random.PCG64(seed_sequence(seed, *purpose)))
