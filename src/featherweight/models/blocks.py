"""Building blocks of several families: the stem rule for small images, activations, batch norm, drop connect."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, Strict
from torch import Tensor, nn

from featherweight.schema import ScaleFactor

STEM_RULE = "shrinks by 4 from 128 px on, by 2 from 64 px on, not below: maps of small images stay large enough"

Stem = Annotated[
    Literal["auto", 1, 2, 4],
    Field(description=f"by what factor the network's first two halvings shrink the image; auto: {STEM_RULE}"),
]
ActivationName = Literal["relu", "leaky_relu", "gelu", "silu", "hard_swish"]
Width = Annotated[ScaleFactor, Field(description="multiplies all channels, rounded to whole ones")]
Momentum = Annotated[float, Strict(), Field(gt=0, le=1, description="weight of a new batch in the running statistics")]

Activation = Callable[[Tensor], Tensor]
OtherActivation = Annotated[ActivationName | None, Field(description="null: the published one")]
ACTIVATIONS: dict[str, Activation] = {
    "relu": functools.partial(F.relu, inplace=True),
    "leaky_relu": functools.partial(F.leaky_relu, negative_slope=0.1, inplace=True),
    "gelu": F.gelu,
    "silu": F.silu,
    "hard_swish": functools.partial(F.hardswish, inplace=True),
}


def scaled(channels: int, width: float) -> int:
    """Return the number of channels times `width`, rounded, at least 1."""
    return max(1, round(channels * width))


def stem_shrinks(image_size: int, stem: Literal["auto", 1, 2, 4]) -> int:
    """Return the factor by which a network's first two halvings shrink an image: 1, 2 or 4 (`auto`: by STEM_RULE).

    Networks made for 224 px halve the image five times. At 32 px this would leave one pixel, so the first two halvings
    are left out there, which leaves 4 px. The later ones, where the number of channels grows, stay.
    """
    if stem != "auto":
        return stem
    return 4 if image_size >= 128 else 2 if image_size >= 64 else 1


def set_batch_norm(model: nn.Module, momentum: float | None, eps: float | None) -> None:
    """Set the momentum and epsilon of every batch norm of a model; None keeps what it has."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = module.momentum if momentum is None else momentum
            module.eps = module.eps if eps is None else eps


def set_activation(model: nn.Module, name: ActivationName) -> None:
    """Replace every activation module of a model by this activation."""
    for path, module in list(model.named_modules()):
        if isinstance(module, nn.ReLU | nn.ReLU6 | nn.SiLU | nn.GELU | nn.Hardswish):
            parent, _, child = path.rpartition(".")
            setattr(model.get_submodule(parent), child, Activated(name))


class Activated(nn.Module):
    """An activation function as a module, for networks of the libraries."""

    def __init__(self, name: ActivationName) -> None:
        super().__init__()
        self.function = ACTIVATIONS[name]

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        return self.function(x)


def start_convolutions(model: nn.Module) -> None:
    """Initialise every convolution by He's normal initialisation, fan out (He et al. 2015, arXiv:1502.01852)."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def drop_connect(branch: Tensor, rate: float, training: bool) -> Tensor:
    """Drop each image's residual branch with probability `rate`, scale up those that stay (arXiv:1603.09382)."""
    if rate == 0 or not training:
        return branch
    keep = torch.rand(len(branch), 1, 1, 1, device=branch.device) >= rate
    return branch * (keep / (1 - rate)).to(branch.dtype)


class Projection(nn.Conv2d):
    """The 1x1 convolution of a shortcut, without bias: of every `stride`-th pixel, with `outputs` channels.

    The pixels are selected before the convolution. In a strided convolution with 8 channels or fewer on maps of 48
    pixels and more, oneDNN (as of torch 2.14, AVX-512, channels_last) writes the gradient out of bounds: a silent
    crash.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__(inputs, outputs, 1, bias=False)
        self.picks = stride

    def forward(self, images: Tensor) -> Tensor:  # noqa: D102
        return super().forward(images[:, :, :: self.picks, :: self.picks] if self.picks > 1 else images)


class AveragePool(nn.Module):
    """nn.AdaptiveAvgPool2d(side) as two matrix products, since its gradient in torch is not deterministic on CUDA."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        if self.side == 1:
            return x.mean((2, 3), keepdim=True)
        if x.shape[-2:] == (self.side, self.side):
            return x
        down, across = (_windows(size, self.side, x.device, x.dtype) for size in x.shape[-2:])
        return down @ x @ across.T


@functools.cache
def _windows(size: int, parts: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Return the weights [parts, size] of the means over `parts` windows, which may overlap."""
    weights = torch.zeros(parts, size, device=device, dtype=dtype)
    for part in range(parts):
        first, last = part * size // parts, -(-(part + 1) * size // parts)
        weights[part, first:last] = 1 / (last - first)
    return weights


def pad_channels(images: Tensor, channels: int, stride: int) -> Tensor:
    """Apply He's shortcut without parameters (option A): every `stride`-th pixel, and zeros for the new channels."""
    if stride > 1:
        images = images[:, :, ::stride, ::stride]
    return F.pad(images, (0, 0, 0, 0, 0, channels - images.shape[1])) if channels > images.shape[1] else images
