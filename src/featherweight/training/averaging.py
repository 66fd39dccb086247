"""Averages of the weights along a run: copies of the model that follow it; the model may also go on from one of them.

An average that a recipe may name maps the position after a step to an `AverageUpdate`, or to None if nothing is due.
Parameters and batch-norm statistics are averaged alike (as by torch's AveragedModel with use_buffers).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from featherweight.models import Classifier
from featherweight.schema import Choice, Flag, Fraction, HalfOpenFraction, PositiveFraction, PositiveInt
from featherweight.training.schedules import Position


class AverageUpdate(NamedTuple):
    """A step of an average towards the model's weights, and whether the model then goes on from the average.

    `part` is the fraction of the way; None makes the average the mean of all the weights that it has moved to.
    """

    part: float | None
    back: bool = False


def ema(position: Position, *, decay: HalfOpenFraction = 0.999, warmup: Flag = True) -> AverageUpdate:
    """Exponential moving average of the weights, updated after every step.

    With `warmup` the decay is at most (1 + t) / (10 + t) after step t, so that the average of a short run does not
    consist largely of initial weights.
    """
    rate = min(decay, (1 + position.step) / (10 + position.step)) if warmup else decay
    return AverageUpdate(1 - rate)


def swa(position: Position, *, start: Fraction = 0.75, every: PositiveInt = 1) -> AverageUpdate | None:
    """Stochastic weight averaging: the mean of the weights at the ends of epochs (arXiv:1803.05407).

    It begins at the fraction `start` of the run and takes the weights after `every` epochs. If this average ships, its
    batch-norm statistics are recomputed in one pass over the training images before it is scored.
    """
    epoch, inside = divmod(position.step, position.steps_per_epoch)
    first = max(1, math.ceil(round(start * position.epochs, 9)))
    if inside or epoch < first or (epoch - first) % every:
        return None
    return AverageUpdate(None)  # the epoch that it began with need not be due now: a run may have been shortened


def lookahead(
    position: Position, *, every: PositiveInt = 5, alpha: PositiveFraction = 0.5, growing: Flag = False
) -> AverageUpdate | None:
    """Slow weights that move by the fraction `alpha` towards the model after `every` steps (arXiv:1907.08610).

    The model goes on from the slow weights. With `growing` the fraction falls during the run: it is 1 - (1 - alpha) *
    t^3 at the fraction t of the run (airbench, Jordan 2024, with alpha 0.226).
    """
    if position.step % every and position.done != position.steps:
        return None
    return AverageUpdate(1 - (1 - alpha) * position.fraction**3 if growing else alpha, back=True)


AVERAGES: dict[str, Callable[..., AverageUpdate | None]] = {
    "ema": ema,
    "swa": swa,
    "lookahead": lookahead,
}


class Averages:
    """The averages that a recipe asks for, by name; each starts as a copy of the model."""

    def __init__(self, model: Classifier, choices: Sequence[Choice]) -> None:
        self.choices = choices
        self.shadows = {choice.name: copy.deepcopy(model).requires_grad_(False) for choice in choices}
        self.updates = dict.fromkeys(self.shadows, 0)

    @torch.no_grad()
    def follow(self, model: Classifier, position: Position) -> None:
        """Update every average that is due after a step."""
        for choice in self.choices:
            update = choice(position)
            if update is None:
                continue
            shadow = self.shadows[choice.name]
            self.updates[choice.name] += 1
            part = 1 / self.updates[choice.name] if update.part is None else update.part
            pairs = list(zip(_tensors(shadow), _tensors(model), strict=True))
            numbers = [(ours, theirs) for ours, theirs in pairs if ours.is_floating_point()]
            torch._foreach_lerp_([ours for ours, _ in numbers], [theirs for _, theirs in numbers], part)
            for ours, theirs in pairs:
                if not ours.is_floating_point():  # the number of batches seen
                    ours.copy_(theirs)
            if update.back:
                for ours, theirs in zip(shadow.parameters(), model.parameters(), strict=True):
                    theirs.copy_(ours)

    def shipping(self, ship: str, model: Classifier) -> Classifier:
        """Return the model to ship: the average `ship`, or the model itself for "raw" and before the average begins."""
        return self.shadows[ship] if self.updates.get(ship) else model

    def state_dict(self) -> dict[str, Any]:
        """Return the state of all averages, for a checkpoint."""
        return {
            "moves": self.updates,  # the name in the checkpoints of earlier versions
            "shadows": {name: shadow.state_dict() for name, shadow in self.shadows.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the state that a checkpoint holds."""
        self.updates = dict(state["moves"])
        for name, shadow in self.shadows.items():
            shadow.load_state_dict(state["shadows"][name])


def _tensors(model: Classifier) -> Iterator[Tensor]:
    yield from model.parameters()
    yield from model.buffers()
