"""Torch without its compiler, which it imports, a second and a half's worth, to keep out of what it must not look into.

Only the model's pass is ever compiled (`train.compile`), so there is nothing to be kept out of what is done here.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from types import MethodType
from typing import Any

import torch
from torch.optim import Optimizer


def spare_the_compiler(*functions: Callable[..., Any]) -> None:
    """Mark functions that torch would keep its compiler out of at their first call as seen to."""
    for function in functions:
        inner = getattr(function, "__wrapped__", None)
        if inner is not None and "torch._dynamo" not in sys.modules:
            inner.__dynamo_disable = inner


def spare_optimizers() -> None:
    """The same for what all optimizers do."""
    spare_the_compiler(Optimizer.add_param_group, Optimizer.zero_grad, Optimizer.state_dict, Optimizer.load_state_dict)


def with_its_own_step(optimizer: Optimizer) -> Optimizer:
    """Its step without the wrappers that torch puts around it, which no gradient passes through as within them."""
    step = torch.no_grad()(inspect.unwrap(type(optimizer).step))
    optimizer.step = MethodType(step, optimizer)  # type: ignore[method-assign]
    return optimizer
