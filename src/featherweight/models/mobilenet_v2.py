"""MobileNet v2 (Sandler et al. 2018, arXiv:1801.04381) from torchvision, with adjustable width and depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from pydantic import Field
from torch import nn

from featherweight.models.blocks import Momentum, OtherActivation, Stem, start_convolutions
from featherweight.models.efficientnet import scaled_channels, scaled_repeats
from featherweight.models.family import Arguments, Family, Filling, FillTarget
from featherweight.models.filling import cached_head, nearest_first, width_and_head
from featherweight.models.library import build_adapted, with_input_channels
from featherweight.schema import HalfOpenFraction, Positive, PositiveInt, ScaleFactor

# The seven stages: expansion, channels, stride, and blocks.
STAGES = ((1, 6, 6, 6, 6, 6, 6), (16, 24, 32, 64, 96, 160, 320), (1, 2, 2, 2, 1, 2, 1))
REPEATS = [1, 2, 3, 4, 3, 3, 1]


def mobilenet_v2(
    num_classes: int,
    channels: int,
    image_size: int,
    *,
    width: Annotated[ScaleFactor, Field(description="multiplies all channels, rounded to multiples of 8")] = 1.0,
    repeats: Annotated[list[PositiveInt], Field(min_length=7, max_length=7, description="blocks per stage")] = REPEATS,
    head: Annotated[
        PositiveInt | None, Field(description="channels of the last convolution; null: 1280, and more above width 1")
    ] = None,
    stem: Stem = "auto",
    activation: OtherActivation = None,
    dropout: HalfOpenFraction = 0.2,
    drop_connect: HalfOpenFraction = 0.0,
    bn_momentum: Momentum = 0.1,
    bn_eps: Positive = 1e-5,
) -> nn.Module:
    """MobileNet v2 of torchvision (Sandler et al. 2018, arXiv:1801.04381). Width 1 with 10 classes: 2,236,682.

    It is published with ReLU6. The rate of drop connect grows linearly from block to block up to the given one.
    """
    from torchvision.models import MobileNetV2
    from torchvision.ops import Conv2dNormActivation, StochasticDepth

    stages = zip(*STAGES, repeats, strict=True)
    settings = [[expansion, outputs, count, stride] for expansion, outputs, stride, count in stages]

    def make() -> nn.Module:
        net = MobileNetV2(num_classes, width, settings, dropout=dropout)
        if head is not None:
            inputs = net.features[-1][0].in_channels
            net.features[-1] = Conv2dNormActivation(inputs, head, 1, activation_layer=nn.ReLU6)
            net.classifier[-1] = nn.Linear(head, num_classes)
            start_convolutions(net.features[-1])
        blocks = net.features[1:-1]
        for place, block in enumerate(blocks):
            if drop_connect and block.use_res_connect:
                block.conv.append(StochasticDepth(drop_connect * place / len(blocks), "row"))
        return with_input_channels(net, channels)

    return build_adapted(make, "mobilenet_v2", channels, image_size, stem, bn_momentum, bn_eps, activation)


def count_parameters(width: float, repeats: Sequence[int], head: int, channels: int, classes: int) -> int:
    """Return the parameters of a MobileNet v2 with a last convolution of `head` channels."""
    inputs = scaled_channels(32, width)
    total = 9 * channels * inputs + 2 * inputs
    for expansion, base, _, count in zip(*STAGES, repeats, strict=True):
        outputs = scaled_channels(base, width)
        for _ in range(count):
            inner = inputs * expansion
            total += inputs * inner + 2 * inner if expansion > 1 else 0
            total += 11 * inner + inner * outputs + 2 * outputs
            inputs = outputs
    return total + inputs * head + 2 * head + head * classes + classes


def fullest_member(search: FillTarget, total: int) -> Arguments | None:
    """Return the arguments of the largest network of `total` blocks, its head nearest to the published width."""
    repeats = scaled_repeats(REPEATS, total / sum(REPEATS), "spread")
    count = cached_head(lambda width, head: count_parameters(width, repeats, head, search.channels, search.classes))
    solved = width_and_head(search, count, lambda width: scaled_channels(1280, max(1.0, width)))
    return {**solved, "repeats": repeats} if solved else None


FAMILY = Family(
    "mobilenet_v2",
    mobilenet_v2,
    narrows="width",
    same={"mobilenet_v2": {}, "mobilenetv2_100": {}},
    # As published it has 17 blocks.
    filling=Filling(count_parameters, fullest_member, nearest_first(17, range(10, 28)), parent="_gentle"),
)
