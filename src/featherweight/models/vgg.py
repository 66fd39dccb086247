"""VGG (Simonyan & Zisserman 2014, arXiv:1409.1556) with torchvision's layers and adjustable width."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from featherweight.models.blocks import ActivationName, AveragePool, Momentum, Stem, Width, scaled, start_convolutions
from featherweight.models.family import Family
from featherweight.models.library import build_adapted, with_input_channels
from featherweight.schema import Flag, HalfOpenFraction, Positive

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
    dropout: HalfOpenFraction = 0.5,
    bn_momentum: Momentum = 0.1,
    bn_eps: Positive = 1e-5,
) -> nn.Module:
    """VGG (Simonyan & Zisserman 2014, arXiv:1409.1556) with torchvision's layers.

    With 10 classes and RGB VGG-16 has 134,301,514 parameters, or 14,719,818 with the linear head. Dropout is before the
    layers of the head. It has no residual branches, so there is no drop connect.
    """
    from torchvision.models.vgg import cfgs, make_layers

    def make() -> nn.Module:
        layers = [scaled(layer, width) if isinstance(layer, int) else layer for layer in cfgs[VGG_LETTERS[depth]]]
        features = with_input_channels(make_layers(layers, batch_norm), channels)
        return _VGG(features, scaled(512, width), num_classes, head == "published", dropout)

    return build_adapted(make, f"vgg{depth}", channels, image_size, stem, bn_momentum, bn_eps, activation)


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


FAMILY = Family(
    "vgg",
    vgg,
    narrows="width",
    gives_up={"head": "linear"},
    same={
        **{f"vgg{depth}": {"depth": depth} for depth in VGG_LETTERS},
        **{f"vgg{depth}_bn": {"depth": depth, "batch_norm": True} for depth in VGG_LETTERS},
    },
)
