"""Operations inside a model that need the whole batch: batch norm, and the draws of dropout and stochastic depth.

If several processes share a batch, each has to use the statistics of all of it, and to draw for all of it. With the
statistics of each process's part (torch's default) the learning curve would depend on the number of processes, and
torch's SyncBatchNorm runs on CUDA only. So the functions are intercepted (torch's TorchFunctionMode), which needs no
other modules: it works for the norms of this program, torchvision and timm, and does not change the weights.

A mask is drawn for the whole batch and cut, at the cost of one process. Tensors whose first dimension is the number of
this process's samples are taken for one draw per sample, whatever they are. Draws inside of other functions
(attention's dropout in `scaled_dot_product_attention`) are the same in every process.
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
    """Mode in which functions of `mine` samples compute or draw as those of the whole batch of `size` would.

    Args:
        mine: samples that this process passes through the model.
        size: samples of all processes.
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
        """Apply `F.batch_norm` with the whole batch's statistics. Raises ValueError for one value per channel."""
        if not training:
            return F.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
        if self.size * math.prod(x.shape[2:]) == 1:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {x.shape}")
        result = _BatchNorm.apply(x, weight, bias, eps, self.add_up, self.stack)
        normalised, mean, var, total = result
        if running_mean is not None and running_var is not None:
            with torch.no_grad():
                running_mean.mul_(1 - momentum).add_(mean, alpha=momentum)
                running_var.mul_(1 - momentum).add_(var * (total / (total - 1)), alpha=momentum)
        return normalised  # type: ignore[no-any-return]

    def dropout(self, x: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
        """Apply `F.dropout` with this process's part of the mask of the whole batch."""
        if not training or p == 0 or len(x) != self.mine:
            return F.dropout(x, p, training, inplace)
        layout = torch.contiguous_format
        if x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last):
            layout = torch.channels_last  # a mask is drawn in memory order
        ones = torch.empty((self.size, *x.shape[1:]), dtype=x.dtype, device=x.device, memory_format=layout).fill_(1)
        mask = F.dropout(ones, p)[self.part]
        return x.mul_(mask) if inplace else x * mask

    def rand(self, *size: Any, generator: torch.Generator | None = None, **options: Any) -> Tensor:
        """Return `torch.rand`; if it is one draw per sample, this process's part of the whole batch's."""
        shape = tuple(size[0]) if size and isinstance(size[0], Sequence) else size
        if generator is not None or not shape or shape[0] != self.mine:
            return torch.rand(*size, generator=generator, **options)
        return torch.rand((self.size, *shape[1:]), **options)[self.part]

    def bernoulli_(self, x: Tensor, p: Any = 0.5, generator: torch.Generator | None = None) -> Tensor:
        """Apply `Tensor.bernoulli_`; if it is one draw per sample, with this process's part of the whole batch's."""
        if generator is not None or not isinstance(p, float) or not x.ndim or len(x) != self.mine:
            return x.bernoulli_(p, generator=generator)
        return x.copy_(x.new_empty((self.size, *x.shape[1:])).bernoulli_(p)[self.part])


class _BatchNorm(torch.autograd.Function):
    """Batch norm in training with the statistics of all processes; also returns mean, biased variance and count.

    The processes' means and variances are combined by Chan's formula, which is accurate for a large mean. The gradients
    of weight and bias are those of this process's part, to be summed with all others.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float, add_up: AddUp, stack: Stack
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        channels = x.shape[1]
        count = x.numel() // channels
        mean, var = torch.zeros(2, channels, device=x.device)  # float32, even for a bf16 batch
        torch.batch_norm_update_stats(x, mean, var, 1.0)  # as after a first batch; var is unbiased
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
        # First as if the statistics were constants; their dependence on x is subtracted below. CUDA reads them from the
        # arguments for saved statistics (in channels_last, as all is here), a CPU from those for running ones.
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
    """Return (x - mean) / sqrt(var + eps) * scale + shift, per channel, in one pass over x."""
    return torch.batch_norm(x, scale, shift, mean, var, False, 0.0, eps, torch.backends.cudnn.enabled)
