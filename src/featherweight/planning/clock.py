"""The time budget of `auto`."""

from __future__ import annotations

import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """The time budget.

    Attributes:
        began: the start, a reading of `time.monotonic`.
        whole: seconds in all.
        planned: when planning is to end, a reading of `time.monotonic`.
    """

    began: float
    whole: float
    planned: float

    def left(self, share: float = 1.0) -> float:
        """Return the seconds until this share of the whole has passed."""
        return self.began + share * self.whole - time.monotonic()
