"""The losses that a recipe may name: means over the batch of logits [B, K] and target probabilities float32 [B, K].

Each also takes `counts`, float32 [K]: how many images of each class an epoch shows. Class weights are computed from
these and have a mean of 1 over the images shown, so that the scale of the loss stays the same. An image is weighted by
its own class, not by the classes that its target is smoothed to. The losses of the parts of a batch add up to the loss
of the whole batch.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor

from featherweight.errors import UserError
from featherweight.schema import Choice, Flag, HalfOpenFraction, NonNegative

TINY = 1e-12  # lower bound of bases of powers: with an exponent below 1 the slope is infinite at 0
Weights = Literal["equal", "inverse", "root", "effective"]


def class_weights(counts: Tensor, by: Weights, beta: float) -> Tensor:
    """Return the weight of each class, float32 [K], scaled to a mean of 1 over the images shown.

    `equal`: 1. `inverse`: 1 / n. `root`: 1 / sqrt(n). `effective`: the inverse of the effective number (1 - beta^n) /
    (1 - beta) (arXiv:1901.05555). A class without training images has the weight 0.
    """
    present = counts.clamp_min(1)
    shrinking = math.log(beta) if beta else -math.inf
    weights = {
        "equal": present**0,
        "inverse": 1 / present,
        "root": present**-0.5,
        "effective": (beta - 1) / (present * shrinking).expm1(),  # 1 - beta^n is 0 in float32 for a beta close to 1
    }[by] * (counts > 0)
    return weights * counts.sum() / (weights * counts).sum()


def cross_entropy(
    logits: Tensor,
    targets: Tensor,
    counts: Tensor,
    *,
    label_smoothing: HalfOpenFraction = 0.0,
    weights: Weights = "equal",
    beta: HalfOpenFraction = 0.999,
) -> Tensor:
    """Cross-entropy with label smoothing (arXiv:1512.00567) and class weights.

    `label_smoothing` is the fraction of each target that is spread uniformly over all classes. `weights` by the number
    n of a class's images: `inverse` 1 / n, `root` 1 / sqrt(n), `effective` the inverse of (1 - beta^n) / (1 - beta)
    (arXiv:1901.05555). With several classes per image it is the binary cross-entropy, summed over the K classes and
    divided by sqrt(K), and smoothing moves each target towards 1/2.
    """
    if weights == "equal":
        return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    weight = class_weights(counts, weights, beta)
    loss = F.cross_entropy(logits, targets, weight=weight)
    if label_smoothing:
        # Weighted by the image's own class: weighting the smoothed target would have rare classes pull at every image.
        evenly = -logits.log_softmax(1).mean(1)
        loss = (1 - label_smoothing) * loss + label_smoothing * (evenly * (targets @ weight)).mean()
    return loss


def focal(
    logits: Tensor,
    targets: Tensor,
    counts: Tensor,
    *,
    gamma: NonNegative = 2.0,
    weights: Weights = "equal",
    beta: HalfOpenFraction = 0.999,
) -> Tensor:
    """Focal loss: cross-entropy times (1 - p)^gamma, p being the true class's probability (arXiv:1708.02002).

    Images that are already classified well count less (LOGBOOK C). With several classes per image it is the binary
    focal loss of each class, summed over the K classes and divided by sqrt(K). `weights` and `beta` are those of
    `cross_entropy`.
    """
    logs = logits.log_softmax(1)
    each = targets * (1 - logs.exp()).clamp_min(TINY) ** gamma * -logs
    return (each * class_weights(counts, weights, beta)).sum(1).mean()


def logit_adjusted(
    logits: Tensor, targets: Tensor, counts: Tensor, *, tau: NonNegative = 1.0, label_smoothing: HalfOpenFraction = 0.0
) -> Tensor:
    """Cross-entropy of the logits plus `tau` times the log of each class's frequency (arXiv:2007.07314).

    The logits themselves are then those of a model for balanced classes, which suits balanced accuracy and macro F1.
    """
    share = (counts / counts.sum()).clamp_min(1e-12)
    return F.cross_entropy(logits + tau * share.log(), targets, label_smoothing=label_smoothing)


def bce(
    logits: Tensor,
    targets: Tensor,
    counts: Tensor,
    *,
    label_smoothing: HalfOpenFraction = 0.0,
    sum_classes: Flag = False,
) -> Tensor:
    """Binary cross-entropy of each class, averaged over the classes or, with `sum_classes`, summed (arXiv:2110.00476).

    `label_smoothing` s spreads that fraction of a target uniformly over all K classes. With several classes per image
    it moves each class's target towards 1/2: 1 becomes 1 - s / 2, and 0 becomes s / 2.
    """
    return _mean_bce(logits, targets * (1 - label_smoothing) + label_smoothing / targets.shape[1], sum_classes)


def _mean_bce(logits: Tensor, targets: Tensor, sum_classes: bool) -> Tensor:
    """Return the binary cross-entropy, averaged over the images, and over the classes unless `sum_classes`."""
    loss = F.binary_cross_entropy_with_logits(logits, targets)
    return loss * targets.shape[1] if sum_classes else loss


def asymmetric(
    logits: Tensor,
    targets: Tensor,
    counts: Tensor,
    *,
    gamma_positive: NonNegative = 1.0,
    gamma_negative: NonNegative = 4.0,
    margin: HalfOpenFraction = 0.05,
) -> Tensor:
    """Asymmetric loss: a binary focal loss per class, with its own gamma for the classes that an image has or lacks.

    Of the classes that an image lacks, those with a probability below `margin` add nothing (arXiv:2009.14119). The sum
    over the K classes is divided by sqrt(K).
    """
    missed = (-logits).sigmoid().clamp_min(TINY)
    absent = (logits.sigmoid() - margin).clamp_min(TINY)
    positive = targets * missed**gamma_positive * -F.logsigmoid(logits)
    negative = (1 - targets) * absent**gamma_negative * -(1 - absent).clamp_min(1e-8).log()
    return (positive + negative).sum(1).mean() / math.sqrt(targets.shape[1])


LOSSES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": cross_entropy,
    "focal": focal,
    "logit_adjusted": logit_adjusted,
    "bce": bce,
    "asymmetric": asymmetric,
}


# ------------------------------------------------------------------------------------- of several classes per image


def binary_cross_entropy(
    logits: Tensor, targets: Tensor, counts: Tensor, *, label_smoothing: float, weights: Weights, beta: float
) -> Tensor:
    """`cross_entropy` for sets of classes, targets [B, K] of 0 and 1: smoothing moves each target towards 1/2.

    The sum over the classes is divided by the root of their number, which keeps the scale of the gradients.
    """
    smoothed = targets * (1 - label_smoothing) + label_smoothing / 2
    each = F.binary_cross_entropy_with_logits(logits, smoothed, reduction="none")
    return _of_columns(each, counts, weights, beta)


def binary_focal(
    logits: Tensor, targets: Tensor, counts: Tensor, *, gamma: float, weights: Weights, beta: float
) -> Tensor:
    """`focal` for sets of classes, targets [B, K] of 0 and 1."""
    yes, no = F.logsigmoid(logits), F.logsigmoid(-logits)
    each = targets * (gamma * no).exp() * -yes + (1 - targets) * (gamma * yes).exp() * -no
    return _of_columns(each, counts, weights, beta)


def bce_of_sets(
    logits: Tensor, targets: Tensor, counts: Tensor, *, label_smoothing: float, sum_classes: bool
) -> Tensor:
    """`bce` for sets of classes, targets [B, K] of 0 and 1: smoothing moves each target towards 1/2."""
    return _mean_bce(logits, targets * (1 - label_smoothing) + label_smoothing / 2, sum_classes)


def _of_columns(each: Tensor, counts: Tensor, weights: Weights, beta: float) -> Tensor:
    """Return the mean over images of losses [B, K], weighted by class, summed over classes and divided by sqrt(K)."""
    if weights != "equal":
        each = each * class_weights(counts, weights, beta)
    return each.sum(1).mean() / math.sqrt(each.shape[1])


SEVERAL: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": binary_cross_entropy,
    "focal": binary_focal,
    "bce": bce_of_sets,
    "asymmetric": asymmetric,
}


def loss_for(choice: Choice, several: bool) -> Callable[..., Any]:
    """Return the loss that a recipe names, for one class per image or for sets of classes (`several`).

    Raises UserError for a loss that needs exclusive classes where an image has several.
    """
    if not several:
        return choice
    if choice.name not in SEVERAL:
        raise UserError(
            f"loss: {choice.name} is for one class per image, and here images have several: choose one of "
            f"{', '.join(SEVERAL)}"
        )
    return functools.partial(SEVERAL[choice.name], **choice.arguments)
