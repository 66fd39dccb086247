"""Compact transformers for small images (Hassani et al. 2021, arXiv:2104.05704)."""

from __future__ import annotations

from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from featherweight.errors import UserError
from featherweight.models.blocks import ACTIVATIONS, ActivationName
from featherweight.models.blocks import drop_connect as drop_branch
from featherweight.models.family import Family
from featherweight.schema import HalfOpenFraction, Odd, Positive, PositiveInt

MAX_TOKENS = 400  # the tokenizer shrinks larger images further: more tokens are not worth their time


class CompactTransformer(nn.Module):
    """CCT-layers/kernel: convolutional tokenizer, pre-norm encoder layers, and pooling of tokens by attention.

    The tokenizer halves the image once, and again while more than 20 x 20 tokens are left. With 10 classes and RGB at
    32 px the default, CCT-7/3x1, has 3.76 million parameters; the number of position parameters grows with the image.
    It has no batch norm. `activation` is that of the layers' perceptrons; the tokenizer always has ReLU.
    """

    def __init__(
        self,
        num_classes: int,
        channels: int,
        image_size: int,
        *,
        layers: PositiveInt = 7,
        width: PositiveInt = 256,
        heads: PositiveInt = 4,
        mlp_ratio: Annotated[Positive, Field(description="hidden / outer width of the layers' perceptrons")] = 2.0,
        kernel: Annotated[Odd, Field(description="of the tokenizer's convolutions; odd")] = 3,
        activation: ActivationName = "gelu",
        dropout: HalfOpenFraction = 0.0,
        attention_dropout: HalfOpenFraction = 0.1,
        drop_connect: HalfOpenFraction = 0.1,
    ) -> None:
        super().__init__()
        if width % heads:
            raise UserError(f"model.width: {width} is not divisible by the {heads} heads")
        convolutions: list[nn.Module] = []
        side, inputs = image_size, channels
        while not convolutions or side**2 > MAX_TOKENS:
            outputs = width if (-(-side // 2)) ** 2 <= MAX_TOKENS else 64
            convolutions += [
                nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, bias=False),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(3, 2, 1),
            ]
            side, inputs = -(-side // 2), outputs
        self.tokenizer = nn.Sequential(*convolutions)
        self.positions = nn.Parameter(torch.zeros(1, side**2, width))
        rates = [drop_connect * place / max(1, layers - 1) for place in range(layers)]
        self.layers = nn.Sequential(
            *(
                _Layer(width, heads, round(width * mlp_ratio), activation, dropout, attention_dropout, rate)
                for rate in rates
            )
        )
        self.norm = nn.LayerNorm(width)
        self.pool = nn.Linear(width, 1)
        self.head = nn.Linear(width, num_classes)
        nn.init.trunc_normal_(self.positions, std=0.2)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:  # noqa: D102
        tokens = self.tokenizer(x).flatten(2).transpose(1, 2) + self.positions
        tokens = self.norm(self.layers(tokens))
        pooled = (self.pool(tokens).softmax(1) * tokens).sum(1)
        logits: Tensor = self.head(pooled)
        return logits


class _Layer(nn.Module):
    """Attention between the tokens, then a perceptron on each; both with layer norm before and a residual."""

    def __init__(
        self,
        width: int,
        heads: int,
        hidden: int,
        activation: ActivationName,
        dropout: float,
        attention_dropout: float,
        drop_connect: float,
    ) -> None:
        super().__init__()
        self.heads, self.activation, self.drop_connect = heads, ACTIVATIONS[activation], drop_connect
        self.dropout, self.attention_dropout = dropout, attention_dropout
        self.norm1 = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)
        self.join = nn.Linear(width, width)
        self.norm2 = nn.LayerNorm(width)
        self.widen = nn.Linear(width, hidden)
        self.narrow = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self._dropped(self._attend(self.norm1(tokens)))
        hidden = F.dropout(self.activation(self.widen(self.norm2(tokens))), self.dropout, self.training)
        return tokens + self._dropped(self.narrow(hidden))

    def _attend(self, tokens: Tensor) -> Tensor:
        batch, count, width = tokens.shape
        split = self.queries_keys_values(tokens).view(batch, count, 3, self.heads, width // self.heads)
        queries, keys, values = split.permute(2, 0, 3, 1, 4)
        weights = (queries @ keys.transpose(2, 3) * (width // self.heads) ** -0.5).softmax(3)
        attended = F.dropout(weights, self.attention_dropout, self.training) @ values
        joined: Tensor = self.join(attended.transpose(1, 2).reshape(batch, count, width))
        return joined

    def _dropped(self, branch: Tensor) -> Tensor:
        branch = F.dropout(branch, self.dropout, self.training)
        return drop_branch(branch[..., None], self.drop_connect, self.training)[..., 0]


FAMILY = Family("compact_transformer", CompactTransformer, narrows="width")
