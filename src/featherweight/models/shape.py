"""What a model takes and gives."""

from __future__ import annotations

from typing import NamedTuple


class Shape(NamedTuple):
    """Images float32 [B, channels, size, size] in, logits [B, num_classes] out."""

    num_classes: int
    channels: int
    size: int
