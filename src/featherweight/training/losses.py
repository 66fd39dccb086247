"""The losses a recipe may name: a mean over the batch of logits [B, K] against target probabilities float32 [B, K].

Each is also handed `counts`, float32 [K], the training images of each class, by which a loss may weigh. Weights have a
mean of 1 over the training images, so a loss keeps its scale, and the losses of a batch's parts add up to the whole's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch.nn.functional as F
from torch import Tensor

from featherweight.schema import Flag, NonNegative, Number, Rate

Weights = Literal["equal", "inverse", "root", "effective"]


def class_weights(counts: Tensor, by: Weights, beta: float) -> Tensor:
    """float32 [K]: 1, 1 / n, 1 / sqrt(n), or 1 over the effective number (1 - beta^n) / (1 - beta) (arXiv:1901.05555).

    A class without training images weighs nothing.
    """
    present = counts.clamp_min(1)
    weights = {
        "equal": present**0,
        "inverse": 1 / present,
        "root": present**-0.5,
        "effective": (1 - beta) / (1 - beta**present),
    }[by] * (counts > 0)
    return weights * counts.sum() / (weights * counts).sum()


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    counts: Tensor,
    *,
    label_smoothing: Rate = 0.0,
    weights: Weights = "equal",
    beta: Rate = 0.999,
) -> Tensor:
    """Cross-entropy; smoothing moves that part of each target evenly onto all classes (arXiv:1512.00567).

    `weights` by class, `beta` being the effective number's.
    """
    weight = None if weights == "equal" else class_weights(counts, weights, beta)
    return F.cross_entropy(logits, targets, weight=weight, label_smoothing=label_smoothing)


def focal(
    logits: Tensor,
    targets: Tensor,
    counts: Tensor,
    *,
    gamma: NonNegative = 2.0,
    weights: Weights = "equal",
    beta: Rate = 0.999,
) -> Tensor:
    """Cross-entropy times (1 - p)^gamma: what is right already counts for less (arXiv:1708.02002; LOGBOOK C)."""
    logs = logits.log_softmax(1)
    each = targets * (1 - logs.exp()).clamp_min(0) ** gamma * -logs
    return (each * class_weights(counts, weights, beta)).sum(1).mean()


def logit_adjusted(
    logits: Tensor, targets: Tensor, counts: Tensor, *, tau: NonNegative = 1.0, label_smoothing: Rate = 0.0
) -> Tensor:
    """Cross-entropy of the logits plus `tau` times the log of each class's share of the images (arXiv:2007.07314).

    What the logits themselves then say is for classes that are all as frequent: balanced accuracy, macro F1.
    """
    share = (counts / counts.sum()).clamp_min(1e-12)
    return F.cross_entropy(logits + tau * share.log(), targets, label_smoothing=label_smoothing)


def poly(
    logits: Tensor, targets: Tensor, counts: Tensor, *, epsilon: Number = 1.0, label_smoothing: Rate = 0.0
) -> Tensor:
    """Poly-1: cross-entropy plus `epsilon` times (1 - p), p being the true class's probability (arXiv:2204.12511)."""
    missed = 1 - (targets * logits.softmax(1)).sum(1)
    return F.cross_entropy(logits, targets, label_smoothing=label_smoothing) + epsilon * missed.mean()


def bce(
    logits: Tensor, targets: Tensor, counts: Tensor, *, label_smoothing: Rate = 0.0, sum_classes: Flag = False
) -> Tensor:
    """Binary cross-entropy of each class for itself, its mean (or sum) over the classes (arXiv:2110.00476)."""
    smoothed = targets * (1 - label_smoothing) + label_smoothing / targets.shape[1]
    loss = F.binary_cross_entropy_with_logits(logits, smoothed)
    return loss * targets.shape[1] if sum_classes else loss


LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy,
    "focal": focal,
    "logit_adjusted": logit_adjusted,
    "poly": poly,
    "bce": bce,
}
