"""What makes depthwise networks slow to train on a CPU, done otherwise: their convolutions and their excitations.

Both functions are what their plain forms are, `F.conv2d` and a product, to rounding. Only where a gradient is wanted on
a CPU, without autocast and compiler, do they take another way; `benchmarks/efficientnet.py` says what that is worth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def depthwise(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Filter each channel with a kernel of its own: [B, C, H, W] and [C, 1, k, k], k odd; H and W / `stride`, up.

    Padding is TensorFlow's: of an odd total the larger part stands at the bottom and right. On a CPU

    - what is padded unevenly is not copied: zeros before the kernel shift it, and the padding gets even;
    - taps that see nothing but padding are left out: on a map of one pixel, all but the middle one;
    - the gradient of a kernel of more than three columns is put together from three at a time. oneDNN's depthwise
      kernel for it takes no more, nor maps under three pixels, and torch falls back on one made for groups of 16
      channels, which does 16 times the work.
    """
    before, after = zip(*(paddings(side, weight.shape[-1], stride) for side in x.shape[-2:]), strict=True)
    if not trains_on_cpu(x, weight):
        padded = F.pad(x, (before[1], after[1], before[0], after[0])) if before != after else x
        return F.conv2d(padded, weight, None, stride, before if before == after else 0, groups=len(weight))
    reach = weight.shape[-1] // 2
    seen = min(reach, max(x.shape[-2:]) - 1)
    weight = weight[..., reach - seen : reach + seen + 1, reach - seen : reach + seen + 1]
    filtered: Tensor = _Depthwise.apply(x, weight, stride)
    return filtered


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        reach = weight.shape[-1] // 2
        return F.conv2d(x, _shifted(weight, x, stride), None, stride, reach, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None]:
        x, weight = ctx.saved_tensors
        of_x = None
        if ctx.needs_input_grad[0]:
            shifted = _shifted(weight, x, ctx.stride)
            of_x = _gradients(x, shifted, gradient, ctx.stride, [weight.shape[-1] // 2] * 2, [True, False, False])[0]
        return of_x, _of_weight(x, weight, gradient, ctx.stride), None


def _of_weight(x: Tensor, weight: Tensor, gradient: Tensor, stride: int) -> Tensor:
    """The gradient of the weight, from that of what came out."""
    kernel, only = weight.shape[-1], [False, True, False]
    before, after = zip(*(paddings(side, kernel, stride) for side in x.shape[-2:]), strict=True)
    if before == after and kernel <= 3 <= min(x.shape[-2:]):
        return _gradients(x, weight, gradient, stride, list(before), only)[1]
    of_weight = torch.empty_like(weight)
    columns = min(kernel, 3)
    for first in sorted({min(first, kernel - columns) for first in range(0, kernel, columns)}):
        last = first + columns
        part = F.pad(x, (before[1] - first, after[1] - (kernel - last), before[0], after[0]))
        of_weight[..., first:last] = _gradients(part, weight[..., first:last], gradient, stride, [0, 0], only)[1]
    return of_weight


def _gradients(
    x: Tensor, weight: Tensor, gradient: Tensor, stride: int, padding: list[int], wanted: list[bool]
) -> tuple[Tensor, Tensor, Tensor]:
    # torch.nn.grad has the same by name, but hides the layout of x, and what comes out is in the default one.
    gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, [stride] * 2, padding, [1, 1], False, [0, 0], len(weight), wanted
    )
    return gradients


def _shifted(weight: Tensor, x: Tensor, stride: int) -> Tensor:
    """The kernel with zeros before it, for a padding of k // 2 on all sides to be TensorFlow's."""
    kernel = weight.shape[-1]
    rows, columns = (kernel // 2 - paddings(side, kernel, stride)[0] for side in x.shape[-2:])
    return F.pad(weight, (columns, 0, rows, 0)) if rows or columns else weight


def paddings(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """What stands before and after `side` pixels."""
    total = max(0, (-(-side // stride) - 1) * stride + kernel - side)
    return total // 2, total - total // 2


def excite(x: Tensor, gate: Callable[[Tensor], Tensor], parameters: list[Tensor]) -> Tensor:
    """Multiply each channel by what `gate`, which has these parameters, makes of the means: both [B, C, 1, 1].

    On a CPU the two gradients of x, through the product and through the means, are written in one pass. Autograd writes
    the second one out in the default layout, and adding it to the first in channels_last takes several times as long.
    """
    if not trains_on_cpu(x, *parameters):
        return x * gate(x.mean((2, 3), keepdim=True))
    excited: Tensor = _Excite.apply(x, gate, *parameters)
    return excited


class _Excite(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Callable[[Tensor], Tensor], *parameters: Tensor) -> Tensor:
        with torch.enable_grad():  # the gate keeps a graph of its own, and so may be any function
            ctx.means = x.detach().mean((2, 3), keepdim=True).requires_grad_()
            ctx.scale = gate(ctx.means)
        ctx.save_for_backward(x, *parameters)
        excited: Tensor = x * ctx.scale.detach()
        return excited

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, *parameters = ctx.saved_tensors
        of_scale = (gradient * x).sum((2, 3), keepdim=True)
        with torch.enable_grad():
            of_means, *of_parameters = torch.autograd.grad(
                ctx.scale, [ctx.means, *parameters], of_scale, retain_graph=True
            )
        pixels = x.shape[2] * x.shape[3]
        return torch.addcmul(of_means / pixels, gradient, ctx.scale.detach()), None, *of_parameters


def trains_on_cpu(*tensors: Tensor) -> bool:
    """Is a gradient of any of these wanted, on a CPU, in their own precision, step by step?"""
    return (
        torch.is_grad_enabled()
        and all(tensor.device.type == "cpu" for tensor in tensors)
        and any(tensor.requires_grad for tensor in tensors)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )
