"""The learning-rate schedules that a recipe may name: functions from the position in a run to a factor on the rate.

Each is a pure function of the position and of the holdout scores so far, so it has no state to save.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from featherweight.errors import UserError
from featherweight.schema import Choice, Fraction, NonNegative, NonNegativeInt53, Positive, PositiveInt
from featherweight.training.early_stopping import Watched, values

if TYPE_CHECKING:
    from featherweight.config import Recipe


@dataclass(frozen=True)
class Position:
    """The position in a run, before a step: 0 before the first one. `history` has a row for each completed epoch."""

    step: int
    steps_per_epoch: int
    epochs: int
    total: int = 0  # steps in the whole run; 0: all of its epochs'
    warmup: int = 0  # steps of it that warm up
    history: Sequence[Mapping[str, Any]] = ()
    score_falls: bool = False  # True if a lower value of the competition's metric is better

    @property
    def epoch(self) -> int:
        """Completed epochs."""
        return self.step // self.steps_per_epoch

    @property
    def steps(self) -> int:
        """Steps after the warm-up, in the whole run."""
        return (self.total or self.steps_per_epoch * self.epochs) - self.warmup

    @property
    def done(self) -> int:
        """Completed steps after the warm-up."""
        return max(0, self.step - self.warmup)

    @property
    def fraction(self) -> float:
        """Completed fraction of the run after the warm-up, 0 to 1."""
        return self.done / self.steps if self.steps > 0 else 0.0


def rising(position: Position, start: float) -> float:
    """Return the factor during the warm-up: from `start` linearly up to 1 at its end (arXiv:1706.02677)."""
    return 1.0 if position.step >= position.warmup else start + (1 - start) * position.step / position.warmup


def beginning(recipe: Recipe, steps_per_epoch: int) -> Position:
    """Return the position at the start of a run of the recipe, which holds the run's length."""
    total = recipe.train.epochs * steps_per_epoch
    total = min(total, recipe.train.steps or total)
    warmup = 0
    if recipe.warmup is not None and total:
        wanted = recipe.warmup
        warmup = round(total * wanted.fraction if wanted.epochs is None else steps_per_epoch * wanted.epochs)
        if warmup >= total:
            raise UserError(f"warmup: its {warmup:,} steps leave the schedule none of the run's {total:,}")
    return Position(0, steps_per_epoch, -(-total // steps_per_epoch), total, warmup)


def rate_factor(recipe: Recipe, position: Position) -> float:
    """Return the factor on the optimizer's rates at a position."""
    factor: float = recipe.schedule(position)
    return factor * rising(position, recipe.warmup.start) if recipe.warmup else factor


def constant(position: Position) -> float:
    """Keep the same rate throughout."""
    return 1.0


def stepped(
    position: Position,
    *,
    at: list[Fraction] = [0.3, 0.5, 0.7, 0.9],
    epochs: list[NonNegativeInt53] = [],
    factor: Positive = 0.2,
) -> float:
    """Multiply the rate by `factor` at each of the fractions `at` of the run's epochs (LOGBOOK A).

    `epochs` are further epochs at which it is multiplied, such as LOGBOOK A15's 43, 45 and 47 of 50.
    """
    # The epoch's number is compared, not the quotient: 0.7 * 10 epochs is reached at epoch 7 despite rounding.
    places = sorted([round(part * position.epochs, 9) for part in at] + [float(epoch) for epoch in epochs])
    return float(factor ** bisect.bisect_right(places, position.epoch))


def milestones(
    position: Position,
    *,
    at: list[NonNegativeInt53],
    by: Literal["epoch", "iteration"] = "epoch",
    factor: Positive = 0.1,
) -> float:
    """Multiply the rate by `factor` at each epoch, or iteration, of `at` (torch's MultiStepLR; LOGBOOK B: 32k, 48k)."""
    return float(factor ** bisect.bisect_right(sorted(at), position.epoch if by == "epoch" else position.step))


def every(position: Position, *, epochs: PositiveInt, factor: Positive = 0.1) -> float:
    """Multiply the rate by `factor` every `epochs` epochs (torch's StepLR; LOGBOOK C: 30 and 100)."""
    return float(factor ** (position.epoch // epochs))


def staged(position: Position, *, stages: Annotated[list[tuple[PositiveInt, Positive]], Field(min_length=1)]) -> float:
    """Use a given factor for a number of epochs, stage after stage; the last one stays (LOGBOOK C).

    With lr 1e-6, `stages: [[30, 3], [50, 2], [100, 1]]` is 3e-6 for 30 epochs, 2e-6 for 50, 1e-6 for 100.
    """
    ends = list(itertools.accumulate(epochs for epochs, _ in stages))
    return stages[min(bisect.bisect_right(ends, position.epoch), len(stages) - 1)][1]


def linear(position: Position, *, final: NonNegative = 0.0) -> float:
    """Fall linearly to `final` times the rate (torch's LinearLR)."""
    return 1 - (1 - final) * position.fraction


def cosine(position: Position, *, final: NonNegative = 0.0) -> float:
    """Fall along a half cosine to `final` times the rate (arXiv:1608.03983; torch's CosineAnnealingLR)."""
    return final + (1 - final) * (1 + math.cos(math.pi * position.fraction)) / 2


def one_cycle(
    position: Position,
    *,
    up: Fraction = 0.3,
    start: NonNegative = 0.04,
    final: NonNegative = 4e-6,
    shape: Literal["cosine", "linear"] = "cosine",
) -> float:
    """Rise from `start` to the full rate at the fraction `up` of the run, then fall to `final` (arXiv:1708.07120).

    The defaults are those of torch's OneCycleLR; `shape: linear` makes a triangle (airbench: up 0.23, start 0.2, final
    0.07).
    """
    top, end = up * position.steps - 1, position.steps - 1
    begin, low, high = (0.0, start, 1.0) if position.done <= top else (max(top, 0.0), 1.0, final)
    length = (top if position.done <= top else end) - begin
    part = (position.done - begin) / length if length > 0 else 1.0
    if shape == "cosine":
        part = (1 - math.cos(math.pi * part)) / 2
    return low + (high - low) * part


def cyclic(
    position: Position,
    *,
    base: Fraction = 0.1,
    up: PositiveInt = 2000,
    down: PositiveInt | None = None,
    mode: Literal["triangular", "triangular2", "exp_range"] = "triangular",
    gamma: Fraction = 1.0,
) -> float:
    """Rise from `base` times the rate to the rate in `up` steps, fall in `down` steps (null: as many), and repeat.

    It is torch's CyclicLR (arXiv:1506.01186; LOGBOOK A10): `triangular2` halves the amplitude with each cycle,
    `exp_range` multiplies it by `gamma` with each step.
    """
    period = up + (down or up)
    cycle, place = divmod(position.done, period)
    height = place / up if place <= up else (period - place) / (period - up)
    shrink = {"triangular": 1.0, "triangular2": 0.5**cycle, "exp_range": gamma**position.done}[mode]
    return base + (1 - base) * height * shrink


def plateau(
    position: Position,
    *,
    metric: Watched = "loss",
    factor: Positive = 0.1,
    patience: NonNegativeInt53 = 10,
    threshold: NonNegative = 1e-4,
    cooldown: NonNegativeInt53 = 0,
    final: NonNegative = 0.0,
) -> float:
    """Multiply the rate by `factor` after `patience` evaluations without improvement, but not below `final`.

    It is torch's ReduceLROnPlateau on the holdout (LOGBOOK A10). An improvement is one by more than the fraction
    `threshold` of the best value. The `cooldown` evaluations after each reduction are not counted.
    """
    rate, best, bad, cooling = 1.0, math.inf, 0, 0
    for value in values(position.history, metric, position.score_falls):
        if value < best - threshold * abs(best) or math.isinf(best):
            best, bad = value, 0
        else:
            bad += 1
        if cooling > 0:
            cooling, bad = cooling - 1, 0
        if bad > patience:
            rate, bad, cooling = max(rate * factor, final), 0, cooldown
    return rate


SCHEDULES: dict[str, Callable[..., float]] = {
    "constant": constant,
    "stepped": stepped,
    "milestones": milestones,
    "every": every,
    "staged": staged,
    "linear": linear,
    "cosine": cosine,
    "one_cycle": one_cycle,
    "cyclic": cyclic,
    "plateau": plateau,
}

# The keys of each that count epochs or steps; the others are parts of the run, and fit a run of any length.
LENGTHS: dict[str, tuple[str, ...]] = {
    "stepped": ("epochs",),
    "milestones": ("at",),
    "every": ("epochs",),
    "staged": ("stages",),
    "cyclic": ("up", "down"),
    "plateau": ("patience", "cooldown"),
}
# Factors per step: with `factor` times as many steps each becomes its `factor`-th root.
PER_STEP: dict[str, tuple[str, ...]] = {"cyclic": ("gamma",)}


def scaled(schedule: Choice, factor: float) -> Choice:
    """Return the schedule for a run `factor` times as long: epochs and steps are multiplied; none becomes 0."""
    given = schedule.arguments
    changes = {key: _times(given[key], factor) for key in LENGTHS.get(schedule.name, ())}
    changes |= {key: given[key] ** (1 / factor) for key in PER_STEP.get(schedule.name, ())}
    return schedule.model_copy(update=changes)


def _times(value: Any, factor: float) -> Any:
    """Return the whole numbers of a nested structure multiplied by `factor`."""
    if isinstance(value, list | tuple):
        return type(value)(_times(item, factor) for item in value)
    return max(min(1, value), round(value * factor)) if isinstance(value, int) else value
