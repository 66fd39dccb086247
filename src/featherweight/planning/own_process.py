"""Run work that is to be measured in a process of its own, so that its memory is separate and its crash is harmless."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
import time
from collections.abc import Callable
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from typing import Any, TypeVar

from featherweight.config import Competition, Recipe
from featherweight.console import duration
from featherweight.errors import UserError

T = TypeVar("T")
Work = Callable[..., T]  # (recipe, competition, *more)
NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "cannot allocate memory", "alloc_failed")


class Failed(Exception):  # noqa: N818 - an outcome, not a bug
    """The work failed; the message says why in a few words: too slow, too large, or the error that it raised."""


def start_server() -> None:
    """Start the server that processes are forked from, and return at once: it imports torch in the background."""
    _context()
    forkserver.ensure_running()


def wait_for_server() -> None:
    """Wait until a process can be forked without waiting for torch."""
    process = _context().Process(target=_nothing, daemon=True)
    process.start()
    process.join()


def _context() -> ForkServerContext:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "featherweight.training.trainer"])
    return context


def _nothing() -> None:
    """Do nothing: that the process runs is enough."""


def in_own_process(work: Work[T], recipe: Recipe, competition: Competition, *more: Any, patience: float) -> T:
    """Return the result of `work(recipe, competition, *more)`.

    `work` is a function of a module. The process is forked from a server that has imported torch. Raises Failed if the
    work raises an error, if its process dies, or if it takes more than `patience` seconds, including the start of the
    process.
    """
    ends = time.monotonic() + patience
    context = _context()
    receiver, sender = context.Pipe(duplex=False)
    plain = recipe.model_dump(mode="json"), competition.model_dump(mode="json")
    worker = context.Process(target=_work, args=(work, *plain, more, sender), daemon=True)
    worker.start()
    sender.close()
    try:
        if not receiver.poll(max(0.0, ends - time.monotonic())):
            raise Failed(f"too slow: not done in {duration(patience)}")
        done, answer = receiver.recv()
    except EOFError:
        worker.join()
        raise Failed(_death(worker.exitcode)) from None
    finally:
        worker.kill()
        worker.join()
    if not done:
        raise Failed(answer)
    return answer  # type: ignore[no-any-return]


def _work(
    work: Work[Any], recipe: dict[str, Any], competition: dict[str, Any], more: tuple[Any, ...], sender: Connection
) -> None:
    # Ctrl-C ends the parent process, which kills this one. A trainer here would promise to save its state.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    answer: tuple[bool, Any]
    try:
        answer = True, work(Recipe.model_validate(recipe), Competition.model_validate(competition), *more)
    except Exception as error:  # reported by the parent process
        answer = False, _reason(error)
    with contextlib.suppress(BrokenPipeError):  # the command was killed
        sender.send(answer)


def _reason(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0]
    if isinstance(error, MemoryError) or any(words in str(error).lower() for words in NO_MEMORY):
        return "too large: there is not enough memory for it"
    return first if isinstance(error, UserError) else f"{type(error).__name__}: {first[:200]}"


def _death(code: int | None) -> str:
    if code == -signal.SIGKILL:  # what the system does when memory runs out
        return "too large: its process was killed, for memory most likely"
    ended = f"signal {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit code {code}"
    return f"its process ended with {ended}"
