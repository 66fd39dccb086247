"""The shape of a model's input and output."""

from __future__ import annotations

from typing import NamedTuple


class Shape(NamedTuple):
    """Images float32 [B, channels, size, size] as input, logits [B, num_classes] as output."""

    num_classes: int
    channels: int
    size: int
