"""The bias of a stratified holdout with few images per class.

A random holdout has its own class frequencies. A stratified one has those of the training images, chance included, and
a network that is unsure prefers the classes with more of these: it is scored most on what it prefers.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def population_weights(labels: NDArray[np.int64], independent: float) -> NDArray[np.float64]:
    """Return weights of held-out images, float64 [N], that give their classes [N] the frequencies of the population.

    These are the observed ones, drawn towards equal ones as far as chance among as many `independent` labelled images
    explains their differences (James and Stein 1961, by the chi-squared statistic).
    """
    classes, index, counts = np.unique(labels, return_inverse=True, return_counts=True)
    share, even = counts / len(labels), 1 / len(classes)
    chi_squared = independent * float(((share - even) ** 2).sum()) / even
    chance = min((len(classes) - 1) / chi_squared, 1.0) if chi_squared > 0 else 1.0
    weights: NDArray[np.float64] = ((1 - chance) * share + chance * even)[index] / share[index]
    return weights
