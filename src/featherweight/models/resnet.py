"""Residual networks and their plain counterparts (He et al. 2015, arXiv:1512.03385), for CIFAR and for ImageNet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from featherweight.errors import UserError
from featherweight.models.blocks import (
    ACTIVATIONS,
    Activation,
    ActivationName,
    Momentum,
    Projection,
    Stem,
    drop_connect,
    pad_channels,
    set_batch_norm,
    start_convolutions,
    stem_shrinks,
)
from featherweight.models.family import Arguments, Family, Filling, FillTarget
from featherweight.models.filling import nearest_first, three_widths
from featherweight.models.wrn import Widths, group_widths
from featherweight.schema import Flag, HalfOpenFraction, Positive, PositiveInt, ScaleFactor

Residual = Annotated[Flag, Field(description="false: a plain network, the same convolutions without shortcuts")]
STAGES = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


class CifarResNet(nn.Module):
    """ResNet-(6n + 2) for small images: a 3x3 stem and three groups of n basic blocks with 16, 32 and 64 channels.

    The second and third group halve the maps. Shortcuts have no parameters (option A: zeros for the new channels), so a
    plain network without shortcuts has as many: ResNet-20 and Plain-20 269,722, ResNet-56 and Plain-56 853,018 with 10
    classes and RGB input. `width` multiplies the channels.
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
        depth: Annotated[PositiveInt, Field(description="6n + 2: 20, 32, 44, 56, 110, ...")],
        width: Annotated[ScaleFactor, Field(description="multiplies all channels, rounded to whole ones")] = 1.0,
        widths: Annotated[Widths | None, Field(description="the channels of the groups, in place of the width")] = None,
        residual: Residual = True,
        activation: ActivationName = "relu",
        dropout: HalfOpenFraction = 0.0,
        drop_connect: HalfOpenFraction = 0.0,
        bn_momentum: Momentum = 0.1,
        bn_eps: Positive = 1e-5,
    ) -> None:
        super().__init__()
        blocks, odd = divmod(depth - 2, 6)
        if odd or blocks < 1:
            below = max(8, depth - odd)
            raise UserError(f"model.depth: expected 6n + 2, got {depth}; the nearest are {below} and {below + 6}")
        widths = widths or group_widths(width)
        if widths != sorted(widths):
            raise UserError(
                f"model.widths: shortcuts without parameters cannot lose channels, but the groups have {widths}"
            )
        self.activation = ACTIVATIONS[activation]
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        inputs = widths[0]
        for group, outputs in enumerate(widths):
            members = nn.Sequential()
            for place in range(blocks):
                stride = 2 if group > 0 and place == 0 else 1
                rate = drop_connect * (group * blocks + place) / (3 * blocks)
                members.append(_Basic(inputs, outputs, stride, residual, False, self.activation, rate))
                inputs = outputs
            self.add_module(f"group{group + 1}", members)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[2], num_classes)
        start_convolutions(self)
        set_batch_norm(self, bn_momentum, bn_eps)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        x = self.activation(self.norm(self.stem(x)))
        x = self.group3(self.group2(self.group1(x)))
        logits: Tensor = self.head(self.dropout(x.mean((2, 3))))
        return logits


class ResNet(nn.Module):
    """ResNet-18, 34, 50, 101, 152 as in torchvision (stride on the 3x3 convolution), and their plain counterparts.

    The published stem is a 7x7 convolution of stride 2 and a 3x3 max pooling of stride 2; for images too small to be
    shrunk by 4, it is one 3x3 convolution. Plain networks have neither shortcuts nor their projections. With 10
    classes, RGB and the published stem ResNet-18 has 11,181,642 parameters, ResNet-50 23,528,522; `width` multiplies
    the channels.
    """

    stage1: nn.Sequential
    stage2: nn.Sequential
    stage3: nn.Sequential
    stage4: nn.Sequential

    def __init__(
        self,
        num_classes: int,
        channels: int,
        image_size: int,
        *,
        depth: Literal[18, 34, 50, 101, 152],
        width: Annotated[ScaleFactor, Field(description="multiplies all channels, rounded to whole ones")] = 1.0,
        residual: Residual = True,
        stem: Stem = "auto",
        activation: ActivationName = "relu",
        dropout: HalfOpenFraction = 0.0,
        drop_connect: HalfOpenFraction = 0.0,
        bn_momentum: Momentum = 0.1,
        bn_eps: Positive = 1e-5,
    ) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        shrinks = stem_shrinks(image_size, stem)
        widths = [max(1, round(base * width)) for base in (64, 128, 256, 512)]
        kernel = 7 if shrinks == 4 else 3
        self.stem = nn.Conv2d(channels, widths[0], kernel, 1 if shrinks == 1 else 2, kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        self.pool = nn.MaxPool2d(3, 2, 1) if shrinks == 4 else nn.Identity()
        inputs, done = widths[0], 0
        for stage, (blocks, middle) in enumerate(zip(STAGES[depth], widths, strict=True)):
            members = nn.Sequential()
            for place in range(blocks):
                stride = 2 if stage > 0 and place == 0 else 1
                rate = drop_connect * done / sum(STAGES[depth])
                if depth < 50:
                    members.append(_Basic(inputs, middle, stride, residual, True, self.activation, rate))
                    inputs = middle
                else:
                    members.append(_Bottleneck(inputs, middle, stride, residual, self.activation, rate))
                    inputs = 4 * middle
                done += 1
            self.add_module(f"stage{stage + 1}", members)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(inputs, num_classes)
        start_convolutions(self)
        set_batch_norm(self, bn_momentum, bn_eps)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        x = self.pool(self.activation(self.norm(self.stem(x))))
        x = self.stage4(self.stage3(self.stage2(self.stage1(x))))
        logits: Tensor = self.head(self.dropout(x.mean((2, 3))))
        return logits


class _Basic(nn.Module):
    """A basic block: two 3x3 convolutions, each with batch norm, plus the input; the activation is last."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        residual: bool,
        projects: bool,
        activation: Activation,
        drop_connect: float,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = _projection(inputs, outputs, stride) if residual and projects else None
        self.residual, self.activation, self.drop_connect = residual, activation, drop_connect
        self.stride, self.outputs = stride, outputs

    def forward(self, x: Tensor) -> Tensor:
        branch = self.activation(self.norm1(self.conv1(x)))
        branch = self.norm2(self.conv2(branch))
        return self.activation(_joined(self, branch, x))


class _Bottleneck(nn.Module):
    """A bottleneck block: 1x1, 3x3, 1x1 to four times the channels, each with batch norm, plus the input."""

    def __init__(
        self, inputs: int, middle: int, stride: int, residual: bool, activation: Activation, drop_connect: float
    ) -> None:
        super().__init__()
        self.outputs = 4 * middle
        self.conv1 = nn.Conv2d(inputs, middle, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(middle)
        self.conv2 = nn.Conv2d(middle, middle, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(middle)
        self.conv3 = nn.Conv2d(middle, self.outputs, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(self.outputs)
        self.shortcut = _projection(inputs, self.outputs, stride) if residual else None
        self.residual, self.activation, self.drop_connect, self.stride = residual, activation, drop_connect, stride

    def forward(self, x: Tensor) -> Tensor:
        branch = self.activation(self.norm1(self.conv1(x)))
        branch = self.activation(self.norm2(self.conv2(branch)))
        branch = self.norm3(self.conv3(branch))
        return self.activation(_joined(self, branch, x))


def _projection(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(Projection(inputs, outputs, stride), nn.BatchNorm2d(outputs))


def _joined(block: _Basic | _Bottleneck, branch: Tensor, x: Tensor) -> Tensor:
    """Return the sum of a block's branch and its shortcut, if it has one."""
    if not block.residual:
        return branch
    x = pad_channels(x, block.outputs, block.stride) if block.shortcut is None else block.shortcut(x)
    return drop_connect(branch, block.drop_connect, block.training) + x


def count_parameters(depth: int, widths: Sequence[int], channels: int, classes: int) -> int:
    """Return the parameters of a CIFAR ResNet or its plain counterpart."""
    blocks, inputs = (depth - 2) // 6, widths[0]
    total = 9 * channels * inputs + 2 * inputs
    for outputs in widths:
        total += 9 * inputs * outputs + 9 * outputs**2 + 4 * outputs + (blocks - 1) * (18 * outputs**2 + 4 * outputs)
        inputs = outputs
    return total + inputs * classes + classes


def fullest_member(search: FillTarget, depth: int) -> Arguments | None:
    """Return the arguments of the largest CIFAR ResNet of this depth within the target."""

    def count(widths: Sequence[int]) -> int:
        return count_parameters(depth, widths, search.channels, search.classes)

    widths = three_widths(search, (16, 32, 64), count)
    return {"depth": depth, "widths": widths} if widths else None


# ResNet-20 widened has 96.9 % on CIFAR-10 with 4.3 million parameters.
CIFAR_FAMILY = Family(
    "cifar_resnet",
    CifarResNet,
    narrows="width",
    filling=Filling(count_parameters, fullest_member, nearest_first(20, range(8, 111, 6)), parent="_cifar_resnet"),
)
FAMILY = Family("resnet", ResNet, narrows="width", same={f"resnet{depth}": {"depth": depth} for depth in STAGES})
