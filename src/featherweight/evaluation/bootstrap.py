"""Seeded resamples and folds of images, or of whole groups of related images, behind intervals and cross-fitting."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Groups = NDArray[np.int64]  # [N]: related images have one number

CHUNK = 2**24  # numbers held at once while bootstrapping


def numbered(groups: Groups | None) -> Groups | None:
    """Return the groups int64 [N] renumbered from 0 without gaps, or None if every image is a group of its own."""
    if groups is None or not len(groups):
        return None
    names, numbers = np.unique(groups, return_inverse=True)
    return None if len(names) == len(groups) else numbers.astype(np.int64)


def independent(count: int, groups: Groups | None) -> int:
    """Return the number of independent draws among `count` images: the number of groups, or `count` without groups."""
    numbers = numbered(groups)
    return count if numbers is None else int(numbers.max()) + 1


def resamples(count: int, replicates: int, groups: Groups | None = None) -> Iterator[NDArray[np.float64]]:
    """Yield bootstrap weights float64 [R, count]: how often each image is drawn, in pieces that fit into memory.

    With `groups` int64 [count], numbered from 0, whole groups are drawn (cluster bootstrap).
    """
    if groups is not None:
        for drawn_groups in resamples(int(groups.max()) + 1, replicates):
            yield drawn_groups[:, groups]
        return
    from featherweight.runtime.rng import derive  # it imports torch

    random = np.random.default_rng(derive(0, "bootstrap"))
    step = max(1, min(replicates, CHUNK // count))
    for first in range(0, replicates, step):
        some = min(step, replicates - first)
        drawn = random.integers(count, size=(some, count)) + np.arange(some)[:, None] * count
        yield np.bincount(drawn.ravel(), minlength=some * count).reshape(some, count).astype(np.float64)


def halves(count: int, groups: Groups | None) -> NDArray[np.bool_]:
    """Return True [count] for a random half of the images, always the same one; groups are not divided."""
    half: NDArray[np.bool_] = _dealt(count, groups, 2) == 0
    return half


def fold_of(count: int, groups: Groups | None) -> NDArray[np.int64]:
    """Return the fold, 0 to 4, of each image, int64 [count]: random, always the same; groups are not divided."""
    return _dealt(count, groups, 5)


def _dealt(count: int, groups: Groups | None, parts: int) -> NDArray[np.int64]:
    numbers = numbered(groups)
    dealt: NDArray[np.int64] = np.random.default_rng(0).permutation(independent(count, groups)) % parts
    return dealt if numbers is None else dealt[numbers]
