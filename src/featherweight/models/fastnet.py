"""The fast net: the network of CIFAR-10 speed runs (Jordan 2024, arXiv:2404.00498)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from featherweight.models.blocks import ACTIVATIONS, Activation, ActivationName, Momentum
from featherweight.models.family import Arguments, Family, Filling, FillTarget
from featherweight.models.filling import three_widths
from featherweight.schema import HalfOpenFraction, Positive, PositiveInt

PATCH = 2  # pixels on a side


class FastNet(nn.Module):
    """A frozen whitening convolution, then three groups of convolution, max pooling, norm, activation, convolution, ...

    The whitening filters are computed from the training images before the first step (`start_from_images`). The other
    convolutions are initialised as the identity on their first input channels. The scale of the norms is frozen at 1,
    and their biases are meant to learn at 64 times the rate (`train.bias_rate`). The logits are divided by 9. With
    `depth: 3` a group has a third convolution, and the output of its first one is added to its output. As published
    there is no drop connect. With 10 classes and RGB, widths 64/256/256 have 1,972,792 parameters, 128/384/384
    4,606,520, and 128/256/352 at depth 3 4,846,648.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int,
        image_size: int,
        *,
        widths: Annotated[
            list[PositiveInt], Field(min_length=3, max_length=3, description="the channels of the groups")
        ] = [
            64,
            256,
            256,
        ],
        depth: Annotated[Literal[2, 3], Field(description="convolutions a group")] = 2,
        scale: Annotated[Positive, Field(description="of the logits")] = 1 / 9,
        activation: ActivationName = "gelu",
        dropout: Annotated[HalfOpenFraction, Field(description="before the classifier")] = 0.0,
        bn_momentum: Momentum = 0.4,
        bn_eps: Positive = 1e-12,
    ) -> None:
        super().__init__()
        self.whiten = Whitening(channels)
        self.activation, self.scale = ACTIVATIONS[activation], scale
        pairs = zip([self.whiten.out_channels, *widths], widths, strict=False)
        self.groups = nn.Sequential(*(_Group(*pair, depth, self.activation, bn_momentum, bn_eps) for pair in pairs))
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], num_classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        x = self.groups(self.activation(self.whiten(x)))
        logits: Tensor = self.head(self.dropout(x.amax((2, 3)))) * self.scale
        return logits


class Whitening(nn.Conv2d):
    """The projection of 2x2 patches onto their principal directions, scaled to variance 1, and its negative.

    The filters are frozen, but count as parameters. Until `start_from_images` is called they are a random orthogonal
    set.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, 2 * channels * PATCH**2, PATCH)
        self.weight.requires_grad_(False)
        nn.init.orthogonal_(self.weight)
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    @torch.no_grad()
    def start_from_images(self, images: Tensor) -> None:
        """Compute the filters from normalised training images, float32 [N, C, H, W]."""
        patches = images.unfold(2, PATCH, 1).unfold(3, PATCH, 1).permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(0, 2)
        products = patches.T @ patches
        covariance = (products.cpu() if products.is_mps else products).double() / len(patches)  # Apple's has no float64
        variances, directions = torch.linalg.eigh(covariance)
        filters = (directions / (variances.clamp_min(0) + 5e-4).sqrt()).T.flip(0)
        filters = filters.view(-1, *self.weight.shape[1:])
        self.weight.copy_(torch.cat([filters, -filters]))


class _Norm(nn.BatchNorm2d):
    """Batch norm whose scale is frozen at 1, but counts as parameters; only the bias is learned."""

    def __init__(self, channels: int, momentum: float, eps: float) -> None:
        super().__init__(channels, eps, momentum)
        self.weight.requires_grad_(False)


class _Group(nn.Module):
    def __init__(
        self, inputs: int, outputs: int, depth: int, activation: Activation, bn_momentum: float, bn_eps: float
    ) -> None:
        super().__init__()
        self.activation = activation
        self.convs = nn.ModuleList(
            nn.Conv2d(inputs if place == 0 else outputs, outputs, 3, padding=1, bias=False) for place in range(depth)
        )
        self.norms = nn.ModuleList(_Norm(outputs, bn_momentum, bn_eps) for _ in range(depth))
        self.pool = nn.MaxPool2d(2)
        for conv in self.convs:
            assert isinstance(conv, nn.Conv2d)
            nn.init.dirac_(conv.weight[: conv.in_channels])

    def forward(self, x: Tensor) -> Tensor:
        x = self.convs[0](x)
        if x.shape[-1] > 1:  # very small images are one pixel by now, which is not pooled
            x = self.pool(x)
        x = first = self.activation(self.norms[0](x))
        for conv, norm in zip(self.convs[1:], self.norms[1:], strict=True):
            x = norm(conv(x))
            x = self.activation(x + first if conv is self.convs[-1] and len(self.convs) == 3 else x)
        return x


# Convolutions a group, and the proportions of the 95 %, 94 % and 96 % speed runs.
SHAPES = list(itertools.product((2, 3), ((128, 384, 384), (64, 256, 256), (128, 256, 352))))


def count_parameters(depth: int, widths: Sequence[int], channels: int, classes: int) -> int:
    """Return the parameters of a fast net with `depth` convolutions per group."""
    inputs = 8 * channels
    total = inputs * 4 * channels + inputs
    for outputs in widths:
        total += 9 * inputs * outputs + (depth - 1) * 9 * outputs**2 + 2 * depth * outputs
        inputs = outputs
    return total + inputs * classes


def fullest_member(search: FillTarget, structure: tuple[int, tuple[int, int, int]]) -> Arguments | None:
    """Return the arguments of the largest network with these convolutions per group and proportions of channels."""
    depth, proportions = structure

    def count(widths: Sequence[int]) -> int:
        return count_parameters(depth, widths, search.channels, search.classes)

    widths = three_widths(search, proportions, count)
    return {"depth": depth, "widths": widths} if widths else None


FAMILY = Family(
    "fastnet",
    FastNet,
    narrows="widths",
    filling=Filling(count_parameters, fullest_member, SHAPES, parent="fastnet94"),
)
