"""The processor cores that work may be spread over."""

from __future__ import annotations

import os


def cores() -> int:
    """Return the number of cores that this process may use (in a container, under taskset), or of all if unknown."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
