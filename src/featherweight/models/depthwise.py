"""Faster training of depthwise networks on a CPU: their convolutions and their squeeze-and-excitation.

Both functions equal their plain forms, `F.conv2d` and a product, up to rounding. They differ only where a gradient is
needed on a CPU, without autocast and compiler; `benchmarks/efficientnet.py` measures the gain.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def depthwise(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Convolve each channel of [B, C, H, W] with its kernel in [C, 1, k, k], k odd; sides / `stride`, rounded up.

    Padding is TensorFlow's: of an odd total the larger part is at the bottom and right. On a CPU

    - unevenly padded maps are not copied: zeros before the kernel shift it, which makes the padding even;
    - kernel positions that see only padding are left out: on a map of one pixel, all but the middle one;
    - the gradient of a kernel of more than three columns is composed of three columns at a time. oneDNN's depthwise
      kernel takes no more columns, nor maps under three pixels, and torch falls back on one made for groups of 16
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
    """Return the gradient of the weight, from the gradient of the output."""
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
    # torch.nn.grad has a function for this, but it hides the layout of x and returns the default layout.
    gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.convolution_backward(
        gradient, x, weight, None, [stride] * 2, padding, [1, 1], False, [0, 0], len(weight), wanted
    )
    return gradients


def _shifted(weight: Tensor, x: Tensor, stride: int) -> Tensor:
    """Return the kernel with zeros before it, so that a padding of k // 2 on all sides equals TensorFlow's."""
    kernel = weight.shape[-1]
    rows, columns = (kernel // 2 - paddings(side, kernel, stride)[0] for side in x.shape[-2:])
    return F.pad(weight, (columns, 0, rows, 0)) if rows or columns else weight


def paddings(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return the pixels of padding before and after `side` pixels."""
    total = max(0, (-(-side // stride) - 1) * stride + kernel - side)
    return total // 2, total - total // 2


def excite(x: Tensor, gate: Callable[[Tensor], Tensor], parameters: list[Tensor]) -> Tensor:
    """Multiply each channel of x by the output of `gate`, which has these parameters, for its mean: both [B, C, 1, 1].

    On a CPU the two gradients of x, through the product and through the means, are written in one pass. Autograd writes
    the second one in the default layout, and adding it to the first in channels_last takes several times as long.
    """
    if not trains_on_cpu(x, *parameters):
        return x * gate(x.mean((2, 3), keepdim=True))
    excited: Tensor = _Excite.apply(x, gate, *parameters)
    return excited


class _Excite(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Callable[[Tensor], Tensor], *parameters: Tensor) -> Tensor:
        with torch.enable_grad():  # the gate has its own graph, so it may be any function
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
    """True if any of these needs a gradient on a CPU, without autocast and compiler."""
    return (
        torch.is_grad_enabled()
        and all(tensor.device.type == "cpu" for tensor in tensors)
        and any(tensor.requires_grad for tensor in tensors)
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
    )
