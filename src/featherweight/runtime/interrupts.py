"""Stopping a run between two steps rather than in the middle of one."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from featherweight.runtime import launcher

_outer: threading.Event | None = None  # of the context that the main thread is in


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Context that yields an event, which Ctrl-C (or SIGTERM) sets; a second Ctrl-C interrupts at once.

    Inside another such context it is the event of that one, which may be set already.
    """
    global _outer
    if threading.current_thread() is not threading.main_thread():
        yield threading.Event()
        return
    if _outer is not None:
        yield _outer
        return
    stop = _outer = threading.Event()
    before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def ask(number: int, frame: FrameType | None) -> None:
        stop.set()
        if launcher.rank() == 0:  # not by print, which this may have broken into
            os.write(2, b"\nStopping after this step; the state will be saved. Press Ctrl-C again to stop at once.\n")
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, ask)
    try:
        yield stop
    finally:
        _outer = None
        for number, handler in before.items():
            signal.signal(number, handler)
