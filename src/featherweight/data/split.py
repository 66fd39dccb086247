"""Which images are held out: seeded, stratified, and a property of the ids, not of the order they are listed in."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def holdout_ranks(ids: Sequence[str], labels: Sequence[str], fraction: float, seed: int) -> NDArray[np.bool_]:
    """True [N] for the images held out: `fraction` of each class, rounded, but never the whole of one.

    Each class's ids are ranked by a hash of the seed and the id, and the first ones are taken. So the same ids are held
    out whatever the file order, the machine or the library versions, and adding images moves few across.
    """
    members: dict[str, list[int]] = defaultdict(list)
    for place, label in enumerate(labels):
        members[label].append(place)
    held = np.zeros(len(ids), dtype=bool)
    for places in members.values():
        places.sort(key=lambda place: hashlib.sha256(f"{seed}:{ids[place]}".encode()).digest())
        held[places[: min(round(fraction * len(places)), len(places) - 1)]] = True
    return held
