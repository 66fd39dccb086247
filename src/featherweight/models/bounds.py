"""What no machine can build is refused while it is being built, by what it has become, however it was described."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from featherweight.errors import UserError

MOST_MODULES = 10_000  # layers and their containers; a network of a thousand layers has five thousand


@contextmanager
def bounded(what: str) -> Iterator[None]:
    """Raise UserError, beginning with `what`, when more than MOST_MODULES are put together within, or numbers of a size
    that no tensor has.
    """
    built = 0

    def count(parent: nn.Module, name: str, module: nn.Module | None) -> None:
        nonlocal built
        built += 1
        if built > MOST_MODULES:
            raise UserError(f"{what}: it has more than {MOST_MODULES:,} layers; take a smaller depth")

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
