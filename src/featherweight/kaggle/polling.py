"""Asking Kaggle again and again, until what it works on is done."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

POLL_SECONDS = (5.0, 10.0, 20.0, 30.0)  # between requests, the last for good


def polls(seconds: float) -> Iterator[None]:
    """Yield at once and after each pause, as long as the next pause ends within `seconds` from the start."""
    end = time.monotonic() + seconds
    for pause in itertools.chain(POLL_SECONDS, itertools.repeat(POLL_SECONDS[-1])):
        yield
        if time.monotonic() + pause > end:
            return
        time.sleep(pause)
