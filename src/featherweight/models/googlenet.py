"""Inception v1 (Szegedy et al. 2014, arXiv:1409.4842) from torchvision, with adjustable width."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from featherweight.models.blocks import ACTIVATIONS, Activation, ActivationName, Momentum, Stem, Width, scaled
from featherweight.models.family import Family
from featherweight.models.library import build_adapted, with_input_channels
from featherweight.schema import HalfOpenFraction, Positive


def googlenet(
    num_classes: int,
    channels: int,
    image_size: int,
    *,
    width: Width = 1.0,
    stem: Stem = "auto",
    activation: ActivationName = "relu",
    dropout: HalfOpenFraction = 0.2,
    bn_momentum: Momentum = 0.1,
    bn_eps: Positive = 1e-3,
) -> nn.Module:
    """Inception v1 with batch norm, of torchvision, without auxiliary heads (Szegedy et al. 2014, arXiv:1409.4842).

    With 10 classes and RGB it has 5,610,154 parameters. Its nine modules concatenate their branches, all of which the
    next one needs, so there is no drop connect.
    """
    from torchvision.models.googlenet import GoogLeNet, Inception, InceptionAux

    def convolution(inputs: int, outputs: int, **rest: Any) -> nn.Module:
        inputs = inputs if inputs == 3 else scaled(inputs, width)
        return branch(inputs, scaled(outputs, width), **rest)

    def branch(inputs: int, outputs: int, **rest: Any) -> nn.Module:
        return _Convolution(inputs, outputs, ACTIVATIONS[activation], **rest)

    def inception(*widths: int) -> nn.Module:
        first, *rest = (scaled(count, width) for count in widths)
        # What comes in is what the branches before it put out: each rounded by itself.
        module: nn.Module = Inception(first if not incoming else incoming[-1], *rest, conv_block=branch)
        incoming.append(rest[0] + rest[2] + rest[4] + rest[5])
        return module

    incoming: list[int] = []

    def make() -> nn.Module:
        incoming.clear()
        net = GoogLeNet(
            num_classes, aux_logits=False, init_weights=True, dropout=dropout,
            blocks=[convolution, inception, InceptionAux],
        )  # fmt: skip
        net.fc = nn.Linear(incoming[-1], num_classes)
        return with_input_channels(net, channels)

    return build_adapted(make, "googlenet", channels, image_size, stem, bn_momentum, bn_eps)


class _Convolution(nn.Module):
    """torchvision's BasicConv2d with another activation."""

    def __init__(self, inputs: int, outputs: int, activation: Activation, **rest: Any) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(inputs, outputs, bias=False, **rest), nn.BatchNorm2d(outputs)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.bn(self.conv(x)))


FAMILY = Family("googlenet", googlenet, narrows="width", same={"googlenet": {}})
