"""The processor cores that work may be spread over."""

from __future__ import annotations

import os


def cores() -> int:
    """Those that this process may use, where the system says it (in a container, or under taskset), else all."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
