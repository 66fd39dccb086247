"""A training that ends in time, on a machine that may become slower meanwhile."""

from __future__ import annotations

import itertools
import statistics
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from featherweight.console import duration, say

LOOK_SECONDS = 2.0  # between two looks at the clock
WINDOW_SHARE = 0.1  # fraction of the whole time over which the recent rate is measured
MIN_MARKS = 4  # marks that are kept at least, even if they span more than the window
LATE, EARLY = 1.02, 0.98  # of the whole time: a run that would end after LATE is shortened to end at EARLY

SLOWER = 1.1  # times the planned seconds of a step: less is not called a slower machine

Cost = Callable[[int, int], float]  # cost(first, total): of the steps first to total, in full-resolution steps


def evaluations(step: int, epochs: int, every: int, steps_per_epoch: int = 1) -> int:
    """Return how many evaluations of the holdout remain after `step` steps of a run of `epochs` epochs.

    The holdout is evaluated after every `every` epochs and after the last one.
    """
    past = max(0, -(-step // steps_per_epoch) - 1)  # evaluated epochs: after the last step of one, it is not yet
    return -(-epochs // every) - past // every


@dataclass
class Deadline:
    """The time at which a run has to end, and what it has to do after its training.

    A training that would end too late is shortened: from that step on the run has fewer steps in all, and its schedule
    continues as one of that length. Every change is `noted` in the run's recipe, so that the recipe reproduces the
    bytes.
    """

    began: float  # a reading of `time.monotonic`
    seconds: float  # from then to the end of the run
    after: float  # seconds that the run takes after its training, if a step takes `step` seconds
    step: float
    evaluation: float = 0.0  # seconds of the holdout's evaluation, likewise
    noted: Callable[[int, int], None] = lambda step, total: None
    _marks: deque[tuple[float, int]] = field(default_factory=deque)  # (time, steps done)
    _first: int | None = None  # the first step of this process, which takes longer than others

    def shortened(self, step: int, total: int, cost: Cost) -> int:
        """Return how many steps the run can have, before step `step` of `total`; `total` itself if those end in time.

        `cost(first, total)` is the time of the steps from `first` to `total`, in units of one step at full resolution.
        """
        now = time.monotonic()
        self._first = step if self._first is None else self._first
        if step == self._first:
            return total
        if self._marks and (now - self._marks[-1][0] < LOOK_SECONDS or step == self._marks[-1][1]):
            return total
        self._marks.append((now, step))
        while len(self._marks) > MIN_MARKS and now - self._marks[1][0] > WINDOW_SHARE * self.seconds:
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
        low, high = step + 1, total  # binary search for the most steps that end in time
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (low, middle - 1) if late(middle, EARLY) else (middle, high)
        if low >= total:
            return total
        why = "this machine has become slower" if each > SLOWER * self.step else "later than planned"
        say(f"  {why}: the run is shortened from {total:,} to {low:,} steps, to end in {duration(max(0.0, left))}")
        self.noted(step, low)
        return low

    def _seconds_of_a_step(self, total: int, cost: Cost) -> float | None:
        """Return the recent duration of a full-resolution step, in seconds; None before the first measurement.

        It is the median over measurements, so that a single pause has little effect.
        """
        if len(self._marks) < 2:
            return None
        if len(self._marks) < MIN_MARKS and self._marks[-1][0] - self._marks[0][0] < WINDOW_SHARE * self.seconds:
            return None
        pairs = list(itertools.pairwise(self._marks))
        taken = [(later - now) / (cost(done, total) - cost(step, total)) for (now, done), (later, step) in pairs]
        return statistics.median(taken)
