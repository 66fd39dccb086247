"""Which training images an epoch shows, and how often: a sampling maps the images' classes to an epoch's order.

Each takes classes int64 [N], a seed and an epoch, and returns the places of images int64 [M] in the order they are
shown; M is the same in every epoch. The order belongs to the whole run, so processes that each take a part of every
batch show together exactly what one would.
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
    """Every image once."""
    return torch.randperm(len(labels), generator=generator(seed, "order", epoch)).numpy()


def weighted(labels: Places, seed: int, epoch: int, *, power: Fraction = 1.0) -> Places:
    """As many as there are, drawn with replacement, an image of a class of n by n^-power (LOGBOOK C).

    With 1 all classes are shown as often, as by torch's WeightedRandomSampler with inverse frequencies; 0.5 is
    square-root sampling; 0 draws all images alike.
    """
    counts = np.bincount(labels)
    weights = 1.0 / counts[labels].astype(np.float64) ** power
    return _rng(seed, "order", epoch).choice(len(labels), len(labels), p=weights / weights.sum())


def oversample(labels: Places, seed: int, epoch: int, *, cap: Positive = 7.0, majority: Fraction = 1.0) -> Places:
    """Small classes repeated up to the size of the largest, but at most `cap` times (LOGBOOK C: 7, 12).

    First the classes over the mean size are cut to the part `majority` (LOGBOOK C: 0.8, 0.6), to the same images in
    all epochs. A repeated image is augmented anew each time; what is no whole repetition is drawn anew in each epoch.
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
    """How many images of each class an epoch shows, float64 [K]; of what is drawn, the expected number.

    By these a loss weighs: so weights and a sampling that even classes out do it once, not twice.
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
