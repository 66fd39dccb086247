"""The losses a recipe may name: a mean over the batch of logits [B, K] against target probabilities float32 [B, K].

Each is also handed `counts`, float32 [K], the training images of each class as they are shown (a sampling may show some
more often), by which a loss may weigh: each image by what it is of, not by what its target is smoothed to. Weights have
a mean of 1 over what is shown, so a loss keeps its scale, and the losses of a batch's parts add up to the whole's.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor

from featherweight.errors import UserError
from featherweight.schema import Choice, Flag, HalfOpenFraction, NonNegative, Number

TINY = 1e-12  # the least that is raised to a power below 1, whose slope is infinite at 0
Weights = Literal["equal", "inverse", "root", "effective"]


def class_weights(counts: Tensor, by: Weights, beta: float) -> Tensor:
    """float32 [K]: 1, 1 / n, 1 / sqrt(n), or 1 over the effective number (1 - beta^n) / (1 - beta) (arXiv:1901.05555).

    A class without training images weighs nothing.
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
    """Cross-entropy; smoothing moves that part of each target evenly onto all classes (arXiv:1512.00567).

    `weights` by class, `beta` being the effective number's. With several classes per image: the binary cross-entropy of
    each class, over the root of their number.
    """
    if weights == "equal":
        return F.cross_entropy(logits, targets, label_smoothing=label_smoothing)
    weight = class_weights(counts, weights, beta)
    loss = F.cross_entropy(logits, targets, weight=weight)
    if label_smoothing:
        # By the weight of what the image is of: on the smoothed target, a rare class's would pull at every image.
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
    """Cross-entropy times (1 - p)^gamma: what is right already counts for less (arXiv:1708.02002; LOGBOOK C).

    With several classes per image: of each class for itself.
    """
    logs = logits.log_softmax(1)
    each = targets * (1 - logs.exp()).clamp_min(TINY) ** gamma * -logs
    return (each * class_weights(counts, weights, beta)).sum(1).mean()


def logit_adjusted(
    logits: Tensor, targets: Tensor, counts: Tensor, *, tau: NonNegative = 1.0, label_smoothing: HalfOpenFraction = 0.0
) -> Tensor:
    """Cross-entropy of the logits plus `tau` times the log of each class's share of the images (arXiv:2007.07314).

    What the logits themselves then say is for classes that are all as frequent: balanced accuracy, macro F1.
    """
    share = (counts / counts.sum()).clamp_min(1e-12)
    return F.cross_entropy(logits + tau * share.log(), targets, label_smoothing=label_smoothing)


def poly(
    logits: Tensor, targets: Tensor, counts: Tensor, *, epsilon: Number = 1.0, label_smoothing: HalfOpenFraction = 0.0
) -> Tensor:
    """Poly-1: cross-entropy plus `epsilon` times (1 - p), p being the true class's probability (arXiv:2204.12511)."""
    missed = 1 - (targets * logits.softmax(1)).sum(1)
    return F.cross_entropy(logits, targets, label_smoothing=label_smoothing) + epsilon * missed.mean()


def bce(
    logits: Tensor,
    targets: Tensor,
    counts: Tensor,
    *,
    label_smoothing: HalfOpenFraction = 0.0,
    sum_classes: Flag = False,
) -> Tensor:
    """Binary cross-entropy of each class for itself, its mean (or sum) over the classes (arXiv:2110.00476).

    `label_smoothing` moves that part of each target evenly onto all K classes. With several classes per image it moves
    that part of each class's target halfway to both answers: 1 becomes 1 - s / 2, and 0 becomes s / 2.
    """
    return _mean_bce(logits, targets * (1 - label_smoothing) + label_smoothing / targets.shape[1], sum_classes)


def _mean_bce(logits: Tensor, targets: Tensor, sum_classes: bool) -> Tensor:
    """Binary cross-entropy, averaged over images, and over the classes or (`sum_classes`) summed."""
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
    """Binary focal loss of each class with a stronger focus on the classes an image lacks, of which those with a
    probability under `margin` count for nothing (arXiv:2009.14119); over the root of the number of classes.
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
    "poly": poly,
    "bce": bce,
    "asymmetric": asymmetric,
}


# ------------------------------------------------------------------------------------- of several classes per image


def binary_cross_entropy(
    logits: Tensor, targets: Tensor, counts: Tensor, *, label_smoothing: float, weights: Weights, beta: float
) -> Tensor:
    """`cross_entropy` of sets: smoothing moves that part of each class's target onto yes and no evenly.

    The sum over classes is divided by the root of their number: the gradients then keep their size.
    """
    smoothed = targets * (1 - label_smoothing) + label_smoothing / 2
    each = F.binary_cross_entropy_with_logits(logits, smoothed, reduction="none")
    return _of_columns(each, counts, weights, beta)


def binary_focal(
    logits: Tensor, targets: Tensor, counts: Tensor, *, gamma: float, weights: Weights, beta: float
) -> Tensor:
    """`focal` of sets."""
    yes, no = F.logsigmoid(logits), F.logsigmoid(-logits)
    each = targets * (gamma * no).exp() * -yes + (1 - targets) * (gamma * yes).exp() * -no
    return _of_columns(each, counts, weights, beta)


def bce_of_sets(
    logits: Tensor, targets: Tensor, counts: Tensor, *, label_smoothing: float, sum_classes: bool
) -> Tensor:
    """`bce` of sets: smoothing as in `binary_cross_entropy`."""
    return _mean_bce(logits, targets * (1 - label_smoothing) + label_smoothing / 2, sum_classes)


def _of_columns(each: Tensor, counts: Tensor, weights: Weights, beta: float) -> Tensor:
    """Each class's column weighs as the class does."""
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
    """The loss that a recipe names, of one class per image or of several.

    Raises UserError for one that takes the classes to exclude each other.
    """
    if not several:
        return choice
    if choice.name not in SEVERAL:
        raise UserError(
            f"loss: {choice.name} is for one class per image, and here an image has several; take one of "
            f"{', '.join(SEVERAL)}"
        )
    return functools.partial(SEVERAL[choice.name], **choice.arguments)
