"""What is wrong with a network of the user's and only its answers show.

It computes with what it does not save (random tensors in attributes, counters, caches), so it answers otherwise once
its weights are loaded again: to predict, to export, on another machine. Or it returns probabilities instead of logits.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import numpy as np
import torch
from torch import Tensor, nn

from featherweight.console import say
from featherweight.errors import UserError
from featherweight.models.shape import Shape
from featherweight.runtime.rng import seed_code

STEPS = 2  # passes in training mode, which may change what is not saved


def refuse_unsaved(make: Callable[[], nn.Module], shape: Shape, name: str) -> None:
    """Raise UserError for a network that answers otherwise than another that `make` has made, with the same weights.

    No generator of random numbers is moved on. A network that fails here fails in the training, with the reason.
    """
    images = torch.rand(2, shape.channels, shape.size, shape.size, generator=torch.Generator().manual_seed(0))
    why = ""
    with _generators_kept(), torch.no_grad(), suppress(Exception):
        seed_code(1)
        used = make().train()
        for _ in range(STEPS):
            used(images)
        seed_code(2)
        fresh = make()
        fresh.load_state_dict(used.state_dict())
        apart = _apart(used, fresh)
        answers = []
        for net in (used, fresh):
            seed_code(3)
            answers.append(net.eval()(images))
        if not torch.allclose(answers[0], answers[1], rtol=1e-4, atol=1e-5, equal_nan=True):
            why = _in_words(apart)
    if why:
        raise UserError(f"model: {name} answers otherwise when its weights are loaded again: {why}")


def warn_of_probabilities(make: Callable[[], nn.Module], shape: Shape, name: str) -> None:
    """Print a warning if the outputs add up to 1, as after a softmax, which the loss would apply once more."""
    images = torch.rand(2, shape.channels, shape.size, shape.size, generator=torch.Generator().manual_seed(0))
    with _generators_kept(), torch.no_grad(), suppress(Exception):
        output = make().eval()(images)
        if bool((output >= 0).all()) and torch.allclose(output.sum(1), torch.ones(2), atol=1e-4):
            say(f"warning: {name} returns probabilities: take the softmax out, since the loss expects logits")


def _apart(used: nn.Module, fresh: nn.Module) -> list[str]:
    """Return the names of unsaved tensors of a new network that are others in one that was used."""
    ours = dict(_unsaved(used))
    return [name for name, one in _unsaved(fresh) if name not in ours or not torch.equal(ours[name], one)]


def _in_words(apart: Sequence[str]) -> str:
    if not apart:
        return (
            "what it counts or draws at random is not saved with them; keep it in a buffer: "
            "self.register_buffer(NAME, torch.tensor(...))"
        )
    where, _, last = apart[0].rpartition(".")
    holder = f" of its module {where}" if where else ""
    return f"{last}{holder} is not saved with them; make it a buffer: self.register_buffer('{last}', ...)"


def _unsaved(net: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a network's modules that are not saved with its weights, by name."""
    for place, module in net.named_modules():
        home = f"{place}." if place else ""
        yield from ((f"{home}{key}", one) for key, one in vars(module).items() if isinstance(one, Tensor))
        for key in sorted(module._non_persistent_buffers_set):
            if (buffer := module._buffers.get(key)) is not None:
                yield f"{home}{key}", buffer


@contextmanager
def _generators_kept() -> Iterator[None]:
    states = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=()):
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
