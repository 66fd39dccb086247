"""Families of torchvision made scalable: VGG, DenseNet, MobileNet v2, Inception, and a feature-pyramid classifier."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from featherweight.models.blocks import (
    ACTIVATIONS,
    Activation,
    ActivationName,
    AveragePool,
    Momentum,
    OtherActivation,
    Stem,
    start_convolutions,
)
from featherweight.models.library import Options, fitted, seeing
from featherweight.schema import Count, Flag, Positive, Rate, Text

Width = Annotated[Positive, Field(description="multiplies all channels, rounded to whole ones")]
# MobileNet v2's seven stages: expansion, channels, stride, and blocks.
MOBILENET_V2 = ((1, 6, 6, 6, 6, 6, 6), (16, 24, 32, 64, 96, 160, 320), (1, 2, 2, 2, 1, 2, 1))
MOBILENET_V2_REPEATS = [1, 2, 3, 4, 3, 3, 1]
VGG_LETTERS: dict[int, str] = {11: "A", 13: "B", 16: "D", 19: "E"}


def vgg(
    num_classes: int,
    channels: int,
    image_size: int,
    *,
    depth: Literal[11, 13, 16, 19],
    width: Width = 1.0,
    batch_norm: Flag = False,
    head: Annotated[
        Literal["published", "linear"],
        Field(description="published: two hidden layers of 4096, 119 of VGG-16's 134 million; linear: one layer"),
    ] = "published",
    stem: Stem = "auto",
    activation: ActivationName = "relu",
    dropout: Rate = 0.5,
    bn_momentum: Momentum = 0.1,
    bn_eps: Positive = 1e-5,
) -> nn.Module:
    """VGG (Simonyan & Zisserman 2014, arXiv:1409.1556), of torchvision's layers.

    With 10 classes and RGB VGG-16 has 134,301,514 parameters, and 14,719,818 of these with the linear head. Dropout
    stands before the layers of the head; with no branch to leave out there is no drop connect.
    """
    from torchvision.models.vgg import cfgs, make_layers

    def make() -> nn.Module:
        layers = [_scaled(layer, width) if isinstance(layer, int) else layer for layer in cfgs[VGG_LETTERS[depth]]]
        features = seeing(make_layers(layers, batch_norm), channels)
        return _VGG(features, _scaled(512, width), num_classes, head == "published", dropout)

    return fitted(make, f"vgg{depth}", channels, image_size, stem, bn_momentum, bn_eps, activation)


class _VGG(nn.Module):
    def __init__(self, features: nn.Module, inputs: int, num_classes: int, published: bool, dropout: float) -> None:
        super().__init__()
        self.features = features
        self.pool = AveragePool(7 if published else 1)
        hidden: list[nn.Module] = [] if published else [nn.Dropout(dropout)]
        if published:
            for width in (inputs * 49, 4096):
                hidden += [nn.Linear(width, 4096), nn.ReLU(inplace=True), nn.Dropout(dropout)]
        self.classifier = nn.Sequential(*hidden, nn.Linear(4096 if published else inputs, num_classes))
        start_convolutions(self)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.pool(self.features(x)).flatten(1))
        return logits


def densenet(
    num_classes: int,
    channels: int,
    image_size: int,
    *,
    blocks: Annotated[list[Count], Field(min_length=1, description="dense layers a block; 121: [6, 12, 24, 16]")],
    growth: Annotated[Count, Field(description="channels a layer adds")] = 32,
    initial: Annotated[Count | None, Field(description="channels of the stem; null: twice the growth")] = None,
    stem: Stem = "auto",
    activation: ActivationName = "relu",
    dropout: Annotated[Rate, Field(description="after every layer")] = 0.0,
    bn_momentum: Momentum = 0.1,
    bn_eps: Positive = 1e-5,
) -> nn.Module:
    """DenseNet-BC (Huang et al. 2016, arXiv:1608.06993), torchvision's. DenseNet-121: 6,964,106 with 10 classes.

    Every layer sees all before it side by side, not their sum, so there is no drop connect.
    """
    from torchvision.models import DenseNet

    def make() -> nn.Module:
        net = DenseNet(growth, tuple(blocks), initial or 2 * growth, drop_rate=dropout, num_classes=num_classes)
        return _DenseNet(seeing(net, channels), ACTIVATIONS[activation])

    return fitted(make, "densenet", channels, image_size, stem, bn_momentum, bn_eps, activation)


class _DenseNet(nn.Module):
    """torchvision's, but for the activation before its pooling."""

    def __init__(self, net: Any, activation: Activation) -> None:
        super().__init__()
        self.features, self.classifier, self.activation = net.features, net.classifier, activation

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.activation(self.features(x)), 1).flatten(1)
        logits: Tensor = self.classifier(x)
        return logits


def mobilenet_v2(
    num_classes: int,
    channels: int,
    image_size: int,
    *,
    width: Annotated[Positive, Field(description="multiplies all channels, rounded to multiples of 8")] = 1.0,
    repeats: Annotated[
        list[Count], Field(min_length=7, max_length=7, description="blocks a stage")
    ] = MOBILENET_V2_REPEATS,
    head: Annotated[
        Count | None, Field(description="channels of the last convolution; null: 1280, and more above width 1")
    ] = None,
    stem: Stem = "auto",
    activation: OtherActivation = None,
    dropout: Rate = 0.2,
    drop_connect: Rate = 0.0,
    bn_momentum: Momentum = 0.1,
    bn_eps: Positive = 1e-5,
) -> nn.Module:
    """MobileNet v2 (Sandler et al. 2018, arXiv:1801.04381), torchvision's. Width 1: 2,236,682 with 10 classes.

    Published with ReLU6. Drop connect grows linearly from block to block up to its rate.
    """
    from torchvision.models import MobileNetV2
    from torchvision.ops import Conv2dNormActivation, StochasticDepth

    stages = zip(*MOBILENET_V2, repeats, strict=True)
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
        return seeing(net, channels)

    return fitted(make, "mobilenet_v2", channels, image_size, stem, bn_momentum, bn_eps, activation)


def googlenet(
    num_classes: int,
    channels: int,
    image_size: int,
    *,
    width: Width = 1.0,
    stem: Stem = "auto",
    activation: ActivationName = "relu",
    dropout: Rate = 0.2,
    bn_momentum: Momentum = 0.1,
    bn_eps: Positive = 1e-3,
) -> nn.Module:
    """Inception v1 with batch norm (Szegedy et al. 2014, arXiv:1409.4842), torchvision's, without auxiliary heads.

    With 10 classes and RGB 5,610,154 parameters. Its nine modules put their branches side by side, all of which the
    next one needs, so there is no drop connect.
    """
    from torchvision.models.googlenet import GoogLeNet, Inception, InceptionAux

    def convolution(inputs: int, outputs: int, **rest: Any) -> nn.Module:
        inputs = inputs if inputs == 3 else _scaled(inputs, width)
        return branch(inputs, _scaled(outputs, width), **rest)

    def branch(inputs: int, outputs: int, **rest: Any) -> nn.Module:
        return _Convolution(inputs, outputs, ACTIVATIONS[activation], **rest)

    def inception(*widths: int) -> nn.Module:
        first, *rest = (_scaled(count, width) for count in widths)
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
        return seeing(net, channels)

    return fitted(make, "googlenet", channels, image_size, stem, bn_momentum, bn_eps)


class _Convolution(nn.Module):
    """torchvision's BasicConv2d, but for its activation."""

    def __init__(self, inputs: int, outputs: int, activation: Activation, **rest: Any) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(inputs, outputs, bias=False, **rest), nn.BatchNorm2d(outputs)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.bn(self.conv(x)))


def fpn(
    num_classes: int,
    channels: int,
    image_size: int,
    *,
    backbone: Annotated[Text, Field(description="a network of timm's that gives feature maps")] = "mobilenetv2_100",
    levels: Annotated[Count, Field(description="how many maps, from the smallest on, make the pyramid")] = 3,
    width: Annotated[Count, Field(description="the pyramid's channels")] = 128,
    stem: Stem = "auto",
    dropout: Rate = 0.2,
    drop_connect: Annotated[Rate | None, Field(description="the backbone's; null: timm's")] = None,
    bn_momentum: Momentum | None = None,
    bn_eps: Positive | None = None,
    options: Options = {},
) -> nn.Module:
    """A classifier over a feature pyramid (Lin et al. 2016, arXiv:1612.03144): the pooled levels, side by side, in one
    linear layer. The backbone is timm's, made with the options, `{act_layer: gelu}`; the pyramid is torchvision's.
    """
    arguments = {**({} if drop_connect is None else {"drop_path_rate": drop_connect}), **options}

    def make() -> nn.Module:
        return _PyramidClassifier(backbone, levels, width, channels, num_classes, dropout, arguments)

    return fitted(make, f"a pyramid over {backbone}", channels, image_size, stem, bn_momentum, bn_eps)


class _PyramidClassifier(nn.Module):
    def __init__(
        self,
        backbone: str,
        levels: int,
        width: int,
        channels: int,
        num_classes: int,
        dropout: float,
        options: dict[str, Any],
    ) -> None:
        super().__init__()
        import timm
        from torchvision.ops import FeaturePyramidNetwork

        features: Any = timm.create_model(backbone, features_only=True, in_chans=channels, **options)
        widths = features.feature_info.channels()[-levels:]
        self.backbone, self.levels = features, len(widths)
        self.pyramid = FeaturePyramidNetwork(widths, width)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(width * len(widths), num_classes)

    def forward(self, x: Tensor) -> Tensor:
        maps = self.backbone(x)[-self.levels :]
        levels = self.pyramid({str(level): features for level, features in enumerate(maps)})
        pooled = torch.cat([features.mean((2, 3)) for features in levels.values()], 1)
        logits: Tensor = self.head(self.dropout(pooled))
        return logits


def _scaled(channels: int, width: float) -> int:
    return max(1, round(channels * width))
