"""Seeded resamples of images: how often each one is drawn, so that a metric is asked about many at once."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

CHUNK = 2**24  # numbers held at once while bootstrapping


def resamples(count: int, replicates: int, group: NDArray[np.int64] | None = None) -> Iterator[NDArray[np.float64]]:
    """float64 [some replicates, count]: how often each image is drawn, in pieces that fit into the memory.

    Of images in groups, by number from 0 on, whole groups are drawn.
    """
    if group is not None:
        for some_groups in resamples(int(group.max()) + 1, replicates):
            yield some_groups[:, group]
        return
    from featherweight.runtime.rng import derive  # it imports torch

    random = np.random.default_rng(derive(0, "bootstrap"))
    step = max(1, min(replicates, CHUNK // count))
    for first in range(0, replicates, step):
        some = min(step, replicates - first)
        drawn = random.integers(count, size=(some, count)) + np.arange(some)[:, None] * count
        yield np.bincount(drawn.ravel(), minlength=some * count).reshape(some, count).astype(np.float64)


def halves(count: int) -> NDArray[np.bool_]:
    """True [count] for a random half, always the same one: what is fitted to one half is scored on the other."""
    half: NDArray[np.bool_] = np.random.default_rng(0).permutation(count) % 2 == 0
    return half


def fifths(count: int) -> NDArray[np.int64]:
    """The fifth int64 [count] of each image, random but always the same; scored by what is fitted to others."""
    dealt: NDArray[np.int64] = np.random.default_rng(0).permutation(count) % 5
    return dealt
