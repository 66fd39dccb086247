"""Wide residual networks (Zagoruyko & Komodakis 2016, arXiv:1605.07146)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from featherweight.errors import UserError
from featherweight.models.blocks import (
    ACTIVATIONS,
    Activation,
    ActivationName,
    Momentum,
    Projection,
    drop_connect,
    pad_channels,
    set_batch_norm,
    start_convolutions,
)
from featherweight.models.family import Arguments, Family, Filling, FillTarget
from featherweight.models.filling import nearest_first, three_widths
from featherweight.schema import HalfOpenFraction, Positive, PositiveInt, ScaleFactor

Widths = Annotated[list[PositiveInt], Field(min_length=3, max_length=3)]
LAYERS = {"basic": 2, "bottleneck": 3}  # convolutions in a block


class WideResNet(nn.Module):
    """WRN-depth-width: pre-activation blocks in three groups with 16, 32 and 64 times the width channels.

    Basic blocks have two 3x3 convolutions, so the depth is 6n + 4; bottlenecks reduce the channels to a quarter between
    two 1x1 convolutions, so it is 9n + 4. The second and third group halve the maps. Where a block changes the shape,
    its shortcut is a 1x1 convolution or, with `shortcut: pad`, zeros for the new channels: fewer parameters at the same
    depth and width (LOGBOOK A). Dropout is before a block's last convolution, as in the paper; the rate of drop connect
    grows linearly from block to block up to the given one. With 10 classes and RGB input WRN-16-4 has 2,748,890
    parameters, WRN-40-2 2,243,546 (LOGBOOK A). Convolutions have He's normal initialisation (fan out), batch norms
    start at scale 1 and bias 0.
    """

    group1: nn.Sequential
    group2: nn.Sequential
    group3: nn.Sequential

    def __init__(
        self,
        num_classes: int,
        channels: int,
        image_size: int,
        *,
        depth: Annotated[
            PositiveInt, Field(description="6n + 4: 10, 16, 22, 28, ...; of bottlenecks 9n + 4: 13, 22, ...")
        ],
        width: Annotated[
            ScaleFactor, Field(description="widening factor; fractions are rounded to whole channels")
        ] = 1.0,
        widths: Annotated[Widths | None, Field(description="the channels of the groups, in place of the width")] = None,
        block: Literal["basic", "bottleneck"] = "basic",
        shortcut: Literal["projection", "pad"] = "projection",
        activation: ActivationName = "relu",
        dropout: HalfOpenFraction = 0.0,
        drop_connect: HalfOpenFraction = 0.0,
        bn_momentum: Momentum = 0.1,
        bn_eps: Positive = 1e-5,
    ) -> None:
        super().__init__()
        blocks = blocks_of_depth(depth, LAYERS[block])
        widths = widths or group_widths(width)
        if shortcut == "pad" and [16, *widths] != sorted([16, *widths]):
            raise UserError(f"model.widths: shortcuts that pad cannot lose channels, but the groups have 16, {widths}")
        self.stem = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.activation = ACTIVATIONS[activation]
        inputs = 16
        for group, outputs in enumerate(widths):
            members = nn.Sequential()
            for place in range(blocks):
                rate = drop_connect * (group * blocks + place) / (3 * blocks)
                stride = 2 if group > 0 and place == 0 else 1
                members.append(
                    _Block(inputs, outputs, stride, block, shortcut == "pad", self.activation, dropout, rate)
                )
                inputs = outputs
            self.add_module(f"group{group + 1}", members)
        self.norm = nn.BatchNorm2d(widths[2])
        self.head = nn.Linear(widths[2], num_classes)
        start_convolutions(self)
        nn.init.zeros_(self.head.bias)
        set_batch_norm(self, bn_momentum, bn_eps)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        x = self.group3(self.group2(self.group1(self.stem(x))))
        x = self.activation(self.norm(x))
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


def group_widths(width: float) -> list[int]:
    """Return the channels of the three groups, here and in the CIFAR ResNets."""
    return [max(1, round(base * width)) for base in (16, 32, 64)]


def blocks_of_depth(depth: int, layers: int) -> int:
    """Return the blocks per group. Raises UserError, with the nearest depths, if there is no such depth."""
    blocks, odd = divmod(depth - 4, 3 * layers)
    if odd or blocks < 1:
        below = max(3 * layers + 4, depth - odd)
        raise UserError(
            f"model.depth: expected {3 * layers}n + 4, got {depth}; the nearest are {below} and {below + 3 * layers}"
        )
    return blocks


class _Block(nn.Module):
    """A pre-activation block: norm, activation, convolution, two or three times, plus the (projected) input."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        kind: str,
        pads: bool,
        activation: Activation,
        dropout: float,
        drop_connect: float,
    ) -> None:
        super().__init__()
        inner = max(1, outputs // 4) if kind == "bottleneck" else outputs
        self.norm1 = nn.BatchNorm2d(inputs)
        if kind == "bottleneck":
            self.conv1 = nn.Conv2d(inputs, inner, 1, bias=False)
            self.norm2 = nn.BatchNorm2d(inner)
            self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, bias=False)
            self.norm3 = nn.BatchNorm2d(inner)
            self.conv3 = nn.Conv2d(inner, outputs, 1, bias=False)
        else:
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.norm2 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.kind, self.activation, self.stride, self.outputs = kind, activation, stride, outputs
        self.dropout, self.drop_connect = dropout, drop_connect
        projects = (stride != 1 or inputs != outputs) and not pads
        self.shortcut = Projection(inputs, outputs, stride) if projects else None

    def forward(self, x: Tensor) -> Tensor:
        active = self.activation(self.norm1(x))
        residual: Tensor = self.activation(self.norm2(self.conv1(active)))
        if self.kind == "bottleneck":
            residual = self.activation(self.norm3(self.conv2(residual)))
        residual = F.dropout(residual, self.dropout, self.training)
        residual = self.conv3(residual) if self.kind == "bottleneck" else self.conv2(residual)
        x = pad_channels(x, self.outputs, self.stride) if self.shortcut is None else self.shortcut(active)
        return drop_connect(residual, self.drop_connect, self.training) + x


def count_parameters(depth: int, widths: Sequence[int], channels: int, classes: int) -> int:
    """Return the parameters of a WRN of basic blocks with projections."""
    blocks, inputs, total = (depth - 4) // 6, 16, 9 * 16 * channels
    for group, outputs in enumerate(widths):
        total += 2 * inputs + 9 * inputs * outputs + 2 * outputs + 9 * outputs**2
        total += inputs * outputs if inputs != outputs or group else 0
        total += (blocks - 1) * (4 * outputs + 18 * outputs**2)
        inputs = outputs
    return total + 2 * inputs + inputs * classes + classes


def fullest_member(search: FillTarget, depth: int) -> Arguments | None:
    """Return the arguments of the largest WRN of this depth within the target."""

    def count(widths: Sequence[int]) -> int:
        return count_parameters(depth, widths, search.channels, search.classes)

    widths = three_widths(search, (16, 32, 64), count)
    return {"depth": depth, "widths": widths} if widths else None


# WRN-28 is the best of its paper.
FAMILY = Family(
    "wrn",
    WideResNet,
    narrows="width",
    filling=Filling(count_parameters, fullest_member, nearest_first(28, range(10, 101, 6)), parent="_base"),
)
