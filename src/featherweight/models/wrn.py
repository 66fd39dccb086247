"""Wide residual networks (Zagoruyko & Komodakis 2016, arXiv:1605.07146)."""

from __future__ import annotations

from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from featherweight.errors import UserError
from featherweight.schema import Count, Positive, Rate


class WideResNet(nn.Module):
    """WRN-depth-width: pre-activation basic blocks, three groups of (depth - 4) / 6 at 16, 32 and 64 times the width.

    Dropout stands between a block's two convolutions, as in the paper; the maps halve at the second and third group.
    With 10 classes and RGB input WRN-16-4 has 2,748,890 parameters, WRN-40-2 2,243,546 (LOGBOOK A).
    Convolutions start from He's normal initialisation (fan out), batch norms at scale 1 and bias 0.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int,
        image_size: int,
        *,
        depth: Annotated[Count, Field(description="6n + 4: 10, 16, 22, 28, 34, 40, ...")],
        width: Annotated[Positive, Field(description="widening factor; fractions are rounded to whole channels")],
        dropout: Rate = 0.0,
    ) -> None:
        super().__init__()
        blocks, odd = divmod(depth - 4, 6)
        if odd or blocks < 1:
            below = max(10, depth - odd)
            raise UserError(
                f"model.depth: a WRN's depth is 6n + 4, so {depth} is not one; the nearest are {below} and {below + 6}"
            )
        widths = [max(1, round(base * width)) for base in (16, 32, 64)]
        self.stem = nn.Conv2d(channels, 16, 3, padding=1, bias=False)
        self.group1 = _group(blocks, 16, widths[0], stride=1, dropout=dropout)
        self.group2 = _group(blocks, widths[0], widths[1], stride=2, dropout=dropout)
        self.group3 = _group(blocks, widths[1], widths[2], stride=2, dropout=dropout)
        self.norm = nn.BatchNorm2d(widths[2])
        self.head = nn.Linear(widths[2], num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(self.head.bias)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        x = self.group3(self.group2(self.group1(self.stem(x))))
        x = F.relu(self.norm(x), inplace=True)
        logits: Tensor = self.head(x.mean((2, 3)))
        return logits


class _Block(nn.Module):
    """Norm, ReLU, conv, norm, ReLU, dropout, conv, plus the input (or its 1x1 projection where the shape changes)."""

    def __init__(self, inputs: int, outputs: int, stride: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.dropout = dropout
        reshapes = stride != 1 or inputs != outputs
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False) if reshapes else None

    def forward(self, x: Tensor) -> Tensor:
        active = F.relu(self.norm1(x), inplace=True)
        residual: Tensor = F.relu(self.norm2(self.conv1(active)), inplace=True)
        residual = F.dropout(residual, self.dropout, self.training)
        residual = self.conv2(residual)
        if self.shortcut is not None:
            x = self.shortcut(active)
        return residual + x


def _group(blocks: int, inputs: int, outputs: int, stride: int, dropout: float) -> nn.Sequential:
    first = _Block(inputs, outputs, stride, dropout)
    return nn.Sequential(first, *(_Block(outputs, outputs, 1, dropout) for _ in range(blocks - 1)))
