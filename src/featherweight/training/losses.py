"""The losses a recipe may name: logits [B, K] and target probabilities float32 [B, K] in, a mean over the batch out."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from featherweight.schema import Rate


def cross_entropy(logits: Tensor, targets: Tensor, *, label_smoothing: Rate = 0.0) -> Tensor:
    """Cross-entropy; smoothing moves that part of each target evenly onto all classes (arXiv:1512.00567)."""
    return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)


LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy,
}
