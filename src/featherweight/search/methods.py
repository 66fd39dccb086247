"""How candidates are drawn, and when a trial is stopped early: optuna's samplers and pruners, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from pydantic import Field, Strict

from featherweight.schema import PositiveInt

Factor = Annotated[int, Strict(), Field(ge=2)]


def tpe(seed: int, *, startup: PositiveInt = 10) -> BaseSampler:
    """The tree-structured Parzen estimator (Bergstra et al. 2011), after `startup` random candidates."""
    return TPESampler(n_startup_trials=startup, seed=seed)


def random(seed: int) -> BaseSampler:
    """Draw every candidate at random."""
    return RandomSampler(seed)


def asha(epochs: int, *, first: PositiveInt = 1, factor: Factor = 3) -> BasePruner:
    """Asynchronous successive halving (Li et al. 2020, arXiv:1810.05934).

    After `first` epochs, after `first` times `factor` epochs and so on, a trial continues only if it is among the best
    1 / `factor` of the trials that got this far.
    """
    return SuccessiveHalvingPruner(min_resource=first, reduction_factor=factor)


def hyperband(epochs: int, *, first: PositiveInt = 1, factor: Factor = 3) -> BasePruner:
    """Hyperband (Li et al. 2018, arXiv:1603.06560): several brackets of successive halving, which begin at different
    epochs.

    Each bracket learns only from its own trials, so it needs many more trials than `asha`.
    """
    return HyperbandPruner(min_resource=first, max_resource=max(epochs, first), reduction_factor=factor)


def none(epochs: int) -> BasePruner:
    """Never stop a trial early."""
    return NopPruner()


SAMPLERS: dict[str, Callable[..., BaseSampler]] = {"tpe": tpe, "random": random}
PRUNERS: dict[str, Callable[..., BasePruner]] = {"asha": asha, "hyperband": hyperband, "none": none}
