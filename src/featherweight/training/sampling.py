"""Samplings: which training images an epoch shows, how often and in what order.

Each takes classes int64 [N], a seed and an epoch, and returns image indices int64 [M], where M is the same in every
epoch. The order is that of the whole run: processes that each take a part of every batch together show what one would.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from featherweight.runtime.rng import derive, generator
from featherweight.schema import Fraction, Positive

Places = NDArray[np.int64]


def each_once(labels: Places, seed: int, epoch: int) -> Places:
    """Show every image once, in random order."""
    return torch.randperm(len(labels), generator=generator(seed, "order", epoch)).numpy()


def weighted(labels: Places, seed: int, epoch: int, *, power: Fraction = 1.0) -> Places:
    """Draw N images with replacement, those of a class of n images with the weight n^-power (LOGBOOK C).

    With `power` 1 all classes are shown equally often, as with torch's WeightedRandomSampler and inverse frequencies;
    0.5 is square-root sampling; 0 weights all images equally.
    """
    counts = np.bincount(labels)
    weights = 1.0 / counts[labels].astype(np.float64) ** power
    return _rng(seed, "order", epoch).choice(len(labels), len(labels), p=weights / weights.sum())


def oversample(labels: Places, seed: int, epoch: int, *, cap: Positive = 7.0, majority: Fraction = 1.0) -> Places:
    """Repeat small classes up to the size of the largest, but at most `cap` times (LOGBOOK C: 7, 12).

    Before that, the classes above the mean size are reduced to the fraction `majority` (LOGBOOK C: 0.8, 0.6), to the
    same images in all epochs. Each repetition of an image is augmented anew. An incomplete repetition of a class is
    drawn anew in each epoch.
    """
    counts = np.bincount(labels)
    present = counts[counts > 0]
    left = np.where(counts > present.mean(), np.maximum(np.floor(counts * majority + 0.5), 1), counts).astype(np.int64)
    largest = left.max()
    rng, shown = _rng(seed, "oversample", epoch), []
    for label in np.flatnonzero(counts):
        places = np.flatnonzero(labels == label)
        if left[label] < counts[label]:
            places = np.sort(_rng(seed, "majority", int(label)).permutation(places)[: left[label]])
        wanted = min(largest, math.floor(len(places) * max(cap, 1.0)))
        whole, rest = divmod(wanted, len(places))
        shown += [np.tile(places, whole), rng.permutation(places)[:rest]]
    every = np.concatenate(shown)
    shuffled: Places = every[torch.randperm(len(every), generator=generator(seed, "order", epoch)).numpy()]
    return shuffled


def shown(
    sampling: Callable[[Places, int, int], Places], labels: Places, classes: int, seed: int
) -> NDArray[np.float64]:
    """Return how many images of each class an epoch shows, float64 [K]; the expected number if they are drawn.

    Losses take their class weights from these, so a sampling that balances the classes is not balanced a second time.
    """
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    if getattr(sampling, "name", "") == "weighted":
        power = sampling.arguments["power"]  # type: ignore[attr-defined]
        shares = np.where(counts > 0, counts.clip(1) ** (1 - power), 0)
        expected: NDArray[np.float64] = len(labels) * shares / shares.sum()
        return expected
    return np.bincount(labels[sampling(labels, seed, 0)], minlength=classes).astype(np.float64)


def _rng(seed: int, *purpose: str | int) -> np.random.Generator:
    return np.random.default_rng(derive(seed, *purpose))


SAMPLINGS: dict[str, Callable[..., Places]] = {
    "each_once": each_once,
    "weighted": weighted,
    "oversample": oversample,
}
