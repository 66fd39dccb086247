"""Keeping a training within its time on a machine that gets slower while it trains."""

from __future__ import annotations

import itertools
import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from featherweight.console import duration, say

LOOK = 2.0  # seconds between two looks at the clock
WINDOW = 0.1  # of the whole time, whose rate is taken for that of the rest
FEWEST = 4  # looks from which a rate is taken at least, unless fewer span that window
LATE, EARLY = 1.02, 0.98  # of the whole time: what would end later than the one is shortened to end at the other

Cost = Callable[[int, int], float]  # of the steps from one on, in a run of so many steps, in steps of whole images


def evaluations(step: int, epochs: int, every: int, steps_per_epoch: int = 1) -> int:
    """How many evaluations of the holdout are to come in a run of so many epochs after that many steps, if it is
    evaluated after `every` epochs and after the last one.
    """
    past = max(0, -(-step // steps_per_epoch) - 1)  # epochs; after the last step of one, its evaluation is to come
    return -(-epochs // every) - past // every


@dataclass
class Deadline:
    """When a run is to end, and what it has to do after its training.

    A training that would end late is shortened: from that step on the run has fewer steps, and its schedule goes on as
    one of so many. What was shortened is `noted` in the run's recipe, so that the recipe gives the same bytes again.
    """

    began: float  # a reading of `time.monotonic`
    seconds: float  # from there to the end of the run
    after: float  # seconds that follow the training, where a step takes `step` seconds
    step: float
    evaluation: float = 0.0  # seconds of the holdout's evaluation, likewise
    noted: Callable[[int, int], None] = lambda step, total: None
    _marks: deque[tuple[float, int]] = field(default_factory=deque)  # (time, steps done)
    _first: int | None = None  # the step that this process begins with, which takes longer than others

    def shortened(self, step: int, total: int, cost: Cost) -> int:
        """Before a step of a run of `total` steps: how many the run can have, `total` where those end in time."""
        now = time.monotonic()
        self._first = step if self._first is None else self._first
        if step == self._first:
            return total
        if self._marks and (now - self._marks[-1][0] < LOOK or step == self._marks[-1][1]):
            return total
        self._marks.append((now, step))
        while len(self._marks) > FEWEST and now - self._marks[1][0] > WINDOW * self.seconds:
            self._marks.popleft()
        each = self._seconds_of_a_step(total, cost)
        if each is None:
            return total
        rest = self.after * max(1.0, each / self.step)
        left = self.began + self.seconds - now

        def late(steps: int, part: float) -> bool:
            return each * cost(step, steps) + rest > left - (1 - part) * self.seconds

        if not late(total, LATE):
            return total
        low, high = step + 1, total  # the most steps that end in time lie between
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (low, middle - 1) if late(middle, EARLY) else (middle, high)
        if low >= total:
            return total
        say(
            f"  this machine has become slower: {low:,} steps in place of {total:,}, to end "
            f"{duration(max(0.0, left))} from now"
        )
        self.noted(step, low)
        return low

    def _seconds_of_a_step(self, total: int, cost: Cost) -> float | None:
        """Of whole images, lately: the median between looks, so that one pause counts for little; None at first."""
        if len(self._marks) < 2:
            return None
        if len(self._marks) < FEWEST and self._marks[-1][0] - self._marks[0][0] < WINDOW * self.seconds:
            return None
        pairs = list(itertools.pairwise(self._marks))
        taken = [(later - now) / (cost(done, total) - cost(step, total)) for (now, done), (later, step) in pairs]
        return statistics.median(taken)
