"""Seeded resamples of images: how often each one is drawn, so that a metric is asked about many at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

REPLICATES = 1000  # the ends of the interval then move by about a twentieth of its length
CHUNK = 2**24  # numbers held at once while bootstrapping


def multinomial(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """float64 [replicates, cells]: drawing images anew is drawing how many fall into each cell of equal ones."""
    drawn = _generator().multinomial(counts.sum(), counts / counts.sum(), size=REPLICATES)
    return drawn.astype(np.float64)


def resamples(count: int, replicates: int = REPLICATES) -> Iterator[NDArray[np.float64]]:
    """float64 [some replicates, count]: how often each image is drawn, in pieces that fit into the memory."""
    random = _generator()
    step = max(1, min(replicates, CHUNK // count))
    for first in range(0, replicates, step):
        some = min(step, replicates - first)
        drawn = random.integers(count, size=(some, count)) + np.arange(some)[:, None] * count
        yield np.bincount(drawn.ravel(), minlength=some * count).reshape(some, count).astype(np.float64)


def _generator() -> np.random.Generator:
    from featherweight.runtime.rng import derive  # it imports torch

    return np.random.default_rng(derive(0, "bootstrap"))


def halves(count: int) -> NDArray[np.bool_]:
    """True [count] for a random half, always the same one: what is fitted to one half is scored on the other."""
    half: NDArray[np.bool_] = np.random.default_rng(0).permutation(count) % 2 == 0
    return half


def fifths(count: int) -> NDArray[np.int64]:
    """The fifth int64 [count] of each image, random but always the same; scored by what is fitted to others."""
    dealt: NDArray[np.int64] = np.random.default_rng(0).permutation(count) % 5
    return dealt
