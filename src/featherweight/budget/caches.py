"""Tensors that a network computes from its own weights while it runs, and may keep: caches, not weights.

tiny_vit's attention keeps its indexed biases, 1.2 million numbers that are not learned. Tensors that a run creates from
nothing (`torch.zeros`) may be weights by another name, and count.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from featherweight.runtime.torch_internals import spare_the_compiler


class Caches(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Mode that records tensors computed from a model's parameters and buffers in `derived`, by id."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._own = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
        self.derived: dict[int, Tensor] = {}
        spare_the_compiler(Caches.__torch_dispatch__)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if any(id(one) in self._own or id(one) in self.derived for one in tensors_in(args)):
            results = tensors_in(result if isinstance(result, tuple | list) else (result,))
            self.derived |= {id(one): one for one in results if id(one) not in self._own}
        return result


def tensors_in(arguments: Any) -> Iterator[Tensor]:
    """Yield the tensors among an operator's arguments or results, including those in lists."""
    for one in arguments:
        if isinstance(one, Tensor):
            yield one
        elif isinstance(one, list | tuple):
            yield from tensors_in(one)
