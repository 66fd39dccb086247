"""How candidates are drawn, and when a trial is given up. Each choice makes one of optuna's samplers or pruners."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

from optuna.pruners import BasePruner, HyperbandPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from pydantic import Field, Strict

from featherweight.schema import PositiveInt

Factor = Annotated[int, Strict(), Field(ge=2)]


def tpe(seed: int, *, startup: PositiveInt = 10) -> BaseSampler:
    """The tree-structured Parzen estimator (Bergstra et al. 2011), after `startup` candidates drawn at random."""
    return TPESampler(n_startup_trials=startup, seed=seed)


def random(seed: int) -> BaseSampler:
    """Every candidate at random."""
    return RandomSampler(seed)


def asha(epochs: int, *, first: PositiveInt = 1, factor: Factor = 3) -> BasePruner:
    """Asynchronous successive halving (Li et al. 2020, arXiv:1810.05934): after `first` epochs, `first` times `factor`
    and so on, a trial goes on if it is among the best one in `factor` of those that came so far.
    """
    return SuccessiveHalvingPruner(min_resource=first, reduction_factor=factor)


def hyperband(epochs: int, *, first: PositiveInt = 1, factor: Factor = 3) -> BasePruner:
    """Hyperband (Li et al. 2018, arXiv:1603.06560): brackets of successive halving, of which some start later.

    Each bracket learns from its own trials alone, so it wants many more of them than `asha`.
    """
    return HyperbandPruner(min_resource=first, max_resource=max(epochs, first), reduction_factor=factor)


def none(epochs: int) -> BasePruner:
    """No trial is stopped early."""
    return NopPruner()


SAMPLERS: dict[str, Callable[..., BaseSampler]] = {"tpe": tpe, "random": random}
PRUNERS: dict[str, Callable[..., BasePruner]] = {"asha": asha, "hyperband": hyperband, "none": none}
