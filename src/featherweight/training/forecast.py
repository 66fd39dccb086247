"""The remaining time of a training, estimated from its first steps."""

from __future__ import annotations

import resource
import sys

from featherweight.console import duration, rate
from featherweight.training.progressive import Progressive

TIMED_STEPS = 3  # after a first one that is not timed: it chooses kernels and fills caches
MIN_SECONDS = 2.0  # that the timed steps take together, for a reliable estimate
SOON = 60.0  # seconds: nothing is printed about a shorter training
LONG = 3600.0  # seconds: of a longer training it is said how it could be shorter


class TimeForecast:
    """Times the first steps of a training of `total` steps and estimates the rest, once.

    `advise`: also say how a long training could take less time.
    """

    def __init__(self, total: int, progressive: Progressive | None, advise: bool = True) -> None:
        self.total, self.progressive, self.advise = total, progressive, advise
        self.first: tuple[int, float] | None = None
        self.done_once = False

    def line(self, step: int, seconds: float) -> str:
        """Return the forecast as text, once it is due after `step` steps and `seconds` of training; else ""."""
        if self.done_once:
            return ""
        if self.first is None:
            self.first = step, seconds
        done, spent = step - self.first[0], seconds - self.first[1]
        if done < TIMED_STEPS or spent < MIN_SECONDS:
            return ""
        self.done_once = True
        left = spent / done * remaining_area(self.progressive, step, self.total)
        left /= self.progressive.scale(step / self.total) ** 2 if self.progressive else 1.0
        if left < SOON:
            return ""
        long = self.advise and left > LONG
        more = f"; ./run.sh auto --minutes {LONG / 60:.0f} plans one that takes less" if long else ""
        steps = f"{self.total - step:,} steps at {rate(done / spent, 'steps')}"
        return f"  training takes about {duration(left)} ({steps}), {peak_memory() / 1e9:.1f} GB of memory so far{more}"


def remaining_area(progressive: Progressive | None, step: int, total: int) -> float:
    """Return the cost of the steps from `step` to `total`, in units of one full-resolution step."""
    if progressive is None:
        return float(total - step)
    return sum(progressive.scale(later / total) ** 2 for later in range(step, total))


def peak_memory() -> int:
    """Return the most memory that this process has used, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
