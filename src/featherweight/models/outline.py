"""Networks without memory: shapes on the meta device, enough to be weighed, counted and asked for their maps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

M = TypeVar("M", bound=nn.Module)


def outlined(make: Callable[[], M]) -> M:
    """What `make` makes, on the meta device, in evaluation mode."""
    with torch.device("meta"), _Unfilled():
        return make().eval()


class _Unfilled(TorchFunctionMode):
    """Leaves out filling tensors with random numbers, which on the meta device takes as long as all the rest."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.Tensor.normal_, torch.Tensor.uniform_):
            return args[0]
        return func(*args, **(kwargs or {}))
