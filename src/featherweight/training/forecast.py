"""The remaining time of a training, estimated from its first steps."""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from featherweight.console import duration, rate
from featherweight.errors import count_of
from featherweight.runtime.torch_internals import spare_the_flop_counter
from featherweight.training.progressive import Progressive

if TYPE_CHECKING:
    import pandas as pd

TIMED_STEPS = 3  # after a first one that is not timed: it chooses kernels and fills caches
TIMED_SECONDS = 2.0  # that the timed steps take together, for a reliable estimate
SHORT_SECONDS = 60.0  # nothing is printed about a shorter training
LONG_SECONDS = 3600.0  # of a longer training it is said how it could be shorter
PASSES = 3  # forward passes that a step takes as long as: the backward pass computes about twice as much as one


class TimeForecast:
    """Times the first steps of a training of `total` steps and estimates the rest, once.

    `evaluation` is the time of an evaluation of the holdout, in steps. `shorter` is the command that plans a training
    of at most LONG_SECONDS; it is named if this one takes longer.
    """

    def __init__(self, total: int, progressive: Progressive | None, shorter: str = "", evaluation: float = 0.0) -> None:
        self.total, self.progressive, self.shorter, self.evaluation = total, progressive, shorter, evaluation
        self.first: tuple[int, float] | None = None
        self.done_once = False

    def line(self, step: int, seconds: float, evaluations: int, checkpoint: Callable[[], int]) -> str:
        """Return the forecast as text, once it is due after `step` steps and `seconds` of training; else "".

        `evaluations` is how many of the holdout are left. `checkpoint` returns the size of a checkpoint in bytes; a new
        one is written beside the old one.
        """
        if self.done_once:
            return ""
        if self.first is None:
            self.first = step, seconds
        done, spent = step - self.first[0], seconds - self.first[1]
        if done < TIMED_STEPS or spent < TIMED_SECONDS:
            return ""
        self.done_once = True
        left = spent / done * (remaining_area(self.progressive, step, self.total) + evaluations * self.evaluation)
        left /= self.progressive.scale(step / self.total) ** 2 if self.progressive else 1.0
        if left < SHORT_SECONDS:
            return ""
        more = f"; {self.shorter} plans one that takes less" if self.shorter and left > LONG_SECONDS else ""
        steps = f"{self.total - step:,} steps at {rate(done / spent, 'steps')}, {count_of(evaluations, 'evaluation')}"
        room = (
            f"{peak_memory() / 1e9:.1f} GB of memory so far, {2 * checkpoint() / 1e6:,.0f} MB of disk for checkpoints"
        )
        return f"  training takes about {duration(left)} ({steps}), {room}{more}"


def forward_share(model: nn.Module, teachers: Sequence[nn.Module], images: Tensor) -> float:
    """Return the share of a step's time that one pass of `model` takes, which it leaves in evaluation mode.

    `teachers` answer in each step too, without a backward pass. How much they compute is counted on `images`, float32
    [B, C, H, W].
    """
    if not teachers:
        return 1 / PASSES
    own, *theirs = (_operations(network, images) for network in (model, *teachers))
    return own / max(1, PASSES * own + sum(theirs))


def _operations(network: nn.Module, images: Tensor) -> int:
    """Return how many operations a pass of the network takes, by torch's counter."""
    spare_the_flop_counter()
    network.eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(images)
    return int(counter.get_total_flops())


def remaining_area(progressive: Progressive | None, step: int, total: int) -> float:
    """Return the cost of the steps from `step` to `total`, in units of one full-resolution step."""
    if progressive is None:
        return float(total - step)
    return sum(progressive.scale(later / total) ** 2 for later in range(step, total))


def step_seconds(history: pd.DataFrame) -> float:
    """Return the seconds of a step after the first epoch, which also selects kernels and fills caches; of a single
    epoch its mean; 0 without steps.

    `history` has a row per epoch, as `Trainer.fit` returns it.
    """
    first, last = history.iloc[0], history.iloc[-1]
    steps, seconds = last["step"], last["seconds"]
    if len(history) > 1:
        steps, seconds = steps - first["step"], seconds - first["seconds"]
    return float(seconds / steps) if steps else 0.0


def peak_memory() -> int:
    """Return the most memory that this process has used, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
