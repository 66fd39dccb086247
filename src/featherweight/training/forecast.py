"""How long a training will take, from its own first steps."""

from __future__ import annotations

import resource
import sys

from featherweight.console import duration, rate
from featherweight.training.progressive import Progressive

FIRST = 3  # steps that are timed, after one that is not: it chooses kernels and fills caches
SHORTEST = 2.0  # seconds that they take together, below which the clock says little
SOON = 60.0  # seconds: of a training that takes no longer nothing is said
LONG = 3600.0  # seconds after which a plan for less is offered


class TimeForecast:
    """Times the first steps that a process does of a training of `total` steps, and says once what the rest takes; to
    `advise`, how a long one could take less.
    """

    def __init__(self, total: int, progressive: Progressive | None, advise: bool = True) -> None:
        self.total, self.progressive, self.advise = total, progressive, advise
        self.first: tuple[int, float] | None = None
        self.done_once = False

    def line(self, step: int, seconds: float) -> str:
        """After `step` steps and `seconds` of the whole training: the forecast, if it is time for it, else nothing."""
        if self.done_once:
            return ""
        if self.first is None:
            self.first = step, seconds
        done, spent = step - self.first[0], seconds - self.first[1]
        if done < FIRST or spent < SHORTEST:
            return ""
        self.done_once = True
        left = spent / done * remaining_area(self.progressive, step, self.total)
        left /= self.progressive.scale(step / self.total) ** 2 if self.progressive else 1.0
        if left < SOON:
            return ""
        long = self.advise and left > LONG
        more = f"; ./run.sh auto --minutes {LONG / 60:.0f} plans one that takes less" if long else ""
        steps = f"{self.total - step:,} steps of {rate(done / spent, 'steps')}"
        return f"  training takes about {duration(left)} ({steps}), {peak_memory() / 1e9:.1f} GB of memory so far{more}"


def remaining_area(progressive: Progressive | None, step: int, total: int) -> float:
    """What the steps from `step` on of `total` cost, in steps of whole images: those of smaller images see less."""
    if progressive is None:
        return float(total - step)
    return sum(progressive.scale(later / total) ** 2 for later in range(step, total))


def peak_memory() -> int:
    """The most bytes of memory that this process has used."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
