"""DenseNet (Huang et al. 2016, arXiv:1608.06993) from torchvision, with adjustable width and depth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from featherweight.models.blocks import ACTIVATIONS, Activation, ActivationName, Momentum, Stem
from featherweight.models.efficientnet import scaled_repeats
from featherweight.models.family import Arguments, Family, Filling, FillTarget
from featherweight.models.filling import nearest_first
from featherweight.models.library import build_adapted, with_input_channels
from featherweight.schema import HalfOpenFraction, Positive, PositiveInt


def densenet(
    num_classes: int,
    channels: int,
    image_size: int,
    *,
    blocks: Annotated[list[PositiveInt], Field(min_length=1, description="dense layers a block; 121: [6, 12, 24, 16]")],
    growth: Annotated[PositiveInt, Field(description="channels a layer adds")] = 32,
    initial: Annotated[PositiveInt | None, Field(description="channels of the stem; null: twice the growth")] = None,
    stem: Stem = "auto",
    activation: ActivationName = "relu",
    dropout: Annotated[HalfOpenFraction, Field(description="after every layer")] = 0.0,
    bn_momentum: Momentum = 0.1,
    bn_eps: Positive = 1e-5,
) -> nn.Module:
    """DenseNet-BC of torchvision (Huang et al. 2016, arXiv:1608.06993). DenseNet-121 with 10 classes: 6,964,106.

    Every layer takes the concatenation of all layers before it, not their sum, so there is no drop connect.
    """
    from torchvision.models import DenseNet

    def make() -> nn.Module:
        net = DenseNet(growth, tuple(blocks), initial or 2 * growth, drop_rate=dropout, num_classes=num_classes)
        return _DenseNet(with_input_channels(net, channels), ACTIVATIONS[activation])

    return build_adapted(make, "densenet", channels, image_size, stem, bn_momentum, bn_eps, activation)


class _DenseNet(nn.Module):
    """torchvision's DenseNet with another activation before its pooling."""

    def __init__(self, net: Any, activation: Activation) -> None:
        super().__init__()
        self.features, self.classifier, self.activation = net.features, net.classifier, activation

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.activation(self.features(x)), 1).flatten(1)
        logits: Tensor = self.classifier(x)
        return logits


def count_parameters(blocks: Sequence[int], growth: int, initial: int, channels: int, classes: int) -> int:
    """Return the parameters of a DenseNet-BC: bottlenecks of four times the growth, transitions by one half."""
    total, width = 49 * channels * initial + 2 * initial, initial
    for place, layers in enumerate(blocks):
        widths = layers * width + growth * layers * (layers - 1) // 2  # summed over the layers
        total += widths * (2 + 4 * growth) + layers * (8 * growth + 36 * growth**2)
        width += layers * growth
        if place < len(blocks) - 1:
            total += 2 * width + width * (width // 2)
            width //= 2
    return total + 2 * width + width * classes + classes


def fullest_member(search: FillTarget, growth: int) -> Arguments | None:
    """Return the arguments of the largest network within the target, over all depths, in DenseNet-121's proportions,
    and stems of one to four times the growth.
    """
    best: Arguments | None = None
    most = 0
    for total in range(4, 400):
        blocks = scaled_repeats([6, 12, 24, 16], total / 58, "spread")
        if not search.fits(count_parameters(blocks, growth, 2 * growth, search.channels, search.classes)):
            break
        for initial in range(growth, 4 * growth + 1):
            parameters = count_parameters(blocks, growth, initial, search.channels, search.classes)
            if search.fits(parameters) and parameters > most:
                best, most = {"blocks": blocks, "growth": growth, "initial": initial}, parameters
    return best


FAMILY = Family(
    "densenet",
    densenet,
    narrows="growth",
    same={
        "densenet121": {"blocks": [6, 12, 24, 16]},
        "densenet169": {"blocks": [6, 12, 32, 32]},
        "densenet201": {"blocks": [6, 12, 48, 32]},
    },
    filling=Filling(count_parameters, fullest_member, nearest_first(24, range(8, 49, 4)), parent="_base"),
)
