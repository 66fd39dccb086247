"""How long the images take to decode into a pack, from some of them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from featherweight import paths
from featherweight.data import pack
from featherweight.data.image import decode
from featherweight.data.listing import Listing, Samples
from featherweight.errors import UserError

if TYPE_CHECKING:
    from featherweight.config import Competition

SAMPLE = 24  # images that are decoded


def packing_seconds(competition: Competition) -> float:
    """The seconds that packing takes at this competition's image size; none where it is done, or nearly nothing.

    Data that lie in one file or a few are read at the rate of the disk.
    """
    listing: Listing = competition.source(paths.data())
    total = 0.0
    for part, samples in (("train", listing.train), ("test", listing.test), ("valid", listing.valid)):
        if not isinstance(samples, Samples) or isinstance(samples.images, np.ndarray):
            continue
        if pack.is_packed(samples, competition.image, part, competition.source):
            continue
        total += len(samples.images) * _each([Path(file) for file in samples.images], competition)
    return total


def _each(files: list[Path], competition: Competition) -> float:
    """Seconds per image, all processors at work."""
    chosen = files[:: max(1, len(files) // SAMPLE)]
    began = time.perf_counter()
    for file in chosen:
        try:
            decode(file, competition.image)
        except UserError:  # packing says which it is
            continue
    return (time.perf_counter() - began) / len(chosen) / (os.cpu_count() or 1)
