"""Networks without memory: shapes on the meta device, enough to be weighed, counted and asked for their maps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

M = TypeVar("M", bound=nn.Module)

# What fills a tensor or maps it number by number changes no shape, and counts no multiply-adds. On the meta device most
# of these run through Python, a batch norm in 3 ms, and the first of them imports torch's compiler, which takes two
# seconds; left out, a network of 50 layers is weighed in a third of the time.
SHAPELESS = frozenset(
    {
        torch.Tensor.normal_,
        torch.Tensor.uniform_,
        torch.batch_norm,
        F.batch_norm,
        F.dropout,
        F.gelu,
        F.hardsigmoid,
        F.hardswish,
        F.hardtanh,
        F.leaky_relu,
        F.relu,
        F.silu,
        torch.relu,
        torch.relu_,
        torch.sigmoid,
        torch.Tensor.sigmoid,
    }
)
# The same of two tensors, where the first has the shape of what comes out.
SHAPELESS_OF_TWO = frozenset(
    {torch.Tensor.add, torch.Tensor.sub, torch.Tensor.mul, torch.Tensor.div, torch.Tensor.__truediv__}
)


@contextmanager
def weightless() -> Iterator[None]:
    """Everything made inside has a shape and no memory, and what leaves shapes as they are is left out."""
    with torch.device("meta"), _ShapesAlone():
        yield


def outlined(make: Callable[[], M]) -> M:
    """What `make` makes, on the meta device, in evaluation mode."""
    with weightless():
        return make().eval()


class _ShapesAlone(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in SHAPELESS and args:
            return args[0]
        if func in SHAPELESS_OF_TWO and not kwargs and all(isinstance(arg, Tensor) for arg in args):
            first, second = args
            sides = zip(reversed(first.shape), reversed(second.shape), strict=False)
            if second.dim() <= first.dim() and all(there in (1, here) for here, there in sides):
                return first
        if func is torch.Tensor.mean:  # these two have twins of the same shape and products that need no Python
            func = torch.Tensor.sum
        if func is F.linear:
            args, kwargs = args[:2], None
        return func(*args, **(kwargs or {}))
