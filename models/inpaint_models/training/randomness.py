"""Random numbers by address.

A generator is a function of (seed, epoch, index, purpose) and of nothing else: not of what was
drawn before, nor of the process that draws. So a run resumes from two numbers, epoch and position,
and any number of workers gives the same samples.
"""

from __future__ import annotations

import numpy as np

ORDER, CROP, MASK, FIXED_MASK = range(4)
"""Purposes: streams of one (seed, epoch, index) that never meet."""


def check_seed(seed: int) -> None:
    """Raise unless `seed` is an int in [0, 2**64)."""
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise TypeError(f"seed must be an int, got {type(seed).__name__}")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed must be in [0, 2**64), got {seed}")


def random_at(seed: int, epoch: int, index: int, purpose: int) -> np.random.Generator:
    """The generator of one address; every argument is in [0, 2**64)."""
    # Philox turns (key, counter) into numbers. It counts in the first word, 2**64 blocks of them.
    key = np.array([seed, purpose], np.uint64)
    counter = np.array([0, index, epoch, 0], np.uint64)
    return np.random.Generator(np.random.Philox(key=key, counter=counter))
