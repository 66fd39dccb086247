"""EfficientNet (Tan & Le 2019, arXiv:1905.11946) with compound scaling and three ways to round its depth."""

from __future__ import annotations

import math
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
    Stem,
    drop_connect,
    set_batch_norm,
    start_convolutions,
    stem_shrinks,
)
from featherweight.models.depthwise import depthwise, excite, paddings, trains_on_cpu
from featherweight.models.family import Arguments, Family, Filling, FillTarget
from featherweight.models.filling import cached_head, nearest_first, width_and_head
from featherweight.schema import HalfOpenFraction, NonNegative, Positive, PositiveInt, ScaleFactor

# B0's stages: blocks, kernel, stride, expansion, channels out. The stem has 32 channels, the head 1280.
STAGES = ((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
          (1, 3, 1, 6, 320))  # fmt: skip
STEM, HEAD = 32, 1280
DEPTH, WIDTH, RESOLUTION = 1.2, 1.1, 1.15  # the paper's alpha, beta and gamma, to the power of phi
DepthRounding = Literal["ceil", "round", "spread"]


class EfficientNet(nn.Module):
    """B0's stages of inverted residual blocks, scaled in width, depth and resolution.

    `phi` is the paper's compound coefficient: it multiplies depth by 1.2, width by 1.1 and resolution by 1.15, each to
    the power phi, in addition to the three factors given. Channels are rounded to multiples of 8, as published. The
    blocks of each stage are rounded as `depth_rounding` says:

    - `ceil`, as published: up in every stage. With 10 classes depth 1.0 has 4,020,358 parameters, and every depth above
      1.0 and up to 1.2 has 6,525,994, since each stage of two or more blocks gains one (LOGBOOK A).
    - `round`: to the nearest number in every stage, halves to the even one.
    - `spread`: the total is rounded, and the blocks are distributed by largest remainder, so a little more depth is
      a little more network: depth 1.06 has one block more than depth 1.0.

    If the resolution is not 1, the image is resized by it before the stem. With the published strides (`stem: 4`) the
    outputs equal efficientnet-pytorch's, given the same weights. Padding is TensorFlow's: of an odd total the larger
    part is at the bottom and right.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int,
        image_size: int,
        *,
        width: ScaleFactor = 1.0,
        depth: ScaleFactor = 1.0,
        resolution: ScaleFactor = 1.0,
        phi: NonNegative = 0.0,
        depth_rounding: DepthRounding = "ceil",
        head: Annotated[
            PositiveInt | None, Field(description="channels of the last convolution; null: 1280 times the width")
        ] = None,
        stem: Stem = "auto",
        activation: ActivationName = "silu",
        dropout: HalfOpenFraction = 0.2,
        drop_connect: HalfOpenFraction = 0.2,
        bn_momentum: Momentum = 0.01,
        bn_eps: Positive = 1e-3,
    ) -> None:
        super().__init__()
        self.scale = resolution * RESOLUTION**phi
        if round(image_size * self.scale) < 1:
            raise UserError(f"model.resolution: {self.scale:g} leaves no pixel of images of {image_size} px")
        undone = 4 // stem_shrinks(round(image_size * self.scale), stem)
        stages = scaled_stages(width * WIDTH**phi, depth * DEPTH**phi, depth_rounding)
        inputs, last = end_channels(width * WIDTH**phi, head)
        self.activation = ACTIVATIONS[activation]
        stride, undone = _spare(2, undone)
        self.stem = _Same(channels, inputs, 3, stride)
        self.norm1 = nn.BatchNorm2d(inputs)
        total = sum(stage[0] for stage in stages)
        blocks: list[nn.Module] = []
        for repeats, kernel, stage_stride, expansion, outputs in stages:
            first_stride, undone = _spare(stage_stride, undone)
            for place in range(repeats):
                stride = first_stride if place == 0 else 1
                rate = drop_connect * len(blocks) / total
                skips = place > 0  # a stage's first block changes the channels, or has a stride as published
                blocks.append(_Block(inputs, outputs, kernel, stride, expansion, skips, self.activation, rate))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.conv = nn.Conv2d(inputs, last, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(last)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(last, num_classes)
        start_convolutions(self)
        set_batch_norm(self, bn_momentum, bn_eps)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        side = round(x.shape[-1] * self.scale)
        if x.shape[-1] != side:
            x = F.interpolate(x, (side, side), mode="bilinear", antialias=True)
        x = self.blocks(self.activation(self.norm1(self.stem(x))))
        x = self.activation(self.norm2(self.conv(x)))
        logits: Tensor = self.head(self.dropout(x.mean((2, 3))))
        return logits


def scaled_stages(width: float, depth: float, rounding: DepthRounding) -> list[tuple[int, int, int, int, int]]:
    """Return the stages of a scaled network, in the form of STAGES."""
    repeats = scaled_repeats([stage[0] for stage in STAGES], depth, rounding)
    return [(n, *stage[1:4], scaled_channels(stage[4], width)) for n, stage in zip(repeats, STAGES, strict=True)]


def scaled_repeats(repeats: list[int], depth: float, rounding: DepthRounding) -> list[int]:
    """Return the blocks per stage at `depth` times the depth; every stage keeps at least one."""
    wanted = [round(blocks * depth, 9) for blocks in repeats]  # 9 digits, since 3 * 1.1 is slightly above 3.3
    if rounding == "ceil":
        return [math.ceil(blocks) for blocks in wanted]
    if rounding == "round":
        return [max(1, round(blocks)) for blocks in wanted]
    dealt = [max(1, math.floor(blocks)) for blocks in wanted]
    remainders = sorted(range(len(wanted)), key=lambda stage: (math.floor(wanted[stage]) - wanted[stage], stage))
    extra = max(0, round(sum(wanted)) - sum(dealt))
    for stage in remainders[:extra]:
        dealt[stage] += 1
    return dealt


def scaled_channels(channels: int, width: float) -> int:
    """Return `width` times the channels, rounded to a multiple of 8, but not down by more than a tenth."""
    wanted = channels * width
    rounded = max(8, int(wanted + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * wanted else rounded


def end_channels(width: float, head: int | None) -> tuple[int, int]:
    """Return the channels of the stem and of the last convolution."""
    return scaled_channels(STEM, width), head or scaled_channels(HEAD, width)


def _spare(stride: int, undone: int) -> tuple[int, int]:
    """Return a stride reduced by what is to be left out of it, and what remains to be left out of later strides."""
    return (1, undone // 2) if stride == 2 and undone > 1 else (stride, undone)


class _Same(nn.Conv2d):
    """A convolution without bias, padded so that a stride of s divides the side by s, rounded up."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int) -> None:
        super().__init__(inputs, outputs, kernel, stride, kernel // 2 if stride == 1 else 0, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        stride, kernel = self.stride[0], self.kernel_size[0]
        if stride > 1:
            (top, bottom), (left, right) = (paddings(side, kernel, stride) for side in x.shape[-2:])
            x = F.pad(x, (left, right, top, bottom))
        return super().forward(x)


class _Depthwise(nn.Conv2d):
    """A depthwise convolution without bias, padded in the same way."""

    def __init__(self, channels: int, kernel: int, stride: int) -> None:
        super().__init__(channels, channels, kernel, stride, groups=channels, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return depthwise(x, self.weight, self.stride[0])


class _Dense(nn.Conv2d):
    """A 1x1 convolution of maps of one pixel, trained on a CPU as a matrix product: a third of the time."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        if not trains_on_cpu(x, self.weight):
            return super().forward(x)
        return F.linear(x.flatten(1), self.weight.flatten(1), self.bias)[..., None, None]


class _Block(nn.Module):
    """An inverted residual block: 1x1 expansion, depthwise convolution, squeeze-and-excitation, 1x1 projection.

    The input is added where the shape stays the same.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int,
        expansion: int,
        skips: bool,
        activation: Activation,
        drop_connect: float,
    ) -> None:
        super().__init__()
        inner, squeezed = inputs * expansion, max(1, inputs // 4)
        self.activation, self.skips, self.drop_connect = activation, skips, drop_connect
        self.expand = nn.Conv2d(inputs, inner, 1, bias=False) if expansion > 1 else None
        self.norm1 = nn.BatchNorm2d(inner) if expansion > 1 else None
        self.depthwise = _Depthwise(inner, kernel, stride)
        self.norm2 = nn.BatchNorm2d(inner)
        self.squeeze = _Dense(inner, squeezed)
        self.excite = _Dense(squeezed, inner)
        self.project = nn.Conv2d(inner, outputs, 1, bias=False)
        self.norm3 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        if self.expand is not None and self.norm1 is not None:
            y = self.activation(self.norm1(self.expand(y)))
        y = self.activation(self.norm2(self.depthwise(y)))
        y = excite(y, self._gate, [*self.squeeze.parameters(), *self.excite.parameters()])
        y = self.norm3(self.project(y))
        return x + drop_connect(y, self.drop_connect, self.training) if self.skips else y

    def _gate(self, means: Tensor) -> Tensor:
        scale: Tensor = self.excite(self.activation(self.squeeze(means))).sigmoid()
        return scale


def count_parameters(width: float, depth: float, head: int, channels: int, classes: int) -> int:
    """Return the parameters of an EfficientNet with `depth_rounding: spread`."""
    inputs, last = end_channels(width, head)
    total = 9 * channels * inputs + 2 * inputs
    for repeats, kernel, _, expansion, outputs in scaled_stages(width, depth, "spread"):
        for _ in range(repeats):
            inner, squeezed = inputs * expansion, max(1, inputs // 4)
            total += inputs * inner + 2 * inner if expansion > 1 else 0
            total += (kernel**2 + 2) * inner + 2 * inner * squeezed + squeezed + inner + inner * outputs + 2 * outputs
            inputs = outputs
    return total + inputs * last + 2 * last + last * classes + classes


def fullest_member(search: FillTarget, total: int) -> Arguments | None:
    """Return the arguments for `total` blocks whose last convolution is nearest to its published width."""
    depth = total / sum(stage[0] for stage in STAGES)
    count = cached_head(lambda width, head: count_parameters(width, depth, head, search.channels, search.classes))
    solved = width_and_head(search, count, lambda width: end_channels(width, None)[1])
    return {**solved, "depth": depth, "depth_rounding": "spread"} if solved else None


FAMILY = Family(
    "efficientnet",
    EfficientNet,
    narrows="width",
    gives_up={"depth_rounding": "spread"},
    same={
        name: {"width": width, "depth": depth}
        for number, width, depth in ((0, 1.0, 1.0), (1, 1.0, 1.1), (2, 1.1, 1.2), (3, 1.2, 1.4), (4, 1.4, 1.8))
        for name in (f"b{number}", f"efficientnet_b{number}", f"tf_efficientnet_b{number}")
    },
    # The blocks of B0 are 16.
    filling=Filling(count_parameters, fullest_member, nearest_first(16, range(10, 33)), parent="_gentle"),
)
