"""What needs the whole batch inside a model: batch norm, and the draws of dropout and of stochastic depth.

Where a batch is shared by several processes, each of these has to see, or draw for, all of it. With statistics of each
process's part (torch's default) the learning curve would depend on how many processes there are, and torch's
SyncBatchNorm runs on CUDA alone. So the functions themselves are caught on their way (torch's TorchFunctionMode), which
needs no other modules: it holds for norms of ours, of torchvision's and of timm's, and leaves no trace in the weights.

A mask is drawn for the whole batch and cut, which costs each process what it would cost one. What a library draws in
other ways (attention's own dropout in `scaled_dot_product_attention`) is drawn alike in every process.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

AddUp = Callable[[Sequence[Tensor]], None]
Stack = Callable[[Tensor], Tensor]


class WholeBatch(TorchFunctionMode):
    """Within it, functions of `mine` samples compute or draw as those of the whole batch of `size` would.

    Args:
        mine: samples that this process passes through the model.
        size: samples that all processes do.
        part: which of those are this process's.
        add_up: replaces tensors by their sums over all processes.
        stack: gathers a tensor of all processes, [processes, *shape].
    """

    def __init__(self, mine: int, size: int, part: slice, add_up: AddUp, stack: Stack) -> None:
        super().__init__()
        self.mine, self.size, self.part, self.add_up, self.stack = mine, size, part, add_up, stack
        self.instead: dict[Any, Callable[..., Tensor]] = {
            F.batch_norm: self.batch_norm,
            F.dropout: self.dropout,
            torch.rand: self.rand,
            Tensor.bernoulli_: self.bernoulli_,
        }

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        return self.instead.get(function, function)(*arguments, **(keywords or {}))

    def batch_norm(
        self,
        x: Tensor,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        momentum: float = 0.1,
        eps: float = 1e-5,
    ) -> Tensor:
        """`F.batch_norm`, by the statistics of the whole batch."""
        if not training:
            return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
        if self.size * math.prod(x.shape[2:]) == 1:
            raise ValueError(
                f"Expected more than 1 value per channel when training, got input size {x.shape}"
            )  # torch's
        result = _BatchNorm.apply(x, weight, bias, eps, self.add_up, self.stack)
        normalised, mean, var, total = result
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.mul_(1 - momentum).add_(mean, alpha=momentum)
                running_var.mul_(1 - momentum).add_(var * (total / (total - 1)), alpha=momentum)
        return normalised  # type: ignore[no-any-return]

    def dropout(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        """`F.dropout`, with this process's part of the mask of the whole batch."""
        if not training or p == 0 or len(x) != self.mine:
            return F.dropout(x, p, training, inplace)
        layout = torch.contiguous_format
        if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
            layout = torch.channels_last  # a mask is drawn in the order in which the numbers lie
        ones = torch.empty((self.size, *x.shape[1:]), dtype=x.dtype, device=x.device, memory_format=layout).fill_(1)
        mask = F.dropout(ones, p)[self.part]
        return x.mul_(mask) if inplace else x * mask

    def rand(self, *size: Any, generator: torch.Generator | None = None, **options: Any) -> Tensor:
        """`torch.rand`, cut from the whole batch's where it is one draw per sample."""
        shape = tuple(size[0]) if size and isinstance(size[0], Sequence) else size
        if generator is not None or not shape or shape[0] != self.mine:
            return torch.rand(*size, generator=generator, **options)
        return torch.rand((self.size, *shape[1:]), **options)[self.part]

    def bernoulli_(self, x: Tensor, p: Any = 0.5, generator: torch.Generator | None = None) -> Tensor:
        """`Tensor.bernoulli_`, cut from the whole batch's where it is one draw per sample."""
        if generator is not None or not isinstance(p, float) or not x.ndim or len(x) != self.mine:
            return x.bernoulli_(p, generator=generator)
        return x.copy_(x.new_empty((self.size, *x.shape[1:])).bernoulli_(p)[self.part])


class _BatchNorm(torch.autograd.Function):
    """Batch norm in training by the statistics of all processes; also returns these: mean, biased variance, count.

    Each process's mean and variance are put together by Chan's formula, which loses nothing where the mean is large.
    The gradients of weight and bias are of this process's part, to be summed with all others.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, add_up: AddUp, stack: Stack
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        channels = x.shape[1]
        count = x.numel() // channels
        mean, var = torch.zeros(2, channels, device=x.device)  # float32, for a bf16 batch too
        torch.batch_norm_update_stats(x, mean, var, 1.0)  # as a first batch alone updates them: var is the unbiased one
        var = var * ((count - 1) / count) if count > 1 else torch.zeros_like(var)
        known = torch.cat([mean, var, var.new_full((1,), count)])
        means, variances, counts = torch.split(stack(known), [channels, channels, 1], 1)
        total = counts.sum(0)
        mean = (means * counts).sum(0) / total
        var = ((variances + (means - mean) ** 2) * counts).sum(0) / total
        scale = torch.ones_like(mean) if weight is None else weight
        ctx.save_for_backward(x, scale, mean, var, total)
        ctx.eps, ctx.add_up, ctx.learned = eps, add_up, (weight is not None, bias is not None)
        ctx.mark_non_differentiable(mean, var, total)
        ctx.set_materialize_grads(False)
        return _affine(x, scale, bias, mean, var, eps), mean, var, total

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        x, scale, mean, var, total = ctx.saved_tensors
        # As if the statistics were constants; what they owe to x comes off below. CUDA reads them where a forward pass
        # would have saved them (in channels_last, as all is here), a processor where a trained model has them.
        inverse = (var + ctx.eps).rsqrt()
        of_x, of_scale, of_bias = torch.ops.aten.native_batch_norm_backward(
            grad, x, scale, mean, var, mean, inverse, False, ctx.eps, [True, True, True]
        )
        sums = torch.stack([of_scale, of_bias])
        ctx.add_up([sums])
        along = scale * inverse / total
        of_x = of_x - _affine(x, along * sums[0], along * sums[1], mean, var, ctx.eps)
        return of_x, of_scale if ctx.learned[0] else None, of_bias if ctx.learned[1] else None, None, None, None


def _affine(x: Tensor, scale: Tensor, shift: Tensor | None, mean: Tensor, var: Tensor, eps: float) -> Tensor:
    """(x - mean) / sqrt(var + eps) * scale + shift, a channel at a time, in one pass over x."""
    return torch.batch_norm(x, scale, shift, mean, var, False, 0.0, eps, torch.backends.cudnn.enabled)
