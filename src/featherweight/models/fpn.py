"""A classifier over a feature pyramid (Lin et al. 2016, arXiv:1612.03144)."""

from __future__ import annotations

from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from featherweight.errors import UserError
from featherweight.models.blocks import Momentum, Stem
from featherweight.models.family import Family
from featherweight.models.library import Options, build_adapted
from featherweight.schema import HalfOpenFraction, Positive, PositiveInt, Text


def fpn(
    num_classes: int,
    channels: int,
    image_size: int,
    *,
    backbone: Annotated[Text, Field(description="a network of timm that returns feature maps")] = "mobilenetv2_100",
    levels: Annotated[PositiveInt, Field(description="how many maps, from the smallest on, make the pyramid")] = 3,
    width: Annotated[PositiveInt, Field(description="the pyramid's channels")] = 128,
    stem: Stem = "auto",
    dropout: HalfOpenFraction = 0.2,
    drop_connect: Annotated[HalfOpenFraction | None, Field(description="the backbone's; null: timm's")] = None,
    bn_momentum: Momentum | None = None,
    bn_eps: Positive | None = None,
    options: Options = {},
) -> nn.Module:
    """A classifier over a feature pyramid: its pooled levels, concatenated, in a linear layer (arXiv:1612.03144).

    The backbone is timm's, built with `options` such as `{act_layer: gelu}`; the pyramid is torchvision's.
    """
    arguments = {**({} if drop_connect is None else {"drop_path_rate": drop_connect}), **options}

    def make() -> nn.Module:
        return _PyramidClassifier(backbone, levels, width, channels, num_classes, dropout, arguments)

    return build_adapted(make, f"a pyramid over {backbone}", channels, image_size, stem, bn_momentum, bn_eps)


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
        if levels > len(widths):
            raise UserError(f"model.levels: {levels:,} levels, but {backbone} has only {len(widths)} maps")
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


FAMILY = Family("fpn", fpn)
