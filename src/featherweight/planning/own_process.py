"""Work that is measured: done in a process of its own, so that its memory is its own and its crash is not ours."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from featherweight.config import Competition, Recipe
from featherweight.errors import DivergedError, UserError

T = TypeVar("T")
Work = Callable[..., T]  # (recipe, competition, *more)


def in_own_process(work: Work[T], recipe: Recipe, competition: Competition, *more: Any, patience: float) -> T | None:
    """What `work(recipe, competition, *more)` returns; None where it takes more than `patience` seconds or memory.

    `work` is a function of a module. The process is forked from a server that has imported torch once. Raises the
    UserError that the work raises.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, "featherweight.training.trainer"])
    receiver, sender = context.Pipe(duplex=False)
    plain = recipe.model_dump(mode="json"), competition.model_dump(mode="json")
    worker = context.Process(target=_work, args=(work, *plain, more, sender), daemon=True)
    worker.start()
    sender.close()
    try:
        answer: T | UserError | None = receiver.recv() if receiver.poll(patience) else None
    except EOFError:  # killed, for memory most likely
        answer = None
    finally:
        worker.kill()
        worker.join()
    if isinstance(answer, UserError):
        raise answer
    return answer


def _work(
    work: Work[Any], recipe: dict[str, Any], competition: dict[str, Any], more: tuple[Any, ...], sender: Connection
) -> None:
    answer: Any
    try:
        answer = work(Recipe.model_validate(recipe), Competition.model_validate(competition), *more)
    except DivergedError:
        answer = None
    except UserError as error:
        answer = UserError(str(error))
    except (RuntimeError, MemoryError):  # what torch raises for memory that is not there
        answer = None
    sender.send(answer)
