"""The multilayer perceptron (LOGBOOK D)."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from featherweight.models.blocks import ACTIVATIONS, ActivationName, Momentum, set_batch_norm
from featherweight.models.family import Family
from featherweight.schema import Flag, HalfOpenFraction, Positive, PositiveInt


class MLP(nn.Module):
    """A multilayer perceptron on all pixels, with hidden layers of these widths; batch norm before the activation.

    It has no residual branches, so there is no drop connect.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int,
        image_size: int,
        *,
        hidden: list[PositiveInt] = [512, 256],
        batch_norm: Flag = False,
        activation: ActivationName = "relu",
        dropout: HalfOpenFraction = 0.0,
        bn_momentum: Momentum = 0.1,
        bn_eps: Positive = 1e-5,
    ) -> None:
        super().__init__()
        widths = [channels * image_size**2, *hidden]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(widths))
        self.norms = nn.ModuleList(nn.BatchNorm1d(width) if batch_norm else nn.Identity() for width in hidden)
        self.activation = ACTIVATIONS[activation]
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(widths[-1], num_classes)
        set_batch_norm(self, bn_momentum, bn_eps)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        x = x.flatten(1)
        for layer, norm in zip(self.layers, self.norms, strict=True):
            x = self.dropout(self.activation(norm(layer(x))))
        logits: Tensor = self.head(x)
        return logits


FAMILY = Family("mlp", MLP, narrows="hidden")
