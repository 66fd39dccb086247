"""Limits on what is built: a model that no machine can hold is refused during construction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from featherweight.errors import UserError

MAX_MODULES = 10_000  # layers and their containers; a network of a thousand layers has five thousand


@contextmanager
def bounded(what: str) -> Iterator[None]:
    """Context that raises UserError, beginning with `what`, when a model with more than MAX_MODULES modules or a
    tensor of impossible size is built.
    """
    built = 0

    def count(parent: nn.Module, name: str, module: nn.Module | None) -> None:
        nonlocal built
        built += 1
        if built > MAX_MODULES:
            raise UserError(f"{what}: it has more than {MAX_MODULES:,} layers: choose a smaller depth")

    hook = register_module_module_registration_hook(count)
    try:
        yield
    except (OverflowError, MemoryError) as error:
        raise UserError(f"{what}: too large to be built ({error or 'out of memory'}); take smaller numbers") from None
    except (RuntimeError, TypeError) as error:
        if not any(word in str(error) for word in TOO_LARGE):
            raise
        reason = str(error).splitlines()[0]
        raise UserError(f"{what}: too large to be built ({reason}); take smaller numbers") from None
    finally:
        hook.remove()


TOO_LARGE = ("overflow", "can't allocate memory", "out of memory", "received an invalid combination", "Overflow")
