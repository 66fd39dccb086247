"""scikit-learn's handwritten digits: real images that need no download."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from featherweight.data.listing import Listing, Samples
from featherweight.data.split import stratified_mask
from featherweight.schema import NonNegativeInt53


def digits(root: Path, *, seed: NonNegativeInt53 = 0) -> Listing:
    """The 1,797 handwritten 8x8 digits that come with scikit-learn (UCI Optical Recognition of Handwritten Digits).

    One in five images of each class, by `seed`, is to be predicted; ids are the images' places in the original order.
    """
    images, labels, ids, hidden = _digits(seed)

    def part(mask: NDArray[np.bool_], labelled: bool) -> Samples:
        places = np.flatnonzero(mask)
        return Samples([ids[i] for i in places], images[places], [labels[i] for i in places] if labelled else None)

    return Listing(
        train=part(~hidden, labelled=True),
        predict=part(hidden, labelled=False),
        answers=lambda: {ids[i]: labels[i] for i in np.flatnonzero(hidden)},
    )


@functools.cache  # a run asks twice, and a series of runs each time
def _digits(seed: int) -> tuple[NDArray[np.uint8], list[str], list[str], NDArray[np.bool_]]:
    """Return images uint8 [N, 8, 8], labels, ids, and which are hidden."""
    from sklearn.datasets import load_digits  # over a second to import

    bunch = load_digits()
    images = np.round(bunch.images * (255 / 16)).astype(np.uint8)
    labels = [str(label) for label in bunch.target]
    ids = [f"{place:04d}" for place in range(len(labels))]
    return images, labels, ids, stratified_mask(ids, labels, 0.2, seed)
